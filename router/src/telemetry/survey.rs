//! Where the partitions end that a router works on, asked of the log now and then.
//!
//! What a feed knows of the end of its partition is as old as its last answer, and a lane that is paused asks for nothing. So the
//! log itself is asked, by a thread that nobody waits for.

use std::collections::{BTreeMap, HashMap};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use pointsman_config::Plan;
use pointsman_config::plan::RoutePlan;
use pointsman_core::lag::{History, Observation, Rates, Status, Terms, age, until_gone};
use pointsman_core::port::{Log, TopicInfo, TopicSettings};
use pointsman_core::record::TopicPartition;

use crate::lag::look;
use crate::lanes::{LaneName, LaneReport, Lanes, Look, Position};
use crate::shared::Now;

/// How often the log is asked.
const EVERY: Duration = Duration::from_secs(10);
/// How long workers are waited for.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);
/// So many looks are remembered: ten minutes.
const REMEMBERED: usize = 60;
/// How often it is asked what topics do with their records.
const SETTINGS_EVERY: Duration = Duration::from_secs(600);
/// How long oldest records are waited for.
const READ_WITHIN: Duration = Duration::from_secs(2);
/// Without progress for so long, with something to do, a lane is stalled; with more and more to do, it falls behind.
const PATIENCE: Terms = Terms { patience_ms: 60_000 };

/// What the last survey has found.
#[derive(Default)]
pub(crate) struct Findings {
    /// When it ended; `None` before the first.
    pub(crate) at: Option<Instant>,
    pub(crate) lanes: BTreeMap<LaneName, LaneFindings>,
    pub(crate) dead_letters: BTreeMap<Arc<str>, DeadLetters>,
}

impl Findings {
    /// The worst status of the lanes of this route.
    pub(crate) fn worst_of(&self, route: &str) -> Option<Status> {
        let lanes = self.lanes.iter().filter(|(lane, _)| lane.route == *route);
        lanes.map(|(_, found)| found.status).max_by_key(|status| status.weight())
    }
}

/// What was found of a lane.
pub(crate) struct LaneFindings {
    pub(crate) observation: Observation,
    /// When the oldest record was written that has no fate yet; `None` where there is none, or where it is not known.
    pub(crate) oldest_ms: Option<i64>,
    pub(crate) status: Status,
    pub(crate) rates: Option<Rates>,
    pub(crate) drain_ms: Option<u64>,
    /// How long the source topic keeps its records; `None` where that is for ever, or not known.
    pub(crate) retention: Option<Duration>,
}

impl LaneFindings {
    /// Records that have no fate yet.
    pub(crate) fn records(&self) -> u64 {
        self.observation.lag().unwrap_or(0)
    }

    /// Age of the oldest of them, in milliseconds; 0 where there is none, `None` where its timestamp could not be had.
    pub(crate) fn age_ms(&self, now: Now) -> Option<u64> {
        self.oldest_ms.map(|oldest_ms| age(oldest_ms, now.unix_ms)).or((self.records() == 0).then_some(0))
    }

    /// How long it takes until retention by age may remove it, in milliseconds.
    pub(crate) fn left_ms(&self, now: Now) -> Option<u64> {
        let retention_ms = u64::try_from(self.retention?.as_millis()).unwrap_or(u64::MAX);
        Some(until_gone(self.oldest_ms?, retention_ms, now.unix_ms))
    }
}

/// What was found of a dead-letter topic.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct DeadLetters {
    pub(crate) records: u64,
    pub(crate) oldest_ms: Option<i64>,
    pub(crate) retention: Option<Duration>,
}

/// What is at an offset, or behind it.
#[derive(Clone, Copy)]
enum Seen {
    /// A record with this timestamp, in milliseconds since 1970-01-01 UTC.
    Written { unix_ms: i64 },
    /// No record up to the end: markers of transactions, or what was aborted or compacted away.
    Nothing,
}

impl Seen {
    const fn unix_ms(seen: Option<Self>) -> Option<i64> {
        match seen {
            Some(Self::Written { unix_ms }) => Some(unix_ms),
            Some(Self::Nothing) | None => None,
        }
    }
}

/// Surveys the log, until it is dropped.
pub(crate) struct Survey {
    findings: Arc<Mutex<Findings>>,
    /// To be dropped is to be told to end. It may wait for a log that does not answer, and nothing of it is needed then: so nobody waits
    /// for it.
    _end: Sender<()>,
}

