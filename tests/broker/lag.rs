//! `pointsman lag` on a real Kafka: groups at rest and at work, ends without records, and another program's group.

use std::fs;
use std::time::{Duration, Instant, UNIX_EPOCH};

use anyhow::{Context as _, ensure};
use pointsman_core::port::{Commit, Log as _, StartAt};
use pointsman_core::record::TopicPartition;
use pointsman_tests::kafka::{Kafka, Sample, TopicSpec};
use pointsman_tests::places::Scratch;
use pointsman_tests::router;
use pointsman_tests::trials::Trial;
use pointsman_tests::wait;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use rdkafka::{Offset, TopicPartitionList};
use serde_json::Value;

use crate::client::{DEADLINE, Member, log, plan};

pub(crate) const TRIALS: &[Trial] = &[
    Trial::shared(
        "lag::a_group_at_rest_is_told_in_records_and_seconds",
        a_group_at_rest_is_told_in_records_and_seconds,
    ),
    Trial::shared("lag::ends_without_records_are_no_lag", ends_without_records_are_no_lag),
    Trial::shared("lag::another_group_is_told_with_its_members", another_group_is_told_with_its_members),
    Trial::shared("lag::many_partitions_are_asked_about_at_once", many_partitions_are_asked_about_at_once),
    Trial::shared("lag::open_transactions_are_not_waited_for", open_transactions_are_not_waited_for),
    Trial::shared(
        "lag::members_that_speak_another_protocol_are_not_known",
        members_that_speak_another_protocol_are_not_known,
    ),
    Trial::alone("lag::a_broker_that_does_not_answer_is_told", a_broker_that_does_not_answer_is_told),
];

/// A configuration that reads these topics.
fn config(kafka: &Kafka, group: &str, sources: &[&str]) -> String {
    format!(
        "version = 1\n[router]\nname = \"{group}\"\n[broker]\nbootstrap = \"{}\"\n\
         [[routes]]\nname = \"copy\"\nfrom = {sources:?}\n[[routes.outputs]]\ntopic = \"{group}.out\"\n",
        kafka.bootstrap()
    )
}

/// What is told, and the exit code.
fn lag(config: &str, arguments: &[&str]) -> anyhow::Result<(Value, Option<i32>)> {
    let folder = Scratch::new("lag-")?;
    let file = folder.path().join("config.toml");
    fs::write(&file, config)?;
    let answer = router::command()?.arg("lag").arg(&file).args(arguments).arg("--json").output()?;
    let errors = String::from_utf8_lossy(&answer.stderr).into_owned();
    Ok((serde_json::from_slice(&answer.stdout).context(errors)?, answer.status.code()))
}

fn partition<'a>(told: &'a Value, topic: &str, number: i32) -> anyhow::Result<&'a Value> {
    let all = told["partitions"].as_array().context("there are no partitions")?;
    let found = all.iter().find(|row| row["topic"] == topic && row["partition"] == number);
    found.with_context(|| format!("no {topic}/{number} in {told:#}"))
}

fn now_ms() -> i64 {
    i64::try_from(UNIX_EPOCH.elapsed().unwrap_or_default().as_millis()).unwrap_or(i64::MAX)
}

fn commit(topic: &str, partition: i32, offset: i64) -> Commit {
    Commit { partition: TopicPartition::new(topic, partition), offset, metadata: String::new() }
}

/// Records are a minute apart; the last is a minute old.
fn minutes(count: i64, partition: i32) -> impl Iterator<Item = Sample> {
    let now = now_ms();
    (0..count).map(move |number| Sample {
        partition: Some(partition),
        timestamp_ms: Some(now - (count - number) * 60_000),
        value: Some(b"{}".to_vec()),
        ..Sample::default()
    })
}

