//! `[plugins.NAME]`.

use std::num::NonZeroU32;
use std::time::Duration;

use serde_json::{Map, Number, Value};
use toml::de::DeValue;

use super::broker::path;
use super::conceal::conceal;
use super::{Field, Table};
use crate::findings::Span;
use crate::names::{name_fault, suggest};
use crate::plan::{ComponentPlan, PluginLimits};
use crate::raw::{At, Limits, Plugin};

/// Grants without a parameter.
const GRANTS: [&str; 3] = ["clock", "random", "stdout"];
/// Start of the grant of one environment variable.
const GRANT_ENV: &str = "env:";

pub(super) fn read(top: &Table<'_>) -> Vec<Plugin> {
    let Some(table) = top.get("plugins").and_then(|field| field.table()) else { return Vec::new() };
    table.entries("NAME").into_iter().filter_map(|(name, field)| plugin(name, &field)).collect()
}

fn plugin(name: &str, field: &Field<'_>) -> Option<Plugin> {
    if let Some(fault) = name_fault(name) {
        field.findings().mistake(
            &field.key_span,
            format!("a plugin can't be called {name:?}: {fault}"),
            "use letters, digits, `.`, `_` and `-`: metrics and dead letters carry the name",
        );
    }
    let table = field.table()?;
    let component = component(&table);
    let digest = table.get("sha256");
    let sha256 = digest.as_ref().and_then(sha256);
    if let (Some(ComponentPlan::Source(_)), Some(digest)) = (&component, &digest) {
        digest.wrong("does not go with `source`, which is built anew", "remove it, or name the built `component`");
    }
    let config = table.get("config").map_or_else(|| "{}".to_owned(), |field| config(&field));
    let limits = table.get("limits").and_then(|field| field.table());
    let limits = limits.map_or_else(|| default_limits(&field.key_span), limits_of);
    let grants = table.get("grants").map(|field| grants(&field)).unwrap_or_default();
    let rate_limit = table.get("rate_limit").and_then(|field| rate(&field, "events_per_second"));
    table.finish();
    Some(Plugin {
        name: At::new(name.to_owned(), field.key_span.clone()),
        component,
        sha256,
        config,
        limits,
        grants,
        rate_limit,
    })
}

fn component(table: &Table<'_>) -> Option<ComponentPlan> {
    let example = "\"plugins/enrich.wasm\"";
    match (table.get("component"), table.get("source")) {
        (Some(component), None) => path(&component, example).map(ComponentPlan::File),
        (None, Some(source)) => path(&source, "\"plugins/enrich\"").map(ComponentPlan::Source),
        (Some(component), Some(source)) => {
            table.findings().conflict(
                &source.key_span,
                (&component.key_span, "and here"),
                format!("{} has both `component` and `source`", table.title()),
                "keep `component` for a built component, or `source` for a folder it is built from",
            );
            None
        }
        (None, None) => {
            table.findings().mistake(
                &table.span,
                format!("{} lacks `component` or `source`", table.title()),
                format!("add `component = {example}` for a built component, or `source` for a folder it is built from"),
            );
            None
        }
    }
}

/// A digest, in hexadecimal digits.
pub(super) fn sha256(field: &Field<'_>) -> Option<[u8; 32]> {
    let text = field.text("\"e3b0c442…\"")?;
    let digits = text.value.as_bytes();
    let mut digest = [0; 32];
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let mut sound = digits.len() == 2 * digest.len();
    for (byte, pair) in digest.iter_mut().zip(digits.chunks_exact(2)) {
        match (digit(pair[0]), digit(pair[1])) {
            (Some(high), Some(low)) => *byte = high << 4 | low,
            _ => sound = false,
        }
    }
    if !sound {
        field.wrong("is not a SHA-256", "write its 64 hexadecimal digits, as `sha256sum` prints them");
        return None;
    }
    Some(digest)
}

fn default_limits(span: &Span) -> Limits {
    let usual = PluginLimits::default();
    Limits {
        memory: At::new(usual.memory_bytes as u64, span.clone()),
        deadline: At::new(usual.deadline, span.clone()),
        output: At::new(usual.output_bytes as u64, span.clone()),
        output_events: usual.output_events as u64,
        table_elements: usual.table_elements as u64,
    }
}

