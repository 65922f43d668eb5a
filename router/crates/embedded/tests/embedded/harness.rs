//! A log in a directory of its own, a clock that stands still, and a host that remembers what it was told.

use std::path::Path;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use pointsman_core::delivery::{Delivery, PartitionChoice, TopicId};
use pointsman_core::port::{
    Assignment, Commit, DeliveryError, Feed, GroupPlan, LaneHost, Log, NewTopic, ProduceError, Report, Revocation,
    Sink, SinkFailed, SourceTopic, StartAt, Token, Waker,
};
use pointsman_core::record::{Headers, OwnedHeader, OwnedRecord, TopicPartition};
use pointsman_embedded::{EmbeddedLog, Options};
use tempfile::TempDir;

/// Long enough for a loaded machine; only a failing test waits for it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Time at which the simulated clock starts.
pub(crate) const NOW: i64 = 1_700_000_000_000;

/// A directory, and a clock that is moved by hand, for any number of handles.
pub(crate) struct Place {
    pub(crate) directory: TempDir,
    pub(crate) clock: Arc<AtomicI64>,
}

impl Place {
    pub(crate) fn new() -> Self {
        Self { directory: TempDir::new().unwrap(), clock: Arc::new(AtomicI64::new(NOW)) }
    }

    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    pub(crate) fn options(&self) -> Options {
        let clock = Arc::clone(&self.clock);
        Options { clock: Arc::new(move || clock.load(Ordering::SeqCst)), ..Options::default() }
    }

    pub(crate) fn open(&self) -> EmbeddedLog {
        EmbeddedLog::open(self.path(), self.options()).unwrap()
    }

    /// The database, for what no port offers.
    pub(crate) fn sql(&self) -> rusqlite::Connection {
        rusqlite::Connection::open(self.path().join("pointsman.db")).unwrap()
    }
}

/// A log with topics, given as name and number of partitions.
pub(crate) fn log_with(place: &Place, topics: &[(&str, u32)]) -> EmbeddedLog {
    let log = place.open();
    create(&log, topics);
    log
}

pub(crate) fn create(log: &EmbeddedLog, topics: &[(&str, u32)]) {
    let topics: Vec<_> = topics
        .iter()
        .map(|(name, partitions)| NewTopic { name: (*name).into(), partitions: *partitions, retention: None })
        .collect();
    log.create_topics(&topics).unwrap();
}

/// A record for a partition. Its offset stands for nothing before it is written.
pub(crate) fn record(value: &str) -> OwnedRecord {
    OwnedRecord { offset: -1, timestamp_ms: NOW, key: None, value: Some(value.into()), headers: Vec::new() }
}

pub(crate) fn delivery<'a>(record: &'a OwnedRecord, partition: PartitionChoice) -> Delivery<'a> {
    Delivery {
        topic: TopicId(0),
        partition,
        timestamp_ms: record.timestamp_ms,
        key: record.key.as_deref(),
        value: record.value.as_deref(),
        headers: Headers::Owned(&record.headers),
        stamps: Headers::NONE,
    }
}

pub(crate) fn nobody() -> Waker {
    Arc::new(|| {})
}

pub(crate) fn sink(log: &EmbeddedLog, topic: &str) -> Box<dyn Sink> {
    log.sink(&[topic.into()], nobody()).unwrap()
}

/// Serves a sink, and gives the results in the order of the reports.
pub(crate) fn served(sink: &mut dyn Sink) -> Vec<Result<(), DeliveryError>> {
    let mut reports = Vec::new();
    sink.serve(&mut reports).unwrap();
    reports.into_iter().map(|Report { result, .. }| result.map(drop).map_err(|undelivered| undelivered.error)).collect()
}

/// Writes records to one partition in one transaction.
pub(crate) fn write(log: &EmbeddedLog, partition: &TopicPartition, records: &[OwnedRecord]) {
    let mut sink = sink(log, &partition.topic);
    for (index, record) in records.iter().enumerate() {
        let delivery = delivery(record, PartitionChoice::Exactly(partition.partition));
        loop {
            match sink.produce(&delivery, Token(index as u64)) {
                Ok(_) => break,
                Err(ProduceError::Full) => assert!(served(&mut *sink).iter().all(Result::is_ok)),
                Err(ProduceError::Delivery(error)) => panic!("{error}"),
            }
        }
    }
    assert!(served(&mut *sink).iter().all(Result::is_ok));
}

