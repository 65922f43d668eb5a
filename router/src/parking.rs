//! The retry partition of a lane: what is parked there, and what is read back of it to be run.
//!
//! The *tail* is read as far as there is anything, and only [indexed](pointsman_core::parked): payloads are dropped. What is to
//! run is read again, by a *window* of its own, upwards in the partition; so what is parked costs little memory however
//! much it is, and nothing holds up what is due behind it.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pointsman_config::plan::RoutePlan;
use pointsman_core::event::Event;
use pointsman_core::parked::{Edition, KeyHash, KeyOrder, Kind, Label, Original, Parked};
use pointsman_core::port::{AssignedFeed, Batch, Commit, Feed, LogError};
use pointsman_core::provenance::{Provenance, ProvenanceError};
use pointsman_core::record::{Record, TopicPartition};
use pointsman_core::tracker::CommitPoint;
use pointsman_core::unclean::{Ends, Watch};

use crate::intake::{FetchError, Flight, Held, Intake, commit_of, event_of, resume_point};
use crate::shared::Now;
use crate::waking::{Bell, Signal};

/// Opens a partition outside any group, at an offset.
pub(crate) type Reader = Box<dyn Fn(&TopicPartition, i64) -> Result<Box<dyn Feed>, LogError> + Send + Sync>;

/// Batches of the tail that are indexed before the other lanes have their turn.
const TAIL_BATCHES: usize = 4;
/// Records between two that are wanted which are read over; beyond, the window is opened anew.
const READ_OVER: i64 = 4096;
/// A window that nothing was wanted of for so long is closed: it fetches ahead what nobody may want.
const WINDOW_IDLE: Duration = Duration::from_secs(1);

/// Three quarters of the metadata that Kafka allows.
const CROWDED: usize = 3072;

/// The retry partition.
pub(crate) struct Parking {
    pub(crate) partition: TopicPartition,
    source: TopicPartition,
    tail: Box<dyn Feed>,
    tail_at: i64,
    signal: Arc<Signal>,
    bell: Bell,
    /// The tail has been at the end: everything is known that was parked before the assignment.
    caught_up: bool,
    /// There may be more of the tail at once.
    has_more: bool,
    index: Parked,
    window: Option<Window>,
    /// The records that are run, by their sequence numbers in the index.
    flights: HashMap<u64, Flight>,
    /// Their batches.
    held: BTreeMap<u32, Held>,
    next_held: u32,
    /// Read back, and not taken yet.
    loaded: VecDeque<u64>,
    bytes: usize,
    committed: CommitPoint,
    /// Metadata of a commit may take so many bytes before what has waited longest is moved.
    pub(crate) crowded_at: usize,
    is_crowded: bool,
    /// Read back, or about to be, only to be moved.
    moving: BTreeSet<u64>,
    /// Looks out for records that kill the process.
    pub(crate) watch: Watch,
    /// What was committed of it last.
    ends: Ends,
    /// What was committed of it before that.
    ends_before: Ends,
}

/// Reads back.
struct Window {
    feed: Box<dyn Feed>,
    signal: Arc<Signal>,
    /// It gives no record below.
    next_offset: i64,
    used: Instant,
}