fn limits_of(table: Table<'_>) -> Limits {
    let or = default_limits(&table.span);
    let limits = Limits {
        // A 32-bit memory ends at 4 GiB.
        memory: table.get("memory").and_then(|field| field.size(1 << 16..=1 << 32)).unwrap_or(or.memory),
        deadline: table
            .get("deadline")
            .and_then(|field| field.duration(Duration::from_millis(1)..=Duration::from_mins(1)))
            .unwrap_or(or.deadline),
        output: table.get("output").and_then(|field| field.size(1 << 10..=1 << 30)).unwrap_or(or.output),
        output_events: table
            .get("output_events")
            .and_then(|field| field.integer(1..=1_000_000))
            .unwrap_or(or.output_events),
        table_elements: table
            .get("table_elements")
            .and_then(|field| field.integer(1..=10_000_000))
            .unwrap_or(or.table_elements),
    };
    table.finish();
    limits
}

fn grants(field: &Field<'_>) -> Vec<String> {
    let Some(elements) = field.array("write an array of names: [\"clock\"]") else { return Vec::new() };
    let mut grants = Vec::new();
    for element in elements {
        let Some(text) = element.text("\"clock\"") else { continue };
        let is_known = match text.value.strip_prefix(GRANT_ENV) {
            Some(name) => !name.is_empty() && !name.contains('='),
            None => GRANTS.contains(&text.value.as_str()),
        };
        if !is_known {
            let known = GRANTS.into_iter().chain(["env:NAME"]);
            element.wrong(&format!("can't grant {:?}", text.shown), suggest(&text.shown, known));
        } else if grants.contains(&text.value) {
            element.wrong(&format!("grants {:?} twice", text.shown), "remove one of them");
        } else {
            grants.push(text.value);
        }
    }
    grants
}

/// `{ KEY = N }`: a rate.
pub(super) fn rate(field: &Field<'_>, key: &'static str) -> Option<NonZeroU32> {
    let table = field.table()?;
    let rate = table
        .required(key, &format!("write {{ {key} = 1000 }}, or leave the limit out"))
        .and_then(|field| field.integer(1..=u64::from(u32::MAX)))
        .and_then(|number| u32::try_from(number).ok())
        .and_then(NonZeroU32::new);
    table.finish();
    rate
}

/// What the plugin is configured with, as JSON. It may hold secrets, so none of it is shown.
fn config(field: &Field<'_>) -> String {
    conceal(field);
    if !field.value.is_table() {
        field.wrong_type("a table", "write a table: it becomes the JSON object that the plugin is configured with");
        return "{}".to_owned();
    }
    json(field, field.value, &field.span).to_string()
}

/// The value at this place as JSON.
fn json(field: &Field<'_>, value: &DeValue<'_>, place: &Span) -> Value {
    match value {
        DeValue::String(text) => {
            let filled = field.filled(text, place, field.reading.variables);
            Value::String(filled.map(|filled| filled.text).unwrap_or_default())
        }
        DeValue::Boolean(boolean) => Value::Bool(*boolean),
        DeValue::Integer(integer) => match i64::from_str_radix(integer.as_str(), integer.radix()) {
            Ok(number) => Value::Number(number.into()),
            Err(_) => {
                field.wrong("has a whole number that is out of range", "write it as a string, or make it smaller");
                Value::Null
            }
        },
        DeValue::Float(float) => match float.as_str().parse().ok().and_then(Number::from_f64) {
            Some(number) => Value::Number(number),
            None => {
                field.wrong("has a number that JSON can't hold", "write a finite number");
                Value::Null
            }
        },
        DeValue::Datetime(time) => Value::String(time.to_string()),
        DeValue::Array(elements) => {
            Value::Array(elements.iter().map(|element| json(field, element.get_ref(), &element.span())).collect())
        }
        DeValue::Table(entries) => Value::Object(
            entries
                .iter()
                .map(|(name, value)| (name.get_ref().clone().into_owned(), json(field, value.get_ref(), &value.span())))
                .collect::<Map<_, _>>(),
        ),
    }
}
