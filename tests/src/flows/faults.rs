//! Routers between which and their brokers all sorts of things go wrong.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use fastrand::Rng;
use pointsman_core::delivery::{Delivery, PartitionChoice, TopicId};
use pointsman_core::metadata::Metadata;
use pointsman_core::port::{Log as _, Token, WriterPlan};
use pointsman_core::provenance::name;
use pointsman_core::record::{Headers, OwnedHeader, TopicPartition};
use pointsman_core::settled::Settled;
use pointsman_core::unclean::Ends;
use pointsman_kafka::{KafkaLog, KafkaSettings};
use rdkafka::Message as _;

use super::pair::{self, Guarantee, Pair};
use crate::history::{Anomaly, Fate, History, Place, Standstill, Written};
use crate::kafka::proxy::{
    ADD_OFFSETS_TO_TXN, ADD_PARTITIONS_TO_TXN, END_TXN, INIT_PRODUCER_ID, Lost, OFFSET_COMMIT, PRODUCE, Proxy,
    TXN_OFFSET_COMMIT,
};
use crate::kafka::{Kafka, Sample, TopicSpec, header_text};
use crate::{plugins, wait};

/// Records that are written for each trouble.
const PORTION: usize = 3_000;
/// Records of an aborted transaction in the source, now and then.
const ABORTED: usize = 50;
const KEYS: u64 = 2_000;
const PARTITIONS: i32 = 6;
/// Of a thousand.
const PILLS: u32 = 2;
const DROPS: u32 = 20;
const SPLITS: u32 = 100;
const FAILS: u32 = 50;
/// How often routers are killed in a storm: once less than finds a record guilty that was there each time.
const STORM: usize = (Ends::MANY + Ends::GUILTY - 1) as usize;
/// How long a broker stands still, and how long answers wait where that is the trouble.
const BROKER_PAUSE: Duration = Duration::from_secs(3);
const DELAYS: std::ops::Range<u64> = 50..400;
const DEADLINE: Duration = Duration::from_secs(120);
/// Examples that are shown of what is wrong.
const EXAMPLES: usize = 10;

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
# What is lost without a word is to be asked for again soon.
"socket.timeout.ms" = "6000"
[plugins.wayward]
component = "WAYWARD"
[plugins.mirror]
component = "MIRROR"
[[routes]]
name = "main"
from = ["NAME"]
ordering = "key"
stages = ["wayward", "mirror"]
retry = { initial = "300ms", max = "1s" }
# With no more records to come that would earn a token, what is left to be dead-lettered is to be done soon.
breaker = { one_every = "1s", probe_max = "1s" }
dead_letter = { topic = "NAME.dead" }
[[routes.outputs]]
port = "first"
topic = "NAME.first"
[[routes.outputs]]
port = "second"
topic = "NAME.second"
[[routes.outputs]]
topic = "NAME.out"
"#;

/// What goes wrong.
#[derive(Clone, Copy, Debug)]
enum Trouble {
    /// Something of the next requests of a kind is lost.
    Loses { kind: i16, what: Lost },
    /// A router is killed, and started again.
    Kill,
    /// The same, and what its writers of transactions ask for first is lost.
    KillAndLose { what: Lost },
    /// Routers are killed and started again, one after the other, before the group has come to rest.
    RebalanceStorm,
    /// Both routers are killed, and it is looked what is there.
    Standstill,
    /// A router stands still for longer than its session.
    Pause,
    /// A router believes that its session goes on, and works on partitions that are the other's by now.
    Zombie,
    /// A request to end a transaction comes in when its writer is in the middle of the next.
    LateEnd,
    /// All answers are late.
    Delay,
    /// A broker is killed, and with it go leaders and coordinators; it is started again.
    KillBroker,
    /// A broker is stopped in good order, and started again.
    StopBroker,
    /// A broker stands still.
    PauseBroker,
}

