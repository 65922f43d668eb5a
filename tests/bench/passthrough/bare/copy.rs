//! The way of each record through the bare pass-through.

use std::ffi::{CString, c_int, c_void};
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::producer::{BaseProducer, Producer as _};
use rdkafka::{Offset, TopicPartitionList};
use rdkafka_sys as sys;
use rdkafka_sys::rd_kafka_resp_err_t as Code;
use rdkafka_sys::rd_kafka_vtype_t as Tag;

use super::{Acknowledged, Counting, Message, Order, Work, json};

/// As the router's default.
const COMMIT_INTERVAL: Duration = Duration::from_secs(1);

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

/// The records on their way: sent, acknowledged, committed.
pub(super) struct Copy<'a> {
    topic: Topic,
    producer: BaseProducer<Counting>,
    consumer: BaseConsumer,
    source: &'a str,
    work: Work,
    acknowledged: Arc<Acknowledged>,
    sent: u64,
    /// One past the last record sent, of each partition that had one.
    next: Vec<Option<i64>>,
    /// To be committed once so many are acknowledged.
    due: Option<(u64, TopicPartitionList)>,
    commit_at: Instant,
}

impl<'a> Copy<'a> {
    pub(super) fn new(
        order: &'a Order,
        producer: BaseProducer<Counting>,
        consumer: BaseConsumer,
        acknowledged: Arc<Acknowledged>,
    ) -> anyhow::Result<Self> {
        Ok(Self {
            topic: Topic::of(&producer, &order.sink)?,
            producer,
            consumer,
            source: &order.source,
            work: order.work,
            acknowledged,
            sent: 0,
            next: vec![None; usize::try_from(order.partitions)?],
            due: None,
            commit_at: Instant::now() + COMMIT_INTERVAL,
        })
    }

    /// Produces a record, to the partition that it comes from.
    pub(super) fn send(&mut self, message: Message) -> anyhow::Result<()> {
        // SAFETY: a live message, ours; its headers, if any, are ours from now on.
        let (fields, timestamp, headers) = unsafe {
            let mut headers = ptr::null_mut();
            sys::rd_kafka_message_detach_headers(message.0, &raw mut headers);
            (&*message.0, sys::rd_kafka_message_timestamp(message.0, ptr::null_mut()), headers)
        };
        ensure!(fields.err == Code::RD_KAFKA_RESP_ERR_NO_ERROR, "can't fetch: {:?}", fields.err);
        let transformed = match self.work {
            Work::Copy => None,
            // SAFETY: librdkafka says where the value is and how long; it lives as long as the message.
            Work::Json => Some(json::transform(unsafe { bytes(fields.payload, fields.len) })?),
        };
        let (payload, len) = match &transformed {
            None => (fields.payload, fields.len),
            Some(value) => (value.as_ptr().cast_mut().cast::<c_void>(), value.len()),
        };
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
                    payload,
                    len,
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

    /// Takes acknowledgements, and commits, now and then, what is acknowledged.
    pub(super) fn settle(&mut self) -> anyhow::Result<()> {
        self.producer.poll(Duration::ZERO);
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
            for (partition, next) in (0..).zip(&self.next) {
                if let Some(next) = next {
                    offsets.add_partition_offset(self.source, partition, Offset::Offset(*next))?;
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

/// The bytes of a value; a null one has none.
///
/// # Safety
/// What is not null is `len` bytes long, and lives as long as the answer.
unsafe fn bytes<'a>(value: *const c_void, len: usize) -> &'a [u8] {
    if value.is_null() {
        return &[];
    }
    // SAFETY: the caller's.
    unsafe { std::slice::from_raw_parts(value.cast(), len) }
}
