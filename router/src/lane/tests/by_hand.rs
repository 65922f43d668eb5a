//! What somebody may have a lane do: to pause, to go on, and to skip the record that it has halted at.

use super::for_each_seed;
use super::outage::paused;
use super::plugin::{Outage, Script, mixed};
use super::world::{RECORDS, World};
use crate::counters::Fate;
use crate::lane::Step;
use crate::lanes::{Done, LaneReport, Refusal, State, Verb};

pub(super) const SKIP: Verb = Verb::Skip { drop: false };
const DROP: Verb = Verb::Skip { drop: true };
/// Every kind of record that is not parked, delivered or dropped halts the lane.
const HALTING: &str = "false\non = { reject = \"halt\", trap = \"halt\", unmatched = \"halt\", refused = \"halt\" }";
const DEAD_LETTERS: &str = "sim.r.dead-letter";

impl World {
    fn report(&self) -> LaneReport {
        self.lane.report(self.now)
    }

    pub(super) fn tell(&mut self, verb: Verb) -> Result<Done, Refusal> {
        self.lane.obey(verb, self.now)
    }

    /// With no more commits than the lane waits for.
    fn go_on_uncommitted_until(&mut self, over: impl Fn(&Self) -> bool) {
        self.unchecked = true;
        for round in 0.. {
            assert!(round < 30_000, "it does not come to an end");
            if over(self) {
                return;
            }
            let step = self.round();
            self.pass_time(step);
        }
    }

    /// Now and then somebody pauses the lane and has it go on, has a halted one try again, or skips a record.
    fn meddle(&mut self) {
        let luck = self.random.u8(..);
        match self.report().state {
            State::Halted => match self.tell(if luck < 64 { Verb::Resume } else { SKIP }) {
                Ok(Done::RunningAgain | Done::DeadLettering) => {}
                // The topic has refused it, and is mended.
                Err(Refusal::Refused { .. }) => {
                    self.sink.refuses = None;
                    assert_eq!(self.tell(Verb::Resume), Ok(Done::RunningAgain));
                }
                other => panic!("{other:?}"),
            },
            State::PausedByHand if luck < 128 => assert_eq!(self.tell(Verb::Resume), Ok(Done::Resumed)),
            State::Waiting if luck >= 224 => assert!(self.tell(Verb::Resume).is_ok()),
            State::Running | State::Waiting if luck < 16 => assert_eq!(self.tell(Verb::Pause), Ok(Done::Paused)),
            _ if !self.calm && luck > 250 => self.sink.refuses = self.topic(DEAD_LETTERS),
            _ => {}
        }
    }
}

fn simulate(seed: u64, ordering: &str) {
    let breaker =
        if seed.is_multiple_of(4) { HALTING.replacen("false", "{ initial = 2 }", 1) } else { HALTING.to_owned() };
    let mut world = World::with(seed, mixed, &breaker, ordering);
    let calm_from = world.random.u32(0..2_000);
    for round in 0.. {
        assert!(round < 400_000, "it does not come to an end");
        world.be_calm(round > calm_from);
        let (by_hand, asked) = (world.report().state == State::PausedByHand, world.plugin.asked);
        let lanes = world.lanes;
        world.go_on();
        assert!(!by_hand || world.lanes > lanes || world.plugin.asked == asked, "a lane that is paused judges nothing");
        if world.random.u8(..) < 64 {
            world.meddle();
        }
        if world.is_done() {
            break;
        }
    }
    world.check_fates();
    world.check_order(ordering);
}

/// What the lane halts at is dead-lettered as if the plan had said so, and nothing else is touched by it.
#[test]
fn skipped_records_are_dead_lettered_and_all_others_have_their_fates_in_order() {
    for_each_seed(|seed| simulate(seed, ["none", "key", "partition"][seed as usize % 3]));
}

fn some_are_rejected(_: u64, offset: i64, _: u32) -> Script {
    if offset % 10 == 3 { Script::Reject } else { Script::Pass }
}

/// A calm world whose lane has halted at the record at offset 3.
fn halted(routes: &str, ordering: &str) -> World {
    let mut world = World::with(1, some_are_rejected, routes, ordering);
    world.be_calm(true);
    world.go_on_until(|world| world.report().state == State::Halted);
    world
}

