//! `pointsman lanes`: asks a running router for its lanes, and tells them what to do.

use clap::Args;
use comfy_table::{CellAlignment, Table};
use serde::Serialize;
use thiserror::Error;

use super::door::{DoorArguments, DoorFailed};
use super::table::{table, width};
use super::{Exit, complain, printable, say};
use crate::admin::{Client, ClientError, Listing};
use crate::lanes::{Done, LaneName, LaneReport, Selection, Unclear, Verb, lane_to_skip};
use crate::lookup::{NoRoute, find_route};

/// Look at the lanes of a running router, pause them, have them go on, and skip the record that one has halted at.
///
/// Without a verb, lists them. The router must have a door (`[admin] listen` in its configuration). Each router of a group knows
/// the lanes of its own partitions only.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    ls: LsArguments,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    Ls(LsArguments),
    Pause(PauseArguments),
    Resume(ResumeArguments),
    Skip(SkipArguments),
}

/// List the lanes: what each is at, why, and how far it has come.
#[derive(Debug, Args)]
struct LsArguments {
    #[command(flatten)]
    door: DoorArguments,
    /// Those of this route only.
    #[arg(long, value_name = "NAME")]
    route: Option<String>,
    #[command(flatten)]
    part: PartArguments,
    /// Print them as one JSON object.
    #[arg(long)]
    json: bool,
}

/// Have lanes judge nothing more, until they are resumed.
///
/// What is judged already is delivered and committed. A paused lane stays in its group and keeps its place, and the records that
/// come in wait in the log. A pause is not remembered over a restart of the router, nor where the partition is assigned anew.
#[derive(Debug, Args)]
struct PauseArguments {
    #[command(flatten)]
    lanes: LaneArguments,
}

/// Have lanes go on.
///
/// A lane that is paused by hand goes on; one that waits for trouble to end tries again at once; one that its breaker has paused
/// tries one record at once, and goes on if that succeeds; one that has halted at a record runs that record again.
#[derive(Debug, Args)]
struct ResumeArguments {
    #[command(flatten)]
    lanes: LaneArguments,
}

/// Have the record dead-lettered that a lane has halted at, and the lane go on behind it.
///
/// Nothing else is lost or changes its order. Where several lanes have halted, one has to be named.
#[derive(Debug, Args)]
struct SkipArguments {
    #[command(flatten)]
    lanes: LaneArguments,
    /// Where the record can't be dead-lettered, drop it: it is lost then.
    #[arg(long)]
    drop: bool,
}

#[derive(Debug, Args)]
struct PartArguments {
    /// Those of this source topic only.
    #[arg(long, value_name = "NAME")]
    topic: Option<String>,
    /// Those of this partition only.
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(i32).range(0..))]
    partition: Option<i32>,
}

#[derive(Debug, Args)]
struct LaneArguments {
    #[command(flatten)]
    door: DoorArguments,
    /// The lanes of this route.
    #[arg(long, value_name = "NAME")]
    route: String,
    #[command(flatten)]
    part: PartArguments,
    /// Print what is done as one JSON object.
    #[arg(long)]
    json: bool,
}

