//! Records that are written in transactions: who reads what is committed sees all of one, or nothing.
//!
//! Records are gathered first, and a transaction is begun when there are no more, or no room for more: so none is open while
//! an input takes its time.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};

use pointsman_core::delivery::TopicId;
use pointsman_core::port::{DeliveryError, Log, LogError, Token, TransactionError, Transactions, WriterPlan};

use super::input::{InputError, Numbered};
use super::writing::{Failed, How, LOOK_ANYWAY, Written, read_ahead};

/// What a record is counted as on top of its bytes: a log may need so much for it, and so do we.
const OVERHEAD: usize = 128;

/// Writes `input` to `topic`, in one transaction if that takes it, up to the first failure; of the transaction that has one in it,
/// nothing is written. `id` is nobody else's.
///
/// # Errors
/// [`LogError`]: the writer can't be opened, or the system gives no thread.
pub(super) fn write_together(
    log: &dyn Log,
    topic: &str,
    id: Arc<str>,
    input: impl Iterator<Item = Result<Numbered, InputError>> + Send + 'static,
    how: How<'_>,
    note: &mut dyn FnMut(&str),
) -> Result<Written, LogError> {
    let mut writer = log.transactional(WriterPlan::new(id, vec![Arc::from(topic)])).map_err(|error| {
        let (code, message) = error.into_parts();
        LogError { what: format!("can't write transactions to {topic}"), code, message }
    })?;
    let received = read_ahead(input)?;
    let mut gathering = Gathering { received, how, skipped: 0, next: None };
    let mut written = Written { transactions: Some(0), ..Written::default() };
    loop {
        let gathered = gathering.gather(writer.capacity_bytes(), written.written, note);
        written.skipped = gathering.skipped;
        let (records, is_last) = match gathered {
            Ok(gathered) => gathered,
            Err(failed) => {
                written.failed = failed;
                return Ok(written);
            }
        };
        let count = records.len() as u64;
        if count > 0 {
            match commit(&mut *writer, &records) {
                Ok(()) => {
                    written.written += count;
                    how.tell(written.written);
                    written.transactions = written.transactions.map(|transactions| transactions + 1);
                }
                Err(error) => {
                    if matches!(error, TransactionError::Indeterminate { .. }) {
                        written.unacknowledged = count;
                    }
                    written.failed = Some(failure(error));
                    return Ok(written);
                }
            }
        }
        if is_last {
            return Ok(written);
        }
    }
}

/// A record that is refused is told by its line.
fn failure(error: TransactionError) -> Failed {
    match error {
        TransactionError::Refused { token, code, message } => {
            Failed::Delivery { line: token.0, error: DeliveryError::Refused { code, message } }
        }
        error => Failed::Transaction(error),
    }
}

fn commit(writer: &mut dyn Transactions, records: &[Numbered]) -> Result<(), TransactionError> {
    let mut transaction = writer.begin()?;
    for Numbered { line, record } in records {
        transaction.produce(&record.delivery(TopicId(0)), Token(*line))?;
    }
    transaction.commit()
}

struct Gathering<'a> {
    received: Receiver<Result<Numbered, InputError>>,
    how: How<'a>,
    skipped: u64,
    /// The record that there was no room for.
    next: Option<Numbered>,
}

impl Gathering<'_> {
    /// The records of the next transaction, and whether it is the last; `written` have been so before. An error ends the work; `None` is an interrupt.
    fn gather(
        &mut self,
        capacity_bytes: usize,
        written: u64,
        note: &mut dyn FnMut(&str),
    ) -> Result<(Vec<Numbered>, bool), Option<Failed>> {
        let mut bytes = 0;
        let mut records: Vec<Numbered> = Vec::new();
        loop {
            self.how.tell(written);
            if self.how.interrupts.any() {
                return Err(None);
            }
            let numbered = match self.next.take().map(Ok).map_or_else(|| self.received.recv_timeout(LOOK_ANYWAY), Ok) {
                Ok(Ok(numbered)) => numbered,
                Ok(Err(error @ InputError::Line { .. })) if self.how.skip_bad => {
                    note(&format!("skipped: {error}"));
                    self.skipped += 1;
                    continue;
                }
                Ok(Err(error)) => return Err(Some(error.into())),
                Err(RecvTimeoutError::Timeout) => continue,
                Err(RecvTimeoutError::Disconnected) => return Ok((records, true)),
            };
            let delivery = numbered.record.delivery(TopicId(0));
            bytes += delivery.rough_bytes() + delivery.headers.bytes() + OVERHEAD;
            if bytes > capacity_bytes && !records.is_empty() {
                self.next = Some(numbered);
                return Ok((records, false));
            }
            records.push(numbered);
        }
    }
}
