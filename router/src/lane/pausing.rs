//! Pill or outage: which failures may become dead letters, when the lane pauses, and when it goes on.
//!
//! Tokens are earned and paid in the order of the records, as the outbox comes by them. A dead letter that no token pays for waits, with
//! the lane, until no delivery is under way. Then the breaker opens, and one record at a time is run, again or for the first time, until
//! one is delivered.
//! Nothing is lost by it, and no record is charged an attempt: what waits is not settled.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use pointsman_core::breaker::{Breaker, Terms};
use pointsman_core::failure::Failure;

use super::{Again, Lane, Resume, Step, Tools, Unit};
use crate::judge::{Course, Ruling};
use crate::lanes::{Because, BreakerPosition};
use crate::shared::Now;

/// The breaker of a lane, and what waits for it.
pub(super) struct Guard {
    breaker: Breaker,
    /// Failed, and to be dead-lettered once they are paid for.
    unpaid: VecDeque<(Unit, Arc<Failure>)>,
    /// Failed in what was an outage, as a probe had shown: to be run again.
    failed: VecDeque<Unit>,
    /// Of the first probe that has failed since the breaker opened: then the lane is paused.
    paused: Option<Box<Because>>,
    /// Whether the next probe is to be a record that has not failed yet. Those and the failed ones take turns.
    fresh: bool,
    /// There was no such record when it was to be the probe.
    starved: bool,
    /// Records that came through the stages since the breaker was last told, less those that were refused on their way.
    passed: i64,
    /// Records that were dropped because they failed, which is no success.
    dropped_failures: u64,
}

impl Guard {
    pub(super) fn new(terms: &Terms, now: Instant) -> Self {
        Self {
            breaker: Breaker::new(terms.clone(), now),
            unpaid: VecDeque::new(),
            failed: VecDeque::new(),
            paused: None,
            fresh: true,
            starved: false,
            passed: 0,
            dropped_failures: 0,
        }
    }

    /// Tells the breaker of what has come through the stages.
    fn tell_passed(&mut self) {
        let passed = std::mem::take(&mut self.passed);
        match u64::try_from(passed) {
            Ok(passed) => self.breaker.earn(passed, self.unpaid.len()),
            Err(_) => self.breaker.give_back(passed.unsigned_abs()),
        }
    }
}

impl Lane {
    /// Without a breaker, for those who want to see what the stages make of records and nothing else: route tests.
    pub(crate) fn without_breaker(&mut self) {
        self.guard = None;
    }

    /// What the breaker has the lane do instead of taking in and judging; `None` where it may. Nothing is in the outbox.
    pub(super) fn held_back(&mut self, tools: &mut Tools<'_>) -> Option<Step> {
        let guard = self.guard.as_ref()?;
        if guard.unpaid.is_empty() && !guard.breaker.is_open() {
            return None;
        }
        if !self.keeps_order() {
            self.take_failures(tools.now);
        }
        self.take_paid(tools.now);
        if !self.outbox.is_empty() {
            return Some(self.deliver(tools));
        }
        // One of them may be the probe.
        if self.outstanding > 0 {
            return Some(Step::Idle);
        }
        let keeps_order = self.keeps_order();
        let guard = self.guard.as_mut()?;
        // A delivery that has failed is no fault of the stages.
        if !guard.breaker.is_open() && !self.again.is_empty() && !keeps_order {
            return None;
        }
        guard.breaker.open(tools.now.instant);
        self.choose_probe(tools)
    }

