//! When a lane has nothing to do, and until when.

use std::time::{Duration, Instant};

use super::{Lane, PATIENCE, Step, Tools};
use crate::lanes::Because;
use crate::shared::Now;

impl Lane {
    /// A worker may have hundreds of lanes, most of them with nothing to do at a time: it is to learn that soon.
    pub(super) fn resting(&self, tools: &Tools<'_>) -> Option<Step> {
        let is_early = self.rest.filter(|rest| match rest {
            Step::NotBefore(at) => *at > tools.now.instant,
            _ => true,
        });
        is_early.filter(|_| !self.may_have_records(tools.look_anyway))
    }

    fn may_have_records(&self, look_anyway: bool) -> bool {
        self.source.may_have_records(look_anyway)
            || self.retry.as_ref().is_some_and(|retry| retry.may_have_records(look_anyway))
    }

    /// Whether there is nothing to do before its bell rings, something that it has produced is reported, or it is told something; but
    /// for what can wait until it looks anyway.
    pub(crate) fn is_asleep(&self) -> bool {
        self.rest == Some(Step::Idle) && !self.may_have_records(false) && !self.awaits_vow()
    }

    /// Pauses the lane after trouble that is not about a record, longer each time until something succeeds.
    pub(super) fn wait_out(&mut self, now: Now, trouble: &dyn std::fmt::Display) {
        tracing::warn!(pause = ?self.patience, "{trouble}; the lane waits and tries again");
        let since_ms = match self.trouble.take() {
            // Nothing has succeeded since.
            Some(trouble) if self.patience > PATIENCE.start => trouble.since_ms,
            _ => Some(now.unix_ms),
        };
        self.trouble = Some(Box::new(Because { reason: trouble.to_string(), since_ms }));
        self.pause = Some(now.instant + self.patience);
        self.patience = (self.patience * 2).min(PATIENCE.end);
    }

    pub(super) fn nothing_to_do(&self, tools: &Tools<'_>) -> Step {
        let due = self.retry.as_ref().and_then(|retry| retry.next_due_ms(self.plan()));
        let due = due.map(|due_ms| instant_of(due_ms, tools.now));
        let again = self.again.front().map(|again| again.at);
        // What is due by now waits for something else.
        let to_come = [due, again, self.pause].into_iter().flatten().filter(|at| *at > tools.now.instant);
        to_come.min().map_or(Step::Idle, Step::NotBefore)
    }
}

/// The instant of a time in milliseconds since 1970-01-01 UTC; one that is past is now.
pub(super) fn instant_of(unix_ms: i64, now: Now) -> Instant {
    // A century is never.
    let wait = u64::try_from(unix_ms.saturating_sub(now.unix_ms)).unwrap_or(0).min(100 * 365 * 86_400_000);
    now.instant + Duration::from_millis(wait)
}
