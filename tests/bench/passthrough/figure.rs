//! Figures over the repetitions of a run.
//!
//! What a machine does besides only ever adds to the CPU time of a run and takes from its throughput, and does so in phases
//! that outlast several runs. So the best run is the one that tells the most of the program, and the headline: the least
//! CPU, the most throughput, and ratios of those. The median and the spread stand beside it, to tell how much the machine
//! had to say.

use std::fmt;

/// What was measured of one thing.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Figure {
    pub(crate) best: f64,
    pub(crate) least: f64,
    pub(crate) median: f64,
    pub(crate) most: f64,
}

impl Figure {
    /// Of something of which less is better.
    pub(crate) fn least_of(values: impl IntoIterator<Item = f64>) -> Self {
        let spread = Self::spread(values);
        Self { best: spread.least, ..spread }
    }

    /// Of something of which more is better.
    pub(crate) fn most_of(values: impl IntoIterator<Item = f64>) -> Self {
        let spread = Self::spread(values);
        Self { best: spread.most, ..spread }
    }

    /// How many times the other it is: `pairs` has the values of both, repetition by repetition, for the spread.
    pub(crate) fn ratio(own: Self, other: Self, pairs: impl IntoIterator<Item = (f64, f64)>) -> Self {
        let spread = Self::spread(pairs.into_iter().map(|(own, other)| own / other));
        Self { best: own.best / other.best, ..spread }
    }

    fn spread(values: impl IntoIterator<Item = f64>) -> Self {
        // A run may have been too short to tell.
        let mut values: Vec<f64> = values.into_iter().filter(|value| value.is_finite()).collect();
        values.sort_by(f64::total_cmp);
        let at = |index: usize| values.get(index).copied().unwrap_or(f64::NAN);
        let (middle, last) = (values.len() / 2, values.len().saturating_sub(1));
        let median =
            if values.len() % 2 == 1 { at(middle) } else { f64::midpoint(at(middle.saturating_sub(1)), at(middle)) };
        Self { best: f64::NAN, least: at(0), median, most: at(last) }
    }

    /// The headline, and in brackets median, least and most; or that no run was long enough to tell.
    pub(crate) fn show(&self, digits: usize) -> String {
        let Self { best, least, median, most } = self;
        if best.is_nan() {
            return "too short".to_owned();
        }
        format!("**{best:.digits$}** ({median:.digits$}; {least:.digits$}–{most:.digits$})")
    }
}

/// What a figure is to be, and is.
#[derive(Clone, Debug)]
pub(crate) struct Bar {
    pub(crate) what: String,
    /// By the best of each side, and by the median over the repetitions: where the two disagree, the machine has had its say.
    pub(crate) best: f64,
    pub(crate) median: f64,
    pub(crate) bound: Bound,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Bound {
    AtMost(f64),
    AtLeast(f64),
}

impl fmt::Display for Bar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, best, median, bound } = self;
        let (sign, limit) = match bound {
            Bound::AtMost(limit) => ('≤', limit),
            Bound::AtLeast(limit) => ('≥', limit),
        };
        let is_met = |measured: &f64| match bound {
            Bound::AtMost(limit) => measured <= limit,
            Bound::AtLeast(limit) => measured >= limit,
        };
        let verdict = match (is_met(best), is_met(median)) {
            (true, true) => "met",
            (true, false) => "**not met by the median**",
            (false, true) => "**not met by the best**",
            (false, false) => "**not met**",
        };
        write!(f, "| {what} | {best:.3} | {median:.3} | {sign} {limit} | {verdict} |")
    }
}
