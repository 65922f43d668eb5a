//! Order, where the route keeps one: of a key, or of the whole partition.
//!
//! **By key.** (With `on_dead = "park-key"` a record that becomes a dead letter holds its key: later ones follow it there, unprocessed
//! and in order, until somebody releases the key.) From the moment that a record is decided to be parked its key is blocked: later records of the key are parked
//! behind it, unprocessed, until its last parked record has its fate. **By partition.** A record is retried in place, and
//! what came after it waits.
//!
//! Under both, a delivery that the log does not take for now must not be overtaken. So what was judged and not sent is
//! taken back, the reports of what was sent are waited for, and then all of it is judged again, in order.

use std::ops::Range;
use std::sync::Arc;

use pointsman_config::plan::Ordering;
use pointsman_core::failure::Failure;
use pointsman_core::parked::{Edition, KeyHash, Original};
use pointsman_core::policy::History;
use pointsman_core::port::DeliveryError;

use super::resting::instant_of;
use super::{Again, Lane, Outbox, Resume, Unit, Which};
use crate::judge::{Course, Ruling};
use crate::parking::Parking;
use crate::shared::{Grant, Now};

impl Lane {
    /// Takes a record to be judged, or to be parked behind another of its key.
    pub(super) fn set_out(&mut self, unit: Unit, now: Now) {
        // What is parked already is looked at when it has been judged: its predecessors may be judged with it.
        let follows = if unit.which == Which::Source { self.follows(unit, now) } else { None };
        match follows {
            None => self.put_ready(unit),
            Some(ruling) => {
                let origin = self.origin_of(unit).ok().flatten();
                self.outbox.push(unit, origin, ruling);
            }
        }
    }

    /// Takes new records of the source in.
    pub(super) fn set_out_new(&mut self, seqs: Range<u64>, now: Now) {
        let may_follow = self.may_follow_parked(seqs.clone());
        for (index, seq) in seqs.enumerate() {
            let unit = Unit { which: Which::Source, seq };
            if !self.source.is_open(seq) {
                continue;
            }
            if self.passes_parked(unit) {
                // It has its fate already, which a crash kept from being committed.
                self.source.settle(seq);
            } else if may_follow.get(index) == Some(&true) {
                self.set_out(unit, now);
            } else {
                self.put_ready(unit);
            }
        }
    }

    /// Of each of these records of the source whether it may follow another of its key: all at once, since one at a time costs
    /// more than all else here. None where nothing is parked, or no order is kept by key.
    fn may_follow_parked(&self, seqs: Range<u64>) -> Vec<bool> {
        let by_key = self.plan().ordering == Ordering::Key;
        let index = self.retry.as_ref().map(Parking::index).filter(|index| by_key && !index.is_empty());
        let Some(index) = index else { return Vec::new() };
        let key = |seq| self.source.record(seq).map_or(KeyHash::NULL, |record| KeyHash::of(record.key));
        index.may_know(&seqs.map(key).collect::<Vec<_>>())
    }

    /// A record that follows nothing, as far as it has been looked at, is to be judged.
    pub(super) fn put_ready(&mut self, unit: Unit) {
        let now = self.retry.as_ref().map(|retry| retry.index().revision());
        if self.ready.is_empty() {
            self.looked_at = now;
        } else if self.looked_at != now {
            self.looked_at = None;
        }
        self.ready.push(unit);
    }

    /// Whether the record that the outbox stands at must not be delivered now: one before it in its key is to be first.
    /// A parked one stays where it is then; one of the source is ruled to be parked, which is no reason to stop.
    #[inline]
    pub(super) fn is_put_back(&mut self, unit: Unit, now: Now) -> bool {
        self.may_follow(unit.which) && self.put_back(unit, now)
    }

    /// Whether a record of the outbox is to be looked at once more. Which key it has costs more than to ask.
    #[inline]
    pub(super) fn may_follow(&self, which: Which) -> bool {
        let Some(retry) = self.retry.as_ref().filter(|_| self.plan().ordering == Ordering::Key) else { return false };
        let index = retry.index();
        let is_as_it_was = self.outbox.looked_at == Some(index.revision()) && !index.holds_keys();
        let follows_nothing = index.is_empty() || which == Which::Source && is_as_it_was;
        !follows_nothing
    }

    fn put_back(&mut self, unit: Unit, now: Now) -> bool {
        let is_decided = match self.outbox.judgement.rulings.get(self.outbox.next) {
            None | Some(Ruling::Move) => true,
            Some(Ruling::Fail(_, course)) => *course != Course::Decide,
            Some(_) => false,
        };
        if is_decided || self.outbox.sent > 0 {
            return false;
        }
        if self.must_wait(unit) {
            self.forget_trace(unit);
            self.retry.iter_mut().for_each(|retry| retry.put_back(unit.seq));
            return true;
        }
        if let Some(ruling) = self.follows(unit, now) {
            self.outbox.judgement.rulings[self.outbox.next] = ruling;
        }
        false
    }

