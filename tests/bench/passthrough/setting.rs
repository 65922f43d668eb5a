//! A subject set up to run: its topics, its files, its environment.

use std::fs;
use std::process::Command;
use std::time::Duration;

use anyhow::Context as _;
use pointsman_tests::kafka::{Kafka, Lag, TopicSpec, Watermarks};
use pointsman_tests::places::Scratch;
use pointsman_tests::simulated_collector::SimulatedCollector;
use pointsman_tests::{plugins, router, wait};

use crate::bare::{self, Work};
use crate::process::Process;
use crate::subject::{Backlog, Component, Delivery, Program, Subject};
use crate::workload::{Source, break_in, delete};

/// What all runs share.
pub(crate) struct Bench {
    pub(crate) kafka: Kafka,
    /// Where routers keep compiled components: not among those of whoever runs the benchmark.
    cache: Scratch,
    /// Takes what routers tell.
    collector: SimulatedCollector,
}

impl Bench {
    pub(crate) fn start() -> anyhow::Result<Self> {
        // First what can fail for lack of a tool.
        plugins::component("identity")?;
        let collector = SimulatedCollector::start_elsewhere()?;
        // A partition leaves the disk soon after its topic is deleted, and not a minute later, in another run.
        let kafka = Kafka::start_with(&[("log.segment.delete.delay.ms", "100")])?;
        Ok(Self { kafka, cache: Scratch::new("passthrough-cache-")?, collector })
    }
}

/// A subject that can be started, as often as one likes.
pub(crate) struct Setting<'a> {
    bench: &'a Bench,
    subject: &'a Subject,
    source: &'a Source,
    /// Of the router and its group; names of sink topics begin with it.
    name: String,
    folder: Scratch,
}

impl<'a> Setting<'a> {
    /// Makes the topics and writes the files.
    pub(crate) fn new(bench: &'a Bench, subject: &'a Subject, source: &'a Source) -> anyhow::Result<Self> {
        // The dot ends the number that makes it unique: no other name begins with all of it.
        let name = format!("{}.out", Kafka::unique("run"));
        let setting = Self { bench, subject, source, name, folder: Scratch::new("passthrough-")? };
        let given = subject.ends.iter().filter(|end| !end.is_own).map(|end| setting.topic(end.suffix));
        let given: Vec<String> = given.collect();
        let specs: Vec<_> = given.iter().map(|name| TopicSpec::new(name, source.workload.partitions)).collect();
        bench.kafka.create_topics(&specs)?;
        // A partition has a leader some time before that leader takes records: whoever can be asked for its end is there.
        Watermarks::new(&bench.kafka, &given)?.count()?;
        if let Program::Router { configuration, components } = &subject.program {
            let keys = subject.delivery.map_or("", Delivery::keys);
            setting.write(ROUTER, format!("{HEAD}{keys}{BROKER}{configuration}").as_bytes())?;
            for component in components {
                setting.write(&component.file_name(), &bytes(component)?)?;
            }
        }
        Ok(setting)
    }

    /// The name of the group.
    pub(crate) fn group(&self) -> &str {
        &self.name
    }

