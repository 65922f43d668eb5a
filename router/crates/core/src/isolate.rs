//! Finds the one record to blame when a call for many fails, so that the others lose nothing but time.
//!
//! After a failed call the batch is run again in parts, on fresh instances, down to single events. Only an event that
//! fails alone is guilty. Where none does (the batch was too much for one deadline, or the plugin fails now and then) all
//! pass, and batches shrink.

use crate::event::Event;
use crate::failure::Failure;
use crate::port::CallError;
use crate::verdict::Verdict;

/// A failed batch is split into this many parts. Every level of splitting may cost one deadline, so there are to be few:
/// 256 events take two.
const PARTS: usize = 16;

/// The outcome of one event: a verdict, or a failure that it is guilty of alone.
pub type Outcome = Result<Verdict, Failure>;

/// Calls a plugin for some events.
pub type Call<'a> = dyn FnMut(&[Event<'_>]) -> Result<Vec<Verdict>, CallError> + 'a;

/// No instance can be had; no event is to blame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unavailable {
    /// A sentence that names the plugin and the cause.
    pub message: String,
}

/// Calls `call` for `events` in batches of at most `limit`, isolates the guilty, and gives one outcome for each event,
/// in order.
///
/// # Errors
/// [`Unavailable`]: nothing is known of the events.
pub fn run(events: &[Event<'_>], limit: &mut BatchLimit, call: &mut Call<'_>) -> Result<Vec<Outcome>, Unavailable> {
    let mut outcomes = Vec::with_capacity(events.len());
    let mut at = 0;
    while at < events.len() {
        let part = &events[at..events.len().min(at + limit.get())];
        at += part.len();
        let guilty_before = count_guilty(&outcomes);
        let whole = isolate(part, &mut outcomes, call)?;
        limit.learn(part.len(), whole || count_guilty(&outcomes) > guilty_before);
    }
    Ok(outcomes)
}

fn count_guilty(outcomes: &[Outcome]) -> usize {
    outcomes.iter().filter(|outcome| outcome.is_err()).count()
}

/// The answer is whether the first call went well.
fn isolate(events: &[Event<'_>], outcomes: &mut Vec<Outcome>, call: &mut Call<'_>) -> Result<bool, Unavailable> {
    match call(events) {
        Ok(verdicts) => {
            debug_assert_eq!(verdicts.len(), events.len(), "the host gives one verdict for each event");
            outcomes.extend(verdicts.into_iter().map(Ok));
            return Ok(true);
        }
        Err(CallError::Unavailable { message }) => return Err(Unavailable { message }),
        Err(CallError::Guest { class, code, message }) => {
            if events.len() == 1 {
                outcomes.push(Err(Failure::new(class, code, message)));
                return Ok(false);
            }
        }
    }
    for part in events.chunks(events.len().div_ceil(PARTS)) {
        isolate(part, outcomes, call)?;
    }
    Ok(false)
}

/// Most events of one call to one plugin. It shrinks when a batch failed and none of its events did, and grows again.
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

    fn learn(&mut self, batch: usize, explained: bool) {
        self.now = if explained {
            // A sixteenth more for each full batch that went well.
            if batch >= self.now { self.most.min(self.now + self.now.div_ceil(16)) } else { self.now }
        } else {
            (batch / 2).max(1)
        };
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::{BatchLimit, run};
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

    proptest! {
        #[test]
        fn exactly_the_guilty_fail(size in 1..600_usize, guilty in prop::collection::btree_set(0..600_i64, 0..5)) {
            let events: Vec<_> = (0..size as i64).map(event).collect();
            let guilty: BTreeSet<i64> = guilty.into_iter().filter(|offset| *offset < size as i64).collect();
            let mut calls = 0;
            let outcomes = run(&events, &mut BatchLimit::new(256), &mut |part| {
                calls += 1;
                if part.iter().any(|event| guilty.contains(&event.offset)) { return Err(trap()); }
                Ok(part.iter().map(|event| Verdict::Drop { reason: event.offset.to_string() }).collect())
            }).expect("instances can be had");
            prop_assert_eq!(outcomes.len(), size);
            for (offset, outcome) in (0..).zip(&outcomes) {
                match outcome {
                    Ok(verdict) => prop_assert_eq!(verdict, &Verdict::Drop { reason: offset.to_string() }),
                    Err(failure) => prop_assert_eq!(failure.class, FailureClass::Trap),
                }
                prop_assert_eq!(outcome.is_err(), guilty.contains(&offset));
            }
            prop_assert!(calls <= 3 + guilty.len() * 33, "{} calls", calls);
        }
    }

    #[test]
    fn a_batch_that_is_too_much_for_one_call_passes_and_shrinks_the_next() {
        let events: Vec<_> = (0..256).map(event).collect();
        let mut limit = BatchLimit::new(256);
        let mut failed = 0;
        for _ in 0..4 {
            let outcomes = run(&events, &mut limit, &mut |part| {
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
            assert!(outcomes.iter().all(Result::is_ok));
        }
        assert!(limit.get() <= 128);
        assert!(failed <= 6, "{failed} failed calls");
    }

    #[test]
    fn without_an_instance_nobody_is_to_blame() {
        let answer = run(&[event(0)], &mut BatchLimit::new(8), &mut |_| {
            Err(CallError::Unavailable { message: "no instance".into() })
        });
        assert!(answer.is_err());
    }
}
