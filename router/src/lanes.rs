//! The lanes of a running router: where each of them stands and why, and what it may be told to do.
//!
//! For whoever has a thread to wait with: a worker answers between two steps of its lanes. Nothing here costs anything
//! while nobody asks.

use std::fmt;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::time::{Duration, Instant};

use pointsman_config::Plan;
use pointsman_core::record::TopicPartition;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use utoipa::{IntoParams, ToSchema};

use crate::dispatch::{Dispatcher, Workers};
use crate::shared::Now;
use crate::worker::Order;

/// Workers are waited for so long. One may be in a call of a plugin, or wait for a disk.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// The lanes of one router. Clones are of the same ones.
#[derive(Clone)]
pub struct Lanes {
    pub(crate) plan: Arc<Plan>,
    pub(crate) workers: Arc<Workers>,
    pub(crate) groups: Vec<Arc<Dispatcher>>,
}

/// What the workers have answered.
pub(crate) struct Look {
    /// In the order of their names.
    pub(crate) lanes: Vec<LaneReport>,
    /// Those that have answered.
    pub(crate) workers: Vec<WorkerReport>,
    /// How many have not.
    pub(crate) silent: usize,
}

/// One worker, as it is now.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WorkerReport {
    pub(crate) index: usize,
    /// Lanes that it has.
    pub(crate) lanes: usize,
    /// Of its producer queue, in bytes.
    pub(crate) queued_bytes: usize,
    pub(crate) queue_limit_bytes: usize,
}

/// A worker's answer.
pub(crate) struct Asked {
    pub(crate) worker: WorkerReport,
    pub(crate) lanes: Vec<LaneReport>,
}

/// Names a lane.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema, IntoParams)]
#[into_params(parameter_in = Path)]
pub struct LaneName {
    /// The route.
    pub route: String,
    /// The source topic.
    pub topic: String,
    /// Its partition.
    pub partition: i32,
}

impl fmt::Display for LaneName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}/{}", self.route, self.topic, self.partition)
    }
}

/// What a lane is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// It takes in what there is, which may be nothing.
    Running,
    /// It goes on by itself, but not now: the reason says what it waits for.
    Waiting,
    /// Failures are the rule. It tries one record at growing intervals, and goes on by itself when one succeeds.
    PausedByBreaker,
    /// Somebody has said so. It goes on when it is told to, or with the next assignment of its partition.
    PausedByHand,
    /// It does not go on by itself.
    Halted,
    /// Its partition is being given up.
    Draining,
    /// Its worker has not answered in time.
    Silent,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Running => "running",
            Self::Waiting => "waiting",
            Self::PausedByBreaker => "paused by the breaker",
            Self::PausedByHand => "paused by hand",
            Self::Halted => "halted",
            Self::Draining => "draining",
            Self::Silent => "silent",
        })
    }
}

/// One lane, as it is now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LaneReport {
    /// Which.
    #[serde(flatten)]
    pub lane: LaneName,
    /// What it is at.
    pub state: State,
    /// Why it does not run; `None` where it does, or where nothing is known of it.
    pub reason: Option<String>,
    /// Since when, as RFC 3339, to the second; `None` where that is not known.
    pub since: Option<String>,
    /// The record that a halted lane stands at; `None` where it has halted for something else.
    pub stands_at: Option<StandsAt>,
    /// How far it has come; `None` where its partition is not read, or its worker is silent.
    pub position: Option<Position>,
}

/// The record that a lane has halted at: where it came from, and what it failed with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StandsAt {
    /// The topic that the record came from.
    pub topic: String,
    /// Its partition there.
    pub partition: i32,
    /// Its offset there.
    pub offset: i64,
    /// The class of its failure.
    pub class: String,
    /// The code.
    pub code: String,
    /// The message.
    pub message: String,
}

impl fmt::Display for StandsAt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.topic, self.partition, self.offset)
    }
}

/// How far a lane has come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Position {
    /// The lowest offset of the source that is not settled.
    pub watermark: i64,
    /// The offset that is taken in next, or a lower one where the log has none there.
    pub next_offset: i64,
    /// Records that are taken in and not settled, parked ones that are run included.
    pub in_flight: usize,
    /// Bytes of them, and of what is settled and was fetched along with them.
    pub in_flight_bytes: usize,
    /// When the oldest record of the source was written that is taken in and not settled, in milliseconds since 1970-01-01 UTC, as it
    /// says; `None` where there is none.
    pub oldest_ms: Option<i64>,
    /// Records beyond the watermark that are settled.
    pub settled_beyond: u64,
    /// Deliveries that the log has not answered for.
    pub unreported: usize,
    /// Its breaker; `None` where the route goes without.
    pub breaker: Option<BreakerPosition>,
    /// The same of its retry partition, where the route has a retry topic.
    pub retry: Option<RetryPosition>,
}

