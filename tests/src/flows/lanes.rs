//! Lanes that are asked, paused, resumed and skipped by hand while their router runs.

use std::net::TcpListener;
use std::path::Path;
use std::process::Output;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde_json::Value;

use crate::backend::Backend;
use crate::kafka::{Kafka, Sample};
use crate::places::Scratch;
use crate::router::{self, Router};
use crate::{plugins, wait};

const RECORDS: i64 = 300;
/// So many records fail, one after the other.
const FAILURES: i64 = 3;
const DEADLINE: Duration = Duration::from_secs(60);

/// A lane halts at each record that its plugin rejects. It is skipped, and the record is dead-lettered with what it failed with;
/// all others are delivered, once. While it is paused it delivers nothing, and keeps its place.
///
/// # Errors
/// When that does not hold.
pub fn lanes_by_hand(backend: &Backend<'_>) -> anyhow::Result<()> {
    let [source, output, dead] = ["source", "output", "dead"].map(Kafka::unique);
    for topic in [&source, &output] {
        backend.create_topic(topic, 1)?;
    }
    backend.fill(&source, (0..RECORDS / 2).map(sample))?;
    let folder = Scratch::new("lanes-")?;
    let config = config(backend, &source, &output, &dead)?;
    let mut router = Router::start(folder.path(), "router", &config)?;
    let file = folder.path().join("router.toml");
    router.wait_until_assigned()?;

    for skipped in 0..FAILURES {
        // The dead letter before it may be on its way.
        let is_there = |lane: &Value| lane["state"] == "halted" && lane["position"]["watermark"] == skipped;
        let lane = until(&mut router, &file, is_there)?;
        let at = &lane["stands_at"];
        ensure!(at["offset"] == skipped && at["class"] == "reject" && at["topic"] == *source, "{lane}");
        ensure!(lane["since"].is_string(), "{lane}");
        let (code, told) = ask(&file, &["skip"], &["--route", "judge"])?;
        ensure!(code == 0 && told["lanes"][0]["done"] == "dead-lettering", "{told}");
    }
    let settled = |half: i64| move |lane: &Value| lane["position"]["watermark"] == RECORDS * half / 2;
    let lane = until(&mut router, &file, settled(1))?;
    ensure!(lane["state"] == "running", "{lane}");
    let (code, refused) = ask(&file, &["skip"], &["--route", "judge", "--partition", "0"])?;
    let why = refused["lanes"][0]["refused"].as_str().unwrap_or_default();
    ensure!(code == 1 && why.contains("the lane is not halted"), "{refused}");

    let (code, told) = ask(&file, &["pause"], &["--route", "judge"])?;
    ensure!(code == 0 && told["lanes"][0]["done"] == "paused", "{told}");
    backend.fill(&source, (RECORDS / 2..RECORDS).map(sample))?;
    let lane = until(&mut router, &file, |lane| lane["state"] == "paused-by-hand")?;
    ensure!(settled(1)(&lane), "{lane}");
    ensure!(ask(&file, &["resume"], &["--route", "judge"])?.0 == 0, "it goes on");
    until(&mut router, &file, settled(2))?;

    let shown = run(&file, &["ls"], &[])?;
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    ensure!(shown.contains(&format!("{source}/0")) && shown.contains("running"), "{shown}");
    check_refusals(&folder, &file, &config)?;
    router.stop_well()?;
    let gone = run(&file, &["ls"], &[])?;
    let why = String::from_utf8_lossy(&gone.stderr).into_owned();
    ensure!(gone.status.code() == Some(3) && why.contains("nobody answers at"), "{why}");

    let values = |topic: &str| -> anyhow::Result<Vec<String>> {
        let records = backend.read_all(topic)?.into_iter();
        records.map(|(_, record)| Ok(String::from_utf8(record.value.context("a value is lost")?)?)).collect()
    };
    let numbers = |numbers: std::ops::Range<i64>| numbers.map(|number| number.to_string()).collect::<Vec<_>>();
    ensure!(values(&dead)? == numbers(0..FAILURES), "dead letters: {:?}", values(&dead)?);
    ensure!(values(&output)? == numbers(FAILURES..RECORDS), "delivered: {:?}", values(&output)?);
    Ok(())
}

/// What can't be: a second router at the same door, and lanes that are not there.
fn check_refusals(folder: &Scratch, file: &Path, config: &str) -> anyhow::Result<()> {
    let mut second = router::command()?;
    let twin = folder.path().join("twin.toml");
    std::fs::write(&twin, config)?;
    let second = second.arg("run").arg(&twin).output()?;
    let why = String::from_utf8_lossy(&second.stderr);
    ensure!(second.status.code() == Some(3) && why.contains("can't open the admin door at 127.0.0.1:"), "{why}");
    for (more, words) in
        [(["--partition", "7"], "this router has no such lane"), (["--route", "jugde"], "is it judge?")]
    {
        let route: &[&str] = if more[0] == "--route" { &[] } else { &["--route", "judge"] };
        let refused = run(file, &["pause"], &[route, &more].concat())?;
        let why = String::from_utf8_lossy(&refused.stderr).into_owned();
        ensure!(!refused.status.success() && why.contains(words), "{why}");
    }
    Ok(())
}

/// Waits until the only lane is so.
fn until(router: &mut Router, file: &Path, is_so: impl Fn(&Value) -> bool) -> anyhow::Result<Value> {
    let mut last = Value::Null;
    let found = wait::until_ok("the lane to get there", DEADLINE, || {
        router.check()?;
        last = ask(file, &["ls"], &[])?.1;
        let lanes = last["lanes"].as_array().context("there are no lanes")?;
        Ok(lanes.iter().find(|lane| is_so(lane)).cloned())
    });
    found.with_context(|| format!("it says {last}; the end of its log:\n{}", router.log_tail()))
}

/// The exit code, and the answer in JSON.
fn ask(file: &Path, verb: &[&str], more: &[&str]) -> anyhow::Result<(i32, Value)> {
    let output = run(file, verb, &[more, &["--json"]].concat())?;
    let told = || format!("{verb:?} says: {}", String::from_utf8_lossy(&output.stderr));
    let answer = serde_json::from_slice(&output.stdout).with_context(told)?;
    Ok((output.status.code().with_context(told)?, answer))
}

fn run(file: &Path, verb: &[&str], more: &[&str]) -> anyhow::Result<Output> {
    Ok(router::command()?.arg("lanes").args(verb).arg(file).args(more).output()?)
}

fn sample(number: i64) -> Sample {
    Sample { value: Some(number.to_string().into_bytes()), ..Sample::default() }
}

fn config(backend: &Backend<'_>, source: &str, output: &str, dead: &str) -> anyhow::Result<String> {
    // Somebody else may take it before the router does, and does not, on a machine that is not out of ports.
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    Ok(format!(
        r#"version = 1
[router]
name = "{source}"
workers = 1
{broker}
[admin]
listen = "127.0.0.1:{port}"
[plugins.faulty]
component = "{faulty}"
config = {{ fault = "reject", first = {FAILURES} }}
[[routes]]
name = "judge"
from = ["{source}"]
ordering = "key"
stages = ["faulty"]
dead_letter = {{ topic = "{dead}" }}
on = {{ reject = "halt" }}
[[routes.outputs]]
topic = "{output}"
"#,
        broker = backend.broker(),
        faulty = plugins::component("faulty")?.display(),
    ))
}
