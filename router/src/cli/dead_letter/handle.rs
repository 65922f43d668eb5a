//! `pointsman dead-letter replay` and `discard`: deals with what failed.

use std::io;
use std::num::{NonZeroU32, NonZeroU64};
use std::str::FromStr;

use comfy_table::{CellAlignment, Row, Table};
use serde::Serialize;
use thiserror::Error;

use super::choice::Chosen;
use super::{Desk, Failed, table};
use crate::cli::printable;
use crate::dead_letter::{
    Edit, Handling, HandlingLine, Left, Order, Outcome, PartitionRule, Replay, Report, ReportLine, Signature, Target,
    Timestamp, Verb, counted, handle,
};

/// Send the records that became dead letters on their way once more, each once, however often this is interrupted and run
/// again.
///
/// They go as they were: key, value, headers and timestamp, with one header behind their own that counts the replays. What was
/// done stands in the audit topic beside the dead letters, and `ls` does not list it any more. Letters of one key keep their
/// order.
#[derive(Debug, clap::Args)]
pub(crate) struct ReplayArguments {
    #[command(flatten)]
    pub(super) choice: Chosen,
    /// Where to: the topic that the record came from, which all see who read it; or the retry topic of its route, which nobody
    /// else sees, and where its attempts start anew.
    #[arg(long, value_enum, default_value = "source", help_heading = "What becomes of them")]
    to: To,
    /// Where to: this topic.
    #[arg(long, value_name = "NAME", conflicts_with = "to", help_heading = "What becomes of them")]
    to_topic: Option<String>,
    /// The partition: that of the origin, or the one that Java clients choose for the key. To the retry topic, always that of
    /// the origin.
    #[arg(long, value_enum, default_value = "origin", help_heading = "What becomes of them")]
    partition: Partition,
    /// The timestamp: the record's own, or the time of writing.
    #[arg(long, value_enum, default_value = "original", help_heading = "What becomes of them")]
    timestamp: Time,
    /// Mend them before: `header NAME=VALUE`, `unset NAME`, or a JSON merge patch on the value, such as {"country":"DE"}. It may
    /// be given again.
    #[arg(long = "edit", value_name = "EDIT", help_heading = "What becomes of them")]
    edits: Vec<Edit>,
    /// Letters that were replayed so often already go to the parking topic instead.
    #[arg(long, value_name = "TIMES", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..), help_heading = "What becomes of them")]
    max_replays: u32,
    #[command(flatten)]
    pub(super) how: How,
}

/// Strike dead letters off: `ls` does not list them any more, and nothing else becomes of them.
#[derive(Debug, clap::Args)]
pub(crate) struct DiscardArguments {
    #[command(flatten)]
    pub(super) choice: Chosen,
    #[command(flatten)]
    pub(super) how: How,
}

