//! What is measured: a process that copies the source topic to a sink topic.

use std::fmt;
use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use pointsman_tests::child::Guarded;
use pointsman_tests::kafka::{Kafka, TopicSpec, Watermarks};
use pointsman_tests::places::Scratch;
use pointsman_tests::{plugins, router, wait};

use crate::bare;
use crate::cpu;
use crate::workload::{HEADER, PARTITIONS, Workload};

/// How long a process may take to get its partitions: compiling a plugin on a busy machine included.
const START_DEADLINE: Duration = Duration::from_secs(120);
/// How long it may take for the records.
const RUN_DEADLINE: Duration = Duration::from_secs(900);
/// How long it may take to commit, once all is at the sink.
const COMMIT_DEADLINE: Duration = Duration::from_secs(60);

/// One of the processes that are compared.
pub(crate) struct Subject {
    name: &'static str,
    kind: Kind,
}

enum Kind {
    Bare,
    Router(Stage),
}

/// What the route of a router does.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Nothing: no stage at all.
    None,
    Identity,
    HeaderFilter,
    JsonTransform,
}

/// The routers, by name.
const ROUTERS: [(&str, Stage); 4] = [
    ("no-stage", Stage::None),
    ("identity", Stage::Identity),
    ("header-filter", Stage::HeaderFilter),
    ("json-transform", Stage::JsonTransform),
];

/// What one run has come to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Measured {
    /// Until the process had its partitions.
    pub(crate) start_cpu: Duration,
    /// From then on, until everything was committed.
    pub(crate) cpu: Duration,
    /// From then on, until the last record was at the sink.
    pub(crate) time: Duration,
}

impl fmt::Display for Measured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { start_cpu, cpu, time } = self;
        write!(f, "{cpu:.2?} of CPU, in {time:.2?}, after {start_cpu:.2?} of CPU to start")
    }
}

impl Subject {
    /// The bare pass-through.
    pub(crate) fn bare(name: &'static str) -> Self {
        Self { name, kind: Kind::Bare }
    }

    /// The routers of these names, or all.
    pub(crate) fn routers(only: &[String]) -> anyhow::Result<Vec<Self>> {
        let known = || ROUTERS.map(|(name, _)| name).join(", ");
        for name in only {
            ensure!(ROUTERS.iter().any(|(own, _)| own == name), "there is no subject {name}; there are: {}", known());
        }
        let chosen = ROUTERS.iter().filter(|(name, _)| only.is_empty() || only.iter().any(|only| only == name));
        Ok(chosen.map(|(name, stage)| Self { name, kind: Kind::Router(*stage) }).collect())
    }

    pub(crate) fn name(&self) -> &'static str {
        self.name
    }

    /// Runs it once, from the first record of `source` to the last, into a topic of its own that is deleted afterwards.
    pub(crate) fn run(&self, kafka: &Kafka, source: &str, workload: &Workload) -> anyhow::Result<Measured> {
        let folder = Scratch::new("passthrough-")?;
        // Of the sink topic, of the group, and of the router.
        let name = Kafka::unique("sink");
        // A deleted topic is to leave the disk soon: many runs follow.
        kafka.create_topics(&[TopicSpec::new(&name, PARTITIONS).with("file.delete.delay.ms", "100")])?;
        let copy = Copy { kafka, source, sink: &name, folder: folder.path() };
        let log = folder.path().join("log");
        let output = || File::options().create(true).append(true).open(&log);
        let mut command = match self.kind {
            Kind::Bare => copy.bare()?,
            Kind::Router(stage) => copy.router(stage)?,
        };
        command.stdin(Stdio::null()).stdout(output()?).stderr(output()?);
        let mut process = Process { process: Guarded::spawn(command)?, log: &log };
        let measured = process.measure(&copy, i64::try_from(self.delivered(workload))?)?;
        process.process.kill()?;
        kafka.delete_topics(&[&name])?;
        Ok(measured)
    }

    /// How many records are to be at the sink.
    fn delivered(&self, workload: &Workload) -> u64 {
        match self.kind {
            Kind::Router(Stage::HeaderFilter) => workload.records - workload.of_tests(),
            _ => workload.records,
        }
    }
}

