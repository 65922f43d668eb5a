//! What a lane has fetched from one partition and not yet settled.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::Thread;

use pointsman_core::port::{AssignedFeed, Batch, Commit, Feed, FeedError, Waker};
use pointsman_core::record::{Record, TopicPartition};
use pointsman_core::settled::Settled;
use pointsman_core::tracker::{Admission, CommitPoint, Ticket, Tracker};

/// One partition of a lane: its feed, its tracker, and the batches in flight. Records are named by a sequence number.
pub(crate) struct Intake {
    pub(crate) partition: TopicPartition,
    feed: Box<dyn Feed>,
    tracker: Tracker,
    held: VecDeque<Held>,
    next_seq: u64,
    bytes: usize,
    signal: Arc<Signal>,
    committed: CommitPoint,
}

/// One batch in flight. It is freed when the last of its records is settled, so payloads live as long as somebody may
/// need them and are never copied.
struct Held {
    first_seq: u64,
    batch: Option<Box<dyn Batch>>,
    flights: Vec<Flight>,
    unsettled: usize,
    bytes: usize,
}

/// One record in flight.
#[derive(Default)]
pub(crate) struct Flight {
    ticket: Option<Ticket>,
    /// Deliveries that were produced and not reported.
    pub(crate) outstanding: u32,
    /// What those take of the producer queue.
    pub(crate) queued_bytes: usize,
    /// Whether all deliveries were produced.
    pub(crate) sent: bool,
    /// What the outstanding deliveries are for.
    pub(crate) intent: crate::lane::Intent,
    /// The first delivery that failed.
    pub(crate) error: Option<Box<pointsman_core::port::DeliveryError>>,
}

/// Tells a worker that a feed may have something.
pub(crate) struct Signal {
    raised: AtomicBool,
    worker: Thread,
}

impl Signal {
    fn new(worker: Thread) -> Arc<Self> {
        // Raised at first: nobody has looked yet.
        Arc::new(Self { raised: AtomicBool::new(true), worker })
    }

    fn waker(self: &Arc<Self>) -> Waker {
        let signal = Arc::clone(self);
        Arc::new(move || {
            if !signal.raised.swap(true, Ordering::AcqRel) {
                signal.worker.unpark();
            }
        })
    }
}

/// The log gave records out of order, which no remedy of ours can mend.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FetchError {
    #[error(transparent)]
    Feed(#[from] FeedError),
    #[error("{partition}: {error}")]
    OutOfOrder { partition: TopicPartition, error: pointsman_core::tracker::OutOfOrder },
}

impl Intake {
    /// Takes a feed over, on the worker's own thread.
    pub(crate) fn new(assigned: AssignedFeed) -> Self {
        let AssignedFeed { partition, start, metadata, mut feed } = assigned;
        let settled = Settled::decode(&metadata, start).unwrap_or_else(|error| {
            tracing::warn!(%partition, offset = start, %error, "the commit's metadata is not ours: what was settled beyond the offset runs again");
            Settled::default()
        });
        let signal = Signal::new(std::thread::current());
        feed.wake_with(signal.waker());
        let committed = CommitPoint { offset: start, settled };
        let tracker = Tracker::resume(committed.clone());
        Self { partition, feed, tracker, held: VecDeque::new(), next_seq: 0, bytes: 0, signal, committed }
    }

    /// Whether a fetch may find something that the last one did not. `look_anyway` is for the now and then when a
    /// lost wake-up is made good.
    pub(crate) fn may_have_records(&self, look_anyway: bool) -> bool {
        look_anyway || self.signal.raised.load(Ordering::Acquire)
    }

