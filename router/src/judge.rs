//! From records to rulings: the stages and the outputs of a route, over one batch. Nothing leaves here; what is ruled is
//! delivered by the [lane](crate::lane).

use pointsman_config::plan::{Matching, RoutePlan, Select, StagePlan};
use pointsman_core::condition::EventView;
use pointsman_core::event::Event;
use pointsman_core::failure::{Failure, FailureClass};
use pointsman_core::isolate::{self, BatchLimit, Unavailable};
use pointsman_core::port::PluginHost;
use pointsman_core::provenance::ProvenanceError;
use pointsman_core::record::{Headers, Record, TopicPartition};
use pointsman_core::verdict::{Output, Patch, Verdict};

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
    /// The policy decides.
    Fail(Failure),
}

/// An event on its way to one output.
#[derive(Debug)]
pub(crate) struct Routed {
    /// The event, as the difference to the record it came from.
    pub(crate) change: Output,
    /// Index of the output in the route.
    pub(crate) output: usize,
}

/// The rulings on a batch.
#[derive(Debug, Default)]
pub(crate) struct Judgement {
    /// One for each record, in order.
    pub(crate) rulings: Vec<Ruling>,
    /// What [`Ruling::Deliver`] points into.
    pub(crate) routed: Vec<Routed>,
}

/// An event inside the stages: which record it came from, and how it differs from it.
struct Item {
    root: usize,
    change: Output,
}

/// What is known of a record besides its live items.
#[derive(Default)]
struct Root {
    failure: Option<Failure>,
    drop_reason: Option<String>,
}

const UNCHANGED: Output =
    Output { port: None, key: Patch::Keep, value: Patch::Keep, headers: None, timestamp_ms: None };

