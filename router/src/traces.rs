//! Traces of records, for OpenTelemetry: which records are traced, what is told of them, and who sends it.
//!
//! A record is one trace with whatever else happened to it before and after, in other processes: it is known by its header
//! `traceparent`, and a record without one begins a trace, whose id follows from where the record stands, so that its retries and
//! other routes find the same. Of each record that is traced there is a span from its fetch to its fate, with one for each stage
//! and one for each delivery in it; of each batch that has such a record there is a span of its own, with links to theirs.
//!
//! | | |
//! | --- | --- |
//! | `context` | the headers |
//! | `spans` | what is told, as OTLP has it |
//! | `export` | the thread that sends it |
//!
//! Lanes note times, and nothing more; all else is done by the thread that sends. It is told of each record once it has its fate, and
//! what it can't take in time is dropped and counted: tracing holds nobody up.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::SyncSender;
use std::time::{Duration, Instant};

use governor::{DefaultDirectRateLimiter, Quota};
use pointsman_config::plan::TracesPlan;
use pointsman_core::delivery::TopicId;
use pointsman_core::event::Event;
use pointsman_core::record::TopicPartition;
use smallvec::SmallVec;
use twox_hash::xxhash3_128::Hasher;

use crate::counters::{Counters, Fate};
pub(crate) use context::{SpanId, TRACEPARENT, TraceId, traceparent};

mod context;
mod export;
mod spans;
#[cfg(test)]
mod tests;

pub(crate) use export::{Exporting, start};

/// Lanes hand over what they have when there are so many records, ...
const RIPE_RECORDS: usize = 64;
/// ... or when the first is so old, at a turn: one that has nothing to do looks within a second.
const RIPE_AGE: Duration = Duration::from_millis(100);

/// Links of one span, as many as OpenTelemetry takes by default.
pub(crate) const LINKS_MAX: usize = 128;

/// Chooses the records that are traced, and takes what is told of them.
pub(crate) struct Tracer {
    /// What is up to here is chosen; `None` chooses nothing.
    sample: Option<u64>,
    limiter: DefaultDirectRateLimiter,
    parcels: SyncSender<Parcel>,
    counters: Arc<Counters>,
}

/// The place of a record that is traced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) trace: TraceId,
    /// The span of whoever wrote it.
    pub(crate) parent: Option<SpanId>,
    /// What the record has as `tracestate`.
    pub(crate) state: Box<str>,
}

/// A record that is traced, from when it is judged until it has its fate.
#[derive(Debug)]
pub(crate) struct RecordTrace {
    pub(crate) place: Place,
    pub(crate) span: SpanId,
    /// Where it came from, if that is not the lane's source partition.
    pub(crate) elsewhere: Option<TopicPartition>,
    pub(crate) offset: i64,
    pub(crate) attempt: u32,
    /// When it was fetched.
    pub(crate) begun: Instant,
    /// The span of the batch that it was judged in last.
    pub(crate) batch: (TraceId, SpanId),
    /// Of all its runs.
    pub(crate) stages: SmallVec<[StageTime; 2]>,
    pub(crate) sends: SmallVec<[Send; 1]>,
    pub(crate) failure: Option<Failed>,
}

/// Why a record failed.
#[derive(Debug)]
pub(crate) struct Failed {
    pub(crate) class: &'static str,
    pub(crate) code: String,
    pub(crate) message: String,
}

/// A stage that a batch went through.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StageTime {
    /// Its index in the route.
    pub(crate) stage: usize,
    pub(crate) begun: Instant,
    pub(crate) ended: Instant,
}

/// A delivery.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Send {
    pub(crate) topic: TopicId,
    /// The span that the delivery names as its own.
    pub(crate) span: SpanId,
    pub(crate) begun: Instant,
}

/// A record that has its fate.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) record: Box<RecordTrace>,
    pub(crate) fate: Fate,
    pub(crate) at: Instant,
}

/// A batch that was judged, with records in it that are traced.
#[derive(Debug)]
pub(crate) struct BatchTrace {
    pub(crate) trace: TraceId,
    pub(crate) span: SpanId,
    pub(crate) begun: Instant,
    pub(crate) ended: Instant,
    /// How many records it had.
    pub(crate) records: usize,
    /// Those that are traced, [`LINKS_MAX`] at most.
    pub(crate) links: Vec<(TraceId, SpanId)>,
}

