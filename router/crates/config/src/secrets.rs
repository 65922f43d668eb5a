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
    // Where the quotes of multi-line strings don't pair up, any line may be a part of one.
    let is_torn = has_odd_quotes(text);
    for line in text.split_inclusive('\n') {
        let shown = if in_string || is_torn { 0 } else { shown_start(line) };
        in_string ^= has_odd_quotes(line);
        for (at, c) in line[shown..].char_indices() {
            if !matches!(c, '[' | ']' | '{' | '}' | '"' | '\'' | ',' | '=' | ' ' | '\t' | '\r' | '\n') {
                places.push(start + shown + at..start + shown + at + c.len_utf8());
            }
        }
        start += line.len();
    }
    places
}

fn has_odd_quotes(text: &str) -> bool {
    (text.matches("\"\"\"").count() + text.matches("'''").count()) % 2 == 1
}

/// How much of a line's start is a header, a comment, or a key, and surely no part of a value.
fn shown_start(line: &str) -> usize {
    match line.split_once('=') {
        // The padding of Base64, and what closes a value, are no sign of a key before them.
        Some((key, value)) if is_key(key) && !value.chars().all(|c| "=\"',]} \t\r\n".contains(c)) => key.len(),
        None if line.trim_start().starts_with('#') || is_header(line) => line.len(),
        _ => 0,
    }
}

/// Whether this is a key of TOML and no more: parts with dots between them, bare or in quotes.
fn is_key(text: &str) -> bool {
    let mut text = text;
    while let Some(rest) = after_part(text.trim_start()).map(str::trim_start) {
        match rest.strip_prefix('.') {
            Some(next) => text = next,
            None => return rest.is_empty(),
        }
    }
    false
}

/// What follows the first part of a key.
fn after_part(text: &str) -> Option<&str> {
    if let Some(quote) = text.chars().next().filter(|c| matches!(c, '"' | '\'')) {
        return text[1..].split_once(quote).map(|(_, rest)| rest);
    }
    let rest = text.trim_start_matches(|c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'));
    (rest.len() < text.len()).then_some(rest)
}

/// Whether this is the header of a table, closed or not. With quotes, it may as well be an array in an array.
fn is_header(line: &str) -> bool {
    let header = line.split('#').next().unwrap_or(line).trim();
    let name = header.trim_start_matches('[').trim_end_matches(']');
    header.starts_with('[') && !name.contains(['"', '\'']) && is_key(name)
}

/// The places of values in comments, behind what sounds like the key of a secret: `# password = …`, `x = 1 # token: …`.
pub(crate) fn commented(text: &str) -> Vec<Range<usize>> {
    let mut places = Vec::new();
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        // What follows a `#` in a string is taken for a comment too: better too much is hidden than too little.
        let value = line.find('#').and_then(|at| Some(at + value_start(&line[at..])?));
        places.extend(value.map(|value| start + value..start + line.len()));
        start += line.len();
    }
    places
}

/// Where a value begins behind what sounds like the key of a secret.
fn value_start(comment: &str) -> Option<usize> {
    let comment = comment.to_ascii_lowercase();
    let key = SECRET_WORDS.iter().filter_map(|word| Some(comment.find(word)? + word.len())).min()?;
    Some(key + comment[key..].find(['=', ':'])? + 1)
}

#[cfg(test)]
mod tests {
    use super::{commented, mask, suspects};

    #[test]
    fn a_file_that_does_not_parse_shows_no_value() {
        let text = "[broker]\nbootstrap = a:1\n\"sasl.password\" = \"hunter2\n  hünter3==\n[router]\nname = [\"r\",\n";
        let masked = mask(text, &suspects(text));
        let shown =
            "[broker]\nbootstrap = ***\n\"sasl.password\" = \"*******\n  ********==\n[router]\nname = [\"*\",\n";
        assert_eq!(masked, shown);
        assert_eq!(masked.len(), text.len());
    }

    #[test]
    fn nothing_before_an_equals_sign_is_shown_but_a_key() {
        for hidden in [
            "\"sasl.password\": \"aGVsbG8gd29ybGQ=\"",
            "\"sasl.password\" \"hunter2==\"",
            "\"sasl.password\" \"hunter2\" = \"x\"",
            "{ token = \"hunter2\" },",
            "c3VwZXI=\"]",
            "[\"hunter2\"],",
            "[[\"hunter2\"]]",
            "x = \"\"\"\nhunter2 = 1",
            "= \"\"\nhunter2 = 1\"\"\"",
        ] {
            assert!(!mask(hidden, &suspects(hidden)).contains(char::is_alphanumeric), "{hidden}");
        }
        for key in ["a.b-c_1 ", "'a b'.\"c\" . d ", "[[routes.outputs]] # x", "[router", "# x"] {
            let shown = if key.starts_with(['[', '#']) { key.to_owned() } else { format!("{key}= 1") };
            assert_eq!(mask(&shown, &suspects(&shown)).replace('*', "1"), shown);
        }
    }

    #[test]
    fn a_comment_shows_no_value_of_a_secret() {
        let text = "# \"sasl.username\" = \"me\"\nx = 1 # http://a password: hunter2\ny = 2 # note: fine\n";
        let shown = "# \"sasl.username\" =*****\nx = 1 # http://a password:********\ny = 2 # note: fine\n";
        assert_eq!(mask(text, &commented(text)), shown);
    }
}
