//! One partition: what was found of it, and what that makes.

use std::collections::HashMap;
use std::sync::Arc;

use pointsman_core::lag::{History, Observation, Terms, age, until_gone};
use pointsman_core::port::{Commit, LogError, Reader, StartAt, TopicSettings};
use pointsman_core::record::TopicPartition;
use pointsman_core::settled::Settled;

use super::look::Seen;
use super::report::{Kind, Pace, PartitionLag};
use super::subject::Subject;
use super::{Key, settled_beyond};
use crate::dead_letter::Handled;

/// What is found of a partition in one look.
pub(super) struct Draft<'a> {
    pub(super) subject: &'a Subject,
    pub(super) key: Key,
    pub(super) commit: Option<Commit>,
    /// What is settled behind the commit.
    beyond: Settled,
    /// The first offset, and one past the last.
    pub(super) bounds: Option<(i64, i64)>,
    /// Where what is left begins; `None` where that is not known.
    pub(super) from: Option<i64>,
    /// Of dead letters, those that were handled.
    handled: Option<Arc<Handled>>,
    reader: Option<String>,
    is_read: Option<bool>,
    pub(super) seen: Option<Result<Seen, String>>,
    problem: Option<String>,
}

/// What is known of a partition from earlier looks.
pub(super) struct Known {
    pub(super) history: History,
    /// The last commit, and when the group was last heard of but for commits that moved on.
    last: Option<(Commit, Option<i64>)>,
    /// Where was looked from, up to where, by what commit, and what there was.
    seen: Option<(i64, i64, Option<Commit>, Seen)>,
}

/// Observations that are kept of each partition.
const OBSERVATIONS: usize = 120;

impl Default for Known {
    fn default() -> Self {
        Self { history: History::new(OBSERVATIONS), last: None, seen: None }
    }
}

/// Who reads what of a group.
#[derive(Default)]
pub(super) struct Readers {
    /// Has all that the group reads.
    of_all: Option<String>,
    by_partition: HashMap<TopicPartition, String>,
}

impl Readers {
    pub(super) fn of(readers: Vec<Reader>) -> Self {
        let mut all = Self::default();
        for Reader { name, partitions } in readers {
            match partitions {
                None => all.of_all = Some(name),
                Some(partitions) => {
                    all.by_partition.extend(partitions.into_iter().map(|partition| (partition, name.clone())));
                }
            }
        }
        all
    }

    fn of_partition(&self, partition: &TopicPartition) -> Option<String> {
        self.by_partition.get(partition).or(self.of_all.as_ref()).cloned()
    }
}

impl Known {
    /// What a look would see: the same as before, where nothing has changed, or where there was too much to be counted. Of letters it
    /// is not known, since others may have been handled meanwhile.
    pub(super) fn seen_before(&self, draft: &Draft<'_>) -> Option<Seen> {
        let (from, end, commit, seen) = self.seen.as_ref()?;
        let is_same = draft.from == Some(*from) && draft.commit == *commit && draft.handled.is_none();
        let (_, end_now) = draft.bounds?;
        (is_same && (*end == end_now || (seen.records.is_none() && seen.oldest.is_some()))).then(|| seen.clone())
    }
}

impl<'a> Draft<'a> {
    pub(super) fn new(
        subject: &'a Subject,
        key: Key,
        commit: Option<Commit>,
        bounds: Option<Result<(i64, i64), LogError>>,
        readers: &HashMap<Arc<str>, Readers>,
    ) -> Self {
        let readers = key.0.as_ref().and_then(|group| readers.get(group));
        let topic = subject.follows.as_ref().unwrap_or(&key.1.topic);
        let source = TopicPartition::new(Arc::clone(topic), key.1.partition);
        let reader = readers.and_then(|readers| readers.of_partition(&source));
        let beyond = commit.as_ref().map(settled_beyond).unwrap_or_default();
        let is_read = readers.map(|_| reader.is_some());
        let mut draft = Self {
            subject,
            key,
            commit,
            beyond,
            bounds: None,
            from: None,
            handled: None,
            reader,
            is_read,
            seen: None,
            problem: None,
        };
        match bounds {
            Some(Ok((first, end))) => {
                draft.bounds = Some((first, end));
                draft.begin(first, end);
            }
            Some(Err(error)) => draft.fail(error.to_string()),
            None => draft.fail("the log has not said what it holds".to_owned()),
        }
        draft
    }

    /// Where what is left begins.
    fn begin(&mut self, first: i64, end: i64) {
        match &self.commit {
            Some(commit) if commit.offset > end => {
                let at = commit.offset;
                self.fail(format!("the group is at {at}, beyond the end: the topic was made anew, or cut off"));
            }
            Some(commit) => self.from = Some(commit.offset.max(first)),
            None => match self.subject.start {
                // A time is looked up later.
                StartAt::Earliest | StartAt::Time(_) => self.from = Some(first),
                StartAt::Latest => self.from = Some(end),
            },
        }
    }

    /// Something is not known.
    pub(super) fn fail(&mut self, why: String) {
        self.from = None;
        self.problem = Some(why);
    }

    /// These letters were handled.
    pub(super) fn leave_out(&mut self, handled: Arc<Handled>) {
        self.from = self.from.map(|from| handled.first_open(&self.key.1, from));
        self.handled = Some(handled);
    }

    pub(super) fn has_offsets_left(&self) -> bool {
        self.from.zip(self.bounds).is_some_and(|(from, (_, end))| from < end)
    }

