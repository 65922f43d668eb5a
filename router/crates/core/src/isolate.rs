//! Finds the one record to blame when a call for many fails, so that the others lose nothing but time.
//!
//! After a failed call the batch is run again in parts, on fresh instances, down to single events. Only an event that
//! fails alone, on an instance that has done nothing before (the host sees to that), is guilty. Where none does (the batch
//! was too much for one deadline, the plugin fails now and then, or leaks) all pass. Either way batches shrink, and grow again.

use crate::event::Event;
use crate::failure::Failure;
use crate::port::CallError;
use crate::verdict::{Verdict, Verdicts};

/// A failed batch is split into this many parts. Every level of splitting may cost one deadline, so there are to be few:
/// 256 events take two, 4096 three.
const PARTS: usize = 16;

/// The outcome of one event: a verdict, or a failure that it is guilty of alone.
pub type Outcome = Result<Verdict, Box<Failure>>;

/// The outcomes of a batch of events, from the first one on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcomes {
    /// How many.
    pub len: usize,
    /// Those that are not [`Verdict::Pass`], by the index of the event.
    pub others: Vec<(usize, Outcome)>,
}

impl Outcomes {
    /// Adds the outcome of the next event.
    pub fn push(&mut self, outcome: Outcome) {
        if !matches!(outcome, Ok(Verdict::Pass)) {
            self.others.push((self.len, outcome));
        }
        self.len += 1;
    }

    fn add(&mut self, verdicts: Verdicts) {
        let (before, more) = (self.len, verdicts.len());
        self.others.extend(verdicts.into_others().map(|(index, verdict)| (before + index, Ok(verdict))));
        self.len += more;
    }
}

impl FromIterator<Outcome> for Outcomes {
    fn from_iter<I: IntoIterator<Item = Outcome>>(outcomes: I) -> Self {
        let mut all = Self::default();
        outcomes.into_iter().for_each(|outcome| all.push(outcome));
        all
    }
}

/// Calls a plugin for some events.
pub type Call<'a> = dyn FnMut(&[Event<'_>]) -> Result<Verdicts, CallError> + 'a;

/// No instance can be had; no event is to blame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unavailable {
    /// A sentence that names the plugin and the cause.
    pub message: String,
}

/// Whether another call is to be begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// Yes.
    GoOn,
    /// Only for the events that must have an outcome now.
    Finish,
    /// No.
    Stop,
}

