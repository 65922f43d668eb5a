//! Tests of one plugin, without any route: what it says of sample events, in the sandbox that production has.
//!
//! A verdict is told as one line of JSON:
//!
//! ```json
//! "pass"
//! {"drop":"too-old"}
//! {"emit":[{"port":"eu","value":"{}"},{"key":null,"headers":[["a","1"]],"timestamp":7}]}
//! {"retry":{"delay_ms":5000,"reason":"the stock is not known yet"}}
//! {"reject":{"code":"no-id","message":"the order has no id"}}
//! {"fails":{"class":"trap","code":"panic"}}
//! ```
//!
//! An output has what it changes; bytes have the forms of [`record_text`](crate::record_text).

use std::ops::Range;

use pointsman_core::event::Event;
use pointsman_core::port::{CallError, PluginHost, PluginId};
use pointsman_core::record::Headers;
use pointsman_core::verdict::{Output, Patch, Verdict};
use serde_json::{Map, Value, json};
use thiserror::Error;

use crate::record_text::{RecordLine, bytes_form};

/// Events of one call, when all are judged again in batches.
const BATCH: usize = 256;

/// The plugin can't be tested.
#[derive(Debug, PartialEq, Eq, Error)]
pub enum Trouble {
    /// An event that no plugin would get.
    #[error("event {number} has a header whose name is not UTF-8, and such a record never reaches a plugin; remove it")]
    HeaderName {
        /// Number of the event, from 1.
        number: usize,
    },
    /// No instance can be had.
    #[error("{0}")]
    Unavailable(String),
    /// It judges an event otherwise, depending on the events that were judged before.
    #[error(
        "event {number} is judged {alone} when it comes alone, and {among} among others: a plugin must not let a verdict \
         depend on what it has seen before"
    )]
    Unsteady {
        /// Number of the event, from 1.
        number: usize,
        /// Verdict of the event alone.
        alone: String,
        /// Verdict in a batch.
        among: String,
    },
}

/// Has the only plugin of `host` judge each event alone, and gives a line for each. `now_ms` is the time, in milliseconds
/// since 1970-01-01 UTC. If all end well, they are judged once more in batches, which must come to the same.
///
/// # Errors
/// [`Trouble`].
pub fn judge(host: &mut dyn PluginHost, lines: &[RecordLine], now_ms: i64) -> Result<Vec<String>, Trouble> {
    let events = events(lines)?;
    let mut said = Vec::with_capacity(events.len());
    let mut clean = true;
    for event in &events {
        said.push(match host.call(PluginId(0), std::slice::from_ref(event), now_ms) {
            Ok(verdicts) => verdict_line(&verdicts.into_vec().pop().unwrap_or(Verdict::Pass)),
            Err(CallError::Guest { class, code, .. }) => {
                clean = false;
                json!({"fails": {"class": class.name(), "code": code}}).to_string()
            }
            Err(CallError::Unavailable { message }) => return Err(Trouble::Unavailable(message)),
        });
    }
    if clean {
        for batch in batches(&events) {
            let first = batch.start;
            let among = match host.call(PluginId(0), &events[batch], now_ms) {
                Ok(verdicts) => verdicts.into_vec().iter().map(verdict_line).collect(),
                Err(error) => vec![error.to_string()],
            };
            if let Some((index, among)) = among.iter().enumerate().find(|(index, line)| **line != said[first + index]) {
                let (number, alone) = (first + index + 1, said[first + index].clone());
                return Err(Trouble::Unsteady { number, alone, among: among.clone() });
            }
        }
    }
    Ok(said)
}

/// The events of these lines, each with what its line leaves out.
///
/// # Errors
/// [`Trouble::HeaderName`].
pub(crate) fn events(lines: &[RecordLine]) -> Result<Vec<Event<'_>>, Trouble> {
    if let Some(index) = lines.iter().position(|line| line.headers.iter().any(|header| !is_text(&header.name))) {
        return Err(Trouble::HeaderName { number: index + 1 });
    }
    Ok(lines.iter().zip(0..).map(|(line, offset)| event(line, offset)).collect())
}

fn is_text(name: &[u8]) -> bool {
    std::str::from_utf8(name).is_ok()
}

/// An event that has what its line leaves out: the topic `samples`, partition 0, and its place as offset.
fn event(line: &RecordLine, place: i64) -> Event<'_> {
    Event {
        topic: line.topic.as_deref().unwrap_or("samples"),
        partition: line.partition.unwrap_or(0),
        offset: line.offset.unwrap_or(place),
        timestamp_ms: line.timestamp_ms.unwrap_or(-1),
        key: line.key.as_deref(),
        value: line.value.as_deref(),
        headers: Headers::Owned(&line.headers),
        attempt: 1,
    }
}

/// Runs of events that may come in one call: of one partition, and not too many.
fn batches(events: &[Event<'_>]) -> Vec<Range<usize>> {
    let place = |event: &Event<'_>| (event.topic.to_owned(), event.partition);
    let mut batches: Vec<Range<usize>> = Vec::new();
    for (index, event) in events.iter().enumerate() {
        match batches.last_mut() {
            Some(last) if last.len() < BATCH && place(&events[last.start]) == place(event) => last.end += 1,
            _ => batches.push(index..index + 1),
        }
    }
    batches
}

/// The line of a verdict.
#[must_use]
pub fn verdict_line(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Pass => json!("pass"),
        Verdict::Drop { reason } => json!({"drop": reason}),
        Verdict::Emit(outputs) => json!({"emit": outputs.iter().map(output).collect::<Vec<_>>()}),
        Verdict::Retry { reason, delay_ms: None } => json!({"retry": {"reason": reason}}),
        Verdict::Retry { reason, delay_ms } => json!({"retry": {"reason": reason, "delay_ms": delay_ms}}),
        Verdict::Reject { code, message } => json!({"reject": {"code": code, "message": message}}),
    }
    .to_string()
}

