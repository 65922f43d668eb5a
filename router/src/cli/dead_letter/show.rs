//! `pointsman dead-letter show`: one letter in full.

use std::fmt::Write as _;
use std::io;
use std::path::PathBuf;

use pointsman_core::record::{Header, OwnedHeader, OwnedRecord, TopicPartition};
use serde::Serialize;
use serde_json::value::RawValue;

use super::choice::Whereabouts;
use super::{Desk, Failed, cause, counted, expiry, payload, say_json, time};
use crate::cli::printable;
use crate::dead_letter::{Found, Payload, Place, Summary, Topic, find};
use crate::record_text::{Values, append_line};

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
    #[command(flatten)]
    whereabouts: Whereabouts,
    /// Print it as one JSON object.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Answer {
    letter: Summary,
    /// The record as it lies in the topic, as `consume` prints it.
    record: Box<RawValue>,
    /// Where the payload is: `here`, `at-origin` or `gone`.
    payload: &'static str,
    /// The record at the origin, where the payload is there.
    at_origin: Option<Box<RawValue>>,
    /// Why the payload is gone.
    gone: Option<String>,
}

pub(super) fn print(
    arguments: &Arguments,
    desk: &Desk<'_>,
    out: &mut dyn io::Write,
    note: &mut dyn FnMut(&str),
) -> Result<(), Failed> {
    let (topic, place) = arguments.place(desk, note)?;
    let found = find(desk.log, place, desk.stop, note)?;
    let summary = Summary::new(&topic, &found.letter());
    if arguments.json {
        return say_json(&answer(&found, summary)?, out);
    }
    out.write_all(text(&found, &summary).as_bytes())?;
    Ok(())
}

impl Arguments {
    /// The letter's topic, which is there and has its partition.
    fn place(&self, desk: &Desk<'_>, note: &mut dyn FnMut(&str)) -> Result<(Topic, Place), Failed> {
        let topics = |whereabouts: &Whereabouts, note: &mut dyn FnMut(&str)| whereabouts.topics(desk, note);
        let (topic, place) = match self.place.parse::<Place>() {
            Ok(place) => {
                let named = Whereabouts { route: None, topic: Some(place.partition.topic.to_string()) };
                (topics(&named, note)?.into_iter().next(), place)
            }
            Err(_) => {
                let topic = match topics(&self.whereabouts, note)?.as_slice() {
                    [topic] => topic.clone(),
                    _ => return Err(Failed::Place(format!("{:?} does not say which topic it is in", self.place))),
                };
                let whole = format!("{}/{}", topic.name, self.place);
                let place = whole.parse().map_err(|_| Failed::Place(format!("{:?} names no record", self.place)))?;
                (Some(topic), place)
            }
        };
        let topic = topic.ok_or_else(|| Failed::Place(format!("{:?} names no topic", self.place)))?;
        let Place { partition: TopicPartition { partition, .. }, .. } = place;
        if !u32::try_from(partition).is_ok_and(|number| number < topic.partitions) {
            return Err(Failed::NoPartition { topic: topic.name, partition, count: topic.partitions });
        }
        Ok((topic, place))
    }
}

fn answer(found: &Found, letter: Summary) -> Result<Answer, serde_json::Error> {
    let line = |partition: &TopicPartition, record: &OwnedRecord| {
        let mut line = String::new();
        append_line(&mut line, partition, record.as_record(), Values::Text);
        RawValue::from_string(line)
    };
    let (payload, at_origin, gone) = match &found.payload {
        Payload::Here => ("here", None, None),
        Payload::AtOrigin(record) => {
            let origin = found.account.origin.place();
            ("at-origin", origin.map(|(partition, _)| line(&partition, record)).transpose()?, None)
        }
        Payload::Gone(why) => ("gone", None, Some(why.clone())),
    };
    Ok(Answer { letter, record: line(&found.place.partition, &found.record)?, payload, at_origin, gone })
}

/// The letter for a person.
fn text(found: &Found, letter: &Summary) -> String {
    let mut lines = Lines(String::new());
    told(&mut lines, letter);
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
