//! A log in memory, **simulated**: topics, partitions and offsets as Kafka and the embedded log have them, without disk,
//! network or threads. What is done in one order twice gives the same records twice.
//!
//! It has the ports that a lane needs, [`Feed`] and [`Sink`]. It has no groups, no retention, and no failures of its own:
//! a delivery is refused for the reasons that the real logs have (size, no such partition), and for no others.

use std::any::Any;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use pointsman_core::delivery::{Delivery, Forward, PartitionChoice, partition_of_key};
use pointsman_core::port::{
    Batch, DeliveryError, Feed, FeedError, ProduceError, Report, Returned, Sink, SinkFailed, Token, Undelivered, Waker,
};
use pointsman_core::record::{Header, Headers, OwnedRecord, Record, TopicPartition};

use crate::parking::Reader;

/// Bytes that a sink queues at most before it is served; a larger record comes alone.
const QUEUE_BYTES: usize = 16 << 20;

/// The log. Clones are the same log.
#[derive(Clone)]
pub(crate) struct SimulatedLog(Arc<Mutex<State>>);

struct State {
    topics: BTreeMap<Arc<str>, Topic>,
    max_record_bytes: usize,
    now_ms: i64,
    /// The next fetch fails.
    fails: bool,
}

#[derive(Default)]
struct Topic {
    partitions: Vec<Partition>,
    /// All records, in the order of writing.
    written: Vec<Written>,
}

#[derive(Default)]
struct Partition {
    /// For each offset, the index in [`Topic::written`].
    records: Vec<usize>,
    /// The first offset that is not [removed](SimulatedLog::trim).
    first: i64,
    wakers: Vec<Weak<dyn Fn() + Send + Sync>>,
}

/// A record and its partition.
#[derive(Clone, Debug)]
pub(crate) struct Written {
    pub(crate) partition: i32,
    pub(crate) record: Arc<OwnedRecord>,
}

/// Why nothing was written: the real logs' reason, as code and message.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) code: &'static str,
    pub(crate) message: String,
}

impl SimulatedLog {
    /// A log without topics. A record of more than `max_record_bytes` (key, value, headers) is refused.
    pub(crate) fn new(max_record_bytes: usize) -> Self {
        let state = State { topics: BTreeMap::new(), max_record_bytes, now_ms: 0, fails: false };
        Self(Arc::new(Mutex::new(state)))
    }

    /// Makes a topic, unless it is there.
    pub(crate) fn create(&self, topic: &Arc<str>, partitions: u32) {
        self.state().topics.entry(Arc::clone(topic)).or_insert_with(|| Topic {
            partitions: (0..partitions).map(|_| Partition::default()).collect(),
            written: Vec::new(),
        });
    }

    /// Sets the clock, which stamps records that come without a timestamp. Milliseconds since 1970-01-01 UTC.
    pub(crate) fn set_now(&self, now_ms: i64) {
        self.state().now_ms = now_ms;
    }

    /// Writes a record; its offset is chosen here. The answer says where it is.
    pub(crate) fn append(
        &self,
        topic: &str,
        partition: PartitionChoice,
        record: OwnedRecord,
    ) -> Result<Written, Refusal> {
        let (written, wakers) = self.state().append(topic, partition, record)?;
        // Woken without the lock: a waker may come back for records at once.
        for waker in wakers {
            waker();
        }
        Ok(written)
    }

    /// The records of a topic, of all its partitions, in the order of writing.
    pub(crate) fn written(&self, topic: &str) -> Vec<Written> {
        self.state().topics.get(topic).map(|topic| topic.written.clone()).unwrap_or_default()
    }

    /// Removes what a partition has below `offset`, as far as readers see. [`written`](Self::written) still knows it.
    #[cfg(test)]
    pub(crate) fn trim(&self, partition: &TopicPartition, offset: i64) {
        let mut state = self.state();
        let number = usize::try_from(partition.partition).unwrap_or(usize::MAX);
        let topic = state.topics.get_mut(&partition.topic);
        if let Some(partition) = topic.and_then(|topic| topic.partitions.get_mut(number)) {
            partition.first = partition.first.max(offset);
        }
    }

    /// Has the next fetch fail, whoever makes it.
    #[cfg(test)]
    pub(crate) fn fail_next_fetch(&self) {
        self.state().fails = true;
    }

    /// Deletes the records of a topic, as if it had been deleted and made anew.
    #[cfg(test)]
    pub(crate) fn replace(&self, topic: &str) {
        if let Some(Topic { partitions, written }) = self.state().topics.get_mut(topic) {
            written.clear();
            partitions.iter_mut().for_each(|partition| partition.records.clear());
        }
    }

    /// Reads a partition from `start`.
    pub(crate) fn feed(&self, partition: TopicPartition, start: i64) -> SimulatedFeed {
        SimulatedFeed { log: self.clone(), partition, next: start, emptied: false, reached_end: false, waker: None }
    }

