//! The index against a model that keeps whole lists and looks through them.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::{KeyHash, Label, Original, Parked};
use crate::settled::Settled;
use crate::tracker::CommitPoint;

fn point(offset: i64) -> CommitPoint {
    CommitPoint { offset, settled: Settled::default() }
}

fn parked(in_order: bool) -> Parked {
    Parked::resume(point(0), point(i64::MAX), in_order)
}

fn original(key: u8, offset: i64) -> Original {
    let key = if key == 0 { KeyHash::NULL } else { KeyHash::of(Some(&[key])) };
    Original { key, offset }
}

fn label(original: Original, due_ms: i64, attempts: u32) -> Label {
    Label { original: Some(original), due_ms, attempts }
}

/// Reads back what is due, and says which records of the source that is.
fn run_due(parked: &mut Parked, now_ms: i64) -> Vec<(u64, Option<Original>)> {
    parked.want_due(now_ms, usize::MAX);
    let mut run = Vec::new();
    while let Some(offset) = parked.next_wanted(i64::MIN) {
        let seq = parked.run(offset).unwrap_or_else(|| unreachable!("it is wanted"));
        run.push((seq, parked.original(seq)));
    }
    run
}

#[test]
fn what_can_not_be_read_runs_at_once_and_without_an_order() {
    let mut parked = parked(true);
    for offset in 0..3 {
        assert_eq!(parked.admit(offset, &Label { original: None, due_ms: 0, attempts: 0 }), Ok(()));
    }
    assert!(parked.is_empty(), "it blocks nobody");
    assert_eq!(run_due(&mut parked, 0).len(), 3);
}

/// Where the copy lies says nothing: a rewritten record has moved behind its followers.
#[test]
fn the_first_of_a_key_is_that_of_the_source() {
    let mut parked = parked(true);
    assert_eq!(parked.admit(0, &label(original(1, 20), 0, 0)), Ok(()));
    assert_eq!(parked.admit(1, &label(original(1, 10), 5, 1)), Ok(()));
    assert_eq!(parked.predecessor(original(1, 30)), Some(20));
    assert_eq!(run_due(&mut parked, 4), []);
    let run = run_due(&mut parked, 5);
    assert_eq!(run.len(), 2, "what is due behind it comes along");
    assert_eq!(parked.predecessor(original(1, 20)), Some(10), "and is not handed over before it");
    let first = run.iter().find(|(_, of)| *of == Some(original(1, 10))).map(|(seq, _)| *seq);
    parked.sent(first.unwrap_or(u64::MAX), true);
    assert_eq!((parked.predecessor(original(1, 20)), parked.predecessor(original(1, 30))), (None, Some(20)));
}

/// It may have been written twice, and what runs meanwhile would be delivered before the others of its key are.
#[test]
fn a_copy_that_is_seen_before_its_acknowledgement_waits_for_it() {
    let mut parked = parked(true);
    let first = original(1, 10);
    parked.hold(first, 1);
    assert_eq!(parked.predecessor(original(1, 11)), Some(10));
    assert_eq!(parked.admit(0, &label(first, 0, 1)), Ok(()));
    assert!(parked.is_seen(first) && run_due(&mut parked, 9).is_empty());
    // The acknowledgement was lost, so that it was written again.
    assert_eq!(parked.admit(1, &label(first, 0, 1)), Ok(()));
    assert_eq!(parked.watermark(), 1, "one of two twins is enough");
    parked.parked(first);
    assert_eq!(run_due(&mut parked, 9).len(), 1);
}

/// What becomes of a parked record must not be committed before what became of it in the source.
#[test]
fn what_the_source_has_still_to_come_to_does_not_run_before() {
    let mut source = point(10);
    source.settled.push(13, 15);
    let mut parked = Parked::resume(point(0), source, true);
    for (offset, origin) in [(0, 9), (1, 12), (2, 14), (3, 17)] {
        assert_eq!(parked.admit(offset, &label(original(0, origin), 0, 1)), Ok(()));
    }
    parked.caught_up();
    assert_eq!(run_due(&mut parked, 0).len(), 2, "the source is past them, or does not come to them again");
    assert!(!parked.pass(11) && run_due(&mut parked, 0).is_empty());
    assert!(parked.pass(12));
    assert_eq!(run_due(&mut parked, 0).len(), 1);
    assert!(!parked.pass(20), "it is not in the source any more");
    assert_eq!(run_due(&mut parked, 0).len(), 1);
}

