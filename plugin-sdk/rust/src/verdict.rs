//! Verdicts and outputs.

use std::borrow::Cow;
use std::time::Duration;

/// Text that is mostly known when the plugin is written, and then costs nothing.
type Text = Cow<'static, str>;

/// What becomes of one event. Of each text that gives a reason the first 1024 bytes are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It goes on unchanged.
    Pass,
    /// It ends here, on purpose. The reason is a short word of a small set, since metrics count by it.
    Drop(Text),
    /// These go on in its place, in order. An empty list ends the event, as a drop with the reason `emitted-nothing`.
    Emit(Vec<Output>),
    /// Try the whole record again later, from the first stage.
    Retry(Retry),
    /// It is not acceptable, and would not be later.
    Reject(Rejection),
}

/// A transient failure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retry {
    /// Why: a sentence for a person.
    pub reason: Text,
    /// The least delay until the next attempt, in milliseconds. The route's schedule may wait longer, and caps it.
    pub delay: Option<u64>,
}

/// A permanent failure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// The kind of failure: a short word of a small set, since metrics count by it.
    pub code: Text,
    /// A sentence for a person.
    pub message: Text,
}

/// One event that goes on in place of the one that came in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// The port it leaves by, of at most 64 bytes. `None` keeps the event's port: the default one, unless an earlier stage
    /// named one.
    pub port: Option<Text>,
    /// Key.
    pub key: Patch,
    /// Value.
    pub value: Patch,
    /// Headers in place of the event's; `None` keeps them.
    pub headers: Option<Vec<Header>>,
    /// Milliseconds since 1970-01-01 UTC, in place of the event's timestamp; `None` keeps it.
    pub timestamp: Option<i64>,
}

/// A change of a nullable field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Patch {
    /// As the event has it; costs no copy.
    Keep,
    /// Null.
    Null,
    /// These bytes.
    Set(Vec<u8>),
}

/// One header of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// Name.
    pub name: Text,
    /// Value; `None` is null, which is not the same as empty.
    pub value: Option<Vec<u8>>,
}

impl Verdict {
    /// The event goes on unchanged.
    #[must_use]
    pub const fn pass() -> Self {
        Self::Pass
    }

    /// The event ends here, on purpose. `reason` is a short word of a small set, since metrics count by it.
    #[must_use]
    pub fn drop(reason: impl Into<Cow<'static, str>>) -> Self {
        Self::Drop(reason.into())
    }

    /// These go on in place of the event, in order. None at all ends the event, as a drop with the reason
    /// `emitted-nothing`.
    #[must_use]
    pub fn emit(outputs: impl IntoIterator<Item = Output>) -> Self {
        Self::Emit(outputs.into_iter().collect())
    }

    /// A transient failure: the whole record is tried again later, from the first stage, on the route's schedule. `reason`
    /// is a sentence for a person.
    #[must_use]
    pub fn retry(reason: impl Into<Cow<'static, str>>) -> Self {
        Self::Retry(Retry { reason: reason.into(), delay: None })
    }

    /// [`retry`](Self::retry), but not before `delay` has passed (in whole milliseconds). The route's schedule may wait
    /// longer, and caps it.
    #[must_use]
    pub fn retry_after(delay: Duration, reason: impl Into<Cow<'static, str>>) -> Self {
        let delay = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
        Self::Retry(Retry { reason: reason.into(), delay: Some(delay) })
    }

    /// A permanent failure: the event is not acceptable, and would not be later. `code` is a short word of a small set,
    /// since metrics count by it; `message` is a sentence for a person.
    #[must_use]
    pub fn reject(code: impl Into<Cow<'static, str>>, message: impl Into<Cow<'static, str>>) -> Self {
        Self::Reject(Rejection { code: code.into(), message: message.into() })
    }
}

/// Lets a judgement use `?` for what ends it early.
///
/// ```
/// use pointsman_sdk::{Event, Verdict};
///
/// fn judge(event: &Event) -> Result<Verdict, Verdict> {
///     let value = event.value().ok_or_else(|| Verdict::drop("tombstone"))?;
///     Ok(if value.is_empty() { Verdict::reject("empty", "the value is empty") } else { Verdict::pass() })
/// }
///
/// assert_eq!(Verdict::from(judge(&Event::tombstone())), Verdict::drop("tombstone"));
/// ```
impl From<Result<Verdict, Verdict>> for Verdict {
    fn from(judged: Result<Verdict, Verdict>) -> Self {
        match judged {
            Ok(verdict) | Err(verdict) => verdict,
        }
    }
}

