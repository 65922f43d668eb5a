//! Reading partitions outside any group.
//!
//! All readers of a log share one librdkafka client, with its threads and connections, as long as they read different
//! partitions; librdkafka has one place for each partition of a client, so that a second reader of the same partition gets
//! the next client.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use pointsman_core::port::LogError;
use pointsman_core::record::TopicPartition;

use crate::admin;
use crate::error::{client_error, log_error};
use crate::feed::KafkaFeed;
use crate::native::{Client, Kind, Queue};
use crate::reading::{Reader, Reading};
use crate::settings::KafkaSettings;
use crate::tail::{Tail, Watch};

/// The clients of a log that read outside any group.
pub(crate) struct Readers {
    settings: KafkaSettings,
    clients: Mutex<Vec<Arc<Reader>>>,
    /// Asks for the ends of partitions whatever transactions are open there. Made when it is first needed.
    uncommitted: Mutex<Option<Arc<Client>>>,
    /// Of retry partitions.
    tails: Arc<Watch>,
}

impl Readers {
    pub(crate) fn new(settings: &KafkaSettings, first: &Arc<Client>) -> Self {
        Self {
            settings: settings.clone(),
            clients: Mutex::new(vec![Arc::new(Reader::new(Arc::clone(first)))]),
            uncommitted: Mutex::default(),
            tails: Arc::new(Watch::new(first)),
        }
    }

    /// One past the last record of each partition, be its transaction over or not.
    pub(crate) fn uncommitted_ends(
        &self,
        partitions: &[TopicPartition],
        timeout: Duration,
    ) -> Result<Vec<i64>, LogError> {
        if partitions.is_empty() {
            return Ok(Vec::new());
        }
        let what = "can't ask for the ends of retry partitions";
        let client = {
            let mut client = self.uncommitted.lock().unwrap_or_else(PoisonError::into_inner);
            match &*client {
                Some(client) => Arc::clone(client),
                None => {
                    let made = Client::new(Kind::Reader, &self.settings.uncommitted())
                        .map_err(|message| log_error(what, "client", message))?;
                    Arc::clone(client.insert(Arc::new(made)))
                }
            }
        };
        admin::ends(&client, partitions, timeout).or_else(|_| {
            // Of partitions that are new, or have another leader, the client may not know yet: it learns that by asking.
            let names: Vec<_> = partitions.iter().map(|partition| Arc::clone(&partition.topic)).collect();
            admin::topics(&client, Some(&names), timeout)?;
            admin::ends(&client, partitions, timeout).map_err(|code| client_error(what, code, &client))
        })
    }

    /// Reads a partition from an offset on, which must not be negative.
    pub(crate) fn read(&self, partition: &TopicPartition, start: i64) -> Result<KafkaFeed, LogError> {
        let (mut reading, queue) = self.reading(partition, start)?;
        reading.start(start).map_err(|code| client_error(unread(partition), code, reading.client()))?;
        Ok(KafkaFeed::aside(start, queue, reading))
    }

    /// Reads a retry partition from an offset on. What is told of its end before `end` is not its end: the transactions behind it are
    /// not over.
    pub(crate) fn read_tail(&self, partition: &TopicPartition, start: i64, end: Option<i64>) -> Result<Tail, LogError> {
        // Where the end lies before the start, the topic is another one than it was: to read it tells.
        if end != Some(start) {
            return Ok(Tail::new(self.read(partition, start)?.not_at_its_end_before(end), &self.tails));
        }
        let (reading, queue) = self.reading(partition, start)?;
        Ok(Tail::new(KafkaFeed::aside(start, queue, reading).at_its_end(), &self.tails))
    }

    fn reading(&self, partition: &TopicPartition, start: i64) -> Result<(Reading, Queue), LogError> {
        if start < 0 || partition.partition < 0 {
            let message = format!("there is no offset {start}");
            return Err(log_error(unread(partition), "invalid-offset", message));
        }
        let reader = self.reader_without(partition)?;
        let named = Reading::new(reader, partition.clone()).and_then(|reading| {
            let queue = Queue::of_partition(reading.client(), &partition.topic, partition.partition)?;
            Some((reading, queue))
        });
        named.ok_or_else(|| log_error(unread(partition), "invalid-name", "it is no name for a topic"))
    }

    /// A client that does not read the partition yet; from now on it counts as reading it.
    fn reader_without(&self, partition: &TopicPartition) -> Result<Arc<Reader>, LogError> {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(free) = clients.iter().find(|reader| reader.claim(partition)) {
            return Ok(Arc::clone(free));
        }
        let client = Client::new(Kind::Reader, &self.settings.reader())
            .map_err(|message| log_error(unread(partition), "client", message))?;
        let reader = Arc::new(Reader::new(Arc::new(client)));
        reader.claim(partition);
        clients.push(Arc::clone(&reader));
        Ok(reader)
    }
}

fn unread(partition: &TopicPartition) -> String {
    format!("can't read {partition}")
}
