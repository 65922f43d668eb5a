//! Records on their way out, one by one.

use std::time::Instant;

use thiserror::Error;

use super::{Batch, LogError, MemberProgress};
use crate::delivery::{Delivery, Forward, TopicId};
use crate::record::{Headers, OwnedHeader, Record};

/// Names a delivery in its report: the worker's own number, given back as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Token(pub u64);

/// Takes records for output topics. Owned by one worker.
pub trait Sink: Send {
    /// About how many bytes of keys, values and headers it queues before it is full.
    fn capacity_bytes(&self) -> usize;

    /// Says that few records go to these topics, next to those that go to the others: a sink may keep records of them for a moment, and send
    /// them together. Before the first record. Whoever says so calls [`send_due`](Self::send_due), or they may be kept for long.
    ///
    /// # Errors
    /// [`LogError`]: the sink is as it was.
    fn expect_few(&mut self, topics: &[TopicId]) -> Result<(), LogError> {
        let _ = topics;
        Ok(())
    }

    /// Queues one record; never blocks. What it needs of `delivery` it copies. Each record that is taken is reported
    /// exactly once by [`serve`](Self::serve), unless the sink fails as a whole. The answer is
    /// [about how many bytes](Delivery::rough_bytes) of its queue the record takes.
    ///
    /// # Errors
    /// [`ProduceError`]; nothing was queued.
    fn produce(&mut self, delivery: &Delivery<'_>, token: Token) -> Result<usize, ProduceError>;

    /// [`produce`](Self::produce), of the record at `index` of `batch`. A sink of the same log as the batch may take the
    /// record's headers along rather than copy them, and where [all of it](Forward::whole) may be taken, the rest too; until that is
    /// [restored](Batch::restore), the record is undecodable.
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
    /// along. What it keeps as it [expects few](Self::expect_few) has its own time. May block for a millisecond.
    fn hurry(&mut self) {}

    /// Sends what it has kept for long enough, since few records go to its topic. The answer is when it is to be called again, if there is
    /// more of that: sooner does no harm. Never blocks.
    fn send_due(&mut self, now: Instant) -> Option<Instant> {
        let _ = now;
        None
    }

    /// Moves the work on, and appends the reports that have come in. Never blocks for longer than one write to disk.
    ///
    /// # Errors
    /// [`SinkFailed`]: the sink is of no more use and its outstanding reports will not come.
    fn serve(&mut self, reports: &mut Vec<Report>) -> Result<(), SinkFailed>;
}

/// A [`Sink`] whose records belong to a transaction: they become visible with the progress that is committed with them, all
/// of it at once, or none ever does. A transaction begins with the first record after the last one has ended.
///
/// A [report](Report) of success says that the record is in the transaction, and no more. After one of failure nothing can
/// be done with the transaction but to abort it.
pub trait TransactionalSink: Sink {
    /// Whether the transaction is to be ended before more is produced. What belongs to a record that is in it already is
    /// taken all the same.
    fn is_full(&self) -> bool;

    /// Ends the transaction together with what members of groups have read. To be called when all that was produced has been
    /// reported; nothing is produced until [`ended`](Self::ended) has told what became of it. Also for progress alone.
    fn commit(&mut self, progress: Vec<MemberProgress>);

    /// Ends the transaction without a trace, whatever of it is reported. Reports that are still out never come.
    fn abort(&mut self);

    /// How the transaction has ended that [`commit`](Self::commit) or [`abort`](Self::abort) is for; `None` until that is
    /// known, which `waker` of the sink is called for. Told once. Never blocks for longer than one write to disk.
    fn ended(&mut self) -> Option<Ended>;
}

/// How a transaction has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// All of it is there.
    Committed,
    /// It was aborted, as it was to be.
    Aborted,
    /// It was to be committed, and none of it may be there, for this reason. What groups have committed says whether it is: from
    /// there its work is to be done again.
    Undone {
        /// The client library's or database's error code.
        code: String,
        /// What it says.
        message: String,
    },
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
    pub result: Result<Option<i64>, Box<Undelivered>>,
}

/// A delivery that did not become durable.
#[derive(Debug, Error)]
#[error("{error}")]
pub struct Undelivered {
    /// Why.
    pub error: DeliveryError,
    /// The record as it was produced, where the sink [took all of it](Forward::whole): with its stamps.
    pub record: Option<Returned>,
}

impl From<DeliveryError> for Undelivered {
    fn from(error: DeliveryError) -> Self {
        Self { error, record: None }
    }
}

/// What a record consisted of, beside its offset and timestamp.
#[derive(Debug)]
pub struct Returned {
    /// Key.
    pub key: Option<Box<[u8]>>,
    /// Value.
    pub value: Option<Box<[u8]>>,
    /// Headers in order.
    pub headers: Box<[OwnedHeader]>,
}

impl Returned {
    /// The record at this offset, with this timestamp.
    #[must_use]
    pub fn as_record(&self, offset: i64, timestamp_ms: i64) -> Record<'_> {
        let (key, value) = (self.key.as_deref(), self.value.as_deref());
        Record { offset, timestamp_ms, key, value, headers: Headers::Owned(&self.headers) }
    }
}

impl From<Record<'_>> for Returned {
    fn from(Record { key, value, headers, .. }: Record<'_>) -> Self {
        Self { key: key.map(Into::into), value: value.map(Into::into), headers: headers.to_owned().into() }
    }
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
