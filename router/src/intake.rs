//! What a lane has fetched from one partition and not yet settled.

use std::collections::VecDeque;
use std::num::NonZeroU32;
use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use pointsman_core::event::Event;
use pointsman_core::metadata::Metadata;
use pointsman_core::port::{AssignedFeed, Batch, Commit, Feed, FeedError, LogError};
use pointsman_core::provenance::Provenance;
use pointsman_core::record::{Record, TopicPartition};
use pointsman_core::tracker::{Admission, CommitPoint, Ticket, Tracker};
use pointsman_core::unclean::{Ends, Watch};

use crate::counters::{Amount, Settled};
use crate::waking::{Bell, Signal};

/// One partition of a lane: its feed, its tracker, and the batches in flight. Records are named by a sequence number.
pub(crate) struct Intake {
    pub(crate) partition: TopicPartition,
    feed: Box<dyn Feed>,
    tracker: Tracker,
    /// The batches in flight, the oldest first.
    held: VecDeque<Held>,
    /// How many batches were before the first of them, modulo 2³².
    first_held: u32,
    /// The records of those batches, in order.
    flights: VecDeque<Flight>,
    /// The sequence number of the first of them.
    first_seq: u64,
    /// How many of them are not settled.
    unsettled: usize,
    bytes: usize,
    /// Fetched since it was last asked.
    fetched: Amount,
    /// Batches that were done with since it was last asked.
    done: Vec<Settled>,
    signal: Arc<Signal>,
    committed: CommitPoint,
    /// Looks out for records that kill the process.
    pub(crate) watch: Watch,
    /// What was committed of it last.
    ends: Ends,
    /// What was committed of it before that.
    ends_before: Ends,
}

/// One batch in flight. It is freed when the last of its records is settled, and what a sink takes whole of it before, so
/// payloads live as long as somebody may need them and are never copied.
pub(crate) struct Held {
    pub(crate) batch: Option<Box<dyn Batch>>,
    pub(crate) records: usize,
    pub(crate) unsettled: usize,
    pub(crate) bytes: usize,
    pub(crate) fetched: Instant,
    /// What is to be told of it when it is done with, where that is anything.
    pub(crate) on_end: Option<Settled>,
}

/// One record in flight.
pub(crate) struct Flight {
    ticket: Option<Ticket>,
    /// Its batch: how many were before it, modulo 2³².
    pub(crate) held: u32,
    /// Its place there.
    pub(crate) index: u32,
    /// Deliveries that were produced and not reported.
    pub(crate) outstanding: u32,
    /// What those take of the producer queue.
    pub(crate) queued_bytes: usize,
    /// Whether all deliveries were produced.
    pub(crate) sent: bool,
    /// What is noted of it, where it is traced, as its lane counts such records.
    pub(crate) trace: Option<NonZeroU32>,
    /// What the outstanding deliveries are for.
    pub(crate) intent: crate::lane::Intent,
    /// The first delivery that failed.
    pub(crate) error: Option<Box<pointsman_core::port::Undelivered>>,
}

// There may be twenty thousand in a lane, and each is looked at a few times: one line of a processor's cache.
const _: () = assert!(size_of::<Flight>() <= 64);

impl Flight {
    /// One that is not to be settled.
    pub(crate) fn new(held: u32, index: u32) -> Self {
        let (outstanding, queued_bytes, sent, intent, error) = Default::default();
        Self { ticket: None, held, index, outstanding, queued_bytes, sent, trace: None, intent, error }
    }
}

