//! Reads the value as a JSON object, drops it where `amount` is negative, adds a field and writes it again: the work of a
//! plain transform.

use pointsman_sdk::{Config, Event, Fields, Output, Plugin, Verdict};
use serde_json::{Map, Value};

struct JsonTransform;

impl Plugin for JsonTransform {
    const FIELDS: Fields = Fields::VALUE;

    fn configure(_: Config) -> Result<Self, String> {
        Ok(Self)
    }

    fn process(&mut self, event: &Event) -> Verdict {
        if event.is_tombstone() { Verdict::pass() } else { transform(event).into() }
    }
}

fn transform(event: &Event) -> Result<Verdict, Verdict> {
    let mut value: Map<String, Value> = event.json()?;
    if value.get("amount").and_then(Value::as_f64).is_some_and(|amount| amount < 0.0) {
        return Ok(Verdict::drop("negative-amount"));
    }
    value.insert("seen".into(), true.into());
    Ok(Verdict::emit([Output::unchanged().json(&value)?]))
}

pointsman_sdk::export!(JsonTransform);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_changed_dropped_or_rejected() {
        for (value, expected) in [
            (r#"{"b":1,"a":2}"#, Verdict::emit([Output::unchanged().value(r#"{"b":1,"a":2,"seen":true}"#)])),
            (r#"{"amount":-1}"#, Verdict::drop("negative-amount")),
        ] {
            assert_eq!(JsonTransform.process(&Event::of(value)), expected);
        }
        assert_eq!(JsonTransform.process(&Event::tombstone()), Verdict::pass());
        assert!(matches!(JsonTransform.process(&Event::of("7")), Verdict::Reject(_)));
    }
}
