//! Who runs plugins in this process: all lanes at once, or one that is to be alone.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use pointsman_core::record::TopicPartition;
use pointsman_core::unclean::Ends;

/// Counts the lanes that judge records at this moment, and keeps others from it while one is to be alone. Asked once for each
/// batch.
#[derive(Debug, Default)]
pub(crate) struct Alone {
    /// How many judge, and [`CLAIMED`].
    state: AtomicU32,
    /// Until then nobody is to be alone: the others were kept waiting for too long.
    others_until: Mutex<Option<Instant>>,
    /// Partitions that were lost while the process lives, by route.
    outlived: Mutex<HashMap<(usize, TopicPartition), Outlived>>,
}

/// How an assignment has ended that the process has outlived.
#[derive(Debug)]
struct Outlived {
    /// One of these is committed, unless others have had the partition since: how it would have ended if the process had died.
    committed: [Ends; 2],
    /// The truth.
    ends: Ends,
}

/// Who is to be alone has the process for itself no longer than this, ...
pub(crate) const ALONE_TIME: Duration = Duration::from_secs(5);
/// ... and where that was not enough, the others have it for so long then.
const OTHERS_TIME: Duration = Duration::from_secs(20);

const CLAIMED: u32 = 1 << 31;

impl Alone {
    /// A lane is about to judge, until it drops the answer; `None` while another is to be alone.
    pub(crate) fn enter(&self) -> Option<Judging<'_>> {
        let more = |state: u32| (state & CLAIMED == 0).then_some(state + 1);
        self.state.fetch_update(Ordering::AcqRel, Ordering::Acquire, more).ok()?;
        Some(Judging(self))
    }

    /// Whether somebody is to be alone.
    pub(crate) fn is_claimed(&self) -> bool {
        self.state.load(Ordering::Acquire) & CLAIMED != 0
    }

    /// Keeps all others from judging anew, until the answer is dropped; `None` where somebody else does that already, or has
    /// done it for too long.
    pub(crate) fn claim(self: &Arc<Self>, now: Instant) -> Option<Claim> {
        if self.others_until().is_some_and(|until| now < until) {
            return None;
        }
        let before = self.state.fetch_or(CLAIMED, Ordering::AcqRel);
        (before & CLAIMED == 0).then(|| Claim { alone: Arc::clone(self), since: now, until: now + ALONE_TIME })
    }

    fn others_until(&self) -> MutexGuard<'_, Option<Instant>> {
        self.others_until.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A partition is lost, and its last commit, or the one before it where that was undone, may say one of `committed` for
    /// good, where the truth is `ends`.
    pub(crate) fn outlive(&self, route: usize, partition: &TopicPartition, committed: [Ends; 2], ends: Ends) {
        self.outlived().insert((route, partition.clone()), Outlived { committed, ends });
    }

    /// How earlier assignments have ended, given what is committed, where this process knows better.
    pub(crate) fn knows_better(&self, route: usize, partition: &TopicPartition, committed: &Ends) -> Option<Ends> {
        let outlived = self.outlived().remove(&(route, partition.clone()))?;
        outlived.committed.contains(committed).then_some(outlived.ends)
    }

    fn outlived(&self) -> MutexGuard<'_, HashMap<(usize, TopicPartition), Outlived>> {
        self.outlived.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A lane judges.
pub(crate) struct Judging<'a>(&'a Alone);

impl Drop for Judging<'_> {
    fn drop(&mut self) {
        self.0.state.fetch_sub(1, Ordering::AcqRel);
    }
}

/// A lane is to be alone.
#[derive(Debug)]
pub(crate) struct Claim {
    alone: Arc<Alone>,
    since: Instant,
    until: Instant,
}

impl Claim {
    /// Whether no other lane judges any more.
    pub(crate) fn is_alone(&self) -> bool {
        self.alone.state.load(Ordering::Acquire) == CLAIMED
    }

    /// When it is to be given up.
    pub(crate) const fn until(&self) -> Instant {
        self.until
    }

    /// The record has been judged, which may have taken long: what follows has time of its own.
    pub(crate) fn judged(&mut self, now: Instant) {
        self.until = now + ALONE_TIME;
    }

    /// What the lane was alone for is over. The others have twice as long before anybody is alone again: there may be a hundred
    /// records to be tried, one after the other.
    pub(crate) fn end(self, now: Instant) {
        *self.alone.others_until() = Some(now + 2 * now.saturating_duration_since(self.since));
    }

    /// Gives it up, and has the others go on for some time.
    pub(crate) fn give_way(self, now: Instant) {
        *self.alone.others_until() = Some(now + OTHERS_TIME);
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.alone.state.fetch_and(!CLAIMED, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use std::sync::Arc;
    use std::time::{Duration, Instant};

    use super::{Alone, OTHERS_TIME};

    #[test]
    fn who_claims_it_is_alone_when_the_others_are_done() {
        let alone = Arc::new(Alone::default());
        let others = (alone.enter().unwrap(), alone.enter().unwrap());
        let now = Instant::now();
        let claim = alone.claim(now).unwrap();
        assert!(alone.claim(now).is_none() && alone.enter().is_none() && !claim.is_alone());
        drop(others);
        assert!(claim.is_alone());
        drop(claim);
        assert!(alone.enter().is_some() && alone.claim(now).is_some());
    }

    #[test]
    fn the_others_have_twice_as_long_as_who_was_alone() {
        let alone = Arc::new(Alone::default());
        let (now, time) = (Instant::now(), Duration::from_millis(10));
        alone.claim(now).unwrap().end(now + time);
        assert!(alone.enter().is_some());
        assert!(alone.claim(now + 2 * time).is_none() && alone.claim(now + 3 * time).is_some());
    }

    #[test]
    fn who_is_alone_for_too_long_gives_way_to_the_others() {
        let alone = Arc::new(Alone::default());
        let now = Instant::now();
        alone.claim(now).unwrap().give_way(now);
        assert!(alone.enter().is_some());
        assert!(alone.claim(now + OTHERS_TIME / 2).is_none() && alone.claim(now + OTHERS_TIME).is_some());
    }
}
