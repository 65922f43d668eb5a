//! What goes in comes out: contents, partitions, limits, lookup by time.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use pointsman_core::delivery::{PartitionChoice, TopicId, partition_of_key};
use pointsman_core::port::{DeliveryError, FeedError, Log, NewTopic, ProduceError, Token, TopicSettings, Undelivered};
use pointsman_core::record::{Headers, OwnedHeader, OwnedRecord, TopicPartition};
use pointsman_embedded::{EmbeddedLog, Options};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::harness::*;

pub(crate) fn bytes() -> impl Strategy<Value = Option<Vec<u8>>> {
    prop_oneof![Just(None), Just(Some(Vec::new())), vec(any::<u8>(), 1..300).prop_map(Some)]
}

fn any_header() -> impl Strategy<Value = OwnedHeader> {
    let name = prop_oneof![Just(b"same".to_vec()), Just(Vec::new()), vec(any::<u8>(), 1..20)];
    (name, bytes()).prop_map(|(name, value)| header(&name, value.as_deref()))
}

pub(crate) fn any_record() -> impl Strategy<Value = OwnedRecord> {
    (0_i64..NOW * 2, bytes(), bytes(), vec(any_header(), 0..4))
        .prop_map(|(timestamp_ms, key, value, headers)| OwnedRecord { offset: -1, timestamp_ms, key, value, headers })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn records_come_back_as_they_were(records in vec(any_record(), 1..50), stamp in any_header()) {
        let place = Place::new();
        let log = log_with(&place, &[("t", 1)]);
        let mut sink = sink(&log, "t");
        let stamps = [stamp];
        for record in &records {
            let mut delivery = delivery(record, PartitionChoice::ByKey);
            delivery.stamps = Headers::Owned(&stamps);
            sink.produce(&delivery, Token(0)).unwrap();
        }
        prop_assert!(served(&mut *sink).iter().all(Result::is_ok));
        let expected: Vec<_> = records.into_iter().enumerate().map(|(index, mut record)| {
            record.offset = index as i64;
            record.headers.extend(stamps.clone());
            record
        }).collect();
        prop_assert_eq!(contents(&log, &TopicPartition::new("t", 0)), expected);
    }

    #[test]
    fn a_time_leads_to_the_first_record_as_late(
        times in vec(0_i64..5000, 1..3000),
        questions in vec(-10_i64..5010, 1..20),
    ) {
        let place = Place::new();
        let log = log_with(&place, &[("other", 1), ("t", 2)]);
        let partition = TopicPartition::new("t", 0);
        let records: Vec<_> = times.iter().map(|time| OwnedRecord { timestamp_ms: *time, ..record("v") }).collect();
        write(&log, &partition, &records);
        // A neighbour that must not be found.
        write(&log, &TopicPartition::new("t", 1), &[OwnedRecord { timestamp_ms: 9999, ..record("v") }]);
        for question in questions {
            let expected = times.iter().position(|time| *time >= question).unwrap_or(times.len());
            prop_assert_eq!(log.offset_at(&partition, question).unwrap(), expected as i64);
        }
    }
}

#[test]
fn keys_go_where_kafkas_java_client_sends_them() {
    let place = Place::new();
    let log = log_with(&place, &[("t", 7)]);
    let mut sink = sink(&log, "t");
    let keys: Vec<String> = (0..200).map(|number| format!("key-{number}")).chain([String::new()]).collect();
    for key in &keys {
        let record = OwnedRecord { key: Some(key.clone().into_bytes()), ..record(key) };
        sink.produce(&delivery(&record, PartitionChoice::ByKey), Token(0)).unwrap();
    }
    assert!(served(&mut *sink).iter().all(Result::is_ok));
    let mut expected = BTreeMap::<u32, Vec<String>>::new();
    for key in keys {
        expected.entry(partition_of_key(key.as_bytes(), 7)).or_default().push(key);
    }
    for (number, keys) in expected {
        assert_eq!(values(&contents(&log, &TopicPartition::new("t", number.cast_signed()))), keys);
    }
}

#[test]
fn null_keys_spread_over_all_partitions_whoever_writes_them() {
    let place = Place::new();
    let log = log_with(&place, &[("t", 4)]);
    for _ in 0..8 {
        let mut sink = sink(&log, "t");
        sink.produce(&delivery(&record("v"), PartitionChoice::ByKey), Token(0)).unwrap();
        assert_eq!(served(&mut *sink), [Ok(())]);
    }
    for number in 0..4 {
        assert_eq!(log.watermarks(&TopicPartition::new("t", number)).unwrap(), (0, 2));
    }
}

