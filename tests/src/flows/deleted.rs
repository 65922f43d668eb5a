//! A retry topic that is deleted under a running router.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::ensure;
use pointsman_core::record::OwnedHeader;

use crate::kafka::{Kafka, Sample, TopicSpec};
use crate::places::Scratch;
use crate::plugins;
use crate::router::{self, Router};

const RECORDS: usize = 40;
/// Every so often a record fails once.
const FAILS_EVERY: usize = 4;
const DEADLINE: Duration = Duration::from_secs(60);

/// The lane waits while the topic is away, and halts when there is another in its place: it says what is lost and how to have
/// it run again, and that works. Where the router is not there when it happens, it says so at its start.
///
/// # Errors
/// When that does not hold.
pub fn a_deleted_retry_topic_is_told_and_made_good(kafka: &Kafka) -> anyhow::Result<()> {
    let flow = Flow::prepare(kafka)?;
    let mut router = flow.start()?;
    router.wait_until("some to be parked", DEADLINE, || {
        // The topic may not be there yet.
        Ok(kafka.count(&flow.retry).unwrap_or(0) == parked() && kafka.lag(&flow.source, &flow.source)? == 0)
    })?;
    kafka.delete_topics(&[&flow.retry])?;
    flow.fill()?;
    router.wait_for_words(&["; the lane waits and tries again"], DEADLINE)?;
    kafka.create_topics(&[TopicSpec::new(&flow.retry, 1).with("retention.ms", "-1").with("retention.bytes", "-1")])?;
    router.wait_for_words(&["the lane is halted: "], DEADLINE)?;
    router.wait_for_words(&[&format!("the first of them is offset 0 of {}/0", flow.source)], DEADLINE)?;
    router.stop_well()?;

    flow.reset(&["--topic", &flow.source, "--partition", "0", "--to", "0", "--parked", "keep"])?;
    let mut router = flow.start()?;
    router.wait_until("every record to be delivered", DEADLINE, || {
        let values = kafka.count_by(&flow.output, |message| rdkafka::Message::payload(message).map(<[u8]>::to_vec))?;
        Ok(values.len() == 2 * RECORDS && kafka.lag(&flow.source, &flow.retry)? == 0)
    })?;
    router.stop_well()?;

    kafka.delete_topics(&[&flow.retry])?;
    let mut router = flow.start()?;
    router.wait_for_words(&["its retry topic was deleted"], DEADLINE)?;
    router.stop_well()
}

fn parked() -> i64 {
    i64::try_from(RECORDS / FAILS_EVERY).unwrap_or(0)
}

struct Flow<'a> {
    kafka: &'a Kafka,
    folder: Scratch,
    source: String,
    output: String,
    retry: String,
    config: String,
}

impl<'a> Flow<'a> {
    fn prepare(kafka: &'a Kafka) -> anyhow::Result<Self> {
        let [source, output] = ["source", "output"].map(Kafka::unique);
        for topic in [&source, &output] {
            kafka.create_topic(topic, 1)?;
        }
        let config = format!(
            r#"version = 1
[router]
name = "{source}"
commit_interval = "100ms"
drain_deadline = "1s"
[broker]
bootstrap = "{bootstrap}"
[broker.librdkafka]
# So that clients notice soon.
"topic.metadata.refresh.interval.ms" = "500"
"topic.metadata.propagation.max.ms" = "500"
[plugins.wayward]
component = "{wayward}"
[[routes]]
name = "again"
from = ["{source}"]
stages = ["wayward"]
# Longer than it takes to delete the topic.
retry = {{ initial = "5s", max = "5s" }}
[[routes.outputs]]
topic = "{output}"
"#,
            bootstrap = kafka.bootstrap(),
            wayward = plugins::component("wayward")?.display(),
        );
        let retry = format!("{source}.again.{source}.retry");
        let flow = Self { kafka, folder: Scratch::new("deleted-")?, source, output, retry, config };
        flow.fill()?;
        Ok(flow)
    }

    /// Writes records to the source; no two have the same value.
    fn fill(&self) -> anyhow::Result<()> {
        let before = usize::try_from(self.kafka.count(&self.source)?)?;
        let sample = |number: usize| Sample {
            value: Some((before + number).to_string().into_bytes()),
            headers: vec![OwnedHeader::text("fails", if number.is_multiple_of(FAILS_EVERY) { "1" } else { "0" })],
            ..Sample::default()
        };
        self.kafka.fill(&self.source, (0..RECORDS).map(sample))
    }

    fn start(&self) -> anyhow::Result<Router> {
        Router::start(self.folder.path(), "router", &self.config)
    }

    /// `pointsman offsets reset` of the route, once the group has no members any more.
    fn reset(&self, arguments: &[&str]) -> anyhow::Result<()> {
        let file: PathBuf = self.folder.path().join("router.toml");
        fs::write(&file, &self.config)?;
        let mut command: Command = router::command()?;
        let output = command.args(["offsets", "reset", "--route", "again"]).args(arguments).arg(&file).output()?;
        ensure!(output.status.success(), "it was refused: {}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    }
}