/// Two routers share the work; request after request and answer after answer of those that matter are lost, routers and brokers are killed
/// or stand still, and ends of transactions come late. Some records are delivered to one topic, some to two, some are dropped, some fail
/// for a while and some for good, and some were aborted. Everything is where its fate is, in the order of its key.
///
/// The order of the troubles and the rest of the random numbers follow from a seed that is printed; `POINTSMAN_TEST_SEED` sets it.
/// With `POINTSMAN_TEST_MINUTES` there are so many minutes of episodes, each with all troubles, one seed after the other.
///
/// # Errors
/// When a history is not sound; when a late request is taken for the end of another transaction; when the routers get stuck.
pub fn whatever_goes_wrong(kafka: &Kafka, proxy: &Proxy, guarantee: Guarantee) -> anyhow::Result<()> {
    let first = pair::seed("whatever_goes_wrong")?;
    let minutes = pair::number("POINTSMAN_TEST_MINUTES")?;
    let until = Instant::now() + Duration::from_secs(60 * minutes.unwrap_or(0));
    let mut seed = first;
    loop {
        Episode::prepare(kafka, proxy, guarantee, seed)
            .and_then(|episode| episode.run(minutes.is_some()))
            .with_context(|| format!("with POINTSMAN_TEST_SEED={seed}"))?;
        if Instant::now() >= until {
            return Ok(());
        }
        seed = seed.wrapping_add(1);
    }
}

/// All troubles, or in short those that do not take long and some of the others.
fn troubles(guarantee: Guarantee, all: bool, random: &mut Rng) -> Vec<Trouble> {
    let requests: &[i16] = match guarantee {
        Guarantee::AtLeastOnce => &[PRODUCE, OFFSET_COMMIT],
        Guarantee::ExactlyOnce => &[PRODUCE, ADD_PARTITIONS_TO_TXN, ADD_OFFSETS_TO_TXN, TXN_OFFSET_COMMIT, END_TXN],
    };
    let loses = |lost: &[Lost]| -> Vec<Trouble> {
        let pairs = requests.iter().flat_map(|kind| lost.iter().map(|what| (*kind, *what)));
        pairs.map(|(kind, what)| Trouble::Loses { kind, what }).collect()
    };
    let mut silent = loses(&[Lost::RequestInSilence, Lost::AnswerInSilence]);
    random.shuffle(&mut silent);
    silent.truncate(if all { usize::MAX } else { 2 });
    let both = [Lost::Request, Lost::Answer];
    let mut troubles = loses(&both);
    troubles.append(&mut silent);
    troubles.extend([Trouble::Kill, Trouble::Pause, Trouble::Standstill, Trouble::Delay, Trouble::KillBroker]);
    if all {
        troubles.extend([Trouble::RebalanceStorm, Trouble::StopBroker, Trouble::PauseBroker]);
    }
    if all && guarantee == Guarantee::ExactlyOnce {
        troubles.push(Trouble::Zombie);
    }
    if guarantee == Guarantee::ExactlyOnce {
        troubles.extend(both.map(|what| Trouble::KillAndLose { what }));
        troubles.extend([Trouble::LateEnd; 2]);
    }
    random.shuffle(&mut troubles);
    troubles
}

/// One run of troubles, with topics of its own.
struct Episode<'a> {
    kafka: &'a Kafka,
    proxy: &'a Proxy,
    guarantee: Guarantee,
    seed: u64,
    random: Rng,
    /// Of the source topic and of the group.
    name: String,
    config: String,
    history: History,
}

impl<'a> Episode<'a> {
    fn prepare(kafka: &'a Kafka, proxy: &'a Proxy, guarantee: Guarantee, seed: u64) -> anyhow::Result<Self> {
        let name = Kafka::unique("faults");
        let mut topics = vec![name.clone(), pair::retry_topic(&name)];
        topics.extend(PLACES.map(|(_, suffix)| format!("{name}.{suffix}")));
        let topics: Vec<_> = topics.iter().map(|topic| TopicSpec::new(topic, PARTITIONS)).collect();
        kafka.create_topics(&topics.into_iter().map(|topic| topic.with("retention.ms", "-1")).collect::<Vec<_>>())?;
        let config = TEMPLATE
            .replace("NAME", &name)
            .replace("DELIVERY", guarantee.keys())
            .replace("BOOTSTRAP", kafka.bootstrap())
            .replace("WAYWARD", &plugins::component("wayward")?.display().to_string())
            .replace("MIRROR", &plugins::component("mirror")?.display().to_string());
        let (random, history) = (Rng::with_seed(seed), History::default());
        Ok(Self { kafka, proxy, guarantee, seed, random, name, config, history })
    }