fn code(result: &Result<Option<i64>, Box<Undelivered>>) -> &str {
    match result.as_ref().map_err(|undelivered| &undelivered.error) {
        Ok(_) => "written",
        Err(DeliveryError::Refused { code, .. } | DeliveryError::Unavailable { code, .. }) => code,
    }
}

#[test]
fn what_is_wrong_with_a_record_is_refused_and_keeps_no_other_back() {
    let place = Place::new();
    let log = EmbeddedLog::open(place.path(), Options { max_record_bytes: 100, ..place.options() }).unwrap();
    create(&log, &[("t", 2)]);
    let mut sink = log.sink(&["t".into(), "missing".into()], nobody()).unwrap();
    let good = record("good");
    let (large, early) = (record(&"x".repeat(101)), OwnedRecord { timestamp_ms: -2, ..record("early") });
    let by_key = delivery(&good, PartitionChoice::ByKey);

    for (delivery, expected) in [
        (delivery(&large, PartitionChoice::ByKey), "record-too-large"),
        (delivery(&early, PartitionChoice::ByKey), "invalid-timestamp"),
        (pointsman_core::delivery::Delivery { topic: TopicId(2), ..by_key }, "unknown-topic"),
    ] {
        let Err(ProduceError::Delivery(error @ DeliveryError::Refused { .. })) = sink.produce(&delivery, Token(9))
        else {
            panic!("{expected} was taken");
        };
        assert_eq!(code(&Err(Box::new(error.into()))), expected);
    }

    for (number, delivery) in [
        delivery(&good, PartitionChoice::Exactly(0)),
        delivery(&good, PartitionChoice::Exactly(2)),
        delivery(&good, PartitionChoice::Exactly(-1)),
        pointsman_core::delivery::Delivery { topic: TopicId(1), ..by_key },
        delivery(&good, PartitionChoice::Exactly(1)),
    ]
    .iter()
    .enumerate()
    {
        sink.produce(delivery, Token(number as u64)).unwrap();
    }
    let mut reports = Vec::new();
    sink.serve(&mut reports).unwrap();
    let told: Vec<_> = reports.iter().map(|report| (report.token.0, code(&report.result))).collect();
    let expected = ["written", "unknown-partition", "unknown-partition", "unknown-topic", "written"];
    assert_eq!(told, (0..5).zip(expected).collect::<Vec<_>>());
    // A topic that comes later is found.
    create(&log, &[("missing", 1)]);
    sink.produce(&pointsman_core::delivery::Delivery { topic: TopicId(1), ..by_key }, Token(0)).unwrap();
    assert_eq!(served(&mut *sink), [Ok(())]);
}

#[test]
fn a_sink_holds_no_more_than_its_bound_but_always_one_record() {
    let place = Place::new();
    let log = EmbeddedLog::open(place.path(), Options { sink_queue_bytes: 10_000, ..place.options() }).unwrap();
    create(&log, &[("t", 1)]);
    let mut sink = sink(&log, "t");
    let (small, large) = (record(&"x".repeat(1000)), record(&"x".repeat(20_000)));
    let empty = OwnedRecord { value: None, ..record("") };
    for (record, most) in [(&small, 10), (&large, 1), (&empty, 100)] {
        let mut taken = 0;
        while match sink.produce(&delivery(record, PartitionChoice::ByKey), Token(0)) {
            Ok(_) => true,
            Err(ProduceError::Full) => false,
            Err(ProduceError::Delivery(error)) => panic!("{error}"),
        } {
            taken += 1;
            assert!(taken <= most, "{taken} records are more than the bound");
        }
        assert_eq!(served(&mut *sink).len(), taken);
        assert!(taken >= 1);
    }
}

#[test]
fn a_page_ends_at_its_records_its_bytes_or_the_end() {
    let place = Place::new();
    let log = log_with(&place, &[("t", 1)]);
    let partition = TopicPartition::new("t", 0);
    let sizes = [10, 10, 10, 500, 10, 10];
    let records: Vec<_> = sizes.iter().map(|size| record(&"x".repeat(*size))).collect();
    write(&log, &partition, &records);
    for (max_records, max_bytes, expected) in [
        (100, 10_000, vec![6]),
        (4, 10_000, vec![4, 2]),
        (1, 10_000, vec![1; 6]),
        (100, 30, vec![3, 1, 2]),
        (100, 29, vec![2, 1, 1, 2]),
        (100, 0, vec![1; 6]),
        (2, 510, vec![2, 2, 2]),
    ] {
        let mut feed = log.read(&partition, 0).unwrap();
        let mut pages = Vec::new();
        while let Some(batch) = feed.fetch(max_records, max_bytes).unwrap() {
            pages.push(batch.len());
        }
        assert_eq!(pages, expected, "at most {max_records} records, {max_bytes} bytes");
    }
}

