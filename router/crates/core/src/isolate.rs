//! Finds the one record to blame when a call for many fails, so that the others lose nothing but time.
//!
//! After a failed call the batch is run again in parts, on fresh instances, down to single events; and before that, alone, the
//! event that the plugin says it was at, where it says so. Only an event that
//! fails alone, on an instance that has done nothing before (the host sees to that), is guilty. Where none does (the batch
//! was too much for one deadline, the plugin fails now and then, or leaks) all pass. Either way batches shrink, and grow again.

use std::ops::Range;

use crate::event::Event;
use crate::failure::Failure;
use crate::port::CallError;
use crate::verdict::{Verdict, Verdicts};

/// A failed batch is split into this many parts. Every level of splitting may cost one deadline, so there are to be few:
/// 256 events take two, 4096 three.
const PARTS: usize = 16;

/// Into so many where the guilty one is known already, since it is not likely that there are more. Not into one: where many
/// are guilty parts get small by this.
const PARTS_OF_THE_OTHERS: usize = 2;

/// The outcome of one event: a verdict, or a failure that it is guilty of alone.
pub type Outcome = Result<Verdict, Box<Failure>>;

/// The outcomes of a batch of events, from the first one on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcomes {
    /// How many.
    pub len: usize,
    /// Those that are not [`Verdict::Pass`], by the index of the event.
    pub others: Vec<(usize, Outcome)>,
    /// Bytes of what was emitted ([`Verdict::emitted_bytes`]).
    pub emitted_bytes: usize,
}

impl Outcomes {
    /// Adds the outcome of the next event.
    pub fn push(&mut self, outcome: Outcome) {
        self.emitted_bytes += outcome.as_ref().map_or(0, Verdict::emitted_bytes);
        if !matches!(outcome, Ok(Verdict::Pass)) {
            self.others.push((self.len, outcome));
        }
        self.len += 1;
    }

