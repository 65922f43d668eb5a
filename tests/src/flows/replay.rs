//! Forty thousand dead letters of five causes, some of which are mended and replayed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use pointsman::record_text::RecordLine;
use pointsman_core::failure::FailureClass;
use pointsman_core::provenance::{Blame, Origin, Provenance};
use pointsman_core::record::{OwnedHeader, TopicPartition};
use serde_json::Value;

use crate::backend::Backend;
use crate::child::Guarded;
use crate::kafka::{Kafka, Sample};
use crate::places::Scratch;
use crate::{router, wait};

const LETTERS: i64 = 40_000;
const KEYS: i64 = 1_000;
const PARTITIONS: i64 = 4;
/// Half of the letters of the first cause.
const MEANT: usize = 4_000;
const CAUSES: [(FailureClass, &str); 5] = [
    (FailureClass::Reject, "no-country"),
    (FailureClass::Reject, "no-amount"),
    (FailureClass::Trap, "unreachable"),
    (FailureClass::Deadline, "deadline"),
    (FailureClass::Retry, "down"),
];
const DEADLINE: Duration = Duration::from_secs(120);

/// What a dry run tells of a replay with a condition and edits is what the real run does, record for record, though that is
/// killed in the middle and run again: nothing is left out, and nothing there twice.
///
/// # Errors
/// When that does not hold.
pub fn a_killed_replay_does_what_its_dry_run_tells(backend: &Backend<'_>) -> anyhow::Result<()> {
    let [source, dead] = ["source", "dead"].map(Kafka::unique);
    for topic in [&source, &dead] {
        backend.create_topic(topic, u32::try_from(PARTITIONS)?)?;
    }
    let now_ms = i64::try_from(std::time::UNIX_EPOCH.elapsed()?.as_millis())?;
    backend.fill(&dead, (0..LETTERS).map(|number| letter(&source, number, now_ms)))?;
    let desk = Desk::new(backend, &source, &dead)?;

    let told = desk.run("told", &["--dry-run"])?;
    let (planned, summary) = records(&told)?;
    ensure!(planned.len() == MEANT && summary["replayed"] == MEANT, "{} of {MEANT} are meant", planned.len());
    ensure!(backend.count(&source)? == 0, "a dry run has written");

    let audit = format!("{dead}.audit");
    let mut killed = desk.start("killed", &["--rate", "1000/s"])?;
    wait::until_ok("some letters to be replayed", DEADLINE, || {
        ensure!(killed.ended()?.is_none(), "the replay has ended: {}", desk.said("killed"));
        Ok((backend.count(&audit).unwrap_or(0) > 0).then_some(()))
    })?;
    killed.kill()?;
    let (_, summary) = records(&desk.run("resumed", &[])?)?;
    let before = summary["handled_before"].as_u64().context("a count")?;
    ensure!(before > 0 && before < MEANT as u64, "it was killed after {before} letters, which is not in the middle");
    ensure!(summary["replayed"] == MEANT as u64 - before, "{summary}");
    let (again, summary) = records(&desk.run("again", &[])?)?;
    ensure!(again.is_empty() && summary["handled_before"] == MEANT, "{summary}");

    // In each partition, in the order in which they were told.
    for partition in 0..PARTITIONS {
        let is_there = |record: &&RecordLine| record.partition.map(i64::from) == Some(partition);
        let planned: Vec<&RecordLine> = planned.iter().filter(is_there).collect();
        let written = written(backend, &source)?;
        let written: Vec<&RecordLine> = written.iter().filter(is_there).collect();
        ensure!(planned.len() == MEANT / 4, "partition {partition} has {}", planned.len());
        let differs = planned.iter().zip(&written).find(|(planned, written)| planned != written);
        ensure!(differs.is_none() && planned.len() == written.len(), "partition {partition}: {differs:?}");
    }
    Ok(())
}

