//! One transaction, from its first record to its end.

use std::time::{Duration, Instant};

use pointsman_core::delivery::Delivery;
use pointsman_core::port::{Commit, DeliveryError, Group, Token, Transaction, TransactionError};

use super::{KafkaTransactions, PAUSE, fatal, left};
use crate::classify::{TransactionFault, queue_full, transaction_fault};
use crate::commits;
use crate::native::{Code, EventKind, GroupMetadata, Remains, TransactionComplaint};
use crate::sink::{Batching, delivery_error, native_headers, outgoing};

/// How long an abort waits before delivery reports are taken, which it waits for.
const STEP: Duration = Duration::from_millis(100);

/// Code and message.
type Reason = (String, String);

/// The open transaction of a writer.
pub(super) struct KafkaTransaction<'w> {
    writer: &'w mut KafkaTransactions,
    began: Instant,
    /// Records that were handed over and not reported.
    outstanding: usize,
    bytes: usize,
    /// The first record that the broker has refused.
    refused: Option<(Token, Reason)>,
    /// Why the first of other records was not written.
    unavailable: Option<Reason>,
    /// How it ended: committed or aborted by its caller, or with an error.
    ended: Option<Result<(), TransactionError>>,
}

impl<'w> KafkaTransaction<'w> {
    /// A transaction that librdkafka has begun at that moment, with so many records that are not reported yet.
    pub(super) fn begun(writer: &'w mut KafkaTransactions, began: Instant, outstanding: usize) -> Self {
        Self { writer, began, outstanding, bytes: 0, refused: None, unavailable: None, ended: None }
    }

    fn open(&self) -> Result<(), TransactionError> {
        match &self.ended {
            Some(Err(error)) => Err(error.clone()),
            Some(Ok(())) | None => Ok(()),
        }
    }

    /// Whether the broker may have aborted it by itself.
    fn is_old(&self) -> bool {
        self.began.elapsed() >= self.writer.plan.timeout
    }

    fn deadline(&self) -> Instant {
        Instant::now() + self.writer.plan.deadline
    }

    /// Takes the reports that have come in, for which it waits as long as `wait`.
    fn serve(&mut self, wait: Duration) {
        let mut wait = wait;
        while let Some(mut event) = self.writer.queue.poll(wait) {
            wait = Duration::ZERO;
            if event.kind() != EventKind::Reports {
                continue;
            }
            while let Some(message) = event.next_message() {
                self.outstanding = self.outstanding.saturating_sub(1);
                let code = message.code();
                if code.is_error() {
                    let error = delivery_error(code, message.describe_report(), Batching::Off);
                    self.note(Token(message.opaque() as u64), error);
                }
            }
        }
    }

    /// One refused record has many others purged, in whatever order they are reported.
    fn note(&mut self, token: Token, error: DeliveryError) {
        match error {
            DeliveryError::Refused { code, message } => {
                self.refused.get_or_insert((token, (code, message)));
            }
            DeliveryError::Unavailable { code, message } => {
                self.unavailable.get_or_insert((code, message));
            }
        }
    }

    /// Ends the transaction, which an error has doomed, so that the caller can begin another; or with what keeps it from that.
    fn fail(&mut self, cause: TransactionError) -> TransactionError {
        // The abort purges what is not sent yet, which is reported and says nothing.
        let unavailable = self.unavailable.take();
        let rolled_back = self.roll_back();
        // What was reported is nearer to the cause than what the caller has noticed.
        let cause = match (cause, self.refused.take(), unavailable) {
            (TransactionError::Aborted { .. }, Some((token, (code, message))), _) => {
                TransactionError::Refused { token, code, message }
            }
            (TransactionError::Aborted { .. }, None, Some((code, message))) => {
                TransactionError::Aborted { code, message }
            }
            (cause, ..) => cause,
        };
        let error = match rolled_back {
            Ok(()) => cause,
            Err(error @ TransactionError::Indeterminate { .. }) if cause.is_recoverable() => error,
            Err(TransactionError::Indeterminate { .. }) => cause,
            Err(error) => error,
        };
        self.end(Err(error.clone()));
        error
    }

    fn end(&mut self, how: Result<(), TransactionError>) {
        if let Err(error) = &how
            && !error.is_recoverable()
        {
            self.writer.over = Some(error.clone());
        }
        self.ended = Some(how);
    }

