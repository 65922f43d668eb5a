//! From a line to a record.

use pointsman_config::document::nearest;
use pointsman_core::record::OwnedHeader;
use serde_json::value::RawValue;

use super::bytes::{self, Members};
use super::{LineError, RecordLine};

/// The fields a line may have.
const FIELDS: [&str; 7] = ["topic", "partition", "offset", "timestamp", "key", "value", "headers"];

/// Reads one line, with or without its end of line.
///
/// # Errors
/// [`LineError`]: the line is not a JSON object, has an unknown field or one twice, lacks `value`, or a field is not what
/// it should be.
pub fn parse_line(line: &str) -> Result<RecordLine, LineError> {
    let Members(fields) = members(line)?;
    let mut record = RecordLine::default();
    let mut seen = [false; FIELDS.len()];
    for (name, json) in fields {
        let Some(index) = FIELDS.iter().position(|field| *field == name) else {
            return Err(unknown(&name));
        };
        if std::mem::replace(&mut seen[index], true) {
            return Err(LineError::new("it is there twice", "leave one of them").of(name));
        }
        set(&mut record, FIELDS[index], json).map_err(|error| match error.field {
            // A place inside a field is named already.
            Some(_) => error,
            None => error.of(name),
        })?;
    }
    if !seen[FIELDS.iter().position(|field| *field == "value").unwrap_or_default()] {
        return Err(LineError::new("it is missing", "write null for a tombstone").of("value"));
    }
    Ok(record)
}

/// Reads a point in time: milliseconds since 1970-01-01 UTC, or a text as RFC 3339 has it.
///
/// # Errors
/// [`LineError`]: neither, or before 1970.
pub fn parse_time(text: &str) -> Result<i64, LineError> {
    let remedy = "write milliseconds since 1970-01-01 UTC, or a time with its offset such as 2026-01-31T12:00:00Z";
    let ms = match text.parse::<i64>() {
        Ok(ms) => ms,
        Err(_) => text
            .parse::<jiff::Timestamp>()
            .map_err(|_| LineError::new("it is no point in time, or one too far away", remedy))?
            .as_millisecond(),
    };
    if ms < 0 { Err(LineError::new("it is before 1970, which Kafka can't say", remedy)) } else { Ok(ms) }
}

fn members(line: &str) -> Result<Members<'_>, LineError> {
    // A byte order mark, as some editors put it before the first line.
    let line = line.strip_prefix('\u{feff}').unwrap_or(line);
    if !line.trim_start().starts_with('{') {
        return Err(LineError::new("it is not a JSON object", "write {\"key\": …, \"value\": …}"));
    }
    serde_json::from_str(line).map_err(|error| {
        let text = error.to_string();
        let cause = text.split(" at line ").next().unwrap_or_default();
        LineError::new(format!("not JSON: {cause} at column {}", error.column()), "write one JSON object on one line")
    })
}

fn unknown(name: &str) -> LineError {
    let remedy = nearest(name, FIELDS)
        .map_or_else(|| format!("a record has {}", FIELDS.join(", ")), |meant| format!("did you mean `{meant}`?"));
    LineError::new("there is no such field", remedy).of(name)
}

fn set(record: &mut RecordLine, field: &str, json: &RawValue) -> Result<(), LineError> {
    match field {
        "topic" => record.topic = Some(bytes::string(json)?),
        "partition" => record.partition = Some(number(json)?),
        "offset" => record.offset = Some(number(json)?),
        "timestamp" => record.timestamp_ms = timestamp(json)?,
        "key" => record.key = bytes::read(json)?,
        "value" => record.value = bytes::read(json)?,
        _ => record.headers = headers(json)?,
    }
    Ok(())
}

/// A whole number from 0 up to the largest of its type.
fn number<N: TryFrom<u64>>(json: &RawValue) -> Result<N, LineError> {
    let number = json.get().parse::<u64>().ok().and_then(|number| N::try_from(number).ok());
    number.ok_or_else(|| {
        let bits = size_of::<N>() * 8 - 1;
        LineError::new("it is no such number", format!("write a whole number from 0 up to 2^{bits} - 1"))
    })
}

fn timestamp(json: &RawValue) -> Result<Option<i64>, LineError> {
    match json.get().as_bytes().first() {
        Some(b'n') => Ok(None),
        Some(b'"') => {
            let text = bytes::string(json)?;
            if text.parse::<i64>().is_ok() {
                return Err(LineError::new("it is a number in quotes", "leave the quotes out"));
            }
            parse_time(&text).map(Some)
        }
        _ => parse_time(json.get()).map(Some),
    }
}

fn headers(json: &RawValue) -> Result<Vec<OwnedHeader>, LineError> {
    let remedy = "write a list of [name, value] pairs, or an object";
    match json.get().as_bytes().first() {
        Some(b'{') => {
            let Members(members) =
                serde_json::from_str(json.get()).map_err(|_| LineError::new("a name in it is no text", remedy))?;
            members.into_iter().map(|(name, value)| header(name.into_bytes(), value, &name_of)).collect()
        }
        Some(b'[') => {
            let pairs: Vec<&RawValue> =
                serde_json::from_str(json.get()).map_err(|_| LineError::new("it is no list", remedy))?;
            pairs.into_iter().enumerate().map(|(index, pair)| listed(index, pair)).collect()
        }
        _ => Err(LineError::new("it is neither a list nor an object", remedy)),
    }
}

/// One `[name, value]`.
fn listed(index: usize, pair: &RawValue) -> Result<OwnedHeader, LineError> {
    let place = format!("headers[{index}]");
    let (name, value): (&RawValue, &RawValue) = serde_json::from_str(pair.get())
        .map_err(|_| LineError::new("it is no pair", "write [name, value]").of(&*place))?;
    let name = match name.get().as_bytes().first() {
        Some(b'"' | b'{') => bytes::read(name).map_err(|error| error.of(format!("{place}[0]")))?,
        _ => None,
    };
    let name = name.ok_or_else(|| {
        LineError::new("it is no name", "write a string, or {\"base64\": \"…\"}").of(format!("{place}[0]"))
    })?;
    header(name, value, &|_| format!("{place}[1]"))
}

fn header(name: Vec<u8>, value: &RawValue, place: &dyn Fn(&[u8]) -> String) -> Result<OwnedHeader, LineError> {
    let value = bytes::read(value).map_err(|error| error.of(place(&name)))?;
    Ok(OwnedHeader { name: name.into(), value: value.map(Into::into) })
}

fn name_of(name: &[u8]) -> String {
    format!("headers.{}", String::from_utf8_lossy(name))
}
