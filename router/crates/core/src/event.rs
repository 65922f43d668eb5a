//! A record as a plugin and a condition see it.

use crate::record::{Headers, Record, TopicPartition};

/// One event. Its fields point into the record, or into what an earlier stage made of it.
#[derive(Clone, Copy, Debug)]
pub struct Event<'a> {
    /// Topic of the origin: for a retried record the source topic, not the retry topic.
    pub topic: &'a str,
    /// Partition of the origin.
    pub partition: i32,
    /// Offset of the origin.
    pub offset: i64,
    /// Milliseconds since 1970-01-01 UTC; -1 where the log has none.
    pub timestamp_ms: i64,
    /// Key; null and empty are different.
    pub key: Option<&'a [u8]>,
    /// Value; null is a tombstone.
    pub value: Option<&'a [u8]>,
    /// Headers in order; every name is UTF-8 here.
    pub headers: Headers<'a>,
    /// 1 on the first run of this record, 2 on its first retry, and so on.
    pub attempt: u32,
}

impl<'a> Event<'a> {
    /// A record of this partition, on its first run.
    #[inline]
    #[must_use]
    pub fn first(of: &'a TopicPartition, record: Record<'a>) -> Self {
        let TopicPartition { topic, partition } = of;
        let Record { offset, timestamp_ms, key, value, headers } = record;
        Self { topic, partition: *partition, offset, timestamp_ms, key, value, headers, attempt: 1 }
    }

    /// Bytes of key, value and headers.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.key.map_or(0, <[u8]>::len) + self.value.map_or(0, <[u8]>::len) + self.headers.bytes()
    }
}
