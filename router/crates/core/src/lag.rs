//! Consumer lag: how far a group is behind in one partition, and whether that is getting better.
//!
//! Whoever looks at a partition now and then makes an [`Observation`] of it and puts it into a [`History`], which has the last
//! few of them. Everything else is worked out from that: [lag](Observation::lag), [rates](Rates), [time to drain](History::drain_ms), when
//! retention comes to records that nobody has read ([`until_gone`]), and a [`Status`]. Plain numbers go in, and no clock is read.
//!
//! A status is only given where the observations tell it; everything else is [`Status::Unknown`], with what is missing. See
//! [`Status`] for what each means, and `tests/lag/` for histories and their statuses, those among them that tools are known to
//! raise false alarms for.

mod status;

use std::collections::VecDeque;

pub use status::{Missing, Status, Terms};

/// One look at one partition of a group. Times are milliseconds since 1970-01-01 UTC, or since anything else that is the same for
/// all observations of a history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Observation {
    /// When it was made.
    pub time_ms: i64,
    /// The offset that the group has committed: the lowest that is not settled. `None` where it has committed nothing.
    pub committed: Option<i64>,
    /// How many records behind that offset are settled all the same.
    pub settled_beyond: u64,
    /// One past the last offset that may be read.
    pub end: i64,
    /// The first offset that the log still has.
    pub first: i64,
    /// Somebody has read from the committed offset up to the end, and there was no record that is not settled. The markers of
    /// transactions, and what was aborted or compacted away, leave offsets without a record: so a group that has read everything may
    /// stand below the end for ever, and no arithmetic of offsets tells. Where nobody has looked, it is `false`, and such offsets
    /// count as records.
    pub nothing_unread: bool,
    /// When the group was last heard of at this partition, by anything else than a commit that moved on: a commit of the same offset,
    /// or a member that has the partition. `None` where it was not, or where that can't be seen.
    pub heard_ms: Option<i64>,
}

impl Observation {
    /// Records that the group has yet to settle: at most so many, since offsets without a record count. `None` where it has committed
    /// nothing. What the log has no more does not count; see [`lost`](Self::lost).
    #[must_use]
    pub fn lag(&self) -> Option<u64> {
        let committed = self.committed?;
        if self.nothing_unread {
            return Some(0);
        }
        let unread = self.end.saturating_sub(committed.max(self.first)).max(0).unsigned_abs();
        Some(unread.saturating_sub(self.settled_beyond))
    }

    /// Offsets that the log has removed before the group came to them.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.committed.map_or(0, |committed| self.first.saturating_sub(committed).max(0).unsigned_abs())
    }

    /// Offsets that may still be removed from the front before a record goes that the group has not read. `None` where it has
    /// committed nothing.
    #[must_use]
    pub fn slack(&self) -> Option<u64> {
        self.committed.map(|committed| committed.saturating_sub(self.first).max(0).unsigned_abs())
    }

    /// How far the group has come, as a number that grows with every record it settles.
    fn progress(&self) -> Option<i64> {
        self.committed.map(|committed| committed.saturating_add_unsigned(self.settled_beyond))
    }
}

/// The last observations of one partition, in order of time.
#[derive(Clone, Debug)]
pub struct History {
    observations: VecDeque<Observation>,
    capacity: usize,
}

/// Offsets a second, over a history.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rates {
    /// Written: by how much the end has moved.
    pub written: f64,
    /// Settled by the group. Going back is left out: it is no negative progress.
    pub read: f64,
    /// Removed from the front by retention.
    pub removed: f64,
}

