//! `[[routes]]`.

mod failure;
mod outputs;

pub(super) use failure::retention;
use pointsman_core::condition::Condition;
use pointsman_core::port::StartAt;
use toml::de::DeValue;

use super::plugins::rate;
use super::router::{group, name};
use super::{Field, Table, Text};
use crate::names::{name_fault, topic_fault};
use crate::plan::{Matching, OnDead, Ordering};
use crate::raw::{At, Route, Stage};

const BATCH_RECORDS: u64 = 1024;
const BATCH_BYTES: u64 = 1 << 20;
const IN_FLIGHT_RECORDS: u64 = 5000;
const IN_FLIGHT_BYTES: u64 = 16 << 20;

pub(super) fn read(top: &Table<'_>) -> Vec<Route> {
    let Some(field) = top.required("routes", "add a route: [[routes]] with `name`, `from` and outputs") else {
        return Vec::new();
    };
    let routes = field.array("write each route as [[routes]]").unwrap_or_default();
    if routes.is_empty() && field.value.is_array() {
        field.wrong("is empty", "add a route: [[routes]] with `name`, `from` and outputs");
    }
    routes.into_iter().enumerate().filter_map(|(index, field)| route(index, field)).collect()
}

fn route(index: usize, field: Field<'_>) -> Option<Route> {
    // Messages name a route by its name, or else by its number.
    let written = field.value.get("name").and_then(|name| name.get_ref().as_str());
    let written = written.filter(|name| name_fault(name).is_none());
    let called = written.map_or_else(|| format!("routes[{}]", index + 1), |name| format!("routes.{name}"));
    let table = field.called(called).table()?;
    let here = table.span.clone();
    let name_field = table.required("name", "add `name = \"…\"`, unique among the routes");
    let name = name_field.and_then(|field| name(&field).map(|name| At::new(name, field.span)));
    let from =
        table.required("from", "add `from = [\"…\"]`: the topics that the route reads").map(|field| from(&field));
    let batch = Bounds::read(&table, "batch", Bounds::new(BATCH_RECORDS, BATCH_BYTES, &here));
    // Who asks for a larger batch alone is to have it.
    let in_flight_records = batch.records.value.max(IN_FLIGHT_RECORDS);
    let in_flight = Bounds::read(&table, "in_flight", Bounds::new(in_flight_records, IN_FLIGHT_BYTES, &here));
    let route = Route {
        // A route without a usable name is still read, so that its other mistakes show; no other route can have this one.
        name: name.unwrap_or_else(|| At::new(format!("-{}", index + 1), here.clone())),
        group: table.get("group").and_then(|field| group(&field)),
        from: from.unwrap_or_default(),
        start: table.get("start").and_then(|field| start(&field)).unwrap_or(StartAt::Earliest),
        ordering: table.get("ordering").and_then(|field| ordering(&field)).unwrap_or(Ordering::None),
        on_dead: table.get("on_dead").and_then(|field| on_dead(&field)),
        stages: table.get("stages").map(|field| stages(&field)).unwrap_or_default(),
        rate_limit: table.get("rate_limit").and_then(|field| rate(&field, "records_per_second")),
        batch_records: batch.records,
        batch_bytes: batch.bytes,
        in_flight_records: in_flight.records,
        in_flight_bytes: in_flight.bytes,
        retry: failure::retry(&table),
        dead_letter: failure::dead_letter(&table),
        breaker: failure::breaker(&table),
        reactions: table.get("on").map(|field| failure::reactions(&field)).unwrap_or_default(),
        origin_headers: table.get("origin_headers").and_then(|field| field.boolean()).unwrap_or(false),
        matching: table
            .get("match")
            .and_then(|field| field.choice(&[("first", Matching::First), ("all", Matching::All)]))
            .unwrap_or(Matching::First),
        outputs: outputs::read(&table),
    };
    table.finish();
    Some(route)
}

/// `{ records = N, bytes = "…" }`.
struct Bounds {
    records: At<u64>,
    bytes: At<u64>,
}

impl Bounds {
    fn new(records: u64, bytes: u64, span: &std::ops::Range<usize>) -> Self {
        Self { records: At::new(records, span.clone()), bytes: At::new(bytes, span.clone()) }
    }

    fn read(route: &Table<'_>, key: &'static str, or: Self) -> Self {
        let Some(table) = route.get(key).and_then(|field| field.table()) else { return or };
        let records = table
            .get("records")
            .and_then(|field| field.integer(1..=1_000_000).map(|records| At::new(records, field.span.clone())));
        let bytes = table.get("bytes").and_then(|field| field.size(1 << 10..=1 << 30));
        table.finish();
        Self { records: records.unwrap_or(or.records), bytes: bytes.unwrap_or(or.bytes) }
    }
}

