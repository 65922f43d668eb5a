//! Lets only such values pass as fit a JSON Schema (drafts 4 to 2020-12), which is in the configuration:
//!
//! ```toml
//! [plugins.validate-schema.config.schema]
//! type = "object"
//! required = ["id"]
//! properties = { id = { type = "string" }, amount = { type = "number", minimum = 0 } }
//! ```
//!
//! What does not fit is rejected with the code `schema`, and told with its place and the rule that it breaks. Values themselves
//! are not told: messages end in logs and dead letters. What is not JSON, or nested deeper than 127 levels, is rejected with the code `bad-json`. A
//! tombstone passes. `format` is checked; a schema may refer to parts of itself, and to nothing else.

use std::error::Error;

use boon::{CompileError, Compiler, Draft, ErrorKind, SchemaIndex, Schemas, UrlLoader, ValidationError};
use pointsman_sdk::{Config, Event, Fields, Plugin, Verdict};
use serde::Deserialize;
use serde_json::Value;

struct ValidateSchema {
    schemas: Schemas,
    schema: SchemaIndex,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    schema: Value,
}

/// What the schema is called where it refers to itself.
const HERE: &str = "config:///schema";

/// There is nowhere to load another schema from.
struct Nowhere;

impl UrlLoader for Nowhere {
    fn load(&self, _: &str) -> Result<Value, Box<dyn Error>> {
        Err("a schema may refer to parts of itself only".into())
    }
}

impl Plugin for ValidateSchema {
    const FIELDS: Fields = Fields::VALUE;

    fn configure(config: Config) -> Result<Self, String> {
        let Settings { schema } = config.parse()?;
        let mut compiler = Compiler::new();
        compiler.set_default_draft(Draft::V2020_12);
        compiler.enable_format_assertions();
        compiler.use_loader(Box::new(Nowhere));
        let mut schemas = Schemas::new();
        let refused = |error: CompileError| format!("`schema` is no JSON Schema: {error:#}");
        compiler.add_resource(HERE, schema).map_err(refused)?;
        let schema = compiler.compile(HERE, &mut schemas).map_err(refused)?;
        Ok(Self { schemas, schema })
    }

    fn process(&mut self, event: &Event) -> Verdict {
        if event.is_tombstone() {
            return Verdict::pass();
        }
        self.validate(event).into()
    }
}

impl ValidateSchema {
    fn validate(&self, event: &Event) -> Result<Verdict, Verdict> {
        let value: Value = event.json()?;
        if !is_comparable(&value) {
            return Err(Verdict::reject("schema", "it has a number that is too large to be compared with anything"));
        }
        match self.schemas.validate(&value, self.schema) {
            Ok(()) => Ok(Verdict::pass()),
            Err(error) => Err(Verdict::reject("schema", complaint(&error))),
        }
    }
}

/// Whether all numbers have a place among those that rules speak of: one beyond would break none of them.
fn is_comparable(value: &Value) -> bool {
    match value {
        Value::Number(number) => number.as_f64().is_some_and(f64::is_finite),
        Value::Array(items) => items.iter().all(is_comparable),
        Value::Object(members) => members.values().all(is_comparable),
        _ => true,
    }
}

/// The first thing that is wrong, without the value that is.
fn complaint(error: &ValidationError<'_, '_>) -> String {
    let mut first = error;
    // Of alternatives, each of which fails for a reason of its own, no reason is the first.
    while !matches!(first.kind, ErrorKind::AnyOf | ErrorKind::OneOf(_))
        && let Some(cause) = first.causes.first()
    {
        first = cause;
    }
    let place = first.instance_location.to_string();
    let place = if place.is_empty() { "the value".to_owned() } else { format!("`{place}`") };
    match &first.kind {
        ErrorKind::Required { want } => format!("{place} lacks `{}`", want.join("`, `")),
        ErrorKind::AdditionalProperties { got } => format!("{place} has `{}` besides", got.join("`, `")),
        ErrorKind::Type { got, want } => {
            let want: Vec<String> = want.iter().map(|want| want.to_string()).collect();
            format!("{place} is of type {got}, not {}", want.join(" or "))
        }
        kind => {
            let schema = first.schema_url.trim_start_matches(HERE);
            let keyword = kind.keyword_path().map(|keyword| format!("/{keyword}")).unwrap_or_default();
            format!("{place} breaks the rule {schema}{keyword}")
        }
    }
}

