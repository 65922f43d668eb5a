//! What blocks is done on threads for that, and bounded: also where clients go away before it is done.

use std::sync::Arc;

use axum::http::StatusCode;
use tokio::sync::Semaphore;

use super::answer::Refused;

/// Questions to lanes at a time. Each waits for the workers, 10 s at most.
const LANES: usize = 8;
/// Looks at the whole at a time. Each waits for the workers, a second at most.
const WATCHING: usize = 4;
/// Readings of dead letters at a time: each may hold a batch of every partition in memory.
const READINGS: usize = 2;

/// How much is done at a time.
pub(super) struct Hands {
    pub(super) lanes: Hand,
    pub(super) watching: Hand,
    pub(super) reading: Hand,
    /// One replays or discards: a second would end the first.
    pub(super) handling: Hand,
}

impl Default for Hands {
    fn default() -> Self {
        let busy = "as much is asked of the router as it answers at a time; ask again a little later";
        let handling = "dead letters are being replayed or discarded already; wait until that is done";
        Self {
            lanes: Hand::new(LANES, StatusCode::SERVICE_UNAVAILABLE, busy),
            watching: Hand::new(WATCHING, StatusCode::SERVICE_UNAVAILABLE, busy),
            reading: Hand::new(READINGS, StatusCode::SERVICE_UNAVAILABLE, busy),
            handling: Hand::new(1, StatusCode::CONFLICT, handling),
        }
    }
}

/// So many of a kind at a time; more are refused.
pub(super) struct Hand {
    free: Arc<Semaphore>,
    status: StatusCode,
    message: &'static str,
}

impl Hand {
    fn new(count: usize, status: StatusCode, message: &'static str) -> Self {
        Self { free: Arc::new(Semaphore::new(count)), status, message }
    }

    /// Has it done. Where nobody waits for it any more, it is still counted until it is done.
    pub(super) async fn work<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> Result<T, Refused> {
        let free = Arc::clone(&self.free).try_acquire_owned();
        let permit = free.map_err(|_| Refused::new(self.status, "busy", self.message))?;
        let done = tokio::task::spawn_blocking(move || {
            let done = job();
            drop(permit);
            done
        });
        done.await.map_err(Refused::bug)
    }
}
