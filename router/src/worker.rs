//! A worker: one thread, some lanes, one sink, one instance of each plugin.
//!
//! The thread goes round: orders from the control side, reports from the sink, a turn of each lane that is awake, commits; and
//! sleeps when nobody has anything to do, until a wake-up, a due time, or a short while that makes a lost wake-up good.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::mpsc::{Receiver, Sender, SyncSender, TryRecvError, channel};
use std::sync::{Arc, OnceLock};
use std::thread::{JoinHandle, Thread};
use std::time::{Duration, Instant};

use pointsman_config::plan::TransactionPlan;
use pointsman_core::port::{
    Assignment, Commit, Committer, PluginHost, Receipt, Report, Revocation, Sink, SinkFailed, TransactionalSink, Waker,
};
use pointsman_core::record::TopicPartition;

use crate::credit::Credit;
use crate::hurry::Hurry;
use crate::lane::{Lane, lane_of};
use crate::lanes::{Asked, Done, Refusal, Verb, WorkerReport};
use crate::retries::LaneRetries;
use crate::shared::{Now, Shared};
use crate::waking::Woken;
use transacting::Transacting;
use turns::Stepped;

#[cfg(test)]
mod tests;
mod transacting;
mod turns;

/// Kafka forgets the offsets of topics that a group is not subscribed to, such as retry topics, after some days: every
/// lane commits at least this often, changed or not.
const COMMIT_ANYWAY: Duration = Duration::from_secs(3600);

/// The commits of one group, from the moment its membership is known.
pub(crate) type GroupCommitter = Arc<OnceLock<Arc<dyn Committer>>>;

/// An order to a worker.
pub(crate) enum Order {
    /// Take a partition over.
    Adopt { route: usize, assignment: Box<Assignment>, committer: GroupCommitter },
    /// Give partitions up: drained where they are revoked, at once where they are lost. The answer is their commits.
    /// Lanes of other groups on the same partitions stay.
    Release {
        partitions: Vec<TopicPartition>,
        committer: GroupCommitter,
        why: Revocation,
        until: Instant,
        answer: SyncSender<Vec<Commit>>,
    },
    /// Say how the lanes stand.
    Ask { answer: SyncSender<Asked> },
    /// Say what is parked in the lanes, with the first records of each, so many at most.
    Retries { limit: usize, answer: SyncSender<Vec<LaneRetries>> },
    /// Have the lane of this route and source partition do something.
    Tell { route: usize, partition: TopicPartition, verb: Verb, answer: SyncSender<Result<Done, Refusal>> },
    /// End the thread. Lanes that were not released are given up.
    End,
}

/// The control side's hold on a worker.
pub(crate) struct WorkerHandle {
    orders: Sender<Order>,
    thread: Thread,
}

impl WorkerHandle {
    /// Gives an order. One to a worker that has ended is lost, and its answer never comes.
    pub(crate) fn order(&self, order: Order) {
        if self.orders.send(order).is_ok() {
            self.thread.unpark();
        }
    }
}

/// What a worker is made of.
pub(crate) struct Equipment {
    pub(crate) sink: OutputSink,
    pub(crate) plugins: Box<dyn PluginHost + Send>,
}

/// Where a worker's outputs go.
pub(crate) enum OutputSink {
    /// Each is there when it is reported, and progress is committed afterwards.
    Apart(Box<dyn Sink>),
    /// They are there when progress is.
    Together(Box<dyn TransactionalSink>, TransactionPlan),
}

/// The thread that a sink wakes, known once its worker is started. (A sink is opened before, so that what is wrong with
/// it is an error of the start.)
pub(crate) type Sleeper = Arc<OnceLock<Thread>>;

/// The waker for the sink of the worker that `sleeper` will be.
pub(crate) fn waker(sleeper: &Sleeper) -> Waker {
    let sleeper = Arc::clone(sleeper);
    Arc::new(move || {
        if let Some(thread) = sleeper.get() {
            thread.unpark();
        }
    })
}

