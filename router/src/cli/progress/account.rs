//! What is told of a piece of work: how much of it is done, how fast, and how long the rest takes.

use std::collections::VecDeque;
use std::time::Duration;

use crate::cli::routes::span;
use crate::progress::{Stand, Total, Unit};

/// The rate is that of this long before now.
const WINDOW: Duration = Duration::from_secs(15);
/// How often it is noted how far the work has come.
const STEP: Duration = Duration::from_secs(1);

/// Where it is seen which part of the work is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Share {
    /// In the figures.
    Told,
    /// In a bar beside them.
    Drawn,
}

/// A piece of work, by what was told of it.
#[derive(Debug, Default)]
pub(super) struct Account {
    what: String,
    /// When how many were done; the oldest first.
    noted: VecDeque<(Duration, u64)>,
}

impl Account {
    /// Takes note of how far it has come.
    pub(super) fn take(&mut self, now: Duration, stand: &Stand<'_>) {
        if self.what != stand.what {
            self.what.replace_range(.., stand.what);
            self.noted.clear();
        }
        if self.noted.back().is_none_or(|(then, _)| now.saturating_sub(*then) >= STEP) {
            // One from before the window stays, so that it is always a whole one.
            while self.noted.get(1).is_some_and(|(then, _)| now.saturating_sub(*then) >= WINDOW) {
                self.noted.pop_front();
            }
            self.noted.push_back((now, stand.done));
        }
    }

    /// How many are done a second; `None` where it is too early to say.
    fn rate(&self, now: Duration, done: u64) -> Option<f64> {
        let (then, before) = self.noted.front()?;
        let seconds = now.saturating_sub(*then);
        (seconds >= STEP).then(|| done.saturating_sub(*before) as f64 / seconds.as_secs_f64())
    }

    /// The figures, on one line.
    pub(super) fn figures(&self, now: Duration, stand: &Stand<'_>, share: Share) -> String {
        let Stand { unit, done, total, picked, .. } = *stand;
        let things = match unit {
            Unit::Records => "records",
            Unit::Keys => "keys",
            Unit::Milliseconds => return time(done, total),
        };
        let mut text = match total {
            Total::Exactly(total) => format!("{done} of {total} {things}"),
            Total::AtMost(total) => format!("{done} of at most {total} {things}"),
            Total::Unknown => format!("{done} {things}"),
        };
        if let (Share::Told, Some(total)) = (share, total.number()) {
            let percent = u128::from(done) * 100 / u128::from(total.max(1));
            text.push_str(&format!(" ({percent} %)"));
        }
        if let Some(picked) = picked {
            text.push_str(&format!(", {picked} meant"));
        }
        let Some(rate) = self.rate(now, done) else { return text };
        text.push_str(&if rate < 10.0 { format!(", {rate:.1}/s") } else { format!(", {rate:.0}/s") });
        let left = total.number().map(|total| total.saturating_sub(done) as f64 / rate);
        if let Some(left) = left.filter(|left| left.is_finite()) {
            text.push_str(&format!(", about {} left", span(left)));
        }
        text
    }
}

/// Work that takes a time that was chosen.
fn time(done: u64, total: Total) -> String {
    let shown = |ms: u64| span(ms as f64 / 1e3);
    match total.number() {
        Some(total) => format!("{} of about {}", shown(done), shown(total.max(done))),
        None => shown(done),
    }
}