impl History {
    /// A history of at most so many observations, and at least of two.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self { observations: VecDeque::new(), capacity: capacity.max(2) }
    }

    /// Adds an observation; the oldest goes where there is no room. One that is not later than the last is not taken, and the answer is
    /// `false`. The history begins anew where the partition was made anew or cut off (its end or its first offset has gone back), and
    /// where the group's commit is gone or has come: what was before says nothing of what comes.
    pub fn push(&mut self, observation: Observation) -> bool {
        if let Some(last) = self.observations.back() {
            if observation.time_ms <= last.time_ms {
                return false;
            }
            let is_another = observation.end < last.end
                || observation.first < last.first
                || observation.committed.is_some() != last.committed.is_some();
            if is_another {
                self.observations.clear();
            }
        }
        while self.observations.len() >= self.capacity {
            self.observations.pop_front();
        }
        self.observations.push_back(observation);
        true
    }

    /// The last observation.
    #[must_use]
    pub fn last(&self) -> Option<&Observation> {
        self.observations.back()
    }

    /// How many observations there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.observations.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.observations.is_empty()
    }

    /// Offsets a second from the first to the last observation. `None` with fewer than two, or where nothing is committed.
    #[must_use]
    pub fn rates(&self) -> Option<Rates> {
        let (first, last) = (self.observations.front()?, self.observations.back()?);
        let elapsed_ms = last.time_ms.checked_sub(first.time_ms).filter(|elapsed| *elapsed > 0)?;
        let mut read = 0_i64;
        for (before, after) in self.pairs() {
            read = read.saturating_add(after.progress()?.saturating_sub(before.progress()?).max(0));
        }
        let a_second = |offsets: i64| offsets as f64 * 1000.0 / elapsed_ms as f64;
        Some(Rates {
            written: a_second(last.end.saturating_sub(first.end)),
            read: a_second(read),
            removed: a_second(last.first.saturating_sub(first.first)),
        })
    }

    /// How long it takes until nothing is unread, if all goes on as over the history: 0 where nothing is. `None` where it never would,
    /// or where it can't be told.
    #[must_use]
    pub fn drain_ms(&self) -> Option<u64> {
        match (self.last()?.lag()?, self.rates()) {
            (0, _) => Some(0),
            (lag, Some(Rates { written, read, .. })) if read > written => Some(ms(lag as f64 / (read - written))),
            _ => None,
        }
    }

    /// How long it takes until the front of the log, which retention by size moves, comes to what the group has not read, if all goes
    /// on as over the history. `None` where it never would, or where it can't be told.
    #[must_use]
    pub fn overtaken_ms(&self) -> Option<u64> {
        let Rates { read, removed, .. } = self.rates()?;
        let last = self.last()?;
        // Nothing that is unread can be removed.
        if last.lag()? == 0 || removed <= read {
            return None;
        }
        Some(ms(last.slack()? as f64 / (removed - read)))
    }

    /// Whether the group is well in this partition, as far as the observations tell.
    #[must_use]
    pub fn status(&self, terms: &Terms) -> Status {
        status::judge(&self.observations, terms)
    }

    fn pairs(&self) -> impl Iterator<Item = (&Observation, &Observation)> {
        pairs(&self.observations)
    }
}

fn pairs(observations: &VecDeque<Observation>) -> impl Iterator<Item = (&Observation, &Observation)> {
    observations.iter().zip(observations.iter().skip(1))
}

/// Seconds as milliseconds; what is beyond all bounds is as much as there is.
fn ms(seconds: f64) -> u64 {
    (seconds * 1000.0) as u64
}

/// How long it takes until retention by age removes a record with this timestamp, which is the oldest that is not read: 0 where it may
/// be gone at any moment. Segments go as a whole, by their youngest record: so it may stay for longer. All in milliseconds.
#[must_use]
pub fn until_gone(oldest_unread_ms: i64, retention_ms: u64, now_ms: i64) -> u64 {
    let expires_ms = oldest_unread_ms.saturating_add_unsigned(retention_ms);
    expires_ms.saturating_sub(now_ms).max(0).unsigned_abs()
}

/// How old a record with this timestamp is, in milliseconds: 0 for one from the future.
#[must_use]
pub fn age(timestamp_ms: i64, now_ms: i64) -> u64 {
    now_ms.saturating_sub(timestamp_ms).max(0).unsigned_abs()
}

#[cfg(test)]
mod tests;
