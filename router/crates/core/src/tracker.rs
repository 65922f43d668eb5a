//! How far a lane may commit: the heart of at-least-once delivery.
//!
//! Records of one partition are admitted in offset order and settled in any order. The commit point is the lowest offset
//! that is not settled; what is settled beyond it travels in the commit's metadata ([`Settled`]), so that a restart does
//! not run it again. A ticket that gets lost blocks the commit point for ever, which is visible as lag. It never skips.

use std::collections::VecDeque;
use std::num::NonZeroU64;

use thiserror::Error;

use crate::settled::Settled;

/// Tracks one partition from assignment to revocation. A new assignment gets a new tracker, so tickets of an earlier
/// one can't settle anything here.
#[derive(Debug)]
pub struct Tracker {
    /// The admitted records from the lowest unsettled one on.
    slots: VecDeque<Slot>,
    /// Sequence number of the front slot.
    first_seq: u64,
    /// One past the last admitted offset; the start before the first.
    next_offset: i64,
    /// What an earlier assignment settled at or beyond `next_offset`.
    earlier: Settled,
}

#[derive(Debug)]
struct Slot {
    offset: i64,
    settled: bool,
}

/// Proof that a record is in flight. It can't be copied, and dropping it settles nothing.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a ticket that is dropped blocks the commit point"]
pub struct Ticket {
    /// One more than the sequence number, so that an `Option` of a ticket takes no more room than a ticket.
    seq: NonZeroU64,
}

impl Ticket {
    fn new(seq: u64) -> Self {
        Self { seq: NonZeroU64::MIN.saturating_add(seq) }
    }

    fn seq(&self) -> u64 {
        self.seq.get() - 1
    }
}

/// What [`Tracker::admit`] says of a record.
#[derive(Debug, PartialEq, Eq)]
pub enum Admission {
    /// It is to be run.
    Run(Ticket),
    /// An earlier assignment settled it: it must not be run again.
    AlreadySettled,
}

/// Where to start again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommitPoint {
    /// The lowest offset that is not settled.
    pub offset: i64,
    /// What is settled beyond it.
    pub settled: Settled,
}

/// Offsets of one partition must increase. (They may have gaps: compaction and transaction markers leave some.)
#[derive(Debug, PartialEq, Eq, Error)]
#[error("offset {got} came after {expected_at_least} was already next")]
pub struct OutOfOrder {
    /// The offset that came.
    pub got: i64,
    /// The least that could have come.
    pub expected_at_least: i64,
}

impl Tracker {
    /// Goes on from a commit point.
    #[must_use]
    pub fn resume(point: CommitPoint) -> Self {
        Self { slots: VecDeque::new(), first_seq: 0, next_offset: point.offset, earlier: point.settled }
    }

    /// Takes the next record in.
    ///
    /// # Errors
    /// [`OutOfOrder`]; nothing was admitted.
    #[inline]
    pub fn admit(&mut self, offset: i64) -> Result<Admission, OutOfOrder> {
        if offset < self.next_offset {
            return Err(OutOfOrder { got: offset, expected_at_least: self.next_offset });
        }
        let seq = self.first_seq + self.slots.len() as u64;
        self.next_offset = offset + 1;
        if self.earlier.is_empty() {
            self.slots.push_back(Slot { offset, settled: false });
            return Ok(Admission::Run(Ticket::new(seq)));
        }
        let settled = self.earlier.contains(offset);
        self.slots.push_back(Slot { offset, settled });
        self.earlier.forget_below(self.next_offset);
        self.pop_settled();
        Ok(if settled { Admission::AlreadySettled } else { Admission::Run(Ticket::new(seq)) })
    }

    /// Notes that the record has its fate, and that the log has acknowledged it.
    // The ticket is consumed: it can't be settled twice.
    #[expect(clippy::needless_pass_by_value, reason = "a ticket settles once")]
    #[inline]
    pub fn settle(&mut self, ticket: Ticket) {
        let index = ticket.seq().checked_sub(self.first_seq).and_then(|index| usize::try_from(index).ok());
        let slot = index.and_then(|index| self.slots.get_mut(index));
        debug_assert!(slot.as_ref().is_some_and(|slot| !slot.settled), "I1: a ticket of this tracker settles once");
        if let Some(slot) = slot {
            slot.settled = true;
        }
        self.pop_settled();
    }

    #[inline]
    fn pop_settled(&mut self) {
        while self.slots.front().is_some_and(|slot| slot.settled) {
            self.slots.pop_front();
            self.first_seq += 1;
        }
    }

    /// The lowest offset that is not settled.
    #[must_use]
    pub fn watermark(&self) -> i64 {
        self.slots.front().map_or(self.next_offset, |slot| slot.offset)
    }

    /// One past the last admitted offset; where to start before the first.
    #[must_use]
    pub const fn next_offset(&self) -> i64 {
        self.next_offset
    }

    /// Where to start again, with what is settled beyond. Takes time in proportion to what is in flight.
    #[must_use]
    pub fn commit_point(&self) -> CommitPoint {
        let slots = self.slots.iter().map(|slot| (slot.offset, slot.settled));
        CommitPoint { offset: self.watermark(), settled: Settled::of(slots, &self.earlier) }
    }

    /// Number of records that are admitted, from the lowest unsettled one on.
    #[must_use]
    pub fn span(&self) -> usize {
        self.slots.len()
    }
}

#[cfg(test)]
mod tests;
