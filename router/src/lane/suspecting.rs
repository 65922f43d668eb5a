//! Records that kill the process: what is committed before records are run, so that the next to have the partition finds out
//! which one it is. [`pointsman_core::unclean`] decides; here it is carried out.
//!
//! Before the first record of an assignment runs, it is committed that the assignment counts. While records are suspected the
//! lane runs a group at a time, after it was committed that these are tried, and beside other lanes; or one record, alone in the
//! process, where that has ended during such a trial. A lane that is alone commits that the record has outlived it before others
//! go on: else their ends would be its.

use std::sync::Arc;
use std::time::{Duration, Instant};

use pointsman_core::failure::{Failure, FailureClass};
use pointsman_core::port::Commit;
use pointsman_core::unclean::{Charge, Ends, Watch};

use super::{Lane, PATIENCE, Step, Tools, Unit, Which};
use crate::alone::Claim;
use crate::judge::Course;
use crate::lanes::Because;
use crate::shared::Now;

/// What the lane does about unclean ends.
pub(super) struct Suspicion {
    vow: Vow,
    /// Whether it is about the retry partition, too. Of that nothing is committed before what the source has come to: what
    /// was parked might run anew.
    of_retry: bool,
    /// Why the last attempts failed, and when the next one may be made.
    hitch: Option<Hitch>,
    /// What is in `ready` waits for a commit, or to be alone, and for nothing else.
    waits: bool,
    trial: Option<Trial>,
    /// While the trial is alone.
    claim: Option<Claim>,
    /// Guilty records on their way out, with their offsets.
    guilty: Vec<(Unit, i64)>,
}

/// A commit can't be made.
struct Hitch {
    because: Because,
    not_before: Instant,
    patience: Duration,
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

/// Records of one partition, with their offsets.
#[derive(Debug)]
struct Trial {
    tried: Vec<(Unit, i64)>,
    stage: Stage,
}

#[derive(Clone, Copy, Debug)]
enum Stage {
    /// The records are named in a commit, or are going to be.
    Named,
    /// They have been judged, and may be on their way.
    Judged,
    /// What was known of them has changed, and is to be committed before others go on.
    Over,
}

/// Until the others have finished what they judge, it is looked for so often.
const QUIET_POLL: Duration = Duration::from_millis(1);
/// While another lane is alone, one waits so long before it looks again.
pub(super) const ALONE_POLL: Duration = Duration::from_millis(5);

impl Suspicion {
    pub(super) fn new() -> Self {
        Self {
            vow: Vow::Kept,
            of_retry: false,
            hitch: None,
            waits: false,
            trial: None,
            claim: None,
            guilty: Vec::new(),
        }
    }
}

impl Lane {
    /// Without a look at how others have ended, for those who commit nothing: route tests.
    pub(crate) fn without_suspicion(&mut self) {
        self.suspicion = None;
    }

    /// Begins with what this process knows better than the commits: an assignment that was lost has not ended it.
    pub(super) fn know_better(&mut self, in_flight: usize) {
        let (alone, route) = (&self.shared.alone, self.route);
        if let Some(ends) = alone.knows_better(route, &self.source.partition, self.source.ends()) {
            self.source.watch = Watch::resume(ends, in_flight);
        }
        if let Some(retry) = &mut self.retry
            && let Some(ends) = alone.knows_better(route, &retry.partition, retry.ends())
        {
            retry.watch = Watch::resume(ends, in_flight);
        }
    }

    /// The partition is lost, and the process lives.
    pub(crate) fn outlive(&mut self) {
        if self.suspicion.is_none() {
            return;
        }
        self.leave_trial();
        let (alone, route) = (&self.shared.alone, self.route);
        alone.outlive(route, &self.source.partition, self.source.last_ends(), self.source.watch.ends(true));
        if let Some(retry) = &self.retry {
            alone.outlive(route, &retry.partition, retry.last_ends(), retry.watch.ends(true));
        }
    }

    /// Whether there is something to be [vowed](Self::vow).
    pub(crate) fn wants_vow(&self, now: Now) -> bool {
        self.suspicion.as_ref().filter(|_| !self.draining).is_some_and(|suspicion| {
            let is_early = suspicion.hitch.as_ref().is_some_and(|hitch| hitch.not_before > now.instant);
            suspicion.vow == Vow::Wanted && !is_early
        })
    }

    /// Whether something is to be [vowed](Self::vow), or about to be, and not [confirmed](Self::confirmed).
    pub(super) fn awaits_vow(&self) -> bool {
        self.suspicion.as_ref().is_some_and(|suspicion| suspicion.vow != Vow::Kept)
    }

