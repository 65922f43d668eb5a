//! `dead-letter release`.

use std::io;
use std::path::PathBuf;

use comfy_table::{CellAlignment, Row, Table};
use pointsman_config::plan::RoutePlan;
use serde::Serialize;

use super::{Desk, Failed, cause, say_json, table, time};
use crate::cli::printable;
use crate::dead_letter::{HeldKey, Signature, counted, held_keys, release};
use crate::lookup::find_route;

/// Release keys that a dead letter holds (`on_dead = "park-key"`): their later records are run again.
///
/// Those that became dead letters meanwhile stay. To mend a key without anything overtaking: replay all its letters with
/// `replay --to retry`, where they wait; look with `ls` that none is left; and release the key then.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The configuration file.
    pub(super) file: PathBuf,
    /// On this route only.
    #[arg(long, value_name = "NAME")]
    route: Option<String>,
    /// This key; it may be given again.
    #[arg(long = "key", value_name = "TEXT")]
    keys: Vec<String>,
    /// All keys that are held.
    #[arg(long, conflicts_with = "keys")]
    all: bool,
    /// Say which would be released, and do nothing: all that are held, where no key is named.
    #[arg(long)]
    dry_run: bool,
    /// Who does it, for the audit topic; by default, the user's name.
    #[arg(long, value_name = "NAME", env = "USER", hide_env_values = true, default_value = "unknown")]
    by: String,
    /// Print JSON.
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Serialize)]
struct Answer<'a> {
    /// The keys that were released, or would be.
    keys: Vec<&'a HeldKey>,
    /// Whether they were released.
    released: bool,
}

pub(super) fn print(
    arguments: &Arguments,
    desk: &Desk<'_>,
    out: &mut dyn io::Write,
    note: &mut dyn FnMut(&str),
) -> Result<(), Failed> {
    if arguments.keys.is_empty() && !arguments.all && !arguments.dry_run {
        return Err(Failed::NoKey);
    }
    let routes: Vec<&RoutePlan> = match &arguments.route {
        Some(name) => vec![find_route(desk.plan, name)?],
        None => desk.plan.routes.iter().collect(),
    };
    let mut held = held_keys(desk.log, desk.plan, routes.into_iter(), desk.stop, desk.progress, note)?;
    if !arguments.keys.is_empty() {
        held.retain(|held| arguments.keys.iter().any(|key| key.as_bytes() == held.key));
        let is_held = |key: &&String| held.iter().any(|held| held.key == key.as_bytes());
        if let Some(key) = arguments.keys.iter().find(|key| !is_held(key)) {
            return Err(Failed::NotHeld(printable::line(key)));
        }
    }
    let released = !arguments.dry_run;
    let keys = if released {
        release(&desk.site(), &held, &Signature::of(&arguments.by), note)?
    } else {
        held.iter().collect()
    };
    if arguments.json {
        return say_json(&Answer { keys, released }, out);
    }
    if !keys.is_empty() {
        writeln!(out, "{}", rows(&keys, desk).trim_fmt())?;
    }
    let what = if released { "released" } else { "held" };
    writeln!(out, "{} {what}", counted(keys.len() as u64, "key"))?;
    Ok(())
}

/// A line for each key.
fn rows(keys: &[&HeldKey], desk: &Desk<'_>) -> Table {
    let mut table = table(["key", "route", "held by", "since", "cause\nmessage"], &[0, 1, 3], desk);
    for held in keys {
        let mut row = Row::from([
            printable::line(&String::from_utf8_lossy(&held.key)),
            held.route.to_string(),
            printable::line(&held.origin),
            time(Some(held.since_ms)),
            format!("{}\n{}", cause(Some(&held.class), Some(&held.code)), printable::line(&held.message)),
        ]);
        row.max_height(3);
        table.add_row(row);
    }
    if let Some(since) = table.column_mut(3) {
        since.set_cell_alignment(CellAlignment::Right);
    }
    table
}
