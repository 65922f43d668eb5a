//! What was done about dead letters: records in a topic beside theirs.
//!
//! `NAME.audit` has a record for each letter of the topic `NAME` that was handled, in the partition with the number of the
//! letter's own, and keeps it as long as the letters. The key is the letter's place, the value JSON:
//!
//! ```json
//! {"version":1,"letter":"orders.dead-letter/3/17","written":1767225600000,"action":"replayed","to":"orders.v1/3","replays":1,
//!  "by":"ana","at":1767229200000,"run":"5f0c6d1b9a3e7244","edits":["header region=eu"]}
//! ```
//!
//! It is written in one transaction with the record that was replayed. So what stands there was done, and what does not was not.
//!
//! Of a key that was released (`on_dead = "park-key"`) there is one, too, under the place of the record that has held the key, and
//! in any partition:
//!
//! ```json
//! {"version":1,"action":"released","route":"orders","key":"customer-7","origin":"orders.v1/3/17","by":"ana","at":1767229200000,
//!  "run":"5f0c6d1b9a3e7244"}
//! ```

use std::fmt;

use pointsman_config::dead_letters::audit_topic;
use pointsman_core::record::{Record, TopicPartition};
use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;

use super::letter::Place;
use super::summary::text;

/// The version that is written, and read.
const VERSION: u32 = 1;

/// One thing that was done about one letter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[non_exhaustive]
pub struct AuditRecord {
    pub(super) version: u32,
    /// The letter.
    #[serde(serialize_with = "text", deserialize_with = "place")]
    #[schema(value_type = String)]
    pub letter: Place,
    /// The letter's own timestamp, in milliseconds since 1970-01-01 UTC; -1 where it has none. A topic that was made anew has
    /// other letters at the same places.
    pub written: i64,
    /// What was done.
    pub action: Action,
    /// Where to, `topic/partition`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// How often the record was replayed, this time included; 0 where it never was.
    pub replays: u32,
    /// By whom.
    pub by: String,
    /// When, in milliseconds since 1970-01-01 UTC.
    pub at: i64,
    /// In which run.
    pub run: String,
    /// What was edited, as it was given.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub edits: Vec<String>,
}

/// What may be done about a letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// The record was written once more.
    Replayed,
    /// It had been replayed too often: the letter was moved to the parking topic.
    Parked,
    /// Nothing is to become of it.
    Discarded,
}

/// One key that was released.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct ReleaseRecord {
    version: u32,
    action: Released,
    route: String,
    /// As text.
    key: String,
    /// Topic, partition and offset of the record that has held it.
    origin: String,
    by: String,
    /// Milliseconds since 1970-01-01 UTC.
    at: i64,
    run: String,
}

/// Tells a [`ReleaseRecord`] from an [`AuditRecord`].
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Released {
    Released,
}

/// What a record of an audit topic tells of.
#[derive(Debug)]
pub(super) enum Told {
    Letter(AuditRecord),
    /// Nothing about a letter.
    Release,
}

impl ReleaseRecord {
    /// Of a key that `origin` has held.
    pub(super) fn new(route: &str, key: &[u8], origin: &str, signature: &Signature, at_ms: i64) -> Self {
        let Signature { by, run } = signature.clone();
        let key = String::from_utf8_lossy(key).into_owned();
        let (route, origin) = (route.to_owned(), origin.to_owned());
        Self { version: VERSION, action: Released::Released, route, key, origin, by, at: at_ms, run }
    }

    /// Key and value of the record.
    pub(super) fn encode(&self) -> Result<(Vec<u8>, Vec<u8>), serde_json::Error> {
        Ok((self.origin.clone().into_bytes(), serde_json::to_vec(self)?))
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Replayed => "replayed",
            Self::Parked => "parked",
            Self::Discarded => "discarded",
        })
    }
}

/// By whom and in which run things are done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signature {
    /// By whom.
    pub by: String,
    /// In which run: a text that no other run has.
    pub run: String,
}

impl Signature {
    /// Of a run that begins now.
    #[must_use]
    pub fn of(by: &str) -> Self {
        Self { by: by.to_owned(), run: format!("{:016x}", fastrand::u64(..)) }
    }
}

impl AuditRecord {
    /// Nothing but the letter and who did it yet.
    pub(super) fn new(letter: Place, written: i64, action: Action, signature: &Signature, at_ms: i64) -> Self {
        let Signature { by, run } = signature.clone();
        Self { version: VERSION, letter, written, action, to: None, replays: 0, by, at: at_ms, run, edits: Vec::new() }
    }

    /// Key and value of the record.
    pub(super) fn encode(&self) -> Result<(Vec<u8>, Vec<u8>), serde_json::Error> {
        Ok((self.letter.to_string().into_bytes(), serde_json::to_vec(self)?))
    }

    /// Reads a record of the audit topic of `topic`; `partition` is the one it lies in. What is wrong with one that is not of
    /// this kind is told in a clause.
    pub(super) fn read(topic: &str, partition: i32, record: Record<'_>) -> Result<Told, String> {
        let value = record.value.ok_or("it has no value")?;
        let told: Version = serde_json::from_slice(value).map_err(|error| format!("it is no audit record: {error}"))?;
        if told.version != VERSION {
            let version = told.version;
            return Err(format!("it is of version {version}, and this version of Pointsman reads version {VERSION}"));
        }
        let damaged = |error| format!("it is damaged: {error}");
        if told.action.as_deref() == Some("released") {
            let _: ReleaseRecord = serde_json::from_slice(value).map_err(damaged)?;
            return Ok(Told::Release);
        }
        let read: Self = serde_json::from_slice(value).map_err(damaged)?;
        let Place { partition: of, offset } = &read.letter;
        if &*of.topic != topic || of.partition != partition || *offset < 0 {
            return Err(format!("it is about {}, which is not of this partition", read.letter));
        }
        if record.key != Some(read.letter.to_string().as_bytes()) {
            return Err(format!("it is about {}, and its key says otherwise", read.letter));
        }
        Ok(Told::Letter(read))
    }
}

/// The partition that tells of the letters in this one.
pub(super) fn audit_partition(letters: &TopicPartition) -> TopicPartition {
    TopicPartition::new(audit_topic(&letters.topic), letters.partition)
}

/// As much as any version says.
#[derive(Deserialize)]
struct Version {
    version: u32,
    action: Option<String>,
}

fn place<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Place, D::Error> {
    String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
}
