//! What must hold whatever happens.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use pointsman_config::plan::Ordering;
use pointsman_core::failure::FailureClass;
use pointsman_core::metadata::Metadata;
use pointsman_core::port::Commit;
use pointsman_core::settled::Settled;

use super::broker::is_refused;
use super::plugin::Script;
use super::world::{RECORDS, World, retry_topic};

impl World {
    /// I2 and I3.
    pub(super) fn check_commit(&mut self, commit: &Commit) {
        let before = self.committed.get(&commit.partition.topic).map_or(0, |before| before.offset);
        assert!(commit.offset >= before, "I3");
        let Metadata { settled, .. } = Metadata::decode(&commit.metadata, commit.offset).expect("ours");
        let is_settled = |offset: i64| offset < commit.offset || settled.contains(offset);
        // Of the copies of a parked record, one is enough: the one with the most attempts that is not settled.
        let parked = self.parked();
        let is_retry = commit.partition.topic == retry_topic();
        let mut open: HashMap<i64, u32> = HashMap::new();
        for (_, origin, attempts) in parked.iter().filter(|(offset, ..)| !is_retry || !is_settled(*offset)) {
            let most = open.entry(*origin).or_insert(*attempts);
            *most = (*most).max(*attempts);
        }
        // A zombie's run is as good as one that is under way here, which may be an earlier one.
        let is_enough = |most: u32, attempts: u32| most >= attempts || self.has_zombies;
        let is_open = |origin: i64, attempts: u32| open.get(&origin).is_some_and(|most| is_enough(*most, attempts));
        let deferred: HashSet<i64> =
            parked.iter().filter(|(.., attempts)| *attempts == 0).map(|(_, origin, _)| *origin).collect();
        let copies: HashMap<i64, (i64, u32)> =
            parked.iter().map(|(offset, origin, attempts)| (*offset, (*origin, *attempts))).collect();
        let source = self
            .committed
            .get("source")
            .map(|commit| (commit.offset, Metadata::decode(&commit.metadata, commit.offset).expect("ours").settled));
        let comes_again = |origin: i64| {
            let is_settled = |(next, beyond): &(i64, Settled)| origin < *next || beyond.contains(origin);
            is_retry && !source.as_ref().is_some_and(is_settled)
        };
        let in_place = self.shared.plan.routes[0].ordering == Ordering::Partition;
        let written = self.log.written(&commit.partition.topic);
        let topic = &commit.partition.topic;
        for offset in written.iter().map(|written| written.record.offset).filter(|offset| is_settled(*offset)) {
            if self.checked.contains(&(Arc::clone(topic), offset)) {
                continue;
            }
            let (origin, attempts) = if !is_retry {
                (offset, 0)
            } else if let Some(copy) = copies.get(&offset) {
                *copy
            } else {
                // A marker.
                continue;
            };
            let attempt = if in_place { self.last_run(offset).0 } else { attempts + 1 };
            // Of one that is run anew from the source, another router's copy is not needed.
            let still_parked = is_open(origin, attempts) || comes_again(origin);
            if !still_parked {
                self.checked.insert((Arc::clone(topic), offset));
            }
            assert!(
                still_parked || self.has_durable_fate(origin, attempt),
                "I2: {} passes {origin}, run {attempt}",
                commit.partition
            );
            // (A zombie may have it run again.)
            if !self.has_zombies && if is_retry { !still_parked } else { !deferred.contains(&offset) } {
                self.plugin.over.insert((origin, attempt));
            }
        }
    }

    /// Whether the run of this record has left what it must have left.
    fn has_durable_fate(&self, offset: i64, attempt: u32) -> bool {
        let refused = is_refused(offset);
        let by_its_script = match (self.plugin.script)(self.seed, offset, attempt) {
            Script::Drop => true,
            Script::Pass if !refused => self.outputs("main", offset) > 0,
            Script::Both if !refused => self.outputs("main", offset) > 0 && self.outputs("side", offset) > 0,
            _ => false,
        };
        // It may have met an outage in place of its script.
        by_its_script || self.is_parked(offset, attempt) || self.dead_letter(offset).is_some()
    }

    /// I1 and I5: each record is where its last run says, and nowhere else.
    pub(super) fn check_fates(&self) {
        for offset in 0..RECORDS {
            let (_, last) = self.last_run(offset);
            let refused = is_refused(offset);
            let (main, side, dead) = match last {
                Script::Drop => (false, false, None),
                Script::Pass | Script::Both if refused => (false, false, Some(FailureClass::Refused)),
                Script::Pass => (true, false, None),
                Script::Both => (true, true, None),
                Script::Reject => (false, false, Some(FailureClass::Reject)),
                Script::Retry => (false, false, Some(FailureClass::Retry)),
                Script::Trap => (false, false, Some(FailureClass::Trap)),
                Script::NoSuchPort => (false, false, Some(FailureClass::Unmatched)),
                Script::Kill => (false, false, Some(FailureClass::HostCrash)),
            };
            let letter = self.letters(offset).find(|letter| !letter.deferred).map(|letter| letter.class);
            let found = (self.outputs("main", offset) > 0, self.outputs("side", offset) > 0, letter);
            // Some of its outputs may have been written before a crash.
            if found.2.is_none() && self.is_deferred(offset) {
                continue;
            }
            assert_eq!(found, (main, side, dead), "the fate of {offset}, whose last run says {last:?}");
        }
    }
}
