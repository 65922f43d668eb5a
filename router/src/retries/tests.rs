//! What is listed of parked records. Dead letters stand for them: they say the same of themselves.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use pointsman_core::condition::FieldPath;

use super::*;
use crate::dead_letter::tests::sample;

fn lane(partition: i32, first: &[(i64, i64)]) -> LaneRetries {
    let known =
        |(due_ms, offset): &(i64, i64)| Known { due_ms: *due_ms, offset: *offset, attempts: 1, is_behind: false };
    LaneRetries {
        lane: LaneName { route: "orders".into(), topic: "orders.v1".into(), partition },
        partition: TopicPartition::new("dead", partition),
        backlog: Backlog::default(),
        first: first.iter().map(known).collect(),
        complete: true,
    }
}

fn list(limit: usize, redaction: &Redaction, stop: bool) -> (Vec<ParkedRecord>, Vec<String>) {
    let (_folder, log) = sample();
    let lanes = [lane(0, &[(100, 0), (300, 1)]), lane(1, &[(50, 1), (200, 0)])];
    let mut notes = Vec::new();
    let records = first_records(&log, &lanes, limit, redaction, &|| stop, &mut |text| notes.push(text.to_owned()));
    (records, notes)
}

#[test]
fn the_first_to_be_due_are_told_with_what_they_failed_with() {
    let (records, notes) = list(3, &Redaction::default(), false);
    let places: Vec<&str> = records.iter().map(|record| &*record.place).collect();
    assert_eq!((places, notes.len()), (vec!["dead/1/1", "dead/0/0", "dead/1/0"], 0));
    let told = |index: usize| records[index].told.as_ref().unwrap();
    assert_eq!(
        (&*told(0).class, told(0).key.get(), told(0).stage.as_deref()),
        ("trap", r#"{"base64":"/xs="}"#, Some("enrich"))
    );
    assert_eq!((&*told(1).code, told(1).key.get(), told(1).partition), ("no-country", "\"a\"", 0));
    assert_eq!(records[0].due, "1970-01-01T00:00:00.050Z");
    let (records, _) = list(1, &Redaction::of(&[FieldPath::Key]), false);
    assert_eq!(records[0].told.as_ref().unwrap().key.get(), "\"[redacted]\"");
}

#[test]
fn what_can_not_be_read_is_listed_all_the_same_and_that_is_said() {
    // One was written by another tool.
    let (records, notes) = list(4, &Redaction::default(), false);
    assert!(records[3].place == "dead/0/1" && records[3].told.is_none());
    assert!(notes.len() == 1 && notes[0].starts_with("of 1 of these records no more is known"), "{notes:?}");
    let (records, notes) = list(4, &Redaction::default(), true);
    assert!(records.len() == 4 && records.iter().all(|record| record.told.is_none()));
    assert!(notes[0].starts_with("of 4 of these records"), "{notes:?}");
}

#[test]
fn a_lane_is_overdue_by_what_waits_for_nothing_else() {
    let report = |next_due_ms| {
        let backlog = Backlog { records: 2, oldest_due_ms: Some(0), next_due_ms, ..Backlog::default() };
        RetryReport::new(LaneRetries { backlog, ..lane(0, &[]) }, 5_000)
    };
    let overdue = [Some(3_500), Some(6_000), None].map(|next_due_ms| report(next_due_ms).overdue_seconds);
    assert_eq!(overdue, [1.5, 0.0, 0.0]);
    assert_eq!(report(None).oldest_due.unwrap(), "1970-01-01T00:00:00.000Z");
}