/// What a lane hands over.
#[derive(Debug)]
pub(crate) struct Parcel {
    /// The route, by its index.
    pub(crate) route: usize,
    /// The lane's source partition.
    pub(crate) source: TopicPartition,
    pub(crate) batches: Vec<BatchTrace>,
    pub(crate) records: Vec<Ended>,
}

impl Parcel {
    /// Nothing yet.
    pub(crate) const fn new(route: usize, source: TopicPartition) -> Self {
        Self { route, source, batches: Vec::new(), records: Vec::new() }
    }

    /// Whether it is to be handed over: to wake who takes it costs more than what is in it, as long as that is little.
    pub(crate) fn is_ripe(&self, now: Instant) -> bool {
        let first = self.batches.first().map(|batch| batch.ended);
        let first = self.records.first().map(|record| record.at).into_iter().chain(first).min();
        self.records.len() >= RIPE_RECORDS
            || first.is_some_and(|first| now.saturating_duration_since(first) >= RIPE_AGE)
    }

    /// How many spans it makes.
    fn spans(&self) -> u64 {
        let records = self.records.iter().map(|Ended { record, .. }| 1 + record.stages.len() + record.sends.len());
        (self.batches.len() + records.sum::<usize>()) as u64
    }
}

impl Tracer {
    fn new(plan: &TracesPlan, parcels: SyncSender<Parcel>, counters: Arc<Counters>) -> Self {
        let second = Quota::per_second(plan.records_per_second);
        // 1.0 makes all bits of it one: the cast ends at the largest number.
        let sample = (plan.sample > 0.0).then_some((plan.sample * 2_f64.powi(64)) as u64);
        Self { sample, limiter: DefaultDirectRateLimiter::direct(second), parcels, counters }
    }

    /// Whether the record is to be traced, and where it stands then; `seed` is of its [partition](seed). A record that says so
    /// itself is, or is not, as it says. The answer is the same each time. It is not asked here whether there are
    /// [too many](Self::may_trace).
    pub(crate) fn place(&self, seed: u64, event: &Event<'_>) -> Option<Place> {
        match context::parent_of(event.headers) {
            Some(parent) if parent.sampled => {
                let state = context::state_of(event.headers);
                Some(Place { trace: parent.trace, parent: Some(parent.span), state })
            }
            Some(_) => None,
            None => {
                let share = mixed(seed ^ event.offset.cast_unsigned());
                let chosen = self.sample.is_some_and(|sample| share <= sample);
                chosen.then(|| Place { trace: trace_of(event), parent: None, state: Box::default() })
            }
        }
    }

    /// Whether one more may be traced in this second.
    pub(crate) fn may_trace(&self) -> bool {
        let may = self.limiter.check().is_ok();
        if !may {
            self.counters.traces.passed_over.fetch_add(1, Ordering::Relaxed);
        }
        may
    }

    /// Hands over what is to be sent. What can't be taken now is lost.
    pub(crate) fn hand_over(&self, parcel: Parcel) {
        let spans = parcel.spans();
        if spans == 0 {
            return;
        }
        if self.parcels.try_send(parcel).is_err() {
            self.counters.traces.lost.fetch_add(spans, Ordering::Relaxed);
        }
    }
}

/// Of a partition: records with the same offset in several are not all chosen, or none.
pub(crate) fn seed(TopicPartition { topic, partition }: &TopicPartition) -> u64 {
    hashed(topic, *partition, &[]) as u64
}

/// The trace that a record begins. Another record at the same place, of another cluster or of a topic that was made anew, was written
/// at another time.
fn trace_of(event: &Event<'_>) -> TraceId {
    TraceId::new(hashed(event.topic, event.partition, &[event.offset, event.timestamp_ms]))
}

fn hashed(topic: &str, partition: i32, numbers: &[i64]) -> u128 {
    let mut bytes = topic.as_bytes().to_vec();
    bytes.extend(partition.to_le_bytes());
    bytes.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
    Hasher::oneshot(&bytes)
}

/// The finalizer of SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014): each bit of the number
/// has a part in each of the answer.
const fn mixed(number: u64) -> u64 {
    let number = (number ^ number >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ number >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ number >> 31
}
