//! Keeps the events whose value is a JSON object with this `currency`, and drops all others:
//!
//! ```toml
//! config = { currency = "EUR" }
//! ```
//!
//! The whole value is read, and nothing of it is kept but that field: the work of a plain filter. A tombstone passes; what
//! is no such JSON is rejected.

use std::borrow::Cow;

use pointsman_sdk::{Config, Event, Fields, Plugin, Verdict};
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct JsonFilter {
    currency: String,
}

/// What is looked at, borrowed where JSON allows.
#[derive(Deserialize)]
struct Order<'a> {
    #[serde(borrow)]
    currency: Option<Cow<'a, str>>,
}

impl Plugin for JsonFilter {
    const FIELDS: Fields = Fields::VALUE;

    fn configure(config: Config) -> Result<Self, String> {
        config.parse()
    }

    fn process(&mut self, event: &Event) -> Verdict {
        if event.is_tombstone() { Verdict::pass() } else { self.judge(event).into() }
    }
}

impl JsonFilter {
    fn judge(&self, event: &Event) -> Result<Verdict, Verdict> {
        let order: Order = event.json()?;
        let keeps = order.currency.is_some_and(|currency| currency == self.currency);
        Ok(if keeps { Verdict::pass() } else { Verdict::drop("currency") })
    }
}

pointsman_sdk::export!(JsonFilter);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may fail by panic")]

    use super::*;

    #[test]
    fn a_value_is_kept_dropped_or_rejected() {
        let mut filter = JsonFilter::configure(r#"{"currency":"EUR"}"#.into()).unwrap();
        for (value, expected) in [
            (r#"{"id":"o","currency":"EUR","items":[{"sku":"x"}]}"#, Verdict::pass()),
            (r#"{"currency":"\u0045UR"}"#, Verdict::pass()),
            (r#"{"currency":"USD"}"#, Verdict::drop("currency")),
            (r#"{"id":"o"}"#, Verdict::drop("currency")),
        ] {
            assert_eq!(filter.process(&Event::of(value)), expected, "{value}");
        }
        assert_eq!(filter.process(&Event::tombstone()), Verdict::pass());
        assert!(matches!(filter.process(&Event::of("{")), Verdict::Reject(_)));
    }

    #[test]
    fn a_wrong_configuration_is_refused() {
        for config in ["{}", r#"{"currency":1}"#, r#"{"currency":"EUR","x":1}"#] {
            assert!(JsonFilter::configure(config.into()).is_err(), "{config}");
        }
    }
}
