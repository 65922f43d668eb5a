//! `[broker]`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use toml::de::DeValue;

use super::conceal::conceal;
use super::{Field, Table};
use crate::plan::Secret;
use crate::raw::{At, Broker};

/// How long the embedded log's own topics keep records where the file does not say.
const RETENTION: Duration = Duration::from_hours(7 * 24);
const MAX_SIZE: u64 = 16 << 30;
const FETCH_AHEAD: u64 = 128 << 20;

/// The most requests in flight that librdkafka's idempotent producer takes, under both names of the property.
const MAX_IN_FLIGHT: u64 = 5;
const IN_FLIGHT: [&str; 2] = ["max.in.flight", "max.in.flight.requests.per.connection"];

/// Properties of librdkafka that are ours, each with the reason.
const OURS: &[(&str, &str)] = &[
    ("acks", "a record is settled when all in-sync replicas have its outputs"),
    ("allow.auto.create.topics", "a topic that is not there must be told, not made with the cluster's defaults"),
    ("auto.commit.enable", "the router commits what is settled, never what was merely read"),
    ("auto.commit.interval.ms", "`router.commit_interval` sets how often the router commits"),
    (
        "auto.offset.reset",
        "a route's `start` says where it starts; an offset out of range must halt its lane, not skip",
    ),
    ("bootstrap.servers", "`broker.bootstrap` sets it"),
    ("check.crcs", "a record that was damaged on its way must not pass for one that a plugin rejects"),
    ("client.id", "it derives from `router.name`"),
    ("delivery.report.only.error", "without the reports of success nothing would ever be settled"),
    ("delivery.timeout.ms", "an outage of the broker must not expire records; see message.timeout.ms"),
    ("enable.auto.commit", "the router commits what is settled, never what was merely read"),
    ("enable.auto.offset.store", "the router commits what is settled, never what was merely read"),
    ("enable.idempotence", "the producer is always idempotent; anything else could reorder and duplicate records"),
    ("enable.partition.eof", "the end of a partition is no event to the router"),
    ("group.id", "`router.group` and a route's `group` set it"),
    ("group.instance.id", "`router.instance_id` sets it"),
    ("group.protocol", "lanes rely on the classic protocol's cooperative rebalancing"),
    ("isolation.level", "records of aborted transactions are never read"),
    ("log.queue", "the log of librdkafka goes to the router's own"),
    ("message.max.bytes", "`router.max_record_size` sets it"),
    ("message.send.max.retries", "a short outage of the broker must not fail deliveries"),
    ("message.timeout.ms", "an outage of the broker must not expire records"),
    ("metadata.broker.list", "`broker.bootstrap` sets it"),
    ("offset.store.method", "offsets live in the consumer group"),
    ("partition.assignment.strategy", "lanes rely on cooperative-sticky assignment"),
    ("partitioner", "keys go to the partitions that Java clients choose"),
    ("plugin.library.paths", "it would load native code into the router"),
    ("request.required.acks", "a record is settled when all in-sync replicas have its outputs"),
    ("retries", "a short outage of the broker must not fail deliveries"),
    ("transaction.timeout.ms", "delivery is the router's own"),
    ("transactional.id", "delivery is the router's own"),
];

/// The properties of librdkafka that `[broker.librdkafka]` refuses, with the prefix `topic.` or without.
pub fn refused_properties() -> impl Iterator<Item = &'static str> {
    OURS.iter().map(|(name, _)| *name)
}

pub(super) fn read(top: &Table<'_>) -> Option<Broker> {
    let table = top
        .required("broker", "add a [broker] table with `bootstrap = \"host:9092\"` or `embedded = \"./data\"`")?
        .table()?;
    let bootstrap = table.get("bootstrap");
    let embedded = table.get("embedded");
    let (librdkafka, fetch_ahead) = (table.get("librdkafka"), table.get("fetch_ahead"));
    let (retention, max_size) = (table.get("retention"), table.get("max_size"));
    let broker = match (bootstrap, embedded) {
        (Some(bootstrap), None) => {
            for field in [retention, max_size].iter().flatten() {
                out_of_place(field, "a Kafka cluster", "remove it, or use `embedded` in place of `bootstrap`");
            }
            let librdkafka = librdkafka.and_then(|field| field.table()).map(properties).unwrap_or_default();
            let fetch_ahead_bytes =
                fetch_ahead.and_then(|field| field.size(1 << 20..=1 << 40)).map_or(FETCH_AHEAD, |at| at.value);
            servers(&bootstrap).map(|bootstrap| Broker::Kafka { bootstrap, fetch_ahead_bytes, librdkafka })
        }
        (None, Some(embedded)) => {
            if let Some(librdkafka) = &librdkafka {
                conceal(librdkafka);
            }
            for field in [librdkafka, fetch_ahead].iter().flatten() {
                out_of_place(field, "the embedded log", "remove it, or use `bootstrap` in place of `embedded`");
            }
            let retention = retention.map_or(Some(RETENTION), |field| super::routes::retention(&field, RETENTION));
            let max_bytes = max_size.and_then(|field| field.size(1 << 24..=1 << 40)).map_or(MAX_SIZE, |at| at.value);
            path(&embedded, "\"./data\"").map(|directory| Broker::Embedded { directory, retention, max_bytes })
        }
        (Some(bootstrap), Some(embedded)) => {
            table.findings().conflict(
                &embedded.key_span,
                (&bootstrap.key_span, "and here"),
                "`broker` has both `bootstrap` and `embedded`",
                "keep `bootstrap` for a Kafka cluster, or `embedded` for the log on this machine",
            );
            None
        }
        (None, None) => {
            table.findings().mistake(
                &table.span,
                "`broker` lacks `bootstrap` or `embedded`",
                "add `bootstrap = \"host:9092\"` for a Kafka cluster, or `embedded = \"./data\"` for a log on this machine",
            );
            None
        }
    };
    table.finish();
    broker
}

