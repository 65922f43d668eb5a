//! A log that can't be written now: what was taken is there, nothing is half there, and it goes on afterwards.

use std::time::Duration;

use pointsman_core::delivery::PartitionChoice;
use pointsman_core::port::{DeliveryError, Log, NewTopic, Token};
use pointsman_core::record::TopicPartition;
use pointsman_embedded::{EmbeddedLog, Options};

use crate::harness::*;

/// Serves three records in one transaction.
fn serve_three(log: &EmbeddedLog, round: usize) -> Vec<Result<(), DeliveryError>> {
    let mut sink = sink(log, "t");
    for part in 0..3 {
        let record = record(&format!("{round}/{part} {}", "x".repeat(5000)));
        sink.produce(&delivery(&record, PartitionChoice::Exactly(part)), Token(0)).unwrap();
    }
    served(&mut *sink)
}

#[test]
fn a_log_at_its_size_limit_goes_on_when_there_is_space() {
    let place = Place::new();
    let log = EmbeddedLog::open(place.path(), Options { max_file_bytes: 1 << 20, ..place.options() }).unwrap();
    let topic = NewTopic { name: "t".into(), partitions: 3, retention: Some(Duration::from_secs(1)) };
    log.create_topics(&[topic]).unwrap();
    let mut rounds = 0;
    let refused = loop {
        let results = serve_three(&log, rounds);
        if results.iter().any(Result::is_err) {
            break results;
        }
        rounds += 1;
        assert!(rounds < 1000, "the limit does not hold");
    };
    assert!(rounds > 10, "the log was full after {rounds} rounds");
    assert_eq!(refused.len(), 3);
    for result in refused {
        let Err(DeliveryError::Unavailable { code, message }) = result else { panic!("{result:?}") };
        assert_eq!(code, "disk-full");
        assert!(
            message.contains("raise the limit (`max_size`)") && message.contains("shorten the retention"),
            "{message}"
        );
    }
    for part in 0..3 {
        let values = values(&contents(&log, &TopicPartition::new("t", part)));
        assert_eq!(values.len(), rounds);
        assert!(values.iter().enumerate().all(|(round, value)| value.starts_with(&format!("{round}/{part} "))));
    }
    // A full log can still be opened, and makes room by retention.
    assert_eq!(contents(&place.open(), &TopicPartition::new("t", 0)).len(), rounds);
    log.enforce_retention(NOW + 1001).unwrap();
    assert!(serve_three(&log, rounds).iter().all(Result::is_ok));
    let after = contents(&log, &TopicPartition::new("t", 0));
    assert_eq!(after.iter().map(|record| record.offset).collect::<Vec<_>>(), [rounds as i64]);
}

#[test]
fn a_reader_that_never_ends_stops_the_writers_and_not_the_disk() {
    const LIMIT: u64 = 1 << 20;
    let place = Place::new();
    let log = EmbeddedLog::open(place.path(), Options { max_wal_bytes: LIMIT, ..place.options() }).unwrap();
    create(&log, &[("t", 3)]);
    let wal = || std::fs::metadata(place.path().join("pointsman.db-wal")).unwrap().len();
    let mut rounds = 0;
    let mut write_until_refused = |most| {
        while rounds < most {
            let results = serve_three(&log, rounds);
            rounds += 1;
            assert!(wal() < LIMIT * 2, "{} bytes", wal());
            if let Some(Err(DeliveryError::Unavailable { code, message })) = results.into_iter().find(Result::is_err) {
                return Some((code, message));
            }
        }
        None
    };
    // Whoever comes to an end keeps nobody waiting.
    assert_eq!(write_until_refused(200), None);
    let mut other = place.sql();
    let reading = other.transaction().unwrap();
    let _: i64 = reading.query_row("SELECT count(*) FROM topics", [], |row| row.get(0)).unwrap();
    let (code, message) = write_until_refused(1000).unwrap();
    assert_eq!(code, "wal-full");
    assert!(message.contains("resume or end it"), "{message}");
    drop(reading);
    assert_eq!(write_until_refused(1200), None);
}

#[test]
fn a_log_that_another_process_keeps_locked_is_only_unavailable() {
    let place = Place::new();
    let log = EmbeddedLog::open(place.path(), Options { busy_timeout: Duration::ZERO, ..place.options() }).unwrap();
    create(&log, &[("t", 3)]);
    let mut other = place.sql();
    let transaction = other.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate).unwrap();
    for result in serve_three(&log, 0) {
        assert!(matches!(result, Err(DeliveryError::Unavailable { code, .. }) if code == "busy"));
    }
    // Readers don't care.
    assert_eq!(contents(&log, &TopicPartition::new("t", 0)), []);
    drop(transaction);
    assert!(serve_three(&log, 1).iter().all(Result::is_ok));
}

#[test]
fn commits_that_can_not_be_written_now_are_written_later() {
    let place = Place::new();
    let log = EmbeddedLog::open(place.path(), Options { busy_timeout: Duration::ZERO, ..place.options() }).unwrap();
    create(&log, &[("t", 1)]);
    let partition = TopicPartition::new("t", 0);
    let host = SimulatedHost::new();
    let plan = plan("g", &[("t", None, pointsman_core::port::StartAt::Earliest)]);
    let member = log.join(plan, host.clone()).unwrap();
    host.wait_for_assigned(1);
    let mut other = place.sql();
    other.busy_timeout(PATIENCE).unwrap();
    let transaction = other.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate).unwrap();
    member.committer().commit(&[commit(&partition, 3, "kept")]);
    drop(transaction);
    assert!(member.leave(PATIENCE));
    assert_eq!(log.committed("g", std::slice::from_ref(&partition)).unwrap(), [Some(commit(&partition, 3, "kept"))]);
}
