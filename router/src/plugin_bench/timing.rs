//! Measurements that are repeated, of two things by turns.

use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};
use serde::Serialize;

/// The least CPU time of one repetition: far more than it takes to read the clock.
const REPETITION: Duration = Duration::from_millis(5);

/// The least number of repetitions.
const LEAST: usize = 5;

/// What repeated measurements came to.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Quartiles {
    /// A quarter of the measurements is below.
    pub lower: f64,
    /// Half of them are below.
    pub median: f64,
    /// A quarter of them is above.
    pub upper: f64,
    /// How many there are.
    pub repetitions: usize,
}

impl Quartiles {
    /// Of at least one measurement; without any, all is 0.
    #[must_use]
    pub fn of(mut measured: Vec<f64>) -> Self {
        measured.sort_by(f64::total_cmp);
        let last = measured.len().saturating_sub(1);
        let at = |quarter: usize| measured.get(last * quarter / 4).copied().unwrap_or(0.0);
        Self { lower: at(1), median: at(2), upper: at(3), repetitions: measured.len() }
    }
}

/// Measures two things by turns, for about `time` in all, in nanoseconds of CPU for each of the `each` that one time has.
/// `run` does the thing of an index so many times, and says what CPU time that took.
pub(super) fn repeat<E>(
    time: Duration,
    each: u64,
    mut run: impl FnMut(usize, u64) -> Result<Duration, E>,
) -> Result<[Quartiles; 2], E> {
    let began = Instant::now();
    let mut times = [1_u64; 2];
    for (index, times) in times.iter_mut().enumerate() {
        // Only doubled, so that one odd measurement does no harm; not for ever, should the clock stand.
        while run(index, *times)? < REPETITION && *times < 1 << 30 && began.elapsed() < time {
            *times *= 2;
        }
    }
    let mut measured = [Vec::new(), Vec::new()];
    while measured[1].len() < LEAST || began.elapsed() < time {
        for (index, measured) in measured.iter_mut().enumerate() {
            let took = run(index, times[index])?;
            measured.push(took.as_nanos() as f64 / (times[index] * each) as f64);
        }
    }
    Ok(measured.map(Quartiles::of))
}

/// User and system time of this thread.
pub(super) fn cpu_time() -> Duration {
    // Neither can be negative for a clock that counts from 0.
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may fail by panic")]

    use super::*;

    #[test]
    fn quartiles_are_in_the_middle_of_what_was_measured() {
        let of = |measured: &[f64]| {
            let Quartiles { lower, median, upper, repetitions } = Quartiles::of(measured.into());
            (lower, median, upper, repetitions)
        };
        assert_eq!(of(&[5.0, 1.0, 3.0, 2.0, 4.0]), (2.0, 3.0, 4.0, 5));
        assert_eq!(of(&[7.0]), (7.0, 7.0, 7.0, 1));
        assert_eq!(of(&[]), (0.0, 0.0, 0.0, 0));
    }

    #[test]
    fn what_is_quick_is_done_often_enough_to_be_measured() {
        // The one takes a microsecond each time, the other as long as a repetition is to take.
        let mut runs = Vec::new();
        let [quick, slow] = repeat::<()>(Duration::from_secs(60), 10, |index, times| {
            runs.push((index, times));
            if runs.len() > 40 {
                return Err(());
            }
            Ok([Duration::from_micros(times), REPETITION * u32::try_from(times).unwrap()][index])
        })
        .unwrap_or([Quartiles::of(vec![]); 2]);
        assert_eq!((quick.repetitions, slow.repetitions), (0, 0), "a failure ends it");
        assert_eq!(runs[13..17], [(0, 8192), (1, 1), (0, 8192), (1, 1)]);
        let [quick, slow] =
            repeat::<()>(Duration::ZERO, 10, |index, _| Ok([Duration::from_micros(1), REPETITION][index])).unwrap();
        assert_eq!((quick.median, slow.median), (100.0, 500_000.0));
        assert_eq!((quick.repetitions, slow.repetitions), (LEAST, LEAST));
    }
}
