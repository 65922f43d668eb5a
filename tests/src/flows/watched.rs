//! What a running router shows of single records: as they come to their fates, and while they wait for a retry.

use std::fs::{self, File};
use std::net::TcpListener;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use pointsman_core::record::OwnedHeader;
use serde_json::{Value, json};

use crate::backend::Backend;
use crate::child::Guarded;
use crate::kafka::{Kafka, Sample};
use crate::places::Scratch;
use crate::router::{self, Router};
use crate::{plugins, wait};

const DEADLINE: Duration = Duration::from_secs(60);
const SECRET: &str = "4111-secret";
/// Records that pass, are dropped, are rejected, and wait for a retry.
const FATES: [(&str, usize); 4] = [("delivered", 3), ("dropped", 2), ("dead-lettered", 1), ("parked", 2)];

/// Somebody watches a route while records are delivered, dropped, dead-lettered and parked: each is told, with where it came from and why,
/// and nothing is shown that is to be hidden. Who watched is in the log. What waits for a retry is listed afterwards, with when it is due and why it
/// waits.
///
/// # Errors
/// When that does not hold.
pub fn records_are_watched(backend: &Backend<'_>, delivery: &str) -> anyhow::Result<()> {
    let [source, output, dead] = ["watched-source", "watched-output", "watched-dead"].map(Kafka::unique);
    for topic in [&source, &output] {
        backend.create_topic(topic, 1)?;
    }
    let folder = Scratch::new("watched-")?;
    let config = config(backend, delivery, [&source, &output, &dead])?;
    let mut router = Router::start(folder.path(), "router", &config)?;
    router.wait_until_assigned()?;
    let file = folder.path().join("router.toml");

    let count: usize = FATES.iter().map(|(_, count)| count).sum();
    let told = folder.path().join("told.jsonl");
    let max = count.to_string();
    let mut command = router::command()?;
    command.arg("tail").arg(&file).args([
        "--route",
        "judge",
        "--values",
        "--per-second",
        "100",
        "--json",
        "--max",
        &max,
    ]);
    command.stdin(Stdio::null()).stdout(File::create(&told)?);
    let mut tail = Guarded::spawn(command)?;
    router.wait_until("somebody to watch", DEADLINE, || Ok(fs::read_to_string(&told)?.contains("\"pulse\"")))?;
    let samples = FATES.iter().flat_map(|(fate, count)| (0..*count).map(|_| sample(fate)));
    backend.fill(&source, samples)?;
    ensure!(tail.wait(DEADLINE)?.success(), "{}", fs::read_to_string(&told)?);
    check_samples(&fs::read_to_string(&told)?, &source, &output)?;

    wait::until_ok("the parked records to be known", DEADLINE, || {
        router.check()?;
        let told = ask(&file, &["retries"])?;
        Ok((told["lanes"][0]["parked"] == 2).then_some(()))
    })?;
    check_retries(&file, &source)?;
    router.stop_well()?;
    check_audit(&folder)
}

fn check_samples(told: &str, source: &str, output: &str) -> anyhow::Result<()> {
    ensure!(!told.contains(SECRET), "a secret is shown: {told}");
    let lines: Vec<Value> = told.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    let samples: Vec<&Value> = lines.iter().filter_map(|line| line.get("sample")).collect();
    for (fate, count) in FATES {
        let of_it: Vec<_> = samples.iter().filter(|sample| sample["fate"] == fate).collect();
        ensure!(of_it.len() == count, "{} are told as {fate}, not {count}: {told}", of_it.len());
        for sample in of_it {
            ensure!(sample["topic"] == source && sample["partition"] == 0 && sample["attempt"] == 1, "{sample}");
            ensure!(sample["key"] == "[redacted]" && sample["value"]["card"]["number"] == "[redacted]", "{sample}");
            ensure!(sample["value"]["eur"] == 12, "{sample}");
            let headers = sample["headers"].as_array().context("headers")?;
            ensure!(headers[0] == json!(["Authorization", "[redacted]"]) && headers[1][0] == "what", "{sample}");
            let why = match fate {
                "delivered" => sample["outputs"] == json!([output]),
                "dropped" => sample["reason"] == "filtered",
                "dead-lettered" => {
                    sample["class"] == "reject" && sample["code"] == "pill" && sample["stage"] == "wayward"
                }
                _ => sample["class"] == "retry" && sample["message"] == "this run was to fail",
            };
            ensure!(why, "{sample}");
        }
    }
    Ok(())
}

