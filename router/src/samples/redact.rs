//! What nobody is to see of a sample.
//!
//! **Where it can't be told what is to be hidden, nothing is shown.** A path goes through lists, into each element; what stands at the
//! end of it is replaced, and so is whatever it meets before its end that could be neither gone into nor nothing: where a `card` is a text one
//! day, `value.card.number` hides that.

use std::fmt;

use pointsman_core::condition::FieldPath;
use pointsman_core::record::OwnedHeader;
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::record_text::{bytes_form, compact_json, string_form, value_form};

/// What stands for what is hidden.
pub(crate) const REDACTED: &str = "\"[redacted]\"";

/// What is to be hidden.
#[derive(Clone, Debug, Default)]
pub(crate) struct Redaction {
    key: bool,
    all_headers: bool,
    /// Names of headers, in small letters.
    headers: Vec<String>,
    /// Names to what is hidden in the value; one without names is the whole value.
    value: Vec<Vec<Box<str>>>,
}

impl Redaction {
    pub(crate) fn of(paths: &[FieldPath]) -> Self {
        let mut redaction = Self::default();
        for path in paths {
            match path {
                FieldPath::Key => redaction.key = true,
                FieldPath::Headers => redaction.all_headers = true,
                FieldPath::Header(name) => redaction.headers.push(name.to_ascii_lowercase()),
                FieldPath::Value(names) => redaction.value.push(names.clone()),
            }
        }
        redaction
    }

    /// The key, as JSON.
    pub(crate) fn key(&self, key: Option<&[u8]>) -> String {
        if self.key && key.is_some() { REDACTED.to_owned() } else { bytes_form(key) }
    }

    /// Whether the key is hidden.
    pub(crate) fn hides_key(&self) -> bool {
        self.key
    }

    /// Name and value of a header, as JSON.
    pub(crate) fn header(&self, OwnedHeader { name, value }: &OwnedHeader) -> [String; 2] {
        let is_hidden =
            self.all_headers || self.headers.iter().any(|hidden| name.eq_ignore_ascii_case(hidden.as_bytes()));
        let shown = if is_hidden && value.is_some() { REDACTED.to_owned() } else { bytes_form(value.as_deref()) };
        [bytes_form(Some(name)), shown]
    }

    /// The value, as JSON; `None` where something of it is to be hidden, and it is not JSON.
    pub(crate) fn value(&self, value: Option<&[u8]>) -> Option<String> {
        let Some(bytes) = value.filter(|_| !self.value.is_empty()) else { return Some(value_form(value)) };
        let paths: Vec<&[Box<str>]> = self.value.iter().map(Vec::as_slice).collect();
        if is_end(&paths) {
            return Some(REDACTED.to_owned());
        }
        let text = str::from_utf8(bytes).ok()?;
        let mut shown = String::with_capacity(text.len());
        let mut json = serde_json::Deserializer::from_str(text);
        Node { paths, shown: &mut shown }.deserialize(&mut json).ok()?;
        json.end().ok()?;
        Some(compact_json(&shown))
    }
}

fn is_end(paths: &[&[Box<str>]]) -> bool {
    paths.iter().any(|path| path.is_empty())
}

/// A node of the JSON that paths lead into, to be written without what is at their ends. Other nodes are written as they are.
struct Node<'p, 's> {
    paths: Vec<&'p [Box<str>]>,
    shown: &'s mut String,
}

impl Node<'_, '_> {
    fn hide(self) {
        self.shown.push_str(REDACTED);
    }
}

