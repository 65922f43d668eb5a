//! The forms of bytes in JSON.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::LineError;

/// The member that holds bytes which are not text.
const BASE64: &str = "base64";

/// The members of a JSON object in their order, duplicates included.
pub(crate) struct Members<'a>(pub(crate) Vec<(String, &'a RawValue)>);

/// The bytes that `json` stands for; `None` where it is null.
pub(super) fn read(json: &RawValue) -> Result<Option<Vec<u8>>, LineError> {
    let text = json.get();
    match text.as_bytes().first() {
        Some(b'n') => Ok(None),
        Some(b'"') => string(json).map(|text| Some(text.into_bytes())),
        Some(b'{') => match only_base64(text) {
            Some(encoded) => decode(encoded).map(Some),
            None => Ok(Some(compact(text).into_bytes())),
        },
        _ => Ok(Some(compact(text).into_bytes())),
    }
}

/// The text of a JSON string.
pub(super) fn string(json: &RawValue) -> Result<String, LineError> {
    if !json.get().starts_with('"') {
        return Err(LineError::new("it is not a string", "put it in quotes"));
    }
    // The syntax was checked when the line was read; an escape for half of a surrogate pair is all that is left.
    serde_json::from_str(json.get()).map_err(|_| {
        LineError::new(
            "an escape in it stands for no character",
            "write characters beyond U+FFFF as a pair of escapes, and bytes that are no text as {\"base64\": \"…\"}",
        )
    })
}

/// Appends the form of `bytes` that is a string, or base64, or null.
pub(super) fn append_text(line: &mut String, bytes: Option<&[u8]>) {
    let Some(bytes) = bytes else {
        line.push_str("null");
        return;
    };
    match std::str::from_utf8(bytes) {
        Ok(text) => append_string(line, text),
        Err(_) => {
            line.push_str("{\"base64\":\"");
            STANDARD.encode_string(bytes, line);
            line.push_str("\"}");
        }
    }
}

/// Appends `bytes` as the JSON they are, where that reads back to the same bytes; else as [`append_text`].
pub(super) fn append_json(line: &mut String, bytes: Option<&[u8]>) {
    match bytes.and_then(as_json) {
        Some(json) => line.push_str(json),
        None => append_text(line, bytes),
    }
}

/// Appends a JSON string.
pub(super) fn append_string(line: &mut String, text: &str) {
    // The one way to fail, writing, is no way here: a `String` takes everything.
    line.push_str(&serde_json::to_string(text).unwrap_or_default());
}

/// The bytes as JSON that [`read`] reads back to them.
fn as_json(bytes: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(bytes).ok()?;
    // A string would read as its text, null as a tombstone, and space around or between tokens would be lost.
    if !matches!(text.as_bytes().first()?, b'{' | b'[' | b'-' | b'0'..=b'9' | b't' | b'f') {
        return None;
    }
    let json: &RawValue = serde_json::from_str(text).ok()?;
    (compact(json.get()) == text && only_base64(text).is_none()).then_some(text)
}

/// The value of `base64`, where that is the only member of the object `text`.
fn only_base64(text: &str) -> Option<&RawValue> {
    let Members(members) = serde_json::from_str(text).ok()?;
    match members[..] {
        [(ref name, encoded)] if name == BASE64 => Some(encoded),
        _ => None,
    }
}

fn decode(encoded: &RawValue) -> Result<Vec<u8>, LineError> {
    let remedy =
        "write the bytes in base64 (A-Z, a-z, 0-9, +, /, padded with =), or the object itself as JSON in a string";
    let text = string(encoded).map_err(|_| LineError::new("`base64` is not a string", remedy))?;
    STANDARD.decode(text).map_err(|_| LineError::new("what `base64` holds can't be decoded", remedy))
}

/// JSON text without the space between its tokens.
pub(crate) fn compact(json: &str) -> String {
    let mut compact = String::with_capacity(json.len());
    let mut rest = json;
    // Outside strings up to the next quote, then the string up to its end, and so on.
    while let Some((outside, inside)) = rest.split_once('"') {
        compact.extend(outside.split([' ', '\t', '\n', '\r']));
        let end = string_end(inside);
        compact.push('"');
        compact.push_str(&inside[..end]);
        rest = &inside[end..];
    }
    compact.extend(rest.split([' ', '\t', '\n', '\r']));
    compact
}

/// One past the quote that ends a string, counted from behind the one that begins it.
fn string_end(inside: &str) -> usize {
    let mut escaped = false;
    let quote = inside.bytes().position(|byte| {
        let ends = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        ends
    });
    quote.map_or(inside.len(), |quote| quote + 1)
}

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct MembersVisitor;
        impl<'de> Visitor<'de> for MembersVisitor {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = entries.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(MembersVisitor)
    }
}
