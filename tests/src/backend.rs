//! The two logs behind one face, for tests that must hold on both.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use pointsman_core::delivery::{Delivery, PartitionChoice, TopicId};
use pointsman_core::port::{Log, NewTopic, ProduceError, Sink, Token};
use pointsman_core::record::{Headers, OwnedRecord, TopicPartition};
use pointsman_embedded::{EmbeddedLog, Options};
use pointsman_kafka::{KafkaLog, KafkaSettings};

use crate::kafka::{Kafka, Sample};
use crate::wait;

/// How long a log may take to write what it was given.
const DEADLINE: Duration = Duration::from_secs(60);

/// A log that a router can be run on.
#[derive(Clone, Debug)]
pub enum Backend<'a> {
    /// A Kafka.
    Kafka(&'a Kafka),
    /// The embedded log in this folder.
    Embedded(PathBuf),
}

impl Backend<'_> {
    /// The table `[broker]` of a configuration.
    #[must_use]
    pub fn broker(&self) -> String {
        match self {
            Self::Kafka(kafka) => format!("[broker]\nbootstrap = \"{}\"\n", kafka.bootstrap()),
            Self::Embedded(folder) => format!("[broker]\nembedded = \"{}\"\n", folder.display()),
        }
    }

    /// The log itself.
    ///
    /// # Errors
    /// When it can't be opened.
    pub fn log(&self) -> anyhow::Result<Box<dyn Log>> {
        Ok(match self {
            Self::Kafka(kafka) => Box::new(KafkaLog::new(KafkaSettings::new(kafka.bootstrap()))?),
            Self::Embedded(folder) => Box::new(open(folder)?),
        })
    }

    /// Makes a topic.
    ///
    /// # Errors
    /// When the log refuses it.
    pub fn create_topic(&self, name: &str, partitions: u32) -> anyhow::Result<()> {
        match self {
            Self::Kafka(kafka) => kafka.create_topic(name, i32::try_from(partitions)?),
            Self::Embedded(folder) => {
                open(folder)?.create_topics(&[NewTopic { name: name.into(), partitions, retention: None }])?;
                Ok(())
            }
        }
    }

    /// Writes records in order; they are durable when this returns.
    ///
    /// # Errors
    /// When one of them is not written.
    pub fn fill(&self, topic: &str, samples: impl IntoIterator<Item = Sample>) -> anyhow::Result<()> {
        match self {
            Self::Kafka(kafka) => kafka.fill(topic, samples),
            Self::Embedded(folder) => fill_embedded(&open(folder)?, topic, samples),
        }
    }

    /// Does `work`, and waits until something of it has got to the last partition of each topic, though it is in an open
    /// transaction: what is aborted before that leaves no trace at all. (The embedded log is told of a transaction when it
    /// is committed.)
    ///
    /// # Errors
    /// Those of `work`, and when nothing gets there in time.
    pub fn sent<T: AsRef<str>>(&self, topics: &[T], work: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<()> {
        let Self::Kafka(kafka) = self else { return work() };
        let ends = || -> anyhow::Result<Vec<i64>> {
            topics.iter().map(|topic| kafka.unstable_ends(topic.as_ref())?.pop().context("a partition")).collect()
        };
        let before = ends()?;
        work()?;
        wait::until_ok("what was sent to get to Kafka", DEADLINE, || {
            Ok(ends()?.iter().zip(&before).all(|(end, before)| end > before).then_some(()))
        })
    }

    /// Reads every record that the topic has now, in order within a partition.
    ///
    /// # Errors
    /// When the topic can't be read to its end.
    pub fn read_all(&self, topic: &str) -> anyhow::Result<Vec<(TopicPartition, OwnedRecord)>> {
        match self {
            Self::Kafka(kafka) => kafka.read_all(topic),
            Self::Embedded(folder) => read_embedded(&open(folder)?, topic),
        }
    }

    /// How many records the topic has: on Kafka, markers of transactions included.
    ///
    /// # Errors
    /// When the log does not answer.
    pub fn count(&self, topic: &str) -> anyhow::Result<i64> {
        match self {
            Self::Kafka(kafka) => kafka.count(topic),
            Self::Embedded(folder) => {
                let log = open(folder)?;
                let mut count = 0;
                for partition in partitions(&log, topic)? {
                    let (first, end) = log.watermarks(&partition)?;
                    count += end - first;
                }
                Ok(count)
            }
        }
    }

    /// Whether there is nothing to read behind what the group has committed in the topic. (Offsets there may be, on Kafka:
    /// markers of transactions, and what was aborted.) `log` is this [log](Self::log).
    ///
    /// # Errors
    /// When the log does not answer.
    pub fn is_read(&self, log: &dyn Log, group: &str, topic: &str) -> anyhow::Result<bool> {
        let partitions = partitions(log, topic)?;
        let committed = log.committed(group, &partitions)?;
        let ends: Vec<i64> = match self {
            // What is seen to be committed may have written records that are not stable yet.
            Self::Kafka(kafka) => kafka.unstable_ends(topic)?,
            Self::Embedded(_) => {
                partitions.iter().map(|partition| Ok(log.watermarks(partition)?.1)).collect::<anyhow::Result<_>>()?
            }
        };
        for ((partition, committed), end) in partitions.iter().zip(committed).zip(ends) {
            let (first, _) = log.watermarks(partition)?;
            let from = committed.map_or(first, |commit| commit.offset);
            if from >= end {
                continue;
            }
            let mut feed = log.read(partition, from)?;
            let has_more = wait::until_ok("a partition to be read", DEADLINE, || {
                let is_there = feed.fetch(1, 1)?.is_some();
                let is_at_end = feed.position().is_some_and(|position| position >= end);
                Ok((is_there || is_at_end).then_some(is_there))
            })?;
            if has_more {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

fn open(folder: &Path) -> anyhow::Result<EmbeddedLog> {
    EmbeddedLog::open(folder, Options::default()).with_context(|| format!("can't open the log in {}", folder.display()))
}

fn partitions(log: &dyn Log, topic: &str) -> anyhow::Result<Vec<TopicPartition>> {
    let found = log.topics(Some(&[topic.into()]))?;
    let info = found.first().with_context(|| format!("there is no topic {topic}"))?;
    Ok((0..info.partitions.cast_signed()).map(|partition| TopicPartition::new(topic, partition)).collect())
}

fn fill_embedded(log: &EmbeddedLog, topic: &str, samples: impl IntoIterator<Item = Sample>) -> anyhow::Result<()> {
    let mut sink = log.sink(&[topic.into()], Arc::new(|| {}))?;
    let (mut sent, mut durable) = (0, 0);
    for sample in samples {
        let delivery = Delivery {
            topic: TopicId(0),
            partition: sample.partition.map_or(PartitionChoice::ByKey, PartitionChoice::Exactly),
            timestamp_ms: sample.timestamp_ms.unwrap_or(-1),
            key: sample.key.as_deref(),
            value: sample.value.as_deref(),
            headers: Headers::Owned(&sample.headers),
            stamps: Headers::NONE,
        };
        loop {
            match sink.produce(&delivery, Token(sent)) {
                Ok(_) => break,
                Err(ProduceError::Full) => durable += serve(&mut *sink)?,
                Err(error) => return Err(error.into()),
            }
        }
        sent += 1;
    }
    wait::until_ok("the embedded log to write", DEADLINE, || {
        durable += serve(&mut *sink)?;
        Ok((durable == sent).then_some(()))
    })
}

/// Writes what is queued; the answer is how many records have become durable.
fn serve(sink: &mut dyn Sink) -> anyhow::Result<u64> {
    let mut reports = Vec::new();
    sink.serve(&mut reports)?;
    let durable = reports.len() as u64;
    for report in reports {
        report.result?;
    }
    Ok(durable)
}

fn read_embedded(log: &EmbeddedLog, topic: &str) -> anyhow::Result<Vec<(TopicPartition, OwnedRecord)>> {
    let mut records = Vec::new();
    for partition in partitions(log, topic)? {
        let (first, end) = log.watermarks(&partition)?;
        let mut feed = log.read(&partition, first)?;
        let mut next = first;
        while next < end {
            let batch = feed.fetch(1000, 1 << 20)?;
            let batch = batch.with_context(|| format!("{partition} ends at {end}, but has nothing from {next} on"))?;
            for index in 0..batch.len() {
                let record = batch.record(index);
                ensure!(record.offset >= next, "{partition} gives offset {} after {next}", record.offset);
                next = record.offset + 1;
                records.push((partition.clone(), OwnedRecord::from(record)));
            }
        }
    }
    Ok(records)
}
