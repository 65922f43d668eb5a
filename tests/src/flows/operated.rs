//! What the person on call goes through, from the alert to the end: with a real Prometheus, which scrapes the router.
//!
//! The alert rules are those of `deploy/`, but for the time that they wait before they fire.

use std::env;
use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, UNIX_EPOCH};

use anyhow::{Context as _, ensure};
use serde_json::Value;
use ureq::Agent;

use crate::backend::Backend;
use crate::child::Guarded;
use crate::kafka::{Kafka, Sample};
use crate::places::{self, Scratch};
use crate::router::{self, Router};
use crate::{plugins, wait};

const RECORDS: i64 = 500;
/// Dead letters that the breaker pays for before it opens.
const TOKENS: i64 = 5;
/// How old the records are: further behind than the rules have for all routes.
const AGE: Duration = Duration::from_secs(1200);
const DEADLINE: Duration = Duration::from_secs(90);

/// A plugin rejects everything. Two alerts fire; `top` shows which lane stands still and why, `lag` how far it is behind, and
/// `dead-letter stats` what the records fail with. The plugin is mended, and the router started again: it goes on by itself, the alerts end,
/// and what has failed is replayed.
///
/// # Errors
/// When that does not hold.
pub fn a_broken_plugin_is_seen_understood_and_repaired(kafka: &Kafka) -> anyhow::Result<()> {
    let backend = Backend::Kafka(kafka);
    let [source, output, dead] = ["walk-source", "walk-output", "walk-dead"].map(Kafka::unique);
    for topic in [&source, &output] {
        backend.create_topic(topic, 1)?;
    }
    let old = i64::try_from((UNIX_EPOCH.elapsed()? - AGE).as_millis())?;
    let sample = |number: i64| Sample {
        key: Some(format!("order-{number}").into_bytes()),
        timestamp_ms: Some(old),
        value: Some(number.to_string().into_bytes()),
        ..Sample::default()
    };
    backend.fill(&source, (1..=RECORDS).map(sample))?;
    let folder = Scratch::new("walk-")?;
    let [door, watcher] = [free()?, free()?];
    let faulty = plugins::component("faulty")?.display().to_string();
    let broker = backend.broker();
    let config = |fault: &str| {
        format!(
            "version = 1\n[router]\nname = \"{source}\"\n{broker}[admin]\nlisten = \"127.0.0.1:{door}\"\n\
             [plugins.judge]\ncomponent = \"{faulty}\"\nconfig = {{ {fault} }}\n\
             [[routes]]\nname = \"orders\"\nfrom = [\"{source}\"]\nstages = [\"judge\"]\n\
             dead_letter = {{ topic = \"{dead}\" }}\nbreaker = {{ initial = {TOKENS}, one_every = \"1h\" }}\n\
             [[routes.outputs]]\ntopic = \"{output}\"\n"
        )
    };
    let Some(prometheus) = Prometheus::start(&folder, watcher, door)? else { return Ok(()) };

    let mut router = Router::start(folder.path(), "orders", &config("fault = \"reject\", every = 1"))?;
    let file = folder.path().join("orders.toml");
    for alert in ["PointsmanBreakerOpen", "PointsmanLagHigh"] {
        router.wait_until(alert, DEADLINE, || prometheus.fires(alert))?;
    }
    let told = ask(&file, &["top", "--looks=1"])?;
    let lane = &told["lanes"][0];
    ensure!(lane["state"] == "paused-by-breaker" && lane["reason"].is_string(), "top: {told:#}");
    let behind = told["lag"][0]["records"].as_i64().context("a lag")?;
    ensure!(behind == RECORDS - TOKENS, "top: {told:#}");
    let told = ask(&file, &["lag", "--json"])?;
    ensure!(told["topics"][0]["records"] == behind && told["partitions"][0]["is_read"] == true, "lag: {told:#}");
    let told = ask(&file, &["dead-letter", "stats", "--json"])?;
    let cause = &told["causes"][0];
    ensure!(cause["code"] == "asked" && cause["count"] == TOKENS, "stats: {told:#}");

    router.stop_well()?;
    let mut router = Router::start(folder.path(), "orders", &config("fault = \"reject\""))?;
    let delivered = |count: i64| Ok(backend.count(&output)? == count);
    router.wait_until("the rest to be delivered", DEADLINE, || delivered(RECORDS - TOKENS))?;
    for alert in ["PointsmanBreakerOpen", "PointsmanLagHigh"] {
        router.wait_until(&format!("{alert} to end"), DEADLINE, || Ok(!prometheus.fires(alert)?))?;
    }
    let replayed = router::command()?.args(["dead-letter", "replay"]).arg(&file).args(["--code", "asked"]).output()?;
    ensure!(replayed.status.success(), "replay: {}", String::from_utf8_lossy(&replayed.stderr));
    router.wait_until("what has failed to be delivered", DEADLINE, || delivered(RECORDS))?;
    let told = ask(&file, &["dead-letter", "stats", "--json"])?;
    ensure!(told["causes"].as_array().is_some_and(Vec::is_empty), "stats: {told:#}");
    router.stop_well()
}