impl Survey {
    /// Begins, on a thread of its own.
    ///
    /// # Errors
    /// The system's, if it gives no thread.
    pub(crate) fn start(plan: Arc<Plan>, log: Arc<dyn Log>, lanes: Lanes) -> std::io::Result<Self> {
        let findings = Arc::new(Mutex::new(Findings::default()));
        let (end, ended) = channel();
        let found = Arc::clone(&findings);
        let surveyor = Surveyor { plan, log, lanes, histories: BTreeMap::new(), seen: HashMap::new(), settings: None };
        std::thread::Builder::new().name("survey".to_owned()).spawn(move || surveyor.run(&found, &ended))?;
        Ok(Self { findings, _end: end })
    }

    /// What is known.
    pub(crate) fn findings(&self) -> MutexGuard<'_, Findings> {
        self.findings.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Surveyor {
    plan: Arc<Plan>,
    log: Arc<dyn Log>,
    lanes: Lanes,
    histories: BTreeMap<LaneName, History>,
    /// What was seen at the offsets that were looked at, and where the partition ended then: one of each partition.
    seen: HashMap<TopicPartition, (i64, i64, Seen)>,
    settings: Option<(Instant, HashMap<Arc<str>, TopicSettings>)>,
}

impl Surveyor {
    fn run(mut self, findings: &Mutex<Findings>, ended: &Receiver<()>) {
        loop {
            // Where the log answers nothing, what was found before stays, with its age.
            if let Some(found) = self.look() {
                *findings.lock().unwrap_or_else(PoisonError::into_inner) = found;
            }
            match ended.recv_timeout(EVERY) {
                Err(RecvTimeoutError::Timeout) => {}
                _ => return,
            }
        }
    }

    /// `None` where no partition could be asked for.
    fn look(&mut self) -> Option<Findings> {
        self.refresh_settings();
        let Look { lanes: reports, .. } = self.lanes.look(ANSWER_WITHIN);
        self.histories.retain(|name, _| reports.iter().any(|report| report.lane == *name));
        let mut lanes = BTreeMap::new();
        let reports = reports.into_iter().filter_map(|LaneReport { lane, position, .. }| Some((lane, position?)));
        let (names, positions): (Vec<_>, Vec<_>) = reports.unzip();
        let partition = |lane: &LaneName| TopicPartition::new(lane.topic.as_str(), lane.partition);
        let partitions: Vec<_> = names.iter().map(partition).collect();
        let bounds = self.log.bounds(&partitions);
        if !bounds.is_empty() && bounds.iter().all(Result::is_err) {
            return None;
        }
        let now = Now::read();
        let mut found: Vec<(LaneName, Observation, Option<i64>)> = Vec::new();
        let mut wanted = Vec::new();
        for (((lane, position), partition), bounds) in names.into_iter().zip(positions).zip(partitions).zip(bounds) {
            let Ok((first, end)) = bounds else { continue };
            let observation = observe(&position, first, end, now);
            if observation.lag().is_some_and(|lag| lag > 0) && position.oldest_ms.is_none() {
                wanted.push((partition, position.watermark.max(first), end));
            }
            found.push((lane, observation, position.oldest_ms));
        }
        let seen: HashMap<TopicPartition, Seen> = self
            .look_at(&wanted)
            .into_iter()
            .zip(&wanted)
            .filter_map(|(seen, (partition, ..))| Some((partition.clone(), seen?)))
            .collect();
        for (lane, mut observation, mut oldest_ms) in found {
            let partition = partition(&lane);
            match seen.get(&partition).filter(|_| oldest_ms.is_none()) {
                Some(Seen::Written { unix_ms }) => oldest_ms = Some(*unix_ms),
                Some(Seen::Nothing) => observation.nothing_unread = true,
                None => {}
            }
            let history = self.histories.entry(lane.clone()).or_insert_with(|| History::new(REMEMBERED));
            history.push(observation);
            let findings = LaneFindings {
                observation,
                oldest_ms: oldest_ms.filter(|_| observation.lag().is_some_and(|lag| lag > 0)),
                status: history.status(&PATIENCE),
                rates: history.rates(),
                drain_ms: history.drain_ms(),
                retention: self.retention(&partition.topic),
            };
            lanes.insert(lane, findings);
        }
        Some(Findings { lanes, dead_letters: self.dead_letters(), at: Some(Instant::now()) })
    }