/// Calls `call` for `events` in batches of at most `limit`, isolates the guilty, and gives one outcome for each event, in
/// order. Before each call it asks for the `pace`: where that ends the work, what is left has no outcome yet. The first
/// `at_least` events are the ones that [`Pace::Finish`] goes on for.
///
/// # Errors
/// [`Unavailable`]: nothing is known of those first events.
pub fn run(
    events: &[Event<'_>],
    at_least: usize,
    limit: &mut BatchLimit,
    pace: &dyn Fn() -> Pace,
    call: &mut Call<'_>,
) -> Result<Outcomes, Unavailable> {
    let mut outcomes = Outcomes::default();
    // The batches that failed and are being run again in parts, each within the one before.
    let mut split: Vec<Split> = Vec::new();
    while outcomes.len < events.len() {
        let at = outcomes.len;
        let (end, most) = split.last().map_or((events.len(), limit.get()), |split| (split.end, split.part));
        let over = match pace() {
            Pace::GoOn => false,
            Pace::Finish => at >= at_least,
            Pace::Stop => true,
        };
        if over {
            limit.go_on_with(most);
            break;
        }
        let part = &events[at..end.min(at + most)];
        match call(part) {
            Ok(verdicts) => {
                debug_assert_eq!(verdicts.len(), part.len(), "the host gives one verdict for each event");
                outcomes.add(verdicts);
                if split.is_empty() {
                    limit.grow(part.len());
                }
            }
            Err(CallError::Unavailable { .. }) if at >= at_least => break,
            Err(CallError::Unavailable { message }) => return Err(Unavailable { message }),
            Err(CallError::Guest { class, code, message }) if part.len() == 1 => {
                outcomes.push(Err(Box::new(Failure::new(class, code, message))));
            }
            Err(CallError::Guest { .. }) => {
                let part = part.len();
                split.push(Split { end: at + part, part: part.div_ceil(PARTS) });
            }
        }
        while split.pop_if(|split| split.end <= outcomes.len).is_some() {
            if split.is_empty() {
                limit.shrink();
            }
        }
    }
    Ok(outcomes)
}

/// A batch that failed, and is being run again in parts.
struct Split {
    /// One past its last event.
    end: usize,
    /// Events of each part.
    part: usize,
}

/// Most events of one call to one plugin. It halves with every batch that failed, and grows by a sixteenth with every full one
/// that did not: where few events are guilty, or take too long together, about one batch in nine fails.
#[derive(Clone, Debug)]
pub struct BatchLimit {
    now: usize,
    most: usize,
}

impl BatchLimit {
    /// At most `most` events, which is at least 1.
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self { now: most.max(1), most: most.max(1) }
    }

    /// The present limit, at least 1.
    #[must_use]
    pub fn get(&self) -> usize {
        self.now
    }

    /// Time ran out while batches of this size were being run: what is left is not run in larger ones first.
    fn go_on_with(&mut self, batch: usize) {
        self.now = batch.clamp(1, self.now);
    }

    fn grow(&mut self, batch: usize) {
        if batch >= self.now {
            self.now = self.most.min(self.now + self.now.div_ceil(16));
        }
    }

    fn shrink(&mut self) {
        self.now = (self.now / 2).max(1);
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::{BatchLimit, Outcome, Outcomes, Pace, run};
    use crate::event::Event;
    use crate::failure::FailureClass;
    use crate::port::CallError;
    use crate::record::Headers;
    use crate::verdict::Verdict;

    fn event(offset: i64) -> Event<'static> {
        Event {
            topic: "t",
            partition: 0,
            offset,
            timestamp_ms: 0,
            key: None,
            value: None,
            headers: Headers::NONE,
            attempt: 1,
        }
    }

    fn trap() -> CallError {
        CallError::Guest { class: FailureClass::Trap, code: "unreachable".into(), message: "it trapped".into() }
    }

    fn pace(over: bool) -> Pace {
        if over { Pace::Finish } else { Pace::GoOn }
    }

    /// Every outcome, those that pass too.
    fn one_each(outcomes: Outcomes) -> Vec<Outcome> {
        let mut all = vec![Ok(Verdict::Pass); outcomes.len];
        outcomes.others.into_iter().for_each(|(index, outcome)| all[index] = outcome);
        all
    }

    proptest! {
        #[test]
        fn exactly_the_guilty_fail(
            size in 1..600_usize,
            guilty in prop::collection::btree_set(0..600_i64, 0..5),
            calls_of_a_step in prop::option::of(1..30_u32),
        ) {
            let events: Vec<_> = (0..size as i64).map(event).collect();
            let guilty: BTreeSet<i64> = guilty.into_iter().filter(|offset| *offset < size as i64).collect();
            let mut limit = BatchLimit::new(256);
            let (mut outcomes, mut calls) = (Vec::new(), 0);
            while outcomes.len() < size {
                let left = Cell::new(calls_of_a_step.unwrap_or(u32::MAX));
                let step = run(&events[outcomes.len()..], 1, &mut limit, &|| pace(left.get() == 0), &mut |part| {
                    calls += 1;
                    left.set(left.get().saturating_sub(1));
                    if part.iter().any(|event| guilty.contains(&event.offset)) { return Err(trap()); }
                    Ok(part.iter().map(|event| Verdict::Drop { reason: event.offset.to_string() }).collect())
                }).expect("instances can be had");
                prop_assert!(step.len > 0, "every step gets on");
                outcomes.extend(one_each(step));
            }
            for (offset, outcome) in (0..).zip(&outcomes) {
                match outcome {
                    Ok(verdict) => prop_assert_eq!(verdict, &Verdict::Drop { reason: offset.to_string() }),
                    Err(failure) => prop_assert_eq!(failure.class, FailureClass::Trap),
                }
                prop_assert_eq!(outcome.is_err(), guilty.contains(&offset));
            }
            if calls_of_a_step.is_none() {
                prop_assert!(calls <= 3 + guilty.len() * 33, "{} calls", calls);
            }
        }
    }

    #[test]
    fn a_batch_that_is_too_much_for_one_call_passes_and_shrinks_the_next() {
        let events: Vec<_> = (0..256).map(event).collect();
        let mut limit = BatchLimit::new(256);
        let mut failed = 0;
        for _ in 0..4 {
            let outcomes = run(&events, 1, &mut limit, &|| Pace::GoOn, &mut |part| {
                if part.len() > 100 {
                    failed += 1;
                    return Err(CallError::Guest {
                        class: FailureClass::Deadline,
                        code: "deadline".into(),
                        message: String::new(),
                    });
                }
                Ok(part.iter().map(|_| Verdict::Pass).collect())
            })
            .expect("instances can be had");
            assert!(one_each(outcomes).iter().all(Result::is_ok));
        }
        assert!(limit.get() <= 128);
        assert!(failed <= 6, "{failed} failed calls");
    }

    #[test]
    fn where_guilty_events_are_frequent_batches_are_so_small_that_little_is_run_again() {
        for one_in in [10_000, 1000, 100, 10] {
            let mut limit = BatchLimit::new(1024);
            let (mut run_in_all, mut calls) = (0, 0);
            let events: Vec<_> = (0..300_000).map(event).collect();
            for batch in events.chunks(1024) {
                let outcomes = run(batch, 1, &mut limit, &|| Pace::GoOn, &mut |part| {
                    (run_in_all, calls) = (run_in_all + part.len(), calls + 1);
                    let guilty = part.iter().any(|event| event.offset % one_in == 0);
                    if guilty { Err(trap()) } else { Ok(part.iter().map(|_| Verdict::Pass).collect()) }
                });
                assert_eq!(outcomes.expect("instances can be had").len, batch.len());
            }
            assert!(run_in_all < events.len() * 3 / 2, "1 in {one_in}: {run_in_all} events were run in {calls} calls");
        }
    }

    #[test]
    fn without_an_instance_nobody_is_to_blame() {
        let answer = run(&[event(0)], 1, &mut BatchLimit::new(8), &|| Pace::GoOn, &mut |_| {
            Err(CallError::Unavailable { message: "no instance".into() })
        });
        assert!(answer.is_err());
    }

    /// However many are guilty, a step takes little longer than its time, and the work is not done over and over.
    #[test]
    fn a_batch_of_nothing_but_guilty_events_is_worked_off_in_short_steps() {
        let events: Vec<_> = (0..256).map(event).collect();
        let mut limit = BatchLimit::new(256);
        let (mut done, mut calls) = (0, 0);
        while done < events.len() {
            let in_this_step = Cell::new(0);
            let outcomes = run(&events[done..], 1, &mut limit, &|| pace(in_this_step.get() >= 10), &mut |_| {
                in_this_step.set(in_this_step.get() + 1);
                Err(trap())
            })
            .expect("instances can be had");
            assert!(one_each(outcomes.clone()).iter().all(Result::is_err));
            assert!(in_this_step.get() <= 12, "{} calls in one step", in_this_step.get());
            done += outcomes.len;
            calls += in_this_step.get();
        }
        assert!(calls < 400, "{calls} calls for 256 events");
    }

    #[test]
    fn what_is_known_is_kept_where_no_further_instance_can_be_had() {
        let events: Vec<_> = (0..8).map(event).collect();
        let mut calls = 0;
        let outcomes = run(&events, 1, &mut BatchLimit::new(2), &|| Pace::GoOn, &mut |part| {
            calls += 1;
            if calls == 3 {
                return Err(CallError::Unavailable { message: "no instance".into() });
            }
            Ok(part.iter().map(|_| Verdict::Pass).collect())
        })
        .expect("two calls went well");
        assert_eq!(outcomes.len, 4);
    }
}
