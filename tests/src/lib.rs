//! The harness of the tests: a real Apache Kafka, the router as a process, and what both need.
//!
//! Everything here is for tests only. It waits with a deadline ([`wait::until`]) instead of sleeping, and whatever it
//! starts dies with the test process, however that ends ([`child`]).
#![allow(clippy::print_stderr, reason = "a skipped or failed test says why on standard error")]

pub mod backend;
pub mod child;
pub mod flows;
pub mod history;
pub mod kafka;
pub mod places;
pub mod plugins;
pub mod router;
pub mod simulated_collector;
pub mod trials;
pub mod wait;
