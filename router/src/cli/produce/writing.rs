//! From records to acknowledged records.
//!
//! One thread reads the input, since reading blocks. This one hands the records to the sink, and sleeps while there is
//! nothing to hand over and nothing to hear.

use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, TryRecvError};
use std::thread;
use std::time::{Duration, Instant};

use pointsman_core::delivery::TopicId;
use pointsman_core::port::{
    DeliveryError, Log, LogError, ProduceError, Report, Sink, SinkFailed, Token, TransactionError, Waker,
};
use thiserror::Error;

use super::input::{InputError, Numbered};
use crate::cli::Exit;
use crate::cli::interrupt::Interrupts;
use crate::progress::{Progress, Stand, Total, Unit};

/// Records that are read ahead of the sink: enough for it to write many at a time, and few enough to be held.
const READ_AHEAD: usize = 256;
/// Records that are handed over before reports are looked at.
const ROUND: usize = 4096;
/// Wake-ups may be lost: look anyway.
pub(super) const LOOK_ANYWAY: Duration = Duration::from_millis(100);
/// The user is told when nothing was acknowledged for so long.
const PATIENCE: Duration = Duration::from_secs(10);

/// What became of the input.
#[derive(Debug, Default)]
pub(super) struct Written {
    /// Records that the log has acknowledged.
    pub(super) written: u64,
    /// Lines that were no records, and passed over.
    pub(super) skipped: u64,
    /// Records that the log was given, and may or may not have taken.
    pub(super) unacknowledged: u64,
    /// Transactions that the records were written in, where they were.
    pub(super) transactions: Option<u64>,
    /// Why not all of the input was written.
    pub(super) failed: Option<Failed>,
}

/// Why not all of the input was written.
#[derive(Debug, Error)]
pub(super) enum Failed {
    /// The input.
    #[error(transparent)]
    Input(#[from] InputError),
    /// A record.
    #[error("line {line}: {error}")]
    Delivery {
        /// From 1.
        line: u64,
        /// Why it was not written.
        error: DeliveryError,
    },
    /// The log.
    #[error("the log can't be written any more: {0}")]
    Sink(#[from] SinkFailed),
    /// A transaction.
    #[error(transparent)]
    Transaction(#[from] TransactionError),
}

impl Failed {
    /// How far into the input it is.
    fn line(&self) -> u64 {
        match self {
            Self::Input(InputError::Line { line, .. }) | Self::Delivery { line, .. } => *line,
            Self::Input(InputError::Read(_)) | Self::Sink(_) | Self::Transaction(_) => u64::MAX,
        }
    }

    pub(super) fn exit(&self) -> Exit {
        match self {
            Self::Input(InputError::Line { .. }) => Exit::Configuration,
            Self::Delivery { error: DeliveryError::Refused { .. }, .. } => Exit::No,
            Self::Input(InputError::Read(_))
            | Self::Delivery { error: DeliveryError::Unavailable { .. }, .. }
            | Self::Sink(_)
            | Self::Transaction(_) => Exit::Fatal,
        }
    }
}

/// How records are written.
#[derive(Clone, Copy)]
pub(super) struct How<'a> {
    /// Lines that are no records are told and passed over.
    pub(super) skip_bad: bool,
    /// What is done, as progress is told.
    pub(super) what: &'a str,
    /// Whether the user wants no more.
    pub(super) interrupts: &'a Interrupts,
    /// Who is told how many are written.
    pub(super) progress: Progress<'a>,
}

impl How<'_> {
    /// So many are written, of as many as the input has.
    pub(super) fn tell(&self, written: u64) {
        let stand = Stand { what: self.what, unit: Unit::Records, done: written, total: Total::Unknown, picked: None };
        (self.progress)(&stand);
    }
}

/// Writes `input` to `topic`, up to the first failure, and waits until the log has said of each record what became of it.
/// What goes wrong on the way is a sentence for `note`.
///
/// # Errors
/// [`LogError`]: the sink can't be opened, or the system gives no thread.
pub(super) fn write_all(
    log: &dyn Log,
    topic: &str,
    input: impl Iterator<Item = Result<Numbered, InputError>> + Send + 'static,
    how: How<'_>,
    note: &mut dyn FnMut(&str),
) -> Result<Written, LogError> {
    let writer = thread::current();
    let waker: Waker = Arc::new(move || writer.unpark());
    let sink = log.sink(&[Arc::from(topic)], waker)?;
    write_to(sink, input, how, note)
}

/// The same, to a sink that wakes this thread.
pub(super) fn write_to(
    sink: Box<dyn Sink>,
    input: impl Iterator<Item = Result<Numbered, InputError>> + Send + 'static,
    how: How<'_>,
    note: &mut dyn FnMut(&str),
) -> Result<Written, LogError> {
    let received = read_ahead(input)?;
    let mut writing = Writing {
        sink,
        how,
        waiting: None,
        outstanding: 0,
        written: 0,
        skipped: 0,
        failed: None,
        progress: Instant::now(),
    };
    writing.run(&received, note);
    how.tell(writing.written);
    let Writing { written, skipped, outstanding, failed, .. } = writing;
    Ok(Written { written, skipped, unacknowledged: outstanding, transactions: None, failed })
}

/// Reads in a thread of its own, which wakes this one.
///
/// # Errors
/// [`LogError`]: the system gives no thread.
pub(super) fn read_ahead(
    input: impl Iterator<Item = Result<Numbered, InputError>> + Send + 'static,
) -> Result<Receiver<Result<Numbered, InputError>>, LogError> {
    let writer = thread::current();
    let (items, received) = mpsc::sync_channel(READ_AHEAD);
    let read = move || {
        for item in input {
            if items.send(item).is_err() {
                return;
            }
            writer.unpark();
        }
        drop(items);
        writer.unpark();
    };
    // It is not waited for: it may be reading a terminal when all is over, and ends with the process.
    thread::Builder::new().name("input".into()).spawn(read).map_err(|error| LogError {
        what: "can't read the input".into(),
        code: "thread".into(),
        message: format!("the system gives no thread: {error}"),
    })?;
    Ok(received)
}

struct Writing<'a> {
    sink: Box<dyn Sink>,
    how: How<'a>,
    /// The record that the sink had no room for.
    waiting: Option<Numbered>,
    /// Records that the sink has taken and not reported on.
    outstanding: u64,
    written: u64,
    skipped: u64,
    failed: Option<Failed>,
    /// When the log last acknowledged something, or had nothing to acknowledge.
    progress: Instant,
}

