//! When a worker that runs dry has its sink send what it has produced: Nagle's rule (RFC 896), with a clock.

use std::time::{Duration, Instant};

/// While requests are under way, what is produced is sent no more often than this: it goes in fewer of them.
const INTERVAL: Duration = Duration::from_millis(5);

/// The last time that the sink was told.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hurry {
    /// How many deliveries it had been given by then.
    given: u64,
    at: Instant,
}

impl Hurry {
    /// Nothing has been given yet.
    pub(crate) fn new(now: Instant) -> Self {
        Self { given: 0, at: now }
    }

    /// When what was produced since is to be sent, where there is any. `given` and `reported` are numbers of deliveries so
    /// far. At once if all that was sent then is acknowledged, so that nothing is under way; else when that has taken its
    /// time.
    pub(crate) fn due(&self, given: u64, reported: u64) -> Option<Instant> {
        let is_under_way = reported < self.given;
        (given > self.given).then(|| if is_under_way { self.at + INTERVAL } else { self.at })
    }

    /// The sink is told now.
    pub(crate) fn told(&mut self, given: u64, now: Instant) {
        *self = Self { given, at: now };
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::{Hurry, INTERVAL};

    #[test]
    fn what_is_produced_is_sent_at_once_unless_something_is_under_way() {
        let start = Instant::now();
        let mut hurry = Hurry::new(start);
        assert_eq!(hurry.due(0, 0), None, "there is nothing to send");
        assert_eq!(hurry.due(1, 0), Some(start), "nothing is under way");
        let later = start + Duration::from_secs(1);
        hurry.told(1, later);
        assert_eq!(hurry.due(1, 0), None, "it was sent");
        assert_eq!(hurry.due(3, 0), Some(later + INTERVAL), "the first is under way");
        assert_eq!(hurry.due(3, 1), Some(later), "the first has arrived");
    }
}