#[derive(Clone, Debug)]
enum Act {
    /// A copy is read from the partition: key, offset in the source, due time, attempts.
    Admit(u8, i64, i64, u32),
    /// Time passes, what is due runs; of that, those with odd numbers are done, and the others parked again, which puts
    /// back what comes after them.
    Run(i64),
}

fn any_act() -> impl Strategy<Value = Act> {
    prop_oneof![
        3 => (0..3_u8, 0..8_i64, 0..20_i64, 0..4_u32).prop_map(|(key, origin, due, attempts)| Act::Admit(key, origin * 3 + i64::from(key), due, attempts)),
        1 => (0..10_i64).prop_map(Act::Run),
    ]
}

proptest! {
    /// Of each record the copy with the most attempts runs, no earlier than it is due and, under an order, than its
    /// predecessors are done; and the commit point keeps what is not done.
    #[test]
    fn the_newest_copy_of_the_first_record_of_a_key_runs(in_order: bool, acts in prop::collection::vec(any_act(), 0..60)) {
        let mut parked = parked(in_order);
        // For each record of the source: where its copy lies, when that is due, and its attempts.
        let mut model = BTreeMap::<Original, (i64, i64, u32)>::new();
        let (mut end, mut now_ms) = (0, 0);
        for act in acts {
            match act {
                Act::Admit(key, origin, due_ms, attempts) => {
                    let of = original(key, origin);
                    prop_assert_eq!(parked.admit(end, &label(of, due_ms, attempts)), Ok(()));
                    if model.get(&of).is_none_or(|(_, _, known)| attempts >= *known) {
                        model.insert(of, (end, due_ms, attempts));
                    }
                    end += 1;
                }
                Act::Run(by_ms) => {
                    now_ms += by_ms;
                    let is_due = |of: &Original| model[of].1 <= now_ms;
                    let is_next = |of: &Original| !in_order || of.key == KeyHash::NULL
                        || model.keys().filter(|other| other.key == of.key && other.offset < of.offset).all(is_due);
                    let mut expected: Vec<Original> =
                        model.keys().filter(|of| is_due(of) && is_next(of)).copied().collect();
                    let run = run_due(&mut parked, now_ms);
                    let mut ran: Vec<Original> = run.iter().filter_map(|(_, of)| *of).collect();
                    expected.sort();
                    ran.sort();
                    prop_assert_eq!(&ran, &expected);
                    let mut run: Vec<_> = run.into_iter().filter_map(|(seq, of)| Some((of?, seq))).collect();
                    run.sort();
                    for (of, seq) in run {
                        if parked.predecessor(of).is_some() {
                            parked.put_back(seq);
                            continue;
                        }
                        let (_, _, attempts) = model[&of];
                        let again = of.offset % 2 == 0 && attempts < 6;
                        if again {
                            parked.hold(of, attempts + 1);
                        }
                        parked.settle(seq, again);
                        model.remove(&of);
                        if again {
                            prop_assert_eq!(parked.admit(end, &label(of, now_ms + 3, attempts + 1)), Ok(()));
                            model.insert(of, (end, now_ms + 3, attempts + 1));
                            end += 1;
                        }
                    }
                }
            }
            let CommitPoint { offset, settled } = parked.commit_point();
            let open: Vec<i64> = (0..end).filter(|at| *at >= offset && !settled.contains(*at)).collect();
            let mut kept: Vec<i64> = model.values().map(|(at, ..)| *at).collect();
            kept.sort_unstable();
            prop_assert_eq!(open, kept);
        }
    }
}
