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
        for (count, time) in &runs {
            place.clock.store(NOW + time, std::sync::atomic::Ordering::SeqCst);
            write(&log, &partition, &vec![OwnedRecord { timestamp_ms: NOW + time, ..record("v") }; *count]);
        }
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

/// Years that are loaded into a log are not removed from it for their age.
#[test]
fn what_counts_is_when_a_record_was_written_and_not_its_timestamp() {
    let place = Place::new();
    let log = place.open();
    create_kept(&log, Some(Duration::from_secs(1)));
    let partition = TopicPartition::new("t", 0);
    write(&log, &partition, &[OwnedRecord { timestamp_ms: 7, ..record("v") }]);
    log.enforce_retention(NOW + 1000).unwrap();
    assert_eq!(log.watermarks(&partition).unwrap(), (0, 1));
    log.enforce_retention(NOW + 1001).unwrap();
    assert_eq!(log.watermarks(&partition).unwrap(), (1, 1));
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

/// Asks the log until it holds these offsets; the control thread is not to be waited for in any other way.
fn wait_for(log: &EmbeddedLog, partition: &TopicPartition, offsets: (i64, i64)) {
    let began = std::time::Instant::now();
    while log.watermarks(partition).unwrap() != offsets {
        assert!(began.elapsed() < PATIENCE, "{:?} instead of {offsets:?}", log.watermarks(partition));
        std::thread::yield_now();
    }
}

#[test]
fn what_is_settled_of_a_retry_topic_goes() {
    const PARKED: i64 = 20_000;
    let place = Place::new();
    let log = log_with(&place, &[("t", 2), ("t.retry", 2)]);
    let [source, retry, other] = [("t", 0), ("t.retry", 0), ("t.retry", 1)].map(|(t, n)| TopicPartition::new(t, n));
    let plan = |group| plan(group, &[("t", Some("t.retry"), pointsman_core::port::StartAt::Earliest)]);
    // More than one step removes.
    let host = SimulatedHost::new();
    let member = log.join(plan("g"), host.clone()).unwrap();
    host.wait_for_assigned(2);
    for partition in [&source, &retry, &other] {
        write(&log, partition, &vec![record("v"); PARKED as usize]);
    }
    let commits = [commit(&source, 9000, ""), commit(&retry, PARKED - 500, ""), commit(&other, 0, "")];
    member.committer().commit(&commits);
    wait_for(&log, &retry, (PARKED - 500, PARKED));
    assert_eq!(log.watermarks(&other).unwrap(), (0, PARKED));
    assert_eq!(log.watermarks(&source).unwrap(), (0, PARKED));
    // What the group had not settled under its old name stays.
    assert!(member.leave(PATIENCE));
    let renamed = log.join(plan("renamed"), SimulatedHost::new()).unwrap();
    renamed.committer().commit(&[commit(&retry, PARKED, "")]);
    assert!(renamed.leave(PATIENCE));
    let member = log.join(plan("g"), SimulatedHost::new()).unwrap();
    member.committer().commit(&[commit(&other, 1, "")]);
    wait_for(&log, &other, (1, PARKED));
    assert_eq!(contents(&log, &retry).len(), 500);
    assert!(member.leave(PATIENCE));
}

#[test]
fn opening_a_log_does_not_wait_until_all_of_it_is_gone() {
    let place = Place::new();
    let log = place.open();
    create_kept(&log, Some(Duration::from_secs(1)));
    let partition = TopicPartition::new("t", 0);
    write(&log, &partition, &vec![record(&"x".repeat(1 << 19)); 40]);
    drop(log);
    place.clock.store(NOW + 1001, std::sync::atomic::Ordering::SeqCst);
    let log = place.open();
    let (first, _) = log.watermarks(&partition).unwrap();
    assert!((1..=33).contains(&first), "{first} of 40 records of 512 KiB are gone");
    log.enforce_retention(NOW + 1001).unwrap();
    assert_eq!(log.watermarks(&partition).unwrap(), (40, 40));
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
