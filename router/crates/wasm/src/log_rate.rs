//! How fast the log lines of one plugin may come on one worker, over all its calls.

/// Lines that may come at once.
pub(crate) const BURST: u64 = 200;

/// Lines that may come in a second, in the long run.
pub(crate) const PER_SECOND: u64 = 50;

/// A bucket of lines: it fills with time, and each line that passes takes one out. Without it a plugin that logs in each
/// call would fill the disk of its router, 64 lines at a time.
#[derive(Debug)]
pub(crate) struct LogRate {
    /// Thousandths of a line, since a bucket gains [`PER_SECOND`] of them in a millisecond.
    thousandths: u64,
    at_ms: i64,
    withheld: u64,
}

/// What becomes of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    /// It passes. So many were withheld since the last one that did.
    Passes {
        withheld: u64,
    },
    Withheld,
}

impl Default for LogRate {
    fn default() -> Self {
        Self { thousandths: BURST * 1000, at_ms: 0, withheld: 0 }
    }
}

impl LogRate {
    /// Decides on one line, which stands for `lines` of the plugin's. Once one is withheld, all are until there is room for
    /// a second's worth: so their number needs to be told once a second at most. A clock that goes back fills nothing.
    pub(crate) fn admit(&mut self, lines: u64, now_ms: i64) -> Admission {
        let passed_ms = u64::try_from(now_ms.saturating_sub(self.at_ms)).unwrap_or(0);
        self.at_ms = now_ms;
        self.thousandths = passed_ms.saturating_mul(PER_SECOND).saturating_add(self.thousandths).min(BURST * 1000);
        let needed = if self.withheld > 0 { PER_SECOND * 1000 } else { 1000 };
        if self.thousandths < needed {
            self.withheld = self.withheld.saturating_add(lines);
            return Admission::Withheld;
        }
        self.thousandths -= 1000;
        Admission::Passes { withheld: std::mem::take(&mut self.withheld) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_MS: i64 = 1_790_000_000_000;

    fn admitted(rate: &mut LogRate, lines: u64, now_ms: i64) -> u64 {
        (0..lines).filter(|_| rate.admit(1, now_ms) != Admission::Withheld).count() as u64
    }

    #[test]
    fn a_burst_passes_and_then_what_the_time_allows() {
        let mut rate = LogRate::default();
        assert_eq!(admitted(&mut rate, 1000, NOW_MS), BURST);
        assert_eq!(admitted(&mut rate, 1000, NOW_MS + 999), 0, "not before a second is full");
        assert_eq!(rate.admit(1, NOW_MS + 1000), Admission::Passes { withheld: 2000 - BURST });
        assert_eq!(admitted(&mut rate, 1000, NOW_MS + 1000), PER_SECOND - 1);
        let hour: u64 = (0..36_000).map(|tenth| admitted(&mut rate, 100, NOW_MS + 1000 + tenth * 100)).sum();
        assert!((3500 * PER_SECOND..=3600 * PER_SECOND).contains(&hour), "{hour}");
        assert_eq!(admitted(&mut rate, 1000, i64::MAX), BURST, "more than a burst is never saved up");
    }

    #[test]
    fn a_clock_that_goes_back_gives_nothing_and_takes_nothing() {
        let mut rate = LogRate::default();
        assert_eq!(admitted(&mut rate, 150, NOW_MS), 150);
        assert_eq!(admitted(&mut rate, 1000, i64::MIN), 50);
        assert_eq!(admitted(&mut rate, 1000, i64::MIN + 1000), PER_SECOND);
    }

    #[test]
    fn a_line_that_stands_for_many_counts_for_them() {
        let mut rate = LogRate::default();
        admitted(&mut rate, BURST, NOW_MS);
        assert_eq!(rate.admit(936, NOW_MS), Admission::Withheld);
        assert_eq!(rate.admit(1, NOW_MS + 1000), Admission::Passes { withheld: 936 });
    }
}
