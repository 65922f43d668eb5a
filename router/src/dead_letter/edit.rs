//! What is mended in a record before it is replayed.

use std::fmt;
use std::str::FromStr;

use pointsman_core::record::OwnedHeader;
use serde_json::Value;
use serde_json::value::RawValue;
use thiserror::Error;

use crate::record_text::{Members, RecordLine};

/// What the names of our own headers begin with.
const OURS: &str = "pointsman.";

/// One change. As text: `header NAME=VALUE`, `unset NAME`, or a JSON merge patch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Edit {
    /// The header gets this value, in place of all that have its name.
    Set {
        /// Its name.
        name: String,
        /// Its value.
        value: String,
    },
    /// All headers of this name go.
    Unset {
        /// The name.
        name: String,
    },
    /// A JSON merge patch (RFC 7396) on the value, which is an object and stays one.
    ///
    /// What it does not touch stays as it is written, letter by letter: the digits of numbers, the order of members. (Which is
    /// why it is no library's: they read all numbers, and write them as they understand them.)
    Merge(Patch),
}

/// A JSON object that says what is to change: members to be set, and with null those to be removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Patch(String);

/// A text that says no change.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum EditError {
    /// It has none of the forms.
    #[error(
        "it says no change; write `header NAME=VALUE`, `unset NAME`, or a JSON merge patch such as {{\"country\":\"DE\"}}"
    )]
    Form,
    /// It begins like JSON.
    #[error("it is no JSON object: {0}")]
    Json(String),
    /// Such headers tell where a record came from.
    #[error("headers that begin with `{OURS}` are Pointsman's own; leave {0} as it is")]
    Ours(String),
}

/// Why an edit can't be made in a record.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum EditFailed {
    /// There is nothing to patch.
    #[error("it has no value to patch: it is a tombstone")]
    Tombstone,
    /// It could only be replaced.
    #[error("its value is no JSON object, and can't be patched")]
    NoObject,
}

impl FromStr for Edit {
    type Err = EditError;

    fn from_str(text: &str) -> Result<Self, EditError> {
        let text = text.trim();
        let named = |name: &str| match name.trim() {
            "" => Err(EditError::Form),
            name if name.starts_with(OURS) => Err(EditError::Ours(name.to_owned())),
            name => Ok(name.to_owned()),
        };
        if text.starts_with('{') {
            // With a bound on its depth, which holds for what is done with it too.
            return match serde_json::from_str::<Value>(text) {
                Ok(_) => Ok(Self::Merge(Patch(text.to_owned()))),
                Err(error) => Err(EditError::Json(error.to_string())),
            };
        }
        match text.split_once(char::is_whitespace) {
            Some(("header", rest)) => {
                let (name, value) = rest.split_once('=').ok_or(EditError::Form)?;
                Ok(Self::Set { name: named(name)?, value: value.to_owned() })
            }
            Some(("unset", name)) => Ok(Self::Unset { name: named(name)? }),
            _ => Err(EditError::Form),
        }
    }
}

impl fmt::Display for Edit {
    /// As it is read.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Set { name, value } => write!(f, "header {name}={value}"),
            Self::Unset { name } => write!(f, "unset {name}"),
            Self::Merge(Patch(patch)) => f.write_str(patch),
        }
    }
}

impl Edit {
    /// Makes the change.
    ///
    /// # Errors
    /// [`EditFailed`]: the record is as it was.
    pub fn apply(&self, record: &mut RecordLine) -> Result<(), EditFailed> {
        match self {
            Self::Set { name, value } => {
                let is_it = |header: &OwnedHeader| *header.name == *name.as_bytes();
                let first = record.headers.iter().position(is_it);
                record.headers.retain(|header| !is_it(header));
                record.headers.insert(first.unwrap_or(record.headers.len()), OwnedHeader::text(name, value.as_str()));
            }
            Self::Unset { name } => record.headers.retain(|header| *header.name != *name.as_bytes()),
            Self::Merge(Patch(patch)) => {
                let value = record.value.as_deref().ok_or(EditFailed::Tombstone)?;
                let text = std::str::from_utf8(value).map_err(|_| EditFailed::NoObject)?;
                let (target, patch) = (object(text).ok_or(EditFailed::NoObject)?, object(patch));
                record.value = Some(merge(target, patch.unwrap_or(Members(Vec::new()))).into_bytes());
            }
        }
        Ok(())
    }
}

