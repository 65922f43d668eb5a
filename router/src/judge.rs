//! From records to rulings: the stages and the outputs of a route, over one batch. Nothing leaves here; what is ruled is
//! delivered by the [lane](crate::lane).

use std::borrow::Cow;
use std::cell::LazyCell;
use std::sync::Arc;
use std::time::Instant;

use pointsman_config::plan::{Matching, OutputPlan, RoutePlan, Select, StagePlan};
use pointsman_core::condition::{Condition, EventView};
use pointsman_core::event::Event;
use pointsman_core::failure::{Failure, FailureClass};
use pointsman_core::isolate::{self, BatchLimit, Outcome, Outcomes, Pace, Unavailable};
use pointsman_core::port::PluginHost;
use pointsman_core::provenance::{ProvenanceError, cut};
use pointsman_core::verdict::Verdict;

use crate::traces::StageTime;
use changes::{Changes, Version};

pub(crate) mod changes;

/// What is to become of one record.
#[derive(Debug)]
pub(crate) enum Ruling {
    /// The record as it is, to this output.
    Unchanged { output: usize },
    /// These of [`Judgement::routed`], at least one, in order.
    Deliver(std::ops::Range<usize>),
    /// Nothing.
    Drop {
        /// A plugin's word for it, or `filtered`.
        reason: String,
    },
    /// The policy decides, or has decided. The failure is kept with the record until that has its fate: here, and in its flight.
    Fail(Arc<Failure>, Course),
    /// It stays parked, and is written anew.
    Move,
}

/// How far a failure has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Course {
    /// The policy decides.
    Decide,
    /// It is to be parked. (An outage of the retry topic must not have the policy decide again, by a later clock.)
    Park { due_ms: i64 },
    /// It is to be dead-lettered, since it couldn't be parked.
    Unparkable,
    /// It is to be dead-lettered, and that is paid for.
    DeadLetter,
    /// It is to be dead-lettered without its payload, since that was too large.
    Truncate,
    /// The lane halts at it, whatever the policy says.
    Halt,
}

impl Ruling {
    /// Of a record that may go on.
    fn open(usual: Option<usize>) -> Self {
        usual.map_or(Self::Deliver(0..0), |output| Self::Unchanged { output })
    }

    /// The first failure of a record is the one that is told.
    fn fail(&mut self, failure: Failure) {
        if !self.is_failure() {
            *self = Self::Fail(Arc::new(failure), Course::Decide);
        }
    }

    /// One event of the record ends on purpose; others may go on.
    fn drop(&mut self, reason: String) {
        if !self.is_failure() {
            *self = Self::Drop { reason };
        }
    }

    fn is_failure(&self) -> bool {
        matches!(self, Self::Fail(..))
    }
}

/// An event on its way to one output.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Routed {
    /// The event, in [`Judgement::changes`].
    pub(crate) version: Version,
    /// Index of the output in the route.
    pub(crate) output: usize,
}

/// The rulings on a batch.
#[derive(Debug, Default)]
pub(crate) struct Judgement {
    /// One for each record, in order, from the first one on.
    pub(crate) rulings: Vec<Ruling>,
    /// What [`Ruling::Deliver`] points into.
    pub(crate) routed: Vec<Routed>,
    /// What the stages made of the events.
    pub(crate) changes: Changes,
}

/// What the stages are run with.
pub(crate) struct Means<'a> {
    /// The plugins.
    pub(crate) plugins: &'a mut dyn PluginHost,
    /// One for each stage.
    pub(crate) limits: &'a mut [BatchLimit],
    /// Time of the batch, in milliseconds since 1970-01-01 UTC.
    pub(crate) now_ms: i64,
    /// Asked before each call.
    pub(crate) pace: &'a dyn Fn() -> Pace,
    /// Most bytes that the answers to the calls may hold, before other records are left to another time; twice as many
    /// are too much for one record.
    pub(crate) held_bytes: usize,
    /// Whether it is the record's fault where the pace stops the calls for the first one.
    pub(crate) is_second_try: bool,
    /// Where it is noted when each stage had the batch, if anybody wants to know.
    pub(crate) times: Option<&'a mut Vec<StageTime>>,
}