/// Starts a worker. `failed` is told why it can't go on.
///
/// # Errors
/// The system's, if it gives no thread.
pub(crate) fn start(
    index: usize,
    shared: Arc<Shared>,
    equipment: Equipment,
    sleeper: &Sleeper,
    failed: impl Fn(SinkFailed) + Send + 'static,
) -> std::io::Result<(WorkerHandle, JoinHandle<()>)> {
    let (orders, received) = channel();
    let join = std::thread::Builder::new().name(format!("worker-{index}")).spawn(move || {
        let run = std::panic::AssertUnwindSafe(|| Worker::new(index, shared, received, equipment, Clock::System).run());
        let ended = std::panic::catch_unwind(run).unwrap_or_else(|_| {
            let message = "a worker panicked, which is a bug of Pointsman; nothing unsettled was committed".into();
            Err(SinkFailed { code: "panic".into(), message })
        });
        if let Err(error) = ended {
            failed(error);
        }
    })?;
    let thread = join.thread().clone();
    let _ = sleeper.set(thread.clone());
    Ok((WorkerHandle { orders, thread }, join))
}

enum Outlet {
    Apart(Box<dyn Sink>),
    Together(Box<Transacting>),
}

impl Outlet {
    fn together(&mut self) -> Option<&mut Transacting> {
        match self {
            Self::Apart(_) => None,
            Self::Together(transacting) => Some(transacting),
        }
    }

    fn sink(&mut self) -> &mut dyn Sink {
        match self {
            Self::Apart(sink) => &mut **sink,
            Self::Together(transacting) => &mut *transacting.sink,
        }
    }
}

/// Tells the time: the system's, or that of a simulation.
#[derive(Clone)]
enum Clock {
    System,
    #[cfg(test)]
    Simulated(Arc<std::sync::Mutex<Now>>),
}

impl Clock {
    fn now(&self) -> Now {
        match self {
            Self::System => Now::read(),
            #[cfg(test)]
            Self::Simulated(now) => *now.lock().unwrap_or_else(std::sync::PoisonError::into_inner),
        }
    }

    fn instant(&self) -> Instant {
        match self {
            Self::System => Instant::now(),
            #[cfg(test)]
            Self::Simulated(_) => self.now().instant,
        }
    }
}

struct Worker {
    /// Its number.
    index: usize,
    shared: Arc<Shared>,
    orders: Receiver<Order>,
    outlet: Outlet,
    clock: Clock,
    credit: Credit,
    plugins: Box<dyn PluginHost + Send>,
    random: fastrand::Rng,
    lanes: BTreeMap<u32, Tenant>,
    /// Those that may have something to do, ...
    awake: BTreeSet<u32>,
    /// ... and those to be among them.
    woken: Arc<Woken>,
    next_lane: u32,
    /// Where the next round begins.
    first_lane: u32,
    releases: Vec<Release>,
    reports: Vec<Report>,
    /// Deliveries that were reported so far.
    reported: u64,
    hurry: Hurry,
    commit_at: Instant,
    commit_all_at: Instant,
    /// When lanes look for records whether or not they were woken, ...
    look_at: Instant,
    /// ... and which is the first of them.
    look_from: u32,
    ended: bool,
}

/// A lane, and what it commits with.
struct Tenant {
    lane: Lane,
    committer: GroupCommitter,
    /// Failed commits of the group that the lane has made good.
    failures: u64,
    /// Of a commit that the lane waits for.
    receipt: Option<Box<dyn Receipt>>,
}

/// Partitions being given up.
struct Release {
    lanes: Vec<u32>,
    until: Instant,
    answer: SyncSender<Vec<Commit>>,
    /// All of them were drained when the last transaction was given to be committed.
    included: bool,
}

