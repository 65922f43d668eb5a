//! The index against a model that keeps whole lists and looks through them.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::{Edition, KeyHash, KeyOrder, Kind, Label, Original, Parked};
use crate::provenance::Marker;
use crate::settled::Settled;
use crate::tracker::CommitPoint;

fn point(offset: i64) -> CommitPoint {
    CommitPoint { offset, settled: Settled::default() }
}

fn parked(in_order: bool) -> Parked {
    Parked::resume(point(0), point(i64::MAX), if in_order { KeyOrder::Kept } else { KeyOrder::None })
}

fn original(key: u8, offset: i64) -> Original {
    let key = if key == 0 { KeyHash::NULL } else { KeyHash::of(Some(&[key])) };
    Original { key, offset }
}

/// Never replayed, and run so often.
fn run(attempts: u32) -> Edition {
    Edition { replays: 0, attempts }
}

fn label(original: Original, due_ms: i64, attempts: u32) -> Label {
    Label { original: Some(original), due_ms, edition: run(attempts), kind: Kind::Parked }
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
        assert_eq!(
            parked.admit(offset, &Label { original: None, due_ms: 0, edition: run(0), kind: Kind::Parked }),
            Ok(())
        );
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
    parked.hold(first, run(1));
    assert_eq!(parked.predecessor(original(1, 11)), Some(10));
    assert_eq!(parked.may_know(&[first.key, original(2, 11).key]), [true, false]);
    assert_eq!(parked.admit(0, &label(first, 0, 1)), Ok(()));
    assert!(parked.is_seen(first) && run_due(&mut parked, 9).is_empty());
    // The acknowledgement was lost, so that it was written again.
    assert_eq!(parked.admit(1, &label(first, 0, 1)), Ok(()));
    assert_eq!(parked.watermark(), 1, "one of two twins is enough");
    parked.parked(first);
    assert_eq!(run_due(&mut parked, 9).len(), 1);
}

/// What becomes of a parked record must not be committed before what became of it in the source, nor overtake what comes before it
/// there.
#[test]
fn what_the_source_has_still_to_come_to_does_not_run_before() {
    let mut source = point(10);
    source.settled.push(13, 15);
    let mut parked = Parked::resume(point(0), source, KeyOrder::Kept);
    for (offset, origin) in [(0, 9), (1, 12), (2, 14), (3, 17)] {
        assert_eq!(parked.admit(offset, &label(original(0, origin), 0, 1)), Ok(()));
    }
    assert_eq!(run_due(&mut parked, 0).len(), 2, "the source is past them, or does not come to them again");
    assert!(!parked.pass(original(0, 11)) && run_due(&mut parked, 0).is_empty());
    assert!(parked.pass(original(0, 12)));
    assert_eq!(run_due(&mut parked, 0).len(), 1);
    assert!(!parked.pass(original(0, 20)), "it is not in the source any more");
    assert_eq!(run_due(&mut parked, 0).len(), 1);
    // Under an order what is settled beyond waits for what comes before it; so does what somebody parks who does not know that
    // the partition is another's.
    let mut source = point(21);
    source.settled.push(22, 23);
    let mut parked = Parked::resume(point(0), source, KeyOrder::Kept);
    for (offset, key, origin) in [(0, 1, 20), (1, 2, 21), (2, 3, 22), (3, 4, 24)] {
        assert_eq!(parked.admit(offset, &label(original(key, origin), 0, 1)), Ok(()));
    }
    parked.caught_up();
    assert_eq!(run_due(&mut parked, 0).len(), 1);
    assert!(parked.pass(original(2, 21)));
    assert_eq!(run_due(&mut parked, 0).len(), 1);
    parked.source_is_at(23);
    assert_eq!(run_due(&mut parked, 0).len(), 1);
    for (offset, key, origin) in [(4, 5, 22), (5, 6, 23)] {
        assert_eq!(parked.admit(offset, &label(original(key, origin), 0, 1)), Ok(()));
    }
    assert_eq!(run_due(&mut parked, 0).len(), 1);
    assert_eq!(parked.admit(6, &Label { kind: Kind::Replayed, ..label(original(7, 99), 0, 0) }), Ok(()));
    assert_eq!(run_due(&mut parked, 0).len(), 1, "what is replayed waits for nothing");
    assert!(!parked.pass(original(4, 23)), "that is another record than the one that was parked as offset 23");
    assert_eq!(run_due(&mut parked, 0).len(), 1);
    assert!(!parked.pass(original(4, 25)), "that one was not parked, those before it were");
    assert_eq!(run_due(&mut parked, 0).len(), 1);
}

