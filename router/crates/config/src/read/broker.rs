//! `[broker]`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use toml::de::DeValue;

use super::conceal::conceal;
use super::{Field, Table};
use crate::plan::Secret;
use crate::raw::{At, Broker};

/// Properties of librdkafka that are ours, each with the reason.
const OURS: &[(&str, &str)] = &[
    ("acks", "a record is settled when all in-sync replicas have its outputs"),
    ("auto.commit.enable", "the router commits what is settled, never what was merely read"),
    ("auto.commit.interval.ms", "`router.commit_interval` sets how often the router commits"),
    (
        "auto.offset.reset",
        "a route's `start` says where it starts; an offset out of range must halt its lane, not skip",
    ),
    ("bootstrap.servers", "`broker.bootstrap` sets it"),
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
    ("message.timeout.ms", "an outage of the broker must not expire records"),
    ("metadata.broker.list", "`broker.bootstrap` sets it"),
    ("offset.store.method", "offsets live in the consumer group"),
    ("partition.assignment.strategy", "lanes rely on cooperative-sticky assignment"),
    ("partitioner", "keys go to the partitions that Java clients choose"),
    ("plugin.library.paths", "it would load native code into the router"),
    ("request.required.acks", "a record is settled when all in-sync replicas have its outputs"),
    ("transactional.id", "delivery is the router's own"),
];

pub(super) fn read(top: &Table<'_>) -> Option<Broker> {
    let table = top
        .required("broker", "add a [broker] table with `bootstrap = \"host:9092\"` or `embedded = \"./data\"`")?
        .table()?;
    let bootstrap = table.get("bootstrap");
    let embedded = table.get("embedded");
    let librdkafka = table.get("librdkafka");
    let broker = match (bootstrap, embedded) {
        (Some(bootstrap), None) => {
            let librdkafka = librdkafka.and_then(|field| field.table()).map(properties).unwrap_or_default();
            servers(&bootstrap).map(|bootstrap| Broker::Kafka { bootstrap, librdkafka })
        }
        (None, Some(embedded)) => {
            if let Some(librdkafka) = librdkafka {
                conceal(&librdkafka);
                table.findings().mistake(
                    &librdkafka.key_span,
                    "`broker.librdkafka` has no meaning for the embedded log",
                    "remove it, or use `bootstrap` in place of `embedded`",
                );
            }
            directory(&embedded).map(|directory| Broker::Embedded { directory })
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
        !host.is_empty() && !host.contains(char::is_whitespace) && port.parse::<u16>().is_ok_and(|port| port > 0)
    })
}

fn directory(field: &Field<'_>) -> Option<PathBuf> {
    path(field, "\"./data\"")
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
        if let Some((_, reason)) = OURS.iter().find(|(ours, _)| *ours == name) {
            let message = format!("`{name}` can't be set: {reason}");
            table.findings().mistake(&field.key_span, message, "remove it");
            continue;
        }
        if let Some(value) = property(name, &field) {
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
