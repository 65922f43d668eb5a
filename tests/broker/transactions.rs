//! What librdkafka does to the transactions of the unwary, each with the proof that the Kafka backend does not fall for it.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use pointsman_core::delivery::{Delivery, PartitionChoice, TopicId};
use pointsman_core::port::{Log, StartAt, Token, TransactionError, Transactions, WriterPlan};
use pointsman_core::record::{Headers, TopicPartition};
use pointsman_tests::backend::Backend;
use pointsman_tests::flows::{Ledger, read_to_end};
use pointsman_tests::kafka::proxy::{END_TXN, Lost, Proxy};
use pointsman_tests::kafka::{Kafka, Sample, TopicSpec};
use pointsman_tests::trials::Trial;
use pointsman_tests::wait;

use crate::client::{DEADLINE, Member, log, plan};

pub(crate) const TRIALS: &[Trial] = &[
    Trial::shared("transactions::an_open_one_hides_what_comes_after_it_and_no_more", open_transactions),
    Trial::shared("transactions::a_record_too_large_for_its_topic_is_the_one_that_is_refused", guilty_record),
    Trial::shared("transactions::one_that_was_open_for_too_long_is_not_taken_for_a_fenced_one", too_old),
    Trial::shared("transactions::a_member_reads_past_markers", member_reads_past_markers),
    Trial::alone("transactions::a_broker_that_does_not_answer_is_waited_for_so_long", silent_broker),
    Trial::behind("transactions::what_becomes_of_one_whose_end_is_lost_is_found_out", lost_ends),
];

fn delivery(value: &[u8]) -> Delivery<'_> {
    Delivery {
        topic: TopicId(0),
        partition: PartitionChoice::Exactly(0),
        timestamp_ms: -1,
        key: None,
        value: Some(value),
        headers: Headers::NONE,
        stamps: Headers::NONE,
    }
}

fn value(text: &str) -> Sample {
    Sample { partition: Some(0), value: Some(text.into()), ..Sample::default() }
}

fn values(log: &dyn Log, topic: &str) -> anyhow::Result<Vec<String>> {
    let records = read_to_end(log, &TopicPartition::new(topic, 0))?;
    let values = records.into_iter().filter_map(|record| record.value);
    Ok(values.map(|value| String::from_utf8_lossy(&value).into_owned()).collect())
}

/// Fails unless these are the values that are there, once what was committed is seen.
fn expect(log: &dyn Log, topic: &str, expected: &[&str]) -> anyhow::Result<()> {
    wait::until_ok("what was committed", DEADLINE, || Ok((values(log, topic)? == expected).then_some(())))
}

fn writer(log: &dyn Log, topic: &str) -> Result<Box<dyn Transactions>, TransactionError> {
    log.transactional(WriterPlan::new(topic, vec![topic.into()]))
}

