//! The parked records of a lane: an index of its retry partition, without the records themselves.
//!
//! It knows of each record where it came from, when it is due and which key it has, and decides which may run. Under
//! order by key that is the first of a key only, by its offset in the source: where its copy lies in the retry partition
//! says nothing. It takes the place of a [`Tracker`](crate::tracker::Tracker) there: what is settled is known here.
//!
//! A record may lie in the partition more than once: a delivery whose acknowledgement got lost is made again, a rewritten
//! one has its old copy until the new one is seen, and a router that died leaves the copy that it was running. **Twins**
//! are known by their origin; of two of the same [edition](Edition) one is enough, of two different ones the older is stale.
//! What is not needed is settled unseen.
//!
//! Besides records there may be *markers*: notes that a key is [held](Parked::is_held) since a record of it has become a dead
//! letter, and that it is released.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};

use copies::Coming;
use held::Held;
use places::Places;

use crate::settled::Settled;
use crate::tracker::{CommitPoint, OutOfOrder};

mod backlog;
mod copies;
mod held;
mod label;
mod moving;
mod places;

pub use backlog::{Backlog, Known};
pub use label::{Edition, KeyHash, KeyOrder, Kind, Label, Original};

/// The index.
#[derive(Debug)]
pub struct Parked {
    keys: KeyOrder,
    /// The records from the lowest unsettled one on, by their offset in the retry partition.
    entries: VecDeque<Entry>,
    /// Sequence number of the front one.
    first_seq: u64,
    /// One past the last offset that was seen; the start before the first.
    next_offset: i64,
    /// What an earlier assignment settled at or beyond `next_offset`.
    earlier: Settled,
    /// Of those that are to run, but for [`coming`](Self::coming) ones.
    places: Places,
    /// Those that are being parked, or are parked and not seen in the partition yet.
    coming: BTreeMap<Original, Coming>,
    /// Editions that are newer than the copy that is run, and have their turn when that has its fate.
    newer: BTreeMap<Original, u64>,
    /// Keys whose later records become dead letters.
    held: BTreeMap<KeyHash, Held>,
    /// Due time and sequence number of what may run then. Some may be settled, or have been passed by another.
    due: BinaryHeap<Reverse<(i64, u64)>>,
    /// What is to be read back.
    wanted: BTreeSet<u64>,
    unsettled: usize,
    /// Of what another assignment has parked: offsets in the source that this one has not come to. They do not run before. Under
    /// an order they would overtake what comes before them there, of which the other's deliveries may have been lost. And where it
    /// has not come to commit that they are parked, what becomes of them could be committed before what became of the record in
    /// the source, which after another crash would run anew.
    foreseen: BTreeSet<(i64, KeyHash)>,
    /// All is known that was parked before the assignment.
    caught_up: bool,
    /// Where the source is, with what is settled beyond.
    source: CommitPoint,
    /// Whether anything was settled since that was last asked.
    changed: bool,
    revision: u64,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    offset: i64,
    /// Its offset in the source; [`Entry::NOWHERE`] where it has no original.
    origin: i64,
    due_ms: i64,
    key: KeyHash,
    attempts: u32,
    replays: u16,
    kind: Kind,
    state: State,
}

// There may be a million of them.
const _: () = assert!(size_of::<Entry>() <= 40);

impl Entry {
    const NOWHERE: i64 = -1;

    fn original(&self) -> Option<Original> {
        (self.origin != Self::NOWHERE).then_some(Original { key: self.key, offset: self.origin })
    }

    fn is_marker(&self) -> bool {
        matches!(self.kind, Kind::Marker(_))
    }

    /// It is being read back, or in flight.
    fn is_busy(&self) -> bool {
        matches!(self.state, State::Wanted | State::Running | State::Sent)
    }

