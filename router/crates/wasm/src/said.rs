//! What a guest says in one call besides its verdicts: log lines and counts. Kept until the call has returned cleanly,
//! since those of discarded calls are discarded.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use tracing::{debug, error, info, warn};

use crate::log_rate::{Admission, BURST, LogRate, PER_SECOND};

/// Log lines kept of one call.
const LINES: usize = 64;
/// Bytes kept of one log line.
pub(crate) const LINE_BYTES: usize = 1024;
/// Counter names kept, of one call and of one plugin.
const NAMES: usize = 64;
/// Bytes of a counter's name.
const NAME_BYTES: usize = 64;

/// Whether a counter may have this name. It becomes a label of the router's metrics, so it is made of what any system of
/// metrics takes: 1 to 64 ASCII letters, digits, `_`, `-` and `.`.
pub(crate) fn is_counter_name(name: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
    (1..=NAME_BYTES).contains(&name.len()) && name.bytes().all(fits)
}

/// How much a log line matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Level {
    Debug,
    Info,
    Warn,
    Error,
}

/// What was said in one call.
#[derive(Debug, Default)]
pub(crate) struct Said {
    lines: Vec<(Level, String)>,
    lines_beyond: u64,
    counts: Vec<(String, u64)>,
    counts_ignored: bool,
}

impl Said {
    pub(crate) fn clear(&mut self) {
        self.lines.clear();
        self.lines_beyond = 0;
        self.counts.clear();
        self.counts_ignored = false;
    }

    /// Keeps the head of a line, while there is room.
    pub(crate) fn line(&mut self, level: Level, line: &str) {
        if self.lines.len() < LINES {
            self.lines.push((level, printable(line, LINE_BYTES).into_owned()));
        } else {
            self.lines_beyond = self.lines_beyond.saturating_add(1);
        }
    }

    /// The last line of level error: what a guest says before it traps is often why.
    pub(crate) fn last_error(&self) -> Option<&str> {
        self.lines.iter().rev().find(|(level, _)| *level == Level::Error).map(|(_, line)| line.as_str())
    }

    /// Adds to a counter, while there is room for its name, which [`is_counter_name`].
    pub(crate) fn count(&mut self, name: String, increment: u64) {
        if let Some((_, count)) = self.counts.iter_mut().find(|(known, _)| *known == name) {
            *count = count.saturating_add(increment);
        } else if self.counts.len() < NAMES {
            self.counts.push((name, increment));
        } else {
            self.counts_ignored = true;
        }
    }

    /// Notes that a counter's name is none.
    pub(crate) fn ignore_count(&mut self) {
        self.counts_ignored = true;
    }

    /// Writes the lines to the router's log, under the current span, as fast as they may come; and adds the counts.
    /// `now_ms` is the time of the call.
    pub(crate) fn settle(&mut self, plugin: &str, heard: &mut Heard, now_ms: i64) {
        let Heard { counters, rate } = heard;
        for (level, line) in self.lines.drain(..) {
            if admitted(plugin, rate, 1, now_ms) {
                match level {
                    Level::Debug => debug!(target: TARGET, plugin, "{line}"),
                    Level::Info => info!(target: TARGET, plugin, "{line}"),
                    Level::Warn => warn!(target: TARGET, plugin, "{line}"),
                    Level::Error => error!(target: TARGET, plugin, "{line}"),
                }
            }
        }
        if self.lines_beyond > 0 && admitted(plugin, rate, self.lines_beyond, now_ms) {
            let lines = self.lines_beyond;
            warn!(target: TARGET, plugin, lines, "the plugin logged more lines in one call than the {LINES} that are kept");
        }
        for (name, increment) in self.counts.drain(..) {
            counters.add(name, increment);
        }
        counters.names_ignored |= self.counts_ignored;
        counters.report(plugin);
        self.clear();
    }
}

/// What plugins' own lines are logged under.
const TARGET: &str = "pointsman::plugin";

/// Whether one line, which stands for so many, may come now. If so, those that might not since the last are told before it.
fn admitted(plugin: &str, rate: &mut LogRate, lines: u64, now_ms: i64) -> bool {
    match rate.admit(lines, now_ms) {
        Admission::Passes { withheld: 0 } => true,
        Admission::Passes { withheld } => {
            warn!(
                target: TARGET, plugin, lines = withheld,
                "the plugin logged more than {BURST} lines at once or {PER_SECOND} a second; the others were left out"
            );
            true
        }
        Admission::Withheld => false,
    }
}

