//! What the headers of a dead letter tell, whoever wrote it.

use std::sync::Arc;

use super::block::{Block, Provenance, ProvenanceError, cut};
use super::family::Family;
use super::name;
use crate::failure::Failure;
use crate::record::{Header, Headers, TopicPartition};

/// Who wrote a dead letter, by its headers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Writer {
    /// We did, and the block is whole. It begins at this index of the headers.
    Pointsman {
        /// How many headers stand before it: those that the record had.
        originals: usize,
    },
    /// We did, but the block is damaged, or of another version: what can be read of it is told, and which headers the record
    /// had is not known.
    Torn(ProvenanceError),
    /// Another tool did.
    Foreign(Family),
    /// Nobody says so.
    #[default]
    Unknown,
}

impl Writer {
    /// The name that it is shown by: `pointsman`, `torn`, `unknown`, or that of the family.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Pointsman { .. } => "pointsman",
            Self::Torn(_) => "torn",
            Self::Foreign(family) => family.name(),
            Self::Unknown => "unknown",
        }
    }
}

/// As much as is known of where a record came from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KnownOrigin {
    /// Topic.
    pub topic: Option<Arc<str>>,
    /// Partition, from 0.
    pub partition: Option<i32>,
    /// Offset, from 0.
    pub offset: Option<i64>,
    /// Timestamp, in milliseconds since 1970-01-01 UTC.
    pub timestamp_ms: Option<i64>,
}

impl KnownOrigin {
    /// The place to fetch the record from, where all of it is known.
    #[must_use]
    pub fn place(&self) -> Option<(TopicPartition, i64)> {
        let topic = self.topic.clone()?;
        Some((TopicPartition { topic, partition: self.partition? }, self.offset?))
    }
}

/// What the headers of a dead letter tell. Everything that a writer does not say, or that can't be read, is `None`. Texts are
/// cut to [`Failure::MESSAGE_MAX_BYTES`].
///
/// | | ours | Spring | Connect | Streams | share groups |
/// | --- | --- | --- | --- | --- | --- |
/// | `route` | route | consumer group | connector | | group |
/// | `stage` | stage | | stage | | |
/// | `class` | class | exception | exception | exception | |
/// | `code` | code | its cause | class that failed | | |
/// | `attempts` | runs | attempts, else deliveries | | | deliveries |
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Account {
    /// Who wrote it.
    pub writer: Writer,
    /// Where the record came from.
    pub origin: KnownOrigin,
    /// The route it failed on.
    pub route: Option<String>,
    /// The stage it failed in.
    pub stage: Option<String>,
    /// Digest of that stage's component, in hexadecimal.
    pub plugin_sha256: Option<String>,
    /// Class of the failure.
    pub class: Option<String>,
    /// Code of the failure.
    pub code: Option<String>,
    /// Message of the failure.
    pub message: Option<String>,
    /// How often the record was run.
    pub attempts: Option<u32>,
    /// Time of the first failure, in milliseconds since 1970-01-01 UTC.
    pub first_failed_ms: Option<i64>,
    /// Time of the last failure, in milliseconds since 1970-01-01 UTC.
    pub last_failed_ms: Option<i64>,
    /// How often it was replayed before; 0 where nobody says.
    pub replay_count: u32,
    /// It did not fail itself, but waits behind another of its key.
    pub deferred: bool,
    /// Only headers are here; the payload is to be fetched from the origin.
    pub truncated: bool,
}

impl Account {
    /// Reads the headers of any record. The writer is the one whose header stands last: a dead letter that failed once more
    /// elsewhere is that one's.
    #[must_use]
    pub fn read(headers: Headers<'_>) -> Self {
        for index in (0..headers.len()).rev() {
            let Some(Header { name, .. }) = headers.get(index) else { continue };
            if is_ours(name) {
                return Self::ours(headers, index);
            }
            if let Some(family) = Family::ALL.into_iter().find(|family| family.tells(name)) {
                return family.read(headers);
            }
        }
        Self::default()
    }

    /// Whether the record had the header at `index` of `headers` before it became this dead letter; `None` where that is not
    /// known, because our block is torn. A record that nobody says to be a dead letter had them all.
    #[must_use]
    pub fn is_original(&self, headers: Headers<'_>, index: usize) -> Option<bool> {
        match &self.writer {
            Writer::Pointsman { originals } => Some(index < *originals),
            Writer::Torn(_) => None,
            Writer::Foreign(family) => Some(headers.get(index).is_some_and(|header| !family.owns(header.name))),
            Writer::Unknown => Some(true),
        }
    }

