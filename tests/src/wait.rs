//! Waiting for something to become true, with a deadline: the only place of the tests that sleeps.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::bail;

/// How often a condition is looked at.
const INTERVAL: Duration = Duration::from_millis(20);
/// How often it is looked at where a time is taken.
const CLOSE_INTERVAL: Duration = Duration::from_millis(2);

/// Looks at `condition` until it gives a value, and returns that.
///
/// # Errors
/// When `deadline` has passed, with `what` was waited for.
pub fn until<T>(what: &str, deadline: Duration, mut condition: impl FnMut() -> Option<T>) -> anyhow::Result<T> {
    until_ok(what, deadline, || Ok(condition()))
}

/// Like [`until`], for a condition that can fail for good: its error ends the waiting.
///
/// # Errors
/// When `deadline` has passed, with `what` was waited for; and those of `condition`.
pub fn until_ok<T>(
    what: &str,
    deadline: Duration,
    condition: impl FnMut() -> anyhow::Result<Option<T>>,
) -> anyhow::Result<T> {
    every(INTERVAL, what, deadline, condition)
}

/// Like [`until_ok`], looking ten times as often: for benchmarks, which take the time of it.
///
/// # Errors
/// Those of [`until_ok`].
pub fn closely<T>(
    what: &str,
    deadline: Duration,
    condition: impl FnMut() -> anyhow::Result<Option<T>>,
) -> anyhow::Result<T> {
    every(CLOSE_INTERVAL, what, deadline, condition)
}

/// Lets time pass, and nothing else: for benchmarks of what a process costs that has nothing to do, and for delays that are what
/// is tested.
pub fn pass(time: Duration) {
    thread::sleep(time);
}

fn every<T>(
    interval: Duration,
    what: &str,
    deadline: Duration,
    mut condition: impl FnMut() -> anyhow::Result<Option<T>>,
) -> anyhow::Result<T> {
    let started = Instant::now();
    loop {
        if let Some(value) = condition()? {
            return Ok(value);
        }
        if started.elapsed() > deadline {
            bail!("waited {deadline:?} in vain for {what}");
        }
        thread::sleep(interval);
    }
}
