//! A router that has stood still for so long that others have its partitions, and does not know yet.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use pointsman_core::record::OwnedHeader;

use super::pair::{self, Pair};
use crate::kafka::{Kafka, Sample};
use crate::{plugins, wait};

/// How often it is paused.
const PAUSES: u64 = 3;
const PORTION: u64 = 20_000;
const PARTITIONS: i32 = 6;
const DEADLINE: Duration = Duration::from_secs(60);

/// Its transactions may be open for longer than it is paused, so that the broker does not abort them; and they are open most of the
/// time, so that it stands still in the middle of one, with all in it to be committed.
const TEMPLATE: &str = r#"version = 1
[router]
name = "NAME"
delivery = "exactly-once"
transaction = { timeout = "20s" }
commit_interval = "3s"
drain_deadline = "3s"
[broker]
bootstrap = "BOOTSTRAP"
[broker.librdkafka]
"session.timeout.ms" = "6000"
"heartbeat.interval.ms" = "500"
[plugins.mirror]
component = "MIRROR"
[[routes]]
name = "main"
from = ["NAME"]
stages = ["mirror"]
[[routes.outputs]]
topic = "NAME.out"
"#;

/// One of two routers is paused in the middle of a transaction, until the other has done all that there was. What it would
/// commit when it goes on is refused, since its group has moved on; in the end every record is there once.
///
/// # Errors
/// When one is there twice, or not at all.
pub fn a_zombie_commits_nothing(kafka: &Kafka) -> anyhow::Result<()> {
    let name = Kafka::unique("zombie");
    let output = format!("{name}.out");
    for topic in [&name, &output] {
        kafka.create_topic(topic, PARTITIONS)?;
    }
    let config = TEMPLATE
        .replace("NAME", &name)
        .replace("BOOTSTRAP", kafka.bootstrap())
        .replace("MIRROR", &plugins::component("mirror")?.display().to_string());
    let mut routers = Pair::start(kafka, &name, [config.clone(), config])?;
    for portion in 0..PAUSES {
        wait::until_ok("both routers to have partitions", DEADLINE, || Ok(routers.have_partitions()?.then_some(())))?;
        kafka.fill(&name, (portion * PORTION..(portion + 1) * PORTION).map(sample))?;
        let written = i64::try_from((portion + 1) * PORTION)?;
        wait::until_ok("all to be written, and not to be committed", DEADLINE, || {
            let (stable, all) = kafka.ends(&[&output])?;
            Ok((all >= written && stable < all).then_some(()))
        })?;
        routers.pause(usize::try_from(portion % 2)?)?;
    }
    let done = routers.drain().with_context(|| routers.whereabouts());
    let stopped = routers.stop_well();
    pair::verdict(account(kafka, &output), done, stopped)
}

fn account(kafka: &Kafka, output: &str) -> anyhow::Result<()> {
    let mut counts: BTreeMap<u64, u32> = BTreeMap::new();
    for (_, record) in kafka.read_all(output)? {
        let value = record.value.context("a value is lost")?;
        *counts.entry(str::from_utf8(&value)?.parse()?).or_default() += 1;
    }
    let missing = (0..PAUSES * PORTION).filter(|number| !counts.contains_key(number)).count();
    let twice = counts.values().filter(|count| **count > 1).count();
    ensure!(missing == 0 && twice == 0, "{missing} records are missing, {twice} are there more often than once");
    Ok(())
}

fn sample(number: u64) -> Sample {
    Sample {
        key: Some(number.to_string().into_bytes()),
        value: Some(number.to_string().into_bytes()),
        headers: vec![OwnedHeader::text("answer", "pass")],
        ..Sample::default()
    }
}