fn a_group_at_rest_is_told_in_records_and_seconds(kafka: &Kafka) -> anyhow::Result<()> {
    let topic = Kafka::unique("lag");
    kafka.create_topics(&[TopicSpec::new(&topic, 3).with("retention.ms", "3600000")])?;
    kafka.fill(&topic, minutes(30, 0).chain(minutes(10, 1)))?;
    log(kafka)?.set_committed(&topic, &[commit(&topic, 0, 20), commit(&topic, 1, 10)])?;
    let config = config(kafka, &topic, &[&topic]);
    let (told, code) = lag(&config, &["--fail-above", "9"])?;
    ensure!(code == Some(1), "10 records are above 9: {told:#}");
    let row = partition(&told, &topic, 0)?;
    ensure!(row["records"] == 10 && row["exact"] == true && row["committed"] == 20 && row["end"] == 30, "{row:#}");
    let age = row["lag_seconds"].as_f64().context("an age")?;
    ensure!((600.0..660.0).contains(&age), "the record at offset 20 is ten minutes old: {row:#}");
    let gone = row["retention_seconds"].as_f64().context("a time")?;
    ensure!((2880.0..=3000.0).contains(&gone), "it is kept for an hour: {row:#}");
    ensure!(row["is_read"] == false && row["status"].is_null() && row["pace"].is_null(), "{row:#}");
    let row = partition(&told, &topic, 1)?;
    ensure!(row["records"] == 0 && row["lag_seconds"] == 0.0 && row["retention_seconds"].is_null(), "{row:#}");
    let row = partition(&told, &topic, 2)?;
    ensure!(row["records"] == 0 && row["committed"].is_null(), "{row:#}");
    ensure!(lag(&config, &["--fail-above", "10"])?.1 == Some(0), "10 records are not above 10");
    ensure!(lag(&config, &["--fail-above", "5m"])?.1 == Some(1), "ten minutes are above five");

    let (told, _) = lag(&config, &["--for", "9s"])?;
    let status = |number| Ok::<_, anyhow::Error>(partition(&told, &topic, number)?["status"].clone());
    ensure!(status(0)? == "stopped" && status(1)? == "ok" && status(2)? == "unknown", "{told:#}");
    ensure!(partition(&told, &topic, 0)?["pace"]["drain_seconds"].is_null(), "{told:#}");
    Ok(())
}

/// Markers of transactions, what was aborted, and what was compacted away leave offsets that nobody reads.
fn ends_without_records_are_no_lag(kafka: &Kafka) -> anyhow::Result<()> {
    let topic = Kafka::unique("lag-markers");
    kafka.create_topic(&topic, 1)?;
    let producer: BaseProducer = kafka.client().set("transactional.id", &topic).create()?;
    producer.init_transactions(DEADLINE)?;
    for number in 0..4 {
        producer.begin_transaction()?;
        producer.send(BaseRecord::<(), str>::to(&topic).partition(0).payload("{}")).map_err(|(error, _)| error)?;
        producer.flush(DEADLINE)?;
        if number == 3 { producer.abort_transaction(DEADLINE)? } else { producer.commit_transaction(DEADLINE)? }
    }
    let config = config(kafka, &topic, &[&topic]);
    let log = log(kafka)?;
    // Offsets 0, 2 and 4 have records; 6 was aborted; the others are markers.
    for (at, records, oldest) in [(6, 0, Value::Null), (5, 0, Value::Null), (4, 1, 4.into()), (1, 2, 2.into())] {
        log.set_committed(&topic, &[commit(&topic, 0, at)])?;
        let (told, _) = lag(&config, &[])?;
        let row = partition(&told, &topic, 0)?;
        ensure!(row["end"] == 8 && row["records"] == records && row["oldest_offset"] == oldest, "at {at}: {row:#}");
        ensure!(row["exact"] == true, "{row:#}");
    }
    Ok(())
}