/// Runs the stages of `route` over `inputs` and chooses outputs.
///
/// The record is the unit: if one event that came of it fails, in whatever stage, the whole record fails, and none of
/// its events leaves. `limits` has one entry for each stage.
///
/// # Errors
/// [`Unavailable`]: a plugin can't be called at all; nothing is ruled.
pub(crate) fn judge(
    route: &RoutePlan,
    inputs: &[Input<'_>],
    plugins: &mut dyn PluginHost,
    limits: &mut [BatchLimit],
    now_ms: i64,
) -> Result<Judgement, Unavailable> {
    let mut roots: Vec<Root> = inputs.iter().map(decode).collect();
    let mut items: Vec<Item> = (0..inputs.len()).map(|root| Item { root, change: UNCHANGED }).collect();
    for (index, (stage, limit)) in route.stages.iter().zip(limits).enumerate() {
        items.retain(|item| roots[item.root].failure.is_none());
        if items.is_empty() {
            break;
        }
        let events: Vec<Event<'_>> = items.iter().map(|item| event(&inputs[item.root], &item.change)).collect();
        let outcomes = match stage {
            StagePlan::Plugin(plugin) => isolate::run(&events, limit, &mut |part| plugins.call(*plugin, part, now_ms))?,
            StagePlan::Filter(condition) => events
                .iter()
                .map(|event| match EventView::new(*event).holds(condition)? {
                    true => Ok(Verdict::Pass),
                    false => Ok(Verdict::Drop { reason: "filtered".into() }),
                })
                .collect(),
        };
        drop(events);
        items = apply(items, outcomes, index, &mut roots);
    }
    Ok(rule(route, inputs, items, roots))
}

/// Finds records that no plugin can be shown.
fn decode(input: &Input<'_>) -> Root {
    let undecodable = |code: &str, message| Some(Failure::new(FailureClass::Undecodable, code, message));
    let failure = match input.unreadable {
        Some(error) => undecodable("retry-headers", format!("a record in the retry topic can't be read: {error}")),
        None => {
            let bad = input.record.headers.iter().find(|header| std::str::from_utf8(header.name).is_err());
            bad.and_then(|header| {
                let name = header.name.escape_ascii();
                undecodable("header-name", format!("the name of a header is not UTF-8: {name}"))
            })
        }
    };
    Root { failure, drop_reason: None }
}

/// The event that an item stands for.
fn event<'a>(input: &Input<'a>, change: &'a Output) -> Event<'a> {
    let record = &input.record;
    Event {
        topic: &input.origin.topic,
        partition: input.origin.partition,
        offset: record.offset,
        timestamp_ms: change.timestamp_ms.unwrap_or(record.timestamp_ms),
        key: change.key.over(record.key),
        value: change.value.over(record.value),
        headers: change.headers.as_deref().map_or(record.headers, Headers::Owned),
        attempt: input.attempt,
    }
}

/// The events after a stage.
fn apply(items: Vec<Item>, outcomes: Vec<isolate::Outcome>, stage: usize, roots: &mut [Root]) -> Vec<Item> {
    let mut next = Vec::with_capacity(items.len());
    for (Item { root, change }, outcome) in items.into_iter().zip(outcomes) {
        let failure = match outcome {
            Ok(Verdict::Pass) => {
                next.push(Item { root, change });
                continue;
            }
            Ok(Verdict::Drop { reason }) => {
                roots[root].drop_reason = Some(reason);
                continue;
            }
            Ok(Verdict::Emit(outputs)) => {
                if outputs.is_empty() {
                    roots[root].drop_reason = Some(Verdict::EMITTED_NOTHING.into());
                }
                next.extend(outputs.into_iter().map(|output| Item { root, change: compose(&change, output) }));
                continue;
            }
            Ok(Verdict::Retry { reason, delay_ms }) => {
                Failure { delay_ms, ..Failure::new(FailureClass::Retry, "retry", reason) }
            }
            Ok(Verdict::Reject { code, message }) => Failure::new(FailureClass::Reject, code, message),
            Err(failure) => failure,
        };
        // The first failure of a record is the one that is told.
        let stage = u32::try_from(stage).ok();
        roots[root].failure.get_or_insert(Failure { stage, ..failure });
    }
    next
}

/// The difference to the record, from the difference so far and what a stage made of that event.
fn compose(so_far: &Output, output: Output) -> Output {
    let field = |before: &Patch, after| if after == Patch::Keep { before.clone() } else { after };
    Output {
        port: output.port.or_else(|| so_far.port.clone()),
        key: field(&so_far.key, output.key),
        value: field(&so_far.value, output.value),
        headers: output.headers.or_else(|| so_far.headers.clone()),
        timestamp_ms: output.timestamp_ms.or(so_far.timestamp_ms),
    }
}

/// Chooses the outputs of what came through, and rules on every record.
fn rule(route: &RoutePlan, inputs: &[Input<'_>], items: Vec<Item>, roots: Vec<Root>) -> Judgement {
    let mut judgement = Judgement { rulings: Vec::with_capacity(roots.len()), routed: Vec::with_capacity(items.len()) };
    let mut takers = Vec::new();
    // Stages keep the events in the order of their records, so each record's are together.
    let mut items = items.into_iter().peekable();
    for (index, root) in roots.into_iter().enumerate() {
        let from = judgement.routed.len();
        let mut failure = root.failure;
        while let Some(item) = items.next_if(|item| item.root == index) {
            if failure.is_none() {
                failure = choose(route, &inputs[index], item.change, &mut takers, &mut judgement.routed).err();
            }
        }
        judgement.rulings.push(match failure {
            Some(failure) => {
                judgement.routed.truncate(from);
                Ruling::Fail(failure)
            }
            None if judgement.routed.len() > from => Ruling::Deliver(from..judgement.routed.len()),
            None => Ruling::Drop { reason: root.drop_reason.unwrap_or_else(|| Verdict::EMITTED_NOTHING.into()) },
        });
    }
    judgement
}

/// Sends one event to the outputs that take it. `takers` is a list to work with.
fn choose(
    route: &RoutePlan,
    input: &Input<'_>,
    change: Output,
    takers: &mut Vec<usize>,
    routed: &mut Vec<Routed>,
) -> Result<(), Failure> {
    takers.clear();
    find_takers(route, input, &change, takers)?;
    let Some((last, others)) = takers.split_last() else {
        return Err(unmatched(change.port.as_deref()));
    };
    routed.extend(others.iter().map(|output| Routed { change: change.clone(), output: *output }));
    routed.push(Routed { change, output: *last });
    Ok(())
}

/// Lists the outputs that take an event.
fn find_takers(route: &RoutePlan, input: &Input<'_>, change: &Output, takers: &mut Vec<usize>) -> Result<(), Failure> {
    let view = EventView::new(event(input, change));
    for (index, output) in route.outputs.iter().enumerate() {
        let takes = match &output.select {
            Select::Port(port) => change.port.as_deref() == Some(port),
            Select::When(condition) => change.port.is_none() && view.holds(condition)?,
            Select::Default => false,
        };
        if takes {
            takers.push(index);
            if route.matching == Matching::First {
                break;
            }
        }
    }
    if takers.is_empty() && change.port.is_none() {
        takers.extend(route.outputs.iter().position(|output| matches!(output.select, Select::Default)));
    }
    Ok(())
}

fn unmatched(port: Option<&str>) -> Failure {
    match port {
        Some(port) => Failure::new(
            FailureClass::Unmatched,
            "no-such-port",
            format!("a plugin named the port {port:?}, and no output of the route has that port"),
        ),
        None => Failure::new(
            FailureClass::Unmatched,
            "no-output",
            "no output's condition holds, and the route has no default output",
        ),
    }
}
