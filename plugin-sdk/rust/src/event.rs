//! An event, read without copying.

use std::fmt;

use crate::Fields;
#[cfg(not(target_arch = "wasm32"))]
use crate::testing::Owned;

/// One event: a record of a source topic, or what an earlier stage made of it.
///
/// [`topic`](Self::topic), [`partition`](Self::partition) and [`offset`](Self::offset) together name the record it comes
/// from, for ever: a retried event has those of its source topic, not of the retry topic.
///
/// Key, value and headers are there as far as the plugin has asked for them
/// ([`Plugin::FIELDS`](crate::Plugin::FIELDS), which is all unless it says otherwise).
#[derive(Clone)]
pub struct Event<'a>(pub(crate) Source<'a>);

/// Where an event is.
#[derive(Clone)]
pub(crate) enum Source<'a> {
    /// In the columns that the router has handed over.
    Batch(InBatch<'a>),
    /// In memory of its own: made by hand, for a test.
    #[cfg(not(target_arch = "wasm32"))]
    Owned(Box<Owned>),
}

/// What the events of a batch share.
pub(crate) struct Shared<'a> {
    pub(crate) topic: &'a str,
    pub(crate) partition: i32,
    /// What was asked for.
    pub(crate) fields: Fields,
}

/// One event of a batch.
#[derive(Clone, Copy)]
pub(crate) struct InBatch<'a> {
    pub(crate) shared: &'a Shared<'a>,
    pub(crate) offset: i64,
    pub(crate) timestamp: i64,
    pub(crate) attempt: u32,
    pub(crate) key: Option<&'a [u8]>,
    pub(crate) value: Option<&'a [u8]>,
    pub(crate) headers: InColumns<'a>,
}

impl Event<'_> {
    /// Topic of the origin.
    #[must_use]
    pub fn topic(&self) -> &str {
        match &self.0 {
            Source::Batch(event) => event.shared.topic,
            #[cfg(not(target_arch = "wasm32"))]
            Source::Owned(event) => &event.topic,
        }
    }

    /// Partition of the origin.
    #[must_use]
    pub fn partition(&self) -> i32 {
        match &self.0 {
            Source::Batch(event) => event.shared.partition,
            #[cfg(not(target_arch = "wasm32"))]
            Source::Owned(event) => event.partition,
        }
    }

    /// Offset of the origin.
    #[must_use]
    pub fn offset(&self) -> i64 {
        match &self.0 {
            Source::Batch(event) => event.offset,
            #[cfg(not(target_arch = "wasm32"))]
            Source::Owned(event) => event.offset,
        }
    }

    /// Milliseconds since 1970-01-01 UTC; `None` where the log has no timestamp.
    #[must_use]
    pub fn timestamp_ms(&self) -> Option<i64> {
        let timestamp = match &self.0 {
            Source::Batch(event) => event.timestamp,
            #[cfg(not(target_arch = "wasm32"))]
            Source::Owned(event) => event.timestamp,
        };
        (timestamp != -1).then_some(timestamp)
    }

    /// Key. `None` is null, which is not the same as empty.
    ///
    /// # Panics
    /// If the plugin has not asked for [`Fields::KEY`].
    #[must_use]
    pub fn key(&self) -> Option<&[u8]> {
        self.must_have(Fields::KEY);
        match &self.0 {
            Source::Batch(event) => event.key,
            #[cfg(not(target_arch = "wasm32"))]
            Source::Owned(event) => event.key.as_deref(),
        }
    }

    /// Value; `None` is a tombstone.
    ///
    /// # Panics
    /// If the plugin has not asked for [`Fields::VALUE`].
    #[must_use]
    pub fn value(&self) -> Option<&[u8]> {
        self.must_have(Fields::VALUE);
        match &self.0 {
            Source::Batch(event) => event.value,
            #[cfg(not(target_arch = "wasm32"))]
            Source::Owned(event) => event.value.as_deref(),
        }
    }

    /// Whether the value is null: in a compacted topic, the deletion of the key.
    ///
    /// # Panics
    /// As [`value`](Self::value).
    #[must_use]
    pub fn is_tombstone(&self) -> bool {
        self.value().is_none()
    }

    /// Headers in order, as name and value. A name may come several times, and a value may be null.
    ///
    /// # Panics
    /// If the plugin has not asked for [`Fields::HEADERS`].
    pub fn headers(&self) -> impl Iterator<Item = (&str, Option<&[u8]>)> {
        self.named().map(|(name, value)| {
            // The router has seen to it that they are text.
            (str::from_utf8(name).unwrap_or_default(), value)
        })
    }

    /// Value of the last header of this name, as Kafka's own clients look headers up. `Some(None)` is a header with a null
    /// value.
    ///
    /// # Panics
    /// As [`headers`](Self::headers).
    #[must_use]
    pub fn header(&self, name: &str) -> Option<Option<&[u8]>> {
        self.named().filter(|(candidate, _)| is_same(candidate, name.as_bytes())).last().map(|(_, value)| value)
    }

    /// Value of the last header of this name as text. `None` where there is no such header, its value is null, or it is
    /// not UTF-8.
    ///
    /// # Panics
    /// As [`headers`](Self::headers).
    #[must_use]
    pub fn header_text(&self, name: &str) -> Option<&str> {
        str::from_utf8(self.header(name)??).ok()
    }

    /// 1 on the first run of this event, 2 on its first retry, and so on.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        match &self.0 {
            Source::Batch(event) => event.attempt,
            #[cfg(not(target_arch = "wasm32"))]
            Source::Owned(event) => event.attempt,
        }
    }

    fn named(&self) -> Named<'_> {
        self.must_have(Fields::HEADERS);
        match &self.0 {
            Source::Batch(event) => Named::InColumns(event.headers),
            #[cfg(not(target_arch = "wasm32"))]
            Source::Owned(event) => Named::Owned(event.headers.iter()),
        }
    }

    fn must_have(&self, field: Fields) {
        let has = match &self.0 {
            Source::Batch(event) => event.shared.fields.contains(field),
            #[cfg(not(target_arch = "wasm32"))]
            Source::Owned(_) => true,
        };
        #[allow(
            clippy::panic,
            reason = "to give out null or nothing in place of what was not asked for would be a lie"
        )]
        if !has {
            panic!("this plugin looks at a field that it has not asked for: add {field:?} to its `FIELDS`");
        }
    }
}