impl<'de> DeserializeSeed<'de> for Node<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Node<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        self.shown.push('{');
        let mut first = true;
        while let Some(name) = members.next_key::<String>()? {
            if !std::mem::take(&mut first) {
                self.shown.push(',');
            }
            self.shown.push_str(&string_form(&name));
            self.shown.push(':');
            let led = self.paths.iter().filter_map(|path| path.split_first());
            let paths: Vec<&[Box<str>]> = led.filter(|(step, _)| ***step == *name).map(|(_, rest)| rest).collect();
            if is_end(&paths) {
                members.next_value::<IgnoredAny>()?;
                self.shown.push_str(REDACTED);
            } else if paths.is_empty() {
                self.shown.push_str(members.next_value::<&RawValue>()?.get());
            } else {
                members.next_value_seed(Node { paths, shown: &mut *self.shown })?;
            }
        }
        self.shown.push('}');
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<(), A::Error> {
        self.shown.push('[');
        let begin = self.shown.len();
        loop {
            let end = self.shown.len();
            if end > begin {
                self.shown.push(',');
            }
            if elements.next_element_seed(Node { paths: self.paths.clone(), shown: &mut *self.shown })?.is_none() {
                self.shown.truncate(end);
                break;
            }
        }
        self.shown.push(']');
        Ok(())
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        self.shown.push_str("null");
        Ok(())
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<(), E> {
        self.hide();
        Ok(())
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<(), E> {
        self.hide();
        Ok(())
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<(), E> {
        self.hide();
        Ok(())
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<(), E> {
        self.hide();
        Ok(())
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<(), E> {
        self.hide();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use pointsman_core::condition::FieldPath;
    use pointsman_core::record::OwnedHeader;
    use proptest::prelude::*;

    use super::Redaction;

    fn redaction(paths: &[&str]) -> Redaction {
        Redaction::of(&paths.iter().map(|path| FieldPath::parse(path).unwrap()).collect::<Vec<_>>())
    }

    fn value(paths: &[&str], value: &str) -> Option<String> {
        redaction(paths).value(Some(value.as_bytes()))
    }

    #[test]
    fn what_is_named_is_hidden_and_nothing_else() {
        let hidden = |paths: &[&str], given: &str| value(paths, given).unwrap();
        for (paths, given, shown) in [
            (&["value.a.b"][..], r#"{"a":{"b":1,"c":2},"b":3}"#, r#"{"a":{"b":"[redacted]","c":2},"b":3}"#),
            (&["value.a", "value.a.b"], r#"{"a":{"b":1}}"#, r#"{"a":"[redacted]"}"#),
            (
                &["value.a.b", "value.a.c"],
                r#"{"a":{"b":[1],"c":{},"d":0}}"#,
                r#"{"a":{"b":"[redacted]","c":"[redacted]","d":0}}"#,
            ),
            // Numbers and names are written as they are, and one that is there twice is hidden twice.
            (
                &["value.a"],
                r#"{"n":1e400,"a":1,"a":2,"\u0061":3}"#,
                r#"{"n":1e400,"a":"[redacted]","a":"[redacted]","a":"[redacted]"}"#,
            ),
            // Lists are gone through, also in lists.
            (
                &["value.a.b"],
                r#"{"a":[{"b":1},[{"b":2,"c":3}],{}]}"#,
                r#"{"a":[{"b":"[redacted]"},[{"b":"[redacted]","c":3}],{}]}"#,
            ),
            (&["value.b"], r#"[{"b":1},{"c":1}]"#, r#"[{"b":"[redacted]"},{"c":1}]"#),
            (&["value.a"], "[]", "[]"),
            // What is no object where one is expected may be what was in it.
            (&["value.a.b"], r#"{"a":"4111"}"#, r#"{"a":"[redacted]"}"#),
            (&["value.a.b"], r#"{"a":[4111,true,null]}"#, r#"{"a":["[redacted]","[redacted]",null]}"#),
            (&["value.a"], "\"text\"", "\"[redacted]\""),
            (&["value.a"], "null", "null"),
            (&["value"], "not JSON", "\"[redacted]\""),
            // One line, whatever it was.
            (&["value.a"], "{\n  \"b\": [1,\n 2], \"c\": \"x  y\" }", r#"{"b":[1,2],"c":"x  y"}"#),
        ] {
            assert_eq!(hidden(paths, given), shown, "{paths:?} of {given}");
        }
        assert_eq!(redaction(&["value.a"]).value(None).unwrap(), "null");
        assert_eq!(redaction(&["value"]).value(None).unwrap(), "null");
    }

    #[test]
    fn what_can_not_be_read_is_not_shown_where_something_of_it_is_hidden() {
        let deep = format!("{}1{}", "[".repeat(1000), "]".repeat(1000));
        for given in ["not JSON", "{\"a\": 1", "{\"a\": 1} trailing", "", &deep] {
            assert_eq!(value(&["value.b"], given), None, "{given}");
            assert!(value(&["key"], given).is_some(), "{given}");
        }
        assert_eq!(redaction(&["value.a"]).value(Some(b"\xff")), None);
        assert_eq!(redaction(&[]).value(Some(b"\xff")).unwrap(), r#"{"base64":"/w=="}"#);
        assert_eq!(value(&[], "not JSON").unwrap(), "\"not JSON\"");
        // Beside the path it may be as deep as it likes.
        assert!(value(&["value.b"], &format!("{{\"a\":{deep},\"b\":1}}")).is_some());
    }

    #[test]
    fn keys_and_headers_are_hidden_by_name() {
        let header = |name: &[u8], value: Option<&str>| OwnedHeader {
            name: name.into(),
            value: value.map(|value| value.as_bytes().into()),
        };
        let hides = redaction(&["key", "headers.Authorization"]);
        assert_eq!((hides.key(Some(b"k")), hides.key(None)), ("\"[redacted]\"".to_owned(), "null".to_owned()));
        assert_eq!(hides.header(&header(b"authorization", Some("x")))[1], "\"[redacted]\"");
        assert_eq!(hides.header(&header(b"AUTHORIZATION", None))[1], "null");
        assert_eq!(hides.header(&header(b"author\xff", Some("x"))), [r#"{"base64":"YXV0aG9y/w=="}"#, "\"x\""]);
        assert_eq!(redaction(&["headers"]).header(&header(b"any", Some("x")))[1], "\"[redacted]\"");
    }

    /// JSON in which `secret` stands wherever the path leads to, and nowhere else.
    fn holding(secret: String, path: Vec<String>) -> BoxedStrategy<serde_json::Value> {
        let (here, rest) = match path.split_first() {
            None => {
                let within = |secret: String| serde_json::json!({ "deep": [[{ "er": secret }], secret] });
                return prop_oneof![Just(serde_json::Value::from(secret.clone())), Just(within(secret))].boxed();
            }
            Some((first, rest)) => (first.clone(), rest.to_vec()),
        };
        // It may be a text where an object is expected, too.
        let inner = prop_oneof![4 => holding(secret.clone(), rest), 1 => Just(serde_json::Value::from(secret))];
        let object = (inner, noise()).prop_map(
            move |(inner, noise)| serde_json::json!({ here.clone(): inner, "other": noise.clone(), "z": [noise] }),
        );
        prop::collection::vec(object, 1..3)
            .prop_flat_map(|objects| {
                let list = serde_json::Value::from(objects.clone());
                let lists = serde_json::json!([[list.clone()], 7]);
                // A number beside objects could be what was in them: it is hidden, and no secret.
                prop_oneof![3 => Just(objects[0].clone()), 1 => Just(list), 1 => Just(lists)]
            })
            .boxed()
    }

    fn noise() -> impl Strategy<Value = serde_json::Value> {
        prop_oneof![
            Just(serde_json::Value::Null),
            any::<i64>().prop_map(serde_json::Value::from),
            any::<String>().prop_map(serde_json::Value::from),
            prop::collection::vec(any::<f32>().prop_map(serde_json::Value::from), 0..3)
                .prop_map(serde_json::Value::from),
        ]
    }

    fn names() -> impl Strategy<Value = Vec<String>> {
        prop::collection::vec(prop_oneof!["[a-c]", "[\\PC]{0,3}", Just("a.b".to_owned()), Just("\"".to_owned())], 1..5)
    }

    proptest! {
        #[test]
        fn no_secret_at_a_hidden_path_is_ever_shown(
            (names, given, pretty) in names().prop_flat_map(|names| {
                (Just(names.clone()), holding("SECRET-4111".to_owned(), names), any::<bool>())
            }),
        ) {
            // A name of the path must not be one of the noise around it.
            prop_assume!(!names.iter().any(|name| name == "other" || name == "z"));
            let text = if pretty { serde_json::to_string_pretty(&given) } else { serde_json::to_string(&given) }.unwrap();
            prop_assert!(text.contains("SECRET"));
            let path = FieldPath::Value(names.iter().map(|name| name.as_str().into()).collect());
            let redaction = Redaction::of(&[FieldPath::Key, FieldPath::Headers, path]);
            let shown = redaction.value(Some(text.as_bytes())).unwrap();
            prop_assert!(!shown.contains("SECRET"), "{shown}");
            prop_assert!(serde_json::from_str::<serde_json::Value>(&shown).is_ok() && !shown.contains('\n'), "{shown}");
            // Cut anywhere, it is JSON or is not shown.
            for end in 0..text.len() {
                let cut = redaction.value(Some(&text.as_bytes()[..end]));
                prop_assert!(cut.is_none_or(|shown| !shown.contains("SECRET")));
            }
        }
    }
}
