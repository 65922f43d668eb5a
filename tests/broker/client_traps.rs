//! What librdkafka does to the unwary, each with the proof that the Kafka backend does not fall for it.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use pointsman_core::delivery::{Delivery, Forward, PartitionChoice, TopicId, partition_of_key};
use pointsman_core::port::{
    Commit, DeliveryError, Feed, FeedError, Log as _, NewTopic, ProduceError, Report, Sink, StartAt, Token,
    TopicSettings,
};
use pointsman_core::record::{Header, Headers, OwnedHeader, OwnedRecord, TopicPartition};
use pointsman_kafka::KafkaLog;
use pointsman_tests::kafka::{Kafka, Sample, TopicSpec};
use pointsman_tests::trials::Trial;
use pointsman_tests::wait;

use crate::client::{DEADLINE, Member, log, plan, settings};

pub(crate) const TRIALS: &[Trial] = &[
    Trial::shared("client::closing_with_records_prefetched_commits_what_was_settled", prefetched_is_not_settled),
    Trial::shared("client::null_and_empty_and_odd_bytes_survive_the_way_through", odd_bytes_survive),
    Trial::shared("client::a_record_goes_on_with_its_own_headers_and_keeps_them_if_it_is_refused", forwarded),
    Trial::shared("client::keys_go_where_java_clients_send_them", keys_go_where_java_sends_them),
    Trial::shared("client::every_codec_is_written_and_read", every_codec),
    Trial::shared("client::a_rebalance_under_load_loses_and_repeats_nothing", rebalance_under_load),
    Trial::shared("client::a_retry_partition_follows_its_source_through_rebalances", retry_partitions_follow),
    Trial::shared(
        "client::a_missing_retry_partition_halts_its_lane_only_and_until_it_is_there",
        missing_retry_partition,
    ),
    Trial::shared("client::a_partition_that_is_added_is_read_from_its_beginning", added_partition),
    Trial::shared("client::an_offset_out_of_range_is_said_and_not_reset", out_of_range),
    Trial::shared("client::a_start_at_the_end_is_committed_at_once", latest_is_committed),
    Trial::shared("client::a_start_at_a_time_is_the_first_record_from_then_on", start_at_a_time),
    Trial::shared("client::a_batch_too_large_for_its_topic_refuses_only_the_guilty", batch_too_large),
    Trial::shared("client::a_feed_that_outlives_its_membership_is_harmless", feeds_outlive),
    Trial::shared("client::topics_are_created_once_and_asked_about", topics_and_offsets),
    Trial::shared("client::two_readers_of_one_partition_do_not_disturb_each_other", two_readers),
    Trial::shared("client::topics_tell_how_they_keep_records", topic_settings),
    Trial::alone("client::a_damaged_batch_is_not_passed_over", damaged_batch),
    Trial::alone("client::an_outage_expires_no_delivery", an_outage_expires_nothing),
];

fn value(i: u64) -> Sample {
    Sample { key: Some(format!("key-{i}").into()), value: Some(i.to_be_bytes().into()), ..Sample::default() }
}

/// Sends one record, waiting where the sink is full.
fn send(sink: &mut dyn Sink, reports: &mut Vec<Report>, delivery: &Delivery<'_>, token: u64) -> anyhow::Result<()> {
    wait::until_ok("room in the sink", DEADLINE, || match sink.produce(delivery, Token(token)) {
        Ok(_) => Ok(Some(())),
        Err(ProduceError::Full) => {
            sink.serve(reports)?;
            Ok(None)
        }
        Err(ProduceError::Delivery(error)) => Err(error.into()),
    })
}

/// Serves a sink until it has given this many reports in all.
fn serve(sink: &mut dyn Sink, reports: &mut Vec<Report>, count: usize) -> anyhow::Result<()> {
    wait::until_ok(&format!("{count} reports"), DEADLINE, || {
        sink.serve(reports)?;
        Ok((reports.len() >= count).then_some(()))
    })
}

fn delivery<'a>(key: Option<&'a [u8]>, value: Option<&'a [u8]>) -> Delivery<'a> {
    Delivery {
        topic: TopicId(0),
        partition: PartitionChoice::ByKey,
        timestamp_ms: -1,
        key,
        value,
        headers: Headers::NONE,
        stamps: &[],
    }
}

