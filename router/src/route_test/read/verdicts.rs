//! Verdicts by hand.

use std::collections::BTreeMap;
use std::time::Duration;

use pointsman_config::document::{Field, Table, suggest};
use pointsman_config::plan::StagePlan;
use pointsman_core::condition::Condition;
use pointsman_core::failure::FailureClass;
use pointsman_core::port::PluginId;
use pointsman_core::verdict::{Output, Patch, Verdict};
use toml::de::DeValue;

use super::fields::{KEY, Said, VALUE, headers, nullable, optional, text, time};
use super::records::Scene;
use crate::route_test::case::{HandVerdict, MeantFor, Says};

const FORMS: &str = "write \"pass\", { drop = \"…\" }, { retry = \"…\" }, { reject = { code = \"…\", message = \"…\" } }, \
                     { emit = [{ … }] }, or a failure: \"trap\", \"deadline\", \"memory\", \"bad-output\"";

/// Longest delay that a plugin may ask for here.
const DELAY_MAX: Duration = Duration::from_hours(24 * 3650);

/// `verdicts`: for each plugin an array, used in the order of its events, or one verdict for all of them.
pub(super) fn read(field: &Field<'_>, scene: &Scene<'_>) -> BTreeMap<PluginId, Vec<HandVerdict>> {
    let Some(table) = field.table() else { return BTreeMap::new() };
    let stages = scene.route.stages.iter().filter_map(|stage| match stage {
        StagePlan::Plugin(plugin) => Some((&*scene.plan.plugins[plugin.0 as usize].name, *plugin)),
        StagePlan::Filter(_) => None,
    });
    let stages: BTreeMap<&str, PluginId> = stages.collect();
    let mut verdicts = BTreeMap::new();
    for (name, field) in table.entries("PLUGIN") {
        let Some(plugin) = stages.get(name) else {
            let message =
                format!("{} is for {name:?}, which is not a plugin among the stages of the route", field.title());
            field.findings().mistake(&field.key_span, message, suggest(name, stages.keys().copied()));
            continue;
        };
        let by_hand = match field.value {
            DeValue::Array(_) => {
                let elements = field.array(FORMS).unwrap_or_default();
                elements.iter().filter_map(|element| hand(element, MeantFor::Once)).collect()
            }
            _ => hand(&field, MeantFor::Always).into_iter().collect(),
        };
        verdicts.insert(*plugin, by_hand);
    }
    verdicts
}

/// One verdict. `None` where a mistake was noted.
fn hand(field: &Field<'_>, meant_for: MeantFor) -> Option<HandVerdict> {
    if field.value.is_str() {
        return Some(HandVerdict { meant_for, says: word(field)? });
    }
    if !field.value.is_table() {
        field.wrong_type("a verdict", FORMS);
        return None;
    }
    let table = field.table()?;
    let meant_for = match table.get("when") {
        Some(field) => MeantFor::When(condition(&field)?),
        None => meant_for,
    };
    let verdict = [
        table.get("verdict").map(|field| word(&field)),
        table.get("drop").map(|field| Some(Says::Verdict(Verdict::Drop { reason: text(&field, "\"heartbeat\"")? }))),
        table.get("retry").map(|field| retry(&field, &table)),
        table.get("reject").map(|field| reject(&field)),
        table.get("emit").map(|field| emit(&field)),
    ];
    table.finish();
    let mut verdicts = verdict.into_iter().flatten();
    match (verdicts.next(), verdicts.next()) {
        (Some(says), None) => Some(HandVerdict { meant_for, says: says? }),
        _ => {
            field.wrong("must say one verdict", FORMS);
            None
        }
    }
}

/// A verdict, or a failure, that is one word.
fn word(field: &Field<'_>) -> Option<Says> {
    let word = text(field, "\"pass\"")?;
    let failures = [FailureClass::Trap, FailureClass::Deadline, FailureClass::Memory, FailureClass::BadOutput];
    if word == "pass" {
        return Some(Says::Verdict(Verdict::Pass));
    }
    let failure = failures.into_iter().find(|class| class.name() == word);
    if failure.is_none() {
        field.wrong(&format!("says {word:?}, which is no verdict"), FORMS);
    }
    failure.map(Says::Fails)
}

fn condition(field: &Field<'_>) -> Option<Condition> {
    let text = text(field, "'attempt < 3'")?;
    match Condition::compile(&text) {
        Ok(condition) => Some(condition),
        Err(error) => {
            let help = error.help.unwrap_or_else(|| "conditions are CEL, such as 'key == \"o-1\"'".to_owned());
            field.wrong(&format!("is not a condition: {}", error.message), help);
            None
        }
    }
}

fn retry(field: &Field<'_>, table: &Table<'_>) -> Option<Says> {
    let delay = optional(table.get("delay"), |field| field.duration(Duration::ZERO..=DELAY_MAX));
    let reason = text(field, "\"the backend is down\"")?;
    let delay_ms = delay?.map(|delay| u64::try_from(delay.value.as_millis()).unwrap_or(u64::MAX));
    Some(Says::Verdict(Verdict::Retry { reason, delay_ms }))
}

fn reject(field: &Field<'_>) -> Option<Says> {
    let table = field.table()?;
    let code =
        table.required("code", "add `code = \"…\"`, a short word").and_then(|field| text(&field, "\"bad-order\""));
    let message =
        table.get("message").map_or_else(|| Some("rejected by hand".to_owned()), |field| text(&field, "\"…\""));
    table.finish();
    Some(Says::Verdict(Verdict::Reject { code: code?, message: message? }))
}

fn emit(field: &Field<'_>) -> Option<Says> {
    let elements = field.array("write an array of events: [{ port = \"eu\" }]; an empty one emits nothing")?;
    let outputs: Vec<Option<Output>> = elements.iter().map(|element| output(element.table()?)).collect();
    Some(Says::Verdict(Verdict::Emit(outputs.into_iter().collect::<Option<_>>()?)))
}

/// What is not named stays as the event has it.
fn output(table: Table<'_>) -> Option<Output> {
    let patch = |said| match said {
        Said::Nothing => Patch::Keep,
        Said::Null => Patch::Null,
        Said::Bytes(bytes) => Patch::Set(bytes.into()),
    };
    let port = optional(table.get("port"), |field| text(field, "\"eu\""));
    let (key, value) = (patch(nullable(&table, &KEY)), patch(nullable(&table, &VALUE)));
    let headers = optional(table.get("headers"), headers);
    let timestamp_ms = optional(table.get("timestamp"), time);
    table.finish();
    Some(Output { port: port?, key, value, headers: headers?, timestamp_ms: timestamp_ms? })
}