    /// The headers that the record had before it became this dead letter; `None` where that is not known.
    #[must_use]
    pub fn originals<'a>(&self, headers: Headers<'a>) -> Option<Vec<Header<'a>>> {
        let all = headers.iter().enumerate();
        all.filter_map(|(index, header)| match self.is_original(headers, index) {
            None => Some(None),
            Some(true) => Some(Some(header)),
            Some(false) => None,
        })
        .collect()
    }

    /// Reads our block, of which the header at `index` is one.
    fn ours(headers: Headers<'_>, index: usize) -> Self {
        match Provenance::split(headers) {
            Ok((originals, provenance)) => {
                Self { writer: Writer::Pointsman { originals }, ..Self::from_block(provenance) }
            }
            Err(error) => {
                let is_version = |at: &usize| headers.get(*at).is_some_and(|header| header.name == VERSION);
                // Without its beginning, it is what stands together.
                let start = (0..=index).rev().find(is_version).unwrap_or_else(|| {
                    let is_other = |at: &usize| {
                        headers.get(*at).is_some_and(|other| !other.name.starts_with(name::PREFIX.as_bytes()))
                    };
                    (0..index).rev().find(is_other).map_or(0, |other| other + 1)
                });
                let error = match error {
                    ProvenanceError::Absent => ProvenanceError::Torn(name::VERSION),
                    error => error,
                };
                Self { writer: Writer::Torn(error), ..Self::from_torn(&Block(headers, start)) }
            }
        }
    }

    fn from_block(provenance: Provenance) -> Self {
        let Provenance { origin, blame, .. } = provenance;
        Self {
            writer: Writer::Unknown,
            origin: KnownOrigin {
                topic: Some(origin.partition.topic),
                partition: Some(origin.partition.partition),
                offset: Some(origin.offset),
                timestamp_ms: Some(origin.timestamp_ms).filter(|time| *time >= 0),
            },
            route: Some(short(&blame.route)),
            stage: blame.stage.as_deref().map(short),
            plugin_sha256: blame.plugin_sha256.as_deref().map(short),
            class: Some(provenance.class.to_string()),
            code: Some(short(&provenance.code)),
            message: Some(short(&provenance.message)),
            attempts: Some(provenance.attempts),
            first_failed_ms: Some(provenance.first_failed_ms),
            last_failed_ms: Some(provenance.last_failed_ms),
            replay_count: provenance.replay_count,
            deferred: provenance.deferred,
            truncated: provenance.truncated,
        }
    }

    fn from_torn(block: &Block<'_>) -> Self {
        let text = |name| block.optional(name).ok().flatten().map(short);
        let is_true = |name| block.optional(name).ok().flatten() == Some("true");
        Self {
            writer: Writer::Unknown,
            origin: KnownOrigin {
                topic: text(name::ORIGIN_TOPIC).map(Into::into),
                partition: block.parse(name::ORIGIN_PARTITION).ok(),
                offset: block.parse(name::ORIGIN_OFFSET).ok(),
                timestamp_ms: block.parse(name::ORIGIN_TIMESTAMP).ok().filter(|time| *time >= 0),
            },
            route: text(name::ROUTE),
            stage: text(name::STAGE),
            plugin_sha256: text(name::PLUGIN_DIGEST),
            class: text(name::CLASS),
            code: text(name::CODE),
            message: text(name::MESSAGE),
            attempts: block.parse(name::ATTEMPTS).ok(),
            first_failed_ms: block.parse(name::FIRST_FAILED_AT).ok(),
            last_failed_ms: block.parse(name::LAST_FAILED_AT).ok(),
            replay_count: block.parse(name::REPLAY_COUNT).unwrap_or(0),
            deferred: is_true(name::DEFERRED),
            truncated: is_true(name::TRUNCATED),
        }
    }
}

/// Nobody writes more than that, but anybody may.
fn short(text: &str) -> String {
    cut(text, Failure::MESSAGE_MAX_BYTES).to_owned()
}

const VERSION: &[u8] = name::VERSION.as_bytes();

/// Whether a header of this name belongs to a block of ours. Those that outputs and replayed records are stamped with stand
/// alone, too.
fn is_ours(header: &[u8]) -> bool {
    const STAMPS: [&str; 4] = [name::ORIGIN_TOPIC, name::ORIGIN_PARTITION, name::ORIGIN_OFFSET, name::REPLAY_COUNT];
    header.starts_with(name::PREFIX.as_bytes()) && !STAMPS.iter().any(|stamp| header == stamp.as_bytes())
}