    fn edition(&self) -> Edition {
        Edition { replays: self.replays, attempts: self.attempts }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Until its predecessors are done, or the delivery of which it is the copy has been acknowledged.
    Waiting,
    /// In the queue of due times.
    Queued,
    /// To be read back.
    Wanted,
    /// In flight, and not handed over yet.
    Running,
    /// All that came of it is handed over. The next of its key may follow.
    Sent,
    Settled,
}

impl Parked {
    /// Goes on from a commit point of the retry partition, and from one of the source, which is there.
    #[must_use]
    pub fn resume(point: CommitPoint, source: CommitPoint, keys: KeyOrder) -> Self {
        Self {
            keys,
            foreseen: BTreeSet::new(),
            caught_up: false,
            source,
            entries: VecDeque::new(),
            first_seq: 0,
            next_offset: point.offset,
            earlier: point.settled,
            places: Places::default(),
            coming: BTreeMap::new(),
            newer: BTreeMap::new(),
            held: BTreeMap::new(),
            due: BinaryHeap::new(),
            wanted: BTreeSet::new(),
            unsettled: 0,
            changed: false,
            revision: 0,
        }
    }

    /// Takes the next record of the retry partition into the index.
    ///
    /// # Errors
    /// [`OutOfOrder`]; nothing was taken in.
    pub fn admit(&mut self, offset: i64, label: &Label) -> Result<(), OutOfOrder> {
        if offset < self.next_offset {
            return Err(OutOfOrder { got: offset, expected_at_least: self.next_offset });
        }
        let settled = self.earlier.contains(offset);
        self.next_offset = offset + 1;
        self.earlier.forget_below(self.next_offset);
        let seq = self.next_seq();
        let original = label.original;
        if self.entries.len() == self.entries.capacity() {
            // By a sixteenth, where the container would double.
            self.entries.reserve_exact((self.entries.len() / 16).max(64));
        }
        self.entries.push_back(Entry {
            offset,
            origin: original.map_or(Entry::NOWHERE, |original| original.offset),
            due_ms: label.due_ms,
            key: original.map_or(KeyHash::NULL, |original| original.key),
            attempts: label.edition.attempts,
            replays: label.edition.replays,
            kind: label.kind,
            state: if settled { State::Settled } else { State::Waiting },
        });
        if settled {
            self.changed = true;
            self.forget_settled();
            return Ok(());
        }
        self.unsettled += 1;
        match (original, label.kind) {
            (None, Kind::Marker(_)) => self.mark_settled(seq),
            (None, _) => self.queue(seq),
            (Some(original), Kind::Marker(marker)) => self.note(marker, original, seq),
            (Some(original), Kind::Parked | Kind::Replayed) => {
                let offset = original.offset;
                let is_settled = || self.source.settled.contains(offset);
                let is_to_wait = offset >= self.source.offset && (self.keeps_order(original.key) || !is_settled());
                // What somebody replays now is not of another assignment.
                if is_to_wait && !(self.caught_up && label.kind == Kind::Replayed) {
                    self.foreseen.insert((offset, original.key));
                }
                self.place(original, seq);
            }
        }
        Ok(())
    }

    /// All is known that was parked before the assignment.
    pub fn caught_up(&mut self) {
        self.caught_up = true;
    }

    /// The source has come to this offset, and has [passed](Self::pass) what was before. To be told before more is
    /// [admitted](Self::admit).
    pub fn source_is_at(&mut self, offset: i64) {
        self.source.offset = offset;
        while self.come_to_first_before(offset).is_some() {}
    }

    /// The source has come to this record. The answer is whether another assignment has parked it: it has its fate then. To be told of
    /// every record that was not settled before, in order, while [some are foreseen](Self::foresees_some).
    pub fn pass(&mut self, record: Original) -> bool {
        let mut is_parked = false;
        while let Some(parked) = self.come_to_first_before(record.offset + 1) {
            is_parked |= parked == record;
        }
        is_parked
    }

    /// Whether the source is still to come to something that another assignment has parked.
    #[must_use]
    #[inline]
    pub fn foresees_some(&self) -> bool {
        !self.foreseen.is_empty()
    }

