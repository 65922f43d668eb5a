//! What is done at the door, as lines of the log: who has done what to what, and what came of it.
//!
//! Each request that is to change something has one line, with the target `pointsman::audit`, whether it was done or refused. It is
//! written when all who have a part in it are through, also where the client is gone by then: a [`Deed`] tells it when the last copy
//! of it is dropped.

use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use governor::{DefaultDirectRateLimiter, Quota};

/// Longest text of a request that is told, in characters.
const TEXT_MAX: usize = 300;

/// So many lines a second are written of those whom nobody knows: they must not fill a disk.
const STRANGERS_PER_SECOND: NonZeroU32 = NonZeroU32::MIN.saturating_add(9);

/// Bounds the lines about those whom nobody knows.
pub(super) struct Strangers {
    limiter: DefaultDirectRateLimiter,
    untold: AtomicU64,
}

impl Default for Strangers {
    fn default() -> Self {
        let limiter = DefaultDirectRateLimiter::direct(Quota::per_second(STRANGERS_PER_SECOND));
        Self { limiter, untold: AtomicU64::new(0) }
    }
}

/// One thing that somebody wants done. Copies are of the same.
#[derive(Clone)]
pub(super) struct Deed(Arc<Line>);

struct Line {
    told: Mutex<Told>,
    strangers: Arc<Strangers>,
}

struct Told {
    /// `None` where it is not known who it is.
    actor: Option<Arc<str>>,
    action: &'static str,
    object: String,
    result: Option<String>,
    /// Somebody is at it, and says what comes of it.
    begun: bool,
}

impl Deed {
    /// A request, of which no more is known than its path.
    pub(super) fn new(path: &str, strangers: &Arc<Strangers>) -> Self {
        let told = Told { actor: None, action: "request", object: shortened(path), result: None, begun: false };
        Self(Arc::new(Line { told: Mutex::new(told), strangers: Arc::clone(strangers) }))
    }

    /// Who it is.
    pub(super) fn by(&self, actor: &Arc<str>) {
        self.tell(|told| told.actor = Some(Arc::clone(actor)));
    }

    /// What is to be done, and to what. Whoever says that says what comes of it, by [`end`](Self::end).
    pub(super) fn begin(&self, action: &'static str, object: &str) {
        self.tell(|told| (told.action, told.object, told.begun) = (action, shortened(object), true));
    }

    /// What has come of it.
    pub(super) fn end(&self, result: impl Into<String>) {
        self.tell(|told| told.result = Some(result.into()));
    }

    /// What was answered, where nobody has begun.
    pub(super) fn answered(&self, answer: impl FnOnce() -> String) {
        self.tell(|told| {
            if !told.begun {
                told.result = Some(answer());
            }
        });
    }

    fn tell(&self, change: impl FnOnce(&mut Told)) {
        change(&mut self.0.told.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// What changes nothing, and is told all the same.
pub(super) fn note(actor: &str, action: &'static str, object: &str, result: &str) {
    let object = shortened(object);
    tracing::info!(target: "pointsman::audit", actor, action, on = &*object, result, "audit");
}

fn shortened(text: &str) -> String {
    if text.chars().count() > TEXT_MAX {
        text.chars().take(TEXT_MAX - 1).chain(['…']).collect()
    } else {
        text.to_owned()
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        let Told { actor, action, object, result, .. } = self.told.get_mut().unwrap_or_else(PoisonError::into_inner);
        let result = result.as_deref().unwrap_or("abandoned: the client has gone away, or was too slow");
        let Some(actor) = actor.as_deref() else {
            let Strangers { limiter, untold } = &*self.strangers;
            if limiter.check().is_ok() {
                let untold = untold.swap(0, Ordering::Relaxed);
                tracing::warn!(target: "pointsman::audit", actor = "nobody", action, on = &**object, result, untold, "audit");
            } else {
                untold.fetch_add(1, Ordering::Relaxed);
            }
            return;
        };
        tracing::info!(target: "pointsman::audit", actor, action, on = &**object, result, "audit");
    }
}
