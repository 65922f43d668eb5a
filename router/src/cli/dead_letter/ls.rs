//! `pointsman dead-letter ls`: a line for each letter.

use std::collections::VecDeque;
use std::io;

use comfy_table::{CellAlignment, Row};

use super::choice::Chosen;
use super::{Desk, Failed, cause, done, picked, safe, say_json, table, time, whose};
use crate::cli::printable;
use crate::dead_letter::{AuditRecord, List, Listed, Summary, counted, list};

/// Longest key in the list.
const KEY_MAX_CHARACTERS: usize = 40;

/// List dead letters that were not handled, a line each, the newest last.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(super) choice: Chosen,
    /// Show no more than so many, the newest.
    #[arg(long, value_name = "LETTERS", default_value_t = 50, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    limit: u64,
    /// Those that were handled, too, with what became of them.
    #[arg(long)]
    all: bool,
    /// Print them as one JSON object.
    #[arg(long)]
    pub(super) json: bool,
}

pub(super) fn print(
    arguments: &Arguments,
    desk: &Desk<'_>,
    out: &mut dyn io::Write,
    note: &mut dyn FnMut(&str),
) -> Result<(), Failed> {
    let limit = usize::try_from(arguments.limit).unwrap_or(usize::MAX);
    let listed = list(&desk.site(), &arguments.choice.letters, limit, arguments.all, &mut safe(note))?;
    if arguments.json {
        return say_json(&listed, out);
    }
    let List { letters, tally } = listed;
    if !letters.is_empty() {
        writeln!(out, "{}", rows(&letters, desk).trim_fmt())?;
    }
    let shown = letters.len() as u64;
    let of = picked(&tally);
    let left_out =
        if tally.handled > 0 { format!("; {} handled, which --all lists too", tally.handled) } else { String::new() };
    if shown < tally.selected {
        writeln!(out, "the {shown} newest of {}; --limit shows more{left_out}", counted(tally.selected, "letter"))?;
    } else {
        writeln!(out, "{of}{left_out}")?;
    }
    Ok(())
}

fn rows(letters: &VecDeque<Listed>, desk: &Desk<'_>) -> comfy_table::Table {
    let header = ["letter", "last failed", "route/stage", "runs", "key", "cause and message"];
    let mut table = table(header, &[0, 1, 3], desk);
    for Listed { letter, handled } in letters {
        let mut row = Row::from([
            letter.place.to_string(),
            time(letter.last_failed),
            whereabouts(letter),
            letter.attempts.map_or_else(|| "?".to_owned(), |runs| runs.to_string()),
            key(letter),
            why(letter, handled.as_ref()),
        ]);
        row.max_height(1);
        table.add_row(row);
    }
    if let Some(runs) = table.column_mut(3) {
        runs.set_cell_alignment(CellAlignment::Right);
    }
    table
}

fn whereabouts(letter: &Summary) -> String {
    let stage = letter.stage.as_deref().map(|stage| format!("/{stage}")).unwrap_or_default();
    let route = letter.route.as_ref().map(|route| format!("{route}{stage}"));
    whose(route.as_deref(), letter.writer)
}

/// As much of the key as there is place for.
fn key(letter: &Summary) -> String {
    let key = printable::bytes(letter.key.as_deref());
    if key.chars().count() > KEY_MAX_CHARACTERS || letter.key.as_ref().map(Vec::len) != letter.key_bytes {
        return key.chars().take(KEY_MAX_CHARACTERS - 1).chain(['…']).collect();
    }
    key
}

/// What is special about the letter, its cause and its message.
fn why(letter: &Summary, handled: Option<&AuditRecord>) -> String {
    let replays = format!("replayed {}", counted(u64::from(letter.replay_count), "time"));
    let marks = [
        (letter.deferred, "deferred"),
        (letter.truncated, "payload only at its origin"),
        (letter.replay_count > 0, &replays),
    ];
    let handled = handled.map(done);
    let marks = marks.into_iter().filter_map(|(is_so, mark)| is_so.then_some(mark));
    let marks: Vec<&str> = handled.as_deref().into_iter().chain(marks).collect();
    let marks = if marks.is_empty() { String::new() } else { format!("[{}] ", marks.join(", ")) };
    let cause = cause(letter.class.as_deref(), letter.code.as_deref());
    let message = letter.message.as_deref().or(letter.torn.as_deref()).map(printable::line);
    format!("{marks}{cause}{}", message.map(|message| format!(": {message}")).unwrap_or_default())
}
