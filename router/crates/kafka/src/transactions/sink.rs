//! A sink whose records go in transactions, together with what members of groups have read.
//!
//! Records are produced on the thread of the worker that owns the sink. What ends a transaction blocks, and is done by a
//! thread of the sink's own, the **ender**; the writer is with the one or with the other. The writer is a part that
//! wears out: where it is in doubt what has become of a transaction, or where a request to end it was repeated, the ender opens
//! another with the same id, which decides it, before anybody learns of the end. So a late request finds an epoch that is
//! over.

use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender, TryRecvError};
use std::time::{Duration, Instant};

use pointsman_core::delivery::{Delivery, Forward};
use pointsman_core::port::{
    Batch, DeliveryError, Ended, LogError, MemberProgress, ProduceError, Report, Sink, SinkFailed, Token,
    TransactionError, TransactionalSink, Waker, WriterPlan,
};

use super::KafkaTransactions;
use super::transaction::KafkaTransaction;
use crate::error::log_error;
use crate::native::{Borrowed, Client, GroupMetadata, NativeHeaders};
use crate::settings::KafkaSettings;
use crate::sink::{Batching, HURRY, forward_with, native_headers, produce, take_reports};

/// Between two tries to open another writer, longer each time.
const PATIENCE: std::ops::Range<Duration> = Duration::from_millis(100)..Duration::from_secs(10);

/// A sink on a Kafka cluster. Dropped in the middle of a transaction, it leaves that to the brokers, which abort it.
pub(crate) struct TransactingSink {
    /// `None` while the ender has it.
    open: Option<Open>,
    orders: Sender<Order>,
    answers: Receiver<Answer>,
    /// Why the sink is of no more use.
    failed: Option<SinkFailed>,
    capacity_bytes: usize,
    hurries: bool,
}

/// A writer, and the transaction that it has open.
struct Open {
    writer: KafkaTransactions,
    /// Since when one is.
    began: Option<Instant>,
    /// Records of it that were handed over and not reported.
    outstanding: usize,
}

struct Order {
    open: Open,
    end: End,
}

/// How a transaction is to end.
enum End {
    Commit(Vec<MemberProgress>),
    Abort,
}

struct Answer {
    ended: Ended,
    writer: Result<KafkaTransactions, SinkFailed>,
}

impl TransactingSink {
    /// Opens the sink, and ends what another with the same id has left open.
    pub(crate) fn open(
        settings: &KafkaSettings,
        asking: &Arc<Client>,
        plan: WriterPlan,
        waker: Waker,
    ) -> Result<Self, LogError> {
        let what = format!("can't open the writer {} of transactions", plan.id);
        let (orders, ordered) = mpsc::channel();
        let (answer, answers) = mpsc::channel();
        let ender = Ender { settings: settings.clone(), asking: Arc::clone(asking), plan, waker, orders: ordered };
        let writer = ender.open().map_err(|error| {
            let (code, message) = error.into_parts();
            LogError { what: what.clone(), code, message }
        })?;
        std::thread::Builder::new()
            .name("kafka:ender".to_owned())
            .spawn(move || ender.run(&answer))
            .map_err(|error| log_error(what, "thread", format!("the system gives no thread: {error}")))?;
        Ok(Self {
            open: Some(Open::new(writer)),
            orders,
            answers,
            failed: None,
            capacity_bytes: settings.producer_queue_bytes,
            hurries: settings.hurries(),
        })
    }

    fn send(
        &mut self,
        delivery: &Delivery<'_>,
        headers: Option<NativeHeaders>,
        token: Token,
    ) -> Result<(), ProduceError> {
        // While a transaction is being ended nothing is produced.
        let Some(open) = &mut self.open else { return Err(ProduceError::Full) };
        if open.began.is_none() {
            let begun = open.writer.begin_native();
            begun
                .map_err(|error| DeliveryError::Unavailable { code: "begin".to_owned(), message: error.to_string() })?;
            open.began = Some(Instant::now());
        }
        produce(&open.writer.topics, delivery, headers, token)?;
        open.outstanding += 1;
        Ok(())
    }

    fn order(&mut self, end: End) {
        let Some(open) = self.open.take() else { return };
        if self.orders.send(Order { open, end }).is_err() {
            self.failed = Some(gone());
        }
    }
}

impl Open {
    const fn new(writer: KafkaTransactions) -> Self {
        Self { writer, began: None, outstanding: 0 }
    }
}

impl Sink for TransactingSink {
    fn capacity_bytes(&self) -> usize {
        self.capacity_bytes
    }

    fn produce(&mut self, delivery: &Delivery<'_>, token: Token) -> Result<usize, ProduceError> {
        self.send(delivery, native_headers(delivery), token)?;
        Ok(delivery.rough_bytes())
    }

    fn forward(
        &mut self,
        batch: &mut dyn Batch,
        index: usize,
        forward: &Forward<'_>,
        token: Token,
    ) -> Result<usize, ProduceError> {
        forward_with(batch, index, forward, |delivery, headers| self.send(delivery, headers, token))
    }

    fn hurry(&mut self) {
        if let Some(open) = self.open.as_ref().filter(|_| self.hurries) {
            open.writer.client.flush(HURRY);
        }
    }

