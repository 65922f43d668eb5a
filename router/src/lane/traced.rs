//! What a lane notes of records that are [traced](crate::traces).

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Instant;

use pointsman_core::delivery::TopicId;
use pointsman_core::event::Event;
use pointsman_core::failure::Failure;
use pointsman_core::record::{Headers, OwnedHeader, TopicPartition};
use slab::Slab;
use smallvec::SmallVec;
use tracing::span::EnteredSpan;
use tracing::{Span, info_span};

use super::{Lane, Unit, Which};
use crate::counters::Fate;
use crate::traces::{
    self, BatchTrace, Ended, Failed, LINKS_MAX, Parcel, Place, RecordTrace, Send, SpanId, StageTime, TRACEPARENT,
    TraceId, Tracer, traceparent,
};

/// Of one lane.
pub(super) struct Traces {
    tracer: Arc<Tracer>,
    seed: u64,
    /// Records that are judged and have no fate. The [flight](crate::intake::Flight::trace) of each says where it is here, from one on, so
    /// that nobody has to look for others.
    open: Slab<Box<RecordTrace>>,
    /// The last time that is known: to read a clock for each record would cost more than all else that is noted of it.
    at: Instant,
    /// To be handed over.
    parcel: Parcel,
}

/// The records of a batch that are traced.
pub(super) struct Chosen {
    trace: TraceId,
    span: SpanId,
    begun: Instant,
    /// By their indices.
    records: Vec<(usize, Place, Noted)>,
    /// When each stage had the batch.
    pub(super) stages: Vec<StageTime>,
}

/// What is told of a record and is not known any more when it has its fate.
struct Noted {
    elsewhere: Option<TopicPartition>,
    offset: i64,
    attempt: u32,
}

impl Traces {
    pub(super) fn new(tracer: Arc<Tracer>, source: &TopicPartition, route: usize, now: Instant) -> Self {
        let parcel = Parcel::new(route, source.clone());
        Self { tracer, seed: traces::seed(source), open: Slab::new(), at: now, parcel }
    }

    fn hand_over(&mut self) {
        let next = Parcel::new(self.parcel.route, self.parcel.source.clone());
        self.tracer.hand_over(std::mem::replace(&mut self.parcel, next));
    }

    fn record(&mut self, place: NonZeroU32) -> Option<&mut RecordTrace> {
        self.open.get_mut(place.get() as usize - 1).map(|record| &mut **record)
    }
}

/// What the lane has left when it ends.
impl Drop for Traces {
    fn drop(&mut self) {
        self.hand_over();
    }
}

/// The ids of a delivery that is traced.
pub(super) struct Onward {
    pub(super) trace: TraceId,
    pub(super) span: SpanId,
}

impl Onward {
    /// The headers of what is sent on, but for the one that is to be added; `None` is all of them.
    pub(super) fn keep(headers: Headers<'_>) -> Option<Vec<OwnedHeader>> {
        let is_ours = |name: &[u8]| name == TRACEPARENT.as_bytes();
        headers
            .iter()
            .any(|header| is_ours(header.name))
            .then(|| headers.iter().filter(|header| !is_ours(header.name)).map(OwnedHeader::from).collect())
    }

    /// The one that is to be added, if the event has room for it: nothing is to be refused for being traced.
    pub(super) fn header(&self, event: &Event<'_>, max_record_bytes: usize) -> Option<OwnedHeader> {
        let header = OwnedHeader::text(TRACEPARENT, traceparent(self.trace, self.span));
        let key_and_value = event.key.map_or(0, <[u8]>::len) + event.value.map_or(0, <[u8]>::len);
        let bytes = key_and_value + event.headers.bytes() + header.as_header().bytes();
        (event.headers.last(TRACEPARENT).is_some() || bytes <= max_record_bytes).then_some(header)
    }
}

