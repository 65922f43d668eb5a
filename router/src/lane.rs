//! The ordered path of one assigned source partition of one route.
//!
//! **One record, from fetch to commit, is [`Lane::step`]**: take in, throttle, judge, deliver. What the log acknowledges
//! comes back through [`Lane::reported`], which settles the record; [`Lane::commits`] says how far the lane has come.
//! A step never blocks: it says what it waits for, and its thread takes another lane.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pointsman_config::plan::{OnDead, Ordering, RoutePlan, StagePlan};
use pointsman_core::delivery::TopicId;
use pointsman_core::failure::Failure;
use pointsman_core::isolate::{BatchLimit, Pace};
use pointsman_core::parked::KeyOrder;
use pointsman_core::policy::History;
use pointsman_core::port::{Assignment, Commit, PluginHost, Report, Sink};
use pointsman_core::provenance::Provenance;
use pointsman_core::record::TopicPartition;
use tracing::{Span, info_span};

use crate::counters::{Fate, Tally};
use crate::credit::Credit;
use crate::intake::Intake;
use crate::judge::{self, Course, Hindrance, Means};
use crate::lanes::Because;
use crate::parking::Parking;
use crate::shared::{Grant, Now, Shared};
use crate::waking::Bell;
use outbox::Outbox;
use sending::{SEQ_MASK, record_of};

mod asking;
mod failing;
mod halting;
mod moving;
mod ordering;
mod outbox;
mod pausing;
mod replays;
mod resting;
mod sending;
mod suspecting;
mod taking;
mod telling;
#[cfg(test)]
mod tests;
mod timing;
mod traced;
mod undoing;
mod units;

pub(crate) use sending::{ID_MASK, lane_of};
pub(crate) use telling::{Outputs, Told, Why};
pub(crate) use undoing::Baggage;

/// One lane. Owned by one worker, which lends it its sink and its plugins for each step.
pub(crate) struct Lane {
    /// The worker's number for it.
    id: u32,
    shared: Arc<Shared>,
    route: usize,
    source: Intake,
    retry: Option<Parking>,
    /// Where parked records of this lane go.
    retry_topic: Option<TopicId>,
    /// For each stage, how many events a call may have.
    limits: Vec<BatchLimit>,
    /// See [`Means::held_bytes`].
    held_bytes: usize,
    /// How long the calls for one record may take in all, ...
    record_time: Duration,
    /// ... and the one with which it ran out in the step before: it is tried once more.
    out_of_time: Option<Unit>,
    /// Taken in, and not judged.
    ready: Vec<Unit>,
    /// The revision of the index at which all of them that are of the source were found to follow nothing; `None` where that
    /// was at several.
    looked_at: Option<u64>,
    /// How far they have come with the rate limits.
    grant: Grant,
    /// Judged, and not all produced.
    outbox: Outbox,
    /// Records whose delivery failed, and under an order those that came after them.
    again: VecDeque<Again>,
    /// An order is at stake: nothing is judged or sent until all that was sent has been reported.
    regrouping: bool,
    /// The runs so far of records that are retried in place, by their sequence numbers.
    in_place: BTreeMap<u64, History>,
    /// Whether the retry partition has its turn next.
    retry_first: bool,
    /// After trouble outside the records: not before.
    pause: Option<Instant>,
    /// Length of the next such pause.
    patience: Duration,
    /// What the last such pause was for.
    trouble: Option<Box<Because>>,
    /// Deliveries produced and not reported.
    outstanding: usize,
    /// What the lane has taken of the worker's [`Credit`].
    queued_bytes: usize,
    /// Nothing new is taken in: the partition is about to be given up.
    draining: bool,
    /// How the last step ended, if nothing but time and new records can make the next one end otherwise.
    rest: Option<Step>,
    halted: Option<Box<halting::Halt>>,
    /// Somebody has it pause.
    by_hand: Option<Box<Because>>,
    dead_letter_log: failing::Chatter,
    slow_log: failing::Chatter,
    /// Of records that kill the process, unless nothing is suspected whatever happens.
    suspicion: Option<suspecting::Suspicion>,
    /// Its breaker, where the route has one.
    guard: Option<pausing::Guard>,
    tally: Tally,
    /// Names the lane in log lines, those of plugins too.
    span: Span,
    /// What the log has refused in transactions that were undone.
    refusals: Vec<undoing::Refusal>,
    /// See [`is_torn`](Self::is_torn).
    torn: bool,
    /// Who wants to know fates.
    telling: telling::Telling,
    /// Of records that are traced, where any are.
    traces: Option<Box<traced::Traces>>,
}

