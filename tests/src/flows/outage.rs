//! A plugin that fails for every record, until it has been asked about so many.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde_json::Value;

use crate::backend::Backend;
use crate::kafka::{Kafka, Sample};
use crate::places::Scratch;
use crate::plugins;
use crate::router::Router;

const RECORDS: u64 = 2_000;
const TOKENS: u64 = 10;
/// More than the lane has judged when it is out of tokens: two batches at most.
const FAILURES: u64 = 60;
const BATCH: u64 = 16;
const DEADLINE: Duration = Duration::from_secs(60);

/// The outage costs as many records as there are tokens. The lane keeps its place, tries one record now and then, and goes
/// on by itself when the plugin does; everything else is delivered, once.
///
/// # Errors
/// When that does not hold.
pub fn outage(backend: &Backend<'_>) -> anyhow::Result<()> {
    let [source, output, dead] = ["source", "output", "dead"].map(Kafka::unique);
    for topic in [&source, &output] {
        backend.create_topic(topic, 1)?;
    }
    backend.fill(&source, (0..RECORDS).map(sample))?;
    let folder = Scratch::new("outage-")?;
    let config = config(backend, &source, &output, &dead)?;

    let mut router = Router::start(folder.path(), "router", &config)?;
    router.wait_until("every record to have its fate", DEADLINE, || {
        let fates = backend.count(&output)? + backend.count(&dead).unwrap_or(0);
        Ok(u64::try_from(fates)? >= RECORDS)
    })?;
    let log = router.log();
    let said = |words: &str| {
        let messages = log.iter().filter_map(|line| line.get("message")?.as_str());
        messages.filter(|message| message.starts_with(words)).count()
    };
    let is_letter =
        |line: &&Value| line["message"].as_str().is_some_and(|message| message.starts_with("dead-lettered: "));
    let told = log.iter().find(is_letter).context("the log tells of a dead letter")?;
    ensure!(told["span"]["lane"] == format!("{source}/0"), "{told:#}");
    ensure!(said("the lane pauses: ") == 1 && said("the lane goes on: ") == 1, "{}", router.log_tail());
    router.stop_well()?;

    let values = |topic: &str| -> anyhow::Result<Vec<String>> {
        let records = backend.read_all(topic)?.into_iter();
        records.map(|(_, record)| Ok(String::from_utf8(record.value.context("a value is lost")?)?)).collect()
    };
    let numbers = |numbers: std::ops::Range<u64>| numbers.map(|number| number.to_string()).collect::<Vec<_>>();
    let (mut delivered, mut letters) = (values(&output)?, values(&dead)?);
    delivered.sort_by_key(|number| number.parse::<u64>().ok());
    letters.sort_by_key(|number| number.parse::<u64>().ok());
    ensure!(letters == numbers(0..TOKENS), "dead letters: {letters:?}");
    ensure!(delivered == numbers(TOKENS..RECORDS), "{} of {} are delivered", delivered.len(), RECORDS - TOKENS);
    Ok(())
}

fn sample(number: u64) -> Sample {
    Sample { value: Some(number.to_string().into_bytes()), ..Sample::default() }
}

fn config(backend: &Backend<'_>, source: &str, output: &str, dead: &str) -> anyhow::Result<String> {
    Ok(format!(
        r#"version = 1
[router]
name = "{source}"
workers = 1
{broker}
[plugins.faulty]
component = "{faulty}"
config = {{ fault = "reject", first = {FAILURES} }}
[[routes]]
name = "judge"
from = ["{source}"]
stages = ["faulty"]
batch = {{ records = {BATCH} }}
dead_letter = {{ topic = "{dead}" }}
breaker = {{ initial = {TOKENS}, one_every = "1h", probe_initial = "10ms", probe_max = "50ms" }}
[[routes.outputs]]
topic = "{output}"
"#,
        broker = backend.broker(),
        faulty = plugins::component("faulty")?.display(),
    ))
}