/// The members of a JSON object.
fn object(json: &str) -> Option<Members<'_>> {
    if json.trim_start().starts_with('{') { serde_json::from_str(json).ok() } else { None }
}

/// `MergePatch` of RFC 7396, of objects, as text. Of members with one name the last one counts, as for most who read JSON.
fn merge(Members(target): Members<'_>, Members(patch): Members<'_>) -> String {
    let last = |members: &[(String, &RawValue)], name: &str| members.iter().rposition(|(other, _)| other == name);
    let mut merged = Vec::new();
    for (index, (name, json)) in target.iter().enumerate() {
        match last(&patch, name) {
            None => merged.push((name, json.get().to_owned())),
            Some(_) if last(&target, name) != Some(index) => {}
            Some(change) => merged.extend(changed(Some(json.get()), patch[change].1.get()).map(|json| (name, json))),
        }
    }
    for (index, (name, json)) in patch.iter().enumerate() {
        if last(&target, name).is_none() && last(&patch, name) == Some(index) {
            merged.extend(changed(None, json.get()).map(|json| (name, json)));
        }
    }
    // A name is text, which JSON can always say.
    let member = |(name, json): (&String, String)| format!("{}:{json}", Value::from(name.as_str()));
    format!("{{{}}}", merged.into_iter().map(member).collect::<Vec<_>>().join(","))
}