impl Worker {
    fn new(index: usize, shared: Arc<Shared>, orders: Receiver<Order>, equipment: Equipment, clock: Clock) -> Self {
        let now = clock.instant();
        let mut outlet = match equipment.sink {
            OutputSink::Apart(sink) => Outlet::Apart(sink),
            OutputSink::Together(sink, plan) => Outlet::Together(Box::new(Transacting::new(sink, plan))),
        };
        Self {
            index,
            shared,
            orders,
            credit: Credit::new(outlet.sink().capacity_bytes()),
            outlet,
            clock,
            plugins: equipment.plugins,
            random: fastrand::Rng::new(),
            lanes: BTreeMap::new(),
            awake: BTreeSet::new(),
            woken: Woken::here(),
            next_lane: 0,
            first_lane: 0,
            releases: Vec::new(),
            reports: Vec::new(),
            reported: 0,
            hurry: Hurry::new(now),
            commit_at: now,
            commit_all_at: now + COMMIT_ANYWAY,
            look_at: now,
            look_from: 0,
            ended: false,
        }
    }

    fn run(mut self) -> Result<(), SinkFailed> {
        while let Some(rest) = self.round()? {
            if let Some(until) = rest {
                std::thread::park_timeout(until.saturating_duration_since(Instant::now()));
            }
        }
        Ok(())
    }

    /// Once around: `None` at the end of the worker, or until when there is nothing to do, where there is nothing.
    fn round(&mut self) -> Result<Option<Option<Instant>>, SinkFailed> {
        self.take_orders();
        let mut now = self.clock.now();
        let mut busy = self.take_reports(now)?;
        let Stepped { busy: stepped, awaits_credit, mut sleep_until } = self.step_lanes(now);
        busy |= stepped;
        now = self.clock.now();
        busy |= self.take_reports(now)?;
        match &self.outlet {
            Outlet::Apart(_) => {
                self.release_drained(now);
                // A revocation that has come meanwhile is to be seen before anything is committed.
                self.take_orders();
                busy |= self.keep_vows(now);
                self.commit(now);
            }
            Outlet::Together(_) => {
                busy |= self.transact(now);
                self.release_late(now);
                let wake_at = self.outlet.together().and_then(|transacting| transacting.wake_at());
                sleep_until = wake_at.into_iter().fold(sleep_until, Instant::min);
            }
        }
        if self.ended {
            self.shared.counters.add_plugin_counts(&mut *self.plugins);
            return Ok(None);
        }
        if busy {
            return Ok(Some(None));
        }
        // With nothing else to do, nothing is to linger. But where the producer queue is full, what is acknowledged makes room for
        // more: to send that at once would make for ever smaller requests.
        let due = if awaits_credit { None } else { self.hurry.due(self.credit.taken(), self.reported) };
        if due.is_some_and(|at| at <= now.instant) {
            self.hurry.told(self.credit.taken(), now.instant);
            self.outlet.sink().hurry();
            return Ok(Some(None));
        }
        let kept = self.outlet.sink().send_due(now.instant);
        sleep_until = [Some(self.look_at), due, kept].into_iter().flatten().fold(sleep_until, Instant::min);
        if !self.lanes.is_empty() {
            sleep_until = sleep_until.min(self.commit_at);
        }
        Ok(Some(Some(sleep_until)))
    }

    fn take_orders(&mut self) {
        loop {
            match self.orders.try_recv() {
                Ok(Order::Adopt { route, assignment, committer }) => self.adopt(route, *assignment, committer),
                Ok(Order::Release { partitions, committer, why, until, answer }) => {
                    let lanes = self.lanes_of(&committer, &partitions);
                    self.release(lanes, why, until, answer);
                }
                Ok(Order::Ask { answer }) => self.report(&answer),
                Ok(Order::Retries { limit, answer }) => {
                    let lanes = self.lanes.values().filter_map(|tenant| tenant.lane.retries(limit));
                    // Who asked may have stopped waiting.
                    let _ = answer.try_send(lanes.collect());
                }
                Ok(Order::Tell { route, partition, verb, answer }) => self.tell(route, &partition, verb, &answer),
                Ok(Order::End) | Err(TryRecvError::Disconnected) => {
                    self.ended = true;
                    return;
                }
                Err(TryRecvError::Empty) => return,
            }
        }
    }

