//! Keeps secrets out of what is shown of a file.

use std::ops::Range;

/// Names of tables whose values may be secrets: `[broker.librdkafka]` and `[plugins.NAME.config]`.
const SECRET_TABLES: [&str; 2] = ["librdkafka", "config"];

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

/// The places of a file that does not parse which may be secrets: found by its lines alone, and rather too many than
/// too few.
pub(crate) fn suspects(text: &str) -> Vec<Range<usize>> {
    let mut places = Vec::new();
    let mut inside = false;
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        let trimmed = line.trim_start();
        let equals = line.find('=');
        let names_secrets = |part: &str| SECRET_TABLES.iter().any(|table| part.contains(table));
        if trimmed.starts_with('[') {
            inside = names_secrets(trimmed);
        } else if let Some(equals) = equals {
            inside |= names_secrets(&line[..equals]);
            if inside {
                places.push(start + equals + 1..start + line.len());
            }
        } else if inside && !trimmed.starts_with('#') {
            places.push(start..start + line.len());
        }
        start += line.len();
    }
    places
}

#[cfg(test)]
mod tests {
    use super::{mask, suspects};

    #[test]
    fn a_file_that_does_not_parse_shows_no_value_of_a_secret_table() {
        let text = "[broker]\nbootstrap = \"a:1\"\n[broker.librdkafka]\n\"sasl.password\" = \"hunter2\n  more\n[router]\nname = \"r\"\nbroker.librdkafka.\"x\" = 'hunter2'\n";
        let masked = mask(text, &suspects(text));
        assert_eq!(masked.len(), text.len());
        assert!(!masked.contains("hunter2") && !masked.contains("more"), "{masked}");
        assert!(masked.contains("bootstrap = \"a:1\"") && masked.contains("name = \"r\""), "{masked}");
    }
}
