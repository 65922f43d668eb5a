//! What a lane counts for itself before it adds it to what all count: workers that counted each record in one place would wait for
//! each other's caches.

use std::time::Instant;

use super::Fate;
use crate::shared::Now;

/// Records, and bytes of keys, values and headers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Amount {
    pub(crate) records: u64,
    pub(crate) bytes: u64,
}

impl Amount {
    pub(crate) fn add(&mut self, records: usize, bytes: usize) {
        self.records += records as u64;
        self.bytes += bytes as u64;
    }
}

/// The records of a batch that were run, once all of them have their fates.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settled {
    pub(crate) records: u64,
    pub(crate) fetched: Instant,
    /// When the first of them was written, in milliseconds since 1970-01-01 UTC, as it says.
    pub(crate) written_ms: i64,
}

impl Settled {
    /// Seconds since they were fetched, and since the first of them was written.
    pub(super) fn ages(self, now: Now) -> (f64, f64) {
        let since_written = now.unix_ms.saturating_sub(self.written_ms).max(0) as f64 / 1000.0;
        (now.instant.saturating_duration_since(self.fetched).as_secs_f64(), since_written)
    }
}

/// The counts of one lane.
pub(crate) struct Tally {
    pub(super) route: usize,
    /// The source topic, by its index in the route.
    pub(super) source: usize,
    pub(super) fates: [u64; Fate::ALL.len()],
    /// What was handed to the producer, for each output of the route.
    pub(super) outputs: Vec<Amount>,
}

impl Tally {
    /// Nothing yet.
    pub(crate) fn new(route: usize, source: usize, outputs: usize) -> Self {
        Self { route, source, fates: [0; Fate::ALL.len()], outputs: vec![Amount::default(); outputs] }
    }

    pub(crate) fn count(&mut self, fate: Fate) {
        self.fates[fate as usize] += 1;
    }

    /// Records that were delivered or dropped.
    pub(crate) fn successes(&self) -> u64 {
        self.fates[Fate::Delivered as usize] + self.fates[Fate::Dropped as usize]
    }

    pub(crate) fn produced(&mut self, output: usize, bytes: usize) {
        self.outputs[output].add(1, bytes);
    }
}