#[test]
fn what_is_behind_a_skipped_record_is_judged_once() {
    let mut world = halted(HALTING, "none");
    while !world.is_done() {
        match world.report().state {
            State::Halted => assert_eq!(world.tell(SKIP), Ok(Done::DeadLettering)),
            _ => drop(world.go_on()),
        }
    }
    assert_eq!(world.plugin.asked, usize::try_from(RECORDS).unwrap());
    world.check_fates();
}

#[test]
fn a_halted_lane_says_where_it_stands_and_why() {
    let mut world = halted(HALTING, "none");
    let report = world.report();
    let at = report.stands_at.unwrap();
    assert_eq!((&*at.topic, at.partition, at.offset), ("source", 0, 3));
    assert_eq!((&*at.class, &*at.code, &*at.message), ("reject", "r", "rejected"));
    assert_eq!(report.reason.unwrap(), "rejected (reject: r), and the plan says to halt at that");
    assert_eq!(report.since.unwrap(), "1970-01-01T00:16:40Z");
    // What is before it is settled, what came with it waits.
    world.go_on_until(|world| world.lane.is_drained());
    let position = world.report().position.unwrap();
    assert_eq!((position.watermark, position.next_offset, position.unreported), (3, 16, 0));
    assert_eq!(position.in_flight, 13);
    assert_eq!(world.tell(Verb::Pause), Ok(Done::Halted));
}

#[test]
fn a_skipped_record_keeps_what_it_failed_with() {
    let mut world = halted(HALTING, "none");
    world.tell(SKIP).unwrap();
    world.go_on_until(|world| world.dead_letter(3).is_some());
    let letter = world.dead_letter(3).unwrap();
    assert_eq!((letter.class.name(), &*letter.code, &*letter.message), ("reject", "r", "rejected"));
    assert_eq!((letter.attempts, letter.truncated), (1, false));
}

/// Once it is mended, the record is like any other.
#[test]
fn a_record_that_the_lane_has_halted_at_runs_again_on_demand() {
    for ordering in ["none", "key", "partition"] {
        let mut world = halted(HALTING, ordering);
        assert_eq!(world.tell(Verb::Resume), Ok(Done::RunningAgain));
        world.go_on_until(|world| world.report().state == State::Halted);
        assert_eq!(world.report().stands_at.unwrap().offset, 3, "it fails again, {ordering}");
        world.plugin.script = |_, _, _| Script::Pass;
        world.tell(Verb::Resume).unwrap();
        while !world.is_done() {
            // The log refuses some, at which it halts too.
            match world.report().state {
                State::Halted => drop(world.tell(SKIP).unwrap()),
                _ => drop(world.go_on()),
            }
        }
        assert_eq!(world.outputs("main", 3), 1);
        world.check_fates();
        world.check_order(ordering);
    }
}

#[test]
fn without_dead_letters_a_record_is_skipped_only_where_it_may_be_dropped() {
    let mut world = halted("false\ndead_letter = false", "none");
    assert_eq!(world.tell(SKIP), Err(Refusal::NoDeadLetters));
    assert_eq!(world.report().state, State::Halted);
    assert_eq!(world.tell(DROP), Ok(Done::Dropped));
    world.go_on_uncommitted_until(|world| world.report().state == State::Halted);
    assert!(world.report().stands_at.unwrap().offset > 3);
    assert_eq!((world.shared.counters.fate(0, Fate::Dropped), world.outputs("main", 3)), (1, 0));
}

#[test]
fn a_record_that_the_dead_letter_topic_refuses_is_dropped_on_demand_or_tried_again() {
    for ordering in ["none", "key", "partition"] {
        let mut world = World::with(1, some_are_rejected, "false", ordering);
        world.be_calm(true);
        world.sink.refuses = world.topic(DEAD_LETTERS);
        world.go_on_until(|world| world.report().state == State::Halted);
        let at = world.report().stands_at.unwrap();
        assert!(matches!(world.tell(SKIP), Err(Refusal::Refused { .. })));
        assert_eq!(world.tell(DROP), Ok(Done::Dropped));
        assert_eq!(world.shared.counters.fate(0, Fate::Dropped), 1);
        world.go_on_uncommitted_until(|world| world.report().state == State::Halted);
        let next = world.report().stands_at.unwrap().offset;
        assert_ne!(next, at.offset);
        // The topic takes everything again, and is given all of the record.
        world.sink.refuses = None;
        assert_eq!(world.tell(Verb::Resume), Ok(Done::RunningAgain));
        let half = RECORDS.unsigned_abs() / 2;
        let is_enough = |world: &World| world.shared.counters.fate(0, Fate::Delivered) > half;
        while !is_enough(&world) {
            world.go_on_uncommitted_until(|world| is_enough(world) || world.report().state == State::Halted);
            // At one that was refused before.
            if world.report().state == State::Halted {
                assert_eq!(world.tell(Verb::Resume), Ok(Done::RunningAgain));
            }
        }
        assert!(!world.dead_letter(next).unwrap().truncated);
        assert_eq!(world.dead_letter(at.offset), None);
    }
}

