//! What wakes a worker, and which of its lanes it is woken for.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::Thread;

use pointsman_core::port::{Batch, Feed, FeedError, Waker};

/// The lanes of one worker whose feeds have had news since it was last asked. The worker has its turns with those rather than with
/// all: of hundreds of lanes most have nothing to do at a time.
pub(crate) struct Woken {
    lanes: Mutex<Vec<u32>>,
    worker: Thread,
}

impl Woken {
    /// Of the worker whose thread this is.
    pub(crate) fn here() -> Arc<Self> {
        Arc::new(Self { lanes: Mutex::default(), worker: std::thread::current() })
    }

    /// What the feeds of this lane ring.
    pub(crate) fn bell(self: &Arc<Self>, lane: u32) -> Bell {
        Bell { lane, woken: Arc::clone(self) }
    }

    /// Moves their numbers into `awake`.
    pub(crate) fn take(&self, awake: &mut BTreeSet<u32>) {
        awake.extend(self.lanes.lock().unwrap_or_else(PoisonError::into_inner).drain(..));
    }
}

/// Wakes the worker for one of its lanes.
#[derive(Clone)]
pub(crate) struct Bell {
    pub(crate) lane: u32,
    woken: Arc<Woken>,
}

impl Bell {
    fn ring(&self) {
        self.woken.lanes.lock().unwrap_or_else(PoisonError::into_inner).push(self.lane);
        self.woken.worker.unpark();
    }
}

/// Tells a lane, and wakes its worker for it, that a feed may have something.
pub(crate) struct Signal {
    raised: AtomicBool,
    bell: Bell,
}

impl Signal {
    /// Raised at first: nobody has looked yet.
    pub(crate) fn new(bell: Bell) -> Arc<Self> {
        Arc::new(Self { raised: AtomicBool::new(true), bell })
    }

    pub(crate) fn is_raised(&self) -> bool {
        self.raised.load(Ordering::Acquire)
    }

    /// Fetches from the feed, whose signal this is. It stays raised where there may be more: after a fetch that found something, unless
    /// the feed [is emptied](Feed::is_emptied) by it, and after one that failed.
    pub(crate) fn fetch(
        &self,
        feed: &mut dyn Feed,
        max_records: usize,
        max_bytes: usize,
    ) -> Result<Option<Box<dyn Batch>>, FeedError> {
        // What comes in from now on raises it again.
        self.raised.store(false, Ordering::Release);
        let fetched = feed.fetch(max_records, max_bytes);
        let is_over = match &fetched {
            Ok(None) => true,
            Ok(Some(_)) => feed.is_emptied(),
            Err(_) => false,
        };
        if !is_over {
            self.raise();
        }
        fetched
    }

    /// Another fetch is to be made in any case.
    pub(crate) fn raise(&self) {
        self.raised.store(true, Ordering::Release);
    }

    pub(crate) fn waker(self: &Arc<Self>) -> Waker {
        let signal = Arc::clone(self);
        Arc::new(move || {
            if !signal.raised.swap(true, Ordering::AcqRel) {
                signal.bell.ring();
            }
        })
    }
}