/// What a worker lends to a lane for a step.
pub(crate) struct Tools<'a> {
    pub(crate) sink: &'a mut dyn Sink,
    pub(crate) credit: &'a mut Credit,
    pub(crate) plugins: &'a mut dyn PluginHost,
    pub(crate) random: &'a mut fastrand::Rng,
    pub(crate) now: Now,
    /// How long the worker has been with this lane.
    pub(crate) elapsed: &'a dyn Fn() -> Duration,
    /// Look for records even where no wake-up came.
    pub(crate) look_anyway: bool,
}

/// How a step ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Something was done, and there may be more to do.
    Progress,
    /// Nothing to do until a wake-up.
    Idle,
    /// Nothing to do before.
    NotBefore(Instant),
    /// The producer queue is full.
    AwaitingCredit,
}

/// Which of the lane's partitions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Which {
    Source,
    Retry,
}

impl Which {
    /// The word for it in log lines.
    const fn name(self) -> &'static str {
        match self {
            Self::Source => "source",
            Self::Retry => "retry",
        }
    }
}

/// A record in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Unit {
    which: Which,
    seq: u64,
}

/// What the outstanding deliveries of a record are for: its fate, once they are acknowledged.
#[derive(Clone, Debug, Default)]
pub(crate) enum Intent {
    /// Nothing was produced.
    #[default]
    None,
    Deliver(Outputs),
    Park(Box<ToPark>),
    DeadLetter {
        failure: Arc<Failure>,
        truncated: bool,
    },
    /// To stay parked, elsewhere, at this offset at the lowest.
    Move {
        from: i64,
    },
}

impl Intent {
    /// Why the record goes where it goes, if it has failed.
    fn failure(&self) -> Option<&Failure> {
        match self {
            Self::Park(to_park) => Some(&to_park.failure),
            Self::DeadLetter { failure, .. } => Some(failure),
            Self::None | Self::Deliver(_) | Self::Move { .. } => None,
        }
    }
}

/// See [`Intent::Park`]. Boxed there, since most records go another way, and every one has the place for it.
#[derive(Clone, Debug)]
pub(crate) struct ToPark {
    failure: Arc<Failure>,
    due_ms: i64,
    /// The lowest offset that it can have in the retry partition.
    from: i64,
}

/// A record to be taken up again.
struct Again {
    at: Instant,
    unit: Unit,
    what: Resume,
}

/// Where to take it up.
enum Resume {
    /// At the first stage.
    Judge,
    /// At the failure that it has.
    Fail(Arc<Failure>, Course),
    /// At being written anew.
    Move,
}

/// What the headers of a parked record say: the number of its original ones, and its provenance. Of a replayed record of the
/// source, the same. Boxed, since most records have none, and every record has the place for it.
type Parked = Box<(usize, Provenance)>;

/// First and longest pause after trouble outside the records.
const PATIENCE: Range<Duration> = Duration::from_millis(100)..Duration::from_secs(10);

/// A lane that has calls left to make after this long lets the others of its worker have their turn first.
const STEP_TIME: Duration = Duration::from_millis(100);
/// The calls for one record, of which a stage may have made many events, may take this long in all, ...
const RECORD_TIME: Duration = Duration::from_secs(5);
/// ... and so many deadlines of each of its plugins more: until a record has failed alone there may be three calls, each
/// with the start of an instance before it.
const DEADLINES: u32 = 6;

