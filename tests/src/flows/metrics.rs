//! What a running router tells of itself to Prometheus, and to a person.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, UNIX_EPOCH};

use anyhow::{Context as _, ensure};
use pointsman_core::record::OwnedHeader;
use serde_json::Value;
use ureq::Agent;

use crate::backend::Backend;
use crate::kafka::{Kafka, Sample};
use crate::places::Scratch;
use crate::router::{self, Router};
use crate::{plugins, wait};

const PASS: u64 = 300;
const WAIT: u64 = 4;
const REJECTED: u64 = 2;
const TRAPS: u64 = 1;
/// Records that are left in the partition whose lane is paused, and how old they are.
const LEFT: u64 = 7;
const AGE: Duration = Duration::from_secs(600);
const DEADLINE: Duration = Duration::from_secs(60);

/// Of two lanes one is paused by hand, and the other has records that pass, wait for a retry, are rejected and trap. The metrics tell
/// all of it, in the words of the page; so do `routes` and `top`; and the router is ready.
///
/// # Errors
/// When they don't.
pub fn metrics_tell_what_a_router_does(backend: &Backend<'_>) -> anyhow::Result<()> {
    let [source, output, dead] = ["metrics-source", "metrics-output", "metrics-dead"].map(Kafka::unique);
    for topic in [&source, &output] {
        backend.create_topic(topic, 2)?;
    }
    let folder = Scratch::new("metrics-")?;
    let at = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    // What clients tell of themselves they tell soon.
    let librdkafka = match backend {
        Backend::Kafka(_) => "[broker.librdkafka]\n\"statistics.interval.ms\" = 200\n",
        Backend::Embedded(_) => "",
    };
    let config = format!(
        "version = 1\n[router]\nname = \"{source}\"\n{}{librdkafka}[admin]\nlisten = \"{at}\"\n\
         [plugins.wayward]\ncomponent = \"{}\"\n\
         [[routes]]\nname = \"judge\"\nfrom = [\"{source}\"]\nstages = [\"wayward\"]\n\
         retry = {{ initial = \"1h\", max = \"1h\", max_elapsed = \"24h\" }}\ndead_letter = {{ topic = \"{dead}\" }}\n\
         [[routes.outputs]]\ntopic = \"{output}\"\n",
        backend.broker(),
        plugins::component("wayward")?.display(),
    );
    let mut router = Router::start(folder.path(), "router", &config)?;
    router.wait_until_assigned()?;
    wait::until_ok("the other lane to be paused", DEADLINE, || {
        router.check()?;
        let paused =
            Agent::new_with_defaults().post(format!("http://{at}/v1/lanes/judge/{source}/1/pause")).send_empty();
        Ok(paused.is_ok().then_some(()))
    })?;

    let old = i64::try_from((UNIX_EPOCH.elapsed()? - AGE).as_millis())?;
    let of = |partition, name: &str, value: &str| Sample {
        partition: Some(partition),
        timestamp_ms: Some(old),
        value: Some(b"value".into()),
        headers: vec![OwnedHeader::text(name, value)],
        ..Sample::default()
    };
    let many = |count: u64, sample: Sample| std::iter::repeat_n(sample, usize::try_from(count).unwrap_or(0));
    let samples = many(PASS, of(0, "none", ""))
        .chain(many(WAIT, of(0, "fails", "99")))
        .chain(many(REJECTED, of(0, "pill", "reject")))
        .chain(many(TRAPS, of(0, "pill", "trap")))
        .chain(many(LEFT, of(1, "none", "")));
    backend.fill(&source, samples)?;
    end_in_a_transaction(&folder.path().join("router.toml"), &source)?;

    let lane = |partition| format!("route=\"judge\",topic=\"{source}\",partition=\"{partition}\"");
    let expected = [
        ("pointsman_records_total{route=\"judge\",fate=\"delivered\"}".to_owned(), PASS + 1),
        ("pointsman_records_total{route=\"judge\",fate=\"parked\"}".to_owned(), WAIT),
        ("pointsman_records_total{route=\"judge\",fate=\"dead-lettered\"}".to_owned(), REJECTED + TRAPS),
        (failures("reject", "pill", "dead-lettered"), REJECTED),
        (failures("trap", "panic", "dead-lettered"), TRAPS),
        (failures("retry", "retry", "parked"), WAIT),
        (format!("pointsman_produced_records_total{{topic=\"{output}\"}}"), PASS + 1),
        (format!("pointsman_dead_letters_kept_records{{topic=\"{dead}\"}}"), REJECTED + TRAPS),
        (format!("pointsman_parked_records{{{}}}", lane(0)), WAIT),
        (format!("pointsman_lag_records{{{}}}", lane(0)), 0),
        (format!("pointsman_lag_records{{{}}}", lane(1)), LEFT),
        (format!("pointsman_lane_state{{{},state=\"paused-by-hand\"}}", lane(1)), 1),
        (format!("pointsman_lag_status{{{},status=\"ok\"}}", lane(0)), 1),
        ("pointsman_handling_seconds_count{route=\"judge\"}".to_owned(), PASS + 1 + WAIT + REJECTED + TRAPS),
    ];
    let mut last = String::new();
    let told = wait::until_ok("the metrics to tell it", DEADLINE, || {
        router.check()?;
        let told = metrics(at)?;
        let wrong = expected.iter().find(|(series, value)| told.get(series) != Some(&(*value as f64)));
        last =
            wrong.map(|(series, value)| format!("{series} is {:?}, not {value}", told.get(series))).unwrap_or_default();
        Ok(wrong.is_none().then_some(told))
    })
    .with_context(|| last.clone())?;

    let age = told[&format!("pointsman_lag_seconds{{{}}}", lane(1))];
    ensure!((AGE.as_secs_f64()..AGE.as_secs_f64() + 120.0).contains(&age), "the oldest record is {age} s old");
    let plugin = "route=\"judge\",plugin=\"wayward\"";
    for series in [
        format!("pointsman_plugin_cpu_seconds_total{{{plugin}}}"),
        format!("pointsman_plugin_border_bytes_total{{{plugin},direction=\"in\"}}"),
        format!("pointsman_plugin_border_bytes_total{{{plugin},direction=\"out\"}}"),
        format!("pointsman_plugin_call_failures_total{{{plugin},class=\"trap\"}}"),
        "pointsman_plugin_instances_made_total{plugin=\"wayward\"}".to_owned(),
        "process_resident_memory_bytes".to_owned(),
    ] {
        ensure!(told.get(&series).is_some_and(|value| *value > 0.0), "{series} is {:?}", told.get(&series));
    }
    is_on_the_page(&told)?;
    for role in ["consumer", "producer"] {
        let of_role = |metric: &str| {
            let series = format!("pointsman_kafka_{metric}{{role=\"{role}\",");
            told.iter().filter(|(name, _)| name.starts_with(&series)).map(|(_, value)| *value).sum::<f64>()
        };
        let is_kafka = matches!(backend, Backend::Kafka(_));
        ensure!((of_role("connections") > 0.0) == is_kafka, "of a {role}: {told:#?}");
        // A producer that has nothing to do waits for no answer.
        ensure!(role == "producer" || (of_role("rtt_seconds") > 0.0) == is_kafka, "of a {role}: {told:#?}");
    }

    let ready = Agent::new_with_defaults().get(format!("http://{at}/readyz")).call().context("it is ready")?;
    ensure!(ready.status() == 200, "{}", ready.status());
    let file = folder.path().join("router.toml");
    for command in [["routes", "--json"], ["top", "--looks=1"]] {
        let told = ask(&file, &command)?;
        let route = &told["routes"][0];
        ensure!(route["lag_records"] == LEFT && route["fates"]["delivered"] == PASS + 1, "{command:?}: {told:#}");
        ensure!(route["lanes"] == 2 && route["lanes_not_running"] == 1, "{command:?}: {told:#}");
    }
    router.stop_well()
}

