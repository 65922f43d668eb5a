//! What is parked: how much of it each lane has, by its index, and the first of it by name, as the retry topic says.

use std::collections::{BTreeMap, HashMap};
use std::ops::ControlFlow;
use std::sync::mpsc::sync_channel;
use std::time::{Duration, Instant};

use pointsman_core::parked::{Backlog, Known};
use pointsman_core::port::Log;
use pointsman_core::provenance::Provenance;
use pointsman_core::record::{Record, TopicPartition};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use crate::lanes::{LaneName, Lanes, Selection};
use crate::reading::{Ended, Merge, Seen, Span};
use crate::samples::Redaction;
use crate::worker::Order;

/// Workers are waited for so long.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// Records between two that are wanted which are read over; beyond, reading begins anew.
const READ_OVER: i64 = 1000;

/// What is parked in one lane.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RetryReport {
    /// Which.
    #[serde(flatten)]
    pub lane: LaneName,
    /// The retry topic; its partition has the number of the source's.
    pub retry_topic: String,
    /// Records that are parked, as far as they are known.
    pub parked: usize,
    /// Of them, those that wait for another record, such as one before them in their key, and not for their time.
    pub behind: usize,
    /// Of them, those that are being run.
    pub running: usize,
    /// The lowest due time there is, as RFC 3339; `None` where nothing is parked.
    pub oldest_due: Option<String>,
    /// When the next is due that waits for nothing else, as RFC 3339.
    pub next_due: Option<String>,
    /// For how long that one has been due, in seconds; 0 where its time is still to come.
    pub overdue_seconds: f64,
    /// How many were run how often. Those that were run 100 times or more stand at 100; those at 0 were not run, but wait behind another.
    pub attempts: BTreeMap<u32, usize>,
    /// Whether all is known that was parked before the partition was assigned. Until then nothing runs.
    pub complete: bool,
}

/// A record that is parked.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct ParkedRecord {
    /// When it is due, as RFC 3339.
    pub due: String,
    /// Where it lies: topic/partition/offset.
    pub place: String,
    /// How often it was run.
    pub attempts: u32,
    /// It waits for another record, such as one before it in its key.
    pub behind: bool,
    /// What it says of itself; absent where that could not be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub told: Option<ParkedAccount>,
}

/// What a parked record says of itself.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct ParkedAccount {
    /// The topic that it came from.
    pub topic: String,
    /// Its partition there.
    pub partition: i32,
    /// Its offset there.
    pub offset: i64,
    /// The key: a string, `{"base64": …}` where it is not UTF-8, or null.
    #[schema(value_type = Object)]
    pub key: Box<RawValue>,
    /// The plugin that it has failed in, or `filter`; `None` outside the stages.
    pub stage: Option<String>,
    /// Class of its last failure.
    pub class: String,
    /// Its code.
    pub code: String,
    /// Its message.
    pub message: String,
    /// When it has failed first, as RFC 3339.
    pub first_failed: String,
    /// When it has failed last.
    pub last_failed: String,
}

/// A worker's answer, for one lane.
pub(crate) struct LaneRetries {
    pub(crate) lane: LaneName,
    pub(crate) partition: TopicPartition,
    pub(crate) backlog: Backlog,
    pub(crate) first: Vec<Known>,
    pub(crate) complete: bool,
}

impl Lanes {
    /// What is parked in the lanes that are picked, in the order of their names, with the first records of each, `limit` at most. Waits for
    /// the workers, 5 seconds at most; the second answer is how many have not answered by then.
    pub(crate) fn retries(&self, selection: &Selection, limit: usize) -> (Vec<LaneRetries>, usize) {
        let (answer, answers) = sync_channel(self.workers.count());
        self.workers.order_all(|| Order::Retries { limit, answer: answer.clone() });
        drop(answer);
        let until = Instant::now() + ANSWER_WITHIN;
        let (mut lanes, mut answered) = (Vec::new(), 0);
        while let Ok(part) = answers.recv_timeout(until.saturating_duration_since(Instant::now())) {
            lanes.extend(part);
            answered += 1;
        }
        lanes.retain(|lane: &LaneRetries| selection.picks(&lane.lane));
        lanes.sort_by(|one, other| one.lane.cmp(&other.lane));
        (lanes, self.workers.count() - answered)
    }
}

fn time(unix_ms: i64) -> String {
    jiff::Timestamp::from_millisecond(unix_ms).map(|time| format!("{time:.3}")).unwrap_or_default()
}

