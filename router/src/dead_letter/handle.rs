//! Replaying and discarding dead letters.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::num::{NonZeroU32, NonZeroU64, NonZeroUsize};
use std::ops::ControlFlow;
use std::sync::Arc;

use pointsman_config::Plan;
use pointsman_config::dead_letters::{audit_topic, parking_topic};
use pointsman_core::port::{Log, LogError, TransactionError};
use pointsman_core::record::TopicPartition;
use thiserror::Error;

use super::audit::{Action, AuditRecord, Signature};
use super::handled::{AuditError, Handled};
use super::letter::{Letter, Place};
use super::replay::{LeftAlone, Obstacle, Planner, Replay, Target, retry_topic};
use super::selection::Selection;
use super::topic::Topic;
use super::visit::{Tally, visit_open};
use super::writing::{Item, Writing};
use crate::progress::Progress;
use crate::reading::{Ended, ReadError};
use crate::record_text::RecordLine;

#[cfg(test)]
mod tests;

/// Where letters are handled.
#[derive(Clone, Copy)]
pub struct Site<'a> {
    /// The log.
    pub log: &'a dyn Log,
    /// The routes that the letters may be of.
    pub plan: &'a Plan,
    /// Milliseconds since 1970-01-01 UTC.
    pub now_ms: &'a dyn Fn() -> i64,
    /// Whether to stop; asked now and then. What was done so far stays done, and the next run goes on from there.
    pub stop: &'a dyn Fn() -> bool,
    /// Who is told how far it has come.
    pub progress: Progress<'a>,
}

/// What is to be done, and how.
#[derive(Clone, Debug)]
pub struct Order {
    /// What is to be done.
    pub verb: Verb,
    /// By whom, and in which run.
    pub signature: Signature,
    /// Most letters a second.
    pub rate: Option<NonZeroU32>,
    /// Most letters in all; those that are left alone don't count.
    pub max: Option<NonZeroU64>,
    /// Most letters of one transaction.
    pub batch: NonZeroUsize,
    /// Nothing is to be done, only to be told.
    pub dry_run: bool,
}

impl Order {
    /// For all letters, as fast as it goes, at most 500 in one transaction.
    #[must_use]
    pub const fn new(verb: Verb, signature: Signature) -> Self {
        const BATCH: NonZeroUsize = NonZeroUsize::MIN.saturating_add(499);
        Self { verb, signature, rate: None, max: None, batch: BATCH, dry_run: false }
    }
}

/// What is to be done.
#[derive(Clone, Debug)]
pub enum Verb {
    /// The records that became letters are written once more.
    Replay(Replay),
    /// The letters count as handled.
    Discard,
}

/// What became of one letter, or in a dry run would become of it.
#[derive(Clone, Debug)]
pub struct Handling {
    /// The letter.
    pub letter: Place,
    /// What became of it.
    pub outcome: Outcome,
}

/// What becomes of a letter.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// This record was written, with the topic and partition it was written to.
    Replayed(RecordLine),
    /// The letter was written to the parking topic, like this.
    Parked(RecordLine),
    /// It counts as handled, and nothing was written but that.
    Discarded,
    /// Nothing was done.
    LeftAlone(LeftAlone),
    /// The log refuses what was to be written: why.
    Failed(String),
}

/// How many letters there were of each outcome.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Records that were replayed.
    pub replayed: u64,
    /// Letters that went to the parking topic.
    pub parked: u64,
    /// Letters that were discarded.
    pub discarded: u64,
    /// Letters that were left alone, by the [name](LeftAlone::name) of the reason.
    pub left_alone: BTreeMap<&'static str, Left>,
    /// Letters that the log has refused.
    pub failed: Option<Left>,
    /// Letters that were not looked at, since they were handled before.
    pub handled_before: u64,
    /// Letters that another run has handled meanwhile.
    pub handled_meanwhile: u64,
    /// All letters that were read.
    pub read: u64,
}

/// Letters of which nothing became.
#[derive(Clone, Debug)]
pub struct Left {
    /// How many.
    pub count: u64,
    /// The first of them.
    pub first: Place,
    /// Why that one.
    pub why: String,
}

impl Report {
    /// Letters that something was done about.
    #[must_use]
    pub const fn done(&self) -> u64 {
        self.replayed + self.parked + self.discarded
    }

    /// Counts one.
    pub(super) fn count(&mut self, handling: &Handling) {
        let left = |why: String| Left { count: 0, first: handling.letter.clone(), why };
        match &handling.outcome {
            Outcome::Replayed(_) => self.replayed += 1,
            Outcome::Parked(_) => self.parked += 1,
            Outcome::Discarded => self.discarded += 1,
            Outcome::LeftAlone(why) => {
                self.left_alone.entry(why.name()).or_insert_with(|| left(why.to_string())).count += 1;
            }
            Outcome::Failed(why) => self.failed.get_or_insert_with(|| left(why.clone())).count += 1,
        }
    }

