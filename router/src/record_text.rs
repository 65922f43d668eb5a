//! Records as text: one JSON object on one line, and back to the same bytes.
//!
//! ```json
//! {"topic":"orders.v1","partition":0,"offset":17,"timestamp":1767225600000,"key":"a-1","value":"{\"eur\":12}","headers":[["trace","x"]]}
//! ```
//!
//! | Field | Read | Written |
//! | --- | --- | --- |
//! | `topic`, `offset` | where the record came from; whoever writes it elsewhere has no use for them | where known |
//! | `partition` | a number from 0 | where known |
//! | `timestamp` | milliseconds since 1970-01-01 UTC, or an RFC 3339 text; left out or null, the log takes the time of writing | milliseconds, where the log has one |
//! | `key` | bytes; left out, null | always |
//! | `value` | bytes; it can't be left out, since null is a tombstone | always |
//! | `headers` | a list of `[name, value]`, or an object `{"name": value}` where order and duplicates don't matter | a list, unless empty |
//!
//! Key, value and the values of headers are **bytes**, for which there are these forms:
//!
//! - `null`: there are none, which is not the same as empty.
//! - A string: its text, as UTF-8.
//! - `{"base64": "…"}`, an object with this one member: what that decodes to (standard alphabet, padded).
//! - Any other JSON: its own text, without the space between its tokens; numbers and the order of members stay as they
//!   are written. So `{"value": {"eur": 12}}` says the same as `{"value": "{\"eur\":12}"}`.
//!
//! What is written reads back to the same bytes, always. A value is written as a string, or as base64 where it is not
//! UTF-8; with [`Values::Json`], a value that is JSON is written as such where that too reads back to the same bytes, which
//! is wherever it has no space between its tokens and does not look like one of the other forms. Names of headers are
//! strings, or base64 where they are not UTF-8.

mod bytes;
mod read;
mod write;

use pointsman_core::delivery::{Delivery, PartitionChoice, TopicId};
use pointsman_core::record::{Headers, OwnedHeader, Record, TopicPartition};
use thiserror::Error;

pub(crate) use bytes::{Members, compact as compact_json};
pub use read::{parse_line, parse_time};
pub use write::{Values, append_line};

/// A record as a line says it. It owns its bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecordLine {
    /// Topic that the record came from, if the line says so.
    pub topic: Option<String>,
    /// Partition, from 0, if the line says so.
    pub partition: Option<i32>,
    /// Offset that the record came from, from 0, if the line says so.
    pub offset: Option<i64>,
    /// Milliseconds since 1970-01-01 UTC, from 0; `None` leaves it to the log.
    pub timestamp_ms: Option<i64>,
    /// Key; null and empty are different.
    pub key: Option<Vec<u8>>,
    /// Value; null is a tombstone.
    pub value: Option<Vec<u8>>,
    /// Headers in order; names need not be UTF-8.
    pub headers: Vec<OwnedHeader>,
}

impl RecordLine {
    /// Copies a record that was read from `partition`.
    #[must_use]
    pub fn from_record(partition: &TopicPartition, record: Record<'_>) -> Self {
        Self {
            topic: Some(partition.topic.to_string()),
            partition: Some(partition.partition),
            offset: Some(record.offset),
            timestamp_ms: (record.timestamp_ms >= 0).then_some(record.timestamp_ms),
            key: record.key.map(Into::into),
            value: record.value.map(Into::into),
            headers: record.headers.to_owned(),
        }
    }

    /// The line, without an end of line. It reads back to an equal `RecordLine`.
    #[must_use]
    pub fn to_line(&self) -> String {
        let mut line = String::new();
        write::append(&mut line, &write::View::from(self), Values::Text);
        line
    }

    /// This record on its way to a topic: to the partition that it names, else to that of its key.
    #[must_use]
    pub fn delivery(&self, topic: TopicId) -> Delivery<'_> {
        Delivery {
            topic,
            partition: self.partition.map_or(PartitionChoice::ByKey, PartitionChoice::Exactly),
            timestamp_ms: self.timestamp_ms.unwrap_or(-1),
            key: self.key.as_deref(),
            value: self.value.as_deref(),
            headers: pointsman_core::record::Headers::Owned(&self.headers),
            stamps: Headers::NONE,
        }
    }
}

/// Why a line, or a part of one, stands for no record. The text has nothing of the record in it but names of fields.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{}{cause}; {remedy}", .field.as_ref().map(|field| format!("`{field}`: ")).unwrap_or_default())]
pub struct LineError {
    /// The field, such as `timestamp` or `headers[2]`; `None` where it is the line as a whole.
    pub field: Option<String>,
    /// What is wrong, as a clause.
    pub cause: String,
    /// What to do about it, as a clause.
    pub remedy: String,
}

impl LineError {
    fn new(cause: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { field: None, cause: cause.into(), remedy: remedy.into() }
    }

    /// The same, of this field.
    fn of(mut self, field: impl Into<String>) -> Self {
        self.field = Some(field.into());
        self
    }
}

/// The form of `bytes` in a line: a JSON string, base64, or null.
#[must_use]
pub fn bytes_form(bytes: Option<&[u8]>) -> String {
    let mut form = String::new();
    bytes::append_text(&mut form, bytes);
    form
}

/// The form of a value in a line that has values as JSON.
pub(crate) fn value_form(value: Option<&[u8]>) -> String {
    let mut form = String::new();
    bytes::append_json(&mut form, value);
    form
}

/// A JSON string.
pub(crate) fn string_form(text: &str) -> String {
    let mut form = String::new();
    bytes::append_string(&mut form, text);
    form
}

#[cfg(test)]
mod tests;