    /// The first record before this offset that another assignment has parked need not wait for the source any more.
    fn come_to_first_before(&mut self, offset: i64) -> Option<Original> {
        let (first, key) = self.foreseen.first().copied().filter(|(first, _)| *first < offset)?;
        self.foreseen.pop_first();
        let original = Original { key, offset: first };
        match self.places.get(original) {
            Some(low) if !self.keeps_order(key) => self.queue(self.seq_of(low)),
            _ => self.promote(key),
        }
        Some(original)
    }

    /// Puts the first record of a key into the queue.
    fn promote(&mut self, key: KeyHash) {
        let first = self.places.of_key(key).next();
        if let Some((first, low)) = first
            && self.first_coming(key).is_none_or(|coming| first < coming)
        {
            self.queue(self.seq_of(low));
        }
    }

    fn queue(&mut self, seq: u64) {
        let Some(entry) = self.entry(seq).filter(|entry| entry.state == State::Waiting) else { return };
        if self.foreseen.contains(&(entry.origin, entry.key)) || self.waits_for_release(seq) {
            return;
        }
        let due = Reverse((entry.due_ms, seq));
        self.set_state(seq, State::Queued);
        if self.due.len() == self.due.capacity() {
            // Copies that were settled unseen may have left some behind.
            let (entries, first) = (&self.entries, self.first_seq);
            let is_queued = |seq: u64| {
                let entry = seq.checked_sub(first).and_then(|place| entries.get(usize::try_from(place).ok()?));
                entry.is_some_and(|entry| entry.state == State::Queued)
            };
            self.due.retain(|Reverse((_, seq))| is_queued(*seq));
            self.due.reserve_exact((self.due.len() / 16).max(64));
        }
        self.due.push(due);
    }

    fn keeps_order(&self, key: KeyHash) -> bool {
        self.keys != KeyOrder::None && key != KeyHash::NULL
    }

    /// The first record of a key that is parked, or being parked.
    fn first_of(&self, key: KeyHash) -> Option<Original> {
        let placed = self.places.of_key(key).next().map(|(original, _)| original);
        placed.into_iter().chain(self.first_coming(key)).min()
    }

    /// The first record of a key that is being parked.
    fn first_coming(&self, key: KeyHash) -> Option<Original> {
        self.coming.range(Original::all_of(key)).next().map(|(original, _)| *original)
    }

    /// Whether nothing is parked whose origin is known, or being parked, and no key is held. Then [`predecessor`](Self::predecessor) and, before
    /// the source is past what another assignment has parked, [`pass`](Self::pass) need not be asked.
    #[must_use]
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.places.is_empty() && self.coming.is_empty() && self.foreseen.is_empty() && self.held.is_empty()
    }

    /// Whether records are on their way into the retry partition.
    #[must_use]
    #[inline]
    pub fn expects_some(&self) -> bool {
        !self.coming.is_empty()
    }

    /// The offset in the source of the parked record of the same key that this one has to wait for, if there is one. It may
    /// follow at once where all before it have been handed over; what those come to is then known in time.
    #[must_use]
    pub fn predecessor(&self, original: Original) -> Option<i64> {
        if !self.keeps_order(original.key) {
            return None;
        }
        if let Some(coming) = self.first_coming(original.key).filter(|coming| *coming < original) {
            return Some(coming.offset);
        }
        // Of those before it, each was sent behind the one before.
        let (placed, low) = self.places.before(original)?;
        let entry = self.entry(self.seq_of(low))?;
        (entry.state != State::Sent).then_some(placed.offset)
    }

    /// Of each of these keys whether anything may be known that a record of it would [wait for](Self::predecessor), or
    /// [follow](Self::is_held). Where not, there is nothing.
    ///
    /// To be asked of many at once: what tells them apart is little memory, but more than a processor has next to it, and looks that
    /// do not wait for one another wait for it together.
    #[must_use]
    pub fn may_know(&self, keys: &[KeyHash]) -> Vec<bool> {
        let mut may: Vec<bool> = keys.iter().map(|key| self.keeps_order(*key) && self.places.may_have(*key)).collect();
        if self.expects_some() || self.holds_keys() {
            for (key, may) in keys.iter().zip(&mut may) {
                *may |= self.first_coming(*key).is_some() || self.held.contains_key(key);
            }
        }
        may
    }

