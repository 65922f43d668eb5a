//! A sink that writes what it has collected together with the progress of groups: in one of SQLite's transactions.

use std::sync::Arc;

use pointsman_core::delivery::{Delivery, PartitionChoice};
use pointsman_core::port::{
    Commit, DeliveryError, Ended, MemberProgress, ProduceError, Report, Sink, SinkFailed, Token, TransactionalSink,
    Waker, WriterPlan,
};
use rusqlite::Connection;

use crate::append::{self, Appended};
use crate::catalog;
use crate::fault::{Fault, FaultKind};
use crate::lease::Lease;
use crate::log::Shared;
use crate::offsets;
use crate::position::PartitionId;
use crate::queue::{Queue, refused, unknown_topic};

/// Collects records until their transaction is committed. What is wrong with one is said when it is produced: so the
/// reports of the others can be given before they are written.
pub(crate) struct TogetherSink {
    shared: Arc<Shared>,
    plan: WriterPlan,
    queue: Queue,
    /// How many of the queue were reported.
    reported: usize,
    /// For each topic, how many partitions it had when that was asked last. It never has fewer.
    partitions: Vec<usize>,
    ended: Option<Ended>,
    /// Why the sink is of no more use.
    failed: Option<SinkFailed>,
    waker: Waker,
}

/// What keeps a transaction from being committed. Nothing of it was written.
struct Hindrance {
    code: &'static str,
    message: String,
}

impl TogetherSink {
    /// Its id fences nobody: whose lease is lost commits nothing, and records go with progress only.
    pub(crate) fn new(shared: Arc<Shared>, plan: WriterPlan, waker: Waker) -> Self {
        Self {
            partitions: vec![0; plan.topics.len()],
            shared,
            plan,
            queue: Queue::default(),
            reported: 0,
            ended: None,
            failed: None,
            waker,
        }
    }

    /// Why a delivery would be refused when it is written, if it would.
    fn objection(&mut self, delivery: &Delivery<'_>) -> Result<(), DeliveryError> {
        let topic = delivery.topic.0 as usize;
        let (Some(known), Some(name)) = (self.partitions.get_mut(topic), self.plan.topics.get(topic)) else {
            return Ok(());
        };
        let least = match delivery.partition {
            PartitionChoice::Exactly(number) => usize::try_from(number).unwrap_or(usize::MAX).saturating_add(1),
            PartitionChoice::ByKey => 1,
        };
        if least <= *known {
            return Ok(());
        }
        let found = self.shared.database.read(|snapshot| catalog::partitions(snapshot, name));
        *known = found.map_err(|fault| fault.to_delivery_error())?.len();
        match *known {
            0 => Err(unknown_topic(name)),
            count if least > count => Err(refused(
                "unknown-partition",
                format!("topic {name} has {count} partitions and no number {}", least - 1),
            )),
            _ => Ok(()),
        }
    }

    /// Writes all of it, in SQLite's transaction.
    fn write(
        &self,
        transaction: &Connection,
        progress: &[MemberProgress],
    ) -> Result<Result<Vec<(PartitionId, i64)>, Hindrance>, Fault> {
        let database = &self.shared.database;
        for MemberProgress { standing, commits } in progress {
            let lease = standing.0.downcast_ref::<Lease>();
            let Some(lease) = lease.copied() else {
                let message = "the progress is of a member of another log".to_owned();
                return Ok(Err(Hindrance { code: "invalid-commit", message }));
            };
            if !lease.renew(database, transaction)? {
                let message = "another process has taken the group over".to_owned();
                return Ok(Err(Hindrance { code: "lease-lost", message }));
            }
            if let Err(hindrance) = store(transaction, lease, commits)? {
                return Ok(Err(hindrance));
            }
        }
        let Appended { ends, results } =
            append::append(transaction, &self.queue, &self.plan.topics, database.now_ms())?;
        // It was found good before.
        let refusal = results.into_iter().find_map(Result::err);
        Ok(refusal.map_or(Ok(ends), |error| Err(Hindrance { code: "refused", message: error.to_string() })))
    }

    fn clear(&mut self) {
        self.queue.clear();
        self.reported = 0;
    }
}

fn store(transaction: &Connection, lease: Lease, commits: &[Commit]) -> Result<Result<(), Hindrance>, Fault> {
    for commit in commits {
        if let Some(objection) = offsets::objection(commit) {
            let message = format!("can't commit {}: {objection}", commit.partition);
            return Ok(Err(Hindrance { code: "invalid-commit", message }));
        }
        let Some(found) = catalog::partition(transaction, &commit.partition)? else {
            let message = format!("can't commit {}: the log has no such partition", commit.partition);
            return Ok(Err(Hindrance { code: "unknown-partition", message }));
        };
        offsets::store(transaction, lease.group, found.id, commit.offset, &commit.metadata)?;
    }
    Ok(Ok(()))
}

impl Sink for TogetherSink {
    fn capacity_bytes(&self) -> usize {
        self.shared.database.options().sink_queue_bytes
    }

    fn produce(&mut self, delivery: &Delivery<'_>, token: Token) -> Result<usize, ProduceError> {
        self.objection(delivery)?;
        self.queue.add(delivery, token, &self.plan.topics, self.shared.database.options())?;
        Ok(delivery.rough_bytes())
    }

    /// That they are in the transaction, and nothing of where they will be.
    fn serve(&mut self, reports: &mut Vec<Report>) -> Result<(), SinkFailed> {
        if let Some(failed) = &self.failed {
            return Err(failed.clone());
        }
        let fresh = self.queue.records.iter().skip(self.reported);
        reports.extend(fresh.map(|queued| Report { token: queued.token, result: Ok(None) }));
        self.reported = self.queue.records.len();
        Ok(())
    }
}

impl TransactionalSink for TogetherSink {
    fn is_full(&self) -> bool {
        self.queue.size() >= self.capacity_bytes()
    }

    fn commit(&mut self, progress: Vec<MemberProgress>) {
        let mut hindrance = None;
        let written = self.shared.database.write(|transaction| match self.write(transaction, &progress)? {
            Ok(ends) => Ok(ends),
            Err(found) => {
                hindrance = Some(found);
                Err(Fault::rolled_back())
            }
        });
        self.clear();
        self.ended = Some(match (written, hindrance) {
            (Ok(ends), _) => {
                self.shared.watches.advance(&ends);
                Ended::Committed
            }
            (Err(_), Some(Hindrance { code, message })) => Ended::Undone { code: code.to_owned(), message },
            (Err(fault), None) => {
                // A disk that fails while the end of a transaction is synced may have it all the same, and SQLite finds it
                // there when the log is opened anew: so this process can't go on from what it reads now.
                if fault.kind == FaultKind::Damaged || fault.code == "io" {
                    self.failed = Some(fault.to_sink_failed());
                }
                Ended::Undone { code: fault.code.to_owned(), message: fault.message }
            }
        });
        (self.waker)();
    }

    fn abort(&mut self) {
        self.clear();
        self.ended = Some(Ended::Aborted);
    }

    fn ended(&mut self) -> Option<Ended> {
        self.ended.take()
    }
}
