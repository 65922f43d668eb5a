//! Samples of records as they come to their fates, for whoever watches a running router.
//!
//! | | |
//! | --- | --- |
//! | this | who watches, and what of it lanes give to whom |
//! | `pick` | which records: few, and not always the first of a batch |
//! | `redact` | what nobody is to see |
//! | `shown` | a sample as it leaves the process |
//!
//! While nobody watches, a lane asks one number a turn. Whoever watches gets copies through a channel that holds few: who reads slowly
//! loses samples, which are counted, and holds up no lane.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use pointsman_core::record::{OwnedHeader, TopicPartition};
use tokio::sync::mpsc;

use crate::counters::Fate;
use crate::lane::Why;
use pick::Picker;

mod pick;
mod redact;
mod shown;

pub(crate) use redact::Redaction;
pub use shown::{Counts, Pulse, SampleLine, ShownSample};

/// Most who watch at a time.
pub(crate) const WATCHERS_MAX: usize = 4;
/// Samples that wait to be read, for each of them: with [`PARTS_MAX`] it bounds their memory.
const WAITING_MAX: usize = 64;
/// Longest key that is copied, in bytes.
pub(crate) const KEY_MAX: usize = 4 << 10;
/// Most bytes of headers and value that are copied.
pub(crate) const PARTS_MAX: usize = 64 << 10;

/// Whoever watches.
#[derive(Default)]
pub(crate) struct Samples {
    /// How often somebody has come or gone.
    changes: AtomicU64,
    watchers: Mutex<Vec<Arc<Watcher>>>,
}

/// What somebody wants to watch.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    /// Index of the route.
    pub(crate) route: usize,
    /// By the order of [`Fate::ALL`].
    pub(crate) fates: [bool; Fate::ALL.len()],
    /// The source topic, if it is to be this one.
    pub(crate) topic: Option<String>,
    /// The source partition, if it is to be this one.
    pub(crate) partition: Option<i32>,
    /// Most samples a second.
    pub(crate) per_second: std::num::NonZeroU32,
    /// Whether headers and values are wanted, too.
    pub(crate) values: bool,
}

/// One who watches, as lanes know them.
pub(crate) struct Watcher {
    wanted: Wanted,
    picker: Picker,
    /// Records that came to each fate, by the order of [`Fate::ALL`].
    seen: [AtomicU64; Fate::ALL.len()],
    /// The same, when the last sample of the fate was picked.
    told: [AtomicU64; Fate::ALL.len()],
    /// Samples that found no room.
    missed: AtomicU64,
    out: mpsc::Sender<Sample>,
}

/// The other end: whoever watches is forgotten when this is dropped.
pub(crate) struct Watch {
    samples: Arc<Samples>,
    watcher: Arc<Watcher>,
    received: mpsc::Receiver<Sample>,
}

/// One record that came to a fate.
#[derive(Clone, Debug)]
pub(crate) struct Sample {
    /// When, in milliseconds since 1970-01-01 UTC.
    pub(crate) at_ms: i64,
    pub(crate) origin: TopicPartition,
    pub(crate) offset: i64,
    /// Or how many bytes it has, where those are too many.
    pub(crate) key: Result<Option<Vec<u8>>, usize>,
    pub(crate) fate: Fate,
    pub(crate) why: Why,
    /// Where it has failed.
    pub(crate) stage: Option<Arc<str>>,
    /// Topics that it was delivered to.
    pub(crate) outputs: Vec<Arc<str>>,
    /// The run that ended so, from 1.
    pub(crate) attempt: u32,
    /// Since its batch was taken in.
    pub(crate) took: Duration,
    /// Records that came to this fate since the last sample of it, this one included.
    pub(crate) seen: u64,
    /// Headers and value, where they are wanted; or how many bytes they have, where those are too many.
    pub(crate) parts: Option<Result<Parts, usize>>,
}

#[derive(Clone, Debug)]
pub(crate) struct Parts {
    pub(crate) headers: Vec<OwnedHeader>,
    pub(crate) value: Option<Vec<u8>>,
}

impl Samples {
    /// How often somebody has come or gone: where it is what it was, so are the [watchers](Self::watchers_of).
    pub(crate) fn changes(&self) -> u64 {
        self.changes.load(Ordering::Acquire)
    }

    /// Whoever watches this lane.
    pub(crate) fn watchers_of(&self, route: usize, source: &TopicPartition) -> Vec<Arc<Watcher>> {
        let is_meant = |wanted: &Wanted| {
            wanted.route == route
                && wanted.topic.as_ref().is_none_or(|topic| **topic == *source.topic)
                && wanted.partition.is_none_or(|partition| partition == source.partition)
        };
        self.watchers().iter().filter(|watcher| is_meant(&watcher.wanted)).cloned().collect()
    }

    /// Begins to watch; `None` where as many do as may.
    pub(crate) fn watch(self: &Arc<Self>, wanted: Wanted) -> Option<Watch> {
        let mut watchers = self.watchers();
        if watchers.len() >= WATCHERS_MAX {
            return None;
        }
        let (out, received) = mpsc::channel(WAITING_MAX);
        let watcher = Arc::new(Watcher {
            picker: Picker::new(wanted.per_second),
            wanted,
            seen: Default::default(),
            told: Default::default(),
            missed: AtomicU64::new(0),
            out,
        });
        watchers.push(Arc::clone(&watcher));
        self.changes.fetch_add(1, Ordering::Release);
        drop(watchers);
        Some(Watch { samples: Arc::clone(self), watcher, received })
    }

    fn watchers(&self) -> MutexGuard<'_, Vec<Arc<Watcher>>> {
        self.watchers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Watcher {
    /// A record has come to its fate. Where the answer is something, a sample is to be [given](Self::give), with that as what was
    /// [seen](Sample::seen).
    pub(crate) fn picks(&self, fate: Fate) -> Option<u64> {
        let index = fate as usize;
        if !self.wanted.fates[index] {
            return None;
        }
        let seen = self.seen[index].fetch_add(1, Ordering::Relaxed) + 1;
        self.picker.picks().then(|| seen.saturating_sub(self.told[index].swap(seen, Ordering::Relaxed)))
    }

    /// Whether headers and values are wanted.
    pub(crate) fn wants_values(&self) -> bool {
        self.wanted.values
    }

    /// Gives a sample, or counts it as missed.
    pub(crate) fn give(&self, sample: Sample) {
        if self.out.try_send(sample).is_err() {
            self.missed.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Watch {
    /// The next sample.
    pub(crate) fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Sample>> {
        self.received.poll_recv(context)
    }

    /// For each fate that is watched, how many records have come to it since the watch began.
    pub(crate) fn seen(&self) -> impl Iterator<Item = (Fate, u64)> + '_ {
        let Watcher { wanted, seen, .. } = &*self.watcher;
        let fates = Fate::ALL.into_iter().filter(|fate| wanted.fates[*fate as usize]);
        fates.map(|fate| (fate, seen[fate as usize].load(Ordering::Relaxed)))
    }

    /// Samples that were lost since whoever watches read too slowly.
    pub(crate) fn missed(&self) -> u64 {
        self.watcher.missed.load(Ordering::Relaxed)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.samples.watchers().retain(|watcher| !Arc::ptr_eq(watcher, &self.watcher));
        self.samples.changes.fetch_add(1, Ordering::Release);
    }
}

#[cfg(test)]
pub(crate) mod tests;