/// There is no answer, or it is no.
#[derive(Debug, Error)]
enum Failed {
    #[error(transparent)]
    Door(#[from] DoorFailed),
    #[error(transparent)]
    NoRoute(#[from] NoRoute),
    #[error("this router has no such lane; it has {}. Other partitions are those of other routers of the group", .has)]
    NoLane { has: String },
    #[error("{0} (--topic, --partition)")]
    Unclear(#[from] Unclear),
    #[error("can't write the answer as JSON: {0}")]
    Json(#[from] serde_json::Error),
}

impl Failed {
    fn exit(&self) -> Exit {
        match self {
            Self::Door(failed) => failed.exit(),
            Self::NoRoute(_) => Exit::Configuration,
            Self::NoLane { .. } | Self::Unclear(_) => Exit::No,
            Self::Json(_) => Exit::Fatal,
        }
    }
}

pub(crate) fn execute(Arguments { command, ls }: &Arguments) -> Exit {
    let done = match command {
        None => list(ls),
        Some(Command::Ls(arguments)) => list(arguments),
        Some(Command::Pause(PauseArguments { lanes })) => tell(lanes, Verb::Pause),
        Some(Command::Resume(ResumeArguments { lanes })) => tell(lanes, Verb::Resume),
        Some(Command::Skip(SkipArguments { lanes, drop })) => tell(lanes, Verb::Skip { drop: *drop }),
    };
    match done {
        Ok(exit) => exit,
        Err(Failed::Door(failed)) => failed.told(),
        Err(failed) => {
            complain(&format!("error: {failed}"));
            failed.exit()
        }
    }
}

/// The door, and what of its lanes is meant.
fn find(door: &DoorArguments, route: Option<&str>, part: &PartArguments) -> Result<(Client, Selection), Failed> {
    let selection = Selection { route: route.map(str::to_owned), topic: part.topic.clone(), partition: part.partition };
    let (client, plan) = door.open()?;
    if let (Some(plan), Some(route)) = (&plan, route) {
        find_route(plan, route)?;
    }
    Ok((client, selection))
}

fn list(LsArguments { door, route, part, json }: &LsArguments) -> Result<Exit, Failed> {
    let (client, selection) = find(door, route.as_deref(), part)?;
    let mut lanes = client.lanes().map_err(DoorFailed::from)?;
    lanes.retain(|report| selection.picks(&report.lane));
    if *json {
        say(&printable::json(&serde_json::to_string_pretty(&Listing { lanes })?));
    } else if lanes.is_empty() {
        say("no lanes: this router has no such partition now");
    } else {
        say(&rows(&lanes, width()).trim_fmt());
    }
    Ok(Exit::Fine)
}

/// What came of telling lanes.
#[derive(Serialize)]
struct Answer<'a> {
    /// Those that were told, in the order of the router.
    lanes: Vec<Told<'a>>,
}

/// What came of telling one lane.
#[derive(Serialize)]
struct Told<'a> {
    #[serde(flatten)]
    lane: &'a LaneName,
    /// What the lane does now; left out where it has refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    done: Option<Done>,
    /// Why it does not, as a sentence; left out where it does.
    #[serde(skip_serializing_if = "Option::is_none")]
    refused: Option<String>,
}

fn tell(LaneArguments { door, route, part, json }: &LaneArguments, verb: Verb) -> Result<Exit, Failed> {
    let (client, selection) = find(door, Some(route), part)?;
    let all = client.lanes().map_err(DoorFailed::from)?;
    let (picked, others): (Vec<LaneReport>, Vec<LaneReport>) =
        all.into_iter().partition(|report| selection.picks(&report.lane));
    if picked.is_empty() {
        let has: Vec<String> = others.iter().take(10).map(|report| printable::line(&report.lane.to_string())).collect();
        return Err(Failed::NoLane { has: if has.is_empty() { "none".to_owned() } else { has.join(", ") } });
    }
    let lanes: Vec<&LaneName> = match verb {
        Verb::Skip { .. } => vec![lane_to_skip(&picked)?],
        Verb::Pause | Verb::Resume => picked.iter().map(|report| &report.lane).collect(),
    };
    let (mut told, mut exit) = (Vec::new(), Exit::Fine);
    for lane in lanes {
        match client.tell(lane, verb) {
            Ok(done) => told.push(Told { lane, done: Some(done), refused: None }),
            Err(ClientError::Refused(complaint)) => {
                exit = Exit::No;
                told.push(Told { lane, done: None, refused: Some(complaint.message) });
            }
            Err(error) => return Err(DoorFailed::from(error).into()),
        }
    }
    if *json {
        say(&printable::json(&serde_json::to_string_pretty(&Answer { lanes: told })?));
        return Ok(exit);
    }
    for Told { lane, done, refused } in &told {
        if let Some(done) = done {
            say(&format!("{}: {done}", printable::line(&lane.to_string())));
        }
        if let Some(refused) = refused {
            complain(&format!("error: {}", printable::line(refused)));
        }
    }
    Ok(exit)
}

fn rows(lanes: &[LaneReport], width: Option<u16>) -> Table {
    let header = ["route", "partition", "state", "watermark", "next", "in flight", "parked", "why"];
    let mut table = table(header, &[1, 3, 4, 5, 6], width);
    for LaneReport { lane, state, reason, since, stands_at, position } in lanes {
        let at = stands_at.as_ref().map(|at| format!("at {at}"));
        let since = since.as_ref().map(|since| format!("since {since}"));
        let why: Vec<String> = [since, at, reason.clone()].into_iter().flatten().collect();
        let number = |number: Option<String>| number.unwrap_or_else(|| "?".to_owned());
        let retry = position.as_ref().map(|position| position.retry.as_ref());
        let parked = match retry {
            Some(None) => String::new(),
            known => number(known.flatten().map(|retry| retry.parked.to_string())),
        };
        table.add_row([
            printable::line(&lane.route),
            format!("{}/{}", printable::line(&lane.topic), lane.partition),
            state.to_string(),
            number(position.as_ref().map(|position| position.watermark.to_string())),
            number(position.as_ref().map(|position| position.next_offset.to_string())),
            number(position.as_ref().map(|position| position.in_flight.to_string())),
            parked,
            printable::line(&why.join(", ")),
        ]);
    }
    for index in 3..=6 {
        if let Some(column) = table.column_mut(index) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

#[cfg(test)]
mod tests;
