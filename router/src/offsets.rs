//! Moving a route that is stopped: its group goes on from other offsets of its sources.
//!
//! What is parked in the retry topics is not moved along. Where there is some, whoever moves a route says what is to become
//! of it ([`Parked`]).

use std::sync::Arc;

use pointsman_config::Plan;
use pointsman_config::plan::{RoutePlan, SourcePlan};
use pointsman_core::port::{Commit, Log, LogError, TopicInfo};
use pointsman_core::record::TopicPartition;
use serde::Serialize;
use thiserror::Error;

use crate::progress::Progress;
use crate::reading::{NoSuchOffset, ReadError, UnsettledError, Whence, unsettled};

/// Which partitions of a route go where.
#[derive(Clone, Debug)]
pub struct Wish {
    /// Of this source topic only.
    pub topic: Option<String>,
    /// These partitions only; empty for all.
    pub partitions: Vec<i32>,
    /// Where to.
    pub to: Whence,
    /// What becomes of records that are parked.
    pub parked: Option<Parked>,
}

/// What becomes of parked records of the partitions that are moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Parked {
    /// They are run when they are due. A source record that is read again while it is parked comes twice.
    Keep,
    /// They are passed over, and not run by this group any more. The router may remove them from the retry topic then.
    Discard,
}

/// What is to be done, or was done.
#[derive(Clone, Debug, Serialize)]
pub struct Reset {
    /// The consumer group.
    pub group: String,
    /// The source partitions.
    pub moves: Vec<Move>,
}

/// One source partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Move {
    /// Source topic.
    pub topic: String,
    /// Partition number.
    pub partition: i32,
    /// Where the group is; `None` where it has committed nothing.
    pub from: Option<i64>,
    /// Where it goes.
    pub to: i64,
    /// The first offset there is.
    pub first: i64,
    /// One past the last.
    pub end: i64,
    /// Records that are parked in the retry partition that follows it.
    pub parked: u64,
    /// The commit that passes those over.
    #[serde(skip)]
    discard: Option<Commit>,
}

/// A route can't be moved.
#[derive(Debug, Error)]
pub enum ResetError {
    /// The log refuses.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The retry topic can't be read.
    #[error("can't count what is parked: {0}")]
    Read(#[from] ReadError),
    /// Not a source of the route.
    #[error("route {route} does not read {topic}; it reads {known}")]
    NoSource {
        /// The route.
        route: Arc<str>,
        /// What was asked for.
        topic: String,
        /// What there is.
        known: String,
    },
    /// A source that is not there.
    #[error("there is no topic {0}")]
    NoTopic(Arc<str>),
    /// No source has such a partition.
    #[error("{topic} has no partition {partition}; it has {count}, numbered from 0")]
    NoPartition {
        /// The topic.
        topic: Arc<str>,
        /// What was asked for.
        partition: i32,
        /// How many there are.
        count: u32,
    },
    /// An offset for several partitions.
    #[error("an offset means something else in each partition; name one partition of one topic")]
    Ambiguous,
    /// The partition does not reach that far.
    #[error(transparent)]
    NoSuchOffset(#[from] NoSuchOffset),
    /// Parked records, and nobody has said what is to become of them.
    #[error(
        "{records} records are parked, the first of them in {first}: let the route run until they are done, or say whether to \
         keep them (they are run when they are due) or to discard them"
    )]
    Parked {
        /// How many.
        records: u64,
        /// A retry partition that has some.
        first: TopicPartition,
    },
    /// It was told to stop.
    #[error("stopped: nothing was changed")]
    Stopped,
}

