//! Where the partitions end that a router works on, asked of the log now and then.
//!
//! What a feed knows of the end of its partition is as old as its last answer, and a lane that is paused asks for nothing. So the
//! log itself is asked, by a thread that nobody waits for.

use std::collections::{BTreeMap, HashMap};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use pointsman_config::Plan;
use pointsman_config::plan::RoutePlan;
use pointsman_core::lag::{History, Observation, Rates, Status, Terms};
use pointsman_core::port::{Log, TopicInfo, TopicSettings};
use pointsman_core::record::TopicPartition;

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
/// How long a record is waited for, of which only the timestamp is wanted.
const PEEK_WITHIN: Duration = Duration::from_secs(1);
/// For how many partitions that is done in one survey.
const MOST_PEEKED: usize = 32;
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
    const fn unix_ms(self) -> Option<i64> {
        match self {
            Self::Written { unix_ms } => Some(unix_ms),
            Self::Nothing => None,
        }
    }
}

/// Surveys the log, until it is dropped.
pub(crate) struct Survey {
    findings: Arc<Mutex<Findings>>,
    end: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
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
        let surveyor =
            Surveyor { plan, log, lanes, histories: BTreeMap::new(), peeked: HashMap::new(), settings: None };
        let thread =
            std::thread::Builder::new().name("survey".to_owned()).spawn(move || surveyor.run(&found, &ended))?;
        Ok(Self { findings, end: Some(end), thread: Some(thread) })
    }

    /// What is known.
    pub(crate) fn findings(&self) -> MutexGuard<'_, Findings> {
        self.findings.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Survey {
    fn drop(&mut self) {
        drop(self.end.take());
        // It may wait for a log that does not answer. Nothing of it is needed any more, so it is waited for only where it is done.
        if let Some(thread) = self.thread.take().filter(JoinHandle::is_finished) {
            let _ = thread.join();
        }
    }
}

struct Surveyor {
    plan: Arc<Plan>,
    log: Arc<dyn Log>,
    lanes: Lanes,
    histories: BTreeMap<LaneName, History>,
    /// What was seen at the offsets that were looked at, and where the partition ended then: one of each partition.
    peeked: HashMap<TopicPartition, (i64, i64, Seen)>,
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
        let (mut lanes, mut left) = (BTreeMap::new(), MOST_PEEKED);
        let reports = reports.into_iter().filter_map(|LaneReport { lane, position, .. }| Some((lane, position?)));
        let (names, positions): (Vec<_>, Vec<_>) = reports.unzip();
        let partition = |lane: &LaneName| TopicPartition::new(lane.topic.as_str(), lane.partition);
        let partitions: Vec<_> = names.iter().map(partition).collect();
        let bounds = self.log.bounds(&partitions);
        if !bounds.is_empty() && bounds.iter().all(Result::is_err) {
            return None;
        }
        let now = Now::read();
        for (((lane, position), partition), bounds) in names.into_iter().zip(positions).zip(partitions).zip(bounds) {
            let Ok((first, end)) = bounds else { continue };
            let mut observation = observe(&position, first, end, now);
            let mut oldest_ms = position.oldest_ms;
            if observation.lag().is_some_and(|lag| lag > 0) && oldest_ms.is_none() {
                match self.look_at(&partition, position.watermark, end, &mut left) {
                    Some(Seen::Written { unix_ms }) => oldest_ms = Some(unix_ms),
                    Some(Seen::Nothing) => observation.nothing_unread = true,
                    None => {}
                }
            }
            let history = self.histories.entry(lane.clone()).or_insert_with(|| History::new(REMEMBERED));
            history.push(observation);
            let (status, rates, drain_ms) = (history.status(&PATIENCE), history.rates(), history.drain_ms());
            let has_some = observation.lag().is_some_and(|lag| lag > 0);
            let retention = self.retention(&partition.topic);
            lanes.insert(
                lane,
                LaneFindings {
                    observation,
                    oldest_ms: oldest_ms.filter(|_| has_some),
                    status,
                    rates,
                    drain_ms,
                    retention,
                },
            );
        }
        Some(Findings { lanes, dead_letters: self.dead_letters(&mut left), at: Some(Instant::now()) })
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

    fn dead_letters(&mut self, left: &mut usize) -> BTreeMap<Arc<str>, DeadLetters> {
        let names = self.dead_letter_topics();
        let Ok(topics) = self.log.topics(Some(&names)) else { return BTreeMap::new() };
        let count = |topic: TopicInfo| {
            let mut found = DeadLetters { retention: self.retention(&topic.name), ..DeadLetters::default() };
            let partitions: Vec<_> = (0..i32::try_from(topic.partitions).unwrap_or(i32::MAX))
                .map(|partition| TopicPartition { topic: Arc::clone(&topic.name), partition })
                .collect();
            for (partition, bounds) in partitions.iter().zip(self.log.bounds(&partitions)) {
                let (first, end) = bounds.ok()?;
                found.records += end.saturating_sub(first).max(0).unsigned_abs();
                if end > first {
                    let seen = self.look_at(partition, first, end, left);
                    found.oldest_ms = found.oldest_ms.into_iter().chain(seen.and_then(Seen::unix_ms)).min();
                }
            }
            Some((topic.name, found))
        };
        topics.into_iter().filter_map(count).collect()
    }

    /// What is at the offset or behind it in a partition with this end, if that is known or can be had soon, and `left` of those that may
    /// be asked for.
    fn look_at(&mut self, partition: &TopicPartition, offset: i64, end: i64, left: &mut usize) -> Option<Seen> {
        let known = self.peeked.get(partition).filter(|(at, _, _)| *at == offset);
        match known {
            Some((.., seen @ Seen::Written { .. })) => return Some(*seen),
            Some((_, before, Seen::Nothing)) if *before == end => return Some(Seen::Nothing),
            _ => {}
        }
        *left = left.checked_sub(1)?;
        let seen = peek(&*self.log, partition, offset)?;
        self.peeked.insert(partition.clone(), (offset, end, seen));
        Some(seen)
    }
}

fn peek(log: &dyn Log, partition: &TopicPartition, offset: i64) -> Option<Seen> {
    let mut feed = log.read(partition, offset).ok()?;
    let thread = std::thread::current();
    feed.wake_with(Arc::new(move || thread.unpark()));
    let until = Instant::now() + PEEK_WITHIN;
    loop {
        if let Some(batch) = feed.fetch(1, 1).ok()? {
            return Some(Seen::Written { unix_ms: batch.record(0).timestamp_ms });
        }
        if feed.reached_end() {
            return Some(Seen::Nothing);
        }
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return None;
        }
        std::thread::park_timeout(left);
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
