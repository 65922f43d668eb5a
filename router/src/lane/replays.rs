//! Records that were replayed from dead letters: they come with a header more than they are to be seen with.

use pointsman_core::event::Event;
use pointsman_core::failure::FailureClass;
use pointsman_core::provenance::{Blame, Origin, Provenance, replays};
use pointsman_core::record::TopicPartition;

use super::{Parked, Unit, Which};

/// The records of the source among these that were replayed, by their index, each with what it is without that header. Mostly
/// there is none, which is found out by the length of one name for each record that has headers.
pub(super) fn among(units: &[Unit], events: &[Event<'_>]) -> Vec<(usize, Parked)> {
    let numbered = units.iter().zip(events).enumerate().filter(|(_, (unit, _))| unit.which == Which::Source);
    numbered.filter_map(|(index, (_, event))| Some((index, replayed(event)?))).collect()
}

/// What a record of the source is if it was replayed: one that never failed, as far as its lane knows, and that has come from
/// where it is.
pub(super) fn replayed(event: &Event<'_>) -> Option<Parked> {
    if event.headers.are_plain() {
        return None;
    }
    let last = event.headers.len().checked_sub(1)?;
    let replay_count = replays(event.headers.get(last)?)?;
    let provenance = Provenance {
        origin: Origin {
            partition: TopicPartition::new(event.topic, event.partition),
            offset: event.offset,
            timestamp_ms: event.timestamp_ms,
        },
        blame: Blame::default(),
        // Of what it failed with before nothing is known, and nobody asks.
        class: FailureClass::Reject,
        code: String::new(),
        message: String::new(),
        // So that what fails from now on is its first failure.
        attempts: 0,
        first_failed_ms: 0,
        last_failed_ms: 0,
        due_ms: None,
        truncated: false,
        replay_count,
        deferred: false,
        marker: None,
    };
    Some(Box::new((last, provenance)))
}
