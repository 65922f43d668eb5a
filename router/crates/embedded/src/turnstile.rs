//! Writers of several processes take turns.
//!
//! SQLite's write lock goes to whoever asks in the right moment, and a process that writes one transaction after the other
//! leaves few of those. So a writer first passes a turnstile, and holds it until it has the write lock: the one that has
//! just written finds it taken, and waits. Whoever waits at most for a moment is next.

use std::fs::{File, TryLockError};
use std::thread;
use std::time::{Duration, Instant};

use crate::fault::{Fault, FaultKind};

/// How often a lock that another process holds is tried: a small part of the time that a synced write takes.
const RETRY: Duration = Duration::from_micros(500);

/// A lock file. The system frees it when its holder ends.
pub(crate) struct Turnstile(File);

/// The turn, until it is dropped.
pub(crate) struct Turn<'a>(&'a File);

impl Turnstile {
    pub(crate) fn new(lock_file: File) -> Self {
        Self(lock_file)
    }

    /// Waits for the turn.
    pub(crate) fn pass(&self, timeout: Duration) -> Result<Turn<'_>, Fault> {
        let mut wait = patience(timeout);
        loop {
            match self.0.try_lock() {
                Ok(()) => return Ok(Turn(&self.0)),
                Err(TryLockError::WouldBlock) if wait() => {}
                Err(TryLockError::WouldBlock) => return Err(Fault::busy("the log's lock file is held")),
                Err(TryLockError::Error(error)) => {
                    let message = format!("the log's lock file can't be locked: {error}");
                    return Err(Fault { kind: FaultKind::Passing, code: "io", message });
                }
            }
        }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.0.unlock() {
            // It is freed with the process at the latest, and the others are told that the log is busy until then.
            tracing::error!(%error, "can't unlock the log's lock file");
        }
    }
}

/// Waits a moment at each call, until `timeout` has passed since the first: then the answer is `false`, at once.
pub(crate) fn patience(timeout: Duration) -> impl FnMut() -> bool + Send + 'static {
    let mut since = None;
    move || {
        let patient = since.get_or_insert_with(Instant::now).elapsed() < timeout;
        if patient {
            thread::sleep(RETRY);
        }
        patient
    }
}
