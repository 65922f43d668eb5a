//! Adds the currency of its country to each order, and sends orders from some countries out by the port `eu`:
//!
//! ```toml
//! config = { currencies = { DE = "EUR", GB = "GBP" }, eu = ["DE"] }
//! ```
//!
//! A `currency` that the order has stays. An order without one, from a country that has none here, is rejected, as is what
//! is not a JSON object. A tombstone passes.

use std::collections::{HashMap, HashSet};

use pointsman_sdk::{Config, Event, Output, Plugin, Verdict, count};
use serde::Deserialize;
use serde_json::{Map, Value};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EnrichOrder {
    /// The currency of each country.
    currencies: HashMap<String, String>,
    /// Countries whose orders leave by the port `eu`.
    #[serde(default)]
    eu: HashSet<String>,
}

impl Plugin for EnrichOrder {
    fn configure(config: Config) -> Result<Self, String> {
        let enrich: Self = config.parse()?;
        for (country, currency) in &enrich.currencies {
            if currency.len() != 3 || !currency.bytes().all(|byte| byte.is_ascii_uppercase()) {
                return Err(format!(
                    "`currencies.{country}` is `{currency}`; it must be three capital letters, such as EUR"
                ));
            }
        }
        Ok(enrich)
    }

    fn process(&mut self, event: &Event) -> Verdict {
        if event.is_tombstone() {
            return Verdict::pass();
        }
        self.enrich(event).into()
    }
}

impl EnrichOrder {
    fn enrich(&self, event: &Event) -> Result<Verdict, Verdict> {
        let mut order: Map<String, Value> = event.json()?;
        let country = order.get("country").and_then(Value::as_str).unwrap_or_default();
        let output = if self.eu.contains(country) { Output::to_port("eu") } else { Output::unchanged() };
        if !order.contains_key("currency") {
            let currency = self.currencies.get(country).ok_or_else(|| {
                Verdict::reject("unknown-country", format!("`currencies` has none for the country `{country}`"))
            })?;
            order.insert("currency".into(), currency.as_str().into());
            count("enriched", 1);
        }
        Ok(Verdict::emit([output.json(&order)?]))
    }
}

pointsman_sdk::export!(EnrichOrder);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may fail by panic")]

    use pointsman_sdk::testing;

    use super::*;

    fn verdict(value: &str) -> Verdict {
        let config = r#"{"currencies":{"DE":"EUR","GB":"GBP"},"eu":["DE","FR"]}"#;
        EnrichOrder::configure(config.into()).unwrap().process(&Event::of(value))
    }

    #[test]
    fn an_order_gets_its_currency_and_port_and_keeps_the_rest() {
        for (value, expected) in [
            (
                r#"{"z":1,"country":"DE","amount":1.50}"#,
                Output::to_port("eu").value(r#"{"z":1,"country":"DE","amount":1.50,"currency":"EUR"}"#),
            ),
            (r#"{"country":"GB"}"#, Output::unchanged().value(r#"{"country":"GB","currency":"GBP"}"#)),
        ] {
            assert_eq!(verdict(value), Verdict::emit([expected]), "{value}");
        }
        assert_eq!(testing::recorded().counts["enriched"], 2);
    }

    #[test]
    fn a_currency_that_is_there_stays() {
        for (value, output) in [
            (r#"{"currency":"USD"}"#, Output::unchanged()),
            (r#"{"currency":"USD","country":"FR"}"#, Output::to_port("eu")),
        ] {
            assert_eq!(verdict(value), Verdict::emit([output.value(value)]));
        }
        assert!(testing::recorded().counts.is_empty());
    }

    #[test]
    fn what_can_not_be_enriched_is_rejected() {
        for (value, code) in [
            (r#"{"country":"FR"}"#, "unknown-country"),
            (r#"{"country":7}"#, "unknown-country"),
            ("{}", "unknown-country"),
            ("", "bad-json"),
            ("7", "bad-json"),
            ("[]", "bad-json"),
        ] {
            assert!(matches!(verdict(value), Verdict::Reject(why) if why.code == code), "{value}");
        }
    }

    #[test]
    fn tombstones_pass() {
        let mut enrich = EnrichOrder::configure(r#"{"currencies":{}}"#.into()).unwrap();
        assert_eq!(enrich.process(&Event::tombstone()), Verdict::pass());
    }

    #[test]
    fn a_wrong_configuration_is_refused_with_the_key_at_fault() {
        for (config, key) in [
            ("{}", "currencies"),
            (r#"{"currencies":{"DE":"euro"}}"#, "currencies.DE"),
            (r#"{"currencies":{},"port":"eu"}"#, "port"),
        ] {
            let error = EnrichOrder::configure(config.into()).err().unwrap();
            assert!(error.contains(key), "{config}: {error}");
        }
    }
}
