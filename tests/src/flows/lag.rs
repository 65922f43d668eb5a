//! The lag of a router that runs, and of one that has stopped.

use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use anyhow::{Context as _, ensure};
use serde_json::Value;

use crate::backend::Backend;
use crate::kafka::{Kafka, Sample};
use crate::places::Scratch;
use crate::router::{self, Router};
use crate::wait;

const RECORDS: i64 = 20;
/// Where the lane of the second partition halts.
const HALTS_AT: i64 = 5;
const DEADLINE: Duration = Duration::from_secs(60);

/// One lane reads everything, and another halts: it is stalled while its router runs, and stopped when that has ended. What is left
/// before it is told in records, and by the age of the record that it has halted at.
///
/// # Errors
/// When that does not hold.
pub fn lag_of_a_router(backend: &Backend<'_>) -> anyhow::Result<()> {
    let [source, output] = ["lag-source", "lag-output"].map(Kafka::unique);
    backend.create_topic(&source, 2)?;
    backend.create_topic(&output, 2)?;
    let now = i64::try_from(UNIX_EPOCH.elapsed()?.as_millis())?;
    let sample = |partition, number: i64| {
        let value = if partition == 1 && number == HALTS_AT { "{}" } else { r#"{"ok": true}"# };
        Sample {
            partition: Some(partition),
            timestamp_ms: Some(now - (RECORDS - number) * 60_000),
            value: Some(value.into()),
            ..Sample::default()
        }
    };
    backend.fill(&source, (0..RECORDS).flat_map(|number| [sample(0, number), sample(1, number)]))?;
    let folder = Scratch::new("lag-")?;
    let config = format!(
        "version = 1\n[router]\nname = \"{source}\"\n{}\
         [[routes]]\nname = \"judge\"\nfrom = [\"{source}\"]\nstages = [{{ filter = 'value.ok' }}]\n\
         on = {{ condition = \"halt\" }}\n[[routes.outputs]]\ntopic = \"{output}\"\n",
        backend.broker()
    );
    let mut router = Router::start(folder.path(), "router", &config)?;
    let file = folder.path().join("router.toml");
    router.wait_until_assigned()?;
    wait::until_ok("both lanes to get as far as they can", DEADLINE, || {
        router.check()?;
        let told = look(&file, &[])?;
        let committed = [0, 1].map(|number| told["partitions"][number]["committed"].as_i64());
        Ok((committed == [Some(RECORDS), Some(HALTS_AT)]).then_some(()))
    })?;

    let told = look(&file, &["--for", "10s"])?;
    check(&told, true, "stalled").with_context(|| format!("while it runs: {told:#}"))?;
    router.stop_well()?;
    let told = wait::until_ok("the router to be gone", DEADLINE, || {
        let told = look(&file, &["--for", "10s"])?;
        Ok((told["partitions"][0]["is_read"] == false).then_some(told))
    })?;
    check(&told, false, "stopped").with_context(|| format!("after its end: {told:#}"))
}

fn check(told: &Value, is_read: bool, status: &str) -> anyhow::Result<()> {
    let [well, halted] = [0, 1].map(|number| &told["partitions"][number]);
    ensure!(well["records"] == 0 && well["lag_seconds"] == 0.0 && well["status"] == "ok", "partition 0");
    ensure!(halted["records"] == RECORDS - HALTS_AT && halted["oldest_offset"] == HALTS_AT, "partition 1");
    ensure!(halted["status"] == status && halted["pace"]["drain_seconds"].is_null(), "partition 1 is {status}");
    let age = halted["lag_seconds"].as_f64().context("an age")?;
    let oldest = 60.0 * (RECORDS - HALTS_AT) as f64;
    ensure!((oldest..oldest + 300.0).contains(&age), "the oldest record is {oldest} s old, or a little more");
    for row in [well, halted] {
        ensure!(row["is_read"] == is_read && row["reader"].is_string() == is_read, "who reads");
    }
    let sum = &told["topics"][0];
    ensure!(sum["records"] == RECORDS - HALTS_AT && sum["behind"] == 1 && sum["status"] == status, "the sum");
    Ok(())
}

fn look(file: &Path, more: &[&str]) -> anyhow::Result<Value> {
    let answer = router::command()?.arg("lag").arg(file).args(["--route", "judge", "--json"]).args(more).output()?;
    let told = || String::from_utf8_lossy(&answer.stderr).into_owned();
    let answered: Value = serde_json::from_slice(&answer.stdout).with_context(told)?;
    Ok(answered)
}
