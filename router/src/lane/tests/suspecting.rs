//! Records that kill the process: they end as dead letters, after a bounded number of deaths, and no others do for it.

use pointsman_core::failure::FailureClass;
use pointsman_core::metadata::Metadata;
use pointsman_core::port::Commit;
use pointsman_core::record::TopicPartition;
use pointsman_core::unclean::Ends;

use super::by_hand::SKIP;
use super::for_each_seed;
use super::plugin::{Script, mixed, passing};
use super::world::{RECORDS, World, retry_topic};
use crate::alone::ALONE_TIME;
use crate::lanes::Verb;

/// A few records kill, some of them on their second run only.
fn killing(seed: u64, offset: i64, attempt: u32) -> Script {
    let kind = fastrand::Rng::with_seed(seed ^ offset.cast_unsigned()).fork().fork().u8(0..160);
    match (kind, attempt) {
        (0, _) | (1, 2..) => Script::Kill,
        (1, _) => Script::Retry,
        _ => mixed(seed, offset, attempt),
    }
}

fn one_kills(_: u64, offset: i64, _: u32) -> Script {
    if offset == 123 { Script::Kill } else { Script::Pass }
}

impl World {
    fn killers(&self) -> u64 {
        let is_killer = |offset: &i64| self.last_run(*offset).1 == Script::Kill;
        (0..RECORDS).filter(is_killer).count() as u64
    }

    /// Commits what the lane waits for: at once, later, in vain, or without its getting to know.
    pub(super) fn keep_vow(&mut self) {
        let luck = if self.calm { 0 } else { self.random.u8(..) };
        if luck >= 128 {
            return;
        }
        let Some(commits) = self.lane.vow(self.now) else { return };
        self.vows += 1;
        let fails = luck >= 120 || self.refuses_vows;
        if !fails || luck % 2 == 0 && !self.refuses_vows {
            self.take_commits(commits);
        }
        self.lane.confirmed(if fails { Err("simulated".into()) } else { Ok(()) }, self.now);
    }

    /// Somebody has looked at a record that the lane halts at, and it was guilty, too.
    fn skip_second_conviction(&mut self) {
        if self.lane.is_halted() {
            assert!(self.lane.halted_for().unwrap().reason.contains("the second in a row"));
            self.tell(SKIP).unwrap();
        }
    }

    fn committed_ends(&self, topic: &str) -> Ends {
        let commit = self.committed.get(topic);
        commit.map_or_else(Ends::default, |commit| Metadata::decode(&commit.metadata, commit.offset).unwrap().ends)
    }
}