fn output(output: &Output) -> Value {
    let mut changes = Map::new();
    if let Some(port) = &output.port {
        changes.insert("port".into(), json!(port));
    }
    for (name, patch) in [("key", &output.key), ("value", &output.value)] {
        match patch {
            Patch::Keep => {}
            Patch::Null => drop(changes.insert(name.into(), Value::Null)),
            Patch::Set(set) => drop(changes.insert(name.into(), bytes(Some(set)))),
        }
    }
    if let Some(headers) = &output.headers {
        let headers = headers.iter().map(|header| [bytes(Some(&header.name)), bytes(header.value.as_deref())]);
        changes.insert("headers".into(), json!(headers.collect::<Vec<_>>()));
    }
    if let Some(timestamp_ms) = output.timestamp_ms {
        changes.insert("timestamp".into(), json!(timestamp_ms));
    }
    Value::Object(changes)
}

fn bytes(bytes: Option<&[u8]>) -> Value {
    // The form is JSON.
    serde_json::from_str(&bytes_form(bytes)).unwrap_or_default()
}

/// Whether two lines say the same, however their JSON is written.
#[must_use]
pub fn same(expected: &str, got: &str) -> bool {
    match (serde_json::from_str::<Value>(expected), serde_json::from_str::<Value>(got)) {
        (Ok(expected), Ok(got)) => expected == got,
        _ => expected == got,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may fail by panic")]

    use pointsman_core::failure::FailureClass;
    use pointsman_core::record::OwnedHeader;
    use pointsman_core::verdict::Verdicts;

    use super::*;
    use crate::record_text::parse_line;

    #[test]
    fn a_verdict_is_one_line() {
        let header = |name: &str, value: Option<&[u8]>| OwnedHeader {
            name: name.as_bytes().into(),
            value: value.map(Into::into),
        };
        let full = Output {
            port: Some("eu".into()),
            key: Patch::Null,
            value: Patch::Set(vec![0xff].into()),
            headers: Some(vec![header("a", Some(b"1")), header("a", None)]),
            timestamp_ms: Some(7),
        };
        let bare = Output { port: None, key: Patch::Keep, value: Patch::Keep, headers: None, timestamp_ms: None };
        let cases = [
            (Verdict::Pass, "\"pass\""),
            (Verdict::Drop { reason: "old".into() }, r#"{"drop":"old"}"#),
            (
                Verdict::Emit(vec![bare, full]),
                r#"{"emit":[{},{"port":"eu","key":null,"value":{"base64":"/w=="},"headers":[["a","1"],["a",null]],"timestamp":7}]}"#,
            ),
            (Verdict::Retry { reason: "r".into(), delay_ms: None }, r#"{"retry":{"reason":"r"}}"#),
            (Verdict::Retry { reason: "r".into(), delay_ms: Some(5) }, r#"{"retry":{"reason":"r","delay_ms":5}}"#),
            (Verdict::Reject { code: "c".into(), message: "m".into() }, r#"{"reject":{"code":"c","message":"m"}}"#),
        ];
        for (verdict, line) in cases {
            assert!(same(line, &verdict_line(&verdict)), "{line}: {}", verdict_line(&verdict));
        }
        assert!(!same("\"pass\"", r#"{"drop":"pass"}"#));
    }

    /// Drops what it has seen before, and traps at `trap`.
    #[derive(Default)]
    struct Jaded(Vec<Vec<u8>>);

    impl PluginHost for Jaded {
        fn call(&mut self, _: PluginId, events: &[Event<'_>], _: i64) -> Result<Verdicts, CallError> {
            let judged = events.iter().map(|event| {
                let value = event.value.unwrap_or_default().to_vec();
                if value == b"trap" {
                    let (code, message) = ("unreachable".into(), String::new());
                    return Err(CallError::Guest { class: FailureClass::Trap, code, message, suspect: None });
                }
                let seen = self.0.contains(&value);
                self.0.push(value);
                Ok(if seen { Verdict::Drop { reason: "seen".into() } } else { Verdict::Pass })
            });
            judged.collect()
        }

        fn take_counts(&mut self, _: &mut dyn FnMut(PluginId, &str, u64)) {}
    }

    fn lines(values: &[&str]) -> Vec<RecordLine> {
        values.iter().map(|value| parse_line(&format!("{{\"value\":\"{value}\"}}")).unwrap()).collect()
    }

    #[test]
    fn a_verdict_that_depends_on_what_came_before_is_found() {
        let trouble = judge(&mut Jaded::default(), &lines(&["a", "b"]), 0).unwrap_err();
        let dropped = r#"{"drop":"seen"}"#.to_owned();
        assert_eq!(trouble, Trouble::Unsteady { number: 1, alone: "\"pass\"".into(), among: dropped });
    }

    #[test]
    fn what_fails_is_a_line_too() {
        let said = judge(&mut Jaded::default(), &lines(&["a", "trap", "a"]), 0).unwrap();
        assert_eq!(said[0], "\"pass\"");
        assert!(same(r#"{"fails":{"class":"trap","code":"unreachable"}}"#, &said[1]));
        assert!(same(r#"{"drop":"seen"}"#, &said[2]));
    }

    #[test]
    fn events_of_one_partition_come_in_one_call() {
        let mut samples = lines(&["a", "b", "c", "d"]);
        samples[2].partition = Some(1);
        let events: Vec<Event<'_>> = samples.iter().map(|line| event(line, 0)).collect();
        assert_eq!(batches(&events), [0..2, 2..3, 3..4]);
    }
}
