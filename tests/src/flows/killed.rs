//! Routers that are killed in the middle of their work.

use anyhow::{Context as _, ensure};
use fastrand::Rng;
use pointsman_core::record::OwnedHeader;
use rdkafka::Message as _;

use super::pair::{self, Guarantee, Pair};
use crate::kafka::{Kafka, Sample};
use crate::plugins;

/// Each portion is written while the one before it is still being worked on; in each, one router is killed.
const PORTIONS: u64 = 7;
const PORTION: u64 = 32_000;
const RECORDS: u64 = PORTIONS * PORTION;
const PARTITIONS: i32 = 6;

/// Every so often a record is parked (twice, then dead-lettered), and every so often one makes the plugin trap.
const PARKED_EVERY: u64 = 500;
const TRAPS_EVERY: u64 = 4_000;

const TEMPLATE: &str = r#"version = 1
[router]
name = "NAME"
DELIVERY
commit_interval = "100ms"
# Less than the session timeout.
drain_deadline = "3s"
[broker]
bootstrap = "BOOTSTRAP"
[broker.librdkafka]
# So that the partitions of a killed router come free soon.
"session.timeout.ms" = "6000"
"heartbeat.interval.ms" = "500"
[plugins.chaos]
component = "CHAOS"
[plugins.mirror]
component = "MIRROR"
[[routes]]
name = "main"
from = ["NAME"]
stages = ["chaos", "mirror"]
retry = { max_attempts = 3, initial = "200ms", max = "500ms" }
# With no more records to come that would earn a token, what is left to be dead-lettered is to be done soon.
breaker = { one_every = "1s", probe_max = "1s" }
dead_letter = { topic = "NAME.dead" }
[[routes.outputs]]
topic = "NAME.out"
"#;

/// Two routers share the work; one of them is killed at a random moment, seven times. Once the group has nothing left to
/// do, every record is in the outputs or the dead letters, and none is nowhere. Duplicates are printed, where they are allowed.
///
/// The random numbers follow from a seed that is printed; `POINTSMAN_TEST_SEED` sets it.
///
/// # Errors
/// When a record is lost, or there twice though that is not allowed, or the routers get stuck.
pub fn killed_routers_lose_nothing(kafka: &Kafka, guarantee: Guarantee) -> anyhow::Result<()> {
    let seed = pair::seed("killed_routers_lose_nothing")?;
    let run = Run::prepare(kafka, guarantee)?;
    let mut routers = Pair::start(kafka, &run.name, [run.config.clone(), run.config.clone()])?;
    let worked = run.feed_and_kill(&mut routers, &mut Rng::with_seed(seed)).and_then(|()| routers.drain());
    let worked = worked.with_context(|| format!("with the seed {seed}, {}", routers.whereabouts()));
    let stopped = routers.stop_well();
    pair::verdict(run.account(), worked, stopped)
}

struct Run<'a> {
    kafka: &'a Kafka,
    /// Of the source topic and of the group.
    name: String,
    config: String,
    guarantee: Guarantee,
}

impl<'a> Run<'a> {
    fn prepare(kafka: &'a Kafka, guarantee: Guarantee) -> anyhow::Result<Self> {
        let name = Kafka::unique("killed");
        for topic in [name.clone(), format!("{name}.out")] {
            kafka.create_topic(&topic, PARTITIONS)?;
        }
        let config = TEMPLATE
            .replace("NAME", &name)
            .replace("DELIVERY", guarantee.keys())
            .replace("BOOTSTRAP", kafka.bootstrap())
            .replace("CHAOS", &plugins::component("chaos")?.display().to_string())
            .replace("MIRROR", &plugins::component("mirror")?.display().to_string());
        Ok(Self { kafka, name, config, guarantee })
    }

    /// Writes portion after portion, and kills a router at a random point of each, while records are still coming in
    /// or not. It is started again at once.
    fn feed_and_kill(&self, routers: &mut Pair<'_>, random: &mut Rng) -> anyhow::Result<()> {
        for portion in 0..PORTIONS {
            let goal = i64::try_from(portion * PORTION + random.u64(1..PORTION * 9 / 10))?;
            let victim = random.usize(0..2);
            let numbers = portion * PORTION..(portion + 1) * PORTION;
            let feed = || self.kafka.fill(&self.name, numbers.map(sample));
            routers.kill_in_the_middle(victim, (&format!("{}.out", self.name), goal), feed)?;
        }
        Ok(())
    }

    /// Looks for every record.
    fn account(&self) -> anyhow::Result<()> {
        let delivered = self.tally(&format!("{}.out", self.name))?;
        let dead = self.tally(&format!("{}.dead", self.name))?;
        let (mut missing, mut misplaced, mut repeated) = (Vec::new(), Vec::new(), Vec::new());
        for (number, (delivered, dead)) in (0..RECORDS).zip(delivered.iter().zip(&dead)) {
            let is_bad = number.is_multiple_of(PARKED_EVERY) || number % TRAPS_EVERY == 1;
            if !self.guarantee.allows(delivered + dead) {
                repeated.push(number);
            }
            if delivered + dead == 0 {
                missing.push(number);
            } else if (*dead > 0) != is_bad || (*delivered > 0) == is_bad {
                misplaced.push(number);
            }
        }
        let twice = |tally: &[u32]| tally.iter().map(|count| count.saturating_sub(1)).sum::<u32>();
        eprintln!(
            "killed_routers_lose_nothing: {RECORDS} records, {PORTIONS} kills, {} lost; duplicates: {} outputs, {} dead letters",
            missing.len(),
            twice(&delivered),
            twice(&dead),
        );
        ensure!(
            missing.is_empty(),
            "{} records are lost, the first of them {:?}",
            missing.len(),
            &missing[..missing.len().min(10)]
        );
        ensure!(
            misplaced.is_empty(),
            "{} records have a wrong fate, the first of them {:?}",
            misplaced.len(),
            &misplaced[..misplaced.len().min(10)]
        );
        ensure!(
            repeated.is_empty(),
            "{} records are there twice, the first of them {:?}",
            repeated.len(),
            &repeated[..repeated.len().min(10)]
        );
        Ok(())
    }

    /// How often each record is in the topic.
    fn tally(&self, topic: &str) -> anyhow::Result<Vec<u32>> {
        let mut tally = vec![0; usize::try_from(RECORDS)?];
        let mut strangers = 0;
        self.kafka.read_each(topic, |message| {
            let number =
                message.key().and_then(|key| str::from_utf8(key).ok()).and_then(|key| key.parse::<usize>().ok());
            match number.and_then(|number| tally.get_mut(number)) {
                Some(count) => *count += 1,
                None => strangers += 1,
            }
        })?;
        ensure!(strangers == 0, "{topic} has {strangers} records that nobody wrote");
        Ok(tally)
    }
}

/// About 200 bytes; the key is its number, and the headers say what becomes of it.
fn sample(number: u64) -> Sample {
    let poison = if number % TRAPS_EVERY == 1 { r#","poison":"trap""# } else { "" };
    let answer = if number.is_multiple_of(PARKED_EVERY) { "retry" } else { "pass" };
    Sample {
        key: Some(number.to_string().into_bytes()),
        value: Some(format!(r#"{{"n":{number},"pad":"{:0160}"{poison}}}"#, 0).into_bytes()),
        headers: vec![OwnedHeader::text("answer", answer)],
        ..Sample::default()
    }
}
