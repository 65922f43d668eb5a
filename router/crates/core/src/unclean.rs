//! Records that kill the process, not just their instance: who is suspected, and when it is proved.
//!
//! Beside each commit stands how many assignments of the partition have ended uncleanly, one after the other, without
//! anything being settled ([`Ends`]). From [`Ends::MANY`] on, what may have been in flight is *tried*: a group of records at a
//! time ([`Watch::MOST_AT_ONCE`]), each named in a commit before it is run. Where the process ends during a trial, the next
//! assignment tries each record of that group *alone*, while nothing else is run in the process; where it ends twice during that,
//! the record is guilty. So an innocent record that shares its process with a guilty one is named at times, and is never condemned
//! for it; nor is one for a single end from outside.

use std::collections::BTreeMap;

use crate::tracker::CommitPoint;

/// How assignments of a partition have ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ends {
    /// How many have ended uncleanly, one after the other, without anything being settled; at most [`MANY`](Self::MANY),
    /// those during a trial not counted.
    pub count: u8,
    /// Records by their offsets, and how often the process has ended during their trials, 1 to [`GUILTY`](Self::GUILTY); at most
    /// [`MOST_TRIALS`](Self::MOST_TRIALS) of them.
    pub trials: BTreeMap<i64, u8>,
    /// A record was found guilty, and none has been run since and gone its way: if a second one is guilty too, it may be neither.
    pub convicted: bool,
}

impl Ends {
    /// From so many unclean ends on records are tried.
    pub const MANY: u8 = 2;
    /// After so many ends during its own trials a record is guilty. In all but the first it was alone.
    pub const GUILTY: u8 = 3;
    /// So many trials are remembered: a group's, and some of records that were not settled after theirs.
    pub const MOST_TRIALS: usize = Watch::MOST_AT_ONCE + 20;

    /// Whether there is nothing to be told.
    #[must_use]
    pub fn is_none(&self) -> bool {
        self.count == 0 && self.trials.is_empty() && !self.convicted
    }
}

/// How a record is to be run that is suspected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Charge {
    /// Together with others, and beside what other lanes run.
    Tried,
    /// While nothing else is run in the process.
    TriedAlone,
    /// Not any more: it has killed the process.
    Guilty,
}

/// Watches one partition from assignment to revocation.
#[derive(Debug)]
pub struct Watch {
    /// How the assignments before this one have ended.
    before: Ends,
    /// Whether an unclean end of this one would count.
    counted: bool,
    /// Whether anything was settled in this one.
    progressed: bool,
    /// Records that are to be tried still.
    suspects: usize,
    /// Those that are tried, by their offsets, with the ends during their trials, if this one ends so too.
    trial: BTreeMap<i64, u8>,
}

impl Watch {
    /// So many are tried at once: about the square root of how many are suspected by default. So it takes as many commits to
    /// come past them all, with nothing wrong, as records are tried alone to find the culprit in its group.
    pub const MOST_AT_ONCE: usize = 100;

    /// Goes on from what was committed. `in_flight` is how many records may have been in flight when an assignment ended.
    #[must_use]
    pub fn resume(before: Ends, in_flight: usize) -> Self {
        let suspects = if before.count >= Ends::MANY || !before.trials.is_empty() { in_flight } else { 0 };
        Self { before, counted: false, progressed: false, suspects, trial: BTreeMap::new() }
    }

    /// Whether records are to be tried before others are run.
    #[must_use]
    pub fn suspects_some(&self) -> bool {
        self.suspects > 0
    }

    /// Whether an unclean end from now on would count. If not, [`count`](Self::count) and a commit come before the next record
    /// is run that is not tried.
    #[must_use]
    pub fn is_counted(&self) -> bool {
        self.counted
    }

    /// Has this assignment counted. To be committed before the next record is run.
    pub fn count(&mut self) {
        self.counted = true;
    }

    /// Something was settled, and this is where to start again.
    pub fn progress(&mut self, point: &CommitPoint) {
        self.progressed = true;
        self.before.trials.retain(|offset, _| *offset >= point.offset && !point.settled.contains(*offset));
        if !self.suspects_some() {
            self.before = Ends { convicted: self.before.convicted, ..Ends::default() };
        }
    }

    /// How the record at `offset` is to be run.
    #[must_use]
    pub fn charge(&self, offset: i64) -> Charge {
        match self.before.trials.get(&offset) {
            None | Some(0) => Charge::Tried,
            Some(ends) if *ends < Ends::GUILTY => Charge::TriedAlone,
            Some(_) => Charge::Guilty,
        }
    }

    /// The records at these offsets are to be tried. To be committed before they are run.
    pub fn begin(&mut self, offsets: impl IntoIterator<Item = i64>) {
        let before = |offset| self.before.trials.get(&offset).copied().unwrap_or(0);
        self.trial = offsets.into_iter().map(|offset| (offset, before(offset) + 1)).collect();
    }

