//! Removes what nobody is to read any more, the oldest of a partition first, a little at a time.

use std::sync::Arc;

use pointsman_core::port::LogError;
use rusqlite::Connection;

use crate::catalog::Partition;
use crate::database::Database;
use crate::fault::Fault;
use crate::position::{PartitionId, SEGMENT, offset_of, segment_of};

/// What one step removes at most, give or take a record: it holds the write lock for that long, tens of milliseconds.
const STEP: Budget = Budget { records: STEP_SEGMENTS as i64 * SEGMENT, bytes: 16 << 20 };

/// Segments that one step looks at in all.
const STEP_SEGMENTS: usize = 8;

/// Removes some records whose segment was written too long ago at `now_ms`; the answer is whether there may be more.
///
/// A record stays while a later one of its segment is young enough, so at most 1024 offsets of a partition outlive
/// their time. The file does not shrink: what was freed is used for new records.
pub(crate) fn step(database: &Database, now_ms: i64) -> Result<bool, Fault> {
    remove(database, STEP, |snapshot| expired(snapshot, now_ms))
}

/// Removes everything that is too old at `now_ms`.
pub(crate) fn enforce(database: &Database, now_ms: i64) -> Result<(), LogError> {
    while step(database, now_ms)
        .map_err(|fault| fault.to_log_error(format!("can't enforce retention in {}", database.file().display())))?
    {}
    Ok(())
}

/// Removes some records of retry topics that are settled; the answer is whether there may be more.
///
/// They are kept for ever otherwise. One group owns a retry topic; but where it has another name now, what it had not
/// settled under the old one stays.
pub(crate) fn trim(database: &Database, retry_topics: &[Arc<str>]) -> Result<bool, Fault> {
    remove(database, STEP, |snapshot| settled(snapshot, retry_topics))
}

/// Removes as much of what `find` finds as the budget allows; the answer is whether there may be more.
fn remove(
    database: &Database,
    mut budget: Budget,
    find: impl Fn(&Connection) -> Result<Vec<Doomed>, Fault>,
) -> Result<bool, Fault> {
    // Looking takes no lock; mostly there is nothing to do.
    if database.read(&find)?.is_empty() {
        return Ok(false);
    }
    database.write(|transaction| {
        // Looked up again: another process may have removed them meanwhile.
        let found = find(transaction)?;
        for doomed in &found {
            if budget.is_spent() {
                break;
            }
            doomed.remove(transaction, &mut budget)?;
        }
        Ok(!found.is_empty())
    })
}

/// What a step may still remove.
struct Budget {
    records: i64,
    /// Of keys, values and headers.
    bytes: i64,
}

impl Budget {
    fn is_spent(&self) -> bool {
        self.records <= 0 || self.bytes <= 0
    }
}

/// The first records of a partition.
struct Doomed {
    partition: Partition,
    /// One past the last offset that goes.
    end: i64,
}

impl Doomed {
    /// Removes as many as the budget allows, at least one.
    fn remove(&self, transaction: &Connection, budget: &mut Budget) -> Result<(), Fault> {
        let Partition { id, first, next } = self.partition;
        let end = self.afford(transaction, budget)?;
        transaction
            .prepare_cached("DELETE FROM records WHERE position >= ?1 AND position < ?2")?
            .execute([id.at(first), id.at(end)])?;
        let (segment, whole) = (segment_of(end), end == next);
        transaction
            .prepare_cached("DELETE FROM segments WHERE position >= ?1 AND position < ?2")?
            .execute([id.at(segment_of(first)), id.at(if whole { end } else { segment })])?;
        if !whole && segment < end {
            // A lookup by time relies on there being a record as late as a segment says.
            let mut latest = transaction.prepare_cached(
                "UPDATE segments SET max_timestamp_ms =
                     (SELECT max(timestamp_ms) FROM records WHERE position >= ?2 AND position < ?3) WHERE position = ?1",
            )?;
            latest.execute([id.at(segment), id.at(end), id.at(next.min(segment + SEGMENT))])?;
        }
        let mut first = transaction.prepare_cached("UPDATE partitions SET first_offset = ?2 WHERE id = ?1")?;
        first.execute([id.0, end])?;
        Ok(())
    }

