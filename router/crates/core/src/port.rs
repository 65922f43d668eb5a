//! Where the worlds outside come in: the log that records come from and go to, and the sandbox of the plugins.
//!
//! There are three implementations of the log (Kafka, the embedded log, and the simulated broker of the tests) and two
//! of the sandbox (WebAssembly, and verdicts given by hand in route tests). Nothing else of the router is a trait.
//!
//! The threads. A **worker** thread owns some lanes; for each lane it owns the [`Feed`]s, and for itself one [`Sink`] and
//! one [`PluginHost`]. The backend has a **control** thread of its own; it calls [`LaneHost`] when partitions come and go.

use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;

use crate::delivery::{Delivery, Forward};
use crate::event::Event;
use crate::failure::FailureClass;
use crate::record::{Record, TopicPartition};
use crate::verdict::Verdicts;

/// Records of one partition, in offset order, in the buffers they were fetched into. Offsets may have gaps (compaction,
/// transaction markers).
pub trait Batch: Any + Send {
    /// Number of records; at least 1.
    fn len(&self) -> usize;

    /// Whether there are none, which is never so for a batch from a feed.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The record at `index`, below [`len`](Self::len).
    ///
    /// # Panics
    /// May panic where `index` is out of bounds.
    fn record(&self, index: usize) -> Record<'_>;

    /// The offset of the record at `index`.
    ///
    /// # Panics
    /// As [`record`](Self::record).
    fn offset(&self, index: usize) -> i64 {
        self.record(index).offset
    }

    /// Bytes of keys, values and headers of all records.
    fn bytes(&self) -> usize {
        (0..self.len()).map(|index| self.record(index).bytes()).sum()
    }

    /// Makes the record whole again, of which a [`Sink`] took parts along ([`Sink::forward`]). Idle where it is whole.
    ///
    /// # Panics
    /// As [`record`](Self::record).
    fn restore(&mut self, _index: usize) {}
}

/// The records of one assigned partition. Owned by one worker.
pub trait Feed: Send {
    /// The next records, if any are here already: never blocks. At most `max_records` records, and no further record
    /// once `max_bytes` (of keys, values and headers) are reached; a record larger than that comes alone.
    ///
    /// # Errors
    /// [`FeedError`]; the feed stays where it was.
    fn fetch(&mut self, max_records: usize, max_bytes: usize) -> Result<Option<Box<dyn Batch>>, FeedError>;

    /// From now on `waker` is called when records may have come in after a [`fetch`](Self::fetch) that found none.
    fn wake_with(&mut self, waker: Waker);

    /// After a [`fetch`](Self::fetch) that found nothing: an offset below which no record will come any more, which is
    /// how an end shows that has no record at it (compaction and transaction markers leave gaps). `None` where the
    /// feed can't tell.
    fn position(&self) -> Option<i64> {
        None
    }

    /// Whether a [`fetch`](Self::fetch) has found nothing since the feed had given everything up to the partition's end, as
    /// that was at any time since the feed was opened. The feed of a retry partition has to tell; others may never.
    fn reached_end(&self) -> bool {
        false
    }
}

/// Why a feed gives no records.
#[derive(Debug, Error)]
pub enum FeedError {
    /// The log no longer has the next offset: records were lost to retention or the topic was made anew. The lane halts.
    #[error("{partition} has no offset {wanted} any more{}", range(.available))]
    OutOfRange {
        /// The partition.
        partition: TopicPartition,
        /// The offset that was to be read next.
        wanted: i64,
        /// The first offset there is, and one past the last, where known.
        available: Option<(i64, i64)>,
    },
    /// Records at this offset are damaged, or can't be read by this client, and nothing beyond them is given out. The lane
    /// halts.
    #[error("{partition} can't be read at offset {offset}: {message} ({code})")]
    Damaged {
        /// The partition.
        partition: TopicPartition,
        /// The offset that the batch of records begins with, which may lie before the first that was wanted of it.
        offset: i64,
        /// The client library's or database's error code.
        code: String,
        /// What it says.
        message: String,
    },
    /// The log can't be read now; it is tried again.
    #[error("can't read {partition}: {message} ({code})")]
    Unavailable {
        /// The partition.
        partition: TopicPartition,
        /// The client library's or database's error code.
        code: String,
        /// What it says.
        message: String,
    },
}

