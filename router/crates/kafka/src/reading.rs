//! That a partition is being read outside any group.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use pointsman_core::record::TopicPartition;

use crate::native::{Client, Code, Topic};

/// One client, and the partitions it is reading.
pub(crate) struct Reader {
    client: Arc<Client>,
    busy: Mutex<HashSet<TopicPartition>>,
}

impl Reader {
    pub(crate) fn new(client: Arc<Client>) -> Self {
        Self { client, busy: Mutex::default() }
    }

    /// Whether nobody read the partition by this client until now.
    pub(crate) fn claim(&self, partition: &TopicPartition) -> bool {
        self.busy.lock().unwrap_or_else(PoisonError::into_inner).insert(partition.clone())
    }

    fn release(&self, partition: &TopicPartition) {
        self.busy.lock().unwrap_or_else(PoisonError::into_inner).remove(partition);
    }
}

/// A partition that was claimed, whether or not it is fetched now. It is given back when this is dropped.
pub(crate) struct Reading {
    reader: Arc<Reader>,
    partition: TopicPartition,
    topic: Topic,
    is_fetched: bool,
}

impl Reading {
    /// Of a partition that was claimed from this reader. `None` where its topic has no name that can be.
    pub(crate) fn new(reader: Arc<Reader>, partition: TopicPartition) -> Option<Self> {
        let Some(topic) = Topic::new(&reader.client, &partition.topic) else {
            reader.release(&partition);
            return None;
        };
        Some(Self { reader, partition, topic, is_fetched: false })
    }

    pub(crate) fn partition(&self) -> &TopicPartition {
        &self.partition
    }

    pub(crate) fn client(&self) -> &Arc<Client> {
        &self.reader.client
    }

    /// Has the partition fetched from an offset on.
    pub(crate) fn start(&mut self, offset: i64) -> Result<(), Code> {
        self.topic.start(self.partition.partition, offset)?;
        self.is_fetched = true;
        Ok(())
    }

    /// Has it fetched no more.
    pub(crate) fn stop(&mut self) {
        if std::mem::take(&mut self.is_fetched)
            && let Err(code) = self.topic.stop(self.partition.partition)
        {
            tracing::warn!(partition = %self.partition, %code, "can't end the reading of a partition");
        }
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        self.stop();
        self.reader.release(&self.partition);
    }
}
