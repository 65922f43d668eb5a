//! What the router does for a plugin.

use std::fmt::Display;

use crate::Level;
#[cfg(target_arch = "wasm32")]
use crate::bindings::pointsman::plugin::host;
#[cfg(not(target_arch = "wasm32"))]
use crate::testing as host;

/// Writes a line to the router's log, with route, lane and plugin as fields. Take `format_args!` for a formatted one.
///
/// At most 64 lines of 1024 bytes are kept of one call; what is beyond is cut, and counted in a last line. What is said in
/// a call that traps or breaks a limit is forgotten with that call, but for the last line of level `Error` before a trap,
/// which becomes part of the failure's message.
///
/// ```
/// use pointsman_sdk::{Level, log};
///
/// log(Level::Warn, format_args!("{} is unknown", "XX"));
/// ```
pub fn log(level: Level, message: impl Display) {
    host::log(level, &message.to_string());
}

/// Adds to one of the plugin's own counters. At most 64 names, of at most 64 bytes each, are kept; what is beyond is
/// ignored, and logged once.
pub fn count(name: &str, increment: u64) {
    host::count(name, increment);
}