    /// What is to be committed before the lane goes on, and the answer told to [`confirmed`](Self::confirmed).
    pub(crate) fn vow(&mut self, now: Now) -> Option<Vec<Commit>> {
        if !self.wants_vow(now) {
            return None;
        }
        let suspicion = self.suspicion.as_mut()?;
        suspicion.vow = Vow::UnderWay;
        let of_retry = suspicion.of_retry;
        self.let_guilty_go();
        let retry = self.retry.as_mut().filter(|_| of_retry).and_then(|retry| retry.commit(true, false));
        Some(self.source.commit(true, false).into_iter().chain(retry).collect())
    }

    /// Whether the last [`vow`](Self::vow) is as durable as the log makes it, or why not.
    pub(crate) fn confirmed(&mut self, answer: Result<(), String>, now: Now) {
        let Some(suspicion) = self.suspicion.as_mut().filter(|suspicion| suspicion.vow == Vow::UnderWay) else {
            return;
        };
        self.rest = None;
        match answer {
            Ok(()) => {
                suspicion.vow = Vow::Kept;
                suspicion.of_retry = false;
                suspicion.hitch = None;
            }
            Err(message) => {
                suspicion.vow = Vow::Wanted;
                let reason = format!("it can't be committed that records are about to be run: {message}");
                let _named = self.span.clone().entered();
                let (patience, since_ms) = match &suspicion.hitch {
                    // A group that is assigned anew takes no commits for a moment, and that comes often.
                    None => {
                        tracing::info!("{reason}; the lane tries again");
                        (PATIENCE.start, Some(now.unix_ms))
                    }
                    Some(hitch) => {
                        tracing::warn!(pause = ?hitch.patience, "{reason}; the lane waits and tries again");
                        ((hitch.patience * 2).min(PATIENCE.end), hitch.because.since_ms)
                    }
                };
                let because = Because { reason, since_ms };
                suspicion.hitch = Some(Hitch { because, not_before: now.instant + patience, patience });
            }
        }
    }

    /// What keeps the lane from running what it has.
    pub(super) fn kept_waiting_for(&self) -> Option<Because> {
        let suspicion = self.suspicion.as_ref()?;
        if let Some(hitch) = &suspicion.hitch {
            return Some(hitch.because.clone());
        }
        let is_others = !self.ready.is_empty() && suspicion.claim.is_none() && self.shared.alone.is_claimed();
        let reason = "another lane runs a record alone in the process, since that may be what has ended it before";
        is_others.then(|| Because { reason: reason.into(), since_ms: None })
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
            return Err(suspicion.hitch.as_ref().map_or(Step::Idle, |hitch| Step::NotBefore(hitch.not_before)));
        }
        match &suspicion.trial {
            Some(Trial { tried, stage: Stage::Named }) if is_prefix(tried, &self.ready) => return Ok(()),
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

    /// How many of the records that are ready may be judged at once: those of one partition where the other is suspected.
    pub(super) fn most_at_once(&self) -> usize {
        let Some(suspicion) = &self.suspicion else { return usize::MAX };
        if let Some(trial) = &suspicion.trial {
            return trial.tried.len();
        }
        let of_retry = self.retry.as_ref().is_some_and(|retry| retry.watch.suspects_some());
        match self.ready.first() {
            Some(first) if of_retry || self.source.watch.suspects_some() => {
                self.ready.iter().take_while(|unit| unit.which == first.which).count()
            }
            _ => usize::MAX,
        }
    }

    fn watch(&mut self, which: Which) -> Option<&mut Watch> {
        match which {
            Which::Source => Some(&mut self.source.watch),
            Which::Retry => self.retry.as_mut().map(|retry| &mut retry.watch),
        }
    }

    fn want_vow(&mut self, of: Which) {
        if let Some(suspicion) = &mut self.suspicion {
            suspicion.vow = Vow::Wanted;
            suspicion.of_retry |= of == Which::Retry;
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
                self.want_vow(which);
                any = true;
            }
        }
        any
    }

    /// Names the suspects that are first in `ready`, or has the first meet its end.
    fn name(&mut self, unit: Unit, tools: &mut Tools<'_>) -> Step {
        let Some(offset) = self.offset_of(unit) else { return Step::Idle };
        let tried = match self.charge(unit.which, offset) {
            Charge::Guilty => return self.condemn(unit, offset, tools),
            Charge::TriedAlone if !self.is_alone(tools.now) => return Step::NotBefore(tools.now.instant + QUIET_POLL),
            Charge::TriedAlone => {
                tracing::warn!(
                    from = unit.which.name(),
                    offset,
                    "the process has ended while this record was run: it is run alone"
                );
                vec![(unit, offset)]
            }
            Charge::Tried => self.group(unit.which),
        };
        if let Some(watch) = self.watch(unit.which) {
            watch.begin(tried.iter().map(|(_, offset)| *offset));
        }
        if let Some(suspicion) = &mut self.suspicion {
            suspicion.trial = Some(Trial { tried, stage: Stage::Named });
        }
        self.want_vow(unit.which);
        Step::Idle
    }

