//! Partitions that come: where to start in each, and the retry partition that follows each.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use pointsman_core::port::{AssignedFeed, Assignment, Commit, Feed, LogError, Revocation, SourceTopic, StartAt};
use pointsman_core::record::TopicPartition;

use crate::admin;
use crate::classify::{group_moved_on, timed_out};
use crate::error::client_error;
use crate::feed::{KafkaFeed, Tap};
use crate::membership::{CommitResult, Member};
use crate::native::{Code, PartitionList, Queue};

/// Between two tries to take partitions that could not be taken yet.
const PAUSE: Duration = Duration::from_secs(1);

/// How long a search for the starts of partitions may take: the control thread answers no rebalance meanwhile.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(5);

/// A source partition that the group gave us, and that librdkafka has assigned.
pub(crate) struct Held {
    partition: TopicPartition,
    tap: Arc<Tap>,
    /// Its lane began anew, and reads outside the group. To go back within the group, librdkafka would have to assign the partition
    /// anew: what it would take for the answer to a rebalance that is on its way.
    is_aside: bool,
}

impl Held {
    /// Lets no more records through.
    pub(crate) fn shut(&self) {
        self.tap.shut();
    }

    /// What librdkafka has assigned.
    pub(crate) fn into_assigned(self) -> TopicPartition {
        self.partition
    }
}

/// Source partitions that the group gave us and that can't be taken yet, with the reason that was told.
#[derive(Default)]
pub(crate) struct Pending {
    partitions: BTreeMap<TopicPartition, String>,
    /// Not tried again before.
    again_at: Option<Instant>,
}

/// A source partition whose retry partition, where the plan has one, is there.
struct Lane {
    source: TopicPartition,
    start: StartAt,
    retry: Option<TopicPartition>,
    /// One past the last record that may have been parked before the assignment.
    retry_end: Option<i64>,
}

impl Lane {
    /// Its partitions, and where each starts if nothing is committed for it.
    fn partitions(&self) -> impl Iterator<Item = (&TopicPartition, StartAt)> {
        // Of a retry topic, nothing may be passed over.
        let retry = self.retry.as_ref().map(|retry| (retry, StartAt::Earliest));
        std::iter::once((&self.source, self.start)).chain(retry)
    }
}

/// What was found out about partitions that came.
#[derive(Default)]
struct Findings {
    /// These can be taken, ...
    lanes: Vec<Lane>,
    /// ... from here.
    starts: HashMap<TopicPartition, Commit>,
    /// These can't, for now.
    pending: Vec<(TopicPartition, String)>,
}

impl Pending {
    /// Forgets partitions that are another member's. The answer is those that there were.
    pub(crate) fn forget(&mut self, partitions: &[TopicPartition]) -> Vec<TopicPartition> {
        let known = partitions.iter().filter(|partition| self.partitions.remove(*partition).is_some());
        known.cloned().collect()
    }
}

impl Member {
    /// Takes partitions, as far as that can be done now. The others are held without being read, and tried again.
    pub(crate) fn assign(&mut self, partitions: Vec<TopicPartition>) -> CommitResult {
        if let Some(twice) = partitions.iter().find(|partition| self.held.contains_key(*partition)) {
            // Two lanes would take records from one queue, each with gaps that it does not know of.
            return Err((Code(-1), format!("{twice} was assigned twice")));
        }
        self.take(partitions, true)
    }

    /// Tries again to take what could not be taken before.
    pub(crate) fn assign_pending(&mut self) -> CommitResult {
        let due = self.pending.again_at.is_some_and(|at| at <= Instant::now());
        if !due || self.pending.partitions.is_empty() || self.client.assignment_lost() {
            return Ok(());
        }
        self.take(self.pending.partitions.keys().cloned().collect(), false)
    }

    /// Has lanes begin anew from what is committed, which the router has given up since their transaction was undone.
    pub(crate) fn assign_anew(&mut self, mut partitions: Vec<TopicPartition>) -> CommitResult {
        partitions.retain(|partition| self.held.contains_key(partition));
        if partitions.is_empty() || self.client.assignment_lost() {
            return Ok(());
        }
        // They have no lanes, so there is nothing to commit.
        self.host.revoked(&partitions, Revocation::Lost, Duration::ZERO);
        self.trimming.end(&partitions);
        let fresh: Vec<_> =
            self.held.values_mut().filter(|held| !held.is_aside && partitions.contains(&held.partition)).collect();
        let mut list = PartitionList::with_capacity(fresh.len());
        for held in &fresh {
            list.push(&held.partition.topic, held.partition.partition, 0, "");
        }
        self.client.pause(&list);
        for held in fresh {
            // Nothing that was fetched is out of date unseen, and it takes its place until it is taken.
            held.tap.empty();
            held.is_aside = true;
        }
        self.take(partitions, false)
    }

