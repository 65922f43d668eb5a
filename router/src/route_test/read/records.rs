//! Records that are given, and those that are expected.

use std::collections::BTreeSet;
use std::sync::Arc;

use pointsman_config::document::{Field, Table, suggest};
use pointsman_config::plan::{Plan, RoutePlan};
use pointsman_core::delivery::TopicId;
use pointsman_core::failure::FailureClass;
use pointsman_core::record::OwnedRecord;

use super::fields::{KEY, Said, VALUE, header_list, headers, nullable, optional, text, time};
use crate::counters::Fate;
use crate::route_test::case::{Expected, ExpectedFate, Given, Want};
use crate::route_test::show::UNSETTLED;

/// What the records of a case go by.
pub(super) struct Scene<'a> {
    pub(super) plan: &'a Plan,
    pub(super) route: &'a RoutePlan,
    pub(super) now_ms: i64,
    pub(super) partitions: u32,
}

impl Scene<'_> {
    fn topic(&self, topic: TopicId) -> &Arc<str> {
        &self.plan.topics[topic.0 as usize].name
    }

    /// The topics that the route sends events to.
    fn outputs(&self) -> BTreeSet<&Arc<str>> {
        self.route.outputs.iter().map(|output| self.topic(output.topic)).collect()
    }
}

/// `given`: `None` where one of them could not be read, which was noted.
pub(super) fn given(field: &Field<'_>, scene: &Scene<'_>) -> Option<Vec<Given>> {
    let fields = field.array("write each record as [[cases.given]]")?;
    let given: Vec<Option<Given>> = fields.iter().map(|field| record(field.table()?, scene)).collect();
    given.into_iter().collect()
}

fn record(table: Table<'_>, scene: &Scene<'_>) -> Option<Given> {
    let topics: BTreeSet<&Arc<str>> = scene.route.sources.iter().map(|source| &source.topic).collect();
    let topic = topic(&table, &topics, "reads");
    let partition = partition(&table, scene);
    let key = match nullable(&table, &KEY) {
        Said::Bytes(bytes) => Some(bytes),
        Said::Nothing | Said::Null => None,
    };
    let value = nullable(&table, &VALUE);
    if value == Said::Nothing {
        let remedy = "add `value = \"…\"`, `value = { … }` for JSON, or `tombstone = true`";
        table.findings().mistake(&table.span, format!("{} lacks `value`", table.title()), remedy);
    }
    let headers = optional(table.get("headers"), headers);
    let timestamp_ms = optional(table.get("timestamp"), time);
    let attempt = table.get("attempt").map_or(Some(1), |field| attempt(&field, scene.route));
    let fate = optional(table.get("fate"), fate);
    table.finish();
    let value = match value {
        Said::Bytes(bytes) => Some(bytes),
        Said::Nothing | Said::Null => None,
    };
    let (timestamp_ms, headers) = (timestamp_ms?.unwrap_or(scene.now_ms), headers?.unwrap_or_default());
    let record = OwnedRecord { offset: 0, timestamp_ms, key, value, headers };
    Some(Given { topic: topic?, partition: partition?, record, attempt: attempt?, fate: fate? })
}

/// Above 1, the record comes out of the retry topic.
fn attempt(field: &Field<'_>, route: &RoutePlan) -> Option<u32> {
    let attempt = field.integer(1..=1_000_000).and_then(|attempt| u32::try_from(attempt).ok())?;
    if attempt > 1 && route.sources.iter().any(|source| source.retry.is_none()) {
        field.wrong("is above 1, and the route does not retry", "leave it out, or give the route a `retry`");
        return None;
    }
    Some(attempt)
}

fn partition(table: &Table<'_>, scene: &Scene<'_>) -> Option<Option<i32>> {
    optional(table.get("partition"), |field| {
        if scene.partitions == 1 && field.value.as_integer().is_some_and(|number| number.as_str() != "0") {
            let remedy = "add `partitions = 4` to the case, or to the file";
            field.wrong("is not there: every topic has one partition, number 0", remedy);
            return None;
        }
        let last = scene.partitions.saturating_sub(1);
        field.integer(0..=last.into()).and_then(|number| i32::try_from(number).ok())
    })
}

