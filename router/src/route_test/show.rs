//! Records, verdicts and fates as a person reads them.

use pointsman_core::event::Event;
use pointsman_core::provenance::cut;
use pointsman_core::record::{Headers, OwnedRecord};
use pointsman_core::verdict::Verdict;

use super::case::{ExpectedFate, MeantFor, Says, Want};
use crate::counters::Fate;
use crate::lane::Why;

/// Longest text that is shown of a key or a value, in bytes.
const SHOWN_BYTES: usize = 400;

/// Text as text, in quotes unless it is JSON; other bytes escaped.
pub(super) fn bytes(bytes: Option<&[u8]>) -> String {
    let Some(bytes) = bytes else { return "null".to_owned() };
    match std::str::from_utf8(bytes) {
        Ok(text) if text.starts_with(['{', '[']) => limited(text),
        Ok(text) => limited(&format!("{text:?}")),
        Err(_) => limited(&format!("the bytes {}", bytes.escape_ascii())),
    }
}

fn limited(text: &str) -> String {
    let shown = cut(text, SHOWN_BYTES);
    if shown.len() == text.len() { text.to_owned() } else { format!("{shown}… ({} bytes)", text.len()) }
}

pub(super) fn want(want: &Want) -> String {
    match want {
        Want::Any => "anything".to_owned(),
        Want::Null => bytes(None),
        Want::Bytes(wanted) => bytes(Some(wanted)),
    }
}

pub(super) fn headers(headers: Headers<'_>) -> String {
    let shown: Vec<String> =
        headers.iter().map(|header| format!("{} = {}", header.name.escape_ascii(), bytes(header.value))).collect();
    format!("[{}]", shown.join(", "))
}

pub(super) fn record(record: &OwnedRecord) -> String {
    let mut text = format!("key {}, value {}", bytes(record.key.as_deref()), bytes(record.value.as_deref()));
    if !record.headers.is_empty() {
        text.push_str(&format!(", headers {}", headers(Headers::Owned(&record.headers))));
    }
    text
}

pub(super) fn event(event: &Event<'_>) -> String {
    let Event { topic, partition, offset, attempt, .. } = event;
    format!("{topic}/{partition} offset {offset}, key {}, attempt {attempt}", bytes(event.key))
}

/// What became of a record.
pub(super) fn fate(fate: Fate, why: &Why) -> String {
    match why {
        Why::Routed { .. } => fate.name().to_owned(),
        Why::Reason(reason) => format!("{} ({reason})", fate.name()),
        Why::Failure(failure) => {
            format!("{} ({}, {}: {})", fate.name(), failure.class, failure.code, limited(&failure.message))
        }
    }
}

/// What was to become of it.
pub(super) fn expected_fate(expected: &ExpectedFate) -> String {
    let name = expected.fate.map_or(UNSETTLED, Fate::name);
    let details: Vec<String> =
        [expected.reason.clone(), expected.class.map(|class| class.to_string()), expected.code.clone()]
            .into_iter()
            .flatten()
            .collect();
    if details.is_empty() { name.to_owned() } else { format!("{name} ({})", details.join(", ")) }
}

/// What a record without a fate is called.
pub(super) const UNSETTLED: &str = "unsettled";

/// A verdict by hand, as far as it tells it from others.
pub(super) fn verdict(meant_for: &MeantFor, says: &Says) -> String {
    let says = match says {
        Says::Fails(class) => class.to_string(),
        Says::Verdict(Verdict::Pass) => "pass".to_owned(),
        Says::Verdict(Verdict::Drop { reason }) => format!("drop {reason:?}"),
        Says::Verdict(Verdict::Retry { reason, .. }) => format!("retry {reason:?}"),
        Says::Verdict(Verdict::Reject { code, .. }) => format!("reject {code:?}"),
        Says::Verdict(Verdict::Emit(outputs)) => format!("emit {}", outputs.len()),
    };
    match meant_for {
        MeantFor::When(condition) => format!("{says} when {}", condition.text()),
        MeantFor::Once | MeantFor::Always => says,
    }
}
