//! `pointsman produce`: writes records to a topic.

mod input;
mod lines;
mod together;
mod writing;

use std::fs::File;
use std::io::{self, BufRead, BufReader, IsTerminal as _};
use std::path::PathBuf;
use std::sync::Arc;

use pointsman_config::plan::DeliveryPlan;
use pointsman_core::port::{Log, NewTopic};
use pointsman_core::record::OwnedHeader;
use serde::Serialize;

use self::input::{Input, InputError, Numbered, Overrides, Shape};
use self::together::write_together;
use self::writing::{How, Written, write_all};
use super::interrupt::Interrupts;
use super::log::{self, Opened};
use super::progress::{Says, Shown};
use super::{Exit, complain, complain_of, printable, say};
use crate::lookup::{TopicError, find_topic};
use crate::progress::Stand;
use crate::record_text::{LineError, RecordLine, parse_time};

/// Write records to a topic: JSON lines from standard input, unless told otherwise.
///
/// A line is {"key": …, "value": …} and, where wanted, "headers", "timestamp" and "partition": what `consume` prints. It
/// returns when the log has acknowledged every record. The first line that is no record ends it, with exit code 2, and what
/// was written before it stays written.
///
/// With --transaction, who reads committed records sees all of them, or none: also where a line is no record, and after
/// Ctrl-C. Records that are too many for one transaction (16 MiB of them on the embedded log, 32 MiB on Kafka, with 128 bytes for each on top) are written in
/// several, and it is said in how many.
///
/// Ctrl-C stops reading, and waits for what was read; a second one stops waiting.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The configuration file, for its broker.
    file: PathBuf,
    /// The topic.
    topic: String,
    /// Read this file instead of standard input.
    #[arg(long, value_name = "FILE")]
    input: Option<PathBuf>,
    /// Each line is a value, byte for byte.
    #[arg(long, conflicts_with = "whole")]
    raw: bool,
    /// With --raw: the key stands before the first of these in each line.
    #[arg(long, value_name = "TEXT", requires = "raw", conflicts_with = "key", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    key_separator: Option<String>,
    /// All of the input is one value.
    #[arg(long)]
    whole: bool,
    /// Write one tombstone for the key, and read nothing.
    #[arg(long, requires = "key", conflicts_with_all = ["input", "raw", "whole"])]
    tombstone: bool,
    /// Key of every record, whatever its line says.
    #[arg(long, value_name = "TEXT")]
    key: Option<String>,
    /// A further header of every record; it may be given again.
    #[arg(long = "header", value_name = "NAME=VALUE", value_parser = header)]
    headers: Vec<OwnedHeader>,
    /// Timestamp of every record, whatever its line says: milliseconds, or RFC 3339.
    #[arg(long, value_name = "TIME", value_parser = parse_time, allow_hyphen_values = true)]
    timestamp: Option<i64>,
    /// Partition of every record, whatever its line says.
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(i32).range(0..))]
    partition: Option<i32>,
    /// Choose partitions by the key, whatever the lines say.
    #[arg(long, conflicts_with = "partition")]
    by_key: bool,
    /// Go on behind a line that is no record.
    #[arg(long)]
    skip_bad: bool,
    /// Write in a transaction; so it is, too, where the configuration has `delivery = "exactly-once"`.
    #[arg(long, conflicts_with = "no_transaction")]
    transaction: bool,
    /// Write record by record, whatever the configuration has.
    #[arg(long)]
    no_transaction: bool,
    /// Create the topic with this many partitions, if it is not there.
    #[arg(long, value_name = "PARTITIONS", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    create: Option<u32>,
    /// Print what was written as one JSON object, on one line.
    #[arg(long)]
    json: bool,
}

pub(crate) fn execute(arguments: &Arguments) -> Exit {
    let Opened { log, plan, max_record_bytes } = match log::open(&arguments.file) {
        Ok(opened) => opened,
        Err(exit) => return exit,
    };
    let source = match open_input(arguments) {
        Ok(source) => source,
        Err(exit) => return exit,
    };
    let partitions = match see_to_topic(&*log, &arguments.topic, arguments.create) {
        Ok(partitions) => partitions,
        Err(error) => {
            complain_of(&error);
            return error.exit();
        }
    };
    let interrupts = match Interrupts::listen_here() {
        Ok(interrupts) => interrupts,
        Err(exit) => return exit,
    };
    let topic = arguments.topic.clone();
    let records = records(arguments, source, max_record_bytes)
        .map(move |record| record.and_then(|numbered| numbered.within(&topic, partitions)));
    let is_due = matches!(plan.router.delivery, DeliveryPlan::ExactlyOnce(_)) && !arguments.no_transaction;
    let shown = shown(arguments);
    let what = format!("writing to {}", arguments.topic);
    let progress = |stand: &Stand<'_>| shown.tell(stand);
    let how = How { skip_bad: arguments.skip_bad, what: &what, interrupts: &interrupts, progress: &progress };
    let written = if arguments.transaction || is_due {
        // One of those that a router of this name may use.
        let id = format!("{}.produce.{:032x}", plan.router.name, fastrand::u128(..)).into();
        write_together(&*log, &arguments.topic, id, records, how, &mut complain)
    } else {
        write_all(&*log, &arguments.topic, records, how, &mut complain)
    };
    drop(shown);
    match written {
        Ok(written) => report(arguments, &written, interrupts.any()),
        Err(error) => {
            complain_of(&error);
            Exit::NotStarted
        }
    }
}