    /// Another number whenever a record may have got a [predecessor](Self::predecessor) that had none.
    #[must_use]
    #[inline]
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// Chooses records to be read back and run: at most `limit`, all of them due at `now_ms`. Under an order, what is due of a
    /// key's next ones comes along with the first.
    pub fn want_due(&mut self, now_ms: i64, limit: usize) {
        let mut left = limit;
        while left > 0
            && let Some(Reverse((due_ms, seq))) = self.due.peek().copied()
            && due_ms <= now_ms
        {
            self.due.pop();
            let Some(entry) = self.entry(seq).filter(|entry| entry.state == State::Queued) else { continue };
            match entry.original().filter(|original| self.keeps_order(original.key)) {
                None => left -= usize::from(self.want(seq)),
                Some(original) if self.first_of(original.key) == Some(original) => {
                    let chain = self.want_chain(original.key, now_ms, left);
                    if chain == 0 {
                        self.set_state(seq, State::Waiting);
                    }
                    left -= chain;
                }
                Some(_) => drop(self.set_state(seq, State::Waiting)),
            }
        }
    }

    /// Chooses the first records of a key, as far as they are due; the answer is how many.
    fn want_chain(&mut self, key: KeyHash, now_ms: i64, limit: usize) -> usize {
        let coming = self.first_coming(key).map_or(i64::MAX, |original| original.offset);
        let may_run = |low: u32| {
            let seq = self.seq_of(low);
            let entry = self.entry(seq)?;
            let is_free = matches!(entry.state, State::Waiting | State::Queued) && entry.due_ms <= now_ms;
            let must_wait = self.foreseen.contains(&(entry.origin, entry.key)) || self.waits_for_release(seq);
            (is_free && entry.origin < coming && !must_wait).then_some(seq)
        };
        let chain = self.places.of_key(key).map_while(|(_, low)| may_run(low)).take(limit);
        let chain: Vec<u64> = chain.collect();
        chain.into_iter().filter(|seq| self.want(*seq)).count()
    }

    fn want(&mut self, seq: u64) -> bool {
        self.set_state(seq, State::Wanted) && self.wanted.insert(seq)
    }

    /// All that came of the record is handed over, or not after all.
    pub fn sent(&mut self, seq: u64, sent: bool) {
        // One whose failure was decided on earlier goes its way before its predecessors. Those behind it must not.
        let is_next = sent && self.original(seq).is_none_or(|original| self.predecessor(original).is_none());
        self.set_state(seq, if is_next { State::Sent } else { State::Running });
        self.revision += u64::from(!is_next);
    }

    /// The record that was read back is not run after all: one before it has to be first.
    pub fn put_back(&mut self, seq: u64) {
        self.revision += 1;
        self.set_state(seq, State::Waiting);
        if let Some(original) = self.original(seq) {
            // It may have been held for a delivery that was refused.
            self.release(original);
            self.promote(original.key);
        }
    }

    /// When the next record is due, if any is known to be.
    #[must_use]
    pub fn next_due_ms(&self) -> Option<i64> {
        self.due.peek().map(|Reverse((due_ms, _))| *due_ms)
    }

    /// How many records are to be read back.
    #[must_use]
    pub fn wanted(&self) -> usize {
        self.wanted.len()
    }

    /// The first record at `offset` of the retry partition or behind it that is to be read back.
    #[must_use]
    pub fn next_wanted(&self, offset: i64) -> Option<i64> {
        let from = self.first_seq + self.entries.partition_point(|entry| entry.offset < offset) as u64;
        self.wanted.range(from..).next().and_then(|seq| self.entry(*seq)).map(|entry| entry.offset)
    }

    /// The record at this offset is here to be run, if it was wanted: the answer is its sequence number.
    pub fn run(&mut self, offset: i64) -> Option<u64> {
        let place = self.entries.binary_search_by_key(&offset, |entry| entry.offset).ok()?;
        let seq = self.first_seq + place as u64;
        if !self.wanted.remove(&seq) {
            return None;
        }
        self.set_state(seq, State::Running);
        Some(seq)
    }

