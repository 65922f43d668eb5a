//! Records that kill the process: what is committed before records are run, so that the next to have the partition finds out
//! which one it is. [`pointsman_core::unclean`] decides; here it is carried out.
//!
//! Before the first record of an assignment runs, it is committed that the assignment counts. While records are suspected the
//! lane runs one at a time, each after it was committed that this one is tried: beside other lanes at first, and alone in the
//! process where that has ended during such a trial. A lane that is alone commits that the record has outlived it before others
//! go on: else their ends would be its.

use std::time::{Duration, Instant};

use pointsman_core::failure::{Failure, FailureClass};
use pointsman_core::port::Commit;
use pointsman_core::unclean::{Charge, Ends, Watch};

use super::{Lane, PATIENCE, Step, Tools, Unit, Which};
use crate::alone::Claim;
use crate::judge::Course;
use crate::shared::Now;

/// What the lane does about unclean ends.
pub(super) struct Suspicion {
    vow: Vow,
    /// What is in `ready` waits for a commit, or to be alone, and for nothing else.
    waits: bool,
    trial: Option<Trial>,
    /// While the trial is alone.
    claim: Option<Claim>,
    /// A guilty record on its way out, with its offset.
    guilty: Option<(Unit, i64)>,
}

/// The commit that comes before what is run next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Vow {
    /// It is there.
    Kept,
    /// It is to be made.
    Wanted,
    /// It is on its way.
    UnderWay,
}

#[derive(Clone, Copy, Debug)]
struct Trial {
    unit: Unit,
    stage: Stage,
}

#[derive(Clone, Copy, Debug)]
enum Stage {
    /// The record is named in a commit, or is going to be.
    Named,
    /// It has been judged, and may be on its way.
    Judged { at: Instant },
    /// It was alone, and that it is over is to be committed.
    Over,
}

/// A record that is tried alone has the process for itself no longer than this once it is judged: the topic that it goes to may
/// be away, and others' are not.
const ALONE_TIME: Duration = Duration::from_secs(5);
/// Until the others have finished what they judge, it is looked for so often.
const QUIET_POLL: Duration = Duration::from_millis(1);
/// While another lane is alone, one waits so long before it looks again.
pub(super) const ALONE_POLL: Duration = Duration::from_millis(5);

impl Suspicion {
    pub(super) fn new() -> Self {
        Self { vow: Vow::Kept, waits: false, trial: None, claim: None, guilty: None }
    }
}

impl Lane {
    /// Without a look at how others have ended, for those who commit nothing: route tests.
    pub(crate) fn without_suspicion(&mut self) {
        self.suspicion = None;
    }

    /// What is to be committed before the lane goes on, and the answer told to [`confirmed`](Self::confirmed).
    pub(crate) fn vow(&mut self, now: Now) -> Option<Vec<Commit>> {
        let rests = self.draining || self.pause.is_some_and(|until| until > now.instant);
        let suspicion = self.suspicion.as_mut().filter(|suspicion| suspicion.vow == Vow::Wanted && !rests)?;
        suspicion.vow = Vow::UnderWay;
        Some(self.commits(true).collect())
    }

    /// Whether the last [`vow`](Self::vow) is as durable as the log makes it, or why not.
    pub(crate) fn confirmed(&mut self, answer: Result<(), String>, now: Now) {
        let Some(suspicion) = self.suspicion.as_mut().filter(|suspicion| suspicion.vow == Vow::UnderWay) else {
            return;
        };
        self.rest = None;
        match answer {
            Ok(()) => suspicion.vow = Vow::Kept,
            Err(message) => {
                suspicion.vow = Vow::Wanted;
                let _named = self.span.clone().entered();
                tracing::info!("can't commit that records are about to be run: {message}; the lane tries again");
                // A group that is assigned anew takes no commits for a moment, and that comes often.
                self.pause = Some(now.instant + PATIENCE.start);
            }
        }
    }

    /// Whether what is in `ready` has been chosen, and has only waited for a commit, or to be alone.
    pub(super) fn is_chosen(&self) -> bool {
        !self.ready.is_empty() && self.suspicion.as_ref().is_some_and(|suspicion| suspicion.waits)
    }

