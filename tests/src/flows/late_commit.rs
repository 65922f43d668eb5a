//! A commit that gets no answer, and is made again by librdkafka when others have been made.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use pointsman_core::record::OwnedHeader;

use crate::kafka::proxy::{Lost, OFFSET_COMMIT, Proxy};
use crate::kafka::{Kafka, Sample};
use crate::places::Scratch;
use crate::router::Router;
use crate::{plugins, wait};

const PARTITIONS: i32 = 2;
/// Records that are written at a time.
const PORTION: u64 = 50;
const DEADLINE: Duration = Duration::from_secs(60);

/// An unanswered commit is given up by librdkafka after three seconds.
const TEMPLATE: &str = r#"version = 1
[router]
name = "NAME"
commit_interval = "100ms"
[broker]
bootstrap = "BOOTSTRAP"
[broker.librdkafka]
"socket.timeout.ms" = "3000"
[plugins.mirror]
component = "MIRROR"
[[routes]]
name = "main"
from = ["NAME"]
stages = ["mirror"]
[[routes.outputs]]
topic = "NAME.out"
"#;

/// A commit of one partition is lost in silence. What else is committed of the partition is not undone when it is made again.
///
/// # Errors
/// When it is.
pub fn a_commit_that_is_made_again_undoes_no_later_one(kafka: &Kafka, proxy: &Proxy) -> anyhow::Result<()> {
    let name = Kafka::unique("late-commit");
    let output = format!("{name}.out");
    for topic in [&name, &output] {
        kafka.create_topic(topic, PARTITIONS)?;
    }
    let config = TEMPLATE
        .replace("NAME", &name)
        .replace("BOOTSTRAP", kafka.bootstrap())
        .replace("MIRROR", &plugins::component("mirror")?.display().to_string());
    let folder = Scratch::new("late-commit-")?;
    let router = Router::start(folder.path(), &name, &config)?;
    let mut written = 0;
    let mut write = |partition: i32| {
        kafka.fill(&name, (0..PORTION).map(|_| sample(partition)))?;
        written += i64::try_from(PORTION)?;
        wait::until_ok("the records to be delivered", DEADLINE, || Ok((kafka.count(&output)? == written).then_some(())))
    };

    write(0)?;
    wait::until_ok(
        "the first records to be committed",
        DEADLINE,
        || Ok((kafka.lag(&name, &name)? == 0).then_some(())),
    )?;
    proxy.lose(OFFSET_COMMIT, Lost::RequestInSilence, 1);
    // Some of these commits, if they are made, come before the lost one is made again.
    (0..5).try_for_each(|_| write(0))?;
    wait::until("the lost commit to be given up", DEADLINE, || {
        said(&router, "Timed out OffsetCommitRequest").then_some(())
    })?;
    ensure!(proxy.lose_nothing() == 1, "no commit was lost");
    // Some commits that are about the other partition only, and after the one that is made again.
    (0..10).try_for_each(|_| write(1))?;
    wait::until_ok("all to be committed", DEADLINE, || Ok((kafka.lag(&name, &name)? == 0).then_some(())))
        .with_context(|| router.log_tail())?;
    router.stop_well()
}

fn said(router: &Router, words: &str) -> bool {
    router.log().iter().any(|line| line["message"].as_str().is_some_and(|message| message.contains(words)))
}

fn sample(partition: i32) -> Sample {
    Sample {
        partition: Some(partition),
        value: Some(b"value".into()),
        headers: vec![OwnedHeader::text("answer", "pass")],
        ..Sample::default()
    }
}