    /// Lets librdkafka fetch what was set aside, as it is when it is assigned again.
    pub(crate) fn resume(&self, gone: &[Held]) {
        let mut list = PartitionList::with_capacity(gone.len());
        for held in gone.iter().filter(|held| held.is_aside) {
            list.push(&held.partition.topic, held.partition.partition, 0, "");
        }
        self.client.resume(&list);
    }

    /// Finds the starts of partitions, has librdkafka fetch them, and hands them to the router. `answers` says that
    /// librdkafka waits for the answer, even if that is that none is taken.
    fn take(&mut self, partitions: Vec<TopicPartition>, answers: bool) -> CommitResult {
        let Findings { lanes, starts, pending } = self.find(partitions);
        let mut list = PartitionList::with_capacity(lanes.len());
        let mut assignments = Vec::with_capacity(lanes.len());
        for lane in lanes {
            let (source, held) = if self.held.contains_key(&lane.source) {
                let commit = start_of(&lane.source, &starts)?;
                let feed = self
                    .readers
                    .read(&lane.source, commit.offset)
                    .map_err(unread)?
                    .in_batches_of(self.ahead.batch_records);
                (assigned(commit, Box::new(feed)), None)
            } else {
                let (feed, held) = self.feed(&lane.source, &starts, &mut list)?;
                (feed, Some(held))
            };
            let retry = match &lane.retry {
                // Outside the group, since a member's client is not told of the ends of partitions: all its lanes would be woken for
                // the end of each source, again and again.
                Some(retry) => {
                    let commit = start_of(retry, &starts)?;
                    let feed = self.readers.read_tail(retry, commit.offset, lane.retry_end).map_err(unread)?;
                    Some(assigned(commit, Box::new(feed)))
                }
                None => None,
            };
            self.pending.partitions.remove(&lane.source);
            if let Some(retry) = &retry {
                let (follows, now) = (lane.source.clone(), Instant::now());
                self.trimming.begin(retry.partition.clone(), follows, retry.start, now);
            }
            self.held.extend(held.map(|held| (lane.source, held)));
            assignments.push(Assignment { source, retry });
        }
        if answers || !assignments.is_empty() {
            self.answer_assignment(&list)?;
        }
        if !assignments.is_empty() {
            self.host.assigned(assignments);
        }
        for (partition, reason) in pending {
            let told = self.pending.partitions.insert(partition.clone(), reason.clone());
            if told.as_ref() != Some(&reason) {
                self.host.halted(partition, reason);
            }
        }
        self.pending.again_at = Some(Instant::now() + PAUSE);
        Ok(())
    }

    /// Says to librdkafka what is taken of an assignment.
    pub(crate) fn answer_assignment(&self, list: &PartitionList) -> CommitResult {
        self.client.assign(list).map_err(|code| (code, "can't take assigned partitions".to_owned()))
    }

    /// The feed of one partition. Its queue is cut off from the consumer's own here, before the partition is assigned, so
    /// that no record of it can get there.
    fn feed(
        &self,
        partition: &TopicPartition,
        starts: &HashMap<TopicPartition, Commit>,
        list: &mut PartitionList,
    ) -> Result<(AssignedFeed, Held), (Code, String)> {
        let (Some(queue), Some(commit)) =
            (Queue::of_partition(&self.client, &partition.topic, partition.partition), starts.get(partition))
        else {
            return Err((Code(-1), format!("{partition} has no queue")));
        };
        let tap = Tap::open(queue);
        let start = commit.offset;
        list.push(&partition.topic, partition.partition, start, "");
        let held = Held { partition: partition.clone(), tap: Arc::clone(&tap), is_aside: false };
        let feed = KafkaFeed::new(partition.clone(), start, tap, Arc::clone(&self.client))
            .in_batches_of(self.ahead.batch_records);
        Ok((assigned(commit, Box::new(feed)), held))
    }

