//! Our own block of headers, written and read.

use std::fmt::Write as _;
use std::sync::Arc;

use thiserror::Error;

use super::name;
use crate::failure::{Failure, FailureClass};
use crate::port::Returned;
use crate::record::{Header, Headers, OwnedHeader, TopicPartition};

const FORMAT: &str = "1";

/// Where a record came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// Topic and partition.
    pub partition: TopicPartition,
    /// Offset.
    pub offset: i64,
    /// Timestamp; -1 where it had none.
    pub timestamp_ms: i64,
}

/// Who failed it: names, for a person.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Blame {
    /// The route.
    pub route: Arc<str>,
    /// The stage.
    pub stage: Option<Arc<str>>,
    /// Digest of the stage's component, in hexadecimal.
    pub plugin_sha256: Option<Arc<str>>,
}

/// All of the block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Provenance {
    /// Where the record came from.
    pub origin: Origin,
    /// Who failed it last.
    pub blame: Blame,
    /// Class of the last failure.
    pub class: FailureClass,
    /// Code of the last failure.
    pub code: String,
    /// Message of the last failure.
    pub message: String,
    /// How often the record was run.
    pub attempts: u32,
    /// Time of the first failure.
    pub first_failed_ms: i64,
    /// Time of the last failure.
    pub last_failed_ms: i64,
    /// Not to be run before.
    pub due_ms: Option<i64>,
    /// The record was too large for the dead-letter topic: only its origin is here.
    pub truncated: bool,
    /// How often it was replayed from dead letters before this failure.
    pub replay_count: u32,
    /// It did not fail itself, but waits behind another of its key.
    pub deferred: bool,
    /// In a retry partition, it is no record to be run, but a note about its key.
    pub marker: Option<Marker>,
}

/// A note about a key in a retry partition, made of the record whose dead letter is the reason: its key and its origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Marker {
    /// The key is held: later records of it become dead letters, until it is released.
    Hold,
    /// The key is released, where this record or one before it held it.
    Release,
}

impl Marker {
    const ALL: [Self; 2] = [Self::Hold, Self::Release];

    const fn name(self) -> &'static str {
        match self {
            Self::Hold => "hold",
            Self::Release => "release",
        }
    }
}

/// A [written](Provenance::write) block of headers.
#[derive(Debug)]
pub struct Written {
    /// Their values, one after the other.
    text: String,
    /// Their names, and where in the text each value ends.
    names: Vec<(&'static str, usize)>,
}

impl Default for Written {
    fn default() -> Self {
        // As much as most of them take.
        Self { text: String::with_capacity(512), names: Vec::with_capacity(19) }
    }
}

impl Written {
    fn text(&mut self, name: &'static str, value: &str) {
        self.text.push_str(value);
        self.names.push((name, self.text.len()));
    }

    fn number(&mut self, name: &'static str, value: impl Into<i64>) {
        // Writing to a `String` can't fail.
        let _ = write!(self.text, "{}", value.into());
        self.names.push((name, self.text.len()));
    }

    /// The headers.
    #[must_use]
    pub fn headers(&self) -> Vec<Header<'_>> {
        let mut headers = Vec::with_capacity(self.names.len());
        let mut start = 0;
        for (name, end) in &self.names {
            headers.push(Header { name: name.as_bytes(), value: Some(&self.text.as_bytes()[start..*end]) });
            start = *end;
        }
        headers
    }
}

/// The headers are not a whole block.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ProvenanceError {
    /// There is no block.
    #[error("there is no {} header: Pointsman did not write this record", name::VERSION)]
    Absent,
    /// Another version's.
    #[error("the block of headers is of version {0:?}, and this version of Pointsman reads version {FORMAT}")]
    Version(String),
    /// Something is missing or unreadable.
    #[error("the header {0} is missing or unreadable")]
    Torn(&'static str),
}

/// Cuts text to at most `max` bytes, at a character.
#[must_use]
pub fn cut(text: &str, max: usize) -> &str {
    &text[..text.floor_char_boundary(max)]
}

impl Provenance {
    /// The block of headers.
    #[must_use]
    pub fn headers(&self) -> Vec<OwnedHeader> {
        self.write().headers().into_iter().map(OwnedHeader::from).collect()
    }

