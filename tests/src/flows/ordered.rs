//! The order of keys, through retries and the deaths of routers.

use std::collections::HashMap;

use anyhow::{Context as _, ensure};
use fastrand::Rng;
use pointsman_core::provenance::Provenance;
use pointsman_core::record::{Headers, OwnedHeader, OwnedRecord};

use super::pair::{self, Guarantee, Pair};
use crate::kafka::{Kafka, Sample, Tail, TopicSpec, header_text, owned};
use crate::plugins;

/// Without `POINTSMAN_TEST_RECORDS`.
const RECORDS: u64 = 60_000;
/// Each portion is written while the one before it is still being worked on; in each, one router is killed.
const PORTION: u64 = 20_000;
const KEYS: u64 = 10_000;
const PARTITIONS: i32 = 6;
/// Of a thousand.
const PILLS: u32 = 1;
const FAIL_ONCE: u32 = 40;
const FAIL_TWICE: u32 = 10;
/// Examples that are shown of each fault.
const EXAMPLES: usize = 5;

const TEMPLATE: &str = r#"version = 1
[router]
name = "NAME"
DELIVERY
commit_interval = "100ms"
# Less than the session timeout.
drain_deadline = "3s"
INSTANCE
[broker]
bootstrap = "BOOTSTRAP"
[broker.librdkafka]
# So that the partitions of a killed router come free soon.
"session.timeout.ms" = "6000"
"heartbeat.interval.ms" = "500"
[plugins.wayward]
component = "WAYWARD"
[[routes]]
name = "main"
from = ["NAME"]
ordering = "key"
stages = ["wayward"]
retry = { initial = "300ms", max = "1s" }
# With no more records to come that would earn a token, what is left to be dead-lettered is to be done soon.
breaker = { one_every = "1s", probe_max = "1s" }
dead_letter = { topic = "NAME.dead" }
[[routes.outputs]]
topic = "NAME.out"
"#;

/// Two routers share the work, in which some records fail for a while and some for good; every few seconds one of them is killed.
/// The first deliveries of each key are in the order of the source, none is missing, no run is early, and the pills are the
/// dead letters.
///
/// One router is a static member of the group, which takes its partitions up again as soon as it is back; those of the other go
/// to whoever is there. The random numbers follow from a seed that is printed; `POINTSMAN_TEST_SEED` sets it, and
/// `POINTSMAN_TEST_RECORDS` the number of records.
///
/// # Errors
/// When that does not hold.
pub fn killed_routers_keep_the_order_of_keys(kafka: &Kafka, guarantee: Guarantee) -> anyhow::Result<()> {
    let seed = pair::seed("killed_routers_keep_the_order_of_keys")?;
    let run = Run::prepare(kafka, guarantee, seed, pair::number("POINTSMAN_TEST_RECORDS")?.unwrap_or(RECORDS))?;
    run.try_out(seed, |routers| run.feed_and_kill(routers, &mut Rng::with_seed(seed)))
}

struct Run<'a> {
    kafka: &'a Kafka,
    /// Of the source topic and of the group.
    name: String,
    config: String,
    guarantee: Guarantee,
    records: Vec<Plan>,
}

/// What a record is, and what is to become of it.
#[derive(Clone, Copy)]
struct Plan {
    key: u64,
    fails: u32,
    is_pill: bool,
}

impl Plan {
    fn of(seed: u64, number: u64) -> Self {
        // Seeds that differ by little begin alike; a second generator's do not.
        let mut random = Rng::with_seed(seed ^ number).fork();
        let (key, luck) = (random.u64(0..KEYS), random.u32(0..1000));
        let fails = match luck.checked_sub(PILLS) {
            Some(luck) if luck < FAIL_ONCE => 1,
            Some(luck) if luck < FAIL_ONCE + FAIL_TWICE => 2,
            _ => 0,
        };
        Self { key, fails, is_pill: luck < PILLS }
    }

    fn sample(self, number: u64) -> Sample {
        let mut headers = Vec::new();
        if self.fails > 0 {
            headers.push(OwnedHeader::text("fails", self.fails.to_string()));
        }
        if self.is_pill {
            headers.push(OwnedHeader::text("pill", if number.is_multiple_of(2) { "trap" } else { "reject" }));
        }
        Sample {
            key: Some(format!("key-{}", self.key).into_bytes()),
            value: Some(number.to_string().into_bytes()),
            headers,
            ..Sample::default()
        }
    }
}

