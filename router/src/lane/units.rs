//! The records in flight, whichever of the lane's partitions they are from.

use pointsman_core::event::Event;
use pointsman_core::port::Batch;
use pointsman_core::provenance::{Provenance, ProvenanceError};
use pointsman_core::record::Record;

use super::{Lane, Parked, Unit, Which, replays};
use crate::intake::Flight;

impl Lane {
    /// The records as events, each as it was at its origin where it has another.
    pub(super) fn events<'a>(&'a self, units: &[Unit], origins: &'a [Option<Parked>]) -> Vec<Event<'a>> {
        let mut events = Vec::with_capacity(units.len());
        // As most batches are. To ask for each where it is from, and to copy it on its way here, would take more than twice as long.
        let as_they_came = origins.is_empty() && self.in_place.is_empty();
        if as_they_came && units.iter().all(|unit| unit.which == Which::Source) {
            self.source.add_events(units.iter().map(|unit| unit.seq), &mut events);
            return events;
        }
        for (index, unit) in units.iter().enumerate() {
            let origin = origins.get(index).and_then(Option::as_deref);
            events.extend(self.event(*unit, origin));
        }
        events
    }

    /// What the headers of a parked record say, or of a replayed one; nothing for other records of the source.
    pub(super) fn origin_of(&self, unit: Unit) -> Result<Option<Parked>, ProvenanceError> {
        match (unit.which, &self.retry) {
            (Which::Retry, Some(retry)) => retry.provenance(unit.seq).map(|parked| parked.map(Box::new)).transpose(),
            (Which::Retry, None) => Ok(None),
            (Which::Source, _) => Ok(self.source.event(unit.seq).as_ref().and_then(replays::replayed)),
        }
    }

    /// The record, while it is in flight.
    pub(super) fn record(&self, unit: Unit) -> Option<Record<'_>> {
        match unit.which {
            Which::Source => self.source.record(unit.seq),
            Which::Retry => self.retry.as_ref()?.record(unit.seq),
        }
    }

    /// The record as it was at its origin; `parked` is what its headers say, where it was parked or replayed.
    pub(super) fn event<'a>(&'a self, unit: Unit, parked: Option<&'a (usize, Provenance)>) -> Option<Event<'a>> {
        match unit.which {
            Which::Source => {
                let event = self.source.event(unit.seq)?;
                let before = self.in_place.get(&unit.seq).map_or(0, |history| history.attempt);
                let headers = parked.map_or(event.headers, |(count, _)| event.headers.prefix(*count));
                Some(Event { attempt: before.saturating_add(1), headers, ..event })
            }
            Which::Retry => self.retry.as_ref()?.event(unit.seq, parked),
        }
    }

    /// The state of the record, while it is in flight.
    pub(super) fn flight(&mut self, unit: Unit) -> Option<&mut Flight> {
        match unit.which {
            Which::Source => self.source.flight(unit.seq),
            Which::Retry => self.retry.as_mut()?.flight(unit.seq),
        }
    }

    /// The batch of the record, its place in it, and its state, while it is in flight.
    pub(super) fn in_flight(&mut self, unit: Unit) -> Option<(&mut dyn Batch, usize, &mut Flight)> {
        match unit.which {
            Which::Source => self.source.in_flight(unit.seq),
            Which::Retry => self.retry.as_mut()?.in_flight(unit.seq),
        }
    }
}
