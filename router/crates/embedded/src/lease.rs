//! One member for each group: a lease with an epoch that every commit checks.

use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, params};
use thiserror::Error;

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

/// Why there is no lease.
#[derive(Debug, Error)]
pub(crate) enum Refusal {
    #[error(
        "{holder} holds the group, and its lease ends in {} s unless it is renewed: on the embedded log a group has one \
         member; stop that process, or use another group", .remaining_ms.div_euclid(1000) + 1
    )]
    Held { holder: String, remaining_ms: i64 },
    #[error(transparent)]
    Fault(#[from] Fault),
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

impl From<rusqlite::Error> for Refusal {
    fn from(error: rusqlite::Error) -> Self {
        Self::Fault(error.into())
    }
}

impl From<rusqlite::Error> for Fenced {
    fn from(error: rusqlite::Error) -> Self {
        Self::Fault(error.into())
    }
}

/// Takes the lease of `group`, if it is free, has run out, or its holder is certainly gone.
pub(crate) fn acquire(
    transaction: &Connection,
    group: &str,
    me: &Owner,
    now_ms: i64,
    length: Duration,
) -> Result<Lease, Refusal> {
    let held: Option<(Option<String>, i64)> = transaction
        .query_row("SELECT owner, expires_ms FROM consumer_groups WHERE name = ?1", [group], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })
        .optional()?;
    if let Some((Some(holder), expires_ms)) = held {
        let owner = Owner::parse(&holder);
        if expires_ms > now_ms && !owner.as_ref().is_some_and(|owner| owner.is_gone(me)) {
            let holder = owner.map_or(holder, |owner| format!("process {} on {}", owner.pid(), owner.host()));
            return Err(Refusal::Held { holder, remaining_ms: expires_ms.saturating_sub(now_ms) });
        }
    }
    let (group, epoch) = transaction.query_row(
        "INSERT INTO consumer_groups (name, epoch, owner, expires_ms) VALUES (?1, 1, ?2, ?3)
         ON CONFLICT (name) DO UPDATE SET epoch = epoch + 1, owner = excluded.owner, expires_ms = excluded.expires_ms
         RETURNING id, epoch",
        params![group, me.to_string(), now_ms.saturating_add(millis(length))],
        |row| Ok((row.get(0)?, row.get(1)?)),
    )?;
    Ok(Lease { group, epoch })
}

impl Lease {
    /// Makes sure that the lease is still ours, and renews it. Comes first in every transaction of a member.
    pub(crate) fn renew(&self, transaction: &Connection, now_ms: i64, length: Duration) -> Result<(), Fenced> {
        let mut update =
            transaction.prepare_cached("UPDATE consumer_groups SET expires_ms = ?3 WHERE id = ?1 AND epoch = ?2")?;
        match update.execute([self.group, self.epoch, now_ms.saturating_add(millis(length))])? {
            0 => Err(Fenced::Lost),
            _ => Ok(()),
        }
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