/// How far a lane has come with what is parked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RetryPosition {
    /// The retry topic; its partition has the number of the source's.
    pub topic: String,
    /// The lowest offset of it that is not settled.
    pub watermark: i64,
    /// Records that are known to be parked there.
    pub parked: usize,
    /// When the first of them is due, in milliseconds since 1970-01-01 UTC; `None` where none waits for its time.
    pub due_ms: Option<i64>,
}

/// What a lane's breaker has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BreakerPosition {
    /// Failures have been the rule, and no success has closed it since.
    pub open: bool,
    /// Dead letters that can be paid for now.
    pub tokens: u32,
}

/// What a lane may be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// To judge nothing more, and keep its place.
    Pause,
    /// To go on: after a pause by hand, at once after trouble, with a probe where its breaker is open, and with another run of
    /// the record that it has halted at.
    Resume,
    /// To have the record that it has halted at dead-lettered, and go on.
    Skip {
        /// Where the record can't be dead-lettered, it is to be dropped: it is lost then.
        drop: bool,
    },
}

/// What a lane does about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Done {
    /// It is paused; what was under way is still delivered.
    Paused,
    /// It goes on.
    Resumed,
    /// It tries the next record at once; where that succeeds, it goes on.
    Probing,
    /// It runs the record again that it had halted at.
    RunningAgain,
    /// The record that it had halted at is on its way to the dead letters, and it goes on.
    DeadLettering,
    /// The record that it had halted at is dropped, and it goes on.
    Dropped,
    /// Nothing: it runs anyway.
    Running,
    /// Nothing: it is halted, and runs nothing anyway.
    Halted,
}

impl fmt::Display for Done {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Paused => "paused",
            Self::Resumed => "goes on",
            Self::Probing => "tries one record now, and goes on if that succeeds",
            Self::RunningAgain => "runs again the record that it had halted at",
            Self::DeadLettering => "dead-letters the record that it had halted at, and goes on",
            Self::Dropped => "has dropped the record that it had halted at, and goes on",
            Self::Running => "runs anyway",
            Self::Halted => "is halted anyway",
        })
    }
}

/// Why a lane does not do it.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Refusal {
    /// There is none of this name.
    #[error(
        "this router has no such lane: the partition may be another router's of the group, or the route or topic another \
         one's; `pointsman lanes ls` shows those that it has"
    )]
    NoLane,
    /// Its partition is not read.
    #[error("the partition is assigned and can't be read: {reason}")]
    Unread {
        /// Why.
        reason: String,
    },
    /// Its partition is being given up.
    #[error("the partition is being given up; its next owner goes on with what is not settled")]
    Draining,
    /// Only a record that a lane stands at can be skipped.
    #[error("the lane is not halted, so it stands at no record that could be skipped")]
    NotHalted,
    /// The same, of a lane that has halted for something else.
    #[error("the lane has not halted at a record, so there is none to be skipped or run again: {reason}")]
    NotAtRecord {
        /// What it has halted for, with the remedy.
        reason: String,
    },
    /// The route goes without dead letters.
    #[error(
        "the route has no dead-letter topic for the record: give it one (`dead_letter`) and restart, or drop the record \
         (`--drop`), which loses it"
    )]
    NoDeadLetters,
    /// The dead-letter topic does not take it.
    #[error(
        "the dead-letter topic refuses the record even without its payload: {message}. Mend the topic and resume the lane, or \
         drop the record (`--drop`), which loses it"
    )]
    Refused {
        /// What the log says.
        message: String,
    },
    /// Its worker has not answered in time.
    #[error(
        "its worker has not answered within {} s, and does it when it gets to it: look again with `pointsman lanes ls`",
        ANSWER_WITHIN.as_secs()
    )]
    Silent,
}

impl Refusal {
    /// A word for it, for programs.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::NoLane => "no-lane",
            Self::Unread { .. } => "unread",
            Self::Draining => "draining",
            Self::NotHalted => "not-halted",
            Self::NotAtRecord { .. } => "not-at-record",
            Self::NoDeadLetters => "no-dead-letters",
            Self::Refused { .. } => "refused",
            Self::Silent => "silent",
        }
    }
}

impl Lanes {
    /// All lanes, in the order of their names. Waits for the workers, 10 seconds at most; of lanes whose worker has not answered
    /// by then nothing is known but their state, [`State::Silent`].
    #[must_use]
    pub fn list(&self) -> Vec<LaneReport> {
        self.look(ANSWER_WITHIN).lanes
    }

    /// [`list`](Self::list), and the workers, which are waited for so long.
    pub(crate) fn look(&self, within: Duration) -> Look {
        let (answer, answers) = sync_channel(self.workers.count());
        self.workers.order_all(|| Order::Ask { answer: answer.clone() });
        drop(answer);
        let until = Instant::now() + within;
        let (mut reports, mut workers) = (Vec::new(), Vec::new());
        while let Ok(part) = answers.recv_timeout(until.saturating_duration_since(Instant::now())) {
            reports.extend(part.lanes);
            workers.push(part.worker);
        }
        for group in &self.groups {
            for (route, partition) in group.placed() {
                let lane = self.name(route, &partition);
                if reports.iter().all(|report: &LaneReport| report.lane != lane) {
                    reports.push(LaneReport::unknown(lane, State::Silent));
                }
            }
            for (route, partition, unread) in group.unread() {
                reports.push(LaneReport {
                    reason: Some(unread.reason.clone()),
                    since: unread.since_when(),
                    ..LaneReport::unknown(self.name(route, &partition), State::Halted)
                });
            }
        }
        reports.sort_by(|one, other| one.lane.cmp(&other.lane));
        workers.sort_by_key(|worker| worker.index);
        let silent = self.workers.count() - workers.len();
        Look { lanes: reports, workers, silent }
    }

