//! Shows what a plugin sees, and answers what it is told: for tests of the border between router and plugin.
//!
//! An event without the header `answer` is answered by one output, whose value is a JSON description of the event; bytes
//! are told as lists of numbers. The header `answer` asks for a verdict:
//!
//! | `answer` | verdict |
//! | --- | --- |
//! | `pass` | pass |
//! | `drop` | drop, for the reason `asked` |
//! | `nothing` | emit, an empty list |
//! | `twice` | emit, the event by the ports `first` and `second` |
//! | `rewrite` | emit, with key, value, headers and timestamp replaced |
//! | `nulls` | emit, with null key and value, and one header with a null value |
//! | `retry` | retry, after 1500 ms |
//! | `reject` | reject, with the code `asked` |
//! | `log` | pass, after a log line of each level and a count |
//!
//! The configuration `{"refuse": "…"}` is refused with that text; any other is shown in the description.

use pointsman_sdk::{Config, Event, Header, Level, Output, Plugin, Verdict, count, log};
use serde::Deserialize;
use serde_json::{Value, json};
use std::time::Duration;

struct Mirror {
    config: Value,
}

#[derive(Deserialize)]
struct Refusal {
    refuse: String,
}

impl Plugin for Mirror {
    fn configure(config: Config) -> Result<Self, String> {
        if let Ok(Refusal { refuse }) = config.parse() {
            return Err(refuse);
        }
        Ok(Self { config: config.parse()? })
    }

    fn process(&mut self, event: &Event) -> Verdict {
        match event.header_text("answer") {
            Some(answer) => self::answer(answer),
            None => Verdict::emit([Output::unchanged().value(self.describe(event).to_string())]),
        }
    }
}

impl Mirror {
    fn describe(&self, event: &Event) -> Value {
        json!({
            "config": self.config,
            "topic": event.topic(),
            "partition": event.partition(),
            "offset": event.offset(),
            "timestamp": event.timestamp_ms(),
            "key": event.key(),
            "value": event.value(),
            "headers": event.headers().collect::<Vec<_>>(),
            "attempt": event.attempt(),
        })
    }
}

fn answer(asked: &str) -> Verdict {
    match asked {
        "pass" => Verdict::pass(),
        "drop" => Verdict::drop("asked"),
        "nothing" => Verdict::emit([]),
        "twice" => Verdict::emit([Output::to_port("first"), Output::to_port("second")]),
        "rewrite" => Verdict::emit([Output::unchanged()
            .key("new key")
            .value("new value")
            .headers([Header::new("a", "1"), Header::new("a", [0xff, 0x00])])
            .timestamp_ms(1)]),
        "nulls" => Verdict::emit([Output::unchanged().no_key().tombstone().headers([Header::null("n")])]),
        "retry" => Verdict::retry_after(Duration::from_millis(1500), "asked for a retry"),
        "reject" => Verdict::reject("asked", "asked for a rejection"),
        "log" => {
            for level in [Level::Debug, Level::Info, Level::Warn, Level::Error] {
                log(level, format_args!("a line of {level:?}"));
            }
            count("asked", 3);
            Verdict::pass()
        }
        other => Verdict::reject("unknown-answer", format!("`{other}` is no answer this guest knows")),
    }
}

pointsman_sdk::export!(Mirror);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may fail by panic")]

    use super::*;

    #[test]
    fn an_event_is_described_in_full() {
        let event = Event::of([0xff]).from_origin("t", 3, 9).with_key("").with_header("a", "1").with_null_header("a");
        let verdict = Mirror::configure(r#"{"x":1}"#.into()).unwrap().process(&event.on_attempt(2));
        let description = r#"{"config":{"x":1},"topic":"t","partition":3,"offset":9,"timestamp":null,"key":[],"value":[255],"headers":[["a",[49]],["a",null]],"attempt":2}"#;
        assert_eq!(verdict, Verdict::emit([Output::unchanged().value(description)]));
    }

    #[test]
    fn a_configuration_is_refused_on_demand() {
        assert_eq!(Mirror::configure(r#"{"refuse":"no"}"#.into()).err().unwrap(), "no");
    }
}
