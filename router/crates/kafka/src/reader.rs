//! Reading partitions outside any group.
//!
//! All readers of a log share one librdkafka client, with its threads and connections, as long as they read different
//! partitions; librdkafka has one place for each partition of a client, so that a second reader of the same partition gets
//! the next client.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use pointsman_core::port::LogError;
use pointsman_core::record::TopicPartition;

use crate::admin;
use crate::error::{client_error, log_error};
use crate::feed::{End, KafkaFeed, Tap};
use crate::native::{Client, Kind, Queue, Topic};
use crate::settings::KafkaSettings;

/// The clients of a log that read outside any group.
pub(crate) struct Readers {
    settings: KafkaSettings,
    clients: Mutex<Vec<Arc<Reader>>>,
    /// Asks for the ends of partitions whatever transactions are open there. Made when it is first needed.
    uncommitted: Mutex<Option<Arc<Client>>>,
}

/// One client, and the partitions it is reading.
struct Reader {
    client: Arc<Client>,
    busy: Mutex<HashSet<TopicPartition>>,
}

impl Readers {
    pub(crate) fn new(settings: &KafkaSettings, first: &Arc<Client>) -> Self {
        let first = Reader { client: Arc::clone(first), busy: Mutex::default() };
        Self { settings: settings.clone(), clients: Mutex::new(vec![Arc::new(first)]), uncommitted: Mutex::default() }
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
        let what = || format!("can't read {partition}");
        if start < 0 || partition.partition < 0 {
            return Err(log_error(what(), "invalid-offset", format!("there is no offset {start}")));
        }
        let reader = self.reader_without(partition)?;
        let end = Reading { reader: Arc::clone(&reader), partition: partition.clone(), topic: None };
        let client = &reader.client;
        let unnamed = || log_error(what(), "invalid-name", "it is no name for a topic");
        let topic = Topic::new(client, &partition.topic).ok_or_else(unnamed)?;
        let queue = Queue::of_partition(client, &partition.topic, partition.partition).ok_or_else(unnamed)?;
        topic.start(partition.partition, start).map_err(|code| client_error(what(), code, client))?;
        let end = end.begun(topic);
        Ok(KafkaFeed::new(partition.clone(), start, Tap::open(queue), Arc::clone(client), Some(Box::new(end))))
    }

    /// A client that does not read the partition yet; from now on it counts as reading it.
    fn reader_without(&self, partition: &TopicPartition) -> Result<Arc<Reader>, LogError> {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(free) = clients.iter().find(|reader| reader.claim(partition)) {
            return Ok(Arc::clone(free));
        }
        let client = Client::new(Kind::Reader, &self.settings.reader())
            .map_err(|message| log_error(format!("can't read {partition}"), "client", message))?;
        let reader = Arc::new(Reader { client: Arc::new(client), busy: Mutex::default() });
        reader.claim(partition);
        clients.push(Arc::clone(&reader));
        Ok(reader)
    }
}

impl Reader {
    fn claim(&self, partition: &TopicPartition) -> bool {
        self.busy.lock().unwrap_or_else(PoisonError::into_inner).insert(partition.clone())
    }
}

/// That a partition is being read; the reading ends when this is dropped.
struct Reading {
    reader: Arc<Reader>,
    partition: TopicPartition,
    /// The handle, once the reading has begun.
    topic: Option<Topic>,
}

impl Reading {
    fn begun(mut self, topic: Topic) -> Self {
        self.topic = Some(topic);
        self
    }
}

impl End for Reading {}

impl Drop for Reading {
    fn drop(&mut self) {
        if let Some(Err(code)) = self.topic.as_ref().map(|topic| topic.stop(self.partition.partition)) {
            tracing::warn!(partition = %self.partition, %code, "can't end the reading of a partition");
        }
        self.reader.busy.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.partition);
    }
}
