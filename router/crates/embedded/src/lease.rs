//! One member for each group: a lease with an epoch that every commit checks.

use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, Transaction, params};
use thiserror::Error;

use crate::database::Database;
use crate::fault::Fault;
use crate::options::millis;
use crate::owner::Owner;

/// The right to commit for a group, for as long as nobody else has taken it over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lease {
    /// The group's row.
    pub(crate) group: i64,
    epoch: i64,
}

/// Why there is no lease: it is somebody else's.
#[derive(Debug, Error)]
#[error(
    "{holder} holds the group, and its lease ends in {} s unless it is renewed: on the embedded log a group has one \
     member; stop that process, or use another group", .remaining_ms.div_euclid(1000) + 1
)]
pub(crate) struct Held {
    holder: String,
    remaining_ms: i64,
}

/// What keeps a fenced transaction from being committed.
#[derive(Debug, Error)]
pub(crate) enum Fenced {
    /// The group is somebody else's. Nothing was written.
    #[error("another process has taken the group over")]
    Lost,
    #[error(transparent)]
    Fault(#[from] Fault),
}

/// Takes the lease of `group`, if it is free, has run out, or its holder is certainly gone. One that ends later than any
/// holder could have said (its clock was ahead of ours) is cut to `length`: a holder that lives renews it by then.
pub(crate) fn acquire(
    transaction: &Connection,
    group: &str,
    me: &Owner,
    now_ms: i64,
    length: Duration,
) -> Result<Result<Lease, Held>, Fault> {
    let longest_ms = now_ms.saturating_add(millis(length));
    if let Some((holder, expires_ms)) = holder(transaction, group, me, now_ms)? {
        transaction.execute(
            "UPDATE consumer_groups SET expires_ms = min(expires_ms, ?2) WHERE name = ?1",
            params![group, longest_ms],
        )?;
        return Ok(Err(Held { holder, remaining_ms: expires_ms.min(longest_ms) - now_ms }));
    }
    let (group, epoch) = transaction.query_row(
        "INSERT INTO consumer_groups (name, epoch, owner, expires_ms) VALUES (?1, 1, ?2, ?3)
         ON CONFLICT (name) DO UPDATE SET epoch = epoch + 1, owner = excluded.owner, expires_ms = excluded.expires_ms
         RETURNING id, epoch",
        params![group, me.to_string(), longest_ms],
        |row| Ok((row.get(0)?, row.get(1)?)),
    )?;
    Ok(Ok(Lease { group, epoch }))
}

/// Who holds the lease of `group`, for people, and until when; `None` where it is free, has run out, or its holder is
/// certainly gone.
pub(crate) fn holder(
    transaction: &Connection,
    group: &str,
    me: &Owner,
    now_ms: i64,
) -> Result<Option<(String, i64)>, Fault> {
    let held: Option<(Option<String>, i64)> = transaction
        .query_row("SELECT owner, expires_ms FROM consumer_groups WHERE name = ?1", [group], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })
        .optional()?;
    let Some((Some(holder), expires_ms)) = held else { return Ok(None) };
    let owner = Owner::parse(&holder);
    if expires_ms <= now_ms || owner.as_ref().is_some_and(|owner| owner.is_gone(me)) {
        return Ok(None);
    }
    let holder = owner.map_or(holder, |owner| format!("process {} on {}", owner.pid(), owner.host()));
    Ok(Some((holder, expires_ms)))
}

/// The groups that have a member, each with who that is, for people.
pub(crate) fn holders(snapshot: &Connection, me: &Owner, now_ms: i64) -> Result<Vec<(String, String)>, Fault> {
    let mut statement = snapshot.prepare("SELECT name FROM consumer_groups ORDER BY name")?;
    let groups = statement.query_map([], |row| row.get::<_, String>(0))?.collect::<Result<Vec<_>, _>>()?;
    let mut held = Vec::new();
    for group in groups {
        if let Some((holder, _)) = holder(snapshot, &group, me, now_ms)? {
            held.push((group, holder));
        }
    }
    Ok(held)
}

/// The row of a group that has no member, which is made where there is none.
pub(crate) fn memberless(
    transaction: &Connection,
    group: &str,
    me: &Owner,
    now_ms: i64,
) -> Result<Result<i64, Held>, Fault> {
    if let Some((holder, expires_ms)) = holder(transaction, group, me, now_ms)? {
        return Ok(Err(Held { holder, remaining_ms: expires_ms - now_ms }));
    }
    let id = transaction.query_row(
        "INSERT INTO consumer_groups (name, epoch, owner, expires_ms) VALUES (?1, 0, NULL, 0)
         ON CONFLICT (name) DO UPDATE SET name = name RETURNING id",
        [group],
        |row| row.get(0),
    )?;
    Ok(Ok(id))
}

impl Lease {
    /// Runs `work` in a transaction in which the lease is still ours, and renews it. A member writes in no other way.
    pub(crate) fn write<T>(
        &self,
        database: &Database,
        work: impl FnOnce(&Transaction<'_>) -> Result<T, Fault>,
    ) -> Result<T, Fenced> {
        let written = database.write(|transaction| {
            // Where it is not ours nothing was written, so nothing is committed.
            if self.renew(database, transaction)? { work(transaction).map(Some) } else { Ok(None) }
        })?;
        written.ok_or(Fenced::Lost)
    }

    /// Renews the lease, in a transaction that is the member's own. The answer is whether it is still ours.
    pub(crate) fn renew(&self, database: &Database, transaction: &Connection) -> Result<bool, Fault> {
        let expires_ms = database.now_ms().saturating_add(millis(database.options().lease));
        let mut renew =
            transaction.prepare_cached("UPDATE consumer_groups SET expires_ms = ?3 WHERE id = ?1 AND epoch = ?2")?;
        Ok(renew.execute([self.group, self.epoch, expires_ms])? > 0)
    }

    /// Gives the lease up, if it is still ours.
    pub(crate) fn release(&self, transaction: &Connection) -> Result<(), Fault> {
        // The epoch moves on: whatever of this member is still under way commits nothing.
        let mut update = transaction.prepare_cached(
            "UPDATE consumer_groups SET owner = NULL, expires_ms = 0, epoch = epoch + 1 WHERE id = ?1 AND epoch = ?2",
        )?;
        update.execute([self.group, self.epoch])?;
        Ok(())
    }
}
