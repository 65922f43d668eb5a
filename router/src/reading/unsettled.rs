//! What a group has read of a partition and has yet to settle, as it is for retry partitions.

use std::ops::ControlFlow;

use pointsman_core::metadata::Metadata;
use pointsman_core::port::{Log, LogError};
use pointsman_core::record::{Record, TopicPartition};
use thiserror::Error;

use super::{Ended, Merge, ReadError, Seen, Span};
use crate::progress::Progress;

/// Why not all was seen.
#[derive(Debug, Error)]
pub enum UnsettledError {
    /// The log can't be asked.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The partition can't be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// It was told to stop.
    #[error("stopped before all was read")]
    Stopped,
}

/// Shows the records of `partition` that `group` has not settled, in order. The answer is the offset behind the last one
/// there was at the start; a partition that is not there has none, and ends at 0.
///
/// # Errors
/// [`UnsettledError`].
pub fn unsettled(
    log: &dyn Log,
    group: &str,
    partition: &TopicPartition,
    see: &mut dyn FnMut(Record<'_>),
    stop: &dyn Fn() -> bool,
    progress: Progress<'_>,
    note: &mut dyn FnMut(&str),
) -> Result<i64, UnsettledError> {
    let topics = log.topics(Some(std::slice::from_ref(&partition.topic)))?;
    if !topics.iter().any(|topic| i64::from(topic.partitions) > i64::from(partition.partition)) {
        return Ok(0);
    }
    let (first, end) = log.watermarks(partition)?;
    let committed = log.committed(group, std::slice::from_ref(partition))?.into_iter().next().flatten();
    let start = committed.as_ref().map_or(first, |commit| commit.offset).max(first);
    // What can't be read counts as not settled, as it does for the router.
    let metadata = committed.map(|commit| Metadata::decode(&commit.metadata, commit.offset).unwrap_or_default());
    let Metadata { settled, .. } = metadata.unwrap_or_default();
    let mut look = |seen: Seen<'_>| -> ControlFlow<()> {
        if let Seen::Record(_, record) = seen
            && !settled.contains(record.offset)
        {
            see(record);
        }
        ControlFlow::Continue(())
    };
    let span = Span { partition: partition.clone(), start, end };
    let what = format!("reading {partition}");
    match Merge::begin(log, vec![span], false)?.telling(&what, progress).run(&mut look, stop, note) {
        Ended::Done | Ended::Enough(()) => Ok(end),
        Ended::Stopped => Err(UnsettledError::Stopped),
        Ended::Failed(error) => Err(error.into()),
    }
}