/// Reads a feed until it has given this many records.
fn read(feed: &mut dyn Feed, count: usize) -> anyhow::Result<Vec<OwnedRecord>> {
    let mut records = Vec::new();
    wait::until_ok(&format!("{count} records of a feed"), DEADLINE, || {
        while let Some(batch) = feed.fetch(100, 1 << 20)? {
            records.extend((0..batch.len()).map(|index| OwnedRecord::from(batch.record(index))));
        }
        Ok((records.len() >= count).then_some(()))
    })?;
    Ok(records)
}

fn prefetched_is_not_settled(kafka: &Kafka) -> anyhow::Result<()> {
    let topic = Kafka::unique("prefetched");
    kafka.create_topic(&topic, 1)?;
    kafka.fill_with(&topic, 20_000, value)?;
    let member = Member::join(&log(kafka)?, plan(&topic, &[(&topic, None)], StartAt::Earliest))?;
    member.take(10, 10)?;
    let state = member.leave()?;
    assert_eq!(state.seen.len(), 10);
    assert_eq!(kafka.committed(&topic, &topic, 0)?, Some((10, "settled 10".to_owned())));
    // And without a word about a commit, nothing is committed.
    let member = Member::join(&log(kafka)?, plan(&topic, &[(&topic, None)], StartAt::Earliest))?;
    member.take(1000, 100)?;
    drop(member);
    assert_eq!(kafka.committed(&topic, &topic, 0)?.map(|(offset, _)| offset), Some(10));
    Ok(())
}

