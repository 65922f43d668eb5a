//! The tracker against a plain model: a set of offsets with and without a fate.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::{Admission, CommitPoint, OutOfOrder, Ticket, Tracker};
use crate::metadata::Metadata;
use crate::settled::Settled;

fn from(offset: i64) -> Tracker {
    Tracker::resume(CommitPoint { offset, settled: Settled::default() })
}

fn run(tracker: &mut Tracker, offset: i64) -> Ticket {
    match tracker.admit(offset) {
        Ok(Admission::Run(ticket)) => ticket,
        other => unreachable!("{offset}: {other:?}"),
    }
}

#[test]
fn a_failure_in_the_middle_holds_the_commit_point() {
    let mut tracker = from(0);
    let mut tickets: Vec<_> = (0..10).map(|offset| run(&mut tracker, offset)).collect();
    let middle = tickets.remove(4);
    for ticket in tickets {
        tracker.settle(ticket);
    }
    assert_eq!(tracker.watermark(), 4);
    assert!(tracker.commit_point().settled.contains(5));
    tracker.settle(middle);
    assert_eq!(tracker.commit_point(), CommitPoint { offset: 10, settled: Settled::default() });
}

#[test]
fn a_lost_ticket_blocks_and_never_skips() {
    let mut tracker = from(7);
    drop(run(&mut tracker, 7));
    for offset in 8..100 {
        let ticket = run(&mut tracker, offset);
        tracker.settle(ticket);
    }
    assert_eq!(tracker.watermark(), 7);
}

#[test]
fn offsets_may_have_gaps_but_never_go_back() {
    let mut tracker = from(3);
    let ticket = run(&mut tracker, 9);
    assert_eq!(tracker.watermark(), 9);
    tracker.settle(ticket);
    assert_eq!(tracker.watermark(), 10);
    assert_eq!(tracker.admit(9), Err(OutOfOrder { got: 9, expected_at_least: 10 }));
}

proptest! {
    /// I1 and I2, over gaps, any order of settling, lost tickets, and restarts that go on from a commit point.
    #[test]
    fn a_commit_point_never_passes_an_unsettled_record_and_nothing_settled_runs_again(
        gaps in prop::collection::vec(1..4_i64, 1..60),
        order in prop::collection::vec(any::<prop::sample::Index>(), 0..60),
        restarts in prop::collection::vec(any::<bool>(), 60),
    ) {
        let offsets: Vec<i64> = gaps.iter().scan(0, |at, gap| { *at += gap; Some(*at) }).collect();
        let mut tracker = from(0);
        let mut in_flight: BTreeMap<i64, Ticket> = BTreeMap::new();
        let mut settled: Vec<i64> = Vec::new();
        let mut committed = 0;
        let admit_all = |tracker: &mut Tracker, settled: &[i64]| {
            let point = tracker.commit_point();
            let mut in_flight = BTreeMap::new();
            for offset in offsets.iter().copied().filter(|offset| *offset >= point.offset) {
                match tracker.admit(offset).expect("in order") {
                    Admission::Run(ticket) => { assert!(!settled.contains(&offset)); in_flight.insert(offset, ticket); }
                    Admission::AlreadySettled => assert!(settled.contains(&offset)),
                }
            }
            in_flight
        };
        in_flight.extend(admit_all(&mut tracker, &settled));
        for (pick, restart) in order.iter().zip(restarts) {
            if in_flight.is_empty() { break; }
            let offset = *in_flight.keys().nth(pick.index(in_flight.len())).expect("not empty");
            tracker.settle(in_flight.remove(&offset).expect("is there"));
            settled.push(offset);

            let point = tracker.commit_point();
            prop_assert!(point.offset >= committed, "I3");
            committed = point.offset;
            for offset in &offsets {
                let past = *offset < point.offset || point.settled.contains(*offset);
                prop_assert_eq!(past, settled.contains(offset), "offset {}", offset);
            }
            if restart {
                // The commit goes to the broker as text, and comes back to another process.
                let metadata = Metadata { settled: point.settled.clone(), ..Metadata::default() };
                let back = Metadata::decode(&metadata.encode(point.offset).text, point.offset).expect("our own text").settled;
                prop_assert_eq!(&back, &point.settled);
                tracker = Tracker::resume(CommitPoint { offset: point.offset, settled: back });
                in_flight = admit_all(&mut tracker, &settled);
            }
        }
    }
}
