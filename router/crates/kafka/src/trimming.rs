//! Removing what is settled from retry topics, which keep their records for ever otherwise.
//!
//! Only what lies below an offset that the broker has taken as committed is removed: whoever owns the partition next begins
//! there or later. It is not urgent, and nobody waits for it: the request goes to the broker and its answer comes back
//! through the control thread's own queue.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use pointsman_core::record::TopicPartition;

use crate::classify::{compacted_only, remedy};
use crate::membership::Member;
use crate::native::{Code, Event, PartitionList, Removed};

/// So many settled records of a partition are removed at once, ...
const RECORDS: i64 = 4096;
/// ... but not more often than this, ...
const PAUSE: Duration = Duration::from_secs(10);
/// ... and fewer after this time.
const INTERVAL: Duration = Duration::from_secs(600);
/// What failed is tried again then. It has all the time in the world, and the log is not to be full of it.
const AFTER_FAILURE: Duration = Duration::from_secs(3600);
/// How often the partitions are looked through.
const LOOK: Duration = Duration::from_secs(1);

/// How far the retry partitions of this member are settled and trimmed.
pub(crate) struct Trimming {
    /// By the retry partition.
    partitions: BTreeMap<TopicPartition, Trimmed>,
    look_at: Instant,
    /// No other failure is told of before.
    quiet_until: Instant,
}

/// One retry partition.
struct Trimmed {
    /// That it follows.
    source: TopicPartition,
    /// The broker has taken this as committed.
    committed: i64,
    /// Nothing below is left, as far as is known.
    removed: i64,
    not_before: Instant,
    /// From then on, whatever there is.
    all_from: Instant,
}

impl Trimming {
    pub(crate) fn new(now: Instant) -> Self {
        Self { partitions: BTreeMap::new(), look_at: now, quiet_until: now }
    }

    /// A retry partition is ours, and committed up to here.
    pub(crate) fn begin(&mut self, retry: TopicPartition, source: TopicPartition, committed: i64, now: Instant) {
        // Whether its last owner came to remove what it had settled is not known: it is looked after once.
        let removed = committed - 1;
        let trimmed = Trimmed { source, committed, removed, not_before: now, all_from: now + INTERVAL };
        self.partitions.insert(retry, trimmed);
    }

    /// Source partitions are another member's, and their retry partitions with them.
    pub(crate) fn end(&mut self, sources: &[TopicPartition]) {
        self.partitions.retain(|_, trimmed| !sources.contains(&trimmed.source));
    }

    /// The broker has taken a commit.
    pub(crate) fn committed(&mut self, partition: &TopicPartition, offset: i64) {
        if let Some(trimmed) = self.partitions.get_mut(partition) {
            trimmed.committed = offset;
        }
    }

    /// What is to be removed now: everything below these offsets. Until the answer comes, it counts as failed.
    fn due(&mut self, now: Instant) -> Vec<(TopicPartition, i64)> {
        if now < self.look_at {
            return Vec::new();
        }
        self.look_at = now + LOOK;
        let due = self.partitions.iter_mut().filter(|(_, trimmed)| trimmed.is_due(now));
        due.map(|(partition, trimmed)| {
            (trimmed.not_before, trimmed.all_from) = (now + AFTER_FAILURE, now + INTERVAL);
            (partition.clone(), trimmed.committed)
        })
        .collect()
    }

    /// Takes an answer. What has failed is returned where it is to be told: the first of it, and of how many partitions.
    fn answered(&mut self, removed: Vec<Removed>, now: Instant) -> Option<(TopicPartition, Code, String, usize)> {
        let mut failed = Vec::new();
        for (partition, result) in removed {
            match (result, self.partitions.get_mut(&partition)) {
                (Ok(first), Some(trimmed)) => {
                    trimmed.removed = trimmed.removed.max(first);
                    trimmed.not_before = now + PAUSE;
                }
                (Err((code, message)), Some(_)) => failed.push((partition, code, message)),
                (_, None) => {}
            }
        }
        let count = failed.len();
        let (partition, code, message) = failed.into_iter().next().filter(|_| now >= self.quiet_until)?;
        self.quiet_until = now + AFTER_FAILURE;
        Some((partition, code, message, count))
    }
}

