//! What a log holds: records at a topic, partition and offset.

use std::fmt;
use std::sync::Arc;

use crate::provenance::name;

/// One partition of one topic.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicPartition {
    /// Name of the topic.
    pub topic: Arc<str>,
    /// Partition number, from 0.
    pub partition: i32,
}

impl TopicPartition {
    /// Names a partition.
    pub fn new(topic: impl Into<Arc<str>>, partition: i32) -> Self {
        Self { topic: topic.into(), partition }
    }
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.topic, self.partition)
    }
}

/// One header. Kafka allows duplicate names, null values, and bytes that are not UTF-8.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header<'a> {
    /// Name, as bytes: a name that is not UTF-8 makes its record undecodable, not lost.
    pub name: &'a [u8],
    /// Value; null is not the same as empty.
    pub value: Option<&'a [u8]>,
}

impl Header<'_> {
    /// Whether the name is UTF-8. Nearly all are ASCII, which is found out in fewer steps.
    #[must_use]
    #[inline]
    pub fn is_name_text(&self) -> bool {
        self.name.is_ascii() || std::str::from_utf8(self.name).is_ok()
    }

    /// Whether the name is ASCII, and not one of [ours](name::PREFIX): then there is nothing to be found out of it. As are nearly all.
    #[must_use]
    #[inline]
    pub fn is_plain(&self) -> bool {
        self.name.is_ascii() && !self.name.starts_with(name::PREFIX.as_bytes())
    }

    /// Bytes of name and value.
    #[inline]
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.name.len() + self.value.map_or(0, <[u8]>::len)
    }
}

/// One header that owns its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnedHeader {
    /// See [`Header::name`].
    pub name: Box<[u8]>,
    /// See [`Header::value`].
    pub value: Option<Box<[u8]>>,
}

impl OwnedHeader {
    /// A header with a text value.
    pub fn text(name: &str, value: impl Into<String>) -> Self {
        Self { name: name.as_bytes().into(), value: Some(value.into().into_bytes().into_boxed_slice()) }
    }

    /// Borrows this header.
    #[must_use]
    pub fn as_header(&self) -> Header<'_> {
        Header { name: &self.name, value: self.value.as_deref() }
    }
}

impl From<Header<'_>> for OwnedHeader {
    fn from(header: Header<'_>) -> Self {
        Self { name: header.name.into(), value: header.value.map(Into::into) }
    }
}

/// The headers of a record, in order, wherever their bytes are.
#[derive(Clone, Copy, Debug)]
pub enum Headers<'a> {
    /// In a client library's buffer.
    Borrowed(&'a [Header<'a>]),
    /// The same, where whoever read them has seen that each is [plain](Header::is_plain).
    Plain(&'a [Header<'a>]),
    /// In memory of our own.
    Owned(&'a [OwnedHeader]),
}

impl<'a> Headers<'a> {
    /// No headers.
    pub const NONE: Self = Self::Borrowed(&[]);

    /// Number of headers.
    #[must_use]
    pub const fn len(&self) -> usize {
        match self {
            Self::Borrowed(headers) | Self::Plain(headers) => headers.len(),
            Self::Owned(headers) => headers.len(),
        }
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The header at `index`.
    #[must_use]
    pub fn get(&self, index: usize) -> Option<Header<'a>> {
        match self {
            Self::Borrowed(headers) | Self::Plain(headers) => headers.get(index).copied(),
            Self::Owned(headers) => headers.get(index).map(OwnedHeader::as_header),
        }
    }

    /// The headers in order.
    #[inline]
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = Header<'a>> + use<'a> {
        let (borrowed, owned): (&[Header<'a>], &[OwnedHeader]) = match self {
            Self::Borrowed(headers) | Self::Plain(headers) => (headers, &[]),
            Self::Owned(headers) => (&[], headers),
        };
        borrowed.iter().copied().chain(owned.iter().map(OwnedHeader::as_header))
    }

    /// The value of the last header called `name`, as Kafka's own clients look headers up; `Some(None)` is a null value.
    #[must_use]
    pub fn last(&self, name: &str) -> Option<Option<&'a [u8]>> {
        self.iter().rev().find(|header| header.name == name.as_bytes()).map(|header| header.value)
    }

    /// The first `count` headers.
    #[must_use]
    pub fn prefix(&self, count: usize) -> Self {
        match self {
            Self::Borrowed(headers) => Self::Borrowed(&headers[..count.min(headers.len())]),
            Self::Plain(headers) => Self::Plain(&headers[..count.min(headers.len())]),
            Self::Owned(headers) => Self::Owned(&headers[..count.min(headers.len())]),
        }
    }

    /// Copies the headers.
    #[must_use]
    pub fn to_owned(&self) -> Vec<OwnedHeader> {
        self.iter().map(OwnedHeader::from).collect()
    }

    /// Bytes of names and values.
    #[inline]
    #[must_use]
    pub fn bytes(&self) -> usize {
        match self {
            Self::Borrowed(headers) | Self::Plain(headers) => headers.iter().map(Header::bytes).sum(),
            Self::Owned(headers) => headers.iter().map(|header| header.as_header().bytes()).sum(),
        }
    }

    /// Whether all are known to be [plain](Header::is_plain).
    #[must_use]
    #[inline]
    pub const fn are_plain(&self) -> bool {
        matches!(self, Self::Plain(_))
    }

    /// The first header whose name is not UTF-8.
    #[must_use]
    #[inline]
    pub fn first_undecodable(&self) -> Option<Header<'a>> {
        match self {
            Self::Plain(_) => None,
            Self::Borrowed(headers) => headers.iter().copied().find(|header| !header.is_name_text()),
            Self::Owned(headers) => headers.iter().map(OwnedHeader::as_header).find(|header| !header.is_name_text()),
        }
    }
}

/// One record, borrowed from the buffer it was fetched into.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// Position in its partition.
    pub offset: i64,
    /// Milliseconds since 1970-01-01 UTC; -1 where the log has none.
    pub timestamp_ms: i64,
    /// Key; null and empty are different.
    pub key: Option<&'a [u8]>,
    /// Value; null is a tombstone, and is data.
    pub value: Option<&'a [u8]>,
    /// Headers in order.
    pub headers: Headers<'a>,
}

impl Record<'_> {
    /// Bytes of key, value and headers.
    #[inline]
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.key.map_or(0, <[u8]>::len) + self.value.map_or(0, <[u8]>::len) + self.headers.bytes()
    }
}

/// One record that owns its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnedRecord {
    /// See [`Record::offset`].
    pub offset: i64,
    /// See [`Record::timestamp_ms`].
    pub timestamp_ms: i64,
    /// See [`Record::key`].
    pub key: Option<Vec<u8>>,
    /// See [`Record::value`].
    pub value: Option<Vec<u8>>,
    /// See [`Record::headers`].
    pub headers: Vec<OwnedHeader>,
}

impl OwnedRecord {
    /// Borrows this record.
    #[must_use]
    pub fn as_record(&self) -> Record<'_> {
        Record {
            offset: self.offset,
            timestamp_ms: self.timestamp_ms,
            key: self.key.as_deref(),
            value: self.value.as_deref(),
            headers: Headers::Owned(&self.headers),
        }
    }
}

impl From<Record<'_>> for OwnedRecord {
    fn from(record: Record<'_>) -> Self {
        Self {
            offset: record.offset,
            timestamp_ms: record.timestamp_ms,
            key: record.key.map(Into::into),
            value: record.value.map(Into::into),
            headers: record.headers.to_owned(),
        }
    }
}
