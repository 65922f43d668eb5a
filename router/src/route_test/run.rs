//! Runs a case on the real path: lanes over a simulated log, one thread, a clock that stands still or jumps.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use pointsman_config::plan::{Plan, RoutePlan};
use pointsman_core::delivery::PartitionChoice;
use pointsman_core::failure::FailureClass;
use pointsman_core::metadata::Metadata;
use pointsman_core::port::{AssignedFeed, Assignment, Report, Sink as _};
use pointsman_core::provenance::{Blame, Origin, Provenance};
use pointsman_core::record::{OwnedRecord, TopicPartition};
use pointsman_core::settled::Settled;
use pointsman_core::tracker::{Admission, CommitPoint, Tracker};

use super::Components;
use super::case::{Advance, Case, Given};
use super::hands::CasePlugins;
use super::simulated_log::{Refusal, SimulatedLog, SimulatedSink, Written};
use crate::counters::Counters;
use crate::credit::Credit;
use crate::lane::{Lane, Step, Told, Tools, lane_of};
use crate::shared::{Limiters, Now, Shared};
use crate::waking::Woken;

/// A case that is not at rest after so many rounds goes in circles.
const ROUNDS_MAX: usize = 1_000_000;

/// Where a record was written: topic and partition, and offset.
pub(super) type Place = (TopicPartition, i64);

/// What a run left behind.
#[derive(Debug)]
pub(super) struct Outcome {
    /// Where each given record is.
    pub(super) places: Vec<Place>,
    /// What each record came to, run by run.
    pub(super) told: BTreeMap<Place, Vec<Told>>,
    /// The records of each topic that the router writes to, in the order of writing.
    pub(super) written: BTreeMap<Arc<str>, Vec<Written>>,
    /// Verdicts by hand that no event was given.
    pub(super) unused: Vec<String>,
    /// Why the case was given up.
    pub(super) trouble: Option<String>,
}

pub(super) fn run(case: &Case, plan: &Arc<Plan>, components: &Components) -> Outcome {
    let route = &plan.routes[case.route];
    let log = SimulatedLog::new(plan.router.max_record_bytes);
    log.set_now(case.now_ms);
    for topic in topics(plan, route) {
        log.create(topic, case.partitions);
    }
    let mut outcome = Outcome {
        places: Vec::new(),
        told: BTreeMap::new(),
        written: BTreeMap::new(),
        unused: Vec::new(),
        trouble: None,
    };
    let parked = match give(case, plan, &log, &mut outcome.places) {
        Ok(parked) => parked,
        Err(Refusal { code, message }) => {
            outcome.trouble = Some(format!("a record can't be given: {message} ({code})"));
            return outcome;
        }
    };
    let mut plugins = CasePlugins::new(case, plan, components);
    let lanes = lanes(case, plan, components, &log, &parked);
    let mut stage = Stage::new(case, plan, log, lanes);
    outcome.trouble = stage.play(&mut plugins, case.advance).err();
    for told in stage.lanes.iter_mut().flat_map(Lane::take_told) {
        outcome.told.entry((told.origin.clone(), told.offset)).or_default().push(told);
    }
    outcome.unused = plugins.unused();
    outcome.written =
        plan.topics.iter().map(|topic| (Arc::clone(&topic.name), stage.log.written(&topic.name))).collect();
    outcome
}

fn topics<'a>(plan: &'a Plan, route: &'a RoutePlan) -> impl Iterator<Item = &'a Arc<str>> {
    route.sources.iter().map(|source| &source.topic).chain(plan.topics.iter().map(|topic| &topic.name))
}

fn retry_topic<'a>(plan: &'a Plan, route: &RoutePlan, source: &str) -> Option<&'a Arc<str>> {
    let source = route.sources.iter().find(|known| *known.topic == *source)?;
    source.retry.map(|topic| &plan.topics[topic.0 as usize].name)
}

/// Writes the given records; the answer are the places of those that an earlier run has parked.
fn give(case: &Case, plan: &Plan, log: &SimulatedLog, places: &mut Vec<Place>) -> Result<BTreeSet<Place>, Refusal> {
    let route = &plan.routes[case.route];
    let mut parked = BTreeSet::new();
    for given in &case.given {
        let choice = given.partition.map_or(PartitionChoice::ByKey, PartitionChoice::Exactly);
        let written = log.append(&given.topic, choice, given.record.clone())?;
        let partition = TopicPartition { topic: Arc::clone(&given.topic), partition: written.partition };
        let place = (partition, written.record.offset);
        if given.attempt > 1
            && let Some(retry) = retry_topic(plan, route, &given.topic)
        {
            let record = parked_record(given, &place, route, case.now_ms);
            log.append(retry, PartitionChoice::Exactly(written.partition), record)?;
            parked.insert(place.clone());
        }
        places.push(place);
    }
    Ok(parked)
}

/// The record as the runs before this one have left it in the retry topic; it is due.
fn parked_record(given: &Given, (partition, offset): &Place, route: &RoutePlan, now_ms: i64) -> OwnedRecord {
    let provenance = Provenance {
        origin: Origin { partition: partition.clone(), offset: *offset, timestamp_ms: given.record.timestamp_ms },
        blame: Blame { route: Arc::clone(&route.name), stage: None, plugin_sha256: None },
        class: FailureClass::Retry,
        code: "given".into(),
        message: "the case gives it as parked".into(),
        attempts: given.attempt - 1,
        first_failed_ms: now_ms,
        last_failed_ms: now_ms,
        due_ms: Some(now_ms),
        truncated: false,
        replay_count: 0,
        deferred: false,
        marker: None,
    };
    let mut record = given.record.clone();
    record.timestamp_ms = now_ms;
    record.headers.extend(provenance.headers());
    record
}

