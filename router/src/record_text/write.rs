//! From a record to a line.

use std::fmt::Write as _;

use pointsman_core::record::{Headers, Record, TopicPartition};

use super::{RecordLine, bytes};

/// How values are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Values {
    /// As strings, JSON or not.
    Text,
    /// As JSON, where they are JSON and read back to the same bytes; else as strings.
    Json,
}

/// Appends the line of a record that was read from `partition`, without an end of line.
pub fn append_line(line: &mut String, partition: &TopicPartition, record: Record<'_>, values: Values) {
    let view = View {
        topic: Some(&partition.topic),
        partition: Some(partition.partition),
        offset: Some(record.offset),
        timestamp_ms: (record.timestamp_ms >= 0).then_some(record.timestamp_ms),
        key: record.key,
        value: record.value,
        headers: record.headers,
    };
    append(line, &view, values);
}

/// What a line is made of.
pub(super) struct View<'a> {
    topic: Option<&'a str>,
    partition: Option<i32>,
    offset: Option<i64>,
    timestamp_ms: Option<i64>,
    key: Option<&'a [u8]>,
    value: Option<&'a [u8]>,
    headers: Headers<'a>,
}

impl<'a> From<&'a RecordLine> for View<'a> {
    fn from(line: &'a RecordLine) -> Self {
        Self {
            topic: line.topic.as_deref(),
            partition: line.partition,
            offset: line.offset,
            timestamp_ms: line.timestamp_ms,
            key: line.key.as_deref(),
            value: line.value.as_deref(),
            headers: Headers::Owned(&line.headers),
        }
    }
}

pub(super) fn append(line: &mut String, view: &View<'_>, values: Values) {
    line.push('{');
    if let Some(topic) = view.topic {
        line.push_str("\"topic\":");
        bytes::append_string(line, topic);
        line.push(',');
    }
    let numbers =
        [("partition", view.partition.map(i64::from)), ("offset", view.offset), ("timestamp", view.timestamp_ms)];
    for (name, number) in numbers {
        if let Some(number) = number {
            // Writing to a `String` can't fail.
            let _ = write!(line, "\"{name}\":{number},");
        }
    }
    line.push_str("\"key\":");
    bytes::append_text(line, view.key);
    line.push_str(",\"value\":");
    match values {
        Values::Text => bytes::append_text(line, view.value),
        Values::Json => bytes::append_json(line, view.value),
    }
    if !view.headers.is_empty() {
        append_headers(line, view.headers);
    }
    line.push('}');
}

fn append_headers(line: &mut String, headers: Headers<'_>) {
    line.push_str(",\"headers\":[");
    for (index, header) in headers.iter().enumerate() {
        line.push_str(if index == 0 { "[" } else { ",[" });
        bytes::append_text(line, Some(header.name));
        line.push(',');
        bytes::append_text(line, header.value);
        line.push(']');
    }
    line.push(']');
}
