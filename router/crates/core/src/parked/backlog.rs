//! What an index knows of the records that are parked, for whoever asks.

use std::collections::{BTreeMap, BinaryHeap};

use super::{Parked, State};

/// What is parked, in numbers. Markers are no records.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Backlog {
    /// Records.
    pub records: usize,
    /// Of them, those that wait for another record, such as one before them in their key, and not for their time.
    pub behind: usize,
    /// Of them, those that are being run.
    pub running: usize,
    /// The lowest due time there is, in milliseconds since 1970-01-01 UTC.
    pub oldest_due_ms: Option<i64>,
    /// The lowest due time of what waits for nothing else.
    pub next_due_ms: Option<i64>,
    /// How many were run how often; those that were run [`MANY_RUNS`](Self::MANY_RUNS) times or more stand there.
    pub attempts: BTreeMap<u32, usize>,
}

impl Backlog {
    /// See [`attempts`](Self::attempts).
    pub const MANY_RUNS: u32 = 100;
}

/// What is known of one record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Known {
    /// When it is due, in milliseconds since 1970-01-01 UTC.
    pub due_ms: i64,
    /// Where it lies in the retry partition.
    pub offset: i64,
    /// How often it was run.
    pub attempts: u32,
    /// It waits for another record.
    pub is_behind: bool,
}

impl Parked {
    /// What is parked, in numbers. Takes time in proportion to it.
    #[must_use]
    pub fn backlog(&self) -> Backlog {
        let mut backlog = Backlog::default();
        for entry in self.entries.iter().filter(|entry| entry.state != State::Settled && !entry.is_marker()) {
            let least = |due_ms: Option<i64>| due_ms.map_or(entry.due_ms, |due_ms| due_ms.min(entry.due_ms));
            backlog.records += 1;
            backlog.behind += usize::from(entry.state == State::Waiting);
            backlog.running += usize::from(entry.is_busy());
            backlog.oldest_due_ms = Some(least(backlog.oldest_due_ms));
            if entry.state == State::Queued {
                backlog.next_due_ms = Some(least(backlog.next_due_ms));
            }
            *backlog.attempts.entry(entry.attempts.min(Backlog::MANY_RUNS)).or_default() += 1;
        }
        backlog
    }

    /// The first records by their due times, `limit` at most. Takes time in proportion to what is parked.
    #[must_use]
    pub fn first_due(&self, limit: usize) -> Vec<Known> {
        // Of what was found so far, the last is on top.
        let mut first: BinaryHeap<Known> = BinaryHeap::new();
        for entry in self.entries.iter().filter(|entry| entry.state != State::Settled && !entry.is_marker()) {
            let known = Known {
                due_ms: entry.due_ms,
                offset: entry.offset,
                attempts: entry.attempts,
                is_behind: entry.state == State::Waiting,
            };
            if first.len() < limit {
                first.push(known);
            } else if let Some(mut last) = first.peek_mut()
                && known < *last
            {
                *last = known;
            }
        }
        first.into_sorted_vec()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::super::{Edition, KeyHash, KeyOrder, Kind, Label, Original, Parked};
    use super::Backlog;
    use crate::provenance::Marker;
    use crate::settled::Settled;
    use crate::tracker::CommitPoint;

    #[test]
    fn what_is_parked_is_counted_and_the_first_of_it_named() {
        let point = |offset| CommitPoint { offset, settled: Settled::default() };
        let mut parked = Parked::resume(point(0), point(i64::MAX), KeyOrder::KeptAndHeld);
        let label = |key: &[u8], offset, due_ms, attempts, kind| Label {
            original: Some(Original { key: KeyHash::of(Some(key)), offset }),
            due_ms,
            edition: Edition { replays: 0, attempts },
            kind,
        };
        for (offset, label) in (0..).zip([
            label(b"a", 10, 700, 2, Kind::Parked),
            // Behind it, and due at once.
            label(b"a", 11, 100, 0, Kind::Parked),
            label(b"b", 12, 500, 1, Kind::Parked),
            label(b"c", 13, i64::MAX, 9, Kind::Marker(Marker::Hold)),
            label(b"d", 14, 900, 1000, Kind::Parked),
        ]) {
            parked.admit(offset, &label).unwrap();
        }
        let expected = Backlog {
            records: 4,
            behind: 1,
            running: 0,
            oldest_due_ms: Some(100),
            next_due_ms: Some(500),
            attempts: [(0, 1), (1, 1), (2, 1), (Backlog::MANY_RUNS, 1)].into(),
        };
        assert_eq!(parked.backlog(), expected);
        let first = |limit| -> Vec<(i64, bool)> {
            parked.first_due(limit).into_iter().map(|known| (known.offset, known.is_behind)).collect()
        };
        assert_eq!(first(3), [(1, true), (2, false), (0, false)]);
        assert_eq!((first(0), first(99).len()), (Vec::new(), 4));

        // One is run and has its fate.
        parked.want_due(600, usize::MAX);
        let seq = parked.run(2).unwrap();
        assert_eq!((parked.backlog().running, parked.backlog().next_due_ms), (1, Some(700)));
        parked.settle(seq, false);
        assert_eq!((parked.backlog().records, parked.first_due(1)[0].attempts), (3, 0));
    }
}
