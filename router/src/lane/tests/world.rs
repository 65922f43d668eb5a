//! A lane and all it meets.

use std::cell::{Ref, RefCell};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use pointsman_config::Plan;
use pointsman_config::plan::Ordering;
use pointsman_core::delivery::PartitionChoice;
use pointsman_core::metadata::Metadata;
use pointsman_core::policy::RetrySchedule;
use pointsman_core::port::{AssignedFeed, Assignment, Commit, Sink as _};
use pointsman_core::provenance::{Marker, Provenance, name};
use pointsman_core::record::{Headers, OwnedHeader, OwnedRecord, TopicPartition};

use super::broker::{TOPICS, TroubledSink};
use super::plugin::{OUTAGE, Script, ScriptedPlugin, mixed};
use super::zombies::Zombie;
use crate::alone::Alone;
use crate::counters::Counters;
use crate::credit::Credit;
use crate::lane::{Lane, Step, Tools};
use crate::route_test::simulated_log::SimulatedLog;
use crate::shared::{Limiters, Now, Shared};
use crate::traces::Tracer;
use crate::waking::Woken;

pub(super) const RECORDS: i64 = 400;
/// So little that lanes wait for credit at times.
pub(super) const QUEUE_BYTES: usize = 20_000;

const CONFIG: &str = r#"
version = 1
[router]
name = "sim"
[broker]
embedded = "."
[plugins.script]
component = "script.wasm"
[[routes]]
name = "r"
from = ["source"]
stages = ["script"]
origin_headers = false
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

/// Order by key, where a dead letter holds its key.
pub(super) const PARK_KEY: &str = "park-key";

/// The offset in the source, which every record has as its value.
pub(super) fn number(value: Option<&[u8]>) -> i64 {
    std::str::from_utf8(value.expect("no value is lost")).unwrap().parse().unwrap()
}

pub(super) struct World {
    pub(super) seed: u64,
    pub(super) random: fastrand::Rng,
    pub(super) shared: Arc<Shared>,
    pub(super) log: SimulatedLog,
    pub(super) committed: BTreeMap<Arc<str>, Commit>,
    pub(super) sink: TroubledSink,
    pub(super) credit: Credit,
    pub(super) plugin: ScriptedPlugin,
    pub(super) lane: Lane,
    pub(super) now: Now,
    pub(super) calm: bool,
    /// The lanes there have been, one after the other.
    pub(super) lanes: u64,
    /// Whether a router may be taken for dead that is not.
    pub(super) has_zombies: bool,
    /// One of those, if there is one.
    pub(super) zombie: Option<Zombie>,
    /// Records of the retry topic whose due times the plugin knows.
    due_times: usize,
    /// What was read of the retry topic so far, ...
    noted: RefCell<Vec<Provenance>>,
    /// ... and of the dead letters.
    letters: RefCell<Vec<Provenance>>,
    /// How often the process has died in a call.
    pub(super) deaths: u64,
    /// Something was dropped by hand, which the check of commits does not know of.
    pub(super) unchecked: bool,
    /// How long every step has taken when it is asked for it, instead of what is usual here.
    pub(super) slow: Option<Duration>,
    /// No commit that the lane waits for succeeds.
    pub(super) refuses_vows: bool,
    /// Commits that the lane has waited for.
    pub(super) vows: u32,
    /// Settled by a commit that was found right: topic and offset.
    pub(super) checked: HashSet<(Arc<str>, i64)>,
}

/// With the origin in headers of the outputs, and without, which lets records go on with the headers they have.
fn plan(seed: u64, breaker: &str, ordering: &str) -> Arc<Plan> {
    let config = CONFIG.replace("origin_headers = false", &format!("origin_headers = {}", seed.is_multiple_of(2)));
    let ordering = match ordering {
        PARK_KEY => "\"key\"\non_dead = \"park-key\"".into(),
        other => format!("\"{other}\""),
    };
    let config = config.replace("breaker = false", &format!("breaker = {breaker}\nordering = {ordering}"));
    let (plan, _) = pointsman_config::compile(&config, "simulation", &|_: &str| None).expect("compiles");
    Arc::new(plan)
}

