//! One dead letter, and the place where it lies.

use std::fmt;
use std::str::FromStr;

use pointsman_core::provenance::{Account, Family, Writer};
use pointsman_core::record::{Header, Record, TopicPartition};
use thiserror::Error;

/// Where a record lies: `topic/partition/offset`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Place {
    /// Topic and partition.
    pub partition: TopicPartition,
    /// Offset.
    pub offset: i64,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.partition, self.offset)
    }
}

/// A text that names no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("it names no record; write topic/partition/offset, such as orders.dead-letter/0/17")]
pub struct PlaceError;

impl FromStr for Place {
    type Err = PlaceError;

    fn from_str(text: &str) -> Result<Self, PlaceError> {
        let mut parts = text.rsplitn(3, '/');
        let mut number = || parts.next().and_then(|number| number.parse::<u64>().ok());
        let (offset, partition) = (number().ok_or(PlaceError)?, number().ok_or(PlaceError)?);
        let topic = parts.next().filter(|topic| !topic.is_empty() && !topic.contains('/')).ok_or(PlaceError)?;
        Ok(Self {
            partition: TopicPartition::new(topic, i32::try_from(partition).map_err(|_| PlaceError)?),
            offset: i64::try_from(offset).map_err(|_| PlaceError)?,
        })
    }
}

/// One dead letter, borrowed from the buffer it was fetched into.
#[derive(Debug)]
pub struct Letter<'a> {
    /// The partition it lies in.
    pub partition: &'a TopicPartition,
    /// The record as it lies there: the original key and value, the original headers, and those that tell why it is here.
    pub record: Record<'a>,
    /// What its headers tell.
    pub account: Account,
}

impl<'a> Letter<'a> {
    /// Reads the headers of a record.
    ///
    /// A letter of a share group has a payload only where the group is told to copy it; without key and value it counts as
    /// truncated.
    #[must_use]
    pub fn new(partition: &'a TopicPartition, record: Record<'a>) -> Self {
        let mut account = Account::read(record.headers);
        let is_bare = record.key.is_none() && record.value.is_none();
        account.truncated |= is_bare && account.writer == Writer::Foreign(Family::ShareGroup);
        Self { partition, record, account }
    }

    /// Where it lies.
    #[must_use]
    pub fn place(&self) -> Place {
        Place { partition: self.partition.clone(), offset: self.record.offset }
    }

    /// Time of the last failure, in milliseconds since 1970-01-01 UTC. Where the headers don't tell, it is that of the record,
    /// which is about the same for some writers and the time of the original for others (Connect, Streams). `None` where it
    /// has none.
    #[must_use]
    pub fn failed_ms(&self) -> Option<i64> {
        self.account.last_failed_ms.or(Some(self.record.timestamp_ms).filter(|time| *time >= 0))
    }

    /// The headers that the record had originally; `None` where a torn block leaves that open.
    #[must_use]
    pub fn originals(&self) -> Option<Vec<Header<'a>>> {
        self.account.originals(self.record.headers)
    }
}