fn range(available: &Option<(i64, i64)>) -> String {
    available.map_or_else(String::new, |(first, end)| format!(": it has {first} up to {end}"))
}

/// Names a delivery in its report: the worker's own number, given back as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Token(pub u64);

/// Takes records for output topics. Owned by one worker.
pub trait Sink: Send {
    /// About how many bytes of keys, values and headers it queues before it is full.
    fn capacity_bytes(&self) -> usize;

    /// Queues one record; never blocks. What it needs of `delivery` it copies. Each record that is taken is reported
    /// exactly once by [`serve`](Self::serve), unless the sink fails as a whole. The answer is
    /// [about how many bytes](Delivery::rough_bytes) of its queue the record takes.
    ///
    /// # Errors
    /// [`ProduceError`]; nothing was queued.
    fn produce(&mut self, delivery: &Delivery<'_>, token: Token) -> Result<usize, ProduceError>;

    /// [`produce`](Self::produce), of the record at `index` of `batch`. A sink of the same log as the batch may take the
    /// record's headers along rather than copy them; until they are [restored](Batch::restore), the record is undecodable.
    ///
    /// # Errors
    /// As `produce`; the record is whole.
    fn forward(
        &mut self,
        batch: &mut dyn Batch,
        index: usize,
        forward: &Forward<'_>,
        token: Token,
    ) -> Result<usize, ProduceError> {
        self.produce(&forward.of(batch.record(index)), token)
    }

    /// Has what was produced sent off, since no more is coming for the moment. Without it a sink may wait for more to send
    /// along. May block for a millisecond.
    fn hurry(&mut self) {}

    /// Moves the work on, and appends the reports that have come in. Never blocks for longer than one write to disk.
    ///
    /// # Errors
    /// [`SinkFailed`]: the sink is of no more use and its outstanding reports will not come.
    fn serve(&mut self, reports: &mut Vec<Report>) -> Result<(), SinkFailed>;
}

/// Why a record was not queued.
#[derive(Debug, Error)]
pub enum ProduceError {
    /// The sink's byte-bounded queue is full: backpressure, not failure.
    #[error("the producer queue is full")]
    Full,
    /// The delivery itself can't be taken.
    #[error(transparent)]
    Delivery(#[from] DeliveryError),
}

/// What became of one delivery.
#[derive(Debug)]
pub struct Report {
    /// The delivery.
    pub token: Token,
    /// Durable, or not. Boxed, since most are, and every report has the place for it.
    pub result: Result<(), Box<DeliveryError>>,
}

/// Why a delivery did not become durable.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum DeliveryError {
    /// Because of the record itself (too large, invalid topic name, no such partition): the same delivery would be
    /// refused again.
    #[error("refused: {message} ({code})")]
    Refused {
        /// The client library's or database's error code.
        code: String,
        /// What it says.
        message: String,
    },
    /// Because of anything else: the same delivery may succeed later.
    #[error("not delivered: {message} ({code})")]
    Unavailable {
        /// The client library's or database's error code.
        code: String,
        /// What it says.
        message: String,
    },
}

/// A sink, or a whole backend, that can't go on.
#[derive(Clone, Debug, Error)]
#[error("{message} ({code})")]
pub struct SinkFailed {
    /// The client library's or database's error code.
    pub code: String,
    /// What happened and what to do about it.
    pub message: String,
}

/// How far a lane has come in one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commit {
    /// The partition.
    pub partition: TopicPartition,
    /// The lowest offset that is not settled: where to start again.
    pub offset: i64,
    /// What was settled beyond it: opaque text, at most 4096 bytes.
    pub metadata: String,
}

/// Commits the progress of lanes. Shared by the workers.
pub trait Committer: Send + Sync {
    /// Commits, without waiting for the answer. What fails is logged and counted in [`failures`](Self::failures).
    fn commit(&self, commits: &[Commit]);

    /// How many commits have failed so far. When it has grown, callers commit everything again: it is not told which it
    /// was. (A rebalance makes a broker refuse the commits that were under way.)
    fn failures(&self) -> u64;
}

/// One partition to read, from where its group left off.
pub struct AssignedFeed {
    /// The partition.
    pub partition: TopicPartition,
    /// The first offset that the feed gives.
    pub start: i64,
    /// The metadata of the commit that `start` comes from; empty where there was no commit.
    pub metadata: String,
    /// The records.
    pub feed: Box<dyn Feed>,
}