    /// Asks the cluster what must be known before partitions can be taken.
    fn find(&mut self, partitions: Vec<TopicPartition>) -> Findings {
        let mut findings = Findings::default();
        if let Err(error) = self.find_lanes(&partitions, &mut findings).and_then(|()| self.find_starts(&mut findings)) {
            let reason = format!("{error}; it is tried again");
            findings = Findings::default();
            findings.pending.extend(partitions.into_iter().map(|partition| (partition, reason.clone())));
        }
        findings
    }

    /// Finds the retry partition of each source partition.
    fn find_lanes(&self, partitions: &[TopicPartition], findings: &mut Findings) -> Result<(), LogError> {
        let retry_topics: Vec<_> = self.plan.sources.iter().filter_map(|source| source.retry_topic.clone()).collect();
        let counts: BTreeMap<_, _> = admin::topics(&self.client, Some(&retry_topics), self.request_timeout)?
            .into_iter()
            .map(|topic| (topic.name, topic.partitions))
            .collect();
        for partition in partitions {
            let Some(source) = self.plan.sources.iter().find(|source| source.topic == partition.topic) else {
                findings.pending.push((partition.clone(), "no route of this group reads the topic".to_owned()));
                continue;
            };
            let retry = source
                .retry_topic
                .as_ref()
                .map(|topic| TopicPartition { topic: Arc::clone(topic), partition: partition.partition });
            let count = retry.as_ref().map(|retry| counts.get(&retry.topic).copied().unwrap_or(0));
            match (&retry, count) {
                (Some(retry), Some(count)) if u32::try_from(retry.partition).is_ok_and(|index| index >= count) => {
                    findings.pending.push((partition.clone(), no_retry_partition(retry, count)));
                }
                _ => {
                    let (source, start) = (partition.clone(), self.start(source, partition));
                    findings.lanes.push(Lane { source, start, retry, retry_end: None });
                }
            }
        }
        Ok(())
    }

    /// Where to start in a partition without a commit. One that came into being after this member joined has only records
    /// that nobody has seen: `latest` must not pass over them.
    fn start(&self, source: &SourceTopic, partition: &TopicPartition) -> StartAt {
        let known = self.partitions_at_first.get(&partition.topic).copied().unwrap_or(u32::MAX);
        let is_new = u32::try_from(partition.partition).is_ok_and(|number| number >= known);
        if is_new { StartAt::Earliest } else { source.start }
    }

    /// Where each lane starts: at its commits, or where the plan says. The latter is committed at once, so that a restart
    /// before the first commit does not start somewhere else, and skip what has come in between. A lane whose start can't
    /// be found is left for later, and with it the ones behind it: each search may take a while.
    fn find_starts(&mut self, findings: &mut Findings) -> Result<(), LogError> {
        let (group, client) = (Arc::clone(&self.plan.group), Arc::clone(&self.client));
        let failed = |code| client_error(format!("can't find where the group {group} left off"), code, &client);
        let partitions: Vec<_> =
            findings.lanes.iter().flat_map(Lane::partitions).map(|(partition, _)| partition.clone()).collect();
        if partitions.is_empty() {
            return Ok(());
        }
        // A transaction that is open, of a member that is gone, is waited for.
        let committed = admin::committed_by(&self.client, &partitions, self.timeout()).map_err(|code| {
            let mut error = failed(code);
            if timed_out(code) {
                error.message.push_str(
                    "; or a member that is gone was in the middle of a transaction's commit: brokers end that after \
                     `router.transaction.timeout`",
                );
            }
            error
        })?;
        findings.starts.extend(committed.into_iter().flatten().map(|commit| (commit.partition.clone(), commit)));
        for lane in &findings.lanes {
            self.tell_if_forgotten(lane, &findings.starts);
        }
        let first = self.first_commits(findings);
        if !first.is_empty() {
            match self.commit_and_wait(&first, self.request_timeout) {
                // The group has moved on: what is assigned here is about to be taken away, and its next owner commits.
                Err((code, _)) if group_moved_on(code) => {
                    tracing::warn!(group = %self.plan.group, %code, "a first commit came too late for its assignment");
                    // Where the partitions stay ours after all, their lanes commit it.
                    self.signal.commit_failed();
                }
                committed => committed.map_err(|(code, _)| failed(code))?,
            }
        }
        findings.starts.extend(first.into_iter().map(|commit| (commit.partition.clone(), commit)));
        self.find_ends(&mut findings.lanes)
    }