    /// Has the next record stand trial where that is due, or the assignment counted. What is `ready` may be judged when this
    /// says so.
    pub(super) fn stand_trial(&mut self, tools: &mut Tools<'_>) -> Result<(), Step> {
        if self.suspects_nothing() {
            return Ok(());
        }
        let (Some(unit), Some(suspicion)) = (self.ready.first().copied(), &mut self.suspicion) else { return Ok(()) };
        suspicion.waits = true;
        if suspicion.vow != Vow::Kept {
            return Err(Step::Idle);
        }
        match suspicion.trial {
            Some(trial) if trial.unit == unit && matches!(trial.stage, Stage::Named) => return Ok(()),
            Some(_) => {
                self.break_off();
                return Err(Step::Idle);
            }
            None => self.let_guilty_go(),
        }
        if self.watch(unit.which).is_some_and(|watch| watch.suspects_some()) {
            // To try what would be judged in vain says nothing of what is behind it.
            if self.hold_first(tools.now) {
                self.set_waiting(false);
                return Err(self.deliver(tools));
            }
            return Err(self.name(unit, tools));
        }
        if self.count_in() {
            return Err(Step::Idle);
        }
        self.set_waiting(false);
        Ok(())
    }

    fn set_waiting(&mut self, waits: bool) {
        if let Some(suspicion) = &mut self.suspicion {
            suspicion.waits = waits;
        }
    }

    /// Mostly so.
    fn suspects_nothing(&self) -> bool {
        let Some(Suspicion { vow: Vow::Kept, trial: None, .. }) = self.suspicion else {
            return self.suspicion.is_none();
        };
        let is_calm = |watch: &Watch| watch.is_counted() && !watch.suspects_some();
        let retry = self.retry.as_ref();
        is_calm(&self.source.watch) && retry.is_none_or(|retry| is_calm(&retry.watch) || self.is_unused(Which::Retry))
    }

    /// Whether no record of this partition is in flight, nor is one suspected.
    fn is_unused(&self, which: Which) -> bool {
        match (which, &self.retry) {
            (Which::Source, _) => self.source.span() == 0 && !self.source.watch.suspects_some(),
            (Which::Retry, Some(retry)) => !retry.is_running() && !retry.watch.suspects_some(),
            (Which::Retry, None) => true,
        }
    }

    /// How many records may be judged at once.
    pub(super) fn most_at_once(&self) -> usize {
        let suspects = |watch: &Watch| watch.suspects_some();
        let one = self.suspicion.is_some()
            && (suspects(&self.source.watch) || self.retry.as_ref().is_some_and(|retry| suspects(&retry.watch)));
        if one { 1 } else { usize::MAX }
    }

    fn watch(&mut self, which: Which) -> Option<&mut Watch> {
        match which {
            Which::Source => Some(&mut self.source.watch),
            Which::Retry => self.retry.as_mut().map(|retry| &mut retry.watch),
        }
    }

    fn want_vow(&mut self) {
        if let Some(suspicion) = &mut self.suspicion {
            suspicion.vow = Vow::Wanted;
        }
    }

    /// Has the assignment counted where records are in flight and it is not. The answer is whether that is to be committed.
    fn count_in(&mut self) -> bool {
        let mut any = false;
        for which in [Which::Source, Which::Retry] {
            let is_unused = self.is_unused(which);
            let uncounted = |watch: &&mut Watch| !is_unused && !watch.is_counted() && !watch.suspects_some();
            if let Some(watch) = self.watch(which).filter(uncounted) {
                watch.count();
                any = true;
            }
        }
        if any {
            self.want_vow();
        }
        any
    }

    /// Names the suspect that is first in `ready`, or has it meet its end.
    fn name(&mut self, unit: Unit, tools: &mut Tools<'_>) -> Step {
        let Some(offset) = self.offset_of(unit) else { return Step::Idle };
        match self.watch(unit.which).map_or(Charge::Tried, |watch| watch.charge(offset)) {
            Charge::Guilty => return self.condemn(unit, offset, tools),
            Charge::TriedAlone if !self.is_alone() => return Step::NotBefore(tools.now.instant + QUIET_POLL),
            Charge::TriedAlone => {
                tracing::warn!(
                    from = unit.which.name(),
                    offset,
                    "the process has ended while this record was run: it is run alone"
                );
            }
            Charge::Tried => {}
        }
        if let Some(watch) = self.watch(unit.which) {
            watch.begin(offset);
        }
        if let Some(suspicion) = &mut self.suspicion {
            suspicion.trial = Some(Trial { unit, stage: Stage::Named });
        }
        self.want_vow();
        Step::Idle
    }

    /// Whether nobody else judges; from now on nobody begins.
    fn is_alone(&mut self) -> bool {
        let Some(suspicion) = &mut self.suspicion else { return false };
        if suspicion.claim.is_none() {
            suspicion.claim = self.shared.alone.claim();
        }
        suspicion.claim.as_ref().is_some_and(Claim::is_alone)
    }

    /// Whether the lane keeps others from judging.
    pub(super) fn keeps_others_waiting(&self) -> bool {
        self.suspicion.as_ref().is_some_and(|suspicion| suspicion.claim.is_some())
    }