/// Why no records are taken in.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FetchError {
    #[error(transparent)]
    Feed(#[from] FeedError),
    /// A partition can't be opened to be read back, for now.
    #[error(transparent)]
    Closed(#[from] LogError),
    /// The log gave records out of order, which no remedy of ours can mend.
    #[error("{partition}: {error}")]
    OutOfOrder { partition: TopicPartition, error: pointsman_core::tracker::OutOfOrder },
    /// A record that was there is not there any more.
    #[error("{partition} has lost the parked record at offset {offset}")]
    Lost { partition: TopicPartition, offset: i64 },
    /// Where a record was there is another one.
    #[error("{partition} has another record at offset {offset} than before")]
    Replaced { partition: TopicPartition, offset: i64 },
}

/// Where an assigned partition is to be gone on with, and how earlier assignments have ended.
pub(crate) fn resume_point(assigned: &AssignedFeed) -> (CommitPoint, Ends) {
    let AssignedFeed { partition, start, metadata, .. } = assigned;
    let Metadata { ends, settled } = Metadata::decode(metadata, *start).unwrap_or_else(|error| {
        tracing::warn!(%partition, offset = start, %error, "the commit's metadata is not ours: what was settled beyond the offset runs again");
        Metadata::default()
    });
    if ends.count >= Ends::MANY {
        tracing::warn!(%partition, offset = start, "the last assignments of this partition ended uncleanly and got no further: what was in flight then is tried in small groups, to find out whether a record kills the process");
    }
    (CommitPoint { offset: *start, settled }, ends)
}

/// The commit for a point.
pub(crate) fn commit_of(
    partition: &TopicPartition,
    CommitPoint { offset, settled }: &CommitPoint,
    ends: &Ends,
) -> Commit {
    let encoded = Metadata { ends: ends.clone(), settled: settled.clone() }.encode(*offset);
    if encoded.left_out > 0 {
        tracing::warn!(%partition, ranges = encoded.left_out, "not all that is settled beyond the commit point fits its metadata: after a restart some of it would run again");
    }
    Commit { partition: partition.clone(), offset: *offset, metadata: encoded.text }
}

/// A record of `partition` as an event: a parked one without our headers, which say what it was at its origin.
#[inline]
pub(crate) fn event_of<'a>(
    partition: &'a TopicPartition,
    record: Record<'a>,
    parked: Option<&'a (usize, Provenance)>,
) -> Event<'a> {
    let fetched = Event::first(partition, record);
    match parked {
        None => fetched,
        Some((count, Provenance { origin, attempts, .. })) => Event {
            topic: &origin.partition.topic,
            partition: origin.partition.partition,
            offset: origin.offset,
            timestamp_ms: origin.timestamp_ms,
            headers: record.headers.prefix(*count),
            attempt: attempts.saturating_add(1),
            ..fetched
        },
    }
}

impl Intake {
    /// Takes a feed over, which rings `bell` from now on. `in_flight` is how many of its records may have been in flight when an
    /// earlier assignment ended: more than may be unsettled at once, as a lane reads on past what is slow.
    pub(crate) fn new(assigned: AssignedFeed, in_flight: usize, bell: Bell) -> Self {
        let (committed, ends) = resume_point(&assigned);
        let AssignedFeed { partition, mut feed, .. } = assigned;
        let signal = Signal::new(bell);
        feed.wake_with(signal.waker());
        let tracker = Tracker::resume(committed.clone());
        Self {
            partition,
            feed,
            tracker,
            held: VecDeque::new(),
            first_held: 0,
            flights: VecDeque::new(),
            first_seq: 0,
            unsettled: 0,
            bytes: 0,
            fetched: Amount::default(),
            done: Vec::new(),
            signal,
            committed,
            watch: Watch::resume(ends.clone(), in_flight),
            ends_before: ends.clone(),
            ends,
        }
    }

    /// How earlier assignments have ended, by what is committed.
    pub(crate) fn ends(&self) -> &Ends {
        &self.ends
    }

    /// The same by the last commit, and by the one before it.
    pub(crate) fn last_ends(&self) -> [Ends; 2] {
        [self.ends.clone(), self.ends_before.clone()]
    }

    /// Whether a fetch may find something that the last one did not. `look_anyway` is for the now and then when a
    /// lost wake-up is made good.
    pub(crate) fn may_have_records(&self, look_anyway: bool) -> bool {
        look_anyway || self.signal.is_raised()
    }

