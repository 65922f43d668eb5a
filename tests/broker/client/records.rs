//! Records on their way through: bytes, headers, keys, codecs.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context as _, ensure};
use pointsman_core::delivery::{Delivery, Forward, PartitionChoice, TopicId, partition_of_key};
use pointsman_core::port::{Log as _, Report, Token};
use pointsman_core::record::{Header, Headers, OwnedHeader, OwnedRecord, TopicPartition};
use pointsman_kafka::KafkaLog;
use pointsman_tests::kafka::{Kafka, Sample, TopicSpec};
use pointsman_tests::trials::Trial;
use pointsman_tests::wait;

use super::by_hand::{FEW, delivery, is_refused, read, send, serve, value};
use super::{DEADLINE, log, settings};

pub(crate) const TRIALS: &[Trial] = &[
    Trial::shared("client::null_and_empty_and_odd_bytes_survive_the_way_through", odd_bytes_survive),
    Trial::shared("client::a_record_goes_on_with_its_own_headers_and_keeps_them_if_it_is_refused", forwarded),
    Trial::shared("client::a_record_that_was_taken_whole_comes_back_if_it_is_refused", taken_whole),
    Trial::shared("client::headers_are_plain_where_every_name_is", plain_headers),
    Trial::shared("client::keys_go_where_java_clients_send_them", keys_go_where_java_sends_them),
    Trial::shared("client::every_codec_is_written_and_read", every_codec),
];

fn odd_bytes_survive(kafka: &Kafka) -> anyhow::Result<()> {
    FEW.into_iter().try_for_each(|few| odd_bytes_survive_with(kafka, few))
}

fn odd_bytes_survive_with(kafka: &Kafka, few: &[TopicId]) -> anyhow::Result<()> {
    let topic = Kafka::unique("odd");
    kafka.create_topic(&topic, 1)?;
    let log = log(kafka)?;
    let mut sink = log.sink(&[Arc::from(topic.as_str())], Arc::new(|| {}))?;
    sink.expect_few(few)?;
    let fields: [Option<&[u8]>; 4] = [None, Some(b""), Some(b"\xff\xfe\0"), Some(b"text")];
    let headers = [
        Header { name: b"twice", value: None },
        Header { name: b"twice", value: Some(b"") },
        Header { name: b"\xff\xfe", value: Some(b"\0\xff") },
        Header { name: b"", value: Some(b"nameless") },
    ];
    let stamps = [OwnedHeader::text("stamp", "last")];
    let mut sent = Vec::new();
    let mut reports = Vec::new();
    for key in fields {
        for value in fields {
            let timestamp_ms = 1_000_000 + i64::try_from(sent.len())?;
            let delivery = Delivery {
                headers: Headers::Borrowed(&headers),
                stamps: Headers::Owned(&stamps),
                timestamp_ms,
                ..delivery(key, value)
            };
            send(&mut *sink, &mut reports, &delivery, sent.len() as u64)?;
            sent.push((key, value, timestamp_ms));
        }
    }
    serve(&mut *sink, &mut reports, sent.len())?;
    ensure!(reports.iter().all(|report| report.result.is_ok()), "{reports:?}");
    let mut tokens: Vec<_> = reports.iter().map(|report| report.token.0).collect();
    tokens.sort_unstable();
    assert_eq!(tokens, (0..sent.len() as u64).collect::<Vec<_>>());

    let names: Vec<_> = headers.iter().map(|header| OwnedHeader::from(*header)).chain(stamps).collect();
    let ours = read(&mut *log.read(&TopicPartition::new(topic.as_str(), 0), 0)?, sent.len())?;
    let theirs: Vec<_> = kafka.read_all(&topic)?.into_iter().map(|(_, record)| record).collect();
    assert_eq!(ours, theirs);
    for (record, (key, value, timestamp_ms)) in ours.iter().zip(sent) {
        assert_eq!((record.key.as_deref(), record.value.as_deref(), record.timestamp_ms), (key, value, timestamp_ms));
        assert_eq!(record.headers, names);
    }
    Ok(())
}