    fn visited(&mut self, tally: Tally) {
        self.read += tally.read;
        self.handled_before += tally.handled;
        if let Some((first, why)) = tally.first_unsure {
            let unsure = LeftAlone::Unsure(why);
            let why = unsure.to_string();
            self.left_alone.entry(unsure.name()).or_insert(Left { count: 0, first, why }).count += tally.unsure;
        }
    }
}

/// Why not all letters were handled. Those that were are told, and are not handled again by the next run.
#[derive(Debug, Error)]
pub enum HandleError {
    /// The log can't be asked.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The letters can't be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// What was handled already is not known.
    #[error(transparent)]
    Audit(#[from] AuditError),
    /// The log can't be written to, or another run has taken over.
    #[error(transparent)]
    Write(#[from] TransactionError),
    /// Letters must not go there.
    #[error("letters can't be replayed to {topic}: {why}; choose another topic")]
    Target {
        /// The topic.
        topic: Arc<str>,
        /// Why not, as a clause.
        why: &'static str,
    },
    /// The audit or parking topic does not keep what it is given, or is not of this topic: what is wrong, and the remedy.
    #[error("{0}")]
    Unfit(String),
    /// It was told to stop.
    #[error("stopped before all letters were handled; run it again to go on")]
    Stopped,
}

/// Why a visit ended before its time.
enum End {
    /// As many letters were handled as were to be.
    Max,
    Failed(HandleError),
}

/// Does what `order` says with the letters of `topics` that `selection` picks and that were not handled before. `report` counts
/// them, and each is shown to `see`, in the order of the letters of each partition: once it is done, or would be done.
///
/// Of one topic, one run at a time does that; one that is begun later ends the earlier one. Letters are done in transactions of
/// some megabytes at most, each together with its account in the audit topic. So an interruption at any point leaves
/// out nothing that another run does not find, and nothing is done twice. `note` is told what is trouble, and may yet turn out well.
///
/// # Errors
/// [`HandleError`]: something is left to be done.
pub fn handle(
    site: &Site<'_>,
    topics: &[Topic],
    selection: &Selection,
    order: &Order,
    report: &mut Report,
    see: &mut dyn FnMut(&Handling),
    note: &mut dyn FnMut(&str),
) -> Result<(), HandleError> {
    let note = RefCell::new(note);
    let say = |text: &str| (note.borrow_mut())(text);
    for topic in topics {
        check_target(site.plan, topic, order)?;
        let mut writing = Writing::prepare(site, topic, order, &say)?;
        writing.begin(targets(site, topic, order), &say)?;
        let writing = RefCell::new(writing);
        let mut run = Run { site, order, planner: planner(site, order), say: &say };
        let mut look = |_: &Topic, letter: &Letter<'_>| {
            let taken = run.take(letter, &mut writing.borrow_mut(), report, see);
            taken.unwrap_or_else(|error| ControlFlow::Break(End::Failed(error)))
        };
        let is_handled = |letter: &Letter<'_>| writing.borrow().handled.has(letter);
        let what = format!("{} {}", doing(order), topic.name);
        let topics = std::slice::from_ref(topic);
        let visited = visit_open(site, &what, topics, &is_handled, selection, &mut look, &mut |text| say(text))?;
        report.visited(visited.tally);
        let is_enough = match visited.ended {
            Ended::Done => false,
            Ended::Enough(End::Max) => true,
            Ended::Enough(End::Failed(error)) => return Err(error),
            Ended::Stopped => return Err(HandleError::Stopped),
            Ended::Failed(error) => return Err(error.into()),
        };
        writing.borrow_mut().flush(report, see, &say)?;
        if is_enough {
            break;
        }
    }
    Ok(())
}

/// What it is about to do, as progress is told.
fn doing(order: &Order) -> &'static str {
    match (&order.verb, order.dry_run) {
        (_, true) => "looking through",
        (Verb::Replay(_), false) => "replaying from",
        (Verb::Discard, false) => "discarding from",
    }
}

/// Some way into one topic.
struct Run<'a> {
    site: &'a Site<'a>,
    order: &'a Order,
    planner: Option<Planner<'a>>,
    say: &'a dyn Fn(&str),
}

