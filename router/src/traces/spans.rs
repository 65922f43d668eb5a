//! What is told of records that were traced, as OTLP has it. Names and attributes are those of OpenTelemetry's semantic conventions for
//! messaging (<https://opentelemetry.io/docs/specs/semconv/messaging/>); what is the router's own begins with `pointsman.`.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::{Link, SpanKind};
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};
use pointsman_config::Plan;
use pointsman_config::plan::{BrokerPlan, RoutePlan, StagePlan};
use pointsman_core::delivery::TopicId;
use pointsman_core::record::TopicPartition;
use prost::Message as _;
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint, key_len};

use super::{BatchTrace, Ended, Failed, Parcel, RecordTrace, Send, SpanId, StageTime, TraceId};
use crate::counters::Fate;
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
        let nanoseconds = |duration: Duration| u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        // Mostly it is a while ago.
        match self.instant.checked_duration_since(at) {
            Some(ago) => self.unix_ns.saturating_sub(nanoseconds(ago)),
            None => self.unix_ns.saturating_add(nanoseconds(at.saturating_duration_since(self.instant))),
        }
    }
}

/// Spans on their way, encoded one by one.
///
/// What is the same for many of them (names, most attributes) is encoded once, as a [template](Templates): of a message that is put
/// together from several, protobuf takes all fields of each. So a span costs little more than its ids and times.
pub(super) struct Spans {
    plan: Arc<Plan>,
    templates: Templates,
    encoded: Vec<u8>,
    count: u64,
}

/// Beginnings of spans.
#[derive(Default)]
struct Templates {
    /// For each route.
    batches: HashMap<usize, Vec<u8>>,
    /// For each route and partition that records came from, and what became of them.
    records: HashMap<(usize, TopicPartition, Fate), Vec<u8>>,
    /// For each route and stage.
    stages: HashMap<(usize, usize), Vec<u8>>,
    /// For each topic that records go to.
    sends: HashMap<u32, Vec<u8>>,
}

/// Topics are named by whoever replays records: of so many beginnings none is kept any more, and all begins anew.
const RECORDS_MAX: usize = 5000;

/// The place of `spans` in [`ScopeSpans`], of those in [`ResourceSpans`], and of these in `TracesData`.
const SPANS: u32 = 2;
const SCOPE_SPANS: u32 = 2;
const RESOURCE_SPANS: u32 = 1;

impl Spans {
    pub(super) fn new(plan: Arc<Plan>) -> Self {
        Self { plan, templates: Templates::default(), encoded: Vec::new(), count: 0 }
    }

    /// How many there are.
    pub(super) const fn count(&self) -> u64 {
        self.count
    }

    /// One message with all of them, of whoever tells them, in place of what was in `message`. The answer is how many they are;
    /// afterwards there is none.
    pub(super) fn take_message(&mut self, resource: Resource, message: &mut Vec<u8>) -> u64 {
        let scope = ScopeSpans { scope: Some(scope()), ..ScopeSpans::default() }.encode_to_vec();
        let resource = ResourceSpans { resource: Some(resource), ..ResourceSpans::default() }.encode_to_vec();
        message.clear();
        let scoped = scope.len() + self.encoded.len();
        begin(RESOURCE_SPANS, resource.len() + begun(SCOPE_SPANS, scoped) + scoped, message);
        message.extend_from_slice(&resource);
        begin(SCOPE_SPANS, scoped, message);
        message.extend_from_slice(&scope);
        message.append(&mut self.encoded);
        std::mem::take(&mut self.count)
    }

    /// Adds what a lane has handed over.
    pub(super) fn add(&mut self, parcel: Parcel, clocks: Clocks) {
        let Self { plan, templates, encoded, count } = self;
        let Some(route) = plan.routes.get(parcel.route) else { return };
        let source = &parcel.source;
        let mut teller = Teller { plan, index: parcel.route, route, source, clocks, templates, encoded, count };
        parcel.batches.iter().for_each(|batch| teller.batch(batch));
        parcel.records.into_iter().for_each(|ended| teller.record(ended));
    }
}

/// Writes what comes before a field of so many bytes.
fn begin(field: u32, bytes: usize, into: &mut Vec<u8>) {
    encode_key(field, WireType::LengthDelimited, into);
    encode_varint(bytes as u64, into);
}

/// How many bytes [`begin`] writes.
fn begun(field: u32, bytes: usize) -> usize {
    key_len(field) + encoded_len_varint(bytes as u64)
}

struct Teller<'a> {
    plan: &'a Plan,
    /// Of the route.
    index: usize,
    route: &'a RoutePlan,
    /// The lane's partition.
    source: &'a TopicPartition,
    clocks: Clocks,
    templates: &'a mut Templates,
    encoded: &'a mut Vec<u8>,
    count: &'a mut u64,
}

/// What begins every span of a kind.
fn template(name: String, kind: SpanKind, attributes: Vec<KeyValue>) -> Vec<u8> {
    Span { name, kind: kind.into(), flags: SAMPLED, attributes, ..Span::default() }.encode_to_vec()
}

