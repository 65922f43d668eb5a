//! How far groups are behind, as somebody sees them who only looks: `pointsman lag`.
//!
//! A [`Watcher`] looks at everything that a [`Choice`] picks and tells it as a [`Report`]; what it has seen before makes rates and
//! statuses of it (`pointsman_core::lag`). The routers need not run, nothing is joined, and nothing is committed.
//!
//! Three things are asked for many partitions at a time: commits, first and last offsets, and readers. The fourth, the oldest record
//! that is not settled, has to be read, of each partition that has something left; it tells the lag in seconds, and whether there is a
//! record at all where offsets alone say so.

pub(crate) mod look;
mod partition;
mod report;
mod subject;
#[cfg(test)]
pub(crate) mod tests;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pointsman_config::Plan;
use pointsman_config::dead_letters::audit_topic;
use pointsman_core::lag::Terms;
use pointsman_core::metadata::Metadata;
use pointsman_core::port::{Commit, Log, LogError, StartAt, TopicSettings};
use pointsman_core::record::TopicPartition;
use thiserror::Error;

use self::look::{Look, Seen};
use self::partition::{Draft, Known, Readers};
pub use self::report::{Kind, Pace, PartitionLag, Report, TopicLag, What};
use self::subject::Subject;
use crate::dead_letter::{Handled, Topic};
use crate::progress::UNTOLD;

/// How long oldest records are read for in one look.
const LOOK_FOR: Duration = Duration::from_secs(10);
/// More than so many records of what was handled are not read through for a number.
const AUDIT_RECORDS: i64 = 100_000;
/// How long a group of this configuration may do nothing before that counts. It commits each second, or as often as its file says.
const OWN_PATIENCE: Duration = Duration::from_secs(8);
/// How long another group may. Clients commit every 5 s by default, Kafka Connect each minute; a group that is seen to take longer is
/// waited for longer.
const OTHER_PATIENCE: Duration = Duration::from_secs(60);

/// What is to be looked at.
#[derive(Clone, Debug, Default)]
pub struct Choice {
    /// What this group has committed, instead of the topics of the configuration.
    pub group: Option<String>,
    /// Of this route only.
    pub route: Option<String>,
    /// This topic only.
    pub topic: Option<String>,
}

/// There is nothing to tell.
#[derive(Debug, Error)]
pub enum LagError {
    /// The log can't be asked.
    #[error(transparent)]
    Log(#[from] LogError),
    /// A group without commits.
    #[error("the group {0} has committed nothing, or there is no such group; check its name")]
    NoGroup(String),
    /// A topic that is not among them.
    #[error("{topic} is not among the topics; they are {known}")]
    NoTopic {
        /// What was asked for.
        topic: String,
        /// What there is.
        known: String,
    },
}

/// A partition, as a group sees it; dead letters belong to none.
type Key = (Option<Arc<str>>, TopicPartition);

/// What an audit topic had, and what that told.
type Audit = (Vec<(i64, i64)>, Arc<Handled>);

/// Looks again and again.
pub struct Watcher<'a> {
    log: &'a dyn Log,
    choice: Choice,
    /// Empty where it is another group's.
    plan: Vec<Subject>,
    terms: Terms,
    settings: HashMap<Arc<str>, Option<TopicSettings>>,
    known: HashMap<Key, Known>,
    /// By topic of letters.
    handled: HashMap<Arc<str>, Audit>,
}

impl<'a> Watcher<'a> {
    /// Begins to look, on `log`, which is that of `plan`.
    #[must_use]
    pub fn new(log: &'a dyn Log, plan: &Plan, choice: Choice) -> Self {
        let (subjects, patience) = match &choice.group {
            Some(_) => (Vec::new(), OTHER_PATIENCE),
            None => {
                let commits = plan.router.commit_interval * 3;
                (subject::of_plan(plan, choice.route.as_deref()), OWN_PATIENCE.max(commits))
            }
        };
        let patience_ms = u64::try_from(patience.as_millis()).unwrap_or(u64::MAX);
        Self {
            log,
            choice,
            plan: subjects,
            terms: Terms { patience_ms },
            settings: HashMap::new(),
            known: HashMap::new(),
            handled: HashMap::new(),
        }
    }

