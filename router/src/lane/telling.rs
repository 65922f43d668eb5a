//! The fate of each record by name, for those who need more than numbers: route tests.

use pointsman_core::failure::Failure;
use pointsman_core::provenance::Provenance;
use pointsman_core::record::TopicPartition;

use super::{Lane, Unit, Which};
use crate::counters::Fate;

/// How one run of one record ended. Only a parked record is told of again, once for each further run.
#[derive(Debug)]
pub(crate) struct Told {
    /// Where the record came from: for a retried one the source partition, not the retry partition.
    pub(crate) origin: TopicPartition,
    /// Its offset there.
    pub(crate) offset: i64,
    pub(crate) fate: Fate,
    pub(crate) why: Why,
}

/// Why it ended so.
#[derive(Clone, Debug)]
pub(crate) enum Why {
    /// Every stage let it through, and an output took it.
    Routed,
    /// A plugin's reason for a drop, or `filtered`.
    Reason(String),
    Failure(Failure),
}

impl Lane {
    /// From now on the lane tells of each record; [`take_told`](Self::take_told) is to be called, or what is told heaps
    /// up.
    pub(crate) fn tell_fates(&mut self) {
        self.told.get_or_insert_default();
    }

    /// What was told since the last time, in order.
    pub(crate) fn take_told(&mut self) -> Vec<Told> {
        self.told.as_mut().map(std::mem::take).unwrap_or_default()
    }

    fn partition(&self, which: Which) -> &TopicPartition {
        match (which, &self.retry) {
            (Which::Retry, Some(retry)) => &retry.partition,
            _ => &self.source.partition,
        }
    }

    /// Where a record in flight came from.
    pub(super) fn whence(&self, unit: Unit) -> Option<(TopicPartition, i64)> {
        let record = self.record(unit)?;
        Some(match self.origin_of(unit) {
            Ok(Some(parked)) => {
                let (_, Provenance { origin, .. }) = *parked;
                (origin.partition, origin.offset)
            }
            // A parked record that can't be read stands for itself.
            Ok(None) | Err(_) => (self.partition(unit.which).clone(), record.offset),
        })
    }

    /// To be called while the record is still in flight: before it is settled.
    pub(super) fn tell(&mut self, unit: Unit, fate: Fate, why: impl FnOnce() -> Why) {
        if self.told.is_none() {
            return;
        }
        let Some((origin, offset)) = self.whence(unit) else { return };
        if let Some(told) = &mut self.told {
            told.push(Told { origin, offset, fate, why: why() });
        }
    }
}
