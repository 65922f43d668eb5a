//! Dead letters: what lies in the topics of the records that failed, whoever wrote it there.
//!
//! [`Topic`] says where letters are and how long they stay; [`visit`] goes through those that a [`Selection`] picks, oldest
//! first and in bounded memory; [`Causes`] groups them by why they failed; [`find`] gives one of them in full, its payload
//! fetched from the origin where the letter has none; [`original`] is the record that became a letter. None of these writes,
//! joins a group or commits. [`list`], [`count()`] and [`show`] put them together for whoever asks with a [`Choice`]: the command line
//! and the admin door.
//!
//! [`handle`] replays or discards what a selection picks, and keeps account of it in an audit topic ([`AuditRecord`]), in the same
//! transactions: so [`Handled`] knows what is left, and nothing is done twice.
//!
//! [`held_keys`] says which keys a dead letter holds, and [`release`] releases them.
//!
//! A record that nobody says to be a dead letter, or whose headers are torn, is a [`Letter`] like any other: it is told as what
//! it is, with what is known of it. A selection that can't be decided for it counts it ([`Tally::unsure`]) and does not pass it
//! over in silence.
//!
//! Why it is built so is told in `router/decisions/0005-dead-letters.md`.

mod audit;
mod causes;
mod choice;
mod edit;
mod find;
mod handle;
mod handled;
mod letter;
mod look;
mod original;
mod pattern;
mod release;
mod replay;
mod selection;
mod summary;
#[cfg(test)]
pub(crate) mod tests;
mod told;
mod topic;
mod visit;
mod writing;

pub use audit::{Action, AuditRecord, Signature};
pub use causes::{Cause, Causes, Group};
pub use choice::{Choice, Moment};
pub use edit::{Edit, EditError, EditFailed, Patch};
pub use find::{FindError, Found, Payload, find};
pub use handle::{HandleError, Handling, Left, Order, Outcome, Report, Site, Verb, handle};
pub use handled::{AuditError, Handled, history};
pub use letter::{Letter, Place, PlaceError};
pub use look::{Counted, List, Listed, LookError, Shown, ShownLetter, count, list, show};
pub(crate) use look::{counted, note_unsure};
pub use original::{NoOriginal, original};
pub use pattern::pattern;
pub use release::{HeldKey, ReleaseError, held_keys, release};
pub use replay::{LeftAlone, PartitionRule, Replay, Target, Timestamp};
pub use selection::{HeaderFilter, Judgement, OriginError, OriginFilter, Selection, Text};
pub use summary::{OriginSummary, Summary};
pub use told::{HandlingLine, ReportLine};
pub use topic::{Expiry, Topic, of_plan};
pub use visit::{Tally, Visited, visit, visit_open};
