//! Which of the copies of a record is the one to run, and what is known of one that is being written.

use super::{Edition, Entry, Original, Parked, State};

/// A record on its way into the retry partition.
#[derive(Clone, Copy, Debug)]
pub(super) struct Coming {
    /// Which its copy will be.
    edition: Edition,
    progress: Progress,
}

#[derive(Clone, Copy, Debug)]
enum Progress {
    /// Nobody knows whether it was written.
    InFlight,
    /// It is written, and will be seen.
    Acknowledged,
    /// It was seen before it was acknowledged. Until it is, the record is not done, and may be written again.
    Seen(u64),
}

impl Parked {
    /// Finds out which of the copies of a record is to run, given one more.
    pub(super) fn place(&mut self, original: Original, seq: u64) {
        let Some(edition) = self.entry(seq).map(Entry::edition) else { return };
        if let Some(Coming { edition: expected, progress }) = self.coming.get_mut(&original) {
            if edition < *expected {
                return self.mark_settled(seq);
            }
            if edition.replays > expected.replays {
                return self.put_off(original, seq);
            }
            match std::mem::replace(progress, Progress::Seen(seq)) {
                Progress::InFlight => {}
                Progress::Seen(earlier) => self.mark_settled(earlier),
                Progress::Acknowledged => {
                    self.coming.remove(&original);
                    self.complete(original, seq);
                }
            }
            return;
        }
        let known = self.places.get(original).map(|low| self.seq_of(low));
        match known.and_then(|known| Some((known, *self.entry(known)?))) {
            Some((_, known)) if edition < known.edition() => self.mark_settled(seq),
            Some((known, entry)) if entry.is_busy() => {
                if edition.replays > entry.replays {
                    self.put_off(original, seq);
                } else if known != seq {
                    // Another router's, from before it lost the partition: the run that is under way decides.
                    self.mark_settled(seq);
                }
            }
            Some((known, _)) => {
                self.mark_settled(known);
                self.install(original, seq);
            }
            None => self.install(original, seq),
        }
    }

    /// Keeps a copy that was replayed while an earlier one is run. What becomes of that is nothing to this one, which somebody
    /// may have mended.
    fn put_off(&mut self, original: Original, seq: u64) {
        let edition = |seq: u64| self.entry(seq).map(Entry::edition);
        let (kept, stale) = match self.newer.get(&original).copied() {
            Some(other) if edition(other) > edition(seq) => (other, Some(seq)),
            Some(other) => (seq, Some(other)),
            None => (seq, None),
        };
        self.newer.insert(original, kept);
        stale.into_iter().for_each(|stale| self.mark_settled(stale));
    }

    /// The copy that was run has its fate, or is not run after all: if there is a newer one, that is the record now.
    fn take_newer(&mut self, original: Original) -> bool {
        let Some(seq) = self.newer.remove(&original) else { return false };
        if let Some(Coming { progress: Progress::Seen(stale), .. }) = self.coming.remove(&original) {
            self.mark_settled(stale);
        }
        self.place(original, seq);
        true
    }

    /// What was parked here is written and acknowledged. Another router may have parked it before: of two copies that wait the newer one
    /// is to run. One that is under way may be what this one came of, which is all that is left of it then.
    fn complete(&mut self, original: Original, seq: u64) {
        let known = self.places.get(original).map(|low| self.seq_of(low)).filter(|known| *known != seq);
        let waiting = known.and_then(|known| self.entry(known)).filter(|entry| !entry.is_busy()).copied();
        if let (Some(known), Some(waiting)) = (known, waiting) {
            if self.entry(seq).is_some_and(|entry| entry.edition() < waiting.edition()) {
                self.mark_settled(seq);
                self.set_state(known, State::Waiting);
                return self.install(original, known);
            }
            self.mark_settled(known);
        }
        self.install(original, seq);
    }

    /// From now on this is the copy that is to run.
    fn install(&mut self, original: Original, seq: u64) {
        self.revision += 1;
        self.places.insert(original, seq as u32);
        if self.keeps_order(original.key) {
            self.promote(original.key);
        } else {
            self.queue(seq);
        }
    }

    /// The record is being parked, as this edition: its key is blocked from now on.
    pub fn hold(&mut self, original: Original, edition: Edition) {
        self.revision += 1;
        let coming = self.coming.entry(original).or_insert(Coming { edition, progress: Progress::InFlight });
        coming.edition = edition;
        // It may be newer than what was put off for it.
        if let Some(seq) = self.newer.remove(&original) {
            self.place(original, seq);
        }
    }

    /// Whether the record that is being parked is in the partition, even though the log did not say so.
    #[must_use]
    pub fn is_seen(&self, original: Original) -> bool {
        self.coming.get(&original).is_some_and(|coming| matches!(coming.progress, Progress::Seen(_)))
    }

    /// The record that was being parked has been.
    pub fn parked(&mut self, original: Original) {
        if self.take_newer(original) {
            return;
        }
        let Some(coming) = self.coming.get_mut(&original) else { return };
        match coming.progress {
            Progress::InFlight => coming.progress = Progress::Acknowledged,
            Progress::Acknowledged => {}
            Progress::Seen(seq) => {
                self.coming.remove(&original);
                self.complete(original, seq);
            }
        }
    }

    /// The record that was being parked has got another fate.
    pub fn release(&mut self, original: Original) {
        if self.take_newer(original) {
            return;
        }
        let Some(coming) = self.coming.remove(&original) else { return };
        if let Progress::Seen(seq) = coming.progress {
            self.mark_settled(seq);
        }
        self.promote(original.key);
    }
}
