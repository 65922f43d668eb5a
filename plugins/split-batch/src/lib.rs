//! Makes an event of each item of a list: `{"orders": [{"id": 1}, {"id": 2}]}` becomes `{"id": 1}` and `{"id": 2}`.
//!
//! ```toml
//! config = { items = "orders", key = "id", most = 500 }
//! ```
//!
//! An item goes on as it is written, byte for byte, with the headers and the timestamp of its batch; with the text of its
//! member `key` as its key, or without that setting with the key of its batch. Of a member that comes twice the last one counts.
//! What is not such a batch, an item without its key, and more items than `most` (1,000 if it is not there) are rejected, all
//! of the batch. An empty one is dropped, and a tombstone passes.

use std::borrow::Cow;
use std::collections::HashMap;

use pointsman_sdk::{Config, Event, Output, Plugin, Verdict};
use serde::Deserialize;
use serde_json::value::RawValue;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SplitBatch {
    /// The member that holds the list.
    items: String,
    /// The member of an item that is its key.
    key: Option<String>,
    /// Most items of a batch. A router takes 10,000 events from one call, unless it is told otherwise.
    #[serde(default = "default_most")]
    most: usize,
}

const fn default_most() -> usize {
    1000
}

/// An object whose members are looked at no further than needed.
type Members<'a> = HashMap<Cow<'a, str>, &'a RawValue>;

impl Plugin for SplitBatch {
    fn configure(config: Config) -> Result<Self, String> {
        config.parse()
    }

    fn process(&mut self, event: &Event) -> Verdict {
        if event.is_tombstone() {
            return Verdict::pass();
        }
        self.split(event).into()
    }
}

impl SplitBatch {
    fn split(&self, event: &Event) -> Result<Verdict, Verdict> {
        let batch: Members<'_> = event.json()?;
        let items = batch.get(&*self.items).and_then(|items| serde_json::from_str::<Vec<&RawValue>>(items.get()).ok());
        let items = items.ok_or_else(|| Verdict::reject("no-items", format!("`{}` is no list", self.items)))?;
        if items.is_empty() {
            return Ok(Verdict::drop("empty-batch"));
        }
        if items.len() > self.most {
            let message = format!("`{}` has {} items, and the most is {}", self.items, items.len(), self.most);
            return Err(Verdict::reject("too-many-items", message));
        }
        let outputs: Result<Vec<Output>, Verdict> =
            items.into_iter().zip(1..).map(|(item, number)| self.output(item, number)).collect();
        Ok(Verdict::emit(outputs?))
    }

    fn output(&self, item: &RawValue, number: usize) -> Result<Output, Verdict> {
        let output = Output::unchanged().value(item.get());
        let Some(key) = &self.key else { return Ok(output) };
        let text =
            serde_json::from_str::<Members<'_>>(item.get()).ok().and_then(|item| key_text(item.get(&**key)?.get()));
        let text = text.ok_or_else(|| {
            Verdict::reject("no-key", format!("item {number} has no `{key}` that is a string or a number"))
        })?;
        Ok(output.key(text))
    }
}

/// What a key says: the text of a string, or the digits of a number.
fn key_text(json: &str) -> Option<String> {
    match json.bytes().next()? {
        b'"' => serde_json::from_str(json).ok(),
        b'-' | b'0'..=b'9' => Some(json.to_owned()),
        _ => None,
    }
}

pointsman_sdk::export!(SplitBatch);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may fail by panic")]

    use pointsman_sdk::testing;

    use super::*;

    fn split(config: &str, value: &str) -> Verdict {
        testing::judge(&mut SplitBatch::configure(config.into()).unwrap(), Event::of(value).with_key("batch"))
    }

    fn code(config: &str, value: &str) -> String {
        match split(config, value) {
            Verdict::Reject(why) => why.code.into_owned(),
            verdict => format!("{verdict:?}"),
        }
    }

    #[test]
    fn each_item_goes_on_as_it_is_written() {
        let item = |value: &str| Output::unchanged().value(value);
        assert_eq!(
            split(r#"{"items":"list"}"#, r#"{"list":[ {"a": 1.50} ,[],"x",12345678901234567890,null]}"#),
            Verdict::emit([
                item(r#"{"a": 1.50}"#),
                item("[]"),
                item("\"x\""),
                item("12345678901234567890"),
                item("null")
            ])
        );
    }

    #[test]
    fn an_item_has_its_own_key() {
        let item = |key: &str, value: &str| Output::unchanged().key(key).value(value);
        assert_eq!(
            split(r#"{"items":"l","key":"id"}"#, r#"{"l":[{"id":"\u00e9"},{"id":-1.0}]}"#),
            Verdict::emit([item("é", r#"{"id":"\u00e9"}"#), item("-1.0", r#"{"id":-1.0}"#)])
        );
        for value in [r#"{"l":[{"id":1},{}]}"#, r#"{"l":[7]}"#, r#"{"l":[{"id":null}]}"#, r#"{"l":[{"id":[1]}]}"#] {
            assert_eq!(code(r#"{"items":"l","key":"id"}"#, value), "no-key", "{value}");
        }
    }

    #[test]
    fn what_is_no_batch_is_rejected_and_an_empty_one_dropped() {
        let config = r#"{"items":"l","most":2}"#;
        for (value, expected) in [
            ("", "bad-json"),
            ("[1]", "bad-json"),
            ("{}", "no-items"),
            (r#"{"l":{}}"#, "no-items"),
            (r#"{"l":[1],"l":null}"#, "no-items"),
            (r#"{"l":[1,2,3]}"#, "too-many-items"),
        ] {
            assert_eq!(code(config, value), expected, "{value}");
        }
        assert_eq!(split(config, r#"{"l":[]}"#), Verdict::drop("empty-batch"));
        let mut plugin = SplitBatch::configure(config.into()).unwrap();
        assert_eq!(plugin.process(&Event::tombstone()), Verdict::pass());
    }

    #[test]
    fn deep_items_are_only_passed_on() {
        let deep = ["[".repeat(100_000), "]".repeat(100_000)].concat();
        let verdict = split(r#"{"items":"l"}"#, &format!("{{\"l\":[{deep}]}}"));
        assert_eq!(verdict, Verdict::emit([Output::unchanged().value(deep)]));
    }

    #[test]
    fn a_wrong_configuration_is_refused() {
        for config in ["{}", r#"{"items":1}"#, r#"{"items":"l","most":-1}"#, r#"{"items":"l","keys":"id"}"#] {
            assert!(SplitBatch::configure(config.into()).is_err(), "{config}");
        }
    }
}
