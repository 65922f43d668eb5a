//! `pointsman dead-letter stats`: letters by cause.

use std::io;

use comfy_table::{CellAlignment, Row, Table};

use super::choice::Chosen;
use super::{Desk, Failed, cause, expiry, picked, safe, say_json, table, time, whose};
use crate::cli::printable;
use crate::dead_letter::{Causes, Counted, Group, count, counted};

/// Count dead letters that were not handled by why they failed, the most frequent cause first.
///
/// Letters of one cause agree in route, stage, class, code, and in their messages but for words with a digit in them.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(super) choice: Chosen,
    /// Those that were handled, too.
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
    let counted_letters = count(&desk.site(), &arguments.choice.letters, arguments.all, &mut safe(note))?;
    if arguments.json {
        return say_json(&counted_letters, out);
    }
    let Counted { causes: groups, others, tally } = counted_letters;
    if !groups.is_empty() {
        writeln!(out, "{}", rows(&groups, desk).trim_fmt())?;
    }
    let mut text = picked(&tally);
    if !groups.is_empty() {
        text.push_str(&format!(", {}", counted(groups.len() as u64, "cause")));
    }
    if others > 0 {
        text.push_str(&format!("; {others} of further causes, beyond the {} that are told apart", Causes::MAX_GROUPS));
    }
    if tally.handled > 0 {
        text.push_str(&format!("; {} handled, which --all counts too", tally.handled));
    }
    writeln!(out, "{text}")?;
    Ok(())
}

/// Two lines for each group.
fn rows(groups: &[Group], desk: &Desk<'_>) -> Table {
    let header = ["letters", "route\nstage", "cause\nmessage", "first seen\nlast seen", "newest\noldest expires"];
    let mut table = table(header, &[0, 3, 4], desk);
    for Group { cause: what, count, first_seen, last_seen, expires, newest, .. } in groups {
        let shown = |text: &Option<String>| text.as_deref().map(printable::line).unwrap_or_default();
        let why = cause(what.class.as_deref(), what.code.as_deref());
        let mut row = Row::from([
            count.to_string(),
            format!("{}\n{}", whose(what.route.as_deref(), what.writer), shown(&what.stage)),
            format!("{why}\n{}", shown(&what.pattern)),
            format!("{}\n{}", time(*first_seen), time(*last_seen)),
            format!("{newest}\n{}", expiry(*expires)),
        ]);
        row.max_height(3);
        table.add_row(row);
    }
    if let Some(counts) = table.column_mut(0) {
        counts.set_cell_alignment(CellAlignment::Right);
    }
    table
}