    /// The process has outlived the trial. Those that are still `open` will be run again, and what was known of them before
    /// holds: some kill on a later run only.
    pub fn outlived(&mut self, open: &[i64]) {
        let tried = std::mem::take(&mut self.trial);
        if tried.is_empty() {
            return;
        }
        for offset in tried.keys().filter(|offset| !open.contains(offset)) {
            self.before.trials.remove(offset);
        }
        let named = usize::from(!self.before.trials.is_empty());
        self.suspects = self.suspects.saturating_sub(tried.len()).max(self.suspects.min(named));
        if self.suspects == 0 {
            self.acquit();
        }
    }

    /// No record was run after all: what was known of them holds.
    pub fn break_off(&mut self) {
        self.trial.clear();
    }

    /// The guilty record at `offset` has its fate: it explains the end that the others of its group were named for. Where no
    /// other has ended the process alone, the culprit is found.
    pub fn condemned(&mut self, offset: i64) {
        self.before.trials.retain(|other, ends| *other != offset && *ends > 1);
        self.before.convicted = true;
        if self.before.trials.is_empty() {
            self.acquit();
        }
    }

    /// Whether a record was found guilty already, and none has gone its way since.
    #[must_use]
    pub fn has_convicted(&self) -> bool {
        self.before.convicted
    }

    /// A record was run, and has gone its way.
    #[inline]
    pub fn succeeded(&mut self) {
        self.before.convicted = false;
    }

    /// The guilty record at `offset` is to be tried alone once more, when it is its turn again: somebody may have mended what
    /// it does.
    pub fn pardon(&mut self, offset: i64) {
        self.before.trials.insert(offset, Ends::GUILTY - 1);
    }

    /// No more than `count` records that may have been in flight are still to be run.
    pub fn limit_suspects(&mut self, count: usize) {
        let suspected = self.suspects_some();
        self.suspects = self.suspects.min(count.max(self.before.trials.len()));
        if suspected && !self.suspects_some() {
            self.acquit();
        }
    }

    /// Nothing is suspected any more.
    fn acquit(&mut self) {
        let before = Ends { convicted: self.before.convicted, ..Ends::default() };
        *self = Self { before, counted: false, progressed: true, suspects: 0, trial: std::mem::take(&mut self.trial) };
    }

    /// What is to be committed: how it stands if this assignment ends uncleanly from now on, or if it ends now in good order,
    /// which is `released`.
    ///
    /// A clean end does not count, and takes nothing back that others have left, unless something was settled: an
    /// assignment that was taken away before it got anywhere has not shown that what is there can be run.
    #[must_use]
    pub fn ends(&self, released: bool) -> Ends {
        let mut ends = self.before.clone();
        if released {
            if self.progressed && ends.trials.is_empty() {
                ends.count = 0;
            }
            return ends;
        }
        if self.suspects_some() {
            ends.count = Ends::MANY;
        } else if self.counted {
            ends.count = (ends.count + 1).min(Ends::MANY);
        }
        ends.trials.extend(&self.trial);
        while ends.trials.len() > Ends::MOST_TRIALS {
            let others = ends.trials.iter().filter(|(offset, _)| !self.trial.contains_key(offset));
            let Some((&least, _)) = others.min_by_key(|(_, during)| **during) else { break };
            ends.trials.remove(&least);
        }
        ends
    }
}

#[cfg(test)]
mod tests {
    use super::{Charge, Ends, Watch};
    use crate::settled::Settled;
    use crate::tracker::CommitPoint;

    const RANGE: usize = 3;

    fn after(ends: Ends) -> Watch {
        Watch::resume(ends, RANGE)
    }

    /// The process ends each time that the record at 7 is run.
    #[test]
    fn a_record_is_guilty_after_five_ends() {
        let mut ends = Ends::default();
        for count in 1..=2 {
            let mut watch = after(ends);
            assert!(!watch.suspects_some() && !watch.is_counted());
            watch.count();
            ends = watch.ends(false);
            assert_eq!((ends.count, ends.trials.len()), (count, 0));
        }
        for charge in [Charge::Tried, Charge::TriedAlone, Charge::TriedAlone] {
            let mut watch = after(ends);
            assert!(watch.suspects_some());
            assert_eq!(watch.charge(7), charge);
            watch.begin([7]);
            ends = watch.ends(false);
        }
        let mut watch = after(ends);
        assert_eq!((watch.charge(7), watch.charge(6)), (Charge::Guilty, Charge::Tried));
        watch.condemned(7);
        assert!(!watch.suspects_some());
        assert_eq!(watch.ends(false), Ends { convicted: true, ..Ends::default() });
        watch.succeeded();
        assert!(watch.ends(false).is_none());
    }

