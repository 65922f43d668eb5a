//! Records on their way in.

use std::ops::Range;
use std::sync::Arc;

use pointsman_core::delivery::{Delivery, PartitionChoice};
use pointsman_core::port::{DeliveryError, ProduceError, Report, Sink, SinkFailed, Token, Waker};

use crate::append;
use crate::fault::FaultKind;
use crate::headers;
use crate::log::Shared;

/// What a queued record is counted as on top of its bytes, so that empty ones don't come for nothing.
const OVERHEAD: usize = 128;

/// Once it is written, a queue that has grown beyond this gives its memory back, in bytes.
const KEPT_BYTES: usize = 1 << 20;

/// A row of SQLite can't be larger than 1 GB, whatever the options say.
const RECORD_MAX_BYTES: usize = 512 << 20;

/// Collects records, and writes them in one transaction each time it is served.
pub(crate) struct GroupSink {
    shared: Arc<Shared>,
    topics: Vec<Arc<str>>,
    queue: Queue,
    waker: Waker,
}

/// Records that wait to be written, their bytes side by side.
#[derive(Default)]
pub(crate) struct Queue {
    pub(crate) records: Vec<Queued>,
    pub(crate) bytes: Vec<u8>,
}

/// One record that waits; its ranges are in [`Queue::bytes`].
pub(crate) struct Queued {
    /// Index in the sink's topics, checked.
    pub(crate) topic: usize,
    pub(crate) partition: PartitionChoice,
    /// -1 for the time of writing.
    pub(crate) timestamp_ms: i64,
    pub(crate) key: Option<Range<usize>>,
    pub(crate) value: Option<Range<usize>>,
    /// See [`headers`].
    pub(crate) headers: Option<Range<usize>>,
    pub(crate) token: Token,
}

impl GroupSink {
    pub(crate) fn new(shared: Arc<Shared>, topics: &[Arc<str>], waker: Waker) -> Self {
        Self { shared, topics: topics.to_vec(), queue: Queue::default(), waker }
    }

    /// What can be known to be wrong with a delivery before it is written. The rest is found in the transaction, which
    /// sees topics as they are then.
    fn check(&self, delivery: &Delivery<'_>, size: usize) -> Result<usize, DeliveryError> {
        let topic = delivery.topic.0 as usize;
        let Some(name) = self.topics.get(topic) else {
            return Err(refused(
                "unknown-topic",
                format!("the sink was opened for {} topics, not for number {topic}", self.topics.len()),
            ));
        };
        let limit = self.shared.database.options().max_record_bytes.min(RECORD_MAX_BYTES);
        if size > limit {
            let message = format!(
                "a record of {size} bytes for {name}: the limit is {limit} bytes; raise `max_record_size` in [router]"
            );
            return Err(refused("record-too-large", message));
        }
        if delivery.timestamp_ms < -1 {
            let message = format!("a record for {name} has the timestamp {}, before 1970", delivery.timestamp_ms);
            return Err(refused("invalid-timestamp", message));
        }
        Ok(topic)
    }
}

impl Sink for GroupSink {
    fn capacity_bytes(&self) -> usize {
        self.shared.database.options().sink_queue_bytes
    }

    fn produce(&mut self, delivery: &Delivery<'_>, token: Token) -> Result<usize, ProduceError> {
        let stamps =
            delivery.stamps.iter().map(|stamp| stamp.name.len() + stamp.value.as_ref().map_or(0, |value| value.len()));
        let size = delivery.key.map_or(0, <[u8]>::len)
            + delivery.value.map_or(0, <[u8]>::len)
            + delivery.headers.bytes()
            + stamps.sum::<usize>();
        let topic = self.check(delivery, size)?;
        let queued = self.queue.bytes.len() + (self.queue.records.len() + 1) * OVERHEAD;
        let empty = self.queue.records.is_empty();
        if !empty && queued + size > self.shared.database.options().sink_queue_bytes {
            return Err(ProduceError::Full);
        }
        self.queue.push(topic, delivery, token);
        if empty {
            (self.waker)();
        }
        Ok(delivery.rough_bytes())
    }

    fn serve(&mut self, reports: &mut Vec<Report>) -> Result<(), SinkFailed> {
        if self.queue.records.is_empty() {
            return Ok(());
        }
        let database = &self.shared.database;
        let now_ms = database.now_ms();
        let written = database.write(|transaction| append::append(transaction, &self.queue, &self.topics, now_ms));
        match written {
            Ok(append::Appended { ends, results }) => {
                let tokens = self.queue.records.iter().map(|queued| queued.token);
                reports.extend(
                    tokens.zip(results).map(|(token, result)| Report { token, result: result.map_err(Box::new) }),
                );
                self.queue.clear();
                self.shared.watches.advance(&ends);
                Ok(())
            }
            Err(fault) if fault.kind == FaultKind::Damaged => Err(fault.to_sink_failed()),
            Err(fault) => {
                let tokens = self.queue.records.iter().map(|queued| queued.token);
                reports.extend(tokens.map(|token| Report { token, result: Err(Box::new(fault.to_delivery_error())) }));
                self.queue.clear();
                Ok(())
            }
        }
    }
}

impl Queue {
    fn push(&mut self, topic: usize, delivery: &Delivery<'_>, token: Token) {
        let key = delivery.key.map(|key| self.copy(key));
        let value = delivery.value.map(|value| self.copy(value));
        let start = self.bytes.len();
        headers::encode(delivery.headers, delivery.stamps, &mut self.bytes);
        let headers = (self.bytes.len() > start).then_some(start..self.bytes.len());
        let (partition, timestamp_ms) = (delivery.partition, delivery.timestamp_ms);
        self.records.push(Queued { topic, partition, timestamp_ms, key, value, headers, token });
    }

    fn copy(&mut self, bytes: &[u8]) -> Range<usize> {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(bytes);
        start..self.bytes.len()
    }

    fn clear(&mut self) {
        self.records.clear();
        self.bytes.clear();
        self.bytes.shrink_to(KEPT_BYTES);
        self.records.shrink_to(KEPT_BYTES / OVERHEAD);
    }
}

/// A delivery that would be refused again.
pub(crate) fn refused(code: &str, message: String) -> DeliveryError {
    DeliveryError::Refused { code: code.into(), message }
}