/// Finds out what is to be done for `wish`. Nothing is changed. `stop` is asked now and then; `progress` is told of the parked
/// records that are looked through; `note` is told what goes wrong on
/// the way, and may yet turn out well.
///
/// # Errors
/// [`ResetError`].
pub fn plan(
    log: &dyn Log,
    plan: &Plan,
    route: &RoutePlan,
    wish: &Wish,
    stop: &dyn Fn() -> bool,
    progress: Progress<'_>,
    note: &mut dyn FnMut(&str),
) -> Result<Reset, ResetError> {
    let chosen = choose(log, route, wish)?;
    if matches!(wish.to, Whence::Offset(_)) && chosen.len() > 1 {
        return Err(ResetError::Ambiguous);
    }
    let partitions: Vec<TopicPartition> = chosen.iter().map(|(_, partition)| partition.clone()).collect();
    let committed = log.committed(&route.group, &partitions)?;
    let mut moves = Vec::with_capacity(partitions.len());
    for ((source, partition), committed) in chosen.into_iter().zip(committed) {
        let bounds = log.watermarks(&partition)?;
        let to = wish.to.offset(log, &partition, bounds)??;
        let retry = source.retry.and_then(|topic| plan.topics.get(topic.0 as usize));
        let retry = retry.map(|topic| TopicPartition::new(Arc::clone(&topic.name), partition.partition));
        let (parked, discard) = match retry {
            Some(retry) => parked(log, route, &retry, stop, progress, note)?,
            None => (0, None),
        };
        moves.push(Move {
            topic: partition.topic.to_string(),
            partition: partition.partition,
            from: committed.map(|commit| commit.offset),
            to,
            first: bounds.0,
            end: bounds.1,
            parked,
            discard,
        });
    }
    let first = moves.iter().find_map(|moved| moved.discard.as_ref());
    match (first, wish.parked) {
        (Some(first), None) => {
            let records = moves.iter().map(|moved| moved.parked).sum();
            return Err(ResetError::Parked { records, first: first.partition.clone() });
        }
        (Some(_), Some(Parked::Keep)) => moves.iter_mut().for_each(|moved| moved.discard = None),
        (Some(_), Some(Parked::Discard)) | (None, _) => {}
    }
    Ok(Reset { group: route.group.to_string(), moves })
}

/// Does it: all of it, or nothing.
///
/// # Errors
/// [`LogError`]: a router is in the group, among others.
pub fn apply(log: &dyn Log, reset: &Reset) -> Result<(), LogError> {
    let source = |moved: &Move| Commit {
        partition: TopicPartition::new(moved.topic.as_str(), moved.partition),
        offset: moved.to,
        // Nothing beyond it counts as settled, and no unclean end is remembered.
        metadata: String::new(),
    };
    let commits: Vec<Commit> =
        reset.moves.iter().flat_map(|moved| std::iter::once(source(moved)).chain(moved.discard.clone())).collect();
    log.set_committed(&reset.group, &commits)
}

/// The source partitions that are meant.
fn choose<'a>(
    log: &dyn Log,
    route: &'a RoutePlan,
    wish: &Wish,
) -> Result<Vec<(&'a SourcePlan, TopicPartition)>, ResetError> {
    let is_meant = |source: &&SourcePlan| wish.topic.as_ref().is_none_or(|topic| **topic == *source.topic);
    let sources: Vec<&SourcePlan> = route.sources.iter().filter(is_meant).collect();
    if let (Some(topic), true) = (&wish.topic, sources.is_empty()) {
        let known = route.sources.iter().map(|source| &*source.topic).collect::<Vec<_>>().join(", ");
        return Err(ResetError::NoSource { route: Arc::clone(&route.name), topic: topic.clone(), known });
    }
    let names: Vec<Arc<str>> = sources.iter().map(|source| Arc::clone(&source.topic)).collect();
    let found = log.topics(Some(&names))?;
    let mut chosen = Vec::new();
    for source in sources {
        let topic = found.iter().find(|topic| topic.name == source.topic);
        let TopicInfo { partitions: count, .. } =
            *topic.ok_or_else(|| ResetError::NoTopic(Arc::clone(&source.topic)))?;
        let there = |number: i32| u32::try_from(number).is_ok_and(|number| number < count);
        if let Some(&partition) = wish.partitions.iter().find(|number| !there(**number)) {
            return Err(ResetError::NoPartition { topic: Arc::clone(&source.topic), partition, count });
        }
        let all = 0..i32::try_from(count).unwrap_or(i32::MAX);
        let meant = all.filter(|number| wish.partitions.is_empty() || wish.partitions.contains(number));
        chosen.extend(meant.map(|number| (source, TopicPartition::new(Arc::clone(&source.topic), number))));
    }
    Ok(chosen)
}

/// How many records of a retry partition the group has not settled; and, where there are some, the commit behind them.
fn parked(
    log: &dyn Log,
    route: &RoutePlan,
    retry: &TopicPartition,
    stop: &dyn Fn() -> bool,
    progress: Progress<'_>,
    note: &mut dyn FnMut(&str),
) -> Result<(u64, Option<Commit>), ResetError> {
    let mut records = 0;
    let end = unsettled(log, &route.group, retry, &mut |_| records += 1, stop, progress, note);
    let end = end.map_err(|error| match error {
        UnsettledError::Log(error) => ResetError::Log(error),
        UnsettledError::Read(error) => ResetError::Read(error),
        UnsettledError::Stopped => ResetError::Stopped,
    })?;
    let behind = Commit { partition: retry.clone(), offset: end, metadata: String::new() };
    Ok((records, (records > 0).then_some(behind)))
}
