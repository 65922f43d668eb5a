//! What a lane notes of records that are [traced](crate::traces).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use pointsman_core::delivery::TopicId;
use pointsman_core::event::Event;
use pointsman_core::failure::Failure;
use pointsman_core::record::{Headers, OwnedHeader, TopicPartition};
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
    /// Records that are judged and have no fate. Each is marked where it is in flight, so that nobody has to look here for others.
    open: HashMap<Unit, RecordTrace>,
    /// To be handed over at the end of the turn.
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
    origin: TopicPartition,
    offset: i64,
    attempt: u32,
}

impl Traces {
    pub(super) fn new(tracer: Arc<Tracer>, source: &TopicPartition, route: usize) -> Self {
        let parcel = Parcel { route, ..Parcel::default() };
        Self { tracer, seed: traces::seed(source), open: HashMap::new(), parcel }
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
            if !traces.open.contains_key(&units[index]) && !traces.tracer.may_trace() {
                continue;
            }
            let source = &self.source.partition;
            let origin = if *source.topic == *record.topic && source.partition == record.partition {
                source.clone()
            } else {
                TopicPartition::new(record.topic, record.partition)
            };
            chosen.push((index, place, Noted { origin, offset: record.offset, attempt: record.attempt }));
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
    pub(super) fn name_record(&mut self, unit: Unit) -> Option<EnteredSpan> {
        if !self.is_traced(unit) {
            return None;
        }
        let record = self.traces.as_deref()?.open.get(&unit)?;
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

    /// Notes that the first `judged` records of the batch were judged.
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
            let Some(flight) = self.flight(unit) else { continue };
            flight.traced = true;
            let Some(traces) = self.traces.as_deref_mut() else { return };
            let Noted { origin, offset, attempt } = noted;
            let record = traces.open.entry(unit).or_insert_with(|| RecordTrace {
                place,
                span: SpanId::new(fastrand::u64(..)),
                origin,
                offset,
                attempt,
                begun: fetched.unwrap_or(begun),
                batch: (trace, batch),
                stages: Vec::new(),
                sends: Vec::new(),
                failure: None,
            });
            record.attempt = record.attempt.max(attempt);
            record.batch = (trace, batch);
            record.failure = None;
            record.stages.extend_from_slice(&stages);
            if links.len() < LINKS_MAX {
                links.push((record.place.trace, record.span));
            }
        }
        if let Some(traces) = self.traces.as_deref_mut()
            && !links.is_empty()
        {
            traces.parcel.batches.push(BatchTrace { trace, span: batch, begun, ended, records: units.len(), links });
        }
    }

    /// Whether the record is traced.
    pub(super) fn is_traced(&mut self, unit: Unit) -> bool {
        self.traces.is_some() && self.flight(unit).is_some_and(|flight| flight.traced)
    }

    /// The ids for a delivery of the record, where that is traced.
    pub(super) fn onward(&mut self, unit: Unit) -> Option<Onward> {
        if !self.is_traced(unit) {
            return None;
        }
        let record = self.traces.as_deref()?.open.get(&unit)?;
        Some(Onward { trace: record.place.trace, span: SpanId::new(fastrand::u64(..)) })
    }

    /// Notes that a delivery was handed to the producer.
    pub(super) fn note_send(&mut self, unit: Unit, topic: TopicId, onward: Option<Onward>) {
        if let (Some(Onward { span, .. }), Some(traces)) = (onward, self.traces.as_deref_mut())
            && let Some(record) = traces.open.get_mut(&unit)
        {
            record.sends.push(Send { topic, span, begun: Instant::now() });
        }
    }

    /// Notes why the record failed.
    pub(super) fn note_failure(&mut self, unit: Unit, failure: &Failure) {
        if self.is_traced(unit)
            && let Some(traces) = self.traces.as_deref_mut()
            && let Some(record) = traces.open.get_mut(&unit)
        {
            let (code, message) = (failure.code.clone(), failure.message.clone());
            record.failure = Some(Failed { class: failure.class.name(), code, message });
        }
    }

    /// Notes that the record has its fate.
    pub(super) fn end_trace(&mut self, unit: Unit, fate: Fate) {
        if self.is_traced(unit)
            && let Some(traces) = self.traces.as_deref_mut()
            && let Some(record) = traces.open.remove(&unit)
        {
            traces.parcel.records.push(Ended { record, fate, at: Instant::now() });
        }
    }

    /// The record is to be run at another time, as if it had not been run now.
    pub(super) fn forget_trace(&mut self, unit: Unit) {
        self.traces.as_deref_mut().into_iter().for_each(|traces| drop(traces.open.remove(&unit)));
    }

    /// Records that are noted and have no fate.
    #[cfg(test)]
    pub(super) fn open_traces(&self) -> usize {
        self.traces.as_deref().map_or(0, |traces| traces.open.len())
    }

    /// Hands over what is to be sent.
    pub(super) fn hand_over_traces(&mut self) {
        if let Some(traces) = self.traces.as_deref_mut()
            && !traces.parcel.is_empty()
        {
            let next = Parcel { route: traces.parcel.route, ..Parcel::default() };
            traces.tracer.hand_over(std::mem::replace(&mut traces.parcel, next));
        }
    }
}
