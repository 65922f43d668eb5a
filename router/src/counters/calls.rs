//! What the calls of one plugin in one route cost.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use pointsman_core::failure::FailureClass;
use pointsman_core::port::{CallError, Cost};

use super::histogram::{Histogram, NUMBERS, PARTS};

/// Counts of the calls.
#[derive(Debug)]
pub(crate) struct Calls {
    cpu_nanoseconds: AtomicU64,
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
    failed: [AtomicU64; FailureClass::ALL.len()],
    /// Events of each call.
    pub(crate) events: Histogram,
    /// Which part of its deadline each call took.
    pub(crate) deadline_used: Histogram,
}

impl Calls {
    pub(super) fn new() -> Self {
        Self {
            cpu_nanoseconds: AtomicU64::new(0),
            bytes_in: AtomicU64::new(0),
            bytes_out: AtomicU64::new(0),
            failed: Default::default(),
            events: Histogram::new(NUMBERS),
            deadline_used: Histogram::new(PARTS),
        }
    }

    /// Counts a call for so many events.
    pub(crate) fn count(&self, events: usize, cost: Cost, deadline: Duration, error: Option<&CallError>) {
        let nanoseconds = u64::try_from(cost.cpu.as_nanos()).unwrap_or(u64::MAX);
        self.cpu_nanoseconds.fetch_add(nanoseconds, Ordering::Relaxed);
        self.bytes_in.fetch_add(cost.bytes_in, Ordering::Relaxed);
        self.bytes_out.fetch_add(cost.bytes_out, Ordering::Relaxed);
        self.events.observe(events as f64, 1);
        self.deadline_used.observe(cost.cpu.as_secs_f64() / deadline.as_secs_f64().max(1e-9), 1);
        if let Some(CallError::Guest { class, .. }) = error {
            self.failed[*class as usize].fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(crate) fn cpu(&self) -> Duration {
        Duration::from_nanos(self.cpu_nanoseconds.load(Ordering::Relaxed))
    }

    /// Bytes that were shown to the plugin, and those that it gave back.
    pub(crate) fn bytes(&self) -> [u64; 2] {
        [&self.bytes_in, &self.bytes_out].map(|bytes| bytes.load(Ordering::Relaxed))
    }

    pub(crate) fn failed(&self, class: FailureClass) -> u64 {
        self.failed[class as usize].load(Ordering::Relaxed)
    }
}