    fn add(&mut self, verdicts: Verdicts) {
        let (before, more) = (self.len, verdicts.len());
        self.emitted_bytes += verdicts.others().iter().map(|(_, verdict)| verdict.emitted_bytes()).sum::<usize>();
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
/// order. Before each call it asks for the `pace`, with the bytes that were emitted so far: where that ends the work, what is
/// left has no outcome yet. The first `at_least` events are the ones that [`Pace::Finish`] goes on for.
///
/// # Errors
/// [`Unavailable`]: nothing is known of those first events.
pub fn run(
    events: &[Event<'_>],
    at_least: usize,
    limit: &mut BatchLimit,
    pace: &dyn Fn(usize) -> Pace,
    call: &mut Call<'_>,
) -> Result<Outcomes, Unavailable> {
    let mut outcomes = Outcomes::default();
    // The batches that failed and are being run again in parts, each within the one before.
    let mut split: Vec<Split> = Vec::new();
    while outcomes.len < events.len() {
        let at = outcomes.len;
        let innermost = split.last();
        let most = innermost.map_or(limit.get(), |split| split.part);
        let over = match pace(outcomes.emitted_bytes) {
            Pace::GoOn => false,
            Pace::Finish => at >= at_least,
            Pace::Stop => true,
        };
        if over {
            limit.go_on_with(most);
            break;
        }
        let part = innermost.map_or(at..events.len().min(at + most), |split| split.next(at));
        let suspected = split.last_mut().filter(|split| split.suspects(part.start));
        match call(&events[part.clone()]) {
            Ok(verdicts) => {
                debug_assert_eq!(verdicts.len(), part.len(), "the host gives one verdict for each event");
                if let Some(split) = suspected {
                    split.acquit(part.start, verdicts);
                } else {
                    outcomes.add(verdicts);
                    if split.is_empty() {
                        limit.grow(part.len());
                    }
                }
            }
            Err(CallError::Unavailable { .. }) if at >= at_least => break,
            Err(CallError::Unavailable { message }) => return Err(Unavailable { message }),
            Err(CallError::Guest { class, code, message, .. }) if part.len() == 1 => {
                let failure = Box::new(Failure::new(class, code, message));
                match suspected {
                    Some(split) => split.convict(part.start, at, failure),
                    None => outcomes.push(Err(failure)),
                }
            }
            Err(CallError::Guest { suspect, .. }) => split.push(Split::new(part, suspect)),
        }
        while let Some(innermost) = split.last_mut() {
            innermost.take_judged(outcomes.len).into_iter().for_each(|outcome| outcomes.push(outcome));
            if innermost.end > outcomes.len {
                break;
            }
            split.pop();
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
    /// Most events of each part.
    part: usize,
    suspect: Suspect,
}

/// What is known of the event that the plugin was at.
enum Suspect {
    /// Nothing, or no more.
    Unknown,
    /// The plugin has named it. It is run next.
    Named(usize),
    /// What became of it alone. Its turn is when all before it have their outcomes.
    Judged(usize, Outcome),
}

impl Split {
    /// `suspect` counts from the batch's first event.
    fn new(batch: Range<usize>, suspect: Option<usize>) -> Self {
        let named = suspect.and_then(|suspect| batch.start.checked_add(suspect)).filter(|named| batch.contains(named));
        Self {
            end: batch.end,
            part: batch.len().div_ceil(PARTS),
            suspect: named.map_or(Suspect::Unknown, Suspect::Named),
        }
    }

    /// What is to be run next, where everything before `at` has its outcome.
    fn next(&self, at: usize) -> Range<usize> {
        let end = match self.suspect {
            Suspect::Named(suspect) => return suspect..suspect + 1,
            Suspect::Judged(suspect, _) => suspect,
            Suspect::Unknown => self.end,
        };
        at..end.min(at + self.part)
    }

    fn suspects(&self, event: usize) -> bool {
        matches!(self.suspect, Suspect::Named(suspect) if suspect == event)
    }

    /// The suspect alone has got a verdict.
    fn acquit(&mut self, suspect: usize, verdicts: Verdicts) {
        let verdict = verdicts.into_others().next().map_or(Verdict::Pass, |(_, verdict)| verdict);
        self.suspect = Suspect::Judged(suspect, Ok(verdict));
    }

    /// The suspect alone has failed. Everything before `at` has its outcome.
    fn convict(&mut self, suspect: usize, at: usize, failure: Box<Failure>) {
        self.suspect = Suspect::Judged(suspect, Err(failure));
        self.part = (self.end - at).div_ceil(PARTS_OF_THE_OTHERS);
    }

    /// The outcome of the suspect, if its turn is `at`.
    fn take_judged(&mut self, at: usize) -> Option<Outcome> {
        match std::mem::replace(&mut self.suspect, Suspect::Unknown) {
            Suspect::Judged(suspect, outcome) if suspect == at => Some(outcome),
            other => {
                self.suspect = other;
                None
            }
        }
    }
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
        trap_at(None)
    }

    fn trap_at(suspect: Option<usize>) -> CallError {
        CallError::Guest {
            class: FailureClass::Trap,
            code: "unreachable".into(),
            message: "it trapped".into(),
            suspect,
        }
    }

    /// What a plugin says of the event that it was at.
    #[derive(Clone, Copy, Debug)]
    enum Hint {
        None,
        Right,
        /// Always the same.
        Always(usize),
    }

    impl Hint {
        fn of(self, guilty: usize) -> Option<usize> {
            match self {
                Self::None => None,
                Self::Right => Some(guilty),
                Self::Always(event) => Some(event),
            }
        }
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
            size in prop_oneof![1..600_usize, Just(599)],
            guilty in prop_oneof![
                prop::collection::btree_set(0..600_i64, 0..5),
                // The first ones of batches that halve: the most calls that so few can cost.
                prop::sample::subsequence(vec![1, 257, 385, 449, 481_i64], 0..5).prop_map(BTreeSet::from_iter),
            ],
            calls_of_a_step in prop::option::of(1..30_u32),
            hint in prop_oneof![Just(Hint::None), Just(Hint::Right), (0..700_usize).prop_map(Hint::Always)],
        ) {
            let events: Vec<_> = (0..size as i64).map(event).collect();
            let guilty: BTreeSet<i64> = guilty.into_iter().filter(|offset| *offset < size as i64).collect();
            let mut limit = BatchLimit::new(256);
            let (mut outcomes, mut calls) = (Vec::new(), 0);
            while outcomes.len() < size {
                let left = Cell::new(calls_of_a_step.unwrap_or(u32::MAX));
                let step = run(&events[outcomes.len()..], 1, &mut limit, &|_| pace(left.get() == 0), &mut |part| {
                    calls += 1;
                    left.set(left.get().saturating_sub(1));
                    if let Some(at) = part.iter().position(|event| guilty.contains(&event.offset)) {
                        return Err(trap_at(hint.of(at)));
                    }
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
                // Beside the three calls of 600 events of which none is guilty. One that is named costs four: alone, and its
                // batch once more in three parts. Others up to 34, in two rounds of parts. And batches that have become smaller
                // for it are more in number: by one or two for each that is guilty.
                let of_a_guilty_one = match hint {
                    Hint::None => 33,
                    Hint::Right => 6,
                    Hint::Always(_) => 36,
                };
                prop_assert!(calls <= 3 + guilty.len() * of_a_guilty_one, "{} calls", calls);
            }
        }
    }

    #[test]
    fn a_batch_that_is_too_much_for_one_call_passes_and_shrinks_the_next() {
        let events: Vec<_> = (0..256).map(event).collect();
        let mut limit = BatchLimit::new(256);
        let mut failed = 0;
        for _ in 0..4 {
            let outcomes = run(&events, 1, &mut limit, &|_| Pace::GoOn, &mut |part| {
                if part.len() > 100 {
                    failed += 1;
                    return Err(CallError::Guest {
                        class: FailureClass::Deadline,
                        code: "deadline".into(),
                        message: String::new(),
                        suspect: None,
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
                let outcomes = run(batch, 1, &mut limit, &|_| Pace::GoOn, &mut |part| {
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
        let answer = run(&[event(0)], 1, &mut BatchLimit::new(8), &|_| Pace::GoOn, &mut |_| {
            Err(CallError::Unavailable { message: "no instance".into() })
        });
        assert!(answer.is_err());
    }

    #[test]
    fn the_event_that_the_plugin_names_is_run_alone_first_and_once() {
        let events: Vec<_> = (0..8).map(event).collect();
        let calls_for = |guilty: &dyn Fn(&[i64]) -> bool, named: usize| {
            let mut calls = Vec::new();
            let outcomes = run(&events, 1, &mut BatchLimit::new(8), &|_| Pace::GoOn, &mut |part| {
                let offsets: Vec<_> = part.iter().map(|event| event.offset).collect();
                let fails = guilty(&offsets);
                calls.push(offsets);
                if fails { Err(trap_at(Some(named))) } else { Ok(part.iter().map(|_| Verdict::Pass).collect()) }
            });
            (calls, outcomes.expect("instances can be had").others.len())
        };
        let (calls, guilty) = calls_for(&|part| part.contains(&5), 5);
        assert_eq!(calls, [(0..8).collect::<Vec<_>>(), vec![5], (0..4).collect(), vec![4], vec![6, 7]]);
        assert_eq!(guilty, 1);
        // It was too much together: nobody is guilty.
        let (calls, guilty) = calls_for(&|part| part.len() > 4, 2);
        assert_eq!((calls.len(), &calls[1], guilty), (9, &vec![2], 0));
    }

    /// However many are guilty, a step takes little longer than its time, and the work is not done over and over.
    #[test]
    fn a_batch_of_nothing_but_guilty_events_is_worked_off_in_short_steps() {
        [None, Some(0)].into_iter().for_each(works_off_guilty_events);
    }

    fn works_off_guilty_events(suspect: Option<usize>) {
        let events: Vec<_> = (0..256).map(event).collect();
        let mut limit = BatchLimit::new(256);
        let (mut done, mut calls) = (0, 0);
        while done < events.len() {
            let in_this_step = Cell::new(0);
            let outcomes = run(&events[done..], 1, &mut limit, &|_| pace(in_this_step.get() >= 10), &mut |_| {
                in_this_step.set(in_this_step.get() + 1);
                Err(trap_at(suspect))
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
        let outcomes = run(&events, 1, &mut BatchLimit::new(2), &|_| Pace::GoOn, &mut |part| {
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
