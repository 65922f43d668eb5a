//! A static member that dies in the middle of a cooperative rebalance.

use std::time::Duration;

use anyhow::Context as _;
use pointsman_core::record::OwnedHeader;
use rdkafka::consumer::{BaseConsumer, Consumer as _};

use crate::backend::Backend;
use crate::kafka::{Kafka, Sample};
use crate::places::Scratch;
use crate::router::Router;
use crate::{plugins, wait};

const PARTITIONS: i32 = 6;
const RECORDS: u64 = 600;
const DEADLINE: Duration = Duration::from_secs(120);
/// Whose name it has.
const HEIR: &str = "heir";

const TEMPLATE: &str = r#"version = 1
[router]
name = "NAME"
INSTANCE
drain_deadline = "1s"
[broker]
bootstrap = "BOOTSTRAP"
[plugins.mirror]
component = "MIRROR"
[[routes]]
name = "main"
from = ["NAME"]
stages = ["mirror"]
[[routes.outputs]]
topic = "NAME.out"
"#;

/// A static member has all partitions, is to give up half of them to a router, and stands still before it has. A router is started under
/// its name. The half that is nobody's by then gets an owner.
///
/// # Errors
/// When it does not.
pub fn a_static_member_that_dies_in_a_rebalance_leaves_no_partition_to_nobody(kafka: &Kafka) -> anyhow::Result<()> {
    let name = Kafka::unique("unowned");
    for topic in [name.clone(), format!("{name}.out")] {
        kafka.create_topic(&topic, PARTITIONS)?;
    }
    let config = |instance: &str| -> anyhow::Result<String> {
        let config =
            TEMPLATE.replace("NAME", &name).replace("BOOTSTRAP", kafka.bootstrap()).replace("INSTANCE", instance);
        Ok(config.replace("MIRROR", &plugins::component("mirror")?.display().to_string()))
    };
    let first: BaseConsumer = kafka
        .client()
        .set("group.id", &name)
        .set("group.instance.id", HEIR)
        .set("partition.assignment.strategy", "cooperative-sticky")
        // That it is fenced is no news.
        .set("log_level", "0")
        .create()?;
    first.subscribe(&[&name])?;
    wait::until_ok("the first member to have all partitions", DEADLINE, || {
        first.poll(Duration::from_millis(100)).transpose()?;
        Ok((first.assignment()?.count() == usize::try_from(PARTITIONS)?).then_some(()))
    })?;

    let folder = Scratch::new("unowned-")?;
    let other = Router::start(folder.path(), "other", &config("")?)?;
    wait::until("the other to be in the group, without any partitions", DEADLINE, || {
        other
            .log()
            .iter()
            .any(|line| line["message"] == "partitions assigned" && line["partitions"] == "")
            .then_some(())
    })?;
    // It does not come to give up what it is to: nobody polls it.
    let heir = Router::start(folder.path(), HEIR, &config(r#"instance_id = "${ROUTER}""#)?)?;
    kafka.fill(&name, (0..RECORDS).map(sample))?;
    let backend = Backend::Kafka(kafka);
    let log = backend.log()?;
    wait::until_ok("every partition to be worked on", DEADLINE, || {
        backend.is_read(&*log, &name, &name).map(|done| done.then_some(()))
    })
    .with_context(|| format!("the ends of their logs:\n{}\n--\n{}", heir.log_tail(), other.log_tail()))?;
    heir.stop_well()?;
    other.stop_well()
}

fn sample(number: u64) -> Sample {
    Sample {
        key: Some(number.to_string().into_bytes()),
        value: Some(number.to_string().into_bytes()),
        headers: vec![OwnedHeader::text("answer", "pass")],
        ..Sample::default()
    }
}