/// Letters whose number is even have more than the condition asks for. (Those of the first cause are every fifth, so half of them.)
fn letter(source: &str, number: i64, now_ms: i64) -> Sample {
    let (class, code) = CAUSES[usize::try_from(number).unwrap_or(0) % CAUSES.len()];
    let partition = number % KEYS / 10 % PARTITIONS;
    let provenance = Provenance {
        origin: Origin {
            partition: TopicPartition::new(source, i32::try_from(partition).unwrap_or(0)),
            offset: number,
            timestamp_ms: now_ms - LETTERS + number,
        },
        blame: Blame { route: "orders".into(), stage: Some("validate".into()), plugin_sha256: None },
        class,
        code: code.into(),
        message: format!("order {number} is not as it should be"),
        attempts: 1,
        first_failed_ms: now_ms,
        last_failed_ms: now_ms,
        due_ms: None,
        truncated: false,
        replay_count: 0,
        deferred: false,
        marker: None,
    };
    let amount = if number % 2 == 0 { "100.50" } else { "1.00" };
    let mut headers = vec![OwnedHeader::text("trace", number.to_string())];
    headers.extend(provenance.headers());
    Sample {
        partition: Some(i32::try_from(partition).unwrap_or(0)),
        timestamp_ms: Some(now_ms),
        key: Some((number % KEYS).to_string().into_bytes()),
        value: Some(format!("{{\"number\":{number},\"amount\":{amount}}}").into_bytes()),
        headers,
    }
}

/// What is in the source, as lines tell it.
fn written(backend: &Backend<'_>, source: &str) -> anyhow::Result<Vec<RecordLine>> {
    let records = backend.read_all(source)?;
    let line = |(partition, record): &(TopicPartition, _)| {
        let record: &pointsman_core::record::OwnedRecord = record;
        RecordLine { offset: None, ..RecordLine::from_record(partition, record.as_record()) }
    };
    Ok(records.iter().map(line).collect())
}

/// The records that a run has told of, and what it has summed up.
fn records(told: &str) -> anyhow::Result<(Vec<RecordLine>, Value)> {
    let (mut records, mut summary) = (Vec::new(), None);
    for line in told.lines() {
        let line: Value = serde_json::from_str(line)?;
        match line.get("record") {
            Some(record) => records.push(pointsman::record_text::parse_line(&record.to_string())?),
            None => summary = line.get("summary").cloned(),
        }
    }
    Ok((records, summary.context("a summary")?))
}

/// Where the command is run.
struct Desk {
    folder: Scratch,
    config: PathBuf,
}

impl Desk {
    fn new(backend: &Backend<'_>, source: &str, dead: &str) -> anyhow::Result<Self> {
        let folder = Scratch::new("replay-")?;
        let config = format!(
            r#"version = 1
[router]
name = "{source}"
{broker}
[[routes]]
name = "orders"
from = ["{source}"]
dead_letter = {{ topic = "{dead}" }}
[[routes.outputs]]
topic = "{source}.out"
"#,
            broker = backend.broker(),
        );
        let file = folder.path().join("orders.toml");
        fs::write(&file, config)?;
        Ok(Self { folder, config: file })
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn start(&self, name: &str, more: &[&str]) -> anyhow::Result<Guarded> {
        let mut command = router::command()?;
        command
            .args(["dead-letter", "replay"])
            .arg(&self.config)
            .args(["--where", "code == 'no-country' && value.amount > 50"]);
        command
            .args(["--edit", r#"{"country":"DE"}"#, "--edit", "header mended=yes", "--by", "test", "--json"])
            .args(more);
        let create = |file: &Path| fs::File::create(file).with_context(|| format!("can't make {}", file.display()));
        command
            .stdin(Stdio::null())
            .stdout(create(&self.file(name))?)
            .stderr(create(&self.file(&format!("{name}.err")))?);
        Guarded::spawn(command)
    }

    /// What it prints.
    fn run(&self, name: &str, more: &[&str]) -> anyhow::Result<String> {
        let status = self.start(name, more)?.wait(DEADLINE)?;
        ensure!(status.success(), "{name} ended with {status}: {}", self.said(name));
        Ok(fs::read_to_string(self.file(name))?)
    }

    fn said(&self, name: &str) -> String {
        fs::read_to_string(self.file(&format!("{name}.err"))).unwrap_or_default()
    }
}
