//! A worker and all it meets.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::mpsc::{Receiver, Sender, channel, sync_channel};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use pointsman_config::Plan;
use pointsman_config::plan::TransactionPlan;
use pointsman_core::delivery::PartitionChoice;
use pointsman_core::event::Event;
use pointsman_core::metadata::Metadata;
use pointsman_core::port::{AssignedFeed, Assignment, CallError, Commit, PluginHost, PluginId, Revocation, Sink};
use pointsman_core::record::{OwnedRecord, TopicPartition};
use pointsman_core::unclean::Ends;
use pointsman_core::verdict::{Output, Patch, Verdict, Verdicts};

use super::sink::{PromptGroup, SharedGroup, TroubledSink, is_refused};
use crate::counters::Counters;
use crate::route_test::simulated_log::SimulatedLog;
use crate::shared::{Limiters, Now, Shared};
use crate::worker::{Clock, Equipment, GroupCommitter, Order, OutputSink, Worker};

const PARTITIONS: i32 = 3;
/// Of each partition.
const RECORDS: i64 = 120;
const ATTEMPTS: u32 = 3;

const CONFIG: &str = r#"
version = 1
[router]
name = "sim"
commit_interval = "100ms"
[broker]
embedded = "."
[plugins.script]
component = "script.wasm"
[[routes]]
name = "r"
from = ["source"]
stages = ["script"]
breaker = false
batch = { records = 16 }
in_flight = { records = 64 }
retry = { initial = "1s", max = "8s", max_attempts = 3 }
[[routes.outputs]]
port = "side"
topic = "side"
[[routes.outputs]]
topic = "main"
"#;

