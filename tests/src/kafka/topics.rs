//! Topics of a test: made, filled and read with plain clients of librdkafka, not with the crate under test.

use std::collections::BTreeMap;
use std::ffi::CStr;
use std::fmt::Debug;
use std::ptr;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, anyhow, ensure};
use pointsman_core::record::{OwnedHeader, OwnedRecord, TopicPartition};
use rdkafka::admin::{AdminClient, AdminOptions, AlterConfig, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::client::{ClientContext, DefaultClientContext};
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedHeaders, BorrowedMessage, DeliveryResult, Message as _, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _, ProducerContext};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use rdkafka_sys as sys;

use super::Kafka;
use super::progress::{Lag, Watermarks};
use crate::wait;

/// How long one request to the cluster may take.
const DEADLINE: Duration = Duration::from_secs(60);

/// As many copies as the cluster makes by default.
const DEFAULT: i32 = -1;

/// A topic to make.
#[derive(Clone, Debug)]
pub struct TopicSpec<'a> {
    name: &'a str,
    partitions: i32,
    config: Vec<(&'a str, &'a str)>,
}

impl<'a> TopicSpec<'a> {
    /// A topic with default settings.
    #[must_use]
    pub fn new(name: &'a str, partitions: i32) -> Self {
        Self { name, partitions, config: Vec::new() }
    }

    /// Adds a setting of the topic, such as `max.message.bytes`.
    #[must_use]
    pub fn with(mut self, key: &'a str, value: &'a str) -> Self {
        self.config.push((key, value));
        self
    }
}

/// A record to write.
#[derive(Clone, Debug, Default)]
pub struct Sample {
    /// The partition; `None` for the one that the key has.
    pub partition: Option<i32>,
    /// Milliseconds since 1970-01-01 UTC; `None` for the time of writing.
    pub timestamp_ms: Option<i64>,
    /// Key.
    pub key: Option<Vec<u8>>,
    /// Value; null is a tombstone.
    pub value: Option<Vec<u8>>,
    /// Headers in order; names need not be UTF-8.
    pub headers: Vec<OwnedHeader>,
}

