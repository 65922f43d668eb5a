//! A topic that is read while it grows, by a thread of its own: what it has may be removed again before a test is over.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context as _, anyhow, ensure};
use pointsman_core::record::OwnedRecord;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::{Message as _, Offset, TopicPartitionList};

use super::Kafka;
use super::topics::{assign_all, owned};
use crate::wait;

/// How long the end may take.
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
    /// Begins to read. Nothing may have been removed from the topic yet. Records of aborted transactions are left out.
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

/// What is removed before it was read is an error of the client, which is told not to look for another place.
fn read(consumer: &BaseConsumer, partitions: usize, ending: &AtomicBool) -> anyhow::Result<Vec<OwnedRecord>> {
    let topic = consumer.assignment()?.elements().first().context("a partition")?.topic().to_owned();
    let mut records = Vec::new();
    let mut next = vec![0; partitions];
    loop {
        let is_last = ending.load(Ordering::Acquire);
        match take(consumer, &mut records, &mut next)? {
            Taken::Nothing if is_last => break,
            Taken::Nothing | Taken::Record | Taken::End(_) => {}
        }
    }
    // Silence may be a broker's that is slow: so each partition is read once more, up to what is its end by now.
    let mut list = TopicPartitionList::new();
    for (partition, next) in (0..).zip(&next) {
        list.add_partition_offset(&topic, partition, Offset::Offset(*next))?;
    }
    consumer.assign(&list)?;
    let mut open: BTreeSet<i32> = (0..i32::try_from(partitions)?).collect();
    wait::until_ok("a topic to be read to its end", DEADLINE, || {
        if let Taken::End(partition) = take(consumer, &mut records, &mut next)? {
            open.remove(&partition);
        }
        Ok(open.is_empty().then_some(()))
    })?;
    Ok(records)
}

/// What a look has brought.
enum Taken {
    Nothing,
    Record,
    /// The end of a partition.
    End(i32),
}

fn take(consumer: &BaseConsumer, records: &mut Vec<OwnedRecord>, next: &mut [i64]) -> anyhow::Result<Taken> {
    match consumer.poll(LOOK) {
        Some(Ok(message)) => {
            let place = next.get_mut(usize::try_from(message.partition())?).context("a partition was added")?;
            ensure!(message.offset() >= *place, "offset {} came after {place}", message.offset());
            *place = message.offset() + 1;
            records.push(owned(&message));
            Ok(Taken::Record)
        }
        Some(Err(KafkaError::PartitionEOF(partition))) => Ok(Taken::End(partition)),
        Some(Err(error)) => Err(error).context("can't read on"),
        None => Ok(Taken::Nothing),
    }
}
