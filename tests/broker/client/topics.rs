//! Topics: made, asked about, and read outside groups.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use pointsman_core::port::{Log as _, NewTopic, StartAt, TopicSettings};
use pointsman_core::record::TopicPartition;
use pointsman_tests::kafka::{Kafka, Sample, TopicSpec};
use pointsman_tests::trials::Trial;
use pointsman_tests::wait;

use super::by_hand::{read, value};
use super::{DEADLINE, Member, log, plan};

pub(crate) const TRIALS: &[Trial] = &[
    Trial::shared("client::topics_are_created_once_and_asked_about", topics_and_offsets),
    Trial::shared("client::two_readers_of_one_partition_do_not_disturb_each_other", two_readers),
    Trial::shared("client::topics_tell_how_they_keep_records", topic_settings),
];

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
