//! The breaker: what an outage of a plugin costs, and how it ends.

use std::time::Duration;

use pointsman_core::delivery::TopicId;
use pointsman_core::failure::FailureClass;

use super::for_each_seed;
use super::plugin::{OUTAGE, Outage, Script, passing};
use super::world::{RECORDS, World};
use crate::counters::Fate;
use crate::lane::Step;

const INITIAL: u64 = 3;
const MAX: u64 = 5;
const BREAKER: &str = r#"{ initial = 3, max = 5, one_every = "1m", probe_initial = "1s", probe_max = "30s" }"#;
const PROBE_MAX: Duration = Duration::from_secs(30);

impl World {
    /// Nothing is under way that could still succeed.
    fn is_quiet(&self) -> bool {
        self.lane.outstanding == 0 && self.lane.outbox.is_empty()
    }

    /// Goes on until `over`.
    pub(super) fn go_on_until(&mut self, over: impl Fn(&mut Self) -> bool) {
        for round in 0.. {
            assert!(round < 30_000, "it does not come to an end");
            if over(self) {
                return;
            }
            self.go_on();
        }
    }

    pub(super) fn topic(&self, name: &str) -> Option<TopicId> {
        let index = self.shared.plan.topics.iter().position(|topic| *topic.name == *name)?;
        u32::try_from(index).ok().map(TopicId)
    }

    pub(super) fn delivered(&self) -> usize {
        self.log.written("main").len()
    }

    /// Goes on to the end without a crash, has a look after each round, and finds every record at its place.
    fn run_out(&mut self, mut look: impl FnMut(&Self)) {
        while !self.is_done() {
            let step = self.round();
            self.pass_time(step);
            self.commit(false);
            look(self);
        }
        self.check_fates();
    }

    /// Every record is where it has to be when all pass but those that the log refuses, and those that the outage took.
    fn check_all_delivered(&self) {
        for offset in 0..RECORDS {
            match self.dead_letter(offset) {
                None => assert!(self.outputs("main", offset) > 0, "{offset} is delivered"),
                Some(letter) if letter.message == OUTAGE => {}
                Some(_) => assert!(super::broker::is_refused(offset), "{offset} is no pill"),
            }
        }
    }
}

fn simulate(seed: u64) {
    let mut world = World::with(seed, passing, BREAKER, "none");
    let begin_at = world.random.usize(0..200);
    world.go_on_until(|world| world.delivered() >= begin_at && world.is_quiet());

    let (began, lanes) = (world.now.instant, world.lanes);
    world.plugin.outage = Some([Outage::Reject, Outage::Retry, Outage::Trap][seed as usize % 3]);
    let lasts = Duration::from_secs(world.random.u64(1..300));
    world.go_on_until(|world| world.now.instant >= began + lasts);
    let minutes = (world.now.instant - began).as_secs() / 60 + 1;
    let tokens = MAX + (world.lanes - lanes) * INITIAL + minutes;
    let lost = world.lost_to_the_outage() as u64;
    assert!(lost <= tokens, "{lost} dead letters, and {tokens} tokens");

    world.plugin.outage = None;
    world.be_calm(true);
    let (ended, delivered) = (world.now.instant, world.delivered());
    // The outage may have come when nothing was left to do.
    world.go_on_until(|world| world.delivered() > delivered || world.is_done());
    // Ten seconds more may have been left of a pause after trouble outside the records.
    let waited = world.now.instant - ended;
    assert!(waited <= PROBE_MAX + Duration::from_secs(11), "it goes on after {waited:?} only");
    world.go_on_until(World::is_done);
    world.check_all_delivered();
    assert_eq!(world.shared.counters.paused(0), 0);
}

/// I10.
#[test]
fn an_outage_costs_no_more_records_than_there_are_tokens_and_ends_by_itself() {
    for_each_seed(simulate);
}

/// A world in an outage that has paused its lane.
pub(super) fn paused(outage: Outage) -> World {
    let mut world = World::with(5, passing, BREAKER, "none");
    world.be_calm(true);
    world.plugin.outage = Some(outage);
    world.go_on_until(|world| world.shared.counters.paused(0) == 1);
    world
}

