//! Records on their way out, one by one.

use thiserror::Error;

use super::Batch;
use crate::delivery::{Delivery, Forward};

/// Names a delivery in its report: the worker's own number, given back as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Token(pub u64);

/// Takes records for output topics. Owned by one worker.
pub trait Sink: Send {
    /// About how many bytes of keys, values and headers it queues before it is full.
    fn capacity_bytes(&self) -> usize;

    /// Queues one record; never blocks. What it needs of `delivery` it copies. Each record that is taken is reported
    /// exactly once by [`serve`](Self::serve), unless the sink fails as a whole. The answer is
    /// [about how many bytes](Delivery::rough_bytes) of its queue the record takes.
    ///
    /// # Errors
    /// [`ProduceError`]; nothing was queued.
    fn produce(&mut self, delivery: &Delivery<'_>, token: Token) -> Result<usize, ProduceError>;

    /// [`produce`](Self::produce), of the record at `index` of `batch`. A sink of the same log as the batch may take the
    /// record's headers along rather than copy them; until they are [restored](Batch::restore), the record is undecodable.
    ///
    /// # Errors
    /// As `produce`; the record is whole.
    fn forward(
        &mut self,
        batch: &mut dyn Batch,
        index: usize,
        forward: &Forward<'_>,
        token: Token,
    ) -> Result<usize, ProduceError> {
        self.produce(&forward.of(batch.record(index)), token)
    }

    /// Has what was produced sent off, since no more is coming for the moment. Without it a sink may wait for more to send
    /// along. May block for a millisecond.
    fn hurry(&mut self) {}

    /// Moves the work on, and appends the reports that have come in. Never blocks for longer than one write to disk.
    ///
    /// # Errors
    /// [`SinkFailed`]: the sink is of no more use and its outstanding reports will not come.
    fn serve(&mut self, reports: &mut Vec<Report>) -> Result<(), SinkFailed>;
}

/// Why a record was not queued.
#[derive(Debug, Error)]
pub enum ProduceError {
    /// The sink's byte-bounded queue is full: backpressure, not failure.
    #[error("the producer queue is full")]
    Full,
    /// The delivery itself can't be taken.
    #[error(transparent)]
    Delivery(#[from] DeliveryError),
}

/// What became of one delivery.
#[derive(Debug)]
pub struct Report {
    /// The delivery.
    pub token: Token,
    /// Durable, and at which offset, where the log tells that; or not. Boxed, since most are, and every report has the
    /// place for it.
    pub result: Result<Option<i64>, Box<DeliveryError>>,
}

/// Why a delivery did not become durable.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum DeliveryError {
    /// Because of the record itself (too large, invalid topic name, no such partition): the same delivery would be
    /// refused again.
    #[error("refused: {message} ({code})")]
    Refused {
        /// The client library's or database's error code.
        code: String,
        /// What it says.
        message: String,
    },
    /// Because of anything else: the same delivery may succeed later.
    #[error("not delivered: {message} ({code})")]
    Unavailable {
        /// The client library's or database's error code.
        code: String,
        /// What it says.
        message: String,
    },
}

/// A sink, or a whole backend, that can't go on.
#[derive(Clone, Debug, Error)]
#[error("{message} ({code})")]
pub struct SinkFailed {
    /// The client library's or database's error code.
    pub code: String,
    /// What happened and what to do about it.
    pub message: String,
}