fn another_group_is_told_with_its_members(kafka: &Kafka) -> anyhow::Result<()> {
    let [one, other, group] = ["lag-one", "lag-other", "lag-group"].map(Kafka::unique);
    kafka.create_topic(&one, 2)?;
    kafka.create_topic(&other, 1)?;
    kafka.fill(&one, minutes(5, 0).chain(minutes(5, 1)))?;
    kafka.fill(&other, minutes(7, 0))?;
    let config = config(kafka, "nobody", &["nothing"]);
    let nobody = lag(&config, &["--group", &group]);
    ensure!(
        nobody.is_err_and(|error| format!("{error:#}").contains("has committed nothing")),
        "there is no such group"
    );

    let log = log(kafka)?;
    let member = Member::join(&log, plan(&group, &[(&one, None)], StartAt::Earliest))?;
    member.wait_for_lanes(2)?;
    member.take(10, 100)?;
    // A commit for a topic that it does not read.
    let (told, _) = wait::until_ok("the first commits", DEADLINE, || Ok(lag(&config, &["--group", &group]).ok()))?;
    let topics: Vec<&Value> =
        told["topics"].as_array().context("topics")?.iter().map(|topic| &topic["topic"]).collect();
    ensure!(topics == [&one], "{told:#}");
    for number in [0, 1] {
        let row = partition(&told, &one, number)?;
        ensure!(row["is_read"] == true && row["route"].is_null() && row["group"] == group, "{row:#}");
        ensure!(row["reader"].as_str().is_some_and(|reader| reader.contains(" @ 127.0.0.1")), "{row:#}");
    }
    member.leave()?;
    wait::until_ok("the group to be empty", DEADLINE, || Ok(log.set_committed(&group, &[commit(&other, 0, 3)]).ok()))?;
    let (told, _) = lag(&config, &["--group", &group])?;
    let row = partition(&told, &other, 0)?;
    ensure!(row["records"] == 4 && row["is_read"] == false, "{row:#}");
    ensure!(partition(&told, &one, 0)?["records"] == 0, "{told:#}");
    let (told, _) = lag(&config, &["--group", &group, "--topic", &other])?;
    ensure!(told["partitions"].as_array().is_some_and(|all| all.len() == 1), "{told:#}");
    Ok(())
}

/// In a few requests, and in the order of the question, whatever else was asked for.
fn many_partitions_are_asked_about_at_once(kafka: &Kafka) -> anyhow::Result<()> {
    let topic = Kafka::unique("lag-many");
    kafka.create_topic(&topic, 50)?;
    kafka.fill(&topic, (0..50).flat_map(|number| minutes(i64::from(number % 3), number)))?;
    let log = log(kafka)?;
    let missing = TopicPartition::new(format!("{topic}-missing"), 0);
    let asked: Vec<TopicPartition> = (0..50)
        .rev()
        .map(|number| TopicPartition::new(topic.as_str(), number))
        .chain([missing, TopicPartition::new(topic.as_str(), 50)])
        .collect();
    let found = log.bounds(&asked);
    ensure!(found.len() == asked.len(), "{found:?}");
    for (number, bounds) in (0..50).rev().zip(&found) {
        ensure!(*bounds == Ok((0, i64::from(number % 3))), "{number}: {bounds:?}");
    }
    // What is not there keeps no other from an answer.
    ensure!(found[50].is_err() && found[51].is_err(), "{found:?}");
    let commits: Vec<Commit> = (0..50).step_by(7).map(|number| commit(&topic, number, 1)).collect();
    log.set_committed(&topic, &commits)?;
    let mut all = log.progress(&topic, None)?;
    all.sort_by_key(|commit| commit.partition.partition);
    ensure!(all == commits, "{all:?}");
    ensure!(log.progress(&topic, Some(&asked[..10]))?.len() == 2, "42 and 49");
    ensure!(log.readers(&topic)? == Some(Vec::new()), "nobody reads");
    Ok(())
}

