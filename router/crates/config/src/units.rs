//! Durations and sizes, each written with its unit.

use std::time::Duration;

/// Units of sizes, the longest names first, so that `B` does not match the end of `MiB`.
const UNITS: [(&str, u64); 9] = [
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
    ("kB", 1000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
    ("B", 1),
];

/// Reads a size such as `64MiB`; `None` where the text is not one.
pub(crate) fn parse_size(text: &str) -> Option<u64> {
    let (unit, factor) = UNITS.into_iter().find(|(unit, _)| text.ends_with(unit))?;
    let number = text.strip_suffix(unit)?.trim_end();
    if number.is_empty() || !number.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    number.parse::<u64>().ok()?.checked_mul(factor)
}

/// Writes a size as [`parse_size`] reads it, in the largest binary unit that divides it.
pub(crate) fn show_size(bytes: u64) -> String {
    let (unit, factor) = [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)]
        .into_iter()
        .find(|(_, factor)| bytes >= *factor && bytes.is_multiple_of(*factor))
        .unwrap_or(("B", 1));
    format!("{}{unit}", bytes / factor)
}

/// Reads a duration such as `50ms` or `1h 30m`; `None` where the text is not one.
pub(crate) fn parse_duration(text: &str) -> Option<Duration> {
    humantime::parse_duration(text).ok()
}

/// Writes a duration as [`parse_duration`] reads it.
pub(crate) fn show_duration(duration: Duration) -> String {
    humantime::format_duration(duration).to_string()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sizes_need_a_unit() {
        assert_eq!(parse_size("64MiB"), Some(64 << 20));
        assert_eq!(parse_size("1 kB"), Some(1000));
        assert_eq!(parse_size("7B"), Some(7));
        for wrong in ["64", "MiB", "-1B", "+1B", "1.5MiB", "64mib", "64 M", "99999999999999999GiB", ""] {
            assert_eq!(parse_size(wrong), None, "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn what_is_shown_can_be_read(bytes in any::<u64>(), millis in 0..u64::from(u32::MAX)) {
            prop_assert_eq!(parse_size(&show_size(bytes)), Some(bytes));
            let duration = Duration::from_millis(millis);
            prop_assert_eq!(parse_duration(&show_duration(duration)), Some(duration));
        }
    }
}
