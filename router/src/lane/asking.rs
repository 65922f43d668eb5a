//! What a lane says of itself, and what it does when somebody tells it to pause or to go on.
//!
//! A pause by hand is the lane's alone: it is not remembered over a restart, or over another assignment of its partition.

use super::{Lane, Which};
use crate::lanes::{Because, Done, LaneName, LaneReport, Position, Refusal, RetryPosition, State, Verb};
use crate::retries::LaneRetries;
use crate::shared::Now;

impl Lane {
    /// Whether it is the lane of this route, by index, and of this source partition.
    pub(crate) fn is(&self, route: usize, partition: &pointsman_core::record::TopicPartition) -> bool {
        self.route == route && self.source.partition == *partition
    }

    /// Where it stands, and why.
    pub(crate) fn report(&self, now: Now) -> LaneReport {
        let (state, because) = self.standing(now);
        let retry = self.retry.as_ref();
        LaneReport {
            lane: LaneName::new(&self.plan().name, &self.source.partition),
            state,
            since: because.as_ref().and_then(Because::since_when),
            reason: because.map(|because| because.reason),
            stands_at: self.stands_at(),
            position: Some(Position {
                watermark: self.source_watermark(),
                next_offset: self.source.next_offset(),
                in_flight: self.source.in_flight_count() + retry.map_or(0, |retry| retry.in_flight_count()),
                in_flight_bytes: self.source.bytes() + retry.map_or(0, |retry| retry.bytes()),
                oldest_ms: self.source.oldest_ms(),
                settled_beyond: self.source.settled_beyond(),
                unreported: self.outstanding,
                breaker: self.breaker_position(),
                retry: retry.map(|retry| RetryPosition {
                    topic: retry.partition.topic.to_string(),
                    watermark: retry.index().watermark(),
                    parked: retry.index().len(),
                    due_ms: retry.index().next_due_ms(),
                }),
            }),
        }
    }

    /// What is parked, with the first records of it, `limit` at most; `None` where the route has no retry topic.
    pub(crate) fn retries(&self, limit: usize) -> Option<LaneRetries> {
        let retry = self.retry.as_ref()?;
        Some(LaneRetries {
            lane: LaneName::new(&self.plan().name, &self.source.partition),
            partition: retry.partition.clone(),
            backlog: retry.index().backlog(),
            first: retry.index().first_due(limit),
            complete: retry.is_caught_up(),
        })
    }

    fn standing(&self, now: Now) -> (State, Option<Because>) {
        if self.draining {
            return (State::Draining, None);
        }
        if let Some(halted) = self.halted_for() {
            return (State::Halted, Some(halted.clone()));
        }
        if let Some(by_hand) = &self.by_hand {
            return (State::PausedByHand, Some(Because::clone(by_hand)));
        }
        if let Some(paused) = self.paused_for() {
            return (State::PausedByBreaker, Some(paused.clone()));
        }
        match self.waits_for(now) {
            Some(because) => (State::Waiting, Some(because)),
            None => (State::Running, None),
        }
    }

    /// What a lane waits for that goes on by itself.
    fn waits_for(&self, now: Now) -> Option<Because> {
        let because = |reason: &str| Some(Because { reason: reason.into(), since_ms: None });
        if self.pause.is_some_and(|until| until > now.instant) {
            return self.trouble.as_deref().cloned();
        }
        if let Some(because) = self.kept_waiting_for() {
            return Some(because);
        }
        if self.retry.as_ref().is_some_and(|retry| !retry.is_caught_up()) {
            return because("what was parked before the assignment is being indexed, and nothing runs before that");
        }
        if self.waits_for_tokens() {
            return because("records that failed wait for tokens of the breaker");
        }
        let first = self.again.front().filter(|again| self.keeps_order() && again.at > now.instant)?;
        let (Which::Source, Some(history)) = (first.unit.which, self.in_place.get(&first.unit.seq)) else {
            return None;
        };
        let offset = self.offset_of(first.unit)?;
        because(&format!("the record at offset {offset} has failed {} times, and is retried in place", history.attempt))
    }

    /// Does what it is told.
    ///
    /// # Errors
    /// [`Refusal`]; nothing has changed then.
    pub(crate) fn obey(&mut self, verb: Verb, now: Now) -> Result<Done, Refusal> {
        if self.draining {
            return Err(Refusal::Draining);
        }
        let done = match verb {
            Verb::Pause => Ok(self.pause_by_hand(now)),
            Verb::Resume => self.resume(now),
            Verb::Skip { drop } => self.skip(drop),
        }?;
        // Whatever it rested for, there may be something to do now.
        self.rest = None;
        self.hand_in(now);
        let _named = self.span.clone().entered();
        tracing::info!(?verb, "told by hand: the lane {done}");
        Ok(done)
    }

    /// Judges nothing more. What is judged already is delivered, reported and committed.
    fn pause_by_hand(&mut self, now: Now) -> Done {
        if self.is_halted() {
            return Done::Halted;
        }
        let reason = "somebody has paused it, until it is resumed or its partition is assigned anew";
        self.by_hand.get_or_insert_with(|| Box::new(Because::since(reason, now)));
        self.suspend_trial();
        Done::Paused
    }

    fn resume(&mut self, now: Now) -> Result<Done, Refusal> {
        if self.is_halted() {
            return self.run_again();
        }
        let was_paused = self.by_hand.take().is_some();
        // The trouble may be over.
        let waited = self.pause.take().is_some_and(|until| until > now.instant);
        // What failed for it is first then, or others would pass it.
        let in_place = &self.in_place;
        let failed = self.again.iter_mut().filter(|again| !in_place.contains_key(&again.unit.seq));
        failed.for_each(|again| again.at = again.at.min(now.instant));
        if self.probe_at_once(now) {
            return Ok(Done::Probing);
        }
        Ok(if was_paused || waited { Done::Resumed } else { Done::Running })
    }
}
