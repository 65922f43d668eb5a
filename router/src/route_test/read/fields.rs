//! Values of a test file that configurations don't have: bytes, headers, times.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use pointsman_config::document::{Field, Table};
use pointsman_core::record::OwnedHeader;
use serde_json::{Map, Number, Value};
use toml::de::DeValue;

/// A key that may be left out. The outer `None` is for a value that could not be read, which was noted.
pub(super) fn optional<T>(field: Option<Field<'_>>, read: impl FnOnce(&Field<'_>) -> Option<T>) -> Option<Option<T>> {
    field.map_or(Some(None), |field| read(&field).map(Some))
}

/// A string as it is written: what looks like a variable is data here.
pub(super) fn text(field: &Field<'_>, example: &str) -> Option<String> {
    let text = field.value.as_str();
    if text.is_none() {
        field.wrong_type("a string", format!("write it in quotes, such as {example}"));
    }
    text.map(ToOwned::to_owned)
}

/// A time, in milliseconds since 1970-01-01 UTC.
pub(super) fn time(field: &Field<'_>) -> Option<i64> {
    let written = match field.value {
        DeValue::Datetime(time) => time.to_string(),
        DeValue::String(text) => text.to_string(),
        _ => {
            field.wrong_type("a time", EXAMPLE_TIME);
            return None;
        }
    };
    let time = written.parse::<jiff::Timestamp>().ok().map(jiff::Timestamp::as_millisecond);
    if time.is_none_or(|time| time < 0) {
        field.wrong(&format!("is not a time from 1970 on: {written:?}"), EXAMPLE_TIME);
    }
    time.filter(|time| *time >= 0)
}

const EXAMPLE_TIME: &str = "write it with its offset from UTC, such as 2026-01-31T00:00:00Z";

/// The keys of a nullable field: of its value, of its value in base64, and of null.
pub(super) struct Names {
    pub(super) plain: &'static str,
    pub(super) base64: &'static str,
    pub(super) null: &'static str,
}

pub(super) const KEY: Names = Names { plain: "key", base64: "key_base64", null: "no_key" };
pub(super) const VALUE: Names = Names { plain: "value", base64: "value_base64", null: "tombstone" };

/// What is said of a nullable field.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Said {
    Nothing,
    Null,
    Bytes(Vec<u8>),
}

/// Reads a nullable field. A string stands for its own bytes; anything else for its JSON text.
pub(super) fn nullable(table: &Table<'_>, names: &Names) -> Said {
    let (plain, base64, null) = (table.get(names.plain), table.get(names.base64), table.get(names.null));
    let null = null.filter(|field| field.boolean() == Some(true));
    let fields: Vec<&Field<'_>> = [&plain, &base64, &null].into_iter().flatten().collect();
    if let [first, second, ..] = fields[..] {
        let remedy = format!("keep one of `{}`, `{}` and `{}`", names.plain, names.base64, names.null);
        let message = format!("{} and {} exclude each other", first.title(), second.title());
        table.findings().conflict(&second.key_span, (&first.key_span, "and here"), message, remedy);
    }
    match (plain, base64, null) {
        (Some(field), ..) => Said::Bytes(payload(&field)),
        // What can't be read was said, and is not also missing.
        (None, Some(field), _) => Said::Bytes(decoded(&field).unwrap_or_default()),
        (None, None, Some(_)) => Said::Null,
        (None, None, None) => Said::Nothing,
    }
}

fn payload(field: &Field<'_>) -> Vec<u8> {
    match field.value {
        DeValue::String(text) => text.as_bytes().to_vec(),
        value => json(field, value).to_string().into_bytes(),
    }
}

fn decoded(field: &Field<'_>) -> Option<Vec<u8>> {
    let bytes = STANDARD.decode(text(field, "\"AAEC/w==\"")?).ok();
    if bytes.is_none() {
        field.wrong("is not base64", "write what `base64` prints, padding included");
    }
    bytes
}

fn json(field: &Field<'_>, value: &DeValue<'_>) -> Value {
    match value {
        DeValue::String(text) => Value::String(text.to_string()),
        DeValue::Boolean(boolean) => Value::Bool(*boolean),
        DeValue::Integer(integer) => match i64::from_str_radix(integer.as_str(), integer.radix()) {
            Ok(number) => Value::Number(number.into()),
            Err(_) => out_of_range(field),
        },
        DeValue::Float(float) => match float.as_str().parse().ok().and_then(Number::from_f64) {
            Some(number) => Value::Number(number),
            None => out_of_range(field),
        },
        DeValue::Datetime(time) => Value::String(time.to_string()),
        DeValue::Array(elements) => elements.iter().map(|element| json(field, element.get_ref())).collect(),
        DeValue::Table(entries) => {
            let entries = entries.iter();
            let entries = entries.map(|(name, value)| (name.get_ref().to_string(), json(field, value.get_ref())));
            Value::Object(entries.collect::<Map<_, _>>())
        }
    }
}

fn out_of_range(field: &Field<'_>) -> Value {
    field.wrong("has a number that is out of range", "write the JSON text as a string: '{\"n\": 1e400}'");
    Value::Null
}

const HEADERS: &str = "write { name = \"value\" }, or an array of { name = \"…\", value = \"…\" } where order, duplicates or nulls matter";

/// Headers: a table, or an array.
pub(super) fn headers(field: &Field<'_>) -> Option<Vec<OwnedHeader>> {
    if field.value.is_array() {
        return header_list(field);
    }
    if !field.value.is_table() {
        field.wrong_type("a table or an array", HEADERS);
        return None;
    }
    let entries = field.table()?.entries("NAME");
    let headers = entries.into_iter().map(|(name, field)| Some(OwnedHeader::text(name, text(&field, "\"a value\"")?)));
    headers.collect()
}

/// Headers in order: an array. A header without a value is null.
pub(super) fn header_list(field: &Field<'_>) -> Option<Vec<OwnedHeader>> {
    let elements = field.array(HEADERS)?;
    let headers: Vec<Option<OwnedHeader>> = elements.into_iter().map(|element| header(&element)).collect();
    headers.into_iter().collect()
}

fn header(field: &Field<'_>) -> Option<OwnedHeader> {
    const NAME: Names = Names { plain: "name", base64: "name_base64", null: "no_name" };
    const VALUE: Names = Names { plain: "value", base64: "value_base64", null: "null" };
    let table = field.table()?;
    let name = nullable(&table, &NAME);
    let value = match nullable(&table, &VALUE) {
        Said::Bytes(bytes) => Some(bytes.into_boxed_slice()),
        Said::Nothing | Said::Null => None,
    };
    let Said::Bytes(name) = name else {
        field.wrong("has a header without a name", "write { name = \"…\", value = \"…\" }");
        return None;
    };
    table.finish();
    Some(OwnedHeader { name: name.into(), value })
}