    pub(crate) fn source(&self) -> &'a Source {
        self.source
    }

    /// The topics in which its records end.
    pub(crate) fn ends(&self) -> Vec<String> {
        self.subject.ends.iter().map(|end| self.topic(end.suffix)).collect()
    }

    /// Starts the process. `prompt` has the bare pass-through save latency rather than CPU; the router has one way.
    pub(crate) fn start(&self, prompt: bool) -> anyhow::Result<Process> {
        let command = match &self.subject.program {
            Program::Bare(work) => self.bare(*work, prompt)?,
            Program::Router { .. } => self.router(ROUTER, self.source)?,
        };
        Process::start(command, self.folder.path().join("log"))
    }

    /// Makes the topics that a router makes itself: where they have hundreds of partitions, a broker is at it for seconds after it has
    /// said that they are there. `empty` is like the source, without records.
    pub(crate) fn make_topics(&self, empty: &Source) -> anyhow::Result<()> {
        if let Program::Bare(_) = self.subject.program {
            return Ok(());
        }
        let mut process = Process::start(self.router(ROUTER, empty)?, self.folder.path().join("first-log"))?;
        process.telling(|process| process.wait_until_assigned(self.subject.announcements(&empty.workload)))?;
        process.stop()?;
        self.make_retry_topics(empty)
    }

    /// Retry topics bear the name of their source: makes those of the source like those of `empty`, which a router has made.
    fn make_retry_topics(&self, empty: &Source) -> anyhow::Result<()> {
        let kafka = &self.bench.kafka;
        let mut names = kafka.topics_beginning_with(&self.name)?;
        names.retain(|name| name.ends_with(".retry") && name.contains(&empty.name));
        names.iter_mut().for_each(|name| *name = name.replace(&empty.name, &self.source.name));
        if empty.name == self.source.name || names.is_empty() {
            return Ok(());
        }
        let partitions = self.source.workload.partitions;
        let specs = names.iter().map(|name| TopicSpec::new(name, partitions).with("retention.ms", "-1"));
        kafka.create_topics(&specs.collect::<Vec<_>>())
    }

    /// Has the topics be as those in use are.
    pub(crate) fn break_topics_in(&self) -> anyhow::Result<()> {
        break_in(&self.bench.kafka, &self.bench.kafka.topics_beginning_with(&self.name)?)
    }

    /// Has a router of the same name park records of the source, until it has no more.
    pub(crate) fn park(&self, Backlog { records, parking }: &Backlog) -> anyhow::Result<()> {
        self.source.fill_others(&self.bench.kafka, *records)?;
        self.write(PARKING, format!("{HEAD}{BROKER}{parking}").as_bytes())?;
        let mut process = Process::start(self.router(PARKING, self.source)?, self.folder.path().join("parking-log"))?;
        process.telling(|process| {
            process.wait_until_assigned(1)?;
            let lag = Lag::new(&self.bench.kafka, self.group(), &self.source.topics())?;
            wait::until_ok("all to be parked", PARKING_DEADLINE, || {
                process.check()?;
                Ok((lag.records()? == 0).then_some(()))
            })
        })?;
        process.stop()
    }

    /// Deletes the topics, also those that the router has made.
    pub(crate) fn clean_up(self) -> anyhow::Result<()> {
        delete(&self.bench.kafka, &self.name)
    }

    fn topic(&self, suffix: &str) -> String {
        format!("{}{suffix}", self.name)
    }

    fn bare(&self, work: Work, prompt: bool) -> anyhow::Result<Command> {
        let mut command = Command::new(std::env::current_exe().context("can't find the path of this program")?);
        command.args(["bare", "--bootstrap", self.bench.kafka.bootstrap(), "--sink", &self.name]);
        command.args(["--source", &format!("{}-0", self.source.name)]);
        command.args(["--partitions", &self.source.workload.partitions.to_string()]);
        command.args(["--work", bare::name_of(work)]).args(prompt.then_some("--prompt"));
        Ok(command)
    }

    fn router(&self, file: &str, source: &Source) -> anyhow::Result<Command> {
        let mut command = router::command()?;
        command
            .args(["run", "--log-format", "json"])
            .arg(self.folder.path().join(file))
            .env("BOOTSTRAP", self.bench.kafka.bootstrap())
            .env("SOURCE", &source.name)
            .env("SINK", &self.name)
            .env("COLLECTOR", self.bench.collector.address().to_string())
            .env("XDG_CACHE_HOME", self.bench.cache.path());
        Ok(command)
    }

    fn write(&self, name: &str, bytes: &[u8]) -> anyhow::Result<()> {
        let file = self.folder.path().join(name);
        fs::write(&file, bytes).with_context(|| format!("can't write {}", file.display()))
    }
}

const ROUTER: &str = "router.toml";
const PARKING: &str = "parking.toml";

/// How long the records of a backlog may take to be parked.
const PARKING_DEADLINE: Duration = Duration::from_secs(900);

/// What every router's file begins with: all else is as the router has it by default.
const HEAD: &str = r#"version = 1
[router]
name = "${SINK}"
"#;

const BROKER: &str = r#"[broker]
bootstrap = "${BOOTSTRAP}"
"#;

/// A component; a copy has a custom section more, which makes no difference but to its digest.
fn bytes(component: &Component) -> anyhow::Result<Vec<u8>> {
    let file = plugins::component(component.plugin)?;
    let mut bytes = fs::read(&file).with_context(|| format!("can't read {}", file.display()))?;
    if let Some(copy) = component.copy {
        // The section's id and length; the length of its name, the name, and four bytes.
        bytes.extend(*b"\0\x09\x04copy");
        bytes.extend(copy.to_le_bytes());
    }
    Ok(bytes)
}