/// The topic that is named, or the only one.
fn topic(table: &Table<'_>, topics: &BTreeSet<&Arc<str>>, verb: &str) -> Option<Arc<str>> {
    let names = || topics.iter().map(|topic| &***topic);
    let Some(field) = table.get("topic") else {
        if topics.len() != 1 {
            let remedy = suggest("", names());
            table.findings().mistake(&table.span, format!("{} lacks `topic`", table.title()), remedy);
            return None;
        }
        return topics.first().map(|topic| Arc::clone(topic));
    };
    let name = text(&field, "\"orders.v1\"")?;
    let found = topics.iter().find(|topic| topic.as_ref() == name.as_str()).map(|topic| Arc::clone(topic));
    if found.is_none() {
        field.wrong(&format!("names {name:?}, which is not a topic that the route {verb}"), suggest(&name, names()));
    }
    found
}

const FATES: &str = "write \"delivered\", \"dropped\", \"parked\", \"dead-lettered\", \"halted\" or \"unsettled\"";

/// A fate by name, or with its details: `{ dead-lettered = "missing-field" }`, `{ dropped = "heartbeat" }`,
/// `{ dead-lettered = { class = "trap" } }`.
fn fate(field: &Field<'_>) -> Option<ExpectedFate> {
    if field.value.is_str() {
        return Some(ExpectedFate { fate: named(field, &text(field, "\"delivered\"")?)?, ..ExpectedFate::default() });
    }
    let entries = field.table()?.entries("FATE");
    let [(name, details)] = &entries[..] else {
        field.wrong("must have one fate", FATES);
        return None;
    };
    let fate = named(details, name)?;
    let expected = ExpectedFate { fate, ..ExpectedFate::default() };
    if details.value.is_str() {
        let word = text(details, "\"missing-field\"");
        return Some(match fate {
            Some(Fate::Dropped) => ExpectedFate { reason: word, ..expected },
            _ => ExpectedFate { code: word, ..expected },
        });
    }
    let table = details.table()?;
    let classes = FailureClass::ALL.map(|class| (class.name(), class));
    let reason = optional(table.get("reason"), |field| text(field, "\"heartbeat\""));
    let class = optional(table.get("class"), |field| field.choice(&classes));
    let code = optional(table.get("code"), |field| text(field, "\"missing-field\""));
    table.finish();
    Some(ExpectedFate { reason: reason?, class: class?, code: code?, ..expected })
}

fn named(field: &Field<'_>, name: &str) -> Option<Option<Fate>> {
    if name == UNSETTLED {
        return Some(None);
    }
    let fate = Fate::ALL.into_iter().find(|fate| fate.name() == name);
    if fate.is_none() {
        let names = Fate::ALL.into_iter().map(Fate::name).chain([UNSETTLED]);
        field.wrong(&format!("names {name:?}, which is no fate"), suggest(name, names));
    }
    fate.map(Some)
}

/// `expect`: `None` where one of them could not be read, which was noted.
pub(super) fn expect(field: &Field<'_>, scene: &Scene<'_>) -> Option<Vec<Expected>> {
    let fields = field.array("write each delivery as [[cases.expect]]")?;
    let expected: Vec<Option<Expected>> = fields.iter().map(|field| expected(field.table()?, scene)).collect();
    expected.into_iter().collect()
}

fn expected(table: Table<'_>, scene: &Scene<'_>) -> Option<Expected> {
    let outputs = scene.outputs();
    let ours = scene.route.sources.iter().filter_map(|source| source.retry).chain(scene.route.dead_letter);
    let all: BTreeSet<&Arc<str>> = outputs.iter().copied().chain(ours.map(|topic| scene.topic(topic))).collect();
    // Without a name it is an output, and not where the route's failures go.
    let named = table.get("topic").is_some();
    let topic = topic(&table, if named { &all } else { &outputs }, "writes to");
    let want = |said| match said {
        Said::Nothing => Want::Any,
        Said::Null => Want::Null,
        Said::Bytes(bytes) => Want::Bytes(bytes),
    };
    let partition = partition(&table, scene);
    let timestamp_ms = optional(table.get("timestamp"), time);
    let (key, value) = (want(nullable(&table, &KEY)), want(nullable(&table, &VALUE)));
    let headers = optional(table.get("headers"), headers);
    let exact_headers = optional(table.get("exact_headers"), header_list);
    table.finish();
    Some(Expected {
        topic: topic?,
        partition: partition?,
        timestamp_ms: timestamp_ms?,
        key,
        value,
        headers: headers?.unwrap_or_default(),
        exact_headers: exact_headers?,
    })
}
