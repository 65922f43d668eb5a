//! What becomes of one letter that is replayed.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use pointsman_config::Plan;
use pointsman_config::dead_letters::{PARKING, parking_topic};
use pointsman_config::plan::RoutePlan;
use pointsman_core::delivery::partition_of_key;
use pointsman_core::port::{Log, LogError};
use pointsman_core::provenance::{Provenance, Writer, name};
use pointsman_core::record::OwnedHeader;
use thiserror::Error;

use super::edit::{Edit, EditFailed};
use super::letter::Letter;
use super::original::{NoOriginal, original};
use super::topic::{Expiry, Topic};
use crate::record_text::RecordLine;

/// How letters are to be replayed.
#[derive(Clone, Debug)]
pub struct Replay {
    /// Where to.
    pub to: Target,
    /// Which partition there.
    pub partition: PartitionRule,
    /// With which timestamp.
    pub timestamp: Timestamp,
    /// What is mended before, in this order.
    pub edits: Vec<Edit>,
    /// A letter whose record was replayed so often already goes to the parking topic instead.
    pub max_replays: u32,
}

impl Replay {
    /// To the source as it was, three times at most.
    #[must_use]
    pub const fn to(to: Target) -> Self {
        Self { to, partition: PartitionRule::Origin, timestamp: Timestamp::Original, edits: Vec::new(), max_replays: 3 }
    }
}

/// Where records are replayed to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// The topic that the record came from: it goes its whole way again, and all who read that topic see it.
    Source,
    /// The retry topic of the route it failed on, due at once: nobody but that route sees it. Its attempts start anew.
    Retry,
    /// Another topic.
    Topic(Arc<str>),
}

/// Which partition a record is replayed to. (The retry topic has that of the origin, always.)
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PartitionRule {
    /// The one with the number of the record's origin, whatever had put it there: so it is in one partition with the records
    /// of its key that came with it, and behind those of them that are replayed before it.
    ///
    /// Where there is no such number, or none in that topic, the record goes by its key.
    Origin,
    /// The one that Java clients choose for the key.
    Key,
}

/// Which timestamp a replayed record has. (In the retry topic it is the time of writing, and the original one a header.)
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timestamp {
    /// Its own, where the letter tells it. A record that its topic would remove for its age soon is left alone.
    Original,
    /// The time of writing.
    Now,
}

/// Why a letter was left alone.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum LeftAlone {
    /// Whether it is meant can't be decided.
    #[error("it is not known whether it is meant: {0}")]
    Unsure(String),
    /// The record that it was is not known or not there.
    #[error(transparent)]
    NoOriginal(#[from] NoOriginal),
    /// It can't be edited so.
    #[error(transparent)]
    Edit(#[from] EditFailed),
    /// It does not say where it came from.
    #[error("it does not tell the topic that it came from; name one with --to-topic")]
    NoOrigin,
    /// There is no such topic.
    #[error("there is no topic {0}; name another with --to-topic")]
    NoTopic(Arc<str>),
    /// It can't go to a retry topic.
    #[error("it can't be retried: {0}")]
    NoRetry(String),
    /// The topic would remove it soon.
    #[error("{0} would soon remove it for its age, by its original timestamp; --timestamp now gives it a new one")]
    TooOld(Arc<str>),
    /// It lies in the parking topic already.
    #[error("it was replayed {} already; --max-replays allows more", if *.0 == 1 { "once".to_owned() } else { format!("{} times", .0) })]
    Looping(u32),
}

impl LeftAlone {
    /// A word for all that are left alone for the same reason.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Unsure(_) => "unsure",
            Self::NoOriginal(NoOriginal::Torn(_)) => "torn",
            Self::NoOriginal(NoOriginal::NoLetter) => "unknown",
            Self::NoOriginal(NoOriginal::Gone(_)) => "gone",
            Self::Edit(_) => "uneditable",
            Self::NoOrigin | Self::NoTopic(_) => "no-topic",
            Self::NoRetry(_) => "no-retry",
            Self::TooOld(_) => "too-old",
            Self::Looping(_) => "looping",
        }
    }
}

