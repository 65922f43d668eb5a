//! Reading the oldest record that is not settled, of many partitions: for its timestamp, and to learn whether there is one at all.
//!
//! Outside any group, some partitions at a time, and never for longer than there is time: what has not come by then is not known.

use std::collections::VecDeque;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use pointsman_core::port::{Feed, FeedError, Log, Waker};
use pointsman_core::record::TopicPartition;

/// Partitions that are read at a time: what is fetched ahead of them has to fit into memory.
const AT_ONCE: usize = 200;
/// Records that are looked at in one partition: so few that are left are counted, instead of the offsets.
const RECORDS: usize = 100;
/// Bytes of one batch; a larger record comes alone.
const BATCH_BYTES: usize = 64 << 10;
/// How long the end of a partition is waited for once its oldest record is known.
const TO_THE_END: Duration = Duration::from_millis(500);
/// Wake-ups may be lost: look anyway.
const LOOK_ANYWAY: Duration = Duration::from_millis(10);

/// A partition to look at.
pub(crate) struct Look<'a> {
    pub(crate) partition: TopicPartition,
    /// Where to begin.
    pub(crate) from: i64,
    /// One past the last offset that counts.
    pub(crate) end: i64,
    /// Whether the record at this offset is settled, and so does not count.
    pub(crate) is_settled: &'a dyn Fn(i64) -> bool,
}

/// What there is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    /// Offset and timestamp of the oldest record that is not settled; `None` where there is none at all.
    pub(crate) oldest: Option<(i64, i64)>,
    /// How many there are, where they were counted.
    pub(crate) records: Option<u64>,
}

/// A partition that is being looked at.
struct Reading<'a> {
    index: usize,
    look: &'a Look<'a>,
    feed: Box<dyn Feed>,
    /// The next offset to come, or a later one.
    next: i64,
    read: usize,
    oldest: Option<(i64, i64)>,
    counted: u64,
    /// When the oldest was found.
    found: Option<Instant>,
    trouble: Option<String>,
}

/// Looks at the partitions until `deadline`, or until `stop` says so. The answers are in their order; what is not known has a reason.
pub(crate) fn look(
    log: &dyn Log,
    looks: &[Look<'_>],
    deadline: Instant,
    stop: &dyn Fn() -> bool,
) -> Vec<Result<Seen, String>> {
    let reader = thread::current();
    let waker: Waker = Arc::new(move || reader.unpark());
    let mut answers: Vec<Option<Result<Seen, String>>> = looks.iter().map(|_| None).collect();
    let mut waiting: VecDeque<(usize, &Look<'_>)> = looks.iter().enumerate().collect();
    let mut open: Vec<Reading<'_>> = Vec::new();
    while !(waiting.is_empty() && open.is_empty()) {
        if stop() || Instant::now() >= deadline {
            break;
        }
        while open.len() < AT_ONCE
            && let Some((index, look)) = waiting.pop_front()
        {
            match Reading::begin(log, index, look, &waker) {
                Ok(reading) => open.push(reading),
                Err(why) => answers[index] = Some(Err(why)),
            }
        }
        let before = open.len();
        open.retain_mut(|reading| {
            let answer = reading.step();
            let is_done = answer.is_some();
            answers[reading.index] = answer;
            !is_done
        });
        if open.len() == before {
            thread::park_timeout(LOOK_ANYWAY);
        }
    }
    for reading in open {
        let index = reading.index;
        answers[index] = Some(reading.too_late());
    }
    let not_read = || Err("there was no time to read it".to_owned());
    answers.into_iter().map(|answer| answer.unwrap_or_else(not_read)).collect()
}

impl<'a> Reading<'a> {
    fn begin(log: &dyn Log, index: usize, look: &'a Look<'a>, waker: &Waker) -> Result<Self, String> {
        let mut feed = log.read(&look.partition, look.from).map_err(|error| error.to_string())?;
        feed.wake_with(Arc::clone(waker));
        let next = look.from;
        Ok(Self { index, look, feed, next, read: 0, oldest: None, counted: 0, found: None, trouble: None })
    }

    /// Looks at what has come; the answer, once there is one.
    fn step(&mut self) -> Option<Result<Seen, String>> {
        loop {
            if self.next >= self.look.end {
                return Some(Ok(Seen { oldest: self.oldest, records: Some(self.counted) }));
            }
            let is_far = self.look.end.saturating_sub(self.next) > RECORDS as i64;
            let is_late = self.found.is_some_and(|found| found.elapsed() > TO_THE_END);
            if self.oldest.is_some() && (is_far || is_late || self.read >= RECORDS) {
                return Some(Ok(Seen { oldest: self.oldest, records: None }));
            }
            match self.feed.fetch(RECORDS, BATCH_BYTES) {
                Ok(Some(batch)) => {
                    for record in (0..batch.len()).map(|index| batch.record(index)) {
                        self.take(record.offset, record.timestamp_ms);
                    }
                }
                Ok(None) => {
                    // Transaction markers and compacted records leave gaps, at the end too.
                    self.next = self.next.max(self.feed.position().unwrap_or(self.next));
                    if self.next < self.look.end {
                        return None;
                    }
                }
                Err(FeedError::Unavailable { message, .. }) => {
                    self.trouble = Some(message);
                    return None;
                }
                Err(error) => return Some(Err(error.to_string())),
            }
        }
    }

    fn take(&mut self, offset: i64, timestamp_ms: i64) {
        self.read += 1;
        self.next = offset.saturating_add(1);
        if offset >= self.look.end || (self.look.is_settled)(offset) {
            return;
        }
        self.counted += 1;
        if self.oldest.is_none() {
            self.oldest = Some((offset, timestamp_ms));
            self.found = Some(Instant::now());
        }
    }

    fn too_late(self) -> Result<Seen, String> {
        if self.oldest.is_some() {
            return Ok(Seen { oldest: self.oldest, records: None });
        }
        let trouble = self.trouble.map_or_else(String::new, |trouble| format!(": {trouble}"));
        Err(format!("no record came in time{trouble}"))
    }
}
