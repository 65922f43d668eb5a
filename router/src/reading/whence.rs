//! Where to start in a partition.

use std::str::FromStr;

use pointsman_core::port::{Log, LogError};
use pointsman_core::record::TopicPartition;
use thiserror::Error;

use crate::record_text::{LineError, parse_time};

/// Where to start in a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whence {
    /// At the first record there is.
    Earliest,
    /// At the end.
    Latest,
    /// At the first record of this time or later: milliseconds since 1970-01-01 UTC.
    Time(i64),
    /// At this offset.
    Offset(i64),
}

/// The partition has no such offset.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{partition} has no offset {wanted}; it has {first} up to {end}, which is the next to be written")]
pub struct NoSuchOffset {
    /// The partition.
    pub partition: TopicPartition,
    /// What was asked for.
    pub wanted: i64,
    /// The first there is.
    pub first: i64,
    /// One past the last.
    pub end: i64,
}

impl Whence {
    /// The offset that it is in a partition that reaches from the first of `bounds` to before the second.
    ///
    /// # Errors
    /// [`LogError`]: the log can't be asked; and [`NoSuchOffset`].
    pub fn offset(
        self,
        log: &dyn Log,
        partition: &TopicPartition,
        bounds: (i64, i64),
    ) -> Result<Result<i64, NoSuchOffset>, LogError> {
        let (first, end) = bounds;
        Ok(match self {
            Self::Earliest => Ok(first),
            Self::Latest => Ok(end),
            Self::Time(ms) => Ok(log.offset_at(partition, ms)?),
            Self::Offset(wanted) if (first..=end).contains(&wanted) => Ok(wanted),
            Self::Offset(wanted) => Err(NoSuchOffset { partition: partition.clone(), wanted, first, end }),
        })
    }
}

impl FromStr for Whence {
    type Err = LineError;

    fn from_str(text: &str) -> Result<Self, LineError> {
        match text {
            "earliest" => return Ok(Self::Earliest),
            "latest" => return Ok(Self::Latest),
            _ => {}
        }
        if let Ok(offset) = text.parse::<u64>().map_err(drop).and_then(|offset| i64::try_from(offset).map_err(drop)) {
            return Ok(Self::Offset(offset));
        }
        parse_time(text).map(Self::Time).map_err(|error| LineError {
            remedy: "write earliest, latest, a time with its offset such as 2026-01-31T12:00:00Z, or an offset from 0"
                .into(),
            ..error
        })
    }
}
