//! `pointsman dead-letter`: looks at what failed, and deals with it.

mod choice;
mod export;
mod handle;
mod ls;
mod payload;
mod release;
mod show;
mod stats;
#[cfg(test)]
mod tests;

use std::io::{self, BufWriter, IsTerminal as _};
use std::path::Path;
use std::time::SystemTime;

use comfy_table::Table;
use pointsman_config::Plan;
use pointsman_core::port::{Log, LogError};
use serde::Serialize;
use thiserror::Error;

use super::interrupt::Interrupts;
use super::log::{self, Opened};
use super::progress::{Says, Shown};
use super::{Exit, complain, output_failed, printable};
use crate::dead_letter::{
    AuditError, AuditRecord, Expiry, FindError, HandleError, LookError, ReleaseError, Site, Tally, counted,
};
use crate::lookup::NoRoute;
use crate::progress::{Progress, Stand};
use crate::reading::{Ended, ReadError, UnsettledError};

/// Look at dead letters: what failed, why, and when it is gone; and replay or discard them.
///
/// Nothing but `replay`, `discard` and `release` changes anything, and none disturbs the router. The letters of other tools (Spring Kafka, Kafka Connect, Kafka
/// Streams, share groups) are understood too: name their topic with --topic.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    Ls(ls::Arguments),
    Stats(stats::Arguments),
    Show(show::Arguments),
    Export(export::Arguments),
    Replay(handle::ReplayArguments),
    Discard(handle::DiscardArguments),
    Release(release::Arguments),
}

impl Command {
    fn file(&self) -> &Path {
        match self {
            Self::Ls(arguments) => arguments.choice.file(),
            Self::Stats(arguments) => arguments.choice.file(),
            Self::Show(arguments) => &arguments.file,
            Self::Export(arguments) => arguments.choice.file(),
            Self::Replay(arguments) => arguments.choice.file(),
            Self::Discard(arguments) => arguments.choice.file(),
            Self::Release(arguments) => &arguments.file,
        }
    }
}

impl Command {
    /// What is on standard output while it works.
    fn says(&self) -> Says {
        let (json, records) = match self {
            Self::Ls(arguments) => (arguments.json, false),
            Self::Stats(arguments) => (arguments.json, false),
            Self::Show(arguments) => (arguments.json, false),
            Self::Export(arguments) => (arguments.json, arguments.output.is_none()),
            Self::Replay(arguments) => (arguments.how.json, false),
            Self::Discard(arguments) => (arguments.how.json, false),
            Self::Release(arguments) => (arguments.json, false),
        };
        match (json, records) {
            (true, _) => Says::Json,
            (false, true) => Says::Records,
            (false, false) => Says::Nothing,
        }
    }
}

/// Standard output, which has no bar beside it when the answer comes.
struct Out<'a> {
    shown: &'a Shown,
    out: io::StdoutLock<'a>,
    is_terminal: bool,
}

impl io::Write for Out<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.is_terminal {
            self.shown.end();
        }
        self.out.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

pub(crate) fn execute(command: &Command) -> Exit {
    let Opened { log, plan, .. } = match log::open(command.file()) {
        Ok(opened) => opened,
        Err(exit) => return exit,
    };
    let interrupts = match Interrupts::listen_here() {
        Ok(interrupts) => interrupts,
        Err(exit) => return exit,
    };
    let (stop, width) = (|| interrupts.any(), super::table::width());
    let shown = Shown::new(command.says());
    let progress = |stand: &Stand<'_>| shown.tell(stand);
    let desk = Desk { plan: &plan, log: &*log, clock: &now_ms, width, stop: &stop, progress: &progress };
    let out = io::stdout();
    let out = Out { shown: &shown, is_terminal: out.is_terminal(), out: out.lock() };
    print(command, &desk, &mut BufWriter::new(out), &mut complain)
}

