//! A lane that has halted: what for, and how it goes on from there.
//!
//! **It keeps everything that it has**: what is ready, what is judged and what failed to be delivered stay where they are, and
//! deliveries under way are reported and settled. So when it goes on from a record, nothing that was behind it is lost, and
//! nothing of it runs twice. What a lane has halted for otherwise (records that are lost or damaged) is not mended by going
//! on, and takes a restart.

use std::sync::Arc;

use pointsman_core::failure::Failure;

use super::{Again, Lane, Resume, Unit, Why};
use crate::counters::Fate;
use crate::judge::Course;
use crate::lanes::{Because, Done, Refusal, StandsAt};
use crate::shared::Now;

/// Why a lane is halted.
pub(super) struct Halt {
    because: Because,
    /// The record that it stands at, if it is one.
    stand: Option<Stand>,
}

/// What has a lane halt at a record.
#[derive(Clone, Copy)]
pub(super) enum HaltFor {
    /// What the plan says of its failure.
    Plan,
    /// It was found guilty of the process's end, as was the last such record, and none has gone its way since.
    SecondConviction,
}

/// A record that a lane stands at.
struct Stand {
    unit: Unit,
    failure: Failure,
    /// What the dead-letter topic says, where it refuses the record even without its payload. Then the record waits among those
    /// that failed to be delivered; else the outbox stands at it.
    refused: Option<String>,
}

impl Lane {
    pub(super) const fn is_halted(&self) -> bool {
        self.halted.is_some()
    }

    /// Stops the lane where it is. Others run on.
    pub(super) fn halt(&mut self, reason: String, now: Now) {
        tracing::error!(offset = self.source_watermark(), "the lane is halted: {reason}");
        self.put_halt(Halt { because: Because::since(reason, now), stand: None });
    }

    /// Halts at the record that the outbox stands at.
    pub(super) fn halt_at(&mut self, unit: Unit, failure: Failure, reason: HaltFor, now: Now) {
        self.pardon(unit);
        let (why, instead) = match reason {
            HaltFor::Plan => ("the plan says to halt at that", ", or choose another reaction in the route's `on`,"),
            HaltFor::SecondConviction => ("it is the second in a row that seems to, so it may be neither of them", ""),
        };
        let reason = format!("{}, and {why}", failure.line());
        let skip = if self.plan().dead_letter.is_some() { "" } else { " --drop" };
        let remedy = match self.shared.plan.admin {
            Some(_) => format!(
                "Mend the cause and have the record run again (`pointsman lanes resume`), or go on without it (`pointsman lanes skip{skip}`)"
            ),
            None => format!("Mend the cause{instead} and restart"),
        };
        self.stand_at(Stand { unit, failure, refused: None }, reason, &remedy, now);
    }

    /// The dead-letter topic refuses the record even without its payload.
    pub(super) fn halt_at_refused(&mut self, unit: Unit, failure: Arc<Failure>, refused: String, now: Now) {
        let reason = format!("the dead-letter topic refuses a record even without its payload: {refused}");
        let remedy = match self.shared.plan.admin {
            Some(_) => {
                "Mend the topic and have the lane go on (`pointsman lanes resume`), or lose the record (`pointsman lanes skip --drop`)"
            }
            None => "Mend the topic, and restart",
        };
        let stand = Stand { unit, failure: (*failure).clone(), refused: Some(refused) };
        self.take_up_refused(Again { at: now.instant, unit, what: Resume::Fail(failure, Course::Truncate) });
        self.stand_at(stand, reason, remedy, now);
    }

    fn stand_at(&mut self, stand: Stand, reason: String, remedy: &str, now: Now) {
        let (from, offset) = (stand.unit.which.name(), self.offset_of(stand.unit));
        self.tell(stand.unit, Fate::Halted, || Why::Failure(stand.failure.clone()));
        self.end_trace(stand.unit, Fate::Halted);
        tracing::error!(from, offset, "the lane is halted: {reason}. {remedy}");
        self.put_halt(Halt { because: Because::since(reason, now), stand: Some(stand) });
    }