    /// Tells a lane. Waits for its worker, 10 seconds at most.
    ///
    /// # Errors
    /// [`Refusal`]; the lane is as it was, unless its worker is [silent](Refusal::Silent).
    pub fn tell(&self, lane: &LaneName, verb: Verb) -> Result<Done, Refusal> {
        let route = self.plan.routes.iter().position(|route| *route.name == *lane.route).ok_or(Refusal::NoLane)?;
        let partition = TopicPartition::new(lane.topic.as_str(), lane.partition);
        let group = self.groups.iter().find(|group| group.route_of(&partition) == Some(route));
        let group = group.ok_or(Refusal::NoLane)?;
        if let Some((.., unread)) = group.unread().into_iter().find(|(_, other, _)| *other == partition) {
            return Err(Refusal::Unread { reason: unread.reason });
        }
        let worker = group.worker_of(&partition).ok_or(Refusal::NoLane)?;
        let (answer, answers) = sync_channel(1);
        self.workers.order(worker, Order::Tell { route, partition, verb, answer });
        answers.recv_timeout(ANSWER_WITHIN).unwrap_or(Err(Refusal::Silent))
    }

    /// For each group, by its number, how many commits have failed so far.
    pub(crate) fn commit_failures(&self) -> impl Iterator<Item = (usize, u64)> + '_ {
        self.groups.iter().filter_map(|group| Some((group.group, group.committer.get()?.failures())))
    }

    fn name(&self, route: usize, partition: &TopicPartition) -> LaneName {
        LaneName::new(&self.plan.routes[route].name, partition)
    }
}

impl LaneName {
    pub(crate) fn new(route: &str, partition: &TopicPartition) -> Self {
        Self { route: route.to_owned(), topic: partition.topic.to_string(), partition: partition.partition }
    }
}

impl LaneReport {
    /// Of a lane of which no more is known than this.
    fn unknown(lane: LaneName, state: State) -> Self {
        Self { lane, state, reason: None, since: None, stands_at: None, position: None }
    }
}

/// Picks lanes.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// Those of this route.
    pub route: Option<String>,
    /// Those of this source topic.
    pub topic: Option<String>,
    /// Those of the partition with this number.
    pub partition: Option<i32>,
}

impl Selection {
    /// Whether it picks this one.
    #[must_use]
    pub fn picks(&self, lane: &LaneName) -> bool {
        self.route.as_ref().is_none_or(|route| *route == lane.route)
            && self.topic.as_ref().is_none_or(|topic| *topic == lane.topic)
            && self.partition.is_none_or(|partition| partition == lane.partition)
    }
}

/// It is not clear which record is to be skipped.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Unclear {
    /// There are several.
    #[error("{} lanes have halted at a record: {}; name one of them", .0.len(), names(.0))]
    Several(Vec<LaneName>),
    /// There is none.
    #[error("none of these {0} lanes has halted at a record, so there is none to be skipped")]
    None(usize),
}

fn names(lanes: &[LaneName]) -> String {
    lanes.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// The lane among these whose record is meant where one is to be skipped: the only one, or the only one that stands at one.
///
/// # Errors
/// [`Unclear`].
pub fn lane_to_skip(picked: &[LaneReport]) -> Result<&LaneName, Unclear> {
    if let [only] = picked {
        return Ok(&only.lane);
    }
    let standing: Vec<&LaneName> =
        picked.iter().filter(|report| report.stands_at.is_some()).map(|report| &report.lane).collect();
    match standing[..] {
        [only] => Ok(only),
        [] => Err(Unclear::None(picked.len())),
        _ => Err(Unclear::Several(standing.into_iter().cloned().collect())),
    }
}

/// Why a lane does not go on, and since when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Because {
    pub(crate) reason: String,
    /// Milliseconds since 1970-01-01 UTC, where somebody has noted it.
    pub(crate) since_ms: Option<i64>,
}

impl Because {
    pub(crate) fn since(reason: impl Into<String>, now: Now) -> Self {
        Self { reason: reason.into(), since_ms: Some(now.unix_ms) }
    }

    /// The time, to the second.
    pub(crate) fn since_when(&self) -> Option<String> {
        let time = jiff::Timestamp::from_second(self.since_ms?.div_euclid(1000));
        time.ok().map(|time| time.to_string())
    }
}

#[cfg(test)]
pub(crate) mod tests;