/// Milliseconds since 1970-01-01 UTC. A clock that stands before 1970 leaves nothing to count from.
fn now_ms() -> i64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_millis()).unwrap_or(i64::MAX)
}

/// What a command works with.
struct Desk<'a> {
    plan: &'a Plan,
    log: &'a dyn Log,
    /// What time it is.
    clock: &'a dyn Fn() -> i64,
    /// Columns of the terminal; `None` where there is none.
    width: Option<u16>,
    /// Whether the user wants no more.
    stop: &'a dyn Fn() -> bool,
    /// Who is told how far it has come.
    progress: Progress<'a>,
}

impl<'a> Desk<'a> {
    fn site(&self) -> Site<'a> {
        Site { log: self.log, plan: self.plan, now_ms: self.clock, stop: self.stop, progress: self.progress }
    }
}

/// A note may have something of a record in it.
fn safe(note: &mut dyn FnMut(&str)) -> impl FnMut(&str) {
    |text| note(&printable::line(text))
}

fn print(command: &Command, desk: &Desk<'_>, out: &mut dyn io::Write, note: &mut dyn FnMut(&str)) -> Exit {
    let printed = match command {
        Command::Ls(arguments) => ls::print(arguments, desk, out, note),
        Command::Stats(arguments) => stats::print(arguments, desk, out, note),
        Command::Show(arguments) => show::print(arguments, desk, out, note),
        Command::Export(arguments) => export::print(arguments, desk, out, note),
        Command::Replay(arguments) => handle::replay(arguments, desk, out, note),
        Command::Discard(arguments) => handle::discard(arguments, desk, out, note),
        Command::Release(arguments) => release::print(arguments, desk, out, note),
    };
    match printed.and_then(|()| Ok(out.flush()?)) {
        Ok(()) => Exit::Fine,
        // A reader that has gone away (`pointsman … | head`) has had enough.
        Err(Failed::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => Exit::Fine,
        Err(Failed::Output(error)) => output_failed(&error, note),
        Err(failed) => {
            note(&format!("error: {failed}"));
            failed.exit()
        }
    }
}

/// There is no answer, or not all of it.
#[derive(Debug, Error)]
enum Failed {
    #[error(transparent)]
    Look(#[from] LookError),
    #[error(transparent)]
    Log(#[from] LogError),
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The answer can't be printed.
    #[error(transparent)]
    Output(#[from] io::Error),
    /// The answer can't be made JSON.
    #[error("can't write the answer as JSON: {0}")]
    Json(#[from] serde_json::Error),
    #[error(transparent)]
    NoRoute(#[from] NoRoute),
    #[error("can't write {path}: {error}")]
    File { path: String, error: io::Error },
    #[error("interrupted: this is not all of it")]
    Interrupted,
    #[error(transparent)]
    Handle(#[from] HandleError),
    #[error(transparent)]
    Release(#[from] ReleaseError),
    #[error("no key is named; name some with --key, or write --all; --dry-run shows those that are held")]
    NoKey,
    #[error("the key {0} is not held; --dry-run without --key shows those that are")]
    NotHeld(String),
    #[error("no filter says which letters are meant; name some, or write --all")]
    NoFilter,
    #[error("not all letters that are meant were done; the table says why")]
    Undone,
}

impl Failed {
    fn exit(&self) -> Exit {
        match self {
            Self::Look(error) => look_exit(error),
            Self::Log(_) => Exit::NotStarted,
            Self::Read(_) | Self::Output(_) | Self::Json(_) => Exit::Fatal,
            Self::NoRoute(_) | Self::File { .. } | Self::NoFilter | Self::NoKey => Exit::Configuration,
            Self::Handle(HandleError::Target { .. }) => Exit::Configuration,
            Self::Handle(HandleError::Log(_)) => Exit::NotStarted,
            Self::Handle(HandleError::Unfit(_) | HandleError::Stopped | HandleError::Audit(AuditError::Stopped)) => {
                Exit::No
            }
            Self::Release(ReleaseError::Log(_) | ReleaseError::Read(UnsettledError::Log(_))) => Exit::NotStarted,
            Self::Release(ReleaseError::Account(HandleError::Log(_))) => Exit::NotStarted,
            Self::Release(
                ReleaseError::Read(UnsettledError::Stopped)
                | ReleaseError::Account(HandleError::Unfit(_) | HandleError::Stopped),
            )
            | Self::NotHeld(_) => Exit::No,
            Self::Handle(_) | Self::Release(_) => Exit::Fatal,
            Self::Interrupted | Self::Undone => Exit::No,
        }
    }
}

fn look_exit(error: &LookError) -> Exit {
    match error {
        LookError::Topic(error) => error.exit(),
        LookError::Log(_) | LookError::Find(FindError::Log(_)) => Exit::NotStarted,
        LookError::Read(_) | LookError::Find(FindError::Read(_)) => Exit::Fatal,
        LookError::NoRoute(_) | LookError::Place(_) => Exit::Configuration,
        LookError::Find(_) | LookError::NoTopic(_) | LookError::NoPartition { .. } | LookError::Stopped => Exit::No,
    }
}

/// What was done, by whom and when, on one line.
fn done(record: &AuditRecord) -> String {
    let to = record.to.as_deref().map(|to| format!(" to {}", printable::line(to))).unwrap_or_default();
    format!("{}{to} {} by {}", record.action, time(Some(record.at)), printable::line(&record.by))
}

/// Whether a visit saw all that it was to see.
fn all_seen(ended: Ended<io::Error>) -> Result<(), Failed> {
    match ended {
        Ended::Done => Ok(()),
        Ended::Stopped => Err(Failed::Interrupted),
        Ended::Enough(error) => Err(error.into()),
        Ended::Failed(error) => Err(error.into()),
    }
}

/// How many letters were picked, and of how many where that is not all.
fn picked(tally: &Tally) -> String {
    let read = counted(tally.read, "letter");
    if tally.selected == tally.read { read } else { format!("{} of {read}", tally.selected) }
}

/// Says an answer in JSON.
fn say_json(answer: &impl Serialize, out: &mut dyn io::Write) -> Result<(), Failed> {
    let text = serde_json::to_string_pretty(answer)?;
    Ok(writeln!(out, "{}", printable::json(&text))?)
}

/// A table as wide as the terminal, in which the columns of these numbers are not made narrower than they need to be;
/// elsewhere, as wide as it needs to be.
fn table<const COLUMNS: usize>(header: [&str; COLUMNS], whole: &[usize], desk: &Desk<'_>) -> Table {
    super::table::table(header, whole, desk.width)
}

/// A point in time, to the second.
fn time(ms: Option<i64>) -> String {
    let time = ms.and_then(|ms| jiff::Timestamp::from_second(ms.div_euclid(1000)).ok());
    time.map_or_else(|| "?".to_owned(), |time| time.to_string())
}

fn expiry(expiry: Expiry) -> String {
    match expiry {
        Expiry::Unknown => "?".to_owned(),
        Expiry::At(ms) => time(Some(ms)),
        Expiry::Never => "never".to_owned(),
    }
}

/// `reject: no-country`, as far as it is known; a code that only repeats the class is left out.
fn cause(class: Option<&str>, code: Option<&str>) -> String {
    let code = code.filter(|code| class != Some(code));
    let parts: Vec<String> = class.into_iter().chain(code).map(printable::line).collect();
    if parts.is_empty() { "?".to_owned() } else { parts.join(": ") }
}

/// The route, and who wrote it if we did not.
fn whose(route: Option<&str>, writer: &str) -> String {
    let route = route.map(printable::line);
    match (route, writer) {
        (route, "pointsman") => route.unwrap_or_default(),
        (Some(route), writer) => format!("{route} ({writer})"),
        (None, writer) => format!("({writer})"),
    }
}
