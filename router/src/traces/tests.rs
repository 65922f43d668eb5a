#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::num::NonZeroU32;
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Duration;

use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{Span, TracesData};
use pointsman_config::Plan;
use pointsman_core::record::{Headers, OwnedHeader};
use proptest::prelude::*;
use prost::Message as _;

use super::context::{Parent, parent_of};
use super::spans::{Clocks, Spans};
use super::*;

fn plan() -> Plan {
    let text = r#"
        version = 1
        [router]
        name = "demo"
        [broker]
        embedded = "./data"
        [[routes]]
        name = "orders"
        from = ["orders.v1"]
        stages = [{ filter = 'offset >= 0' }]
        [[routes.outputs]]
        topic = "orders.v2"
    "#;
    pointsman_config::compile(text, "demo.toml", &|_: &str| None).unwrap().0
}

impl Tracer {
    /// One whose parcels are taken by a test.
    pub(crate) fn of_a_test(sample: f64, per_second: u32) -> (Arc<Self>, Receiver<Parcel>) {
        let (parcels, received) = sync_channel(4);
        let traces = TracesPlan { sample, records_per_second: NonZeroU32::new(per_second).unwrap() };
        let counters = Arc::new(Counters::new(&plan()));
        (Arc::new(Self::new(&traces, parcels, counters)), received)
    }
}

impl crate::shared::Shared {
    /// Whether the record at this offset of the first partition of a topic is traced, if it has no trace of its own.
    pub(crate) fn is_traced_at(&self, topic: &str, offset: i64) -> bool {
        let event = Event { topic, partition: 0, ..event(offset, &[]) };
        let place = |tracer: &Arc<Tracer>| tracer.place(seed(&TopicPartition::new(topic, 0)), &event);
        self.tracer.as_ref().and_then(place).is_some()
    }
}

fn event<'a>(offset: i64, headers: &'a [OwnedHeader]) -> Event<'a> {
    Event {
        topic: "orders.v1",
        partition: 3,
        offset,
        timestamp_ms: 1_700_000_000_000,
        key: None,
        value: Some(b"{}"),
        headers: Headers::Owned(headers),
        attempt: 1,
    }
}

#[test]
fn a_share_of_the_records_is_traced_and_always_the_same() {
    for sample in [0.0, 0.01, 0.5, 1.0] {
        let (tracer, _) = Tracer::of_a_test(sample, 1);
        let chosen = || (0..100_000).filter_map(|offset| tracer.place(7, &event(offset, &[]))).collect::<Vec<_>>();
        let share = chosen().len() as f64 / 100_000.0;
        assert!((share - sample).abs() < 0.005, "{share} of {sample}");
        assert_eq!(chosen(), chosen());
        assert!(sample < 1.0 || share == 1.0);
        assert!(sample > 0.0 || share == 0.0);
        // Another partition has others.
        let others = (0..1000).filter(|offset| {
            let event = event(*offset, &[]);
            tracer.place(7, &event).is_some() != tracer.place(8, &event).is_some()
        });
        assert!(sample != 0.5 || others.count() > 300);
    }
}

/// Examples of the standard, and others that it forbids.
#[test]
fn what_a_record_says_of_itself_is_obeyed() {
    let (all, _) = Tracer::of_a_test(1.0, 1);
    let (none, _) = Tracer::of_a_test(0.0, 1);
    let traced = |value: &str| {
        let headers = [OwnedHeader::text("traceparent", value), OwnedHeader::text("tracestate", "congo=t61rcWkgMzE")];
        let event = event(5, &headers);
        let (all, none) = (all.place(7, &event), none.place(7, &event));
        let show = |place: Option<Place>| {
            place
                .map(|place| format!("{} {:?} {}", place.trace, place.parent.map(|span| span.to_string()), place.state))
        };
        (show(all), show(none))
    };
    let sampled = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let place = "0af7651916cd43dd8448eb211c80319c Some(\"b7ad6b7169203331\") congo=t61rcWkgMzE".to_owned();
    assert_eq!(traced(sampled), (Some(place.clone()), Some(place.clone())));
    assert_eq!(traced("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"), (None, None));
    // Of a later version.
    assert_eq!(
        traced("cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-what"),
        (Some(place.clone()), Some(place))
    );
    for broken in [
        "",
        "00",
        "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "00-0AF7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "00-00000000000000000000000000000000-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-1x",
        "00_0af7651916cd43dd8448eb211c80319c_b7ad6b7169203331_01",
        "cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01.what",
        "00-0af7651916cd43dd8448eb211c80319-cb7ad6b7169203331-01",
    ] {
        let (all, none) = traced(broken);
        // As if it had none: its share decides, and it begins a trace.
        assert!(none.is_none(), "{broken}");
        assert!(all.is_some_and(|place| place.contains("None")), "{broken}");
    }
}

