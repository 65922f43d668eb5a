//! The harness itself: what it writes it reads back, and its broker survives what tests do to it.

use std::time::Duration;

use pointsman_core::delivery::{Delivery, PartitionChoice, TopicId};
use pointsman_core::port::{Log as _, Token, WriterPlan};
use pointsman_core::record::{Headers, OwnedHeader};
use pointsman_kafka::{KafkaLog, KafkaSettings};
use pointsman_tests::backend::Backend;
use pointsman_tests::kafka::{Kafka, Sample};
use pointsman_tests::trials::Trial;

pub(crate) const TRIALS: &[Trial] = &[
    Trial::shared("harness::records_come_back_as_they_were_written", records_come_back_as_they_were_written),
    Trial::shared("harness::what_may_be_committed_yet_is_waited_for", what_may_be_committed_yet_is_waited_for),
    Trial::alone("harness::a_killed_broker_comes_back_with_its_records", a_killed_broker_comes_back_with_its_records),
];

/// Nulls, empty fields, duplicate names and names that are not UTF-8 included.
fn records_come_back_as_they_were_written(kafka: &Kafka) -> anyhow::Result<()> {
    let topic = Kafka::unique("harness");
    kafka.create_topic(&topic, 3)?;
    let odd: [&[u8]; 3] = [b"a", b"a", b"\xff\xfe"];
    let headers: Vec<OwnedHeader> = odd
        .iter()
        .zip([None, Some(Box::default()), Some(Box::from(*b"\0v"))])
        .map(|(name, value)| OwnedHeader { name: (*name).into(), value })
        .collect();
    let samples = [
        Sample { partition: Some(2), timestamp_ms: Some(77), headers, ..Sample::default() },
        Sample { partition: Some(2), key: Some(vec![]), value: Some(vec![]), ..Sample::default() },
        Sample { partition: Some(0), key: Some(b"k".into()), value: Some(b"v".into()), ..Sample::default() },
    ];
    kafka.fill(&topic, samples.clone())?;

    let mut read = kafka.read_all(&topic)?;
    read.sort_by_key(|(partition, record)| (-partition.partition, record.offset));
    assert_eq!(read.len(), samples.len());
    for ((partition, record), sample) in read.iter().zip(&samples) {
        assert_eq!(Some(partition.partition), sample.partition);
        assert_eq!((&record.key, &record.value, &record.headers), (&sample.key, &sample.value, &sample.headers));
        assert!(sample.timestamp_ms.is_none_or(|timestamp_ms| timestamp_ms == record.timestamp_ms));
    }
    assert_eq!(kafka.count(&topic)?, 3);
    Ok(())
}

/// Who sees a commit of a group may not see the records of its transaction yet: there is more to read than is stable.
fn what_may_be_committed_yet_is_waited_for(kafka: &Kafka) -> anyhow::Result<()> {
    let backend = Backend::Kafka(kafka);
    let log = KafkaLog::new(KafkaSettings::new(kafka.bootstrap()))?;
    for asks_a_group in [false, true] {
        let topic = Kafka::unique("open");
        kafka.create_topic(&topic, 1)?;
        // The broker aborts it then.
        let timeout = Duration::from_secs(2);
        let plan = WriterPlan { timeout, ..WriterPlan::new(topic.as_str(), vec![topic.as_str().into()]) };
        let mut writer = log.transactional(plan)?;
        let mut transaction = writer.begin()?;
        let delivery = Delivery {
            topic: TopicId(0),
            partition: PartitionChoice::Exactly(0),
            timestamp_ms: -1,
            key: None,
            value: Some(b"never to be seen"),
            headers: Headers::NONE,
            stamps: Headers::NONE,
        };
        backend.sent(&[&topic], || Ok(transaction.produce(&delivery, Token(0))?))?;
        let has_nothing =
            if asks_a_group { backend.is_read(&log, &topic, &topic)? } else { kafka.read_all(&topic)?.is_empty() };
        assert!(has_nothing);
        assert_eq!(kafka.unstable_ends(&topic)?, [2], "a record and the marker of its abort");
    }
    Ok(())
}

fn a_killed_broker_comes_back_with_its_records(kafka: &Kafka) -> anyhow::Result<()> {
    kafka.create_topic("kept", 1)?;
    kafka.fill_with("kept", 1000, |i| Sample { value: Some(i.to_be_bytes().into()), ..Sample::default() })?;
    kafka.broker().kill()?;
    kafka.broker().restart()?;
    let values = kafka.count_by("kept", |message| rdkafka::Message::payload(message).map(<[u8]>::to_vec))?;
    assert_eq!(values.len(), 1000);
    assert!(values.values().all(|count| *count == 1));
    kafka.broker().stop()
}
