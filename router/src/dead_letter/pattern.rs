//! What messages of one cause have in common.

use pointsman_core::provenance::cut;

/// Longest pattern, in bytes.
const MAX_BYTES: usize = 300;

/// The message with `#` in place of every word that has a digit in it, so that numbers, ids and times don't tell messages of
/// one cause apart. At most 300 bytes of the message are looked at.
#[must_use]
pub fn pattern(message: &str) -> String {
    let is_word = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | '.');
    let mut rest = cut(message, MAX_BYTES);
    let mut pattern = String::with_capacity(rest.len());
    while !rest.is_empty() {
        let between = rest.find(is_word).unwrap_or(rest.len());
        pattern.push_str(&rest[..between]);
        rest = &rest[between..];
        let length = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
        // A full stop is the sentence's.
        let word = rest[..length].trim_end_matches('.');
        pattern.push_str(if word.contains(|c: char| c.is_numeric()) { "#" } else { word });
        pattern.push_str(&rest[word.len()..length]);
        rest = &rest[length..];
    }
    pattern
}
