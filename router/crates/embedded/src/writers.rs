//! Who may commit transactions: of all writers with one id, the one that was opened last.

use rusqlite::{Connection, OptionalExtension, params};

use crate::fault::Fault;

/// The table, also where the log was made before there were writers.
pub(crate) const SCHEMA: &str = include_str!("writers.sql");

/// The right to commit transactions, until another writer with the same id is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Epoch(i64);

/// Takes an id over from whoever had it.
pub(crate) fn take_over(transaction: &Connection, id: &str) -> Result<Epoch, Fault> {
    transaction.execute_batch(SCHEMA)?;
    let epoch = transaction.query_row(
        "INSERT INTO writers (id, epoch) VALUES (?1, 1) ON CONFLICT (id) DO UPDATE SET epoch = epoch + 1 RETURNING epoch",
        [id],
        |row| row.get(0),
    )?;
    Ok(Epoch(epoch))
}

/// Whether the id still is this writer's.
pub(crate) fn holds(transaction: &Connection, id: &str, epoch: Epoch) -> Result<bool, Fault> {
    let mut held = transaction.prepare_cached("SELECT 1 FROM writers WHERE id = ?1 AND epoch = ?2")?;
    Ok(held.query_row(params![id, epoch.0], |_| Ok(())).optional()?.is_some())
}