impl Kafka {
    /// A name for a topic or a group that no other test has, on this cluster: `prefix` and something unique.
    #[must_use]
    pub fn unique(prefix: &str) -> String {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        // A given cluster may still hold the topics of an earlier process with the same id.
        let since_1970 = std::time::UNIX_EPOCH.elapsed().map_or(0, |elapsed| elapsed.as_millis());
        format!("{prefix}-{since_1970}-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
    }

    /// Makes a topic, and waits until every partition has a leader.
    ///
    /// # Errors
    /// When the cluster refuses it, or does not get ready in time.
    pub fn create_topic(&self, name: &str, partitions: i32) -> anyhow::Result<()> {
        self.create_topics(&[TopicSpec::new(name, partitions)])
    }

    /// Makes topics, and waits until every partition has a leader.
    ///
    /// # Errors
    /// When the cluster refuses one of them, or does not get ready in time.
    pub fn create_topics(&self, topics: &[TopicSpec<'_>]) -> anyhow::Result<()> {
        let admin: AdminClient<DefaultClientContext> = self.client().create()?;
        let requests: Vec<NewTopic<'_>> = topics
            .iter()
            .map(|topic| {
                let request = NewTopic::new(topic.name, topic.partitions, TopicReplication::Fixed(DEFAULT));
                topic.config.iter().fold(request, |request, (key, value)| request.set(key, value))
            })
            .collect();
        let options = AdminOptions::new().operation_timeout(Some(DEADLINE)).request_timeout(Some(DEADLINE));
        for result in block_on(admin.create_topics(&requests, &options))?? {
            result.map_err(|(topic, code)| anyhow!("can't make topic {topic}: {code}"))?;
        }
        for topic in topics {
            let what = format!("the leaders of topic {}", topic.name);
            wait::until(&what, DEADLINE, || has_leaders(&admin, topic).then_some(()))?;
        }
        Ok(())
    }

    /// Deletes topics.
    ///
    /// # Errors
    /// When the cluster refuses it.
    pub fn delete_topics(&self, names: &[&str]) -> anyhow::Result<()> {
        let admin: AdminClient<DefaultClientContext> = self.client().create()?;
        for result in block_on(admin.delete_topics(names, &AdminOptions::new()))?? {
            result.map_err(|(topic, code)| anyhow!("can't delete topic {topic}: {code}"))?;
        }
        Ok(())
    }

    /// Removes all records of topics, as retention does: offsets go on.
    ///
    /// # Errors
    /// When the cluster refuses it.
    pub fn empty_topics<T: AsRef<str>>(&self, names: &[T]) -> anyhow::Result<()> {
        let admin: AdminClient<DefaultClientContext> = self.client().create()?;
        let mut ends = TopicPartitionList::new();
        for name in names.iter().map(AsRef::as_ref) {
            for partition in self.partitions(name)? {
                ends.add_partition_offset(name, partition, Offset::End)?;
            }
        }
        for removed in block_on(admin.delete_records(&ends, &AdminOptions::new()))??.elements() {
            removed.error().with_context(|| format!("can't empty {}/{}", removed.topic(), removed.partition()))?;
        }
        Ok(())
    }

    /// The partitions of a topic.
    ///
    /// # Errors
    /// When the cluster does not answer, or the topic is not there.
    pub fn partitions(&self, topic: &str) -> anyhow::Result<Vec<i32>> {
        partitions(&self.client().create::<BaseConsumer>()?, topic)
    }

    /// The topics whose names begin so.
    ///
    /// # Errors
    /// When the cluster does not answer.
    pub fn topics_beginning_with(&self, prefix: &str) -> anyhow::Result<Vec<String>> {
        let client: BaseConsumer = self.client().create()?;
        let metadata = client.fetch_metadata(None, DEADLINE)?;
        let names = metadata.topics().iter().map(|topic| topic.name());
        Ok(names.filter(|name| name.starts_with(prefix)).map(ToOwned::to_owned).collect())
    }

    /// Adds partitions to a topic, up to `partitions` in all.
    ///
    /// # Errors
    /// When the cluster refuses it.
    pub fn grow_topic(&self, name: &str, partitions: usize) -> anyhow::Result<()> {
        let admin: AdminClient<DefaultClientContext> = self.client().create()?;
        let request = rdkafka::admin::NewPartitions::new(name, partitions);
        for result in block_on(admin.create_partitions([&request], &AdminOptions::new()))?? {
            result.map_err(|(topic, code)| anyhow!("can't grow topic {topic}: {code}"))?;
        }
        Ok(())
    }

    /// Changes a setting of a topic.
    ///
    /// # Errors
    /// When the cluster refuses it.
    pub fn set_topic(&self, name: &str, key: &str, value: &str) -> anyhow::Result<()> {
        let admin: AdminClient<DefaultClientContext> = self.client().create()?;
        let request = AlterConfig::new(ResourceSpecifier::Topic(name)).set(key, value);
        for result in block_on(admin.alter_configs([&request], &AdminOptions::new()))?? {
            result.map_err(|(_, code)| anyhow!("can't set {key} of topic {name}: {code}"))?;
        }
        Ok(())
    }

    /// Writes records in order, and returns when the cluster has acknowledged every one of them.
    ///
    /// # Errors
    /// When one of them is not written.
    pub fn fill(&self, topic: &str, samples: impl IntoIterator<Item = Sample>) -> anyhow::Result<()> {
        self.fill_each(samples.into_iter().map(|sample| (topic, sample)))
    }

    /// Like [`fill`](Self::fill), each record to a topic of its own choice. (A producer takes half a second to begin: one
    /// for many topics saves that.)
    ///
    /// # Errors
    /// When one of them is not written.
    pub fn fill_each<'t>(&self, samples: impl IntoIterator<Item = (&'t str, Sample)>) -> anyhow::Result<()> {
        let reports = Arc::<Reports>::default();
        let producer = self.filling().create_with_context(Reporter(Arc::clone(&reports)))?;
        send_all(&producer, &reports, samples)
    }