pointsman_sdk::export!(ValidateSchema);

/// A sandbox has no randomness that is not granted, and what seeds the maps of boon need not be random: a schema is written by
/// the operator.
#[cfg(target_arch = "wasm32")]
#[unsafe(no_mangle)]
unsafe extern "Rust" fn __getrandom_v03_custom(to: *mut u8, count: usize) -> Result<(), getrandom::Error> {
    // SAFETY: whoever calls it hands over room for so many bytes.
    unsafe { to.write_bytes(0x5a, count) };
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may fail by panic")]

    use pointsman_sdk::testing;

    use super::*;

    const ORDER: &str = r##"{"schema":{
        "type": "object", "required": ["id"], "additionalProperties": false,
        "properties": {
            "id": {"type": "string", "pattern": "^o-[0-9]+$"},
            "amount": {"type": "number", "minimum": 0, "multipleOf": 0.01},
            "at": {"type": "string", "format": "date-time"},
            "parts": {"type": "array", "items": {"$ref": "#"}},
            "by": {"anyOf": [{"type": "null"}, {"type": "string"}]}
        }}}"##;

    fn judge(value: &str) -> Verdict {
        testing::judge(&mut ValidateSchema::configure(ORDER.into()).unwrap(), Event::of(value))
    }

    #[test]
    fn what_fits_passes() {
        for value in [
            r#"{"id":"o-1"}"#,
            r#"{"id":"o-1","amount":12.5,"at":"2026-01-01T00:00:00Z","parts":[{"id":"o-2","parts":[]}]}"#,
        ] {
            assert_eq!(judge(value), Verdict::pass(), "{value}");
        }
        let mut plugin = ValidateSchema::configure(ORDER.into()).unwrap();
        assert_eq!(plugin.process(&Event::tombstone()), Verdict::pass());
    }

    #[test]
    fn what_does_not_fit_is_told_with_its_place_and_not_with_its_value() {
        for (value, message) in [
            ("[]", "the value is of type array, not object"),
            ("{}", "the value lacks `id`"),
            (r#"{"id":"secret"}"#, "`/id` breaks the rule #/properties/id/pattern"),
            (r#"{"id":"o-1","amount":-1}"#, "`/amount` breaks the rule #/properties/amount/minimum"),
            (r#"{"id":"o-1","amount":1e400}"#, "it has a number that is too large to be compared with anything"),
            (r#"{"id":"o-1","at":"secret"}"#, "`/at` breaks the rule #/properties/at/format"),
            (r#"{"id":"o-1","name":"secret"}"#, "the value has `name` besides"),
            (r#"{"id":"o-1","by":7}"#, "`/by` breaks the rule #/properties/by/anyOf"),
            (r#"{"id":"o-1","parts":[{"id":"o-2"},{}]}"#, "`/parts/1` lacks `id`"),
        ] {
            let verdict = judge(value);
            assert!(
                matches!(&verdict, Verdict::Reject(why) if why.code == "schema" && why.message == message),
                "{value}: {verdict:?}"
            );
        }
    }

    #[test]
    fn what_is_no_json_is_rejected() {
        let deep = ["[".repeat(10_000), "]".repeat(10_000)].concat();
        for value in ["", "{", "o-1", &deep] {
            assert!(matches!(judge(value), Verdict::Reject(why) if why.code == "bad-json"));
        }
    }

    #[test]
    fn a_wrong_configuration_is_refused() {
        for config in [
            "{}",
            r#"{"schema":{"type":"nothing"}}"#,
            r##"{"schema":{"$ref":"#/nowhere"}}"##,
            r#"{"schema":{"$ref":"https://schemas.example/order.json"}}"#,
            r#"{"schema":{"$ref":"file:///etc/passwd"}}"#,
            r#"{"schema":{"pattern":"("}}"#,
            r#"{"schema":true,"strict":true}"#,
        ] {
            assert!(ValidateSchema::configure(config.into()).is_err(), "{config}");
        }
        assert!(ValidateSchema::configure(r#"{"schema":true}"#.into()).is_ok());
    }
}