#[test]
fn of_too_many_some_are_passed_over_and_counted() {
    let (tracer, _) = Tracer::of_a_test(1.0, 5);
    assert_eq!((0..20).filter(|_| tracer.may_trace()).count(), 5);
    assert_eq!(tracer.counters.traces.passed_over.load(Ordering::Relaxed), 15);
}

#[test]
fn what_nobody_takes_is_lost_and_counted() {
    let (tracer, received) = Tracer::of_a_test(1.0, 1);
    for _ in 0..6 {
        tracer.hand_over(parcel(Instant::now()));
    }
    drop(received);
    tracer.hand_over(parcel(Instant::now()));
    // Four of seven found room, and each has five spans.
    assert_eq!(tracer.counters.traces.lost.load(Ordering::Relaxed), 15);
}

fn parcel(begun: Instant) -> Parcel {
    let after = |ms| begun + Duration::from_millis(ms);
    let batch = (TraceId::new(0xb), SpanId::new(0xba));
    let record = RecordTrace {
        place: Place { trace: TraceId::new(0xa), parent: Some(SpanId::new(0xf)), state: "congo=t61rcWkgMzE".into() },
        span: SpanId::new(0xc),
        elsewhere: None,
        offset: 5,
        attempt: 2,
        begun,
        batch,
        stages: [StageTime { stage: 0, begun: after(1), ended: after(2) }].into_iter().collect(),
        sends: [2, 3]
            .map(|ms| Send { topic: TopicId(0), span: SpanId::new(0xd0 + ms), begun: after(ms) })
            .into_iter()
            .collect(),
        failure: Some(Failed { class: "reject", code: "no-total".into(), message: "an order without a total".into() }),
    };
    let ended = Ended { record: Box::new(record), fate: Fate::DeadLettered, at: after(4) };
    let links = vec![(TraceId::new(0xa), SpanId::new(0xc))];
    let batch = BatchTrace { trace: batch.0, span: batch.1, begun: after(1), ended: after(2), records: 10, links };
    let source = TopicPartition::new("orders.v1", 3);
    Parcel { batches: vec![batch], records: vec![ended], ..Parcel::new(0, source) }
}

/// A span in some lines.
fn shown(span: &Span) -> String {
    let id = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let links = span.links.iter().map(|link| format!("\n    linked to {} {}", id(&link.trace_id), id(&link.span_id)));
    let attributes = span.attributes.iter().map(|attribute| {
        let value = match attribute.value.as_ref().and_then(|value| value.value.as_ref()) {
            Some(Value::StringValue(text)) => format!("{text:?}"),
            Some(Value::IntValue(number)) => number.to_string(),
            other => panic!("{other:?}"),
        };
        format!("\n    {} = {value}", attribute.key)
    });
    let status = span.status.iter().map(|status| format!("\n    {:?}: {}", status.code(), status.message));
    let times = [span.start_time_unix_nano, span.end_time_unix_nano].map(|ns| format!("{} ms", ns / 1_000_000));
    format!(
        "{} ({:?})\n    trace {} span {} in {:?} state {:?}, {} to {}{}{}{}",
        span.name,
        span.kind(),
        id(&span.trace_id),
        id(&span.span_id),
        id(&span.parent_span_id),
        span.trace_state,
        times[0],
        times[1],
        attributes.collect::<String>(),
        links.collect::<String>(),
        status.collect::<String>()
    )
}

#[test]
fn spans_tell_the_way_of_a_record() {
    let clocks = Clocks::read();
    let begun = clocks.instant();
    let mut told = Spans::new(Arc::new(plan()));
    told.add(parcel(begun), clocks);
    let mut message = b"the last one".to_vec();
    let count = told.take_message(Resource::default(), &mut message);
    let mut data = TracesData::decode(&*message).unwrap();
    let mut spans: Vec<Span> = data.resource_spans.remove(0).scope_spans.remove(0).spans;
    assert_eq!((spans.len() as u64, count, told.count()), (5, 5, 0));
    let zero = spans.iter().map(|span| span.start_time_unix_nano).min().unwrap();
    for span in &mut spans {
        span.start_time_unix_nano -= zero;
        span.end_time_unix_nano -= zero;
        if span.name.starts_with("stage") {
            assert_ne!(std::mem::take(&mut span.span_id), [0; 8]);
        }
    }
    insta::assert_snapshot!(spans.iter().map(shown).collect::<Vec<_>>().join("\n"));
}

proptest! {
    #[test]
    fn what_is_written_is_read(trace in 1_u128.., span in 1_u64..) {
        let (trace, span) = (TraceId::new(trace), SpanId::new(span));
        let written = traceparent(trace, span);
        prop_assert_eq!(Parent::parse(written.as_bytes()), Some(Parent { trace, span, sampled: true }));
    }

    #[test]
    fn nothing_that_stands_there_is_a_panic(value in proptest::collection::vec(any::<u8>(), 0..80)) {
        let header = OwnedHeader { name: b"traceparent".as_slice().into(), value: Some(value.into()) };
        let headers = [header];
        let _ = parent_of(Headers::Owned(&headers));
    }
}