/// What is said of headers as they are read is said of all of them.
fn plain_headers(kafka: &Kafka) -> anyhow::Result<()> {
    const NAMES: [(&[&[u8]], bool); 7] = [
        (&[], true),
        (&[b"a", b"", b"a name that is longer than the others"], true),
        (&[b"\xff", b"a"], false),
        (&[b"a", "caf\u{e9}".as_bytes()], false),
        (&[b"a", b"pointsman.replay_count"], false),
        (&[b"pointsman.other", b"a"], false),
        (&[b"pointsman"], true),
    ];
    let topic = Kafka::unique("plain");
    kafka.create_topic(&topic, 1)?;
    let log = log(kafka)?;
    let mut sink = log.sink(&[Arc::from(topic.as_str())], Arc::new(|| {}))?;
    let mut reports = Vec::new();
    for (token, (names, _)) in (0..).zip(NAMES) {
        let headers: Vec<_> = names.iter().map(|name| Header { name, value: Some(b"v") }).collect();
        let delivery = Delivery { headers: Headers::Borrowed(&headers), ..delivery(None, Some(b"v")) };
        send(&mut *sink, &mut reports, &delivery, token)?;
    }
    serve(&mut *sink, &mut reports, NAMES.len())?;
    let mut feed = log.read(&TopicPartition::new(topic.as_str(), 0), 0)?;
    let mut seen = Vec::new();
    wait::until_ok("the records", DEADLINE, || {
        if let Some(batch) = feed.fetch(100, 1 << 20)? {
            seen.extend((0..batch.len()).map(|index| batch.record(index).headers.are_plain()));
        }
        Ok((seen.len() == NAMES.len()).then_some(()))
    })?;
    assert_eq!(seen, NAMES.map(|(_, plain)| plain));
    Ok(())
}

/// Headers are not copied on their way through: they change hands, and come back when they are needed again.
fn forwarded(kafka: &Kafka) -> anyhow::Result<()> {
    let [source, target] = ["forward", "forwarded"].map(Kafka::unique);
    kafka.create_topic(&source, 1)?;
    kafka.create_topics(&[TopicSpec::new(&target, 1).with("max.message.bytes", "4000")])?;
    const LARGE: usize = 3;
    let headers = |number: usize| -> Vec<OwnedHeader> {
        let twice =
            OwnedHeader { name: (*b"twice").into(), value: number.is_multiple_of(2).then(|| Box::from(*b"\xff\0")) };
        vec![twice; number]
    };
    kafka.fill_with(&source, 8, |number| Sample {
        value: Some(vec![b'v'; if number as usize == LARGE { 5000 } else { 10 }]),
        headers: headers(number as usize),
        timestamp_ms: Some(1_000_000),
        ..value(number)
    })?;
    let log = log(kafka)?;
    let mut sink = log.sink(&[Arc::from(target.as_str())], Arc::new(|| {}))?;
    let mut feed = log.read(&TopicPartition::new(source.as_str(), 0), 0)?;
    let mut batch = wait::until_ok("the records", DEADLINE, || Ok(feed.fetch(100, 1 << 20)?))?;
    ensure!(batch.len() == 8, "{} records", batch.len());
    let whole: Vec<_> = (0..8).map(|index| OwnedRecord::from(batch.record(index))).collect();

    let unchanged = Forward {
        topic: TopicId(0),
        partition: PartitionChoice::ByKey,
        timestamp_ms: None,
        key: None,
        value: None,
        stamps: Headers::NONE,
        whole: false,
    };
    // So many that no other record has as many headers.
    let stamps: Vec<OwnedHeader> = (0..10).map(|number| OwnedHeader::text("stamp", number.to_string())).collect();
    let stamped = Forward { stamps: Headers::Owned(&stamps), ..unchanged };
    let nowhere = Forward { partition: PartitionChoice::Exactly(9), ..unchanged };
    let changed = Forward { timestamp_ms: Some(7), key: Some(None), value: Some(Some(b"new")), ..unchanged };
    let mut reports = Vec::new();
    for index in 0..whole.len() {
        let forward = match index {
            5 => &changed,
            // One without headers of its own, and one with some.
            0 | 7 => &stamped,
            _ => &unchanged,
        };
        sink.forward(&mut *batch, index, forward, Token(index as u64))?;
        let headers = batch.record(index).headers;
        let readable = headers.iter().any(|header| std::str::from_utf8(header.name).is_ok());
        ensure!(!readable, "what was given away is not there any more");
        ensure!(headers.are_plain() == headers.is_empty(), "nothing is known of what was given away");
    }
    serve(&mut *sink, &mut reports, 8)?;
    for Report { token, result } in &reports {
        let is_large = token.0 == LARGE as u64;
        ensure!(is_refused(result) == is_large, "{token:?}: {result:?}");
    }
    for (index, whole) in whole.iter().enumerate() {
        ensure!(batch.restore(index, None) && batch.restore(index, None));
        ensure!(OwnedRecord::from(batch.record(index)) == *whole, "a record is whole again");
        // By now the client knows the topic.
        let taken = sink.forward(&mut *batch, index, &nowhere, Token(99));
        ensure!(taken.is_err(), "there is no such partition");
        ensure!(OwnedRecord::from(batch.record(index)) == *whole, "a record that is not taken is whole");
    }

    let mut expected = whole;
    expected[5] = OwnedRecord { key: None, value: Some(b"new".into()), timestamp_ms: 7, ..expected[5].clone() };
    [0, 7].into_iter().for_each(|index| expected[index].headers.extend_from_slice(&stamps));
    // In the end, by a producer of its own, if its batch was refused with it; so not in order.
    let written: BTreeMap<_, _> = kafka.read_all(&target)?.into_iter().map(|(_, r)| (r.headers.len(), r)).collect();
    for (index, record) in expected.into_iter().enumerate().filter(|(index, _)| *index != LARGE) {
        let written = written.get(&record.headers.len()).with_context(|| format!("record {index}"))?;
        ensure!(
            OwnedRecord { offset: record.offset, ..written.clone() } == record,
            "{written:?} instead of {record:?}"
        );
    }
    Ok(())
}

