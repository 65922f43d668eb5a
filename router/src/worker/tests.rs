//! A worker with exactly-once delivery over a simulated log, by seed: full sinks, failed deliveries, refusals, transactions
//! that are undone or in doubt, revocations, lost partitions, crashes. After **each** commit, of every record either all is
//! there that its fate consists of, once, and its progress too, or nothing is.
#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used, reason = "a test fails by panicking")]

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use pointsman_core::delivery::Delivery;
use pointsman_core::port::{DeliveryError, ProduceError, Report, Sink, SinkFailed, Token, Undelivered};
use world::World;

use crate::route_test::simulated_log::SimulatedSink;
use crate::shared::Now;
use crate::worker::Worker;

mod sink;
mod world;

/// How many there are without `POINTSMAN_SEEDS`.
const SEEDS: u64 = 40;

fn simulate(seed: u64, ordering: &'static str) {
    let mut world = World::new(seed, ordering);
    let calm_from = if world.random.bool() { 3_000 } else { world.random.u32(0..1_000) };
    for round in 0.. {
        assert!(round < 200_000, "it does not come to an end");
        world.be_calm(round > calm_from);
        world.go_on();
        if round > calm_from && world.is_done() {
            break;
        }
    }
    world.check_fates();
}

fn for_each_seed(simulate: fn(u64)) {
    crate::seeds::for_each(SEEDS, simulate);
}

#[test]
fn each_transaction_holds_whole_fates_and_their_progress() {
    for_each_seed(|seed| simulate(seed, "none"));
}

#[test]
fn each_transaction_holds_whole_fates_in_the_order_of_keys() {
    for_each_seed(|seed| simulate(seed, "key"));
}

#[test]
fn each_transaction_holds_whole_fates_in_the_order_of_partitions() {
    for_each_seed(|seed| simulate(seed, "partition"));
}

/// Has something left to send at this time.
struct KeepingSink(Instant);

impl Sink for KeepingSink {
    fn capacity_bytes(&self) -> usize {
        1
    }

    fn produce(&mut self, _: &Delivery<'_>, _: Token) -> Result<usize, ProduceError> {
        Err(ProduceError::Full)
    }

    fn send_due(&mut self, now: Instant) -> Option<Instant> {
        (now < self.0).then_some(self.0)
    }

    fn serve(&mut self, _: &mut Vec<Report>) -> Result<(), SinkFailed> {
        Ok(())
    }
}

#[test]
fn a_worker_with_nothing_to_do_is_back_when_its_sink_has() {
    let now = Now { instant: Instant::now(), unix_ms: 1_000_000 };
    let at = now.instant + Duration::from_millis(7);
    let (_orders, mut worker) = world::standing_still(&world::empty_log(), Box::new(KeepingSink(at)), now, 0..0);
    assert_eq!(worker.round().unwrap(), Some(Some(at)));
}

/// Goes round until all lanes sleep.
fn until_all_sleep(worker: &mut Worker) {
    for _ in 0..1000 {
        if worker.round().unwrap().expect("it goes on").is_some() && worker.awake.is_empty() {
            return;
        }
    }
    panic!("awake: {:?}", worker.awake);
}

#[test]
fn a_lane_with_nothing_to_do_sleeps_until_something_comes_in() {
    let now = Now { instant: Instant::now(), unix_ms: 1_000_000 };
    let log = world::empty_log();
    let (_orders, mut worker) = world::standing_still(&log, Box::new(log.sink(world::topics())), now, 0..3);
    until_all_sleep(&mut worker);
    for partition in [1, 2, 0] {
        world::append(&log, world::passing(partition));
        let written = log.written("main").len();
        worker.step_lanes(now);
        assert_eq!(worker.awake.iter().collect::<Vec<_>>(), [&u32::try_from(partition).unwrap()]);
        // By the clock it is not time yet to look whether a wake-up was lost.
        until_all_sleep(&mut worker);
        assert_eq!(log.written("main").len(), written + 1);
    }
}

/// Refuses its first delivery.
struct RefusingSink(SimulatedSink, bool);

impl Sink for RefusingSink {
    fn capacity_bytes(&self) -> usize {
        self.0.capacity_bytes()
    }

    fn produce(&mut self, delivery: &Delivery<'_>, token: Token) -> Result<usize, ProduceError> {
        self.0.produce(delivery, token)
    }

    fn serve(&mut self, reports: &mut Vec<Report>) -> Result<(), SinkFailed> {
        self.0.serve(reports)?;
        if let Some(first) = reports.first_mut().filter(|_| !std::mem::replace(&mut self.1, true)) {
            let error = DeliveryError::Refused { code: "no".to_owned(), message: "not this one".to_owned() };
            first.result = Err(Box::new(Undelivered::from(error)));
        }
        Ok(())
    }
}

#[test]
fn a_lane_is_woken_by_what_its_outputs_refuse() {
    let now = Now { instant: Instant::now(), unix_ms: 1_000_000 };
    let log = world::empty_log();
    let sink = RefusingSink(log.sink(world::topics()), false);
    let (_orders, mut worker) = world::standing_still(&log, Box::new(sink), now, 0..1);
    world::append(&log, world::passing(0));
    until_all_sleep(&mut worker);
    assert_eq!(log.written("sim.r.dead-letter").len(), 1);
}

/// Takes a millisecond for each record, and notes what is asked of it.
struct SlowSink(SimulatedSink, Arc<Mutex<Now>>, Arc<Mutex<Vec<&'static str>>>);

impl Sink for SlowSink {
    fn capacity_bytes(&self) -> usize {
        self.0.capacity_bytes()
    }

    fn produce(&mut self, delivery: &Delivery<'_>, token: Token) -> Result<usize, ProduceError> {
        self.1.lock().unwrap().instant += Duration::from_millis(1);
        self.2.lock().unwrap().push("produce");
        self.0.produce(delivery, token)
    }

    fn send_due(&mut self, _: Instant) -> Option<Instant> {
        self.2.lock().unwrap().push("send what is due");
        None
    }

    fn serve(&mut self, reports: &mut Vec<Report>) -> Result<(), SinkFailed> {
        self.0.serve(reports)
    }
}

#[test]
fn what_a_sink_keeps_does_not_wait_for_the_turns_of_other_lanes() {
    let now = Now { instant: Instant::now(), unix_ms: 1_000_000 };
    let (log, clock, asked) = (world::empty_log(), Arc::new(Mutex::new(now)), Arc::default());
    let sink = SlowSink(log.sink(world::topics()), Arc::clone(&clock), Arc::clone(&asked));
    let (_orders, mut worker) = world::by_clock(&log, Box::new(sink), clock, 0..3);
    until_all_sleep(&mut worker);
    (0..3).for_each(|partition| world::append(&log, world::passing(partition)));
    asked.lock().unwrap().clear();
    until_all_sleep(&mut worker);
    let asked = asked.lock().unwrap();
    assert_eq!(asked.iter().filter(|asked| **asked == "produce").count(), 3);
    assert!(!asked.windows(2).any(|two| two == ["produce", "produce"]), "{asked:?}");
}
