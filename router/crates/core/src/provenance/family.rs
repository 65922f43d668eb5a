//! The headers that other tools write on dead letters.

use super::account::{Account, KnownOrigin, Writer};
use super::block::cut;
use crate::failure::Failure;
use crate::record::{Header, Headers};

/// Another tool's way to say where a dead letter came from, and why it is one.
///
/// Their headers are read with patience: a number may be text, or binary as Java writes it (big-endian with a sign, of at
/// most 8 bytes); what is missing or unreadable is not known. Digits alone are always text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Family {
    /// Spring Kafka: `kafka_original-*` and `kafka_exception-*` of its retry topics, the same with `kafka_dlt-` of its
    /// error handlers, and `retry_topic-*`.
    Spring,
    /// Kafka Connect: `__connect.errors.*`.
    Connect,
    /// Kafka Streams: `__streams.errors.*`.
    Streams,
    /// The brokers, for share groups (KIP-1191): `__dlq.errors.*`.
    ShareGroup,
}

/// What Spring puts before the names of headers about the origin.
const SPRING_ORIGINS: [&str; 2] = ["kafka_original-", "kafka_dlt-original-"];
/// What it puts before those about the exception.
const SPRING_EXCEPTIONS: [&str; 4] =
    ["kafka_exception-", "kafka_dlt-exception-", "kafka_key-exception-", "kafka_dlt-key-exception-"];
/// The rest of its headers begins with this.
const SPRING_RETRIES: &str = "retry_topic-";
/// Its count of deliveries. Records that never failed have it too.
const SPRING_DELIVERIES: &str = "kafka_deliveryAttempt";

impl Family {
    /// Every family.
    pub const ALL: [Self; 4] = [Self::Spring, Self::Connect, Self::Streams, Self::ShareGroup];

    /// The name that it is shown by.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Spring => "spring",
            Self::Connect => "connect",
            Self::Streams => "streams",
            Self::ShareGroup => "share-group",
        }
    }

    /// Whether a header of this name is one of the family: without those the record is what it was before it became a
    /// dead letter.
    #[must_use]
    pub fn owns(self, name: &[u8]) -> bool {
        self.tells(name) || self == Self::Spring && name == SPRING_DELIVERIES.as_bytes()
    }

    /// Whether a header of this name says that the record is a dead letter of this family.
    pub(super) fn tells(self, name: &[u8]) -> bool {
        let begins = |prefix: &str| name.starts_with(prefix.as_bytes());
        match self {
            Self::Spring => {
                begins(SPRING_RETRIES)
                    || begins("kafka_dlt-")
                    || SPRING_ORIGINS.into_iter().chain(SPRING_EXCEPTIONS).any(begins)
            }
            Self::Connect => begins("__connect.errors."),
            Self::Streams => begins("__streams.errors."),
            Self::ShareGroup => begins("__dlq.errors."),
        }
    }

    /// What the headers tell.
    pub(super) fn read(self, headers: Headers<'_>) -> Account {
        let find = Find(headers);
        let known = match self {
            Self::Spring => spring(find),
            Self::Connect => Account {
                origin: find.origin("__connect.errors."),
                route: find.text("__connect.errors.connector.name"),
                stage: find.text("__connect.errors.stage"),
                class: find.text("__connect.errors.exception.class.name"),
                code: find.text("__connect.errors.class.name"),
                message: find.text("__connect.errors.exception.message"),
                ..Account::default()
            },
            Self::Streams => Account {
                origin: find.origin("__streams.errors."),
                class: find.text("__streams.errors.exception"),
                message: find.text("__streams.errors.message"),
                ..Account::default()
            },
            Self::ShareGroup => Account {
                origin: find.origin("__dlq.errors."),
                route: find.text("__dlq.errors.group"),
                message: find.text("__dlq.errors.message"),
                attempts: find.count("__dlq.errors.delivery.count"),
                ..Account::default()
            },
        };
        Account { writer: Writer::Foreign(self), ..known }
    }
}

