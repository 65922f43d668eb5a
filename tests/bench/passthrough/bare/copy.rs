//! The way of each record through the bare pass-through.

use std::ffi::{CStr, CString, c_int, c_void};
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

use super::{Acknowledged, Counting, DIVERT_EVERY, DIVERTED, Message, Order, Work, json};

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

/// With headers about as a dead letter has.
fn explained(headers: *mut sys::rd_kafka_headers_t) -> *mut sys::rd_kafka_headers_t {
    const TOLD: [(&CStr, &str); 13] = [
        (c"pointsman.version", "1"),
        (c"pointsman.route", "copy"),
        (c"pointsman.stage", "faulty"),
        (c"pointsman.plugin_sha256", "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"),
        (c"pointsman.origin_topic", "source-1795790396781-8205-0"),
        (c"pointsman.origin_partition", "3"),
        (c"pointsman.origin_offset", "123456"),
        (c"pointsman.origin_timestamp", "1795790396781"),
        (c"pointsman.class", "reject"),
        (c"pointsman.code", "faulty"),
        (c"pointsman.message", "this event was to be rejected"),
        (c"pointsman.attempts", "1"),
        (c"pointsman.failed_at", "1795790396781"),
    ];
    // SAFETY: headers that are ours, or new ones; names and values are copied.
    unsafe {
        let headers = if headers.is_null() { sys::rd_kafka_headers_new(TOLD.len()) } else { headers };
        for (name, value) in TOLD {
            sys::rd_kafka_header_add(headers, name.as_ptr(), -1, value.as_ptr().cast(), value.len() as isize);
        }
        headers
    }
}

/// The records on their way: sent, acknowledged, committed.
pub(super) struct Copy<'a> {
    topic: Topic,
    /// Where records are diverted to.
    other: Option<Topic>,
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
            other: (order.work == Work::Divert)
                .then(|| Topic::of(&producer, &format!("{}{DIVERTED}", order.sink)))
                .transpose()?,
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
        let (fields, timestamp, mut headers) = unsafe {
            let mut headers = ptr::null_mut();
            sys::rd_kafka_message_detach_headers(message.0, &raw mut headers);
            (&*message.0, sys::rd_kafka_message_timestamp(message.0, ptr::null_mut()), headers)
        };
        ensure!(fields.err == Code::RD_KAFKA_RESP_ERR_NO_ERROR, "can't fetch: {:?}", fields.err);
        let transformed = match self.work {
            Work::Copy | Work::Divert => None,
            // SAFETY: librdkafka says where the value is and how long; it lives as long as the message.
            Work::Json => Some(json::transform(unsafe { bytes(fields.payload, fields.len) })?),
        };
        let (payload, len) = match &transformed {
            None => (fields.payload, fields.len),
            Some(value) => (value.as_ptr().cast_mut().cast::<c_void>(), value.len()),
        };
        let mut topic = self.topic.0;
        if let Some(other) = self.other.as_ref().filter(|_| self.sent.is_multiple_of(DIVERT_EVERY)) {
            topic = other.0;
            headers = explained(headers);
        }
        loop {
            // SAFETY: each tag is followed by arguments of the types that it stands for. Key and value are copied;
            // the headers are librdkafka's if it succeeds.
            let code = unsafe {
                sys::rd_kafka_producev(
                    self.producer.client().native_ptr(),
                    Tag::RD_KAFKA_VTYPE_RKT as c_int,
                    topic,
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
            match self.consumer.poll(Duration::ZERO) {
                None => {}
                Some(Err(error)) => bail!("the consumer failed: {error}"),
                Some(Ok(_)) => bail!("a record came to the consumer's own queue"),
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
