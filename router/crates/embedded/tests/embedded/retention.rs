//! What is too old goes, by segments, and never anything else.

use std::time::Duration;

use pointsman_core::port::{FeedError, Log, NewTopic};
use pointsman_core::record::{OwnedRecord, TopicPartition};
use pointsman_embedded::EmbeddedLog;
use proptest::collection::vec;
use proptest::prelude::*;

use crate::harness::*;

const SEGMENT: usize = 1024;

fn create_kept(log: &EmbeddedLog, kept: Option<Duration>) {
    log.create_topics(&[NewTopic { name: "t".into(), partitions: 2, retention: kept }]).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    /// The model: as long as the first segment holds nothing young, it goes.
    #[test]
    fn only_leading_segments_without_a_young_record_go(
        runs in vec((1_usize..1500, 0_i64..10), 1..4),
        cutoffs in vec(0_i64..12, 1..4),
    ) {
        let place = Place::new();
        let log = place.open();
        create_kept(&log, Some(Duration::from_secs(1)));
        let partition = TopicPartition::new("t", 1);
        let times: Vec<i64> = runs.iter().flat_map(|(count, time)| vec![NOW + time; *count]).collect();
        let records: Vec<_> = times.iter().map(|time| OwnedRecord { timestamp_ms: *time, ..record("v") }).collect();
        write(&log, &partition, &records);
        let mut first = 0;
        for cutoff in cutoffs {
            log.enforce_retention(NOW + 1000 + cutoff).unwrap();
            while first < times.len() {
                let end = ((first / SEGMENT + 1) * SEGMENT).min(times.len());
                if times[first / SEGMENT * SEGMENT..end].iter().any(|time| *time >= NOW + cutoff) {
                    break;
                }
                first = end;
            }
            prop_assert_eq!(log.watermarks(&partition).unwrap(), (first as i64, times.len() as i64));
            let left = contents(&log, &partition);
            prop_assert_eq!(left.len(), times.len() - first);
            prop_assert!(left.iter().zip(first..).all(|(record, offset)| record.offset == offset as i64));
            let expected = times.iter().skip(first).position(|time| *time > NOW + 4).map_or(times.len(), |at| first + at);
            prop_assert_eq!(log.offset_at(&partition, NOW + 5).unwrap(), expected as i64);
        }
        // The log is whole, and goes on where it was.
        write(&log, &partition, &[record("next")]);
        prop_assert_eq!(log.offset_at(&partition, 0).unwrap(), first as i64);
        prop_assert_eq!(contents(&place.open(), &partition).last().unwrap().offset, times.len() as i64);
        // In time it goes too, whatever part of its segment went before.
        log.enforce_retention(NOW * 2).unwrap();
        prop_assert_eq!(log.watermarks(&partition).unwrap(), (times.len() as i64 + 1, times.len() as i64 + 1));
    }
}

#[test]
fn a_topic_without_retention_keeps_everything() {
    let place = Place::new();
    let log = place.open();
    create_kept(&log, None);
    let partition = TopicPartition::new("t", 0);
    write(&log, &partition, &[OwnedRecord { timestamp_ms: 0, ..record("v") }]);
    log.enforce_retention(i64::MAX).unwrap();
    assert_eq!(log.watermarks(&partition).unwrap(), (0, 1));
}

#[test]
fn a_feed_that_retention_overtook_says_what_is_lost() {
    let place = Place::new();
    let log = place.open();
    create_kept(&log, Some(Duration::from_millis(1)));
    let partition = TopicPartition::new("t", 0);
    write(&log, &partition, &[record("0"), record("1")]);
    let mut feed = log.read(&partition, 0).unwrap();
    assert!(feed.fetch(1, 1).unwrap().is_some());
    log.enforce_retention(NOW + 2).unwrap();
    match feed.fetch(1, 1) {
        Err(FeedError::OutOfRange { wanted: 1, available: Some((2, 2)), .. }) => {}
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("read what is gone"),
    }
}

#[test]
fn opening_a_log_removes_what_is_too_old() {
    let place = Place::new();
    let log = place.open();
    create_kept(&log, Some(Duration::from_secs(1)));
    let partition = TopicPartition::new("t", 0);
    write(&log, &partition, &[record("old")]);
    drop(log);
    place.clock.store(NOW + 1001, std::sync::atomic::Ordering::SeqCst);
    assert_eq!(place.open().watermarks(&partition).unwrap(), (1, 1));
}
