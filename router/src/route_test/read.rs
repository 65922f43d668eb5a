//! A test file: its head, and its cases.

mod fields;
mod records;
mod verdicts;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use pointsman_config::document::{Field, Table, suggest};
use pointsman_config::plan::{Plan, RoutePlan};

use self::fields::{optional, text, time};
use self::records::Scene;
use super::case::{Advance, Case, Given};

/// 2026-01-01T00:00:00Z.
const NOW_MS: i64 = 1_767_225_600_000;
const PARTITIONS_MAX: u64 = 1000;
const ADVANCE_MAX: Duration = Duration::from_hours(24 * 3650);

/// Reads the whole document. `None` where a mistake was noted that leaves nothing to read the cases by.
pub(super) fn document(
    top: &Table<'_>,
    load: impl FnOnce(&Path, BTreeMap<String, String>) -> Option<Plan>,
) -> Option<(Plan, Vec<Case>)> {
    let config = top.required("config", "add `config = \"quickstart.toml\"`: the configuration, relative to this file");
    let variables = top.get("variables").map(|field| variables(&field)).unwrap_or_default();
    let cases = top.required("cases", "add a case: [[cases]] with `name` and records");
    let partitions = top.get("partitions").and_then(|field| field.integer(1..=PARTITIONS_MAX)).unwrap_or(1);
    let config = config?;
    let file = text(&config, "\"quickstart.toml\"")?;
    let Some(plan) = load(Path::new(&file), variables) else {
        config.wrong(
            &format!("names {file:?}, which can't be used; the reason is told above"),
            "correct it first: the cases are read by its routes and plugins",
        );
        return None;
    };
    let fields = cases?.array("write each case as [[cases]]")?;
    if fields.is_empty() {
        top.findings().mistake(
            &top.span,
            "the test file has no cases",
            "add a case: [[cases]] with `name` and records",
        );
    }
    let partitions = u32::try_from(partitions).unwrap_or(1);
    let mut names = Vec::new();
    let cases: Vec<Option<Case>> = fields
        .into_iter()
        .enumerate()
        .map(|(index, field)| case(index, field, &plan, partitions, &mut names))
        .collect();
    Some((plan, cases.into_iter().flatten().collect()))
}

fn variables(field: &Field<'_>) -> BTreeMap<String, String> {
    let Some(table) = field.table() else { return BTreeMap::new() };
    let entries = table.entries("NAME");
    entries.into_iter().filter_map(|(name, field)| Some((name.to_owned(), text(&field, "\"a value\"")?))).collect()
}

/// `None` where a mistake was noted.
fn case(index: usize, field: Field<'_>, plan: &Plan, partitions: u32, names: &mut Vec<String>) -> Option<Case> {
    let written = field.value.get("name").and_then(|name| name.get_ref().as_str());
    let called = written.map_or_else(|| format!("cases[{}]", index + 1), |name| format!("cases.{name:?}"));
    let table = field.called(called).table()?;
    let name = table.required("name", "add `name = \"…\"`: what the case shows");
    let name = name.and_then(|field| unique(&field, names));
    let now_ms = table.get("now").and_then(|field| time(&field)).unwrap_or(NOW_MS);
    let advance = table.get("advance").and_then(|field| advance(&field)).unwrap_or(Advance::By(Duration::ZERO));
    let seed = table.get("seed").and_then(|field| field.integer(0..=i64::MAX.unsigned_abs())).unwrap_or(0);
    let partitions = table
        .get("partitions")
        .and_then(|field| field.integer(1..=PARTITIONS_MAX))
        .and_then(|number| u32::try_from(number).ok())
        .unwrap_or(partitions);
    let (given, expect, verdicts) = (table.get("given"), table.get("expect"), table.get("verdicts"));
    // The rest goes by the route.
    let route = route(&table, plan);
    let scene = route.map(|route| Scene { plan, route: &plan.routes[route], now_ms, partitions });
    let read = scene.map(|scene| {
        let given = optional(given, |field| records::given(field, &scene));
        let expect = optional(expect, |field| records::expect(field, &scene));
        (given, expect, verdicts.map(|field| verdicts::read(&field, &scene)).unwrap_or_default())
    });
    if let Some((Some(given), Some(expect), _)) = &read {
        can_fail(&table, given.as_deref().unwrap_or_default(), expect.is_some());
    }
    table.finish();
    let (given, expect, verdicts) = read?;
    let (given, expect) = (given?.unwrap_or_default(), expect?);
    Some(Case { name: name?, route: route?, now_ms, advance, seed, partitions, given, verdicts, expect })
}

/// A case that says nothing of what is to become of its records would always pass.
fn can_fail(table: &Table<'_>, given: &[Given], expects: bool) {
    let (message, remedy) = if given.is_empty() {
        ("has no records", "add records: [[cases.given]] with `value`")
    } else if !expects && given.iter().all(|given| given.fate.is_none()) {
        let remedy =
            "add `fate = \"…\"` to records, or deliveries: [[cases.expect]]; `expect = []` says that there are none";
        ("expects nothing, so it can't fail", remedy)
    } else {
        return;
    };
    table.findings().mistake(&table.span, format!("{} {message}", table.title()), remedy);
}

fn unique(field: &Field<'_>, names: &mut Vec<String>) -> Option<String> {
    let name = text(field, "\"a heartbeat is dropped\"")?;
    if name.trim().is_empty() || name.contains(char::is_control) {
        field.wrong("is no name", "write a few words on one line: what the case shows");
        return None;
    }
    if names.contains(&name) {
        field.wrong("is there twice", "give each case a name of its own");
        return None;
    }
    names.push(name.clone());
    Some(name)
}

/// How far the clock may jump.
fn advance(field: &Field<'_>) -> Option<Advance> {
    if field.value.as_str() == Some("until-done") {
        return Some(Advance::UntilDone);
    }
    const REMEDY: &str = "write \"1h\", or \"until-done\" to run all retries";
    match field.value.as_str() {
        None => {
            field.wrong_type("a duration", REMEDY);
            return None;
        }
        Some(text) if !text.starts_with(|c: char| c.is_ascii_digit()) => {
            field.wrong("is no duration", REMEDY);
            return None;
        }
        Some(_) => {}
    }
    field.duration(Duration::ZERO..=ADVANCE_MAX).map(|duration| Advance::By(duration.value))
}

fn route(table: &Table<'_>, plan: &Plan) -> Option<usize> {
    let names = || plan.routes.iter().map(|route: &RoutePlan| &*route.name);
    let Some(field) = table.get("route") else {
        if plan.routes.len() != 1 {
            let remedy = suggest("", names());
            table.findings().mistake(&table.span, format!("{} lacks `route`", table.title()), remedy);
        }
        return (plan.routes.len() == 1).then_some(0);
    };
    let name = text(&field, "\"orders\"")?;
    let index = names().position(|route| route == name);
    if index.is_none() {
        field.wrong(
            &format!("names the route {name:?}, which the configuration does not have"),
            suggest(&name, names()),
        );
    }
    index
}