    /// Fetches the next batch. The answer names the records to be run.
    pub(crate) fn fetch(
        &mut self,
        max_records: usize,
        max_bytes: usize,
        now: Instant,
    ) -> Result<Option<Range<u64>>, FetchError> {
        let Some(batch) = self.signal.fetch(&mut *self.feed, max_records, max_bytes)? else { return Ok(None) };
        let first_seq = self.next_seq();
        let held = self.first_held.wrapping_add(self.held.len() as u32);
        let (records, mut unsettled) = (batch.len(), 0);
        let from = self.flights.len();
        // Written where they stay, and then gone over again: built one after the other they would be copied from the stack.
        self.flights.extend((0..).take(records).map(|index| Flight::new(held, index)));
        for (record, flight) in self.flights.range_mut(from..).enumerate() {
            let admission = self
                .tracker
                .admit(batch.offset(record))
                .map_err(|error| FetchError::OutOfOrder { partition: self.partition.clone(), error })?;
            if let Admission::Run(ticket) = admission {
                unsettled += 1;
                flight.ticket = Some(ticket);
            }
        }
        let bytes = if unsettled == 0 { 0 } else { batch.bytes() };
        self.unsettled += unsettled;
        self.bytes += bytes;
        self.fetched.add(records, bytes);
        let on_end = (unsettled > 0).then(|| Settled {
            records: unsettled as u64,
            fetched: now,
            written_ms: batch.record(0).timestamp_ms,
        });
        self.held.push_back(Held {
            batch: (unsettled > 0).then_some(batch),
            records,
            unsettled,
            bytes,
            fetched: now,
            on_end,
        });
        self.drop_settled_batches();
        Ok(Some(first_seq..self.next_seq()))
    }

    /// Whether the record is still to be settled.
    pub(crate) fn is_open(&self, seq: u64) -> bool {
        self.flights.get(self.place(seq)).is_some_and(|flight| flight.ticket.is_some())
    }

