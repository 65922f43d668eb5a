//! The records of one partition, from its librdkafka queue.
//!
//! The queue *is* the lane's byte-bounded queue: librdkafka fetches ahead until `queued.max.messages.kbytes` of this
//! partition are on it, and goes on when they have been taken. So a lane that stops fetching stops the fetch, of its own
//! partition only, and there is nothing to pause or resume.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use pointsman_core::port::{Batch, Feed, FeedError, Waker};
use pointsman_core::record::TopicPartition;

use crate::batch::KafkaBatch;
use crate::classify::{FetchFault, end_of_partition, fetch_fault};
use crate::native::{Borrowed, Client, Message, Queue};
use crate::reading::Reading;

/// The end of a partition's queue that records come out of, until it is shut.
///
/// A lane may be late to drop its feed after a revocation, and the same partition may come back meanwhile, on the same
/// librdkafka queue. Shutting the old tap first keeps it from taking records that belong to the new one, and from taking
/// away its waker.
pub(crate) struct Tap(Mutex<Option<Queue>>);

impl Tap {
    pub(crate) fn open(queue: Queue) -> Arc<Self> {
        Arc::new(Self(Mutex::new(Some(queue))))
    }

    /// Lets nothing through any more; what was taken before stays valid.
    pub(crate) fn shut(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    /// Throws away what is there to be taken.
    pub(crate) fn empty(&self) {
        let mut taken = Vec::new();
        loop {
            self.take(&mut taken, TAKE_MAX);
            if taken.is_empty() {
                return;
            }
            taken.clear();
        }
    }

    fn take(&self, into: &mut Vec<Message>, max: usize) {
        if let Some(queue) = &*self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            queue.take(into, max);
        }
    }

    fn wake_with(&self, waker: Waker) {
        if let Some(queue) = &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            queue.wake_with(waker);
        }
    }
}

/// Most messages that are taken off a queue at once, and most records of a batch, whatever the caller asks for.
const TAKE_MAX: usize = 16_384;

/// A partition's records, in order, from a given offset on.
pub(crate) struct KafkaFeed {
    partition: TopicPartition,
    /// Taken from the queue, and over the bytes of the batch they were taken for. Dropped before the client.
    waiting: VecDeque<Message>,
    /// The offset that is to come next, or a later one.
    next: i64,
    /// The last fetch took all that was on the queue.
    emptied: bool,
    /// Most records of a batch.
    batch_records: usize,
    /// What librdkafka said after the waiting records. While it stands nothing more is let in: librdkafka passes over a
    /// batch that it can't read, says so, and goes on behind it.
    fault: Option<Fault>,
    /// Said by librdkafka to those whose client is to be told: readers outside a group.
    reached_end: bool,
    /// Where that says nothing before.
    end: i64,
    tap: Arc<Tap>,
    client: Arc<Client>,
    /// Where no group assigned it.
    reading: Option<Reading>,
}

/// An error on the partition's queue.
enum Fault {
    /// For good.
    OutOfRange { wanted: i64 },
    /// For good.
    Damaged { offset: i64, code: String, message: String },
    /// For the moment.
    Unavailable { code: String, message: String },
}

impl KafkaFeed {
    pub(crate) fn new(partition: TopicPartition, start: i64, tap: Arc<Tap>, client: Arc<Client>) -> Self {
        Self {
            partition,
            waiting: VecDeque::new(),
            next: start,
            emptied: false,
            batch_records: TAKE_MAX,
            fault: None,
            reached_end: false,
            end: 0,
            tap,
            client,
            reading: None,
        }
    }

    /// Of a partition that no group assigned.
    pub(crate) fn aside(start: i64, queue: Queue, reading: Reading) -> Self {
        let client = Arc::clone(reading.client());
        let feed = Self::new(reading.partition().clone(), start, Tap::open(queue), client);
        Self { reading: Some(reading), ..feed }
    }

    /// With so many records in a batch at most, and one at least.
    pub(crate) fn in_batches_of(self, records: usize) -> Self {
        Self { batch_records: records.clamp(1, TAKE_MAX), ..self }
    }

    /// It is known to have nothing.
    pub(crate) fn at_its_end(mut self) -> Self {
        self.reached_end = true;
        self
    }

    /// Has nothing fetched for it until it [goes on](Self::go_on).
    pub(crate) fn rest(&mut self) {
        if let Some(reading) = &mut self.reading {
            reading.stop();
        }
    }

