//! Text of records and plugins on a terminal: it must not steer the terminal, forge a line, or show what it is not.

use std::fmt::Write as _;

/// Whether the character is shown as an escape: controls (C1 and line separators included), and marks that nobody sees or
/// that turn the direction of writing.
fn is_hidden(c: char) -> bool {
    let invisible = matches!(c, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}');
    c.is_control() || invisible
}

/// Text on one line.
pub(super) fn line(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if is_hidden(c) { shown.extend(c.escape_default()) } else { shown.push(c) }
    }
    shown
}

/// Text of several lines.
pub(super) fn lines(text: &str) -> String {
    text.split('\n').map(|text| line(text.strip_suffix('\r').unwrap_or(text))).collect::<Vec<_>>().join("\n")
}

/// JSON that says the same: what is hidden can only stand in its strings, where it has an escape.
pub(super) fn json(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if c != '\n' && is_hidden(c) {
            // None of them is beyond U+FFFF. Writing to a `String` can't fail.
            let _ = write!(shown, "\\u{:04x}", u32::from(c));
        } else {
            shown.push(c);
        }
    }
    shown
}

/// Bytes on one line: text as text, in quotes where it could be taken for something else; other bytes escaped.
pub(super) fn bytes(bytes: Option<&[u8]>) -> String {
    let Some(bytes) = bytes else { return "null".to_owned() };
    match std::str::from_utf8(bytes) {
        // A zero byte is no text, but a number as Java writes it.
        Ok(text) if text.contains('\0') => escaped(bytes),
        Ok(text) if text.is_empty() || text == "null" || text.trim() != text => format!("\"{}\"", line(text)),
        Ok(text) => line(text),
        Err(_) => escaped(bytes),
    }
}

fn escaped(bytes: &[u8]) -> String {
    format!("b\"{}\"", bytes.escape_ascii())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{bytes, is_hidden, json, line, lines};

    #[test]
    fn nothing_in_a_record_steers_the_terminal() {
        assert_eq!(line("a\nb\x1b[2J\u{9b}2J\u{202e}c é"), "a\\nb\\u{1b}[2J\\u{9b}2J\\u{202e}c é");
        assert_eq!(lines("a\r\nb\rc\n\n"), "a\nb\\rc\n\n");
        for (given, shown) in [
            (None, "null"),
            (Some(&b"null"[..]), "\"null\""),
            (Some(b""), "\"\""),
            (Some(b" x"), "\" x\""),
            (Some(b"k-1"), "k-1"),
            (Some(b"\0\x03"), "b\"\\x00\\x03\""),
            (Some(b"\xff\x1b"), "b\"\\xff\\x1b\""),
        ] {
            assert_eq!(bytes(given), shown);
        }
    }

    proptest! {
        #[test]
        fn json_says_the_same_without_hidden_characters(text in any::<String>()) {
            let written = serde_json::to_string(&text).unwrap();
            let shown = json(&written);
            prop_assert!(!shown.chars().any(is_hidden), "{shown:?}");
            prop_assert_eq!(serde_json::from_str::<String>(&shown).unwrap(), text);
        }
    }
}
