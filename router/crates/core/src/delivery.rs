//! A record on its way out.

use crate::record::{Headers, Record};

/// Index of a topic in the plan's table of topics that the router writes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicId(pub u32);

/// Which partition of the topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PartitionChoice {
    /// Murmur2 of the key, as Kafka's Java client does; any partition where the key is null.
    ByKey,
    /// This one.
    Exactly(i32),
}

/// One record for one topic. Borrowed: the sink copies what it keeps.
#[derive(Clone, Copy, Debug)]
pub struct Delivery<'a> {
    /// Where to.
    pub topic: TopicId,
    /// Which partition.
    pub partition: PartitionChoice,
    /// Milliseconds since 1970-01-01 UTC; -1 lets the log choose the time of writing.
    pub timestamp_ms: i64,
    /// Key.
    pub key: Option<&'a [u8]>,
    /// Value; null is a tombstone.
    pub value: Option<&'a [u8]>,
    /// Headers in order.
    pub headers: Headers<'a>,
    /// Headers that the router adds, after those.
    pub stamps: Headers<'a>,
}

impl Delivery<'_> {
    /// What a header counts for in [`rough_bytes`](Self::rough_bytes).
    pub const HEADER_BYTES: usize = 64;

    /// Bytes of key, value and headers, roughly: headers count as if all were of one size.
    #[inline]
    #[must_use]
    pub fn rough_bytes(&self) -> usize {
        let headers = self.headers.len() + self.stamps.len();
        self.key.map_or(0, <[u8]>::len) + self.value.map_or(0, <[u8]>::len) + Self::HEADER_BYTES * headers
    }
}

/// A record that goes on from one topic to another with the headers it has.
#[derive(Clone, Copy, Debug)]
pub struct Forward<'a> {
    /// Where to.
    pub topic: TopicId,
    /// Which partition.
    pub partition: PartitionChoice,
    /// In place of the record's timestamp.
    pub timestamp_ms: Option<i64>,
    /// In place of the record's key, which may be null.
    pub key: Option<Option<&'a [u8]>>,
    /// In place of the record's value, which may be null.
    pub value: Option<Option<&'a [u8]>>,
    /// Headers that the router adds, after the record's.
    pub stamps: Headers<'a>,
    /// Nothing more is asked of the record unless it is not delivered: a sink may take all of it, rather than have it wait.
    pub whole: bool,
}

impl<'a> Forward<'a> {
    /// What is to be delivered of this record.
    #[inline]
    #[must_use]
    pub fn of(&self, record: Record<'a>) -> Delivery<'a> {
        Delivery {
            topic: self.topic,
            partition: self.partition,
            timestamp_ms: self.timestamp_ms.unwrap_or(record.timestamp_ms),
            key: self.key.unwrap_or(record.key),
            value: self.value.unwrap_or(record.value),
            headers: record.headers,
            stamps: self.stamps,
        }
    }
}

/// Kafka's partition for a key: `toPositive(murmur2(key)) % partitions`, as the Java client's default partitioner does
/// (`org.apache.kafka.common.utils.Utils.murmur2`).
///
/// `partitions` must not be 0.
#[must_use]
pub fn partition_of_key(key: &[u8], partitions: u32) -> u32 {
    (murmur2(key) & 0x7fff_ffff) % partitions
}

/// MurmurHash2 (32 bit) with the seed Kafka uses.
#[must_use]
pub fn murmur2(data: &[u8]) -> u32 {
    const SEED: u32 = 0x9747_b28c;
    const M: u32 = 0x5bd1_e995;
    const R: u32 = 24;
    // Kafka's lengths are 32-bit; a longer key can't be in a record.
    let mut h = SEED ^ u32::try_from(data.len()).unwrap_or(u32::MAX);
    let (words, rest) = data.as_chunks::<4>();
    for word in words {
        let mut k = u32::from_le_bytes(*word).wrapping_mul(M);
        k ^= k >> R;
        h = h.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    if !rest.is_empty() {
        for (i, byte) in rest.iter().enumerate() {
            h ^= u32::from(*byte) << (8 * i);
        }
        h = h.wrapping_mul(M);
    }
    h ^= h >> 13;
    h = h.wrapping_mul(M);
    h ^ (h >> 15)
}

#[cfg(test)]
mod tests {
    use super::murmur2;

    /// The vectors of Apache Kafka's `UtilsTest.testMurmur2`.
    #[test]
    fn murmur2_agrees_with_the_java_client() {
        for (key, hash) in [
            ("21", -973_932_308_i32),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
        ] {
            assert_eq!(murmur2(key.as_bytes()).cast_signed(), hash, "{key}");
        }
        assert_eq!(murmur2(b"abc").cast_signed(), 479_470_107);
    }
}