/// The key of the record with this offset in the source: one of some, which may be empty or null.
pub(super) fn key_of(offset: i64) -> Option<Vec<u8>> {
    match offset * 7 % 11 {
        0 => None,
        1 => Some(Vec::new()),
        number => Some(vec![b'a' + u8::try_from(number / 3).unwrap()]),
    }
}

/// The header of the record with this offset in the source.
fn own_header(offset: i64) -> OwnedHeader {
    OwnedHeader::text("own", offset.to_string())
}

/// How often the record with this offset in the source was replayed, which another header of its tells.
fn replays(seed: u64, offset: i64) -> u32 {
    if offset % 5 == 2 && !is_plain(seed) { 7 } else { 0 }
}

/// Whether nothing is traced, and nothing was replayed: so most records can leave in runs.
fn is_plain(seed: u64) -> bool {
    seed % 4 == 1
}

pub(super) fn retry_topic() -> Arc<str> {
    "sim.r.source.retry".into()
}

/// What the lanes of a process share.
pub(super) fn process(seed: u64, plan: Arc<Plan>, log: &SimulatedLog, alone: Arc<Alone>) -> Arc<Shared> {
    Arc::new(Shared {
        // Half of the records are traced, which go on with a copy of their headers.
        tracer: (!is_plain(seed)).then(|| Tracer::of_a_test(0.5, 1_000_000).0),
        alone,
        samples: Arc::default(),
        baggage: Default::default(),
        digests: Vec::new(),
        limiters: Limiters::new(&plan),
        counters: Arc::new(Counters::new(&plan)),
        reader: log.reader(),
        plan,
    })
}

fn open_sink(shared: &Shared, log: &SimulatedLog, random: &mut fastrand::Rng) -> TroubledSink {
    let inner = log.sink(shared.plan.topics.iter().map(|topic| Arc::clone(&topic.name)).collect());
    TroubledSink {
        inner,
        random: random.fork(),
        waiting: Vec::new(),
        late: HashSet::new(),
        cut_off: None,
        calm: false,
        outage: None,
        refuses: None,
        in_order: shared.plan.routes[0].ordering != Ordering::None,
        broken: false,
        taken: HashMap::new(),
    }
}

fn open_lane(shared: &Arc<Shared>, log: &SimulatedLog, committed: &BTreeMap<Arc<str>, Commit>, now: Now) -> Lane {
    let assigned = |topic: Arc<str>| {
        let partition = TopicPartition::new(Arc::clone(&topic), 0);
        let (start, metadata) =
            committed.get(&topic).map_or((0, String::new()), |commit| (commit.offset, commit.metadata.clone()));
        AssignedFeed { feed: Box::new(log.feed(partition.clone(), start)), partition, start, metadata }
    };
    let retry = shared.plan.routes[0].sources[0].retry.map(|_| assigned(retry_topic()));
    let assignment = Assignment { source: assigned("source".into()), retry };
    let mut lane = Lane::new(&Woken::here().bell(1), Arc::clone(shared), 0, assignment, now.instant);
    if let Some(retry) = &mut lane.retry {
        // Parked records are few here. So they are moved as often as a thousand times more would be.
        retry.crowded_at = 40;
    }
    lane
}

impl World {
    /// With a bit of everything.
    pub(super) fn new(seed: u64) -> Self {
        Self::ordered(seed, "none")
    }

