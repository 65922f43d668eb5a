//! The limit: records from one topic to another as fast as librdkafka goes, in one thread, at least once, with the
//! settings that the router's own clients have.
//!
//! rdkafka keeps the clients. The records go by a few calls of librdkafka: batches off one queue for all partitions,
//! headers moved rather than copied, produced by topic handle to the partition they came from. What is acknowledged is
//! counted, not looked at one by one, and committed once a second.

use std::ffi::{CString, c_int, c_void};
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use clap::Args;
use rdkafka::client::ClientContext;
use rdkafka::config::{ClientConfig, FromClientConfigAndContext as _};
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseProducer, Producer as _, ProducerContext};
use rdkafka::{Offset, TopicPartitionList};
use rdkafka_sys as sys;
use rdkafka_sys::rd_kafka_resp_err_t as Code;
use rdkafka_sys::rd_kafka_vtype_t as Tag;

use crate::workload::PARTITIONS;

/// What it prints when it has its partitions: what the router logs, too.
pub(crate) const ASSIGNED: &str = "lane assigned";

/// Most records taken at once.
const BATCH: usize = 500;
/// How long a batch may take to fill; with records in hand it never waits.
const FILL: Duration = Duration::from_millis(10);
/// As the router's default.
const COMMIT_INTERVAL: Duration = Duration::from_secs(1);

/// What to copy where.
#[derive(Args)]
pub(crate) struct Order {
    #[arg(long)]
    bootstrap: String,
    #[arg(long)]
    source: String,
    /// The name of the group, too.
    #[arg(long)]
    sink: String,
}

/// Copies, and goes on waiting for more, until it is killed.
pub(crate) fn run(order: &Order) -> anyhow::Result<()> {
    let acknowledged = Arc::<Acknowledged>::default();
    let producer = BaseProducer::from_config_and_context(&producer_config(order), Counting(Arc::clone(&acknowledged)))?;
    let consumer: BaseConsumer = consumer_config(order).create()?;
    let queue = assign(&consumer, &order.source)?;
    println!("{ASSIGNED}");
    let mut copy = Copy {
        topic: Topic::of(&producer, &order.sink)?,
        producer,
        consumer,
        source: &order.source,
        acknowledged,
        sent: 0,
        next: [None; PARTITIONS as usize],
        due: None,
        commit_at: Instant::now() + COMMIT_INTERVAL,
    };
    let mut batch = Vec::with_capacity(BATCH);
    loop {
        queue.take(&mut batch);
        for message in batch.drain(..) {
            copy.send(message)?;
        }
        copy.producer.poll(Duration::ZERO);
        copy.settle()?;
    }
}

/// What the router's members of groups have where it matters for speed; see its `KafkaSettings`.
fn consumer_config(order: &Order) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", &order.bootstrap)
        .set("group.id", &order.sink)
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("auto.offset.reset", "error")
        .set("isolation.level", "read_committed")
        .set("check.crcs", "true")
        .set("queued.max.messages.kbytes", "2048")
        .set("queued.min.messages", "100000")
        .set("fetch.message.max.bytes", "1048576")
        .set("fetch.queue.backoff.ms", "20");
    config
}

/// What the router's sinks have where it matters for speed.
fn producer_config(order: &Order) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", &order.bootstrap)
        .set("enable.idempotence", "true")
        .set("acks", "all")
        .set("message.timeout.ms", "0")
        .set("queue.buffering.max.kbytes", "32769")
        .set("queue.buffering.max.messages", "500000")
        .set("linger.ms", "5");
    config
}

#[derive(Default)]
struct Acknowledged {
    count: AtomicU64,
    failed: AtomicU64,
}

struct Counting(Arc<Acknowledged>);

impl ClientContext for Counting {}