    /// Puts the record that is to be the probe first in `ready`, once it is due.
    fn choose_probe(&mut self, tools: &Tools<'_>) -> Option<Step> {
        let keeps_order = self.keeps_order();
        let Guard { breaker, fresh, starved, .. } = self.guard.as_mut()?;
        // Under an order nothing passes a record that may yet be delivered: that is the probe.
        *fresh &= !keeps_order;
        let probe_at = breaker.probe_at()?;
        let is_due = probe_at <= tools.now.instant;
        if !is_due && !*starved {
            return Some(Step::NotBefore(probe_at));
        }
        if (*fresh || *starved) && self.ready.is_empty() {
            self.take_in(tools);
        }
        let Guard { unpaid, failed, fresh, starved, .. } = self.guard.as_mut()?;
        let has_fresh = !self.ready.is_empty();
        if (*fresh || *starved) && has_fresh {
            (*fresh, *starved) = (false, false);
            return None;
        }
        *starved |= *fresh;
        if !is_due {
            return Some(Step::NotBefore(probe_at));
        }
        *fresh = !keeps_order;
        let again = failed.pop_front().or_else(|| unpaid.pop_front().map(|(unit, _)| unit));
        if let Some(unit) = again {
            self.ready.insert(0, unit);
            self.looked_at = None;
        }
        None
    }

    /// Puts into the outbox what has failed, and can have its course now.
    fn take_failures(&mut self, now: Now) {
        for again in std::mem::take(&mut self.again) {
            match again {
                Again { at, unit, what: Resume::Fail(failure, course) } if at <= now.instant => {
                    self.push_failure(unit, failure, course);
                }
                other => self.again.push_back(other),
            }
        }
    }

    /// Has records run again that failed before the breaker closed: as many at a time as there are tokens, should they fail for
    /// good, so that these few do not open it again while all others succeed. At least one where `nothing_else` is to be done.
    pub(super) fn take_failed(&mut self, nothing_else: bool) {
        let Some(Guard { breaker, failed, .. }) = &mut self.guard else { return };
        if failed.is_empty() || breaker.is_open() {
            return;
        }
        let count = (breaker.tokens() as usize).max(usize::from(nothing_else)).min(failed.len());
        self.ready.splice(0..0, failed.drain(..count));
        self.looked_at = None;
    }

    fn take_paid(&mut self, now: Now) {
        while let Some((unit, failure)) = self.pop_paid(now) {
            self.push_failure(unit, failure, Course::DeadLetter);
        }
    }

    /// The first of the unpaid records, if there is a token for it.
    fn pop_paid(&mut self, now: Now) -> Option<(Unit, Arc<Failure>)> {
        let Guard { breaker, unpaid, .. } = self.guard.as_mut()?;
        unpaid.pop_front_if(|_| breaker.pay(now.instant))
    }

    pub(super) fn push_failure(&mut self, unit: Unit, failure: Arc<Failure>, course: Course) {
        let origin = self.origin_of(unit).ok().flatten();
        self.outbox.push(unit, origin, Ruling::Fail(failure, course));
    }

    /// A probe has failed: so failures are the rule.
    fn pause_at(&mut self, unit: Unit, failure: &Failure, now: Now) {
        let offset = self.offset_of(unit);
        let Some(Guard { unpaid, failed, paused, .. }) = &mut self.guard else { return };
        failed.extend(unpaid.drain(..).map(|(unit, _)| unit));
        failed.push_back(unit);
        if paused.is_some() {
            tracing::debug!(offset, class = %failure.class, "the probe has failed: {}", failure.line());
            return;
        }
        let reason = format!("failures are the rule, and no token is left for a dead letter: {}", failure.line());
        *paused = Some(Box::new(Because::since(reason, now)));
        self.shared.counters.pause(self.route);
        tracing::error!(
            from = unit.which.name(),
            offset,
            class = %failure.class,
            records = failed.len(),
            "the lane pauses: failures are the rule, and no token is left that would pay for a dead letter. It keeps its place, \
             tries one record at growing intervals, and goes on by itself when one succeeds. The last that failed: {}",
            failure.line()
        );
    }

    /// How many of `ready` records are run at once. While the breaker is open this is the probe.
    pub(super) fn at_once(&mut self, ready: usize, now: Now) -> usize {
        match &mut self.guard {
            Some(Guard { breaker, .. }) if breaker.is_open() => {
                breaker.probe(now.instant);
                let offset = self.ready.first().and_then(|unit| self.offset_of(*unit));
                tracing::debug!(offset, "probing");
                1
            }
            // More of them may be ready where some had to wait for the breaker.
            _ => ready.min(self.plan().batch_records.get()),
        }
    }