/// Writes one more record to the first partition, which on Kafka ends with a marker then: an offset without a record.
fn end_in_a_transaction(file: &Path, topic: &str) -> anyhow::Result<()> {
    let mut command = router::command()?;
    command.arg("produce").arg(file).args([topic, "--transaction"]).stdin(Stdio::piped()).stderr(Stdio::piped());
    let mut produce = command.spawn()?;
    let mut input = produce.stdin.take().context("its input")?;
    input.write_all(b"{\"partition\": 0, \"value\": \"the last\"}\n")?;
    drop(input);
    let ended = produce.wait_with_output()?;
    ensure!(ended.status.success(), "produce: {}", String::from_utf8_lossy(&ended.stderr));
    Ok(())
}

fn failures(class: &str, code: &str, fate: &str) -> String {
    format!("pointsman_failures_total{{route=\"judge\",class=\"{class}\",code=\"{code}\",fate=\"{fate}\"}}")
}

/// Every series with its value.
fn metrics(at: SocketAddr) -> anyhow::Result<BTreeMap<String, f64>> {
    let mut answer = Agent::new_with_defaults().get(format!("http://{at}/metrics")).call()?;
    let kind = answer.headers().get("content-type").and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    ensure!(kind.starts_with("application/openmetrics-text"), "{kind}");
    let text = answer.body_mut().read_to_string()?;
    ensure!(text.ends_with("# EOF\n"), "it is not whole");
    let series = text.lines().filter(|line| !line.starts_with('#')).map(|line| {
        let (series, value) = line.rsplit_once(' ').with_context(|| format!("no series: {line}"))?;
        Ok((series.to_owned(), value.parse()?))
    });
    series.collect()
}

/// Whether the page of the metrics has all of them.
fn is_on_the_page(told: &BTreeMap<String, f64>) -> anyhow::Result<()> {
    let page = include_str!("../../../deploy/METRICS.md");
    for series in told.keys() {
        let name = series.split('{').next().unwrap_or_default();
        let base = ["_bucket", "_sum", "_count"].iter().find_map(|ending| name.strip_suffix(ending)).unwrap_or(name);
        ensure!(
            page.contains(&format!("| `{base}` |")) || page.contains(&format!("| `{name}` |")),
            "{name} is not on the page"
        );
    }
    Ok(())
}

fn ask(file: &Path, [command, option]: &[&str; 2]) -> anyhow::Result<Value> {
    let asked = router::command()?.arg(command).arg(file).arg(option).output()?;
    ensure!(asked.status.success(), "{command}: {}", String::from_utf8_lossy(&asked.stderr));
    Ok(serde_json::from_slice(&asked.stdout)?)
}
