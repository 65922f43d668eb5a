//! From records to rulings: the stages and the outputs of a route, over one batch. Nothing leaves here; what is ruled is
//! delivered by the [lane](crate::lane).

use std::cell::{Cell, LazyCell};
use std::mem::size_of_val;

use pointsman_config::plan::{Matching, RoutePlan, Select, StagePlan};
use pointsman_core::condition::{Condition, EventView};
use pointsman_core::event::Event;
use pointsman_core::failure::{Failure, FailureClass};
use pointsman_core::isolate::{self, BatchLimit, Pace, Unavailable};
use pointsman_core::port::PluginHost;
use pointsman_core::provenance::{ProvenanceError, cut};
use pointsman_core::record::{Headers, Record, TopicPartition};
use pointsman_core::verdict::{Patch, Verdict};

use changes::{Changes, Version};

pub(crate) mod changes;

/// One record to be judged, with the router's own headers taken off.
#[derive(Clone, Copy)]
pub(crate) struct Input<'a> {
    /// Where it came from.
    pub(crate) origin: &'a TopicPartition,
    /// Its key, value, headers, and the offset and timestamp it has at its origin.
    pub(crate) record: Record<'a>,
    /// Number of this run, from 1.
    pub(crate) attempt: u32,
    /// A parked record whose headers don't say where it came from.
    pub(crate) unreadable: Option<&'a ProvenanceError>,
}

impl<'a> Input<'a> {
    /// The record as an event.
    fn event(&self) -> Event<'a> {
        let Self { origin, record, attempt, .. } = *self;
        let Record { offset, timestamp_ms, key, value, headers } = record;
        Event { topic: &origin.topic, partition: origin.partition, offset, timestamp_ms, key, value, headers, attempt }
    }
}

/// What is to become of one record.
#[derive(Debug)]
pub(crate) enum Ruling {
    /// These of [`Judgement::routed`], at least one, in order.
    Deliver(std::ops::Range<usize>),
    /// Nothing.
    Drop {
        /// A plugin's word for it, or `filtered`.
        reason: String,
    },
    /// The policy decides, or has decided.
    Fail(Box<Failure>, Course),
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
}

impl Ruling {
    /// Of a record that may still go on.
    const OPEN: Self = Self::Deliver(0..0);

