//! The embedded log from outside: as the router and another terminal see it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a failed test may panic")]

mod files;
mod full;
mod groups;
mod harness;
mod model;
mod processes;
mod records;
mod retention;
mod together;
mod transactions;
mod waking;
