//! What is told of records that were traced, as OTLP has it. Names and attributes are those of OpenTelemetry's semantic conventions for
//! messaging (<https://opentelemetry.io/docs/specs/semconv/messaging/>); what is the router's own begins with `pointsman.`.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::{Link, SpanKind};
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status, TracesData};
use pointsman_config::Plan;
use pointsman_config::plan::{BrokerPlan, RoutePlan, StagePlan};
use pointsman_core::delivery::TopicId;

use super::{BatchTrace, Ended, Failed, Parcel, RecordTrace, Send, SpanId, StageTime, TraceId};
use crate::otlp::{number, scope, text};

/// The flag of a span and of a link: its trace is recorded.
const SAMPLED: u32 = 1;

/// The clocks at one time, by which instants are told as times of the day.
#[derive(Clone, Copy)]
pub(super) struct Clocks {
    instant: Instant,
    /// Since 1970-01-01 UTC.
    unix_ns: u64,
}

impl Clocks {
    pub(super) fn read() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { instant: Instant::now(), unix_ns: u64::try_from(since.as_nanos()).unwrap_or(u64::MAX) }
    }

    #[cfg(test)]
    pub(super) fn instant(self) -> Instant {
        self.instant
    }

    fn unix_ns(self, at: Instant) -> u64 {
        let nanoseconds = |duration: std::time::Duration| u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        let since = nanoseconds(at.saturating_duration_since(self.instant));
        self.unix_ns.saturating_add(since).saturating_sub(nanoseconds(self.instant.saturating_duration_since(at)))
    }
}

/// One message for these spans.
pub(super) fn message(resource: Resource, spans: Vec<Span>) -> TracesData {
    let scope_spans = vec![ScopeSpans { scope: Some(scope()), spans, ..Default::default() }];
    TracesData { resource_spans: vec![ResourceSpans { resource: Some(resource), scope_spans, ..Default::default() }] }
}

/// The spans of what a lane has handed over.
pub(super) fn of(plan: &Plan, parcel: Parcel, clocks: Clocks, spans: &mut Vec<Span>) {
    let Some(route) = plan.routes.get(parcel.route) else { return };
    let teller = Teller { plan, route, clocks };
    spans.extend(parcel.batches.into_iter().map(|batch| teller.batch(batch)));
    parcel.records.into_iter().for_each(|ended| teller.record(ended, spans));
}

struct Teller<'a> {
    plan: &'a Plan,
    route: &'a RoutePlan,
    clocks: Clocks,
}

impl Teller<'_> {
    fn span(
        &self,
        trace: TraceId,
        id: SpanId,
        name: String,
        kind: SpanKind,
        (begun, ended): (Instant, Instant),
    ) -> Span {
        Span {
            trace_id: trace.bytes().to_vec(),
            span_id: id.bytes().to_vec(),
            flags: SAMPLED,
            name,
            kind: kind.into(),
            start_time_unix_nano: self.clocks.unix_ns(begun),
            end_time_unix_nano: self.clocks.unix_ns(ended.max(begun)),
            ..Default::default()
        }
    }

    const fn system(&self) -> &'static str {
        match self.plan.broker {
            BrokerPlan::Kafka { .. } => "kafka",
            BrokerPlan::Embedded { .. } => "pointsman",
        }
    }

    /// What is told of everything that is done with a topic.
    fn messaging(&self, operation: &str, topic: &str) -> Vec<opentelemetry_proto::tonic::common::v1::KeyValue> {
        vec![
            text("messaging.system", self.system()),
            text("messaging.operation.name", operation),
            text("messaging.operation.type", operation),
            text("messaging.destination.name", topic),
        ]
    }

    fn batch(&self, batch: BatchTrace) -> Span {
        let BatchTrace { trace, span, begun, ended, records, links } = batch;
        let links = links.into_iter().map(|(trace, span)| link(trace, span));
        let attributes = vec![
            number("messaging.batch.message_count", i64::try_from(records).unwrap_or(i64::MAX)),
            text("messaging.consumer.group.name", &*self.route.group),
            text("pointsman.route", &*self.route.name),
        ];
        Span {
            links: links.collect(),
            attributes,
            ..self.span(trace, span, format!("batch {}", self.route.name), SpanKind::Internal, (begun, ended))
        }
    }

    /// A span for the record, and those in it.
    fn record(&self, Ended { record, fate, at }: Ended, spans: &mut Vec<Span>) {
        let RecordTrace { place, span, origin, offset, attempt, begun, batch, stages, sends, failure } = record;
        let mut attributes = self.messaging("process", &origin.topic);
        attributes.extend([
            text("messaging.destination.partition.id", origin.partition.to_string()),
            number("messaging.kafka.offset", offset),
            text("messaging.consumer.group.name", &*self.route.group),
            text("pointsman.route", &*self.route.name),
            text("pointsman.fate", fate.name()),
            number("pointsman.attempt", attempt.into()),
        ]);
        let mut status = None;
        if let Some(Failed { class, code, message }) = failure {
            attributes.push(text("error.type", class));
            attributes.push(text("pointsman.failure.code", code));
            status = Some(Status { message, code: StatusCode::Error.into() });
        }
        let inner = |id, name, kind, times| Span {
            parent_span_id: span.bytes().to_vec(),
            trace_state: place.state.to_string(),
            ..self.span(place.trace, id, name, kind, times)
        };
        spans.extend(stages.into_iter().map(|StageTime { stage, begun, ended }| {
            let name = format!("stage {}", self.stage(stage));
            let id = SpanId::new(fastrand::u64(..));
            Span {
                attributes: vec![number("pointsman.stage", stage as i64)],
                ..inner(id, name, SpanKind::Internal, (begun, ended))
            }
        }));
        spans.extend(sends.into_iter().map(|Send { topic, span: id, begun }| {
            let topic = self.topic(topic);
            let attributes = self.messaging("send", topic);
            Span { attributes, ..inner(id, format!("send {topic}"), SpanKind::Producer, (begun, at)) }
        }));
        let name = format!("process {}", origin.topic);
        spans.push(Span {
            parent_span_id: place.parent.map(|parent| parent.bytes().to_vec()).unwrap_or_default(),
            trace_state: place.state.into(),
            attributes,
            links: vec![link(batch.0, batch.1)],
            status,
            ..self.span(place.trace, span, name, SpanKind::Consumer, (begun, at))
        });
    }

    fn stage(&self, index: usize) -> &str {
        match self.route.stages.get(index).map(StagePlan::plugin) {
            Some(Some(plugin)) => self.plan.plugins.get(plugin.0 as usize).map_or("", |plugin| &plugin.name),
            _ => "filter",
        }
    }

    fn topic(&self, TopicId(index): TopicId) -> &str {
        self.plan.topics.get(index as usize).map_or("", |topic| &topic.name)
    }
}

fn link(trace: TraceId, span: SpanId) -> Link {
    Link { trace_id: trace.bytes().to_vec(), span_id: span.bytes().to_vec(), flags: SAMPLED, ..Default::default() }
}