impl Parking {
    /// Takes a retry partition over. It follows `source`; `in_flight` and `bell` are as there.
    pub(crate) fn new(assigned: AssignedFeed, source: &Intake, in_flight: usize, bell: Bell, keys: KeyOrder) -> Self {
        let (committed, ends) = resume_point(&assigned);
        let AssignedFeed { partition, feed: mut tail, .. } = assigned;
        let signal = Signal::new(bell.clone());
        tail.wake_with(signal.waker());
        Self {
            partition,
            source: source.partition.clone(),
            tail,
            tail_at: committed.offset,
            signal,
            bell,
            caught_up: false,
            has_more: false,
            index: Parked::resume(committed.clone(), source.committed().clone(), keys),
            window: None,
            flights: HashMap::new(),
            held: BTreeMap::new(),
            next_held: 0,
            loaded: VecDeque::new(),
            bytes: 0,
            committed,
            crowded_at: CROWDED,
            is_crowded: false,
            moving: BTreeSet::new(),
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

    /// Whether a fetch may find something that the last one did not.
    pub(crate) fn may_have_records(&self, look_anyway: bool) -> bool {
        let awaited = self.window.as_ref().filter(|_| self.index.wanted() > 0);
        look_anyway || self.signal.is_raised() || awaited.is_some_and(|window| window.signal.is_raised())
    }

    /// Whether all is known that was parked before the assignment. Until then nothing may run.
    pub(crate) fn is_caught_up(&self) -> bool {
        self.caught_up
    }

    /// Whether there is more to be indexed at once. A copy that comes late may show that a record need not run.
    pub(crate) fn has_more(&self) -> bool {
        self.has_more
    }

    /// What is known of the parked records.
    pub(crate) fn index(&self) -> &Parked {
        &self.index
    }

    pub(crate) fn index_mut(&mut self) -> &mut Parked {
        &mut self.index
    }

    /// Indexes what has come in. The answer is whether that was anything. `source_at` is where the source is.
    pub(crate) fn read_tail(
        &mut self,
        plan: &RoutePlan,
        source_at: i64,
        look_anyway: bool,
    ) -> Result<bool, FetchError> {
        self.has_more = false;
        self.index.source_is_at(source_at);
        self.tail.expect(!self.index.is_empty());
        if !look_anyway && !self.signal.is_raised() {
            return Ok(false);
        }
        for batches in 0..TAIL_BATCHES {
            let (records, bytes) = (plan.batch_records.get(), plan.batch_bytes.get());
            let Some(batch) = self.signal.fetch(&mut *self.tail, records, bytes)? else {
                if !self.caught_up && self.tail.reached_end() {
                    self.caught_up = true;
                    self.index.caught_up();
                    self.watch.limit_suspects(self.index.len());
                }
                return Ok(batches > 0);
            };
            for record in (0..batch.len()).map(|index| batch.record(index)) {
                let label = self.label(&record);
                self.index
                    .admit(record.offset, &label)
                    .map_err(|error| FetchError::OutOfOrder { partition: self.partition.clone(), error })?;
                self.tail_at = record.offset + 1;
            }
        }
        self.has_more = true;
        // That it is at its end is told by a fetch that finds nothing.
        self.signal.raise();
        Ok(true)
    }

    /// The next offset to be indexed: what is parked from now on lies there or above.
    pub(crate) fn tail_at(&self) -> i64 {
        self.tail_at
    }

    fn label(&self, record: &Record<'_>) -> Label {
        match Provenance::split(record.headers) {
            // What can't be read is due at once, and fails as undecodable.
            Err(_) => Label { original: None, due_ms: 0, edition: Edition::default(), kind: Kind::Parked },
            Ok((_, Provenance { origin, due_ms, attempts, replay_count, deferred, marker, .. })) => {
                let original = Original { key: KeyHash::of(record.key), offset: origin.offset };
                let is_ours = origin.partition == self.source && origin.offset >= 0;
                let edition = Edition::new(replay_count, attempts);
                let kind = match marker {
                    Some(marker) => Kind::Marker(marker),
                    None if replay_count > 0 && attempts == 0 && !deferred => Kind::Replayed,
                    None => Kind::Parked,
                };
                Label { original: is_ours.then_some(original), due_ms: due_ms.unwrap_or(0), edition, kind }
            }
        }
    }

    /// Has records read back that are due, within the limits of what may be in flight.
    pub(crate) fn read_back(
        &mut self,
        plan: &RoutePlan,
        reader: &Reader,
        now: Now,
        look_anyway: bool,
    ) -> Result<(), FetchError> {
        let busy = self.flights.len() + self.index.wanted();
        let room = plan.in_flight_records.get().saturating_sub(busy);
        self.index.want_due(now.unix_ms, room);
        if std::mem::take(&mut self.is_crowded) {
            self.moving.extend(self.index.want_moved(room.max(plan.batch_records.get())));
        }
        if self.index.wanted() == 0 {
            self.window.take_if(|window| now.instant >= window.used + WINDOW_IDLE);
            return Ok(());
        }
        while self.loaded.len() < plan.batch_records.get() && self.has_room(plan) {
            let Some(window) = self.window(reader, now)? else { return Ok(()) };
            if !look_anyway && !window.signal.is_raised() {
                return Ok(());
            }
            let from = window.next_offset;
            let (records, bytes) = (plan.batch_records.get(), plan.batch_bytes.get());
            let Some(batch) = window.signal.fetch(&mut *window.feed, records, bytes)? else { return Ok(()) };
            let next = batch.offset(batch.len() - 1) + 1;
            window.next_offset = next;
            self.load(batch, now.instant)?;
            if let Some(lost) = self.index.next_wanted(from).filter(|offset| *offset < next) {
                return Err(FetchError::Lost { partition: self.partition.clone(), offset: lost });
            }
        }
        Ok(())
    }

    /// Whether more may be in memory. One batch always may.
    fn has_room(&self, plan: &RoutePlan) -> bool {
        self.flights.is_empty()
            || self.flights.len() < plan.in_flight_records.get() && self.bytes < plan.in_flight_bytes.get()
    }

    /// The window, at the next record that is wanted or before it.
    fn window(&mut self, reader: &Reader, now: Now) -> Result<Option<&mut Window>, FetchError> {
        let at = self.window.as_ref().map_or(i64::MAX, |window| window.next_offset);
        // What is settled may have been removed: there is nothing to read over below the first that is not.
        let ahead =
            self.index.next_wanted(at).filter(|offset| at >= self.index.watermark() && offset - at <= READ_OVER);
        if ahead.is_none() {
            // On upwards, or from the lowest again.
            let Some(offset) = self.index.next_wanted(at).or_else(|| self.index.next_wanted(i64::MIN)) else {
                return Ok(None);
            };
            // The old one goes first: a partition is read once at a time then.
            self.window = None;
            let mut feed = reader(&self.partition, offset)?;
            let signal = Signal::new(self.bell.clone());
            feed.wake_with(signal.waker());
            self.window = Some(Window { feed, signal, next_offset: offset, used: now.instant });
        }
        if let Some(window) = &mut self.window {
            window.used = now.instant;
        }
        Ok(self.window.as_mut())
    }

    /// Keeps the wanted records of a batch.
    fn load(&mut self, batch: Box<dyn Batch>, fetched: Instant) -> Result<(), FetchError> {
        let (number, mut wanted) = (self.next_held, 0);
        for (index, record) in (0..).zip(0..batch.len()) {
            let offset = batch.offset(record);
            if let Some(seq) = self.index.run(offset) {
                if self.label(&batch.record(record)).original != self.index.original(seq) {
                    return Err(FetchError::Replaced { partition: self.partition.clone(), offset });
                }
                self.flights.insert(seq, Flight::new(number, index));
                self.loaded.push_back(seq);
                wanted += 1;
            }
        }
        if wanted > 0 {
            self.next_held = self.next_held.wrapping_add(1);
            let (records, bytes) = (batch.len(), batch.bytes());
            self.bytes += bytes;
            let held = Held { batch: Some(batch), records, unsettled: wanted, bytes, fetched, on_end: None };
            self.held.insert(number, held);
        }
        Ok(())
    }

    /// The next record to be run.
    pub(crate) fn take(&mut self) -> Option<u64> {
        self.loaded.pop_front()
    }

    /// Whether that record is not to be run, but to be moved.
    pub(crate) fn is_moving(&self, seq: u64) -> bool {
        self.moving.contains(&seq)
    }

    /// Whether records are in flight.
    pub(crate) fn is_running(&self) -> bool {
        !self.flights.is_empty()
    }

    /// Whether the record is still to be settled.
    pub(crate) fn is_open(&self, seq: u64) -> bool {
        self.index.is_open(seq)
    }

    /// The record, while it is in flight.
    pub(crate) fn record(&self, seq: u64) -> Option<Record<'_>> {
        let flight = self.flights.get(&seq)?;
        let batch = self.held.get(&flight.held)?.batch.as_ref()?;
        Some(batch.record(flight.index as usize))
    }

    /// When its batch was read back, while the record is in flight.
    pub(crate) fn fetched(&self, seq: u64) -> Option<Instant> {
        self.held.get(&self.flights.get(&seq)?.held).map(|held| held.fetched)
    }

    /// See [`Flight::trace`].
    pub(crate) fn trace(&self, seq: u64) -> Option<NonZeroU32> {
        self.flights.get(&seq)?.trace
    }

    /// The record as an event; `parked` is what its headers say, where they can be read.
    pub(crate) fn event<'a>(&'a self, seq: u64, parked: Option<&'a (usize, Provenance)>) -> Option<Event<'a>> {
        Some(event_of(&self.partition, self.record(seq)?, parked))
    }

    /// What the headers of the record say: the number of its original ones, and its provenance.
    pub(crate) fn provenance(&self, seq: u64) -> Option<Result<(usize, Provenance), ProvenanceError>> {
        self.record(seq).map(|record| Provenance::split(record.headers))
    }

    /// The batch of the record, its place in it, and its state, while it is in flight.
    pub(crate) fn in_flight(&mut self, seq: u64) -> Option<(&mut dyn Batch, usize, &mut Flight)> {
        let flight = self.flights.get_mut(&seq)?;
        let batch = self.held.get_mut(&flight.held)?.batch.as_deref_mut()?;
        Some((batch, flight.index as usize, flight))
    }

    /// The state of the record, while it is in flight.
    pub(crate) fn flight(&mut self, seq: u64) -> Option<&mut Flight> {
        self.flights.get_mut(&seq)
    }

    /// The record is not run after all: one before it in its key has to be first.
    pub(crate) fn put_back(&mut self, seq: u64) {
        if let Some(flight) = self.flights.remove(&seq) {
            self.moving.remove(&seq);
            self.index.put_back(seq);
            self.let_go(flight.held);
        }
    }

    /// Notes that the record has its fate, which may be to be parked again.
    pub(crate) fn settle(&mut self, seq: u64, parked: bool) {
        let Some(flight) = self.flights.remove(&seq) else { return };
        self.moving.remove(&seq);
        self.index.settle(seq, parked);
        self.let_go(flight.held);
    }

    /// One record less is needed of a batch.
    fn let_go(&mut self, number: u32) {
        let Some(held) = self.held.get_mut(&number) else { return };
        held.unsettled -= 1;
        if held.unsettled == 0 {
            self.bytes -= held.bytes;
            self.held.remove(&number);
        }
    }

    /// The sequence number whose low bits are `low`, given that it is in flight.
    pub(crate) fn full_seq(&self, low: u64, mask: u64) -> u64 {
        self.index.full_seq(low, mask)
    }

    /// Bytes of the batches that are held.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// How many records are read back and not settled.
    pub(crate) fn in_flight_count(&self) -> usize {
        self.flights.len()
    }

    /// When the next record may run that is not to be read back already.
    pub(crate) fn next_due_ms(&self, plan: &RoutePlan) -> Option<i64> {
        let has_room = self.flights.len() + self.index.wanted() < plan.in_flight_records.get();
        self.index.next_due_ms().filter(|_| has_room)
    }

    /// The lowest offset that is not settled by what was committed last.
    pub(crate) fn committed_to(&self) -> i64 {
        self.committed.offset
    }

    /// The commit that is due, as that of an [`Intake`].
    pub(crate) fn commit(&mut self, again: bool, released: bool) -> Option<Commit> {
        if !again && self.watch.ends(released) == self.ends && !self.index.take_changed() {
            return None;
        }
        let point = self.index.commit_point();
        debug_assert!(point.offset >= self.committed.offset, "I3: commit points never go back");
        if point != self.committed {
            self.watch.progress(&point);
        }
        let ends = self.watch.ends(released);
        if point == self.committed && ends == self.ends && !again {
            return None;
        }
        let commit = commit_of(&self.partition, &point, &ends);
        self.is_crowded = commit.metadata.len() > self.crowded_at;
        self.ends_before = std::mem::replace(&mut self.ends, ends);
        self.committed = point;
        Some(commit)
    }
}
