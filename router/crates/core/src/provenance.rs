//! The headers that parked records and dead letters carry: where a record came from, and why it is here.
//!
//! The original headers stay as they are, in front. Ours follow as one block that begins with [`VERSION`](name::VERSION),
//! so that taking the block off gives the original record back, whatever headers it had itself, even if it was a dead
//! letter once before. Values are UTF-8 text; numbers are decimal; times are milliseconds since 1970-01-01 UTC.

use std::sync::Arc;

use thiserror::Error;

use crate::event::Event;
use crate::failure::{Failure, FailureClass};
use crate::record::{Header, Headers, OwnedHeader, TopicPartition};

/// The names of the headers.
pub mod name {
    /// Version of the block, `1`. Always its first header.
    pub const VERSION: &str = "pointsman.version";
    /// Topic the record came from.
    pub const ORIGIN_TOPIC: &str = "pointsman.origin.topic";
    /// Partition the record came from.
    pub const ORIGIN_PARTITION: &str = "pointsman.origin.partition";
    /// Offset the record had there.
    pub const ORIGIN_OFFSET: &str = "pointsman.origin.offset";
    /// Timestamp the record had there.
    pub const ORIGIN_TIMESTAMP: &str = "pointsman.origin.timestamp";
    /// The route it failed on.
    pub const ROUTE: &str = "pointsman.route";
    /// The stage it failed in, by name; absent where it failed outside the stages.
    pub const STAGE: &str = "pointsman.stage";
    /// SHA-256 of the component of that stage.
    pub const PLUGIN_DIGEST: &str = "pointsman.plugin.sha256";
    /// Class of the failure.
    pub const CLASS: &str = "pointsman.class";
    /// Code of the failure.
    pub const CODE: &str = "pointsman.code";
    /// Message of the failure, cut to [`Failure::MESSAGE_MAX_BYTES`](crate::failure::Failure::MESSAGE_MAX_BYTES).
    pub const MESSAGE: &str = "pointsman.message";
    /// How often the record was run.
    pub const ATTEMPTS: &str = "pointsman.attempts";
    /// Time of the first failure.
    pub const FIRST_FAILED_AT: &str = "pointsman.first_failed_at";
    /// Time of the last failure.
    pub const LAST_FAILED_AT: &str = "pointsman.last_failed_at";
    /// Parked records: not to be run before.
    pub const DUE_AT: &str = "pointsman.due_at";
    /// Dead letters that would have been too large: `true`; key, value and headers are to be fetched from the origin.
    pub const TRUNCATED: &str = "pointsman.truncated";
}

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
        let mut headers = Vec::with_capacity(15);
        let mut add = |name: &str, value: String| headers.push(OwnedHeader::text(name, value));
        add(name::VERSION, FORMAT.into());
        add(name::ORIGIN_TOPIC, self.origin.partition.topic.to_string());
        add(name::ORIGIN_PARTITION, self.origin.partition.partition.to_string());
        add(name::ORIGIN_OFFSET, self.origin.offset.to_string());
        add(name::ORIGIN_TIMESTAMP, self.origin.timestamp_ms.to_string());
        add(name::ROUTE, self.blame.route.to_string());
        if let Some(stage) = &self.blame.stage {
            add(name::STAGE, stage.to_string());
        }
        if let Some(digest) = &self.blame.plugin_sha256 {
            add(name::PLUGIN_DIGEST, digest.to_string());
        }
        add(name::CLASS, self.class.to_string());
        add(name::CODE, cut(&self.code, Failure::MESSAGE_MAX_BYTES).into());
        add(name::MESSAGE, cut(&self.message, Failure::MESSAGE_MAX_BYTES).into());
        add(name::ATTEMPTS, self.attempts.to_string());
        add(name::FIRST_FAILED_AT, self.first_failed_ms.to_string());
        add(name::LAST_FAILED_AT, self.last_failed_ms.to_string());
        if let Some(due_ms) = self.due_ms {
            add(name::DUE_AT, due_ms.to_string());
        }
        if self.truncated {
            add(name::TRUNCATED, "true".into());
        }
        headers
    }

    /// Takes the last block off: the number of original headers before it, and what it says.
    ///
    /// # Errors
    /// [`ProvenanceError`].
    pub fn split(headers: Headers<'_>) -> Result<(usize, Self), ProvenanceError> {
        let start = (0..headers.len())
            .rev()
            .find(|index| headers.get(*index).is_some_and(|header| header.name == name::VERSION.as_bytes()))
            .ok_or(ProvenanceError::Absent)?;
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
            due_ms: match block.optional(name::DUE_AT)? {
                Some(_) => Some(block.parse(name::DUE_AT)?),
                None => None,
            },
            truncated: block.optional(name::TRUNCATED)? == Some("true"),
        };
        Ok((start, provenance))
    }
}