impl ProducerContext for Counting {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        let counter = if result.is_ok() { &self.0.count } else { &self.0.failed };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

/// Assigns all partitions from their beginning, and has them fetched into one queue.
fn assign(consumer: &BaseConsumer, topic: &str) -> anyhow::Result<Queue> {
    let mut list = TopicPartitionList::new();
    for partition in 0..PARTITIONS {
        list.add_partition_offset(topic, partition, Offset::Beginning)?;
    }
    let name = CString::new(topic)?;
    let client = consumer.client().native_ptr();
    // SAFETY: a live client, which is never destroyed: this process is killed.
    let queue = unsafe { sys::rd_kafka_queue_new(client) };
    consumer.assign(&list)?;
    for partition in 0..PARTITIONS {
        // SAFETY: live pointers; the reference to the partition's queue is given back at once.
        unsafe {
            let own = sys::rd_kafka_queue_get_partition(client, name.as_ptr(), partition);
            ensure!(!own.is_null(), "{topic}/{partition} has no queue");
            sys::rd_kafka_queue_forward(own, queue);
            sys::rd_kafka_queue_destroy(own);
        }
    }
    Ok(Queue(queue))
}

struct Queue(*mut sys::rd_kafka_queue_t);

impl Queue {
    fn take(&self, batch: &mut Vec<Message>) {
        debug_assert!(batch.is_empty() && batch.capacity() >= BATCH, "the last batch was sent");
        let room = batch.as_mut_ptr().cast::<*mut sys::rd_kafka_message_t>();
        // SAFETY: a live queue; `Message` is a transparent pointer, and there is room for so many.
        let taken = unsafe { sys::rd_kafka_consume_batch_queue(self.0, FILL.as_millis() as c_int, room, BATCH) };
        // SAFETY: so many were written, and they are ours.
        unsafe { batch.set_len(usize::try_from(taken).unwrap_or(0)) };
    }
}

/// A fetched message, ours.
#[repr(transparent)]
struct Message(*mut sys::rd_kafka_message_t);

impl Drop for Message {
    fn drop(&mut self) {
        // SAFETY: ours, and the last use.
        unsafe { sys::rd_kafka_message_destroy(self.0) };
    }
}

/// The handle of the sink topic.
struct Topic(*mut sys::rd_kafka_topic_t);

impl Topic {
    fn of(producer: &BaseProducer<Counting>, name: &str) -> anyhow::Result<Self> {
        let c_name = CString::new(name)?;
        // SAFETY: live pointers; null stands for the producer's own settings.
        let topic =
            unsafe { sys::rd_kafka_topic_new(producer.client().native_ptr(), c_name.as_ptr(), ptr::null_mut()) };
        ensure!(!topic.is_null(), "there is no handle of topic {name}");
        Ok(Self(topic))
    }
}

struct Copy<'a> {
    topic: Topic,
    producer: BaseProducer<Counting>,
    consumer: BaseConsumer,
    source: &'a str,
    acknowledged: Arc<Acknowledged>,
    sent: u64,
    /// One past the last record sent, of each partition that had one.
    next: [Option<i64>; PARTITIONS as usize],
    /// To be committed once so many are acknowledged.
    due: Option<(u64, TopicPartitionList)>,
    commit_at: Instant,
}

impl Copy<'_> {
    fn send(&mut self, message: Message) -> anyhow::Result<()> {
        // SAFETY: a live message, ours; its headers, if any, are ours from now on.
        let (fields, timestamp, headers) = unsafe {
            let mut headers = ptr::null_mut();
            sys::rd_kafka_message_detach_headers(message.0, &raw mut headers);
            (&*message.0, sys::rd_kafka_message_timestamp(message.0, ptr::null_mut()), headers)
        };
        ensure!(fields.err == Code::RD_KAFKA_RESP_ERR_NO_ERROR, "can't fetch: {:?}", fields.err);
        loop {
            // SAFETY: each tag is followed by arguments of the types that it stands for. Key and value are copied;
            // the headers are librdkafka's if it succeeds.
            let code = unsafe {
                sys::rd_kafka_producev(
                    self.producer.client().native_ptr(),
                    Tag::RD_KAFKA_VTYPE_RKT as c_int,
                    self.topic.0,
                    Tag::RD_KAFKA_VTYPE_PARTITION as c_int,
                    fields.partition,
                    Tag::RD_KAFKA_VTYPE_MSGFLAGS as c_int,
                    sys::RD_KAFKA_MSG_F_COPY,
                    Tag::RD_KAFKA_VTYPE_KEY as c_int,
                    fields.key,
                    fields.key_len,
                    Tag::RD_KAFKA_VTYPE_VALUE as c_int,
                    fields.payload,
                    fields.len,
                    Tag::RD_KAFKA_VTYPE_TIMESTAMP as c_int,
                    timestamp,
                    Tag::RD_KAFKA_VTYPE_HEADERS as c_int,
                    headers,
                    Tag::RD_KAFKA_VTYPE_OPAQUE as c_int,
                    ptr::null_mut::<c_void>(),
                    Tag::RD_KAFKA_VTYPE_END as c_int,
                )
            };
            match code {
                Code::RD_KAFKA_RESP_ERR_NO_ERROR => break,
                Code::RD_KAFKA_RESP_ERR__QUEUE_FULL => self.producer.poll(Duration::from_millis(1)),
                code => bail!("can't produce: {code:?}"),
            }
        }
        self.sent += 1;
        self.next[usize::try_from(fields.partition)?] = Some(fields.offset + 1);
        Ok(())
    }

    /// Commits, now and then, what is acknowledged.
    fn settle(&mut self) -> anyhow::Result<()> {
        let failed = self.acknowledged.failed.load(Ordering::Relaxed);
        ensure!(failed == 0, "{failed} records were not delivered");
        if let Some((sent, offsets)) = &self.due
            && self.acknowledged.count.load(Ordering::Relaxed) >= *sent
        {
            self.consumer.commit(offsets, CommitMode::Async).context("can't commit")?;
            self.due = None;
        }
        let now = Instant::now();
        if self.due.is_none() && now >= self.commit_at {
            self.commit_at = now + COMMIT_INTERVAL;
            let mut offsets = TopicPartitionList::new();
            for (partition, next) in (0..).zip(self.next) {
                if let Some(next) = next {
                    offsets.add_partition_offset(self.source, partition, Offset::Offset(next))?;
                }
            }
            if offsets.count() > 0 {
                self.due = Some((self.sent, offsets));
            }
            // Serves what the client has to say besides records.
            if let Some(Err(error)) = self.consumer.poll(Duration::ZERO) {
                bail!("the consumer failed: {error}");
            }
        }
        Ok(())
    }
}
