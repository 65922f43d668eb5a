//! Where the worlds outside come in: the log that records come from and go to, and the sandbox of the plugins.
//!
//! There are three implementations of the log (Kafka, the embedded log, and the simulated broker of the tests) and two
//! of the sandbox (WebAssembly, and verdicts given by hand in route tests). Nothing else of the router is a trait.
//!
//! The threads. A **worker** thread owns some lanes; for each lane it owns the [`Feed`]s, and for itself one [`Sink`] and
//! one [`PluginHost`]. The backend has a **control** thread of its own; it calls [`LaneHost`] when partitions come and go.

use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;

use crate::record::TopicPartition;

mod connections;
mod feed;
mod group;
mod onlooker;
mod plugins;
mod sink;
pub mod survey;
mod transactions;

pub use connections::{ClientRole, Connections};
pub use feed::{Batch, Feed, FeedError};
pub use group::{
    AssignedFeed, Assignment, Commit, Committer, GroupPlan, LaneHost, MemberProgress, Membership, Receipt, Revocation,
    SourceTopic, Standing, StartAt,
};
pub use onlooker::Reader;
pub use plugins::{CallError, Cost, PluginHost, PluginId};
pub use sink::{
    DeliveryError, Ended, ProduceError, Report, Returned, Sink, SinkFailed, Token, TransactionalSink, Undelivered,
};
pub use transactions::{Group, Transaction, TransactionError, Transactions, WriterPlan};

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

    /// The [`watermarks`](Self::watermarks) of many partitions, in their order, in few requests.
    fn bounds(&self, partitions: &[TopicPartition]) -> Vec<Result<(i64, i64), LogError>>;

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

    /// What the group has committed for the partitions, in their order; `None` where nothing. Waits for transactions that
    /// are open and hold commits of this group.
    ///
    /// # Errors
    /// [`LogError`].
    fn committed(&self, group: &str, partitions: &[TopicPartition]) -> Result<Vec<Option<Commit>>, LogError>;

    /// What the group has committed by now, of these partitions or of all that there are; those without a commit are not in it. It
    /// joins nothing and waits for no transaction: for looking at a group, not for going on where it is.
    ///
    /// # Errors
    /// [`LogError`].
    fn progress(&self, group: &str, partitions: Option<&[TopicPartition]>) -> Result<Vec<Commit>, LogError>;

    /// Who reads for the group now: empty where nobody does, and `None` where it can't be told (it is sharing partitions out, or its
    /// members say what they have in a way that is not known).
    ///
    /// # Errors
    /// [`LogError`].
    fn readers(&self, group: &str) -> Result<Option<Vec<Reader>>, LogError>;

    /// Sets what a group has committed, all of it or nothing, as a tool does for a group at rest: one that has a member
    /// keeps what it has.
    ///
    /// # Errors
    /// [`LogError`]: the group has a member, among others.
    fn set_committed(&self, group: &str, commits: &[Commit]) -> Result<(), LogError>;

    /// Opens a sink for these topics; [`TopicId`](crate::delivery::TopicId) is the index in `topics`. `waker` is called
    /// when reports may have come in.
    ///
    /// # Errors
    /// [`LogError`].
    fn sink(&self, topics: &[Arc<str>], waker: Waker) -> Result<Box<dyn Sink>, LogError>;

    /// Opens a sink whose records become visible with the progress of groups. Of all with the same `id`, only the one that was
    /// opened last can commit, where the log has no other way to tell who may.
    ///
    /// # Errors
    /// [`LogError`], also where this log has none.
    fn transactional_sink(&self, plan: WriterPlan, waker: Waker) -> Result<Box<dyn TransactionalSink>, LogError>;

    /// Opens a writer of transactions, and ends what a writer with the same id has left: when this returns, it is decided
    /// whether its last transaction was committed.
    ///
    /// # Errors
    /// [`TransactionError::Aborted`] where it can't be done now, [`TransactionError::Fatal`] where it can't be done so.
    fn transactional(&self, plan: WriterPlan) -> Result<Box<dyn Transactions>, TransactionError>;

    /// How the clients of this process get on with the brokers, by role and broker. A log without brokers has none.
    fn connections(&self) -> Vec<Connections> {
        Vec::new()
    }

    /// Joins a group. Partitions come and go through `host`, from the moment of the call.
    ///
    /// # Errors
    /// [`LogError`].
    fn join(&self, group: GroupPlan, host: Arc<dyn LaneHost>) -> Result<Box<dyn Membership>, LogError>;
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