impl Lane {
    /// Takes a partition over, for the worker whose bell this is.
    pub(crate) fn new(bell: &Bell, shared: Arc<Shared>, route: usize, assignment: Assignment, now: Instant) -> Self {
        let plan = &shared.plan.routes[route];
        let topic = &assignment.source.partition.topic;
        let number = plan.sources.iter().position(|source| source.topic == *topic).unwrap_or(0);
        let retry_topic = plan.sources.get(number).and_then(|source| source.retry);
        let span = info_span!(parent: None, "lane", route = %plan.name, lane = %assignment.source.partition);
        let limits = plan.stages.iter().map(|_| BatchLimit::new(plan.batch_records.get())).collect();
        let plugins = plan.stages.iter().filter_map(StagePlan::plugin);
        let plugins = plugins.filter_map(|plugin| shared.plan.plugins.get(plugin.0 as usize));
        let keys = match (plan.ordering, plan.on_dead) {
            (Ordering::Key, OnDead::Release) => KeyOrder::Kept,
            (Ordering::Key, OnDead::ParkKey) => KeyOrder::KeptAndHeld,
            (Ordering::None | Ordering::Partition, _) => KeyOrder::None,
        };
        let in_flight = 2 * plan.in_flight_records.get() + plan.batch_records.get();
        let tracer = shared.tracer.clone();
        let traces =
            tracer.map(|tracer| Box::new(traced::Traces::new(tracer, &assignment.source.partition, route, now)));
        let source = Intake::new(assignment.source, in_flight, bell.clone());
        let retry = assignment.retry.map(|retry| Parking::new(retry, &source, in_flight, bell.clone(), keys));
        let held_bytes = plugins.clone().map(|plugin| plugin.limits.output_bytes).max().unwrap_or(0);
        let record_time = RECORD_TIME + plugins.map(|plugin| plugin.limits.deadline * DEADLINES).sum::<Duration>();
        let mut lane = Self {
            id: bell.lane,
            route,
            source,
            retry,
            retry_topic,
            limits,
            held_bytes,
            record_time,
            out_of_time: None,
            ready: Vec::new(),
            looked_at: None,
            grant: Grant::default(),
            outbox: Outbox::default(),
            again: VecDeque::new(),
            regrouping: false,
            in_place: BTreeMap::new(),
            retry_first: true,
            pause: None,
            patience: PATIENCE.start,
            trouble: None,
            outstanding: 0,
            queued_bytes: 0,
            draining: false,
            rest: None,
            halted: None,
            by_hand: None,
            dead_letter_log: failing::Chatter::default(),
            slow_log: failing::Chatter::default(),
            suspicion: Some(suspecting::Suspicion::new()),
            guard: plan.breaker.as_ref().map(|terms| pausing::Guard::new(terms, now)),
            tally: Tally::new(route, number, plan.outputs.len()),
            span,
            refusals: Vec::new(),
            torn: false,
            telling: telling::Telling::default(),
            traces,
            shared,
        };
        lane.know_better(in_flight);
        lane
    }

    /// [`step`](Self::step), where there may be something to do.
    pub(crate) fn turn(&mut self, tools: &mut Tools<'_>) -> Step {
        if let Some(rest) = self.resting(tools) {
            return rest;
        }
        let _named = self.span.clone().entered();
        self.look_for_watchers();
        self.tell_traces_the_time(tools.now.instant);
        let ended = self.step(tools);
        self.hand_in(tools.now);
        self.rest = matches!(ended, Step::Idle | Step::NotBefore(_)).then_some(ended);
        ended
    }

    /// One step of the straight path: fetch a batch, decide, deliver. (Settling and committing follow when the log has
    /// acknowledged: [`reported`](Self::reported), [`commits`](Self::commits).)
    fn step(&mut self, tools: &mut Tools<'_>) -> Step {
        self.give_way(tools.now);
        if self.is_halted() || self.regroup(tools.now) {
            return Step::Idle;
        }
        if !self.outbox.is_empty() {
            return self.deliver(tools);
        }
        if let Some(step) = self.end_trial(tools.now) {
            return step;
        }
        if self.draining || self.by_hand.is_some() {
            return Step::Idle;
        }
        if let Some(until) = self.pause.filter(|until| *until > tools.now.instant) {
            return Step::NotBefore(until);
        }
        if !self.is_chosen()
            && let Some(step) = self.choose(tools)
        {
            return step;
        }
        if !tools.credit.allows(self.queued_bytes) {
            return Step::AwaitingCredit;
        }
        if let Err(step) = self.stand_trial(tools) {
            return step;
        }
        if let Err(until) = self.judge_ready(tools) {
            return Step::NotBefore(until);
        }
        self.judged_on_trial(tools.now);
        self.deliver(tools)
    }

    /// Sees to it that something is ready to be judged. The answer is what is to be done instead, where nothing is.
    fn choose(&mut self, tools: &mut Tools<'_>) -> Option<Step> {
        if let Some(step) = self.held_back(tools) {
            return Some(step);
        }
        self.take_failed(false);
        let any = !self.ready.is_empty() || self.take_in(tools);
        if !self.outbox.is_empty() {
            return Some(self.deliver(tools));
        }
        if self.ready.is_empty() && self.outstanding == 0 {
            self.take_failed(true);
        }
        let is_over = any && !self.is_halted();
        self.ready.is_empty().then(|| if is_over { Step::Progress } else { self.nothing_to_do(tools) })
    }