    /// Reads partitions anew.
    pub(crate) fn reader(&self) -> Reader {
        let log = self.clone();
        Box::new(move |partition, offset| Ok(Box::new(log.feed(partition.clone(), offset))))
    }

    /// Opens a sink; [`TopicId`](pointsman_core::delivery::TopicId) is the index in `topics`.
    pub(crate) fn sink(&self, topics: Vec<Arc<str>>) -> SimulatedSink {
        SimulatedSink { log: self.clone(), topics, queue: Vec::new(), queued_bytes: 0 }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn append(
        &mut self,
        name: &str,
        choice: PartitionChoice,
        mut record: OwnedRecord,
    ) -> Result<(Written, Vec<Waker>), Refusal> {
        let bytes = record.as_record().bytes();
        if bytes > self.max_record_bytes {
            let limit = self.max_record_bytes;
            let message = format!("a record of {bytes} bytes for {name}: the limit is {limit} bytes");
            return Err(Refusal { code: "record-too-large", message });
        }
        let Some(topic) = self.topics.get_mut(name) else {
            return Err(Refusal { code: "unknown-topic", message: format!("there is no topic {name}") });
        };
        let count = topic.partitions.len();
        let number = topic.choose(choice, record.key.as_deref());
        let partition = usize::try_from(number).ok().and_then(|index| topic.partitions.get_mut(index));
        let Some(partition) = partition else {
            let message = format!("topic {name} has {count} partitions and no number {number}");
            return Err(Refusal { code: "unknown-partition", message });
        };
        record.offset = i64::try_from(partition.records.len()).unwrap_or(i64::MAX);
        if record.timestamp_ms < 0 {
            record.timestamp_ms = self.now_ms;
        }
        let written = Written { partition: number, record: Arc::new(record) };
        partition.records.push(topic.written.len());
        partition.wakers.retain(|waker| waker.strong_count() > 0);
        let wakers = partition.wakers.iter().filter_map(Weak::upgrade).collect();
        topic.written.push(written.clone());
        Ok((written, wakers))
    }
}

impl Topic {
    /// Records without a key go round, as on the embedded log.
    fn choose(&self, choice: PartitionChoice, key: Option<&[u8]>) -> i32 {
        let count = u32::try_from(self.partitions.len()).unwrap_or(u32::MAX).max(1);
        let number = match (choice, key) {
            (PartitionChoice::Exactly(number), _) => return number,
            (PartitionChoice::ByKey, Some(key)) => partition_of_key(key, count),
            (PartitionChoice::ByKey, None) => u32::try_from(self.written.len()).unwrap_or(0) % count,
        };
        i32::try_from(number).unwrap_or(i32::MAX)
    }
}

/// Reads one partition of a [`SimulatedLog`].
pub(crate) struct SimulatedFeed {
    log: SimulatedLog,
    partition: TopicPartition,
    next: i64,
    emptied: bool,
    reached_end: bool,
    /// The log knows it weakly, so it goes with the feed.
    waker: Option<Waker>,
}

/// Records, and what of each a sink took along.
struct SimulatedBatch(Vec<(Arc<OwnedRecord>, Taken)>);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Taken {
    Nothing,
    Headers,
    All,
}

/// In place of headers that a sink took along.
const TAKEN: &[Header<'static>] = &[Header { name: b"\xffheaders that were taken along", value: None }];

/// What a sink does that accepts a forwarded record.
pub(crate) fn take_along(batch: &mut dyn Batch, index: usize, whole: bool) {
    if let Some(SimulatedBatch(records)) = (batch as &mut dyn Any).downcast_mut() {
        records[index].1 = if whole { Taken::All } else { Taken::Headers };
    }
}

impl Batch for SimulatedBatch {
    fn len(&self) -> usize {
        self.0.len()
    }

    fn record(&self, index: usize) -> Record<'_> {
        let (record, taken) = &self.0[index];
        let record = record.as_record();
        match taken {
            Taken::Nothing => record,
            Taken::Headers => Record { headers: Headers::Borrowed(TAKEN), ..record },
            Taken::All => Record { headers: Headers::Borrowed(TAKEN), key: None, value: None, ..record },
        }
    }

    fn restore(&mut self, index: usize, returned: Option<Returned>) -> bool {
        let (record, taken) = &mut self.0[index];
        if *taken == Taken::All {
            let Some(returned) = returned else { return false };
            *record = Arc::new(returned.as_record(record.offset, record.timestamp_ms).into());
        }
        *taken = Taken::Nothing;
        true
    }
}

impl Feed for SimulatedFeed {
    fn fetch(&mut self, max_records: usize, max_bytes: usize) -> Result<Option<Box<dyn Batch>>, FeedError> {
        let mut state = self.log.state();
        if std::mem::take(&mut state.fails) {
            return Err(FeedError::Unavailable {
                partition: self.partition.clone(),
                code: "fetch-failed".into(),
                message: "the simulated log was told to fail".into(),
            });
        }
        let topic = state.topics.get(&self.partition.topic);
        let number = usize::try_from(self.partition.partition).unwrap_or(usize::MAX);
        let found = topic.and_then(|topic| Some((topic, topic.partitions.get(number)?)));
        let Some((topic, partition)) = found else {
            return Err(FeedError::Unavailable {
                partition: self.partition.clone(),
                code: "unknown-partition".into(),
                message: "the simulated log has no such partition".into(),
            });
        };
        if self.next < partition.first {
            let end = i64::try_from(partition.records.len()).unwrap_or(i64::MAX);
            return Err(FeedError::OutOfRange {
                partition: self.partition.clone(),
                wanted: self.next,
                available: Some((partition.first, end)),
            });
        }
        let start = usize::try_from(self.next).unwrap_or(0);
        let (mut records, mut bytes) = (Vec::new(), 0_usize);
        for index in partition.records.iter().skip(start).take(max_records) {
            let record = &topic.written[*index].record;
            bytes = bytes.saturating_add(record.as_record().bytes());
            if bytes > max_bytes && !records.is_empty() {
                break;
            }
            records.push((Arc::clone(record), Taken::Nothing));
        }
        self.emptied = start + records.len() == partition.records.len();
        drop(state);
        let Some((last, _)) = records.last() else {
            self.reached_end = true;
            return Ok(None);
        };
        self.next = last.offset + 1;
        Ok(Some(Box::new(SimulatedBatch(records))))
    }