    fn charge(&mut self, which: Which, offset: i64) -> Charge {
        self.watch(which).map_or(Charge::Tried, |watch| watch.charge(offset))
    }

    /// The first in `ready` that may be tried together.
    fn group(&mut self, which: Which) -> Vec<(Unit, i64)> {
        let first: Vec<Unit> = self.ready.iter().copied().take(Watch::MOST_AT_ONCE).collect();
        let offsets = first.into_iter().map_while(|unit| Some((unit, self.offset_of(unit)?))).collect::<Vec<_>>();
        let is_of_group =
            |(unit, offset): &(Unit, i64)| unit.which == which && self.charge(which, *offset) == Charge::Tried;
        offsets.into_iter().take_while(is_of_group).collect()
    }

    /// Whether nobody else judges; from now on nobody begins.
    fn is_alone(&mut self, now: Now) -> bool {
        let Some(suspicion) = &mut self.suspicion else { return false };
        if suspicion.claim.is_none() {
            suspicion.claim = self.shared.alone.claim(now.instant);
        }
        suspicion.claim.as_ref().is_some_and(Claim::is_alone)
    }

    /// Lets the others go on where they were kept waiting for too long: what the lane waits for may be away, and theirs is not.
    pub(super) fn give_way(&mut self, now: Now) {
        let Some(suspicion) = &mut self.suspicion else { return };
        let Some(claim) = suspicion.claim.take_if(|claim| claim.until() <= now.instant) else { return };
        tracing::warn!("a record that is run alone takes too long to go its way: other lanes go on meanwhile");
        claim.give_way(now.instant);
        self.break_off();
    }

    /// Whether the lane keeps others from judging.
    pub(super) fn keeps_others_waiting(&self) -> bool {
        self.suspicion.as_ref().is_some_and(|suspicion| suspicion.claim.is_some())
    }

    /// The record goes where the policy says, without being run.
    fn condemn(&mut self, unit: Unit, offset: i64, tools: &mut Tools<'_>) -> Step {
        self.ready.remove(0);
        let mut is_second = self.watch(unit.which).is_some_and(|watch| watch.has_convicted());
        if let Some(suspicion) = &mut self.suspicion {
            suspicion.waits = false;
            // It may have been condemned before, and not have got away.
            suspicion.guilty.retain(|(other, _)| *other != unit);
            is_second |= suspicion.guilty.iter().any(|(other, _)| other.which == unit.which);
            suspicion.guilty.push((unit, offset));
        }
        // To the breaker it is as any other.
        self.at_once(1, tools.now);
        let failure = Failure::new(
            FailureClass::HostCrash,
            "process-ended",
            format!(
                "the process has ended {} times while this record was run, all but the first time with nothing else beside it, \
                 after {} ends before that got no further: so it was not run again. The process's own log may say what a plugin did \
                 to it; mend that, and replay the record",
                Ends::GUILTY,
                Ends::MANY
            ),
        );
        tracing::error!(from = unit.which.name(), offset, "this record kills the process: {}", failure.line());
        self.push_failure(unit, Arc::new(failure), if is_second { Course::Halt } else { Course::Decide });
        self.deliver(tools)
    }

    /// The lane halts at a guilty record: when it goes on from there, in this process or another, that is tried once more.
    pub(super) fn pardon(&mut self, unit: Unit) {
        for (_, offset) in self.take_guilty(|_, guilty| guilty == unit) {
            if let Some(watch) = self.watch(unit.which) {
                watch.pardon(offset);
            }
        }
    }

    /// A record was run, and has gone its way.
    #[inline]
    pub(super) fn succeeded(&mut self, which: Which) {
        if let Some(watch) = self.watch(which) {
            watch.succeeded();
        }
    }

    /// Whether the record is still to be settled.
    fn is_open(&self, unit: Unit) -> bool {
        match (unit.which, &self.retry) {
            (Which::Source, _) => self.source.is_open(unit.seq),
            (Which::Retry, Some(retry)) => retry.is_open(unit.seq),
            (Which::Retry, None) => false,
        }
    }

