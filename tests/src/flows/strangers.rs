//! Records in a retry topic, and commits of a group, that somebody else has made.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use pointsman_core::failure::FailureClass;
use pointsman_core::port::Commit;
use pointsman_core::provenance::{Blame, Origin, Provenance, name};
use pointsman_core::record::{Headers, OwnedHeader, TopicPartition};

use crate::backend::Backend;
use crate::kafka::{Kafka, Sample};
use crate::places::Scratch;
use crate::router::Router;
use crate::{plugins, wait};

const DEADLINE: Duration = Duration::from_secs(60);

/// What the router did not write, or not this version of it, or what is torn, is dead-lettered as it is and holds nobody up;
/// what is whole and came from another partition runs like any other. Commit metadata of another tool is told, and not
/// believed: what lies behind the commit runs again, and nothing is lost.
///
/// # Errors
/// When that does not hold.
pub fn strangers_do_no_harm(backend: &Backend<'_>) -> anyhow::Result<()> {
    let flow = Flow::prepare(backend)?;
    let mut router = flow.start()?;
    router.wait_until_assigned()?;
    let strangers = strangers()?;
    backend.fill(&flow.retry, strangers.iter().map(|stranger| sample(stranger.0, stranger.1.clone())))?;
    backend.fill(&flow.retry, [sample("elsewhere", parked("elsewhere.v1", 3)?)])?;
    backend.fill(&flow.source, own())?;
    flow.wait_for_outputs(&mut router, &["elsewhere", "one", "two"])?;
    router.wait_until("the strangers to be dead letters", DEADLINE, || Ok(flow.letters()?.len() >= strangers.len()))?;
    router.stop_well()?;
    let letters = flow.letters()?;
    for (value, headers, message) in &strangers {
        let (as_it_was, letter) = letters.get(*value).with_context(|| format!("{value} is no dead letter"))?;
        ensure!(as_it_was == headers, "{value} has {as_it_was:?}");
        ensure!(letter.class == FailureClass::Undecodable && letter.message.contains(message), "{value}: {letter:?}");
        ensure!(letter.origin.partition == TopicPartition::new(flow.retry.as_str(), 0), "{value}: {letter:?}");
    }
    ensure!(letters.len() == strangers.len(), "{:?}", letters.keys());

    let log = backend.log()?;
    let commit = |topic: &str, metadata: &str| {
        let partition = TopicPartition::new(topic, 0);
        // Of the retry topic something may have been removed.
        anyhow::Ok(Commit { offset: log.watermarks(&partition)?.0, partition, metadata: metadata.into() })
    };
    // Another tool's, and a later version's.
    let foreign = [commit(&flow.source, r#"{"lag":3}"#)?, commit(&flow.retry, "AwEB")?];
    wait::until_ok("the group to be empty", DEADLINE, || Ok(log.set_committed(&flow.source, &foreign).ok()))?;
    let before = backend.count(&flow.output)?;
    let mut router = flow.start()?;
    router.wait_until("the source to be run again", DEADLINE, || Ok(backend.count(&flow.output)? >= before + 2))?;
    for cause in ["it is not base64 of a version", "it is of version 3"] {
        let log = router.log();
        let mut errors = log.iter().filter_map(|line| line.get("error")?.as_str());
        ensure!(errors.any(|error| error.contains(cause)), "{cause} is not told:\n{}", router.log_tail());
    }
    router.stop_well()
}

/// Value, headers, and what the dead letter says.
type Stranger = (&'static str, Vec<OwnedHeader>, &'static str);

fn strangers() -> anyhow::Result<Vec<Stranger>> {
    let whole = || parked("elsewhere.v1", 4);
    let without =
        |name: &str| anyhow::Ok(whole()?.into_iter().filter(|header| *header.name != *name.as_bytes()).collect());
    let with = |name: &str, value: &str| {
        let replace = |header: OwnedHeader| {
            if *header.name == *name.as_bytes() { OwnedHeader::text(name, value) } else { header }
        };
        anyhow::Ok(whole()?.into_iter().map(replace).collect::<Vec<_>>())
    };
    Ok(vec![
        ("foreign", vec![OwnedHeader::text("theirs", "x")], "Pointsman did not write this record"),
        ("headless", Vec::new(), "Pointsman did not write this record"),
        ("torn", without(name::ORIGIN_OFFSET)?, name::ORIGIN_OFFSET),
        ("nonsense", with(name::DUE_AT, "soon")?, name::DUE_AT),
        ("later", with(name::VERSION, "2")?, "version \"2\""),
    ])
}

/// Headers of a record that is parked, and due.
fn parked(topic: &str, offset: i64) -> anyhow::Result<Vec<OwnedHeader>> {
    let now_ms = i64::try_from(std::time::UNIX_EPOCH.elapsed()?.as_millis())?;
    let provenance = Provenance {
        origin: Origin { partition: TopicPartition::new(topic, 0), offset, timestamp_ms: now_ms },
        blame: Blame { route: "again".into(), stage: None, plugin_sha256: None },
        class: FailureClass::Retry,
        code: "retry".into(),
        message: "later".into(),
        attempts: 1,
        first_failed_ms: now_ms,
        last_failed_ms: now_ms,
        due_ms: Some(now_ms),
        truncated: false,
        replay_count: 0,
        deferred: false,
        marker: None,
    };
    Ok(provenance.headers())
}

fn sample(value: &str, headers: Vec<OwnedHeader>) -> Sample {
    Sample { key: Some(b"k".into()), value: Some(value.into()), headers, ..Sample::default() }
}

/// One that passes, and one that fails once.
fn own() -> [Sample; 2] {
    [sample("one", Vec::new()), sample("two", vec![OwnedHeader::text("fails", "1")])]
}

struct Flow<'a> {
    backend: &'a Backend<'a>,
    folder: Scratch,
    source: String,
    output: String,
    dead: String,
    retry: String,
    config: String,
}

impl<'a> Flow<'a> {
    fn prepare(backend: &'a Backend<'a>) -> anyhow::Result<Self> {
        let [source, output, dead] = ["source", "output", "dead"].map(Kafka::unique);
        for topic in [&source, &output] {
            backend.create_topic(topic, 1)?;
        }
        let config = format!(
            r#"version = 1
[router]
name = "{source}"
commit_interval = "100ms"
{broker}
[plugins.wayward]
component = "{wayward}"
[[routes]]
name = "again"
from = ["{source}"]
ordering = "key"
stages = ["wayward"]
retry = {{ initial = "10ms" }}
dead_letter = {{ topic = "{dead}" }}
[[routes.outputs]]
topic = "{output}"
"#,
            broker = backend.broker(),
            wayward = plugins::component("wayward")?.display(),
        );
        let retry = format!("{source}.again.{source}.retry");
        Ok(Self { backend, folder: Scratch::new("strangers-")?, source, output, dead, retry, config })
    }

    fn start(&self) -> anyhow::Result<Router> {
        Router::start(self.folder.path(), "router", &self.config)
    }

    fn wait_for_outputs(&self, router: &mut Router, expected: &[&str]) -> anyhow::Result<()> {
        router.wait_until("the outputs", DEADLINE, || {
            let outputs = self.backend.read_all(&self.output)?;
            let is_there =
                |value: &&str| outputs.iter().any(|(_, record)| record.value.as_deref() == Some(value.as_bytes()));
            Ok(expected.iter().all(is_there))
        })
    }

    /// The dead letters by their values: their own headers, and what ours say.
    fn letters(&self) -> anyhow::Result<BTreeMap<String, (Vec<OwnedHeader>, Provenance)>> {
        let mut letters = BTreeMap::new();
        for (_, record) in self.backend.read_all(&self.dead)? {
            let (count, letter) = Provenance::split(Headers::Owned(&record.headers))?;
            let value = String::from_utf8(record.value.context("a value is lost")?)?;
            letters.insert(value, (record.headers[..count].to_vec(), letter));
        }
        Ok(letters)
    }
}
