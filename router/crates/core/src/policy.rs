//! What happens to a record that failed: every failure of every route meets [`decide`].

use std::time::Duration;

use crate::failure::{Failure, FailureClass};

/// What the plan says is done about a class of failures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reaction {
    /// Park the record in the retry topic, while attempts are left; then [`DeadLetter`](Self::DeadLetter).
    Park,
    /// To the dead-letter topic.
    DeadLetter,
    /// Drop the record, counted under the class.
    Drop,
    /// Stop the lane at this record.
    Halt,
}

/// Which reaction each class gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reactions([Reaction; FailureClass::ALL.len()]);

impl Reactions {
    /// The defaults: what a plugin calls transient is parked, everything else is dead-lettered.
    #[must_use]
    pub fn standard() -> Self {
        let mut reactions = Self([Reaction::DeadLetter; FailureClass::ALL.len()]);
        reactions.set(FailureClass::Retry, Reaction::Park);
        reactions
    }

    /// Overrides one class.
    pub fn set(&mut self, class: FailureClass, reaction: Reaction) {
        self.0[class as usize] = reaction;
    }

    /// The reaction to one class.
    #[must_use]
    pub fn of(&self, class: FailureClass) -> Reaction {
        self.0[class as usize]
    }
}

/// The schedule of retries.
#[derive(Clone, Debug, PartialEq)]
pub struct RetrySchedule {
    /// Most attempts, the first run included; at least 1.
    pub max_attempts: u32,
    /// No further retry once this much time has passed since the first failure.
    pub max_elapsed: Duration,
    /// Delay before the first retry.
    pub initial: Duration,
    /// Factor from one delay to the next; at least 1.
    pub multiplier: f64,
    /// Longest delay.
    pub max: Duration,
    /// Share of a delay that is random, 0 to 1: a delay `d` becomes something between `d × (1 − jitter)` and `d`.
    pub jitter: f64,
}

impl RetrySchedule {
    /// The delay after the run number `attempt` (from 1) failed. `random` is a number from 0 up to 1. `asked` is the
    /// least delay that the plugin asked for; it is capped like the rest.
    #[must_use]
    pub fn delay(&self, attempt: u32, asked: Option<Duration>, random: f64) -> Duration {
        let exponent = i32::try_from(attempt.saturating_sub(1)).unwrap_or(i32::MAX);
        let grown = self.initial.as_secs_f64() * self.multiplier.powi(exponent);
        // A huge power is infinite, which `min` turns into the cap.
        let capped = grown.min(self.max.as_secs_f64());
        let jittered = capped * (1.0 - self.jitter.clamp(0.0, 1.0) * random.clamp(0.0, 1.0));
        let asked = asked.unwrap_or_default().min(self.max);
        Duration::from_secs_f64(jittered).max(asked)
    }
}

/// A route's policy of failure.
#[derive(Clone, Debug, PartialEq)]
pub struct FailurePolicy {
    /// Reaction for each class.
    pub reactions: Reactions,
    /// Schedule of retries; `None` where the route has no retry topic.
    pub retry: Option<RetrySchedule>,
    /// Whether the route has a dead-letter topic; without one, what would go there halts the lane.
    pub dead_letter: bool,
}

/// What is done with one failed record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Into the retry topic, not to be run before `due_ms` (milliseconds since 1970-01-01 UTC).
    Park {
        /// When it is due.
        due_ms: i64,
    },
    /// Into the dead-letter topic.
    DeadLetter,
    /// Nowhere.
    Drop,
    /// The lane stops at it.
    Halt,
}

/// How often and since when a record has failed, this time included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct History {
    /// Number of the run that failed, from 1.
    pub attempt: u32,
    /// Time of the first failure, in milliseconds since 1970-01-01 UTC.
    pub first_failed_ms: i64,
}

/// Decides what becomes of a record whose run failed at `now_ms`. `random` is a number from 0 up to 1.
#[must_use]
pub fn decide(policy: &FailurePolicy, failure: &Failure, history: History, now_ms: i64, random: f64) -> Decision {
    let dead_letter = if policy.dead_letter { Decision::DeadLetter } else { Decision::Halt };
    match policy.reactions.of(failure.class) {
        Reaction::Drop => Decision::Drop,
        Reaction::Halt => Decision::Halt,
        Reaction::DeadLetter => dead_letter,
        Reaction::Park => {
            let Some(retry) = &policy.retry else { return dead_letter };
            let delay = retry.delay(history.attempt, failure.delay_ms.map(Duration::from_millis), random);
            let due_ms = now_ms.saturating_add(i64::try_from(delay.as_millis()).unwrap_or(i64::MAX));
            let last_ms = history
                .first_failed_ms
                .saturating_add(i64::try_from(retry.max_elapsed.as_millis()).unwrap_or(i64::MAX));
            if history.attempt >= retry.max_attempts || due_ms > last_ms {
                return dead_letter;
            }
            Decision::Park { due_ms }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy() -> FailurePolicy {
        FailurePolicy {
            reactions: Reactions::standard(),
            retry: Some(RetrySchedule {
                max_attempts: 3,
                max_elapsed: Duration::from_secs(100),
                initial: Duration::from_secs(1),
                multiplier: 2.0,
                max: Duration::from_secs(10),
                jitter: 0.5,
            }),
            dead_letter: true,
        }
    }

    fn after(class: FailureClass, attempt: u32, now_ms: i64) -> Decision {
        decide(&policy(), &Failure::new(class, "c", "m"), History { attempt, first_failed_ms: 0 }, now_ms, 0.0)
    }

    #[test]
    fn transient_failures_are_parked_until_attempts_or_time_run_out() {
        assert_eq!(after(FailureClass::Retry, 1, 0), Decision::Park { due_ms: 1000 });
        assert_eq!(after(FailureClass::Retry, 2, 1000), Decision::Park { due_ms: 3000 });
        assert_eq!(after(FailureClass::Retry, 3, 3000), Decision::DeadLetter);
        assert_eq!(after(FailureClass::Retry, 2, 98_000), Decision::Park { due_ms: 100_000 });
        assert_eq!(after(FailureClass::Retry, 2, 98_001), Decision::DeadLetter);
    }

    #[test]
    fn everything_else_is_dead_lettered_and_halts_without_a_dead_letter_topic() {
        for class in FailureClass::ALL.into_iter().filter(|class| *class != FailureClass::Retry) {
            assert_eq!(after(class, 1, 0), Decision::DeadLetter, "{class}");
        }
        let policy = FailurePolicy { dead_letter: false, ..policy() };
        let failure = Failure::new(FailureClass::Trap, "unreachable", "m");
        assert_eq!(decide(&policy, &failure, History { attempt: 1, first_failed_ms: 0 }, 0, 0.0), Decision::Halt);
    }

    #[test]
    fn delays_grow_are_capped_and_jittered_downwards_but_never_below_what_was_asked() {
        let retry = policy().retry.expect("has a schedule");
        let seconds = |attempt, asked: Option<u64>, random| {
            retry.delay(attempt, asked.map(Duration::from_secs), random).as_secs_f64()
        };
        assert_eq!(seconds(1, None, 0.0), 1.0);
        assert_eq!(seconds(3, None, 0.0), 4.0);
        assert_eq!(seconds(1, None, 1.0), 0.5);
        assert_eq!(seconds(u32::MAX, None, 0.0), 10.0);
        assert_eq!(seconds(1, Some(7), 0.3), 7.0);
        assert_eq!(seconds(1, Some(7000), 0.3), 10.0);
    }
}
