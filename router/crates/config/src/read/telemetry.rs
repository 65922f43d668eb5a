//! `[telemetry]`.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::time::Duration;

use toml::de::DeValue;

use super::conceal::conceal;
use super::{Field, Table};
use crate::plan::{Secret, TelemetryPlan, TracesPlan};

const TIMEOUT: Duration = Duration::from_secs(10);
const METRICS_EVERY: Duration = Duration::from_secs(60);
const SAMPLE: f64 = 0.01;
const RECORDS_PER_SECOND: NonZeroU32 = NonZeroU32::new(1000).unwrap();
/// Most headers, and attributes: each request has all of them.
const ENTRIES_MAX: usize = 64;
/// Longest value of a header or an attribute, in bytes.
const VALUE_MAX: usize = 4096;

/// Attributes that the router sets itself.
const OURS: [&str; 3] = ["service.name", "service.version", "service.instance.id"];

pub(super) fn read(top: &Table<'_>) -> Option<TelemetryPlan> {
    let table = top.get("telemetry")?.table()?;
    let endpoint = table
        .required(
            "endpoint",
            "add `endpoint = \"http://127.0.0.1:4318\"`, where an OpenTelemetry collector takes OTLP over HTTP",
        )
        .and_then(|field| endpoint(&field));
    let headers = table.get("headers").and_then(|field| {
        conceal(&field);
        Some(headers(&field.table()?))
    });
    let timeout = table
        .get("timeout")
        .and_then(|field| field.duration(Duration::from_millis(100)..=Duration::from_mins(5)))
        .map_or(TIMEOUT, |at| at.value);
    let attributes = table.get("attributes").and_then(|field| Some(attributes(&field.table()?)));
    let traces = traces(&table);
    let metrics = metrics(&table);
    if let (None, None) = (&traces, metrics) {
        table.findings().mistake(
            &table.span,
            "`telemetry` has neither `traces` nor `metrics`: nothing would be sent",
            "remove [telemetry], or one of the two `false`",
        );
    }
    table.finish();
    Some(TelemetryPlan {
        endpoint: endpoint?,
        headers: headers.unwrap_or_default(),
        timeout,
        attributes: attributes.unwrap_or_default(),
        traces,
        metrics,
    })
}

/// Whether the key says `false`: that it is gone without.
fn is_off(field: &Field<'_>) -> bool {
    matches!(field.value, DeValue::Boolean(false))
}

fn traces(telemetry: &Table<'_>) -> Option<TracesPlan> {
    let default = TracesPlan { sample: SAMPLE, records_per_second: RECORDS_PER_SECOND };
    let Some(field) = telemetry.get("traces") else { return Some(default) };
    if is_off(&field) {
        return None;
    }
    let Some(table) = field.table() else { return Some(default) };
    let sample = table.get("sample").and_then(|field| field.number(0.0..=1.0));
    let most = table.get("records_per_second").and_then(|field| field.integer(1..=1_000_000));
    table.finish();
    Some(TracesPlan {
        sample: sample.unwrap_or(default.sample),
        records_per_second: most
            .and_then(|most| u32::try_from(most).ok())
            .and_then(NonZeroU32::new)
            .unwrap_or(default.records_per_second),
    })
}

fn metrics(telemetry: &Table<'_>) -> Option<Duration> {
    let Some(field) = telemetry.get("metrics") else { return Some(METRICS_EVERY) };
    if is_off(&field) {
        return None;
    }
    let Some(table) = field.table() else { return Some(METRICS_EVERY) };
    let every = table.get("every").and_then(|field| field.duration(Duration::from_secs(1)..=Duration::from_hours(1)));
    table.finish();
    Some(every.map_or(METRICS_EVERY, |at| at.value))
}

fn endpoint(field: &Field<'_>) -> Option<String> {
    let example = "\"http://127.0.0.1:4318\"";
    let text = field.text(example)?;
    if text.value.starts_with("https://") {
        field.wrong(
            "asks for TLS, which the router does not speak to collectors",
            "have an OpenTelemetry collector on this machine or in this pod take it in plain, and pass it on by TLS",
        );
        return None;
    }
    let rest = text.value.strip_prefix("http://").map(|rest| rest.trim_end_matches('/'));
    let server = rest.map(|rest| rest.split_once('/').map_or(rest, |(server, _)| server));
    let sound = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic() && !b"?#@\\\"<>".contains(&byte));
    if let (Some(rest), Some(server)) = (rest, server)
        && sound(rest)
        && !server.trim_start_matches(':').is_empty()
    {
        return Some(format!("http://{rest}"));
    }
    field.wrong(
        &format!("is not an address to send to: {:?}", text.shown),
        format!("write {example}, to which `/v1/traces` and `/v1/metrics` are added"),
    );
    None
}

fn headers(table: &Table<'_>) -> BTreeMap<String, Secret> {
    const HOPS: [&str; 5] = ["content-length", "content-type", "host", "transfer-encoding", "connection"];
    let of_a_name = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    let mut headers = BTreeMap::new();
    for (name, field) in bounded(table, "NAME") {
        // Headers have one name, however it is written.
        let key = name.to_ascii_lowercase();
        if name.is_empty() || !name.bytes().all(of_a_name) {
            field.findings().mistake(
                &field.key_span,
                format!("{name:?} can't be the name of a header"),
                "write letters, digits and `-`, such as `authorization`",
            );
        } else if HOPS.contains(&key.as_str()) || headers.contains_key(&key) {
            let message = format!("the header `{key}` is there already");
            field.findings().mistake(&field.key_span, message, "remove it");
        } else if let Some(value) = value(&field, |byte| byte.is_ascii_graphic() || byte == b' ') {
            headers.insert(key, Secret::new(value));
        }
    }
    headers
}

fn attributes(table: &Table<'_>) -> BTreeMap<String, String> {
    let mut attributes = BTreeMap::new();
    for (name, field) in bounded(table, "ATTRIBUTE") {
        if OURS.contains(&name) || name.is_empty() || name.contains(char::is_control) {
            let message = format!("the attribute {name:?} can't be set");
            let remedy =
                "choose another name; service.name, service.version and service.instance.id are the router's own";
            field.findings().mistake(&field.key_span, message, remedy);
        } else if let Some(value) = value(&field, |byte| !byte.is_ascii_control()) {
            attributes.insert(name.to_owned(), value);
        }
    }
    attributes
}

fn bounded<'t>(table: &Table<'t>, pattern: &str) -> Vec<(&'t str, Field<'t>)> {
    let mut entries = table.entries(pattern);
    if entries.len() > ENTRIES_MAX {
        let message = format!("{} has {} entries, and {ENTRIES_MAX} are allowed", table.title(), entries.len());
        table.findings().mistake(&table.span, message, "remove some");
        entries.truncate(ENTRIES_MAX);
    }
    entries
}

fn value(field: &Field<'_>, may_have: impl Fn(u8) -> bool) -> Option<String> {
    let text = field.text("\"…\"")?.value;
    if text.len() > VALUE_MAX || !text.bytes().all(may_have) {
        let remedy = format!("write up to {VALUE_MAX} bytes without line breaks and other control characters");
        field.wrong("can't be sent as it is", remedy);
        return None;
    }
    Some(text)
}