/// What is told of everything that is done with a topic.
fn messaging(plan: &Plan, operation: &str, topic: &str) -> Vec<KeyValue> {
    let system = match plan.broker {
        BrokerPlan::Kafka { .. } => "kafka",
        BrokerPlan::Embedded { .. } => "pointsman",
    };
    vec![
        text("messaging.system", system),
        text("messaging.operation.name", operation),
        text("messaging.operation.type", operation),
        text("messaging.destination.name", topic),
    ]
}

impl Teller<'_> {
    fn span(&self, trace: TraceId, id: SpanId, (begun, ended): (Instant, Instant)) -> Span {
        Span {
            trace_id: trace.bytes().to_vec(),
            span_id: id.bytes().to_vec(),
            start_time_unix_nano: self.clocks.unix_ns(begun),
            end_time_unix_nano: self.clocks.unix_ns(ended.max(begun)),
            ..Span::default()
        }
    }

    fn batch(&mut self, batch: &BatchTrace) {
        let Self { index, route, .. } = *self;
        let links = batch.links.iter().map(|(trace, span)| link(*trace, *span)).collect();
        let attributes =
            vec![number("messaging.batch.message_count", i64::try_from(batch.records).unwrap_or(i64::MAX))];
        let span = Span { links, attributes, ..self.span(batch.trace, batch.span, (batch.begun, batch.ended)) };
        let template = self.templates.batches.entry(index).or_insert_with(|| {
            let attributes =
                vec![text("messaging.consumer.group.name", &*route.group), text("pointsman.route", &*route.name)];
            template(format!("batch {}", route.name), SpanKind::Internal, attributes)
        });
        write(&span, template, self.encoded, self.count);
    }

    /// A span for the record, and those in it.
    fn record(&mut self, Ended { record, fate, at }: Ended) {
        let Self { plan, index, route, source, .. } = *self;
        let RecordTrace { place, span: own, elsewhere, offset, attempt, begun, batch, stages, sends, failure } =
            *record;
        let origin = elsewhere.as_ref().unwrap_or(source);
        let inner =
            |span: Span| Span { parent_span_id: own.bytes().to_vec(), trace_state: place.state.to_string(), ..span };
        for StageTime { stage, begun, ended } in stages {
            let span = inner(self.span(place.trace, SpanId::new(fastrand::u64(..)), (begun, ended)));
            let template = self.templates.stages.entry((index, stage)).or_insert_with(|| {
                let attributes = vec![number("pointsman.stage", stage as i64)];
                template(format!("stage {}", stage_name(plan, route, stage)), SpanKind::Internal, attributes)
            });
            write(&span, template, self.encoded, self.count);
        }
        for Send { topic: TopicId(topic), span, begun } in sends {
            let span = inner(self.span(place.trace, span, (begun, at)));
            let template = self.templates.sends.entry(topic).or_insert_with(|| {
                let topic = plan.topics.get(topic as usize).map_or("", |topic| &topic.name);
                template(format!("send {topic}"), SpanKind::Producer, messaging(plan, "send", topic))
            });
            write(&span, template, self.encoded, self.count);
        }
        let mut attributes = vec![number("messaging.kafka.offset", offset)];
        if attempt > 1 {
            attributes.push(number("pointsman.attempt", attempt.into()));
        }
        let mut status = None;
        if let Some(Failed { class, code, message }) = failure {
            attributes.push(text("error.type", class));
            attributes.push(text("pointsman.failure.code", code));
            status = Some(Status { message, code: StatusCode::Error.into() });
        }
        let span = Span {
            parent_span_id: place.parent.map(|parent| parent.bytes().to_vec()).unwrap_or_default(),
            attributes,
            links: vec![link(batch.0, batch.1)],
            status,
            ..self.span(place.trace, own, (begun, at))
        };
        let span = Span { trace_state: place.state.into(), ..span };
        if self.templates.records.len() >= RECORDS_MAX {
            self.templates.records.clear();
        }
        let template = self.templates.records.entry((index, origin.clone(), fate)).or_insert_with(|| {
            let mut attributes = messaging(plan, "process", &origin.topic);
            attributes.push(text("messaging.destination.partition.id", origin.partition.to_string()));
            attributes.push(text("pointsman.fate", fate.name()));
            attributes.push(text("messaging.consumer.group.name", &*route.group));
            attributes.push(text("pointsman.route", &*route.name));
            template(format!("process {}", origin.topic), SpanKind::Consumer, attributes)
        });
        write(&span, template, self.encoded, self.count);
    }
}

fn write(span: &Span, template: &[u8], encoded: &mut Vec<u8>, count: &mut u64) {
    begin(SPANS, template.len() + span.encoded_len(), encoded);
    encoded.extend_from_slice(template);
    // It is refused for lack of room only, which a vector makes.
    let _ = span.encode(encoded);
    *count += 1;
}

fn stage_name<'a>(plan: &'a Plan, route: &RoutePlan, index: usize) -> &'a str {
    match route.stages.get(index).map(StagePlan::plugin) {
        Some(Some(plugin)) => plan.plugins.get(plugin.0 as usize).map_or("", |plugin| &plugin.name),
        _ => "filter",
    }
}

fn link(trace: TraceId, span: SpanId) -> Link {
    Link { trace_id: trace.bytes().to_vec(), span_id: span.bytes().to_vec(), flags: SAMPLED, ..Default::default() }
}
