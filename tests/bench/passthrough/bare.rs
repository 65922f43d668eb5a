//! The limit: records from one topic to another as fast as librdkafka goes, in one thread, at least once, with the
//! settings that the router's own clients have.
//!
//! rdkafka keeps the clients. The records go by a few calls of librdkafka: batches off one queue for all partitions,
//! headers moved rather than copied, produced by topic handle to the partition they came from. What is acknowledged is
//! counted, not looked at one by one, and committed once a second.

mod copy;
mod json;

use std::ffi::{CString, c_int};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::ensure;
use clap::{Args, ValueEnum};
use rdkafka::client::ClientContext;
use rdkafka::config::{ClientConfig, FromClientConfigAndContext as _};
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseProducer, Producer as _, ProducerContext};
use rdkafka::{Offset, TopicPartitionList};
use rdkafka_sys as sys;

use copy::Copy;

/// What it prints when it has its partitions: what the router logs, too.
pub(crate) const ASSIGNED: &str = "lane assigned";

/// Most records taken at once.
const BATCH: usize = 500;
/// How long a batch may take to fill, and how long to wait for a first record: so often it looks after its commits.
const FILL: Duration = Duration::from_millis(10);

/// An idempotent producer asks for its id when it is made, when it has no connection yet, and again after half a second.
const PRODUCER_ID: Duration = Duration::from_millis(700);
/// How long the cluster may take to answer.
const DEADLINE: Duration = Duration::from_secs(60);

/// What to copy where.
#[derive(Args)]
pub(crate) struct Order {
    #[arg(long)]
    bootstrap: String,
    #[arg(long)]
    source: String,
    /// Partitions of the source.
    #[arg(long)]
    partitions: i32,
    /// The name of the group, too.
    #[arg(long)]
    sink: String,
    /// What is done with each record.
    #[arg(long, value_enum)]
    work: Work,
    /// Take what is there instead of waiting for batches to fill, and let nothing linger: the limit of latency costs more
    /// CPU than the limit of CPU, and each is what a router is to be measured by.
    #[arg(long)]
    prompt: bool,
}

/// What is done with each record on its way.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Work {
    /// Nothing.
    Copy,
    /// What the guest `json-transform` does.
    Json,
    /// One record in a hundred goes to another topic, with as many headers as a dead letter has.
    Divert,
}

/// What follows the name of the sink in that of the other topic.
pub(crate) const DIVERTED: &str = "-dead-letter";
/// One record in so many is diverted.
pub(crate) const DIVERT_EVERY: u64 = 100;

/// What the command line calls it.
pub(crate) const fn name_of(work: Work) -> &'static str {
    match work {
        Work::Copy => "copy",
        Work::Json => "json",
        Work::Divert => "divert",
    }
}

/// Copies, and goes on waiting for more, until it is killed.
pub(crate) fn run(order: &Order) -> anyhow::Result<()> {
    // As the router does, whose allocator this process has.
    pointsman::without_huge_pages();
    let acknowledged = Arc::<Acknowledged>::default();
    let producer = BaseProducer::from_config_and_context(&producer_config(order), Counting(Arc::clone(&acknowledged)))?;
    let consumer: BaseConsumer = consumer_config(order).create()?;
    // Connected, and knowing who leads the partitions: as the router is when it says the same.
    consumer.fetch_metadata(Some(&order.source), DEADLINE)?;
    producer.client().fetch_metadata(Some(&order.sink), DEADLINE)?;
    let ready = Instant::now() + PRODUCER_ID;
    while let Some(rest) = ready.checked_duration_since(Instant::now()) {
        producer.poll(rest);
    }
    let queue = assign(&consumer, order)?;
    let mut copy = Copy::new(order, producer, consumer, acknowledged)?;
    println!("{ASSIGNED}");
    let mut batch = Vec::with_capacity(BATCH);
    loop {
        if order.prompt {
            queue.take_promptly(&mut batch);
        } else {
            queue.take(&mut batch, FILL);
        }
        for message in batch.drain(..) {
            copy.send(message)?;
        }
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
        .set("fetch.max.bytes", "4194304")
        .set("fetch.queue.backoff.ms", "2")
        .set("fetch.wait.max.ms", "20");
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
        // As long as the router's, which sends earlier with nothing else to do; to be prompt, as short as gives batches.
        .set("linger.ms", if order.prompt { "1" } else { "40" })
        // As the router's.
        .set("max.in.flight.requests.per.connection", "3")
        .set("batch.num.messages", "2500");
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
fn assign(consumer: &BaseConsumer, order: &Order) -> anyhow::Result<Queue> {
    let topic = &order.source;
    let mut list = TopicPartitionList::new();
    for partition in 0..order.partitions {
        // The router knows where to start, too.
        list.add_partition_offset(topic, partition, Offset::Offset(0))?;
    }
    let name = CString::new(topic.as_str())?;
    let client = consumer.client().native_ptr();
    // SAFETY: a live client, which is never destroyed: this process is killed.
    let queue = unsafe { sys::rd_kafka_queue_new(client) };
    // Before they are assigned: what is fetched sooner would go to the consumer's own queue.
    for partition in 0..order.partitions {
        // SAFETY: live pointers; the reference to the partition's queue is given back at once.
        unsafe {
            let own = sys::rd_kafka_queue_get_partition(client, name.as_ptr(), partition);
            ensure!(!own.is_null(), "{topic}/{partition} has no queue");
            sys::rd_kafka_queue_forward(own, queue);
            sys::rd_kafka_queue_destroy(own);
        }
    }
    consumer.assign(&list)?;
    Ok(Queue(queue))
}

struct Queue(*mut sys::rd_kafka_queue_t);

impl Queue {
    /// Takes a batch, which is full unless `fill` passes before.
    fn take(&self, batch: &mut Vec<Message>, fill: Duration) {
        debug_assert!(batch.is_empty() && batch.capacity() >= BATCH, "the last batch was sent");
        let room = batch.as_mut_ptr().cast::<*mut sys::rd_kafka_message_t>();
        // SAFETY: a live queue; `Message` is a transparent pointer, and there is room for so many.
        let taken = unsafe { sys::rd_kafka_consume_batch_queue(self.0, fill.as_millis() as c_int, room, BATCH) };
        // SAFETY: so many were written, and they are ours.
        unsafe { batch.set_len(usize::try_from(taken).unwrap_or(0)) };
    }

    /// Takes what is there, and waits only where that is nothing, until there is one.
    fn take_promptly(&self, batch: &mut Vec<Message>) {
        self.take(batch, Duration::ZERO);
        if batch.is_empty() {
            // SAFETY: a live queue; a message that is not null is ours.
            let first = unsafe { sys::rd_kafka_consume_queue(self.0, FILL.as_millis() as c_int) };
            if !first.is_null() {
                batch.push(Message(first));
            }
        }
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