    /// The same, in an order.
    pub(super) fn ordered(seed: u64, ordering: &str) -> Self {
        // The default, none, and one that is out of tokens most of the time.
        let breakers =
            ["{}", "false", r#"{ initial = 0, max = 2, successes_for_one = 3, one_every = "10s", probe_max = "5s" }"#];
        Self::with(seed, mixed, breakers[seed as usize % breakers.len()], ordering)
    }

    pub(super) fn with(seed: u64, script: fn(u64, i64, u32) -> Script, breaker: &str, ordering: &str) -> Self {
        Self::in_process(Arc::default(), seed, script, breaker, ordering)
    }

    /// In the process of another.
    pub(super) fn beside(
        other: &Self,
        seed: u64,
        script: fn(u64, i64, u32) -> Script,
        breaker: &str,
        ordering: &str,
    ) -> Self {
        Self::in_process(Arc::clone(&other.shared.alone), seed, script, breaker, ordering)
    }

    fn in_process(
        alone: Arc<Alone>,
        seed: u64,
        script: fn(u64, i64, u32) -> Script,
        breaker: &str,
        ordering: &str,
    ) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let log = SimulatedLog::new(1 << 20);
        let shared = process(seed, plan(seed, breaker, ordering), &log, Arc::clone(&alone));
        log.create(&"source".into(), 1);
        for topic in TOPICS {
            log.create(&topic.into(), 1);
        }
        for number in 0..RECORDS {
            let record = OwnedRecord {
                offset: 0,
                timestamp_ms: number,
                key: key_of(number),
                value: Some(number.to_string().into_bytes()),
                headers: [own_header(number)]
                    .into_iter()
                    .chain(
                        (replays(seed, number) > 0)
                            .then(|| OwnedHeader::text(name::REPLAY_COUNT, replays(seed, number).to_string())),
                    )
                    .collect(),
            };
            log.append("source", PartitionChoice::Exactly(0), record).expect("small");
        }
        let plugin = ScriptedPlugin {
            seed,
            random: random.fork(),
            script,
            calm: false,
            alone,
            killed: false,
            outage: None,
            took: Duration::ZERO,
            asked: 0,
            latest_ms: 0,
            due: HashMap::new(),
            judged: HashSet::new(),
            has_retry_topic: ordering != "partition",
            over: HashSet::new(),
            is_zombie: false,
        };
        let sink = open_sink(&shared, &log, &mut random);
        let committed = BTreeMap::new();
        let now = Now { instant: Instant::now(), unix_ms: 1_000_000 };
        let lane = open_lane(&shared, &log, &committed, now);
        Self {
            seed,
            random,
            shared,
            log,
            committed,
            sink,
            credit: Credit::new(QUEUE_BYTES),
            plugin,
            lane,
            now,
            calm: false,
            lanes: 1,
            has_zombies: false,
            zombie: None,
            due_times: 0,
            noted: RefCell::default(),
            letters: RefCell::default(),
            deaths: 0,
            unchecked: false,
            slow: None,
            refuses_vows: false,
            vows: 0,
            checked: HashSet::new(),
        }
    }

    /// With or without troubles.
    pub(super) fn be_calm(&mut self, calm: bool) {
        (self.calm, self.sink.calm, self.plugin.calm) = (calm, calm, calm);
    }

    /// A round, some time, and now and then a commit, a crash or a revocation. The answer is whether the process has died.
    pub(super) fn go_on(&mut self) -> bool {
        let step = self.round();
        if std::mem::take(&mut self.plugin.killed) {
            self.deaths += 1;
            self.crash();
            return true;
        }
        self.pass_time(step);
        // Of what is run alone nobody else's end is told apart.
        let is_alone = self.shared.alone.enter().is_none();
        match self.random.u8(..) {
            0..24 => self.commit(false),
            24..26 if !self.calm && !is_alone => {
                self.crash();
                return true;
            }
            26..28 if !self.calm => self.hand_over(),
            // Somebody sets the clock back.
            28 if !self.calm => self.now.unix_ms -= self.random.i64(0..3_600_000),
            29..40 if !self.calm && !is_alone && self.has_zombies && self.zombie.is_none() => {
                self.crash();
                return true;
            }
            _ => {}
        }
        false
    }

    pub(super) fn round(&mut self) -> Step {
        if self.zombie.is_some() {
            self.zombie_round();
            // Whoever is new is not always the faster one.
            if self.random.bool() {
                return Step::Progress;
            }
        }
        self.read_due_times();
        // At times every call takes so long that the step is over with it, or the process has stood still for an hour.
        let slow = match self.random.u8(..) {
            0..64 => Duration::from_millis(150),
            64..72 if !self.calm && self.lane.out_of_time.is_none() => Duration::from_hours(1),
            72..76 if !self.calm => {
                self.log.fail_next_fetch();
                Duration::ZERO
            }
            _ => Duration::ZERO,
        };
        let slow = self.slow.unwrap_or(slow);
        let mut tools = Tools {
            sink: &mut self.sink,
            credit: &mut self.credit,
            plugins: &mut self.plugin,
            random: &mut self.random,
            now: self.now,
            elapsed: &|| slow,
            // No wake-up gets lost here: a lane that is not told of something stands still, and the test with it.
            look_anyway: false,
        };
        let step = self.lane.turn(&mut tools);
        // A worker sleeps then.
        let sleeps = |step| matches!(step, Step::Idle | Step::NotBefore(_));
        assert!(step != Step::Idle || sleeps(self.lane.turn(&mut tools)), "it was idle, and had more to do");
        let mut reports = Vec::new();
        self.sink.serve(&mut reports).expect("never fails");
        if !self.plugin.killed {
            self.lane.reported(reports.into_iter(), &mut self.credit, self.now);
            self.keep_vow();
        }
        step
    }