    /// The record, while it is in flight.
    #[inline]
    pub(crate) fn record(&self, seq: u64) -> Option<Record<'_>> {
        let flight = self.flights.get(self.place(seq))?;
        let held = self.held.get(flight.held.wrapping_sub(self.first_held) as usize)?;
        held.batch.as_ref().map(|batch| batch.record(flight.index as usize))
    }

    /// When its batch was taken in, while the record is in flight.
    pub(crate) fn fetched(&self, seq: u64) -> Option<Instant> {
        let flight = self.flights.get(self.place(seq))?;
        self.held.get(flight.held.wrapping_sub(self.first_held) as usize).map(|held| held.fetched)
    }

    /// The record as an event, of its first run.
    pub(crate) fn event(&self, seq: u64) -> Option<Event<'_>> {
        Some(Event::first(&self.partition, self.record(seq)?))
    }

    /// Adds these records as events, of their first runs, as far as they are in flight.
    pub(crate) fn add_events<'a>(&'a self, seqs: impl Iterator<Item = u64>, events: &mut Vec<Event<'a>>) {
        let mut seqs = seqs.peekable();
        while let Some(seq) = seqs.next() {
            let Some(flight) = self.flights.get(self.place(seq)) else { continue };
            let Some(held) = self.held.get(flight.held.wrapping_sub(self.first_held) as usize) else { continue };
            let Some(batch) = &held.batch else { continue };
            let first = flight.index as usize;
            let following = (seq + 1..).zip(first + 1..held.records);
            let end = following
                .take_while(|(seq, _)| seqs.next_if_eq(seq).is_some())
                .last()
                .map_or(first + 1, |(_, last)| last + 1);
            batch.add_events(first..end, &self.partition, events);
        }
    }

    /// The batch of the record, its place in it, and its state, while it is in flight.
    pub(crate) fn in_flight(&mut self, seq: u64) -> Option<(&mut dyn Batch, usize, &mut Flight)> {
        let place = self.place(seq);
        let flight = self.flights.get_mut(place)?;
        let held = flight.held.wrapping_sub(self.first_held) as usize;
        let batch = self.held.get_mut(held)?.batch.as_deref_mut()?;
        Some((batch, flight.index as usize, flight))
    }

    /// The state of the record, while its batch is in flight.
    pub(crate) fn flight(&mut self, seq: u64) -> Option<&mut Flight> {
        let place = self.place(seq);
        self.flights.get_mut(place)
    }

    /// See [`Flight::trace`].
    pub(crate) fn trace(&self, seq: u64) -> Option<NonZeroU32> {
        self.flights.get(self.place(seq))?.trace
    }

    /// Notes that the record has its fate.
    pub(crate) fn settle(&mut self, seq: u64) {
        let place = self.place(seq);
        let Some(flight) = self.flights.get_mut(place) else { return };
        let Some(ticket) = flight.ticket.take() else { return };
        let held = flight.held.wrapping_sub(self.first_held) as usize;
        self.tracker.settle(ticket);
        self.unsettled -= 1;
        let Some(held) = self.held.get_mut(held) else { return };
        held.unsettled -= 1;
        if held.unsettled == 0 {
            held.batch = None;
            self.done.extend(held.on_end);
            self.bytes -= held.bytes;
            self.drop_settled_batches();
        }
    }

    /// The sequence number whose low bits are `low`, given that it is in flight.
    pub(crate) fn full_seq(&self, low: u64, mask: u64) -> u64 {
        self.first_seq + (low.wrapping_sub(self.first_seq) & mask)
    }

    fn drop_settled_batches(&mut self) {
        while let Some(held) = self.held.pop_front_if(|held| held.unsettled == 0) {
            self.first_held = self.first_held.wrapping_add(1);
            self.flights.drain(..held.records);
            self.first_seq += held.records as u64;
        }
    }

    /// The sequence number of the record that is fetched next.
    fn next_seq(&self) -> u64 {
        self.first_seq + self.flights.len() as u64
    }

    /// Where in `flights` the record is, if it is there.
    fn place(&self, seq: u64) -> usize {
        usize::try_from(seq.wrapping_sub(self.first_seq)).unwrap_or(usize::MAX)
    }

    /// What was fetched since the last time.
    pub(crate) fn take_fetched(&mut self) -> Amount {
        std::mem::take(&mut self.fetched)
    }

    /// The batches whose records came to their fates since the last time.
    pub(crate) fn take_settled(&mut self) -> impl Iterator<Item = Settled> + '_ {
        self.done.drain(..)
    }

    /// When the oldest record was written that is fetched and not settled, in milliseconds since 1970-01-01 UTC, as it says.
    pub(crate) fn oldest_ms(&self) -> Option<i64> {
        let open = self.flights.iter().position(|flight| flight.ticket.is_some())?;
        Some(self.record(self.first_seq + open as u64)?.timestamp_ms)
    }

    /// Bytes of the batches in flight.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Records from the lowest unsettled one on, settled ones included: what the tracker has to remember.
    pub(crate) fn span(&self) -> usize {
        self.tracker.span()
    }

    /// What was committed last, or where the partition was taken over.
    pub(crate) fn committed(&self) -> &CommitPoint {
        &self.committed
    }

    /// The lowest offset that is not settled by what was committed last.
    pub(crate) fn watermark_committed(&self) -> i64 {
        self.committed.offset
    }

    /// The lowest offset that is not settled.
    pub(crate) fn watermark(&self) -> i64 {
        self.tracker.watermark()
    }

    /// How many offsets beyond the watermark are settled.
    pub(crate) fn settled_beyond(&self) -> u64 {
        self.tracker.commit_point().settled.len()
    }

    /// One past the last offset that was fetched.
    pub(crate) fn next_offset(&self) -> i64 {
        self.tracker.next_offset()
    }

    /// How many records are fetched and not settled.
    pub(crate) fn in_flight_count(&self) -> usize {
        self.unsettled
    }

    /// The commit that is due: `None` where the last one says it all, unless `again`. If the partition is given up in good order
    /// by it, it is `released`.
    pub(crate) fn commit(&mut self, again: bool, released: bool) -> Option<Commit> {
        let point = self.tracker.commit_point();
        debug_assert!(point.offset >= self.committed.offset, "I3: commit points never go back");
        if point != self.committed {
            self.watch.progress(&point);
        }
        let ends = self.watch.ends(released);
        if point == self.committed && ends == self.ends && !again {
            return None;
        }
        let commit = commit_of(&self.partition, &point, &ends);
        self.ends_before = std::mem::replace(&mut self.ends, ends);
        self.committed = point;
        Some(commit)
    }
}
