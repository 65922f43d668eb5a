//! Judges orders, which are JSON objects:
//!
//! ```json
//! {"id": "o-17", "country": "DE", "amount": 12.5}
//! ```
//!
//! - `"type": "heartbeat"` is dropped, whatever else is in it.
//! - A missing or empty `id` or `country`, a missing or negative `amount`, another `type` than `order`, and what is not
//!   JSON are rejected, each with its code.
//! - `"fail_until_attempt": 3` plays a backend that is down for a while: the order is retried until its third attempt.
//! - A tombstone passes: it deletes an order.

use std::borrow::Cow;

use pointsman_sdk::{Config, Event, Plugin, Verdict};
use serde::Deserialize;

struct ValidateOrder;

/// There is nothing to configure, and a misspelt key is told.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {}

/// What is looked at. Borrowed where JSON allows, so that a good order costs no allocation.
#[derive(Deserialize)]
struct Order<'a> {
    #[serde(borrow, rename = "type")]
    kind: Option<Cow<'a, str>>,
    #[serde(borrow)]
    id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    country: Option<Cow<'a, str>>,
    amount: Option<f64>,
    fail_until_attempt: Option<u32>,
}

impl Plugin for ValidateOrder {
    fn configure(config: Config) -> Result<Self, String> {
        config.parse::<Settings>().map(|Settings {}| Self)
    }

    fn process(&mut self, event: &Event) -> Verdict {
        if event.is_tombstone() {
            return Verdict::pass();
        }
        judge(event).into()
    }
}

fn judge(event: &Event) -> Result<Verdict, Verdict> {
    let order: Order = event.json()?;
    match order.kind.as_deref() {
        None | Some("order") => {}
        Some("heartbeat") => return Ok(Verdict::drop("heartbeat")),
        Some(kind) => return Err(Verdict::reject("unknown-type", format!("`{kind}` is no type of order"))),
    }
    for (name, text) in [("id", &order.id), ("country", &order.country)] {
        if text.as_ref().is_none_or(|text| text.is_empty()) {
            return Err(Verdict::reject("missing-field", format!("the order has no `{name}`")));
        }
    }
    let Some(amount) = order.amount else {
        return Err(Verdict::reject("missing-field", "the order has no `amount`"));
    };
    if amount < 0.0 {
        return Err(Verdict::reject("negative-amount", format!("the amount is {amount}")));
    }
    match order.fail_until_attempt {
        Some(good) if event.attempt() < good => {
            Ok(Verdict::retry(format!("attempt {} of an order that fails until attempt {good}", event.attempt())))
        }
        _ => Ok(Verdict::pass()),
    }
}

pointsman_sdk::export!(ValidateOrder);

#[cfg(test)]
mod tests {
    #![allow(clippy::panic, reason = "a test may fail by panic")]

    use super::*;

    fn verdict(event: Event) -> Verdict {
        ValidateOrder.process(&event)
    }

    fn code(value: &str) -> String {
        match verdict(Event::of(value)) {
            Verdict::Reject(rejection) => rejection.code.into_owned(),
            verdict => panic!("{value}: {verdict:?}"),
        }
    }

    #[test]
    fn good_orders_and_tombstones_pass() {
        for value in [
            r#"{"id":"o-1","country":"DE","amount":0}"#,
            r#"{"type":"order","id":"o-1","country":"\u0044E","amount":1.5,"other":[{}]}"#,
        ] {
            assert_eq!(verdict(Event::of(value)), Verdict::pass(), "{value}");
        }
        assert_eq!(verdict(Event::tombstone()), Verdict::pass());
    }

    #[test]
    fn each_defect_has_its_code() {
        for (value, expected) in [
            ("", "bad-json"),
            ("[]", "bad-json"),
            (r#"{"id":1,"country":"DE","amount":1}"#, "bad-json"),
            (r#"{"id":"o","country":"DE","amount":"1"}"#, "bad-json"),
            (r#"{"country":"DE","amount":1}"#, "missing-field"),
            (r#"{"id":"","country":"DE","amount":1}"#, "missing-field"),
            (r#"{"id":"o","amount":1}"#, "missing-field"),
            (r#"{"id":"o","country":"DE","amount":null}"#, "missing-field"),
            (r#"{"id":"o","country":"DE","amount":-0.01}"#, "negative-amount"),
            (r#"{"type":"refund","id":"o","country":"DE","amount":1}"#, "unknown-type"),
        ] {
            assert_eq!(code(value), expected, "{value}");
        }
    }

    #[test]
    fn heartbeats_are_dropped() {
        assert_eq!(verdict(Event::of(r#"{"type":"heartbeat"}"#)), Verdict::drop("heartbeat"));
    }

    #[test]
    fn an_order_that_fails_for_a_while_is_retried_until_then() {
        let order = Event::of(r#"{"id":"o","country":"DE","amount":1,"fail_until_attempt":3}"#);
        for (attempt, retried) in [(1, true), (2, true), (3, false), (4, false)] {
            let verdict = verdict(order.clone().on_attempt(attempt));
            assert_eq!(matches!(verdict, Verdict::Retry(_)), retried, "{attempt}: {verdict:?}");
        }
    }

    #[test]
    fn a_misspelt_configuration_is_refused() {
        assert!(ValidateOrder::configure("{}".into()).is_ok());
        assert!(ValidateOrder::configure(r#"{"a":1}"#.into()).is_err());
    }
}
