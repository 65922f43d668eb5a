//! Kafka brokers as child processes: KRaft, loopback only, small heap. One node, or several that make up a cluster.

use std::fs::{self, File};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rustix::process::Signal;

use super::jars::Jars;
use crate::child::Guarded;
use crate::places::Scratch;
use crate::wait;

/// How long a broker may take to start, and to stop, on a busy machine.
const START_DEADLINE: Duration = Duration::from_secs(120);
const STOP_DEADLINE: Duration = Duration::from_secs(60);

/// Any id will do; every data folder has its own broker.
const CLUSTER_ID: &str = "cG9pbnRzbWFuLXRlc3RzMQ";

/// Lines of the log that are shown when something failed.
const LOG_TAIL_LINES: usize = 60;

/// One broker. Its ports and its data stay the same over stops and starts; the data goes when this is dropped.
#[derive(Debug)]
pub struct Broker {
    jars: Jars,
    port: u16,
    folder: Scratch,
    process: Mutex<Option<Guarded>>,
    /// How many brokers its cluster has.
    cluster: usize,
}

/// What a broker is in its cluster.
struct Node {
    id: i32,
    controller_port: u16,
    voters: String,
}

impl Broker {
    /// Formats a data folder and starts a broker on free ports.
    pub(super) fn start(jars: &Jars, properties: &[(&str, &str)]) -> anyhow::Result<Self> {
        let more = properties.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        Self::start_all(jars, vec![more], |_, _| {})?.pop().context("no broker was started")
    }

    /// Does that for brokers that make up a cluster: as many as there are lists of further properties. What a cluster writes, a
    /// majority of it has. `made` is told of each before it is started.
    pub(super) fn start_all(
        jars: &Jars,
        properties: Vec<Vec<(String, String)>>,
        made: impl Fn(usize, &Self),
    ) -> anyhow::Result<Vec<Self>> {
        let count = properties.len();
        let ports = (0..count).map(|_| free_ports()).collect::<anyhow::Result<Vec<_>>>()?;
        let voters: Vec<String> =
            (1..).zip(&ports).map(|(id, (_, controller))| format!("{id}@127.0.0.1:{controller}")).collect();
        let mut brokers = Vec::new();
        for ((id, (port, controller_port)), more) in (1..).zip(ports).zip(properties) {
            let folder = Scratch::new("broker-")?;
            let broker = Self { jars: jars.clone(), port, folder, process: Mutex::new(None), cluster: count };
            let node = Node { id, controller_port, voters: voters.join(",") };
            broker.write("server.properties", &server_properties(&broker, &node, &more))?;
            broker.write("log4j2.properties", LOG4J2)?;
            broker.format()?;
            made(brokers.len(), &broker);
            brokers.push(broker);
        }
        // None of several serves alone.
        for broker in &brokers {
            broker.spawn()?;
        }
        for broker in &brokers {
            broker.wait_until_it_serves()?;
        }
        Ok(brokers)
    }

    /// `host:port`, for `bootstrap.servers`.
    #[must_use]
    pub fn bootstrap(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Starts it again after [`stop`](Self::stop) or [`kill`](Self::kill), with the same ports and data; returns when
    /// it serves.
    ///
    /// # Errors
    /// When it runs already, or does not serve in time: with the end of its log.
    pub fn restart(&self) -> anyhow::Result<()> {
        self.spawn()?;
        self.wait_until_it_serves()
    }

    fn spawn(&self) -> anyhow::Result<()> {
        let mut process = self.process();
        ensure!(process.is_none(), "the broker runs already");
        *process = Some(Guarded::spawn(self.java("kafka.Kafka", "256m", &[self.path("server.properties")])?)?);
        Ok(())
    }

    /// Stops it as an operator does (SIGTERM): it hands over, flushes, and ends.
    ///
    /// # Errors
    /// When it does not run, or does not end in time.
    pub fn stop(&self) -> anyhow::Result<()> {
        let mut guarded = self.process().take().context("the broker does not run")?;
        guarded.signal(Signal::TERM)?;
        guarded.wait(STOP_DEADLINE)?;
        Ok(())
    }

    /// Kills it (SIGKILL).
    ///
    /// # Errors
    /// When it does not run.
    pub fn kill(&self) -> anyhow::Result<()> {
        self.process().take().context("the broker does not run")?.kill()?;
        Ok(())
    }

    /// Stops its threads where they are (SIGSTOP), until [`resume`](Self::resume): connections stay open and nothing
    /// answers.
    ///
    /// # Errors
    /// When it does not run.
    pub fn pause(&self) -> anyhow::Result<()> {
        self.signal(Signal::STOP)
    }

    /// Goes on after [`pause`](Self::pause) (SIGCONT).
    ///
    /// # Errors
    /// When it does not run.
    pub fn resume(&self) -> anyhow::Result<()> {
        self.signal(Signal::CONT)
    }

    /// The file with the first records of a partition.
    #[must_use]
    pub fn first_segment(&self, topic: &str, partition: i32) -> PathBuf {
        self.path("data").join(format!("{topic}-{partition}")).join("00000000000000000000.log")
    }

    /// The end of its log.
    #[must_use]
    pub fn log_tail(&self) -> String {
        let log = fs::read(self.path("kafka.log")).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(LOG_TAIL_LINES)..].join("\n")
    }

    pub(super) fn print_log_tail(&self) {
        eprintln!("the end of Kafka's log:\n{}", self.log_tail());
    }