    /// Like [`fill_each`](Self::fill_each), in a transaction: whoever reads what is committed sees none of them before
    /// [`Unseen::commit`], and all of them after.
    ///
    /// # Errors
    /// When one of them is not written.
    pub fn fill_unseen<'t>(&self, samples: impl IntoIterator<Item = (&'t str, Sample)>) -> anyhow::Result<Unseen> {
        let reports = Arc::<Reports>::default();
        let mut client = self.filling();
        client.set("transactional.id", Self::unique("fill")).set("transaction.timeout.ms", "600000");
        let producer: BaseProducer<Reporter> = client.create_with_context(Reporter(Arc::clone(&reports)))?;
        producer.init_transactions(DEADLINE)?;
        producer.begin_transaction()?;
        send_all(&producer, &reports, samples)?;
        Ok(Unseen(producer))
    }

    /// Of a producer of [`Reporter`]s.
    fn filling(&self) -> ClientConfig {
        let mut client = self.client();
        client
            .set("enable.idempotence", "true")
            .set("partitioner", "murmur2_random")
            .set("linger.ms", "5")
            .set("message.timeout.ms", "60000")
            // What is lost without a word is sent again soon.
            .set("socket.timeout.ms", "6000");
        client
    }

    /// Writes `count` records: `make` is given 0, 1, 2, and so on.
    ///
    /// # Errors
    /// When one of them is not written.
    pub fn fill_with(&self, topic: &str, count: u64, make: impl Fn(u64) -> Sample) -> anyhow::Result<()> {
        self.fill(topic, (0..count).map(make))
    }

    /// Reads every record that the topic has now, of all partitions; transactions that are open are waited for, and those of
    /// aborted ones are not seen. In order within a partition.
    ///
    /// # Errors
    /// When the topic can't be read to its end.
    pub fn read_all(&self, topic: &str) -> anyhow::Result<Vec<(TopicPartition, OwnedRecord)>> {
        let mut records = Vec::new();
        self.read_each(topic, |message| {
            let partition = TopicPartition::new(message.topic(), message.partition());
            records.push((partition, owned(message)));
        })?;
        Ok(records)
    }

    /// Like [`read_all`](Self::read_all), without keeping the records: `see` is given one after the other.
    ///
    /// # Errors
    /// When the topic can't be read to its end.
    pub fn read_each(&self, topic: &str, mut see: impl FnMut(&BorrowedMessage<'_>)) -> anyhow::Result<()> {
        self.until_stable(topic)?;
        let consumer: BaseConsumer = self
            .client()
            .set("group.id", "pointsman-tests-reader")
            .set("enable.auto.commit", "false")
            .set("enable.partition.eof", "true")
            .set("fetch.wait.max.ms", "20")
            .create()?;
        let mut open = assign_all(&consumer, topic)?;
        while open > 0 {
            match consumer.poll(DEADLINE) {
                Some(Ok(message)) => see(&message),
                Some(Err(KafkaError::PartitionEOF(_))) => open -= 1,
                Some(Err(error)) => return Err(error).with_context(|| format!("can't read topic {topic}")),
                None => return Err(anyhow!("topic {topic} has not ended after {DEADLINE:?} of silence")),
            }
        }
        Ok(())
    }

    /// How many records each of `ids` has in the topic: `id` names a record, or nothing where it has no name.
    ///
    /// # Errors
    /// When the topic can't be read to its end.
    pub fn count_by<K: Ord + Debug>(
        &self,
        topic: &str,
        id: impl Fn(&BorrowedMessage<'_>) -> Option<K>,
    ) -> anyhow::Result<BTreeMap<K, u64>> {
        let mut counts = BTreeMap::new();
        self.read_each(topic, |message| {
            if let Some(id) = id(message) {
                *counts.entry(id).or_default() += 1;
            }
        })?;
        Ok(counts)
    }

    /// How many offsets the partitions of the topic span in all: the number of its records, markers of transactions
    /// included. Cheap.
    ///
    /// # Errors
    /// When the cluster does not answer.
    pub fn count(&self, topic: &str) -> anyhow::Result<i64> {
        Watermarks::new(self, &[topic])?.count()
    }

    /// The ends of the partitions of the topic, with what open transactions have written, in the order of their numbers.
    ///
    /// # Errors
    /// When the cluster does not answer.
    pub fn unstable_ends(&self, topic: &str) -> anyhow::Result<Vec<i64>> {
        ends(&self.client().set("isolation.level", "read_uncommitted").create()?, topic)
    }

    /// Waits until what is in the topic now is stable: a transaction is seen by its group's commit before it is by each of
    /// its records.
    ///
    /// # Errors
    /// When a transaction stays open for too long, or the cluster does not answer.
    fn until_stable(&self, topic: &str) -> anyhow::Result<()> {
        let consumer: BaseConsumer = self.client().create()?;
        let all = self.unstable_ends(topic)?;
        wait::until_ok("transactions to be over", DEADLINE, || {
            Ok(ends(&consumer, topic)?.iter().zip(&all).all(|(stable, end)| stable >= end).then_some(()))
        })
    }

    /// What the group has committed for the partition: offset and metadata; `None` where nothing.
    ///
    /// # Errors
    /// When the cluster does not answer.
    pub fn committed(&self, group: &str, topic: &str, partition: i32) -> anyhow::Result<Option<(i64, String)>> {
        let consumer: BaseConsumer = self.client().set("group.id", group).create()?;
        let mut list = TopicPartitionList::new();
        list.add_partition(topic, partition);
        let list = consumer.committed_offsets(list, DEADLINE)?;
        let found = list.find_partition(topic, partition).context("the answer lacks the partition")?;
        found.error()?;
        Ok(match found.offset() {
            Offset::Offset(offset) => Some((offset, found.metadata().to_owned())),
            _ => None,
        })
    }

    /// How many offsets the group has still to commit in the topic, up to its end.
    ///
    /// # Errors
    /// When the cluster does not answer.
    pub fn lag(&self, group: &str, topic: &str) -> anyhow::Result<i64> {
        Lag::new(self, group, &[topic])?.records()
    }
}

/// Runs one future of an admin client, which has threads of its own.
fn block_on<F: Future>(future: F) -> anyhow::Result<F::Output> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().context("can't start tokio")?;
    Ok(runtime.block_on(future))
}