    /// Runs the stages over what is ready, as far as the rate limits allow, and leaves it in the outbox.
    fn judge_ready(&mut self, tools: &mut Tools<'_>) -> Result<(), Instant> {
        if self.ready.is_empty() {
            return Ok(());
        }
        let alone = Arc::clone(&self.shared.alone);
        let judging = alone.enter();
        if judging.is_none() && !self.keeps_others_waiting() {
            return Err(tools.now.instant + suspecting::ALONE_POLL);
        }
        let ready = self.ready.len().min(self.most_at_once());
        let mut grant = std::mem::take(&mut self.grant);
        let plugins = self.plan().stages.iter().filter_map(StagePlan::plugin);
        let count = self.shared.limiters.admit(self.route, plugins, ready, &mut grant, tools.now);
        self.grant = grant;
        let count = self.at_once(count?, tools.now);
        let mut units: Vec<Unit> = self.ready[..count].to_vec();
        let parked = units.iter().any(|unit| unit.which == Which::Retry);
        let (mut origins, mut unreadable) = (Vec::new(), Vec::new());
        for (index, unit) in units.iter().enumerate().filter(|_| parked) {
            origins.push(self.origin_of(*unit).unwrap_or_else(|error| {
                unreadable.push((index, error));
                None
            }));
        }
        let mut records = self.events(&units, &origins);
        let replayed = replays::among(&units, &records);
        if !replayed.is_empty() {
            drop(records);
            origins.resize(units.len(), None);
            replayed.into_iter().for_each(|(index, origin)| origins[index] = Some(origin));
            records = self.events(&units, &origins);
        }
        assert_eq!(records.len(), units.len(), "a record that is ready is in flight");
        let mut chosen = self.choose_traced(&units, &records);
        let named = self.name_batch(chosen.as_ref());
        let mut limits = self.limits.clone();
        let mut plugins = timing::Timed {
            plugins: &mut *tools.plugins,
            plan: &self.shared.plan,
            counters: &self.shared.counters,
            route: self.route,
            slow: Vec::new(),
        };
        let mut means = Means {
            plugins: &mut plugins,
            limits: &mut limits,
            now_ms: tools.now.unix_ms,
            pace: &|| self.pace((tools.elapsed)()),
            held_bytes: self.held_bytes,
            is_second_try: self.out_of_time.is_some_and(|tried| units.first() == Some(&tried)),
            times: chosen.as_mut().map(|chosen| &mut chosen.stages),
        };
        let judged = judge::judge(self.plan(), &records, &unreadable, &mut means);
        let slow = plugins.slow;
        drop(records);
        self.limits = limits;
        self.tell_slow(slow, tools.now);
        drop(named);
        match judged {
            Ok(judgement) => {
                self.out_of_time = None;
                // The others were let through by the limits, and wait for the next step.
                self.grant = Grant::of(count - judgement.rulings.len());
                units.truncate(judgement.rulings.len());
                self.note_judged(&units, chosen);
                self.ready.drain(..units.len());
                self.outbox = Outbox { units, origins, judgement, next: 0, sent: 0, looked_at: self.looked_at };
                Ok(())
            }
            Err(Hindrance::OutOfTime) => {
                self.out_of_time = units.first().copied();
                self.grant = Grant::of(count);
                self.break_off();
                Err(tools.now.instant)
            }
            Err(Hindrance::Unavailable(unavailable)) => {
                self.wait_out(tools.now, &unavailable.message);
                self.break_off();
                Err(self.pause.unwrap_or(tools.now.instant))
            }
        }
    }

    fn pace(&self, elapsed: Duration) -> Pace {
        if elapsed >= self.record_time {
            Pace::Stop
        } else if elapsed >= STEP_TIME {
            Pace::Finish
        } else {
            Pace::GoOn
        }
    }

    /// Deliveries of this lane were acknowledged, or failed.
    pub(crate) fn reported(&mut self, reports: impl Iterator<Item = Report>, credit: &mut Credit, now: Now) {
        self.rest = None;
        self.look_for_watchers();
        self.tell_traces_the_time(now.instant);
        reports.for_each(|report| self.take_report(report, credit, now));
        self.hand_in(now);
    }

