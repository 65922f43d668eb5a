//! The admin API of a running router: who gets in, what is done and told there, and a flood that holds up nobody.

use std::io::Write as _;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Output;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};
use ureq::Agent;
use ureq::http::Request;

use crate::backend::Backend;
use crate::kafka::{Kafka, Sample};
use crate::places::Scratch;
use crate::plugins;
use crate::router::{self, Router};

const RECORDS: i64 = 400;
/// So many records fail, the first.
const FAILURES: i64 = 3;
const DEADLINE: Duration = Duration::from_secs(60);
/// More connections than the door takes at a time.
const FLOOD: usize = 200;

const OPERATOR: &str = "operator-operator-operator";
const READER: &str = "reader-reader-reader";

/// With tokens, nobody gets in without one, and a reader changes nothing. While more connections than it takes say nothing and
/// announce large bodies, records are delivered and lanes are listed. Dead letters are handled there, the log is made more talkative,
/// the router stops when it is told to, and each of these has its line in the log.
///
/// # Errors
/// When that does not hold.
pub fn admin_api(backend: &Backend<'_>) -> anyhow::Result<()> {
    let [source, output, dead] = ["source", "output", "dead"].map(Kafka::unique);
    for topic in [&source, &output] {
        backend.create_topic(topic, 1)?;
    }
    backend.fill(&source, (0..RECORDS / 2).map(sample))?;
    let folder = Scratch::new("admin-")?;
    let door = Door { at: free()? };
    let config = config(backend, [&source, &output, &dead], door.at)?;
    let mut router = Router::start(folder.path(), "router", &config)?;
    let file = folder.path().join("router.toml");
    router.wait_until_assigned()?;

    check_who_gets_in(&door, &folder, &file, &config)?;
    let delivered = |count: i64| {
        let read = backend.read_all(&output)?;
        Ok(i64::try_from(read.len())? == count)
    };
    router.wait_until("the first half", DEADLINE, || delivered(RECORDS / 2 - FAILURES))?;

    // The flood stands while the other half is delivered.
    let flood = flood(door.at)?;
    backend.fill(&source, (RECORDS / 2..RECORDS).map(sample))?;
    router.wait_until("the other half", DEADLINE, || delivered(RECORDS - FAILURES))?;
    let listed = lanes(&file, &[], None)?;
    ensure!(listed.status.success(), "{}", String::from_utf8_lossy(&listed.stderr));
    drop(flood);

    check_log_level(&door)?;
    check_dead_letters(&door, &dead)?;
    let (status, answer) = door.ask("POST", "/v1/drain", Some(READER), None)?;
    ensure!(status == 403 && answer["error"] == "reader", "{status} {answer}");
    let (status, answer) = door.ask("POST", "/v1/drain", Some(OPERATOR), None)?;
    ensure!(status == 202, "{status} {answer}");
    let log = router.wait_until_ended_well()?;
    check_audit(&log)
}

fn check_who_gets_in(door: &Door, folder: &Scratch, file: &Path, config: &str) -> anyhow::Result<()> {
    for (token, expected) in [(None, 401), (Some("wrong-wrong-wrong"), 401), (Some(READER), 200), (Some(OPERATOR), 200)]
    {
        let (status, answer) = door.ask("GET", "/v1/lanes", token, None)?;
        ensure!(status == expected, "with {token:?}: {status} {answer}");
    }
    let pause = "/v1/lanes/judge/nothing/0/pause";
    for (token, expected) in [(None, 401), (Some(READER), 403), (Some(OPERATOR), 404)] {
        let (status, answer) = door.ask("POST", pause, token, None)?;
        ensure!(status == expected && answer["message"].is_string(), "with {token:?}: {status} {answer}");
    }
    // The command line finds the token in the file, or is told one.
    ensure!(lanes(file, &[], None)?.status.success(), "the token of the file");
    let digests = folder.path().join("digests.toml");
    let digest = format!("token_sha256 = \"{}\"", "0".repeat(64));
    std::fs::write(&digests, config.replace(&format!("token = \"{OPERATOR}\""), &digest).replace(READER_TABLE, ""))?;
    let refused = lanes(&digests, &[], None)?;
    let why = String::from_utf8_lossy(&refused.stderr).into_owned();
    ensure!(refused.status.code() == Some(2) && why.contains("--token-file FILE"), "{why}");
    ensure!(lanes(&digests, &[], Some(READER))?.status.success(), "the token of the variable");
    let token = folder.path().join("token");
    std::fs::write(&token, format!("{OPERATOR}\n"))?;
    let token = token.display().to_string();
    ensure!(lanes(&digests, &["--token-file", &token], Some("wrong"))?.status.success(), "the token of its file");
    Ok(())
}