    /// The block of headers, in one piece of memory.
    #[must_use]
    pub fn write(&self) -> Written {
        let mut written = Written::default();
        written.text(name::VERSION, FORMAT);
        written.text(name::ORIGIN_TOPIC, &self.origin.partition.topic);
        written.number(name::ORIGIN_PARTITION, self.origin.partition.partition);
        written.number(name::ORIGIN_OFFSET, self.origin.offset);
        written.number(name::ORIGIN_TIMESTAMP, self.origin.timestamp_ms);
        written.text(name::ROUTE, &self.blame.route);
        if let Some(stage) = &self.blame.stage {
            written.text(name::STAGE, stage);
        }
        if let Some(digest) = &self.blame.plugin_sha256 {
            written.text(name::PLUGIN_DIGEST, digest);
        }
        written.text(name::CLASS, self.class.name());
        written.text(name::CODE, cut(&self.code, Failure::MESSAGE_MAX_BYTES));
        written.text(name::MESSAGE, cut(&self.message, Failure::MESSAGE_MAX_BYTES));
        written.number(name::ATTEMPTS, self.attempts);
        written.number(name::FIRST_FAILED_AT, self.first_failed_ms);
        written.number(name::LAST_FAILED_AT, self.last_failed_ms);
        if let Some(due_ms) = self.due_ms {
            written.number(name::DUE_AT, due_ms);
        }
        if self.truncated {
            written.text(name::TRUNCATED, "true");
        }
        if self.replay_count > 0 {
            written.number(name::REPLAY_COUNT, self.replay_count);
        }
        if self.deferred {
            written.text(name::DEFERRED, "true");
        }
        if let Some(marker) = self.marker {
            written.text(name::MARKER, marker.name());
        }
        written
    }

    /// Where the last block begins.
    fn start(headers: Headers<'_>) -> Option<usize> {
        let begins = |header: Header<'_>| header.name == name::VERSION.as_bytes();
        (0..headers.len()).rev().find(|index| headers.get(*index).is_some_and(begins))
    }

    /// Makes of a dead letter that did not arrive the record that it was made of.
    pub fn strip(returned: &mut Returned) {
        if let Some(start) = Self::start(Headers::Owned(&returned.headers)) {
            let mut headers = std::mem::take(&mut returned.headers).into_vec();
            headers.truncate(start);
            returned.headers = headers.into();
        }
    }

    /// Takes the last block off: the number of original headers before it, and what it says.
    ///
    /// # Errors
    /// [`ProvenanceError`].
    pub fn split(headers: Headers<'_>) -> Result<(usize, Self), ProvenanceError> {
        let start = Self::start(headers).ok_or(ProvenanceError::Absent)?;
        let block = Block(headers, start);
        match block.text(name::VERSION)? {
            FORMAT => {}
            other => return Err(ProvenanceError::Version(other.into())),
        }
        let provenance = Self {
            origin: Origin {
                partition: TopicPartition::new(block.text(name::ORIGIN_TOPIC)?, block.parse(name::ORIGIN_PARTITION)?),
                offset: block.parse(name::ORIGIN_OFFSET)?,
                timestamp_ms: block.parse(name::ORIGIN_TIMESTAMP)?,
            },
            blame: Blame {
                route: block.text(name::ROUTE)?.into(),
                stage: block.optional(name::STAGE)?.map(Into::into),
                plugin_sha256: block.optional(name::PLUGIN_DIGEST)?.map(Into::into),
            },
            class: block.text(name::CLASS)?.parse().map_err(|_| ProvenanceError::Torn(name::CLASS))?,
            code: block.text(name::CODE)?.into(),
            message: block.text(name::MESSAGE)?.into(),
            attempts: block.parse(name::ATTEMPTS)?,
            first_failed_ms: block.parse(name::FIRST_FAILED_AT)?,
            last_failed_ms: block.parse(name::LAST_FAILED_AT)?,
            due_ms: block.optional_number(name::DUE_AT)?,
            truncated: block.optional(name::TRUNCATED)? == Some("true"),
            replay_count: block.optional_number(name::REPLAY_COUNT)?.unwrap_or(0),
            deferred: block.optional(name::DEFERRED)? == Some("true"),
            marker: block.marker()?,
        };
        Ok((start, provenance))
    }
}

/// The headers from the start of the block on.
pub(super) struct Block<'a>(pub(super) Headers<'a>, pub(super) usize);

impl<'a> Block<'a> {
    fn find(&self, name: &str) -> Option<Header<'a>> {
        (self.1..self.0.len()).filter_map(|index| self.0.get(index)).find(|header| header.name == name.as_bytes())
    }

    pub(super) fn optional(&self, name: &'static str) -> Result<Option<&'a str>, ProvenanceError> {
        let Some(header) = self.find(name) else { return Ok(None) };
        let text = header.value.and_then(|value| std::str::from_utf8(value).ok());
        text.map(Some).ok_or(ProvenanceError::Torn(name))
    }

    fn optional_number<T: std::str::FromStr>(&self, name: &'static str) -> Result<Option<T>, ProvenanceError> {
        if self.find(name).is_some() { self.parse(name).map(Some) } else { Ok(None) }
    }

    fn marker(&self) -> Result<Option<Marker>, ProvenanceError> {
        let Some(text) = self.optional(name::MARKER)? else { return Ok(None) };
        let known = Marker::ALL.into_iter().find(|marker| marker.name() == text);
        known.map(Some).ok_or(ProvenanceError::Torn(name::MARKER))
    }

    fn text(&self, name: &'static str) -> Result<&'a str, ProvenanceError> {
        self.optional(name)?.ok_or(ProvenanceError::Torn(name))
    }

    pub(super) fn parse<T: std::str::FromStr>(&self, name: &'static str) -> Result<T, ProvenanceError> {
        self.text(name)?.parse().map_err(|_| ProvenanceError::Torn(name))
    }
}
