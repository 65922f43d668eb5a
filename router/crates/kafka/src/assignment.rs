//! Partitions that come: where to start in each, and the retry partition that follows each.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use pointsman_core::port::{AssignedFeed, Assignment, Commit, LogError, StartAt};
use pointsman_core::record::TopicPartition;

use crate::admin;
use crate::classify::group_moved_on;
use crate::error::client_error;
use crate::feed::{KafkaFeed, Tap};
use crate::membership::{CommitResult, Member};
use crate::native::{Code, PartitionList, Queue};

/// How long an assignment may wait for the cluster's answers, before the group fails.
const PATIENCE: Duration = Duration::from_secs(120);

/// Between two tries of it.
const PAUSE: Duration = Duration::from_millis(500);

/// A source partition that the group gave us, and what librdkafka has assigned for it: nothing, the partition itself, or
/// that and its retry partition.
#[derive(Default)]
pub(crate) struct Held(Vec<(TopicPartition, Arc<Tap>)>);

impl Held {
    /// Lets no more records through.
    pub(crate) fn shut(&self) {
        for (_, tap) in &self.0 {
            tap.shut();
        }
    }

    /// What librdkafka has assigned.
    pub(crate) fn into_assigned(self) -> impl Iterator<Item = TopicPartition> {
        self.0.into_iter().map(|(partition, _)| partition)
    }
}

/// A source partition whose retry partition, where the plan has one, is there.
struct Lane {
    source: TopicPartition,
    start: StartAt,
    retry: Option<TopicPartition>,
}

/// A source partition that can't be worked on, and why.
type Halted = (TopicPartition, String);

impl Member {
    /// Takes partitions: finds their starts, has librdkafka fetch them, and hands them to the router.
    pub(crate) fn assign(&mut self, partitions: Vec<TopicPartition>) -> CommitResult {
        let Some((lanes, halted, starts)) = self.prepare(&partitions)? else {
            // Nothing is fetched, and the revocation or the leaving that is to come gives the partitions back.
            return self.answer_assignment(&PartitionList::with_capacity(0));
        };
        let mut list = PartitionList::with_capacity(lanes.len() * 2);
        let mut assignments = Vec::with_capacity(lanes.len());
        for lane in lanes {
            let mut held = Held::default();
            let source = self.feed(&lane.source, &starts, &mut held, &mut list)?;
            let retry = match &lane.retry {
                Some(retry) => Some(self.feed(retry, &starts, &mut held, &mut list)?),
                None => None,
            };
            self.held.insert(lane.source, held);
            assignments.push(Assignment { source, retry });
        }
        for (partition, _) in &halted {
            self.held.insert(partition.clone(), Held::default());
        }
        self.answer_assignment(&list)?;
        if !assignments.is_empty() {
            self.host.assigned(assignments);
        }
        for (partition, reason) in halted {
            self.host.halted(partition, reason);
        }
        Ok(())
    }

    /// Says to librdkafka what is taken of an assignment.
    pub(crate) fn answer_assignment(&self, list: &PartitionList) -> CommitResult {
        self.client
            .assign(self.client.protocol(), list)
            .map_err(|code| (code, "can't take assigned partitions".to_owned()))
    }

    /// The feed of one partition. Its queue is cut off from the consumer's own here, before the partition is assigned, so
    /// that no record of it can get there.
    fn feed(
        &self,
        partition: &TopicPartition,
        starts: &HashMap<TopicPartition, Commit>,
        held: &mut Held,
        list: &mut PartitionList,
    ) -> Result<AssignedFeed, (Code, String)> {
        let (Some(queue), Some(commit)) =
            (Queue::of_partition(&self.client, &partition.topic, partition.partition), starts.get(partition))
        else {
            return Err((Code(-1), format!("{partition} has no queue")));
        };
        let tap = Tap::open(queue);
        let start = commit.offset;
        list.push(&partition.topic, partition.partition, start, "");
        held.0.push((partition.clone(), Arc::clone(&tap)));
        Ok(AssignedFeed {
            partition: partition.clone(),
            start,
            metadata: commit.metadata.clone(),
            feed: Box::new(KafkaFeed::new(partition.clone(), start, tap, Arc::clone(&self.client), None)),
        })
    }