    /// The first failure of a record is the one that is told.
    fn fail(&mut self, failure: Failure) {
        if !self.is_failure() {
            *self = Self::Fail(Box::new(failure), Course::Decide);
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
}

/// An event inside the stages, and which record it came from.
#[derive(Clone, Copy)]
struct Item {
    root: usize,
    version: Version,
}

/// Runs the stages of `route` over `inputs`, of which there is at least one, and chooses outputs.
///
/// The record is the unit: if one event that came of it fails, in whatever stage, the whole record fails, and none of
/// its events leaves. Where the pace or the bytes held end the work early, the rulings are on the first records, one at
/// least; the others are to be judged again.
///
/// # Errors
/// [`Unavailable`]: a plugin can't be called at all; nothing is ruled.
pub(crate) fn judge(
    route: &RoutePlan,
    mut inputs: &[Input<'_>],
    means: &mut Means<'_>,
) -> Result<Judgement, Unavailable> {
    // What is known of the records besides their live items.
    let mut rulings: Vec<Ruling> = inputs.iter().map(decode).collect();
    let mut items: Vec<Item> = (0..inputs.len()).map(|root| Item { root, version: None }).collect();
    let mut changes = Changes::default();
    let held = Cell::new(0);
    for (index, stage) in route.stages.iter().enumerate() {
        items.retain(|item| !rulings[item.root].is_failure());
        let Some(first) = items.first().map(|item| item.root) else { break };
        let of_the_first = items.iter().take_while(|item| item.root == first).count();
        let events: Vec<Event<'_>> = items.iter().map(|item| changes.event(&inputs[item.root], item.version)).collect();
        let outcomes = match stage {
            StagePlan::Plugin(plugin) => {
                let Means { plugins, limits, now_ms, pace, held_bytes } = &mut *means;
                let most = *held_bytes;
                let pace = || match (held.get(), pace()) {
                    (held, _) if held > 2 * most => Pace::Stop,
                    (held, Pace::GoOn) if held > most => Pace::Finish,
                    (_, pace) => pace,
                };
                isolate::run(&events, of_the_first, &mut limits[index], &pace, &mut |part| {
                    let verdicts = plugins.call(*plugin, part, *now_ms)?;
                    held.set(verdicts.iter().map(bytes_of).fold(held.get(), usize::saturating_add));
                    Ok(verdicts)
                })?
            }
            StagePlan::Filter(condition) => events.iter().map(|event| filter(condition, event)).collect(),
        };
        drop(events);
        if outcomes.len() < of_the_first {
            rulings[first].fail(Failure { stage: u32::try_from(index).ok(), ..too_much(held.get(), means) });
            inputs = &inputs[..=first];
        } else if let Some(unjudged) = items.get(outcomes.len()) {
            inputs = &inputs[..unjudged.root];
        }
        items = apply(&items, outcomes, index, &mut rulings, &mut changes);
        // Of records that are left to another time nothing goes on.
        rulings.truncate(inputs.len());
        items.retain(|item| item.root < inputs.len());
    }
    Ok(rule(route, inputs, &items, rulings, changes))
}

fn filter(condition: &Condition, event: &Event<'_>) -> isolate::Outcome {
    match EventView::new(*event).holds(condition)? {
        true => Ok(Verdict::Pass),
        false => Ok(Verdict::Drop { reason: "filtered".into() }),
    }
}

/// What the router holds of a verdict.
fn bytes_of(verdict: &Verdict) -> usize {
    let patch = |patch: &Patch| if let Patch::Set(bytes) = patch { bytes.len() } else { 0 };
    match verdict {
        Verdict::Emit(outputs) => {
            let fields = outputs.iter().map(|output| {
                let headers = output.headers.as_deref().unwrap_or_default();
                patch(&output.key) + patch(&output.value) + Headers::Owned(headers).bytes() + size_of_val(headers)
            });
            size_of_val(outputs.as_slice()) + fields.sum::<usize>()
        }
        // Their texts are short: whoever gives verdicts cuts them.
        Verdict::Pass | Verdict::Drop { .. } | Verdict::Retry { .. } | Verdict::Reject { .. } => 0,
    }
}

/// One record alone made too much of itself for one turn.
fn too_much(held: usize, means: &Means<'_>) -> Failure {
    let most = 2 * means.held_bytes;
    if held > most {
        let message = format!("the events that came of the record hold {held} bytes; {most} are the limit");
        return Failure::new(FailureClass::BadOutput, "output-bytes", message);
    }
    Failure::new(
        FailureClass::Deadline,
        "deadline",
        "the calls for all the events that came of the record took too long",
    )
}

/// Finds records that no plugin can be shown.
fn decode(input: &Input<'_>) -> Ruling {
    let undecodable = |code: &str, message| {
        Ruling::Fail(Box::new(Failure::new(FailureClass::Undecodable, code, message)), Course::Decide)
    };
    if let Some(error) = input.unreadable {
        return undecodable("retry-headers", format!("a record in the retry topic can't be read: {error}"));
    }
    match input.record.headers.first_undecodable() {
        Some(header) => {
            let name = header.name.escape_ascii();
            undecodable("header-name", format!("the name of a header is not UTF-8: {name}"))
        }
        None => Ruling::OPEN,
    }
}

/// The events after a stage.
fn apply(
    items: &[Item],
    outcomes: Vec<isolate::Outcome>,
    stage: usize,
    rulings: &mut [Ruling],
    changes: &mut Changes,
) -> Vec<Item> {
    let mut next = Vec::with_capacity(items.len());
    for (&Item { root, version }, outcome) in items.iter().zip(outcomes) {
        let failure = match outcome {
            Ok(Verdict::Pass) => {
                next.push(Item { root, version });
                continue;
            }
            Ok(Verdict::Drop { reason }) => {
                rulings[root].drop(reason);
                continue;
            }
            Ok(Verdict::Emit(outputs)) => {
                if outputs.is_empty() {
                    rulings[root].drop(Verdict::EMITTED_NOTHING.into());
                }
                next.extend(outputs.into_iter().map(|output| Item { root, version: changes.add(version, output) }));
                continue;
            }
            Ok(Verdict::Retry { reason, delay_ms }) => {
                Failure { delay_ms, ..Failure::new(FailureClass::Retry, "retry", reason) }
            }
            Ok(Verdict::Reject { code, message }) => Failure::new(FailureClass::Reject, code, message),
            Err(failure) => *failure,
        };
        rulings[root].fail(Failure { stage: u32::try_from(stage).ok(), ..failure });
    }
    next
}

/// Chooses the outputs of what came through, and rules on every record.
fn rule(
    route: &RoutePlan,
    inputs: &[Input<'_>],
    items: &[Item],
    mut rulings: Vec<Ruling>,
    changes: Changes,
) -> Judgement {
    let mut routed = Vec::with_capacity(items.len());
    // Stages keep the events in the order of their records, so each record's are together.
    let mut items = items.iter().peekable();
    for (index, ruling) in rulings.iter_mut().enumerate() {
        let from = routed.len();
        while let Some(item) = items.next_if(|item| item.root == index) {
            if !ruling.is_failure()
                && let Err(failure) = choose(route, &inputs[index], item.version, &changes, &mut routed)
            {
                ruling.fail(failure);
            }
        }
        match ruling {
            Ruling::Fail(..) => routed.truncate(from),
            _ if routed.len() > from => *ruling = Ruling::Deliver(from..routed.len()),
            Ruling::Drop { .. } => {}
            Ruling::Deliver(_) => ruling.drop(Verdict::EMITTED_NOTHING.into()),
        }
    }
    Judgement { rulings, routed, changes }
}

/// Sends one event to the outputs that take it.
fn choose(
    route: &RoutePlan,
    input: &Input<'_>,
    version: Version,
    changes: &Changes,
    routed: &mut Vec<Routed>,
) -> Result<(), Failure> {
    let port = changes.port(version);
    // Most routes ask nothing of the event.
    let view = LazyCell::new(|| EventView::new(changes.event(input, version)));
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
