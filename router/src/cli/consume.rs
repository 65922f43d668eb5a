//! `pointsman consume`: prints the records of a topic.

mod show;
mod start;

use std::io::{self, BufWriter};
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;

use clap::ValueEnum;
use pointsman_core::port::Log;

use self::show::{Enough, Show};
use self::start::StartError;
use super::interrupt::Interrupts;
use super::log::{self, Opened};
use super::progress::{Says, Shown};
use super::{Exit, complain, output_failed};
use crate::lookup::{TopicError, find_topic};
use crate::progress::{Progress, Stand};
use crate::reading::{Ended, Merge, Seen, Whence};
use crate::record_text::Values;

/// Print the records of a topic, as JSON lines that `produce` reads back.
///
/// It belongs to no group, commits nothing, and does not disturb the router. It ends where the topic ended when it was
/// started, unless told to follow. Up to there, records of several partitions come in the order of their timestamps, as far
/// as the order within each partition, which stays, lets them; later ones come as they come in.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The configuration file, for its broker.
    file: PathBuf,
    /// The topic.
    topic: String,
    /// Where to start: earliest, latest, a time (RFC 3339), or, in a single partition, an offset.
    #[arg(long, value_name = "WHERE", default_value = "earliest", allow_hyphen_values = true)]
    from: Whence,
    /// Read this partition only; it may be given again.
    #[arg(long = "partition", value_name = "NUMBER", value_parser = clap::value_parser!(i32).range(0..))]
    partitions: Vec<i32>,
    /// Stop after so many records.
    #[arg(long, value_name = "RECORDS", value_parser = clap::value_parser!(u64).range(1..))]
    max: Option<u64>,
    /// Go on with records that come in later, until Ctrl-C.
    #[arg(long)]
    follow: bool,
    /// What to print of each record.
    #[arg(long, value_enum, default_value_t = Format::Json)]
    format: Format,
    /// Print values that are JSON as JSON and not as strings, where they read back to the same bytes.
    #[arg(long)]
    json_values: bool,
    /// Print only records with this key.
    #[arg(long, value_name = "TEXT")]
    key: Option<String>,
}

/// What is printed of each record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// All of it: one JSON object a line.
    Json,
    /// The value, and the end of a line; nothing for a tombstone.
    Value,
    /// The bytes of the value, and nothing else.
    Raw,
}

pub(crate) fn execute(arguments: &Arguments) -> Exit {
    if arguments.json_values && arguments.format != Format::Json {
        complain("error: --json-values is about --format json; leave one of them out");
        return Exit::Configuration;
    }
    let Opened { log, .. } = match log::open(&arguments.file) {
        Ok(opened) => opened,
        Err(exit) => return exit,
    };
    let mut out = BufWriter::new(io::stdout().lock());
    // Who follows waits for no end.
    let shown = if arguments.follow { Shown::none() } else { Shown::new(Says::Records) };
    let progress = |stand: &Stand<'_>| shown.tell(stand);
    print(arguments, &*log, &mut out, || Interrupts::listen(thread::current()), &progress, &mut complain)
}

/// Prints the records that the arguments ask for. Until it `listen`s, which is when it has them within reach, a signal ends
/// the process.
fn print(
    arguments: &Arguments,
    log: &dyn Log,
    out: &mut dyn io::Write,
    listen: impl FnOnce() -> io::Result<Arc<Interrupts>>,
    progress: Progress<'_>,
    note: &mut dyn FnMut(&str),
) -> Exit {
    let merge = match begin(arguments, log) {
        Ok(merge) => merge,
        Err(error) => {
            complain_to(note, &error);
            return error.exit();
        }
    };
    let interrupts = match listen() {
        Ok(interrupts) => interrupts,
        Err(error) => {
            note(&format!("error: can't listen for signals: {error}"));
            return Exit::NotStarted;
        }
    };
    let values = if arguments.json_values { Values::Json } else { Values::Text };
    let mut show = Show::new(out, arguments.format, values, arguments.key.as_deref(), arguments.max);
    let mut see = |seen: Seen<'_>| match seen {
        Seen::Record(partition, record) => show.record(partition, record),
        Seen::Waiting => show.flush(),
    };
    let what = format!("reading {}", arguments.topic);
    let ended = merge.telling(&what, progress).run(&mut see, &|| interrupts.any(), note);
    // Whatever is still in a buffer.
    let flushed = show.flush();
    if show.tombstones() > 0 {
        note(&format!("{} tombstones are not shown; --format json shows them", show.tombstones()));
    }
    if let ControlFlow::Break(Enough::Output(error)) = flushed {
        return output_failed(&error, note);
    }
    match ended {
        Ended::Done | Ended::Enough(Enough::Done) => Exit::Fine,
        Ended::Stopped if arguments.follow => Exit::Fine,
        Ended::Stopped => Exit::No,
        Ended::Enough(Enough::Output(error)) => output_failed(&error, note),
        Ended::Failed(error) => {
            complain_to(note, &error);
            Exit::Fatal
        }
    }
}

/// It can't be begun.
#[derive(Debug, thiserror::Error)]
enum BeginError {
    #[error(transparent)]
    Topic(#[from] TopicError),
    #[error(transparent)]
    Start(#[from] StartError),
    #[error(transparent)]
    Log(#[from] pointsman_core::port::LogError),
}

impl BeginError {
    fn exit(&self) -> Exit {
        match self {
            Self::Topic(error) => error.exit(),
            Self::Start(error) => error.exit(),
            Self::Log(_) => Exit::NotStarted,
        }
    }
}

fn begin<'a>(arguments: &Arguments, log: &'a dyn Log) -> Result<Merge<'a>, BeginError> {
    let topic = find_topic(log, &arguments.topic, "")?;
    let spans = start::spans(log, &topic, &arguments.partitions, arguments.from)?;
    Ok(Merge::begin(log, spans, arguments.follow)?)
}

fn complain_to(note: &mut dyn FnMut(&str), error: &dyn std::error::Error) {
    note(&format!("error: {error}"));
}

#[cfg(test)]
mod tests;