impl RetryReport {
    pub(crate) fn new(lane: LaneRetries, now_ms: i64) -> Self {
        let LaneRetries { lane, partition, backlog, complete, .. } = lane;
        let overdue_ms = backlog.next_due_ms.map_or(0, |due_ms| now_ms.saturating_sub(due_ms).max(0));
        Self {
            lane,
            retry_topic: partition.topic.to_string(),
            parked: backlog.records,
            behind: backlog.behind,
            running: backlog.running,
            oldest_due: backlog.oldest_due_ms.map(time),
            next_due: backlog.next_due_ms.map(time),
            overdue_seconds: overdue_ms as f64 / 1000.0,
            attempts: backlog.attempts,
            complete,
        }
    }
}

/// The first records of these lanes by their due times, `limit` at most, with what the retry topic says of them, which is read until
/// `stop` says so; what else is to be known is a sentence for `note`.
pub(crate) fn first_records(
    log: &dyn Log,
    lanes: &[LaneRetries],
    limit: usize,
    redaction: &Redaction,
    stop: &dyn Fn() -> bool,
    note: &mut dyn FnMut(&str),
) -> Vec<ParkedRecord> {
    let mut first: Vec<(Known, &TopicPartition)> =
        lanes.iter().flat_map(|lane| lane.first.iter().map(|known| (*known, &lane.partition))).collect();
    first.sort_by_key(|(known, _)| *known);
    first.truncate(limit);
    let mut told = HashMap::new();
    for lane in lanes {
        let wanted = first.iter().filter(|(_, partition)| **partition == lane.partition);
        let mut offsets: Vec<i64> = wanted.map(|(known, _)| known.offset).collect();
        offsets.sort_unstable();
        for near in offsets.chunk_by(|one, next| next - one <= READ_OVER) {
            let mut see = |record: &Record<'_>| {
                if let Some(account) = ParkedAccount::of(record, redaction) {
                    told.insert((&lane.partition, record.offset), account);
                }
            };
            read(log, &lane.partition, near, &mut see, stop, note);
        }
    }
    let missing = first.len() - told.len();
    if missing > 0 {
        note(&format!(
            "of {missing} of these records no more is known: they have gone on meanwhile, or could not be read in time"
        ));
    }
    let mut records = Vec::new();
    for (known, partition) in first {
        records.push(ParkedRecord {
            due: time(known.due_ms),
            place: format!("{}/{}/{}", partition.topic, partition.partition, known.offset),
            attempts: known.attempts,
            behind: known.is_behind,
            told: told.remove(&(partition, known.offset)),
        });
    }
    records
}

/// Shows the records at these offsets, as far as they are there.
fn read(
    log: &dyn Log,
    partition: &TopicPartition,
    offsets: &[i64],
    see: &mut dyn FnMut(&Record<'_>),
    stop: &dyn Fn() -> bool,
    note: &mut dyn FnMut(&str),
) {
    let (Some(start), Some(last)) = (offsets.first(), offsets.last()) else { return };
    if stop() {
        return;
    }
    let span = Span { partition: partition.clone(), start: *start, end: last + 1 };
    let mut look = |seen: Seen<'_>| -> ControlFlow<()> {
        match seen {
            Seen::Record(_, record) if offsets.binary_search(&record.offset).is_ok() => see(&record),
            _ => {}
        }
        ControlFlow::Continue(())
    };
    match Merge::begin(log, vec![span], false).map(|merge| merge.run(&mut look, stop, note)) {
        Ok(Ended::Done | Ended::Stopped | Ended::Enough(())) => {}
        Ok(Ended::Failed(error)) => note(&format!("{partition} can't be read: {error}")),
        Err(error) => note(&format!("{partition} can't be read: {error}")),
    }
}

impl ParkedAccount {
    /// `None` where its headers can't be read: it is due at once, and will be dead-lettered as undecodable.
    fn of(record: &Record<'_>, redaction: &Redaction) -> Option<Self> {
        let (_, Provenance { origin, blame, class, code, message, first_failed_ms, last_failed_ms, .. }) =
            Provenance::split(record.headers).ok()?;
        Some(Self {
            topic: origin.partition.topic.to_string(),
            partition: origin.partition.partition,
            offset: origin.offset,
            key: RawValue::from_string(redaction.key(record.key)).ok()?,
            stage: blame.stage.as_deref().map(str::to_owned),
            class: class.to_string(),
            code,
            message,
            first_failed: time(first_failed_ms),
            last_failed: time(last_failed_ms),
        })
    }
}

#[cfg(test)]
mod tests;