#[test]
fn a_lane_without_tokens_keeps_its_place_and_tries_one_record_at_growing_intervals() {
    let mut world = paused(Outage::Reject);
    assert_eq!(world.lost_to_the_outage() as u64, INITIAL);
    let watermark = world.lane.source_watermark();
    let mut probes = Vec::new();
    while probes.len() < 6 {
        let before = world.plugin.asked;
        let step = world.round();
        if world.plugin.asked > before {
            probes.push(world.now.instant);
            assert_eq!(world.plugin.asked, before + 1, "one record at a time");
        }
        world.pass_time(step);
    }
    let between: Vec<u64> = probes.windows(2).map(|probes| (probes[1] - probes[0]).as_secs()).collect();
    assert_eq!(between, [2, 4, 8, 16, 30]);
    // The minute is over, and the one token that came with it has paid for one of them.
    assert_eq!(world.lost_to_the_outage() as u64, INITIAL + 1);
    assert!(world.lane.source_watermark() <= watermark + 1);
}

/// Each pill waits for the token that comes with the minute, and the lane goes on in between.
#[test]
fn pills_of_a_lane_without_tokens_cost_a_minute_each_and_no_neighbour() {
    fn head_traps(_: u64, offset: i64, _: u32) -> Script {
        if offset < 2 { Script::Trap } else { Script::Pass }
    }
    const BREAKER: &str = r#"{ initial = 0, max = 1, successes_for_one = 1_000, one_every = "1m", probe_max = "30s" }"#;
    let mut world = World::with(5, head_traps, BREAKER, "none");
    world.be_calm(true);
    let began = world.now.instant;
    world.go_on_until(World::is_done);
    world.check_fates();
    let pills = world.shared.counters.fate(0, Fate::DeadLettered) as u32;
    let took = world.now.instant - began;
    let minute = Duration::from_secs(60);
    assert!(pills > 2 && took > minute * (pills - 1) && took < (minute + PROBE_MAX) * pills, "{pills} pills: {took:?}");
}

/// What has failed and is not settled runs at the next owner.
#[test]
fn a_paused_lane_can_be_drained_at_once_and_loses_nothing() {
    let mut world = paused(Outage::Trap);
    world.lane.drain();
    assert!(world.lane.is_drained() && world.round() == Step::Idle);
    world.commit(true);
    world.crash();
    assert_eq!(world.shared.counters.paused(0), 0, "nobody is paused");
    world.plugin.outage = None;
    world.go_on_until(World::is_done);
    world.check_all_delivered();
    assert_eq!(world.lost_to_the_outage() as u64, INITIAL);
}

/// Parking goes on: it loses nothing, and ends with the attempts of the first that were parked.
#[test]
fn where_all_records_are_retried_the_first_to_run_out_of_attempts_pause_the_lane() {
    let mut world = paused(Outage::Retry);
    let parked = world.shared.counters.fate(0, Fate::Parked);
    assert!(parked > 0);
    world.plugin.outage = None;
    world.go_on_until(World::is_done);
    world.check_all_delivered();
    assert_eq!(world.lost_to_the_outage() as u64, INITIAL);
}

/// What is beside the pills can't be delivered for a while; that they are pills can be told all the same, once there have been enough others.
#[test]
fn trouble_of_an_output_pauses_no_lane() {
    fn some_trap(_: u64, offset: i64, _: u32) -> Script {
        if offset < 4 { Script::Trap } else { Script::Pass }
    }
    let mut world = World::with(5, some_trap, BREAKER, "none");
    world.be_calm(true);
    world.sink.outage = world.topic("main");
    let began = world.now.instant;
    while world.now.instant < began + Duration::from_secs(40) {
        let step = world.round();
        world.pass_time(step);
        assert_eq!(world.shared.counters.paused(0), 0);
    }
    assert_eq!(world.shared.counters.fate(0, Fate::DeadLettered), 4);
    world.sink.outage = None;
    world.go_on_until(World::is_done);
    world.check_fates();
}

/// An output that refuses every record for itself is an outage: that the stages pass them earns nothing.
#[test]
fn records_that_their_output_refuses_cost_no_more_than_there_are_tokens() {
    let mut world = World::with(5, passing, &BREAKER.replace("1m", "30d"), "none");
    world.be_calm(true);
    world.sink.refuses = world.topic("main");
    world.go_on_until(|world| world.shared.counters.paused(0) == 1);
    let refused = |world: &World| {
        world.all_letters().iter().filter(|letter| letter.class == FailureClass::Refused).count() as u64
    };
    assert!(refused(&world) <= INITIAL, "{}", refused(&world));
    world.sink.refuses = None;
    world.go_on_until(World::is_done);
    world.check_all_delivered();
}

