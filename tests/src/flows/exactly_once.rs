//! Routers with exactly-once delivery that are killed in the middle of their work.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use fastrand::Rng;
use pointsman_core::port::Log;
use pointsman_core::record::{OwnedHeader, TopicPartition};

use super::pair::{self, Guarantee};
use crate::backend::Backend;
use crate::kafka::{Kafka, Sample};
use crate::places::Scratch;
use crate::plugins;
use crate::router::Router;

const RECORDS: u64 = 60_000;
const PARTITIONS: i32 = 3;
const KILLS: u64 = 6;
const DEADLINE: Duration = Duration::from_secs(120);

/// A router is killed again and again, at random moments. In the end every record is where its fate is, once: in one topic or in
/// two, or in the dead letters, after retries that keep the order of keys, or nowhere, if it was dropped.
///
/// The random numbers follow from a seed that is printed; `POINTSMAN_TEST_SEED` sets it.
///
/// # Errors
/// When a record is lost, or there twice, or the router gets stuck.
pub fn a_killed_router_delivers_exactly_once(backend: &Backend<'_>) -> anyhow::Result<()> {
    let mut random = Rng::with_seed(pair::seed("a_killed_router_delivers_exactly_once")?);
    let [source, output, first, second, dead] = ["source", "output", "first", "second", "dead"].map(Kafka::unique);
    for topic in [&source, &output, &first, &second] {
        backend.create_topic(topic, PARTITIONS.cast_unsigned())?;
    }
    backend.fill(&source, (0..RECORDS).map(sample))?;
    let folder = Scratch::new("exactly-once-")?;
    let config = config(backend, [&source, &output, &first, &second, &dead])?;
    let wanted: u64 = (0..RECORDS).map(|number| fate(number)[0]).sum();
    for kill in 0..KILLS {
        let portion = wanted / KILLS;
        let goal = i64::try_from(kill * portion + random.u64(1..portion * 8 / 10))?;
        let mut router = Router::start(folder.path(), "router", &config)?;
        router.wait_until("some records", DEADLINE, || Ok(backend.count(&output)? >= goal))?;
        router.kill()?;
    }
    let mut router = Router::start(folder.path(), "router", &config)?;
    let log = backend.log()?;
    let retry = format!("{source}.main.{source}.retry");
    let worked = router.wait_until("every record to have its fate", DEADLINE, || {
        Ok(backend.is_read(&*log, &source, &source)? && backend.is_read(&*log, &source, &retry)?)
    });
    let stopped = router.stop_well();
    let accounted = account(backend, [&output, &first, &second, &dead])
        .with_context(|| format!("of the retry topic, {}", progress(&*log, &source, &retry)));
    pair::verdict(accounted, worked, stopped)
}

/// How far the group has come in the topic, in words.
fn progress(log: &dyn Log, group: &str, topic: &str) -> String {
    let one = |number| -> anyhow::Result<String> {
        let partition = TopicPartition::new(topic, number);
        let committed =
            log.committed(group, std::slice::from_ref(&partition))?.pop().flatten().map(|commit| commit.offset);
        Ok(format!("{committed:?} of {:?}", log.watermarks(&partition)?))
    };
    let all: Vec<_> =
        (0..PARTITIONS).map(|number| one(number).unwrap_or_else(|error| format!("({error:#})"))).collect();
    format!("{} is committed", all.join(", "))
}

/// Looks for every record.
fn account(backend: &Backend<'_>, topics: [&str; 4]) -> anyhow::Result<()> {
    let mut tallies = Vec::new();
    for topic in topics {
        let mut tally: BTreeMap<u64, u64> = BTreeMap::new();
        for (_, record) in backend.read_all(topic)? {
            let value = record.value.context("a value is lost")?;
            *tally.entry(str::from_utf8(&value)?.parse()?).or_default() += 1;
        }
        tallies.push(tally);
    }
    let found =
        |number: &u64| -> Vec<u64> { tallies.iter().map(|tally| tally.get(number).copied().unwrap_or(0)).collect() };
    let wrong: Vec<u64> = (0..RECORDS).filter(|number| found(number) != fate(*number)).collect();
    let shown: Vec<_> = wrong.iter().take(10).map(|number| (number, found(number), fate(*number))).collect();
    ensure!(wrong.is_empty(), "{} records are not where they belong: {shown:?}", wrong.len());
    Ok(())
}

fn answer(number: u64) -> &'static str {
    match number % 1_000 {
        7 | 507 => "retry",
        11 | 411 | 811 => "reject",
        13 => "drop",
        rest if rest % 10 == 5 => "twice",
        _ => "pass",
    }
}

/// How often it is in the output, the first and the second of the others, and the dead letters.
fn fate(number: u64) -> [u64; 4] {
    match answer(number) {
        "retry" | "reject" => [0, 0, 0, 1],
        "drop" => [0; 4],
        "twice" => [0, 1, 1, 0],
        _ => [1, 0, 0, 0],
    }
}

fn sample(number: u64) -> Sample {
    Sample {
        key: Some((number % 1_009).to_string().into_bytes()),
        value: Some(number.to_string().into_bytes()),
        headers: vec![OwnedHeader::text("answer", answer(number))],
        ..Sample::default()
    }
}

fn config(backend: &Backend<'_>, [source, output, first, second, dead]: [&str; 5]) -> anyhow::Result<String> {
    Ok(format!(
        r#"version = 1
[router]
name = "{source}"
workers = 2
{delivery}
# Less than the session timeout.
drain_deadline = "3s"
{broker}
{librdkafka}
[plugins.mirror]
component = "{mirror}"
[[routes]]
name = "main"
from = ["{source}"]
stages = ["mirror"]
ordering = "key"
retry = {{ max_attempts = 2, initial = "100ms", max = "200ms" }}
breaker = false
dead_letter = {{ topic = "{dead}" }}
[[routes.outputs]]
port = "first"
topic = "{first}"
[[routes.outputs]]
port = "second"
topic = "{second}"
[[routes.outputs]]
topic = "{output}"
"#,
        delivery = Guarantee::ExactlyOnce.keys(),
        broker = backend.broker(),
        // So that the partitions of a killed router come free soon.
        librdkafka = match backend {
            Backend::Kafka(_) => "[broker.librdkafka]\n\"session.timeout.ms\" = \"6000\"",
            Backend::Embedded(_) => "",
        },
        mirror = plugins::component("mirror")?.display(),
    ))
}
