//! Which records are sampled: no more a second than are wanted, and of more than that not always the first of a batch.

use std::num::NonZeroU32;
use std::sync::{Mutex, TryLockError};
use std::time::Duration;

use governor::clock::{Clock, DefaultClock, Reference as _};
use governor::middleware::NoOpMiddleware;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};

/// Most records that are picked one after the other, where few came before.
const BURST: NonZeroU32 = NonZeroU32::MIN.saturating_add(9);
/// However few samples are wanted a second: records are passed over for so long at most.
const PASS_OVER: Duration = Duration::from_secs(1);

/// Picks records for one who watches. Lanes of several workers ask it.
pub(super) struct Picker<C: Clock = DefaultClock> {
    bucket: RateLimiter<NotKeyed, InMemoryState, C, NoOpMiddleware<C::Instant>>,
    clock: C,
    pass_over: Duration,
    state: Mutex<State<C::Instant>>,
}

struct State<I> {
    /// Since when a record may be picked, and how many are to be passed over before.
    due: Option<(I, u64)>,
    /// Records that were not picked since that was last so.
    passed: u64,
    /// When the last record came.
    last: I,
}

impl Picker {
    pub(super) fn new(per_second: NonZeroU32) -> Self {
        Self::by(DefaultClock::default(), per_second)
    }
}

impl<C: Clock + Clone> Picker<C> {
    fn by(clock: C, per_second: NonZeroU32) -> Self {
        let quota = Quota::per_second(per_second).allow_burst(per_second.min(BURST));
        let bucket = RateLimiter::direct_with_clock(quota, clock.clone());
        let pass_over = PASS_OVER.max(Duration::from_secs(2) / per_second.get());
        let state = Mutex::new(State { due: None, passed: 0, last: clock.now() });
        Self { bucket, clock, pass_over, state }
    }

    /// Whether the next record is picked. It never waits: where another lane asks at the same time, it is not.
    pub(super) fn picks(&self) -> bool {
        let mut state = match self.state.try_lock() {
            Ok(state) => state,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return false,
        };
        let now = self.clock.now();
        let is_over = |since| Duration::from(now.duration_since(since)) >= self.pass_over;
        if is_over(std::mem::replace(&mut state.last, now)) {
            // They were many, and are few by now.
            state.passed = 0;
        }
        let (since, left) = match state.due {
            Some(due) => due,
            None if self.bucket.check().is_ok() => {
                // Batches come as often as tokens do, perhaps: whoever is first in one would always be picked.
                (now, fastrand::u64(..=std::mem::take(&mut state.passed)))
            }
            None => {
                state.passed += 1;
                return false;
            }
        };
        let is_picked = left == 0 || is_over(since);
        state.due = (!is_picked).then(|| (since, left - 1));
        state.passed += u64::from(!is_picked);
        is_picked
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use std::num::NonZeroU32;
    use std::time::Duration;

    use governor::clock::FakeRelativeClock;

    use super::Picker;

    fn picker(per_second: u32) -> (FakeRelativeClock, Picker<FakeRelativeClock>) {
        let clock = FakeRelativeClock::default();
        (clock.clone(), Picker::by(clock, NonZeroU32::new(per_second).unwrap()))
    }

    #[test]
    fn few_records_are_all_picked_and_of_many_no_more_than_are_wanted() {
        let (clock, picker) = picker(10);
        for _ in 0..50 {
            assert!(picker.picks() && picker.picks());
            clock.advance(Duration::from_millis(200));
        }
        // Ten seconds of a thousand records each, a bucket that is full at first.
        let mut picked = 0;
        for _ in 0..10_000 {
            picked += u32::from(picker.picks());
            clock.advance(Duration::from_millis(1));
        }
        assert!((50..=110).contains(&picked), "{picked}");
        // And few again: what was passed over before does not keep them from being seen.
        clock.advance(Duration::from_secs(2));
        for _ in 0..10 {
            assert!(picker.picks());
            clock.advance(Duration::from_secs(2));
        }
    }

    #[test]
    fn it_is_not_always_the_first_of_a_batch() {
        const BATCH: usize = 1000;
        let (clock, picker) = picker(10);
        let mut halves = [0_u32; 2];
        for _ in 0..2000 {
            for place in 0..BATCH {
                halves[place * 2 / BATCH] += u32::from(picker.picks());
            }
            clock.advance(Duration::from_millis(100));
        }
        assert!(halves.iter().all(|half| *half > 300), "{halves:?}");
    }
}
