//! An event, read without copying.

use crate::bindings::pointsman::plugin::types;

/// One event: a record of a source topic, or what an earlier stage made of it.
///
/// [`topic`](Self::topic), [`partition`](Self::partition) and [`offset`](Self::offset) together name the record it comes
/// from, for ever: a retried event has those of its source topic, not of the retry topic.
#[derive(Clone, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub struct Event(types::Event);

impl Event {
    /// Topic of the origin.
    #[must_use]
    pub fn topic(&self) -> &str {
        &self.0.topic
    }

    /// Partition of the origin.
    #[must_use]
    pub const fn partition(&self) -> i32 {
        self.0.partition
    }

    /// Offset of the origin.
    #[must_use]
    pub const fn offset(&self) -> i64 {
        self.0.offset
    }

    /// Milliseconds since 1970-01-01 UTC; `None` where the log has no timestamp.
    #[must_use]
    pub const fn timestamp_ms(&self) -> Option<i64> {
        match self.0.timestamp {
            -1 => None,
            timestamp => Some(timestamp),
        }
    }

    /// Key. `None` is null, which is not the same as empty.
    #[must_use]
    pub fn key(&self) -> Option<&[u8]> {
        self.0.key.as_deref()
    }

    /// Value; `None` is a tombstone.
    #[must_use]
    pub fn value(&self) -> Option<&[u8]> {
        self.0.value.as_deref()
    }

    /// Whether the value is null: in a compacted topic, the deletion of the key.
    #[must_use]
    pub const fn is_tombstone(&self) -> bool {
        self.0.value.is_none()
    }

    /// Headers in order, as name and value. A name may come several times, and a value may be null.
    pub fn headers(&self) -> impl DoubleEndedIterator<Item = (&str, Option<&[u8]>)> {
        self.0.headers.iter().map(|header| (header.name.as_str(), header.value.as_deref()))
    }

    /// Value of the last header of this name, as Kafka's own clients look headers up. `Some(None)` is a header with a null
    /// value.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<Option<&[u8]>> {
        self.headers().rev().find(|(candidate, _)| *candidate == name).map(|(_, value)| value)
    }

    /// Value of the last header of this name as text. `None` where there is no such header, its value is null, or it is
    /// not UTF-8.
    #[must_use]
    pub fn header_text(&self, name: &str) -> Option<&str> {
        str::from_utf8(self.header(name)??).ok()
    }

    /// 1 on the first run of this event, 2 on its first retry, and so on.
    #[must_use]
    pub const fn attempt(&self) -> u32 {
        self.0.attempt
    }

    #[cfg(not(target_arch = "wasm32"))]
    pub(crate) const fn raw_mut(&mut self) -> &mut types::Event {
        &mut self.0
    }
}

impl From<types::Event> for Event {
    fn from(event: types::Event) -> Self {
        Self(event)
    }
}

impl From<Event> for types::Event {
    fn from(event: Event) -> Self {
        event.0
    }
}

#[cfg(test)]
mod tests {
    use crate::Event;

    #[test]
    fn the_last_header_of_a_name_counts_and_null_is_not_absent() {
        let event =
            Event::of("v").with_header("a", "1").with_null_header("n").with_header("a", "2").with_header("b", [0xff]);
        assert_eq!(event.header("a"), Some(Some(b"2".as_slice())));
        assert_eq!(event.header_text("a"), Some("2"));
        assert_eq!((event.header("n"), event.header_text("n")), (Some(None), None));
        assert_eq!((event.header("x"), event.header_text("x")), (None, None));
        assert_eq!(event.header_text("b"), None);
        assert_eq!(event.headers().map(|(name, _)| name).collect::<Vec<_>>(), ["a", "n", "a", "b"]);
    }

    #[test]
    fn null_and_empty_are_different() {
        assert_eq!((Event::of("").value(), Event::of("").is_tombstone()), (Some(b"".as_slice()), false));
        assert_eq!((Event::tombstone().value(), Event::tombstone().is_tombstone()), (None, true));
        assert_eq!((Event::of("").key(), Event::of("").with_key("").key()), (None, Some(b"".as_slice())));
        assert_eq!((Event::of("").timestamp_ms(), Event::of("").with_timestamp_ms(0).timestamp_ms()), (None, Some(0)));
    }
}
