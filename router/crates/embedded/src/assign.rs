//! Which partitions a member works on, and from where.

use std::collections::BTreeSet;

use pointsman_core::port::{SourceTopic, StartAt};
use pointsman_core::record::TopicPartition;
use rusqlite::Connection;

use crate::catalog::{self, Partition};
use crate::fault::Fault;
use crate::offsets;
use crate::position::PartitionId;

/// Where to read on in a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Start {
    pub(crate) partition: TopicPartition,
    pub(crate) id: PartitionId,
    pub(crate) offset: i64,
    pub(crate) metadata: String,
}

/// One source partition that is not worked on yet.
pub(crate) enum Found {
    /// It can be, with its retry partition where it has one.
    Ready(Start, Option<Start>),
    /// It can't, for this reason.
    Halted(TopicPartition, String),
}

/// How many partitions each source topic and each retry topic has; while that stays, there is nothing new to find.
pub(crate) fn shape(snapshot: &Connection, sources: &[SourceTopic]) -> Result<Vec<i64>, Fault> {
    let mut count = snapshot
        .prepare_cached("SELECT count(*) FROM partitions p JOIN topics t ON t.id = p.topic WHERE t.name = ?1")?;
    let topics = sources.iter().flat_map(|source| [Some(&source.topic), source.retry_topic.as_ref()]);
    topics.flatten().map(|topic| Ok(count.query_row([&**topic], |row| row.get(0))?)).collect()
}

/// Finds the source partitions that are not in `assigned`, in order. Where the group has committed nothing, its start is
/// committed here: so it stays where it was found first, and `latest` skips nothing after a restart.
pub(crate) fn find(
    transaction: &Connection,
    group: i64,
    sources: &[SourceTopic],
    assigned: &BTreeSet<TopicPartition>,
) -> Result<Vec<Found>, Fault> {
    let mut found = Vec::new();
    for source in sources {
        let retries = match &source.retry_topic {
            Some(topic) => Some((topic, catalog::partitions(transaction, topic)?)),
            None => None,
        };
        for (index, partition) in catalog::partitions(transaction, &source.topic)?.into_iter().enumerate() {
            let number = i32::try_from(index).unwrap_or(i32::MAX);
            let name = TopicPartition::new(source.topic.clone(), number);
            if assigned.contains(&name) {
                continue;
            }
            // Who has committed nothing here has parked nothing either: what waits beside it was never this group's.
            let retry_start = match offsets::stored(transaction, group, partition.id)? {
                Some(_) => StartAt::Earliest,
                None => StartAt::Latest,
            };
            let start = match start(transaction, group, name.clone(), partition, source.start)? {
                Ok(start) => start,
                Err(reason) => {
                    found.push(Found::Halted(name, reason));
                    continue;
                }
            };
            found.push(match &retries {
                None => Found::Ready(start, None),
                Some((topic, partitions)) => match partitions.get(index) {
                    None => Found::Halted(name, lacking(topic, partitions.len(), index)),
                    Some(retry) => {
                        let retry_name = TopicPartition::new((*topic).clone(), number);
                        match self::start(transaction, group, retry_name, *retry, retry_start)? {
                            Ok(retry) => Found::Ready(start, Some(retry)),
                            Err(reason) => Found::Halted(name, reason),
                        }
                    }
                },
            });
        }
    }
    Ok(found)
}

fn lacking(topic: &str, count: usize, index: usize) -> String {
    format!(
        "its retry topic {topic} has {count} partitions and no number {index}: give it as many as the source topic has; \
         the partition is taken on then"
    )
}

/// Where the group starts in a partition, or why it can't.
fn start(
    transaction: &Connection,
    group: i64,
    name: TopicPartition,
    partition: Partition,
    default: StartAt,
) -> Result<Result<Start, String>, Fault> {
    let (offset, metadata) = match offsets::stored(transaction, group, partition.id)? {
        Some(committed) => committed,
        None => {
            let offset = match default {
                StartAt::Earliest => partition.first,
                StartAt::Latest => partition.next,
                StartAt::Time(timestamp_ms) => catalog::offset_at(transaction, partition, timestamp_ms)?,
            };
            offsets::store(transaction, group, partition.id, offset, "")?;
            (offset, String::new())
        }
    };
    let Partition { first, next, .. } = partition;
    if offset < first {
        return Ok(Err(format!(
            "the group is at offset {offset} of {name}, and retention has removed the records before {first}: {} of \
             them were lost to the group; use another group, which starts afresh, and a longer retention",
            first - offset
        )));
    }
    if offset > next {
        return Ok(Err(format!(
            "the group is at offset {offset} of {name}, which ends at {next}: the topic is not the one that the group \
             has read; use another group, which starts afresh"
        )));
    }
    Ok(Ok(Start { partition: name, id: partition.id, offset, metadata }))
}
