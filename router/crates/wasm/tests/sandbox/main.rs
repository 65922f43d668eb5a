//! The sandbox, from the outside: good guests, hostile guests, files that are no plugins.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    unreachable_pub,
    missing_docs,
    reason = "a test fails by panicking, and nothing here is public"
)]

mod allocations;
mod cache;
mod composed;
mod exchange;
mod guests;
mod held;
mod hostile;
mod loading;
mod logs;
mod stand_ins;
mod usage;