fn has_leaders(admin: &AdminClient<DefaultClientContext>, topic: &TopicSpec<'_>) -> bool {
    let Ok(metadata) = admin.inner().fetch_metadata(Some(topic.name), Duration::from_secs(5)) else { return false };
    metadata.topics().iter().any(|found| {
        let led = found.partitions().iter().filter(|partition| partition.error().is_none() && partition.leader() >= 0);
        i32::try_from(led.count()) == Ok(topic.partitions)
    })
}

pub(super) fn partitions(consumer: &BaseConsumer, topic: &str) -> anyhow::Result<Vec<i32>> {
    let metadata = consumer.fetch_metadata(Some(topic), DEADLINE)?;
    let found = metadata.topics().iter().find(|found| found.name() == topic).context("the answer lacks the topic")?;
    ensure!(found.error().is_none() && !found.partitions().is_empty(), "there is no topic {topic}");
    Ok(found.partitions().iter().map(rdkafka::metadata::MetadataPartition::id).collect())
}

fn ends(consumer: &BaseConsumer, topic: &str) -> anyhow::Result<Vec<i64>> {
    let mut partitions = partitions(consumer, topic)?;
    partitions.sort_unstable();
    partitions.into_iter().map(|partition| Ok(consumer.fetch_watermarks(topic, partition, DEADLINE)?.1)).collect()
}

/// Assigns every partition from its beginning; the answer is how many.
pub(super) fn assign_all(consumer: &BaseConsumer, topic: &str) -> anyhow::Result<usize> {
    let mut list = TopicPartitionList::new();
    for partition in partitions(consumer, topic)? {
        list.add_partition_offset(topic, partition, Offset::Beginning)?;
    }
    consumer.assign(&list)?;
    Ok(list.count())
}

/// Records of a transaction that is open.
pub struct Unseen(BaseProducer<Reporter>);

impl Unseen {
    /// Commits it. A marker follows the records in each of their partitions, and has an offset of its own.
    ///
    /// # Errors
    /// When the cluster does not take that.
    pub fn commit(self) -> anyhow::Result<()> {
        self.0.commit_transaction(DEADLINE).context("the transaction was not committed")
    }
}

fn send_all<'t>(
    producer: &BaseProducer<Reporter>,
    reports: &Reports,
    samples: impl IntoIterator<Item = (&'t str, Sample)>,
) -> anyhow::Result<()> {
    let mut sent = 0;
    for (topic, sample) in samples {
        send(producer, topic, &sample)?;
        sent += 1;
        producer.poll(Duration::ZERO);
    }
    producer.flush(DEADLINE).context("the cluster did not take all records in time")?;
    reports.all_written(sent)
}