    /// What the retry topic says of when its records are due.
    fn read_due_times(&mut self) {
        let noted = self.read(&retry_topic(), &self.noted, |_, _| {});
        for parked in noted.iter().skip(self.due_times) {
            self.due_times += 1;
            if parked.marker.is_some() {
                continue;
            }
            let due = self.plugin.due.entry((parked.origin.offset, parked.attempts + 1)).or_insert(i64::MAX);
            // A repeated record is parked again; the earliest of its copies may run.
            *due = (*due).min(parked.due_ms.expect("parked"));
        }
    }

    pub(super) fn pass_time(&mut self, step: Step) {
        let wait = match step {
            Step::NotBefore(at) => at.saturating_duration_since(self.now.instant) + Duration::from_millis(1),
            _ if !self.calm && self.random.u8(..) < 8 => Duration::from_millis(self.random.u64(0..4_000)),
            _ => Duration::from_millis(self.random.u64(0..50)),
        };
        self.now.instant += wait;
        self.now.unix_ms += i64::try_from(wait.as_millis()).unwrap();
        self.plugin.latest_ms = self.plugin.latest_ms.max(self.now.unix_ms);
    }

    pub(super) fn commit(&mut self, again: bool) {
        let commits: Vec<Commit> = self.lane.commits(again).collect();
        self.take_commits(commits);
    }

    pub(super) fn take_commits(&mut self, commits: Vec<Commit>) {
        for commit in commits {
            if !self.unchecked {
                self.check_commit(&commit);
            }
            if commit.partition.topic == retry_topic() && self.random.bool() {
                // What is settled is removed from there, some time.
                self.log.trim(&commit.partition, commit.offset);
            }
            self.committed.insert(Arc::clone(&commit.partition.topic), commit);
        }
    }

    /// What was parked: offset in the retry topic and at the origin, and attempts.
    pub(super) fn parked(&self) -> Vec<(i64, i64, u32)> {
        let noted = self.noted();
        let parked = (0..).zip(noted.iter()).filter(|(_, noted)| noted.marker.is_none());
        parked.map(|(offset, parked)| (offset, parked.origin.offset, parked.attempts)).collect()
    }

