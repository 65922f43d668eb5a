//! Keeps secrets out of what is shown of a file.

use std::ops::Range;

/// Parts of keys that say that a value is a secret, wherever the key stands. Properties of librdkafka have dots.
const SECRET_WORDS: [&str; 7] = [".", "password", "passphrase", "secret", "token", "credential", "jaas"];

/// Whether the value of this key may be a secret by the name alone: it may stand in the wrong table.
pub(crate) fn is_secret_name(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    SECRET_WORDS.iter().any(|word| key.contains(word))
}

/// Overwrites the places with asterisks, byte for byte, so that every other place keeps its position. Line breaks stay.
pub(crate) fn mask(text: &str, places: &[Range<usize>]) -> String {
    let mut bytes = text.as_bytes().to_vec();
    for place in places {
        for byte in bytes.get_mut(place.clone()).into_iter().flatten() {
            if !matches!(*byte, b'\n' | b'\r') {
                *byte = b'*';
            }
        }
    }
    // Places are whole values, so no character was cut; were one cut, nothing is shown rather than too much.
    String::from_utf8(bytes).unwrap_or_default()
}

/// The places of a file that does not parse which may be secrets. Where a value begins and ends is not known there, so
/// all that is not a table's header, a key or a comment counts, but for the punctuation that syntax is about.
pub(crate) fn suspects(text: &str) -> Vec<Range<usize>> {
    let mut places = Vec::new();
    let mut start = 0;
    let mut in_string = false;
    for line in text.split_inclusive('\n') {
        let shown = if in_string { 0 } else { shown_start(line) };
        in_string ^= (line.matches("\"\"\"").count() + line.matches("'''").count()) % 2 == 1;
        for (at, c) in line[shown..].char_indices() {
            if !matches!(c, '[' | ']' | '{' | '}' | '"' | '\'' | ',' | '=' | ' ' | '\t' | '\r' | '\n') {
                places.push(start + shown + at..start + shown + at + c.len_utf8());
            }
        }
        start += line.len();
    }
    places
}

/// How much of a line's start is a header, a comment, or a key.
fn shown_start(line: &str) -> usize {
    let is_header = line.trim_start().starts_with(['[', '#']);
    match line.split_once('=') {
        // The padding of Base64 is no sign behind a key.
        Some((key, value)) if !value.trim_start_matches('=').trim().is_empty() => key.len(),
        None if is_header => line.len(),
        _ => 0,
    }
}

/// The places of values that were commented out, in a file that parses, under keys that sound like secrets.
pub(crate) fn commented(text: &str) -> Vec<Range<usize>> {
    let mut places = Vec::new();
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        if let Some((key, _)) = line.split_once('=').filter(|(key, _)| key.contains('#') && is_secret_name(key)) {
            places.push(start + key.len() + 1..start + line.len());
        }
        start += line.len();
    }
    places
}

#[cfg(test)]
mod tests {
    use super::{mask, suspects};

    #[test]
    fn a_file_that_does_not_parse_shows_no_value() {
        let text = "[broker]\nbootstrap = a:1\n\"sasl.password\" = \"hunter2\n  hünter3==\n[router]\nname = [\"r\",\n";
        let masked = mask(text, &suspects(text));
        let shown =
            "[broker]\nbootstrap = ***\n\"sasl.password\" = \"*******\n  ********==\n[router]\nname = [\"*\",\n";
        assert_eq!(masked, shown);
        assert_eq!(masked.len(), text.len());
    }
}
