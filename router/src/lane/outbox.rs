//! What was judged, and is to be delivered.

use pointsman_core::provenance::Provenance;

use super::{Parked, Unit};
use crate::judge::{Course, Judgement, Ruling};

/// A judged batch on its way out.
#[derive(Default)]
pub(super) struct Outbox {
    pub(super) units: Vec<Unit>,
    /// For records of the retry partition, and replayed ones: where they came from. Empty where none is.
    pub(super) origins: Vec<Option<Parked>>,
    pub(super) judgement: Judgement,
    /// Index of the next record.
    pub(super) next: usize,
    /// Deliveries of that record that were produced.
    pub(super) sent: usize,
    /// As [`Lane::looked_at`](super::Lane::looked_at), of what was judged.
    pub(super) looked_at: Option<u64>,
}

impl Outbox {
    pub(super) fn is_empty(&self) -> bool {
        self.next == self.units.len()
    }

    pub(super) fn push(&mut self, unit: Unit, origin: Option<Parked>, ruling: Ruling) {
        if self.is_empty() {
            *self = Self::default();
        }
        self.units.push(unit);
        self.origins.push(origin);
        self.judgement.rulings.push(ruling);
    }

    /// Done with the record that it stands at.
    pub(super) fn pass(&mut self) {
        self.next += 1;
        self.sent = 0;
    }

    /// A failure that it stands at has its course from now on.
    pub(super) fn hold_to(&mut self, decided: Course) {
        if let Some(Ruling::Fail(_, course)) = self.judgement.rulings.get_mut(self.next) {
            *course = decided;
        }
    }

    /// How often the record that it stands at was replayed.
    pub(super) fn replays(&self) -> u32 {
        self.origin().map_or(0, |(_, parked)| parked.replay_count)
    }

    /// Where the record that it stands at came from, if that is the retry partition.
    pub(super) fn origin(&self) -> Option<&(usize, Provenance)> {
        self.origins.get(self.next)?.as_deref()
    }
}
