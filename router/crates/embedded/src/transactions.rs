//! Transactions of whoever has a thread of its own: each is one of SQLite's.
//!
//! What is added to one is collected in memory, and written when it is committed: meanwhile nobody waits for it.

use std::sync::Arc;

use pointsman_core::delivery::Delivery;
use pointsman_core::port::{
    Commit, DeliveryError, Group, ProduceError, Token, Transaction, TransactionError, Transactions, WriterPlan,
};
use rusqlite::Connection;

use crate::append::{self, Appended};
use crate::catalog;
use crate::fault::{Fault, FaultKind};
use crate::lease;
use crate::log::Shared;
use crate::offsets;
use crate::owner::Owner;
use crate::position::PartitionId;
use crate::queue::Queue;
use crate::writers::{self, Epoch};

/// A writer of transactions.
pub(crate) struct Writer {
    shared: Arc<Shared>,
    plan: WriterPlan,
    epoch: Epoch,
    /// Why nothing more can be done with this writer.
    over: Option<TransactionError>,
}

impl Writer {
    /// Fences the writer before this one. It has left nothing to be ended.
    pub(crate) fn open(shared: Arc<Shared>, plan: WriterPlan) -> Result<Self, TransactionError> {
        let database = &shared.database;
        for topic in &plan.topics {
            let found = database.read(|snapshot| catalog::partitions(snapshot, topic));
            if found.map_err(|fault| cut(&plan.id, fault))?.is_empty() {
                return Err(TransactionError::Fatal {
                    code: "unknown-topic".into(),
                    message: format!("can't open the writer {}: there is no topic {topic}; create it first", plan.id),
                });
            }
        }
        let epoch = database.write(|transaction| writers::take_over(transaction, &plan.id));
        let epoch = epoch.map_err(|fault| cut(&plan.id, fault))?;
        Ok(Self { shared, plan, epoch, over: None })
    }
}

impl Transactions for Writer {
    fn capacity_bytes(&self) -> usize {
        self.shared.database.options().sink_queue_bytes
    }

    fn begin(&mut self) -> Result<Box<dyn Transaction + '_>, TransactionError> {
        match &self.over {
            Some(over) => Err(over.clone()),
            None => Ok(Box::new(Open { writer: self, queue: Queue::default(), offsets: Vec::new(), ended: None })),
        }
    }
}

/// A transaction that is open. Dropped, it is forgotten.
struct Open<'w> {
    writer: &'w mut Writer,
    queue: Queue,
    /// Group and commit, in the order in which they came.
    offsets: Vec<(String, Commit)>,
    /// The error with which it has ended.
    ended: Option<TransactionError>,
}

/// What keeps a transaction from being committed. Nothing of it was written.
enum Hindrance {
    /// The writer's id has been taken over.
    Fenced,
    /// One record, by its place in the queue.
    Record(usize, DeliveryError),
    Other(TransactionError),
}

impl Open<'_> {
    fn open(&self) -> Result<(), TransactionError> {
        self.ended.clone().map_or(Ok(()), Err)
    }

    fn fail(&mut self, error: TransactionError) -> TransactionError {
        if !error.is_recoverable() {
            self.writer.over = Some(error.clone());
        }
        self.ended = Some(error.clone());
        error
    }

    /// Writes all of it, in SQLite's transaction.
    fn write(&self, transaction: &Connection) -> Result<Result<Vec<(PartitionId, i64)>, Hindrance>, Fault> {
        let Writer { shared, plan, epoch, .. } = &*self.writer;
        if !writers::holds(transaction, &plan.id, *epoch)? {
            return Ok(Err(Hindrance::Fenced));
        }
        let now_ms = shared.database.now_ms();
        if let Err(error) = self.write_offsets(transaction, now_ms)? {
            return Ok(Err(Hindrance::Other(error)));
        }
        let Appended { ends, results } = append::append(transaction, &self.queue, &plan.topics, now_ms)?;
        let refused = results.into_iter().enumerate().find_map(|(index, result)| Some((index, result.err()?)));
        Ok(refused.map_or(Ok(ends), |(index, error)| Err(Hindrance::Record(index, error))))
    }

    fn write_offsets(&self, transaction: &Connection, now_ms: i64) -> Result<Result<(), TransactionError>, Fault> {
        let me = Owner::current();
        for (group, commit) in &self.offsets {
            let id = match lease::memberless(transaction, group, &me, now_ms)? {
                Ok(id) => id,
                Err(held) => {
                    let message = format!("can't commit for the group {group}: {held}");
                    return Ok(Err(TransactionError::Fatal { code: "lease-held".into(), message }));
                }
            };
            let Some(found) = catalog::partition(transaction, &commit.partition)? else {
                let message = format!("can't commit for {}: the log has no such partition", commit.partition);
                return Ok(Err(TransactionError::Aborted { code: "unknown-partition".into(), message }));
            };
            offsets::store(transaction, id, found.id, commit.offset, &commit.metadata)?;
        }
        Ok(Ok(()))
    }

    fn error(&self, hindrance: Hindrance) -> TransactionError {
        match hindrance {
            Hindrance::Fenced => TransactionError::Fenced {
                code: "fenced".into(),
                message: format!("a writer with the id {} was opened after this one", self.writer.plan.id),
            },
            Hindrance::Record(index, error) => {
                refusal(self.queue.records.get(index).map_or(Token(0), |queued| queued.token), error)
            }
            Hindrance::Other(error) => error,
        }
    }
}