/// The simulated log has lost what is to be read next.
#[test]
fn what_is_no_record_can_neither_be_skipped_nor_run_again() {
    let mut world = World::new(1);
    world.lane.halt("the offset is out of range; reset it".into(), world.now);
    for verb in [SKIP, DROP, Verb::Resume] {
        let reason = "the offset is out of range; reset it".to_owned();
        assert_eq!(world.tell(verb), Err(Refusal::NotAtRecord { reason }));
    }
    let report = world.report();
    assert_eq!((report.state, report.stands_at), (State::Halted, None));
}

#[test]
fn a_pause_by_hand_keeps_the_place_and_what_is_under_way_is_delivered_and_committed() {
    let mut world = World::with(3, |_, _, _| Script::Pass, "false", "none");
    world.be_calm(true);
    world.go_on_until(|world| world.delivered() > 50);
    assert_eq!(world.tell(Verb::Pause), Ok(Done::Paused));
    let asked = world.plugin.asked;
    world.go_on_until(|world| world.lane.is_drained());
    assert_eq!(world.round(), Step::Idle);
    world.commit(false);
    assert_eq!((world.plugin.asked, world.report().state), (asked, State::PausedByHand));
    let watermark = world.report().position.unwrap().watermark;
    assert_eq!(world.committed["source"].offset, watermark);
    assert_eq!(world.tell(Verb::Resume), Ok(Done::Resumed));
    assert_eq!(world.tell(Verb::Resume), Ok(Done::Running));
    assert_eq!(world.tell(SKIP), Err(Refusal::NotHalted));
    world.go_on_until(World::is_done);
    world.check_fates();
}

#[test]
fn a_lane_that_its_breaker_has_paused_probes_at_once_on_demand() {
    let mut world = paused(Outage::Reject);
    let report = world.report();
    assert_eq!(report.state, State::PausedByBreaker);
    assert!(report.reason.unwrap().contains("outage (reject: sim)") && report.since.is_some());
    // The waits grow to half a minute.
    for _ in 0..20 {
        let step = world.round();
        world.pass_time(step);
    }
    world.round();
    let asked = world.plugin.asked;
    assert_eq!(world.round(), world.round(), "it waits for the next probe");
    assert_eq!(world.tell(Verb::Resume), Ok(Done::Probing));
    world.round();
    assert_eq!((world.plugin.asked, world.report().state), (asked + 1, State::PausedByBreaker), "one record, in vain");
    world.plugin.outage = None;
    world.tell(Verb::Resume).unwrap();
    for _ in 0..3 {
        world.round();
    }
    assert_eq!(world.report().state, State::Running);
}

#[test]
fn a_lane_that_is_given_up_takes_no_orders() {
    let mut world = World::new(1);
    world.lane.drain();
    for verb in [Verb::Pause, Verb::Resume, SKIP] {
        assert_eq!(world.tell(verb), Err(Refusal::Draining));
    }
    assert_eq!(world.report().state, State::Draining);
}

/// It may be over, and its lane is not to sleep on.
#[test]
fn trouble_is_told_and_a_lane_tries_again_at_once_on_demand() {
    let mut world = World::with(2, |_, _, _| Script::Pass, "false", "none");
    world.be_calm(true);
    world.sink.outage = world.topic("main");
    world.go_on_until(|world| world.report().state == State::Waiting && world.report().since.is_some());
    let (first, since) = (world.report(), world.report().since);
    assert!(first.reason.unwrap().contains("simulated outage"));
    for _ in 0..20 {
        let step = world.round();
        world.pass_time(step);
    }
    world.round();
    assert_eq!(world.report().since, since, "it is the same trouble");
    world.sink.outage = None;
    assert_eq!(world.tell(Verb::Resume), Ok(Done::Resumed));
    assert_ne!(world.report().state, State::Waiting);
    let (now, again) = (world.now.instant, &world.lane.again);
    assert!(!again.is_empty() && again.iter().all(|again| again.at <= now), "others would pass what has failed");
}
