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

use crate::component;
use crate::event::Source;
use crate::{Event, Header, Level, Plugin, Verdict};

mod columns;

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

/// Has a plugin judge an event as in production: over the border and back, with nothing of the event but what the plugin
/// asks for ([`Plugin::FIELDS`]). (Called by hand, `process` finds all of an event.)
///
/// # Panics
/// Where the plugin gives another number of verdicts than one.
pub fn judge<P: Plugin>(plugin: &mut P, event: Event<'_>) -> Verdict {
    let verdicts = judge_batch(plugin, [event]);
    assert_eq!(verdicts.len(), 1, "one event gets one verdict");
    verdicts.into_iter().next().unwrap_or(Verdict::Pass)
}

/// Has a plugin judge a batch, as [`judge`] does. The answer is as long as the plugin's.
pub fn judge_batch<'a, P: Plugin>(plugin: &mut P, events: impl IntoIterator<Item = Event<'a>>) -> Vec<Verdict> {
    let events: Vec<_> = events.into_iter().collect();
    let batch = columns::batch(&events, P::FIELDS);
    columns::verdicts(&component::process(plugin, &batch))
}

/// An event in memory of its own.
#[derive(Clone)]
pub(crate) struct Owned {
    pub(crate) topic: String,
    pub(crate) partition: i32,
    pub(crate) offset: i64,
    pub(crate) timestamp: i64,
    pub(crate) attempt: u32,
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) value: Option<Vec<u8>>,
    pub(crate) headers: Vec<Header>,
}

/// Events made by hand. Not there on `wasm32`.
impl Event<'static> {
    /// An event with this value, without key, headers and timestamp, on its first attempt, from offset 0 of partition 0 of
    /// the topic `test`.
    #[must_use]
    pub fn of(value: impl Into<Vec<u8>>) -> Self {
        Self::tombstone().with(|event| event.value = Some(value.into()))
    }

    /// An event as [`of`](Self::of) makes it, but with a null value.
    #[must_use]
    pub fn tombstone() -> Self {
        Self(Source::Owned(Box::new(Owned {
            topic: "test".into(),
            partition: 0,
            offset: 0,
            timestamp: -1,
            attempt: 1,
            key: None,
            value: None,
            headers: Vec::new(),
        })))
    }

    /// With this origin.
    #[must_use]
    pub fn from_origin(self, topic: impl Into<String>, partition: i32, offset: i64) -> Self {
        self.with(|event| (event.topic, event.partition, event.offset) = (topic.into(), partition, offset))
    }

    /// With this key.
    #[must_use]
    pub fn with_key(self, key: impl Into<Vec<u8>>) -> Self {
        self.with(|event| event.key = Some(key.into()))
    }

    /// With one more header.
    #[must_use]
    pub fn with_header(self, name: impl Into<String>, value: impl Into<Vec<u8>>) -> Self {
        self.with(|event| event.headers.push(Header::new(name.into(), value)))
    }

    /// With one more header, whose value is null.
    #[must_use]
    pub fn with_null_header(self, name: impl Into<String>) -> Self {
        self.with(|event| event.headers.push(Header::null(name.into())))
    }

    /// With this timestamp, in milliseconds since 1970-01-01 UTC.
    #[must_use]
    pub fn with_timestamp_ms(self, timestamp_ms: i64) -> Self {
        self.with(|event| event.timestamp = timestamp_ms)
    }

    /// On this attempt, from 1.
    #[must_use]
    pub fn on_attempt(self, attempt: u32) -> Self {
        self.with(|event| event.attempt = attempt)
    }

    fn with(mut self, change: impl FnOnce(&mut Owned)) -> Self {
        if let Source::Owned(event) = &mut self.0 {
            change(event);
        }
        self
    }
}
