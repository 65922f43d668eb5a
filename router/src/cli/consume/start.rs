//! Where reading starts and, unless it follows, ends.

use std::str::FromStr;
use std::sync::Arc;

use pointsman_core::port::{Log, LogError, TopicInfo};
use pointsman_core::record::TopicPartition;
use thiserror::Error;

use crate::cli::Exit;
use crate::reading::Span;
use crate::record_text::{LineError, parse_time};

/// Where to start in each partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum From {
    /// At the first record there is.
    Earliest,
    /// At the end.
    Latest,
    /// At the first record of this time or later: milliseconds since 1970-01-01 UTC.
    Time(i64),
    /// At this offset.
    Offset(i64),
}

impl FromStr for From {
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

/// It can't be started there.
#[derive(Debug, Error)]
pub(super) enum StartError {
    /// The log can't be asked.
    #[error(transparent)]
    Log(#[from] LogError),
    /// No such partition.
    #[error("topic {topic} has no partition {partition}; it has {count}, numbered from 0")]
    NoPartition {
        /// The topic.
        topic: Arc<str>,
        /// What was asked for.
        partition: i32,
        /// How many there are.
        count: u32,
    },
    /// An offset for several partitions.
    #[error("an offset means something else in each partition of {0}; name one with --partition")]
    Ambiguous(Arc<str>),
    /// No such offset.
    #[error("{partition} has no offset {wanted}; it has {first} up to {end}, which is the next to be written")]
    OutOfRange {
        /// The partition.
        partition: TopicPartition,
        /// What was asked for.
        wanted: i64,
        /// The first there is.
        first: i64,
        /// One past the last.
        end: i64,
    },
}

impl StartError {
    pub(super) fn exit(&self) -> Exit {
        match self {
            Self::Log(_) => Exit::NotStarted,
            Self::Ambiguous(_) => Exit::Configuration,
            Self::NoPartition { .. } | Self::OutOfRange { .. } => Exit::No,
        }
    }
}

/// What is to be read: of `chosen` partitions, or of all where none is chosen.
pub(super) fn spans(log: &dyn Log, topic: &TopicInfo, chosen: &[i32], from: From) -> Result<Vec<Span>, StartError> {
    let mut numbers: Vec<i32> = chosen.to_vec();
    if numbers.is_empty() {
        numbers = (0..i32::try_from(topic.partitions).unwrap_or(i32::MAX)).collect();
    }
    numbers.sort_unstable();
    numbers.dedup();
    let there = |number: i32| u32::try_from(number).is_ok_and(|number| number < topic.partitions);
    if let Some(&partition) = numbers.iter().find(|number| !there(**number)) {
        return Err(StartError::NoPartition { topic: Arc::clone(&topic.name), partition, count: topic.partitions });
    }
    if matches!(from, From::Offset(_)) && numbers.len() > 1 {
        return Err(StartError::Ambiguous(Arc::clone(&topic.name)));
    }
    numbers.into_iter().map(|number| span(log, TopicPartition::new(Arc::clone(&topic.name), number), from)).collect()
}

fn span(log: &dyn Log, partition: TopicPartition, from: From) -> Result<Span, StartError> {
    let (first, end) = log.watermarks(&partition)?;
    let start = match from {
        From::Earliest => first,
        From::Latest => end,
        From::Time(ms) => log.offset_at(&partition, ms)?,
        From::Offset(wanted) if (first..=end).contains(&wanted) => wanted,
        From::Offset(wanted) => return Err(StartError::OutOfRange { partition, wanted, first, end }),
    };
    Ok(Span { partition, start, end })
}