    fn roll_back(&mut self) -> Result<(), TransactionError> {
        let deadline = self.deadline();
        loop {
            self.serve(Duration::ZERO);
            let step = if self.outstanding == 0 { left(deadline) } else { STEP.min(left(deadline)) };
            match self.writer.client.abort_transaction(step) {
                Ok(()) => break,
                Err(complaint) if complaint.remains == Remains::Resume && !left(deadline).is_zero() => {
                    self.serve(PAUSE);
                }
                Err(complaint) => return Err(self.judge("can't abort the transaction of", &complaint)),
            }
        }
        self.serve(Duration::ZERO);
        self.doubt_repetitions();
        Ok(())
    }

    /// What follows from an error after which this producer is not used again.
    fn judge(&self, what: &str, complaint: &TransactionComplaint) -> TransactionError {
        let (code, message) = self.writer.describe(what, complaint);
        match transaction_fault(complaint.code) {
            TransactionFault::Fenced if !self.is_old() => TransactionError::Fenced { code, message },
            TransactionFault::Fenced => TransactionError::Indeterminate {
                code,
                message: format!(
                    "{message}; it was open for longer than {:?}: brokers abort that",
                    self.writer.plan.timeout
                ),
            },
            TransactionFault::Lasting => TransactionError::Fatal { code, message },
            TransactionFault::Other => TransactionError::Indeterminate { code, message },
        }
    }

    /// See [`Client::end_requests`].
    fn doubt_repetitions(&mut self) {
        let requests = self.writer.client.end_requests();
        if requests > 1 && self.writer.over.is_none() {
            self.writer.over = Some(TransactionError::Indeterminate {
                code: "repeated-end".to_owned(),
                message: format!(
                    "the writer {} had to send {requests} requests to end its last transaction, and one that is late would \
                     end the next; open it anew",
                    self.writer.plan.id
                ),
            });
        }
    }

    fn check_age(&mut self) -> Result<(), TransactionError> {
        if !self.is_old() {
            return Ok(());
        }
        let timeout = self.writer.plan.timeout;
        Err(self.fail(aborted("too-old", format!("it was open for longer than {timeout:?}; commit smaller ones"))))
    }

    /// Hands a record to librdkafka, waiting while its queue is full.
    fn hand_over(&mut self, delivery: &Delivery<'_>, token: Token) -> Result<(), TransactionError> {
        let deadline = self.deadline();
        let index = delivery.topic.0 as usize;
        loop {
            let topic = match self.writer.topics.get(index) {
                Ok(topic) => topic,
                Err(message) => return Err(self.fail(fatal("unknown-topic", message))),
            };
            match topic.produce(outgoing(delivery, native_headers(delivery), token)) {
                Ok(()) => break,
                Err(code) if queue_full(code) && !left(deadline).is_zero() => self.serve(STEP),
                Err(code) => {
                    // Reports that are here already tell more than a transaction that takes no more.
                    self.serve(Duration::ZERO);
                    self.note(token, delivery_error(code, code.describe(), Batching::Off));
                    return Err(self.fail(aborted(&code.to_string(), code.describe())));
                }
            }
        }
        self.outstanding += 1;
        Ok(())
    }

    fn check_reports(&mut self) -> Result<(), TransactionError> {
        let refused = self.refused.as_ref().map(|(_, reason)| reason);
        let Some((code, message)) = refused.or(self.unavailable.as_ref()) else { return Ok(()) };
        let cause = aborted(code, message.clone());
        Err(self.fail(cause))
    }

    /// Waits until every record is written.
    fn flush(&mut self) -> Result<(), TransactionError> {
        let deadline = self.deadline();
        while self.outstanding > 0 {
            self.writer.client.flush(Duration::from_millis(1));
            self.serve(PAUSE);
            self.check_reports()?;
            if left(deadline).is_zero() {
                let message = format!("{} records were not written in time", self.outstanding);
                let clause = self.writer.client.complaint().clause();
                return Err(self.fail(aborted("_TIMED_OUT", format!("{message}{clause}"))));
            }
        }
        Ok(())
    }