    fn serve(&mut self, reports: &mut Vec<Report>) -> Result<(), SinkFailed> {
        if let Some(failed) = &self.failed {
            return Err(failed.clone());
        }
        if let Some(open) = &mut self.open {
            let before = reports.len();
            // No record was taken whole.
            let undelivered = |error: DeliveryError, _: Borrowed<'_>| Box::new(error.into());
            take_reports(&open.writer.queue, Batching::Off, undelivered, reports);
            open.outstanding = open.outstanding.saturating_sub(reports.len() - before);
        }
        Ok(())
    }
}

impl TransactionalSink for TransactingSink {
    /// Its bounds are the plan's: what librdkafka's queue has no room for has it when some of it is written.
    fn is_full(&self) -> bool {
        false
    }

    fn commit(&mut self, progress: Vec<MemberProgress>) {
        self.order(End::Commit(progress));
    }

    fn abort(&mut self) {
        self.order(End::Abort);
    }

    fn ended(&mut self) -> Option<Ended> {
        match self.answers.try_recv() {
            Ok(Answer { ended, writer }) => {
                match writer {
                    Ok(writer) => self.open = Some(Open::new(writer)),
                    Err(failed) => self.failed = Some(failed),
                }
                Some(ended)
            }
            Err(TryRecvError::Empty) => None,
            Err(TryRecvError::Disconnected) => {
                self.failed.get_or_insert_with(gone);
                None
            }
        }
    }
}

/// What ends transactions, on a thread of its own, which ends with the sink.
struct Ender {
    settings: KafkaSettings,
    asking: Arc<Client>,
    plan: WriterPlan,
    waker: Waker,
    orders: Receiver<Order>,
}

impl Ender {
    fn run(self, answers: &Sender<Answer>) {
        while let Ok(Order { open: Open { mut writer, began, outstanding }, end }) = self.orders.recv() {
            let (ended, fence) = match end {
                End::Commit(progress) => match commit(&mut writer, began, &progress) {
                    Ok(()) => (Ended::Committed, None),
                    Err(error) => undone(error),
                },
                End::Abort => match abort(&mut writer, began, outstanding) {
                    Err(error @ TransactionError::Fenced { .. }) => undone(error),
                    // The next writer does what this one could not.
                    Ok(()) | Err(_) => (Ended::Aborted, None),
                },
            };
            let writer = match fence {
                Some(fence) => Err(fence),
                None if writer.over.is_none() => Ok(writer),
                None => match self.replace(writer) {
                    Some(writer) => Ok(writer),
                    // Nobody waits for an answer any more.
                    None => return,
                },
            };
            if answers.send(Answer { ended, writer }).is_err() {
                return;
            }
            (self.waker)();
        }
    }

    fn open(&self) -> Result<KafkaTransactions, TransactionError> {
        let mut writer = KafkaTransactions::open(&self.settings, &self.asking, self.plan.clone())?;
        writer.wake_with(Arc::clone(&self.waker));
        Ok(writer)
    }

    /// Opens another writer, which ends what the last one has left open, however long that takes. `None` where the sink is gone
    /// before that.
    fn replace(&self, worn: KafkaTransactions) -> Option<KafkaTransactions> {
        if let Some(reason) = &worn.over {
            tracing::info!(id = %self.plan.id, "a writer of transactions is replaced: {reason}");
        }
        drop(worn);
        let mut patience = PATIENCE.start;
        loop {
            match self.open() {
                Ok(writer) => return Some(writer),
                Err(error) => {
                    tracing::warn!(id = %self.plan.id, again_in = ?patience, "can't replace a writer of transactions: {error}")
                }
            }
            // No order comes while one is carried out: this is the sink's end, or none of its business.
            if self.orders.recv_timeout(patience).err() != Some(RecvTimeoutError::Timeout) {
                return None;
            }
            patience = (patience * 2).min(PATIENCE.end);
        }
    }
}

/// What is told of a transaction that is not committed for this error, and why the sink is of no more use, if so.
fn undone(error: TransactionError) -> (Ended, Option<SinkFailed>) {
    let fence = match &error {
        TransactionError::Fenced { code, message } => {
            let message =
                format!("{message}; another process runs with the same name and `instance_id`: give each its own");
            Some(SinkFailed { code: code.clone(), message })
        }
        _ => None,
    };
    let (code, message) = error.into_parts();
    (Ended::Undone { code, message }, fence)
}

fn commit(
    writer: &mut KafkaTransactions,
    began: Option<Instant>,
    progress: &[MemberProgress],
) -> Result<(), TransactionError> {
    let began = match began {
        Some(began) => began,
        None => {
            writer.begin_native()?;
            Instant::now()
        }
    };
    let mut transaction = KafkaTransaction::begun(writer, began, 0);
    for MemberProgress { standing, commits } in progress {
        let Some(group) = standing.0.downcast_ref::<GroupMetadata>() else {
            // Dropped, it is aborted.
            let message = "the progress is of a member of another log".to_owned();
            return Err(TransactionError::Aborted { code: "invalid-commit".to_owned(), message });
        };
        transaction.add_progress(group, commits)?;
    }
    transaction.finish()
}

fn abort(writer: &mut KafkaTransactions, began: Option<Instant>, outstanding: usize) -> Result<(), TransactionError> {
    match began {
        Some(began) => KafkaTransaction::begun(writer, began, outstanding).give_up(),
        None => Ok(()),
    }
}

fn gone() -> SinkFailed {
    let message = "the thread that ends transactions panicked, which is a bug of Pointsman".to_owned();
    SinkFailed { code: "panic".to_owned(), message }
}
