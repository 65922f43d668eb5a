//! How far topics and groups have come: asked again and again, by one client each, in one request for all partitions.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::{Offset, TopicPartitionList};

use super::Kafka;
use super::topics::partitions;
use crate::wait;

/// How long one request to the cluster may take.
const DEADLINE: Duration = Duration::from_secs(60);

/// Counts the records of topics.
pub struct Watermarks {
    consumer: BaseConsumer,
    partitions: Vec<(String, i32)>,
}

impl Watermarks {
    /// Looks up the partitions of the topics.
    ///
    /// # Errors
    /// When the cluster does not answer, or one of the topics is not there.
    pub fn new<T: AsRef<str>>(kafka: &Kafka, topics: &[T]) -> anyhow::Result<Self> {
        let consumer: BaseConsumer = kafka.client().create()?;
        let partitions = partitions_of(&consumer, topics)?;
        Ok(Self { consumer, partitions })
    }

    /// How many offsets the partitions span in all now: the number of their records, markers of transactions included.
    ///
    /// # Errors
    /// When the cluster does not answer.
    pub fn count(&self) -> anyhow::Result<i64> {
        let low = offsets(&self.consumer, &self.partitions, Offset::Beginning)?;
        let high = offsets(&self.consumer, &self.partitions, Offset::End)?;
        Ok(high.values().sum::<i64>() - low.values().sum::<i64>())
    }
}

/// Tells what a group has still to commit.
pub struct Lag {
    consumer: BaseConsumer,
    partitions: Vec<(String, i32)>,
}

impl Lag {
    /// Looks up the partitions of the topics.
    ///
    /// # Errors
    /// When the cluster does not answer, or one of the topics is not there.
    pub fn new<T: AsRef<str>>(kafka: &Kafka, group: &str, topics: &[T]) -> anyhow::Result<Self> {
        let consumer: BaseConsumer = kafka.client().set("group.id", group).create()?;
        let partitions = partitions_of(&consumer, topics)?;
        Ok(Self { consumer, partitions })
    }

    /// How many offsets the group has still to commit in the topics, up to their ends.
    ///
    /// # Errors
    /// When the cluster does not answer.
    pub fn records(&self) -> anyhow::Result<i64> {
        let committed = self.consumer.committed_offsets(list(&self.partitions, None)?, DEADLINE)?;
        let low = offsets(&self.consumer, &self.partitions, Offset::Beginning)?;
        let high = offsets(&self.consumer, &self.partitions, Offset::End)?;
        let mut lag = high.values().sum::<i64>();
        for element in committed.elements() {
            element.error()?;
            lag -= match element.offset() {
                Offset::Offset(offset) => offset,
                _ => *low.get(&(element.topic().to_owned(), element.partition())).context("the answer lacks one")?,
            };
        }
        Ok(lag)
    }
}

fn partitions_of<T: AsRef<str>>(consumer: &BaseConsumer, topics: &[T]) -> anyhow::Result<Vec<(String, i32)>> {
    let mut all = Vec::new();
    for topic in topics {
        let topic = topic.as_ref();
        all.extend(partitions(consumer, topic)?.into_iter().map(|partition| (topic.to_owned(), partition)));
    }
    Ok(all)
}

/// What is said of a partition that was made a moment ago: its leader does not know it yet, or not its epoch.
const NEW: [RDKafkaErrorCode; 2] = [RDKafkaErrorCode::NotLeaderForPartition, RDKafkaErrorCode::UnknownLeaderEpoch];

/// The first or last offsets of the partitions.
fn offsets(
    consumer: &BaseConsumer,
    partitions: &[(String, i32)],
    at: Offset,
) -> anyhow::Result<BTreeMap<(String, i32), i64>> {
    let asked = list(partitions, Some(at))?;
    let offsets = wait::until_ok("offsets", DEADLINE, || match ask(consumer, asked.clone()) {
        Ok(offsets) => Ok(Some(offsets)),
        Err(error) if error.rdkafka_error_code().is_some_and(|code| NEW.contains(&code)) => Ok(None),
        Err(error) => Err(error.into()),
    })?;
    ensure!(offsets.len() == partitions.len(), "the cluster told {} of {} offsets", offsets.len(), partitions.len());
    Ok(offsets)
}

/// Asks once. (The request is the one that asks for offsets by time; Kafka has two times that stand for the first and the
/// last.)
fn ask(consumer: &BaseConsumer, asked: TopicPartitionList) -> Result<BTreeMap<(String, i32), i64>, KafkaError> {
    let answer = consumer.offsets_for_times(asked, DEADLINE)?;
    let mut offsets = BTreeMap::new();
    for element in answer.elements() {
        element.error()?;
        let Offset::Offset(offset) = element.offset() else { continue };
        offsets.insert((element.topic().to_owned(), element.partition()), offset);
    }
    Ok(offsets)
}

fn list(partitions: &[(String, i32)], at: Option<Offset>) -> anyhow::Result<TopicPartitionList> {
    let mut list = TopicPartitionList::with_capacity(partitions.len());
    for (topic, partition) in partitions {
        match at {
            Some(at) => list.add_partition_offset(topic, *partition, at)?,
            None => {
                list.add_partition(topic, *partition);
            }
        }
    }
    Ok(list)
}