/// What becomes of one member; `None` where it is removed.
fn changed(member: Option<&str>, patch: &str) -> Option<String> {
    if patch == "null" {
        return None;
    }
    let Some(patch) = object(patch) else { return Some(patch.to_owned()) };
    Some(merge(member.and_then(object).unwrap_or(Members(Vec::new())), patch))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn edited(edit: &str, value: Option<&[u8]>) -> Result<RecordLine, EditFailed> {
        let headers = ["a", "b", "a"].map(|name| OwnedHeader::text(name, "old")).to_vec();
        let mut record = RecordLine { value: value.map(Into::into), headers, ..RecordLine::default() };
        edit.parse::<Edit>().unwrap().apply(&mut record).map(|()| record)
    }

    fn headers(edit: &str) -> String {
        let record = edited(edit, None).unwrap();
        let shown = |header: &OwnedHeader| {
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            format!("{}={}", text(&header.name), header.value.as_deref().map_or("null".into(), text))
        };
        record.headers.iter().map(shown).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn headers_are_set_in_their_place_and_taken_off() {
        assert_eq!(headers("header a=new=er"), "a=new=er b=old");
        assert_eq!(headers("header c="), "a=old b=old a=old c=");
        assert_eq!(headers("unset a"), "b=old");
        assert_eq!(headers("unset c"), "a=old b=old a=old");
    }

    /// The examples of RFC 7396, appendix A, in which both sides are objects.
    #[test]
    fn a_merge_patch_does_what_its_rfc_says() {
        for (target, patch, expected) in [
            (r#"{"a":"b"}"#, r#"{"a":"c"}"#, r#"{"a":"c"}"#),
            (r#"{"a":"b"}"#, r#"{"b":"c"}"#, r#"{"a":"b","b":"c"}"#),
            (r#"{"a":"b"}"#, r#"{"a":null}"#, r"{}"),
            (r#"{"a":"b","b":"c"}"#, r#"{"a":null}"#, r#"{"b":"c"}"#),
            (r#"{"a":["b"]}"#, r#"{"a":"c"}"#, r#"{"a":"c"}"#),
            (r#"{"a":"c"}"#, r#"{"a":["b"]}"#, r#"{"a":["b"]}"#),
            (r#"{"a":{"b":"c"}}"#, r#"{"a":{"b":"d","c":null}}"#, r#"{"a":{"b":"d"}}"#),
            (r#"{"a":[{"b":"c"}]}"#, r#"{"a":[1]}"#, r#"{"a":[1]}"#),
            (r#"{"e":null}"#, r#"{"a":1}"#, r#"{"e":null,"a":1}"#),
            (r"{}", r#"{"a":{"bb":{"ccc":null}}}"#, r#"{"a":{"bb":{}}}"#),
        ] {
            let record = edited(patch, Some(target.as_bytes())).unwrap();
            assert_eq!(String::from_utf8(record.value.unwrap()).unwrap(), expected, "{target} with {patch}");
        }
    }

    #[test]
    fn what_a_patch_does_not_touch_stays_as_it_is_written() {
        let value = r#" {"z": 12.50, "id":12345678901234567890123, "x": {"é":"\u00e9" , "n":1e2}, "a":1, "a":2}"#;
        let record = edited(r#"{"x":{"n":2.10},"a":3}"#, Some(value.as_bytes())).unwrap();
        let expected = r#"{"z":12.50,"id":12345678901234567890123,"x":{"é":"\u00e9","n":2.10},"a":3}"#;
        assert_eq!(String::from_utf8(record.value.unwrap()).unwrap(), expected);
    }

    #[test]
    fn what_can_not_be_edited_is_told() {
        assert_eq!(edited("{}", None), Err(EditFailed::Tombstone));
        for value in [&b"[1]"[..], b"text", b"{", b"\xff", b"17"] {
            assert_eq!(edited("{}", Some(value)), Err(EditFailed::NoObject));
        }
        for text in ["", "header", "header a", "header =x", "unset", "unset ", "a=b", "[1]", "null"] {
            assert_eq!(text.parse::<Edit>(), Err(EditError::Form), "{text}");
        }
        assert!(matches!("{\"a\"".parse::<Edit>(), Err(EditError::Json(_))));
        assert!(matches!("header pointsman.version=2".parse::<Edit>(), Err(EditError::Ours(_))));
        for text in ["header a=b = c", "unset a", r#"{"a": null}"#] {
            assert_eq!(text.parse::<Edit>().unwrap().to_string(), text);
        }
    }

    fn json() -> impl Strategy<Value = Value> {
        let leaf =
            prop_oneof![Just(Value::Null), any::<i64>().prop_map(Value::from), "[ -~]{0,3}".prop_map(Value::from)];
        leaf.prop_recursive(3, 12, 3, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
                prop::collection::vec(("[abc]", inner), 0..3)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    fn object() -> impl Strategy<Value = Value> {
        prop::collection::vec(("[abc]", json()), 0..4).prop_map(|members| Value::Object(members.into_iter().collect()))
    }

    /// The algorithm of the RFC, on values that are understood.
    fn by_the_book(target: Value, patch: Value) -> Value {
        let Value::Object(patch) = patch else { return patch };
        let mut target = if let Value::Object(target) = target { target } else { serde_json::Map::new() };
        for (name, value) in patch {
            if value.is_null() {
                target.remove(&name);
            } else {
                let old = target.remove(&name).unwrap_or(Value::Null);
                target.insert(name, by_the_book(old, value));
            }
        }
        Value::Object(target)
    }

    proptest! {
        #[test]
        fn a_merge_patch_agrees_with_the_algorithm_of_its_rfc(target in object(), patch in object()) {
            let record = edited(&patch.to_string(), Some(target.to_string().as_bytes())).unwrap();
            let merged: Value = serde_json::from_slice(&record.value.unwrap()).unwrap();
            prop_assert_eq!(merged, by_the_book(target, patch));
        }
    }
}
