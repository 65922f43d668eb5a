//! Places the partitions that a group is given on workers, and takes them back.

use std::collections::HashMap;
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use pointsman_core::port::{Assignment, Commit, LaneHost, Revocation, SinkFailed};
use pointsman_core::record::TopicPartition;

use crate::counters::Counters;
use crate::lanes::Because;
use crate::shared::Now;
use crate::worker::{GroupCommitter, Order, WorkerHandle};

/// The workers of the process, and how many lanes each has.
pub(crate) struct Workers {
    handles: Vec<WorkerHandle>,
    lanes: Mutex<Vec<usize>>,
}

impl Workers {
    pub(crate) fn new(handles: Vec<WorkerHandle>) -> Self {
        let lanes = Mutex::new(vec![0; handles.len()]);
        Self { handles, lanes }
    }

    /// Ends all workers.
    pub(crate) fn end(&self) {
        self.order_all(|| Order::End);
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.handles.len()
    }

    /// Gives an order to one.
    pub(crate) fn order(&self, worker: usize, order: Order) {
        self.handles[worker].order(order);
    }

    /// Gives an order to each.
    pub(crate) fn order_all(&self, order: impl Fn() -> Order) {
        self.handles.iter().for_each(|worker| worker.order(order()));
    }

    /// The worker with the fewest lanes gets one more.
    fn place(&self) -> usize {
        let mut lanes = locked(&self.lanes);
        let least = (0..lanes.len()).min_by_key(|worker| lanes[*worker]).unwrap_or(0);
        lanes[least] += 1;
        least
    }

    fn displace(&self, worker: usize) {
        locked(&self.lanes)[worker] -= 1;
    }
}

/// One group's side of it.
pub(crate) struct Dispatcher {
    pub(crate) workers: Arc<Workers>,
    /// For each source topic of the group, its route.
    pub(crate) routes: HashMap<Arc<str>, usize>,
    pub(crate) committer: GroupCommitter,
    pub(crate) placed: Mutex<HashMap<TopicPartition, usize>>,
    /// Partitions that are assigned and can't be read, and why.
    pub(crate) unread: Mutex<HashMap<TopicPartition, Because>>,
    pub(crate) counters: Arc<Counters>,
    /// Its index there.
    pub(crate) group: usize,
    /// Told when the group can't go on.
    pub(crate) failed: Box<dyn Fn(SinkFailed) + Send + Sync>,
}

impl Dispatcher {
    /// The route, by its index, that reads the partition.
    pub(crate) fn route_of(&self, partition: &TopicPartition) -> Option<usize> {
        self.routes.get(&partition.topic).copied()
    }

    /// The worker that has the partition's lane.
    pub(crate) fn worker_of(&self, partition: &TopicPartition) -> Option<usize> {
        locked(&self.placed).get(partition).copied()
    }

    /// The partitions that have lanes, with their routes.
    pub(crate) fn placed(&self) -> Vec<(usize, TopicPartition)> {
        let placed = locked(&self.placed);
        placed.keys().filter_map(|partition| Some((self.route_of(partition)?, partition.clone()))).collect()
    }

    /// The partitions that are assigned and can't be read, with their routes, and why.
    pub(crate) fn unread(&self) -> Vec<(usize, TopicPartition, Because)> {
        let unread = locked(&self.unread);
        let known = unread
            .iter()
            .filter_map(|(partition, why)| Some((self.route_of(partition)?, partition.clone(), why.clone())));
        known.collect()
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl LaneHost for Dispatcher {
    fn assigned(&self, assignments: Vec<Assignment>) {
        let mut placed = locked(&self.placed);
        let before = placed.len();
        for assignment in assignments {
            let partition = assignment.source.partition.clone();
            locked(&self.unread).remove(&partition);
            let Some(&route) = self.routes.get(&partition.topic) else {
                tracing::error!(lane = %partition, "assigned, although no route reads this topic; it stays unread");
                continue;
            };
            let worker = self.workers.place();
            placed.insert(partition, worker);
            let committer = Arc::clone(&self.committer);
            self.workers.handles[worker].order(Order::Adopt { route, assignment: Box::new(assignment), committer });
        }
        self.counters.groups[self.group].assigned(placed.len().saturating_sub(before));
    }

    fn revoked(&self, partitions: &[TopicPartition], why: Revocation, deadline: Duration) -> Vec<Commit> {
        let began = Instant::now();
        let until = began + deadline;
        let mut by_worker: HashMap<usize, Vec<TopicPartition>> = HashMap::new();
        {
            let mut placed = locked(&self.placed);
            for partition in partitions {
                locked(&self.unread).remove(partition);
                if let Some(worker) = placed.remove(partition) {
                    self.workers.displace(worker);
                    by_worker.entry(worker).or_default().push(partition.clone());
                }
            }
        }
        let released = by_worker.values().map(Vec::len).sum();
        let (answer, answers) = sync_channel(by_worker.len());
        for (worker, partitions) in by_worker {
            let answer = answer.clone();
            let committer = Arc::clone(&self.committer);
            self.workers.handles[worker].order(Order::Release { partitions, committer, why, until, answer });
        }
        drop(answer);
        let mut commits = Vec::new();
        // A worker answers at `until` at the latest, after the step it is in: wait for that too, within reason. What is
        // answered has still to be committed.
        let patience = until + Duration::from_secs(1);
        while let Ok(part) = answers.recv_timeout(patience.saturating_duration_since(Instant::now())) {
            commits.extend(part);
        }
        self.counters.groups[self.group].revoked(released, why, began.elapsed());
        match why {
            Revocation::Revoked => commits,
            Revocation::Lost => Vec::new(),
        }
    }

    fn halted(&self, partition: TopicPartition, reason: String) {
        tracing::error!(lane = %partition, "the lane is halted: {reason}");
        locked(&self.unread).insert(partition, Because::since(reason, Now::read()));
    }

    fn failed(&self, error: SinkFailed) {
        (self.failed)(error);
    }
}
