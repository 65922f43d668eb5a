//! Retry topics, from which is removed what is settled.

use std::time::Duration;

use anyhow::ensure;
use pointsman_core::record::{OwnedHeader, TopicPartition};

use crate::backend::Backend;
use crate::kafka::{Kafka, Sample};
use crate::places::Scratch;
use crate::plugins;
use crate::router::Router;

/// More than are removed at once.
const RECORDS: i64 = 6_000;
/// As many as are removed at once, on Kafka.
const REMOVED: i64 = 4_096;
const MORE: i64 = 500;
const DEADLINE: Duration = Duration::from_secs(60);

/// What is settled of a retry topic is removed, and a router that was killed goes on from there.
///
/// # Errors
/// When that does not hold.
pub fn retry_topics_are_trimmed(backend: &Backend<'_>) -> anyhow::Result<()> {
    let flow = Flow::prepare(backend)?;
    let mut router = flow.start()?;
    flow.wait_for(RECORDS, &mut router)?;
    let log = backend.log()?;
    router.wait_until("the retry topic to be trimmed", DEADLINE, || Ok(log.watermarks(&flow.retry())?.0 >= REMOVED))?;
    router.kill()?;
    backend.fill(&flow.source, (0..MORE).map(|_| sample()))?;
    let mut router = flow.start()?;
    // Outputs of before may come again, so they don't tell that those of now are there: each of them is parked first.
    router.wait_until("more to be parked", DEADLINE, || Ok(log.watermarks(&flow.retry())?.1 >= RECORDS + MORE))?;
    flow.wait_for(RECORDS + MORE, &mut router)?;
    router.stop_well()?;
    let (first, end) = log.watermarks(&flow.retry())?;
    ensure!(end >= RECORDS + MORE && first >= REMOVED, "it has {first} to {end}");
    Ok(())
}

/// A topic that nothing can be removed from is told of, and does no harm.
///
/// # Errors
/// When that does not hold.
pub fn a_retry_topic_that_cannot_be_trimmed_does_no_harm(kafka: &Kafka) -> anyhow::Result<()> {
    let backend = Backend::Kafka(kafka);
    let flow = Flow::prepare(&backend)?;
    let mut router = flow.start()?;
    router.wait_until_assigned()?;
    // Kafka removes nothing on demand from a topic that is compacted and does not delete. Of such a topic the router complains
    // at its start; this one becomes so later.
    kafka.set_topic(&flow.retry().topic, "cleanup.policy", "compact")?;
    backend.fill(&flow.source, (0..RECORDS).map(|_| sample()))?;
    flow.wait_for(2 * RECORDS, &mut router)?;
    router.wait_for_words(&["can't remove what is settled from a retry topic", "cleanup.policy"], DEADLINE)?;
    router.stop_well()?;
    ensure!(backend.log()?.watermarks(&flow.retry())?.0 == 0, "nothing was removed");
    Ok(())
}

struct Flow<'a> {
    backend: &'a Backend<'a>,
    folder: Scratch,
    source: String,
    output: String,
    config: String,
}

impl<'a> Flow<'a> {
    /// The source is full of records, each of which fails once.
    fn prepare(backend: &'a Backend<'a>) -> anyhow::Result<Self> {
        let [source, output] = ["source", "output"].map(Kafka::unique);
        for topic in [&source, &output] {
            backend.create_topic(topic, 1)?;
        }
        backend.fill(&source, (0..RECORDS).map(|_| sample()))?;
        let config = format!(
            r#"version = 1
[router]
name = "{source}"
commit_interval = "100ms"
# Less than the session timeout.
drain_deadline = "3s"
{broker}
{librdkafka}
[plugins.wayward]
component = "{wayward}"
[[routes]]
name = "again"
from = ["{source}"]
stages = ["wayward"]
retry = {{ initial = "10ms", max = "50ms" }}
[[routes.outputs]]
topic = "{output}"
"#,
            broker = backend.broker(),
            // So that the partitions of a killed router come free soon.
            librdkafka = match backend {
                Backend::Kafka(_) => "[broker.librdkafka]\n\"session.timeout.ms\" = \"6000\"",
                Backend::Embedded(_) => "",
            },
            wayward = plugins::component("wayward")?.display(),
        );
        Ok(Self { backend, folder: Scratch::new("trimming-")?, source, output, config })
    }

    fn start(&self) -> anyhow::Result<Router> {
        Router::start(self.folder.path(), "router", &self.config)
    }

    fn retry(&self) -> TopicPartition {
        TopicPartition::new(format!("{0}.again.{0}.retry", self.source).as_str(), 0)
    }

    /// Waits for so many outputs.
    fn wait_for(&self, records: i64, router: &mut Router) -> anyhow::Result<()> {
        router.wait_until("the outputs", DEADLINE, || Ok(self.backend.count(&self.output)? >= records))
    }
}

fn sample() -> Sample {
    let headers = vec![OwnedHeader::text("fails", "1")];
    Sample { key: Some(b"k".into()), value: Some(b"v".into()), headers, ..Sample::default() }
}