fn odd_bytes_survive(kafka: &Kafka) -> anyhow::Result<()> {
    let topic = Kafka::unique("odd");
    kafka.create_topic(&topic, 1)?;
    let log = log(kafka)?;
    let mut sink = log.sink(&[Arc::from(topic.as_str())], Arc::new(|| {}))?;
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
                stamps: &stamps,
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

    let unchanged =
        Forward { topic: TopicId(0), partition: PartitionChoice::ByKey, timestamp_ms: None, key: None, value: None };
    let nowhere = Forward { partition: PartitionChoice::Exactly(9), ..unchanged };
    let changed = Forward { timestamp_ms: Some(7), key: Some(None), value: Some(Some(b"new")), ..unchanged };
    let mut reports = Vec::new();
    for (index, whole) in whole.iter().enumerate() {
        let taken = sink.forward(&mut *batch, index, &nowhere, Token(99));
        ensure!(taken.is_err(), "there is no such partition");
        ensure!(OwnedRecord::from(batch.record(index)) == *whole, "a record that is not taken is whole");
        let forward = if index == 5 { &changed } else { &unchanged };
        sink.forward(&mut *batch, index, forward, Token(index as u64))?;
        let readable = batch.record(index).headers.iter().any(|header| std::str::from_utf8(header.name).is_ok());
        ensure!(!readable, "what was given away is not there any more");
    }
    serve(&mut *sink, &mut reports, 8)?;
    for Report { token, result } in &reports {
        let is_large = token.0 == LARGE as u64;
        ensure!(is_refused(result) == is_large, "{token:?}: {result:?}");
    }
    for (index, whole) in whole.iter().enumerate() {
        batch.restore(index);
        batch.restore(index);
        ensure!(OwnedRecord::from(batch.record(index)) == *whole, "a record is whole again");
    }

    let mut expected = whole;
    expected[5] = OwnedRecord { key: None, value: Some(b"new".into()), timestamp_ms: 7, ..expected[5].clone() };
    // In the end, by a producer of its own, if its batch was refused with it; so not in order.
    let written: BTreeMap<_, _> = kafka.read_all(&target)?.into_iter().map(|(_, r)| (r.headers.len(), r)).collect();
    for (index, record) in expected.into_iter().enumerate().filter(|(index, _)| *index != LARGE) {
        let written = written.get(&index).with_context(|| format!("record {index}"))?;
        ensure!(
            OwnedRecord { offset: record.offset, ..written.clone() } == record,
            "{written:?} instead of {record:?}"
        );
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

/// Every lane settles what it takes before it gives up a partition, and commits it before it says so: so that the next
/// owner neither misses nor repeats a record.
fn rebalance_under_load(kafka: &Kafka) -> anyhow::Result<()> {
    const RECORDS: u64 = 60_000;
    const PARTITIONS: usize = 8;
    let topic = Kafka::unique("rebalance");
    kafka.create_topic(&topic, i32::try_from(PARTITIONS)?)?;
    kafka.fill_with(&topic, RECORDS, value)?;
    let log = log(kafka)?;
    let plan = plan(&topic, &[(&topic, None)], StartAt::Earliest);
    let first = Member::join(&log, plan.clone())?;
    first.take(5_000, 100)?;
    let second = Member::join(&log, plan.clone())?;
    // Both run on while partitions move to the second.
    wait::until_ok("a share of the second", DEADLINE, || {
        first.lanes.step(20)?;
        second.lanes.step(20)?;
        Ok((second.lanes.state().lanes.len() == PARTITIONS / 2).then_some(()))
    })?;
    second.take(2_000, 50)?;
    let third = Member::join(&log, plan)?;
    wait::until_ok("a share of the third", DEADLINE, || {
        for member in [&first, &second, &third] {
            member.lanes.step(20)?;
        }
        Ok((third.lanes.state().lanes.len() >= 2).then_some(()))
    })?;
    let mut seen = first.leave()?.seen;
    seen.extend(second.leave()?.seen);
    let left = usize::try_from(RECORDS)? - seen.len();
    third.take(left, 500)?;
    seen.extend(third.leave()?.seen);

    let mut values: Vec<_> = seen.iter().map(|(_, record)| record.value.clone()).collect();
    values.sort_unstable();
    let expected: Vec<_> = (0..RECORDS).map(|i| Some(i.to_be_bytes().to_vec())).collect();
    ensure!(values == expected, "{} records were seen of {RECORDS}, or some twice", values.len());
    Ok(())
}

fn retry_partitions_follow(kafka: &Kafka) -> anyhow::Result<()> {
    let (topic, retry) = (Kafka::unique("source"), Kafka::unique("retry"));
    kafka.create_topic(&topic, 4)?;
    kafka.create_topic(&retry, 4)?;
    let each = |from: u64| (0..4).map(move |p| Sample { partition: Some(p), ..value(from) });
    kafka.fill(&topic, each(0))?;
    kafka.fill(&retry, each(1))?;
    let log = log(kafka)?;
    let plan = plan(&topic, &[(&topic, Some(&retry))], StartAt::Earliest);
    let first = Member::join(&log, plan.clone())?;
    first.take(8, 100)?;
    let second = Member::join(&log, plan)?;
    second.wait_for_lanes(2)?;
    first.wait_for_lanes(2)?;
    for member in [&first, &second] {
        for halves in member.lanes.state().lanes.values() {
            assert_eq!(halves.len(), 2);
            assert_eq!(halves[0].partition.partition, halves[1].partition.partition);
            assert_eq!(&*halves[1].partition.topic, retry);
        }
    }
    for halves in second.lanes.state().lanes.values() {
        // What the first settled was committed before it gave the partitions up, metadata and all.
        assert!(halves.iter().all(|half| half.start == 1 && half.metadata == "settled 1"));
    }
    // What stayed with the first is still read, and its commits are taken: of a topic it is not subscribed to, too.
    kafka.fill(&topic, each(2))?;
    kafka.fill(&retry, each(3))?;
    first.take(8 + 4, 100)?;
    second.take(4, 100)?;
    let commits: Vec<_> = first.lanes.state().lanes.values().flatten().map(commit_of).collect();
    first.membership.committer().commit(&commits);
    for commit in &commits {
        let TopicPartition { topic: committed, partition } = &commit.partition;
        wait::until_ok("a commit", DEADLINE, || {
            let found = kafka.committed(&topic, committed, *partition)?;
            Ok((found == Some((2, "while running".to_owned()))).then_some(()))
        })?;
    }
    // Everything comes back to the second, in the place where the first left it.
    first.leave()?;
    second.wait_for_lanes(4)?;
    kafka.fill(&retry, each(4))?;
    second.take(4 + 4, 100)?;
    second.leave()?;
    for partition in 0..4 {
        assert_eq!(kafka.committed(&topic, &retry, partition)?, Some((3, "settled 3".to_owned())));
        assert_eq!(kafka.committed(&topic, &topic, partition)?, Some((2, "settled 2".to_owned())));
    }
    Ok(())
}

fn commit_of(half: &crate::client::Half) -> Commit {
    Commit { partition: half.partition.clone(), offset: half.settled, metadata: "while running".to_owned() }
}

fn missing_retry_partition(kafka: &Kafka) -> anyhow::Result<()> {
    let (topic, retry) = (Kafka::unique("source"), Kafka::unique("retry"));
    kafka.create_topic(&topic, 3)?;
    kafka.create_topic(&retry, 2)?;
    kafka.fill(&topic, (0..3).map(|p| Sample { partition: Some(p), ..value(0) }))?;
    let member = Member::join(&log(kafka)?, plan(&topic, &[(&topic, Some(&retry))], StartAt::Earliest))?;
    member.wait_for_lanes(2)?;
    member.take(2, 10)?;
    let halted = TopicPartition::new(topic.as_str(), 2);
    let reason = wait::until("the halt", DEADLINE, || member.lanes.state().halted.get(&halted).cloned())?;
    ensure!(reason.contains(&retry) && reason.contains("needs 3"), "{reason}");
    ensure!(member.lanes.state().seen.iter().all(|(partition, _)| *partition != halted));
    assert_eq!(kafka.committed(&topic, &topic, 2)?, None);
    kafka.grow_topic(&retry, 3)?;
    member.wait_for_lanes(3)?;
    member.take(3, 10)?;
    member.leave()?;
    Ok(())
}

/// A group that starts at the end of what there is must not pass over what comes into a new partition before it notices.
fn added_partition(kafka: &Kafka) -> anyhow::Result<()> {
    let topic = Kafka::unique("grows");
    kafka.create_topic(&topic, 1)?;
    kafka.fill_with(&topic, 5, value)?;
    let mut settings = settings(kafka);
    settings.properties.insert("topic.metadata.refresh.interval.ms".to_owned(), "200".to_owned());
    let log = KafkaLog::new(settings)?;
    let member = Member::join(&log, plan(&topic, &[(&topic, None)], StartAt::Latest))?;
    member.wait_for_lanes(1)?;
    kafka.grow_topic(&topic, 2)?;
    kafka.fill(&topic, (0..7).map(|i| Sample { partition: Some(1), ..value(i) }))?;
    member.wait_for_lanes(2)?;
    member.take(7, 10)?;
    let state = member.leave()?;
    ensure!(state.seen.iter().all(|(partition, _)| partition.partition == 1) && state.seen[0].1.offset == 0);
    Ok(())
}

fn topic_settings(kafka: &Kafka) -> anyhow::Result<()> {
    let (plain, compacted) = (Kafka::unique("plain"), Kafka::unique("compacted"));
    kafka.create_topics(&[
        TopicSpec::new(&plain, 1).with("retention.ms", "3600000").with("max.message.bytes", "12345"),
        TopicSpec::new(&compacted, 1).with("cleanup.policy", "compact").with("retention.ms", "1000"),
    ])?;
    let log = log(kafka)?;
    let found = log.settings(&[plain.as_str().into(), compacted.as_str().into()])?;
    let hour = TopicSettings {
        retention: Some(Duration::from_secs(3600)),
        retention_bytes: None,
        compacted: false,
        max_batch_bytes: Some(12345),
    };
    ensure!(found[0] == hour, "{found:?}");
    // What is only compacted is not deleted for its age.
    ensure!(found[1].compacted && found[1].retention.is_none(), "{found:?}");
    let missing = log.settings(&["there-is-no-such-topic".into()]);
    ensure!(missing.as_ref().is_err_and(|error| error.to_string().contains("there-is-no-such-topic")), "{missing:?}");
    Ok(())
}

/// librdkafka tells of a batch whose checksum is wrong, passes over it, and goes on somewhere behind.
fn damaged_batch(kafka: &Kafka) -> anyhow::Result<()> {
    let topic = Kafka::unique("damaged");
    kafka.create_topic(&topic, 1)?;
    for first in [0, 100, 200] {
        kafka.fill(&topic, (first..first + 100).map(value))?;
    }
    let segment = File::options().read(true).write(true).open(kafka.broker().first_segment(&topic, 0))?;
    let (damaged, place) = second_batch(&segment)?;
    let mut byte = [0];
    segment.read_exact_at(&mut byte, place)?;
    segment.write_all_at(&[!byte[0]], place)?;

    let plan = plan(&topic, &[(&topic, None)], StartAt::Earliest);
    let member = Member::join(&log(kafka)?, plan.clone())?;
    for _ in 0..3 {
        let error = wait::until("the error", DEADLINE, || member.lanes.step(1000).err())?;
        ensure!(matches!(error, FeedError::Damaged { offset, .. } if offset == damaged), "{error:?}");
    }
    let seen = member.leave()?.seen;
    ensure!(
        seen.len() == usize::try_from(damaged)?,
        "{} records came, not the {damaged} before the damage",
        seen.len()
    );

    segment.write_all_at(&byte, place)?;
    let member = Member::join(&log(kafka)?, plan)?;
    member.take(300 - seen.len(), 1000)?;
    let rest = member.leave()?.seen;
    ensure!((damaged..300).eq(rest.iter().map(|(_, record)| record.offset)), "in order and without gaps");
    Ok(())
}

/// The first offset of the second batch of a segment, and the place of its last byte. (A batch begins with its offset and
/// the length of what follows, both big-endian.)
fn second_batch(segment: &File) -> anyhow::Result<(i64, u64)> {
    const HEAD: u64 = 12;
    let head = |at: u64| -> anyhow::Result<(i64, u64)> {
        let mut head = [0; HEAD as usize];
        segment.read_exact_at(&mut head, at)?;
        let (offset, length) = head.split_at(8);
        Ok((i64::from_be_bytes(offset.try_into()?), HEAD + u64::from(u32::from_be_bytes(length.try_into()?))))
    };
    let (_, first) = head(0)?;
    let (offset, second) = head(first)?;
    Ok((offset, first + second - 1))
}

fn out_of_range(kafka: &Kafka) -> anyhow::Result<()> {
    let topic = Kafka::unique("range");
    kafka.create_topic(&topic, 1)?;
    kafka.fill_with(&topic, 5, value)?;
    let log = log(kafka)?;
    let partition = TopicPartition::new(topic.as_str(), 0);
    let member = Member::join(&log, plan(&topic, &[(&topic, None)], StartAt::Earliest))?;
    member.wait_for_lanes(1)?;
    let commit = Commit { partition: partition.clone(), offset: 1000, metadata: String::new() };
    member.membership.committer().commit(&[commit]);
    wait::until_ok("the commit", DEADLINE, || {
        Ok((kafka.committed(&topic, &topic, 0)?.is_some_and(|(offset, _)| offset == 1000)).then_some(()))
    })?;
    // It does not settle anything, and so must not be asked what it has settled.
    member.lanes.state().lanes.clear();
    member.leave()?;

    let member = Member::join(&log, plan(&topic, &[(&topic, None)], StartAt::Earliest))?;
    member.wait_for_lanes(1)?;
    let error = wait::until("the error", DEADLINE, || member.lanes.step(10).err())?;
    ensure!(matches!(&error, FeedError::OutOfRange { partition: p, wanted: 1000, .. } if *p == partition), "{error:?}");
    ensure!(member.lanes.step(10).is_err(), "it is said once only");
    member.lanes.state().lanes.clear();
    member.leave()?;

    let mut feed = log.read(&partition, 77)?;
    let error = wait::until("the error of a reader", DEADLINE, || feed.fetch(10, 1000).err())?;
    ensure!(matches!(error, FeedError::OutOfRange { wanted: 77, .. }), "{error:?}");
    Ok(())
}

fn latest_is_committed(kafka: &Kafka) -> anyhow::Result<()> {
    let topic = Kafka::unique("latest");
    kafka.create_topic(&topic, 1)?;
    kafka.fill_with(&topic, 5, value)?;
    let log = log(kafka)?;
    let plan = plan(&topic, &[(&topic, None)], StartAt::Latest);
    let member = Member::join(&log, plan.clone())?;
    member.wait_for_lanes(1)?;
    assert_eq!(kafka.committed(&topic, &topic, 0)?, Some((5, String::new())));
    // A crash before the first commit of the lane: what came meanwhile is not skipped.
    member.lanes.state().lanes.clear();
    member.leave()?;
    kafka.fill_with(&topic, 3, value)?;
    let member = Member::join(&log, plan)?;
    member.take(3, 10)?;
    assert_eq!(member.leave()?.seen[0].1.offset, 5);
    Ok(())
}

fn start_at_a_time(kafka: &Kafka) -> anyhow::Result<()> {
    let topic = Kafka::unique("time");
    kafka.create_topic(&topic, 1)?;
    let at = |ms| Sample { timestamp_ms: Some(ms), ..value(0) };
    kafka.fill(&topic, [at(1000), at(2000), at(3000)])?;
    let log = log(kafka)?;
    let partition = TopicPartition::new(topic.as_str(), 0);
    for (ms, offset) in [(1, 0), (1500, 1), (2000, 1), (3001, 3)] {
        assert_eq!(log.offset_at(&partition, ms)?, offset, "{ms}");
    }
    let member = Member::join(&log, plan(&topic, &[(&topic, None)], StartAt::Time(1500)))?;
    member.take(2, 10)?;
    assert_eq!(member.leave()?.seen[0].1.offset, 1);
    Ok(())
}

fn batch_too_large(kafka: &Kafka) -> anyhow::Result<()> {
    let topic = Kafka::unique("large");
    kafka.create_topics(&[TopicSpec::new(&topic, 1).with("max.message.bytes", "4000")])?;
    let mut sink = log(kafka)?.sink(&[Arc::from(topic.as_str())], Arc::new(|| {}))?;
    let mut reports = Vec::new();
    let (small, large) = (vec![b'x'; 1000], vec![b'x'; 5000]);
    let stamps = [OwnedHeader::text("stamp", "kept")];
    for token in 0..50 {
        let value = if token == 25 { &large } else { &small };
        let delivery = Delivery { stamps: &stamps, ..delivery(Some(b"k"), Some(value)) };
        send(&mut *sink, &mut reports, &delivery, token)?;
    }
    serve(&mut *sink, &mut reports, 50)?;
    let failed: Vec<_> = reports.iter().filter(|report| report.result.is_err()).collect();
    ensure!(failed.len() == 1 && failed[0].token == Token(25), "{failed:?}");
    ensure!(is_refused(&failed[0].result), "{failed:?}");
    let read = kafka.read_all(&topic)?;
    ensure!(read.len() == 49 && read.iter().all(|(_, record)| record.headers == stamps));

    // What is larger than the client's own bound is refused before it is queued.
    let huge = vec![b'x'; 2 << 20];
    let error = sink.produce(&delivery(None, Some(&huge)), Token(99)).err().context("a refusal")?;
    ensure!(matches!(error, ProduceError::Delivery(DeliveryError::Refused { .. })), "{error}");
    // A partition that is not there (any more, or yet: what the client knows is minutes old) is waited for.
    let nowhere = Delivery { partition: PartitionChoice::Exactly(9), ..delivery(None, Some(b"x")) };
    let error = sink.produce(&nowhere, Token(100)).err().context("an error")?;
    ensure!(matches!(error, ProduceError::Delivery(DeliveryError::Unavailable { .. })), "{error}");
    Ok(())
}

fn feeds_outlive(kafka: &Kafka) -> anyhow::Result<()> {
    let topic = Kafka::unique("outlive");
    kafka.create_topic(&topic, 1)?;
    kafka.fill_with(&topic, 1000, value)?;
    let log = log(kafka)?;
    let plan = plan(&topic, &[(&topic, None)], StartAt::Earliest);
    let member = Member::join(&log, plan.clone())?;
    member.wait_for_lanes(1)?;
    // A worker that is late: it keeps a feed and a batch over the end of everything.
    let mut halves = member.lanes.state().lanes.pop_first().context("a lane")?.1;
    let feed = &mut halves[0].feed;
    let batch = wait::until_ok("a batch", DEADLINE, || Ok(feed.fetch(10, 1000)?))?;
    let started = Instant::now();
    member.leave()?;
    ensure!(started.elapsed() < Duration::from_secs(20), "leaving took {:?}", started.elapsed());
    assert_eq!(batch.record(0).value, Some(&0_u64.to_be_bytes()[..]));
    // It gets what it had taken already, and nothing that belongs to the next owner.
    let mut leftover = batch.len();
    while let Some(batch) = feed.fetch(10, 1000)? {
        leftover += batch.len();
    }
    ensure!(leftover <= 10, "{leftover} records came from a feed that was shut");
    let next = Member::join(&log, plan)?;
    next.take(1000, 100)?;
    next.leave()?;
    drop((batch, halves, log));
    Ok(())
}

fn topics_and_offsets(kafka: &Kafka) -> anyhow::Result<()> {
    let log = log(kafka)?;
    let (name, missing): (Arc<str>, Arc<str>) = (Kafka::unique("made").into(), Kafka::unique("missing").into());
    let topic = NewTopic { name: Arc::clone(&name), partitions: 3, retention: Some(Duration::from_secs(3600)) };
    log.create_topics(std::slice::from_ref(&topic))?;
    log.create_topics(&[topic])?;
    let names = [Arc::clone(&name), missing];
    let found = wait::until_ok("the topic", DEADLINE, || Ok(log.topics(Some(&names))?.pop()))?;
    assert_eq!((&found.name, found.partitions), (&name, 3));
    ensure!(log.topics(None)?.contains(&found));
    let invalid = NewTopic { name: Arc::from("no/name"), partitions: 1, retention: None };
    let error = log.create_topics(&[invalid]).err().context("a refusal")?.to_string();
    ensure!(error.contains("no/name"), "{error}");

    kafka.fill(&name, [Sample { partition: Some(1), ..value(0) }])?;
    let partition = TopicPartition { topic: Arc::clone(&name), partition: 1 };
    assert_eq!(log.watermarks(&partition)?, (0, 1));
    assert_eq!(log.committed(&name, std::slice::from_ref(&partition))?, [None]);
    let member = Member::join(&log, plan(&name, &[(&name, None)], StartAt::Earliest))?;
    member.take(1, 10)?;
    member.leave()?;
    let asked = [1, 0].map(|partition| TopicPartition { topic: Arc::clone(&name), partition });
    let commits: BTreeMap<_, _> = log
        .committed(&name, &asked)?
        .into_iter()
        .flatten()
        .map(|commit| (commit.partition.partition, (commit.offset, commit.metadata)))
        .collect();
    assert_eq!(commits, BTreeMap::from([(1, (1, "settled 1".to_owned())), (0, (0, "settled 0".to_owned()))]));
    Ok(())
}

fn two_readers(kafka: &Kafka) -> anyhow::Result<()> {
    let topic = Kafka::unique("readers");
    kafka.create_topic(&topic, 1)?;
    kafka.fill_with(&topic, 1000, value)?;
    let log = log(kafka)?;
    let partition = TopicPartition::new(topic.as_str(), 0);
    let (mut one, mut two) = (log.read(&partition, 0)?, log.read(&partition, 900)?);
    assert_eq!(read(&mut *two, 100)?.len(), 100);
    assert_eq!(read(&mut *one, 1000)?.len(), 1000);
    drop((one, two));
    // The place of the first is free again, and starts anew.
    assert_eq!(read(&mut *log.read(&partition, 10)?, 990)?[0].offset, 10);
    Ok(())
}

fn an_outage_expires_nothing(kafka: &Kafka) -> anyhow::Result<()> {
    kafka.create_topic("kept", 1)?;
    let log = log(kafka)?;
    let mut sink = log.sink(&[Arc::from("kept")], Arc::new(|| {}))?;
    let mut reports = Vec::new();
    for token in 0..100 {
        send(&mut *sink, &mut reports, &delivery(None, Some(b"before")), token)?;
    }
    serve(&mut *sink, &mut reports, 100)?;
    kafka.broker().kill()?;
    for token in 100..200 {
        send(&mut *sink, &mut reports, &delivery(None, Some(b"during")), token)?;
    }
    sink.serve(&mut reports)?;
    assert_eq!(reports.len(), 100, "an answer without a broker");
    // A sink that nobody waits for does not wait for the outage to end.
    let mut other = log.sink(&[Arc::from("kept")], Arc::new(|| {}))?;
    other.produce(&delivery(None, Some(b"forgotten")), Token(0))?;
    let started = Instant::now();
    drop(other);
    ensure!(started.elapsed() < Duration::from_secs(10), "dropping took {:?}", started.elapsed());

    kafka.broker().restart()?;
    serve(&mut *sink, &mut reports, 200)?;
    ensure!(reports.iter().all(|report| report.result.is_ok()), "{reports:?}");
    assert_eq!(kafka.count("kept")?, 200);
    Ok(())
}

fn is_refused(result: &Result<(), Box<DeliveryError>>) -> bool {
    result.as_ref().is_err_and(|error| matches!(**error, DeliveryError::Refused { .. }))
}