    /// Kills it and removes its data, without waiting for a drop that never comes.
    pub(super) fn end(&self) {
        drop(self.process().take());
        if let Err(error) = fs::remove_dir_all(self.folder.path()) {
            eprintln!("can't remove {}: {error}", self.folder.path().display());
        }
    }

    fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        self.process().as_ref().context("the broker does not run")?.signal(signal)
    }

    fn process(&self) -> MutexGuard<'_, Option<Guarded>> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, text: &str) -> anyhow::Result<()> {
        fs::write(self.path(name), text).with_context(|| format!("can't write {}", self.path(name).display()))
    }

    /// Writes the metadata that KRaft wants in an empty data folder.
    fn format(&self) -> anyhow::Result<()> {
        let mut command = self.java("kafka.tools.StorageTool", "96m", &[])?;
        command.args(["format", "--cluster-id", CLUSTER_ID, "--config"]).arg(self.path("server.properties"));
        let status = command.status().context("can't run Kafka's StorageTool")?;
        ensure!(status.success(), "Kafka's StorageTool failed ({status}):\n{}", self.log_tail());
        Ok(())
    }

    /// A command that runs a class of Kafka, with its output in `kafka.log`.
    fn java(&self, class: &str, heap: &str, arguments: &[PathBuf]) -> anyhow::Result<Command> {
        let log =
            File::options().create(true).append(true).open(self.path("kafka.log")).context("can't open kafka.log")?;
        let errors = log.try_clone().context("can't open kafka.log twice")?;
        let mut command = Command::new(&self.jars.java);
        command
            .arg("-cp")
            .arg(self.jars.folder.join("*"))
            // A small machine runs several of these: little memory, and one thread for the garbage collection.
            .arg(format!("-Xmx{heap}"))
            .args(["-XX:+UseSerialGC", "-Djava.awt.headless=true"])
            .arg(format!("-Dlog4j2.configurationFile={}", self.path("log4j2.properties").display()))
            .arg(class)
            .args(arguments)
            .current_dir(self.folder.path())
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors);
        Ok(command)
    }

    /// Asks for metadata until it answers that it is part of the cluster, and that all others are.
    fn wait_until_it_serves(&self) -> anyhow::Result<()> {
        let client: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", self.bootstrap())
            // Nobody listens at first, which is no news.
            .set("log_level", "0")
            .set("reconnect.backoff.ms", "50")
            .set("reconnect.backoff.max.ms", "200")
            .create()
            .context("can't make a Kafka client")?;
        let served = wait::until_ok("Kafka to serve", START_DEADLINE, || {
            if let Some(status) = self.process().as_mut().context("the broker does not run")?.ended()? {
                bail!("the broker has ended ({status})");
            }
            let metadata = client.fetch_metadata(None, Duration::from_secs(1));
            Ok(metadata.is_ok_and(|metadata| metadata.brokers().len() == self.cluster).then_some(()))
        });
        served.with_context(|| format!("Kafka did not start; the end of its log:\n{}", self.log_tail()))
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        if thread::panicking() {
            self.print_log_tail();
        }
        // The process must not write into a folder that is being removed.
        drop(self.process().take());
    }
}

/// Two free ports. Another process can take them before Kafka does, which then does not start; the system hands out
/// ports in turn, so that is rare.
fn free_ports() -> anyhow::Result<(u16, u16)> {
    let listeners = (TcpListener::bind("127.0.0.1:0")?, TcpListener::bind("127.0.0.1:0")?);
    Ok((listeners.0.local_addr()?.port(), listeners.1.local_addr()?.port()))
}

fn server_properties(broker: &Broker, node: &Node, more: &[(String, String)]) -> String {
    let bootstrap = broker.bootstrap();
    let Node { id, controller_port, voters } = node;
    let (copies, enough) = (broker.cluster, broker.cluster / 2 + 1);
    let data = broker.path("data");
    let mut text = format!(
        "process.roles=broker,controller\n\
         node.id={id}\n\
         controller.quorum.voters={voters}\n\
         listeners=PLAINTEXT://{bootstrap},CONTROLLER://127.0.0.1:{controller_port}\n\
         advertised.listeners=PLAINTEXT://{bootstrap}\n\
         controller.listener.names=CONTROLLER\n\
         listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT\n\
         log.dirs={data}\n\
         auto.create.topics.enable=false\n\
         group.initial.rebalance.delay.ms=0\n\
         group.min.session.timeout.ms=1000\n\
         offsets.topic.replication.factor={copies}\n\
         offsets.topic.num.partitions=4\n\
         transaction.state.log.replication.factor={copies}\n\
         transaction.state.log.min.isr={enough}\n\
         transaction.state.log.num.partitions=4\n\
         transaction.abort.timed.out.transaction.cleanup.interval.ms=500\n\
         log.retention.ms=-1\n\
         default.replication.factor={copies}\n\
         min.insync.replicas={enough}\n\
         share.coordinator.state.topic.replication.factor={copies}\n\
         share.coordinator.state.topic.min.isr={enough}\n\
         log.cleaner.dedupe.buffer.size=8388608\n\
         num.network.threads=2\n\
         num.io.threads=4\n",
        data = data.display(),
    );
    // A line that comes later wins.
    for (key, value) in more {
        text.push_str(key);
        text.push('=');
        text.push_str(value);
        text.push('\n');
    }
    text
}

const LOG4J2: &str = "\
status = error
appender.console.type = Console
appender.console.name = console
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = %d{ABSOLUTE} %p %c{1} %m%n
rootLogger.level = info
rootLogger.appenderRef.console.ref = console
# All its settings, twice at each start.
logger.config.name = org.apache.kafka.common.config
logger.config.level = warn
";