/// The number of a record, which is its value.
pub(super) fn number(value: Option<&[u8]>) -> i64 {
    std::str::from_utf8(value.expect("no value is lost")).unwrap().parse().unwrap()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Script {
    Pass,
    Drop,
    Both,
    Reject,
    Retry,
}

fn script(seed: u64, number: i64, attempt: u32) -> Script {
    let mut random = fastrand::Rng::with_seed(seed ^ (number.cast_unsigned() << 8) ^ u64::from(attempt)).fork().fork();
    match random.u8(0..100) {
        0..8 => Script::Drop,
        8..30 => Script::Both,
        30..36 => Script::Reject,
        36..60 => Script::Retry,
        _ => Script::Pass,
    }
}

struct ScriptedPlugin {
    seed: u64,
}

impl PluginHost for ScriptedPlugin {
    fn call(&mut self, _: PluginId, events: &[Event<'_>], _: i64) -> Result<Verdicts, CallError> {
        let unchanged = |port: Option<&str>| Output {
            port: port.map(Into::into),
            key: Patch::Keep,
            value: Patch::Keep,
            headers: None,
            timestamp_ms: None,
        };
        Ok(events
            .iter()
            .map(|event| match script(self.seed, number(event.value), event.attempt) {
                Script::Pass => Verdict::Pass,
                Script::Drop => Verdict::Drop { reason: "scripted".into() },
                Script::Both => Verdict::Emit(vec![unchanged(None), unchanged(Some("side"))]),
                Script::Reject => Verdict::Reject { code: "r".into(), message: "rejected".into() },
                Script::Retry => Verdict::Retry { reason: "later".into(), delay_ms: None },
            })
            .collect())
    }

    fn take_counts(&mut self, _: &mut dyn FnMut(PluginId, &str, u64)) {}
}

/// A worker with these lanes that commits apart, over this log, at a time that stands still.
pub(super) fn standing_still(
    log: &SimulatedLog,
    sink: Box<dyn Sink>,
    now: Now,
    lanes: Range<i32>,
) -> (Sender<Order>, Worker) {
    by_clock(log, sink, Arc::new(Mutex::new(now)), lanes)
}

/// The same with a time that somebody else tells.
pub(super) fn by_clock(
    log: &SimulatedLog,
    sink: Box<dyn Sink>,
    clock: Arc<Mutex<Now>>,
    lanes: Range<i32>,
) -> (Sender<Order>, Worker) {
    let equipment = Equipment { sink: OutputSink::Apart(sink), plugins: Box::new(ScriptedPlugin { seed: 0 }) };
    let (orders, received) = channel();
    let clock = Clock::Simulated(clock);
    let committer: GroupCommitter = Arc::new(OnceLock::new());
    assert!(committer.set(Arc::new(PromptGroup)).is_ok());
    let feed = |partition: TopicPartition| {
        let feed = Box::new(log.feed(partition.clone(), 0));
        AssignedFeed { feed, partition, start: 0, metadata: String::new() }
    };
    for partition in lanes {
        let assignment = Box::new(Assignment { source: feed(source(partition)), retry: Some(feed(retry(partition))) });
        orders.send(Order::Adopt { route: 0, assignment, committer: Arc::clone(&committer) }).unwrap();
    }
    (orders, Worker::new(0, shared(&plan(0, "none"), log), received, equipment, clock))
}

/// The topics that a sink is opened for.
pub(super) fn topics() -> Vec<Arc<str>> {
    plan(0, "none").topics.iter().map(|topic| Arc::clone(&topic.name)).collect()
}

/// A partition that is being given up.
struct Revoking {
    partition: TopicPartition,
    answer: Receiver<Vec<Commit>>,
}

pub(super) struct World {
    seed: u64,
    pub(super) random: fastrand::Rng,
    plan: Arc<Plan>,
    log: SimulatedLog,
    group: SharedGroup,
    committer: GroupCommitter,
    calm: Arc<Mutex<bool>>,
    clock: Arc<Mutex<Now>>,
    shared: Arc<Shared>,
    orders: Sender<Order>,
    worker: Worker,
    /// Those that the worker was given.
    assigned: BTreeSet<TopicPartition>,
    revoking: Vec<Revoking>,
    /// Commits that were looked at.
    checked: u64,
}

fn plan(seed: u64, ordering: &str) -> Arc<Plan> {
    let origin_headers = seed.is_multiple_of(2);
    let config = CONFIG.replace(
        "breaker = false",
        &format!("breaker = false\norigin_headers = {origin_headers}\nordering = \"{ordering}\""),
    );
    let (plan, _) = pointsman_config::compile(&config, "simulation", &|_: &str| None).expect("compiles");
    Arc::new(plan)
}

fn shared(plan: &Arc<Plan>, log: &SimulatedLog) -> Arc<Shared> {
    Arc::new(Shared {
        tracer: None,
        alone: Arc::default(),
        samples: Arc::default(),
        baggage: Default::default(),
        digests: Vec::new(),
        limiters: Limiters::new(plan),
        counters: Arc::new(Counters::new(plan)),
        reader: log.reader(),
        plan: Arc::clone(plan),
    })
}

/// With all topics.
pub(super) fn empty_log() -> SimulatedLog {
    let log = SimulatedLog::new(1 << 20);
    for topic in ["source", "main", "side", "sim.r.dead-letter", "sim.r.source.retry"] {
        log.create(&topic.into(), PARTITIONS as u32);
    }
    log
}

/// Writes a record to the source.
pub(super) fn append(log: &SimulatedLog, number: i64) {
    let record = OwnedRecord {
        offset: 0,
        timestamp_ms: number,
        key: (number % 7 > 0).then(|| vec![b'a' + u8::try_from(number % 11).unwrap()]),
        value: Some(number.to_string().into_bytes()),
        headers: Vec::new(),
    };
    let partition = i32::try_from(number % i64::from(PARTITIONS)).unwrap();
    log.append("source", PartitionChoice::Exactly(partition), record).expect("small");
}

/// A number whose record is passed on at its first run, of this partition.
pub(super) fn passing(partition: i32) -> i64 {
    let passes =
        |number: &i64| number % i64::from(PARTITIONS) == i64::from(partition) && script(0, *number, 1) == Script::Pass;
    (0..).find(passes).expect("most are")
}

fn source(partition: i32) -> TopicPartition {
    TopicPartition::new("source", partition)
}

fn retry(partition: i32) -> TopicPartition {
    TopicPartition::new("sim.r.source.retry", partition)
}

impl World {
    pub(super) fn new(seed: u64, ordering: &'static str) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let plan = plan(seed, ordering);
        let log = empty_log();
        (0..RECORDS * i64::from(PARTITIONS)).for_each(|number| append(&log, number));
        let clock = Arc::new(Mutex::new(Now { instant: Instant::now(), unix_ms: 1_000_000 }));
        let group = SharedGroup::default();
        let committer: GroupCommitter = Arc::new(OnceLock::new());
        assert!(committer.set(Arc::new(group.clone())).is_ok());
        let calm = Arc::new(Mutex::new(false));
        let shared = shared(&plan, &log);
        let (orders, worker) = Self::start(&shared, &log, &group, &calm, &clock, &mut random, seed);
        let mut world = Self {
            seed,
            random,
            plan,
            log,
            group,
            committer,
            calm,
            clock,
            shared,
            orders,
            worker,
            assigned: BTreeSet::new(),
            revoking: Vec::new(),
            checked: 0,
        };
        (0..PARTITIONS).for_each(|partition| world.assign(&source(partition)));
        world
    }

    fn start(
        shared: &Arc<Shared>,
        log: &SimulatedLog,
        group: &SharedGroup,
        calm: &Arc<Mutex<bool>>,
        clock: &Arc<Mutex<Now>>,
        random: &mut fastrand::Rng,
        seed: u64,
    ) -> (Sender<Order>, Worker) {
        let (orders, received) = channel();
        let sink = TroubledSink {
            log: log.clone(),
            group: group.clone(),
            topics: shared.plan.topics.iter().map(|topic| Arc::clone(&topic.name)).collect(),
            random: random.fork(),
            calm: Arc::clone(calm),
            queue: Vec::new(),
            reports: Vec::new(),
            ending: None,
        };
        let limits = TransactionPlan { records: random.usize(1..100), ..TransactionPlan::default() };
        let equipment = Equipment {
            sink: OutputSink::Together(Box::new(sink), limits),
            plugins: Box::new(ScriptedPlugin { seed }),
        };
        let mut worker = Worker::new(0, Arc::clone(shared), received, equipment, Clock::Simulated(Arc::clone(clock)));
        worker.random = random.fork();
        (orders, worker)
    }

    fn assign(&mut self, partition: &TopicPartition) {
        let feed = |partition: TopicPartition| {
            let group = self.group.lock();
            let (start, metadata) =
                group.committed.get(&partition).map_or((0, String::new()), |c| (c.offset, c.metadata.clone()));
            AssignedFeed { feed: Box::new(self.log.feed(partition.clone(), start)), partition, start, metadata }
        };
        let has_retry = self.plan.routes[0].sources[0].retry.is_some();
        let assignment =
            Assignment { source: feed(partition.clone()), retry: has_retry.then(|| feed(retry(partition.partition))) };
        self.assigned.insert(partition.clone());
        // A backend does what it was told of a lane before it assigns its partition again.
        self.group.lock().rewinds.remove(partition);
        let order = Order::Adopt { route: 0, assignment: Box::new(assignment), committer: Arc::clone(&self.committer) };
        self.orders.send(order).unwrap();
    }

    fn revoke(&mut self, partition: &TopicPartition, why: Revocation, until: Instant) {
        self.assigned.remove(partition);
        let (answer, answers) = sync_channel(1);
        let (partitions, committer) = (vec![partition.clone()], Arc::clone(&self.committer));
        self.orders.send(Order::Release { partitions, committer, why, until, answer }).unwrap();
        self.revoking.push(Revoking { partition: partition.clone(), answer: answers });
    }

    pub(super) fn be_calm(&mut self, calm: bool) {
        *self.calm.lock().unwrap() = calm;
    }

    fn is_calm(&self) -> bool {
        *self.calm.lock().unwrap()
    }

    fn now(&self) -> Now {
        *self.clock.lock().unwrap()
    }

    fn pass_time(&self, until: Option<Instant>) {
        let mut now = self.clock.lock().unwrap();
        let by = until.map_or(Duration::ZERO, |until| until.saturating_duration_since(now.instant));
        let by = by.max(Duration::from_millis(1));
        now.instant += by;
        now.unix_ms += i64::try_from(by.as_millis()).unwrap();
    }

    pub(super) fn go_on(&mut self) {
        let rest = self.worker.round().expect("the sink goes on").expect("the worker goes on");
        self.pass_time(rest);
        if self.group.lock().commits > self.checked {
            self.checked = self.group.lock().commits;
            self.check();
        }
        self.answer_revocations();
        self.rewind();
        let is_alone = self.shared.alone.enter().is_none();
        if self.is_calm() {
            self.group.lock().is_rebalancing = false;
            return;
        }
        match self.random.u16(..1000) {
            0..4 if !is_alone && !self.is_suspected() => self.crash(),
            4..10 => {
                if let Some(partition) = self.any_assigned() {
                    let until = self.now().instant + Duration::from_millis(self.random.u64(0..300));
                    self.revoke(&partition, Revocation::Revoked, until);
                }
            }
            10..14 => {
                if let Some(partition) = self.any_assigned() {
                    self.group.lock().generation += 1;
                    self.revoke(&partition, Revocation::Lost, self.now().instant);
                }
            }
            14..18 => self.group.lock().is_rebalancing = true,
            18..40 => self.group.lock().is_rebalancing = false,
            _ => {}
        }
    }

    fn any_assigned(&mut self) -> Option<TopicPartition> {
        let at = self.random.usize(0..self.assigned.len().max(1));
        self.assigned.iter().nth(at).cloned()
    }

    fn answer_revocations(&mut self) {
        for Revoking { partition, answer } in std::mem::take(&mut self.revoking) {
            match answer.try_recv() {
                Ok(commits) => {
                    assert_eq!(commits, [], "what is settled is committed already");
                    self.group.lock().generation += 1;
                    self.assign(&partition);
                }
                Err(_) => self.revoking.push(Revoking { partition, answer }),
            }
        }
    }

    /// As a backend does it: now and then only after a while.
    fn rewind(&mut self) {
        if self.random.u8(..) < 128 {
            return;
        }
        let rewinds = std::mem::take(&mut self.group.lock().rewinds);
        for partition in rewinds.into_iter().filter(|partition| self.assigned.contains(partition)).collect::<Vec<_>>() {
            let (answer, _) = sync_channel(1);
            let (partitions, committer) = (vec![partition.clone()], Arc::clone(&self.committer));
            let until = self.now().instant;
            let order = Order::Release { partitions, committer, why: Revocation::Lost, until, answer };
            self.orders.send(order).unwrap();
            self.assign(&partition);
        }
    }

    fn crash(&mut self) {
        self.group.lock().generation += 1;
        self.group.lock().rewinds.clear();
        self.revoking.clear();
        self.shared = shared(&self.plan, &self.log);
        let (orders, worker) =
            Self::start(&self.shared, &self.log, &self.group, &self.calm, &self.clock, &mut self.random, self.seed);
        (self.orders, self.worker) = (orders, worker);
        (0..PARTITIONS).for_each(|partition| self.assign(&source(partition)));
    }

    /// Whether one more end during its trial would find a record guilty: it then became a dead letter, by chance.
    fn is_suspected(&self) -> bool {
        let group = self.group.lock();
        let mut ends = group
            .committed
            .values()
            .map(|commit| Metadata::decode(&commit.metadata, commit.offset).expect("ours").ends);
        ends.any(|ends| ends.trials.values().any(|during| *during + 1 >= Ends::GUILTY))
    }

    fn is_settled(&self, partition: &TopicPartition, offset: i64) -> bool {
        self.group.lock().committed.get(partition).is_some_and(|commit| {
            let Metadata { settled, .. } = Metadata::decode(&commit.metadata, commit.offset).expect("ours");
            offset < commit.offset || settled.contains(offset)
        })
    }

    /// How often each record is in a topic.
    fn found(&self, topic: &str) -> BTreeMap<i64, u32> {
        let mut found = BTreeMap::new();
        for written in self.log.written(topic) {
            *found.entry(number(written.record.value.as_deref())).or_default() += 1;
        }
        found
    }

    /// Parked copies of each record: how many, and how many of them are settled.
    fn parked(&self) -> BTreeMap<i64, (u32, u32)> {
        let mut parked: BTreeMap<i64, (u32, u32)> = BTreeMap::new();
        for written in self.log.written("sim.r.source.retry") {
            let copies = parked.entry(number(written.record.value.as_deref())).or_default();
            copies.0 += 1;
            copies.1 += u32::from(self.is_settled(&retry(written.partition), written.record.offset));
        }
        parked
    }

    /// What the last run of a record comes to: how often it is in main, side, and the dead letters.
    fn fate(&self, number: i64) -> [u32; 3] {
        let runs = (1..=ATTEMPTS).map(|attempt| script(self.seed, number, attempt));
        match runs.clone().find(|script| *script != Script::Retry).unwrap_or(Script::Retry) {
            Script::Both if is_refused("side", number) => [0, 0, 1],
            Script::Both => [1, 1, 0],
            Script::Pass => [1, 0, 0],
            Script::Drop => [0, 0, 0],
            Script::Reject | Script::Retry => [0, 0, 1],
        }
    }

    /// Of every record either all is there that its fate consists of, once, or nothing.
    fn check(&self) {
        let [main, side, dead] = ["main", "side", "sim.r.dead-letter"].map(|topic| self.found(topic));
        let parked = self.parked();
        let mut settled = BTreeMap::new();
        for written in self.log.written("source") {
            let is_settled = self.is_settled(&source(written.partition), written.record.offset);
            settled.insert(number(written.record.value.as_deref()), is_settled);
        }
        for (number, is_settled) in settled {
            let of = |found: &BTreeMap<i64, u32>| found.get(&number).copied().unwrap_or(0);
            let out = [of(&main), of(&side), of(&dead)];
            let (copies, over) = parked.get(&number).copied().unwrap_or((0, 0));
            let wanted = match (is_settled, copies - over) {
                (true, 0) => self.fate(number),
                (true, 1) => [0, 0, 0],
                (false, 0) if copies == 0 => [0, 0, 0],
                (_, waiting) => panic!("{number}: {copies} copies, {waiting} of them wait; settled: {is_settled}"),
            };
            assert_eq!(out, wanted, "{number}: in main, side, dead letters; settled: {is_settled}, copies: {copies}");
        }
    }

    pub(super) fn is_done(&self) -> bool {
        let all = (0..PARTITIONS).all(|partition| {
            self.group.lock().committed.get(&source(partition)).is_some_and(|commit| commit.offset == RECORDS)
        });
        all && self.parked().values().all(|(copies, over)| copies == over)
    }

    pub(super) fn check_fates(&self) {
        self.check();
        assert!(self.group.lock().undone > 0, "something was to go wrong");
    }
}
