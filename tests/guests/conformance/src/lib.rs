//! What a plugin does in every language; the others are in `tests/languages`, and tests compare their verdicts.
//!
//! The last header `answer` asks for a verdict. Without one, or with another text, the event becomes a description of
//! itself, in which nothing is lost.

use std::fmt::Write as _;
use std::time::Duration;

use pointsman_sdk::{Config, Event, Header, Level, Output, Plugin, Verdict, count, log};

struct Conformance {
    config: String,
}

impl Plugin for Conformance {
    fn configure(config: Config) -> Result<Self, String> {
        let config = config.text().to_owned();
        if config.contains("refuse") { Err("asked to refuse".into()) } else { Ok(Self { config }) }
    }

    fn process(&mut self, event: &Event) -> Verdict {
        match event.header_text("answer") {
            Some("pass") => Verdict::pass(),
            Some("drop") => Verdict::drop("asked"),
            Some("nothing") => Verdict::emit([]),
            Some("twice") => Verdict::emit([Output::to_port("first"), Output::to_port("second")]),
            Some("rewrite") => {
                let headers = [Header::new("a", "1"), Header::new("a", [0xff, 0x00]), Header::null("n")];
                Verdict::emit([Output::unchanged().key("new key").value("new value").headers(headers).timestamp_ms(1)])
            }
            Some("nulls") => Verdict::emit([Output::unchanged().no_key().tombstone().headers([])]),
            Some("empty") => Verdict::emit([Output::unchanged().key("").value("")]),
            Some("retry") => Verdict::retry("busy"),
            Some("retry-after") => Verdict::retry_after(Duration::from_millis(1500), "busy"),
            Some("reject") => Verdict::reject("bad", "not acceptable"),
            #[allow(clippy::panic, reason = "it is asked for")]
            Some("trap") => panic!("asked to trap"),
            _ => {
                log(Level::Info, "described");
                count("described", 1);
                Verdict::emit([Output::unchanged().value(self.describe(event))])
            }
        }
    }
}

impl Conformance {
    fn describe(&self, event: &Event) -> String {
        let timestamp = event.timestamp_ms().unwrap_or(-1);
        let mut text = format!(
            "{}|{}|{}|{}|{timestamp}|{}|{}|{}|",
            hex(Some(self.config.as_bytes())),
            hex(Some(event.topic().as_bytes())),
            event.partition(),
            event.offset(),
            event.attempt(),
            hex(event.key()),
            hex(event.value()),
        );
        for (name, value) in event.headers() {
            // Writing to a `String` can't fail.
            let _ = write!(text, "{}={},", hex(Some(name.as_bytes())), hex(value));
        }
        text
    }
}

/// Null is a dash.
fn hex(bytes: Option<&[u8]>) -> String {
    let Some(bytes) = bytes else { return "-".into() };
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        text.extend([byte >> 4, byte & 0xf].into_iter().filter_map(|digit| char::from_digit(digit.into(), 16)));
    }
    text
}

pointsman_sdk::export!(Conformance);
