//! A route whose limit makes it wait nearly all the time, beside one without a limit that reads the same topic in another
//! group.

use std::time::Duration;

use anyhow::ensure;

use crate::backend::Backend;
use crate::kafka::{Kafka, Sample};
use crate::places::Scratch;
use crate::router::Router;
use crate::wait;

const RECORDS: u64 = 5_000;
const DEADLINE: Duration = Duration::from_secs(60);

/// A lane that waits for its rate limit holds up neither its neighbours nor the end of the process, and drops nothing:
/// what it has not done by then is done by the next run, whatever the other group has done of the same partition.
///
/// # Errors
/// When that does not hold.
pub fn rate_limit(backend: &Backend<'_>) -> anyhow::Result<()> {
    let [source, slow_out, fast_out] = ["source", "slow-out", "fast-out"].map(Kafka::unique);
    for topic in [&source, &slow_out, &fast_out] {
        backend.create_topic(topic, 1)?;
    }
    backend.fill(&source, (0..RECORDS).map(sample))?;
    let folder = Scratch::new("limit-")?;
    let config = |limit: &str| {
        format!(
            r#"version = 1
[router]
name = "{source}"
workers = 1
{broker}
[[routes]]
name = "slow"
from = ["{source}"]
stages = []
{limit}
[[routes.outputs]]
topic = "{slow_out}"
[[routes]]
name = "fast"
group = "{source}-fast"
from = ["{source}"]
stages = []
[[routes.outputs]]
topic = "{fast_out}"
"#,
            broker = backend.broker(),
        )
    };

    let mut router = Router::start(folder.path(), "limited", &config("rate_limit = { records_per_second = 1 }"))?;
    router.wait_until_assigned()?;
    router.wait_until("the route without a limit to be done", DEADLINE, || {
        Ok(u64::try_from(backend.count(&fast_out)?)? == RECORDS)
    })?;
    let passed = u64::try_from(backend.count(&slow_out)?)?;
    ensure!(passed < RECORDS / 2, "{passed} records passed a limit of one a second");
    router.stop_well()?;

    let mut router = Router::start(folder.path(), "unlimited", &config(""))?;
    wait::until_ok("the rest of the limited records", DEADLINE, || {
        router.check()?;
        Ok((u64::try_from(backend.count(&slow_out)?)? >= RECORDS).then_some(()))
    })?;
    router.stop_well()?;
    let delivered = backend.read_all(&slow_out)?.len() as u64;
    ensure!(delivered == RECORDS, "{delivered} of {RECORDS} limited records are there");
    Ok(())
}

fn sample(number: u64) -> Sample {
    Sample { value: Some(number.to_string().into_bytes()), ..Sample::default() }
}