    /// Fetches the next batch. The answer names the records to be run.
    pub(crate) fn fetch(&mut self, max_records: usize, max_bytes: usize) -> Result<Option<Range<u64>>, FetchError> {
        self.signal.raised.store(false, Ordering::Release);
        let Some(batch) = self.feed.fetch(max_records, max_bytes)? else { return Ok(None) };
        // There may be more.
        self.signal.raised.store(true, Ordering::Release);
        let first_seq = self.next_seq;
        let mut flights = Vec::with_capacity(batch.len());
        let (mut unsettled, mut bytes) = (0, 0);
        for index in 0..batch.len() {
            let record = batch.record(index);
            let admission = self
                .tracker
                .admit(record.offset)
                .map_err(|error| FetchError::OutOfOrder { partition: self.partition.clone(), error })?;
            bytes += record.bytes();
            let ticket = match admission {
                Admission::Run(ticket) => {
                    unsettled += 1;
                    Some(ticket)
                }
                Admission::AlreadySettled => None,
            };
            flights.push(Flight { ticket, ..Flight::default() });
        }
        self.next_seq += flights.len() as u64;
        if unsettled == 0 {
            bytes = 0;
        }
        self.bytes += bytes;
        self.held.push_back(Held { first_seq, batch: (unsettled > 0).then_some(batch), flights, unsettled, bytes });
        self.drop_settled_batches();
        Ok(Some(first_seq..self.next_seq))
    }

    /// Whether the record is still to be settled.
    pub(crate) fn is_open(&self, seq: u64) -> bool {
        self.locate(seq).is_some_and(|(held, index)| self.held[held].flights[index].ticket.is_some())
    }

    /// The record, while it is in flight.
    pub(crate) fn record(&self, seq: u64) -> Option<Record<'_>> {
        let (held, index) = self.locate(seq)?;
        self.held[held].batch.as_ref().map(|batch| batch.record(index))
    }

    /// The batch of the record and its place in it, while it is in flight.
    pub(crate) fn batch(&mut self, seq: u64) -> Option<(&mut dyn Batch, usize)> {
        let (held, index) = self.locate(seq)?;
        let batch = self.held[held].batch.as_deref_mut()?;
        Some((batch, index))
    }

    /// The state of the record, while its batch is in flight.
    pub(crate) fn flight(&mut self, seq: u64) -> Option<&mut Flight> {
        let (held, index) = self.locate(seq)?;
        Some(&mut self.held[held].flights[index])
    }

    /// Notes that the record has its fate.
    pub(crate) fn settle(&mut self, seq: u64) {
        let Some((index, at)) = self.locate(seq) else { return };
        let held = &mut self.held[index];
        let Some(ticket) = held.flights[at].ticket.take() else { return };
        self.tracker.settle(ticket);
        held.unsettled -= 1;
        if held.unsettled == 0 {
            held.batch = None;
            self.bytes -= held.bytes;
            self.drop_settled_batches();
        }
    }

    /// The sequence number whose low bits are `low`, given that it is in flight.
    pub(crate) fn full_seq(&self, low: u64, mask: u64) -> u64 {
        let front = self.held.front().map_or(self.next_seq, |held| held.first_seq);
        front + (low.wrapping_sub(front) & mask)
    }

    fn drop_settled_batches(&mut self) {
        while self.held.front().is_some_and(|held| held.unsettled == 0) {
            self.held.pop_front();
        }
    }

    fn locate(&self, seq: u64) -> Option<(usize, usize)> {
        let index = self.held.partition_point(|held| held.first_seq <= seq).checked_sub(1)?;
        let at = usize::try_from(seq - self.held[index].first_seq).ok()?;
        (at < self.held[index].flights.len()).then_some((index, at))
    }

    /// Bytes of the batches in flight.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Records from the lowest unsettled one on, settled ones included: what the tracker has to remember.
    pub(crate) fn span(&self) -> usize {
        self.tracker.span()
    }

    /// The lowest offset that is not settled.
    pub(crate) fn watermark(&self) -> i64 {
        self.tracker.watermark()
    }

    /// The commit that is due: `None` where the last one says it all, unless `again`.
    pub(crate) fn commit(&mut self, again: bool) -> Option<Commit> {
        let point = self.tracker.commit_point();
        debug_assert!(point.offset >= self.committed.offset, "I3: commit points never go back");
        if point == self.committed && !again {
            return None;
        }
        let encoded = point.settled.encode(point.offset);
        if encoded.left_out > 0 {
            tracing::warn!(partition = %self.partition, ranges = encoded.left_out, "not all that is settled beyond the commit point fits its metadata: after a restart some of it would run again");
        }
        let commit = Commit { partition: self.partition.clone(), offset: point.offset, metadata: encoded.text };
        self.committed = point;
        Some(commit)
    }
}