    /// Everything that the cluster must be asked before partitions can be taken. It is asked again while it does not
    /// answer; `None` where the router is to end meanwhile, or the partitions are another member's.
    #[expect(clippy::type_complexity, reason = "three answers of one question, taken apart at once")]
    fn prepare(
        &self,
        partitions: &[TopicPartition],
    ) -> Result<Option<(Vec<Lane>, Vec<Halted>, HashMap<TopicPartition, Commit>)>, (Code, String)> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let answer = self
                .lanes(partitions)
                .and_then(|(lanes, halted)| self.starts(&lanes).map(|starts| (lanes, halted, starts)));
            match answer {
                Ok(answer) => return Ok(Some(answer)),
                Err(_) if self.signal.ending() || self.client.assignment_lost() => return Ok(None),
                Err(error) if Instant::now() >= deadline => return Err((Code(-1), error.to_string())),
                Err(error) => {
                    tracing::warn!(group = %self.plan.group, "assigned partitions have to wait: {error}");
                    std::thread::sleep(PAUSE);
                }
            }
        }
    }

    /// Finds the retry partition of each source partition.
    fn lanes(&self, partitions: &[TopicPartition]) -> Result<(Vec<Lane>, Vec<Halted>), LogError> {
        let retry_topics: Vec<_> = self.plan.sources.iter().filter_map(|source| source.retry_topic.clone()).collect();
        let counts: BTreeMap<_, _> = admin::topics(&self.client, Some(&retry_topics), self.request_timeout)?
            .into_iter()
            .map(|topic| (topic.name, topic.partitions))
            .collect();
        let (mut lanes, mut halted) = (Vec::new(), Vec::new());
        for partition in partitions {
            let Some(source) = self.plan.sources.iter().find(|source| source.topic == partition.topic) else {
                halted.push((partition.clone(), "no route of this group reads the topic".to_owned()));
                continue;
            };
            let retry = source
                .retry_topic
                .as_ref()
                .map(|topic| TopicPartition { topic: Arc::clone(topic), partition: partition.partition });
            let count = retry.as_ref().map(|retry| counts.get(&retry.topic).copied().unwrap_or(0));
            match (&retry, count) {
                (Some(retry), Some(count)) if u32::try_from(retry.partition).is_ok_and(|index| index >= count) => {
                    halted.push((partition.clone(), no_retry_partition(retry, count)));
                }
                _ => lanes.push(Lane { source: partition.clone(), start: source.start, retry }),
            }
        }
        Ok((lanes, halted))
    }

    /// Where each partition starts: at its commit, or where the plan says. The latter is committed at once, so that a
    /// restart before the first commit does not start somewhere else, and skip what has come in between.
    fn starts(&self, lanes: &[Lane]) -> Result<HashMap<TopicPartition, Commit>, LogError> {
        let what = || format!("can't find where the group {} left off", self.plan.group);
        let failed = |code| client_error(what(), code, &self.client);
        let wanted: Vec<_> = lanes
            .iter()
            .flat_map(|lane| {
                // Of a retry topic, nothing may be passed over.
                let retry = lane.retry.as_ref().map(|retry| (retry.clone(), StartAt::Earliest));
                std::iter::once((lane.source.clone(), lane.start)).chain(retry)
            })
            .collect();
        let partitions: Vec<_> = wanted.iter().map(|(partition, _)| partition.clone()).collect();
        let committed = if partitions.is_empty() {
            Vec::new()
        } else {
            admin::committed_by(&self.client, &partitions, self.request_timeout).map_err(failed)?
        };
        let mut first = Vec::new();
        let mut starts = HashMap::with_capacity(wanted.len());
        for ((partition, start), commit) in wanted.into_iter().zip(committed) {
            let commit = match commit {
                Some(commit) => commit,
                None => {
                    let offset = self.resolve(&partition, start)?;
                    let commit = Commit { partition: partition.clone(), offset, metadata: String::new() };
                    first.push(commit.clone());
                    commit
                }
            };
            starts.insert(partition, commit);
        }
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
        Ok(starts)
    }

    fn resolve(&self, partition: &TopicPartition, start: StartAt) -> Result<i64, LogError> {
        let timeout = self.request_timeout;
        match start {
            StartAt::Earliest => admin::watermarks(&self.client, partition, timeout).map(|(first, _)| first),
            StartAt::Latest => admin::watermarks(&self.client, partition, timeout).map(|(_, end)| end),
            StartAt::Time(timestamp_ms) => admin::offset_at(&self.client, partition, timestamp_ms, timeout),
        }
    }
}

fn no_retry_partition(retry: &TopicPartition, count: u32) -> String {
    let needed = retry.partition + 1;
    let topic = &retry.topic;
    if count == 0 {
        format!(
            "the retry topic {topic} does not exist: create it with as many partitions as the source topic, and restart"
        )
    } else {
        format!(
            "the retry topic {topic} has {count} partitions and needs {needed} or more: add them \
             (kafka-topics.sh --alter --partitions {needed} --topic {topic}), and restart"
        )
    }
}
