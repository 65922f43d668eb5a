//! `pointsman dead-letter export`: the letters as lines that can be read back.

use std::fs::File;
use std::io::{self, BufWriter, Write as _};
use std::ops::ControlFlow;
use std::path::PathBuf;

use serde::Serialize;

use super::choice::Chosen;
use super::{Desk, Failed, all_seen, safe, say_json};
use crate::cli::printable;
use crate::dead_letter::{Letter, Selection, Tally, Topic, counted, note_unsure, original, visit};
use crate::record_text::{Values, append_line};

/// Write dead letters as JSON lines: whole records with all their headers, as `consume` prints them and `produce` reads them
/// back; or the records that they were.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(super) choice: Chosen,
    /// Write the records that became the letters, as they were at their origin: without the headers that make them letters, and
    /// with the payload of those that were too large. What can't be told so is left out, and named.
    #[arg(long)]
    originals: bool,
    /// Write the lines to this new file, and what was written to standard output.
    #[arg(long, value_name = "FILE")]
    pub(super) output: Option<PathBuf>,
    /// Write values that are JSON as JSON and not as strings, where they read back to the same bytes.
    #[arg(long, conflicts_with = "originals")]
    json_values: bool,
    /// Say what was written as JSON.
    #[arg(long)]
    pub(super) json: bool,
}

/// What was written.
#[derive(Serialize)]
struct Answer {
    written: u64,
    /// How many there are.
    read: u64,
    /// For how many the selection can't be decided.
    unsure: u64,
    /// How many of the written have no payload: it is only at their origin.
    without_payload: u64,
    /// How many were left out since the records that they were can't be had.
    without_original: u64,
}

pub(super) fn print(
    arguments: &Arguments,
    desk: &Desk<'_>,
    out: &mut dyn io::Write,
    note: &mut dyn FnMut(&str),
) -> Result<(), Failed> {
    // Before a file is made that would be in the way of the next try.
    let found = arguments.choice.find(desk, note)?;
    let answer = match &arguments.output {
        None => {
            let answer = write(arguments, &found, desk, out, note)?;
            out.flush()?;
            answer
        }
        Some(path) => {
            let failed = |error| Failed::File { path: path.display().to_string(), error };
            let mut file = BufWriter::new(File::create_new(path).map_err(failed)?);
            let written = write(arguments, &found, desk, &mut file, note).map_err(|error| match error {
                Failed::Output(error) => failed(error),
                error => error,
            });
            let answer = written?;
            file.flush().map_err(failed)?;
            answer
        }
    };
    let mut report = Vec::new();
    if arguments.json {
        say_json(&answer, &mut report)?;
    } else {
        let noun = if arguments.originals { "record" } else { "letter" };
        write!(report, "{} written", counted(answer.written, noun))?;
        if answer.without_payload > 0 {
            write!(report, ", {} without payload: it is only at their origin", answer.without_payload)?;
        }
    }
    let report = String::from_utf8_lossy(&report);
    if arguments.output.is_some() {
        writeln!(out, "{}", report.trim_end())?;
    } else {
        note(report.trim_end());
    }
    Ok(())
}

fn write(
    arguments: &Arguments,
    (topics, selection): &(Vec<Topic>, Selection),
    desk: &Desk<'_>,
    lines: &mut dyn io::Write,
    note: &mut dyn FnMut(&str),
) -> Result<Answer, Failed> {
    let values = if arguments.json_values { Values::Json } else { Values::Text };
    let (mut line, mut written, mut without_payload) = (String::new(), 0, 0);
    let (mut without_original, mut first) = (0, None);
    let mut append = |_: &Topic, letter: &Letter<'_>| {
        line.clear();
        if arguments.originals {
            match original(desk.log, letter, desk.stop, &mut |_| {}) {
                Ok(record) => line.push_str(&record.to_line()),
                Err(why) => {
                    without_original += 1;
                    first.get_or_insert_with(|| (letter.place(), why));
                    return ControlFlow::Continue(());
                }
            }
        } else {
            without_payload += u64::from(letter.account.truncated);
            append_line(&mut line, letter.partition, letter.record, values);
        }
        line.push('\n');
        written += 1;
        match lines.write_all(line.as_bytes()) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => ControlFlow::Break(error),
        }
    };
    let visited = visit(&desk.site(), topics, selection, &mut append, note)?;
    all_seen(visited.ended)?;
    note_unsure(&visited.tally, &mut safe(note));
    if let Some((place, why)) = first {
        let why = printable::line(&why.to_string());
        note(&format!("note: {} left out; the first is {place}: {why}", counted(without_original, "letter")));
    }
    let Tally { read, unsure, .. } = visited.tally;
    Ok(Answer { written, read, unsure, without_payload, without_original })
}