/// The headers from the start of the block on.
struct Block<'a>(Headers<'a>, usize);

impl<'a> Block<'a> {
    fn find(&self, name: &str) -> Option<Header<'a>> {
        (self.1..self.0.len()).filter_map(|index| self.0.get(index)).find(|header| header.name == name.as_bytes())
    }

    fn optional(&self, name: &'static str) -> Result<Option<&'a str>, ProvenanceError> {
        let Some(header) = self.find(name) else { return Ok(None) };
        let text = header.value.and_then(|value| std::str::from_utf8(value).ok());
        text.map(Some).ok_or(ProvenanceError::Torn(name))
    }

    fn text(&self, name: &'static str) -> Result<&'a str, ProvenanceError> {
        self.optional(name)?.ok_or(ProvenanceError::Torn(name))
    }

    fn parse<T: std::str::FromStr>(&self, name: &'static str) -> Result<T, ProvenanceError> {
        self.text(name)?.parse().map_err(|_| ProvenanceError::Torn(name))
    }
}

/// The headers that `origin_headers = true` stamps on outputs.
#[must_use]
pub fn origin_stamps(event: &Event<'_>) -> Vec<OwnedHeader> {
    vec![
        OwnedHeader::text(name::ORIGIN_TOPIC, event.topic),
        OwnedHeader::text(name::ORIGIN_PARTITION, event.partition.to_string()),
        OwnedHeader::text(name::ORIGIN_OFFSET, event.offset.to_string()),
    ]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Blame, Origin, Provenance, ProvenanceError, name};
    use crate::failure::FailureClass;
    use crate::record::{Headers, OwnedHeader, TopicPartition};

    fn provenance(offset: i64, message: String, due_ms: Option<i64>) -> Provenance {
        Provenance {
            origin: Origin { partition: TopicPartition::new("orders.v1", 3), offset, timestamp_ms: -1 },
            blame: Blame { route: "orders".into(), stage: Some("validate".into()), plugin_sha256: None },
            class: FailureClass::Deadline,
            code: "deadline".into(),
            message,
            attempts: 2,
            first_failed_ms: 5,
            last_failed_ms: 6,
            due_ms,
            truncated: false,
        }
    }

    fn any_header() -> impl Strategy<Value = OwnedHeader> {
        let any_name = prop_oneof![Just(name::VERSION.as_bytes().to_vec()), prop::collection::vec(any::<u8>(), 0..8)];
        (any_name, prop::option::of(prop::collection::vec(any::<u8>(), 0..8)))
            .prop_map(|(name, value)| OwnedHeader { name: name.into(), value: value.map(Into::into) })
    }

    proptest! {
        /// I9: whatever headers the record had, they come back as they were, twice over.
        #[test]
        fn the_block_comes_off_as_it_was_put_on(
            original in prop::collection::vec(any_header(), 0..6),
            message in ".{0,40}",
            due in prop::option::of(any::<i64>()),
        ) {
            let (first, second) = (provenance(1, message.clone(), due), provenance(2, message, None));
            let mut headers = original.clone();
            headers.extend(first.headers());
            let once = headers.clone();
            headers.extend(second.headers());

            let (count, back) = Provenance::split(Headers::Owned(&headers)).expect("whole");
            prop_assert_eq!((count, back), (once.len(), second));
            let (count, back) = Provenance::split(Headers::Owned(&once)).expect("whole");
            prop_assert_eq!((&once[..count], back), (&original[..], first));
        }

        #[test]
        fn foreign_headers_never_panic(headers in prop::collection::vec(any_header(), 0..6)) {
            prop_assert!(Provenance::split(Headers::Owned(&headers)).is_err());
        }
    }

    #[test]
    fn a_torn_block_names_what_is_missing() {
        let mut headers = provenance(1, String::new(), None).headers();
        headers.retain(|header| &*header.name != name::ORIGIN_OFFSET.as_bytes());
        assert_eq!(Provenance::split(Headers::Owned(&headers)), Err(ProvenanceError::Torn(name::ORIGIN_OFFSET)));
        headers[0] = OwnedHeader::text(name::VERSION, "9");
        assert_eq!(Provenance::split(Headers::Owned(&headers)), Err(ProvenanceError::Version("9".into())));
        assert_eq!(Provenance::split(Headers::NONE), Err(ProvenanceError::Absent));
    }
}
