//! How the lanes of one worker share what it has in flight.

/// The records that the lanes of one worker have taken from their sources and not settled.
///
/// What is in flight has to be looked at again when the log acknowledges it, and the more there is of it, the less of it is
/// in the processor's caches by then: with four lanes of ten thousand records each, a record costs a fifth more than with
/// three thousand. So there is a window for all lanes together. A lane may hold as much of it as is still free: one lane alone
/// a half, two a third each, and so on. (The dynamic thresholds of Choudhury and Hahne, as in
/// [`Credit`](crate::credit::Credit).) But a fifth of it every lane may hold, whatever the others hold: it takes some batches on
/// their way to keep a partition busy, and lanes that stand still take nothing from the others.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Window {
    size: usize,
    used: usize,
}

impl Window {
    /// A window of `size` records, of which so many are used.
    pub(crate) fn new(size: usize, used: usize) -> Self {
        Self { size, used }
    }

    /// Whether a lane that holds `own` records of it may take in a batch.
    pub(crate) fn allows(self, own: usize) -> bool {
        let free = self.size.saturating_sub(self.used);
        own < free.max(self.size / 5).max(1)
    }

    /// The same, when a lane that held `before` records holds so many as `now`.
    pub(crate) fn with(self, before: usize, now: usize) -> Self {
        Self { used: (self.used + now).saturating_sub(before), ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::Window;

    /// What lanes hold that take batches of 100 records, by turns, for as long as they may.
    fn fill(lanes: usize) -> Vec<usize> {
        let mut window = Window::new(15_000, 0);
        let mut lanes = vec![0; lanes];
        let mut done = false;
        while !std::mem::replace(&mut done, true) {
            for lane in &mut lanes {
                if window.allows(*lane) {
                    window = window.with(*lane, *lane + 100);
                    *lane += 100;
                    done = false;
                }
            }
        }
        lanes
    }

    #[test]
    fn a_lane_holds_as_much_as_is_free_and_a_fifth_at_least() {
        for (count, each) in [(1, 7500), (2, 5000), (4, 3000), (100, 3000)] {
            let lanes = fill(count);
            assert!(lanes.iter().all(|lane| (each..each + 200).contains(lane)), "{count} lanes: {lanes:?}");
        }
    }

    #[test]
    fn the_least_window_lets_a_batch_through() {
        assert!(Window::new(1, 0).allows(0), "at first");
        assert!(Window::new(1, 1000).allows(0), "beside others");
        assert!(!Window::new(1, 1000).allows(1000), "one at a time");
    }
}