    /// Of several the first counts: when the lane goes on, it meets the others again.
    fn put_halt(&mut self, halt: Halt) {
        self.tally.count(Fate::Halted);
        self.suspend_trial();
        self.halted.get_or_insert_with(|| Box::new(halt));
    }

    /// Whether the outbox has not got past this record, since the lane has halted at it.
    pub(super) fn stays_at(&self, unit: Unit) -> bool {
        let stand = self.halted.as_ref().and_then(|halt| halt.stand.as_ref());
        stand.is_some_and(|stand| stand.unit == unit && stand.refused.is_none())
    }

    pub(super) fn halted_for(&self) -> Option<&Because> {
        self.halted.as_ref().map(|halt| &halt.because)
    }

    /// The record that the lane has halted at.
    pub(super) fn stands_at(&self) -> Option<StandsAt> {
        let Stand { unit, failure, .. } = self.halted.as_ref()?.stand.as_ref()?;
        let (partition, offset) = self.whence(*unit)?;
        Some(StandsAt {
            topic: partition.topic.to_string(),
            partition: partition.partition,
            offset,
            class: failure.class.to_string(),
            code: failure.code.clone(),
            message: failure.message.clone(),
        })
    }

    /// The record that it has halted at, where going on is of any use.
    fn stand(&self) -> Result<&Stand, Refusal> {
        let Halt { because, stand } = self.halted.as_deref().ok_or(Refusal::NotHalted)?;
        stand.as_ref().ok_or_else(|| Refusal::NotAtRecord { reason: because.reason.clone() })
    }

    /// Has the record dead-lettered that the lane has halted at, or dropped where that is allowed and nothing else can be done;
    /// the lane goes on behind it.
    pub(super) fn skip(&mut self, drop: bool) -> Result<Done, Refusal> {
        let stand = self.stand()?;
        let objection = match &stand.refused {
            Some(message) => Some(Refusal::Refused { message: message.clone() }),
            None => self.plan().dead_letter.is_none().then_some(Refusal::NoDeadLetters),
        };
        match objection {
            Some(objection) if !drop => Err(objection),
            Some(_) => {
                self.drop_stand();
                Ok(Done::Dropped)
            }
            None => {
                // Nobody but who gave the order pays for it.
                self.outbox.hold_to(Course::DeadLetter);
                self.go_on();
                Ok(Done::DeadLettering)
            }
        }
    }

    fn drop_stand(&mut self) {
        let Some(Stand { unit, failure, refused }) = self.halted.take().and_then(|halt| halt.stand) else { return };
        self.go_on();
        let _named = self.span.clone().entered();
        let (from, offset) = (unit.which.name(), self.offset_of(unit));
        tracing::warn!(from, offset, class = %failure.class, "dropped by hand, and lost: {}", failure.line());
        match refused {
            Some(_) => self.again.retain(|again| again.unit != unit),
            None => self.outbox.pass(),
        }
        self.shared.counters.failed(self.route, &failure, Some(Fate::Dropped));
        self.tell(unit, Fate::Dropped, || Why::Failure(failure));
        self.settle(unit, Fate::Dropped);
        self.dropped_a_failure();
    }

    /// Has the record run again that the lane has halted at; one that the dead-letter topic has refused is sent there again.
    pub(super) fn run_again(&mut self) -> Result<Done, Refusal> {
        let stand = self.stand()?;
        let (unit, is_refused) = (stand.unit, stand.refused.is_some());
        self.go_on();
        if is_refused {
            let waiting = self.again.iter_mut().find(|again| again.unit == unit);
            if let Some(Again { what: Resume::Fail(_, course), .. }) = waiting {
                // The topic may take all of it by now.
                *course = Course::DeadLetter;
            }
        } else {
            // With what was judged along with it, and may have failed for the same reason.
            self.outbox.hold_to(Course::Decide);
            self.regrouping = true;
        }
        Ok(Done::RunningAgain)
    }

    fn go_on(&mut self) {
        self.halted = None;
        self.by_hand = None;
    }
}