/// One source partition that this router is now to work on, with the retry partition that follows it.
pub struct Assignment {
    /// The source partition.
    pub source: AssignedFeed,
    /// The partition of the same number in the retry topic, where the route has one. Its feed tells when it has
    /// [reached the end](Feed::reached_end): before, nothing of the source is run.
    pub retry: Option<AssignedFeed>,
}

/// Why partitions go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Revocation {
    /// They are asked for in good order: what is settled can still be committed.
    Revoked,
    /// They belong to somebody else already: nothing may be committed.
    Lost,
}

/// The router, as a backend sees it. Called on the backend's control thread, one call at a time.
pub trait LaneHost: Send + Sync {
    /// These partitions are now ours.
    fn assigned(&self, assignments: Vec<Assignment>);

    /// These source partitions are to be given up. Returns once their feeds are dropped, within `deadline`; after it
    /// has returned no lane of theirs commits any more. The answer is what to commit for them, source and retry
    /// partitions alike; it is empty after [`Revocation::Lost`].
    fn revoked(&self, partitions: &[TopicPartition], why: Revocation, deadline: Duration) -> Vec<Commit>;

    /// The source partition can't be worked on (no retry partition for it, no leader); it stays assigned to this router
    /// and unread, until it is [assigned](Self::assigned) after all. Told again where the reason changes.
    fn halted(&self, partition: TopicPartition, reason: String);

    /// The backend can't go on; the router stops.
    fn failed(&self, error: SinkFailed);
}

/// Wakes the worker that a feed or a sink belongs to, when it may have something. Cheap, callable from any thread, and
/// spurious calls are harmless.
pub type Waker = Arc<dyn Fn() + Send + Sync>;

/// A log: a Kafka cluster, the embedded log, or the simulated broker of the tests.
pub trait Log: Send + Sync {
    /// The topics there are. `names` restricts the answer; a name that does not exist is not in it.
    ///
    /// # Errors
    /// [`LogError`].
    fn topics(&self, names: Option<&[Arc<str>]>) -> Result<Vec<TopicInfo>, LogError>;

    /// Creates topics. One that exists is no error, and is left as it is; but on the embedded log, where no other tool does
    /// it, its retention becomes what is said here.
    ///
    /// # Errors
    /// [`LogError`]; some of the topics may have been created.
    fn create_topics(&self, topics: &[NewTopic]) -> Result<(), LogError>;

    /// What the log does with the records of these topics, in their order. All of them exist.
    ///
    /// # Errors
    /// [`LogError`].
    fn settings(&self, topics: &[Arc<str>]) -> Result<Vec<TopicSettings>, LogError>;

    /// The first offset there is in the partition, and one past the last.
    ///
    /// # Errors
    /// [`LogError`].
    fn watermarks(&self, partition: &TopicPartition) -> Result<(i64, i64), LogError>;

    /// The first offset whose record has this timestamp (milliseconds since 1970-01-01 UTC) or a later one; the end of
    /// the partition where there is none.
    ///
    /// # Errors
    /// [`LogError`].
    fn offset_at(&self, partition: &TopicPartition, timestamp_ms: i64) -> Result<i64, LogError>;

    /// Reads one partition from `start`, outside any group; records of aborted transactions are not seen.
    ///
    /// # Errors
    /// [`LogError`].
    fn read(&self, partition: &TopicPartition, start: i64) -> Result<Box<dyn Feed>, LogError>;

    /// What the group has committed for the partitions, in their order; `None` where nothing.
    ///
    /// # Errors
    /// [`LogError`].
    fn committed(&self, group: &str, partitions: &[TopicPartition]) -> Result<Vec<Option<Commit>>, LogError>;

    /// Opens a sink for these topics; [`TopicId`](crate::delivery::TopicId) is the index in `topics`. `waker` is called
    /// when reports may have come in.
    ///
    /// # Errors
    /// [`LogError`].
    fn sink(&self, topics: &[Arc<str>], waker: Waker) -> Result<Box<dyn Sink>, LogError>;

    /// Joins a group. Partitions come and go through `host`, from the moment of the call.
    ///
    /// # Errors
    /// [`LogError`].
    fn join(&self, group: GroupPlan, host: Arc<dyn LaneHost>) -> Result<Box<dyn Membership>, LogError>;
}

