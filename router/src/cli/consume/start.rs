//! Where reading starts and, unless it follows, ends.

use std::sync::Arc;

use pointsman_core::port::{Log, LogError, TopicInfo};
use pointsman_core::record::TopicPartition;
use thiserror::Error;

use crate::cli::Exit;
use crate::reading::{NoSuchOffset, Span, Whence};

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
    #[error(transparent)]
    OutOfRange(#[from] NoSuchOffset),
}

impl StartError {
    pub(super) fn exit(&self) -> Exit {
        match self {
            Self::Log(_) => Exit::NotStarted,
            Self::Ambiguous(_) => Exit::Configuration,
            Self::NoPartition { .. } | Self::OutOfRange(_) => Exit::No,
        }
    }
}

/// What is to be read: of `chosen` partitions, or of all where none is chosen.
pub(super) fn spans(log: &dyn Log, topic: &TopicInfo, chosen: &[i32], from: Whence) -> Result<Vec<Span>, StartError> {
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
    if matches!(from, Whence::Offset(_)) && numbers.len() > 1 {
        return Err(StartError::Ambiguous(Arc::clone(&topic.name)));
    }
    let span = |number| {
        let partition = TopicPartition::new(Arc::clone(&topic.name), number);
        let bounds = log.watermarks(&partition)?;
        let start = from.offset(log, &partition, bounds)??;
        Ok(Span { partition, start, end: bounds.1 })
    };
    numbers.into_iter().map(span).collect()
}
