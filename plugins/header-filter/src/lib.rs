//! Drops events by the value of a header, and lets all others pass. It never looks at key or value.
//!
//! ```toml
//! config = { header = "environment", drop = ["test", "staging"] }
//! ```
//!
//! Of several headers of that name the last one counts. An event without it passes, as does one where it is null.

use pointsman_sdk::{Config, Event, Fields, Plugin, Verdict};
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct HeaderFilter {
    header: String,
    drop: Vec<String>,
}

impl Plugin for HeaderFilter {
    const FIELDS: Fields = Fields::HEADERS;

    fn configure(config: Config) -> Result<Self, String> {
        config.parse()
    }

    fn process(&mut self, event: &Event) -> Verdict {
        match event.header(&self.header) {
            Some(Some(value)) if self.drop.iter().any(|text| text.as_bytes() == value) => Verdict::drop("header"),
            _ => Verdict::pass(),
        }
    }
}

pointsman_sdk::export!(HeaderFilter);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may fail by panic")]

    use pointsman_sdk::testing;

    use super::*;

    #[test]
    fn only_events_with_a_listed_value_in_their_last_such_header_are_dropped() {
        let mut filter = HeaderFilter::configure(r#"{"header":"env","drop":["test","staging"]}"#.into()).unwrap();
        let event = || Event::of("v");
        for (event, dropped) in [
            (event(), false),
            (event().with_header("env", "test"), true),
            (event().with_header("env", "staging"), true),
            (event().with_header("env", "production"), false),
            (event().with_header("env", "test").with_header("env", "production"), false),
            (event().with_header("env", "production").with_header("env", "test"), true),
            (event().with_header("env", "test").with_null_header("env"), false),
            (event().with_header("ENV", "test"), false),
            (event().with_header("env", [0xff]), false),
        ] {
            let shown = format!("{:?}", event.headers().collect::<Vec<_>>());
            assert_eq!(testing::judge(&mut filter, event) == Verdict::drop("header"), dropped, "{shown}");
        }
    }

    #[test]
    fn a_wrong_configuration_is_refused() {
        for config in
            ["{}", r#"{"header":"env"}"#, r#"{"header":"env","drop":"test"}"#, r#"{"header":"e","drop":[],"x":1}"#]
        {
            assert!(HeaderFilter::configure(config.into()).is_err(), "{config}");
        }
    }
}
