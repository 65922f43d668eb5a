//! For the unit tests of plugins, which run natively: events made by hand, and what a plugin told the host.
//!
//! ```
//! use pointsman_sdk::{Level, count, log, testing};
//!
//! count("orders", 2);
//! log(Level::Warn, "odd");
//! let recorded = testing::recorded();
//! assert_eq!(recorded.counts["orders"], 2);
//! assert_eq!(recorded.lines, [(Level::Warn, "odd".to_owned())]);
//! ```

use std::cell::RefCell;
use std::collections::BTreeMap;

use crate::bindings::pointsman::plugin::types;
use crate::{Event, Header, Level};

thread_local! {
    static RECORDING: RefCell<Recorded> = const { RefCell::new(Recorded { lines: Vec::new(), counts: BTreeMap::new() }) };
}

/// What a plugin told the host. The real host's bounds do not apply.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recorded {
    /// Log lines in order.
    pub lines: Vec<(Level, String)>,
    /// Sums of the counters, by name.
    pub counts: BTreeMap<String, u64>,
}

/// Takes what was logged and counted on this thread since the last call.
#[must_use]
pub fn recorded() -> Recorded {
    RECORDING.take()
}

pub(crate) fn log(level: Level, message: &str) {
    RECORDING.with_borrow_mut(|recording| recording.lines.push((level, message.to_owned())));
}

pub(crate) fn count(name: &str, increment: u64) {
    RECORDING.with_borrow_mut(|recording| {
        let sum = recording.counts.entry(name.to_owned()).or_default();
        *sum = sum.saturating_add(increment);
    });
}

/// Events made by hand. Not there on `wasm32`.
impl Event {
    /// An event with this value, without key, headers and timestamp, on its first attempt, from offset 0 of partition 0 of
    /// the topic `test`.
    #[must_use]
    pub fn of(value: impl Into<Vec<u8>>) -> Self {
        let mut event = Self::tombstone();
        event.raw_mut().value = Some(value.into());
        event
    }

    /// An event as [`of`](Self::of) makes it, but with a null value.
    #[must_use]
    pub fn tombstone() -> Self {
        Self::from(types::Event {
            topic: "test".into(),
            partition: 0,
            offset: 0,
            timestamp: -1,
            key: None,
            value: None,
            headers: Vec::new(),
            attempt: 1,
        })
    }

    /// With this origin.
    #[must_use]
    pub fn from_origin(mut self, topic: impl Into<String>, partition: i32, offset: i64) -> Self {
        let raw = self.raw_mut();
        (raw.topic, raw.partition, raw.offset) = (topic.into(), partition, offset);
        self
    }

    /// With this key.
    #[must_use]
    pub fn with_key(mut self, key: impl Into<Vec<u8>>) -> Self {
        self.raw_mut().key = Some(key.into());
        self
    }

    /// With one more header.
    #[must_use]
    pub fn with_header(mut self, name: impl Into<String>, value: impl Into<Vec<u8>>) -> Self {
        self.raw_mut().headers.push(Header::new(name, value));
        self
    }

    /// With one more header, whose value is null.
    #[must_use]
    pub fn with_null_header(mut self, name: impl Into<String>) -> Self {
        self.raw_mut().headers.push(Header::null(name));
        self
    }

    /// With this timestamp, in milliseconds since 1970-01-01 UTC.
    #[must_use]
    pub const fn with_timestamp_ms(mut self, timestamp_ms: i64) -> Self {
        self.raw_mut().timestamp = timestamp_ms;
        self
    }

    /// On this attempt, from 1.
    #[must_use]
    pub const fn on_attempt(mut self, attempt: u32) -> Self {
        self.raw_mut().attempt = attempt;
        self
    }
}