#[test]
fn a_dead_letter_is_paid_for_once_however_long_its_topic_takes_nothing() {
    let mut world = World::with(5, passing, &BREAKER.replace("1m", "30d"), "none");
    world.be_calm(true);
    world.plugin.outage = Some(Outage::Reject);
    world.sink.outage = world.topic("sim.r.dead-letter");
    for _ in 0..50 {
        let step = world.round();
        world.pass_time(step);
    }
    world.sink.outage = None;
    world.go_on_until(|world| world.shared.counters.paused(0) == 1);
    assert_eq!(world.lost_to_the_outage() as u64, INITIAL);
}

#[test]
fn a_drop_that_the_plan_makes_of_a_failure_earns_nothing() {
    let mut world = World::with(5, passing, "{ initial = 0 }\non = { trap = \"drop\" }", "none");
    world.be_calm(true);
    world.plugin.outage = Some(Outage::Trap);
    // (Not to commit: the world does not know of drops that are no success.)
    while world.shared.counters.fate(0, Fate::Dropped) < 20 {
        world.round();
    }
    world.plugin.outage = Some(Outage::Reject);
    while world.shared.counters.paused(0) == 0 {
        world.round();
    }
    assert_eq!(world.lost_to_the_outage(), 0);
}

#[test]
fn a_record_that_alone_takes_more_than_half_of_the_deadline_is_counted() {
    for (milliseconds, slow) in [(25, 0), (26, 1)] {
        let mut world = paused(Outage::Trap);
        world.plugin.outage = None;
        // The deadline is 50 ms. The probe is alone; of the batches after it nothing is known of each record.
        world.plugin.took = Duration::from_millis(milliseconds);
        world.go_on_until(|world| world.delivered() > 50);
        assert_eq!(world.shared.counters.slow_calls(0), slow);
    }
}

#[test]
fn a_record_that_runs_out_of_time_twice_in_a_row_is_guilty() {
    let mut world = World::with(6, passing, "false", "none");
    world.be_calm(true);
    // (Some are refused here.)
    let guilty = |world: &World| {
        let letters = world.all_letters();
        letters.iter().filter(|letter| letter.class == FailureClass::Deadline).count()
    };
    world.slow = Some(Duration::from_hours(1));
    world.go_on_until(|world| world.lane.out_of_time.is_some());
    assert_eq!(guilty(&world), 0);
    // The process has stood still, and goes on.
    world.slow = None;
    world.go_on_until(|world| world.delivered() > 10);
    assert_eq!((world.lane.out_of_time, guilty(&world)), (None, 0));
    world.slow = Some(Duration::from_hours(1));
    world.go_on_until(|world| guilty(world) == 1);
}

/// Every third record is a pill, and every batch has more of them than tokens are kept.
fn a_third_rejects(_: u64, offset: i64, _: u32) -> Script {
    if offset % 3 == 0 { Script::Reject } else { Script::Pass }
}

#[test]
fn pills_among_more_successes_pause_no_lane_however_large_the_batch() {
    let mut world = World::with(5, a_third_rejects, "{ initial = 2, max = 2 }", "none");
    world.be_calm(true);
    world.run_out(|world| assert_eq!(world.shared.counters.paused(0), 0));
}

/// Every batch has more of them than tokens are kept.
#[test]
fn pills_among_more_successes_hold_nothing_up() {
    fn some_reject(_: u64, offset: i64, _: u32) -> Script {
        if offset % 3 == 0 || super::broker::is_refused(offset) { Script::Reject } else { Script::Pass }
    }
    let mut world = World::with(5, some_reject, "{ initial = 2, max = 2 }", "none");
    world.be_calm(true);
    world.run_out(|world| assert!(!world.lane.waits_for_tokens(), "what passed before them has paid for them"));
}

#[test]
fn pills_that_have_paused_a_lane_do_not_pause_it_again_once_it_goes_on() {
    fn head_rejects(_: u64, offset: i64, _: u32) -> Script {
        if offset < 16 || offset % 4 == 0 { Script::Reject } else { Script::Pass }
    }
    let mut world = World::with(5, head_rejects, BREAKER, "none");
    world.be_calm(true);
    let (mut pauses, mut was_paused) = (0, false);
    world.run_out(|world| {
        let is_paused = world.shared.counters.paused(0) == 1;
        pauses += usize::from(is_paused && !was_paused);
        was_paused = is_paused;
    });
    assert!(pauses <= 1, "{pauses} pauses");
}