/// What one plugin was heard of on one worker, over all its calls and instances.
#[derive(Debug, Default)]
pub(crate) struct Heard {
    pub(crate) counters: Counters,
    rate: LogRate,
}

/// The counters of one plugin on one worker.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    /// Names stay once they are known, so that their number is bounded for good.
    counts: BTreeMap<String, u64>,
    names_ignored: bool,
    reported: bool,
}

impl Counters {
    fn add(&mut self, name: String, increment: u64) {
        let room = self.counts.len() < NAMES;
        match self.counts.entry(name) {
            Entry::Occupied(mut count) => *count.get_mut() = count.get().saturating_add(increment),
            Entry::Vacant(count) if room => {
                count.insert(increment);
            }
            Entry::Vacant(_) => self.names_ignored = true,
        }
    }

    fn report(&mut self, plugin: &str) {
        if self.names_ignored && !self.reported {
            self.reported = true;
            warn!(
                target: TARGET, plugin,
                "the plugin counts under more names than {NAMES}, or under others than 1 to {NAME_BYTES} ASCII letters, digits, \
                 `_`, `-` and `.`; those are ignored"
            );
        }
    }

    /// What was counted since the last time.
    pub(crate) fn take(&mut self) -> impl Iterator<Item = (&str, u64)> {
        self.counts.iter_mut().filter(|(_, count)| **count > 0).map(|(name, count)| (&**name, std::mem::take(count)))
    }
}

/// The first bytes of a text: as many whole characters as `max` bytes hold.
pub(crate) fn head(text: &str, max: usize) -> &str {
    &text[..text.floor_char_boundary(max)]
}

/// The [`head`] of a text, with control characters shown: a guest's text must not steer a terminal, or forge a line.
pub(crate) fn printable(text: &str, max: usize) -> Cow<'_, str> {
    let head = head(text, max);
    if head.chars().any(char::is_control) {
        let shown = |c: char| if c.is_control() { c.escape_default().to_string() } else { c.to_string() };
        let mut shown: String = head.chars().map(shown).collect();
        shown.truncate(shown.floor_char_boundary(max));
        Cow::Owned(shown)
    } else {
        Cow::Borrowed(head)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_cut_and_made_harmless() {
        assert_eq!(printable("plain", 16), "plain");
        assert_eq!(printable("a\nb\u{1b}[2J", 16), "a\\nb\\u{1b}[2J");
        assert_eq!(printable("äääää", 5), "ää");
        assert!(printable(&"\n".repeat(2000), LINE_BYTES).len() <= LINE_BYTES);
    }

    #[test]
    fn the_last_error_is_kept_for_a_trap() {
        let mut said = Said::default();
        said.line(Level::Info, "info");
        assert_eq!(said.last_error(), None);
        said.line(Level::Error, "first");
        said.line(Level::Error, "last");
        said.line(Level::Warn, "warn");
        assert_eq!(said.last_error(), Some("last"));
    }

    #[test]
    fn what_is_said_is_bounded() {
        let mut said = Said::default();
        for i in 0..200 {
            said.line(Level::Info, &i.to_string());
            said.count(format!("name-{i}"), 1);
            said.count("name-0".into(), 1);
        }
        assert_eq!((said.lines.len(), said.lines_beyond, said.counts.len()), (LINES, 136, NAMES));
        let mut heard = Heard::default();
        said.settle("p", &mut heard, 0);
        assert!(heard.counters.reported);
        let counts: Vec<_> = heard.counters.take().collect();
        assert!(counts.len() == NAMES && counts.contains(&("name-0", 201)), "{counts:?}");
        assert_eq!(heard.counters.take().count(), 0, "a count is taken once");
        said.count("another".into(), 1);
        said.settle("p", &mut heard, 0);
        assert_eq!(heard.counters.take().count(), 0, "the number of names is bounded over all calls");
    }

    #[test]
    fn a_counter_has_a_name_that_metrics_can_have() {
        for name in ["a", "orders.rejected", "http_5xx-total", &"n".repeat(NAME_BYTES)] {
            assert!(is_counter_name(name), "{name}");
        }
        for name in ["", "a b", "a\n", "a=\"b\"", "größe", "a/b", &"n".repeat(NAME_BYTES + 1)] {
            assert!(!is_counter_name(name), "{name}");
        }
    }
}