    #[test]
    fn a_pardoned_record_is_tried_alone_once_more() {
        let mut watch = after(Ends { count: 2, trials: [(7, Ends::GUILTY)].into(), ..Ends::default() });
        watch.pardon(7);
        assert_eq!(watch.charge(7), Charge::TriedAlone);
        watch.begin([7]);
        assert_eq!(watch.ends(false).trials[&7], Ends::GUILTY);
    }

    #[test]
    fn where_fewer_records_are_left_than_were_in_flight_fewer_are_tried() {
        let mut watch = after(Ends { count: 2, trials: [(7, 1)].into(), ..Ends::default() });
        watch.limit_suspects(0);
        assert!(watch.suspects_some(), "7 is still to be tried");
        watch.begin([7]);
        watch.outlived(&[]);
        assert!(!watch.suspects_some());
        let mut watch = after(Ends { count: 2, ..Ends::default() });
        watch.limit_suspects(0);
        assert!(!watch.suspects_some() && watch.ends(false).is_none());
    }

    #[test]
    fn what_outlives_its_trial_is_not_named_any_more_and_after_the_last_nothing_is_suspected() {
        let mut watch = after(Ends { count: 2, trials: [(7, 1)].into(), ..Ends::default() });
        for offset in [7, 8, 9] {
            watch.begin([offset]);
            assert!(watch.ends(false).trials.contains_key(&offset));
            watch.outlived(&[]);
            assert!(watch.ends(false).trials.is_empty());
        }
        assert!(!watch.suspects_some() && !watch.is_counted() && watch.ends(false).is_none());
    }

    #[test]
    fn a_group_is_tried_together_and_then_each_of_it_alone() {
        let mut watch = after(Ends { count: 2, ..Ends::default() });
        watch.begin([5, 6, 7]);
        let mut watch = after(watch.ends(false));
        for offset in [5, 6] {
            assert_eq!(watch.charge(offset), Charge::TriedAlone);
            watch.begin([offset]);
            watch.outlived(&[]);
        }
        assert_eq!(watch.charge(5), Charge::Tried);
        watch.begin([7]);
        assert_eq!(watch.ends(false).trials, [(7, 2)].into());
        let mut watch = after(Ends { count: 2, trials: [(7, 3), (8, 1), (9, 1)].into(), ..Ends::default() });
        watch.condemned(7);
        assert!(!watch.suspects_some(), "what is suspected is over with the culprit");
    }

    #[test]
    fn what_outlives_its_trial_and_is_to_run_again_is_still_suspected() {
        let mut watch = after(Ends { count: 2, trials: [(7, 1)].into(), ..Ends::default() });
        for _ in 0..2 * RANGE {
            assert_eq!(watch.charge(7), Charge::TriedAlone);
            watch.begin([7]);
            watch.outlived(&[7]);
        }
        watch.progress(&CommitPoint { offset: 8, settled: Settled::default() });
        watch.begin([8]);
        watch.outlived(&[]);
        assert!(watch.ends(false).is_none());
    }

    #[test]
    fn what_is_settled_lets_the_count_begin_anew() {
        let mut watch = after(Ends { count: 1, ..Ends::default() });
        watch.count();
        assert_eq!(watch.ends(false).count, 2);
        watch.progress(&CommitPoint { offset: 5, settled: Settled::default() });
        assert_eq!((watch.ends(false).count, watch.ends(true).count), (1, 0));
    }

    #[test]
    fn a_clean_end_does_not_count_and_clears_only_where_something_was_settled() {
        let mut watch = after(Ends { count: 1, ..Ends::default() });
        watch.count();
        assert_eq!(watch.ends(true).count, 1);
        watch.progress(&CommitPoint { offset: 5, settled: Settled::default() });
        assert_eq!(watch.ends(true).count, 0);
        let named = Ends { count: 2, trials: [(7, 1)].into(), ..Ends::default() };
        let mut watch = after(named.clone());
        watch.begin([8]);
        watch.progress(&CommitPoint { offset: 5, settled: Settled::default() });
        assert_eq!(watch.ends(true), named, "7 was not tried");
    }

    #[test]
    fn trials_are_remembered_up_to_a_limit() {
        let mut ends = Ends { count: 2, ..Ends::default() };
        for group in 0..3 {
            let mut watch = after(ends);
            let offsets = (group..).step_by(3).take(Watch::MOST_AT_ONCE);
            watch.begin(offsets.clone());
            ends = watch.ends(false);
            assert!(
                offsets.clone().all(|offset| ends.trials.contains_key(&offset))
                    && ends.trials.len() <= Ends::MOST_TRIALS
            );
        }
    }
}
