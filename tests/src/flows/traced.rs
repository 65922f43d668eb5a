//! Records that are traced, from whoever wrote them to whoever reads what came of them.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use opentelemetry_proto::tonic::common::v1::any_value::Value as Attribute;
use opentelemetry_proto::tonic::metrics::v1::{metric, number_data_point};
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use pointsman_core::record::{Headers, OwnedHeader, OwnedRecord};

use crate::backend::Backend;
use crate::kafka::{Kafka, Sample};
use crate::places::Scratch;
use crate::router::Router;
use crate::simulated_collector::SimulatedCollector;
use crate::{plugins, wait};

const DEADLINE: Duration = Duration::from_secs(60);

/// Value, `traceparent`, and another header.
type Sent = (&'static str, Option<&'static str>, Option<(&'static str, &'static str)>);

/// A record that passes, one that comes with a trace that nobody records, one without a trace, one that passes at its second run, and
/// one that is rejected.
const RECORDS: [Sent; 5] = [
    ("passes", Some("00-11111111111111111111111111111111-00000000000000a1-01"), None),
    ("unrecorded", Some("00-22222222222222222222222222222222-00000000000000a2-00"), None),
    ("untraced", None, None),
    ("fails once", Some("00-44444444444444444444444444444444-00000000000000a4-01"), Some(("fails", "1"))),
    ("rejected", Some("00-55555555555555555555555555555555-00000000000000a5-01"), Some(("pill", "reject"))),
];

/// What is recorded of each trace leads from the span that wrote the record to the one that the output names, through retries too;
/// dead letters keep what they came with; the log names the trace; and the collector gets the metrics.
///
/// # Errors
/// When it is not so.
pub fn records_are_traced(backend: &Backend<'_>) -> anyhow::Result<()> {
    let [source, output, dead] = ["traced-source", "traced-output", "traced-dead"].map(Kafka::unique);
    for topic in [&source, &output] {
        backend.create_topic(topic, 1)?;
    }
    let collector = SimulatedCollector::start()?;
    let folder = Scratch::new("traced-")?;
    let config = format!(
        "version = 1\n[router]\nname = \"{source}\"\n{}\
         [telemetry]\nendpoint = \"http://{}\"\nheaders = {{ x-tenant = \"trains\" }}\ntraces = {{ sample = 0 }}\n\
         [plugins.wayward]\ncomponent = \"{}\"\n\
         [[routes]]\nname = \"judge\"\nfrom = [\"{source}\"]\nstages = [\"wayward\"]\n\
         retry = {{ initial = \"10ms\", max = \"10ms\", jitter = 0 }}\ndead_letter = {{ topic = \"{dead}\" }}\n\
         [[routes.outputs]]\ntopic = \"{output}\"\n",
        backend.broker(),
        collector.address(),
        plugins::component("wayward")?.display(),
    );
    let mut router = Router::start(folder.path(), "router", &config)?;
    router.wait_until_assigned()?;
    let samples = RECORDS.iter().map(|(value, parent, other)| Sample {
        value: Some(value.as_bytes().into()),
        headers: parent
            .iter()
            .map(|parent| OwnedHeader::text("traceparent", *parent))
            .chain(other.iter().map(|(name, value)| OwnedHeader::text(name, *value)))
            .collect(),
        ..Sample::default()
    });
    backend.fill(&source, samples)?;
    wait::until_ok("the records to have their fates", DEADLINE, || {
        router.check()?;
        Ok((backend.count(&output)? >= 4 && backend.count(&dead)? >= 1).then_some(()))
    })?;
    wait::until_ok("their spans to be sent", DEADLINE, || {
        router.check()?;
        Ok((collector.taken().spans.iter().filter(|span| span.kind() == SpanKind::Consumer).count() >= 4).then_some(()))
    })?;

    let outputs: Vec<OwnedRecord> = backend.read_all(&output)?.into_iter().map(|(_, record)| record).collect();
    let sent = |value: &str| {
        let output = outputs.iter().find(|record| record.value.as_deref() == Some(value.as_bytes()));
        output.with_context(|| format!("no output {value}"))
    };
    let taken = collector.taken();
    ensure!(taken.refused == 1, "what was refused for now is sent again");
    ensure!(taken.headers.get("x-tenant").is_some_and(|tenant| tenant == "trains"), "{:?}", taken.headers);
    let spans = &taken.spans;

    // As they came.
    for (value, parent, _) in &RECORDS[1..3] {
        let output = sent(value)?;
        ensure!(traceparents(output) == parent.iter().copied().collect::<Vec<_>>(), "{output:?}");
    }
    ensure!(spans.iter().all(|span| span.trace_id != [0x22; 16]), "nobody was to record it");

    let passed = runs(spans, 0x11, 0xa1)?;
    ensure!(passed.len() == 1 && fate(passed[0]) == "delivered", "{passed:#?}");
    leads_to(spans, passed[0], &output, sent("passes")?)?;
    let stage = children(spans, passed[0]).find(|span| span.name == "stage wayward");
    let stage = stage.context("its stage is told")?;
    ensure!(
        passed[0].start_time_unix_nano <= stage.start_time_unix_nano
            && stage.end_time_unix_nano <= passed[0].end_time_unix_nano,
        "{stage:#?}"
    );
    let link = passed[0].links.first().context("it names its batch")?;
    let batch = spans.iter().find(|span| span.span_id == link.span_id).context("the batch is told")?;
    ensure!(batch.links.iter().any(|link| link.span_id == passed[0].span_id), "{batch:#?}");

    // Both runs are of one trace, and begin where the record came from.
    let retried = runs(spans, 0x44, 0xa4)?;
    ensure!(retried.iter().map(|run| fate(run)).collect::<Vec<_>>() == ["parked", "delivered"], "{retried:#?}");
    leads_to(spans, retried[1], &output, sent("fails once")?)?;

    let rejected = runs(spans, 0x55, 0xa5)?;
    ensure!(rejected.len() == 1 && fate(rejected[0]) == "dead-lettered", "{rejected:#?}");
    let status = rejected[0].status.as_ref().context("it is told why")?;
    ensure!(status.message == "this event was to be rejected", "{status:?}");
    let (_, letter) = backend.read_all(&dead)?.pop().context("the dead letter")?;
    ensure!(traceparents(&letter) == [RECORDS[4].1.unwrap_or_default()], "a dead letter is what it was: {letter:?}");
    let log = router.log();
    let told = log.iter().find(|line| line["message"].as_str().is_some_and(|line| line.starts_with("dead-lettered")));
    let told = told.context("the log tells of the dead letter")?;
    ensure!(told["span"]["trace_id"] == "55".repeat(16) && told["span"]["route"] == "judge", "{told:#}");
    ensure!(told["span"]["span_id"] == hex(&rejected[0].span_id), "{told:#}");
    drop(taken);

    router.stop_well()?;
    // They are sent once more at the end.
    let taken = collector.taken();
    let records = taken.metrics.iter().find(|metric| metric.name == "pointsman_records").context("metrics")?;
    let Some(metric::Data::Sum(sum)) = &records.data else { anyhow::bail!("{records:#?}") };
    let delivered = sum.data_points.iter().find(|point| {
        point.attributes.iter().any(|attribute| attribute.key == "fate" && text(attribute) == Some("delivered"))
    });
    let delivered = delivered.and_then(|point| point.value);
    ensure!(matches!(delivered, Some(number_data_point::Value::AsInt(4))), "{sum:#?}");
    looks_for_a_collector(backend, folder.path(), &config.replace(&collector.address().to_string(), "127.0.0.1:9"))
}

