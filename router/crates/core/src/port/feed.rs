//! Records on their way in.

use std::any::Any;
use std::ops::Range;

use thiserror::Error;

use super::{Returned, Waker};
use crate::event::Event;
use crate::record::{Record, TopicPartition};

/// Records of one partition, in offset order, in the buffers they were fetched into. Offsets may have gaps (compaction,
/// transaction markers).
pub trait Batch: Any + Send {
    /// Number of records; at least 1.
    fn len(&self) -> usize;

    /// Whether there are none, which is never so for a batch from a feed.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The record at `index`, below [`len`](Self::len).
    ///
    /// # Panics
    /// May panic where `index` is out of bounds.
    fn record(&self, index: usize) -> Record<'_>;

    /// The offset of the record at `index`.
    ///
    /// # Panics
    /// As [`record`](Self::record).
    fn offset(&self, index: usize) -> i64 {
        self.record(index).offset
    }

    /// Appends these records, which are of partition `of`, as events of their first runs. One [`record`](Self::record) after
    /// the other takes several times as long: each would come back on the stack, and be copied from there before the
    /// processor has written it.
    ///
    /// # Panics
    /// As [`record`](Self::record).
    fn add_events<'a>(&'a self, indexes: Range<usize>, of: &'a TopicPartition, events: &mut Vec<Event<'a>>) {
        events.extend(indexes.map(|index| Event::first(of, self.record(index))));
    }

    /// Bytes of keys, values and headers of all records.
    fn bytes(&self) -> usize {
        (0..self.len()).map(|index| self.record(index).bytes()).sum()
    }

    /// Makes the record whole again, of which a [`Sink`] took parts along ([`Sink::forward`]): of all that it took, with what came
    /// back as [undelivered](super::Undelivered::record). Idle where it is whole. The answer is whether it is whole now.
    ///
    /// # Panics
    /// As [`record`](Self::record).
    #[must_use]
    fn restore(&mut self, _index: usize, _returned: Option<Returned>) -> bool {
        true
    }
}

/// The records of one assigned partition. Owned by one worker.
pub trait Feed: Send {
    /// The next records, if any are here already: never blocks. At most `max_records` records, and no further record
    /// once `max_bytes` (of keys, values and headers) are reached; a record larger than that comes alone.
    ///
    /// # Errors
    /// [`FeedError`]; the feed stays where it was.
    fn fetch(&mut self, max_records: usize, max_bytes: usize) -> Result<Option<Box<dyn Batch>>, FeedError>;

    /// From now on `waker` is called when records may have come in after a [`fetch`](Self::fetch) that found none, or one after which
    /// the feed [is emptied](Self::is_emptied); after one that failed it may not be.
    fn wake_with(&mut self, waker: Waker);

    /// After a [`fetch`](Self::fetch) that found records: whether it is known to have left none, so that another one would be in vain
    /// before the waker is called. The feed of a retry partition may say so; its [end](Self::reached_end) is told all the same.
    fn is_emptied(&self) -> bool {
        false
    }

    /// After a [`fetch`](Self::fetch) that found nothing: an offset below which no record will come any more, which is
    /// how an end shows that has no record at it (compaction and transaction markers leave gaps). `None` where the
    /// feed can't tell.
    fn position(&self) -> Option<i64> {
        None
    }

    /// Whether a [`fetch`](Self::fetch) has found nothing since the feed had given everything up to the partition's end, as
    /// that was at any time since the feed was opened. The feed of a retry partition has to tell; others may never.
    fn reached_end(&self) -> bool {
        false
    }

    /// Says whether records are known to be there or to come; at first none are. Of a feed that has been at its end for a while, and
    /// expects none, what comes may be seen a second or two late.
    fn expect(&mut self, _records: bool) {}
}

/// Why a feed gives no records.
#[derive(Debug, Error)]
pub enum FeedError {
    /// The log no longer has the next offset: records were lost to retention or the topic was made anew. The lane halts.
    #[error("{partition} has no offset {wanted} any more{}", range(.available))]
    OutOfRange {
        /// The partition.
        partition: TopicPartition,
        /// The offset that was to be read next.
        wanted: i64,
        /// The first offset there is, and one past the last, where known.
        available: Option<(i64, i64)>,
    },
    /// Records at this offset are damaged, or can't be read by this client, and nothing beyond them is given out. The lane
    /// halts.
    #[error("{partition} can't be read at offset {offset}: {message} ({code})")]
    Damaged {
        /// The partition.
        partition: TopicPartition,
        /// The offset that the batch of records begins with, which may lie before the first that was wanted of it.
        offset: i64,
        /// The client library's or database's error code.
        code: String,
        /// What it says.
        message: String,
    },
    /// The log can't be read now; it is tried again.
    #[error("can't read {partition}: {message} ({code})")]
    Unavailable {
        /// The partition.
        partition: TopicPartition,
        /// The client library's or database's error code.
        code: String,
        /// What it says.
        message: String,
    },
}

fn range(available: &Option<(i64, i64)>) -> String {
    available.map_or_else(String::new, |(first, end)| format!(": it has {first} up to {end}"))
}
