//! The harness itself: what it writes it reads back, and its broker survives what tests do to it.

use pointsman_core::record::OwnedHeader;
use pointsman_tests::kafka::{Kafka, Sample};
use pointsman_tests::trials::Trial;

pub(crate) const TRIALS: &[Trial] = &[
    Trial::shared("harness::records_come_back_as_they_were_written", records_come_back_as_they_were_written),
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