#[test]
fn a_record_without_a_time_gets_that_of_writing() {
    let place = Place::new();
    let log = log_with(&place, &[("t", 1)]);
    place.clock.store(NOW + 5, Ordering::SeqCst);
    let partition = TopicPartition::new("t", 0);
    write(&log, &partition, &[OwnedRecord { timestamp_ms: -1, ..record("v") }]);
    assert_eq!(contents(&log, &partition)[0].timestamp_ms, NOW + 5);
}

#[test]
fn a_feed_that_starts_where_nothing_is_says_what_there_is() {
    let place = Place::new();
    let log = log_with(&place, &[("t", 1)]);
    let partition = TopicPartition::new("t", 0);
    write(&log, &partition, &[record("0"), record("1")]);
    for start in [-1, 3, i64::MAX, i64::MIN] {
        let mut feed = log.read(&partition, start).unwrap();
        match feed.fetch(1, 1) {
            Err(FeedError::OutOfRange { wanted, available, .. }) => {
                assert_eq!((wanted, available), (start, Some((0, 2))));
            }
            _ => panic!("offset {start} is not there"),
        }
    }
    assert!(log.read(&partition, 2).unwrap().fetch(1, 1).unwrap().is_none());
    assert_eq!(log.read(&TopicPartition::new("t", 1), 0).err().unwrap().code, "unknown-partition");
}

#[test]
fn a_topic_is_kept_for_as_long_as_was_said_last() {
    let place = Place::new();
    let log = log_with(&place, &[("other", 1)]);
    for (partitions, retention) in [(2, Some(60)), (3, Some(5)), (1, None), (0, Some(7))] {
        let retention = retention.map(Duration::from_secs);
        log.create_topics(&[NewTopic { name: "t".into(), partitions, retention }]).unwrap();
        let settings =
            |retention| TopicSettings { retention, retention_bytes: None, compacted: false, max_batch_bytes: None };
        let expected = [settings(retention), settings(None)];
        assert_eq!(log.settings(&["t".into(), "other".into()]).unwrap(), expected);
        assert_eq!(log.topics(Some(&["t".into()])).unwrap()[0].partitions, 2);
    }
    write(&log, &TopicPartition::new("t", 0), &[record("v")]);
    log.enforce_retention(NOW + 7001).unwrap();
    assert_eq!(contents(&log, &TopicPartition::new("t", 0)), []);
    assert_eq!(log.settings(&["t".into(), "missing".into()]).unwrap_err().code, "unknown-topic");
}

#[test]
fn topics_have_kafkas_names_and_stay_as_they_were_made() {
    let place = Place::new();
    let log = log_with(&place, &[("b", 2), ("a.b-c_9", 1)]);
    create(&log, &[("b", 5)]);
    let listed = |names: Option<&[_]>| -> Vec<_> {
        log.topics(names).unwrap().into_iter().map(|topic| (topic.name.to_string(), topic.partitions)).collect()
    };
    assert_eq!(listed(None), [("a.b-c_9".into(), 1), ("b".into(), 2)]);
    assert_eq!(listed(Some(&["b".into(), "c".into()])), [("b".into(), 2)]);
    log.grow_topic("b", 3).unwrap();
    log.grow_topic("b", 2).unwrap();
    assert_eq!(listed(Some(&["b".into()])), [("b".into(), 3)]);
    assert_eq!(log.grow_topic("c", 3).unwrap_err().code, "refused");

    for name in ["", ".", "..", "a b", "ä", "a/b", &"x".repeat(250)] {
        let topic = NewTopic { name: name.into(), partitions: 1, retention: None };
        assert_eq!(log.create_topics(&[topic]).unwrap_err().code, "refused", "{name:?}");
    }
    let none = NewTopic { name: "none".into(), partitions: 0, retention: None };
    assert_eq!(log.create_topics(&[none]).unwrap_err().code, "refused");
    assert_eq!(listed(None).len(), 2, "a refused topic is not there");
}
