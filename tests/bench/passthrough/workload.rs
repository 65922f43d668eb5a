//! The records that are copied: orders, as JSON of a given length, with a key of 16 bytes and two headers.

use std::fmt;
use std::time::Duration;

use anyhow::ensure;
use pointsman_core::record::OwnedHeader;
use pointsman_tests::kafka::{Kafka, Sample, TopicSpec, Unseen};
use pointsman_tests::wait;

/// Partitions of a topic, where its number is not what is measured.
pub(crate) const PARTITIONS: i32 = 4;

/// The header that tells the two halves of the records apart, and its value in the odd one.
pub(crate) const HEADER: (&str, &str) = ("environment", "test");

/// Shortest value, in bytes: what every order has to have.
pub(crate) const MIN_VALUE_BYTES: usize = 128;

/// How long a cluster may take to delete topics.
const DELETION_DEADLINE: Duration = Duration::from_secs(120);

/// How many records of which size, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Workload {
    /// In each topic.
    records_per_topic: u64,
    pub(crate) value_bytes: usize,
    pub(crate) topics: u32,
    /// Of each topic.
    pub(crate) partitions: i32,
}

impl Workload {
    /// So many records of 200 bytes in one topic.
    pub(crate) fn of(records: u64) -> Self {
        Self { records_per_topic: records, value_bytes: 200, topics: 1, partitions: PARTITIONS }
    }

    /// With values of this length instead.
    pub(crate) fn sized(self, value_bytes: usize) -> Self {
        Self { value_bytes: value_bytes.max(MIN_VALUE_BYTES), ..self }
    }

    /// In topics of so many partitions instead.
    pub(crate) fn partitioned(self, partitions: i32) -> Self {
        Self { partitions, ..self }
    }

    /// Shared evenly by so many topics instead.
    pub(crate) fn shared_by(self, topics: u32) -> Self {
        Self { records_per_topic: self.records() / u64::from(topics.max(1)), topics, ..self }
    }

    /// In all topics.
    pub(crate) fn records(&self) -> u64 {
        self.records_per_topic * u64::from(self.topics)
    }

    /// Partitions of all topics.
    pub(crate) fn lanes(&self) -> usize {
        usize::try_from(self.partitions).unwrap_or(0) * self.topics as usize
    }

    /// The record of this number; numbers go on from topic to topic.
    pub(crate) fn sample(&self, number: u64) -> Sample {
        let environment = if number % 2 == 1 { HEADER.1 } else { "live" };
        Sample {
            // It ends in the number, which the guest `faulty` goes by.
            key: Some(format!("customer-{number:07}").into_bytes()),
            value: Some(self.value(number)),
            headers: vec![
                OwnedHeader::text(HEADER.0, environment),
                OwnedHeader::text("trace-id", format!("{:032x}", u128::from(number) << 64 | 0x8448_eb21)),
            ],
            ..Sample::default()
        }
    }

    fn value(&self, number: u64) -> Vec<u8> {
        let mut value = format!(
            r#"{{"id":"order-{number:010}","amount":{},"currency":"EUR","items":[{{"sku":"A-17","n":2}}],"note":""#,
            number % 900
        );
        // What closes the text and the object.
        let room = self.value_bytes.saturating_sub(value.len() + 2);
        value.extend(std::iter::repeat_n('x', room));
        value.push_str("\"}");
        value.into_bytes()
    }
}

impl fmt::Display for Workload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { value_bytes, topics, partitions, .. } = self;
        write!(f, "{} records of {value_bytes} bytes, key of 16 bytes, 2 headers, ", self.records())?;
        if *topics > 1 {
            write!(f, "{topics} topics of ")?;
        }
        write!(f, "{partitions} partition{}", if *partitions == 1 { "" } else { "s" })
    }
}

/// The topics that a workload is read from.
pub(crate) struct Source {
    pub(crate) workload: Workload,
    /// What their names begin with; `-0`, `-1` and so on follow.
    pub(crate) name: String,
}