/// A port that nobody listens at.
fn free() -> anyhow::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

fn ask(file: &Path, words: &[&str]) -> anyhow::Result<Value> {
    let (options, command): (Vec<&str>, Vec<&str>) = words.iter().partition(|word| word.starts_with('-'));
    let asked = router::command()?.args(&command).arg(file).args(options).output()?;
    ensure!(asked.status.success(), "{command:?}: {}", String::from_utf8_lossy(&asked.stderr));
    Ok(serde_json::from_slice(&asked.stdout)?)
}

/// Prometheus, which scrapes one router every second.
struct Prometheus {
    port: u16,
    _process: Guarded,
}

impl Prometheus {
    /// `None` where there is no Prometheus on this machine, which is said.
    #[expect(clippy::print_stderr, reason = "whoever runs the tests is to read it")]
    fn start(folder: &Scratch, port: u16, door: u16) -> anyhow::Result<Option<Self>> {
        let there = Command::new("prometheus").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
        if there.is_err() {
            let missing = "prometheus is not there; it is in Debian's package of that name";
            ensure!(env::var_os("POINTSMAN_TEST_REQUIRE_PROMTOOL").is_none(), "{missing}");
            eprintln!("SKIPPED: {missing}");
            return Ok(None);
        }
        let rules = fs::read_to_string(places::workspace().join("deploy/prometheus/rules.yml"))?;
        let at_once =
            rules.lines().map(|line| if line.trim_start().starts_with("for: ") { "        for: 0s" } else { line });
        fs::write(folder.path().join("rules.yml"), at_once.collect::<Vec<_>>().join("\n"))?;
        let file = folder.path().join("prometheus.yml");
        let config = format!(
            "global: {{ scrape_interval: 1s, evaluation_interval: 1s }}\nrule_files: [rules.yml]\nscrape_configs:\n  - job_name: pointsman\n    \
             static_configs: [{{ targets: [\"127.0.0.1:{door}\"] }}]\n"
        );
        fs::write(&file, config)?;
        let log = fs::File::create(folder.path().join("prometheus.log"))?;
        let mut command = Command::new("prometheus");
        command
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.tsdb.path={}", folder.path().join("prometheus").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        let process = Guarded::spawn(command)?;
        let started = Self { port, _process: process };
        wait::until_ok("Prometheus to answer", DEADLINE, || Ok(started.alerts().ok().map(drop)))
            .with_context(|| fs::read_to_string(folder.path().join("prometheus.log")).unwrap_or_default())?;
        Ok(Some(started))
    }

    fn alerts(&self) -> anyhow::Result<Value> {
        let mut answer =
            Agent::new_with_defaults().get(format!("http://127.0.0.1:{}/api/v1/alerts", self.port)).call()?;
        Ok(serde_json::from_str(&answer.body_mut().read_to_string()?)?)
    }

    /// Whether an alert fires, for the route.
    fn fires(&self, alert: &str) -> anyhow::Result<bool> {
        let told = self.alerts()?;
        let alerts = told["data"]["alerts"].as_array().context("alerts")?;
        Ok(alerts.iter().any(|told| {
            told["state"] == "firing" && told["labels"]["alertname"] == alert && told["labels"]["route"] == "orders"
        }))
    }
}
