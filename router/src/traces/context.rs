//! W3C Trace Context, as records carry it along in their headers: <https://www.w3.org/TR/trace-context/>.

use std::fmt;

use pointsman_core::record::Headers;

/// The header that names the trace, and the span that wrote the record.
pub(crate) const TRACEPARENT: &str = "traceparent";
/// The header in which tracing systems keep what is theirs.
const TRACESTATE: &str = "tracestate";
/// Longest `tracestate` that is told to the collector, in bytes. The header itself stays as it is.
const TRACESTATE_MAX: usize = 512;

/// A trace: what began with one record, over all processes. Never zero.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct TraceId(u128);

/// A span of a trace. Never zero.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct SpanId(u64);

impl TraceId {
    /// Of these bits.
    pub(crate) fn new(bits: u128) -> Self {
        Self(bits.max(1))
    }

    /// As OTLP has it.
    pub(crate) fn bytes(self) -> [u8; 16] {
        self.0.to_be_bytes()
    }
}

impl SpanId {
    /// Of these bits.
    pub(crate) fn new(bits: u64) -> Self {
        Self(bits.max(1))
    }

    /// As OTLP has it.
    pub(crate) fn bytes(self) -> [u8; 8] {
        self.0.to_be_bytes()
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What a record says of the trace that it belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Parent {
    pub(crate) trace: TraceId,
    /// The span that wrote it.
    pub(crate) span: SpanId,
    /// Whether the trace is recorded.
    pub(crate) sampled: bool,
}

impl Parent {
    /// Reads the value of a `traceparent`; `None` where it says nothing, and the trace begins anew. Of later versions what the first
    /// has is read.
    pub(crate) fn parse(value: &[u8]) -> Option<Self> {
        let (first, rest) = value.split_at_checked(55)?;
        let version = hex(&first[..2])?;
        let dashed = [2, 35, 52].iter().all(|at| first[*at] == b'-');
        let ends = rest.is_empty() || version > 0 && rest[0] == b'-';
        if version == 0xff || !dashed || !ends {
            return None;
        }
        let (trace, span) = (hex(&first[3..35])?, hex(&first[36..52])?);
        let flags = hex(&first[53..])?;
        let span = u64::try_from(span).ok()?;
        (trace != 0 && span != 0).then_some(Self { trace: TraceId(trace), span: SpanId(span), sampled: flags & 1 == 1 })
    }
}

/// Digits as the standard has them: small ones only.
fn hex(digits: &[u8]) -> Option<u128> {
    digits.iter().try_fold(0_u128, |number, digit| {
        let value = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(number << 4 | u128::from(value))
    })
}

/// The `traceparent` of what this span writes; its trace is recorded.
pub(crate) fn traceparent(trace: TraceId, span: SpanId) -> String {
    format!("00-{trace}-{span}-01")
}

/// The value of the last `traceparent`.
pub(crate) fn parent_of(headers: Headers<'_>) -> Option<Parent> {
    headers.last(TRACEPARENT).flatten().and_then(Parent::parse)
}

/// The `tracestate` of a record that has a parent; empty where it has none that can be told.
pub(crate) fn state_of(headers: Headers<'_>) -> Box<str> {
    let value = headers.last(TRACESTATE).flatten().filter(|value| value.len() <= TRACESTATE_MAX && value.is_ascii());
    value.and_then(|value| std::str::from_utf8(value).ok()).unwrap_or_default().into()
}