    /// Adds what a group has read, as that member of it.
    pub(super) fn add_progress(&mut self, group: &GroupMetadata, commits: &[Commit]) -> Result<(), TransactionError> {
        self.open()?;
        self.check_age()?;
        if let Some(commit) = commits.iter().find(|commit| commit.offset < 0) {
            // librdkafka would leave it out in silence.
            let message = format!("the offset {} of {} can't be committed", commit.offset, commit.partition);
            return Err(self.fail(fatal("invalid-offset", message)));
        }
        let (list, deadline) = (commits::list(commits), self.deadline());
        while let Err(complaint) = self.writer.client.send_offsets(&list, group, left(deadline)) {
            if complaint.remains == Remains::Resume && !left(deadline).is_zero() {
                self.serve(PAUSE);
                continue;
            }
            let what = format!("can't add offsets of the group {} to the transaction of", group.group());
            let (code, message) = self.writer.describe(&what, &complaint);
            return Err(self.fail(cut(complaint.code, code, message)));
        }
        self.serve(Duration::ZERO);
        self.check_reports()
    }

    /// [`commit`](Transaction::commit).
    pub(super) fn finish(mut self) -> Result<(), TransactionError> {
        self.open()?;
        self.flush()?;
        self.check_age()?;
        self.commit_written()
    }

    /// [`abort`](Transaction::abort).
    pub(super) fn give_up(mut self) -> Result<(), TransactionError> {
        self.open()?;
        let aborted = self.roll_back();
        self.end(aborted.clone());
        aborted
    }

    fn commit_written(&mut self) -> Result<(), TransactionError> {
        let deadline = self.deadline();
        while let Err(complaint) = self.writer.client.commit_transaction(left(deadline)) {
            match complaint.remains {
                Remains::Resume if !left(deadline).is_zero() => self.serve(PAUSE),
                // Nothing was said of a commit yet.
                Remains::Abort if self.writer.client.end_requests() == 0 => {
                    let (code, message) = self.writer.describe("can't commit the transaction of", &complaint);
                    return Err(self.fail(cut(complaint.code, code, message)));
                }
                _ => {
                    let error = match self.judge("can't commit the transaction of", &complaint) {
                        // Of several requests, the one that was answered says nothing of the others.
                        TransactionError::Fatal { code, message } if self.writer.client.end_requests() > 1 => {
                            TransactionError::Indeterminate { code, message }
                        }
                        error => error,
                    };
                    self.end(Err(error.clone()));
                    return Err(error);
                }
            }
        }
        self.doubt_repetitions();
        self.end(Ok(()));
        Ok(())
    }
}

impl Transaction for KafkaTransaction<'_> {
    fn produce(&mut self, delivery: &Delivery<'_>, token: Token) -> Result<(), TransactionError> {
        self.open()?;
        self.check_age()?;
        let (bytes, capacity) = (delivery.rough_bytes(), self.writer.capacity_bytes);
        if self.bytes > 0 && self.bytes.saturating_add(bytes) > capacity {
            let message = format!("a transaction takes {capacity} bytes of records; commit smaller ones");
            return Err(self.fail(fatal("transaction-too-large", message)));
        }
        self.bytes += bytes;
        self.hand_over(delivery, token)?;
        self.serve(Duration::ZERO);
        self.check_reports()
    }

    fn add_offsets(&mut self, group: Group<'_>, commits: &[Commit]) -> Result<(), TransactionError> {
        let Group::Memberless(group) = group;
        self.add_progress(&GroupMetadata::memberless(group), commits)
    }

    fn commit(self: Box<Self>) -> Result<(), TransactionError> {
        self.finish()
    }

    fn abort(self: Box<Self>) -> Result<(), TransactionError> {
        self.give_up()
    }
}

impl Drop for KafkaTransaction<'_> {
    fn drop(&mut self) {
        if self.ended.is_none() {
            let aborted = self.roll_back();
            self.end(aborted);
        }
    }
}

/// What follows from an error in a transaction that is aborted for it.
fn cut(fault: Code, code: String, message: String) -> TransactionError {
    match transaction_fault(fault) {
        TransactionFault::Lasting => TransactionError::Fatal { code, message },
        // That it was fenced is said again by the abort.
        TransactionFault::Fenced | TransactionFault::Other => TransactionError::Aborted { code, message },
    }
}

fn aborted(code: &str, message: String) -> TransactionError {
    TransactionError::Aborted { code: code.to_owned(), message }
}