/// There is no progress where somebody types the records.
fn shown(arguments: &Arguments) -> Shown {
    match (arguments.json, arguments.input.is_none() && io::stdin().is_terminal()) {
        (true, _) => Shown::new(Says::Json),
        (false, true) => Shown::none(),
        (false, false) => Shown::new(Says::Nothing),
    }
}

fn open_input(arguments: &Arguments) -> Result<Box<dyn BufRead + Send>, Exit> {
    let Some(path) = &arguments.input else { return Ok(Box::new(BufReader::new(io::stdin()))) };
    // A folder can be opened, and not be read.
    let opened = File::open(path)
        .and_then(|file| if file.metadata()?.is_dir() { Err(io::ErrorKind::IsADirectory.into()) } else { Ok(file) });
    match opened {
        Ok(file) => Ok(Box::new(BufReader::new(file))),
        Err(error) => {
            complain(&format!("error: can't read the input {}: {error}", path.display()));
            Err(Exit::Configuration)
        }
    }
}

/// Looks the topic up, or makes it; the answer is how many partitions it has.
fn see_to_topic(log: &dyn Log, name: &str, create: Option<u32>) -> Result<u32, TopicError> {
    match (find_topic(log, name, ", or create it with `--create PARTITIONS`"), create) {
        (Err(TopicError::Missing { .. }), Some(partitions)) => {
            log.create_topics(&[NewTopic { name: Arc::from(name), partitions, retention: None }])?;
            Ok(partitions)
        }
        (found, _) => found.map(|topic| topic.partitions),
    }
}

/// The records to be written, as the arguments say.
fn records(
    arguments: &Arguments,
    source: Box<dyn BufRead + Send>,
    max_record_bytes: usize,
) -> Box<dyn Iterator<Item = Result<Numbered, InputError>> + Send> {
    let overrides = Overrides {
        key: arguments.key.clone(),
        headers: arguments.headers.clone(),
        timestamp_ms: arguments.timestamp,
        partition: arguments.partition,
        by_key: arguments.by_key,
    };
    if arguments.tombstone {
        let record = overrides.apply(RecordLine::default());
        return Box::new(std::iter::once(Ok(Numbered { line: 1, record })));
    }
    let shape = match (arguments.raw, arguments.whole) {
        (true, _) => Shape::Raw { key_separator: arguments.key_separator.clone() },
        (_, true) => Shape::Whole,
        _ => Shape::JsonLines,
    };
    Box::new(Input::new(source, shape, overrides, max_record_bytes))
}

/// What was written.
#[derive(Serialize)]
struct Answer<'a> {
    /// Where to.
    topic: &'a str,
    /// Records that the log has acknowledged.
    written: u64,
    /// Lines that were no records, with --skip-bad.
    skipped: u64,
    /// Records that may or may not be written.
    unacknowledged: u64,
    /// Transactions that they were written in; null where there was none.
    transactions: Option<u64>,
    /// Why not all of the input was written.
    error: Option<String>,
}

/// Says what was written, and what was not.
fn report(arguments: &Arguments, written: &Written, interrupted: bool) -> Exit {
    let Written { written: count, skipped, unacknowledged, transactions, failed } = written;
    if let Some(failed) = failed {
        complain_of(failed);
    }
    if arguments.json {
        let error = failed.as_ref().map(ToString::to_string);
        let answer = Answer {
            topic: &arguments.topic,
            written: *count,
            skipped: *skipped,
            unacknowledged: *unacknowledged,
            transactions: *transactions,
            error,
        };
        match serde_json::to_string(&answer) {
            Ok(line) => say(&printable::json(&line)),
            Err(error) => {
                complain(&format!("error: can't write the answer as JSON: {error}"));
                return Exit::Fatal;
            }
        }
    } else {
        let noun = if *count == 1 { "record" } else { "records" };
        let mut text = format!("{count} {noun} written to {}", arguments.topic);
        if let Some(transactions) = transactions {
            let noun = if *transactions == 1 { "transaction" } else { "transactions" };
            text.push_str(&format!(", in {transactions} {noun}"));
        }
        if *skipped > 0 {
            text.push_str(&format!(", {skipped} bad lines skipped"));
        }
        if *unacknowledged > 0 {
            text.push_str(&format!(", {unacknowledged} that may or may not be"));
        }
        say(&text);
    }
    match failed {
        Some(failed) => failed.exit(),
        // Not everything that there was to write is written.
        None if interrupted => Exit::No,
        None => Exit::Fine,
    }
}

/// `name=value`.
fn header(text: &str) -> Result<OwnedHeader, LineError> {
    let Some((name, value)) = text.split_once('=') else {
        return Err(LineError {
            field: None,
            cause: "it has no `=`".into(),
            remedy: "write name=value, with nothing behind the `=` for an empty value".into(),
        });
    };
    Ok(OwnedHeader::text(name, value))
}

#[cfg(test)]
mod tests;