impl Lane {
    /// Chooses from records that are about to be judged, where any are traced.
    pub(super) fn choose_traced(&self, units: &[Unit], records: &[Event<'_>]) -> Option<Chosen> {
        let traces = self.traces.as_deref()?;
        let mut chosen = Vec::new();
        for (index, record) in records.iter().enumerate() {
            let Some(place) = traces.tracer.place(traces.seed, record) else { continue };
            if self.trace(units[index]).is_none() && !traces.tracer.may_trace() {
                continue;
            }
            let source = &self.source.partition;
            let is_ours = *source.topic == *record.topic && source.partition == record.partition;
            let elsewhere = (!is_ours).then(|| TopicPartition::new(record.topic, record.partition));
            chosen.push((index, place, Noted { elsewhere, offset: record.offset, attempt: record.attempt }));
        }
        (!chosen.is_empty()).then(|| Chosen {
            trace: TraceId::new(fastrand::u128(..)),
            span: SpanId::new(fastrand::u64(..)),
            begun: Instant::now(),
            records: chosen,
            stages: Vec::new(),
        })
    }

    /// Names a batch in log lines, where records of it are traced.
    pub(super) fn name_batch(&self, chosen: Option<&Chosen>) -> Option<EnteredSpan> {
        chosen.map(|Chosen { trace, span, .. }| self.named_span(*trace, *span).entered())
    }

    /// Names a record in log lines, where it is traced.
    pub(super) fn name_record(&self, unit: Unit) -> Option<EnteredSpan> {
        let place = self.trace(unit)?;
        let record = self.traces.as_deref()?.open.get(place.get() as usize - 1)?;
        Some(self.named_span(record.place.trace, record.span).entered())
    }

    /// In place of the lane's own: log lines show one.
    fn named_span(&self, trace: TraceId, span: SpanId) -> Span {
        info_span!(
            parent: None,
            "lane",
            route = %self.plan().name,
            lane = %self.source.partition,
            trace_id = %trace,
            span_id = %span
        )
    }

    /// Notes that these records of the batch were judged, which are the first of it.
    pub(super) fn note_judged(&mut self, units: &[Unit], chosen: Option<Chosen>) {
        let Some(Chosen { trace, span: batch, begun, records, stages }) = chosen else { return };
        let ended = Instant::now();
        let mut links = Vec::new();
        for (index, place, noted) in records {
            let Some(unit) = units.get(index).copied() else { break };
            let fetched = match unit.which {
                Which::Source => self.source.fetched(unit.seq),
                Which::Retry => self.retry.as_ref().and_then(|retry| retry.fetched(unit.seq)),
            };
            let known = self.trace(unit);
            let Some(traces) = self.traces.as_deref_mut() else { return };
            traces.at = ended;
            let at = known.unwrap_or_else(|| {
                let at = traces.open.insert(Box::new(RecordTrace {
                    place,
                    span: SpanId::new(fastrand::u64(..)),
                    elsewhere: noted.elsewhere,
                    offset: noted.offset,
                    attempt: noted.attempt,
                    begun: fetched.unwrap_or(begun),
                    batch: (trace, batch),
                    stages: SmallVec::new(),
                    sends: SmallVec::new(),
                    failure: None,
                }));
                // There are no more than records in flight.
                u32::try_from(at).ok().and_then(|at| NonZeroU32::new(at + 1)).unwrap_or(NonZeroU32::MAX)
            });
            let Some(record) = traces.record(at) else { continue };
            record.attempt = noted.attempt;
            record.batch = (trace, batch);
            record.failure = None;
            record.stages.extend_from_slice(&stages);
            if links.len() < LINKS_MAX {
                links.push((record.place.trace, record.span));
            }
            if let Some(flight) = self.flight(unit) {
                flight.trace = Some(at);
            }
        }
        if let Some(traces) = self.traces.as_deref_mut()
            && !links.is_empty()
        {
            traces.parcel.batches.push(BatchTrace { trace, span: batch, begun, ended, records: units.len(), links });
        }
    }

    /// Where it is noted of the record, if it is traced.
    fn trace(&self, unit: Unit) -> Option<NonZeroU32> {
        match (unit.which, &self.traces, &self.retry) {
            (_, None, _) => None,
            (Which::Source, ..) => self.source.trace(unit.seq),
            (Which::Retry, _, retry) => retry.as_ref()?.trace(unit.seq),
        }
    }

    /// The time that it is now, for what is noted from now on.
    pub(super) fn tell_traces_the_time(&mut self, now: Instant) {
        if let Some(traces) = &mut self.traces {
            traces.at = now;
        }
    }

    /// The ids for a delivery of the record, where that is traced.
    pub(super) fn onward(&mut self, unit: Unit) -> Option<Onward> {
        let place = self.trace(unit)?;
        let record = self.traces.as_deref_mut()?.record(place)?;
        Some(Onward { trace: record.place.trace, span: SpanId::new(fastrand::u64(..)) })
    }

    /// Whether the record is traced, and names a trace that is not to go on with it: its headers can't go on as they are.
    pub(super) fn has_another_trace(&self, unit: Unit) -> bool {
        let names_one = || self.record(unit).is_some_and(|record| record.headers.last(TRACEPARENT).is_some());
        self.trace(unit).is_some() && names_one()
    }

    /// Notes that a delivery was handed to the producer.
    #[inline]
    pub(super) fn note_send(&mut self, unit: Unit, topic: TopicId, onward: Option<Onward>) {
        // Mostly it is not traced.
        let Some(Onward { span, .. }) = onward else { return };
        let Some(place) = self.trace(unit) else { return };
        let Some(traces) = self.traces.as_deref_mut() else { return };
        let begun = traces.at;
        if let Some(record) = traces.record(place) {
            record.sends.push(Send { topic, span, begun });
        }
    }

    /// Notes why the record failed.
    pub(super) fn note_failure(&mut self, unit: Unit, failure: &Failure) {
        let Some(place) = self.trace(unit) else { return };
        if let Some(record) = self.traces.as_deref_mut().and_then(|traces| traces.record(place)) {
            let (code, message) = (failure.code.clone(), failure.message.clone());
            record.failure = Some(Failed { class: failure.class.name(), code, message });
        }
    }

    /// Notes that the record has its fate.
    pub(super) fn end_trace(&mut self, unit: Unit, fate: Fate) {
        if let Some(record) = self.take_trace(unit)
            && let Some(traces) = self.traces.as_deref_mut()
        {
            traces.parcel.records.push(Ended { record, fate, at: traces.at });
        }
    }

    /// The record is to be run at another time, as if it had not been run now.
    pub(super) fn forget_trace(&mut self, unit: Unit) {
        drop(self.take_trace(unit));
    }

    fn take_trace(&mut self, unit: Unit) -> Option<Box<RecordTrace>> {
        self.traces.as_ref()?;
        let place = self.flight(unit)?.trace.take()?;
        self.traces.as_deref_mut()?.open.try_remove(place.get() as usize - 1)
    }

    /// Hands over what is to be sent.
    pub(super) fn hand_over_traces(&mut self) {
        if let Some(traces) = self.traces.as_deref_mut()
            && traces.parcel.is_ripe(traces.at)
        {
            traces.hand_over();
        }
    }

    /// Records that are noted and have no fate.
    #[cfg(test)]
    pub(super) fn open_traces(&self) -> usize {
        self.traces.as_deref().map_or(0, |traces| traces.open.len())
    }
}