/// A collector that is away holds up nothing, and the end neither.
fn looks_for_a_collector(backend: &Backend<'_>, folder: &Path, config: &str) -> anyhow::Result<()> {
    let source = config.split('"').nth(1).context("its name")?;
    let output = config.rsplit('"').nth(1).context("its output")?;
    let before = backend.count(output)?;
    let mut router = Router::start(folder, "lonely", config)?;
    let sample = Sample {
        value: Some(b"again".into()),
        headers: vec![OwnedHeader::text("traceparent", RECORDS[0].1.unwrap_or_default())],
        ..Sample::default()
    };
    backend.fill(source, [sample])?;
    wait::until_ok("the record to be delivered", DEADLINE, || {
        router.check()?;
        Ok((backend.count(output)? > before).then_some(()))
    })?;
    router.wait_for_words(&["traces can't be sent now"], DEADLINE)?;
    router.stop_well()
}

/// The spans of a record's runs, in their order: they begin with the span that wrote it.
fn runs(spans: &[Span], trace: u8, parent: u8) -> anyhow::Result<Vec<&Span>> {
    let mut runs: Vec<&Span> =
        spans.iter().filter(|span| span.trace_id == [trace; 16] && span.kind() == SpanKind::Consumer).collect();
    runs.sort_by_key(|span| span.start_time_unix_nano);
    for run in &runs {
        ensure!(run.parent_span_id == [0, 0, 0, 0, 0, 0, 0, parent], "{run:#?}");
    }
    Ok(runs)
}

fn children<'a>(spans: &'a [Span], parent: &Span) -> impl Iterator<Item = &'a Span> {
    spans.iter().filter(move |span| span.parent_span_id == parent.span_id && span.trace_id == parent.trace_id)
}

/// Whether the output names a span of the run as the one that wrote it.
fn leads_to(spans: &[Span], run: &Span, topic: &str, output: &OwnedRecord) -> anyhow::Result<()> {
    let name = format!("send {topic}");
    let send = children(spans, run).find(|span| span.name == name).with_context(|| name.clone())?;
    let written = format!("00-{}-{}-01", hex(&send.trace_id), hex(&send.span_id));
    ensure!(traceparents(output) == [written.as_str()], "{output:?} does not name {written}");
    Ok(())
}

fn traceparents(record: &OwnedRecord) -> Vec<&str> {
    let headers = Headers::Owned(&record.headers);
    let ours = headers.iter().filter(|header| header.name == b"traceparent");
    ours.filter_map(|header| std::str::from_utf8(header.value?).ok()).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn fate(run: &Span) -> &str {
    run.attributes.iter().find(|attribute| attribute.key == "pointsman.fate").and_then(text).unwrap_or_default()
}

fn text(attribute: &opentelemetry_proto::tonic::common::v1::KeyValue) -> Option<&str> {
    match attribute.value.as_ref()?.value.as_ref()? {
        Attribute::StringValue(text) => Some(text),
        _ => None,
    }
}
