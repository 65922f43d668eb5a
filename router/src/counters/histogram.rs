//! Distributions that many threads add to.

use std::sync::atomic::{AtomicU64, Ordering};

/// Upper bounds for times from milliseconds to a day, in seconds.
pub(crate) const TIMES: &[f64] = &[
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 3600.0, 86_400.0,
];
/// For parts of a whole.
pub(crate) const PARTS: &[f64] = &[0.001, 0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0];
/// For numbers of events.
pub(crate) const NUMBERS: &[f64] = &[1.0, 4.0, 16.0, 64.0, 256.0, 1024.0, 4096.0, 16_384.0];

/// How often values were of which size. Nothing is ordered by it: who reads it may see a value in one part and not yet in another.
#[derive(Debug)]
pub(crate) struct Histogram {
    bounds: &'static [f64],
    /// One for each bound, and one for what is beyond the last.
    counts: Vec<AtomicU64>,
    /// The bits of a number.
    sum: AtomicU64,
}

/// A histogram at one time.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Distribution {
    /// Upper bounds, growing, and how many values are up to each and beyond the one before; the last is infinite.
    pub(crate) buckets: Vec<(f64, u64)>,
    pub(crate) sum: f64,
}

impl Histogram {
    pub(crate) fn new(bounds: &'static [f64]) -> Self {
        let counts = std::iter::repeat_with(AtomicU64::default).take(bounds.len() + 1).collect();
        Self { bounds, counts, sum: AtomicU64::new(0f64.to_bits()) }
    }

    /// Adds a value, so many times.
    pub(crate) fn observe(&self, value: f64, times: u64) {
        let bucket = self.bounds.partition_point(|bound| *bound < value);
        self.counts[bucket].fetch_add(times, Ordering::Relaxed);
        let add = value * times as f64;
        let mut sum = self.sum.load(Ordering::Relaxed);
        while let Err(now) = self.sum.compare_exchange_weak(
            sum,
            (f64::from_bits(sum) + add).to_bits(),
            Ordering::Relaxed,
            Ordering::Relaxed,
        ) {
            sum = now;
        }
    }

    pub(crate) fn read(&self) -> Distribution {
        let bounds = self.bounds.iter().copied().chain([f64::INFINITY]);
        let counts = self.counts.iter().map(|count| count.load(Ordering::Relaxed));
        Distribution { buckets: bounds.zip(counts).collect(), sum: f64::from_bits(self.sum.load(Ordering::Relaxed)) }
    }
}

impl Distribution {
    /// How many values there are.
    pub(crate) fn count(&self) -> u64 {
        self.buckets.iter().map(|(_, count)| count).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_in_the_bucket_of_the_first_bound_that_it_is_not_beyond() {
        let histogram = Histogram::new(&[1.0, 10.0]);
        for (value, times) in [(0.5, 1), (1.0, 2), (1.5, 3), (10.0, 4), (11.0, 5)] {
            histogram.observe(value, times);
        }
        let read = histogram.read();
        assert_eq!(read.buckets, [(1.0, 3), (10.0, 7), (f64::INFINITY, 5)]);
        assert_eq!((read.count(), read.sum), (15, 0.5 + 2.0 + 4.5 + 40.0 + 55.0));
    }
}