    fn take_report(&mut self, Report { token, result }: Report, credit: &mut Credit, now: Now) {
        self.outstanding = self.outstanding.saturating_sub(1);
        let (which, low_seq) = record_of(token);
        let seq = match (which, &self.retry) {
            (Which::Source, _) => self.source.full_seq(low_seq, SEQ_MASK),
            (Which::Retry, Some(retry)) => retry.full_seq(low_seq, SEQ_MASK),
            (Which::Retry, None) => return,
        };
        let unit = Unit { which, seq };
        if let Err(undelivered) = &result {
            self.delivery_failed(unit, &undelivered.error);
        }
        let Some(flight) = self.flight(unit) else { return };
        flight.outstanding = flight.outstanding.saturating_sub(1);
        let (sent, done) = (flight.sent, flight.outstanding == 0);
        // Of several deliveries of a record it is not known how much each was: the last one gives all of it back.
        let bytes = if done { std::mem::take(&mut flight.queued_bytes) } else { 0 };
        let in_vain = match (&result, &flight.intent) {
            (Ok(at), Intent::Park(to_park)) => at.filter(|at| *at < to_park.from),
            (Ok(at), Intent::Move { from }) => at.filter(|at| at < from),
            _ => None,
        };
        if let Err(undelivered) = result {
            flight.error.get_or_insert(undelivered);
        }
        if let Some(offset) = in_vain {
            flight.error.get_or_insert_with(|| Box::new(taking::in_vain(offset).into()));
        }
        let is_flawless = flight.error.is_none();
        let delivered = match flight.intent {
            Intent::Deliver(outputs) if is_flawless => Some(outputs),
            _ => None,
        };
        credit.give_back(bytes);
        self.queued_bytes = self.queued_bytes.saturating_sub(bytes);
        match (sent && done, delivered) {
            (false, _) => {}
            // As most records end.
            (true, Some(outputs)) => self.delivered(unit, outputs),
            (true, None) => {
                // Of what has arrived next to nothing is logged: to enter the span would cost more than to settle it.
                let _named = (!is_flawless).then(|| self.span.clone().entered());
                self.finish(unit, now);
            }
        }
        if let Some(offset) = in_vain {
            self.torn = true;
            self.parked_in_vain(offset, now);
        }
    }

    /// Gives a record its fate.
    fn settle(&mut self, unit: Unit, fate: Fate) {
        self.tally.count(fate);
        self.end_trace(unit, fate);
        self.patience = PATIENCE.start;
        if matches!(fate, Fate::Delivered | Fate::Dropped) {
            self.succeeded(unit.which);
        }
        self.settle_parked(unit, fate == Fate::Parked);
        match (unit.which, &mut self.retry) {
            (Which::Source, _) => self.source.settle(unit.seq),
            (Which::Retry, Some(retry)) => retry.settle(unit.seq, fate == Fate::Parked),
            (Which::Retry, None) => {}
        }
    }

    /// From now on only what is judged already is delivered.
    pub(crate) fn drain(&mut self) {
        self.rest = None;
        self.draining = true;
        self.ready.clear();
        self.leave_claim();
    }

    /// Whether the partition is about to be given up.
    pub(crate) fn is_draining(&self) -> bool {
        self.draining
    }

    /// Whether everything that was judged has been acknowledged.
    pub(crate) fn is_drained(&self) -> bool {
        self.outstanding == 0 && (self.is_halted() || self.outbox.is_empty())
    }

    /// What is to be committed; everything, changed or not, if `again`.
    pub(crate) fn commits(&mut self, again: bool) -> impl Iterator<Item = Commit> {
        self.let_guilty_go();
        let retry = self.retry.as_mut().and_then(|retry| retry.commit(again, self.draining));
        self.source.commit(again, self.draining).into_iter().chain(retry)
    }

    /// Nobody waits for the lane's deliveries any more.
    pub(crate) fn forgo(&self, credit: &mut Credit) {
        credit.give_back(self.queued_bytes);
        if self.is_paused() {
            self.shared.counters.resume(self.route);
        }
    }

    /// The source partition.
    pub(crate) fn source_partition(&self) -> &TopicPartition {
        &self.source.partition
    }

    fn source_watermark(&self) -> i64 {
        // An intake without records in flight stands at its next offset.
        self.source.watermark()
    }

    fn plan(&self) -> &RoutePlan {
        &self.shared.plan.routes[self.route]
    }
}