/// Nothing is ruled.
#[derive(Debug)]
pub(crate) enum Hindrance {
    /// A plugin can't be called at all.
    Unavailable(Unavailable),
    /// The time ran out with the first record. The process may have stood still: nobody is to blame for that.
    OutOfTime,
}

impl From<Unavailable> for Hindrance {
    fn from(unavailable: Unavailable) -> Self {
        Self::Unavailable(unavailable)
    }
}

/// An event inside the stages, and which record it came from.
#[derive(Clone, Copy)]
struct Item {
    root: usize,
    version: Version,
}

/// The events inside the stages.
enum Live {
    /// Every record, as it came in.
    All,
    /// Every record, as it came in, but for these, in order: few or many have met their end.
    AllBut(Vec<usize>),
    /// These, in the order of their records.
    Items(Vec<Item>),
}

impl Live {
    /// With one item for each of `records` that is live, unless all are.
    fn listed(self, records: usize) -> Self {
        let Self::AllBut(ended) = self else { return self };
        let mut ended = ended.into_iter().peekable();
        Self::Items(items_of(records).filter(|item| ended.next_if_eq(&item.root).is_none()).collect())
    }
}

/// Where events go that no stage changes, if it is the same for all of them: then there is nothing to choose.
fn usual_output(route: &RoutePlan) -> Option<usize> {
    let asks = |output: &OutputPlan| matches!(output.select, Select::When(_));
    let default = route.outputs.iter().position(|output| matches!(output.select, Select::Default));
    default.filter(|_| !route.outputs.iter().any(asks))
}