/// Everything that a feed has now.
pub(crate) fn drain(feed: &mut dyn Feed) -> Vec<OwnedRecord> {
    let mut records = Vec::new();
    while let Some(batch) = feed.fetch(100, 1 << 20).unwrap() {
        records.extend((0..batch.len()).map(|index| OwnedRecord::from(batch.record(index))));
    }
    records
}

pub(crate) fn contents(log: &EmbeddedLog, partition: &TopicPartition) -> Vec<OwnedRecord> {
    let (first, _) = log.watermarks(partition).unwrap();
    drain(&mut *log.read(partition, first).unwrap())
}

pub(crate) fn values(records: &[OwnedRecord]) -> Vec<String> {
    records.iter().map(|record| String::from_utf8(record.value.clone().unwrap()).unwrap()).collect()
}

pub(crate) fn plan(group: &str, sources: &[(&str, Option<&str>, StartAt)]) -> GroupPlan {
    let sources = sources.iter().map(|(topic, retry, start)| SourceTopic {
        topic: (*topic).into(),
        retry_topic: retry.map(Into::into),
        start: *start,
    });
    GroupPlan {
        group: group.into(),
        instance_id: None,
        sources: sources.collect(),
        fetch_ahead_bytes: 1 << 20,
        fetch_ahead_of_all_bytes: 1 << 20,
        revoke_deadline: Duration::from_secs(1),
    }
}

pub(crate) fn commit(partition: &TopicPartition, offset: i64, metadata: &str) -> Commit {
    Commit { partition: partition.clone(), offset, metadata: metadata.into() }
}

pub(crate) fn header(name: &[u8], value: Option<&[u8]>) -> OwnedHeader {
    OwnedHeader { name: name.into(), value: value.map(Into::into) }
}

/// What a host was told.
#[derive(Default)]
pub(crate) struct Told {
    pub(crate) assigned: Vec<Assignment>,
    /// How many partitions each call of `assigned` brought.
    pub(crate) calls: Vec<usize>,
    pub(crate) revoked: Vec<(Vec<TopicPartition>, Revocation)>,
    pub(crate) halted: Vec<(TopicPartition, String)>,
    pub(crate) failed: Vec<SinkFailed>,
    /// What the host answers when it is asked to give its partitions up.
    pub(crate) last_commits: Vec<Commit>,
    /// The host does not answer while this is set.
    pub(crate) stuck: bool,
}

/// Takes the place of the router.
#[derive(Default)]
pub(crate) struct SimulatedHost {
    told: Mutex<Told>,
    changed: Condvar,
}

impl SimulatedHost {
    pub(crate) fn new() -> Arc<Self> {
        Arc::default()
    }

    pub(crate) fn with<T>(&self, look: impl FnOnce(&mut Told) -> T) -> T {
        let answer = look(&mut self.told.lock().unwrap());
        self.changed.notify_all();
        answer
    }

    /// Waits until the host was told something.
    pub(crate) fn wait_until(&self, what: &str, done: impl Fn(&Told) -> bool) {
        let told = self.told.lock().unwrap();
        let (_told, timeout) = self.changed.wait_timeout_while(told, PATIENCE, |told| !done(told)).unwrap();
        assert!(!timeout.timed_out(), "the host never heard: {what}");
    }

    pub(crate) fn wait_for_assigned(&self, count: usize) {
        self.wait_until("assigned", |told| told.assigned.len() >= count);
    }
}

impl LaneHost for SimulatedHost {
    fn assigned(&self, assignments: Vec<Assignment>) {
        self.with(|told| {
            told.calls.push(assignments.len());
            told.assigned.extend(assignments);
        });
    }

    fn revoked(&self, partitions: &[TopicPartition], why: Revocation, _deadline: Duration) -> Vec<Commit> {
        let told = self.told.lock().unwrap();
        let mut told = self.changed.wait_while(told, |told| told.stuck).unwrap();
        told.assigned.clear();
        told.revoked.push((partitions.to_vec(), why));
        self.changed.notify_all();
        if why == Revocation::Lost { Vec::new() } else { std::mem::take(&mut told.last_commits) }
    }

    fn halted(&self, partition: TopicPartition, reason: String) {
        self.with(|told| told.halted.push((partition, reason)));
    }

    fn failed(&self, error: SinkFailed) {
        self.with(|told| told.failed.push(error));
    }
}