    /// One past the last offset that the budget allows to remove, which is charged with it.
    fn afford(&self, transaction: &Connection, budget: &mut Budget) -> Result<i64, Fault> {
        let Partition { id, first, .. } = self.partition;
        // SQLite knows lengths without reading what they are of.
        let mut sizes = transaction.prepare_cached(
            "SELECT position, ifnull(length(key), 0) + ifnull(length(value), 0) + ifnull(length(headers), 0)
             FROM records WHERE position >= ?1 AND position < ?2 ORDER BY position LIMIT ?3",
        )?;
        let mut rows = sizes.query([id.at(first), id.at(self.end), budget.records])?;
        let mut end = first;
        while !budget.is_spent()
            && let Some(row) = rows.next()?
        {
            end = offset_of(row.get(0)?) + 1;
            budget.records -= 1;
            budget.bytes -= row.get::<_, i64>(1)?;
        }
        if end == first {
            Err(Fault::damaged(format_args!("the record at offset {first} is missing")))
        } else {
            Ok(end)
        }
    }
}

/// What is too old, of at most [`STEP_SEGMENTS`] segments in all.
fn expired(snapshot: &Connection, now_ms: i64) -> Result<Vec<Doomed>, Fault> {
    let mut kept = snapshot.prepare_cached(
        "SELECT p.id, p.first_offset, p.next_offset, t.retention_ms FROM topics t JOIN partitions p ON p.topic = t.id
         WHERE t.retention_ms IS NOT NULL AND p.next_offset > p.first_offset",
    )?;
    let mut rows = kept.query([])?;
    let mut expired = Vec::new();
    let mut left = STEP_SEGMENTS;
    while let Some(row) = rows.next()?
        && left > 0
    {
        let partition = Partition { id: PartitionId(row.get(0)?), first: row.get(1)?, next: row.get(2)? };
        let oldest_ms = now_ms.saturating_sub(row.get::<_, i64>(3)?);
        let segments = expired_segments(snapshot, partition, oldest_ms, left)?;
        if segments > 0 {
            left -= segments;
            let end = segment_of(partition.first) + SEGMENT * i64::try_from(segments).unwrap_or(0);
            expired.push(Doomed { partition, end: end.min(partition.next) });
        }
    }
    Ok(expired)
}

/// How many of the partition's first segments hold nothing written at `oldest_ms` or later; at most `limit`.
fn expired_segments(snapshot: &Connection, partition: Partition, oldest_ms: i64, limit: usize) -> Result<usize, Fault> {
    let mut latest = snapshot.prepare_cached(
        "SELECT written_ms FROM segments WHERE position >= ?1 AND position < ?2 ORDER BY position LIMIT ?3",
    )?;
    let range = partition.id.at(segment_of(partition.first))..partition.id.at(partition.next);
    let mut rows = latest.query([range.start, range.end, i64::try_from(limit).unwrap_or(i64::MAX)])?;
    let mut count = 0;
    while let Some(row) = rows.next()?
        && row.get::<_, i64>(0)? < oldest_ms
    {
        count += 1;
    }
    Ok(count)
}

/// What lies below the commits of every group that has committed anything there. (Groups are named in the condition so that
/// offsets are looked up by their key.)
fn settled(snapshot: &Connection, topics: &[Arc<str>]) -> Result<Vec<Doomed>, Fault> {
    let mut committed = snapshot.prepare_cached(
        "SELECT p.id, p.first_offset, p.next_offset, min(o.next_offset) AS lowest FROM topics t
         JOIN partitions p ON p.topic = t.id
         JOIN offsets o ON o.group_id IN (SELECT id FROM consumer_groups) AND o.partition = p.id
         WHERE t.name = ?1 GROUP BY p.id HAVING min(lowest, p.next_offset) > p.first_offset",
    )?;
    let mut settled = Vec::new();
    for topic in topics {
        let mut rows = committed.query([&**topic])?;
        while let Some(row) = rows.next()? {
            let partition = Partition { id: PartitionId(row.get(0)?), first: row.get(1)?, next: row.get(2)? };
            let lowest: i64 = row.get(3)?;
            settled.push(Doomed { partition, end: lowest.min(partition.next) });
        }
    }
    Ok(settled)
}

#[cfg(test)]
mod tests;