impl Output {
    /// The event as it is. What the methods below do not name stays as the event has it, and costs no copy.
    #[must_use]
    pub const fn unchanged() -> Self {
        Self { port: None, key: Patch::Keep, value: Patch::Keep, headers: None, timestamp: None }
    }

    /// The event as it is, by this port.
    ///
    /// ```
    /// use pointsman_sdk::{Output, Verdict};
    ///
    /// let verdict = Verdict::emit([Output::to_port("eu").value("{}"), Output::to_port("audit")]);
    /// ```
    #[must_use]
    pub fn to_port(port: impl Into<Cow<'static, str>>) -> Self {
        Self { port: Some(port.into()), ..Self::unchanged() }
    }

    /// With this key.
    #[must_use]
    pub fn key(mut self, key: impl Into<Vec<u8>>) -> Self {
        self.key = Patch::Set(key.into());
        self
    }

    /// With a null key.
    #[must_use]
    pub fn no_key(mut self) -> Self {
        self.key = Patch::Null;
        self
    }

    /// With this value.
    #[must_use]
    pub fn value(mut self, value: impl Into<Vec<u8>>) -> Self {
        self.value = Patch::Set(value.into());
        self
    }

    /// With a null value: a tombstone.
    #[must_use]
    pub fn tombstone(mut self) -> Self {
        self.value = Patch::Null;
        self
    }

    /// With these headers in place of the event's. To add to them, begin with those of the event:
    ///
    /// ```
    /// use pointsman_sdk::{Event, Header, Output};
    ///
    /// let event = Event::of("{}").with_header("a", "1");
    /// let headers = event.headers().map(Header::from).chain([Header::new("b", "2")]);
    /// let output = Output::unchanged().headers(headers);
    /// assert_eq!(output.headers.unwrap().len(), 2);
    /// ```
    #[must_use]
    pub fn headers(mut self, headers: impl IntoIterator<Item = Header>) -> Self {
        self.headers = Some(headers.into_iter().collect());
        self
    }

    /// With this timestamp, in milliseconds since 1970-01-01 UTC.
    #[must_use]
    pub const fn timestamp_ms(mut self, timestamp_ms: i64) -> Self {
        self.timestamp = Some(timestamp_ms);
        self
    }
}

impl Header {
    /// A header with a value.
    #[must_use]
    pub fn new(name: impl Into<Cow<'static, str>>, value: impl Into<Vec<u8>>) -> Self {
        Self { name: name.into(), value: Some(value.into()) }
    }

    /// A header with a null value.
    #[must_use]
    pub fn null(name: impl Into<Cow<'static, str>>) -> Self {
        Self { name: name.into(), value: None }
    }
}

impl From<(&str, Option<&[u8]>)> for Header {
    fn from((name, value): (&str, Option<&[u8]>)) -> Self {
        Self { name: Cow::Owned(name.to_owned()), value: value.map(Into::into) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_output_changes_only_what_is_named() {
        let Output { port, key, value, headers, timestamp } = Output::unchanged();
        assert_eq!((port, key, value, headers, timestamp), (None, Patch::Keep, Patch::Keep, None, None));
        assert_eq!(
            Output::to_port("eu").no_key().value("v").headers([Header::null("h")]).timestamp_ms(7),
            Output {
                port: Some("eu".into()),
                key: Patch::Null,
                value: Patch::Set(b"v".to_vec()),
                headers: Some(vec![Header { name: "h".into(), value: None }]),
                timestamp: Some(7),
            }
        );
        assert_eq!(Output::unchanged().key("k").tombstone().key, Patch::Set(b"k".to_vec()));
        assert_eq!(Output::unchanged().key("k").tombstone().value, Patch::Null);
    }

    #[test]
    fn a_delay_is_told_in_milliseconds_and_never_wraps() {
        let delay = |delay| match Verdict::retry_after(delay, "r") {
            Verdict::Retry(Retry { delay, .. }) => delay,
            _ => None,
        };
        assert_eq!(delay(Duration::from_secs(2)), Some(2000));
        assert_eq!(delay(Duration::MAX), Some(u64::MAX));
        assert_eq!(Verdict::retry("r"), Verdict::Retry(Retry { reason: "r".into(), delay: None }));
    }
}