impl Source {
    /// Makes the topics, without records.
    pub(crate) fn empty(kafka: &Kafka, workload: Workload) -> anyhow::Result<Self> {
        let source = Self { workload, name: Kafka::unique("source") };
        let names = source.topics();
        kafka.create_topics(&names.iter().map(|name| TopicSpec::new(name, workload.partitions)).collect::<Vec<_>>())?;
        Ok(source)
    }

    /// Makes the topics and fills them.
    pub(crate) fn filled(kafka: &Kafka, workload: Workload) -> anyhow::Result<Self> {
        ensure!(workload.records() > 0, "there are fewer records than topics");
        let source = Self::empty(kafka, workload)?;
        source.fill(kafka)?;
        Ok(source)
    }

    /// Writes the records, once more if they are there.
    pub(crate) fn fill(&self, kafka: &Kafka) -> anyhow::Result<()> {
        kafka.fill_each(self.samples(&self.topics()))
    }

    /// Writes the records, so that they can all be seen at once.
    pub(crate) fn fill_unseen(&self, kafka: &Kafka) -> anyhow::Result<Unseen> {
        kafka.fill_unseen(self.samples(&self.topics()))
    }

    fn samples<'a>(&'a self, topics: &'a [String]) -> impl Iterator<Item = (&'a str, Sample)> {
        let topic =
            |number| usize::try_from(number / self.workload.records_per_topic).ok().and_then(|at| topics.get(at));
        let numbers = 0..self.workload.records();
        numbers.filter_map(move |number| Some((topic(number)?.as_str(), self.workload.sample(number))))
    }

    /// Writes so many records to the first topic that the workload has not, with keys of their own.
    pub(crate) fn fill_others(&self, kafka: &Kafka, count: u64) -> anyhow::Result<()> {
        let Some(topic) = self.topics().into_iter().next() else { return Ok(()) };
        let from = self.workload.records();
        kafka.fill(&topic, (from..from + count).map(|number| self.workload.sample(number)))
    }

    pub(crate) fn topics(&self) -> Vec<String> {
        (0..self.workload.topics).map(|number| format!("{}-{number}", self.name)).collect()
    }

    /// Deletes the topics.
    pub(crate) fn delete(&self, kafka: &Kafka) -> anyhow::Result<()> {
        delete(kafka, &format!("{}-", self.name))
    }
}

/// Deletes all topics whose names begin so, and waits until they are gone: the next run is not to pay for that.
pub(crate) fn delete(kafka: &Kafka, prefix: &str) -> anyhow::Result<()> {
    let topics = kafka.topics_beginning_with(prefix)?;
    kafka.delete_topics(&topics.iter().map(String::as_str).collect::<Vec<_>>())?;
    let what = format!("the topics {prefix}… to go");
    wait::until_ok(&what, DELETION_DEADLINE, || Ok(kafka.topics_beginning_with(prefix)?.is_empty().then_some(())))
}

/// Writes to every partition of these topics, and removes that again. What is written first to a partition's indexes, which are files
/// full of holes, is a page fault in each that takes some file systems milliseconds: a topic that is in use has that behind it.
pub(crate) fn break_in(kafka: &Kafka, topics: &[String]) -> anyhow::Result<()> {
    let mut partitions = Vec::new();
    for topic in topics {
        partitions.extend(kafka.partitions(topic)?.into_iter().map(|partition| (topic.as_str(), partition)));
    }
    // A batch is in the indexes where more bytes than `index.interval.bytes` are before it.
    for _ in 0..2 {
        let sample = |partition| Sample { partition: Some(partition), value: Some(vec![0; 5000]), ..Sample::default() };
        kafka.fill_each(partitions.iter().map(|(topic, partition)| (*topic, sample(*partition))))?;
    }
    kafka.empty_topics(topics)
}