/// Runs the stages of `route` over `records`, of which there is at least one, and chooses outputs. Of `unreadable` ones, by
/// index and in order, it is not known where they came from.
///
/// The record is the unit: if one event that came of it fails, in whatever stage, the whole record fails, and none of
/// its events leaves. Where the pace or the bytes held end the work early, the rulings are on the first records, one at
/// least; the others are to be judged again.
///
/// # Errors
/// [`Hindrance`]
pub(crate) fn judge(
    route: &RoutePlan,
    mut records: &[Event<'_>],
    unreadable: &[(usize, ProvenanceError)],
    means: &mut Means<'_>,
) -> Result<Judgement, Hindrance> {
    // What is known of the records besides their live events.
    let usual = usual_output(route);
    let mut rulings = decode(records, unreadable, usual);
    let mut live = Live::All;
    if rulings.iter().any(Ruling::is_failure) {
        live = Live::Items(items_of(records.len()).collect());
    }
    let mut changes = Changes::default();
    let mut held = 0;
    for (index, stage) in route.stages.iter().enumerate() {
        live = live.listed(records.len());
        if let Live::Items(items) = &mut live {
            items.retain(|item| !rulings[item.root].is_failure());
        }
        let (events, first, of_the_first) = match &live {
            Live::All | Live::AllBut(_) => (Cow::Borrowed(records), 0, 1),
            Live::Items(items) => {
                let Some(first) = items.first().map(|item| item.root) else { break };
                let events = items.iter().map(|item| changes.event(&records[item.root], item.version));
                let of_the_first = items.iter().take_while(|item| item.root == first).count();
                (Cow::Owned(events.collect()), first, of_the_first)
            }
        };
        let begun = means.times.is_some().then(Instant::now);
        let outcomes = match stage {
            StagePlan::Plugin(plugin) => {
                let Means { plugins, limits, now_ms, pace, held_bytes, .. } = &mut *means;
                let most = *held_bytes;
                let pace = |emitted| match (held + emitted, pace()) {
                    (held, _) if held > 2 * most => Pace::Stop,
                    (held, Pace::GoOn) if held > most => Pace::Finish,
                    (_, pace) => pace,
                };
                isolate::run(&events, of_the_first, &mut limits[index], &pace, &mut |part| {
                    plugins.call(*plugin, part, *now_ms)
                })?
            }
            StagePlan::Filter(condition) => events.iter().map(|event| filter(condition, event)).collect(),
        };
        drop(events);
        held += outcomes.emitted_bytes;
        if let (Some(begun), Some(times)) = (begun, means.times.as_deref_mut()) {
            times.push(StageTime { stage: index, begun, ended: Instant::now() });
        }
        if outcomes.len < of_the_first {
            let judged = match too_much(held, means) {
                Some(failure) => {
                    rulings[first].fail(Failure { stage: u32::try_from(index).ok(), ..failure });
                    first + 1
                }
                None if first == 0 => return Err(Hindrance::OutOfTime),
                None => first,
            };
            records = &records[..judged];
            // It was the first that was live: nothing of these records goes on.
            rulings.truncate(records.len());
            live = Live::Items(Vec::new());
            break;
        }
        let unjudged = match &live {
            Live::All | Live::AllBut(_) => Some(outcomes.len),
            Live::Items(items) => items.get(outcomes.len).map(|item| item.root),
        };
        records = &records[..unjudged.unwrap_or(records.len())];
        live = apply(live, outcomes, index, &mut rulings, &mut changes);
        // Of records that are left to another time nothing goes on.
        rulings.truncate(records.len());
        if let Live::Items(items) = &mut live {
            items.retain(|item| item.root < records.len());
        }
    }
    Ok(rule(route, usual, records, live, rulings, changes))
}

/// Of each of so many records the event that it came in as.
fn items_of(records: usize) -> impl Iterator<Item = Item> {
    (0..records).map(|root| Item { root, version: None })
}

fn filter(condition: &Condition, event: &Event<'_>) -> Outcome {
    match EventView::new(*event).holds(condition)? {
        true => Ok(Verdict::Pass),
        false => Ok(Verdict::Drop { reason: "filtered".into() }),
    }
}

/// How one record alone made too much of itself for one turn, unless it is to have another.
fn too_much(held: usize, means: &Means<'_>) -> Option<Failure> {
    let most = 2 * means.held_bytes;
    if held > most {
        let message = format!("the events that came of the record hold {held} bytes; {most} are the limit");
        return Some(Failure::new(FailureClass::BadOutput, "output-bytes", message));
    }
    let message = "the calls for all the events that came of the record took too long, twice";
    means.is_second_try.then(|| Failure::new(FailureClass::Deadline, "deadline", message))
}

/// Finds records that no plugin can be shown. The others may go on as they are.
fn decode(records: &[Event<'_>], unreadable: &[(usize, ProvenanceError)], usual: Option<usize>) -> Vec<Ruling> {
    let undecodable = |code: &str, message| {
        Ruling::Fail(Arc::new(Failure::new(FailureClass::Undecodable, code, message)), Course::Decide)
    };
    let found = records.iter().map(|record| match record.headers.first_undecodable() {
        Some(header) => {
            let name = header.name.escape_ascii();
            undecodable("header-name", format!("the name of a header is not UTF-8: {name}"))
        }
        None => Ruling::open(usual),
    });
    let mut rulings: Vec<Ruling> = found.collect();
    for (index, error) in unreadable {
        rulings[*index] = undecodable("retry-headers", format!("a record in the retry topic can't be read: {error}"));
    }
    rulings
}

/// The events after a stage.
fn apply(live: Live, outcomes: Outcomes, stage: usize, rulings: &mut [Ruling], changes: &mut Changes) -> Live {
    let Outcomes { len, others, .. } = outcomes;
    let items = match live {
        Live::All if !others.iter().any(|(_, outcome)| matches!(outcome, Ok(Verdict::Pass | Verdict::Emit(_)))) => {
            if others.is_empty() {
                return Live::All;
            }
            let ended = others.into_iter().map(|(root, outcome)| {
                end(outcome, stage, &mut rulings[root]);
                root
            });
            return Live::AllBut(ended.collect());
        }
        Live::All | Live::AllBut(_) => items_of(len).collect(),
        Live::Items(items) => items,
    };
    let mut others = others.into_iter().peekable();
    let mut next = Vec::with_capacity(items.len());
    for (index, Item { root, version }) in items.into_iter().take(len).enumerate() {
        match others.next_if(|(other, _)| *other == index).map(|(_, outcome)| outcome) {
            None | Some(Ok(Verdict::Pass)) => next.push(Item { root, version }),
            Some(Ok(Verdict::Emit(outputs))) if !outputs.is_empty() => {
                next.extend(outputs.into_iter().map(|output| Item { root, version: changes.add(version, output) }));
            }
            Some(outcome) => end(outcome, stage, &mut rulings[root]),
        }
    }
    Live::Items(next)
}

/// Of an event nothing goes on.
fn end(outcome: Outcome, stage: usize, ruling: &mut Ruling) {
    let failure = match outcome {
        Ok(Verdict::Pass | Verdict::Emit(_)) => return ruling.drop(Verdict::EMITTED_NOTHING.into()),
        Ok(Verdict::Drop { reason }) => return ruling.drop(reason),
        Ok(Verdict::Retry { reason, delay_ms }) => {
            Failure { delay_ms, ..Failure::new(FailureClass::Retry, "retry", reason) }
        }
        Ok(Verdict::Reject { code, message }) => Failure::new(FailureClass::Reject, code, message),
        Err(failure) => *failure,
    };
    ruling.fail(Failure { stage: u32::try_from(stage).ok(), ..failure });
}

/// Chooses the outputs of what came through, and rules on every record.
fn rule(
    route: &RoutePlan,
    usual: Option<usize>,
    records: &[Event<'_>],
    live: Live,
    mut rulings: Vec<Ruling>,
    changes: Changes,
) -> Judgement {
    let items = match live {
        Live::All | Live::AllBut(_) if usual.is_some() => return Judgement { rulings, routed: Vec::new(), changes },
        live => match live.listed(records.len()) {
            Live::Items(items) => items,
            Live::All | Live::AllBut(_) => items_of(records.len()).collect(),
        },
    };
    let mut routed = Vec::with_capacity(items.len());
    // Stages keep the events in the order of their records, so each record's are together.
    let mut items = items.into_iter().peekable();
    for (index, ruling) in rulings.iter_mut().enumerate() {
        let from = routed.len();
        let mut unchanged = false;
        while let Some(item) = items.next_if(|item| item.root == index) {
            if usual.is_some() && item.version.is_none() {
                unchanged = true;
            } else if !ruling.is_failure()
                && let Err(failure) = choose(route, &records[index], item.version, &changes, &mut routed)
            {
                ruling.fail(failure);
            }
        }
        match ruling {
            Ruling::Fail(..) => routed.truncate(from),
            _ if routed.len() > from => *ruling = Ruling::Deliver(from..routed.len()),
            Ruling::Drop { .. } | Ruling::Move => {}
            Ruling::Unchanged { .. } if unchanged => {}
            Ruling::Unchanged { .. } | Ruling::Deliver(_) => ruling.drop(Verdict::EMITTED_NOTHING.into()),
        }
    }
    Judgement { rulings, routed, changes }
}

/// Sends one event to the outputs that take it.
fn choose(
    route: &RoutePlan,
    record: &Event<'_>,
    version: Version,
    changes: &Changes,
    routed: &mut Vec<Routed>,
) -> Result<(), Failure> {
    let port = changes.port(version);
    // Most routes ask nothing of the event.
    let view = LazyCell::new(|| EventView::new(changes.event(record, version)));
    let before = routed.len();
    for (output, plan) in route.outputs.iter().enumerate() {
        let takes = match &plan.select {
            Select::Port(own) => port == Some(own),
            Select::When(condition) => port.is_none() && view.holds(condition)?,
            Select::Default => false,
        };
        if takes {
            routed.push(Routed { version, output });
            if route.matching == Matching::First {
                return Ok(());
            }
        }
    }
    if routed.len() == before && port.is_none() {
        let default = route.outputs.iter().position(|output| matches!(output.select, Select::Default));
        routed.extend(default.map(|output| Routed { version, output }));
    }
    if routed.len() == before { Err(unmatched(port)) } else { Ok(()) }
}

fn unmatched(port: Option<&str>) -> Failure {
    match port {
        Some(port) => Failure::new(
            FailureClass::Unmatched,
            "no-such-port",
            format!("a plugin named the port {:?}, and no output of the route has that port", cut(port, 64)),
        ),
        None => Failure::new(
            FailureClass::Unmatched,
            "no-output",
            "no output's condition holds, and the route has no default output",
        ),
    }
}