    fn report(&self, answer: &SyncSender<Asked>) {
        let now = self.clock.now();
        // Who asked may have stopped waiting.
        let lanes: Vec<_> = self.lanes.values().map(|tenant| tenant.lane.report(now)).collect();
        let (queued_bytes, queue_limit_bytes) = (self.credit.used(), self.credit.capacity());
        let worker = WorkerReport { index: self.index, lanes: lanes.len(), queued_bytes, queue_limit_bytes };
        let _ = answer.try_send(Asked { worker, lanes });
    }

    fn tell(
        &mut self,
        route: usize,
        partition: &TopicPartition,
        verb: Verb,
        answer: &SyncSender<Result<Done, Refusal>>,
    ) {
        let now = self.clock.now();
        let lane = self.lanes.iter_mut().find(|(_, tenant)| tenant.lane.is(route, partition));
        let obeyed = lane.map_or(Err(Refusal::NoLane), |(id, tenant)| {
            self.awake.insert(*id);
            tenant.lane.obey(verb, now)
        });
        let _ = answer.try_send(obeyed);
    }

    fn adopt(&mut self, route: usize, assignment: Assignment, committer: GroupCommitter) {
        let id = self.next_lane;
        self.next_lane = self.next_lane.wrapping_add(1) & crate::lane::ID_MASK;
        let (name, lane) = (&self.shared.plan.routes[route].name, &assignment.source.partition);
        tracing::info!(route = %name, %lane, offset = assignment.source.start, "lane assigned");
        let mut lane =
            Lane::new(&self.woken.bell(id), Arc::clone(&self.shared), route, assignment, self.clock.instant());
        lane.take_along();
        self.awake.insert(id);
        self.lanes.insert(id, Tenant { lane, committer, failures: 0, receipt: None });
    }

    /// The group's lanes of these partitions.
    fn lanes_of(&self, group: &GroupCommitter, partitions: &[TopicPartition]) -> Vec<u32> {
        let lanes = self.lanes.iter().filter(|(_, tenant)| {
            Arc::ptr_eq(&tenant.committer, group) && partitions.contains(tenant.lane.source_partition())
        });
        lanes.map(|(id, _)| *id).collect()
    }

    fn release(&mut self, lanes: Vec<u32>, why: Revocation, until: Instant, answer: SyncSender<Vec<Commit>>) {
        match why {
            Revocation::Revoked => {
                for id in &lanes {
                    if let Some(tenant) = self.lanes.get_mut(id) {
                        tenant.lane.drain();
                        self.awake.insert(*id);
                    }
                }
                self.releases.push(Release { lanes, until, answer, included: false });
            }
            Revocation::Lost => {
                let now = self.clock.now();
                for id in &lanes {
                    self.outlet.together().into_iter().for_each(|transacting| transacting.lose(*id, now));
                    self.lanes.get_mut(id).into_iter().for_each(|tenant| tenant.lane.outlive());
                    self.give_up(*id, "lost");
                }
                respond(&answer, Vec::new());
            }
        }
    }

    fn give_up(&mut self, id: u32, how: &str) {
        self.awake.remove(&id);
        if let Some(Tenant { lane, .. }) = self.lanes.remove(&id) {
            lane.forgo(&mut self.credit);
            tracing::info!(lane = %lane.source_partition(), "lane {how}");
        }
    }

