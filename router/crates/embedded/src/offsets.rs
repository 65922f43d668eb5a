//! What groups have committed.

use pointsman_core::port::Commit;
use pointsman_core::record::TopicPartition;
use rusqlite::{Connection, OptionalExtension, params};

use crate::fault::Fault;
use crate::position::PartitionId;

/// Kafka's own limit (`offset.metadata.max.bytes`).
const METADATA_MAX_BYTES: usize = 4096;

/// What a group has committed for a partition, if it has: offset and metadata.
pub(crate) fn committed(
    snapshot: &Connection,
    group: &str,
    partition: &TopicPartition,
) -> Result<Option<Commit>, Fault> {
    let mut statement = snapshot.prepare_cached(
        "SELECT o.next_offset, o.metadata FROM offsets o
         JOIN consumer_groups g ON g.id = o.group_id
         JOIN partitions p ON p.id = o.partition JOIN topics t ON t.id = p.topic
         WHERE g.name = ?1 AND t.name = ?2 AND p.number = ?3",
    )?;
    let found = statement.query_row(params![group, &*partition.topic, partition.partition], |row| {
        Ok(Commit { partition: partition.clone(), offset: row.get(0)?, metadata: row.get(1)? })
    });
    Ok(found.optional()?)
}

/// Everything that a group has committed, by topic and partition.
pub(crate) fn all(snapshot: &Connection, group: &str) -> Result<Vec<Commit>, Fault> {
    let mut statement = snapshot.prepare_cached(
        "SELECT t.name, p.number, o.next_offset, o.metadata FROM offsets o
         JOIN consumer_groups g ON g.id = o.group_id
         JOIN partitions p ON p.id = o.partition JOIN topics t ON t.id = p.topic
         WHERE g.name = ?1 ORDER BY t.name, p.number",
    )?;
    let rows = statement.query_map([group], |row| {
        let partition = TopicPartition::new(row.get::<_, String>(0)?, row.get(1)?);
        Ok(Commit { partition, offset: row.get(2)?, metadata: row.get(3)? })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// What a group has committed for a partition, within a transaction of the group's member.
pub(crate) fn stored(
    transaction: &Connection,
    group: i64,
    partition: PartitionId,
) -> Result<Option<(i64, String)>, Fault> {
    let mut statement = transaction
        .prepare_cached("SELECT next_offset, metadata FROM offsets WHERE group_id = ?1 AND partition = ?2")?;
    Ok(statement.query_row([group, partition.0], |row| Ok((row.get(0)?, row.get(1)?))).optional()?)
}

/// Commits, within a transaction of the group's member.
pub(crate) fn store(
    transaction: &Connection,
    group: i64,
    partition: PartitionId,
    offset: i64,
    metadata: &str,
) -> Result<(), Fault> {
    let mut upsert = transaction.prepare_cached(
        "INSERT INTO offsets (group_id, partition, next_offset, metadata) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT (group_id, partition) DO UPDATE SET next_offset = excluded.next_offset, metadata = excluded.metadata",
    )?;
    upsert.execute(params![group, partition.0, offset, metadata])?;
    Ok(())
}

/// Why a commit is not taken, whoever makes it; `None` where it is.
pub(crate) fn objection(commit: &Commit) -> Option<String> {
    if commit.metadata.len() > METADATA_MAX_BYTES {
        return Some(format!("its metadata has {} bytes, and {METADATA_MAX_BYTES} are allowed", commit.metadata.len()));
    }
    (commit.offset < 0).then(|| format!("offset {} is negative", commit.offset))
}
