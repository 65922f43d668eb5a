//! A router that others have taken the partitions from, and that does not know it.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use pointsman_core::record::OwnedHeader;

use super::pair::{self, Pair};
use crate::kafka::proxy::Proxy;
use crate::kafka::{Kafka, Sample};
use crate::{plugins, wait};

/// How often one is made.
const ZOMBIES: usize = 2;
/// Records that are written at a time.
const PORTION: u64 = 500;
const PARTITIONS: i32 = 6;
const DEADLINE: Duration = Duration::from_secs(60);

/// Its transactions may be open for longer than its session, so that the broker does not abort them.
const TEMPLATE: &str = r#"version = 1
[router]
name = "NAME"
delivery = "exactly-once"
transaction = { timeout = "20s" }
commit_interval = "1s"
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

/// One of two routers is made to believe that its session goes on, while the broker hears nothing of it, and the other gets its partitions.
/// Both do the same records then. What the first would commit is refused, since its group has moved on; in the end
/// every record is there once.
///
/// (A router that stands still, SIGSTOP, is none: librdkafka's own clock tells it that its session is over before it comes to
/// commit anything.)
///
/// # Errors
/// When one is there twice, or not at all.
pub fn a_zombie_commits_nothing(kafka: &Kafka, proxy: &Proxy) -> anyhow::Result<()> {
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
    let mut written = 0;
    let mut write = || {
        kafka.fill(&name, (written..written + PORTION).map(sample))?;
        written += PORTION;
        anyhow::Ok(())
    };
    let refused = (0..ZOMBIES).try_for_each(|_| make_one(&mut routers, proxy, &mut write));
    proxy.deceive_nobody();
    let done = refused.and_then(|()| come_to_rest(&mut routers, &mut write)).with_context(|| routers.whereabouts());
    let stopped = routers.stop_well();
    pair::verdict(account(kafka, &output, written), done, stopped)
}

/// Writes records, and makes one of the routers a zombie, until what it would commit is refused.
fn make_one(
    routers: &mut Pair<'_>,
    proxy: &Proxy,
    write: &mut impl FnMut() -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    routers.until_shared(PARTITIONS)?;
    proxy.deceive_one();
    let heir = routers.until_one_has(PARTITIONS, &mut *write)?;
    let zombie = 1 - heir;
    let before = routers.undone(zombie);
    wait::until_ok("the zombie's commit to be refused", DEADLINE, || {
        write()?;
        Ok((routers.undone(zombie) > before).then_some(()))
    })?;
    proxy.deceive_nobody();
    Ok(())
}

/// Waits until the group has nothing left to do, and both routers have committed something since there are no zombies. (One whose
/// transactions were undone lets more and more time pass before the next, up to ten seconds, whatever it is about.)
fn come_to_rest(routers: &mut Pair<'_>, write: &mut impl FnMut() -> anyhow::Result<()>) -> anyhow::Result<()> {
    routers.until_shared(PARTITIONS)?;
    write()?;
    routers.drain()
}

fn account(kafka: &Kafka, output: &str, written: u64) -> anyhow::Result<()> {
    let mut counts: BTreeMap<u64, u32> = BTreeMap::new();
    for (_, record) in kafka.read_all(output)? {
        let value = record.value.context("a value is lost")?;
        *counts.entry(str::from_utf8(&value)?.parse()?).or_default() += 1;
    }
    let missing = (0..written).filter(|number| !counts.contains_key(number)).count();
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