/// A joined group.
pub trait Membership: Send {
    /// Commits for this member.
    fn committer(&self) -> Arc<dyn Committer>;

    /// Gives up all partitions ([`LaneHost::revoked`], then a last commit), leaves the group, and ends the control
    /// thread. The answer is whether all of it was done within `deadline`, and what a last write takes; the rest is given up.
    fn leave(self: Box<Self>, deadline: Duration) -> bool;
}

/// What a member of a group reads.
#[derive(Clone, Debug)]
pub struct GroupPlan {
    /// Name of the consumer group.
    pub group: Arc<str>,
    /// Static membership: Kafka's `group.instance.id`, unique in the group.
    pub instance_id: Option<String>,
    /// The topics.
    pub sources: Vec<SourceTopic>,
    /// Most bytes that are fetched ahead for one partition.
    pub fetch_ahead_bytes: usize,
    /// How long a revocation may take.
    pub revoke_deadline: Duration,
}

/// One source topic of a group.
#[derive(Clone, Debug)]
pub struct SourceTopic {
    /// The topic.
    pub topic: Arc<str>,
    /// The retry topic whose partitions follow those of this topic.
    pub retry_topic: Option<Arc<str>>,
    /// Where to start in a partition for which the group has committed nothing.
    pub start: StartAt,
}

/// Where a group starts in a partition for which it has committed nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartAt {
    /// At the first record there is.
    Earliest,
    /// At the records that come after the assignment.
    Latest,
    /// At the first record with this timestamp or a later one, in milliseconds since 1970-01-01 UTC.
    Time(i64),
}

/// A topic there is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicInfo {
    /// Name.
    pub name: Arc<str>,
    /// Number of partitions.
    pub partitions: u32,
}

/// What a log does with the records of a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicSettings {
    /// How long records are kept; `None` keeps them for ever.
    pub retention: Option<Duration>,
    /// Bytes of a partition beyond which its oldest records go, whatever their age; `None` keeps them.
    pub retention_bytes: Option<u64>,
    /// Whether, of records with the same key, only the last is kept.
    pub compacted: bool,
    /// Largest batch of records that is taken, in bytes; `None` where the log has no such limit of its own.
    pub max_batch_bytes: Option<usize>,
}

/// A topic to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewTopic {
    /// Name.
    pub name: Arc<str>,
    /// Number of partitions, at least 1.
    pub partitions: u32,
    /// How long records are kept; `None` keeps them for ever.
    pub retention: Option<Duration>,
}

/// A log that can't be used, or refuses something.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{what}: {message} ({code})")]
pub struct LogError {
    /// What was being done, and to what: "can't read orders.v1/3".
    pub what: String,
    /// The client library's or database's error code.
    pub code: String,
    /// The cause and, where there is one, the remedy.
    pub message: String,
}

/// Index of a plugin in the plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PluginId(pub u32);

/// Runs plugins. Owned by one worker.
pub trait PluginHost {
    /// Hands `events`, at least one, to the plugin in one call. The answer holds exactly one verdict for each event, in
    /// order. `now_ms` is the time of the batch, in milliseconds since 1970-01-01 UTC.
    ///
    /// An instance that did not return cleanly is thrown away, with the log lines and counts of that call. A call with one
    /// event that fails on an instance which has made calls before is made once more, on a new one: only what fails there
    /// is the event's own fault.
    ///
    /// # Errors
    /// [`CallError`].
    fn call(&mut self, plugin: PluginId, events: &[Event<'_>], now_ms: i64) -> Result<Verdicts, CallError>;

    /// Hands `see` what plugins have counted since the last time, in calls that returned cleanly: plugin, name of the
    /// counter, sum. The number of names is bounded.
    fn take_counts(&mut self, see: &mut dyn FnMut(PluginId, &str, u64));
}

/// Why a call gave no verdicts.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum CallError {
    /// One of the events did it, or all of them together.
    #[error("{message} ({class}: {code})")]
    Guest {
        /// One of trap, deadline, memory and bad-output.
        class: FailureClass,
        /// A short word, such as a trap's name.
        code: String,
        /// A sentence that names the plugin and the limit.
        message: String,
    },
    /// No instance can be had, which says nothing about the events: try again later.
    #[error("{message}")]
    Unavailable {
        /// A sentence that names the plugin and the cause.
        message: String,
    },
}
