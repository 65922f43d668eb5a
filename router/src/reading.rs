//! Reading partitions outside any group: their records, one after the other.
//!
//! Up to where the partitions ended at the start, the record with the lowest timestamp among the next ones of all
//! partitions comes first: nothing is shown while one of them has yet to come. Behind that nobody is waited for, and
//! the same is done with what is at hand. Memory holds one batch of each partition.

use std::cmp::Reverse;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use pointsman_core::port::{Batch, Feed, FeedError, Log, LogError, Waker};
use pointsman_core::record::{Record, TopicPartition};
use thiserror::Error;

use crate::progress::{Progress, Stand, Total, UNTOLD, Unit};

mod unsettled;
mod whence;

pub use unsettled::{UnsettledError, unsettled};
pub use whence::{NoSuchOffset, Whence};

/// Most records of one batch.
const BATCH_RECORDS: usize = 1000;
/// Most bytes of one batch; a larger record comes alone.
const BATCH_BYTES: usize = 1 << 20;
/// Wake-ups may be lost: look anyway.
const LOOK_ANYWAY: Duration = Duration::from_millis(100);
/// So long a partition may keep the others waiting before it counts as unreadable.
const PATIENCE: Duration = Duration::from_secs(60);

/// What is to be read of one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// The partition.
    pub partition: TopicPartition,
    /// The first offset.
    pub start: i64,
    /// One past the last offset; where more than that is read, one past the last there was at the start.
    pub end: i64,
}

/// What is seen in reading.
#[derive(Debug)]
pub enum Seen<'a> {
    /// A record of this partition.
    Record(&'a TopicPartition, Record<'a>),
    /// There is no further record at hand for now.
    Waiting,
}

/// How reading ended.
#[derive(Debug)]
pub enum Ended<B> {
    /// All that was to be seen was seen.
    Done,
    /// It was told to stop.
    Stopped,
    /// Whoever looked had seen enough.
    Enough(B),
    /// Reading failed.
    Failed(ReadError),
}

/// Records that were to be read can't be had.
#[derive(Debug, Error)]
pub enum ReadError {
    /// The log refuses them.
    #[error(transparent)]
    Feed(#[from] FeedError),
    /// The log can't be read again.
    #[error(transparent)]
    Log(#[from] LogError),
    /// They don't come.
    #[error(
        "{partition} has given no record for {} s, though it has some from offset {next} up to {end}{}",
        PATIENCE.as_secs(),
        .last.as_ref().map(|last| format!(": {last}")).unwrap_or_default()
    )]
    Quiet {
        /// The partition.
        partition: TopicPartition,
        /// The offset that was to come.
        next: i64,
        /// Where the partition ended at the start.
        end: i64,
        /// The last thing that the log said of it.
        last: Option<String>,
    },
}

/// Partitions, being read.
pub struct Merge<'a> {
    log: &'a dyn Log,
    sources: Vec<Source>,
    follow: bool,
    waker: Waker,
    account: Account<'a>,
}

/// How far it has come.
struct Account<'a> {
    progress: Progress<'a>,
    what: &'a str,
    /// Records that were seen.
    seen: u64,
    /// Offsets before the ends that were not passed yet.
    left: u64,
}

/// One partition.
struct Source {
    partition: TopicPartition,
    feed: Box<dyn Feed>,
    /// What was fetched, and how much of it was seen.
    batch: Option<(Box<dyn Batch>, usize)>,
    /// The next offset to come, or a later one.
    next: i64,
    /// Where the partition ended at the start.
    end: i64,
    last_error: Option<String>,
}

impl<'a> Merge<'a> {
    /// Begins to read, and to `follow` what comes in behind the spans. This thread is woken when there may be something.
    ///
    /// # Errors
    /// [`LogError`]: a partition can't be read.
    pub fn begin(log: &'a dyn Log, spans: Vec<Span>, follow: bool) -> Result<Self, LogError> {
        let reader = thread::current();
        let waker: Waker = Arc::new(move || reader.unpark());
        let wanted = spans.into_iter().filter(|span| follow || span.start < span.end);
        let sources = wanted
            .map(|Span { partition, start, end }| {
                let feed = open(log, &partition, start, &waker)?;
                Ok(Source { partition, feed, batch: None, next: start, end, last_error: None })
            })
            .collect::<Result<_, LogError>>()?;
        let account = Account { progress: UNTOLD, what: "reading", seen: 0, left: 0 };
        let mut merge = Self { log, sources, follow, waker, account };
        merge.measure();
        Ok(merge)
    }

    /// Tells `progress` how far it comes with `what`, which is such as `reading orders.v1`. Of records that come in behind
    /// the spans it is not known how many there will be.
    #[must_use]
    pub fn telling(mut self, what: &'a str, progress: Progress<'a>) -> Self {
        self.account.progress = progress;
        self.account.what = what;
        self
    }

    /// Works out anew how much there is left.
    fn measure(&mut self) {
        self.account.left = self.sources.iter().map(Source::left).sum();
    }

