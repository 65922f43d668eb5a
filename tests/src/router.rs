//! The router as a process of its own, as an operator runs it: started, watched, stopped, killed.
//!
//! The program is `pointsman` itself, built once more as a binary of this package, since Cargo gives a test the path of
//! its own package's binaries only.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use rustix::process::Signal;
use serde_json::Value;

use crate::child::Guarded;
use crate::{places, wait};

/// How long a router may take to start: compiling plugins on a busy machine included.
const START_DEADLINE: Duration = Duration::from_secs(120);

/// How long a router may take to stop: more than its `drain_deadline`.
const STOP_DEADLINE: Duration = Duration::from_secs(60);

/// Lines of the log that are shown when something failed.
const LOG_TAIL_LINES: usize = 60;

/// A `pointsman run`. It is killed when this is dropped.
#[derive(Debug)]
pub struct Router {
    process: Guarded,
    log: PathBuf,
}

impl Router {
    /// Writes `config` to `NAME.toml` in `folder`, and starts a router with it, which logs JSON to `NAME.log` there, and has its
    /// name as the variable `ROUTER`. A
    /// router of the same name that ran before is continued: its log goes on.
    ///
    /// # Errors
    /// When it can't be started.
    pub fn start(folder: &Path, name: &str, config: &str) -> anyhow::Result<Self> {
        let file = folder.join(format!("{name}.toml"));
        fs::write(&file, config).with_context(|| format!("can't write {}", file.display()))?;
        let log = folder.join(format!("{name}.log"));
        let stderr = File::options().create(true).append(true).open(&log);
        let stderr = stderr.with_context(|| format!("can't open {}", log.display()))?;
        let mut command = command()?;
        command
            .args(["run", "--log-format", "json"])
            .arg(&file)
            // For an `instance_id`, which has to come from a variable.
            .env("ROUTER", name)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(stderr);
        Ok(Self { process: Guarded::spawn(command)?, log })
    }

    /// Waits until it has been assigned a partition.
    ///
    /// # Errors
    /// When it ends, or takes too long: with the end of its log.
    pub fn wait_until_assigned(&mut self) -> anyhow::Result<()> {
        self.wait_for_message("lane assigned")
    }

    /// Waits until something is so, as long as it runs.
    ///
    /// # Errors
    /// When it ends, or `deadline` has passed: with the end of its log; and those of `is_so`.
    pub fn wait_until(
        &mut self,
        what: &str,
        deadline: Duration,
        mut is_so: impl FnMut() -> anyhow::Result<bool>,
    ) -> anyhow::Result<()> {
        let seen = wait::until_ok(what, deadline, || {
            self.check()?;
            Ok(is_so()?.then_some(()))
        });
        seen.with_context(|| format!("the end of its log:\n{}", self.log_tail()))
    }

    /// Waits until it has logged a message that has all of these words in it.
    ///
    /// # Errors
    /// When it ends, or `deadline` has passed: with the end of its log.
    pub fn wait_for_words(&mut self, words: &[&str], deadline: Duration) -> anyhow::Result<()> {
        let log = self.log.clone();
        self.wait_until(&format!("a line with {words:?}"), deadline, || {
            let log = lines(&log);
            let mut messages = log.iter().filter_map(|line| line.get("message")?.as_str());
            Ok(messages.any(|message| words.iter().all(|words| message.contains(words))))
        })
    }

    /// Waits until it has logged a line with this message.
    ///
    /// # Errors
    /// When it ends, or takes too long: with the end of its log.
    pub fn wait_for_message(&mut self, message: &str) -> anyhow::Result<()> {
        let Self { process, log } = self;
        let seen = wait::until_ok(&format!("the log line {message:?}"), START_DEADLINE, || {
            let status = process.ended()?;
            if lines(log).iter().any(|line| line.get("message").is_some_and(|found| found == message)) {
                return Ok(Some(()));
            }
            match status {
                Some(status) => bail!("the router has ended ({status})"),
                None => Ok(None),
            }
        });
        seen.with_context(|| format!("the end of its log:\n{}", self.log_tail()))
    }

    /// Stops it as an operator does (SIGTERM), and waits until it has ended.
    ///
    /// # Errors
    /// When it does not end in time: with the end of its log.
    pub fn stop(mut self) -> anyhow::Result<ExitStatus> {
        self.process.signal(Signal::TERM)?;
        let ended = self.process.wait(STOP_DEADLINE);
        ended.with_context(|| format!("the end of its log:\n{}", self.log_tail()))
    }

    /// Like [`stop`](Self::stop), where only the exit code 0 will do.
    ///
    /// # Errors
    /// Those of [`stop`](Self::stop), and another exit code.
    pub fn stop_well(self) -> anyhow::Result<()> {
        let log = self.log.clone();
        let status = self.stop()?;
        ensure!(status.success(), "the router ended with {status}; the end of its log:\n{}", tail(&log));
        Ok(())
    }

    /// Waits until it has ended by itself, and gives what it has logged. Only the exit code 0 will do.
    ///
    /// # Errors
    /// When it does not end in time, or otherwise: with the end of its log.
    pub fn wait_until_ended_well(mut self) -> anyhow::Result<Vec<Value>> {
        let ended = self.process.wait(STOP_DEADLINE);
        let status = ended.with_context(|| format!("the end of its log:\n{}", self.log_tail()))?;
        ensure!(status.success(), "the router ended with {status}; the end of its log:\n{}", self.log_tail());
        Ok(self.log())
    }

    /// Kills it (SIGKILL), and waits until it is gone.
    ///
    /// # Errors
    /// When it had ended by itself: with the end of its log.
    pub fn kill(mut self) -> anyhow::Result<()> {
        self.check()?;
        self.process.kill()?;
        Ok(())
    }

    /// Stops its threads where they are (SIGSTOP), until [`resume`](Self::resume).
    ///
    /// # Errors
    /// When the kernel refuses it.
    pub fn pause(&self) -> anyhow::Result<()> {
        self.process.signal(Signal::STOP)
    }

    /// Goes on after [`pause`](Self::pause) (SIGCONT).
    ///
    /// # Errors
    /// When the kernel refuses it.
    pub fn resume(&self) -> anyhow::Result<()> {
        self.process.signal(Signal::CONT)
    }

    /// Whether it still runs.
    ///
    /// # Errors
    /// When it does not: with its exit code and the end of its log.
    pub fn check(&mut self) -> anyhow::Result<()> {
        match self.process.ended()? {
            None => Ok(()),
            Some(status) => bail!("the router has ended ({status}); the end of its log:\n{}", self.log_tail()),
        }
    }

    /// What it has logged: one JSON object a line. Lines that are none (a panic message) are left out; see
    /// [`log_tail`](Self::log_tail).
    #[must_use]
    pub fn log(&self) -> Vec<Value> {
        lines(&self.log)
    }

    /// The end of its log, as it is.
    #[must_use]
    pub fn log_tail(&self) -> String {
        tail(&self.log)
    }
}

/// A `pointsman` command, without arguments.
///
/// # Errors
/// When the test was not run by Cargo.
pub fn command() -> anyhow::Result<Command> {
    let program = places::profile()?.join("pointsman-under-test");
    ensure!(program.exists(), "there is no {}; run the tests by `cargo test`", program.display());
    Ok(Command::new(program))
}

fn lines(log: &Path) -> Vec<Value> {
    let text = fs::read(log).unwrap_or_default();
    String::from_utf8_lossy(&text).lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

fn tail(log: &Path) -> String {
    let text = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LOG_TAIL_LINES)..].join("\n")
}
