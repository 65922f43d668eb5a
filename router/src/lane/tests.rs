//! Lanes over a simulated log and a simulated broker's troubles, by seed: full queues, failed and late reports, crashes,
//! revocations, missing instances, guests that trap, processes that stand still or go on with what is another's. Checked are
//! I1 (one fate), I2 (no commit passes a record without a durable fate), I5 (what failed does not leave) and I8 (nothing parked runs early).
#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used, reason = "a test fails by panicking")]

use std::time::Duration;

use pointsman_core::delivery::PartitionChoice;

use super::Step;
use crate::counters::Fate;
use plugin::{Script, mixed};
use world::{PARK_KEY, RECORDS, World, retry_topic};

mod broker;
mod by_hand;
mod checks;
mod ordering;
mod outage;
mod plugin;
mod suspecting;
mod watched;
mod world;
mod zombies;

/// How many there are without `POINTSMAN_SEEDS`.
const SEEDS: u64 = 60;

/// Whether somebody releases keys while all is under way.
fn releases_keys(seed: u64, ordering: &str) -> bool {
    ordering == PARK_KEY && seed % 4 >= 2
}

fn simulate(seed: u64, ordering: &str) -> World {
    let mut world = World::ordered(seed, ordering);
    world.has_zombies = seed % 2 == 1;
    // The troubles end some day, some while all is still under way, and then everything must.
    let calm_from = if world.random.bool() { 3_000 } else { world.random.u32(0..1_000) };
    for round in 0.. {
        assert!(round < 200_000, "it does not come to an end");
        world.be_calm(round > calm_from);
        world.go_on();
        if releases_keys(seed, ordering) && world.random.u8(..) < 4 {
            world.release_some_key();
        }
        if world.is_done() {
            break;
        }
    }
    world.check_fates();
    world.check_order(ordering);
    assert_eq!(world.lane.open_traces(), 0, "what has its fate is not noted any more");
    world
}

/// Runs a simulation for each seed.
fn for_each_seed(simulate: fn(u64)) {
    crate::seeds::for_each(SEEDS, simulate);
}

#[test]
fn every_record_gets_its_fate_whatever_happens() {
    for_each_seed(|seed| drop(simulate(seed, "none")));
}

/// I10: records that are to be parked while their topic takes nothing are parked when it does again, however late that is.
#[test]
fn an_outage_of_the_retry_topic_costs_nobody_a_retry() {
    const DAY: Duration = Duration::from_secs(25 * 3600);
    let mut world = World::new(7);
    world.be_calm(true);
    let advance = |world: &mut World, by: Duration| {
        world.now.instant += by;
        world.now.unix_ms += i64::try_from(by.as_millis()).unwrap();
    };
    // So far that what failed waits for its second run, ...
    while world.lane.source_watermark() < RECORDS {
        world.round();
        advance(&mut world, Duration::from_millis(1));
    }
    // ... which fails, for some, with the retry topic away.
    world.sink.outage = world.shared.plan.routes[0].sources[0].retry;
    for _ in 0..400 {
        world.round();
        advance(&mut world, Duration::from_millis(100));
    }
    let fails_again =
        |offset: &i64| mixed(world.seed, *offset, 2) == Script::Retry && world.plugin.judged.contains(&(*offset, 2));
    let twice: Vec<i64> = (0..RECORDS).filter(fails_again).collect();
    assert!(!twice.is_empty() && twice.iter().all(|offset| !world.is_parked(*offset, 2)));
    advance(&mut world, DAY);
    world.sink.outage = None;
    while !world.is_done() {
        let step = world.round();
        world.pass_time(step);
        world.commit(false);
    }
    assert!(
        twice.iter().all(|offset| world.is_parked(*offset, 2)),
        "parked, and not dead-lettered for the day that passed"
    );
}

/// A lane, with `in_flight = { records = 64 }` and batches of 16, as far as it comes while nothing goes to one topic. Some outputs are
/// refused, which makes dead letters of them: the first are those at 7, 48, 89 and 130.
fn cut_off(topic: &'static str) -> World {
    let mut world = World::with(1, |_, _, _| Script::Pass, "false", "none");
    world.be_calm(true);
    world.sink.cut_off = Some(topic);
    for _ in 0..1000 {
        world.go_on();
    }
    world
}

#[test]
fn a_lane_reads_on_past_a_slow_dead_letter_and_not_for_ever() {
    let world = cut_off("sim.r.dead-letter");
    assert_eq!((world.lane.source.watermark(), world.lane.source.next_offset()), (7, 272));
    assert_eq!(world.lane.source.in_flight_count(), 7);
}

#[test]
fn a_lane_whose_output_takes_nothing_reads_so_many_records() {
    let world = cut_off("main");
    assert_eq!((world.lane.source.watermark(), world.lane.source.next_offset()), (0, 80));
    assert_eq!(world.lane.source.in_flight_count(), 78);
}

/// A world whose retry topic is deleted and made anew once the record at offset 200 is parked there.
fn replaced(script: fn(u64, i64, u32) -> Script) -> World {
    let mut world = World::with(1, script, "false", "none");
    world.be_calm(true);
    world.go_on_until(|world| world.lane.retry.as_ref().unwrap().tail_at() == 1);
    world.log.replace(&retry_topic());
    world
}

/// Runs it until its lane halts.
fn halts_at_another_record(world: &mut World) {
    world.go_on_until(|world| world.lane.is_halted());
    let reason = world.lane.halted_for().unwrap().reason.clone();
    for words in [
        "sim.r.source.retry/0 has another record at offset 0 than before: the topic was deleted or emptied, with the records",
        "the first of them is offset 200 of source/0",
    ] {
        assert!(reason.contains(words), "{reason}");
    }
}

/// Whoever reads on at an offset that the new topic has already doesn't notice; whoever writes below it does.
#[test]
fn a_retry_topic_that_was_replaced_takes_nothing_for_good() {
    let mut world = replaced(|_, offset, attempt| match offset {
        200 | 232.. if attempt == 1 => Script::Retry,
        _ => Script::Pass,
    });
    halts_at_another_record(&mut world);
    assert!(!world.plugin.judged.contains(&(200, 2)));
    assert!(world.lane.source_watermark() <= 232, "what was parked in vain is not settled");
}

#[test]
fn another_record_is_not_taken_for_the_one_that_was_parked() {
    let mut world = replaced(|_, offset, attempt| match offset {
        200 if attempt == 1 => Script::Retry,
        _ => Script::Pass,
    });
    let foreign = (*world.log.written("source")[7].record).clone();
    world.log.append(&retry_topic(), PartitionChoice::Exactly(0), foreign).unwrap();
    halts_at_another_record(&mut world);
    assert!(!world.plugin.judged.contains(&(200, 2)));
}

/// Else what it has to do now would wait for the next look that is taken anyway.
#[test]
fn a_report_and_a_revocation_end_a_rest() {
    let mut world = World::new(1);
    world.lane.rest = Some(Step::Idle);
    world.lane.reported(std::iter::empty(), &mut world.credit, world.now);
    assert_eq!(world.lane.rest.replace(Step::Idle), None);
    world.lane.drain();
    assert_eq!(world.lane.rest, None);
}