/// Connections that say nothing, do not end their headers, or announce a large body.
fn flood(at: SocketAddr) -> anyhow::Result<Vec<TcpStream>> {
    let begin = |number: usize| -> anyhow::Result<TcpStream> {
        let mut stream = TcpStream::connect(at)?;
        let head = "POST /v1/lanes/judge/nothing/0/skip HTTP/1.1\r\nHost: localhost\r\nX-Slow: ";
        match number % 3 {
            0 => {}
            1 => stream.write_all(head.as_bytes())?,
            _ => stream.write_all(format!("{head}no\r\nContent-Length: 999999999\r\n\r\n").as_bytes())?,
        }
        Ok(stream)
    };
    (0..FLOOD).map(begin).collect()
}

fn check_log_level(door: &Door) -> anyhow::Result<()> {
    let filter = json!({ "filter": "info,pointsman=debug" });
    let (status, answer) = door.ask("PUT", "/v1/log-level", Some(OPERATOR), Some(&filter))?;
    ensure!(status == 200 && answer == filter, "{status} {answer}");
    let wrong = json!({ "filter": "pointsman=loud" });
    let (status, answer) = door.ask("PUT", "/v1/log-level", Some(OPERATOR), Some(&wrong))?;
    ensure!(status == 422 && answer["error"] == "malformed", "{status} {answer}");
    let (status, answer) = door.ask("GET", "/v1/log-level", Some(READER), None)?;
    ensure!(status == 200 && answer == filter, "{status} {answer}");
    // Only what is done at the door is logged after that.
    let off = json!({ "filter": "off" });
    let (status, answer) = door.ask("PUT", "/v1/log-level", Some(OPERATOR), Some(&off))?;
    ensure!(status == 200 && answer == off, "{status} {answer}");
    Ok(())
}

fn check_dead_letters(door: &Door, dead: &str) -> anyhow::Result<()> {
    let (status, answer) = door.ask("GET", "/v1/dead-letters?class=reject", Some(READER), None)?;
    ensure!(status == 200 && answer["selected"] == FAILURES, "{status} {answer}");
    let order = json!({ "which": { "class": "reject" } });
    let (status, answer) = door.ask("POST", "/v1/dead-letters/replay", Some(OPERATOR), Some(&order))?;
    let summary = &answer["summary"];
    ensure!(status == 200 && summary["dry_run"] == true && summary["replayed"] == FAILURES, "{status} {answer}");
    let order = json!({ "which": { "class": "reject" }, "dry_run": false });
    let (status, answer) = door.ask("POST", "/v1/dead-letters/discard", Some(OPERATOR), Some(&order))?;
    ensure!(status == 200 && answer["summary"]["discarded"] == FAILURES, "{status} {answer}");
    let (status, answer) = door.ask("GET", &format!("/v1/dead-letters/show?letter={dead}/0/0"), Some(READER), None)?;
    let handled = &answer["handled"][0];
    ensure!(status == 200 && handled["by"] == "oncall" && handled["action"] == "discarded", "{status} {answer}");
    Ok(())
}