/// A key that goes with the other kind of broker.
fn out_of_place(field: &Field<'_>, broker: &str, remedy: &str) {
    field.findings().mistake(&field.key_span, format!("{} has no meaning for {broker}", field.title()), remedy);
}

fn servers(field: &Field<'_>) -> Option<String> {
    let example = "\"kafka-1:9092,kafka-2:9092\"";
    let text = field.text(example)?;
    let wrong = text.value.split(',').map(str::trim).find(|server| !is_server(server));
    if wrong.is_some() {
        field.wrong(
            &format!("is not a list of servers: {:?}", text.shown),
            format!("write host:port pairs, such as {example}"),
        );
        return None;
    }
    Some(text.value)
}

fn is_server(server: &str) -> bool {
    server.rsplit_once(':').is_some_and(|(host, port)| {
        // Not a URL.
        !host.is_empty()
            && !host.contains("://")
            && !host.contains(|c: char| c.is_whitespace() || c.is_control())
            && port.parse::<u16>().is_ok_and(|port| port > 0)
    })
}

/// A path that is not empty.
pub(super) fn path(field: &Field<'_>, example: &str) -> Option<PathBuf> {
    let text = field.text(example)?;
    if text.value.is_empty() {
        field.wrong("is empty", format!("write a path, such as {example}"));
        return None;
    }
    Some(PathBuf::from(text.value))
}

/// `[broker.librdkafka]`: its values never show.
fn properties(table: Table<'_>) -> BTreeMap<String, At<Secret>> {
    let mut properties = BTreeMap::new();
    for (name, field) in table.entries("PROPERTY") {
        conceal(&field);
        if name.contains(char::is_control) {
            let message = format!("the property {name:?} of librdkafka has a control character in its name");
            table.findings().mistake(&field.key_span, message, "write the name alone");
            continue;
        }
        // With this prefix, librdkafka takes the properties that topics have.
        let bare = name.strip_prefix("topic.").unwrap_or(name);
        if let Some((_, reason)) = OURS.iter().find(|(ours, _)| *ours == bare) {
            let message = format!("`{name}` can't be set: {reason}");
            table.findings().mistake(&field.key_span, message, "remove it");
            continue;
        }
        if let Some(value) = property(name, &field)
            && is_sound(name, &value, &field)
        {
            properties.insert(name.to_owned(), At::new(Secret::new(value), field.span.clone()));
        }
    }
    properties
}

fn property(name: &str, field: &Field<'_>) -> Option<String> {
    match field.value {
        DeValue::String(_) => field.text("\"…\"").map(|text| text.value),
        DeValue::Integer(integer) => {
            i64::from_str_radix(integer.as_str(), integer.radix()).ok().map(|number| number.to_string()).or_else(|| {
                field.wrong("is out of range", "write a smaller number, or the text that librdkafka takes in quotes");
                None
            })
        }
        DeValue::Float(float) => Some(float.as_str().to_owned()),
        DeValue::Boolean(boolean) => Some(boolean.to_string()),
        DeValue::Table(_) => {
            let remedy = format!("write the whole name of the property in quotes: \"{name}.…\" = …");
            field.wrong_type("a string, a number or a boolean", remedy);
            None
        }
        DeValue::Datetime(_) | DeValue::Array(_) => {
            field.wrong_type("a string, a number or a boolean", "write the text that librdkafka takes in quotes");
            None
        }
    }
}

/// Whether the value reaches librdkafka as it is, and is not one that would keep the router from starting.
fn is_sound(name: &str, value: &str, field: &Field<'_>) -> bool {
    // PEM texts have lines. At a NUL, C would take the value to end.
    if value.contains(|c: char| c.is_control() && !matches!(c, '\n' | '\r' | '\t')) {
        field.wrong("has a control character", "write text; only line breaks and tabs may be in it");
        return false;
    }
    if IN_FLIGHT.contains(&name) && value.parse::<u64>().is_ok_and(|number| number > MAX_IN_FLIGHT) {
        let cause = format!("is more than {MAX_IN_FLIGHT}, and librdkafka's idempotent producer refuses that");
        field.wrong(&cause, format!("write 1 to {MAX_IN_FLIGHT}, or remove it"));
        return false;
    }
    true
}