    /// The record goes where the policy says, without being run.
    fn condemn(&mut self, unit: Unit, offset: i64, tools: &mut Tools<'_>) -> Step {
        self.ready.remove(0);
        if let Some(suspicion) = &mut self.suspicion {
            suspicion.waits = false;
            suspicion.guilty = Some((unit, offset));
        }
        // To the breaker it is as any other.
        self.at_once(1, tools.now);
        let failure = Failure::new(
            FailureClass::HostCrash,
            "process-ended",
            format!(
                "the process has ended {} times while this record was run, the last time with nothing else beside it, after {} ends \
                 before that got no further: so it was not run again. The process's own log may say what a plugin did to it; mend \
                 that, and replay the record",
                Ends::GUILTY,
                Ends::MANY
            ),
        );
        tracing::error!(from = unit.which.name(), offset, "this record kills the process: {}", failure.line());
        self.push_failure(unit, Box::new(failure), Course::Decide);
        self.deliver(tools)
    }

    /// Whether the record is still to be settled.
    fn is_open(&self, unit: Unit) -> bool {
        match (unit.which, &self.retry) {
            (Which::Source, _) => self.source.is_open(unit.seq),
            (Which::Retry, Some(retry)) => retry.is_open(unit.seq),
            (Which::Retry, None) => false,
        }
    }

    /// Notes that the guilty record has its fate, if it has.
    pub(super) fn let_guilty_go(&mut self) {
        let Some((unit, offset)) = self.suspicion.as_ref().and_then(|suspicion| suspicion.guilty) else { return };
        if self.is_open(unit) {
            return;
        }
        if let Some(watch) = self.watch(unit.which) {
            watch.condemned(offset);
        }
        if let Some(suspicion) = &mut self.suspicion {
            suspicion.guilty = None;
        }
    }

    /// The record that is tried, if one is, has been judged: the process has outlived that.
    pub(super) fn judged_on_trial(&mut self, now: Now) {
        let Some(suspicion) = &mut self.suspicion else { return };
        suspicion.waits = false;
        if let Some(trial) = &mut suspicion.trial {
            trial.stage = Stage::Judged { at: now.instant };
        }
    }

    /// A trial that has begun can't go on now: what was known of the record holds.
    pub(super) fn break_off(&mut self) {
        let Some(Suspicion { trial: Some(trial), .. }) = &mut self.suspicion else { return };
        let was_judged = matches!(trial.stage, Stage::Judged { .. });
        trial.stage = Stage::Over;
        let unit = trial.unit;
        let settled = !self.is_open(unit);
        if let Some(watch) = self.watch(unit.which) {
            if was_judged { watch.outlived(settled) } else { watch.break_off() }
        }
        self.want_vow();
    }

    /// Ends a trial whose record has gone its way. The answer is what the lane does while it can't go on. Nothing is in the
    /// outbox.
    pub(super) fn end_trial(&mut self, now: Now) -> Option<Step> {
        let Suspicion { vow, trial, claim, .. } = self.suspicion.as_mut()?;
        let Trial { unit, stage } = (*trial)?;
        if self.draining {
            self.leave_trial();
            return None;
        }
        match stage {
            Stage::Named => None,
            Stage::Judged { at } => {
                let until = at + ALONE_TIME;
                let is_alone = claim.is_some();
                if self.outstanding > 0 && !(is_alone && now.instant >= until) {
                    return Some(if is_alone { Step::NotBefore(until) } else { Step::Idle });
                }
                if !is_alone {
                    *trial = None;
                } else {
                    *trial = Some(Trial { unit, stage: Stage::Over });
                    *vow = Vow::Wanted;
                }
                let settled = !self.is_open(unit);
                self.watch(unit.which)?.outlived(settled);
                is_alone.then_some(Step::Idle)
            }
            Stage::Over if *vow != Vow::Kept => Some(Step::Idle),
            Stage::Over => {
                (*trial, *claim) = (None, None);
                None
            }
        }
    }

    /// The lane is given up: nobody is kept waiting for it.
    pub(super) fn leave_trial(&mut self) {
        if self.outstanding == 0 {
            self.break_off();
        }
        self.end_waiting();
    }

    /// The lane stands, for who knows how long: what ends the process meanwhile is not what it has judged last.
    pub(super) fn suspend_trial(&mut self) {
        self.break_off();
        self.end_waiting();
    }

    fn end_waiting(&mut self) {
        if let Some(suspicion) = &mut self.suspicion {
            (suspicion.trial, suspicion.claim, suspicion.waits) = (None, None, false);
        }
    }
}
