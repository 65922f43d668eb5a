//! A worker with exactly-once delivery over a simulated log, by seed: full sinks, failed deliveries, refusals, transactions
//! that are undone or in doubt, revocations, lost partitions, crashes. After **each** commit, of every record either all is
//! there that its fate consists of, once, and its progress too, or nothing is.
#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used, reason = "a test fails by panicking")]

use std::time::{Duration, Instant};

use pointsman_core::delivery::Delivery;
use pointsman_core::port::{ProduceError, Report, Sink, SinkFailed, Token};
use world::World;

use crate::shared::Now;

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
    let (_orders, mut worker) = World::idle(Box::new(KeepingSink(at)), now);
    assert_eq!(worker.round().unwrap(), Some(Some(at)));
}