/// What was done, and what was refused, each once and with who it was.
fn check_audit(log: &[Value]) -> anyhow::Result<()> {
    let audit = |line: &&Value| line["target"] == "pointsman::audit";
    let told: Vec<String> = log
        .iter()
        .filter(audit)
        .map(|line| ["actor", "action", "on", "result"].map(|name| line[name].as_str().unwrap_or("?")).join(" | "))
        .collect();
    let discarded = format!("discarded {FAILURES}, left alone 0, failed 0");
    for (start, end) in [
        ("nobody | request | POST /v1/lanes/judge/nothing/0/pause | ", "refused: no-token"),
        ("grafana | request | POST /v1/lanes/judge/nothing/0/pause | ", "refused: reader"),
        ("oncall | pause | judge nothing/0 | ", "refused: no-lane"),
        ("oncall | log-level | info,pointsman=debug | ", "changed"),
        ("oncall | log-level | pointsman=loud | ", "refused: malformed"),
        ("oncall | log-level | off | ", "changed"),
        ("oncall | replay (dry run) | dead letters, run ", "left alone 0, failed 0"),
        ("oncall | discard | dead letters, run ", &discarded),
        ("grafana | request | POST /v1/drain | ", "refused: reader"),
        ("oncall | drain | router | ", "stops"),
    ] {
        let found = told.iter().filter(|line| line.starts_with(start) && line.ends_with(end)).count();
        ensure!(found == 1, "{start}…{end} is told {found} times, in:\n{}", told.join("\n"));
    }
    // With the log off, nothing else is in it behind that.
    let off = log.iter().position(|line| line["on"] == "off").context("the line is there")?;
    let others: Vec<&Value> = log[off + 1..].iter().filter(|line| !audit(line)).collect();
    ensure!(others.is_empty(), "logged all the same: {others:?}");
    Ok(())
}

struct Door {
    at: SocketAddr,
}

impl Door {
    fn ask(&self, method: &str, path: &str, token: Option<&str>, body: Option<&Value>) -> anyhow::Result<(u16, Value)> {
        let agent: Agent =
            Agent::config_builder().http_status_as_error(false).timeout_global(Some(DEADLINE)).build().into();
        let mut request = Request::builder().method(method).uri(format!("http://{}{path}", self.at));
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let mut answer = match body {
            Some(body) => agent.run(request.header("content-type", "application/json").body(body.to_string())?)?,
            None => agent.run(request.body(())?)?,
        };
        let text = answer.body_mut().read_to_string()?;
        let body = serde_json::from_str(&text).with_context(|| format!("{method} {path} answers {text:?}"))?;
        Ok((answer.status().as_u16(), body))
    }
}

fn lanes(file: &Path, more: &[&str], variable: Option<&str>) -> anyhow::Result<Output> {
    let mut command = router::command()?;
    command.arg("lanes").arg(file).args(more).env_remove("POINTSMAN_TOKEN");
    if let Some(token) = variable {
        command.env("POINTSMAN_TOKEN", token);
    }
    Ok(command.output()?)
}

fn sample(number: i64) -> Sample {
    Sample { value: Some(number.to_string().into_bytes()), ..Sample::default() }
}

/// Somebody else may take it before the router does, and does not, on a machine that is not out of ports.
fn free() -> anyhow::Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

const READER_TABLE: &str = r#"
[[admin.tokens]]
name = "grafana"
role = "reader"
token = "reader-reader-reader"
"#;

fn config(backend: &Backend<'_>, [source, output, dead]: [&str; 3], at: SocketAddr) -> anyhow::Result<String> {
    Ok(format!(
        r#"version = 1
[router]
name = "{source}"
workers = 1
{broker}
[admin]
listen = "{at}"
[[admin.tokens]]
name = "oncall"
role = "operator"
token = "{OPERATOR}"
{READER_TABLE}
[plugins.faulty]
component = "{faulty}"
config = {{ fault = "reject", first = {FAILURES} }}
[[routes]]
name = "judge"
from = ["{source}"]
stages = ["faulty"]
dead_letter = {{ topic = "{dead}" }}
[[routes.outputs]]
topic = "{output}"
"#,
        broker = backend.broker(),
        faulty = plugins::component("faulty")?.display(),
    ))
}
