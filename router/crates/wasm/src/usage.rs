//! What the instances of a plugin use, all workers together.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use pointsman_core::failure::FailureClass;

/// What the instances of one plugin use now, and what became of its instances so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Instances that there are.
    pub instances: u64,
    /// Linear memory of all of them together, in bytes, as of their last calls.
    pub memory_bytes: u64,
    /// Instances that were ever made, the one on trial included.
    pub made: u64,
    failed: [u64; FailureClass::ALL.len()],
}

impl Usage {
    /// Instances that were thrown away since a call on them failed so.
    #[must_use]
    pub const fn failed(&self, class: FailureClass) -> u64 {
        self.failed[class as usize]
    }
}

/// Counts of one plugin, which its instances share. Nothing is ordered by them.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    instances: AtomicU64,
    memory_bytes: AtomicU64,
    made: AtomicU64,
    failed: [AtomicU64; FailureClass::ALL.len()],
}

impl Meter {
    pub(crate) fn failed(&self, class: FailureClass) {
        self.failed[class as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn usage(&self) -> Usage {
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Usage {
            instances: load(&self.instances),
            memory_bytes: load(&self.memory_bytes),
            made: load(&self.made),
            failed: std::array::from_fn(|class| load(&self.failed[class])),
        }
    }
}

/// One instance in the counts, as long as it is there.
#[derive(Debug)]
pub(crate) struct Metered {
    meter: Arc<Meter>,
    memory_bytes: u64,
}

impl Metered {
    pub(crate) fn new(meter: Arc<Meter>) -> Self {
        meter.instances.fetch_add(1, Ordering::Relaxed);
        meter.made.fetch_add(1, Ordering::Relaxed);
        Self { meter, memory_bytes: 0 }
    }

    /// Has the memory of the instance counted. Memory of WebAssembly never shrinks.
    pub(crate) fn has(&mut self, memory_bytes: usize) {
        let grown = (memory_bytes as u64).saturating_sub(self.memory_bytes);
        if grown > 0 {
            self.memory_bytes += grown;
            self.meter.memory_bytes.fetch_add(grown, Ordering::Relaxed);
        }
    }

    pub(crate) const fn memory_bytes(&self) -> u64 {
        self.memory_bytes
    }
}

impl Drop for Metered {
    fn drop(&mut self) {
        self.meter.instances.fetch_sub(1, Ordering::Relaxed);
        self.meter.memory_bytes.fetch_sub(self.memory_bytes, Ordering::Relaxed);
    }
}