    /// Pays for the dead letter that the record at which the outbox stands is to become, unless it is paid for.
    pub(super) fn pay(&mut self, course: Course, now: Now) -> bool {
        let Some(guard) = &mut self.guard else { return true };
        match course {
            Course::DeadLetter | Course::Truncate | Course::Halt => true,
            Course::Decide | Course::Park { .. } | Course::Unparkable => {
                guard.tell_passed();
                let paid = guard.breaker.pay(now.instant);
                if paid {
                    // It holds, however long the producer queue stays full.
                    self.outbox.hold_to(Course::DeadLetter);
                }
                paid
            }
        }
    }

    /// Keeps a record that nothing pays for.
    pub(super) fn keep_back(&mut self, unit: Unit, failure: Arc<Failure>, now: Now) {
        match &mut self.guard {
            Some(guard) if guard.breaker.is_open() => self.pause_at(unit, &failure, now),
            Some(guard) => guard.unpaid.push_back((unit, failure)),
            None => {}
        }
        // It may be run again, and nothing that came after it is to be delivered before.
        self.regrouping |= self.keeps_order();
    }

    /// So many records have come through the stages, and been sent or dropped.
    #[inline]
    pub(super) fn passed(&mut self, count: usize) {
        if let Some(guard) = &mut self.guard {
            guard.passed += count.cast_signed() as i64;
        }
    }

    /// One of them was refused on its way, and is a failure.
    pub(super) fn passed_in_vain(&mut self) {
        if let Some(guard) = &mut self.guard {
            guard.passed -= 1;
        }
    }

    /// Of the records that have been dropped one more was so because it failed.
    pub(super) fn dropped_a_failure(&mut self) {
        if let Some(guard) = &mut self.guard {
            guard.dropped_failures += 1;
        }
    }

    /// Hands on what the lane has counted: to its breaker, and to the counters of all.
    pub(super) fn hand_in(&mut self, now: Now) {
        let keeps_order = self.keeps_order();
        if let Some(guard) = &mut self.guard {
            guard.tell_passed();
            let Guard { breaker, unpaid, failed, paused, fresh, starved, dropped_failures, .. } = guard;
            let successes = self.tally.successes().saturating_sub(std::mem::take(dropped_failures));
            if let Some(after) = breaker.close(successes, unpaid.len(), now.instant) {
                (*fresh, *starved) = (true, false);
                if keeps_order {
                    self.ready.splice(0..0, failed.drain(..));
                    self.looked_at = None;
                }
                if paused.take().is_some() {
                    let _named = self.span.clone().entered();
                    tracing::info!(paused = ?after, "the lane goes on: a record has succeeded");
                    self.shared.counters.resume(self.route);
                }
            }
        }
        self.hand_over_traces();
        let counters = &self.shared.counters;
        counters.add(&self.shared.plan, &mut self.tally);
        counters.add_intake(&self.tally, self.source.take_fetched(), self.source.take_settled(), now);
    }

    /// What its breaker has.
    pub(super) fn breaker_position(&self) -> Option<BreakerPosition> {
        let Guard { breaker, .. } = self.guard.as_ref()?;
        Some(BreakerPosition { open: breaker.is_open(), tokens: breaker.tokens() })
    }

    /// Whether the breaker is open, and not only to find out.
    pub(super) fn is_paused(&self) -> bool {
        self.paused_for().is_some()
    }

    pub(super) fn paused_for(&self) -> Option<&Because> {
        self.guard.as_ref()?.paused.as_deref()
    }

    /// Whether records that failed wait, with the lane, to be paid for.
    pub(super) fn waits_for_tokens(&self) -> bool {
        self.guard.as_ref().is_some_and(|guard| guard.breaker.is_open() || !guard.unpaid.is_empty())
    }

    /// Somebody says that the outage may be over: the next probe is due at once. The breaker stays open until it succeeds, so
    /// that it costs one record and not a batch of them where the outage is not. The answer is whether there is one.
    pub(super) fn probe_at_once(&mut self, now: Now) -> bool {
        let Some(Guard { breaker, .. }) = &mut self.guard else { return false };
        breaker.hasten(now.instant);
        breaker.is_open()
    }
}
