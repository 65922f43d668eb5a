//! One transaction that writes what a sink has collected.

use std::sync::Arc;

use pointsman_core::delivery::{PartitionChoice, partition_of_key};
use pointsman_core::port::DeliveryError;
use rusqlite::{CachedStatement, Connection, params};

use crate::catalog::{self, Partition};
use crate::fault::Fault;
use crate::position::{OFFSETS, PartitionId, segment_of};
use crate::queue::{Queue, Queued, refused, unknown_topic};

/// What a transaction did, once it is committed.
pub(crate) struct Appended {
    /// The new ends of the partitions that grew.
    pub(crate) ends: Vec<(PartitionId, i64)>,
    /// For each record of the queue, in order: its offset.
    pub(crate) results: Vec<Result<i64, DeliveryError>>,
}

/// Appends the records of `queue`. A refused one does not keep the others from being written.
pub(crate) fn append(
    transaction: &Connection,
    queue: &Queue,
    topics: &[Arc<str>],
    now_ms: i64,
) -> Result<Appended, Fault> {
    let mut tails: Vec<Option<Topic>> = topics.iter().map(|_| None).collect();
    let mut insert = transaction.prepare_cached(
        "INSERT INTO records (position, timestamp_ms, key, value, headers) VALUES (?1, ?2, ?3, ?4, ?5)",
    )?;
    let mut results = Vec::with_capacity(queue.records.len());
    for queued in &queue.records {
        let name = &topics[queued.topic];
        let topic = match &mut tails[queued.topic] {
            Some(topic) => topic,
            unread => unread.insert(Topic::read(transaction, name)?),
        };
        let tail = match topic.choose(name, queued.partition, queue.slice(&queued.key)) {
            Ok(tail) => tail,
            Err(refusal) => {
                results.push(Err(refusal));
                continue;
            }
        };
        let timestamp_ms = if queued.timestamp_ms < 0 { now_ms } else { queued.timestamp_ms };
        let offset = tail.next;
        insert_record(&mut insert, queue, queued, tail, timestamp_ms)?;
        results.push(Ok(offset));
    }
    let mut ends = Vec::new();
    for tail in tails.iter().flatten().flat_map(|topic| &topic.tails).filter(|tail| tail.has_grown()) {
        tail.write(transaction, now_ms)?;
        ends.push((tail.before.id, tail.next));
    }
    Ok(Appended { ends, results })
}

fn insert_record(
    insert: &mut CachedStatement<'_>,
    queue: &Queue,
    queued: &Queued,
    tail: &mut Tail,
    timestamp_ms: i64,
) -> Result<(), Fault> {
    insert.execute(params![
        tail.before.id.at(tail.next),
        timestamp_ms,
        queue.slice(&queued.key),
        queue.slice(&queued.value),
        queue.slice(&queued.headers),
    ])?;
    tail.grow(timestamp_ms);
    Ok(())
}

/// A topic as the transaction sees it, with the ends of its partitions as they grow.
struct Topic {
    tails: Vec<Tail>,
    /// Records that the topic has ever had. The next one with a null key goes to the partition that this points to: so
    /// they spread evenly, whoever writes them, and no writer has to remember its turn.
    written: i64,
}

/// The end of one partition.
struct Tail {
    before: Partition,
    next: i64,
    /// First offset of each segment that grew, with the latest timestamp of what was added.
    segments: Vec<(i64, i64)>,
}

impl Topic {
    fn read(transaction: &Connection, name: &str) -> Result<Self, Fault> {
        let partitions = catalog::partitions(transaction, name)?;
        let written = partitions.iter().map(|partition| partition.next).sum();
        let tails =
            partitions.into_iter().map(|before| Tail { before, next: before.next, segments: Vec::new() }).collect();
        Ok(Self { tails, written })
    }

    fn choose(&mut self, name: &str, choice: PartitionChoice, key: Option<&[u8]>) -> Result<&mut Tail, DeliveryError> {
        let count = self.tails.len();
        if count == 0 {
            return Err(unknown_topic(name));
        }
        let partitions = u32::try_from(count).unwrap_or(u32::MAX);
        let index = match (choice, key) {
            (PartitionChoice::Exactly(number), _) => usize::try_from(number).unwrap_or(usize::MAX),
            (PartitionChoice::ByKey, Some(key)) => partition_of_key(key, partitions) as usize,
            (PartitionChoice::ByKey, None) => {
                usize::try_from(self.written.rem_euclid(i64::from(partitions))).unwrap_or(0)
            }
        };
        let tail = self.tails.get_mut(index).filter(|tail| tail.next < OFFSETS);
        self.written += i64::from(tail.is_some());
        tail.ok_or_else(|| {
            let message = match choice {
                PartitionChoice::Exactly(number) if index >= count => {
                    format!("topic {name} has {count} partitions and no number {number}")
                }
                _ => format!("partition {index} of {name} has reached the largest offset; make a new topic"),
            };
            refused(if index >= count { "unknown-partition" } else { "partition-full" }, message)
        })
    }
}

impl Tail {
    fn has_grown(&self) -> bool {
        self.next > self.before.next
    }

    fn grow(&mut self, timestamp_ms: i64) {
        let segment = segment_of(self.next);
        match self.segments.last_mut() {
            Some((last, latest)) if *last == segment => *latest = timestamp_ms.max(*latest),
            _ => self.segments.push((segment, timestamp_ms)),
        }
        self.next += 1;
    }

    fn write(&self, transaction: &Connection, now_ms: i64) -> Result<(), Fault> {
        let mut update = transaction.prepare_cached("UPDATE partitions SET next_offset = ?2 WHERE id = ?1")?;
        update.execute([self.before.id.0, self.next])?;
        let mut upsert = transaction.prepare_cached(
            "INSERT INTO segments (position, max_timestamp_ms, written_ms) VALUES (?1, ?2, ?3)
             ON CONFLICT (position) DO UPDATE SET
                 max_timestamp_ms = max(max_timestamp_ms, excluded.max_timestamp_ms),
                 written_ms = max(written_ms, excluded.written_ms)",
        )?;
        for (segment, latest) in &self.segments {
            upsert.execute([self.before.id.at(*segment), *latest, now_ms])?;
        }
        Ok(())
    }
}