fn from(field: &Field<'_>) -> Vec<At<String>> {
    let remedy = "write an array of topics: [\"orders.v1\"]";
    let Some(elements) = field.array(remedy) else { return Vec::new() };
    if elements.is_empty() {
        field.wrong("is empty, so the route reads nothing", remedy);
    }
    elements.iter().filter_map(topic).collect()
}

/// A topic's name.
pub(super) fn topic(field: &Field<'_>) -> Option<At<String>> {
    let Text { value, shown, span, .. } = field.text("\"orders.v1\"")?;
    if let Some(fault) = topic_fault(&value) {
        let remedy = "Kafka's topic names have 1 to 249 letters, digits, `.`, `_` and `-`";
        field.wrong(&format!("can't be the topic {shown:?}: {fault}"), remedy);
        return None;
    }
    Some(At::new(value, span))
}

fn start(field: &Field<'_>) -> Option<StartAt> {
    let example = "\"earliest\", \"latest\" or a time such as \"2026-01-31T00:00:00Z\"";
    let (written, shown) = match field.value {
        DeValue::Datetime(time) => (time.to_string(), time.to_string()),
        _ => field.text(example).map(|text| (text.value, text.shown))?,
    };
    match written.as_str() {
        "earliest" => return Some(StartAt::Earliest),
        "latest" => return Some(StartAt::Latest),
        _ => {}
    }
    let Ok(time) = written.parse::<jiff::Timestamp>() else {
        field.wrong(&format!("can't be {shown:?}"), format!("write {example}, with its offset from UTC"));
        return None;
    };
    // Where times are asked for, Kafka takes -1 and -2 for the last record and the first.
    if time < jiff::Timestamp::UNIX_EPOCH {
        field.wrong(&format!("can't be {shown:?}: Kafka's times begin in 1970"), "write a later time, or \"earliest\"");
        return None;
    }
    Some(StartAt::Time(time.as_millisecond()))
}

fn ordering(field: &Field<'_>) -> Option<Ordering> {
    field.choice(&[("none", Ordering::None), ("key", Ordering::Key), ("partition", Ordering::Partition)])
}

fn on_dead(field: &Field<'_>) -> Option<At<OnDead>> {
    let choice = field.choice(&[("release", OnDead::Release), ("park-key", OnDead::ParkKey)])?;
    Some(At::new(choice, field.span.clone()))
}

fn stages(field: &Field<'_>) -> Vec<Stage> {
    let remedy = "write an array of plugins and filters: [\"validate\", { filter = 'attempt < 3' }]";
    let elements = field.array(remedy).unwrap_or_default();
    elements.iter().filter_map(|element| stage(element, remedy)).collect()
}

fn stage(element: &Field<'_>, remedy: &str) -> Option<Stage> {
    match element.value {
        DeValue::String(_) => {
            let text = element.text("\"validate\"")?;
            Some(Stage::Plugin(At::new(text.value, text.span)))
        }
        DeValue::Table(_) => {
            let table = element.table()?;
            let filter = table.required("filter", "write { filter = 'attempt < 3' }");
            let condition = filter.and_then(|field| condition(&field));
            table.finish();
            condition.map(|condition| Stage::Filter(condition.value))
        }
        _ => {
            element.wrong_type("a plugin's name or a filter", remedy);
            None
        }
    }
}

/// A condition in CEL.
fn condition(field: &Field<'_>) -> Option<At<Condition>> {
    // A variable is refused, set or not. So its value does not matter here.
    let text = field.text_with(&|_: &str| Some(String::new()), "'value.amount > 100'")?;
    if text.from_variable {
        field.wrong(
            "has a variable, and what it holds would be read as CEL",
            "write the value itself, or `$${` for a plain `${`",
        );
        return None;
    }
    match Condition::compile(&text.value) {
        Ok(condition) => Some(At::new(condition, field.span.clone())),
        Err(error) => {
            let help = error.help.unwrap_or_else(|| {
                "conditions are CEL, such as 'topic == \"orders\" && value.amount > 100'".to_owned()
            });
            field.findings().mistake(
                &field.place_of(&text, error.span.as_ref()),
                format!("{} is not a condition: {}", field.title(), error.message),
                help,
            );
            None
        }
    }
}
