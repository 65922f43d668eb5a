//! A plugin that loops for ever on one record in 10,000.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use pointsman_core::failure::FailureClass;
use pointsman_core::provenance::{Provenance, name};
use pointsman_core::record::{OwnedRecord, TopicPartition};
use serde_json::Value;

use crate::backend::Backend;
use crate::kafka::{Kafka, Sample, header_text};
use crate::places::Scratch;
use crate::plugins;
use crate::router::{Router, command};

const RECORDS: u64 = 30_000;
const LOOPS_EVERY: u64 = 10_000;
const DEADLINE: Duration = Duration::from_secs(180);

/// A looping record costs its neighbours nothing but time: every other record is delivered, once; it is itself the only
/// one in the dead letters, as it was, with the reason and its origin in the headers, where `dead-letter` finds it.
///
/// # Errors
/// When that does not hold.
pub fn endless_loop(backend: &Backend<'_>) -> anyhow::Result<()> {
    let (source, output, dead) = (Kafka::unique("orders"), Kafka::unique("judged"), Kafka::unique("dead"));
    backend.create_topic(&source, 3)?;
    backend.create_topic(&output, 3)?;
    backend.fill(&source, (0..RECORDS).map(sample))?;
    let folder = Scratch::new("loop-")?;
    let config = config(backend, &source, &output, &dead)?;

    let mut router = Router::start(folder.path(), "router", &config)?;
    router.wait_until_assigned()?;
    let loops = RECORDS / LOOPS_EVERY;
    router.wait_until("every record to have its fate", DEADLINE, || {
        let fates = backend.count(&output)? + backend.count(&dead).unwrap_or(0);
        Ok(u64::try_from(fates)? >= RECORDS)
    })?;
    router.stop_well()?;
    letters_are_told(&folder.path().join("router.toml"), &source, loops)?;

    let origins = by_key(backend.read_all(&source)?)?;
    let delivered = by_key(backend.read_all(&output)?)?;
    let dead = by_key(backend.read_all(&dead)?)?;
    ensure!(dead.len() as u64 == loops, "{loops} records loop, but {} are dead letters", dead.len());
    ensure!(delivered.len() as u64 == RECORDS - loops, "{} of {} are delivered", delivered.len(), RECORDS - loops);
    for (key, (partition, record)) in &origins {
        match dead.get(key) {
            None => ensure!(delivered[key].1.value == record.value, "record {key} has changed"),
            Some((_, letter)) => {
                check_letter(letter, partition, record).with_context(|| format!("dead letter {key}"))?
            }
        }
    }
    Ok(())
}