    /// Serves the sink. The answer is whether reports came in.
    fn take_reports(&mut self, now: Now) -> Result<bool, SinkFailed> {
        match &mut self.outlet {
            Outlet::Apart(sink) => sink.serve(&mut self.reports)?,
            Outlet::Together(transacting) => transacting.serve(&mut self.reports)?,
        }
        let any = !self.reports.is_empty();
        self.reported += self.reports.len() as u64;
        if let Outlet::Together(transacting) = &mut self.outlet {
            // What it belongs to is undone, and the lane with it.
            for failed in self.reports.extract_if(.., |report| report.result.is_err()) {
                let Err(undelivered) = failed.result else { continue };
                transacting.failed(&undelivered.error, now);
                if let Some(tenant) = self.lanes.get_mut(&lane_of(failed.token)) {
                    tenant.lane.note_refusal(failed.token, &undelivered.error);
                }
            }
        }
        let mut reports = self.reports.drain(..).peekable();
        while let Some(id) = reports.peek().map(|report| lane_of(report.token)) {
            let own = std::iter::from_fn(|| reports.next_if(|report| lane_of(report.token) == id));
            match self.lanes.get_mut(&id) {
                Some(Tenant { lane, .. }) => {
                    lane.reported(own, &mut self.credit, now);
                    self.awake.insert(id);
                }
                // It was given up, and they settle nothing: that partition is somebody else's by now.
                None => own.for_each(drop),
            }
        }
        Ok(any)
    }

    /// Answers for the lanes that have nothing in flight any more, or no more time.
    fn release_drained(&mut self, now: Now) {
        for release in std::mem::take(&mut self.releases) {
            let drained =
                release.lanes.iter().all(|id| self.lanes.get(id).is_none_or(|tenant| tenant.lane.is_drained()));
            if !drained && now.instant < release.until {
                self.releases.push(release);
                continue;
            }
            if !drained {
                tracing::warn!("work in flight was given up at the deadline: it runs again");
            }
            let mut commits = Vec::new();
            for id in &release.lanes {
                if let Some(Tenant { lane, .. }) = self.lanes.get_mut(id) {
                    commits.extend(lane.commits(true));
                }
                self.give_up(*id, "released");
            }
            respond(&release.answer, commits);
        }
    }

    /// Makes the commits that lanes wait for, and tells them the answers. Whether there was any, is the answer here.
    fn keep_vows(&mut self, now: Now) -> bool {
        let mut any = false;
        // One that has something to be committed is awake.
        for id in &self.awake {
            let Some(Tenant { lane, committer, receipt, .. }) = self.lanes.get_mut(id) else { continue };
            if let Some(answer) = receipt.as_mut().and_then(|receipt| receipt.answer()) {
                *receipt = None;
                lane.confirmed(answer, now);
                any = true;
            }
            if let Some(committer) = committer.get()
                && let Some(commits) = lane.vow(now)
            {
                let thread = std::thread::current();
                *receipt = Some(committer.commit_surely(&commits, Arc::new(move || thread.unpark())));
            }
        }
        any
    }

    fn commit(&mut self, now: Now) {
        if now.instant < self.commit_at {
            return;
        }
        self.commit_at = now.instant + self.shared.plan.router.commit_interval;
        self.shared.counters.add_plugin_counts(&mut *self.plugins);
        let all = now.instant >= self.commit_all_at;
        if all {
            self.commit_all_at = now.instant + COMMIT_ANYWAY;
        }
        // What is drained is committed by the revocation, which may be over by now: the partition may have another owner.
        for Tenant { lane, committer, failures, .. } in
            self.lanes.values_mut().filter(|tenant| !tenant.lane.is_draining())
        {
            // Before the membership is known there is nothing to commit with; the next round will do it.
            let Some(committer) = committer.get() else { continue };
            let failed = std::mem::replace(failures, committer.failures()) != *failures;
            let commits: Vec<Commit> = lane.commits(all || failed).collect();
            if !commits.is_empty() {
                committer.commit(&commits);
            }
        }
    }
}

/// Whoever asked may have stopped waiting; the commits are lost then, and their records run again.
fn respond(answer: &SyncSender<Vec<Commit>>, commits: Vec<Commit>) {
    if answer.try_send(commits).is_err() {
        tracing::warn!("a revocation was answered too late: what was settled since the last commit runs again");
    }
}