    /// What the records of the retry topic say, by their offsets.
    fn noted(&self) -> Ref<'_, Vec<Provenance>> {
        self.read(&retry_topic(), &self.noted, |_, _| {})
    }

    /// The provenance of all that was written to a topic, each read once.
    fn read<'a>(
        &self,
        topic: &str,
        read: &'a RefCell<Vec<Provenance>>,
        check: impl Fn(&[OwnedHeader], &Provenance),
    ) -> Ref<'a, Vec<Provenance>> {
        let known = read.borrow().len();
        for written in self.log.written(topic).iter().skip(known) {
            let headers = &written.record.headers;
            let (originals, told) = Provenance::split(Headers::Owned(headers)).expect("ours");
            check(&headers[..originals], &told);
            read.borrow_mut().push(told);
        }
        read.borrow()
    }

    pub(super) fn outputs(&self, topic: &str, offset: i64) -> usize {
        let written = self.log.written(topic);
        let of_it = written.iter().filter(|written| number(written.record.value.as_deref()) == offset);
        of_it
            .inspect(|written| {
                assert_eq!(written.record.headers[0], own_header(offset));
                assert_eq!(Headers::Owned(&written.record.headers).last(name::REPLAY_COUNT), None);
                let traced = written.record.headers.iter().filter(|header| *header.name == *b"traceparent").count();
                assert_eq!(traced, usize::from(self.shared.is_traced_at("source", offset)));
            })
            .count()
    }

    /// As far as the retry topic has been read.
    pub(super) fn is_parked(&self, offset: i64, attempts: u32) -> bool {
        let is_it = |parked: &Provenance| parked.origin.offset == offset && parked.attempts == attempts;
        self.noted().iter().any(|noted| noted.marker.is_none() && is_it(noted))
    }

    pub(super) fn dead_letter(&self, offset: i64) -> Option<Provenance> {
        self.letters(offset).next()
    }

    /// The dead letters of a record.
    pub(super) fn letters(&self, offset: i64) -> impl Iterator<Item = Provenance> {
        let letters = self.all_letters();
        let of_it: Vec<_> = letters.iter().filter(|letter| letter.origin.offset == offset).cloned().collect();
        of_it.into_iter()
    }

    /// All dead letters, as they were written.
    pub(super) fn all_letters(&self) -> Ref<'_, Vec<Provenance>> {
        self.read("sim.r.dead-letter", &self.letters, |originals, letter| {
            let own = [own_header(letter.origin.offset)];
            assert_eq!(*originals, own[..usize::from(!letter.truncated)]);
            assert_eq!(letter.replay_count, replays(self.seed, letter.origin.offset));
        })
    }

    /// Whether the record became a dead letter without failing itself.
    pub(super) fn is_deferred(&self, offset: i64) -> bool {
        self.letters(offset).any(|letter| letter.deferred)
    }

    /// Releases a key that is or was held.
    pub(super) fn release_some_key(&mut self) {
        let noted = self.noted().clone();
        let holds = noted.into_iter().enumerate().filter(|(_, noted)| noted.marker == Some(Marker::Hold));
        let holds: Vec<(usize, Provenance)> = holds.collect();
        if holds.is_empty() {
            return;
        }
        let (at, hold) = &holds[self.random.usize(0..holds.len())];
        let headers = Provenance { marker: Some(Marker::Release), ..hold.clone() }.headers();
        let release = OwnedRecord { headers, ..(*self.log.written(&retry_topic())[*at].record).clone() };
        self.log.append(&retry_topic(), PartitionChoice::Exactly(0), release).expect("small");
    }

    /// Records that an outage has made dead letters.
    pub(super) fn lost_to_the_outage(&self) -> usize {
        (0..RECORDS).filter(|offset| self.dead_letter(*offset).is_some_and(|letter| letter.message == OUTAGE)).count()
    }

    pub(super) fn crash(&mut self) {
        // What the sink had queued and not written is gone; what was written stays.
        let sink = open_sink(&self.shared, &self.log, &mut self.random);
        self.lane.forgo(&mut self.credit);
        self.lanes += 1;
        let lane = open_lane(&self.shared, &self.log, &self.committed, self.now);
        let (lane, sink) = (std::mem::replace(&mut self.lane, lane), std::mem::replace(&mut self.sink, sink));
        if self.has_zombies && self.random.bool() {
            let mut zombie = self.zombie_of(lane, sink);
            if self.random.bool() {
                // What it delivers is never written; what it parks may be.
                zombie.sink.cut_off = Some("main");
            }
            self.zombie = Some(zombie);
        }
    }

    pub(super) fn hand_over(&mut self) {
        self.lane.drain();
        for _ in 0..self.random.usize(0..200) {
            let step = self.round();
            self.pass_time(step);
            if self.lane.is_drained() {
                break;
            }
        }
        self.commit(true);
        self.crash();
    }

    /// Everything is committed, and nothing waits but markers that hold a key.
    pub(super) fn is_done(&mut self) -> bool {
        let is_settled = |topic: &Arc<str>, offset: i64| {
            self.committed.get(topic).is_some_and(|commit| {
                let Metadata { settled, .. } = Metadata::decode(&commit.metadata, commit.offset).expect("ours");
                offset < commit.offset || settled.contains(offset)
            })
        };
        self.committed.get("source").is_some_and(|commit| commit.offset == RECORDS)
            && self.parked().iter().all(|(offset, ..)| is_settled(&retry_topic(), *offset))
    }

    /// The number of the last run of a record, and what it says.
    pub(super) fn last_run(&self, offset: i64) -> (u32, Script) {
        let RetrySchedule { max_attempts, .. } = self.shared.plan.routes[0].failure.retry.clone().expect("retries");
        let mut runs = (1..=max_attempts).map(|attempt| (attempt, (self.plugin.script)(self.seed, offset, attempt)));
        runs.find(|(_, script)| *script != Script::Retry).unwrap_or((max_attempts, Script::Retry))
    }
}
