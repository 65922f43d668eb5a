//! What librdkafka does to the unwary, each with the proof that the Kafka backend does not fall for it: by a router reduced to
//! what the backend sees of one, lanes that take every record and settle it at once.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use pointsman_core::port::{
    AssignedFeed, Assignment, Commit, Feed, FeedError, GroupPlan, LaneHost, Log as _, Membership, Revocation,
    SinkFailed, SourceTopic, StartAt,
};
use pointsman_core::record::{OwnedRecord, TopicPartition};
use pointsman_kafka::{KafkaLog, KafkaSettings};
use pointsman_tests::kafka::Kafka;
use pointsman_tests::wait;

mod by_hand;
pub(crate) mod groups;
pub(crate) mod records;
pub(crate) mod starts;
pub(crate) mod topics;
pub(crate) mod trouble;

/// How long a rebalance, or anything else that the cluster does, may take here.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// The log of a Kafka.
pub(crate) fn log(kafka: &Kafka) -> anyhow::Result<KafkaLog> {
    Ok(KafkaLog::new(settings(kafka))?)
}

/// Settings that wait less than a router would.
pub(crate) fn settings(kafka: &Kafka) -> KafkaSettings {
    let mut settings = KafkaSettings::new(kafka.bootstrap());
    settings.properties.insert("fetch.wait.max.ms".to_owned(), "20".to_owned());
    settings.properties.insert("heartbeat.interval.ms".to_owned(), "200".to_owned());
    settings
}

/// A plan that reads topics, each with its retry topic.
pub(crate) fn plan(group: &str, topics: &[(&str, Option<&str>)], start: StartAt) -> GroupPlan {
    GroupPlan {
        group: Arc::from(group),
        instance_id: None,
        sources: topics
            .iter()
            .map(|(topic, retry)| SourceTopic { topic: Arc::from(*topic), retry_topic: retry.map(Arc::from), start })
            .collect(),
        fetch_ahead_bytes: 1 << 20,
        fetch_ahead_of_all_bytes: 64 << 20,
        revoke_deadline: Duration::from_secs(10),
    }
}

/// A partition of a lane, and how far it is settled.
pub(crate) struct Half {
    pub(crate) partition: TopicPartition,
    pub(crate) start: i64,
    pub(crate) metadata: String,
    pub(crate) feed: Box<dyn Feed>,
    pub(crate) settled: i64,
}

impl From<AssignedFeed> for Half {
    fn from(assigned: AssignedFeed) -> Self {
        let AssignedFeed { partition, start, metadata, feed } = assigned;
        Self { partition, start, metadata, feed, settled: start }
    }
}

impl Half {
    fn commit(&self) -> Commit {
        let metadata = format!("settled {}", self.settled);
        Commit { partition: self.partition.clone(), offset: self.settled, metadata }
    }
}

/// What the lanes of one member are, and what they have seen.
#[derive(Default)]
pub(crate) struct State {
    /// Source and retry partitions, by the source partition.
    pub(crate) lanes: BTreeMap<TopicPartition, Vec<Half>>,
    /// Everything that was fetched and settled.
    pub(crate) seen: Vec<(TopicPartition, OwnedRecord)>,
    pub(crate) halted: BTreeMap<TopicPartition, String>,
    pub(crate) failed: Option<SinkFailed>,
    /// Revocations so far.
    pub(crate) revocations: Vec<Revocation>,
}

/// The lanes of one member.
#[derive(Default)]
pub(crate) struct Lanes(Mutex<State>);

impl Lanes {
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a batch from every partition of every lane; the number of records.
    pub(crate) fn step(&self, max_records: usize) -> Result<usize, FeedError> {
        let mut state = self.state();
        let State { lanes, seen, .. } = &mut *state;
        let before = seen.len();
        for half in lanes.values_mut().flatten() {
            let Some(batch) = half.feed.fetch(max_records, 64 << 10)? else { continue };
            assert!(batch.len() <= max_records && !batch.is_empty());
            for record in (0..batch.len()).map(|index| batch.record(index)) {
                assert!(record.offset >= half.settled, "{} goes back to {}", half.partition, record.offset);
                half.settled = record.offset + 1;
                seen.push((half.partition.clone(), record.into()));
            }
        }
        Ok(seen.len() - before)
    }
}

impl LaneHost for Lanes {
    fn assigned(&self, assignments: Vec<Assignment>) {
        let mut state = self.state();
        for Assignment { source, retry } in assignments {
            let partition = source.partition.clone();
            let halves = std::iter::once(source).chain(retry).map(Half::from).collect();
            assert!(state.lanes.insert(partition, halves).is_none(), "a partition came twice");
        }
    }

    fn revoked(&self, partitions: &[TopicPartition], why: Revocation, _: Duration) -> Vec<Commit> {
        let mut state = self.state();
        state.revocations.push(why);
        let gone: Vec<_> = partitions.iter().filter_map(|partition| state.lanes.remove(partition)).flatten().collect();
        for partition in partitions {
            state.halted.remove(partition);
        }
        if why == Revocation::Lost { Vec::new() } else { gone.iter().map(Half::commit).collect() }
    }

    fn halted(&self, partition: TopicPartition, reason: String) {
        self.state().halted.insert(partition, reason);
    }

    fn failed(&self, error: SinkFailed) {
        self.state().failed = Some(error);
    }
}

/// A member of a group.
pub(crate) struct Member {
    pub(crate) lanes: Arc<Lanes>,
    pub(crate) membership: Box<dyn Membership>,
}

impl Member {
    pub(crate) fn join(log: &KafkaLog, plan: GroupPlan) -> anyhow::Result<Self> {
        let lanes = Arc::new(Lanes::default());
        let membership = log.join(plan, Arc::clone(&lanes) as Arc<dyn LaneHost>)?;
        Ok(Self { lanes, membership })
    }

    /// Waits until the member has this many lanes.
    pub(crate) fn wait_for_lanes(&self, count: usize) -> anyhow::Result<()> {
        wait::until(&format!("{count} lanes"), DEADLINE, || (self.lanes.state().lanes.len() == count).then_some(()))
    }

    /// Takes records until this many have been seen in all.
    pub(crate) fn take(&self, count: usize, max_records: usize) -> anyhow::Result<()> {
        wait::until_ok(&format!("{count} records"), DEADLINE, || {
            while self.lanes.state().seen.len() < count && self.lanes.step(max_records)? > 0 {}
            Ok((self.lanes.state().seen.len() >= count).then_some(()))
        })
    }

    /// Leaves, and gives what was seen.
    pub(crate) fn leave(self) -> anyhow::Result<State> {
        anyhow::ensure!(self.membership.leave(DEADLINE), "the member did not leave in time");
        let lanes = Arc::into_inner(self.lanes).context("the control thread still has the lanes")?;
        let state = lanes.0.into_inner().unwrap_or_else(PoisonError::into_inner);
        anyhow::ensure!(state.failed.is_none(), "{:?}", state.failed);
        Ok(state)
    }
}