impl<'a> Run<'a> {
    fn prepare(kafka: &'a Kafka, guarantee: Guarantee, seed: u64, records: u64) -> anyhow::Result<Self> {
        let name = Kafka::unique("ordered");
        let (output, retry) = (format!("{name}.out"), pair::retry_topic(&name));
        kafka.create_topics(&[
            TopicSpec::new(&name, PARTITIONS),
            // The broker's clock says when a record was delivered.
            TopicSpec::new(&output, PARTITIONS).with("message.timestamp.type", "LogAppendTime"),
            TopicSpec::new(&retry, PARTITIONS).with("retention.ms", "-1").with("retention.bytes", "-1"),
        ])?;
        let config = TEMPLATE
            .replace("NAME", &name)
            .replace("DELIVERY", guarantee.keys())
            .replace("BOOTSTRAP", kafka.bootstrap())
            .replace("WAYWARD", &plugins::component("wayward")?.display().to_string());
        let records = (0..records).map(|number| Plan::of(seed, number)).collect();
        Ok(Self { kafka, name, config, guarantee, records })
    }

    /// Has two routers at work while `work` is done, waits until they are done, and looks for every record.
    fn try_out(&self, seed: u64, work: impl FnOnce(&mut Pair<'_>) -> anyhow::Result<()>) -> anyhow::Result<()> {
        let tail = Tail::begin(self.kafka, &pair::retry_topic(&self.name))?;
        let config = |instance: &str| self.config.replace("INSTANCE", instance);
        let configs = [config(r#"instance_id = "${ROUTER}""#), config("")];
        let mut routers = Pair::start(self.kafka, &self.name, configs)?;
        let worked = work(&mut routers).and_then(|()| routers.drain());
        let worked = worked.with_context(|| format!("with the seed {seed}, {}", routers.whereabouts()));
        let stopped = routers.stop_well();
        let parked = tail.end().context("what was parked is not known")?;
        let accounted = self.account(&parked).with_context(|| format!("with the seed {seed}"));
        pair::verdict(accounted, worked, stopped)
    }

    /// Writes the records of these numbers.
    fn feed(&self, numbers: std::ops::Range<u64>) -> anyhow::Result<()> {
        let plans = numbers.filter_map(|number| Some((number, *self.records.get(usize::try_from(number).ok()?)?)));
        self.kafka.fill(&self.name, plans.map(|(number, plan)| plan.sample(number)))
    }

    /// Writes portion after portion, and kills a router at a random point of each. It is started again at once.
    fn feed_and_kill(&self, routers: &mut Pair<'_>, random: &mut Rng) -> anyhow::Result<()> {
        let output = format!("{}.out", self.name);
        let records = self.records.len() as u64;
        for first in (0..records).step_by(usize::try_from(PORTION)?) {
            let portion = first..records.min(first + PORTION);
            let goal = i64::try_from(first + random.u64(1..=(portion.end - first) * 9 / 10))?;
            let victim = random.usize(0..2);
            routers.kill_in_the_middle(victim, (&output, goal), || self.feed(portion))?;
        }
        Ok(())
    }

    /// Looks for every record, in all places.
    fn account(&self, parked: &[OwnedRecord]) -> anyhow::Result<()> {
        let mut ledger = Ledger { records: &self.records, due: HashMap::new(), faults: Vec::new() };
        ledger.take_parked(parked)?;
        let delivered = ledger.take_outputs(&self.read(&format!("{}.out", self.name))?)?;
        let dead = ledger.take_letters(&self.read(&format!("{}.dead", self.name))?)?;
        for (number, plan) in self.records.iter().enumerate() {
            let (delivered, dead) = (delivered[number], dead[number]);
            if !self.guarantee.allows(delivered + dead) {
                ledger.faults.push(format!("{number} is there {} times", delivered + dead));
            }
            match (delivered > 0, dead > 0) {
                (false, false) => ledger.faults.push(format!("{number} is missing")),
                (is_delivered, is_dead) if is_delivered == plan.is_pill || is_dead != plan.is_pill => {
                    ledger.faults.push(format!("{number} has a wrong fate: {delivered} outputs, {dead} dead letters"));
                }
                _ => {}
            }
        }
        let twice = |tally: &[u32]| tally.iter().map(|count| count.saturating_sub(1)).sum::<u32>();
        eprintln!(
            "{} records, {} parked copies, {} pills; {} faults; duplicates: {} outputs, {} dead letters",
            self.records.len(),
            parked.len(),
            self.records.iter().filter(|plan| plan.is_pill).count(),
            ledger.faults.len(),
            twice(&delivered),
            twice(&dead),
        );
        let Ledger { faults, .. } = ledger;
        ensure!(
            faults.is_empty(),
            "{} faults, such as\n{}",
            faults.len(),
            faults[..faults.len().min(EXAMPLES)].join("\n")
        );
        Ok(())
    }

    fn read(&self, topic: &str) -> anyhow::Result<Vec<OwnedRecord>> {
        let mut records = Vec::new();
        self.kafka.read_each(topic, |message| records.push(owned(message)))?;
        Ok(records)
    }
}

/// What was found.
struct Ledger<'a> {
    records: &'a [Plan],
    /// When a record may run that has run so often. Of several copies the earliest counts: any of them may run.
    due: HashMap<(usize, u32), i64>,
    faults: Vec<String>,
}

impl Ledger<'_> {
    /// The number of a record, which nobody changes.
    fn number(&self, record: &OwnedRecord) -> anyhow::Result<usize> {
        let value = record.value.as_deref().and_then(|value| str::from_utf8(value).ok()).context("a value is lost")?;
        let number: usize = value.parse()?;
        ensure!(number < self.records.len(), "nobody wrote {number}");
        Ok(number)
    }

    fn take_parked(&mut self, parked: &[OwnedRecord]) -> anyhow::Result<()> {
        for record in parked {
            let (_, parked) = Provenance::split(Headers::Owned(&record.headers))?;
            let due_ms = parked.due_ms.context("it was parked without a due time")?;
            let due = self.due.entry((self.number(record)?, parked.attempts)).or_insert(i64::MAX);
            *due = due_ms.min(*due);
        }
        parked.iter().try_for_each(|record| self.check_failure(record))
    }

    /// A record that has failed in a later run than its first one, by the router's clock.
    fn check_failure(&mut self, record: &OwnedRecord) -> anyhow::Result<()> {
        let (_, failed) = Provenance::split(Headers::Owned(&record.headers))?;
        let number = self.number(record)?;
        self.check_time(number, failed.attempts, failed.last_failed_ms);
        Ok(())
    }

    fn check_time(&mut self, number: usize, run: u32, at_ms: i64) {
        match self.due.get(&(number, run.saturating_sub(1))) {
            _ if run <= 1 => {}
            None => self.faults.push(format!("{number} was run {run} times, and not parked after the one before")),
            Some(due_ms) if at_ms < *due_ms => {
                self.faults.push(format!("run {run} of {number} was {} ms early", due_ms - at_ms));
            }
            Some(_) => {}
        }
    }

    /// How often each record was delivered. All of a key are in one partition, and so in order here.
    fn take_outputs(&mut self, outputs: &[OwnedRecord]) -> anyhow::Result<Vec<u32>> {
        let mut tally = vec![0; self.records.len()];
        let mut last: HashMap<u64, usize> = HashMap::new();
        for record in outputs {
            let number = self.number(record)?;
            let run = header_text(record, "run").context("a header is lost")?.parse()?;
            // By the broker's clock, which is this machine's.
            self.check_time(number, run, record.timestamp_ms);
            let Plan { key, fails, .. } = self.records[number];
            ensure!(run == fails + 1, "{number} fails {fails} times, and was delivered by run {run}");
            tally[number] += 1;
            if tally[number] == 1
                && let Some(before) = last.insert(key, number).filter(|before| *before > number)
            {
                self.faults.push(format!("{number} of key {key} was delivered first after {before}"));
            }
        }
        Ok(tally)
    }

    /// How often each record was dead-lettered.
    fn take_letters(&mut self, letters: &[OwnedRecord]) -> anyhow::Result<Vec<u32>> {
        let mut tally = vec![0; self.records.len()];
        for record in letters {
            tally[self.number(record)?] += 1;
            self.check_failure(record)?;
        }
        Ok(tally)
    }
}
