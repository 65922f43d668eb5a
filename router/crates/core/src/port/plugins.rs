//! The sandbox of the plugins.

use std::time::Duration;

use thiserror::Error;

use crate::event::Event;
use crate::failure::FailureClass;
use crate::verdict::Verdicts;

/// Index of a plugin in the plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PluginId(pub u32);

/// Runs plugins. Owned by one worker.
pub trait PluginHost {
    /// Hands `events`, at least one, to the plugin in one call. The answer holds exactly one verdict for each event, in
    /// order. `now_ms` is the time of the batch, in milliseconds since 1970-01-01 UTC.
    ///
    /// An instance that did not return cleanly is thrown away, with the log lines and counts of that call. A call with one
    /// event that fails on an instance which has made calls before is made once more, on a new one: only what fails there
    /// is the event's own fault.
    ///
    /// # Errors
    /// [`CallError`].
    fn call(&mut self, plugin: PluginId, events: &[Event<'_>], now_ms: i64) -> Result<Verdicts, CallError>;

    /// What the last call has cost; `None` before the first, and where the host does not measure it.
    fn last_cost(&self) -> Option<Cost> {
        None
    }

    /// Hands `see` what plugins have counted since the last time, in calls that returned cleanly: plugin, name of the
    /// counter, sum. The number of names is bounded.
    fn take_counts(&mut self, see: &mut dyn FnMut(PluginId, &str, u64));
}

/// What a call of a plugin has cost, whether or not it returned cleanly. The start of an instance is not in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// CPU time of the calling thread, the events' way in and the verdicts' way out included.
    pub cpu: Duration,
    /// Bytes of keys, values and headers that were shown to the plugin.
    pub bytes_in: u64,
    /// Bytes of what it gave back: keys, values, headers, names and reasons.
    pub bytes_out: u64,
    /// How many times the plugin was called: twice where it was called once more on a new instance.
    pub tries: u32,
}

/// Why a call gave no verdicts.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum CallError {
    /// One of the events did it, or all of them together.
    #[error("{message} ({class}: {code})")]
    Guest {
        /// One of trap, deadline, memory and bad-output.
        class: FailureClass,
        /// A short word, such as a trap's name.
        code: String,
        /// A sentence that names the plugin and the limit.
        message: String,
        /// The event of the call, counted from 0, that the plugin says it was at. A guest says so: it may be wrong, or none
        /// of the call's.
        suspect: Option<usize>,
    },
    /// No instance can be had, which says nothing about the events: try again later.
    #[error("{message}")]
    Unavailable {
        /// A sentence that names the plugin and the cause.
        message: String,
    },
}
