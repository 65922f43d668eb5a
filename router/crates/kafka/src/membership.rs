//! Being a member of a group: the control thread, and what the router holds of it.

use std::collections::{BTreeMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use pointsman_core::port::{
    Commit, Committer, GroupPlan, LaneHost, LogError, Membership, Receipt, Revocation, SinkFailed, Standing, Waker,
};
use pointsman_core::record::TopicPartition;
use rdkafka_sys::rd_kafka_resp_err_t as Known;

use crate::admin;
use crate::assignment::{Held, Pending};
use crate::classify::remedy;
use crate::commits::{Commits, KafkaReceipt};
use crate::error::{client_error, log_error};
use crate::native::{Client, Code, Event, EventKind, GroupMetadata, Kind, PartitionList, Queue};
use crate::reader::Readers;
use crate::settings::{Ahead, KafkaSettings};
use crate::trimming::Trimming;
use crate::unowned;

/// How long the control thread waits for an event before it looks around.
const TICK: Duration = Duration::from_millis(100);

/// What an end at the deadline takes.
const LAST: Duration = Duration::from_secs(1);

/// Joins a group.
pub(crate) fn join(
    settings: &KafkaSettings,
    reader: &Arc<Client>,
    readers: &Arc<Readers>,
    plan: GroupPlan,
    host: Arc<dyn LaneHost>,
) -> Result<KafkaMembership, LogError> {
    let what = format!("can't join the group {}", plan.group);
    let names: Vec<_> = plan.sources.iter().map(|source| Arc::clone(&source.topic)).collect();
    let there = admin::topics(reader, Some(&names), settings.request_timeout)?;
    let partitions_at_first: BTreeMap<_, _> = there.into_iter().map(|topic| (topic.name, topic.partitions)).collect();
    // A client is told once, before it knows which of them it gets.
    let ahead = Ahead::of_each(&plan, partitions_at_first.values().sum());
    let (client, queue) = client(settings, &plan, ahead)?;
    subscribe(&client, &plan)?;

    let queue = Arc::new(queue);
    let signal = Arc::new(Signal::default());
    let (done, finished) = mpsc::channel();
    let name = format!("kafka:{}", plan.group);
    let watching = Arc::clone(&host);
    let asking = Arc::clone(&client);
    let member = Member {
        plan,
        host,
        readers: Arc::clone(readers),
        request_timeout: settings.request_timeout,
        held: BTreeMap::new(),
        pending: Pending::default(),
        partitions_at_first,
        ahead,
        trimming: Trimming::new(Instant::now()),
        signal: Arc::clone(&signal),
        queue: Arc::clone(&queue),
        put_off: VecDeque::new(),
        client,
    };
    // Its end is the watch's, too.
    let (watched, unwatched) = mpsc::channel::<()>();
    if member.plan.instance_id.is_some() {
        let (settings, plan, asking) = (settings.clone(), member.plan.clone(), Arc::clone(&asking));
        std::thread::Builder::new()
            .name("kafka:unowned".to_owned())
            .spawn(move || unowned::watch(&settings, &plan, &asking, &unwatched))
            .map_err(|error| log_error(what.as_str(), "thread", format!("the system gives no thread: {error}")))?;
    }
    std::thread::Builder::new()
        .name(name)
        .spawn(move || {
            let _watched = watched;
            let left = catch_unwind(AssertUnwindSafe(|| member.run())).unwrap_or_else(|_| {
                // Without this thread nobody would answer rebalances, and the lanes would stand still in silence.
                let message = "the group's control thread panicked, which is a bug of Pointsman".to_owned();
                watching.failed(SinkFailed { code: "panic".to_owned(), message });
                false
            });
            // Everything of ours that refers to the client or the host goes before the word that it is done. What workers
            // still hold of it keeps it alive until they drop it.
            drop(watching);
            // Nobody may be waiting any more.
            done.send(left).ok();
        })
        .map_err(|error| log_error(what, "thread", format!("the system gives no thread: {error}")))?;
    Ok(KafkaMembership { signal, finished, queue, client: asking })
}

/// A client that can be a member of the group, and the queue on which it is told of rebalances.
pub(crate) fn client(
    settings: &KafkaSettings,
    plan: &GroupPlan,
    ahead: Ahead,
) -> Result<(Arc<Client>, Queue), LogError> {
    let failed = |message: String| log_error(format!("can't join the group {}", plan.group), "client", message);
    let client = Arc::new(Client::new(Kind::Member, &settings.member(plan, ahead)).map_err(failed)?);
    let queue = Queue::consumer(&client).ok_or_else(|| failed("it has no queue".to_owned()))?;
    Ok((client, queue))
}

/// Has it join the group.
pub(crate) fn subscribe(client: &Client, plan: &GroupPlan) -> Result<(), LogError> {
    let mut topics = PartitionList::with_capacity(plan.sources.len());
    for source in &plan.sources {
        topics.push(&source.topic, -1, 0, "");
    }
    client.subscribe(&topics).map_err(|code| client_error(format!("can't join the group {}", plan.group), code, client))
}

/// What the router holds of a joined group.
pub(crate) struct KafkaMembership {
    signal: Arc<Signal>,
    finished: Receiver<bool>,
    queue: Arc<Queue>,
    client: Arc<Client>,
}

/// What the control thread and the rest tell each other.
#[derive(Default)]
pub(crate) struct Signal {
    /// When it must have ended, once it is to end.
    deadline: Mutex<Option<Instant>>,
    ending: AtomicBool,
    failed_commits: AtomicU64,
    commits: Commits,
    /// Of lanes whose transactions have ended.
    transacted: Mutex<Transacted>,
}

/// What the control thread is to know of transactions.
#[derive(Default)]
struct Transacted {
    /// Committed in some.
    committed: Vec<(TopicPartition, i64)>,
    /// To be assigned anew, since one was undone.
    undone: Vec<TopicPartition>,
}

impl Signal {
    /// Has every lane of the group commit again.
    pub(crate) fn commit_failed(&self) {
        self.failed_commits.fetch_add(1, Ordering::AcqRel);
    }

    /// Whether librdkafka has taken a commit.
    fn sent(&self, sent: Result<(), Code>) {
        if let Err(code) = sent {
            tracing::warn!(%code, "can't commit now: {}", code.describe());
            self.commit_failed();
        }
    }

    fn end_by(&self, deadline: Instant) {
        *self.deadline.lock().unwrap_or_else(PoisonError::into_inner) = Some(deadline);
        self.ending.store(true, Ordering::Release);
    }

    /// Whether the control thread is to end.
    pub(crate) fn ending(&self) -> bool {
        self.ending.load(Ordering::Acquire)
    }

    fn transacted(&self) -> MutexGuard<'_, Transacted> {
        self.transacted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn deadline(&self) -> Option<Instant> {
        *self.deadline.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Membership for KafkaMembership {
    fn committer(&self) -> Arc<dyn Committer> {
        let (signal, queue, client) = (Arc::clone(&self.signal), Arc::clone(&self.queue), Arc::clone(&self.client));
        Arc::new(KafkaCommitter { signal, queue, client })
    }

    /// The control thread does it. Where it is not done in time, the thread is left to itself and its client to the end
    /// of the process: librdkafka can't be told to hurry.
    fn leave(self: Box<Self>, deadline: Duration) -> bool {
        self.signal.end_by(Instant::now() + deadline);
        self.queue.interrupt();
        self.finished.recv_timeout(deadline + LAST).unwrap_or(false)
    }
}

impl Drop for KafkaMembership {
    fn drop(&mut self) {
        // Dropped without being left, by a router that fails: the thread ends at once, without a last commit by a host
        // that may be gone. After `leave`, the signal is there already.
        if !self.signal.ending() {
            self.signal.end_by(Instant::now());
        }
    }
}

struct KafkaCommitter {
    signal: Arc<Signal>,
    queue: Arc<Queue>,
    client: Arc<Client>,
}

impl Committer for KafkaCommitter {
    fn commit(&self, commits: &[Commit]) {
        // The answer comes to the control thread, on the queue that it polls.
        self.signal.sent(self.signal.commits.commit(commits, &self.queue));
    }

    fn failures(&self) -> u64 {
        self.signal.failed_commits.load(Ordering::Acquire)
    }

    fn commit_surely(&self, commits: &[Commit], waker: Waker) -> Box<dyn Receipt> {
        let (promise, sent) = self.signal.commits.commit_surely(commits, Some(waker), &self.queue);
        self.signal.sent(sent);
        Box::new(KafkaReceipt(promise))
    }

    /// Member and generation. The control thread answers a revocation only when its lanes are given up, and the group has no
    /// next generation before.
    fn standing(&self) -> Option<Standing> {
        if self.client.assignment_lost() {
            return None;
        }
        Some(Standing(Arc::new(GroupMetadata::of_member(&self.client)?)))
    }

    fn committed(&self, commits: &[Commit]) {
        let commits = commits.iter().map(|commit| (commit.partition.clone(), commit.offset));
        self.signal.transacted().committed.extend(commits);
    }

    fn rewind(&self, partitions: &[TopicPartition]) {
        self.signal.transacted().undone.extend_from_slice(partitions);
        self.queue.interrupt();
    }
}

/// The control thread's own.
pub(crate) struct Member {
    pub(crate) plan: GroupPlan,
    pub(crate) host: Arc<dyn LaneHost>,
    /// Retry partitions are read outside the group.
    pub(crate) readers: Arc<Readers>,
    pub(crate) request_timeout: Duration,
    /// The source partitions that the group gave us, and that lanes have.
    pub(crate) held: BTreeMap<TopicPartition, Held>,
    /// Those that it gave us, and that can't be taken yet.
    pub(crate) pending: Pending,
    /// How many partitions each source topic had when the group was joined.
    pub(crate) partitions_at_first: BTreeMap<Arc<str>, u32>,
    /// What is held of each partition.
    pub(crate) ahead: Ahead,
    /// What is removed from retry partitions.
    pub(crate) trimming: Trimming,
    pub(crate) signal: Arc<Signal>,
    pub(crate) queue: Arc<Queue>,
    /// What came on the queue while a commit was waited for.
    pub(crate) put_off: VecDeque<Event>,
    pub(crate) client: Arc<Client>,
}

/// Partitions that were given up.
struct GivenUp {
    /// What librdkafka has assigned of them.
    assigned: Vec<TopicPartition>,
    /// Whether their lanes had come to an end before the deadline, and all of it is committed.
    in_time: bool,
}

/// What became of a commit that was waited for.
pub(crate) type CommitResult = Result<(), (Code, String)>;

impl Member {
    /// The answer is whether the group was left by the deadline.
    fn run(mut self) -> bool {
        let mut failed = false;
        while !self.signal.ending() {
            if let Some(event) = self.next_event(TICK) {
                failed |= self.handle(&event).is_err();
            }
            if !failed && let Err((code, message)) = self.follow_transactions().and_then(|()| self.assign_pending()) {
                self.fail(code, &message);
                failed = true;
            }
            self.trim();
            if let Some((code, message)) = self.client.fatal().filter(|_| !failed) {
                self.fail(code, &message);
                failed = true;
            }
        }
        self.leave()
    }

    fn next_event(&mut self, timeout: Duration) -> Option<Event> {
        self.put_off.pop_front().or_else(|| self.queue.poll(timeout))
    }

    /// Serves one event; fails only where the router has been told that the group can't go on.
    fn handle(&mut self, event: &Event) -> Result<(), ()> {
        match event.kind() {
            EventKind::Rebalance => self.rebalance(event),
            EventKind::Committed => {
                self.committed(event);
                Ok(())
            }
            EventKind::RecordsRemoved => {
                self.trimmed(event);
                Ok(())
            }
            EventKind::Error => {
                let code = event.code();
                tracing::warn!(group = %self.plan.group, %code, "{}{}", event.describe(), remedy(code));
                Ok(())
            }
            EventKind::StrayRecord => {
                // It was fetched for a lane that will not see it, and which must not commit past it. Decision 0002 says why
                // it can't happen; if it does, nothing here may go on.
                self.fail(Code(-1), "a record came past its partition's queue");
                Err(())
            }
            EventKind::Reports
            | EventKind::TopicsCreated
            | EventKind::ConfigsDescribed
            | EventKind::ClusterDescribed
            | EventKind::TopicsDescribed
            | EventKind::GroupsDescribed
            | EventKind::GroupOffsetsAltered
            | EventKind::Other => Ok(()),
        }
    }

    /// A commit is answered.
    fn committed(&mut self, event: &Event) {
        if let Some(code) = failed_commit(event) {
            tracing::warn!(group = %self.plan.group, %code, "a commit failed, and is made again: {}", code.describe());
            self.signal.commit_failed();
        }
        let is_taken = |code: Code| !event.code().is_error() && !code.is_error();
        for found in event.partitions().filter(|found| is_taken(found.code)) {
            self.trimming.committed(&TopicPartition::new(found.topic, found.partition), found.offset);
        }
        self.signal.sent(self.signal.commits.answered(committed(event), &self.queue));
    }

    fn rebalance(&mut self, event: &Event) -> Result<(), ()> {
        let partitions: Vec<_> =
            event.partitions().map(|found| TopicPartition::new(found.topic, found.partition)).collect();
        let done = if is_assignment(event) {
            tracing::info!(group = %self.plan.group, partitions = %names(&partitions), "partitions assigned");
            self.assign(partitions)
        } else {
            self.revoke(&partitions)
        };
        done.map_err(|(code, message)| self.fail(code, &message))
    }

    /// Has lanes begin anew whose transactions were undone.
    fn follow_transactions(&mut self) -> CommitResult {
        let Transacted { committed, undone } = std::mem::take(&mut *self.signal.transacted());
        for (partition, offset) in committed {
            self.trimming.committed(&partition, offset);
        }
        if undone.is_empty() { Ok(()) } else { self.assign_anew(undone) }
    }

    /// Gives partitions back, and says so to librdkafka.
    fn revoke(&mut self, partitions: &[TopicPartition]) -> CommitResult {
        let why = if self.client.assignment_lost() { Revocation::Lost } else { Revocation::Revoked };
        let unread = self.pending.forget(partitions);
        if !unread.is_empty() {
            // No lane has them, so there is nothing to commit: the router is to know that they are gone.
            self.host.revoked(&unread, why, Duration::ZERO);
        }
        tracing::info!(group = %self.plan.group, partitions = %names(partitions), ?why, "partitions revoked");
        let given_up = self.give_up(partitions, why, self.plan.revoke_deadline);
        self.unassign(&given_up.assigned)
    }

    /// Has the router give up partitions, and commits what it says, before anything is said to librdkafka: afterwards the
    /// broker would not take it.
    fn give_up(&mut self, partitions: &[TopicPartition], why: Revocation, deadline: Duration) -> GivenUp {
        let held: Vec<_> = partitions.iter().filter_map(|partition| self.held.remove_entry(partition)).collect();
        let (sources, held): (Vec<_>, Vec<_>) = held.into_iter().unzip();
        self.trimming.end(&sources);
        if sources.is_empty() {
            return GivenUp { assigned: Vec::new(), in_time: true };
        }
        let began = Instant::now();
        let commits = self.host.revoked(&sources, why, deadline);
        let mut in_time = began.elapsed() < deadline;
        for held in &held {
            held.shut();
        }
        self.resume(&held);
        self.signal.commits.forget(self.with_retries(&sources));
        if why == Revocation::Revoked
            && !commits.is_empty()
            && let Err((code, message)) = self.commit_and_wait(&commits, deadline.max(self.request_timeout))
        {
            tracing::warn!(
                group = %self.plan.group, %code,
                "the last commit of partitions that go failed, their next owner repeats some records: {message}",
            );
            in_time = false;
        }
        GivenUp { assigned: held.into_iter().map(Held::into_assigned).collect(), in_time }
    }

    fn unassign(&self, partitions: &[TopicPartition]) -> CommitResult {
        let mut list = PartitionList::with_capacity(partitions.len());
        for partition in partitions {
            list.push(&partition.topic, partition.partition, 0, "");
        }
        self.client.unassign(&list).map_err(|code| (code, "can't give up partitions".to_owned()))
    }

    /// These source partitions, and the retry partitions that follow them.
    fn with_retries(&self, sources: &[TopicPartition]) -> Vec<TopicPartition> {
        let retry_topic =
            |topic: &Arc<str>| self.plan.sources.iter().find(|source| source.topic == *topic)?.retry_topic.as_ref();
        let retries = sources.iter().filter_map(|TopicPartition { topic, partition }| {
            Some(TopicPartition { topic: Arc::clone(retry_topic(topic)?), partition: *partition })
        });
        sources.iter().cloned().chain(retries).collect()
    }

    /// Commits, and waits for the answer as long as `timeout`: a commit that is under way comes before it. What was not sent by then
    /// is not committed. Metadata is committed with the offsets.
    pub(crate) fn commit_and_wait(&mut self, commits: &[Commit], timeout: Duration) -> CommitResult {
        let timed_out = Code::of(Known::RD_KAFKA_RESP_ERR__TIMED_OUT);
        let until = Instant::now() + timeout;
        let (promise, sent) = self.signal.commits.commit_surely(commits, None, &self.queue);
        self.signal.sent(sent);
        loop {
            if let Some(answer) = promise.kept() {
                return answer.map_err(|code| (code, code.describe()));
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                self.signal.commits.forget(commits.iter().map(|commit| commit.partition.clone()));
                return Err((timed_out, timed_out.describe()));
            }
            match self.queue.poll(left) {
                Some(event) if event.kind() == EventKind::Committed => self.committed(&event),
                Some(event) => self.put_off.push_back(event),
                // It was interrupted.
                None => {}
            }
        }
    }

    /// Leaves the group; whether all was given up by the deadline. To be told of it may take the broker longer: in the middle of a
    /// rebalance it answers when that is over, and librdkafka can't pass its own request by. Nothing of ours waits for that.
    fn leave(&mut self) -> bool {
        let Some(deadline) = self.signal.deadline() else { return false };
        let left = || deadline.saturating_duration_since(Instant::now());
        let all: Vec<_> = self.held.keys().cloned().collect();
        let why =
            if self.client.assignment_lost() || left().is_zero() { Revocation::Lost } else { Revocation::Revoked };
        // Half of the time is for the lanes, the other half for the group.
        let GivenUp { assigned: mut gone, in_time } = self.give_up(&all, why, left() / 2);
        if let Err(code) = self.queue.close_consumer() {
            tracing::warn!(group = %self.plan.group, %code, "can't leave the group: {}", code.describe());
            return false;
        }
        while !self.client.closed() {
            if left().is_zero() {
                tracing::warn!(group = %self.plan.group, "the broker has not taken leave of this member in time: it may take it for dead");
                return in_time;
            }
            if let Some(event) = self.next_event(TICK.min(left()))
                && event.kind() == EventKind::Rebalance
            {
                let answered = if is_assignment(&event) {
                    // It was under way already, and is taken as nothing.
                    self.answer_assignment(&PartitionList::with_capacity(0))
                } else {
                    self.unassign(&std::mem::take(&mut gone))
                };
                if let Err((code, message)) = answered {
                    tracing::warn!(group = %self.plan.group, %code, "{message}");
                }
            }
        }
        in_time
    }

    fn fail(&self, code: Code, message: &str) {
        let message = format!("the group {} can't go on: {message}{}", self.plan.group, remedy(code));
        self.host.failed(SinkFailed { code: code.to_string(), message });
    }
}

/// Whether a rebalance brings partitions, rather than takes them.
fn is_assignment(event: &Event) -> bool {
    event.code() == Code::of(Known::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS)
}

/// Whether all of a commit that was waited for is there. An error of one partition need not be one of the whole.
fn committed(answer: &Event) -> Result<(), Code> {
    let mut codes = std::iter::once(answer.code()).chain(answer.partitions().map(|partition| partition.code));
    codes.find(|code| code.is_error()).map_or(Ok(()), Err)
}

/// Why a commit failed, if it did.
fn failed_commit(event: &Event) -> Option<Code> {
    let nothing_to_do = Code::of(Known::RD_KAFKA_RESP_ERR__NO_OFFSET);
    std::iter::once(event.code())
        .chain(event.partitions().map(|partition| partition.code))
        .find(|code| code.is_error() && *code != nothing_to_do)
}

fn names(partitions: &[TopicPartition]) -> String {
    partitions.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}