/// What a process is to do.
struct Copy<'a> {
    kafka: &'a Kafka,
    source: &'a str,
    /// The name of the group, too.
    sink: &'a str,
    folder: &'a Path,
}

impl Copy<'_> {
    fn bare(&self) -> anyhow::Result<Command> {
        let Self { kafka, source, sink, .. } = self;
        let mut command = Command::new(std::env::current_exe().context("can't find the path of this program")?);
        command.args(["bare", "--bootstrap", kafka.bootstrap(), "--source", source, "--sink", sink]);
        Ok(command)
    }

    /// A router with default settings.
    fn router(&self, stage: Stage) -> anyhow::Result<Command> {
        let Self { kafka, source, sink, folder } = self;
        let (plugin, config) = match stage {
            Stage::None => (None, String::new()),
            Stage::Identity => (Some("identity"), String::new()),
            Stage::HeaderFilter => (
                Some("header-filter"),
                format!("config = {{ header = \"{}\", drop = [\"{}\"] }}\n", HEADER.0, HEADER.1),
            ),
            Stage::JsonTransform => (Some("json-transform"), String::new()),
        };
        let mut text =
            format!("version = 1\n[router]\nname = \"{sink}\"\n[broker]\nbootstrap = \"{}\"\n", kafka.bootstrap());
        if let Some(plugin) = plugin {
            let component = plugins::component(plugin)?;
            text.push_str(&format!("[plugins.{plugin}]\ncomponent = \"{}\"\n{config}", component.display()));
        }
        let stages = plugin.map_or_else(String::new, |plugin| format!("\"{plugin}\""));
        text.push_str(&format!(
            "[[routes]]\nname = \"copy\"\nfrom = [\"{source}\"]\nstages = [{stages}]\n[[routes.outputs]]\ntopic = \"{sink}\"\n"
        ));
        let file = folder.join("router.toml");
        fs::write(&file, text).with_context(|| format!("can't write {}", file.display()))?;
        let mut command = router::command()?;
        command.args(["run", "--log-format", "json"]).arg(file);
        Ok(command)
    }
}

struct Process<'a> {
    process: Guarded,
    log: &'a Path,
}

impl Process<'_> {
    fn measure(&mut self, copy: &Copy<'_>, delivered: i64) -> anyhow::Result<Measured> {
        let id = self.process.id();
        let (begun, start_cpu) = wait::closely("the process to get its partitions", START_DEADLINE, || {
            self.check()?;
            Ok(if self.is_assigned() { Some((Instant::now(), cpu::of(id)?)) } else { None })
        })?;
        let watermarks = Watermarks::new(copy.kafka, copy.sink)?;
        let ended = wait::closely("the records at the sink", RUN_DEADLINE, || {
            self.check()?;
            Ok((watermarks.count()? >= delivered).then(Instant::now))
        })?;
        wait::until_ok("all to be committed", COMMIT_DEADLINE, || {
            Ok((copy.kafka.lag(copy.sink, copy.source)? == 0).then_some(()))
        })?;
        let cpu = cpu::of(id)?.saturating_sub(start_cpu);
        let count = watermarks.count()?;
        ensure!(count == delivered, "{count} records are at the sink, where {delivered} were to come");
        Ok(Measured { start_cpu, cpu, time: ended - begun })
    }

    /// The router logs it of each partition, all in one moment; the bare pass-through says the same.
    fn is_assigned(&self) -> bool {
        let log = fs::read(self.log).unwrap_or_default();
        log.windows(bare::ASSIGNED.len()).any(|window| window == bare::ASSIGNED.as_bytes())
    }

    fn check(&mut self) -> anyhow::Result<()> {
        match self.process.ended()? {
            None => Ok(()),
            Some(status) => bail!(
                "the process has ended ({status}); its log:\n{}",
                String::from_utf8_lossy(&fs::read(self.log).unwrap_or_default())
            ),
        }
    }
}