/// How it is done.
#[derive(Debug, clap::Args)]
pub(super) struct How {
    /// Say what would be done, and do nothing.
    #[arg(long)]
    dry_run: bool,
    /// All letters, where no filter narrows them down.
    #[arg(long)]
    all: bool,
    /// Most letters a second.
    #[arg(long, value_name = "N/s")]
    rate: Option<Rate>,
    /// Most letters in all.
    #[arg(long, value_name = "LETTERS")]
    max: Option<NonZeroU64>,
    /// Who does it, for the audit topic; by default, the user's name.
    #[arg(long, value_name = "NAME", env = "USER", hide_env_values = true, default_value = "unknown")]
    by: String,
    /// In a dry run, show no more than so many letters.
    #[arg(long, value_name = "LETTERS", default_value_t = 50, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    limit: u64,
    /// Print a JSON object for each letter, a line each, and one that sums them up.
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum To {
    Source,
    Retry,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Partition {
    Origin,
    Key,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Time {
    Original,
    Now,
}

/// So many a second.
#[derive(Clone, Copy, Debug)]
struct Rate(NonZeroU32);

/// A text that says no rate.
#[derive(Clone, Copy, Debug, Error)]
#[error("it is no rate; write a number of letters for each second, such as 100/s")]
struct NoRate;

impl FromStr for Rate {
    type Err = NoRate;

    fn from_str(text: &str) -> Result<Self, NoRate> {
        text.strip_suffix("/s").unwrap_or(text).parse().map(Self).map_err(|_| NoRate)
    }
}

pub(super) fn replay(
    arguments: &ReplayArguments,
    desk: &Desk<'_>,
    out: &mut dyn io::Write,
    note: &mut dyn FnMut(&str),
) -> Result<(), Failed> {
    let replay = Replay {
        to: match (&arguments.to_topic, arguments.to) {
            (Some(topic), _) => Target::Topic(topic.as_str().into()),
            (None, To::Source) => Target::Source,
            (None, To::Retry) => Target::Retry,
        },
        partition: match arguments.partition {
            Partition::Origin => PartitionRule::Origin,
            Partition::Key => PartitionRule::Key,
        },
        timestamp: match arguments.timestamp {
            Time::Original => Timestamp::Original,
            Time::Now => Timestamp::Now,
        },
        edits: arguments.edits.clone(),
        max_replays: arguments.max_replays,
    };
    print(Verb::Replay(replay), &arguments.choice, &arguments.how, desk, out, note)
}

pub(super) fn discard(
    arguments: &DiscardArguments,
    desk: &Desk<'_>,
    out: &mut dyn io::Write,
    note: &mut dyn FnMut(&str),
) -> Result<(), Failed> {
    print(Verb::Discard, &arguments.choice, &arguments.how, desk, out, note)
}

fn print(
    verb: Verb,
    choice: &Chosen,
    how: &How,
    desk: &Desk<'_>,
    out: &mut dyn io::Write,
    note: &mut dyn FnMut(&str),
) -> Result<(), Failed> {
    if !how.all && !choice.letters.is_narrow() {
        return Err(Failed::NoFilter);
    }
    let (topics, selection) = choice.find(desk, note)?;
    let order = Order {
        rate: how.rate.map(|Rate(rate)| rate),
        max: how.max,
        dry_run: how.dry_run,
        ..Order::new(verb, Signature::of(&how.by))
    };
    let site = desk.site();
    let mut screen = Screen { how, out, shown: Vec::new(), seen: 0, failed: None };
    let mut report = Report::default();
    let ended = handle(&site, &topics, &selection, &order, &mut report, &mut |handling| screen.see(handling), note);
    screen.end(&report, desk)?;
    ended?;
    // That it may be meant is said, as `ls` says it.
    let is_undone = report.failed.is_some() || report.left_alone.keys().any(|reason| *reason != "unsure");
    if is_undone { Err(Failed::Undone) } else { Ok(()) }
}

/// What is shown of it.
struct Screen<'a> {
    how: &'a How,
    out: &'a mut dyn io::Write,
    /// The first letters of a dry run.
    shown: Vec<Handling>,
    seen: u64,
    /// Why no more can be printed. It does not end the run.
    failed: Option<io::Error>,
}

impl Screen<'_> {
    fn see(&mut self, handling: &Handling) {
        self.seen += 1;
        if self.how.json {
            let line = HandlingLine::new(handling).and_then(|line| serde_json::to_string(&line));
            let written =
                line.map_err(io::Error::from).and_then(|line| writeln!(self.out, "{}", printable::json(&line)));
            if let Err(error) = written {
                self.failed.get_or_insert(error);
            }
        } else if self.how.dry_run && (self.shown.len() as u64) < self.how.limit {
            self.shown.push(handling.clone());
        }
    }

    fn end(self, report: &Report, desk: &Desk<'_>) -> Result<(), Failed> {
        let Self { how, out, shown, seen, failed, .. } = self;
        if let Some(error) = failed {
            return Err(error.into());
        }
        if how.json {
            let summary = serde_json::to_string(&Last { summary: ReportLine::new(report, how.dry_run) })?;
            return Ok(writeln!(out, "{}", printable::json(&summary))?);
        }
        if !shown.is_empty() {
            writeln!(out, "{}", rows(&shown, desk).trim_fmt())?;
            if seen > shown.len() as u64 {
                writeln!(
                    out,
                    "the first {} of {}; --limit shows more, and --json all",
                    shown.len(),
                    counted(seen, "letter")
                )?;
            }
            writeln!(out)?;
        }
        writeln!(out, "{}", sums(report, how, desk).trim_fmt())?;
        Ok(())
    }
}

#[derive(Serialize)]
struct Last {
    summary: ReportLine,
}

/// A line for each letter.
fn rows(shown: &[Handling], desk: &Desk<'_>) -> Table {
    let mut table = table(["letter", "becomes", "key", "value", "why"], &[0, 1], desk);
    for Handling { letter, outcome } in shown {
        let to = |record: &crate::record_text::RecordLine| {
            let partition = record.partition.map(|number| format!("/{number}")).unwrap_or_default();
            format!("{}{partition}", record.topic.as_deref().unwrap_or_default())
        };
        let (becomes, record, why) = match outcome {
            Outcome::Replayed(record) => (format!("to {}", to(record)), Some(record), String::new()),
            Outcome::Parked(record) => (format!("to {}", to(record)), Some(record), "replayed too often".to_owned()),
            Outcome::Discarded => ("discarded".to_owned(), None, String::new()),
            Outcome::LeftAlone(why) => ("left alone".to_owned(), None, printable::line(&why.to_string())),
            Outcome::Failed(why) => ("failed".to_owned(), None, printable::line(why)),
        };
        let bytes = |bytes: &Option<Vec<u8>>| printable::bytes(bytes.as_deref());
        let (key, value) = record.map(|record| (bytes(&record.key), bytes(&record.value))).unwrap_or_default();
        let short = |text: String| {
            if text.chars().count() > 60 { text.chars().take(59).chain(['…']).collect() } else { text }
        };
        let mut row = Row::from([letter.to_string(), becomes, short(key), short(value), why]);
        row.max_height(1);
        table.add_row(row);
    }
    table
}

/// How many there were of each outcome.
fn sums(report: &Report, how: &How, desk: &Desk<'_>) -> Table {
    let heading = if how.dry_run { "would be" } else { "were" };
    let mut table = table([heading, "letters", "the first"], &[0, 1], desk);
    let mut add = |name: &str, count: u64, first: Option<&Left>| {
        let first = first.map(|left| format!("{}: {}", left.first, printable::line(&left.why)));
        table.add_row(Row::from([name.to_owned(), count.to_string(), first.unwrap_or_default()]));
    };
    for (name, count) in [
        ("replayed", report.replayed),
        ("parked", report.parked),
        ("discarded", report.discarded),
        ("handled meanwhile by another run", report.handled_meanwhile),
        ("handled before", report.handled_before),
    ] {
        if count > 0 {
            add(name, count, None);
        }
    }
    for (reason, left) in &report.left_alone {
        add(&format!("left alone: {reason}"), left.count, Some(left));
    }
    if let Some(left) = &report.failed {
        add("failed", left.count, Some(left));
    }
    add("read", report.read, None);
    if let Some(counts) = table.column_mut(1) {
        counts.set_cell_alignment(CellAlignment::Right);
    }
    table
}