fn sample(number: u64) -> Sample {
    // In the middle of its batch, wherever batches begin.
    let loops = number % LOOPS_EVERY == LOOPS_EVERY / 2;
    let value = if loops { format!(r#"{{"n":{number},"poison":"loop"}}"#) } else { format!(r#"{{"n":{number}}}"#) };
    Sample {
        key: Some(number.to_string().into_bytes()),
        value: Some(value.into_bytes()),
        timestamp_ms: Some(1_700_000_000_000 + number.cast_signed()),
        ..Sample::default()
    }
}

fn config(backend: &Backend<'_>, source: &str, output: &str, dead: &str) -> anyhow::Result<String> {
    let chaos = plugins::component("chaos")?;
    Ok(format!(
        r#"version = 1
[router]
name = "{source}"
{broker}
[plugins.chaos]
component = "{chaos}"
[[routes]]
name = "judge"
from = ["{source}"]
stages = ["chaos"]
dead_letter = {{ topic = "{dead}" }}
[[routes.outputs]]
topic = "{output}"
"#,
        broker = backend.broker(),
        chaos = chaos.display(),
    ))
}

/// The records by their keys, each of which there must be once.
fn by_key(
    records: Vec<(TopicPartition, OwnedRecord)>,
) -> anyhow::Result<BTreeMap<String, (TopicPartition, OwnedRecord)>> {
    let mut found = BTreeMap::new();
    for (partition, record) in records {
        let key = String::from_utf8(record.key.clone().context("a record has lost its key")?)?;
        let before = found.insert(key.clone(), (partition, record));
        ensure!(before.is_none(), "record {key} is there twice, though nothing failed but itself");
    }
    Ok(found)
}

/// `dead-letter` finds the letters, and nothing but them, by what is known of their failure.
fn letters_are_told(config: &Path, source: &str, loops: u64) -> anyhow::Result<()> {
    let origin = format!("{source}/1");
    let answer = |arguments: &[&str]| -> anyhow::Result<Value> {
        let output = command()?.args(["dead-letter", arguments[0]]).arg(config).args(&arguments[1..]).output()?;
        let errors = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{arguments:?} ended with {}: {errors}", output.status);
        serde_json::from_slice(&output.stdout).with_context(|| format!("the answer to {arguments:?} is not JSON"))
    };
    let stats = answer(&["stats", "--json"])?;
    let causes = stats["causes"].as_array().context("no causes")?;
    ensure!(causes.len() == 1 && stats["unsure"] == 0, "one cause is to be told, and all letters: {stats}");
    let Value::Object(cause) = &causes[0] else { bail!("no cause: {stats}") };
    ensure!(cause["count"] == loops && cause["class"] == "deadline" && cause["stage"] == "chaos", "{stats}");
    ensure!(cause["expires"].as_str().is_some_and(|time| time > cause["last_seen"].as_str().unwrap_or("?")), "{stats}");

    let all = answer(&["ls", "--json", "--since", "1h", "--route", "judge", "--where", "value.poison == 'loop'"])?;
    let letters = all["letters"].as_array().context("no letters")?;
    ensure!(letters.len() as u64 == loops, "{loops} letters are to be listed: {all}");
    let of_one = answer(&["ls", "--json", "--origin", &origin])?;
    let expected = letters.iter().filter(|letter| letter["origin"]["partition"] == 1).count();
    ensure!(of_one["letters"].as_array().is_some_and(|found| found.len() == expected), "from {origin}: {of_one}");
    ensure!(answer(&["ls", "--json", "--until", "1h"])?["selected"] == 0, "none of them failed before it ran");
    let place = letters[0]["place"].as_str().context("no place")?;
    let shown = answer(&["show", place, "--json"])?;
    ensure!(shown["letter"]["place"] == place && shown["record"]["key"] == letters[0]["key"], "{shown}");
    Ok(())
}

/// The original record, and why it is here.
fn check_letter(letter: &OwnedRecord, partition: &TopicPartition, record: &OwnedRecord) -> anyhow::Result<()> {
    ensure!(letter.value == record.value, "its value has changed");
    ensure!(header_text(letter, name::CLASS).as_deref() == Some("deadline"), "its class is not `deadline`");
    let (originals, provenance) = Provenance::split(letter.as_record().headers)?;
    ensure!(originals == record.headers.len(), "it has {originals} original headers");
    ensure!(provenance.class == FailureClass::Deadline);
    ensure!(provenance.origin.partition == *partition, "it says it is from {}", provenance.origin.partition);
    ensure!(provenance.origin.offset == record.offset, "it says it is from offset {}", provenance.origin.offset);
    ensure!(
        provenance.origin.timestamp_ms == record.timestamp_ms,
        "its timestamp is {}",
        provenance.origin.timestamp_ms
    );
    ensure!(&*provenance.blame.route == "judge", "its route is {}", provenance.blame.route);
    ensure!(provenance.blame.stage.as_deref() == Some("chaos"), "its stage is {:?}", provenance.blame.stage);
    ensure!(provenance.blame.plugin_sha256.is_some(), "the plugin's digest is missing");
    ensure!(provenance.attempts == 1, "it was run {} times", provenance.attempts);
    ensure!(provenance.message.contains("chaos"), "its message names no plugin: {}", provenance.message);
    Ok(())
}