/// A group whose commits are held by a transaction is told as it is: to go on from there one would have to wait.
fn open_transactions_are_not_waited_for(kafka: &Kafka) -> anyhow::Result<()> {
    let topic = Kafka::unique("lag-open");
    kafka.create_topic(&topic, 1)?;
    kafka.fill(&topic, minutes(5, 0))?;
    let log = log(kafka)?;
    log.set_committed(&topic, &[commit(&topic, 0, 2)])?;
    let producer: BaseProducer = kafka.client().set("transactional.id", &topic).create()?;
    let consumer: BaseConsumer = kafka.client().set("group.id", &topic).create()?;
    let group = consumer.group_metadata().context("a group")?;
    producer.init_transactions(DEADLINE)?;
    producer.begin_transaction()?;
    producer.send(BaseRecord::<(), str>::to(&topic).partition(0).payload("{}")).map_err(|(error, _)| error)?;
    producer.flush(DEADLINE)?;
    let mut offsets = TopicPartitionList::new();
    offsets.add_partition_offset(&topic, 0, Offset::Offset(5))?;
    producer.send_offsets_to_transaction(&offsets, &group, DEADLINE)?;

    let begun = Instant::now();
    let row = &lag(&config(kafka, &topic, &[&topic]), &[])?.0;
    let row = partition(row, &topic, 0)?;
    ensure!(begun.elapsed() < Duration::from_secs(20), "it took {:?}", begun.elapsed());
    // What the transaction has written is not there yet.
    ensure!(row["committed"] == 2 && row["end"] == 5 && row["records"] == 3, "{row:#}");
    producer.commit_transaction(DEADLINE)?;
    let row = &lag(&config(kafka, &topic, &[&topic]), &[])?.0;
    let row = partition(row, &topic, 0)?;
    ensure!(row["committed"] == 5 && row["end"] == 7 && row["records"] == 1, "{row:#}");
    Ok(())
}

/// Members of a group by KIP-848 can't be asked for what they have by the request that is used. That is said, and the rest is told.
fn members_that_speak_another_protocol_are_not_known(kafka: &Kafka) -> anyhow::Result<()> {
    let topic = Kafka::unique("lag-newer");
    kafka.create_topic(&topic, 1)?;
    kafka.fill(&topic, minutes(5, 0))?;
    let consumer: BaseConsumer = kafka
        .client()
        .set("group.id", &topic)
        .set("group.protocol", "consumer")
        .set("auto.offset.reset", "earliest")
        .set("enable.auto.commit", "false")
        .create()?;
    consumer.subscribe(&[&topic])?;
    wait::until("a record", DEADLINE, || consumer.poll(Duration::from_millis(100))?.ok().map(drop))?;
    let mut offsets = TopicPartitionList::new();
    offsets.add_partition_offset(&topic, 0, Offset::Offset(1))?;
    consumer.commit(&offsets, CommitMode::Sync)?;
    let (told, _) = lag(&config(kafka, "nobody", &["nothing"]), &["--group", &topic])?;
    let row = partition(&told, &topic, 0)?;
    ensure!(row["records"] == 4 && row["is_read"].is_null() && row["reader"].is_null(), "{told:#}");
    ensure!(told["notes"].to_string().contains("who reads for the group"), "{told:#}");
    Ok(())
}

/// It ends, with the cause and in time, and by no assertion of a library.
fn a_broker_that_does_not_answer_is_told(kafka: &Kafka) -> anyhow::Result<()> {
    kafka.create_topic("source", 2)?;
    kafka.fill("source", minutes(3, 0))?;
    let log = log(kafka)?;
    log.set_committed("group", &[commit("source", 0, 1)])?;
    let config = config(kafka, "group", &["source"]);
    ensure!(partition(&lag(&config, &[])?.0, "source", 0)?["records"] == 2, "it is there");
    let folder = Scratch::new("lag-")?;
    let file = folder.path().join("config.toml");
    fs::write(&file, config)?;
    kafka.broker().pause()?;
    let begun = Instant::now();
    for more in [&[][..], &["--group", "group"]] {
        let answer = router::command()?.arg("lag").arg(&file).args(more).output()?;
        let errors = String::from_utf8_lossy(&answer.stderr);
        ensure!(answer.status.code() == Some(3) && errors.contains("error: "), "{:?}: {errors}", answer.status);
    }
    ensure!(begun.elapsed() < Duration::from_secs(180), "it took {:?}", begun.elapsed());
    kafka.broker().resume()?;
    kafka.broker().stop()
}