/// What is to be written for a letter, with topic and partition.
#[derive(Clone, Debug)]
pub(super) struct Written {
    pub(super) record: RecordLine,
    /// The letter goes to the parking topic, instead of its record to where it was to go.
    pub(super) parked: bool,
    pub(super) replays: u32,
}

/// Why there is nothing to be written for a letter.
pub(super) enum Obstacle {
    LeftAlone(LeftAlone),
    /// It can't be found out.
    Log(LogError),
}

impl From<LeftAlone> for Obstacle {
    fn from(why: LeftAlone) -> Self {
        Self::LeftAlone(why)
    }
}

impl From<NoOriginal> for Obstacle {
    fn from(why: NoOriginal) -> Self {
        Self::LeftAlone(why.into())
    }
}

impl From<EditFailed> for Obstacle {
    fn from(why: EditFailed) -> Self {
        Self::LeftAlone(why.into())
    }
}

/// Plans replays: the same for a dry run and a real one.
pub(super) struct Planner<'a> {
    pub(super) log: &'a dyn Log,
    pub(super) plan: &'a Plan,
    pub(super) replay: &'a Replay,
    pub(super) now_ms: i64,
    /// Topics that were looked up; `None` where there is none of that name.
    known: HashMap<Arc<str>, Option<Topic>>,
}

/// A record that may be gone so soon may be gone before it is read.
const SOON: Duration = Duration::from_secs(3600);

impl<'a> Planner<'a> {
    pub(super) fn new(log: &'a dyn Log, plan: &'a Plan, replay: &'a Replay, now_ms: i64) -> Self {
        Self { log, plan, replay, now_ms, known: HashMap::new() }
    }

    /// What is to be written for this letter.
    pub(super) fn plan(
        &mut self,
        letter: &Letter<'_>,
        stop: &dyn Fn() -> bool,
        note: &mut dyn FnMut(&str),
    ) -> Result<Written, Obstacle> {
        // What is torn or nobody's letter has no count that could be believed.
        let is_told = !matches!(letter.account.writer, Writer::Torn(_) | Writer::Unknown);
        if is_told && letter.account.replay_count >= self.replay.max_replays {
            return self.parked(letter, letter.account.replay_count);
        }
        let mut record = original(self.log, letter, stop, note)?;
        // A tool that does not know it has kept it among the record's own.
        let stamped = take_stamp(&mut record.headers).unwrap_or(0);
        let replays = letter.account.replay_count.max(stamped);
        if replays >= self.replay.max_replays {
            return self.parked(letter, replays);
        }
        for edit in &self.replay.edits {
            edit.apply(&mut record)?;
        }
        let replays = replays.saturating_add(1);
        let record = match &self.replay.to {
            Target::Source => {
                let topic = record.topic.take().ok_or(LeftAlone::NoOrigin)?;
                self.elsewhere(record, &topic.into(), replays)?
            }
            Target::Topic(topic) => self.elsewhere(record, topic, replays)?,
            Target::Retry => self.again(letter, record, replays)?,
        };
        Ok(Written { record, parked: false, replays })
    }

    /// A topic that records may be replayed to, looked up once.
    pub(super) fn topic(&mut self, name: &Arc<str>) -> Result<Option<&Topic>, LogError> {
        if !self.known.contains_key(name) {
            let found = Topic::look_up(self.log, std::slice::from_ref(name))?.into_iter().next();
            self.known.insert(Arc::clone(name), found);
        }
        Ok(self.known.get(name).and_then(Option::as_ref))
    }

    /// The letter itself, for the parking topic.
    fn parked(&self, letter: &Letter<'_>, replays: u32) -> Result<Written, Obstacle> {
        if letter.partition.topic.ends_with(PARKING) {
            return Err(LeftAlone::Looping(replays).into());
        }
        let mut record = RecordLine::from_record(letter.partition, letter.record);
        (record.topic, record.offset) = (Some(parking_topic(&letter.partition.topic).to_string()), None);
        // So that it is kept as long as a letter of today.
        record.timestamp_ms = None;
        Ok(Written { record, parked: true, replays })
    }