fn sent(kafka: &Kafka, topic: &str, work: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<()> {
    Backend::Kafka(kafka).sent(&[topic], work)
}

fn open_transactions(kafka: &Kafka) -> anyhow::Result<()> {
    let topic = Kafka::unique("open");
    kafka.create_topic(&topic, 1)?;
    let log = log(kafka)?;
    let partition = TopicPartition::new(topic.as_str(), 0);
    kafka.fill(&topic, [value("before")])?;
    let mut writer = writer(&log, &topic)?;
    let mut transaction = writer.begin()?;
    sent(kafka, &topic, || Ok(transaction.produce(&delivery(b"in"), Token(0))?))?;
    kafka.fill(&topic, [value("after")])?;
    assert_eq!(log.watermarks(&partition)?, (0, 1));
    assert_eq!(log.offset_at(&partition, i64::MAX)?, 1);
    assert_eq!(values(&log, &topic)?, ["before"]);
    transaction.abort()?;
    expect(&log, &topic, &["before", "after"])?;
    // The marker is the last there is, and the end is behind it.
    assert_eq!(log.watermarks(&partition)?, (0, 4));
    Ok(())
}

fn guilty_record(kafka: &Kafka) -> anyhow::Result<()> {
    let topic = Kafka::unique("large");
    kafka.create_topics(&[TopicSpec::new(&topic, 1).with("max.message.bytes", "4000")])?;
    let log = log(kafka)?;
    let mut writer = writer(&log, &topic)?;
    let (small, large) = (vec![b'x'; 1000], vec![b'x'; 5000]);
    for guilty in [Some(25), None] {
        // librdkafka throws the others of the refused record away in the background, and may have those of the next transaction go with
        // them. That is aborted then, and can be repeated.
        let ended = wait::until_ok("a transaction that is not aborted for another", DEADLINE, || {
            let mut transaction = writer.begin()?;
            let mut sent = Ok(());
            for token in 0..50 {
                let value = if Some(token) == guilty { &large } else { &small };
                sent = sent.and_then(|()| transaction.produce(&delivery(value), Token(token)));
            }
            let ended = sent.and_then(|()| transaction.commit());
            Ok((!matches!(ended, Err(TransactionError::Aborted { .. }))).then_some(ended))
        })?;
        match (guilty, ended) {
            (None, ended) => ended?,
            (Some(guilty), Err(TransactionError::Refused { token, .. })) if token == Token(guilty) => {}
            (Some(_), ended) => anyhow::bail!("{ended:?}"),
        }
    }
    wait::until_ok("the records", DEADLINE, || Ok((values(&log, &topic)?.len() == 50).then_some(())))
}

fn too_old(kafka: &Kafka) -> anyhow::Result<()> {
    let topic = Kafka::unique("old");
    kafka.create_topic(&topic, 1)?;
    let log = log(kafka)?;
    let plan =
        WriterPlan { timeout: Duration::from_secs(1), ..WriterPlan::new(topic.as_str(), vec![topic.as_str().into()]) };
    let mut writer = log.transactional(plan.clone())?;
    let mut transaction = writer.begin()?;
    sent(kafka, &topic, || Ok(transaction.produce(&delivery(b"old"), Token(0))?))?;
    // The broker aborts it, and fences its producer as if another had come.
    wait::until_ok("the marker of the abort", DEADLINE, || Ok((kafka.unstable_ends(&topic)? == [2]).then_some(())))?;
    let error = transaction.commit().err().context("it is committed all the same")?;
    ensure!(matches!(error, TransactionError::Indeterminate { .. }), "{error}");
    drop(writer);

    let mut writer = log.transactional(plan)?;
    let mut transaction = writer.begin()?;
    transaction.produce(&delivery(b"in time"), Token(0))?;
    transaction.commit()?;
    expect(&log, &topic, &["in time"])
}

fn member_reads_past_markers(kafka: &Kafka) -> anyhow::Result<()> {
    let topic = Kafka::unique("markers");
    kafka.create_topic(&topic, 1)?;
    let log = log(kafka)?;
    let mut writer = writer(&log, &topic)?;
    for (value, kept) in [("a", true), ("b", false), ("c", true), ("d", false)] {
        let mut transaction = writer.begin()?;
        sent(kafka, &topic, || Ok(transaction.produce(&delivery(value.as_bytes()), Token(0))?))?;
        if kept { transaction.commit()? } else { transaction.abort()? }
    }
    let plan = plan(&topic, &[(&topic, None)], StartAt::Earliest);
    let member = Member::join(&log, plan.clone())?;
    member.take(2, 1)?;
    let seen = member.leave()?.seen;
    let offsets: Vec<_> = seen.iter().map(|(_, record)| record.offset).collect();
    assert_eq!(offsets, [0, 4]);
    // It goes on in the midst of what was aborted.
    kafka.fill(&topic, [value("e")])?;
    let member = Member::join(&log, plan)?;
    member.take(1, 10)?;
    let seen = member.leave()?.seen;
    assert_eq!((seen.len(), seen[0].1.offset), (1, 8));
    Ok(())
}

/// A broker that stands still while a transaction is to end, and then goes on.
fn silent_broker(kafka: &Kafka) -> anyhow::Result<()> {
    let ledger = Ledger::new(&Backend::Kafka(kafka))?;
    let mut hasty = ledger.plan();
    hasty.deadline = Duration::from_secs(2);
    let mut writer = ledger.log.transactional(hasty)?;
    ledger.transact(&mut *writer, "a", 1)?;
    let mut transaction = writer.begin()?;
    Backend::Kafka(kafka).sent(&ledger.topics[1..], || Ok(ledger.write(&mut *transaction, "b", 2)?))?;
    kafka.broker().pause()?;
    let started = Instant::now();
    let error = transaction.commit().err().context("an answer of a broker that stands still")?;
    ensure!(matches!(error, TransactionError::Indeterminate { .. }), "{error}");
    ensure!(writer.begin().err() == Some(error), "a writer goes on that does not know how far it has come");
    drop(writer);
    ensure!(started.elapsed() < Duration::from_secs(20), "it took {:?}", started.elapsed());
    kafka.broker().resume()?;

    let mut writer = ledger.writer()?;
    look_and_go_on(&ledger, &mut *writer, "b", 2)?;
    ledger.expect(&["a", "b"], Some(2))
}

/// What is to be done after an indeterminate end: what is committed decides.
fn look_and_go_on(ledger: &Ledger, writer: &mut dyn Transactions, value: &str, offset: i64) -> anyhow::Result<bool> {
    let there = ledger.committed()? == Some(offset);
    if !there {
        ledger.transact(writer, value, offset)?;
    }
    Ok(there)
}

/// Requests to end a transaction are lost, or the answers to them: once, which librdkafka says nothing of, or for good.
fn lost_ends(kafka: &Kafka, proxy: &Proxy) -> anyhow::Result<()> {
    let ledger = Ledger::new(&Backend::Kafka(kafka))?;
    let mut hasty = ledger.plan();
    hasty.deadline = Duration::from_secs(4);
    let mut values = Vec::new();
    for (offset, (value, lost, times, known, there)) in (1..).zip([
        ("a", Lost::Answer, 1, true, true),
        ("b", Lost::Request, 1, true, true),
        ("c", Lost::Answer, u32::MAX, false, true),
        ("d", Lost::Request, u32::MAX, false, false),
    ]) {
        let mut writer = ledger.log.transactional(hasty.clone())?;
        proxy.lose(END_TXN, lost, times);
        let ended = ledger.transact(&mut *writer, value, offset);
        let next = writer.begin().err();
        ensure!(proxy.lose_nothing() > 0, "{value}: nothing was lost");
        ensure!(ended.is_ok() == known, "{value}: {ended:?}");
        // One way or the other, the producer may have something under way that would end the next transaction.
        ensure!(matches!(next, Some(TransactionError::Indeterminate { .. })), "{value}: {next:?}");
        drop(writer);

        let mut writer = ledger.writer()?;
        ensure!(look_and_go_on(&ledger, &mut *writer, value, offset)? == there, "{value}: it should be there: {there}");
        values.push(value);
        ledger.expect(&values, Some(offset))?;
    }
    Ok(())
}