fn check_retries(file: &Path, source: &str) -> anyhow::Result<()> {
    let told = ask(file, &["retries"])?;
    let lane = &told["lanes"][0];
    ensure!(lane["route"] == "judge" && lane["topic"] == source && lane["complete"] == true, "{told}");
    ensure!(lane["attempts"] == json!({ "1": 2 }) && lane["overdue_seconds"] == 0.0, "{told}");
    ensure!(lane["next_due"].is_string() && lane["next_due"] == lane["oldest_due"], "{told}");
    let told = ask(file, &["retries", "--route", "judge", "--records", "1"])?;
    ensure!(told["parked"] == 2 && told["records"].as_array().is_some_and(|records| records.len() == 1), "{told}");
    let record = &told["records"][0];
    ensure!(record["due"] == lane["next_due"] && record["attempts"] == 1 && record["behind"] == false, "{told}");
    let account = &record["told"];
    ensure!(account["topic"] == source && account["class"] == "retry" && account["stage"] == "wayward", "{told}");
    ensure!(account["message"] == "this run was to fail" && account["key"] == "[redacted]", "{told}");
    ensure!(!told.to_string().contains(SECRET), "{told}");
    Ok(())
}

fn check_audit(folder: &Scratch) -> anyhow::Result<()> {
    let log = fs::read_to_string(folder.path().join("router.log"))?;
    let told: Vec<String> = log
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|line| line["target"] == "pointsman::audit")
        .map(|line| ["actor", "action", "on", "result"].map(|name| line[name].as_str().unwrap_or("?")).join(" | "))
        .collect();
    let line = |result: &str| format!("loopback | watch samples | judge, with values | {result}");
    ensure!(told == [line("begins"), line("ends: 8 told, 0 missed")], "{told:?}");
    ensure!(!log.contains(SECRET), "a secret is in the log");
    Ok(())
}

fn sample(fate: &str) -> Sample {
    let (name, value) = match fate {
        "delivered" => ("none", ""),
        "dropped" => ("drop", ""),
        "parked" => ("fails", "99"),
        _ => ("pill", "reject"),
    };
    let headers = [("Authorization", SECRET), ("what", fate), (name, value)];
    Sample {
        key: Some(SECRET.into()),
        value: Some(format!("{{\"card\": {{\"number\": \"{SECRET}\"}}, \"eur\": 12}}").into_bytes()),
        headers: headers.map(|(name, value)| OwnedHeader::text(name, value)).into(),
        ..Sample::default()
    }
}

fn ask(file: &Path, words: &[&str]) -> anyhow::Result<Value> {
    let asked = router::command()?.args(&words[..1]).arg(file).args(&words[1..]).arg("--json").output()?;
    ensure!(asked.status.success(), "{words:?}: {}", String::from_utf8_lossy(&asked.stderr));
    Ok(serde_json::from_slice(&asked.stdout)?)
}

fn config(backend: &Backend<'_>, delivery: &str, [source, output, dead]: [&str; 3]) -> anyhow::Result<String> {
    // Somebody else may take it before the router does, and does not, on a machine that is not out of ports.
    let at = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    Ok(format!(
        r#"version = 1
[router]
name = "{source}"
workers = 1
delivery = "{delivery}"
{broker}
[admin]
listen = "{at}"
[admin.samples]
values = true
redact = ["key", "headers.authorization", "value.card.number"]
[plugins.wayward]
component = "{wayward}"
[[routes]]
name = "judge"
from = ["{source}"]
stages = [{{ filter = "!('drop' in headers)" }}, "wayward"]
retry = {{ initial = "1h", max = "1h", max_elapsed = "24h" }}
dead_letter = {{ topic = "{dead}" }}
[[routes.outputs]]
topic = "{output}"
"#,
        broker = backend.broker(),
        wayward = plugins::component("wayward")?.display(),
    ))
}
