//! The process of a subject, watched from outside.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use pointsman_tests::child::Guarded;
use pointsman_tests::wait;
use rustix::process::Signal;

use crate::{bare, kernel};

/// How long a process may take to get its partitions: compiling plugins on a busy machine included.
const START_DEADLINE: Duration = Duration::from_secs(120);
/// How long it may take to stop.
const STOP_DEADLINE: Duration = Duration::from_secs(60);

/// Lines of the log that are shown when something failed.
const LOG_TAIL_LINES: usize = 60;

/// A running subject. It is killed when this is dropped.
pub(crate) struct Process {
    process: Guarded,
    log: PathBuf,
    /// When it was started.
    pub(crate) started: Instant,
}

impl Process {
    /// Starts it, with all that it says in the file `log`.
    pub(crate) fn start(mut command: Command, log: PathBuf) -> anyhow::Result<Self> {
        let output = File::create(&log).with_context(|| format!("can't make {}", log.display()))?;
        command.stdin(Stdio::null()).stdout(output.try_clone().context("can't open the log twice")?).stderr(output);
        let started = Instant::now();
        Ok(Self { process: Guarded::spawn(command)?, log, started })
    }

    /// Waits until it has said so many times that it has a partition. (The router says it of each.)
    pub(crate) fn wait_until_assigned(&mut self, times: usize) -> anyhow::Result<()> {
        wait::closely("the process to get its partitions", START_DEADLINE, || {
            self.check()?;
            let log = fs::read(&self.log).unwrap_or_default();
            let said = log.windows(bare::ASSIGNED.len()).filter(|window| *window == bare::ASSIGNED.as_bytes());
            Ok((said.count() >= times).then_some(()))
        })
    }

    /// Whether it still runs.
    pub(crate) fn check(&mut self) -> anyhow::Result<()> {
        match self.process.ended()? {
            None => Ok(()),
            Some(status) => bail!("the process has ended ({status})"),
        }
    }

    pub(crate) fn cpu(&self) -> anyhow::Result<Duration> {
        kernel::cpu(self.process.id())
    }

    /// Most bytes of memory that it has had resident so far.
    pub(crate) fn peak_memory(&self) -> anyhow::Result<u64> {
        kernel::peak_memory(self.process.id())
    }

    /// Bytes of memory that it has resident now.
    pub(crate) fn resident_memory(&self) -> anyhow::Result<u64> {
        kernel::resident_memory(self.process.id())
    }

    /// Kills it, and waits until it is gone.
    pub(crate) fn kill(mut self) -> anyhow::Result<()> {
        self.process.kill()?;
        Ok(())
    }

    /// Stops it in good order.
    pub(crate) fn stop(mut self) -> anyhow::Result<()> {
        self.process.signal(Signal::TERM)?;
        let status = self.process.wait(STOP_DEADLINE)?;
        ensure!(status.success(), "the process ended with {status}");
        Ok(())
    }

    /// Does `work`, whose failure is told with the end of the log.
    pub(crate) fn telling<T>(&mut self, work: impl FnOnce(&mut Self) -> anyhow::Result<T>) -> anyhow::Result<T> {
        work(self).with_context(|| {
            let log = fs::read(&self.log).unwrap_or_default();
            let log = String::from_utf8_lossy(&log);
            let lines: Vec<&str> = log.lines().collect();
            format!("the end of its log:\n{}", lines[lines.len().saturating_sub(LOG_TAIL_LINES)..].join("\n"))
        })
    }
}
