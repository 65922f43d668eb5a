//! A payload for a person: JSON indented, other text as it is, and bytes in hexadecimal.

use std::fmt::Write as _;

use serde::de::IgnoredAny;

use crate::cli::printable;

/// Deepest indentation.
const MAX_DEPTH: usize = 40;

/// What it is, and how it looks.
pub(super) fn shown(value: &[u8]) -> (&'static str, String) {
    match std::str::from_utf8(value) {
        // A number or a word alone is text as well.
        Ok(text) if text.trim_start().starts_with(['{', '[']) && serde_json::from_str::<IgnoredAny>(text).is_ok() => {
            ("JSON", printable::lines(&indented(text)))
        }
        Ok(text) => ("text", printable::lines(text)),
        Err(_) => ("binary", dump(value)),
    }
}

/// JSON with a line for each member and element. Its tokens stay as they are written: numbers keep their digits, members
/// their order and their duplicates.
fn indented(json: &str) -> String {
    let mut text = String::with_capacity(json.len() * 2);
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    let mut characters = json.chars().filter(|c| *c != '\r').peekable();
    while let Some(c) = characters.next() {
        if in_string {
            text.push(c);
            in_string = c != '"' || escaped;
            escaped = c == '\\' && !escaped;
            continue;
        }
        match c {
            '{' | '[' => {
                text.push(c);
                while characters.next_if(|c| c.is_ascii_whitespace()).is_some() {}
                if let Some(close) = characters.next_if(|c| matches!(c, '}' | ']')) {
                    text.push(close);
                } else {
                    depth += 1;
                    new_line(&mut text, depth);
                }
            }
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                new_line(&mut text, depth);
                text.push(c);
            }
            ',' => {
                text.push(c);
                new_line(&mut text, depth);
            }
            ':' => text.push_str(": "),
            c if c.is_ascii_whitespace() => {}
            c => {
                text.push(c);
                in_string = c == '"';
            }
        }
    }
    text
}

fn new_line(text: &mut String, depth: usize) {
    text.push('\n');
    text.extend(std::iter::repeat_n("  ", depth.min(MAX_DEPTH)));
}

/// Sixteen bytes a line: place, hexadecimal, and what is ASCII in them.
fn dump(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 5);
    for (line, chunk) in bytes.chunks(16).enumerate() {
        // Writing to a `String` can't fail.
        let _ = write!(text, "{}{:08x} ", if line == 0 { "" } else { "\n" }, line * 16);
        for index in 0..16 {
            let _ = match chunk.get(index) {
                Some(byte) => write!(text, " {byte:02x}"),
                None => write!(text, "   "),
            };
        }
        let ascii = |byte: &u8| if matches!(byte, b' '..=b'~') { char::from(*byte) } else { '.' };
        let _ = write!(text, "  {}", chunk.iter().map(ascii).collect::<String>());
    }
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::shown;

    #[test]
    fn each_kind_of_payload_is_shown_as_what_it_is() {
        for (value, form, text) in [
            (
                &b"{\"b\":1.50,\"a\":[],\"a\":{ },\"s\":\"x{,\\\"\"}"[..],
                "JSON",
                "{\n  \"b\": 1.50,\n  \"a\": [],\n  \"a\": {},\n  \"s\": \"x{,\\\"\"\n}",
            ),
            (b"[1,[2]]", "JSON", "[\n  1,\n  [\n    2\n  ]\n]"),
            (b"{not json", "text", "{not json"),
            (b"17", "text", "17"),
            (b"", "text", ""),
            (b"a\x1b[1m\nb", "text", "a\\u{1b}[1m\nb"),
            (
                b"\xffABCDEFGHIJKLMNOPQ",
                "binary",
                "00000000  ff 41 42 43 44 45 46 47 48 49 4a 4b 4c 4d 4e 4f  .ABCDEFGHIJKLMNO\n00000010  50 51                                            PQ",
            ),
        ] {
            assert_eq!(shown(value), (form, text.to_owned()));
        }
    }

    fn json() -> impl Strategy<Value = serde_json::Value> {
        use serde_json::Value;
        let leaf =
            prop_oneof![Just(Value::Null), any::<i64>().prop_map(Value::from), "[ -~]{0,6}".prop_map(Value::from)];
        leaf.prop_recursive(4, 20, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::vec(("[a\",:{]{0,3}", inner), 0..4)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn indented_json_says_the_same(value in json()) {
            prop_assume!(value.is_array() || value.is_object());
            for text in [serde_json::to_string(&value).unwrap(), serde_json::to_string_pretty(&value).unwrap()] {
                let (form, shown) = shown(text.as_bytes());
                prop_assert_eq!(form, "JSON");
                prop_assert_eq!(&shown, &serde_json::to_string_pretty(&value).unwrap());
            }
        }

        #[test]
        fn no_payload_panics(value in prop::collection::vec(any::<u8>(), 0..40)) {
            shown(&value);
        }
    }
}
