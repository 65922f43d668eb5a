//! A topic that is read while it grows, by a thread of its own: what it has may be removed again before a test is over.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context as _, anyhow, ensure};
use pointsman_core::record::OwnedRecord;
use rdkafka::Message as _;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;

use super::Kafka;
use super::topics::{assign_all, owned};

/// How long a broker that has something may keep silent.
const DEADLINE: Duration = Duration::from_secs(60);
/// How often it looks whether that is all.
const LOOK: Duration = Duration::from_millis(100);

/// Reads a topic from its first record on.
#[derive(Debug)]
pub struct Tail {
    ending: Arc<AtomicBool>,
    reader: JoinHandle<anyhow::Result<Vec<OwnedRecord>>>,
}

impl Tail {
    /// Begins to read. Nothing may have been removed from the topic yet, and no transaction may write to it.
    ///
    /// # Errors
    /// When the topic is not there.
    pub fn begin(kafka: &Kafka, topic: &str) -> anyhow::Result<Self> {
        let consumer: BaseConsumer = kafka
            .client()
            .set("group.id", "pointsman-tests-tail")
            .set("enable.auto.commit", "false")
            .set("enable.partition.eof", "true")
            .set("auto.offset.reset", "error")
            .create()?;
        let partitions = assign_all(&consumer, topic)?;
        let ending = Arc::new(AtomicBool::new(false));
        let end = Arc::clone(&ending);
        let reader = thread::spawn(move || read(&consumer, partitions, &end));
        Ok(Self { ending, reader })
    }

    /// All that the topic has ever had, up to now; in order within a partition.
    ///
    /// # Errors
    /// When some of it was missed.
    pub fn end(self) -> anyhow::Result<Vec<OwnedRecord>> {
        self.ending.store(true, Ordering::Release);
        self.reader.join().map_err(|_| anyhow!("the thread that reads a topic has panicked"))?
    }
}

fn read(consumer: &BaseConsumer, partitions: usize, ending: &AtomicBool) -> anyhow::Result<Vec<OwnedRecord>> {
    let mut records = Vec::new();
    let mut next = vec![0; partitions];
    loop {
        let is_last = ending.load(Ordering::Acquire);
        match consumer.poll(LOOK) {
            Some(Ok(message)) => {
                let place = next.get_mut(usize::try_from(message.partition())?).context("a partition was added")?;
                ensure!(message.offset() == *place, "offsets {place} to {} were missed", message.offset());
                *place += 1;
                records.push(owned(&message));
            }
            Some(Err(KafkaError::PartitionEOF(_))) => {}
            Some(Err(error)) => return Err(error).context("can't read on"),
            None if is_last => break,
            None => {}
        }
    }
    // Silence may be a broker's that is slow.
    let topic = consumer.assignment()?.elements().first().context("a partition")?.topic().to_owned();
    for (partition, next) in (0..).zip(next) {
        let (_, end) = consumer.fetch_watermarks(&topic, partition, DEADLINE)?;
        ensure!(next == end, "{topic}/{partition} was read up to {next}, and ends at {end}");
    }
    Ok(records)
}