    /// Shows records until the end, or until somebody has had enough; `stop` is asked now and then. What goes wrong on the
    /// way, and may yet turn out well, is a sentence for `note`.
    pub fn run<B>(
        mut self,
        see: &mut dyn FnMut(Seen<'_>) -> ControlFlow<B>,
        stop: &dyn Fn() -> bool,
        note: &mut dyn FnMut(&str),
    ) -> Ended<B> {
        let mut progress = Instant::now();
        loop {
            self.account.tell(self.follow);
            if stop() {
                return Ended::Stopped;
            }
            // Nothing is asked of a partition whose end is reached, and an end may show in the asking.
            if self.is_done() {
                return self.done();
            }
            if let Err(error) = self.fetch(note) {
                return Ended::Failed(error);
            }
            self.measure();
            if self.is_done() {
                return self.done();
            }
            match self.show(see) {
                ControlFlow::Break(enough) => return Ended::Enough(enough),
                ControlFlow::Continue(true) => progress = Instant::now(),
                ControlFlow::Continue(false) => {
                    if let ControlFlow::Break(enough) = see(Seen::Waiting) {
                        return Ended::Enough(enough);
                    }
                    if progress.elapsed() >= PATIENCE
                        && !self.follow
                        && let Some(error) = self.quiet()
                    {
                        return Ended::Failed(error);
                    }
                    thread::park_timeout(LOOK_ANYWAY);
                }
            }
        }
    }

    /// All was seen.
    fn done<B>(mut self) -> Ended<B> {
        self.account.left = 0;
        self.account.tell(self.follow);
        Ended::Done
    }

    /// Lets go of partitions that are read to their end; whether none is left.
    fn is_done(&mut self) -> bool {
        if self.follow {
            return false;
        }
        self.sources.retain(|source| source.next < source.end);
        self.sources.is_empty()
    }

    /// Fetches for every partition of which nothing is at hand.
    fn fetch(&mut self, note: &mut dyn FnMut(&str)) -> Result<(), ReadError> {
        for source in self.sources.iter_mut().filter(|source| source.batch.is_none()) {
            match source.feed.fetch(BATCH_RECORDS, BATCH_BYTES) {
                Ok(Some(batch)) => {
                    source.last_error = None;
                    source.next = source.next.max(batch.record(0).offset);
                    source.batch = Some((batch, 0));
                }
                Ok(None) => {
                    // Transaction markers and compacted records leave gaps, at the end too.
                    source.next = source.feed.position().map_or(source.next, |position| position.max(source.next));
                }
                Err(FeedError::OutOfRange { wanted, available: Some((first, _)), partition }) if first > wanted => {
                    note(&format!(
                        "{partition}: offsets {wanted} up to {first} are gone, by retention; going on behind"
                    ));
                    source.feed = open(self.log, &partition, first, &self.waker)?;
                    source.next = first;
                }
                Err(error @ (FeedError::OutOfRange { .. } | FeedError::Damaged { .. })) => return Err(error.into()),
                Err(error @ FeedError::Unavailable { .. }) => {
                    let text = error.to_string();
                    if source.last_error.as_ref() != Some(&text) {
                        note(&format!("{text}; trying on"));
                        source.last_error = Some(text);
                    }
                }
            }
        }
        Ok(())
    }

    /// Goes on to the end of some batch; whether there was anything to show.
    fn show<B>(&mut self, see: &mut dyn FnMut(Seen<'_>) -> ControlFlow<B>) -> ControlFlow<B, bool> {
        let mut shown = false;
        while !self.sources.iter().any(Source::keeps_others_waiting) {
            let first = self
                .sources
                .iter_mut()
                .enumerate()
                .filter_map(|(index, source)| Some((Reverse((source.head()?.timestamp_ms, index)), source)))
                .max_by_key(|(order, _)| *order);
            let Some((_, source)) = first else { break };
            if let Some(record) = source.head() {
                let offset = record.offset;
                if !self.follow && offset >= source.end {
                    source.next = offset;
                    source.batch = None;
                    return ControlFlow::Continue(true);
                }
                let seen = see(Seen::Record(&source.partition, record));
                let left = source.left();
                source.advance(offset);
                self.account.seen += 1;
                self.account.left -= left - source.left();
                self.account.tell(self.follow);
                seen?;
                shown = true;
                if source.batch.is_none() {
                    break;
                }
            }
        }
        ControlFlow::Continue(shown)
    }

    /// The partition that the others have waited for in vain.
    fn quiet(&mut self) -> Option<ReadError> {
        let source = self.sources.iter_mut().find(|source| source.keeps_others_waiting())?;
        let Source { partition, next, end, last_error, .. } = source;
        Some(ReadError::Quiet { partition: partition.clone(), next: *next, end: *end, last: last_error.take() })
    }
}

impl Account<'_> {
    fn tell(&self, follow: bool) {
        let total = if follow { Total::Unknown } else { Total::AtMost(self.seen.saturating_add(self.left)) };
        (self.progress)(&Stand { what: self.what, unit: Unit::Records, done: self.seen, total, picked: None });
    }
}

impl Source {
    /// The record to come.
    fn head(&self) -> Option<Record<'_>> {
        self.batch.as_ref().map(|(batch, index)| batch.record(*index))
    }

    /// Offsets before its end that were not passed yet.
    fn left(&self) -> u64 {
        u64::try_from(self.end.saturating_sub(self.next)).unwrap_or(0)
    }

    /// It has more from before the start, and it is not at hand.
    fn keeps_others_waiting(&self) -> bool {
        self.batch.is_none() && self.next < self.end
    }

    /// The record at `offset` was seen.
    fn advance(&mut self, offset: i64) {
        self.next = offset + 1;
        if let Some((batch, index)) = &mut self.batch {
            *index += 1;
            if *index == batch.len() {
                self.batch = None;
            }
        }
    }
}

fn open(log: &dyn Log, partition: &TopicPartition, start: i64, waker: &Waker) -> Result<Box<dyn Feed>, LogError> {
    let mut feed = log.read(partition, start)?;
    feed.wake_with(Arc::clone(waker));
    Ok(feed)
}