fn simulate(seed: u64, ordering: &str) {
    let breaker =
        ["{}", "false", r#"{ initial = 0, max = 2, one_every = "10s", probe_max = "5s" }"#][seed as usize % 3];
    let mut world = World::with(seed, killing, breaker, ordering);
    let calm_from = world.random.u32(0..3_000);
    for round in 0.. {
        assert!(round < 200_000, "it does not come to an end");
        world.be_calm(round > calm_from);
        world.go_on();
        world.skip_second_conviction();
        if world.is_done() {
            break;
        }
    }
    world.check_fates();
    world.check_order(ordering);
    // Where the lane is handed over meanwhile, or others end the process, it takes a few more.
    let (deaths, killers) = (world.deaths, world.killers());
    assert!(deaths >= 5 * killers.min(1) && deaths <= 12 * killers, "{deaths} deaths for {killers} records that kill");
}

#[test]
fn records_that_kill_the_process_become_dead_letters_and_no_others_do() {
    for_each_seed(|seed| simulate(seed, "none"));
}

#[test]
fn records_that_kill_the_process_leave_the_order_of_the_others() {
    for_each_seed(|seed| simulate(seed, ["key", "partition"][seed as usize % 2]));
}

/// The two share a process, and a lane of the other's route is all that the first has done.
#[test]
fn a_lane_beside_one_that_kills_the_process_loses_no_record() {
    for_each_seed(|seed| {
        let killer = World::with(seed, killing, "false", "none");
        let beside = World::beside(&killer, seed + 1, mixed, "false", ["none", "key"][seed as usize % 2]);
        let mut worlds = [killer, beside];
        let calm_from = worlds[0].random.u32(0..3_000);
        for round in 0.. {
            assert!(round < 200_000, "it does not come to an end");
            for index in 0..worlds.len() {
                // They have one clock.
                worlds[index].now = [worlds[0].now, worlds[1].now].into_iter().max_by_key(|now| now.instant).unwrap();
                worlds[index].be_calm(round > calm_from);
                if worlds[index].go_on() {
                    worlds[1 - index].crash();
                }
                worlds[index].skip_second_conviction();
            }
            if worlds.iter_mut().all(World::is_done) {
                break;
            }
        }
        worlds.iter().for_each(World::check_fates);
    });
}

/// Two ends count, one is a trial, two are trials alone.
#[test]
fn it_takes_five_deaths_and_what_is_suspected_is_over_with_the_culprit() {
    let mut world = World::with(3, one_kills, "{}", "none");
    world.be_calm(true);
    let mut seen = Vec::new();
    while !world.is_done() {
        if world.go_on() {
            let Ends { count, trials, .. } = world.committed_ends("source");
            seen.push((count, trials.get(&123).copied().unwrap_or(0)));
        }
    }
    // Progress before it lets the count begin anew.
    seen.dedup();
    assert_eq!(seen, [(1, 0), (2, 0), (2, 1), (2, 2), (2, 3)]);
    assert_eq!(world.deaths, 5);
    assert_eq!(world.dead_letter(123).map(|letter| letter.class), Some(FailureClass::HostCrash));
    assert_eq!(world.committed_ends("source").trials.len(), 0);
    world.hand_over();
    assert!(world.committed_ends("source").is_none() && world.committed_ends(&retry_topic()).is_none());
}

/// It comes back to be ruled on, again and again, while no token can be had for it.
#[test]
fn a_guilty_record_that_waits_for_a_token_is_not_the_second_in_a_row() {
    for_each_seed(|seed| {
        let breaker = r#"{ initial = 0, max = 2, one_every = "10s", probe_max = "5s" }"#;
        let mut world = World::with(seed, one_kills, breaker, ["none", "key", "partition"][seed as usize % 3]);
        world.be_calm(true);
        world.go_on_until(|world| {
            assert!(!world.lane.is_halted(), "{}", world.lane.halted_for().unwrap().reason);
            world.is_done()
        });
        world.check_fates();
    });
}

fn two_kill(_: u64, offset: i64, _: u32) -> Script {
    if offset == 123 || offset == 124 { Script::Kill } else { Script::Pass }
}

impl World {
    /// Another process finds these ends committed.
    fn restart_after(&mut self, ends: Ends) {
        let metadata = Metadata { ends, ..Metadata::default() }.encode(0).text;
        let commit = Commit { partition: TopicPartition::new("source", 0), offset: 0, metadata };
        self.committed.insert("source".into(), commit);
        self.crash();
    }
}

/// What kills the process may be no record at all.
#[test]
fn the_second_record_in_a_row_is_not_condemned_but_looked_at() {
    let mut world = World::with(3, two_kill, "{}", "none");
    world.be_calm(true);
    world.go_on_until(|world| world.lane.is_halted());
    assert!(world.dead_letter(123).is_some() && world.dead_letter(124).is_none());
    assert!(world.lane.halted_for().unwrap().reason.contains("the second in a row"));
    // It may be mended: in this process or the next, it is run once more.
    let deaths = world.deaths;
    world.commit(false);
    world.crash();
    world.go_on_until(|world| world.deaths > deaths);
    world.go_on_until(|world| world.lane.is_halted());
    world.tell(Verb::Resume).unwrap();
    world.go_on_until(|world| world.deaths > deaths + 1);
    world.go_on_until(|world| world.lane.is_halted());
    world.tell(SKIP).unwrap();
    world.go_on_until(World::is_done);
    world.check_fates();
}

/// Two routers that are killed one after the other are no reason to crawl.
#[test]
fn a_lane_that_suspects_innocent_records_is_soon_past_them() {
    let mut world = World::with(3, passing, "{}", "none");
    world.be_calm(true);
    world.restart_after(Ends { count: Ends::MANY, ..Ends::default() });
    world.vows = 0;
    world.go_on_until(World::is_done);
    assert!((2..RECORDS / 10).contains(&world.vows.into()), "{} commits", world.vows);
    world.check_fates();
}

/// What it waits for may be away for long, and theirs is not.
#[test]
fn who_runs_a_record_alone_does_not_keep_the_others_waiting_for_long() {
    let mut world = World::with(3, passing, "{}", "none");
    world.be_calm(true);
    world.restart_after(Ends { count: 2, trials: [(0, 1)].into(), ..Ends::default() });
    world.go_on_until(|world| world.shared.alone.is_claimed());
    world.refuses_vows = true;
    let since = world.now.instant;
    world.go_on_until(|world| !world.shared.alone.is_claimed());
    assert!(world.now.instant - since <= 2 * ALONE_TIME);
    world.refuses_vows = false;
    world.go_on_until(World::is_done);
    world.check_fates();
}

#[test]
fn a_partition_that_is_lost_while_the_process_lives_counts_for_nothing() {
    let mut world = World::with(3, passing, "{}", "none");
    world.be_calm(true);
    world.sink.outage = world.topic("main");
    for _ in 0..6 {
        world.go_on_until(|world| world.lane.source.span() > 0);
        world.lane.outlive();
        world.crash();
    }
    assert_eq!(world.committed_ends("source").count, 1);
    assert!(!world.lane.source.watch.suspects_some());
}

/// An idle lane is no suspect.
#[test]
fn a_lane_that_has_run_nothing_is_not_counted() {
    let mut world = World::with(3, passing, "{}", "none");
    world.be_calm(true);
    for _ in 0..10 {
        world.crash();
        world.commit(true);
    }
    assert!(world.committed_ends("source").is_none());
    world.go_on_until(|world| !world.plugin.judged.is_empty());
    assert_eq!(world.committed_ends("source").count, 1);
    assert!(world.committed_ends(&retry_topic()).is_none());
}

/// I2 of what is committed before a record is run: it is not run unless that is there.
#[test]
fn nothing_is_run_before_it_is_committed_that_it_will_be() {
    let mut world = World::with(3, passing, "{}", "none");
    world.be_calm(true);
    world.refuses_vows = true;
    for _ in 0..200 {
        let step = world.round();
        world.pass_time(step);
    }
    assert_eq!(world.plugin.asked, 0);
    world.refuses_vows = false;
    world.go_on_until(World::is_done);
    world.check_fates();
}
