//! Values and configurations as JSON.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{Config, Event, Output, Verdict};

/// A value that is not the JSON it should be. `?` turns it into a rejection, in a function that returns
/// `Result<Verdict, Verdict>`.
#[derive(Debug, Error)]
pub enum JsonError {
    /// The value is null. Rejected with the code `tombstone`.
    #[error("the value is null, not JSON")]
    Tombstone,
    /// The value is not JSON, or not of the shape that was asked for. Rejected with the code `bad-json`.
    #[error("the value is not the JSON expected: {0}")]
    Malformed(#[source] serde_json::Error),
    /// A type can't be written as JSON, such as a map whose keys are not strings. Rejected with the code `not-json`.
    #[error("the output can't be written as JSON: {0}")]
    Unwritable(#[source] serde_json::Error),
}

impl From<JsonError> for Verdict {
    fn from(error: JsonError) -> Self {
        let code = match error {
            JsonError::Tombstone => "tombstone",
            JsonError::Malformed(_) => "bad-json",
            JsonError::Unwritable(_) => "not-json",
        };
        Self::reject(code, error.to_string())
    }
}

impl Event<'_> {
    /// The value, read as JSON. A type with borrowed fields is read without a copy of them.
    ///
    /// ```
    /// use pointsman_sdk::{Event, Output, Verdict};
    /// use serde_json::Value;
    ///
    /// fn double(event: &Event) -> Result<Verdict, Verdict> {
    ///     let mut order: Value = event.json()?;
    ///     order["amount"] = (2.0 * order["amount"].as_f64().unwrap_or(0.0)).into();
    ///     Ok(Verdict::emit([Output::unchanged().json(&order)?]))
    /// }
    ///
    /// assert_eq!(double(&Event::tombstone()), Err(Verdict::reject("tombstone", "the value is null, not JSON")));
    /// assert_eq!(
    ///     double(&Event::of(r#"{"amount":2.5}"#)),
    ///     Ok(Verdict::emit([Output::unchanged().value(r#"{"amount":5.0}"#)]))
    /// );
    /// ```
    ///
    /// # Errors
    /// [`JsonError::Tombstone`] or [`JsonError::Malformed`].
    pub fn json<'a, T: Deserialize<'a>>(&'a self) -> Result<T, JsonError> {
        serde_json::from_slice(self.value().ok_or(JsonError::Tombstone)?).map_err(JsonError::Malformed)
    }
}

impl Output {
    /// With this value, written as JSON.
    ///
    /// # Errors
    /// [`JsonError::Unwritable`].
    pub fn json(self, value: &impl Serialize) -> Result<Self, JsonError> {
        // Most values fit, where one that grows is copied.
        let mut text = Vec::with_capacity(512);
        serde_json::to_writer(&mut text, value).map_err(JsonError::Unwritable)?;
        Ok(self.value(text))
    }
}

impl Config {
    /// The configuration as a type of the plugin's own. `#[serde(deny_unknown_fields)]` on it refuses misspelt keys.
    ///
    /// # Errors
    /// A sentence that [`Plugin::configure`](crate::Plugin::configure) can hand on.
    pub fn parse<'a, T: Deserialize<'a>>(&'a self) -> Result<T, String> {
        serde_json::from_str(self.text()).map_err(|error| format!("the plugin's `config` is not valid: {error}"))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::panic, clippy::unwrap_used, reason = "a test may fail by panic")]

    use std::collections::BTreeMap;

    use super::*;

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Settings<'a> {
        currency: &'a str,
    }

    #[test]
    fn each_failure_has_its_code() {
        let code = |error: JsonError| match error.into() {
            Verdict::Reject(rejection) => rejection.code,
            verdict => panic!("{verdict:?}"),
        };
        assert_eq!(code(Event::tombstone().json::<u8>().unwrap_err()), "tombstone");
        for value in ["", "{", "300", "\"a\"", "1 2"] {
            assert_eq!(code(Event::of(value).json::<u8>().unwrap_err()), "bad-json", "{value}");
        }
        let not_json = BTreeMap::from([((), ())]);
        assert_eq!(code(Output::unchanged().json(&not_json).unwrap_err()), "not-json");
        assert_eq!(Event::of("30").json::<u8>().unwrap(), 30);
    }

    #[test]
    fn a_configuration_is_read_strictly() {
        assert_eq!(Config::from(r#"{"currency":"EUR"}"#).parse(), Ok(Settings { currency: "EUR" }));
        let error = Config::from(r#"{"curency":"EUR"}"#).parse::<Settings<'_>>().unwrap_err();
        assert!(error.contains("`config`") && error.contains("curency"), "{error}");
    }
}
