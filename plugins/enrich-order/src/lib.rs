//! Adds the `currency` of the configuration to each order that has none, and sends orders from some countries out by a
//! port of their own:
//!
//! ```toml
//! config = { currency = "EUR", ports = { eu = ["DE", "FR"] } }
//! ```
//!
//! An order of a country that no port names keeps its port. A tombstone passes. What is not a JSON object is rejected.

use std::collections::{BTreeMap, HashMap};

use pointsman_sdk::{Config, Event, Output, Plugin, Verdict, count};
use serde::Deserialize;
use serde_json::{Map, Value};

struct EnrichOrder {
    currency: String,
    /// The port of each country.
    ports: HashMap<String, String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    currency: String,
    #[serde(default)]
    ports: BTreeMap<String, Vec<String>>,
}

impl Plugin for EnrichOrder {
    fn configure(config: Config) -> Result<Self, String> {
        let settings: Settings = config.parse()?;
        if settings.currency.len() != 3 || !settings.currency.bytes().all(|byte| byte.is_ascii_uppercase()) {
            return Err(format!(
                "`currency` is `{}`; it must be three capital letters, such as EUR",
                settings.currency
            ));
        }
        let mut ports = HashMap::new();
        for (port, countries) in settings.ports {
            for country in countries {
                if let Some(other) = ports.insert(country.clone(), port.clone()) {
                    return Err(format!(
                        "`ports` names the country {country} for `{other}` and for `{port}`; keep one"
                    ));
                }
            }
        }
        Ok(Self { currency: settings.currency, ports })
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
        let port = order.get("country").and_then(Value::as_str).and_then(|country| self.ports.get(country));
        if !order.contains_key("currency") {
            order.insert("currency".into(), self.currency.as_str().into());
            count("enriched", 1);
        }
        let output = port.map_or_else(Output::unchanged, Output::to_port);
        Ok(Verdict::emit([output.json(&order)?]))
    }
}

pointsman_sdk::export!(EnrichOrder);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may fail by panic")]

    use pointsman_sdk::testing;

    use super::*;

    fn verdict(event: &Event) -> Verdict {
        let config = r#"{"currency":"EUR","ports":{"eu":["DE","FR"],"uk":["GB"]}}"#;
        EnrichOrder::configure(config.into()).unwrap().process(event)
    }

    #[test]
    fn an_order_gets_its_currency_and_port_and_keeps_the_rest() {
        for (value, expected) in [
            (
                r#"{"z":1,"country":"FR","amount":1.50}"#,
                Output::to_port("eu").value(r#"{"z":1,"country":"FR","amount":1.5,"currency":"EUR"}"#),
            ),
            (r#"{"country":"GB"}"#, Output::to_port("uk").value(r#"{"country":"GB","currency":"EUR"}"#)),
            (r#"{"country":"US"}"#, Output::unchanged().value(r#"{"country":"US","currency":"EUR"}"#)),
            (r#"{"country":7}"#, Output::unchanged().value(r#"{"country":7,"currency":"EUR"}"#)),
        ] {
            assert_eq!(verdict(&Event::of(value)), Verdict::emit([expected]), "{value}");
        }
        assert_eq!(testing::recorded().counts["enriched"], 4);
    }

    #[test]
    fn a_currency_that_is_there_stays() {
        let value = r#"{"currency":"USD"}"#;
        assert_eq!(verdict(&Event::of(value)), Verdict::emit([Output::unchanged().value(value)]));
        assert!(testing::recorded().counts.is_empty());
    }

    #[test]
    fn tombstones_pass_and_what_is_no_object_is_rejected() {
        assert_eq!(verdict(&Event::tombstone()), Verdict::pass());
        for value in ["", "7", "[]", "{"] {
            assert!(matches!(verdict(&Event::of(value)), Verdict::Reject(why) if why.code == "bad-json"), "{value}");
        }
    }

    #[test]
    fn a_wrong_configuration_is_refused_with_the_key_at_fault() {
        for (config, key) in [
            ("{}", "currency"),
            (r#"{"currency":"euro"}"#, "currency"),
            (r#"{"currency":"EUR","port":{}}"#, "port"),
            (r#"{"currency":"EUR","ports":{"a":["DE"],"b":["DE"]}}"#, "DE"),
        ] {
            let error = EnrichOrder::configure(config.into()).err().unwrap();
            assert!(error.contains(key), "{config}: {error}");
        }
    }
}
