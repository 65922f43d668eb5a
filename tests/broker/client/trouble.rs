//! Damage, refusals and outages.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use pointsman_core::delivery::{Delivery, PartitionChoice, TopicId};
use pointsman_core::port::{DeliveryError, FeedError, Log as _, ProduceError, Sink, StartAt, Token};
use pointsman_core::record::Headers;
use pointsman_core::record::OwnedHeader;
use pointsman_tests::kafka::{Kafka, TopicSpec};
use pointsman_tests::trials::Trial;
use pointsman_tests::wait;

use super::by_hand::{FEW, delivery, is_refused, send, serve, value};
use super::{DEADLINE, Member, log, plan};

pub(crate) const TRIALS: &[Trial] = &[
    Trial::shared("client::a_batch_too_large_for_its_topic_refuses_only_the_guilty", batch_too_large),
    Trial::alone("client::a_damaged_batch_is_not_passed_over", damaged_batch),
    Trial::alone("client::an_outage_expires_no_delivery", an_outage_expires_nothing),
];

fn batch_too_large(kafka: &Kafka) -> anyhow::Result<()> {
    FEW.into_iter().try_for_each(|few| batch_too_large_with(kafka, few))
}

fn batch_too_large_with(kafka: &Kafka, few: &[TopicId]) -> anyhow::Result<()> {
    let topic = Kafka::unique("large");
    kafka.create_topics(&[TopicSpec::new(&topic, 1).with("max.message.bytes", "4000")])?;
    // One that is never written to, and the one that is.
    let topics = [Arc::from("untouched"), Arc::from(topic.as_str())];
    let delivery = |key, value| Delivery { topic: TopicId(1), ..delivery(key, value) };
    let mut sink = log(kafka)?.sink(&topics, Arc::new(|| {}))?;
    sink.expect_few(few)?;
    let mut reports = Vec::new();
    let (small, large) = (vec![b'x'; 1000], vec![b'x'; 5000]);
    let stamps = [OwnedHeader::text("stamp", "kept")];
    for token in 0..50 {
        let value = if token == 25 { &large } else { &small };
        let delivery = Delivery { stamps: Headers::Owned(&stamps), ..delivery(Some(b"k"), Some(value)) };
        send(&mut *sink, &mut reports, &delivery, token)?;
    }
    serve(&mut *sink, &mut reports, 50)?;
    let failed: Vec<_> = reports.iter().filter(|report| report.result.is_err()).collect();
    ensure!(failed.len() == 1 && failed[0].token == Token(25), "{failed:?}");
    ensure!(is_refused(&failed[0].result), "{failed:?}");
    let read = kafka.read_all(&topic)?;
    ensure!(read.len() == 49 && read.iter().all(|(_, record)| record.headers == stamps));

    // What is larger than the client's own bound is refused before it is sent.
    let huge = vec![b'x'; 2 << 20];
    let error = failure(&mut *sink, &delivery(None, Some(&huge)))?;
    ensure!(matches!(error, DeliveryError::Refused { .. }), "{error}");
    // A partition that is not there (any more, or yet: what the client knows is minutes old) is waited for.
    let nowhere = Delivery { partition: PartitionChoice::Exactly(9), ..delivery(None, Some(b"x")) };
    let error = failure(&mut *sink, &nowhere)?;
    ensure!(matches!(error, DeliveryError::Unavailable { .. }), "{error}");
    Ok(())
}

/// What is told of a delivery that fails: at once, or by a report.
fn failure(sink: &mut dyn Sink, delivery: &Delivery<'_>) -> anyhow::Result<DeliveryError> {
    match sink.produce(delivery, Token(99)) {
        Err(ProduceError::Delivery(error)) => return Ok(error),
        Err(error) => return Err(error.into()),
        Ok(_) => {}
    }
    let mut reports = Vec::new();
    serve(sink, &mut reports, 1)?;
    let undelivered = reports.pop().and_then(|report| report.result.err()).context("it was delivered")?;
    Ok(undelivered.error)
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

fn an_outage_expires_nothing(kafka: &Kafka) -> anyhow::Result<()> {
    FEW.into_iter().try_for_each(|few| an_outage_expires_nothing_with(kafka, few))
}

fn an_outage_expires_nothing_with(kafka: &Kafka, few: &[TopicId]) -> anyhow::Result<()> {
    let topic = Kafka::unique("kept");
    kafka.create_topic(&topic, 1)?;
    let log = log(kafka)?;
    let mut sink = log.sink(&[Arc::from(topic.as_str())], Arc::new(|| {}))?;
    sink.expect_few(few)?;
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
    let mut other = log.sink(&[Arc::from(topic.as_str())], Arc::new(|| {}))?;
    other.expect_few(few)?;
    other.produce(&delivery(None, Some(b"forgotten")), Token(0))?;
    let started = Instant::now();
    drop(other);
    ensure!(started.elapsed() < Duration::from_secs(10), "dropping took {:?}", started.elapsed());

    kafka.broker().restart()?;
    serve(&mut *sink, &mut reports, 200)?;
    ensure!(reports.iter().all(|report| report.result.is_ok()), "{reports:?}");
    assert_eq!(kafka.count(&topic)?, 200);
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
