//! Moving what has waited longest to the end of the partition, so that what was settled behind it need not be told for ever.

use super::{Parked, State};

impl Parked {
    /// Chooses records to be read back and written anew, as they are: of the first half of what is known those that wait, at
    /// most `limit`. Each is [held](Self::hold_moved), written, and settled as one that was parked. The answer is their
    /// sequence numbers.
    pub fn want_moved(&mut self, limit: usize) -> Vec<u64> {
        let half = self.entries.len() / 2;
        let waiting = self.entries.iter().zip(self.first_seq..).take(half).filter(|(entry, seq)| {
            let waits = matches!(entry.state, State::Waiting | State::Queued);
            // Of one that is not in its place it is not known yet whether it is needed.
            waits
                && entry
                    .original()
                    .is_some_and(|original| entry.is_marker() || self.places.get(original) == Some(*seq as u32))
        });
        let waiting: Vec<u64> = waiting.map(|(_, seq)| seq).take(limit).collect();
        waiting.into_iter().filter(|seq| self.want(*seq)).collect()
    }

    /// The record is being moved.
    pub fn hold_moved(&mut self, seq: u64) {
        let Some(entry) = self.entry(seq).copied().filter(|entry| !entry.is_marker()) else { return };
        if let Some(original) = entry.original() {
            self.hold(original, entry.edition());
        }
    }
}