/// A router that is taken for dead may have parked a record which is being parked here, and which runs meanwhile.
#[test]
fn of_what_two_have_parked_one_copy_is_left() {
    let of = original(1, 10);
    for (theirs, ours) in [(1, 1), (2, 1), (1, 2)] {
        for runs in [false, true] {
            let mut index = parked(true);
            assert_eq!(index.admit(0, &label(of, 0, theirs)), Ok(()));
            let running = if runs { run_due(&mut index, 0) } else { Vec::new() };
            index.hold(of, run(ours));
            if !runs {
                assert!(run_due(&mut index, 0).is_empty(), "its key is blocked");
            }
            assert_eq!(index.admit(1, &label(of, 0, ours)), Ok(()));
            index.parked(of);
            running.iter().for_each(|(seq, _)| index.settle(*seq, true));
            let left = run_due(&mut index, 0);
            assert_eq!(left.len(), 1, "{theirs} attempts there, {ours} here, {runs}");
            left.iter().for_each(|(seq, _)| index.settle(*seq, false));
            assert_eq!(index.len(), 0, "nothing is forgotten");
        }
    }
}

/// A copy of what somebody has replayed once.
fn replayed(original: Original) -> Label {
    Label { edition: Edition { replays: 1, attempts: 0 }, kind: Kind::Replayed, ..label(original, 0, 0) }
}

fn marker(marker: Marker, original: Original) -> Label {
    Label { kind: Kind::Marker(marker), ..label(original, i64::MAX, 1) }
}

/// Somebody may have mended it: what is known of the older one is nothing to it.
#[test]
fn a_replayed_copy_has_its_turn_when_the_older_one_has_its_fate() {
    let of = original(1, 10);
    for parked_again in [false, true] {
        let mut parked = parked(true);
        assert_eq!(parked.admit(0, &label(of, 0, 1)), Ok(()));
        let [(older, _)] = run_due(&mut parked, 0)[..] else { unreachable!("it is due") };
        for offset in 1..3 {
            assert_eq!(parked.admit(offset, &replayed(of)), Ok(()));
        }
        assert_eq!(run_due(&mut parked, 0), []);
        if parked_again {
            parked.hold(of, run(2));
            assert_eq!(parked.admit(3, &label(of, 0, 2)), Ok(()));
        }
        parked.settle(older, parked_again);
        assert_eq!(parked.len(), 1);
        assert_eq!(run_due(&mut parked, 0), [(2, Some(of))]);
    }
}

#[test]
fn a_replayed_copy_takes_the_place_of_one_that_waits() {
    let (mut parked, of) = (parked(true), original(1, 10));
    assert_eq!(parked.admit(0, &label(of, 0, 3)), Ok(()));
    assert_eq!(parked.admit(1, &replayed(of)), Ok(()));
    assert_eq!(parked.admit(2, &label(of, 0, 4)), Ok(()));
    assert_eq!((parked.len(), run_due(&mut parked, 0)), (1, vec![(1, Some(of))]));
}

#[test]
fn a_key_is_held_until_it_is_released_by_its_own_record_or_a_later_one() {
    let mut parked = Parked::resume(point(0), point(i64::MAX), KeyOrder::KeptAndHeld);
    let (head, next) = (original(1, 10), original(1, 11));
    assert!(parked.hold_key(head) && parked.hold_key(head), "the marker may have got lost");
    assert_eq!((parked.is_held(next), parked.is_held(head), parked.is_held(original(2, 11))), (Some(10), None, None));
    assert_eq!(parked.may_know(&[next.key, original(2, 11).key]), [true, false]);
    assert!(!parked.hold_key(original(0, 10)), "a null key has no order");
    assert_eq!(parked.admit(0, &marker(Marker::Hold, head)), Ok(()));
    assert!(!parked.hold_key(head) && !parked.hold_key(next));
    // What is replayed meanwhile waits, and so does what comes after it.
    assert_eq!(parked.admit(1, &replayed(head)), Ok(()));
    assert_eq!(parked.admit(2, &label(next, 0, 0)), Ok(()));
    assert_eq!((run_due(&mut parked, 0), parked.predecessor(next)), (vec![], Some(10)));
    // Of an earlier time that it was held.
    assert_eq!(parked.admit(3, &marker(Marker::Release, original(1, 9))), Ok(()));
    assert!(parked.is_held(next).is_some() && run_due(&mut parked, 0).is_empty());
    assert_eq!(parked.admit(4, &marker(Marker::Release, head)), Ok(()));
    assert_eq!(parked.is_held(next), None);
    assert_eq!((run_due(&mut parked, 0).len(), parked.watermark()), (2, 1));
}