impl Transaction for Open<'_> {
    fn produce(&mut self, delivery: &Delivery<'_>, token: Token) -> Result<(), TransactionError> {
        self.open()?;
        let options = self.writer.shared.database.options();
        let taken = self.queue.take(delivery, token, &self.writer.plan.topics, options);
        let capacity = options.sink_queue_bytes;
        taken.map_err(|error| {
            self.fail(match error {
                ProduceError::Delivery(error) => refusal(token, error),
                ProduceError::Full => TransactionError::Fatal {
                    code: "transaction-too-large".into(),
                    message: format!("a transaction takes {capacity} bytes of records; commit smaller ones"),
                },
            })
        })
    }

    fn add_offsets(&mut self, group: Group<'_>, commits: &[Commit]) -> Result<(), TransactionError> {
        self.open()?;
        let Group::Memberless(group) = group;
        for commit in commits {
            if let Some(objection) = offsets::objection(commit) {
                let message = format!("can't commit {}: {objection}", commit.partition);
                return Err(self.fail(TransactionError::Fatal { code: "invalid-commit".into(), message }));
            }
            self.offsets.push((group.to_owned(), commit.clone()));
        }
        Ok(())
    }

    fn commit(mut self: Box<Self>) -> Result<(), TransactionError> {
        self.open()?;
        if self.queue.records.is_empty() && self.offsets.is_empty() {
            return Ok(());
        }
        let mut hindrance = None;
        let written = self.writer.shared.database.write(|transaction| match self.write(transaction)? {
            Ok(ends) => Ok(ends),
            Err(found) => {
                hindrance = Some(found);
                Err(Fault::rolled_back())
            }
        });
        match (written, hindrance) {
            (Ok(ends), _) => {
                self.writer.shared.watches.advance(&ends);
                Ok(())
            }
            (Err(_), Some(hindrance)) => {
                let error = self.error(hindrance);
                Err(self.fail(error))
            }
            (Err(fault), None) => {
                let error = cut(&self.writer.plan.id, fault);
                Err(self.fail(error))
            }
        }
    }

    fn abort(self: Box<Self>) -> Result<(), TransactionError> {
        self.open()
    }
}

fn refusal(token: Token, error: DeliveryError) -> TransactionError {
    match error {
        DeliveryError::Refused { code, message } => TransactionError::Refused { token, code, message },
        DeliveryError::Unavailable { code, message } => TransactionError::Aborted { code, message },
    }
}

/// What follows from a fault.
fn cut(id: &str, Fault { kind, code, message }: Fault) -> TransactionError {
    let code = code.to_owned();
    let message = format!("can't write for {id}: {message}");
    match kind {
        FaultKind::Damaged => TransactionError::Fatal { code, message },
        // A disk that fails while the end of a transaction is synced may have it all the same, and SQLite finds it there
        // when the last process that has the log open has ended.
        FaultKind::Passing if code == "io" => TransactionError::Indeterminate { code, message },
        FaultKind::Passing => TransactionError::Aborted { code, message },
    }
}
