//! Transactions: records, and what groups have read of others, that become visible together or not at all.
//!
//! For whoever has a thread of its own: calls block. What follows from an error is what the errors are cut by
//! ([`TransactionError`]); a writer goes on after the first two of them, and after no other.

use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;

use super::{Commit, Token};
use crate::delivery::Delivery;

/// A writer of transactions, as [`Log::transactional`](super::Log::transactional) is asked for it.
#[derive(Clone, Debug)]
pub struct WriterPlan {
    /// A name that stays the same over restarts (Kafka's `transactional.id`). Of all writers with it, only the one that was
    /// opened last can commit; to open one ends what another has left open.
    pub id: Arc<str>,
    /// The topics; [`TopicId`](crate::delivery::TopicId) is the index. All of them exist.
    pub topics: Vec<Arc<str>>,
    /// How long a transaction may be open, from 1 s to 15 min. Kafka aborts it afterwards: until then, what others write to
    /// the same partitions is not seen if the process of this writer has died. The embedded log holds nothing open.
    pub timeout: Duration,
    /// How long opening the writer and each call may take, at least 1 s; one that fails takes as long again to abort. (The
    /// embedded log waits for other writers as long as it was opened with.)
    pub deadline: Duration,
}

impl WriterPlan {
    /// A writer whose transactions may be open for 30 s, and whose calls may take 15 s.
    #[must_use]
    pub fn new(id: impl Into<Arc<str>>, topics: Vec<Arc<str>>) -> Self {
        Self { id: id.into(), topics, timeout: Duration::from_secs(30), deadline: Duration::from_secs(15) }
    }
}

/// Writes transactions, one after the other. Owned by one thread.
///
/// It has no memory of what another writer with the same id has done. So whoever opens one looks at what its group has
/// committed before writing anything, and goes on from there.
pub trait Transactions: Send {
    /// How many bytes of keys, values and headers one transaction takes, about. One record it always takes.
    fn capacity_bytes(&self) -> usize;

    /// Begins a transaction. Dropped before it is committed, it is aborted, which takes as long as a call may.
    ///
    /// # Errors
    /// Of [`TransactionError`], those after which this writer is of no more use. Also where the log has done something
    /// doubtful in a transaction that was committed: then this is the time to open the next writer.
    fn begin(&mut self) -> Result<Box<dyn Transaction + '_>, TransactionError>;
}

/// A transaction that is open. After an error it is over, and everything that is asked of it answers with the same error.
pub trait Transaction {
    /// Adds a record. `token` tells it in an error; what is needed of `delivery` is copied. Blocks while the log is behind.
    ///
    /// # Errors
    /// [`TransactionError`], which may be about an earlier record.
    fn produce(&mut self, delivery: &Delivery<'_>, token: Token) -> Result<(), TransactionError>;

    /// Adds what a group has read. Several calls may name several groups and partitions; the last one counts.
    ///
    /// # Errors
    /// [`TransactionError`].
    fn add_offsets(&mut self, group: Group<'_>, commits: &[Commit]) -> Result<(), TransactionError>;

    /// Makes all of it visible and durable. On Kafka readers may see the records some moments later;
    /// [`Log::committed`](super::Log::committed) waits for that.
    ///
    /// # Errors
    /// [`TransactionError`].
    fn commit(self: Box<Self>) -> Result<(), TransactionError>;

    /// Ends it without a trace.
    ///
    /// # Errors
    /// [`TransactionError`]: the writer is of no more use, and the transaction is not committed all the same.
    fn abort(self: Box<Self>) -> Result<(), TransactionError>;
}

/// As who offsets are committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group<'a> {
    /// A group that nobody has joined, such as a tool's own. The caller sees to that: the embedded log refuses the commit
    /// where a member holds the group, and Kafka takes it.
    Memberless(&'a str),
}

/// Why a transaction was not committed, or may not have been: by what is to be done about it.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum TransactionError {
    /// Nothing of it is there, and nothing of it will be. The same may succeed in the next transaction.
    #[error("the transaction was aborted: {message} ({code})")]
    Aborted {
        /// The client library's or database's error code.
        code: String,
        /// The cause and, where there is one, the remedy.
        message: String,
    },
    /// As [`Aborted`](Self::Aborted), because of one record itself: it would be refused again.
    #[error("a record was refused, and the transaction aborted: {message} ({code})")]
    Refused {
        /// The record.
        token: Token,
        /// The client library's or database's error code.
        code: String,
        /// What it says.
        message: String,
    },
    /// Whether it was committed is not known, nor whether another writer with this id has gone on since. Drop the writer and
    /// open another: that decides it. Then look at what the group has committed, and go on from there.
    #[error("it is not known what became of the transaction: {message} ({code})")]
    Indeterminate {
        /// The client library's or database's error code.
        code: String,
        /// The cause and, where there is one, the remedy.
        message: String,
    },
    /// Another writer was opened with this id, and goes on where this one was: stop. It has aborted this transaction, unless
    /// this was on the way to be committed already.
    #[error("another writer has taken over: {message} ({code})")]
    Fenced {
        /// The client library's or database's error code.
        code: String,
        /// Which id it is.
        message: String,
    },
    /// Trying again is of no use: something has to be put right first. The transaction is not committed.
    #[error("{message} ({code})")]
    Fatal {
        /// The client library's or database's error code.
        code: String,
        /// The cause and the remedy.
        message: String,
    },
}

impl TransactionError {
    /// Whether the same writer can go on.
    #[must_use]
    pub const fn is_recoverable(&self) -> bool {
        matches!(self, Self::Aborted { .. } | Self::Refused { .. })
    }

    /// Its code and message.
    #[must_use]
    pub fn into_parts(self) -> (String, String) {
        let (Self::Aborted { code, message }
        | Self::Refused { code, message, .. }
        | Self::Indeterminate { code, message }
        | Self::Fenced { code, message }
        | Self::Fatal { code, message }) = self;
        (code, message)
    }
}