/// One lane for each partition of each source topic.
fn lanes(
    case: &Case,
    plan: &Arc<Plan>,
    components: &Components,
    log: &SimulatedLog,
    parked: &BTreeSet<Place>,
) -> Vec<Lane> {
    let route = &plan.routes[case.route];
    let shared = Arc::new(Shared {
        tracer: None,
        alone: Arc::default(),
        samples: Arc::default(),
        baggage: Default::default(),
        plan: Arc::clone(plan),
        digests: components.digests(plan),
        limiters: Limiters::new(plan),
        counters: Arc::new(Counters::new(plan)),
        reader: log.reader(),
    });
    let (mut lanes, woken) = (Vec::new(), Woken::here());
    for source in &route.sources {
        let partitions = i32::try_from(case.partitions).unwrap_or(i32::MAX);
        for partition in (0..partitions).map(|number| TopicPartition::new(Arc::clone(&source.topic), number)) {
            let retry = retry_topic(plan, route, &source.topic)
                .map(|topic| assigned(log, TopicPartition::new(Arc::clone(topic), partition.partition), parked));
            let assignment = Assignment { source: assigned(log, partition, parked), retry };
            let id = u32::try_from(lanes.len()).unwrap_or(u32::MAX);
            let mut lane = Lane::new(&woken.bell(id), Arc::clone(&shared), case.route, assignment, Instant::now());
            lane.tell_fates();
            // A case is about what the route makes of each record, and may have nothing but failures.
            lane.without_breaker();
            lane.without_suspicion();
            lanes.push(lane);
        }
    }
    lanes
}

/// A partition from where an earlier run has left off: what it has parked is settled.
fn assigned(log: &SimulatedLog, partition: TopicPartition, parked: &BTreeSet<Place>) -> AssignedFeed {
    let mut tracker = Tracker::resume(CommitPoint { offset: 0, settled: Settled::default() });
    let written = log.written(&partition.topic);
    for record in written.iter().filter(|written| written.partition == partition.partition) {
        let offset = record.record.offset;
        if let Ok(Admission::Run(ticket)) = tracker.admit(offset)
            && parked.contains(&(partition.clone(), offset))
        {
            tracker.settle(ticket);
        }
    }
    let CommitPoint { offset, settled } = tracker.commit_point();
    // Past the end of a partition whose records were all parked there is nothing to run, and the point says so.
    let feed = Box::new(log.feed(partition.clone(), offset));
    let metadata = Metadata { settled, ..Metadata::default() }.encode(offset).text;
    AssignedFeed { partition, start: offset, metadata, feed }
}

/// Lanes, their sink and their clock.
struct Stage {
    log: SimulatedLog,
    sink: SimulatedSink,
    credit: Credit,
    lanes: Vec<Lane>,
    random: fastrand::Rng,
    now: Now,
    reports: Vec<Report>,
}

impl Stage {
    fn new(case: &Case, plan: &Plan, log: SimulatedLog, lanes: Vec<Lane>) -> Self {
        let sink = log.sink(plan.topics.iter().map(|topic| Arc::clone(&topic.name)).collect());
        let random = fastrand::Rng::with_seed(case.seed);
        // Lanes measure with the one and write the other; both go by the same steps from here on.
        let now = Now { instant: Instant::now(), unix_ms: case.now_ms };
        let credit = Credit::new(sink.capacity_bytes());
        Self { log, sink, credit, lanes, random, now, reports: Vec::new() }
    }

    /// Runs until nothing is left to do, or the next thing lies beyond `advance`.
    fn play(&mut self, plugins: &mut CasePlugins<'_>, advance: Advance) -> Result<(), String> {
        let horizon = match advance {
            Advance::By(duration) => Some(self.now.instant + duration),
            Advance::UntilDone => None,
        };
        for _ in 0..ROUNDS_MAX {
            let mut wake_at = None;
            let mut busy = self.report()?;
            for lane in &mut self.lanes {
                let mut tools = Tools {
                    sink: &mut self.sink,
                    credit: &mut self.credit,
                    plugins,
                    random: &mut self.random,
                    now: self.now,
                    elapsed: &|| Duration::ZERO,
                    look_anyway: true,
                };
                match lane.turn(&mut tools) {
                    Step::Progress | Step::AwaitingCredit => busy = true,
                    Step::Idle => {}
                    Step::NotBefore(at) => wake_at = Some(wake_at.map_or(at, |earliest: Instant| earliest.min(at))),
                }
            }
            if let Some(trouble) = plugins.trouble() {
                return Err(trouble);
            }
            busy |= self.report()?;
            match wake_at {
                _ if busy => {}
                Some(at) if horizon.is_none_or(|horizon| at <= horizon) => self.jump(at),
                _ => return Ok(()),
            }
        }
        Err(format!(
            "the case has not come to rest after {ROUNDS_MAX} rounds of its lanes; give it fewer records, or a shorter `advance`"
        ))
    }

    /// Hands the sink's reports to the lanes. The answer is whether there were any.
    fn report(&mut self) -> Result<bool, String> {
        self.sink.serve(&mut self.reports).map_err(|error| error.to_string())?;
        let any = !self.reports.is_empty();
        for report in self.reports.drain(..) {
            if let Some(lane) = self.lanes.get_mut(lane_of(report.token) as usize) {
                lane.reported(std::iter::once(report), &mut self.credit, self.now);
            }
        }
        Ok(any)
    }

    fn jump(&mut self, at: Instant) {
        let far = at.saturating_duration_since(self.now.instant).max(Duration::from_millis(1));
        self.now.instant += far;
        self.now.unix_ms = self.now.unix_ms.saturating_add(i64::try_from(far.as_millis()).unwrap_or(i64::MAX));
        self.log.set_now(self.now.unix_ms);
    }
}