impl Trimmed {
    fn is_due(&self, now: Instant) -> bool {
        let settled = self.committed - self.removed;
        now >= self.not_before && (settled >= RECORDS || settled > 0 && now >= self.all_from)
    }
}

impl Member {
    /// Has what is settled removed, where that is due. Never waits.
    pub(crate) fn trim(&mut self) {
        let due = self.trimming.due(Instant::now());
        if due.is_empty() {
            return;
        }
        let mut below = PartitionList::with_capacity(due.len());
        for (TopicPartition { topic, partition }, offset) in &due {
            below.push(topic, *partition, *offset, "");
        }
        tracing::debug!(group = %self.plan.group, partitions = due.len(), "removing what is settled of retry topics");
        self.client.delete_records(&below, self.request_timeout, &self.queue);
    }

    /// Takes the answer.
    pub(crate) fn trimmed(&mut self, event: &Event) {
        let removed = match event.code().ok() {
            Ok(()) => event.removed_records(),
            // Of all that was asked for, and what that was is not told.
            Err(code) => {
                let failed = |partition: &TopicPartition| (partition.clone(), Err((code, event.describe())));
                self.trimming.partitions.keys().take(1).map(failed).collect()
            }
        };
        if let Some((partition, code, message, count)) = self.trimming.answered(removed, Instant::now()) {
            let remedy = if compacted_only(code) { "; set the topic's cleanup.policy to delete" } else { remedy(code) };
            tracing::warn!(
                group = %self.plan.group, %partition, %code, partitions = count,
                "can't remove what is settled from a retry topic: {message}{remedy}; nothing is lost, but the topic grows until \
                 it can be done, which is tried again every hour",
            );
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    fn retry() -> TopicPartition {
        TopicPartition::new("retry", 3)
    }

    fn source() -> TopicPartition {
        TopicPartition::new("source", 3)
    }

    fn trimming(now: Instant) -> Trimming {
        let mut trimming = Trimming::new(now);
        trimming.begin(retry(), source(), 100, now);
        trimming
    }

    /// Seconds at which something was removed, and up to where, of the commits that came in each second.
    fn removals(commits: impl Fn(i64) -> i64, seconds: i64) -> Vec<(i64, i64)> {
        let start = Instant::now();
        let mut trimming = trimming(start);
        let mut removals = Vec::new();
        for second in 0..seconds {
            let now = start + Duration::from_secs(second.unsigned_abs());
            trimming.committed(&retry(), commits(second));
            for (partition, offset) in trimming.due(now) {
                removals.push((second, offset));
                assert_eq!(trimming.answered(vec![(partition, Ok(offset))], now), None);
            }
        }
        removals
    }

    #[test]
    fn many_records_go_soon_and_few_in_time() {
        // What an earlier owner has left.
        assert_eq!(removals(|_| 100, 1300), [(600, 100)]);
        assert_eq!(removals(|second| 100 + second, 1300), [(600, 700), (1200, 1300)]);
        // Each time as many as there are.
        assert_eq!(removals(|second| 100 + second * 1000, 21), [(5, 5100), (15, 15_100)]);
    }

    #[test]
    fn what_fails_is_told_and_tried_again_once_an_hour() {
        let start = Instant::now();
        let mut trimming = trimming(start);
        trimming.committed(&retry(), 10_000);
        let (mut tries, mut told) = (Vec::new(), Vec::new());
        for second in 0..7300 {
            let now = start + Duration::from_secs(second);
            for (partition, _) in trimming.due(now) {
                tries.push(second);
                let refused = vec![(partition, Err((Code(29), "not allowed".to_owned())))];
                told.extend(trimming.answered(refused, now).map(|_| second));
            }
        }
        assert_eq!((tries, told), (vec![0, 3600, 7200], vec![0, 3600, 7200]));
    }

    #[test]
    fn what_is_another_members_is_left_alone() {
        let now = Instant::now();
        let mut trimming = trimming(now);
        trimming.committed(&retry(), 10_000);
        trimming.end(&[source()]);
        trimming.committed(&retry(), 20_000);
        assert_eq!(trimming.due(now + INTERVAL), []);
        // An answer that comes late.
        assert_eq!(trimming.answered(vec![(retry(), Err((Code(29), String::new())))], now), None);
    }
}