/// How handing over ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fed {
    /// There is more to hand over.
    More,
    /// Nothing more has been read yet, or the sink is full.
    Paused,
    /// There is no more.
    Ended,
}

impl Writing<'_> {
    fn run(&mut self, input: &Receiver<Result<Numbered, InputError>>, note: &mut dyn FnMut(&str)) {
        let mut fed = Fed::More;
        while !self.how.interrupts.impatient() {
            self.how.tell(self.written);
            if self.how.interrupts.any() || self.failed.is_some() {
                self.waiting = None;
                fed = Fed::Ended;
            }
            if fed != Fed::Ended {
                fed = self.feed(input, note);
            }
            let heard = match self.serve() {
                Ok(heard) => heard,
                Err(failed) => {
                    self.fail(failed.into());
                    return;
                }
            };
            if fed == Fed::Ended && self.outstanding == 0 {
                return;
            }
            // Who heard something may have room again.
            if fed != Fed::More && !heard {
                self.sink.hurry();
                self.be_patient(note);
                thread::park_timeout(LOOK_ANYWAY);
            }
        }
    }

    /// Hands records over until there is a reason not to.
    fn feed(&mut self, input: &Receiver<Result<Numbered, InputError>>, note: &mut dyn FnMut(&str)) -> Fed {
        for _ in 0..ROUND {
            let numbered = match self.waiting.take().map(Ok).map_or_else(|| input.try_recv(), Ok) {
                Ok(Ok(numbered)) => numbered,
                Ok(Err(error @ InputError::Line { .. })) if self.how.skip_bad => {
                    note(&format!("skipped: {error}"));
                    self.skipped += 1;
                    continue;
                }
                Ok(Err(error)) => {
                    self.fail(error.into());
                    return Fed::Ended;
                }
                Err(TryRecvError::Empty) => return Fed::Paused,
                Err(TryRecvError::Disconnected) => return Fed::Ended,
            };
            match self.sink.produce(&numbered.record.delivery(TopicId(0)), Token(numbered.line)) {
                Ok(_) => self.outstanding += 1,
                Err(ProduceError::Full) => {
                    self.waiting = Some(numbered);
                    return Fed::Paused;
                }
                Err(ProduceError::Delivery(error)) => {
                    self.fail(Failed::Delivery { line: numbered.line, error });
                    return Fed::Ended;
                }
            }
        }
        Fed::More
    }

    /// Hears what became of records; whether anything was heard.
    fn serve(&mut self) -> Result<bool, SinkFailed> {
        let mut reports: Vec<Report> = Vec::new();
        self.sink.serve(&mut reports)?;
        let heard = !reports.is_empty();
        for Report { token, result } in reports {
            self.outstanding = self.outstanding.saturating_sub(1);
            match result {
                Ok(_) => self.written += 1,
                Err(undelivered) => self.fail(Failed::Delivery { line: token.0, error: undelivered.error }),
            }
        }
        if heard || self.outstanding == 0 {
            self.progress = Instant::now();
        }
        Ok(heard)
    }

    /// Of several failures, the first in the input is the one to be told.
    fn fail(&mut self, failed: Failed) {
        if self.failed.as_ref().is_none_or(|known| failed.line() < known.line()) {
            self.failed = Some(failed);
        }
    }

    fn be_patient(&mut self, note: &mut dyn FnMut(&str)) {
        if self.progress.elapsed() >= PATIENCE {
            self.progress = Instant::now();
            note(&format!(
                "the log has acknowledged nothing for {} s; {} records wait (Ctrl-C twice gives up)",
                PATIENCE.as_secs(),
                self.outstanding
            ));
        }
    }
}
