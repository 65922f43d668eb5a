//! A simulated log's transactions, with a broker's troubles, and the group that commits in them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};

use pointsman_core::delivery::{Delivery, PartitionChoice};
use pointsman_core::port::{
    Commit, Committer, DeliveryError, Ended, MemberProgress, ProduceError, Receipt, Report, Sink, SinkFailed, Standing,
    Token, TransactionalSink, Waker,
};
use pointsman_core::record::{OwnedRecord, TopicPartition};

use crate::route_test::simulated_log::SimulatedLog;

/// What the broker knows of the group, and the group of its member.
#[derive(Default)]
pub(super) struct Group {
    /// Raised by each rebalance.
    pub(super) generation: u64,
    /// In the middle of one.
    pub(super) is_rebalancing: bool,
    pub(super) committed: BTreeMap<TopicPartition, Commit>,
    pub(super) rewinds: BTreeSet<TopicPartition>,
    /// How many transactions were committed.
    pub(super) commits: u64,
    /// How many were undone.
    pub(super) undone: u64,
}

#[derive(Clone, Default)]
pub(super) struct SharedGroup(Arc<Mutex<Group>>);

impl SharedGroup {
    pub(super) fn lock(&self) -> MutexGuard<'_, Group> {
        self.0.lock().unwrap()
    }
}

impl Committer for SharedGroup {
    fn commit(&self, _: &[Commit]) {
        panic!("committed outside of a transaction");
    }

    fn failures(&self) -> u64 {
        0
    }

    fn commit_surely(&self, _: &[Commit], _: Waker) -> Box<dyn Receipt> {
        panic!("committed outside of a transaction");
    }

    fn standing(&self) -> Option<Standing> {
        let group = self.lock();
        (!group.is_rebalancing).then(|| Standing(Arc::new(group.generation)))
    }

    fn committed(&self, _: &[Commit]) {}

    fn rewind(&self, partitions: &[TopicPartition]) {
        self.lock().rewinds.extend(partitions.iter().cloned());
    }
}

/// A group whose commits are there at once.
pub(super) struct PromptGroup;

impl Committer for PromptGroup {
    fn commit(&self, _: &[Commit]) {}

    fn failures(&self) -> u64 {
        0
    }

    fn commit_surely(&self, _: &[Commit], _: Waker) -> Box<dyn Receipt> {
        Box::new(Prompt)
    }

    fn standing(&self) -> Option<Standing> {
        None
    }

    fn committed(&self, _: &[Commit]) {}

    fn rewind(&self, _: &[TopicPartition]) {}
}

struct Prompt;

impl Receipt for Prompt {
    fn answer(&mut self) -> Option<Result<(), String>> {
        Some(Ok(()))
    }
}

/// Whether the topic refuses the record for itself.
pub(super) fn is_refused(topic: &str, number: i64) -> bool {
    topic == "side" && number % 5 == 0
}

pub(super) struct TroubledSink {
    pub(super) log: SimulatedLog,
    pub(super) group: SharedGroup,
    pub(super) topics: Vec<Arc<str>>,
    pub(super) random: fastrand::Rng,
    pub(super) calm: Arc<Mutex<bool>>,
    pub(super) queue: Vec<(Arc<str>, PartitionChoice, OwnedRecord)>,
    pub(super) reports: Vec<Report>,
    pub(super) ending: Option<(u32, Option<Vec<MemberProgress>>)>,
}

impl TroubledSink {
    fn luck(&mut self) -> u32 {
        if *self.calm.lock().unwrap() { u32::MAX } else { self.random.u32(0..1000) }
    }

    /// Whether all of it is by who may commit it.
    fn is_in_force(&self, progress: &[MemberProgress]) -> bool {
        let generation = self.group.lock().generation;
        progress.iter().all(|member| member.standing.0.downcast_ref::<u64>() == Some(&generation))
    }

    fn write(&mut self, progress: Vec<MemberProgress>) {
        for (topic, partition, record) in self.queue.drain(..) {
            self.log.append(&topic, partition, record).unwrap();
        }
        let mut group = self.group.lock();
        for commit in progress.into_iter().flat_map(|member| member.commits) {
            if let Some(before) = group.committed.insert(commit.partition.clone(), commit.clone()) {
                assert!(before.offset <= commit.offset, "I3: {} goes back", commit.partition);
            }
        }
        group.commits += 1;
    }
}

impl Sink for TroubledSink {
    fn capacity_bytes(&self) -> usize {
        100_000
    }

    fn produce(&mut self, delivery: &Delivery<'_>, token: Token) -> Result<usize, ProduceError> {
        assert!(self.ending.is_none(), "nothing is produced while a transaction ends");
        let topic = Arc::clone(&self.topics[delivery.topic.0 as usize]);
        let number = super::world::number(delivery.value);
        let refusal = || DeliveryError::Refused { code: "sim".into(), message: "simulated refusal".into() };
        let unavailable = || DeliveryError::Unavailable { code: "sim".into(), message: "simulated outage".into() };
        let failed = match self.luck() {
            0..30 => return Err(ProduceError::Full),
            30..31 => return Err(unavailable().into()),
            31..33 => Some(unavailable()),
            luck if is_refused(&topic, number) && luck % 2 == 0 => return Err(refusal().into()),
            _ if is_refused(&topic, number) => Some(refusal()),
            _ => None,
        };
        let mut headers = delivery.headers.to_owned();
        headers.extend(delivery.stamps.to_owned());
        let record = OwnedRecord {
            offset: 0,
            timestamp_ms: delivery.timestamp_ms,
            key: delivery.key.map(Into::into),
            value: delivery.value.map(Into::into),
            headers,
        };
        self.queue.push((topic, delivery.partition, record));
        self.reports.push(Report { token, result: failed.map_or(Ok(None), |error| Err(Box::new(error.into()))) });
        Ok(delivery.rough_bytes())
    }

    fn serve(&mut self, reports: &mut Vec<Report>) -> Result<(), SinkFailed> {
        self.random.shuffle(&mut self.reports);
        let now = self.random.usize(0..=self.reports.len());
        reports.extend(self.reports.drain(..now));
        Ok(())
    }
}

impl TransactionalSink for TroubledSink {
    fn is_full(&self) -> bool {
        self.queue.len() > 60
    }

    fn commit(&mut self, progress: Vec<MemberProgress>) {
        assert!(self.reports.is_empty() && self.ending.is_none(), "all is reported when a transaction is to end");
        self.ending = Some((self.random.u32(0..6), Some(progress)));
    }

    fn abort(&mut self) {
        assert!(self.ending.is_none());
        self.reports.clear();
        self.ending = Some((self.random.u32(0..6), None));
    }

    fn ended(&mut self) -> Option<Ended> {
        let (rounds, progress) = self.ending.take()?;
        if rounds > 0 {
            self.ending = Some((rounds - 1, progress));
            return None;
        }
        let undone = || Ended::Undone { code: "sim".into(), message: "simulated".into() };
        let luck = self.luck();
        let Some(progress) = progress else {
            self.queue.clear();
            self.group.lock().undone += 1;
            return Some(Ended::Aborted);
        };
        if luck < 40 || !self.is_in_force(&progress) {
            self.queue.clear();
            self.group.lock().undone += 1;
            return Some(undone());
        }
        self.write(progress);
        // It is there, and the answer got lost.
        Some(if luck < 60 { undone() } else { Ended::Committed })
    }
}