    fn wake_with(&mut self, waker: Waker) {
        let number = usize::try_from(self.partition.partition).unwrap_or(usize::MAX);
        let mut state = self.log.state();
        let topic = state.topics.get_mut(&self.partition.topic);
        if let Some(partition) = topic.and_then(|topic| topic.partitions.get_mut(number)) {
            partition.wakers.push(Arc::downgrade(&waker));
        }
        drop(state);
        self.waker = Some(waker);
    }

    fn is_emptied(&self) -> bool {
        self.emptied
    }

    fn reached_end(&self) -> bool {
        self.reached_end
    }
}

/// Writes to a [`SimulatedLog`]: what is produced is there, and reported, once the sink is served.
pub(crate) struct SimulatedSink {
    log: SimulatedLog,
    topics: Vec<Arc<str>>,
    queue: Vec<Queued>,
    queued_bytes: usize,
}

struct Queued {
    topic: Arc<str>,
    partition: PartitionChoice,
    record: OwnedRecord,
    token: Token,
}

impl Sink for SimulatedSink {
    /// Whatever is produced is written at once.
    fn capacity_bytes(&self) -> usize {
        usize::MAX
    }

    fn produce(&mut self, delivery: &Delivery<'_>, token: Token) -> Result<usize, ProduceError> {
        let Some(topic) = self.topics.get(delivery.topic.0 as usize) else {
            let message = format!("the sink was opened for {} topics", self.topics.len());
            return Err(DeliveryError::Refused { code: "unknown-topic".into(), message }.into());
        };
        let mut headers = delivery.headers.to_owned();
        headers.extend(delivery.stamps.to_owned());
        let record = OwnedRecord {
            offset: 0,
            timestamp_ms: delivery.timestamp_ms,
            key: delivery.key.map(Into::into),
            value: delivery.value.map(Into::into),
            headers,
        };
        let bytes = record.as_record().bytes();
        if !self.queue.is_empty() && self.queued_bytes + bytes > QUEUE_BYTES {
            return Err(ProduceError::Full);
        }
        self.queued_bytes += bytes;
        self.queue.push(Queued { topic: Arc::clone(topic), partition: delivery.partition, record, token });
        Ok(bytes)
    }

    fn forward(
        &mut self,
        batch: &mut dyn Batch,
        index: usize,
        forward: &Forward<'_>,
        token: Token,
    ) -> Result<usize, ProduceError> {
        let bytes = self.produce(&forward.of(batch.record(index)), token)?;
        take_along(batch, index, forward.whole);
        Ok(bytes)
    }

    fn serve(&mut self, reports: &mut Vec<Report>) -> Result<(), SinkFailed> {
        self.serve_topics(|_| true, reports);
        Ok(())
    }
}

impl SimulatedSink {
    /// Writes what is queued for these topics.
    pub(crate) fn serve_topics(&mut self, are_served: impl Fn(&Arc<str>) -> bool, reports: &mut Vec<Report>) {
        for Queued { topic, partition, record, token } in self.queue.extract_if(.., |queued| are_served(&queued.topic))
        {
            self.queued_bytes -= record.as_record().bytes();
            let returned = Returned::from(record.as_record());
            let result = self.log.append(&topic, partition, record).map(|written| Some(written.record.offset));
            let undelivered = |Refusal { code, message }| {
                let error = DeliveryError::Refused { code: code.into(), message };
                Box::new(Undelivered { error, record: Some(returned) })
            };
            reports.push(Report { token, result: result.map_err(undelivered) });
        }
    }
}

#[cfg(test)]
mod tests;