    /// Has it fetched again, from where it is. Whether that is its end is yet to be told.
    pub(crate) fn go_on(&mut self) -> Result<(), FeedError> {
        let Some(reading) = &mut self.reading else { return Ok(()) };
        self.reached_end = false;
        reading.start(self.next).map_err(|code| FeedError::Unavailable {
            partition: self.partition.clone(),
            code: code.to_string(),
            message: code.describe(),
        })
    }

    pub(crate) fn partition(&self) -> &TopicPartition {
        &self.partition
    }

    /// What is told of its end before this offset is not the end of the partition: the transactions behind it are not over.
    pub(crate) fn not_at_its_end_before(mut self, end: Option<i64>) -> Self {
        self.end = end.unwrap_or(0);
        self
    }

    /// Takes up to `max` messages from the queue, and keeps the records among them, up to an error that there are records
    /// missing behind.
    fn refill(&mut self, max: usize) {
        let mut taken = Vec::new();
        self.tap.take(&mut taken, max);
        self.emptied = taken.len() < max;
        for message in taken {
            if matches!(self.fault, Some(Fault::Damaged { .. } | Fault::OutOfRange { .. })) {
                return;
            }
            let borrowed = message.borrow();
            if end_of_partition(borrowed.code()) {
                self.next = self.next.max(borrowed.offset());
                self.reached_end = true;
            } else if borrowed.code().is_error() {
                self.fault = Some(self.judge(borrowed));
            } else if borrowed.offset() >= self.next {
                self.next = borrowed.offset() + 1;
                self.waiting.push_back(message);
            }
            // Else it came before. A rebalance makes librdkafka fetch again from the last position that it knows of, which
            // is behind what another thread is taking at that moment.
        }
    }

    fn judge(&self, message: Borrowed<'_>) -> Fault {
        match fetch_fault(message.code()) {
            FetchFault::OutOfRange => {
                let wanted = if message.offset() >= 0 { message.offset() } else { self.next };
                Fault::OutOfRange { wanted }
            }
            FetchFault::Damaged => Fault::Damaged {
                offset: message.offset(),
                code: message.code().to_string(),
                message: message.describe(),
            },
            FetchFault::Other => Fault::Unavailable { code: message.code().to_string(), message: message.describe() },
        }
    }

    /// The error that is left when no records wait. librdkafka says once what is for good; we go on saying it.
    fn fail(&mut self) -> Result<(), FeedError> {
        let partition = self.partition.clone();
        match &self.fault {
            None => Ok(()),
            Some(Fault::OutOfRange { wanted }) => {
                let available = self.client.known_watermarks(&partition.topic, partition.partition);
                Err(FeedError::OutOfRange { partition, wanted: *wanted, available })
            }
            Some(Fault::Damaged { offset, code, message }) => {
                Err(FeedError::Damaged { partition, offset: *offset, code: code.clone(), message: message.clone() })
            }
            Some(Fault::Unavailable { .. }) => match self.fault.take() {
                Some(Fault::Unavailable { code, message }) => Err(FeedError::Unavailable { partition, code, message }),
                _ => Ok(()),
            },
        }
    }
}

impl Feed for KafkaFeed {
    fn fetch(&mut self, max_records: usize, max_bytes: usize) -> Result<Option<Box<dyn Batch>>, FeedError> {
        let max_records = max_records.clamp(1, self.batch_records);
        // What has come since an earlier one is not known of.
        self.emptied = false;
        // All that a full one gives may have come before.
        while self.waiting.is_empty() && self.fault.is_none() && !self.emptied {
            self.refill(max_records);
        }
        if self.waiting.is_empty() {
            self.fail()?;
            return Ok(None);
        }
        Ok(Some(Box::new(KafkaBatch::new(&mut self.waiting, max_records, max_bytes, &self.client))))
    }

    fn wake_with(&mut self, waker: Waker) {
        self.tap.wake_with(Arc::clone(&waker));
        // The queue tells when it stops being empty; it may not be empty now.
        waker();
    }

    fn is_emptied(&self) -> bool {
        self.emptied && self.waiting.is_empty() && self.fault.is_none()
    }

    fn position(&self) -> Option<i64> {
        self.waiting.is_empty().then_some(self.next)
    }

    fn reached_end(&self) -> bool {
        self.reached_end && self.next >= self.end && self.waiting.is_empty()
    }
}
