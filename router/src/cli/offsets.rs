//! `pointsman offsets`: where the groups of routes are.

use std::path::PathBuf;

use clap::ValueEnum;
use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, Table};
use pointsman_config::Plan;
use pointsman_core::port::{Log, LogError};
use serde::Serialize;
use thiserror::Error;

use super::interrupt::Interrupts;
use super::log::{self, Opened};
use super::progress::{Says, Shown};
use super::{Exit, complain, printable, say};
use crate::lookup::{NoRoute, find_route};
use crate::offsets::{self, Move, Parked, Reset, ResetError, Wish};
use crate::progress::Progress;
use crate::reading::Whence;

/// Move routes that are stopped.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    Reset(Arguments),
}

/// Have a route that is stopped go on from other offsets of its sources.
///
/// All routers of its group must be stopped. Routes of one group stay where they are, but for the one that is named. While
/// records of the route are parked for a retry it is refused, unless --parked says what is to become of them.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The configuration file.
    file: PathBuf,
    /// The route.
    #[arg(long, value_name = "NAME")]
    route: String,
    /// Where to: earliest, latest, a time (RFC 3339), or, for a single partition, an offset.
    #[arg(long, value_name = "WHERE", allow_hyphen_values = true)]
    to: Whence,
    /// Move this source topic of the route only.
    #[arg(long, value_name = "NAME")]
    topic: Option<String>,
    /// Move this partition only; it may be given again.
    #[arg(long = "partition", value_name = "NUMBER", value_parser = clap::value_parser!(i32).range(0..))]
    partitions: Vec<i32>,
    /// What becomes of records that are parked.
    #[arg(long, value_enum)]
    parked: Option<ParkedArgument>,
    /// Say what would be done, and do nothing.
    #[arg(long)]
    dry_run: bool,
    /// Print it as one JSON object.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum ParkedArgument {
    /// They are run when they are due.
    Keep,
    /// They are passed over.
    Discard,
}

impl From<ParkedArgument> for Parked {
    fn from(argument: ParkedArgument) -> Self {
        match argument {
            ParkedArgument::Keep => Self::Keep,
            ParkedArgument::Discard => Self::Discard,
        }
    }
}

pub(crate) fn execute(Command::Reset(arguments): &Command) -> Exit {
    let Opened { log, plan, .. } = match log::open(&arguments.file) {
        Ok(opened) => opened,
        Err(exit) => return exit,
    };
    let interrupts = match Interrupts::listen_here() {
        Ok(interrupts) => interrupts,
        Err(exit) => return exit,
    };
    let shown = Shown::new(if arguments.json { Says::Json } else { Says::Nothing });
    let done = reset(arguments, &plan, &*log, &|| interrupts.any(), &|stand| shown.tell(stand));
    drop(shown);
    match done {
        Ok(answer) => {
            say(&answer);
            Exit::Fine
        }
        Err(failed) => {
            complain(&format!("error: {failed}"));
            failed.exit()
        }
    }
}

/// It was not done.
#[derive(Debug, Error)]
enum Failed {
    #[error(transparent)]
    NoRoute(#[from] NoRoute),
    #[error("{error}{}", .error.option())]
    Reset {
        #[from]
        error: ResetError,
    },
    #[error("nothing was changed: {0}")]
    Apply(LogError),
    #[error("can't write the answer as JSON: {0}")]
    Json(#[from] serde_json::Error),
}

impl ResetError {
    /// Which option answers it.
    fn option(&self) -> &'static str {
        match self {
            Self::Parked { .. } => " (--parked keep, --parked discard)",
            Self::Ambiguous => " (--topic, --partition)",
            _ => "",
        }
    }
}

impl Failed {
    fn exit(&self) -> Exit {
        match self {
            Self::NoRoute(_) => Exit::Configuration,
            Self::Json(_) => Exit::Fatal,
            Self::Apply(_) => Exit::No,
            Self::Reset { error } => match error {
                ResetError::NoSource { .. } | ResetError::Ambiguous => Exit::Configuration,
                ResetError::Log(_) => Exit::NotStarted,
                ResetError::Read(_) => Exit::Fatal,
                ResetError::NoTopic(_)
                | ResetError::NoPartition { .. }
                | ResetError::NoSuchOffset(_)
                | ResetError::Parked { .. }
                | ResetError::Stopped => Exit::No,
            },
        }
    }
}

#[derive(Serialize)]
struct Answer<'a> {
    #[serde(flatten)]
    reset: &'a Reset,
    /// Whether it was done.
    applied: bool,
}

fn reset(
    arguments: &Arguments,
    plan: &Plan,
    log: &dyn Log,
    stop: &dyn Fn() -> bool,
    progress: Progress<'_>,
) -> Result<String, Failed> {
    let route = find_route(plan, &arguments.route)?;
    let wish = Wish {
        topic: arguments.topic.clone(),
        partitions: arguments.partitions.clone(),
        to: arguments.to,
        parked: arguments.parked.map(Into::into),
    };
    let reset = offsets::plan(log, plan, route, &wish, stop, progress, &mut complain)?;
    if !arguments.dry_run {
        offsets::apply(log, &reset).map_err(Failed::Apply)?;
    }
    if arguments.json {
        let answer = Answer { reset: &reset, applied: !arguments.dry_run };
        return Ok(printable::json(&serde_json::to_string_pretty(&answer)?));
    }
    let done = if arguments.dry_run { "nothing was changed" } else { "moved" };
    let parked: u64 = reset.moves.iter().map(|moved| moved.parked).sum();
    let parked = match (parked, wish.parked) {
        (0, _) | (_, None) => String::new(),
        (records, Some(Parked::Keep)) => format!("; {records} parked records stay, and run when they are due"),
        (records, Some(Parked::Discard)) if arguments.dry_run => {
            format!("; {records} parked records would be passed over")
        }
        (records, Some(Parked::Discard)) => format!("; {records} parked records are passed over"),
    };
    Ok(format!("{}\ngroup {}: {done}{parked}", rows(&reset.moves), reset.group))
}

fn rows(moves: &[Move]) -> String {
    let mut table = Table::new();
    table.force_no_tty().load_style(NOTHING);
    table.set_header(["partition", "from", "to", "records", "first", "end", "parked"]);
    for Move { topic, partition, from, to, first, end, parked, .. } in moves {
        let change = match from {
            // Forwards they are passed over, backwards they come again.
            Some(from) if to >= from => format!("{} passed over", to - from),
            Some(from) => format!("{} again", from - to),
            None => "?".to_owned(),
        };
        let from = from.map_or_else(|| "none".to_owned(), |from| from.to_string());
        table.add_row([
            format!("{topic}/{partition}"),
            from,
            to.to_string(),
            change,
            first.to_string(),
            end.to_string(),
            parked.to_string(),
        ]);
    }
    for (index, column) in table.column_iter_mut().enumerate() {
        column.set_padding((0, 2));
        column.set_cell_alignment(if index == 0 { CellAlignment::Left } else { CellAlignment::Right });
    }
    table.trim_fmt()
}

#[cfg(test)]
mod tests;
