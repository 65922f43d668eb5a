//! Transactions of writers, beyond what they share with Kafka's.

use std::time::Duration;

use pointsman_core::delivery::PartitionChoice;
use pointsman_core::port::{Group, Log, StartAt, Token, TransactionError, Transactions, WriterPlan};
use pointsman_core::record::TopicPartition;
use pointsman_embedded::{EmbeddedLog, Options};

use crate::harness::*;

fn writer(log: &EmbeddedLog, id: &str) -> Box<dyn Transactions> {
    log.transactional(WriterPlan::new(id, vec!["t".into()])).unwrap()
}

fn partition() -> TopicPartition {
    TopicPartition::new("t", 0)
}

/// Writes one record, and commits `offset` for `group`.
fn transact(writer: &mut dyn Transactions, value: &str, group: &str, offset: i64) -> Result<(), TransactionError> {
    let mut transaction = writer.begin()?;
    transaction.produce(&delivery(&record(value), PartitionChoice::ByKey), Token(0))?;
    transaction.add_offsets(Group::Memberless(group), &[commit(&partition(), offset, "m")])?;
    transaction.commit()
}

/// The values that are there, and what the group has committed.
fn state(log: &EmbeddedLog, group: &str) -> (Vec<String>, Option<i64>) {
    let commits = log.committed(group, &[partition()]).unwrap();
    (values(&contents(log, &partition())), commits[0].as_ref().map(|commit| commit.offset))
}

#[test]
fn a_log_that_was_made_before_there_were_writers_has_them() {
    let place = Place::new();
    drop(log_with(&place, &[("t", 1)]));
    place.sql().execute_batch("DROP TABLE writers").unwrap();
    let log = place.open();
    transact(&mut *writer(&log, "w"), "a", "tool", 1).unwrap();
    assert_eq!(state(&log, "tool"), (vec!["a".into()], Some(1)));
}

#[test]
fn a_writer_of_another_handle_is_fenced_too() {
    let place = Place::new();
    let (log, other) = (log_with(&place, &[("t", 1)]), place.open());
    let mut first = writer(&log, "w");
    transact(&mut *first, "a", "tool", 1).unwrap();
    let mut second = writer(&other, "w");
    let error = transact(&mut *first, "b", "tool", 2).unwrap_err();
    assert!(matches!(error, TransactionError::Fenced { .. }), "{error}");
    transact(&mut *second, "c", "tool", 3).unwrap();
    // Other ids are others' business.
    transact(&mut *writer(&log, "x"), "d", "other", 4).unwrap();
    assert_eq!(state(&log, "tool"), (vec!["a".into(), "c".into(), "d".into()], Some(3)));
    assert_eq!(state(&log, "other").1, Some(4));
}

#[test]
fn a_group_with_a_member_is_left_to_it() {
    let place = Place::new();
    let log = log_with(&place, &[("t", 1)]);
    let plan = plan("g", &[("t", None, StartAt::Earliest)]);
    let host = SimulatedHost::new();
    let member = log.join(plan.clone(), host.clone()).unwrap();
    host.wait_for_assigned(1);
    let error = transact(&mut *writer(&log, "w"), "a", "g", 7).unwrap_err();
    assert!(matches!(&error, TransactionError::Fatal { code, .. } if code == "lease-held"), "{error}");
    assert!(state(&log, "g").0.is_empty(), "a part of the transaction is there");
    assert!(member.leave(PATIENCE));

    transact(&mut *writer(&log, "w"), "b", "g", 1).unwrap();
    assert_eq!(state(&log, "g"), (vec!["b".into()], Some(1)));
    // And the group goes on from there.
    let host = SimulatedHost::new();
    let _member = log.join(plan, host.clone()).unwrap();
    host.wait_for_assigned(1);
    assert_eq!(host.with(|told| told.assigned[0].source.start), 1);
}

#[test]
fn a_log_that_is_busy_aborts_and_the_writer_goes_on() {
    let place = Place::new();
    log_with(&place, &[("t", 1)]);
    let options = Options { busy_timeout: Duration::from_millis(20), ..place.options() };
    let log = EmbeddedLog::open(place.path(), options).unwrap();
    let mut writer = writer(&log, "w");
    let other = place.sql();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let error = transact(&mut *writer, "a", "tool", 1).unwrap_err();
    assert!(matches!(&error, TransactionError::Aborted { code, .. } if code == "busy"), "{error}");
    other.execute_batch("ROLLBACK").unwrap();
    transact(&mut *writer, "b", "tool", 2).unwrap();
    assert_eq!(state(&log, "tool"), (vec!["b".into()], Some(2)));
}
