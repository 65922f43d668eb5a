//! Removes what is older than its topic keeps, a segment at a time.

use pointsman_core::port::LogError;
use rusqlite::Connection;

use crate::catalog::Partition;
use crate::database::Database;
use crate::fault::Fault;
use crate::position::{PartitionId, SEGMENT, segment_of};

/// Segments that one step removes: it holds the write lock for that long.
const STEP: usize = 32;

/// Removes some segments whose latest record is too old at `now_ms`; the answer is whether there may be more.
///
/// A record stays while a later one of its segment is young enough, so at most 1024 offsets of a partition outlive
/// their time. The file does not shrink: what was freed is used for new records.
pub(crate) fn step(database: &Database, now_ms: i64) -> Result<bool, Fault> {
    // Looking takes no lock; mostly there is nothing to do.
    if database.read(|snapshot| expired(snapshot, now_ms))?.is_empty() {
        return Ok(false);
    }
    database.write(|transaction| {
        // Looked up again: another process may have removed them meanwhile.
        let expired = expired(transaction, now_ms)?;
        for segment in &expired {
            segment.remove(transaction)?;
        }
        Ok(!expired.is_empty())
    })
}

/// Removes everything that is too old at `now_ms`.
pub(crate) fn enforce(database: &Database, now_ms: i64) -> Result<(), LogError> {
    while step(database, now_ms)
        .map_err(|fault| fault.to_log_error(format!("can't enforce retention in {}", database.file().display())))?
    {}
    Ok(())
}

/// The first records of a partition, up to the end of a segment or of the partition.
struct Expired {
    partition: Partition,
    /// One past the last offset that goes.
    end: i64,
}

impl Expired {
    fn remove(&self, transaction: &Connection) -> Result<(), Fault> {
        let id = self.partition.id;
        let range = [id.at(segment_of(self.partition.first)), id.at(self.end)];
        transaction.prepare_cached("DELETE FROM records WHERE position >= ?1 AND position < ?2")?.execute(range)?;
        transaction.prepare_cached("DELETE FROM segments WHERE position >= ?1 AND position < ?2")?.execute(range)?;
        let mut first = transaction.prepare_cached("UPDATE partitions SET first_offset = ?2 WHERE id = ?1")?;
        first.execute([id.0, self.end])?;
        Ok(())
    }
}

/// What is too old, of at most [`STEP`] segments in all.
fn expired(snapshot: &Connection, now_ms: i64) -> Result<Vec<Expired>, Fault> {
    let mut kept = snapshot.prepare_cached(
        "SELECT p.id, p.first_offset, p.next_offset, t.retention_ms FROM topics t JOIN partitions p ON p.topic = t.id
         WHERE t.retention_ms IS NOT NULL AND p.next_offset > p.first_offset",
    )?;
    let mut rows = kept.query([])?;
    let mut expired = Vec::new();
    let mut left = STEP;
    while let Some(row) = rows.next()?
        && left > 0
    {
        let partition = Partition { id: PartitionId(row.get(0)?), first: row.get(1)?, next: row.get(2)? };
        let oldest_ms = now_ms.saturating_sub(row.get::<_, i64>(3)?);
        let segments = expired_segments(snapshot, partition, oldest_ms, left)?;
        if segments > 0 {
            left -= segments;
            let end = segment_of(partition.first) + SEGMENT * i64::try_from(segments).unwrap_or(0);
            expired.push(Expired { partition, end: end.min(partition.next) });
        }
    }
    Ok(expired)
}

/// How many of the partition's first segments hold nothing as young as `oldest_ms`; at most `limit`.
fn expired_segments(snapshot: &Connection, partition: Partition, oldest_ms: i64, limit: usize) -> Result<usize, Fault> {
    let mut latest = snapshot.prepare_cached(
        "SELECT max_timestamp_ms FROM segments WHERE position >= ?1 AND position < ?2 ORDER BY position LIMIT ?3",
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
