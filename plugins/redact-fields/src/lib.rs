//! Puts something else in place of personal data, wherever a JSON path (RFC 9535) finds it in the value:
//!
//! ```toml
//! config = { paths = ["$.customer.email", "$..iban", "$.cards[*].number"], with = "***" }
//! ```
//!
//! What is found is replaced whole, be it a string, a number or an object; without `with` it becomes null. What goes on is
//! always the JSON that was looked at, written anew: of a member that comes twice, the one that was not looked at is gone.
//! Numbers keep their digits. What is not JSON, or nested deeper than 127 levels, is rejected, since nobody knows what is in it.
//! A tombstone passes. Keys and headers are not looked at.

use pointsman_sdk::{Config, Event, Fields, Output, Plugin, Verdict, count};
use serde::Deserialize;
use serde_json::Value;
use serde_json_path::JsonPath;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RedactFields {
    /// Where personal data is.
    paths: Vec<JsonPath>,
    /// What takes its place.
    #[serde(default)]
    with: Value,
}

impl Plugin for RedactFields {
    const FIELDS: Fields = Fields::VALUE;

    fn configure(config: Config) -> Result<Self, String> {
        let redact: Self = config.parse()?;
        if redact.paths.is_empty() {
            return Err("`paths` names no path; name at least one, such as \"$.customer.email\"".into());
        }
        Ok(redact)
    }

    fn process(&mut self, event: &Event) -> Verdict {
        if event.is_tombstone() {
            return Verdict::pass();
        }
        self.redact(event).into()
    }
}

impl RedactFields {
    fn redact(&self, event: &Event) -> Result<Verdict, Verdict> {
        let mut value: Value = event.json()?;
        let mut redacted = 0;
        for path in &self.paths {
            // The places first: what is found is borrowed from the value that is to be changed.
            let found: Vec<String> =
                path.query_located(&value).locations().map(|location| location.to_json_pointer()).collect();
            for pointer in found {
                // One that lies in another which is replaced by now is gone.
                if let Some(part) = value.pointer_mut(&pointer) {
                    part.clone_from(&self.with);
                    redacted += 1;
                }
            }
        }
        if redacted > 0 {
            count("redacted", redacted);
        }
        Ok(Verdict::emit([Output::unchanged().json(&value)?]))
    }
}

pointsman_sdk::export!(RedactFields);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may fail by panic")]

    use pointsman_sdk::testing;

    use super::*;

    fn redact(config: &str, value: &str) -> Verdict {
        testing::judge(&mut RedactFields::configure(config.into()).unwrap(), Event::of(value))
    }

    fn becomes(value: &str) -> Verdict {
        Verdict::emit([Output::unchanged().value(value)])
    }

    #[test]
    fn what_a_path_finds_is_replaced_and_nothing_else() {
        let config = r#"{"paths":["$.customer.email","$.cards[*].number","$..iban"],"with":"***"}"#;
        for (value, expected) in [
            (r#"{"customer":{"email":"a@b.example","id":7}}"#, r#"{"customer":{"email":"***","id":7}}"#),
            (r#"{"cards":[{"number":1},{"number":[2]},{}]}"#, r#"{"cards":[{"number":"***"},{"number":"***"},{}]}"#),
            (r#"{"a":[{"b":{"iban":null}}],"iban":"x"}"#, r#"{"a":[{"b":{"iban":"***"}}],"iban":"***"}"#),
            (r#"[1.50,1e400,12345678901234567890123]"#, "[1.50,1e+400,12345678901234567890123]"),
            ("{ \"z\" : \"~/\" , \"a\" : 0 }", r#"{"z":"~/","a":0}"#),
        ] {
            assert_eq!(redact(config, value), becomes(expected), "{value}");
        }
        assert_eq!(testing::recorded().counts["redacted"], 5);
    }

    #[test]
    fn without_another_value_it_becomes_null() {
        assert_eq!(redact(r#"{"paths":["$['a/b~']"]}"#, r#"{"a/b~":1}"#), becomes(r#"{"a/b~":null}"#));
    }

    #[test]
    fn a_part_of_what_is_replaced_is_gone_with_it() {
        assert_eq!(redact(r#"{"paths":["$..*"],"with":0}"#, r#"{"a":{"b":[1]}}"#), becomes(r#"{"a":0}"#));
        assert_eq!(redact(r#"{"paths":["$"],"with":{}}"#, "[1]"), becomes("{}"));
    }

    #[test]
    fn a_member_that_comes_twice_hides_nothing() {
        assert_eq!(redact(r#"{"paths":["$.a.b"]}"#, r#"{"a":{"b":"secret"},"a":{}}"#), becomes(r#"{"a":{}}"#));
    }

    #[test]
    fn what_can_not_be_looked_at_is_rejected_and_tombstones_pass() {
        let deep = ["[".repeat(10_000), "]".repeat(10_000)].concat();
        for value in ["", "{", "a@b.example", "\"\\ud800\"", &deep] {
            let verdict = redact(r#"{"paths":["$.a"]}"#, value);
            assert!(matches!(&verdict, Verdict::Reject(why) if why.code == "bad-json"), "{verdict:?}");
        }
        let mut plugin = RedactFields::configure(r#"{"paths":["$.a"]}"#.into()).unwrap();
        assert_eq!(plugin.process(&Event::tombstone()), Verdict::pass());
    }

    #[test]
    fn a_wrong_configuration_is_refused() {
        for config in ["{}", r#"{"paths":[]}"#, r#"{"paths":["$.["]}"#, r#"{"paths":["$.a"],"wiht":1}"#] {
            assert!(RedactFields::configure(config.into()).is_err(), "{config}");
        }
    }
}
