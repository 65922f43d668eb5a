//! Keys that are held: a record of theirs became a dead letter, and so do those after it.
//!
//! A *marker* in the partition keeps that over restarts. It is never due, and settled when another marker releases the key. A
//! record that was replayed from dead letters meanwhile waits for that, and what comes after it waits behind it: so whoever
//! mends the letters of a key can replay them all, and release the key then, and nothing overtakes them.

use super::{KeyHash, KeyOrder, Kind, Original, Parked};
use crate::provenance::Marker;

/// A key that is held.
#[derive(Clone, Copy, Debug)]
pub(super) struct Held {
    /// By the record at this offset of the source, ...
    offset: i64,
    /// ... and by this marker, once that was seen.
    marker: Option<u64>,
}

impl Parked {
    /// The record becomes a dead letter, and its key is held from now on. The answer is whether a marker is to be written.
    pub fn hold_key(&mut self, original: Original) -> bool {
        if self.keys != KeyOrder::KeptAndHeld || original.key == KeyHash::NULL {
            return false;
        }
        let Held { offset, marker } =
            self.held.get(&original.key).copied().unwrap_or(Held { offset: i64::MAX, marker: None });
        if offset < original.offset || offset == original.offset && marker.is_some() {
            return false;
        }
        self.held.insert(original.key, Held { offset: original.offset, marker });
        true
    }

    /// The offset of the record that holds the key of this one, where that has to become a dead letter for it.
    #[must_use]
    pub fn is_held(&self, original: Original) -> Option<i64> {
        self.held.get(&original.key).map(|held| held.offset).filter(|offset| *offset < original.offset)
    }

    /// Whether any key is held.
    #[must_use]
    #[inline]
    pub fn holds_keys(&self) -> bool {
        !self.held.is_empty()
    }

    /// Whether somebody has replayed the record, and it waits for its key to be released.
    #[must_use]
    pub fn waits_for_release(&self, seq: u64) -> bool {
        let Some(entry) = self.entry(seq).filter(|entry| entry.kind == Kind::Replayed) else { return false };
        self.held.get(&entry.key).is_some_and(|held| held.offset <= entry.origin)
    }

    /// Takes a marker in.
    pub(super) fn note(&mut self, marker: Marker, original: Original, seq: u64) {
        match marker {
            Marker::Hold if self.keys == KeyOrder::KeptAndHeld => self.note_hold(original, seq),
            // The configuration was another once.
            Marker::Hold => self.mark_settled(seq),
            Marker::Release => {
                // It may be of an earlier time that the key was held.
                let held = self.held.get(&original.key).copied().filter(|held| held.offset <= original.offset);
                if let Some(Held { marker, .. }) = held {
                    self.held.remove(&original.key);
                    marker.into_iter().for_each(|marker| self.settle_marker(marker));
                    self.promote(original.key);
                }
                self.mark_settled(seq);
            }
        }
    }

    fn note_hold(&mut self, original: Original, seq: u64) {
        let known = self.held.get(&original.key).copied();
        match known {
            Some(Held { offset, marker: Some(_) }) if offset < original.offset => self.mark_settled(seq),
            _ => {
                let offset = known.map_or(original.offset, |held| held.offset.min(original.offset));
                self.held.insert(original.key, Held { offset, marker: Some(seq) });
                if let Some(stale) = known.and_then(|held| held.marker) {
                    self.settle_marker(stale);
                }
            }
        }
    }

    /// One that is being moved is settled when it has been.
    fn settle_marker(&mut self, seq: u64) {
        if self.entry(seq).is_some_and(|entry| !entry.is_busy()) {
            self.mark_settled(seq);
        }
    }
}