    /// Of topics that can't be asked for now nothing is known, until the next time.
    fn refresh_settings(&mut self) {
        if self.settings.as_ref().is_some_and(|(at, _)| at.elapsed() < SETTINGS_EVERY) {
            return;
        }
        let sources = self.plan.routes.iter().flat_map(|route| &route.sources).map(|source| Arc::clone(&source.topic));
        let mut topics: Vec<_> = sources.chain(self.dead_letter_topics()).collect();
        topics.sort();
        topics.dedup();
        if let Ok(settings) = self.log.settings(&topics) {
            self.settings = Some((Instant::now(), topics.into_iter().zip(settings).collect()));
        }
    }

    fn retention(&self, topic: &str) -> Option<Duration> {
        self.settings.as_ref()?.1.get(topic)?.retention
    }

    fn dead_letter_topics(&self) -> Vec<Arc<str>> {
        let topic = |route: &RoutePlan| Some(Arc::clone(&self.plan.topics[route.dead_letter?.0 as usize].name));
        self.plan.routes.iter().filter_map(topic).collect()
    }

    fn dead_letters(&mut self) -> BTreeMap<Arc<str>, DeadLetters> {
        let names = self.dead_letter_topics();
        let Ok(topics) = self.log.topics(Some(&names)) else { return BTreeMap::new() };
        let count = |TopicInfo { name, partitions }| {
            let partitions: Vec<_> = (0..i32::try_from(partitions).unwrap_or(i32::MAX))
                .map(|partition| TopicPartition { topic: Arc::clone(&name), partition })
                .collect();
            let bounds: Result<Vec<_>, _> = self.log.bounds(&partitions).into_iter().collect();
            let held = partitions.into_iter().zip(bounds.ok()?).filter(|(_, (first, end))| first < end);
            let held: Vec<_> = held.map(|(partition, (first, end))| (partition, first, end)).collect();
            let found = DeadLetters {
                records: held.iter().map(|(_, first, end)| end.saturating_sub(*first).max(0).unsigned_abs()).sum(),
                oldest_ms: self.look_at(&held).into_iter().filter_map(Seen::unix_ms).min(),
                retention: self.retention(&name),
            };
            Some((name, found))
        };
        topics.into_iter().filter_map(count).collect()
    }

    /// What there is from each of these offsets on, up to these ends, where that is known or can be had soon.
    fn look_at(&mut self, wanted: &[(TopicPartition, i64, i64)]) -> Vec<Option<Seen>> {
        let mut seen: Vec<Option<Seen>> = wanted.iter().map(|wanted| self.seen_before(wanted)).collect();
        let unknown: Vec<usize> = (0..wanted.len()).filter(|index| seen[*index].is_none()).collect();
        let looks = unknown.iter().map(|index| {
            let (partition, from, end) = &wanted[*index];
            look::Look { partition: partition.clone(), from: *from, end: *end, is_settled: &|_| false }
        });
        let looks: Vec<_> = looks.collect();
        let found = look::look(&*self.log, &looks, Instant::now() + READ_WITHIN, &|| false);
        for (index, found) in unknown.into_iter().zip(found) {
            let Ok(look::Seen { oldest, .. }) = found else { continue };
            let (partition, from, end) = &wanted[index];
            let found = oldest.map_or(Seen::Nothing, |(_, unix_ms)| Seen::Written { unix_ms });
            self.seen.insert(partition.clone(), (*from, *end, found));
            seen[index] = Some(found);
        }
        seen
    }

    fn seen_before(&self, (partition, from, end): &(TopicPartition, i64, i64)) -> Option<Seen> {
        match self.seen.get(partition)? {
            (at, _, seen @ Seen::Written { .. }) if at == from => Some(*seen),
            (at, before, Seen::Nothing) if (at, before) == (from, end) => Some(Seen::Nothing),
            _ => None,
        }
    }
}

/// A lane tells all that has no fate yet, whether or not it is committed.
fn observe(position: &Position, first: i64, end: i64, now: Now) -> Observation {
    Observation {
        time_ms: now.unix_ms,
        committed: Some(position.watermark),
        settled_beyond: position.settled_beyond,
        end: end.max(position.next_offset),
        first,
        nothing_unread: false,
        heard_ms: Some(now.unix_ms),
    }
}
