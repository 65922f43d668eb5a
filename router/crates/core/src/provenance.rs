//! The headers that parked records and dead letters carry: where a record came from, and why it is here.
//!
//! The original headers stay as they are, in front. Ours follow as one block that begins with [`VERSION`](name::VERSION),
//! so that taking the block off gives the original record back, whatever headers it had itself, even if it was a dead
//! letter once before. Values are UTF-8 text; numbers are decimal; times are milliseconds since 1970-01-01 UTC.
//!
//! Others write dead letters too. [`Account`] is what the headers of any of them tell, whoever wrote it: [ours](Provenance),
//! or one of the [families](Family) of other tools.

mod account;
mod block;
mod family;
pub mod name;
#[cfg(test)]
mod tests;

pub use account::{Account, KnownOrigin, Writer};
pub use block::{Blame, Marker, Origin, Provenance, ProvenanceError, cut};
pub use family::Family;

use crate::event::Event;
use crate::record::{Header, OwnedHeader};

/// The headers that `origin_headers = true` stamps on outputs.
#[must_use]
pub fn origin_stamps(event: &Event<'_>) -> Vec<OwnedHeader> {
    vec![
        OwnedHeader::text(name::ORIGIN_TOPIC, event.topic),
        OwnedHeader::text(name::ORIGIN_PARTITION, event.partition.to_string()),
        OwnedHeader::text(name::ORIGIN_OFFSET, event.offset.to_string()),
    ]
}

/// How often a record of a source was replayed, if `last`, the last of its headers, is the one that says so. Such a record is
/// without it what it was.
#[inline]
#[must_use]
pub fn replays(last: Header<'_>) -> Option<u32> {
    // Names of other headers are nearly all of other lengths.
    if last.name != name::REPLAY_COUNT.as_bytes() {
        return None;
    }
    std::str::from_utf8(last.value?).ok()?.parse().ok()
}