    fn elsewhere(&mut self, mut record: RecordLine, topic: &Arc<str>, replays: u32) -> Result<RecordLine, Obstacle> {
        let (now_ms, Replay { partition: rule, timestamp, .. }) = (self.now_ms, self.replay);
        let found = self.topic(topic).map_err(Obstacle::Log)?;
        let found = found.ok_or_else(|| LeftAlone::NoTopic(Arc::clone(topic)))?;
        record.topic = Some(topic.to_string());
        record.offset = None;
        record.partition = Some(partition(&record, *rule, found.partitions));
        match timestamp {
            Timestamp::Now => record.timestamp_ms = None,
            Timestamp::Original => {
                if record.timestamp_ms.is_some_and(|time| is_soon_gone(found, time, now_ms)) {
                    return Err(LeftAlone::TooOld(Arc::clone(topic)).into());
                }
            }
        }
        record.headers.push(OwnedHeader::text(name::REPLAY_COUNT, replays.to_string()));
        Ok(record)
    }

    fn again(&mut self, letter: &Letter<'_>, mut record: RecordLine, replays: u32) -> Result<RecordLine, Obstacle> {
        let no = |why: String| Obstacle::LeftAlone(LeftAlone::NoRetry(why));
        if !matches!(letter.account.writer, Writer::Pointsman { .. }) {
            return Err(no("another tool wrote it, and it failed on no route of ours".into()));
        }
        let (_, told) = Provenance::split(letter.record.headers).map_err(|error| no(error.to_string()))?;
        let origin = &told.origin.partition;
        let topic = retry_topic(self.plan, &told.blame.route, &origin.topic).ok_or_else(|| {
            no(format!("the configuration has no retries of {} on a route {:?}", origin.topic, told.blame.route))
        })?;
        let found = self.topic(&topic).map_err(Obstacle::Log)?;
        let partitions = found.ok_or_else(|| LeftAlone::NoTopic(Arc::clone(&topic)))?.partitions;
        // The lane of the origin reads that partition, and no other.
        if !u32::try_from(origin.partition).is_ok_and(|number| number < partitions) {
            return Err(no(format!("{topic} has no partition {}, the one of its origin", origin.partition)));
        }
        record.topic = Some(topic.to_string());
        record.partition = Some(origin.partition);
        (record.offset, record.timestamp_ms) = (None, None);
        let parked = Provenance {
            attempts: 0,
            first_failed_ms: self.now_ms,
            last_failed_ms: self.now_ms,
            due_ms: Some(self.now_ms),
            truncated: false,
            deferred: false,
            marker: None,
            replay_count: replays,
            ..told
        };
        record.headers.extend(parked.headers());
        Ok(record)
    }
}

/// The retry topic of a source of a route.
pub(super) fn retry_topic(plan: &Plan, route: &str, source: &str) -> Option<Arc<str>> {
    let route: &RoutePlan = plan.routes.iter().find(|other| &*other.name == route)?;
    let retry = route.sources.iter().find(|other| &*other.topic == source)?.retry?;
    Some(Arc::clone(&plan.topics.get(retry.0 as usize)?.name))
}

/// The partition of a topic with so many. A record without a key that has no place there has no order to keep either.
fn partition(record: &RecordLine, rule: PartitionRule, partitions: u32) -> i32 {
    let has = |number: &i32| u32::try_from(*number).is_ok_and(|number| number < partitions);
    if let (PartitionRule::Origin, Some(number)) = (rule, record.partition.filter(has)) {
        return number;
    }
    let by_key = |key: &Vec<u8>| partition_of_key(key, partitions.max(1)).cast_signed();
    record.key.as_ref().map_or_else(|| record.partition.filter(has).unwrap_or(0), by_key)
}

fn is_soon_gone(topic: &Topic, timestamp_ms: i64, now_ms: i64) -> bool {
    let Expiry::At(gone_ms) = topic.expiry(timestamp_ms) else { return false };
    let kept = topic.settings.as_ref().and_then(|settings| settings.retention).unwrap_or(Duration::MAX);
    let soon = i64::try_from(SOON.min(kept / 2).as_millis()).unwrap_or(i64::MAX);
    gone_ms <= now_ms.saturating_add(soon)
}

/// Takes the header off that a replayed record has behind its own.
fn take_stamp(headers: &mut Vec<OwnedHeader>) -> Option<u32> {
    let count = pointsman_core::provenance::replays(headers.last()?.as_header())?;
    headers.pop();
    Some(count)
}