impl Run<'_> {
    /// Takes one letter up.
    fn take(
        &mut self,
        letter: &Letter<'_>,
        writing: &mut Writing<'_>,
        report: &mut Report,
        see: &mut dyn FnMut(&Handling),
    ) -> Result<ControlFlow<End>, HandleError> {
        if writing.handled.contradicts(letter) {
            return Err(HandleError::Unfit(stale(&letter.partition.topic)));
        }
        if self.order.max.is_some_and(|max| report.done() + writing.pending() >= max.get()) {
            return Ok(ControlFlow::Break(End::Max));
        }
        let item = self.item(letter)?;
        // What can't be had of a letter may be so because of that.
        if (self.site.stop)() {
            return Err(HandleError::Stopped);
        }
        writing.push(item);
        if writing.is_full() {
            writing.flush(report, see, self.say)?;
        }
        Ok(ControlFlow::Continue(()))
    }

    /// What is to be done with a letter.
    fn item(&mut self, letter: &Letter<'_>) -> Result<Item, HandleError> {
        let now_ms = (self.site.now_ms)();
        let audit = |action| {
            AuditRecord::new(letter.place(), letter.record.timestamp_ms, action, &self.order.signature, now_ms)
        };
        let (outcome, audit) = match &mut self.planner {
            None => (Outcome::Discarded, Some(audit(Action::Discarded))),
            Some(planner) => {
                planner.now_ms = now_ms;
                match planner.plan(letter, self.site.stop, &mut |text| (self.say)(text)) {
                    Ok(written) => {
                        let action = if written.parked { Action::Parked } else { Action::Replayed };
                        let edits = planner.replay.edits.iter().filter(|_| !written.parked).map(ToString::to_string);
                        let told =
                            AuditRecord {
                                to: written.record.topic.as_ref().zip(written.record.partition).map(
                                    |(topic, partition)| TopicPartition::new(topic.as_str(), partition).to_string(),
                                ),
                                replays: written.replays,
                                edits: edits.collect(),
                                ..audit(action)
                            };
                        let outcome = if written.parked {
                            Outcome::Parked(written.record)
                        } else {
                            Outcome::Replayed(written.record)
                        };
                        (outcome, Some(told))
                    }
                    Err(Obstacle::LeftAlone(why)) => (Outcome::LeftAlone(why), None),
                    Err(Obstacle::Log(error)) => return Err(error.into()),
                }
            }
        };
        Ok(Item { handling: Handling { letter: letter.place(), outcome }, audit })
    }
}

fn planner<'a>(site: &Site<'a>, order: &'a Order) -> Option<Planner<'a>> {
    match &order.verb {
        Verb::Replay(replay) => Some(Planner::new(site.log, site.plan, replay, (site.now_ms)())),
        Verb::Discard => None,
    }
}

/// Where letters of this topic are likely to go, so that its writer is opened once. More topics may show as letters are read.
fn targets(site: &Site<'_>, letters: &Topic, order: &Order) -> Vec<Arc<str>> {
    let Verb::Replay(replay) = &order.verb else { return Vec::new() };
    let is_of = |topic: u32| site.plan.topics.get(topic as usize).is_some_and(|topic| topic.name == letters.name);
    let routes = site.plan.routes.iter().filter(|route| route.dead_letter.is_some_and(|topic| is_of(topic.0)));
    let mut names = vec![parking_topic(&letters.name)];
    match &replay.to {
        Target::Topic(topic) => names.push(Arc::clone(topic)),
        Target::Source => names.extend(routes.flat_map(|route| &route.sources).map(|source| Arc::clone(&source.topic))),
        Target::Retry => names.extend(routes.flat_map(|route| {
            route.sources.iter().filter_map(|source| retry_topic(site.plan, &route.name, &source.topic))
        })),
    }
    names
}

/// A letter that becomes a letter again by being replayed would go round for ever, and in a retry topic a record without its
/// headers is undecodable.
fn check_target(plan: &Plan, letters: &Topic, order: &Order) -> Result<(), HandleError> {
    use pointsman_config::plan::TopicRole;
    let Verb::Replay(Replay { to: Target::Topic(topic), .. }) = &order.verb else { return Ok(()) };
    let role = plan.topics.iter().find(|planned| planned.name == *topic).map(|planned| &planned.role);
    let why = match role {
        _ if *topic == letters.name => "it is the one they are in",
        _ if *topic == audit_topic(&letters.name) => "it is their audit topic",
        _ if *topic == parking_topic(&letters.name) => "it is their parking topic",
        Some(TopicRole::Retry { .. }) => {
            "it is a retry topic, which takes letters of its own route alone, by --to retry"
        }
        Some(TopicRole::DeadLetter { .. }) => "it is a topic of dead letters",
        Some(TopicRole::Output) | None => return Ok(()),
    };
    Err(HandleError::Target { topic: Arc::clone(topic), why })
}

/// The audit topic tells of letters that never were in this topic.
pub(super) fn stale(topic: &str) -> String {
    let audit = audit_topic(topic);
    format!(
        "{audit} tells of letters that {topic} does not have: {topic} was made anew, and which of its letters were handled is not known. \
         Delete {audit}, too"
    )
}

impl Handled {
    /// Whether it can be relied on.
    pub(super) fn sound(&self) -> Result<(), HandleError> {
        self.stale.as_ref().map_or(Ok(()), |why| Err(HandleError::Unfit(why.clone())))
    }
}