fn send(producer: &BaseProducer<Reporter>, topic: &str, sample: &Sample) -> anyhow::Result<()> {
    let mut record: BaseRecord<'_, [u8], [u8]> = BaseRecord::to(topic);
    record.key = sample.key.as_deref();
    record.payload = sample.value.as_deref();
    record.partition = sample.partition;
    record.timestamp = sample.timestamp_ms;
    record.headers = (!sample.headers.is_empty()).then(|| native_headers(&sample.headers));
    loop {
        match producer.send(record) {
            Ok(()) => return Ok(()),
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                record = back;
                producer.poll(Duration::from_millis(100));
            }
            Err((error, _)) => return Err(error).with_context(|| format!("can't write to {topic}")),
        }
    }
}

/// rdkafka takes names as text only; Kafka takes any bytes.
fn native_headers(headers: &[OwnedHeader]) -> OwnedHeaders {
    let native = OwnedHeaders::new_with_capacity(headers.len());
    let list = ptr::from_ref::<BorrowedHeaders>(native.as_borrowed()).cast_mut().cast::<sys::rd_kafka_headers_t>();
    for header in headers {
        let (value, length) = match &header.value {
            None => (ptr::null(), 0),
            Some(value) => (value.as_ptr().cast(), value.len().cast_signed()),
        };
        // SAFETY: `as_borrowed` is the pointer to the list that `native` owns and nobody shares; librdkafka copies name
        // and value, which are as long as is said.
        let code = unsafe {
            sys::rd_kafka_header_add(list, header.name.as_ptr().cast(), header.name.len().cast_signed(), value, length)
        };
        assert_eq!(code, sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR, "librdkafka takes any header");
    }
    native
}

/// Copies a message, with header names as bytes (rdkafka panics on names that are not UTF-8).
#[must_use]
pub fn owned(message: &BorrowedMessage<'_>) -> OwnedRecord {
    OwnedRecord {
        offset: message.offset(),
        timestamp_ms: message.timestamp().to_millis().unwrap_or(-1),
        key: message.key().map(Into::into),
        value: message.payload().map(Into::into),
        headers: message.headers().map(owned_headers).unwrap_or_default(),
    }
}

/// The value of the last header called `name`, as text.
#[must_use]
pub fn header_text(record: &OwnedRecord, name: &str) -> Option<String> {
    let header = record.headers.iter().rev().find(|header| &*header.name == name.as_bytes())?;
    header.value.as_deref().map(|value| String::from_utf8_lossy(value).into_owned())
}

fn owned_headers(headers: &BorrowedHeaders) -> Vec<OwnedHeader> {
    let list = ptr::from_ref(headers).cast::<sys::rd_kafka_headers_t>();
    let mut owned = Vec::new();
    loop {
        let (mut name, mut value, mut length) = (ptr::null(), ptr::null(), 0);
        // SAFETY: `BorrowedHeaders` is the list itself, alive as long as its message; the out pointers are ours.
        let code = unsafe { sys::rd_kafka_header_get_all(list, owned.len(), &mut name, &mut value, &mut length) };
        if code != sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
            return owned;
        }
        // SAFETY: librdkafka ends every name with a zero byte.
        let name = unsafe { CStr::from_ptr(name) }.to_bytes().into();
        // SAFETY: a value that is not null is `length` bytes long, and lives as long as the list.
        let value =
            (!value.is_null()).then(|| unsafe { std::slice::from_raw_parts(value.cast::<u8>(), length) }.into());
        owned.push(OwnedHeader { name, value });
    }
}

/// What became of the records of one producer.
#[derive(Debug, Default)]
struct Reports {
    written: AtomicU64,
    refused: Mutex<Vec<String>>,
}

impl Reports {
    fn all_written(&self, sent: u64) -> anyhow::Result<()> {
        let refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        ensure!(refused.is_empty(), "{} records were refused; the first: {}", refused.len(), refused[0]);
        let written = self.written.load(Ordering::Relaxed);
        ensure!(written == sent, "{sent} records were sent, but {written} acknowledged");
        Ok(())
    }
}

/// Counts delivery reports.
struct Reporter(Arc<Reports>);

impl ClientContext for Reporter {}

impl ProducerContext for Reporter {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        match result {
            Ok(_) => {
                self.0.written.fetch_add(1, Ordering::Relaxed);
            }
            Err((error, _)) => {
                self.0.refused.lock().unwrap_or_else(PoisonError::into_inner).push(error.to_string());
            }
        }
    }
}