    /// Whether the record is parked, and has to stay so for now.
    fn must_wait(&self, unit: Unit) -> bool {
        let waits_for_release = |retry: &Parking| retry.index().waits_for_release(unit.seq);
        unit.which == Which::Retry
            && (self.predecessor(unit).is_some() || self.retry.as_ref().is_some_and(waits_for_release))
    }

    /// What is to become of a record without being run, since another of its key went that way.
    fn follows(&self, unit: Unit, now: Now) -> Option<Ruling> {
        // To find out which key it is costs more than all else here.
        let by_key = self.plan().ordering == Ordering::Key;
        let retry = self.retry.as_ref().filter(|retry| by_key && !retry.index().is_empty())?;
        let original = self.original(unit)?;
        let (of, course) = match retry.index().predecessor(original) {
            Some(offset) => (format!("waits for offset {offset} of its key"), Course::Park { due_ms: now.unix_ms }),
            None => {
                let offset = retry.index().is_held(original)?;
                if self.is_to_be_judged(offset) {
                    return None;
                }
                (format!("offset {offset} of its key is a dead letter, and the key not released"), Course::DeadLetter)
            }
        };
        Some(Ruling::Fail(Arc::new(Failure::deferred(of)), course))
    }

    /// After a crash a record may be judged anew that holds its key already: what follows it is to stay behind it.
    fn is_to_be_judged(&self, offset: i64) -> bool {
        let is_it = |unit: &Unit| {
            unit.which == Which::Source && self.source.record(unit.seq).is_some_and(|record| record.offset == offset)
        };
        offset >= self.source_watermark() && self.ready.iter().any(is_it)
    }

    /// The record becomes a dead letter, which may hold its key. The answer is whether a marker is to be written of that.
    pub(super) fn hold_key(&mut self, unit: Unit) -> bool {
        let original = self.original(unit);
        self.retry.as_mut().zip(original).is_some_and(|(retry, original)| retry.index_mut().hold_key(original))
    }

    /// Puts the first of what is ready back, or has it parked, where it has to wait for another of its key: before it is run
    /// rather than after. The answer is whether that was so.
    pub(super) fn hold_first(&mut self, now: Now) -> bool {
        let Some(unit) = self.ready.first().copied() else { return false };
        let must_wait = self.must_wait(unit);
        let follows = self.follows(unit, now);
        if !must_wait && follows.is_none() {
            return false;
        }
        self.ready.remove(0);
        if must_wait {
            self.forget_trace(unit);
        }
        match (&mut self.retry, follows) {
            (Some(retry), _) if must_wait => retry.put_back(unit.seq),
            (_, Some(ruling)) => {
                let origin = self.origin_of(unit).ok().flatten();
                self.outbox.push(unit, origin, ruling);
            }
            (_, None) => {}
        }
        true
    }

    /// All that came of the record is handed over, or not after all.
    pub(super) fn note_sent(&mut self, unit: Unit, sent: bool) {
        if let (Which::Retry, Some(retry)) = (unit.which, &mut self.retry) {
            retry.index_mut().sent(unit.seq, sent);
        }
    }

    /// The offset of the parked record that this one has to wait for.
    fn predecessor(&self, unit: Unit) -> Option<i64> {
        let retry = self.retry.as_ref().filter(|retry| !retry.index().is_empty())?;
        retry.index().predecessor(self.original(unit)?)
    }

    /// The lane has come to the record of the source. The answer is whether another assignment has parked that.
    pub(super) fn passes_parked(&mut self, unit: Unit) -> bool {
        // Soon after the start there is nothing left to come to, and to find out which key it is costs more than to ask.
        if self.retry.as_ref().is_none_or(|retry| !retry.index().foresees_some()) {
            return false;
        }
        let original = self.original(unit);
        self.retry.as_mut().zip(original).is_some_and(|(retry, original)| retry.index_mut().pass(original))
    }

    /// What the record is in the source.
    fn original(&self, unit: Unit) -> Option<Original> {
        match unit.which {
            Which::Source => {
                let record = self.source.record(unit.seq)?;
                Some(Original { key: KeyHash::of(record.key), offset: record.offset })
            }
            Which::Retry => self.retry.as_ref()?.index().original(unit.seq),
        }
    }

    /// The record is being parked: its key is blocked from now on.
    pub(super) fn hold(&mut self, unit: Unit, edition: Edition) {
        if let Some(original) = self.original(unit)
            && let Some(retry) = &mut self.retry
        {
            retry.index_mut().hold(original, edition);
        }
    }

