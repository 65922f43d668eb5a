//! `pointsman dead-letter show`: one letter in full.

use std::fmt::Write as _;
use std::io;
use std::path::PathBuf;

use pointsman_core::record::{Header, OwnedHeader, OwnedRecord};

use super::{Desk, Failed, cause, done, expiry, payload, safe, say_json, time};
use crate::cli::printable;
use crate::dead_letter::{AuditRecord, Found, Payload, Summary, counted, show};

/// Show one dead letter in full: why and when it failed, its headers and its payload.
///
/// A payload that was too large for the letter is fetched from where the record came from.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The configuration file.
    pub(super) file: PathBuf,
    /// The letter, as `ls` names it: topic/partition/offset, or partition/offset with --route or --topic.
    #[arg(value_name = "LETTER")]
    place: String,
    /// A letter of this route, in its dead-letter topic. With --topic: in that one.
    #[arg(long, value_name = "NAME")]
    route: Option<String>,
    /// A letter in this topic.
    #[arg(long, value_name = "NAME")]
    topic: Option<String>,
    /// Print it as one JSON object.
    #[arg(long)]
    pub(super) json: bool,
}

pub(super) fn print(
    arguments: &Arguments,
    desk: &Desk<'_>,
    out: &mut dyn io::Write,
    note: &mut dyn FnMut(&str),
) -> Result<(), Failed> {
    let Arguments { place, route, topic, json, .. } = arguments;
    let shown = show(&desk.site(), place, route.as_deref(), topic.as_deref(), &mut safe(note))?;
    if *json {
        return say_json(&shown.into_json()?, out);
    }
    out.write_all(text(&shown.found, &shown.summary, &shown.handled).as_bytes())?;
    Ok(())
}

/// The letter for a person.
fn text(found: &Found, letter: &Summary, handled: &[AuditRecord]) -> String {
    let mut lines = Lines(String::new());
    told(&mut lines, letter);
    for record in handled {
        lines.say("handled", &format!("{}, in the run {}", done(record), printable::line(&record.run)));
        for edit in &record.edits {
            lines.say("", &format!("with the edit {}", printable::line(edit)));
        }
    }
    match &found.payload {
        Payload::Here => {}
        Payload::AtOrigin(_) => lines.say("payload", "too large for the letter; what follows is from its origin"),
        Payload::Gone(why) => {
            lines.say("payload", &format!("too large for the letter, and gone: {}", printable::line(why)));
        }
    }
    match found.whole() {
        Some(whole) => contents(&mut lines, found, whole),
        None => lines.headers("headers", found.record.headers.iter().map(OwnedHeader::as_header)),
    }
    lines.0
}

/// Lines that begin with what they are about.
struct Lines(String);

impl Lines {
    fn say(&mut self, name: &str, value: &str) {
        // Writing to a `String` can't fail.
        let _ = writeln!(self.0, "{name:<10}  {value}");
    }

    fn headers<'a>(&mut self, name: &str, headers: impl IntoIterator<Item = Header<'a>>) {
        for (index, Header { name: header, value }) in headers.into_iter().enumerate() {
            let text = format!("{} = {}", printable::bytes(Some(header)), printable::bytes(value));
            self.say(if index == 0 { name } else { "" }, &text);
        }
    }
}

/// What the letter tells of itself.
fn told(lines: &mut Lines, letter: &Summary) {
    let shown = |text: &Option<String>| text.as_deref().map(printable::line);
    let Summary { place, written, expires, .. } = letter;
    lines.say("letter", &format!("{place}, written {}, expires {}", time(*written), expiry(*expires)));
    match shown(&letter.torn) {
        Some(torn) => lines.say("writer", &format!("pointsman, torn: {torn}")),
        None => lines.say("writer", letter.writer),
    }
    let mut failed = cause(letter.class.as_deref(), letter.code.as_deref());
    for (word, name) in [("stage", shown(&letter.stage)), ("route", shown(&letter.route))] {
        if let Some(name) = name {
            failed.push_str(&format!(", {word} {name}"));
        }
    }
    lines.say("failed", &failed);
    if let Some(message) = shown(&letter.message) {
        lines.say("message", &message);
    }
    if let Some(digest) = shown(&letter.plugin_sha256) {
        lines.say("plugin", &format!("sha256 {digest}"));
    }
    lines.say("history", &history(letter));
    let origin = printable::line(&letter.origin.to_string());
    lines.say("origin", &format!("{origin}, of {}", time(letter.origin.timestamp)));
}

fn contents(lines: &mut Lines, found: &Found, whole: &OwnedRecord) {
    lines.say("key", &printable::bytes(whole.key.as_deref()));
    for (name, headers) in headers(found, whole) {
        lines.headers(name, headers);
    }
    match whole.value.as_deref() {
        None => lines.say("value", "null: a tombstone"),
        Some(value) => {
            let (form, shown) = payload::shown(value);
            lines.say("value", &format!("{}, {form}", counted(value.len() as u64, "byte")));
            lines.0.push_str(&shown);
            lines.0.push('\n');
        }
    }
}

fn history(letter: &Summary) -> String {
    let runs = letter.attempts.map_or("? runs".to_owned(), |runs| counted(u64::from(runs), "run"));
    let mut history = format!("{runs}, first failed {}, last {}", time(letter.first_failed), time(letter.last_failed));
    if letter.replay_count > 0 {
        history.push_str(&format!(", replayed {} before", counted(u64::from(letter.replay_count), "time")));
    }
    if letter.deferred {
        history.push_str(", deferred: it waits behind another of its key, and did not fail itself");
    }
    history
}

/// The headers that the record had, and those that make it a dead letter; where that is not known, all of them.
fn headers<'a>(found: &'a Found, whole: &'a OwnedRecord) -> [(&'static str, Vec<Header<'a>>); 2] {
    let all = |record: &'a OwnedRecord| record.headers.iter().map(OwnedHeader::as_header).collect::<Vec<_>>();
    if matches!(found.payload, Payload::AtOrigin(_)) {
        return [("headers", all(whole)), ("provenance", all(&found.record))];
    }
    let headers = found.record.as_record().headers;
    let is_original = |index| found.account.is_original(headers, index).unwrap_or(true);
    let (originals, others): (Vec<_>, Vec<_>) = headers.iter().enumerate().partition(|(index, _)| is_original(*index));
    let bare = |numbered: Vec<(usize, Header<'a>)>| numbered.into_iter().map(|(_, header)| header).collect();
    [("headers", bare(originals)), ("provenance", bare(others))]
}
