//! How the lanes of one worker share its producer queue.

/// The producer queue of a worker, in bytes of keys, values and headers, roughly.
///
/// A lane may hold an eighth of what is still free: one lane alone a ninth of the queue, two a tenth each, and so on. So a
/// topic that takes nothing for a while fills a part of the queue with the records of its lanes, and never all of it: lanes
/// whose topics are well go on. (The dynamic thresholds of Choudhury and Hahne, IEEE/ACM Transactions on Networking 6(2),
/// 1998.)
#[derive(Debug)]
pub(crate) struct Credit {
    capacity: usize,
    used: usize,
    /// Deliveries that were put there so far.
    taken: u64,
}

/// What a lane may hold is this part of what is free. A ninth of 32 MiB is enough for hundreds of megabytes a second.
const PART: usize = 8;

impl Credit {
    /// An empty queue.
    pub(crate) fn new(capacity: usize) -> Self {
        Self { capacity, used: 0, taken: 0 }
    }

    /// Whether a lane that holds `own` bytes of the queue may put another record there. One that holds nothing always may:
    /// then the queue itself says whether it is full.
    pub(crate) fn allows(&self, own: usize) -> bool {
        own <= self.capacity.saturating_sub(self.used) / PART
    }

    /// Bytes of it that are taken.
    pub(crate) fn used(&self) -> usize {
        self.used
    }

    /// Its size, in bytes.
    pub(crate) fn capacity(&self) -> usize {
        self.capacity
    }

    /// A record was put there.
    pub(crate) fn take(&mut self, bytes: usize) {
        self.used += bytes;
        self.taken += 1;
    }

    /// How many records were put there so far.
    pub(crate) fn taken(&self) -> u64 {
        self.taken
    }

    /// Records are out of it, or nobody waits for them any more.
    pub(crate) fn give_back(&mut self, bytes: usize) {
        self.used = self.used.saturating_sub(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::Credit;

    /// Lanes whose topic takes nothing, and then one whose topic is well.
    #[test]
    fn stuck_lanes_leave_room_for_others() {
        let mut credit = Credit::new(32 << 20);
        let fill = |credit: &mut Credit| {
            let mut own = 0;
            while credit.allows(own) {
                credit.take(1000);
                own += 1000;
            }
            own
        };
        for _ in 0..10 {
            fill(&mut credit);
        }
        let well = fill(&mut credit);
        assert!(well > 1 << 20, "{well} bytes for a lane whose topic is well");
        assert!(credit.allows(0));
    }

    #[test]
    fn what_is_out_may_be_used_again() {
        let mut credit = Credit::new(900);
        credit.take(200);
        assert!(!credit.allows(100));
        credit.give_back(200);
        assert!(credit.allows(100));
    }
}