    /// Takes those of the guilty records on their way out for which that holds.
    fn take_guilty(&mut self, holds: impl Fn(&Self, Unit) -> bool) -> Vec<(Unit, i64)> {
        let guilty = self.suspicion.as_mut().map(|suspicion| std::mem::take(&mut suspicion.guilty)).unwrap_or_default();
        let (taken, left) = guilty.into_iter().partition(|(unit, _)| holds(self, *unit));
        if let Some(suspicion) = &mut self.suspicion {
            suspicion.guilty = left;
        }
        taken
    }

    /// Notes which of the guilty records have their fate.
    pub(super) fn let_guilty_go(&mut self) {
        for (unit, offset) in self.take_guilty(|lane, unit| !lane.is_open(unit)) {
            if let Some(watch) = self.watch(unit.which) {
                watch.condemned(offset);
            }
        }
    }

    /// What is in the outbox has been judged, and those that are tried, if any are, are among it: the process has outlived that.
    pub(super) fn judged_on_trial(&mut self, now: Now) {
        let judged = self.outbox.units.len();
        let Some(suspicion) = &mut self.suspicion else { return };
        suspicion.waits = false;
        let Some(trial) = &mut suspicion.trial else { return };
        trial.stage = Stage::Judged;
        suspicion.claim.iter_mut().for_each(|claim| claim.judged(now.instant));
        // The others are named anew when they are run.
        if judged < trial.tried.len() {
            trial.tried.truncate(judged);
            let offsets: Vec<i64> = trial.tried.iter().map(|(_, offset)| *offset).collect();
            if let Some(which) = self.tried_partition()
                && let Some(watch) = self.watch(which)
            {
                watch.begin(offsets);
            }
        }
    }

    /// A trial that has begun can't go on now: what was known of the record holds.
    pub(super) fn break_off(&mut self) {
        let Some(Suspicion { trial: Some(trial), .. }) = &mut self.suspicion else { return };
        let was_judged = matches!(trial.stage, Stage::Judged);
        trial.stage = Stage::Over;
        let Some(which) = self.tried_partition() else { return };
        let open = self.open_on_trial();
        if let Some(watch) = self.watch(which) {
            if was_judged { watch.outlived(&open) } else { watch.break_off() }
        }
        self.want_vow(which);
    }

    fn tried(&self) -> &[(Unit, i64)] {
        self.suspicion.as_ref().and_then(|suspicion| suspicion.trial.as_ref()).map_or(&[], |trial| &trial.tried)
    }

    /// Which partition's records are tried.
    fn tried_partition(&self) -> Option<Which> {
        self.tried().first().map(|(unit, _)| unit.which)
    }

    /// The offsets of those that are tried and still to be settled.
    fn open_on_trial(&self) -> Vec<i64> {
        self.tried().iter().filter(|(unit, _)| self.is_open(*unit)).map(|(_, offset)| *offset).collect()
    }

    /// Ends a trial whose record has gone its way. The answer is what the lane does while it can't go on. Nothing is in the
    /// outbox.
    pub(super) fn end_trial(&mut self, now: Now) -> Option<Step> {
        if self.draining {
            self.leave_trial();
            return None;
        }
        let Suspicion { vow, trial, claim, .. } = self.suspicion.as_mut()?;
        match trial.as_ref()?.stage {
            Stage::Named => None,
            Stage::Judged if self.outstanding > 0 => Some(Step::Idle),
            Stage::Judged => {
                let is_alone = claim.is_some();
                let (which, open) = (self.tried_partition()?, self.open_on_trial());
                self.watch(which)?.outlived(&open);
                let trial = &mut self.suspicion.as_mut()?.trial;
                if is_alone {
                    trial.iter_mut().for_each(|trial| trial.stage = Stage::Over);
                    self.want_vow(which);
                    return Some(Step::Idle);
                }
                *trial = None;
                None
            }
            Stage::Over if *vow != Vow::Kept => Some(Step::Idle),
            Stage::Over => {
                *trial = None;
                claim.take().into_iter().for_each(|claim| claim.end(now.instant));
                None
            }
        }
    }

    /// The lane is given up: nobody is kept waiting for it.
    fn leave_trial(&mut self) {
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

    /// What the lane was to be alone for is not begun any more.
    pub(super) fn leave_claim(&mut self) {
        if let Some(suspicion) = self.suspicion.as_mut().filter(|suspicion| suspicion.trial.is_none()) {
            suspicion.claim = None;
        }
    }

    pub(super) fn end_waiting(&mut self) {
        if let Some(suspicion) = &mut self.suspicion {
            (suspicion.trial, suspicion.claim, suspicion.waits) = (None, None, false);
        }
    }
}

fn is_prefix(tried: &[(Unit, i64)], ready: &[Unit]) -> bool {
    tried.len() <= ready.len() && tried.iter().zip(ready).all(|((tried, _), ready)| tried == ready)
}