/// A record may have failed more than once: the first headers about an origin are those of the place it really came from,
/// and the last about an exception are those of the failure that made it a dead letter.
fn spring(find: Find<'_>) -> Account {
    let begins = |header: &Header<'_>, prefix: &str| header.name.starts_with(prefix.as_bytes());
    let origin = find
        .0
        .iter()
        // Of the family of names for the origin, but not about it.
        .filter(|header| !header.name.ends_with(b"-consumer-group"))
        .find_map(|header| SPRING_ORIGINS.into_iter().find(|prefix| begins(&header, prefix)));
    let exception =
        find.0.iter().rev().find_map(|header| SPRING_EXCEPTIONS.into_iter().find(|prefix| begins(&header, prefix)));
    let of = |part: &str| find.text(&format!("{}{part}", exception.unwrap_or(SPRING_EXCEPTIONS[0])));
    let origin = find.first_origin(origin.unwrap_or(SPRING_ORIGINS[0]));
    Account {
        origin: KnownOrigin {
            timestamp_ms: origin.timestamp_ms.or_else(|| find.number("retry_topic-original-timestamp")),
            ..origin
        },
        route: find.text("kafka_dlt-original-consumer-group"),
        class: of("fqcn"),
        code: of("cause-fqcn"),
        message: of("message"),
        attempts: find.count("retry_topic-attempts").or_else(|| find.count(SPRING_DELIVERIES)),
        ..Account::default()
    }
}

/// Looks headers up, the last of a name unless told otherwise.
#[derive(Clone, Copy)]
struct Find<'a>(Headers<'a>);

impl<'a> Find<'a> {
    fn first(self, name: &str) -> Option<&'a [u8]> {
        self.0.iter().find(|header| header.name == name.as_bytes())?.value
    }

    fn last(self, name: &str) -> Option<&'a [u8]> {
        self.0.last(name)?
    }

    /// Text for a person: what is not UTF-8 in it is replaced, and too much of it is cut off.
    fn text(self, name: &str) -> Option<String> {
        let bytes = self.last(name)?;
        // Four bytes at most make one character.
        let text = String::from_utf8_lossy(&bytes[..bytes.len().min(Failure::MESSAGE_MAX_BYTES + 4)]);
        Some(cut(&text, Failure::MESSAGE_MAX_BYTES).to_owned())
    }

    /// A number that is not negative.
    fn number(self, name: &str) -> Option<i64> {
        self.last(name).and_then(number)
    }

    fn count(self, name: &str) -> Option<u32> {
        self.number(name).and_then(|number| u32::try_from(number).ok())
    }

    fn origin(self, prefix: &str) -> KnownOrigin {
        origin(prefix, |name| self.last(name))
    }

    fn first_origin(self, prefix: &str) -> KnownOrigin {
        origin(prefix, |name| self.first(name))
    }
}

fn origin<'a>(prefix: &str, find: impl Fn(&str) -> Option<&'a [u8]>) -> KnownOrigin {
    let part = |name: &str| find(&format!("{prefix}{name}"));
    let of_number = |name: &str| part(name).and_then(number);
    KnownOrigin {
        topic: part("topic").and_then(|name| std::str::from_utf8(name).ok()).map(Into::into),
        partition: of_number("partition").and_then(|number| i32::try_from(number).ok()),
        offset: of_number("offset"),
        timestamp_ms: of_number("timestamp"),
    }
}

/// A number from 0, as text or as Java writes it.
fn number(bytes: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(bytes).ok().and_then(|text| text.parse().ok());
    let number = text.or_else(|| {
        let sign = bytes.first()?.cast_signed() >> 7;
        let mut number = [sign.cast_unsigned(); 8];
        number.get_mut(8_usize.checked_sub(bytes.len())?..)?.copy_from_slice(bytes);
        Some(i64::from_be_bytes(number))
    });
    number.filter(|number| *number >= 0)
}