    /// Tells of an offset whether its record is settled.
    pub(super) fn settled(&self) -> impl Fn(i64) -> bool + use<> {
        let (beyond, handled, partition) = (self.beyond.clone(), self.handled.clone(), self.key.1.clone());
        move |offset| {
            beyond.contains(offset) || handled.as_ref().is_some_and(|handled| handled.has_offset(&partition, offset))
        }
    }

    /// Offsets that are left, if each had a record.
    fn offsets_left(&self) -> Option<u64> {
        let (from, (_, end)) = self.from.zip(self.bounds)?;
        let left = end.saturating_sub(from).max(0).unsigned_abs();
        let handled = self.handled.as_ref().map_or(0, |handled| handled.count(&self.key.1, from, end));
        Some(left.saturating_sub(handled).saturating_sub(self.beyond.len()))
    }

    /// Adds what was found to what is known, and tells it.
    pub(super) fn finish(
        mut self,
        known: &mut Known,
        settings: Option<&TopicSettings>,
        terms: &Terms,
        now_ms: i64,
    ) -> PartitionLag {
        let seen = match self.seen.take() {
            Some(Ok(seen)) => Some(seen),
            Some(Err(why)) => {
                self.problem.get_or_insert_with(|| format!("the oldest record is not known: {why}"));
                None
            }
            // There was nothing to look for.
            None => self.from.map(|_| Seen { oldest: None, records: Some(0) }),
        };
        known.seen = match (self.from, self.bounds, &seen) {
            (Some(from), Some((_, end)), Some(seen)) => Some((from, end, self.commit.clone(), seen.clone())),
            _ => None,
        };
        self.observe(known, seen.as_ref(), now_ms);
        let counted = seen.as_ref().and_then(|seen| seen.records);
        let oldest = seen.as_ref().and_then(|seen| seen.oldest);
        let records = counted.or_else(|| self.offsets_left().map(|left| left.max(u64::from(oldest.is_some()))));
        let timestamp_ms = oldest.map(|(_, timestamp_ms)| timestamp_ms).filter(|timestamp_ms| *timestamp_ms >= 0);
        let is_source = self.subject.what.kind == Kind::Source;
        let is_judged = is_source && known.history.len() > 1;
        let last = known.history.last().filter(|_| self.subject.group.is_some());
        let lag_seconds = match (records, timestamp_ms) {
            (Some(0), _) => Some(0.0),
            (_, timestamp_ms) => timestamp_ms.map(|timestamp_ms| seconds(age(timestamp_ms, now_ms))),
        };
        PartitionLag {
            what: self.subject.what.clone(),
            partition: self.key.1.partition,
            committed: self.commit.as_ref().map(|commit| commit.offset),
            first: self.bounds.map(|(first, _)| first),
            end: self.bounds.map(|(_, end)| end),
            records,
            exact: counted.is_some(),
            oldest_offset: oldest.map(|(offset, _)| offset),
            oldest_timestamp: timestamp_ms.and_then(|ms| Some(jiff::Timestamp::from_millisecond(ms).ok()?.to_string())),
            lag_seconds,
            lost: last.map_or(0, Observation::lost),
            retention_seconds: gone_in(&known.history, timestamp_ms, settings, now_ms),
            retention_records: last.and_then(Observation::slack).filter(|_| records != Some(0)),
            reader: self.reader,
            is_read: self.is_read,
            pace: if is_judged { pace(&known.history) } else { None },
            status: is_judged.then(|| known.history.status(terms)),
            problem: self.problem,
        }
    }

    /// Makes an observation of it.
    fn observe(&self, known: &mut Known, seen: Option<&Seen>, now_ms: i64) {
        let Some((first, end)) = self.bounds else { return };
        let mut heard_ms = known.last.as_ref().and_then(|(_, heard_ms)| *heard_ms);
        let before = known.last.as_ref().map(|(commit, _)| commit);
        // A commit of the same offset can be seen where it says something else.
        let says_more = before.zip(self.commit.as_ref()).is_some_and(|(before, now)| before.metadata != now.metadata);
        if says_more || self.is_read == Some(true) {
            heard_ms = Some(now_ms);
        }
        known.last = self.commit.clone().map(|commit| (commit, heard_ms));
        known.history.push(Observation {
            time_ms: now_ms,
            committed: self.commit.as_ref().map(|commit| commit.offset),
            settled_beyond: self.beyond.len(),
            end,
            first,
            nothing_unread: seen.is_some_and(|seen| seen.oldest.is_none()),
            heard_ms,
        });
    }
}

/// When retention comes to the oldest record that is left: by its age, or, where the size of the partition is bounded, by how its front
/// moves.
fn gone_in(history: &History, oldest_ms: Option<i64>, settings: Option<&TopicSettings>, now_ms: i64) -> Option<f64> {
    let settings = settings?;
    let by_age = settings.retention.zip(oldest_ms).map(|(retention, oldest_ms)| {
        until_gone(oldest_ms, u64::try_from(retention.as_millis()).unwrap_or(u64::MAX), now_ms)
    });
    let by_size = settings.retention_bytes.and_then(|_| history.overtaken_ms());
    by_age.into_iter().chain(by_size).min().map(seconds)
}

fn pace(history: &History) -> Option<Pace> {
    let rates = history.rates()?;
    Some(Pace {
        written_per_second: rates.written,
        read_per_second: rates.read,
        drain_seconds: history.drain_ms().map(seconds),
    })
}

fn seconds(ms: u64) -> f64 {
    ms as f64 / 1000.0
}
