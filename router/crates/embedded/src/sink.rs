//! Records on their way in.

use std::sync::Arc;

use pointsman_core::delivery::Delivery;
use pointsman_core::port::{ProduceError, Report, Sink, SinkFailed, Token, Waker};

use crate::append;
use crate::fault::FaultKind;
use crate::log::Shared;
use crate::queue::Queue;

/// Collects records, and writes them in one transaction each time it is served.
pub(crate) struct GroupSink {
    shared: Arc<Shared>,
    topics: Vec<Arc<str>>,
    queue: Queue,
    waker: Waker,
}

impl GroupSink {
    pub(crate) fn new(shared: Arc<Shared>, topics: &[Arc<str>], waker: Waker) -> Self {
        Self { shared, topics: topics.to_vec(), queue: Queue::default(), waker }
    }
}

impl Sink for GroupSink {
    fn capacity_bytes(&self) -> usize {
        self.shared.database.options().sink_queue_bytes
    }

    fn produce(&mut self, delivery: &Delivery<'_>, token: Token) -> Result<usize, ProduceError> {
        let empty = self.queue.records.is_empty();
        self.queue.take(delivery, token, &self.topics, self.shared.database.options())?;
        if empty {
            (self.waker)();
        }
        Ok(delivery.rough_bytes())
    }

    fn serve(&mut self, reports: &mut Vec<Report>) -> Result<(), SinkFailed> {
        if self.queue.records.is_empty() {
            return Ok(());
        }
        let database = &self.shared.database;
        let now_ms = database.now_ms();
        let written = database.write(|transaction| append::append(transaction, &self.queue, &self.topics, now_ms));
        match written {
            Ok(append::Appended { ends, results }) => {
                let tokens = self.queue.records.iter().map(|queued| queued.token);
                reports.extend(tokens.zip(results).map(|(token, result)| Report {
                    token,
                    result: result.map(Some).map_err(|error| Box::new(error.into())),
                }));
                self.queue.clear();
                self.shared.watches.advance(&ends);
                Ok(())
            }
            Err(fault) if fault.kind == FaultKind::Damaged => Err(fault.to_sink_failed()),
            Err(fault) => {
                let tokens = self.queue.records.iter().map(|queued| queued.token);
                reports.extend(
                    tokens.map(|token| Report { token, result: Err(Box::new(fault.to_delivery_error().into())) }),
                );
                self.queue.clear();
                Ok(())
            }
        }
    }
}