    /// Looks once. `now_ms` is the time, in milliseconds since 1970-01-01 UTC; `stop` is asked now and then, and what is not known by
    /// then stays so.
    ///
    /// # Errors
    /// [`LagError`]. What can't be found out of some partitions is told with them.
    pub fn look(&mut self, now_ms: i64, stop: &dyn Fn() -> bool) -> Result<Report, LagError> {
        let deadline = Instant::now() + LOOK_FOR;
        let mut notes = Vec::new();
        let mut missing = Vec::new();
        let (subjects, commits) = self.subjects(&mut missing)?;
        self.ask_settings(&subjects);
        let readers = self.readers(&subjects, &mut notes);
        let all: Vec<TopicPartition> = subjects.iter().flat_map(Subject::all_partitions).collect();
        let mut bounds = self.log.bounds(&all).into_iter();
        let mut drafts = Vec::with_capacity(all.len());
        for subject in &subjects {
            for partition in subject.all_partitions() {
                let key = (subject.group.clone(), partition);
                let commit = commits.get(&key).cloned();
                drafts.push(Draft::new(subject, key, commit, bounds.next(), &readers));
            }
        }
        self.find_starts(&mut drafts);
        self.count_handled(&subjects, &mut drafts, deadline, stop, &mut notes);
        self.read_oldest(&mut drafts, deadline, stop);
        let partitions: Vec<PartitionLag> = drafts
            .into_iter()
            .map(|draft| {
                let settings = self.settings.get(&draft.key.1.topic).and_then(Option::as_ref);
                let known = self.known.entry(draft.key.clone()).or_default();
                draft.finish(known, settings, &self.terms, now_ms)
            })
            .collect();
        let topics = partitions.chunk_by(|one, next| one.what == next.what).filter_map(report::sum).collect();
        let at = jiff::Timestamp::from_millisecond(now_ms).map(|at| at.to_string()).unwrap_or_default();
        Ok(Report { at, topics, partitions, missing, notes })
    }

    /// What there is to look at now, and what was committed there.
    fn subjects(&self, missing: &mut Vec<String>) -> Result<(Vec<Subject>, HashMap<Key, Commit>), LagError> {
        let mut commits = HashMap::new();
        let mut take = |group: &Arc<str>, found: Vec<Commit>| {
            commits
                .extend(found.into_iter().map(|commit| ((Some(Arc::clone(group)), commit.partition.clone()), commit)));
        };
        if let Some(name) = &self.choice.group {
            let group: Arc<str> = name.as_str().into();
            let found = self.log.progress(&group, None)?;
            let subjects = subject::of_group(&group, &found);
            if subjects.is_empty() {
                return Err(LagError::NoGroup(name.clone()));
            }
            let subjects = self.pick(subjects)?;
            take(&group, found);
            return Ok((subjects, commits));
        }
        let chosen = self.pick(self.plan.clone())?;
        let mut names: Vec<Arc<str>> = chosen.iter().map(|subject| Arc::clone(&subject.topic)).collect();
        names.sort_unstable();
        names.dedup();
        let there = self.log.topics(Some(&names))?;
        let mut subjects = Vec::new();
        for subject in chosen {
            match there.iter().find(|topic| topic.name == subject.topic) {
                Some(topic) => subjects.push(subject.with(topic.partitions)),
                // The others are made when a router starts.
                None if subject.what.kind == Kind::Source => missing.push(subject.topic.to_string()),
                None => {}
            }
        }
        let mut groups: Vec<&Arc<str>> = subjects.iter().filter_map(|subject| subject.group.as_ref()).collect();
        groups.sort_unstable();
        groups.dedup();
        for group in groups {
            let own = subjects.iter().filter(|subject| subject.group.as_ref() == Some(group));
            let partitions: Vec<TopicPartition> = own.flat_map(Subject::all_partitions).collect();
            take(group, self.log.progress(group, Some(&partitions))?);
        }
        Ok((subjects, commits))
    }

    /// Those of the topic that was asked for.
    fn pick(&self, mut subjects: Vec<Subject>) -> Result<Vec<Subject>, LagError> {
        let Some(topic) = &self.choice.topic else { return Ok(subjects) };
        let mut known: Vec<String> = subjects.iter().map(|subject| subject.topic.to_string()).collect();
        known.dedup();
        subjects.retain(|subject| *subject.topic == **topic);
        if subjects.is_empty() {
            return Err(LagError::NoTopic { topic: topic.clone(), known: known.join(", ") });
        }
        Ok(subjects)
    }

    /// Asks what the log does with the records of topics, once. Who has not the right to ask, is told nothing of retention.
    fn ask_settings(&mut self, subjects: &[Subject]) {
        let mut names: Vec<Arc<str>> = subjects.iter().map(|subject| Arc::clone(&subject.topic)).collect();
        names.retain(|name| !self.settings.contains_key(name));
        names.sort_unstable();
        names.dedup();
        let found = match self.log.settings(&names) {
            Ok(found) => found.into_iter().map(Some).collect(),
            Err(_) if names.len() > 1 => {
                let one = |name| self.log.settings(std::slice::from_ref(name)).ok()?.into_iter().next();
                names.iter().map(one).collect()
            }
            Err(_) => vec![None; names.len()],
        };
        self.settings.extend(names.into_iter().zip(found));
    }

    /// The readers of each group, where they are known.
    fn readers(&self, subjects: &[Subject], notes: &mut Vec<String>) -> HashMap<Arc<str>, Readers> {
        let mut groups: Vec<&Arc<str>> = subjects.iter().filter_map(|subject| subject.group.as_ref()).collect();
        groups.sort_unstable();
        groups.dedup();
        let mut all = HashMap::new();
        for group in groups {
            match self.log.readers(group) {
                Ok(Some(readers)) => drop(all.insert(Arc::clone(group), Readers::of(readers))),
                Ok(None) => notes.push(format!("who reads for the group {group} can't be told now")),
                Err(error) => notes.push(format!("who reads for the group {group} is not known: {error}")),
            }
        }
        all
    }

