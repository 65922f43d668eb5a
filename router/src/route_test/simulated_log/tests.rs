//! The simulated log keeps the promises of the ports.
#![allow(clippy::unwrap_used, reason = "a test may fail by panic")]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use pointsman_core::delivery::{Delivery, PartitionChoice, TopicId};
use pointsman_core::port::{DeliveryError, Feed as _, ProduceError, Report, Sink as _, Token};
use pointsman_core::record::{Headers, OwnedRecord, TopicPartition};
use proptest::prelude::*;

use super::{QUEUE_BYTES, SimulatedLog};

fn log(partitions: u32) -> SimulatedLog {
    let log = SimulatedLog::new(1 << 30);
    log.create(&"t".into(), partitions);
    log
}

fn record(value: Vec<u8>) -> OwnedRecord {
    OwnedRecord { offset: 0, timestamp_ms: -1, key: None, value: Some(value), headers: Vec::new() }
}

fn delivery(partition: PartitionChoice, value: &[u8]) -> Delivery<'_> {
    let (topic, headers) = (TopicId(0), Headers::NONE);
    Delivery { topic, partition, timestamp_ms: 1, key: None, value: Some(value), headers, stamps: Headers::NONE }
}

proptest! {
    /// Whatever the sizes and limits: each record once, in order, and no batch larger than was asked for.
    #[test]
    fn a_feed_gives_each_record_once_in_order(
        sizes in prop::collection::vec(0..40_usize, 0..40),
        start in 0..45_usize,
        max_records in 1..6_usize,
        max_bytes in 1..60_usize,
    ) {
        let log = log(1);
        for size in &sizes {
            log.append("t", PartitionChoice::ByKey, record(vec![0; *size])).unwrap();
        }
        let mut feed = log.feed(TopicPartition::new("t", 0), start as i64);
        let mut offsets = Vec::new();
        while let Some(batch) = feed.fetch(max_records, max_bytes).unwrap() {
            let bytes: usize = (0..batch.len()).map(|index| batch.record(index).bytes()).sum();
            prop_assert!((1..=max_records).contains(&batch.len()));
            prop_assert!(batch.len() == 1 || bytes <= max_bytes);
            offsets.extend((0..batch.len()).map(|index| batch.record(index).offset));
        }
        prop_assert_eq!(offsets, (start as i64..sizes.len() as i64).collect::<Vec<_>>());
    }
}

#[test]
fn what_is_produced_is_there_and_reported_once_the_sink_is_served() {
    let (log, mut reports) = (log(2), Vec::new());
    let woken = Arc::new(AtomicUsize::new(0));
    let mut feed = log.feed(TopicPartition::new("t", 1), 0);
    let counter = Arc::clone(&woken);
    feed.wake_with(Arc::new(move || {
        counter.fetch_add(1, Ordering::Relaxed);
    }));
    let mut sink = log.sink(vec!["t".into()]);
    sink.produce(&delivery(PartitionChoice::Exactly(1), b"x"), Token(7)).unwrap();
    sink.produce(&delivery(PartitionChoice::Exactly(2), b"x"), Token(8)).unwrap();
    assert!(log.written("t").is_empty());

    sink.serve(&mut reports).unwrap();
    assert_eq!(log.written("t").len(), 1);
    assert_eq!(woken.load(Ordering::Relaxed), 1);
    assert_eq!(feed.fetch(9, 9).unwrap().unwrap().record(0).value, Some(&b"x"[..]));
    let [Report { token: Token(7), result: Ok(Some(0)) }, Report { token: Token(8), result: Err(refused) }] =
        &reports[..]
    else {
        unreachable!("two reports, in order: {reports:?}")
    };
    assert!(matches!(&refused.error, DeliveryError::Refused { code, .. } if code == "unknown-partition"));

    sink.serve(&mut reports).unwrap();
    assert_eq!(reports.len(), 2, "each delivery is reported once");
    drop(feed);
    log.append("t", PartitionChoice::Exactly(1), record(Vec::new())).unwrap();
    assert_eq!(woken.load(Ordering::Relaxed), 1, "a feed that is gone is not woken");
}

#[test]
fn the_queue_of_a_sink_is_bounded_and_a_large_record_comes_alone() {
    let log = log(1);
    let mut sink = log.sink(vec!["t".into()]);
    let large = vec![0; QUEUE_BYTES + 1];
    sink.produce(&delivery(PartitionChoice::ByKey, &large), Token(0)).unwrap();
    let full = sink.produce(&delivery(PartitionChoice::ByKey, b""), Token(1));
    assert!(matches!(full, Err(ProduceError::Full)));
    sink.serve(&mut Vec::new()).unwrap();
    sink.produce(&delivery(PartitionChoice::ByKey, b""), Token(1)).unwrap();
}

#[test]
fn a_record_is_refused_for_what_real_logs_refuse() {
    let log = SimulatedLog::new(4);
    log.create(&"t".into(), 1);
    let code = |topic, partition, value: &[u8]| {
        log.append(topic, partition, record(value.to_vec())).err().map(|refusal| refusal.code)
    };
    assert_eq!(code("t", PartitionChoice::ByKey, b"12345"), Some("record-too-large"));
    assert_eq!(code("u", PartitionChoice::ByKey, b"1"), Some("unknown-topic"));
    assert_eq!(code("t", PartitionChoice::Exactly(-1), b"1"), Some("unknown-partition"));
    log.set_now(5);
    assert_eq!(code("t", PartitionChoice::ByKey, b"1234"), None);
    assert_eq!(log.written("t")[0].record.timestamp_ms, 5, "the log stamps what comes without a time");
}