    /// Whether the record that is being parked is parked, even though the log did not say so.
    pub(super) fn is_seen(&self, unit: Unit) -> bool {
        self.retry.as_ref().zip(self.original(unit)).is_some_and(|(retry, original)| retry.index().is_seen(original))
    }

    /// Takes a record up again at once that the log refuses.
    pub(super) fn take_up_refused(&mut self, again: Again) {
        match self.plan().ordering {
            Ordering::None => self.again.push_front(again),
            Ordering::Key => self.put_in_order(again),
            Ordering::Partition => self.postpone(again),
        }
    }

    /// A record that may have been held has its fate: to be parked, or another one.
    pub(super) fn settle_parked(&mut self, unit: Unit, parked: bool) {
        if !self.in_place.is_empty() {
            self.in_place.remove(&unit.seq);
        }
        let expects_some = self.retry.as_ref().is_some_and(|retry| retry.index().expects_some());
        // Of those that were parked before, the index knows itself.
        if expects_some
            && unit.which == Which::Source
            && let Some(original) = self.original(unit)
            && let Some(retry) = &mut self.retry
        {
            if parked {
                retry.index_mut().parked(original);
            } else {
                retry.index_mut().release(original);
            }
        }
    }

    /// Whether nothing of the source may be taken in for now.
    pub(super) fn is_source_held_up(&self) -> bool {
        let is_behind = self.retry.as_ref().is_some_and(|retry| !Parking::is_caught_up(retry));
        is_behind || self.keeps_order() && !self.again.is_empty()
    }

    pub(super) fn keeps_order(&self) -> bool {
        self.plan().ordering != Ordering::None
    }

    /// Takes a record up again later. Under an order, all that came after it waits for it.
    pub(super) fn postpone(&mut self, again: Again) {
        if self.keeps_order() {
            self.regrouping = true;
            self.put_in_order(again);
        } else {
            self.again.push_back(again);
        }
    }

    /// A delivery of this record failed, and what has become of its others need not be known yet.
    pub(super) fn delivery_failed(&mut self, unit: Unit, error: &DeliveryError) {
        self.shared.counters.delivery_failed(self.route, error);
        match (self.plan().ordering, error) {
            (Ordering::None, _) => {}
            // It may be parked for it.
            (Ordering::Key, DeliveryError::Refused { .. }) => {
                let retry = self.retry.as_ref().filter(|_| unit.which == Which::Retry);
                let replays = retry.map_or(0, |retry| retry.index().edition(unit.seq).replays);
                self.hold(unit, Edition { replays, attempts: 0 });
            }
            (Ordering::Key | Ordering::Partition, _) => self.regrouping = true,
        }
    }

    fn put_in_order(&mut self, again: Again) {
        // Of what another assignment has parked, some may come after records that this one has taken from the source.
        let place = |unit: Unit| (self.original(unit).map(|original| original.offset), unit.which == Which::Source);
        let at = self.again.partition_point(|other| place(other.unit) < place(again.unit));
        self.again.insert(at, again);
    }

    /// Takes back what was judged and not sent, where an order is at stake. The answer is whether the reports of what was sent
    /// are still to come.
    #[inline]
    pub(super) fn regroup(&mut self, now: Now) -> bool {
        self.regrouping && self.regroup_now(now)
    }

    #[cold]
    #[inline(never)]
    fn regroup_now(&mut self, now: Now) -> bool {
        let Outbox { units, judgement, next, .. } = std::mem::take(&mut self.outbox);
        for (unit, ruling) in units.into_iter().zip(judgement.rulings).skip(next) {
            let what = match ruling {
                Ruling::Move => Resume::Move,
                Ruling::Fail(failure, course) if course != Course::Decide => Resume::Fail(failure, course),
                _ => Resume::Judge,
            };
            self.put_in_order(Again { at: now.instant, unit, what });
        }
        for unit in std::mem::take(&mut self.ready) {
            self.put_in_order(Again { at: now.instant, unit, what: Resume::Judge });
        }
        self.grant = Grant::default();
        self.regrouping = self.outstanding > 0;
        self.regrouping
    }

    /// Retries a record where it is: the lane waits for it.
    pub(super) fn retry_in_place(&mut self, unit: Unit, failure: &Failure, history: History, due_ms: i64, now: Now) {
        self.shared.counters.failed(self.route, failure, None);
        let offset = self.record(unit).map(|record| record.offset);
        tracing::info!(offset, attempt = history.attempt, "the lane waits to retry: {}", failure.line());
        self.in_place.insert(unit.seq, history);
        self.postpone(Again { at: instant_of(due_ms, now), unit, what: Resume::Judge });
    }
}
