//! A dead letter that holds its key, until somebody has mended what was wrong.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde_json::Value;

use crate::backend::Backend;
use crate::kafka::{Kafka, Sample};
use crate::places::Scratch;
use crate::plugins;
use crate::router::{self, Router};

/// The plugin rejects it, until it is mended.
const HELD: &str = "customer-7";
const FREE: &str = "customer-8";
const RECORDS: u64 = 10;
const DEADLINE: Duration = Duration::from_secs(60);

/// Later records of the key become dead letters, in order and over a restart; others are delivered. What is replayed to the
/// retry topic waits for the release, what comes after it waits behind it, and then all of it is delivered in order.
///
/// # Errors
/// When that does not hold.
pub fn a_dead_letter_holds_its_key_until_it_is_released(backend: &Backend<'_>) -> anyhow::Result<()> {
    let [source, output, dead] = ["source", "output", "dead"].map(Kafka::unique);
    for topic in [&source, &output] {
        backend.create_topic(topic, 1)?;
    }
    let folder = Scratch::new("held-key-")?;
    let config = |fault: &str| config(backend, [&source, &output, &dead], fault);
    let wait_for = |router: &mut Router, topic: &str, count: u64| {
        let what = format!("{count} records in {topic}");
        router.wait_until(&what, DEADLINE, || Ok(u64::try_from(backend.count(topic).unwrap_or(0))? >= count))
    };

    let both = |number| [sample(FREE, number), sample(HELD, number)];
    backend.fill(&source, (0..RECORDS).flat_map(both))?;
    let mut broken = Router::start(folder.path(), "broken", &config(", every = 7")?)?;
    wait_for(&mut broken, &output, RECORDS)?;
    wait_for(&mut broken, &dead, RECORDS)?;
    broken.stop_well()?;

    let mut mended = Router::start(folder.path(), "mended", &config("")?)?;
    backend.fill(&source, [sample(HELD, RECORDS)])?;
    wait_for(&mut mended, &dead, RECORDS + 1)?;
    let letters = backend.read_all(&dead)?;
    let deferred = |headers: &[pointsman_core::record::OwnedHeader]| {
        headers.iter().any(|header| *header.name == *b"pointsman.deferred")
    };
    let marks: Vec<bool> = letters.iter().map(|(_, letter)| deferred(&letter.headers)).collect();
    ensure!(!marks[0] && marks[1..].iter().all(|deferred| *deferred), "{marks:?}");
    ensure!(numbers(backend, &dead, HELD)? == (0..=RECORDS).collect::<Vec<_>>(), "the letters are not in order");

    let file = folder.path().join("mended.toml");
    let held = said(&file, "release", &["--dry-run", "--json"])?;
    ensure!(held["keys"][0]["key"] == HELD && held["keys"].as_array().is_some_and(|keys| keys.len() == 1), "{held}");
    let retry = format!("{source}.judge.{source}.retry");
    let before = u64::try_from(backend.count(&retry)?)?;
    said(&file, "replay", &["--to", "retry", "--all", "--json"])?;
    let left = said(&file, "ls", &["--json"])?;
    ensure!(left["selected"] == 0, "{left}");
    backend.fill(&source, [sample(HELD, RECORDS + 1)])?;
    wait_for(&mut mended, &retry, before + RECORDS + 2)?;
    ensure!(numbers(backend, &output, HELD)?.is_empty(), "a record was delivered before its key was released");

    let released = said(&file, "release", &["--key", HELD, "--by", "ana", "--json"])?;
    ensure!(released["released"] == true, "{released}");
    let (_, account) = backend.read_all(&format!("{dead}.audit"))?.pop().context("there is no account of it")?;
    let account: Value = serde_json::from_slice(&account.value.context("the account is empty")?)?;
    ensure!(account["action"] == "released" && account["key"] == HELD && account["by"] == "ana", "{account}");
    wait_for(&mut mended, &output, 2 * RECORDS + 2)?;
    mended.stop_well()?;
    ensure!(numbers(backend, &output, HELD)? == (0..=RECORDS + 1).collect::<Vec<_>>(), "not in order");
    let held = said(&file, "release", &["--dry-run", "--json"])?;
    ensure!(held["keys"].as_array().is_some_and(Vec::is_empty), "{held}");
    Ok(())
}

fn sample(key: &str, number: u64) -> Sample {
    let (key, value) = (Some(key.as_bytes().to_vec()), Some(number.to_string().into_bytes()));
    Sample { key, value, ..Sample::default() }
}

/// What the records of this key say, as they come.
fn numbers(backend: &Backend<'_>, topic: &str, key: &str) -> anyhow::Result<Vec<u64>> {
    let records = backend.read_all(topic)?.into_iter().map(|(_, record)| record);
    let own = records.filter(|record| record.key.as_deref() == Some(key.as_bytes()));
    own.map(|record| Ok(String::from_utf8(record.value.context("a value is lost")?)?.parse()?)).collect()
}

/// The last object that a command about dead letters prints.
fn said(file: &Path, command: &str, more: &[&str]) -> anyhow::Result<Value> {
    let output = router::command()?.args(["dead-letter", command]).arg(file).args(more).output()?;
    let (out, notes) = (String::from_utf8(output.stdout)?, String::from_utf8_lossy(&output.stderr));
    ensure!(output.status.success(), "{command} ended with {}: {notes}", output.status);
    let last = serde_json::Deserializer::from_str(&out).into_iter::<Value>().last();
    Ok(last.context("it says nothing")??)
}

fn config(backend: &Backend<'_>, [source, output, dead]: [&str; 3], fault: &str) -> anyhow::Result<String> {
    Ok(format!(
        r#"version = 1
[router]
name = "{source}"
{broker}
[plugins.faulty]
component = "{faulty}"
config = {{ fault = "reject"{fault} }}
[[routes]]
name = "judge"
from = ["{source}"]
stages = ["faulty"]
ordering = "key"
on_dead = "park-key"
dead_letter = {{ topic = "{dead}" }}
[[routes.outputs]]
topic = "{output}"
"#,
        broker = backend.broker(),
        faulty = plugins::component("faulty")?.display(),
    ))
}