#[test]
fn a_marker_is_nothing_to_a_route_that_holds_no_keys() {
    let mut parked = parked(true);
    assert_eq!(parked.admit(0, &marker(Marker::Hold, original(1, 10))), Ok(()));
    assert_eq!((parked.len(), parked.is_held(original(1, 11))), (0, None));
}

#[test]
fn what_is_moved_keeps_its_place_in_the_order_and_lets_the_watermark_go_on() {
    let mut parked = Parked::resume(point(0), point(i64::MAX), KeyOrder::KeptAndHeld);
    let (held, first) = (original(2, 5), original(1, 10));
    assert_eq!(parked.admit(0, &marker(Marker::Hold, held)), Ok(()));
    assert_eq!(parked.admit(1, &label(first, 100, 1)), Ok(()));
    for offset in 2..6 {
        assert_eq!(parked.admit(offset, &label(original(0, offset + 10), 0, 1)), Ok(()));
    }
    for (seq, _) in run_due(&mut parked, 0) {
        parked.settle(seq, false);
    }
    assert_eq!(parked.watermark(), 0);
    assert_eq!(parked.want_moved(9), [0, 1]);
    for (offset, seq) in [(0, 0), (1, 1)] {
        assert_eq!(parked.run(offset), Some(seq));
        parked.hold_moved(seq);
    }
    assert_eq!(parked.predecessor(original(1, 20)), Some(10));
    // One copy is seen before it is acknowledged, and one after.
    assert_eq!(parked.admit(6, &marker(Marker::Hold, held)), Ok(()));
    parked.settle(0, true);
    parked.settle(1, true);
    assert_eq!((parked.predecessor(original(1, 20)), parked.watermark()), (Some(10), 6));
    assert_eq!(parked.admit(7, &label(first, 100, 1)), Ok(()));
    assert_eq!((parked.len(), parked.is_held(original(2, 6))), (2, Some(5)));
    assert_eq!((run_due(&mut parked, 99), run_due(&mut parked, 100)), (vec![], vec![(7, Some(first))]));
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
                    let due = run_due(&mut parked, now_ms);
                    let mut ran: Vec<Original> = due.iter().filter_map(|(_, of)| *of).collect();
                    expected.sort();
                    ran.sort();
                    prop_assert_eq!(&ran, &expected);
                    let mut due: Vec<_> = due.into_iter().filter_map(|(seq, of)| Some((of?, seq))).collect();
                    due.sort();
                    for (of, seq) in due {
                        if parked.predecessor(of).is_some() {
                            parked.put_back(seq);
                            continue;
                        }
                        let (_, _, attempts) = model[&of];
                        let again = of.offset % 2 == 0 && attempts < 6;
                        if again {
                            parked.hold(of, run(attempts + 1));
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
            let may_know = parked.may_know(&[0, 1, 2].map(|key| original(key, 0).key));
            for (key, may_know) in (0..).zip(may_know) {
                prop_assert!(may_know || parked.predecessor(original(key, i64::MAX)).is_none(), "key {}", key);
            }
            let CommitPoint { offset, settled } = parked.commit_point();
            let open: Vec<i64> = (0..end).filter(|at| *at >= offset && !settled.contains(*at)).collect();
            let mut kept: Vec<i64> = model.values().map(|(at, ..)| *at).collect();
            kept.sort_unstable();
            prop_assert_eq!(open, kept);
        }
    }
}
