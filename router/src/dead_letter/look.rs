//! Looking at letters: a list, their causes, one in full. What is told of them in JSON is the same for all who ask.

use std::collections::{HashMap, VecDeque};
use std::ops::ControlFlow;
use std::sync::Arc;

use pointsman_core::port::LogError;
use pointsman_core::record::{OwnedRecord, TopicPartition};
use serde::Serialize;
use serde_json::value::RawValue;
use thiserror::Error;
use utoipa::ToSchema;

use super::audit::AuditRecord;
use super::causes::{Causes, Group};
use super::choice::{Choice, topics};
use super::find::{FindError, Found, Payload, find};
use super::handle::Site;
use super::handled::{AuditError, Handled, history};
use super::letter::{Letter, Place};
use super::summary::Summary;
use super::topic::Topic;
use super::visit::{Tally, reading, visit_open};
use crate::lookup::{NoRoute, TopicError};
use crate::reading::{Ended, ReadError};
use crate::record_text::{Values, append_line};

/// There is no answer, or not all of it.
#[derive(Debug, Error)]
pub enum LookError {
    /// There is no such topic.
    #[error(transparent)]
    Topic(#[from] TopicError),
    /// There is no such route.
    #[error(transparent)]
    NoRoute(#[from] NoRoute),
    /// There is no topic to look in: why, in a clause.
    #[error("{0}; name a topic with --topic")]
    NoTopic(String),
    /// The topic has no such partition.
    #[error("topic {topic} has no partition {partition}; it has {count}, numbered from 0")]
    NoPartition {
        /// The topic.
        topic: Arc<str>,
        /// What was asked for.
        partition: i32,
        /// How many there are.
        count: u32,
    },
    /// It names no letter: why, in a clause.
    #[error("{}; write topic/partition/offset, or partition/offset with --route or --topic", .0)]
    Place(String),
    /// The log can't be asked.
    #[error(transparent)]
    Log(#[from] LogError),
    /// It can't be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The letter can't be had.
    #[error(transparent)]
    Find(#[from] FindError),
    /// It was told to stop.
    #[error("interrupted: this is not all of it")]
    Stopped,
}

/// Letters, and what was done about each last.
#[derive(Debug, Serialize, ToSchema)]
pub struct List {
    /// The newest last.
    #[schema(value_type = Vec<Listed>)]
    pub letters: VecDeque<Listed>,
    /// How many there were.
    #[serde(flatten)]
    pub tally: Tally,
}

/// A letter, and what was done about it last.
#[derive(Debug, Serialize, ToSchema)]
pub struct Listed {
    /// The letter.
    #[serde(flatten)]
    pub letter: Summary,
    /// What was done about it, where that is asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub handled: Option<AuditRecord>,
}

/// Letters by cause.
#[derive(Debug, Serialize, ToSchema)]
pub struct Counted {
    /// The most frequent first.
    pub causes: Vec<Group>,
    /// Letters of further causes than are told apart.
    pub others: u64,
    /// How many there were.
    #[serde(flatten)]
    pub tally: Tally,
}

/// One letter in full.
#[derive(Debug)]
pub struct Shown {
    /// The letter, and its payload.
    pub found: Found,
    /// What is told of it in a list.
    pub summary: Summary,
    /// What was done about it, the oldest first.
    pub handled: Vec<AuditRecord>,
}

/// One letter in full, in JSON.
#[derive(Debug, Serialize, ToSchema)]
pub struct ShownLetter {
    /// What is told of it in a list.
    letter: Summary,
    /// The record as it lies in the topic, as `consume` prints it.
    #[schema(value_type = Object)]
    record: Box<RawValue>,
    /// Where the payload is: `here`, `at-origin` or `gone`.
    payload: &'static str,
    /// The record at the origin, where the payload is there.
    #[schema(value_type = Option<Object>)]
    at_origin: Option<Box<RawValue>>,
    /// Why the payload is gone.
    gone: Option<String>,
    /// What was done about it, the oldest first.
    handled: Vec<AuditRecord>,
}

/// What was handled of these topics, each of which is shown to `see`. Where the audit topics can't be read, it is as if nothing was,
/// and `note` is told so.
///
/// # Errors
/// [`LookError::Stopped`].
pub(super) fn handled(
    site: &Site<'_>,
    topics: &[Topic],
    see: &mut dyn FnMut(AuditRecord),
    note: &mut dyn FnMut(&str),
) -> Result<Handled, LookError> {
    let handled = match Handled::read(site.log, topics, see, site.stop, site.progress, note) {
        Ok(handled) => handled,
        Err(AuditError::Stopped) => return Err(LookError::Stopped),
        Err(error @ (AuditError::Log(_) | AuditError::Read(_))) => {
            note(&format!("note: what was handled is not known, so all letters count as open: {error}"));
            return Ok(Handled::default());
        }
    };
    if let Some(why) = &handled.stale {
        note(&format!("note: {why}"));
    }
    if let Some((place, why)) = &handled.first_stranger {
        let count = counted(handled.strangers, "record");
        note(&format!("note: {count} in the audit topics that tell of no letter; the first is {place}: {why}"));
    }
    Ok(handled)
}

/// Says what a selection had to leave out because it can't be decided.
pub(crate) fn note_unsure(tally: &Tally, note: &mut dyn FnMut(&str)) {
    if let Some((place, why)) = &tally.first_unsure {
        let count = counted(tally.unsure, "record");
        note(&format!("note: {count} left out that may be meant; the first is {place}: {why}"));
    }
}

/// The newest of these letters, so many at most: those that were not handled, or `all`, with what became of them.
///
/// # Errors
/// [`LookError`].
pub fn list(
    site: &Site<'_>,
    choice: &Choice,
    limit: usize,
    all: bool,
    note: &mut dyn FnMut(&str),
) -> Result<List, LookError> {
    let (topics, selection) = choice.find(site, note)?;
    let handled_before = handled(site, &topics, &mut |_| {}, note)?;
    let mut letters = VecDeque::new();
    let mut keep = |topic: &Topic, letter: &Letter<'_>| {
        if letters.len() == limit {
            letters.pop_front();
        }
        letters.push_back(Listed { letter: Summary::new(topic, letter), handled: None });
        ControlFlow::Continue(())
    };
    let is_left_out = |letter: &Letter<'_>| !all && handled_before.has(letter);
    let visited = visit_open(site, &reading(&topics), &topics, &is_left_out, &selection, &mut keep, note)?;
    all_seen(visited.ended)?;
    note_unsure(&visited.tally, note);
    if all {
        add_fates(&mut letters, &topics, site)?;
    }
    Ok(List { letters, tally: visited.tally })
}

/// Looks up what became of the letters that are shown.
fn add_fates(letters: &mut VecDeque<Listed>, topics: &[Topic], site: &Site<'_>) -> Result<(), LookError> {
    let places = letters.iter().enumerate().map(|(index, listed)| (listed.letter.place.clone(), index));
    let places: HashMap<_, _> = places.collect();
    let mut see = |record: AuditRecord| {
        let listed = places.get(&record.letter).and_then(|index| letters.get_mut(*index));
        // Of a topic that was made anew, it may be about another letter.
        if let Some(listed) = listed.filter(|listed| listed.letter.written.unwrap_or(-1) == record.written) {
            listed.handled = Some(record);
        }
    };
    // What is wrong with the audit topics was said already.
    handled(site, topics, &mut see, &mut |_| {})?;
    Ok(())
}

/// These letters by cause: those that were not handled, or `all`.
///
/// # Errors
/// [`LookError`].
pub fn count(site: &Site<'_>, choice: &Choice, all: bool, note: &mut dyn FnMut(&str)) -> Result<Counted, LookError> {
    let (topics, selection) = choice.find(site, note)?;
    let handled_before = handled(site, &topics, &mut |_| {}, note)?;
    let mut causes = Causes::default();
    let mut add = |topic: &Topic, letter: &Letter<'_>| {
        causes.add(topic, letter);
        ControlFlow::Continue(())
    };
    let is_left_out = |letter: &Letter<'_>| !all && handled_before.has(letter);
    let visited = visit_open(site, &reading(&topics), &topics, &is_left_out, &selection, &mut add, note)?;
    all_seen(visited.ended)?;
    note_unsure(&visited.tally, note);
    let (causes, others) = causes.into_groups();
    Ok(Counted { causes, others, tally: visited.tally })
}

/// One letter: `topic/partition/offset`, or `partition/offset` with the only dead-letter topic of a route, or with a topic.
///
/// # Errors
/// [`LookError`].
pub fn show(
    site: &Site<'_>,
    letter: &str,
    route: Option<&str>,
    topic: Option<&str>,
    note: &mut dyn FnMut(&str),
) -> Result<Shown, LookError> {
    let (topic, place) = whereabouts(site, letter, route, topic, note)?;
    let found = find(site.log, place, site.stop, note)?;
    let summary = Summary::new(&topic, &found.letter());
    let handled = match history(site.log, &topic, &found.letter(), site.stop, site.progress, note) {
        Ok(handled) => handled,
        Err(AuditError::Stopped) => return Err(LookError::Stopped),
        Err(error @ (AuditError::Log(_) | AuditError::Read(_))) => {
            note(&format!("note: whether it was handled is not known: {error}"));
            Vec::new()
        }
    };
    Ok(Shown { found, summary, handled })
}

/// The letter's topic, which is there and has its partition.
fn whereabouts(
    site: &Site<'_>,
    letter: &str,
    route: Option<&str>,
    topic: Option<&str>,
    note: &mut dyn FnMut(&str),
) -> Result<(Topic, Place), LookError> {
    let (topic, place) = match letter.parse::<Place>() {
        Ok(place) => {
            let named = topics(site.log, site.plan, None, Some(&place.partition.topic), note)?;
            (named.into_iter().next(), place)
        }
        Err(_) => {
            let topic = match topics(site.log, site.plan, route, topic, note)?.as_slice() {
                [topic] => topic.clone(),
                _ => return Err(LookError::Place(format!("{letter:?} does not say which topic it is in"))),
            };
            let whole = format!("{}/{letter}", topic.name);
            let place = whole.parse().map_err(|_| LookError::Place(format!("{letter:?} names no record")))?;
            (Some(topic), place)
        }
    };
    let topic = topic.ok_or_else(|| LookError::Place(format!("{letter:?} names no topic")))?;
    let Place { partition: TopicPartition { partition, .. }, .. } = place;
    if !u32::try_from(partition).is_ok_and(|number| number < topic.partitions) {
        return Err(LookError::NoPartition { topic: topic.name, partition, count: topic.partitions });
    }
    Ok((topic, place))
}

impl Shown {
    /// It in JSON.
    ///
    /// # Errors
    /// What can't be written as JSON.
    pub fn into_json(self) -> Result<ShownLetter, serde_json::Error> {
        let Self { found, summary, handled } = self;
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
        let record = line(&found.place.partition, &found.record)?;
        Ok(ShownLetter { letter: summary, record, payload, at_origin, gone, handled })
    }
}

/// Whether a visit saw all that it was to see.
fn all_seen(ended: Ended<()>) -> Result<(), LookError> {
    match ended {
        Ended::Done | Ended::Enough(()) => Ok(()),
        Ended::Stopped => Err(LookError::Stopped),
        Ended::Failed(error) => Err(error.into()),
    }
}

/// A number of things.
pub(crate) fn counted(count: u64, thing: &str) -> String {
    format!("{count} {thing}{}", if count == 1 { "" } else { "s" })
}