impl fmt::Debug for Event<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let origin = (self.topic(), self.partition(), self.offset());
        f.debug_struct("Event").field("origin", &origin).field("attempt", &self.attempt()).finish_non_exhaustive()
    }
}

/// The headers of an event of a batch: of each the length of its name and of its value, and the bytes.
#[derive(Clone, Copy, Default)]
pub(crate) struct InColumns<'a> {
    pub(crate) lengths: &'a [u32],
    pub(crate) bytes: &'a [u8],
}

/// The headers of an event.
enum Named<'a> {
    InColumns(InColumns<'a>),
    #[cfg(not(target_arch = "wasm32"))]
    Owned(std::slice::Iter<'a, crate::Header>),
}

impl<'a> Iterator for Named<'a> {
    type Item = (&'a [u8], Option<&'a [u8]>);

    fn next(&mut self) -> Option<Self::Item> {
        match self {
            Self::InColumns(InColumns { lengths, bytes }) => {
                let (&[name, value], rest) = lengths.split_first_chunk()?;
                *lengths = rest;
                Some((take(bytes, name).unwrap_or_default(), take(bytes, value)))
            }
            #[cfg(not(target_arch = "wasm32"))]
            Self::Owned(headers) => headers.next().map(|header| (header.name.as_bytes(), header.value.as_deref())),
        }
    }
}

/// Takes a field of this length off the front of `bytes`; null has a length of its own.
pub(crate) fn take<'a>(bytes: &mut &'a [u8], length: u32) -> Option<&'a [u8]> {
    if length == NULL {
        return None;
    }
    let (field, rest) = bytes.split_at(length as usize);
    *bytes = rest;
    Some(field)
}

/// Whether two names are the same: by eight bytes at a time, where what WebAssembly has to compare memory with takes one.
fn is_same(a: &[u8], b: &[u8]) -> bool {
    if a.len() != b.len() {
        return false;
    }
    match (a.last_chunk::<WORD>(), b.last_chunk::<WORD>()) {
        // Word by word: two slices of words would be compared as memory.
        (Some(last), Some(other)) => {
            last == other && a.as_chunks::<WORD>().0.iter().zip(b.as_chunks::<WORD>().0).all(|(a, b)| a == b)
        }
        _ => a.iter().eq(b),
    }
}

const WORD: usize = 8;

/// The length of what is null.
pub(crate) const NULL: u32 = u32::MAX;

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
    fn names_are_compared_whole() {
        let name = "0123456789abcdefghijklmnopqrstuvwxyz";
        for length in 0..name.len() {
            let name = &name[..length];
            let event = Event::of("v").with_header(name, "1");
            assert_eq!(event.header_text(name), Some("1"), "{name}");
            for place in 0..length {
                let mut other = name.to_owned();
                other.replace_range(place..=place, "_");
                assert_eq!(event.header(&other), None, "{name} is not {other}");
            }
        }
    }

    #[test]
    fn null_and_empty_are_different() {
        assert_eq!((Event::of("").value(), Event::of("").is_tombstone()), (Some(b"".as_slice()), false));
        assert_eq!((Event::tombstone().value(), Event::tombstone().is_tombstone()), (None, true));
        assert_eq!((Event::of("").key(), Event::of("").with_key("").key()), (None, Some(b"".as_slice())));
        assert_eq!((Event::of("").timestamp_ms(), Event::of("").with_timestamp_ms(0).timestamp_ms()), (None, Some(0)));
    }
}
