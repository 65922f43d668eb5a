//! The tests that need no broker, in one binary: it is linked once.
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

#[cfg(target_os = "linux")]
mod allocator;
mod architecture;
mod deploy;
mod documentation;
mod examples;
mod flows;
mod hostile;
mod json;
mod languages;
mod parrot;
mod plugin_commands;
mod progress;
mod route_tests;
mod sources;
mod tidy;