    fn run(mut self, all: bool) -> anyhow::Result<()> {
        let began = Instant::now();
        let troubles = troubles(self.guarantee, all, &mut self.random);
        let config = |instance: &str| self.config.replace("INSTANCE", instance);
        let configs = [config(r#"instance_id = "${ROUTER}""#), config("")];
        let mut routers = Pair::start(self.kafka, &self.name, configs)?;
        let worked = troubles.iter().try_for_each(|trouble| {
            self.meet(*trouble, &mut routers).with_context(|| format!("in the middle of {trouble:?}"))
        });
        let lost = self.proxy.lose_nothing();
        let worked = worked.and_then(|()| routers.drain()).with_context(|| routers.whereabouts());
        let stopped = routers.stop_well();
        let late = self.proxy.hold_nothing();
        let judged = self.look().and_then(|()| self.judge());
        eprintln!(
            "whatever_goes_wrong: {:?}, seed {}: {} records, {} troubles, {lost} losses in all, {} standstills, late ends answered with {late:?}, \
             {:?}: {}",
            self.guarantee,
            self.seed,
            self.history.written.len(),
            troubles.len(),
            self.history.standstills.len(),
            began.elapsed(),
            match &judged {
                Ok(allowed) => format!("0 anomalies, {allowed} duplicates that are allowed"),
                Err(error) => format!("{error:#}"),
            },
        );
        pair::verdict(judged.map(drop), worked, stopped)?;
        ensure!(!late.contains(&0), "a late request has ended another transaction than its own");
        Ok(())
    }

    /// Writes a portion of records, and makes trouble while they are worked on.
    fn meet(&mut self, trouble: Trouble, routers: &mut Pair<'_>) -> anyhow::Result<()> {
        eprintln!("whatever_goes_wrong: {trouble:?}");
        if self.random.bool() {
            self.abort_some()?;
        }
        let samples = self.plan();
        let (kafka, name, proxy) = (self.kafka, self.name.clone(), self.proxy);
        let feed = move || kafka.fill(&name, samples);
        let output = format!("{}.out", self.name);
        // Brokers that have just been started may not know yet.
        let done = wait::until("the brokers to answer", DEADLINE, || kafka.count(&output).ok())?;
        let goal = done + i64::try_from(self.random.usize(1..PORTION / 2))?;
        let victim = self.random.usize(0..2);
        let brokers = kafka.brokers();
        let broker = (!brokers.is_empty()).then(|| &brokers[self.random.usize(0..brokers.len())]);
        match trouble {
            Trouble::Loses { kind, what } => {
                proxy.lose(kind, what, self.random.u32(1..=3));
                feed()?;
                routers.wait_for(&output, goal)
            }
            Trouble::Kill => routers.kill_in_the_middle(victim, (&output, goal), feed),
            Trouble::KillAndLose { what } => {
                proxy.lose(INIT_PRODUCER_ID, what, self.random.u32(1..=3));
                routers.kill_in_the_middle(victim, (&output, goal), feed)
            }
            Trouble::RebalanceStorm => {
                routers.kill_in_the_middle(victim, (&output, goal), feed)?;
                (1..STORM).try_for_each(|number| routers.kill((victim + number) % 2))
            }
            Trouble::Standstill => {
                feed()?;
                routers.wait_for(&output, goal)?;
                let mut seen = None;
                routers.stand_still(|| {
                    seen = Some(self.standstill()?);
                    Ok(())
                })?;
                self.history.standstills.extend(seen);
                Ok(())
            }
            Trouble::Pause => {
                feed()?;
                routers.pause(victim)
            }
            Trouble::Zombie => {
                routers.until_both_have_partitions()?;
                proxy.deceive_one();
                routers.until_one_has(PARTITIONS, || Ok(()))?;
                feed()?;
                let waited = routers.wait_for(&output, goal);
                proxy.deceive_nobody();
                waited
            }
            Trouble::LateEnd => {
                proxy.hold_ends(1);
                feed()?;
                routers.wait_for(&output, goal)
            }
            Trouble::Delay => {
                feed()?;
                proxy.delay(Duration::from_millis(self.random.u64(DELAYS)));
                let waited = routers.wait_for(&output, goal);
                proxy.delay(Duration::ZERO);
                waited
            }
            Trouble::KillBroker | Trouble::StopBroker => {
                feed()?;
                routers.wait_for(&output, goal)?;
                let broker = broker.context("a given cluster can't be stopped")?;
                if matches!(trouble, Trouble::KillBroker) {
                    broker.kill()?
                } else {
                    broker.stop()?
                }
                broker.restart()
            }
            Trouble::PauseBroker => {
                feed()?;
                routers.wait_for(&output, goal)?;
                let broker = broker.context("a given cluster can't be stopped")?;
                broker.pause()?;
                wait::pass(BROKER_PAUSE);
                broker.resume()
            }
        }
    }

    /// Plans the next records.
    fn plan(&mut self) -> Vec<Sample> {
        (0..PORTION)
            .map(|_| {
                let (key, luck) = (self.random.u64(0..KEYS), self.random.u32(0..1000));
                let fails = self.random.u32(0..1000) < FAILS;
                let (fate, headers) = match luck {
                    0..PILLS => (Fate::Dead, ("pill", if luck == 0 { "trap" } else { "reject" })),
                    PILLS..DROPS => (Fate::Dropped, ("answer", "drop")),
                    DROPS..SPLITS => (Fate::Split, ("answer", "twice")),
                    _ => (Fate::Delivered, ("answer", "pass")),
                };
                let mut headers = vec![OwnedHeader::text(headers.0, headers.1)];
                if fails {
                    headers.push(OwnedHeader::text("fails", self.random.u32(1..=2).to_string()));
                }
                let sample = sample(self.history.written.len(), key, headers);
                self.history.written.push(Written { key, fate });
                sample
            })
            .collect()
    }

    /// Writes records to the source in a transaction, and aborts it. (If something is in the way, fewer are written. None is
    /// committed.)
    fn abort_some(&mut self) -> anyhow::Result<()> {
        let log = KafkaLog::new(KafkaSettings::new(self.kafka.bootstrap()))?;
        let plan = WriterPlan {
            timeout: Duration::from_secs(6),
            ..WriterPlan::new(format!("{}.aborts", self.name), vec![self.name.as_str().into()])
        };
        let Ok(mut writer) = log.transactional(plan) else { return Ok(()) };
        let Ok(mut transaction) = writer.begin() else { return Ok(()) };
        for _ in 0..ABORTED {
            let key = self.random.u64(0..KEYS);
            let sample = sample(self.history.written.len(), key, Vec::new());
            self.history.written.push(Written { key, fate: Fate::Aborted });
            let delivery = Delivery {
                topic: TopicId(0),
                partition: PartitionChoice::ByKey,
                timestamp_ms: -1,
                key: sample.key.as_deref(),
                value: sample.value.as_deref(),
                headers: Headers::Owned(&sample.headers),
                stamps: Headers::NONE,
            };
            if transaction.produce(&delivery, Token(0)).is_err() {
                return Ok(());
            }
        }
        // What it comes to is looked at in the end.
        _ = transaction.abort();
        Ok(())
    }

    /// What the group has committed, and all that can be seen, while nobody is at work.
    fn standstill(&self) -> anyhow::Result<Standstill> {
        let log = KafkaLog::new(KafkaSettings::new(self.kafka.bootstrap()))?;
        let partitions: Vec<_> =
            (0..PARTITIONS).map(|number| TopicPartition::new(self.name.as_str(), number)).collect();
        let mut commits = Vec::new();
        // It waits for transactions that are open.
        for (partition, commit) in partitions.iter().zip(log.committed(&self.name, &partitions)?) {
            let Some(commit) = commit else { continue };
            let settled = if commit.metadata.is_empty() {
                Settled::default()
            } else {
                Metadata::decode(&commit.metadata, commit.offset)?.settled
            };
            commits.push((partition.clone(), commit.offset, settled));
        }
        let retry = pair::retry_topic(&self.name);
        let found = PLACES.iter().map(|(place, suffix)| (*place, format!("{}.{suffix}", self.name)));
        let mut seen = Vec::new();
        for (place, topic) in found.chain([(Place::Parked, retry)]) {
            for numbers in self.read(&topic)?.into_values() {
                seen.extend(numbers.into_iter().map(|(_, number)| (number, place)));
            }
        }
        Ok(Standstill { commits, seen: seen.into_iter().collect() })
    }

    /// Reads everything.
    fn look(&mut self) -> anyhow::Result<()> {
        for (partition, numbers) in self.read(&self.name)? {
            let source = TopicPartition::new(self.name.as_str(), partition);
            let places = numbers.into_iter().map(|(offset, number)| ((source.clone(), offset), number));
            self.history.source.extend(places);
        }
        for (place, suffix) in PLACES {
            let topic = format!("{}.{suffix}", self.name);
            for (partition, numbers) in self.read(&topic)? {
                let numbers = numbers.into_iter().map(|(_, number)| number).collect();
                self.history.found.push((place, TopicPartition::new(topic.as_str(), partition), numbers));
            }
        }
        Ok(())
    }

    /// Offsets and numbers of the records of a topic, by partition.
    fn read(&self, topic: &str) -> anyhow::Result<HashMap<i32, Vec<(i64, usize)>>> {
        let mut found: HashMap<i32, Vec<(i64, usize)>> = HashMap::new();
        self.kafka.read_each(topic, |message| {
            let number =
                message.payload().and_then(|value| str::from_utf8(value).ok()).and_then(|text| text.parse().ok());
            // Nobody writes that one.
            let number = number.unwrap_or(usize::MAX);
            found.entry(message.partition()).or_default().push((message.offset(), number));
        })?;
        Ok(found)
    }

    /// Whether the history is sound: how many duplicates there are where they are allowed.
    fn judge(&self) -> anyhow::Result<usize> {
        let is_allowed =
            |anomaly: &Anomaly| matches!(anomaly, Anomaly::Duplicated(..)) && self.guarantee == Guarantee::AtLeastOnce;
        let (allowed, wrong): (Vec<_>, Vec<_>) = self.history.anomalies().into_iter().partition(is_allowed);
        if wrong.is_empty() {
            return Ok(allowed.len());
        }
        let shown: Vec<_> = wrong.iter().take(EXAMPLES).map(ToString::to_string).collect();
        let classes = self.classes()?;
        bail!("{} anomalies, such as {}; dead letters by class: {classes:?}", wrong.len(), shown.join("; "))
    }

    /// How many dead letters there are of each class.
    fn classes(&self) -> anyhow::Result<BTreeMap<String, usize>> {
        let mut classes = BTreeMap::new();
        for (_, record) in self.kafka.read_all(&format!("{}.dead", self.name))? {
            let class = header_text(&record, name::CLASS).unwrap_or_default();
            *classes.entry(class).or_default() += 1;
        }
        Ok(classes)
    }
}

const PLACES: [(Place, &str); 4] =
    [(Place::Output, "out"), (Place::First, "first"), (Place::Second, "second"), (Place::DeadLetters, "dead")];

fn sample(number: usize, key: u64, headers: Vec<OwnedHeader>) -> Sample {
    Sample {
        key: Some(format!("key-{key}").into_bytes()),
        value: Some(number.to_string().into_bytes()),
        headers,
        ..Sample::default()
    }
}