fn taken_whole(kafka: &Kafka) -> anyhow::Result<()> {
    FEW.into_iter().try_for_each(|few| taken_whole_with(kafka, few))
}

fn taken_whole_with(kafka: &Kafka, few: &[TopicId]) -> anyhow::Result<()> {
    let [source, target] = ["whole", "taken"].map(Kafka::unique);
    let narrow = TopicSpec::new(&target, 1).with("max.message.bytes", "4000");
    kafka.create_topics(&[TopicSpec::new(&source, 1), narrow])?;
    let keys: [Option<&[u8]>; 3] = [None, Some(b""), Some(b"\xff\0")];
    let headers = [
        OwnedHeader { name: (*b"twice").into(), value: None },
        OwnedHeader { name: (*b"twice").into(), value: Some((*b"").into()) },
        OwnedHeader { name: (*b"once").into(), value: Some((*b"\xff\0").into()) },
    ];
    const RECORDS: u64 = 12;
    kafka.fill_with(&source, RECORDS, |number| Sample {
        partition: Some(0),
        timestamp_ms: Some(1_000_000 + number as i64),
        key: keys[number as usize % 3].map(Into::into),
        value: Some(vec![number as u8; 5000]),
        headers: headers[..number as usize % 4].into(),
    })?;
    let log = log(kafka)?;
    let mut sink = log.sink(&[Arc::from(target.as_str())], Arc::new(|| {}))?;
    sink.expect_few(few)?;
    let mut feed = log.read(&TopicPartition::new(source.as_str(), 0), 0)?;
    let mut batch = wait::until_ok("the records", DEADLINE, || Ok(feed.fetch(100, 1 << 20)?))?;
    let all: Vec<_> = (0..batch.len()).map(|index| OwnedRecord::from(batch.record(index))).collect();
    ensure!(all.len() as u64 == RECORDS, "{} records", all.len());

    let (topic, partition) = (TopicId(0), PartitionChoice::Exactly(0));
    let (timestamp_ms, key, value, stamps) = (None, None, None, Headers::NONE);
    let forward = Forward { topic, partition, timestamp_ms, key, value, stamps, whole: true };
    for (index, whole) in all.iter().enumerate() {
        sink.forward(&mut *batch, index, &forward, Token(index as u64))?;
        let left = batch.record(index);
        ensure!((left.offset, left.timestamp_ms) == (whole.offset, whole.timestamp_ms), "where it was is known");
        ensure!((left.key, left.value) == (None, None) && left.headers.first_undecodable().is_some(), "{left:?}");
    }
    let mut reports = Vec::new();
    serve(&mut *sink, &mut reports, all.len())?;
    for Report { token, result } in reports.drain(..) {
        ensure!(is_refused(&result), "{result:?}");
        let index = token.0 as usize;
        ensure!(!batch.restore(index, None), "nothing of it is here");
        let returned = result.err().and_then(|undelivered| undelivered.record);
        ensure!(batch.restore(index, returned), "it came back");
        ensure!(OwnedRecord::from(batch.record(index)) == all[index], "{:?}", batch.record(index));
    }

    // And goes on like any other.
    let shortened = Forward { value: Some(None), whole: false, ..forward };
    for (index, whole) in all.iter().enumerate() {
        sink.forward(&mut *batch, index, &shortened, Token(index as u64))?;
        ensure!(OwnedRecord::from(batch.record(index)) == *whole, "what came back stays");
    }
    serve(&mut *sink, &mut reports, all.len())?;
    let written: Vec<_> = kafka.read_all(&target)?.into_iter().map(|(_, record)| record).collect();
    for (written, whole) in written.iter().zip(&all) {
        let expected = OwnedRecord { value: None, offset: written.offset, ..whole.clone() };
        ensure!(*written == expected, "{written:?} instead of {expected:?}");
    }
    ensure!(written.len() == all.len(), "{} were written", written.len());
    Ok(())
}

