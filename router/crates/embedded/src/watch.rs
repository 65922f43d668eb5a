//! Tells feeds that found nothing that there may be something now.
//!
//! What this handle writes itself is told at once, by the sink that wrote it. What other processes write is found by one
//! thread that looks at the file's change counter, and only while somebody waits.

use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use pointsman_core::port::Waker;
use tracing::warn;

use crate::catalog;
use crate::database::Database;
use crate::fault::{Fault, FaultKind};
use crate::position::PartitionId;

/// One feed that wants to be woken.
pub(crate) struct Watch {
    partition: PartitionId,
    /// The end of the partition as far as this feed has been told of it; -1 where it has not.
    end: AtomicI64,
    waker: Waker,
}

impl Watch {
    /// Whether `position` is known to be the end. A feed that is there need not ask the database: it is woken when the
    /// end moves.
    pub(crate) fn ends_at(&self, position: i64) -> bool {
        self.end.load(Ordering::Acquire) == position
    }

    /// The feed has seen for itself that the partition ends here.
    pub(crate) fn saw_end(&self, end: i64) {
        self.end.fetch_max(end, Ordering::AcqRel);
    }

    fn advance(&self, end: i64) -> bool {
        self.end.fetch_max(end, Ordering::AcqRel) < end
    }
}

/// All feeds of one handle that want to be woken.
#[derive(Default)]
pub(crate) struct Watches {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    by_partition: HashMap<PartitionId, Vec<Arc<Watch>>>,
    /// A watch came in after the last scan: what was written before it came is still to be told.
    scan: bool,
    stopped: bool,
}

impl Watches {
    pub(crate) fn add(&self, partition: PartitionId, waker: Waker) -> Arc<Watch> {
        let watch = Arc::new(Watch { partition, end: AtomicI64::new(-1), waker });
        let mut state = self.lock();
        state.by_partition.entry(partition).or_default().push(Arc::clone(&watch));
        state.scan = true;
        self.changed.notify_all();
        watch
    }

    pub(crate) fn remove(&self, watch: &Arc<Watch>) {
        let mut state = self.lock();
        if let Some(watches) = state.by_partition.get_mut(&watch.partition) {
            watches.retain(|other| !Arc::ptr_eq(other, watch));
            if watches.is_empty() {
                state.by_partition.remove(&watch.partition);
            }
        }
    }

    /// Wakes the feeds for which one of these partitions has grown.
    pub(crate) fn advance(&self, ends: &[(PartitionId, i64)]) {
        // Wakers are other people's code: they run outside the lock.
        let woken: Vec<Arc<Watch>> = {
            let state = self.lock();
            let watched = ends.iter().filter_map(|(id, end)| Some((state.by_partition.get(id)?, *end)));
            watched
                .flat_map(|(watches, end)| watches.iter().filter(move |watch| watch.advance(end)))
                .map(Arc::clone)
                .collect()
        };
        for watch in woken {
            (watch.waker)();
        }
    }

    /// Starts the thread that looks for what other processes write. It ends after [`stop`](Self::stop), or
    /// when it finds damage.
    ///
    /// # Errors
    /// The system gives no thread.
    pub(crate) fn start(self: &Arc<Self>, database: &Arc<Database>) -> std::io::Result<JoinHandle<()>> {
        let (watches, database) = (Arc::clone(self), Arc::clone(database));
        thread::Builder::new().name("embedded-watch".into()).spawn(move || watches.run(&database))
    }

    pub(crate) fn stop(&self) {
        self.lock().stopped = true;
        self.changed.notify_all();
    }

    fn run(&self, database: &Database) {
        let mut seen = None;
        let mut failing = false;
        while let Some(scan) = self.next_look(database.options().poll_interval) {
            match self.look(database, scan, &mut seen) {
                Ok(()) => failing = false,
                // Feeds say so when they are asked.
                Err(fault) if fault.kind == FaultKind::Damaged => {
                    warn!(file = %database.file().display(), %fault, "no longer looking for new records");
                    return;
                }
                Err(fault) => {
                    if !failing {
                        warn!(file = %database.file().display(), %fault, "can't look for new records; trying on");
                    }
                    failing = true;
                    self.lock().scan = true;
                }
            }
        }
    }

    /// Waits until it is time to look; the answer is whether to look even where nothing changed, `None` at the end.
    fn next_look(&self, interval: Duration) -> Option<bool> {
        let idle = self.changed.wait_while(self.lock(), |state| !state.stopped && state.by_partition.is_empty());
        let idle = idle.unwrap_or_else(PoisonError::into_inner);
        let (mut state, _) = self
            .changed
            .wait_timeout_while(idle, interval, |state| !state.stopped)
            .unwrap_or_else(PoisonError::into_inner);
        (!state.stopped).then(|| std::mem::take(&mut state.scan))
    }

    fn look(&self, database: &Database, scan: bool, seen: &mut Option<i64>) -> Result<(), Fault> {
        // The counter is read before the ends: what is committed in between is scanned twice, never missed.
        let version = database.foreign_version()?;
        if scan || *seen != Some(version) {
            self.advance(&database.read(catalog::ends)?);
            *seen = Some(version);
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed test may panic")]

    use pointsman_core::port::{Log, NewTopic};

    use super::*;
    use crate::log::EmbeddedLog;
    use crate::options::Options;

    #[test]
    fn damage_ends_the_watching_and_all_writing() {
        let directory = tempfile::TempDir::new().unwrap();
        let log = EmbeddedLog::open(directory.path(), Options::default()).unwrap();
        log.create_topics(&[NewTopic { name: "t".into(), partitions: 1, retention: None }]).unwrap();
        let database = &log.shared().database;
        let torn = "DROP TABLE partitions; CREATE VIEW partitions AS SELECT 'torn' AS id, 'torn' AS next_offset";
        database.write(|transaction| Ok(transaction.execute_batch(torn)?)).unwrap();
        let watches = Arc::new(Watches::default());
        let watching = watches.start(database).unwrap();
        let _watch = watches.add(PartitionId(1), Arc::new(|| {}));
        watching.join().unwrap();
        let written = database.write(|transaction| Ok(transaction.execute("DELETE FROM topics", [])?));
        assert_eq!(written.unwrap_err().code, "damaged");
    }
}
