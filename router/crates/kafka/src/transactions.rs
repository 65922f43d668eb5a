//! Transactions, by one librdkafka producer for each writer.
//!
//! What librdkafka leaves to us:
//! - It repeats the request that ends a transaction, and does not say so. A second one that is late may end the *next*
//!   transaction, since this client does not raise its epoch between two (KIP-890). So those requests are counted, and
//!   after a transaction that took more than one this writer begins no other.
//! - It can't tell a transaction that the broker has aborted for its age from one whose id was taken over (KIP-588): both
//!   end the producer. Our own clock tells: a transaction younger than its timeout was taken over.
//! - A call that has run out of time goes on in the background, and then no other call is taken. So what it was about is
//!   not known, and the producer is given up. The one that is opened next waits for the end of it, or prevents it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use pointsman_core::port::{LogError, Transaction, TransactionError, Transactions, Waker, WriterPlan};

use self::transaction::KafkaTransaction;
use crate::admin;
use crate::classify::{TransactionFault, remedy, transaction_fault};
use crate::native::{Client, Kind, Queue, Remains, Topics, TransactionComplaint};
use crate::settings::{KafkaSettings, bounded};

mod sink;
mod transaction;

pub(crate) use self::sink::TransactingSink;

/// How long to wait before a call that failed at once is made again.
const PAUSE: Duration = Duration::from_millis(20);

/// How long a topic may be unknown to some broker that another one has just made.
const IN_THE_MAKING: Duration = Duration::from_secs(5);

/// A writer on a Kafka cluster. Fields are dropped in order: what refers to the client first.
pub(crate) struct KafkaTransactions {
    topics: Topics,
    queue: Queue,
    client: Arc<Client>,
    plan: WriterPlan,
    capacity_bytes: usize,
    /// Why nothing more can be done with this producer.
    over: Option<TransactionError>,
}

impl KafkaTransactions {
    pub(crate) fn open(
        settings: &KafkaSettings,
        asking: &Arc<Client>,
        plan: WriterPlan,
    ) -> Result<Self, TransactionError> {
        let plan = bounded(plan);
        let failed = |message: String| fatal("client", format!("can't open the writer {}: {message}", plan.id));
        let batch_bytes = smallest_batch(asking, &plan)?;
        let client = Client::new(Kind::Writer, &settings.writer(&plan, batch_bytes)).map_err(failed)?;
        let client = Arc::new(client);
        let queue = Queue::main(&client).ok_or_else(|| failed("it has no queue".to_owned()))?;
        let topics = Topics::new(&client, &plan.topics);
        let capacity_bytes = settings.producer_queue_bytes;
        let writer = Self { topics, queue, client, plan, capacity_bytes, over: None };
        writer.take_over()?;
        Ok(writer)
    }

    /// Has `waker` called when reports may have come in.
    fn wake_with(&mut self, waker: Waker) {
        self.queue.wake_with(waker);
    }

    /// Fences the writer before this one, and ends what it has left.
    fn take_over(&self) -> Result<(), TransactionError> {
        let deadline = Instant::now() + self.plan.deadline;
        loop {
            let Err(complaint) = self.client.init_transactions(left(deadline)) else { return Ok(()) };
            if complaint.remains != Remains::Resume || left(deadline).is_zero() {
                let (code, message) = self.describe("can't open the writer", &complaint);
                return Err(match transaction_fault(complaint.code) {
                    TransactionFault::Lasting => TransactionError::Fatal { code, message },
                    TransactionFault::Fenced | TransactionFault::Other => TransactionError::Aborted { code, message },
                });
            }
            self.queue.poll(PAUSE);
        }
    }

    /// Code and message of a failure.
    fn describe(&self, what: &str, complaint: &TransactionComplaint) -> (String, String) {
        let TransactionComplaint { code, message, remains } = complaint;
        // Where time has run out, the client's log knows what for; elsewhere it says the same again.
        let clause = if *remains == Remains::Resume { self.client.complaint().clause() } else { String::new() };
        (code.to_string(), format!("{what} {}: {message}{clause}{}", self.plan.id, remedy(*code)))
    }
}

/// The largest batch of records that each of the topics takes; `None` where that may not be asked.
fn smallest_batch(client: &Arc<Client>, plan: &WriterPlan) -> Result<Option<usize>, TransactionError> {
    let made_by = Instant::now() + IN_THE_MAKING.min(plan.deadline);
    loop {
        let LogError { what, code, message } = match admin::settings(client, &plan.topics, plan.deadline) {
            Ok(settings) => {
                let smallest = settings.iter().filter_map(|settings| settings.max_batch_bytes).min();
                return Ok(Some(smallest.unwrap_or(usize::MAX)));
            }
            Err(error) => error,
        };
        let is_unknown = code.starts_with("UNKNOWN_TOPIC");
        if is_unknown && !left(made_by).is_zero() {
            std::thread::sleep(PAUSE);
            continue;
        }
        if code.ends_with("AUTHORIZATION_FAILED") {
            return Ok(None);
        }
        let message = format!("{what}: {message}");
        return Err(if is_unknown || code == "INVALID_TOPIC_EXCEPTION" {
            TransactionError::Fatal { code, message }
        } else {
            TransactionError::Aborted { code, message }
        });
    }
}

impl Transactions for KafkaTransactions {
    fn capacity_bytes(&self) -> usize {
        self.capacity_bytes
    }

    fn begin(&mut self) -> Result<Box<dyn Transaction + '_>, TransactionError> {
        self.begin_native()?;
        Ok(Box::new(KafkaTransaction::begun(self, Instant::now(), 0)))
    }
}

impl KafkaTransactions {
    /// Has librdkafka begin a transaction.
    fn begin_native(&mut self) -> Result<(), TransactionError> {
        if let Some(over) = &self.over {
            return Err(over.clone());
        }
        if let Err(complaint) = self.client.begin_transaction() {
            let (code, message) = self.describe("can't begin a transaction of", &complaint);
            let error = match transaction_fault(complaint.code) {
                TransactionFault::Fenced => TransactionError::Fenced { code, message },
                TransactionFault::Lasting => TransactionError::Fatal { code, message },
                TransactionFault::Other => TransactionError::Indeterminate { code, message },
            };
            self.over = Some(error.clone());
            return Err(error);
        }
        Ok(())
    }
}

impl Drop for KafkaTransactions {
    fn drop(&mut self) {
        // Else destroying the client would hold on to the records of an outage.
        self.client.purge();
    }
}

fn left(deadline: Instant) -> Duration {
    deadline.saturating_duration_since(Instant::now())
}

fn fatal(code: &str, message: String) -> TransactionError {
    TransactionError::Fatal { code: code.to_owned(), message }
}