fn keys_go_where_java_sends_them(kafka: &Kafka) -> anyhow::Result<()> {
    const PARTITIONS: u32 = 7;
    let topic = Kafka::unique("keys");
    kafka.create_topic(&topic, PARTITIONS.cast_signed())?;
    let mut sink = log(kafka)?.sink(&[Arc::from(topic.as_str())], Arc::new(|| {}))?;
    let mut reports = Vec::new();
    let keys: Vec<_> =
        std::iter::once(String::new()).chain((0..500).map(|i| "k".repeat(i % 9) + &i.to_string())).collect();
    for (token, key) in keys.iter().enumerate() {
        send(&mut *sink, &mut reports, &delivery(Some(key.as_bytes()), None), token as u64)?;
    }
    serve(&mut *sink, &mut reports, keys.len())?;
    let read = kafka.read_all(&topic)?;
    assert_eq!(read.len(), keys.len());
    for (partition, record) in read {
        let key = record.key.context("a key")?;
        assert_eq!(partition.partition.cast_unsigned(), partition_of_key(&key, PARTITIONS), "{key:?}");
    }
    Ok(())
}

/// A codec that a client was built without is refused when the client is made.
fn every_codec(kafka: &Kafka) -> anyhow::Result<()> {
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
        let topic = Kafka::unique(codec);
        kafka.create_topic(&topic, 1)?;
        let mut settings = settings(kafka);
        settings.properties.insert("compression.type".to_owned(), codec.to_owned());
        let log = KafkaLog::new(settings)?;
        let mut sink = log.sink(&[Arc::from(topic.as_str())], Arc::new(|| {}))?;
        let value = b"the same again ".repeat(500);
        let mut reports = Vec::new();
        for token in 0..20 {
            send(&mut *sink, &mut reports, &delivery(Some(b"key"), Some(&value)), token)?;
        }
        serve(&mut *sink, &mut reports, 20)?;
        ensure!(reports.iter().all(|report| report.result.is_ok()), "{codec}: {reports:?}");
        let ours = read(&mut *log.read(&TopicPartition::new(topic.as_str(), 0), 0)?, 20)?;
        let theirs: Vec<_> = kafka.read_all(&topic)?.into_iter().map(|(_, record)| record).collect();
        assert_eq!(ours, theirs, "{codec}");
        assert!(ours.iter().all(|record| record.value.as_deref() == Some(&*value)), "{codec}");
    }
    Ok(())
}
