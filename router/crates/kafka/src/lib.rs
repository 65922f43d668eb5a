//! The Kafka backend: [`KafkaLog`] is pointsman-core's [`Log`] on a Kafka cluster, by librdkafka.
//!
//! **Threads.** Each group that is joined has a control thread of ours, which serves rebalances and the results of commits.
//! Records do not pass it: every assigned partition has a librdkafka queue of its own, that the owning worker takes
//! batches from without waiting (decision 0002). Producers are served by the workers that own them.
//!
//! **Bounds.** A partition is fetched ahead up to the plan's bytes, or its part of those of all partitions, plus one answer of a broker; what a worker has taken
//! and not yet been handed out stays below the same figure. A producer holds up to
//! [`KafkaSettings::producer_queue_bytes`].

mod admin;
mod assignment;
mod batch;
mod classify;
mod commits;
mod error;
mod feed;
mod held;
mod membership;
mod native;
mod onlooker;
mod reader;
mod reading;
mod settings;
mod sink;
mod sparse;
mod statistics;
mod survey;
mod tail;
mod transactions;
mod trimming;
mod unowned;

use std::sync::Arc;

use pointsman_core::port::{
    Commit, Connections, Feed, GroupPlan, LaneHost, Log, LogError, Membership, NewTopic, Reader, Sink, TopicInfo,
    TopicSettings, TransactionError, TransactionalSink, Transactions, Waker, WriterPlan,
};
use pointsman_core::record::TopicPartition;

use crate::error::log_error;
use crate::native::{Client, Kind};
use crate::reader::Readers;
pub use crate::settings::{KafkaSettings, OWNED};
pub use crate::statistics::Statistics;
pub use crate::survey::survey;

/// A Kafka cluster.
pub struct KafkaLog {
    settings: KafkaSettings,
    /// Asks the cluster, and reads outside groups.
    client: Arc<Client>,
    readers: Arc<Readers>,
}

impl KafkaLog {
    /// A log on the cluster that `settings` names. It does not wait for a broker: an unreachable one shows at the first
    /// question.
    ///
    /// # Errors
    /// [`LogError`] where a property is one of [`OWNED`], or librdkafka refuses it.
    pub fn new(settings: KafkaSettings) -> Result<Self, LogError> {
        settings.check()?;
        let client = Client::new(Kind::Reader, &settings.reader())
            .map_err(|message| log_error("can't use [broker]", "client", message))?;
        let client = Arc::new(client);
        let readers = Arc::new(Readers::new(&settings, &client));
        Ok(Self { settings, client, readers })
    }
}

impl Log for KafkaLog {
    fn topics(&self, names: Option<&[Arc<str>]>) -> Result<Vec<TopicInfo>, LogError> {
        admin::topics(&self.client, names, self.settings.request_timeout)
    }

    /// With the brokers' own replication, never compacted.
    fn create_topics(&self, topics: &[NewTopic]) -> Result<(), LogError> {
        admin::create_topics(&self.client, topics, self.settings.request_timeout)
    }

    fn settings(&self, topics: &[Arc<str>]) -> Result<Vec<TopicSettings>, LogError> {
        admin::settings(&self.client, topics, self.settings.request_timeout)
    }

    /// The end is the last stable offset: what an open transaction has written is not there yet.
    fn watermarks(&self, partition: &TopicPartition) -> Result<(i64, i64), LogError> {
        admin::watermarks(&self.client, partition, self.settings.request_timeout)
    }

    fn bounds(&self, partitions: &[TopicPartition]) -> Vec<Result<(i64, i64), LogError>> {
        onlooker::bounds(&self.client, partitions, self.settings.request_timeout)
    }

    fn offset_at(&self, partition: &TopicPartition, timestamp_ms: i64) -> Result<i64, LogError> {
        admin::offset_at(&self.client, partition, timestamp_ms, self.settings.request_timeout)
    }

    /// All reading shares one connection to each broker, unless a partition is read more than once at a time.
    fn read(&self, partition: &TopicPartition, start: i64) -> Result<Box<dyn Feed>, LogError> {
        Ok(Box::new(self.readers.read(partition, start)?))
    }

    /// By a client of its own, which ends with the answer: some tens of milliseconds.
    fn committed(&self, group: &str, partitions: &[TopicPartition]) -> Result<Vec<Option<Commit>>, LogError> {
        admin::committed(&self.settings, group, partitions)
    }

    /// By a client of its own, as well. Of a whole cluster, a thousand partitions at a time.
    fn progress(&self, group: &str, partitions: Option<&[TopicPartition]>) -> Result<Vec<Commit>, LogError> {
        onlooker::progress(&self.settings, &self.client, group, partitions)
    }

    fn readers(&self, group: &str) -> Result<Option<Vec<Reader>>, LogError> {
        onlooker::readers(&self.client, group, self.settings.request_timeout)
    }

    /// By an administrative request, which brokers grant for a group without members only.
    fn set_committed(&self, group: &str, commits: &[Commit]) -> Result<(), LogError> {
        admin::set_committed(&self.client, group, commits, self.settings.request_timeout)
    }

    fn sink(&self, topics: &[Arc<str>], waker: Waker) -> Result<Box<dyn Sink>, LogError> {
        Ok(Box::new(sink::KafkaSink::open(&self.settings, topics, waker)?))
    }

    /// By a producer that is replaced where it is in doubt, and a thread that ends its transactions.
    fn transactional_sink(&self, plan: WriterPlan, waker: Waker) -> Result<Box<dyn TransactionalSink>, LogError> {
        Ok(Box::new(transactions::TransactingSink::open(&self.settings, &self.client, plan, waker)?))
    }

    /// By a producer of its own, which asks for the settings of the topics first.
    fn transactional(&self, plan: WriterPlan) -> Result<Box<dyn Transactions>, TransactionError> {
        Ok(Box::new(transactions::KafkaTransactions::open(&self.settings, &self.client, plan)?))
    }

    fn connections(&self) -> Vec<Connections> {
        self.settings.statistics.connections()
    }

    fn join(&self, group: GroupPlan, host: Arc<dyn LaneHost>) -> Result<Box<dyn Membership>, LogError> {
        Ok(Box::new(membership::join(&self.settings, &self.client, &self.readers, group, host)?))
    }
}

#[cfg(test)]
mod tests;
