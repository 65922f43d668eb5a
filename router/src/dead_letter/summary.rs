//! What is told of a letter in a list: all but its payload and headers.

use std::fmt;

use pointsman_core::provenance::{Writer, cut};
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::letter::{Letter, Place};
use super::topic::{Expiry, Topic};
use crate::record_text;

/// Longest key that is kept, in bytes.
const KEY_MAX_BYTES: usize = 1024;

/// One letter in a list. It owns what it holds, some kilobytes at most.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Summary {
    /// Where it lies.
    #[serde(serialize_with = "text")]
    #[schema(value_type = String)]
    pub place: Place,
    /// When it was written, in milliseconds since 1970-01-01 UTC; in JSON, RFC 3339, as all times here.
    #[serde(serialize_with = "as_time")]
    #[schema(value_type = Option<String>)]
    pub written: Option<i64>,
    /// When it may be gone.
    #[schema(value_type = Option<String>)]
    pub expires: Expiry,
    /// Who wrote it: [`Writer::name`].
    pub writer: &'static str,
    /// What is wrong with its headers, where they are torn.
    pub torn: Option<String>,
    /// Where the record came from.
    pub origin: OriginSummary,
    /// The route it failed on.
    pub route: Option<String>,
    /// The stage it failed in.
    pub stage: Option<String>,
    /// Digest of that stage's component.
    pub plugin_sha256: Option<String>,
    /// Class of the failure.
    pub class: Option<String>,
    /// Code of the failure.
    pub code: Option<String>,
    /// Message of the failure.
    pub message: Option<String>,
    /// How often it was run.
    pub attempts: Option<u32>,
    /// Time of the first failure.
    #[serde(serialize_with = "as_time")]
    #[schema(value_type = Option<String>)]
    pub first_failed: Option<i64>,
    /// Time of the last failure: where the headers don't tell, that of the record.
    #[serde(serialize_with = "as_time")]
    #[schema(value_type = Option<String>)]
    pub last_failed: Option<i64>,
    /// How often it was replayed before.
    pub replay_count: u32,
    /// It waits behind another of its key, and did not fail itself.
    pub deferred: bool,
    /// Its payload is only at its origin.
    pub truncated: bool,
    /// The key, or its first 1024 bytes; in JSON, in the [form](record_text) of bytes that the lines of records have.
    #[serde(serialize_with = "as_bytes")]
    #[schema(value_type = Option<Object>)]
    pub key: Option<Vec<u8>>,
    /// Size of the whole key, in bytes; `None` where there is none.
    pub key_bytes: Option<usize>,
    /// Size of the value, in bytes; `None` for a tombstone.
    pub value_bytes: Option<usize>,
}

/// As much as is known of where a record came from.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct OriginSummary {
    /// Topic.
    pub topic: Option<String>,
    /// Partition.
    pub partition: Option<i32>,
    /// Offset.
    pub offset: Option<i64>,
    /// Timestamp.
    #[serde(serialize_with = "as_time")]
    #[schema(value_type = Option<String>)]
    pub timestamp: Option<i64>,
}

impl Summary {
    /// Sums up a letter of `topic`.
    #[must_use]
    pub fn new(topic: &Topic, letter: &Letter<'_>) -> Self {
        let (account, record) = (&letter.account, &letter.record);
        let origin = &account.origin;
        Self {
            place: letter.place(),
            written: Some(record.timestamp_ms).filter(|time| *time >= 0),
            expires: topic.expiry(record.timestamp_ms),
            writer: account.writer.name(),
            torn: match &account.writer {
                Writer::Torn(error) => Some(error.to_string()),
                Writer::Pointsman { .. } | Writer::Foreign(_) | Writer::Unknown => None,
            },
            origin: OriginSummary {
                topic: origin.topic.as_deref().map(str::to_owned),
                partition: origin.partition,
                offset: origin.offset,
                timestamp: origin.timestamp_ms,
            },
            route: account.route.clone(),
            stage: account.stage.clone(),
            plugin_sha256: account.plugin_sha256.clone(),
            class: account.class.clone(),
            code: account.code.clone(),
            message: account.message.clone(),
            attempts: account.attempts,
            first_failed: account.first_failed_ms,
            last_failed: letter.failed_ms(),
            replay_count: account.replay_count,
            deferred: account.deferred,
            truncated: account.truncated,
            key: record.key.map(short),
            key_bytes: record.key.map(<[u8]>::len),
            value_bytes: record.value.map(<[u8]>::len),
        }
    }
}

/// Text is cut between characters, so that it stays text.
fn short(key: &[u8]) -> Vec<u8> {
    match std::str::from_utf8(key) {
        Ok(text) => cut(text, KEY_MAX_BYTES).into(),
        Err(_) => key[..key.len().min(KEY_MAX_BYTES)].into(),
    }
}

impl fmt::Display for OriginSummary {
    /// `topic/partition/offset`, with `?` for what is not known.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = |number: Option<i64>| number.map_or_else(|| "?".to_owned(), |number| number.to_string());
        let topic = self.topic.as_deref().unwrap_or("?");
        write!(f, "{topic}/{}/{}", number(self.partition.map(i64::from)), number(self.offset))
    }
}

/// A point in time as RFC 3339 has it; `None` for one that is none, or too far away.
pub(super) fn rfc3339(ms: i64) -> Option<String> {
    jiff::Timestamp::from_millisecond(ms).ok().map(|time| time.to_string())
}

pub(super) fn as_time<S: Serializer>(ms: &Option<i64>, serializer: S) -> Result<S::Ok, S::Error> {
    ms.and_then(rfc3339).serialize(serializer)
}

pub(super) fn text<S: Serializer>(value: &impl fmt::Display, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}

fn as_bytes<S: Serializer>(bytes: &Option<Vec<u8>>, serializer: S) -> Result<S::Ok, S::Error> {
    let json = RawValue::from_string(record_text::bytes_form(bytes.as_deref())).map_err(serde::ser::Error::custom)?;
    json.serialize(serializer)
}
