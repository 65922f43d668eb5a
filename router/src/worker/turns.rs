//! The turns of lanes.

use std::time::{Duration, Instant};

use pointsman_core::port::Sink;

use super::{Outlet, Tenant, Worker};
use crate::lane::{Step, Tools};
use crate::shared::Now;

/// Wake-ups of the client libraries are edge-triggered, and one may be lost: this often lanes look anyway, ...
const LOOK_ANYWAY: Duration = Duration::from_millis(100);
/// ... so many of them, or a tenth: each does within a second. To look is a call of the client library, mostly for nothing.
const LOOKS: usize = 64;
/// A round takes about so long, where all lanes that are awake have work. A lane that is behind makes several steps in its turn
/// then: runs of records of one partition make for larger requests than the same records by turns.
const ROUND: Duration = Duration::from_millis(4);
/// With the producer queue full and no report coming in, ask again after this.
const CREDIT_POLL: Duration = Duration::from_millis(5);

/// What the turns of a round have come to.
pub(super) struct Stepped {
    /// Something was done.
    pub(super) busy: bool,
    /// The producer queue is full for a lane.
    pub(super) awaits_credit: bool,
    /// Until then there is nothing to do, where nothing comes in.
    pub(super) sleep_until: Instant,
}

impl Worker {
    /// A turn of each lane that is awake.
    pub(super) fn step_lanes(&mut self, now: Now) -> Stepped {
        self.woken.take(&mut self.awake);
        let looking = self.looking(now);
        self.awake.extend(&looking);
        let mut stepped = Stepped { busy: false, awaits_credit: false, sleep_until: now.instant + LOOK_ANYWAY };
        let turn_time = ROUND / u32::try_from(self.awake.len()).unwrap_or(u32::MAX).max(1);
        // Each round begins one lane later: what is scarce (the producer queue, a rate limit) is not always the same lanes'.
        let first = self.first_lane;
        let turns: Vec<u32> = self.awake.range(first..).chain(self.awake.range(..first)).copied().collect();
        // A lane may have nothing to do all the same: the clock is read after those that had.
        let mut begun = self.clock.instant();
        for id in turns {
            let Some(Tenant { lane, .. }) = self.lanes.get_mut(&id) else {
                // It was woken, and is given up by now.
                self.awake.remove(&id);
                continue;
            };
            let mut gate;
            let sink: &mut dyn Sink = match &mut self.outlet {
                Outlet::Apart(sink) => &mut **sink,
                Outlet::Together(transacting) => {
                    let Some(opened) = transacting.gate(lane.midway()) else {
                        // Nor has any other lane a turn. The same ones look next time.
                        self.look_from = looking.first().copied().unwrap_or(self.look_from);
                        break;
                    };
                    gate = opened;
                    &mut gate
                }
            };
            let mut tools = Tools {
                sink,
                credit: &mut self.credit,
                plugins: &mut *self.plugins,
                random: &mut self.random,
                now,
                elapsed: &|| self.clock.instant().saturating_duration_since(begun),
                look_anyway: looking.contains(&id),
            };
            let mut step = lane.turn(&mut tools);
            let mut ended = begun;
            while step == Step::Progress {
                stepped.busy = true;
                ended = self.clock.instant();
                if ended.saturating_duration_since(begun) >= turn_time {
                    break;
                }
                step = lane.turn(&mut tools);
            }
            if ended > begun {
                // The turns of the others may take long.
                tools.sink.send_due(ended);
            }
            begun = ended;
            if lane.is_asleep() {
                self.awake.remove(&id);
            }
            let until = match step {
                Step::Progress | Step::Idle => continue,
                Step::NotBefore(at) => at,
                Step::AwaitingCredit => {
                    stepped.awaits_credit = true;
                    now.instant + CREDIT_POLL
                }
            };
            stepped.sleep_until = stepped.sleep_until.min(until);
        }
        self.first_lane = self.awake.range(first.saturating_add(1)..).next().copied().unwrap_or(0);
        stepped
    }

    /// The lanes that look for records whether or not they were woken.
    fn looking(&mut self, now: Now) -> Vec<u32> {
        if now.instant < self.look_at {
            return Vec::new();
        }
        self.look_at = now.instant + LOOK_ANYWAY;
        let (from, looks) = (self.look_from, LOOKS.max(self.lanes.len() / 10));
        let in_turn = self.lanes.range(from..).chain(self.lanes.range(..from));
        let mut looking: Vec<u32> = in_turn.map(|(id, _)| *id).take(looks + 1).collect();
        if looking.len() > looks {
            self.look_from = looking.pop().unwrap_or(0);
        }
        looking
    }
}