    /// Which edition of its record this copy is.
    #[must_use]
    pub fn edition(&self, seq: u64) -> Edition {
        self.entry(seq).map(Entry::edition).unwrap_or_default()
    }

    /// Where the record came from.
    #[must_use]
    pub fn original(&self, seq: u64) -> Option<Original> {
        self.entry(seq)?.original()
    }

    /// The lowest offset in the source of what is parked; `None` where nothing is. Takes time in proportion to what is known.
    #[must_use]
    pub fn first_origin(&self) -> Option<i64> {
        self.places.first_offset()
    }

    /// The record that was run has its fate. If that is to be parked again, it was [held](Self::hold) before.
    pub fn settle(&mut self, seq: u64, parked: bool) {
        let Some(entry) = self.entry(seq).copied() else { return };
        if entry.is_marker() {
            return self.mark_settled(seq);
        }
        debug_assert!(
            matches!(entry.state, State::Running | State::Sent),
            "I1: what settles was run, and settles once"
        );
        self.mark_settled(seq);
        let Some(original) = entry.original() else { return };
        self.places.remove(original, seq as u32);
        if parked {
            self.parked(original);
        } else {
            self.release(original);
        }
        self.promote(original.key);
    }

    fn mark_settled(&mut self, seq: u64) {
        if self.set_state(seq, State::Settled) {
            self.unsettled -= 1;
            self.changed = true;
            self.forget_settled();
        }
    }

    fn forget_settled(&mut self) {
        while self.entries.pop_front_if(|entry| entry.state == State::Settled).is_some() {
            self.first_seq += 1;
        }
        if self.entries.is_empty() {
            // Whatever it once was.
            self.due.clear();
        }
    }

    fn set_state(&mut self, seq: u64, state: State) -> bool {
        let entry = self.entry_mut(seq).filter(|entry| entry.state != State::Settled);
        entry.map(|entry| entry.state = state).is_some()
    }

    fn entry(&self, seq: u64) -> Option<&Entry> {
        self.entries.get(usize::try_from(seq.checked_sub(self.first_seq)?).ok()?)
    }

    fn entry_mut(&mut self, seq: u64) -> Option<&mut Entry> {
        self.entries.get_mut(usize::try_from(seq.checked_sub(self.first_seq)?).ok()?)
    }

    fn next_seq(&self) -> u64 {
        self.first_seq + self.entries.len() as u64
    }

    /// The sequence number that has these low bits.
    fn seq_of(&self, low: u32) -> u64 {
        self.full_seq(u64::from(low), u64::from(u32::MAX))
    }

    /// The sequence number whose bits of `mask` are `low`, given that it is not settled.
    #[must_use]
    pub fn full_seq(&self, low: u64, mask: u64) -> u64 {
        self.first_seq + (low.wrapping_sub(self.first_seq) & mask)
    }

    /// Whether the record is known, and not settled.
    #[must_use]
    pub fn is_open(&self, seq: u64) -> bool {
        self.entry(seq).is_some_and(|entry| entry.state != State::Settled)
    }

    /// Records that are known and not settled.
    #[must_use]
    pub fn len(&self) -> usize {
        self.unsettled
    }

    /// The lowest offset of the retry partition that is not settled.
    #[must_use]
    pub fn watermark(&self) -> i64 {
        self.entries.front().map_or(self.next_offset, |entry| entry.offset)
    }

    /// Whether the [commit point](Self::commit_point) may be another than when this was last asked.
    pub fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    /// Where to start again, with what is settled beyond. Takes time in proportion to what is known.
    #[must_use]
    pub fn commit_point(&self) -> CommitPoint {
        let slots = self.entries.iter().map(|entry| (entry.offset, entry.state == State::Settled));
        CommitPoint { offset: self.watermark(), settled: Settled::of(slots, &self.earlier) }
    }
}

#[cfg(test)]
mod tests;
