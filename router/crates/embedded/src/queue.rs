//! Records that wait to be written.

use std::ops::Range;
use std::sync::Arc;

use pointsman_core::delivery::{Delivery, PartitionChoice};
use pointsman_core::port::{DeliveryError, ProduceError, Token};

use crate::headers;
use crate::options::Options;

/// What a queued record is counted as on top of its bytes, so that empty ones don't come for nothing.
const OVERHEAD: usize = 128;

/// Once it is written, a queue that has grown beyond this gives its memory back, in bytes.
const KEPT_BYTES: usize = 1 << 20;

/// A row of SQLite can't be larger than 1 GB, whatever the options say.
const RECORD_MAX_BYTES: usize = 512 << 20;

/// Records that wait to be written, their bytes side by side.
#[derive(Default)]
pub(crate) struct Queue {
    pub(crate) records: Vec<Queued>,
    bytes: Vec<u8>,
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

impl Queue {
    /// Copies a delivery to one of `topics`. The answer is [`ProduceError::Full`] where others are there and it does not fit.
    pub(crate) fn take(
        &mut self,
        delivery: &Delivery<'_>,
        token: Token,
        topics: &[Arc<str>],
        options: &Options,
    ) -> Result<(), ProduceError> {
        let size = size_of_record(delivery);
        let topic = check(delivery, size, topics, options)?;
        if !self.records.is_empty() && self.size() + OVERHEAD + size > options.sink_queue_bytes {
            return Err(ProduceError::Full);
        }
        self.push(topic, delivery, token);
        Ok(())
    }

    /// Copies a delivery to one of `topics`, however much is there already.
    pub(crate) fn add(
        &mut self,
        delivery: &Delivery<'_>,
        token: Token,
        topics: &[Arc<str>],
        options: &Options,
    ) -> Result<(), DeliveryError> {
        let topic = check(delivery, size_of_record(delivery), topics, options)?;
        self.push(topic, delivery, token);
        Ok(())
    }

    /// About how much memory is in use, in bytes.
    pub(crate) fn size(&self) -> usize {
        self.bytes.len() + self.records.len() * OVERHEAD
    }

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

    pub(crate) fn clear(&mut self) {
        self.records.clear();
        self.bytes.clear();
        self.bytes.shrink_to(KEPT_BYTES);
        self.records.shrink_to(KEPT_BYTES / OVERHEAD);
    }

    /// The bytes of a field of one of the records.
    pub(crate) fn slice(&self, range: &Option<Range<usize>>) -> Option<&[u8]> {
        range.clone().map(|range| &self.bytes[range])
    }
}

fn size_of_record(delivery: &Delivery<'_>) -> usize {
    delivery.key.map_or(0, <[u8]>::len)
        + delivery.value.map_or(0, <[u8]>::len)
        + delivery.headers.bytes()
        + delivery.stamps.bytes()
}

/// What can be known to be wrong with a delivery before it is written. The rest is found in the transaction, which
/// sees topics as they are then.
fn check(delivery: &Delivery<'_>, size: usize, topics: &[Arc<str>], options: &Options) -> Result<usize, DeliveryError> {
    let topic = delivery.topic.0 as usize;
    let Some(name) = topics.get(topic) else {
        return Err(refused(
            "unknown-topic",
            format!("the sink was opened for {} topics, not for number {topic}", topics.len()),
        ));
    };
    let limit = options.max_record_bytes.min(RECORD_MAX_BYTES);
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

/// A delivery that would be refused again.
pub(crate) fn refused(code: &str, message: String) -> DeliveryError {
    DeliveryError::Refused { code: code.into(), message }
}

pub(crate) fn unknown_topic(name: &str) -> DeliveryError {
    let message = format!("there is no topic {name}; a router creates those of its configuration when it starts");
    refused("unknown-topic", message)
}
