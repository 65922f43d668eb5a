//! Decisions of the Pointsman router: what a record, an event, a verdict and a fate are, how a failure is judged, which
//! output an event goes to, how far a lane may commit.
//!
//! **Pure.** Nothing here does IO, reads a clock or an environment variable, draws a random number, or starts a thread:
//! time and randomness are arguments. So every decision can be tested without a broker, and none can fail for a reason
//! outside its arguments. The traits in [`port`] are where the other crates come in.

pub mod breaker;
pub mod condition;
pub mod delivery;
pub mod event;
pub mod failure;
pub mod isolate;
pub mod lag;
pub mod metadata;
pub mod parked;
pub mod policy;
pub mod port;
pub mod provenance;
pub mod record;
pub mod settled;
pub mod tracker;
pub mod unclean;
pub mod verdict;
