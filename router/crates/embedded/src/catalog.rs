//! Topics and partitions.

use std::sync::Arc;
use std::time::Duration;

use pointsman_core::port::{NewTopic, TopicInfo};
use pointsman_core::record::TopicPartition;
use rusqlite::{Connection, OptionalExtension, params};

use crate::fault::{Fault, FaultKind};
use crate::options::millis;
use crate::position::{PARTITIONS, PartitionId, SEGMENT, offset_of, segment_of};

/// One partition and what it holds: the offsets from `first` up to, and not with, `next`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Partition {
    pub(crate) id: PartitionId,
    pub(crate) first: i64,
    pub(crate) next: i64,
}

/// The partition, if there is one.
pub(crate) fn partition(snapshot: &Connection, name: &TopicPartition) -> Result<Option<Partition>, Fault> {
    let mut statement = snapshot.prepare_cached(
        "SELECT p.id, p.first_offset, p.next_offset FROM partitions p JOIN topics t ON t.id = p.topic
         WHERE t.name = ?1 AND p.number = ?2",
    )?;
    let found = statement.query_row(params![&*name.topic, name.partition], |row| {
        Ok(Partition { id: PartitionId(row.get(0)?), first: row.get(1)?, next: row.get(2)? })
    });
    Ok(found.optional()?)
}

/// The first offset of a partition and one past the last; `None` where the partition is gone.
pub(crate) fn bounds(snapshot: &Connection, id: PartitionId) -> Result<Option<(i64, i64)>, Fault> {
    let mut statement = snapshot.prepare_cached("SELECT first_offset, next_offset FROM partitions WHERE id = ?1")?;
    Ok(statement.query_row([id.0], |row| Ok((row.get(0)?, row.get(1)?))).optional()?)
}

/// The partitions of a topic in the order of their numbers, which have no gaps; none where there is no such topic.
pub(crate) fn partitions(snapshot: &Connection, topic: &str) -> Result<Vec<Partition>, Fault> {
    let mut statement = snapshot.prepare_cached(
        "SELECT p.id, p.first_offset, p.next_offset FROM partitions p JOIN topics t ON t.id = p.topic
         WHERE t.name = ?1 ORDER BY p.number",
    )?;
    let rows = statement.query_map([topic], |row| {
        Ok(Partition { id: PartitionId(row.get(0)?), first: row.get(1)?, next: row.get(2)? })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Where every partition ends.
pub(crate) fn ends(snapshot: &Connection) -> Result<Vec<(PartitionId, i64)>, Fault> {
    let mut statement = snapshot.prepare_cached("SELECT id, next_offset FROM partitions")?;
    let rows = statement.query_map([], |row| Ok((PartitionId(row.get(0)?), row.get(1)?)))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// All topics, by name.
pub(crate) fn topics(snapshot: &Connection) -> Result<Vec<TopicInfo>, Fault> {
    let mut statement = snapshot.prepare_cached(
        "SELECT t.name, count(p.id) FROM topics t LEFT JOIN partitions p ON p.topic = t.id GROUP BY t.id ORDER BY t.name",
    )?;
    let rows = statement
        .query_map([], |row| Ok(TopicInfo { name: Arc::from(row.get::<_, String>(0)?), partitions: row.get(1)? }))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// How long the records of a topic are kept, `None` for ever; nothing where there is no such topic.
pub(crate) fn retention(snapshot: &Connection, topic: &str) -> Result<Option<Option<Duration>>, Fault> {
    let mut statement = snapshot.prepare_cached("SELECT retention_ms FROM topics WHERE name = ?1")?;
    let found: Option<Option<i64>> = statement.query_row([topic], |row| row.get(0)).optional()?;
    Ok(found.map(|retention| retention.map(|millis| Duration::from_millis(millis.max(0).unsigned_abs()))))
}

/// Makes a topic. One that exists keeps its partitions, and its records are kept for as long as is said now.
pub(crate) fn create(transaction: &Connection, topic: &NewTopic) -> Result<(), Fault> {
    check_name(&topic.name)?;
    let row = params![&*topic.name, topic.retention.map(millis)];
    if transaction.execute("UPDATE topics SET retention_ms = ?2 WHERE name = ?1", row)? > 0 {
        return Ok(());
    }
    transaction.execute("INSERT INTO topics (name, retention_ms) VALUES (?1, ?2)", row)?;
    grow(transaction, &topic.name, topic.partitions)
}

/// Gives a topic partitions until it has `count`; one that has as many already keeps them.
pub(crate) fn grow(transaction: &Connection, topic: &str, count: u32) -> Result<(), Fault> {
    if count == 0 {
        return Err(refused("a topic has at least one partition"));
    }
    let id: Option<i64> =
        transaction.query_row("SELECT id FROM topics WHERE name = ?1", [topic], |row| row.get(0)).optional()?;
    let Some(id) = id else { return Err(refused("there is no such topic; create it first")) };
    let mut insert = transaction.prepare_cached(
        "INSERT INTO partitions (topic, number) VALUES (?1, ?2) ON CONFLICT (topic, number) DO NOTHING",
    )?;
    for number in 0..count {
        insert.execute(params![id, number])?;
    }
    let newest: i64 = transaction.query_row("SELECT max(id) FROM partitions", [], |row| row.get(0))?;
    if newest >= PARTITIONS {
        return Err(refused("the log holds no more partitions; use a second one"));
    }
    Ok(())
}

/// Kafka's rule, so that a topic that works here works there.
fn check_name(name: &str) -> Result<(), Fault> {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if matches!(name, "" | "." | "..") || name.len() > 249 || !name.chars().all(legal) {
        return Err(refused(
            "a topic's name has 1 to 249 of the characters a-z, A-Z, 0-9, '.', '_' and '-', and is not '.' or '..'",
        ));
    }
    Ok(())
}

fn refused(message: &str) -> Fault {
    Fault { kind: FaultKind::Passing, code: "refused", message: message.into() }
}

/// The first offset whose record has this timestamp or a later one; the end where there is none.
///
/// Walks the segments of the partition, one row for 1024 records, and then the records of one of them.
pub(crate) fn offset_at(snapshot: &Connection, partition: Partition, timestamp_ms: i64) -> Result<i64, Fault> {
    if partition.first == partition.next {
        return Ok(partition.next);
    }
    let id = partition.id;
    let mut segments = snapshot.prepare_cached(
        "SELECT position FROM segments WHERE position >= ?1 AND position < ?2 AND max_timestamp_ms >= ?3
         ORDER BY position LIMIT 1",
    )?;
    let range = id.at(segment_of(partition.first))..id.at(partition.next);
    let segment: Option<i64> =
        segments.query_row([range.start, range.end, timestamp_ms], |row| row.get(0)).optional()?;
    let Some(segment) = segment else { return Ok(partition.next) };

    let mut records = snapshot.prepare_cached(
        "SELECT position FROM records WHERE position >= ?1 AND position < ?2 AND timestamp_ms >= ?3
         ORDER BY position LIMIT 1",
    )?;
    let end = (segment + SEGMENT).min(range.end);
    let found: Option<i64> = records.query_row([segment, end, timestamp_ms], |row| row.get(0)).optional()?;
    found.map(offset_of).ok_or_else(|| Fault::damaged(format_args!("the segment at {segment} lacks its latest record")))
}