    /// Where routes begin that begin at a time, and have not yet.
    fn find_starts(&self, drafts: &mut [Draft<'_>]) {
        for draft in drafts.iter_mut().filter(|draft| draft.commit.is_none()) {
            if let (StartAt::Time(at), Some(_)) = (draft.subject.start, &draft.from) {
                match self.log.offset_at(&draft.key.1, at) {
                    Ok(offset) => draft.from = Some(offset),
                    Err(error) => draft.fail(error.to_string()),
                }
            }
        }
    }

    /// Looks up which dead letters were handled, where that is no long work.
    fn count_handled(
        &mut self,
        subjects: &[Subject],
        drafts: &mut [Draft<'_>],
        deadline: Instant,
        stop: &dyn Fn() -> bool,
        notes: &mut Vec<String>,
    ) {
        for subject in subjects.iter().filter(|subject| subject.what.kind == Kind::DeadLetter) {
            match self.read_audit(subject, deadline, stop) {
                Ok(handled) => {
                    let own = drafts.iter_mut().filter(|draft| draft.key.1.topic == subject.topic);
                    own.for_each(|draft| draft.leave_out(Arc::clone(&handled)));
                }
                Err(why) => notes.push(format!(
                    "which letters of {} were handled is not known, so that all count: {why}",
                    subject.topic
                )),
            }
        }
    }

    fn read_audit(
        &mut self,
        subject: &Subject,
        deadline: Instant,
        stop: &dyn Fn() -> bool,
    ) -> Result<Arc<Handled>, String> {
        let audit = audit_topic(&subject.topic);
        let there = self.log.topics(Some(std::slice::from_ref(&audit))).map_err(|error| error.to_string())?;
        let partitions: Vec<TopicPartition> = there
            .iter()
            .flat_map(|topic| {
                (0..topic.partitions.cast_signed()).map(|number| TopicPartition::new(Arc::clone(&audit), number))
            })
            .collect();
        let bounds: Result<Vec<(i64, i64)>, LogError> = self.log.bounds(&partitions).into_iter().collect();
        let bounds = bounds.map_err(|error| error.to_string())?;
        if let Some((known, handled)) = self.handled.get(&subject.topic)
            && *known == bounds
        {
            return Ok(Arc::clone(handled));
        }
        let records: i64 = bounds.iter().map(|(first, end)| end - first).sum();
        if records > AUDIT_RECORDS {
            return Err(format!(
                "{audit} has {records} records, which are not read through for that; `pointsman dead-letter stats` does it"
            ));
        }
        let count = u32::try_from(subject.partitions.len()).unwrap_or(u32::MAX);
        let topic = Topic { name: Arc::clone(&subject.topic), partitions: count, settings: None };
        let stop = || stop() || Instant::now() >= deadline;
        let handled = Handled::read(self.log, &[topic], &mut |_| {}, &stop, UNTOLD, &mut |_| {});
        let handled = Arc::new(handled.map_err(|error| error.to_string())?);
        self.handled.insert(Arc::clone(&subject.topic), (bounds, Arc::clone(&handled)));
        Ok(handled)
    }

    /// Reads the oldest records, but for those that are known already.
    fn read_oldest(&self, drafts: &mut [Draft<'_>], deadline: Instant, stop: &dyn Fn() -> bool) {
        let mut wanted = Vec::new();
        for (index, draft) in drafts.iter_mut().enumerate() {
            match self.known.get(&draft.key).and_then(|known| known.seen_before(draft)) {
                Some(seen) => draft.seen = Some(Ok(seen)),
                None if draft.has_offsets_left() => wanted.push(index),
                None => {}
            }
        }
        let settled: Vec<_> = wanted.iter().map(|index| drafts[*index].settled()).collect();
        let looks: Vec<Look<'_>> = wanted
            .iter()
            .zip(&settled)
            .filter_map(|(index, is_settled)| {
                let draft = &drafts[*index];
                let (from, (_, end)) = (draft.from?, draft.bounds?);
                Some(Look { partition: draft.key.1.clone(), from, end, is_settled })
            })
            .collect();
        let found: Vec<Result<Seen, String>> = look::look(self.log, &looks, deadline, stop);
        drop(looks);
        drop(settled);
        for (index, seen) in wanted.into_iter().zip(found) {
            drafts[index].seen = Some(seen);
        }
    }
}

/// What the metadata of a commit says to be settled. What can't be read says nothing, as for the router.
fn settled_beyond(commit: &Commit) -> pointsman_core::settled::Settled {
    Metadata::decode(&commit.metadata, commit.offset).unwrap_or_default().settled
}
