//! Dead letters: what lies in the topics of the records that failed, whoever wrote it there.
//!
//! [`Topic`] says where letters are and how long they stay; [`visit`] goes through those that a [`Selection`] picks, oldest
//! first and in bounded memory; [`Causes`] groups them by why they failed; [`find`] gives one of them in full, its payload
//! fetched from the origin where the letter has none; [`original`] is the record that became a letter. Nothing here writes,
//! joins a group or commits.
//!
//! A record that nobody says to be a dead letter, or whose headers are torn, is a [`Letter`] like any other: it is told as what
//! it is, with what is known of it. A selection that can't be decided for it counts it ([`Tally::unsure`]) and does not pass it
//! over in silence.
//!
//! How replay, discard and release are to come on top of this is told in `router/decisions/0005-dead-letters.md`.

mod causes;
mod find;
mod letter;
mod original;
mod pattern;
mod selection;
mod summary;
#[cfg(test)]
pub(crate) mod tests;
mod topic;
mod visit;

pub use causes::{Cause, Causes, Group};
pub use find::{FindError, Found, Payload, find};
pub use letter::{Letter, Place, PlaceError};
pub use original::{NoOriginal, original};
pub use pattern::pattern;
pub use selection::{HeaderFilter, Judgement, OriginError, OriginFilter, Selection, Text};
pub use summary::{OriginSummary, Summary};
pub use topic::{Expiry, Topic, of_plan};
pub use visit::{Tally, Visited, visit};