    /// Kafka forgets what was committed for a topic with the topic.
    fn tell_if_forgotten(&self, lane: &Lane, starts: &HashMap<TopicPartition, Commit>) {
        let Lane { source, retry, .. } = lane;
        if let Some(retry) = retry
            && starts.contains_key(source)
            && !starts.contains_key(retry)
        {
            tracing::warn!(
                group = %self.plan.group, lane = %source, %retry,
                "the group has come some way in the source, and has committed nothing for its retry partition. Unless retries are \
                 new to this route, its retry topic was deleted, and what was parked there is gone with it; `pointsman offsets \
                 reset` has a route read its source again",
            );
        }
    }

    /// The starts of those partitions that have no commit.
    fn first_commits(&self, findings: &mut Findings) -> Vec<Commit> {
        let lanes = std::mem::take(&mut findings.lanes);
        if let Ok(commits) = self.starts(&lanes, &findings.starts) {
            findings.lanes = lanes;
            return commits;
        }
        // One of them can't be found.
        let mut first = Vec::new();
        let mut trouble: Option<LogError> = None;
        for lane in lanes {
            let has_all = lane.partitions().all(|(partition, _)| findings.starts.contains_key(partition));
            let found = match &trouble {
                Some(trouble) if !has_all => Err(trouble.clone()),
                _ => self.starts(std::slice::from_ref(&lane), &findings.starts),
            };
            match found {
                Ok(commits) => {
                    first.extend(commits);
                    findings.lanes.push(lane);
                }
                Err(error) => {
                    findings.pending.push((lane.source, format!("{error}; it is tried again")));
                    trouble = Some(error);
                }
            }
        }
        first
    }

    /// Where those partitions of the lanes start that have none of the commits.
    fn starts(&self, lanes: &[Lane], commits: &HashMap<TopicPartition, Commit>) -> Result<Vec<Commit>, LogError> {
        let all = lanes.iter().flat_map(Lane::partitions);
        let wanted: Vec<_> = all.filter(|(partition, _)| !commits.contains_key(*partition)).collect();
        let found = admin::starts(&self.client, &wanted, self.timeout()).map_err(|code| {
            let which = match &*wanted {
                [] => String::new(),
                [(one, _)] => one.to_string(),
                [(first, _), rest @ ..] => format!("{first} and {} more", rest.len()),
            };
            client_error(format!("can't find where to start in {which}"), code, &self.client)
        })?;
        let commit = |((partition, _), offset): (&(&TopicPartition, _), _)| Commit {
            partition: TopicPartition::clone(partition),
            offset,
            metadata: String::new(),
        };
        Ok(wanted.iter().zip(found).map(commit).collect())
    }

    /// How far the retry partitions go, after the commits: all that was parked before them is in front of that, be it in a transaction of
    /// which the partition has not been told yet that it is committed, or on a leader that is new and does not give all of it out
    /// yet ([KIP-207](https://cwiki.apache.org/confluence/x/FqiMBQ)). What is read there ends too early in both cases.
    fn find_ends(&self, lanes: &mut [Lane]) -> Result<(), LogError> {
        let retries: Vec<_> = lanes.iter().filter_map(|lane| lane.retry.clone()).collect();
        let mut ends = self.readers.uncommitted_ends(&retries, self.timeout())?.into_iter();
        for lane in lanes.iter_mut().filter(|lane| lane.retry.is_some()) {
            lane.retry_end = ends.next();
        }
        Ok(())
    }

    fn timeout(&self) -> Duration {
        self.request_timeout.min(RESOLVE_TIMEOUT)
    }
}

fn start_of<'s>(
    partition: &TopicPartition,
    starts: &'s HashMap<TopicPartition, Commit>,
) -> Result<&'s Commit, (Code, String)> {
    starts.get(partition).ok_or_else(|| (Code(-1), format!("{partition} has no start")))
}

fn unread(error: LogError) -> (Code, String) {
    (Code(-1), error.to_string())
}

fn assigned(commit: &Commit, feed: Box<dyn Feed>) -> AssignedFeed {
    AssignedFeed { partition: commit.partition.clone(), start: commit.offset, metadata: commit.metadata.clone(), feed }
}

fn no_retry_partition(retry: &TopicPartition, count: u32) -> String {
    let needed = retry.partition + 1;
    let topic = &retry.topic;
    if count == 0 {
        format!(
            "the retry topic {topic} does not exist: create it with as many partitions as the source topic; \
             the lane begins then by itself"
        )
    } else {
        format!(
            "the retry topic {topic} has {count} partitions and needs {needed} or more: add them \
             (kafka-topics.sh --alter --partitions {needed} --topic {topic}); the lane begins then by itself"
        )
    }
}
