//! A record that kills the process each time that it is run.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use pointsman_core::metadata::Metadata;
use pointsman_core::record::TopicPartition;
use pointsman_core::unclean::Ends;

use crate::backend::Backend;
use crate::kafka::{Kafka, Sample, header_text};
use crate::places::Scratch;
use crate::plugins;
use crate::router::Router;

const RECORDS: u64 = 60;
const KILLER: u64 = 31;
const DEADLINE: Duration = Duration::from_secs(120);

/// The record loops until its deadline, which is long: the router is killed as soon as its commits say that it is about to run
/// it. So the commits alone find it out; nothing else outlives the process.
///
/// # Errors
/// When the record does not end as the only dead letter, after five deaths, or another is not delivered.
pub fn host_crash(backend: &Backend<'_>) -> anyhow::Result<()> {
    let (source, output, dead) = (Kafka::unique("orders"), Kafka::unique("judged"), Kafka::unique("dead"));
    backend.create_topic(&source, 2)?;
    backend.create_topic(&output, 2)?;
    backend.fill(&source, (0..RECORDS).map(sample))?;
    let records = backend.read_all(&source)?;
    let killer = records.iter().find(|(_, record)| record.key.as_deref() == Some(KILLER.to_string().as_bytes()));
    let (partition, killer) = killer.context("the record that kills is not there")?;
    let folder = Scratch::new("host-crash-")?;
    let config = config(backend, &source, &output, &dead)?;

    for (count, during) in [(1, 0), (2, 0), (2, 1), (2, 2), (2, 3)] {
        let mut router = Router::start(folder.path(), "router", &config)?;
        let what = format!("{count} ends, {during} of them in trials");
        router.wait_until(&what, DEADLINE, || {
            let ends = committed_ends(backend, &source, partition)?;
            let trial = ends.trials.get(&killer.offset).copied().unwrap_or(0);
            Ok((ends.count, trial) == (count, during))
        })?;
        router.kill()?;
    }
    let mut router = Router::start(folder.path(), "router", &config)?;
    router.wait_until("every record to have its fate", DEADLINE, || {
        let delivered = keys(backend, &output)?.len() as u64;
        Ok(delivered == RECORDS - 1 && backend.count(&dead)? > 0)
    })?;
    router.stop_well()?;

    let letters = backend.read_all(&dead)?;
    let [(_, letter)] = letters.as_slice() else { anyhow::bail!("{} dead letters", letters.len()) };
    ensure!(letter.key == killer.key && letter.value == killer.value, "another record is the dead letter");
    let class = header_text(letter, pointsman_core::provenance::name::CLASS);
    ensure!(class.as_deref() == Some("host-crash"), "its class is {class:?}");
    ensure!(!keys(backend, &output)?.contains(&KILLER.to_string().into_bytes()), "it is delivered, too");
    ensure!(committed_ends(backend, &source, partition)?.is_none(), "it is suspected still");
    Ok(())
}

fn committed_ends(backend: &Backend<'_>, group: &str, partition: &TopicPartition) -> anyhow::Result<Ends> {
    let committed = backend.log()?.committed(group, std::slice::from_ref(partition))?;
    let Some(commit) = committed.into_iter().flatten().next() else { return Ok(Ends::default()) };
    Ok(Metadata::decode(&commit.metadata, commit.offset)?.ends)
}

fn keys(backend: &Backend<'_>, topic: &str) -> anyhow::Result<BTreeSet<Vec<u8>>> {
    Ok(backend.read_all(topic)?.into_iter().filter_map(|(_, record)| record.key).collect())
}

fn sample(number: u64) -> Sample {
    let poison = if number == KILLER { r#","poison":"loop""# } else { "" };
    Sample {
        key: Some(number.to_string().into_bytes()),
        value: Some(format!(r#"{{"n":{number}{poison}}}"#).into_bytes()),
        ..Sample::default()
    }
}

fn config(backend: &Backend<'_>, source: &str, output: &str, dead: &str) -> anyhow::Result<String> {
    let broker = match backend {
        // A router that is started again is to have the partitions of the one that was killed soon.
        Backend::Kafka(_) => format!("{}[broker.librdkafka]\n\"session.timeout.ms\" = \"6000\"\n", backend.broker()),
        Backend::Embedded(_) => backend.broker(),
    };
    Ok(format!(
        r#"version = 1
[router]
name = "{source}"
drain_deadline = "5s"
{broker}
[plugins.chaos]
component = "{chaos}"
limits = {{ deadline = "10s" }}
[[routes]]
name = "judge"
from = ["{source}"]
stages = ["chaos"]
dead_letter = {{ topic = "{dead}" }}
[[routes.outputs]]
topic = "{output}"
"#,
        chaos = plugins::component("chaos")?.display(),
    ))
}
