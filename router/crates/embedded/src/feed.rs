//! Reading on in one partition.

use std::sync::Arc;

use pointsman_core::port::{Batch, Feed, FeedError, Waker};
use pointsman_core::record::TopicPartition;

use crate::fault::{Fault, FaultKind};
use crate::log::Shared;
use crate::page::{self, Found};
use crate::position::PartitionId;
use crate::watch::Watch;

/// Reads a partition page by page. It holds no records and no connection between two fetches.
pub(crate) struct PageFeed {
    shared: Arc<Shared>,
    partition: TopicPartition,
    id: PartitionId,
    next: i64,
    reached_end: bool,
    watch: Option<Arc<Watch>>,
}

impl PageFeed {
    pub(crate) fn new(shared: Arc<Shared>, partition: TopicPartition, id: PartitionId, start: i64) -> Self {
        Self { shared, partition, id, next: start, reached_end: false, watch: None }
    }
}

impl Feed for PageFeed {
    fn fetch(&mut self, max_records: usize, max_bytes: usize) -> Result<Option<Box<dyn Batch>>, FeedError> {
        // Not even the end that was seen can be relied on.
        self.shared.database.intact().map_err(|fault| self.error(fault))?;
        if max_records == 0 {
            return Ok(None);
        }
        // An idle lane costs no query. The watch may have seen the end before this feed was ever asked.
        if self.watch.as_ref().is_some_and(|watch| watch.ends_at(self.next)) {
            self.reached_end = true;
            return Ok(None);
        }
        let (id, next) = (self.id, self.next);
        let found = self.shared.database.read(|snapshot| page::read(snapshot, id, next, max_records, max_bytes));
        match found {
            Ok(Found::Page(page)) => {
                self.next = page.record(page.len() - 1).offset + 1;
                Ok(Some(Box::new(page)))
            }
            Ok(Found::End) => {
                self.reached_end = true;
                if let Some(watch) = &self.watch {
                    watch.saw_end(next);
                }
                Ok(None)
            }
            Ok(Found::OutOfRange(available)) => {
                Err(FeedError::OutOfRange { partition: self.partition.clone(), wanted: next, available })
            }
            Err(fault) => Err(self.error(fault)),
        }
    }

    fn wake_with(&mut self, waker: Waker) {
        self.forget();
        self.watch = Some(self.shared.watches.add(self.id, waker));
    }

    fn reached_end(&self) -> bool {
        self.reached_end
    }
}

impl PageFeed {
    fn error(&self, Fault { kind, code, message }: Fault) -> FeedError {
        let (partition, code) = (self.partition.clone(), code.into());
        match kind {
            FaultKind::Damaged => FeedError::Damaged { partition, offset: self.next, code, message },
            FaultKind::Passing => FeedError::Unavailable { partition, code, message },
        }
    }

    fn forget(&mut self) {
        if let Some(watch) = self.watch.take() {
            self.shared.watches.remove(&watch);
        }
    }
}

impl Drop for PageFeed {
    fn drop(&mut self) {
        self.forget();
    }
}
