//! A sample as it leaves the process.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::{KEY_MAX, PARTS_MAX, Redaction, Sample, Watch};
use crate::lane::Why;

/// One line of samples.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum SampleLine {
    /// A record that came to its fate.
    Sample(Box<ShownSample>),
    /// How it goes: at the beginning, and every ten seconds.
    Pulse(Pulse),
}

/// A record that came to its fate.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct ShownSample {
    /// When, as RFC 3339.
    pub time: String,
    /// The topic that the record came from: for a retried one the source.
    pub topic: String,
    /// Its partition there.
    pub partition: i32,
    /// Its offset there.
    pub offset: i64,
    /// The key: a string, `{"base64": …}` where it is not UTF-8, or null. Absent where it is withheld.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    #[schema(value_type = Option<Object>)]
    pub key: Option<Box<RawValue>>,
    /// What became of it: `delivered`, `dropped`, `parked`, `dead-lettered` or `halted`.
    pub fate: String,
    /// Why it was dropped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Of a failure, its class.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<String>,
    /// Its code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// Its message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// The plugin that it has failed in, or `filter`; absent where that is outside the stages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stage: Option<String>,
    /// The topics that it was delivered to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub outputs: Vec<String>,
    /// The number of the run that ended so.
    pub attempt: u32,
    /// Milliseconds since its batch was taken in.
    pub took_ms: f64,
    /// Records that came to this fate since the last sample of it, this one included.
    pub seen: u64,
    /// Headers as pairs of name and value, where values are shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<Vec<Object>>>)]
    pub headers: Option<Vec<[Box<RawValue>; 2]>>,
    /// The value, where values are shown: as the JSON that it is, a string, `{"base64": …}`, or null for a tombstone.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    #[schema(value_type = Option<Object>)]
    pub value: Option<Box<RawValue>>,
    /// Why something is not shown that would be otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub withheld: Option<String>,
}

/// How it goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Pulse {
    /// When, as RFC 3339.
    pub time: String,
    /// Records that came to each fate that is watched, since the beginning.
    pub seen: Counts,
    /// Samples that were lost so far, since they were read too slowly.
    pub missed: u64,
}

/// Numbers of records, by fate.
pub type Counts = BTreeMap<String, u64>;

/// Null is there.
fn present<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Box<RawValue>>, D::Error> {
    Box::<RawValue>::deserialize(deserializer).map(Some)
}

/// Text that is JSON.
fn raw(json: String) -> Option<Box<RawValue>> {
    RawValue::from_string(json).ok()
}

/// RFC 3339, to the millisecond.
fn time(unix_ms: i64) -> String {
    Timestamp::from_millisecond(unix_ms).map(|time| format!("{time:.3}")).unwrap_or_default()
}

impl ShownSample {
    pub(crate) fn new(sample: &Sample, redaction: &Redaction) -> Self {
        let mut withheld = Vec::new();
        let key = match &sample.key {
            Ok(key) => raw(redaction.key(key.as_deref())),
            Err(_) if redaction.hides_key() => raw(redaction.key(Some(b""))),
            Err(bytes) => {
                withheld.push(format!("the key has {bytes} bytes, and {KEY_MAX} are shown"));
                None
            }
        };
        let (mut headers, mut value) = (None, None);
        match &sample.parts {
            None => {}
            Some(Err(bytes)) => {
                withheld.push(format!("headers and value have {bytes} bytes, and {PARTS_MAX} are shown"));
            }
            Some(Ok(parts)) => {
                let pair = |header| {
                    let [name, value] = redaction.header(header).map(raw);
                    Some([name?, value?])
                };
                headers = parts.headers.iter().map(pair).collect();
                value = redaction.value(parts.value.as_deref()).and_then(raw);
                if value.is_none() {
                    withheld.push("the value is not JSON, so what is to be redacted of it can't be found".to_owned());
                }
            }
        }
        let (reason, failure) = match &sample.why {
            Why::Routed { .. } => (None, None),
            Why::Reason(reason) => (Some(reason.clone()), None),
            Why::Failure(failure) => (None, Some(failure)),
        };
        Self {
            time: time(sample.at_ms),
            topic: sample.origin.topic.to_string(),
            partition: sample.origin.partition,
            offset: sample.offset,
            key,
            fate: sample.fate.name().to_owned(),
            reason,
            class: failure.map(|failure| failure.class.to_string()),
            code: failure.map(|failure| failure.code.clone()),
            message: failure.map(|failure| failure.message.clone()),
            stage: sample.stage.as_deref().map(str::to_owned),
            outputs: sample.outputs.iter().map(ToString::to_string).collect(),
            attempt: sample.attempt,
            took_ms: sample.took.as_micros() as f64 / 1000.0,
            seen: sample.seen,
            headers,
            value,
            withheld: (!withheld.is_empty()).then(|| withheld.join("; ")),
        }
    }
}

impl Pulse {
    pub(crate) fn new(watch: &Watch, unix_ms: i64) -> Self {
        let seen = watch.seen().map(|(fate, count)| (fate.name().to_owned(), count)).collect();
        Self { time: time(unix_ms), seen, missed: watch.missed() }
    }
}
