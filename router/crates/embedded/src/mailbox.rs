//! What workers and owner of a membership hand to its control thread.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use pointsman_core::port::{Commit, Committer, Receipt, Standing, Waker};
use pointsman_core::record::TopicPartition;
use tracing::error;

use crate::lease::Lease;
use crate::offsets;

/// What the control thread is to do next.
pub(crate) enum Turn {
    /// There are commits, or the time is up.
    Work,
    /// Give everything up in good order.
    Leave {
        /// When that has to be done.
        deadline: Instant,
        /// Takes whether it was.
        done: SyncSender<bool>,
    },
    /// The membership was dropped: commit nothing more, and end.
    Abandon,
}

/// Commits wait here, the latest of each partition only: its size is bounded by the number of partitions.
#[derive(Default)]
pub(crate) struct Mailbox {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    commits: BTreeMap<TopicPartition, Commit>,
    /// Commits came in since the control thread last took them.
    fresh: bool,
    ending: Option<Turn>,
    closed: bool,
    /// How often commits came in, ...
    given: u64,
    /// ... when the control thread last took them, ...
    taken: u64,
    /// ... and which of them are written.
    written: u64,
    /// Called when it has come to their commits.
    wakers: Vec<(u64, Waker)>,
    /// Source partitions that are to be assigned anew.
    rewinds: BTreeSet<TopicPartition>,
    /// Topics for which something was committed in a transaction.
    advanced: BTreeSet<Arc<str>>,
}

impl Mailbox {
    /// Waits for something to do, at most for `tick`.
    pub(crate) fn wait(&self, tick: Duration) -> Turn {
        let idle = |state: &mut State| !state.fresh && state.ending.is_none();
        let (mut state, _) =
            self.changed.wait_timeout_while(self.lock(), tick, idle).unwrap_or_else(PoisonError::into_inner);
        state.ending.take().unwrap_or(Turn::Work)
    }

    /// Takes the commits.
    pub(crate) fn take(&self) -> BTreeMap<TopicPartition, Commit> {
        let mut state = self.lock();
        state.fresh = false;
        state.taken = state.given;
        std::mem::take(&mut state.commits)
    }

    /// Takes the source partitions that are to be assigned anew. What waits to be committed for them is forgotten.
    pub(crate) fn take_rewinds(&self) -> BTreeSet<TopicPartition> {
        let mut state = self.lock();
        let rewinds = std::mem::take(&mut state.rewinds);
        state.commits.retain(|partition, _| !rewinds.contains(partition));
        rewinds
    }

    /// Takes the topics for which something was committed in a transaction.
    pub(crate) fn take_advanced(&self) -> BTreeSet<Arc<str>> {
        std::mem::take(&mut self.lock().advanced)
    }

    /// What was taken last is written.
    pub(crate) fn written(&self) {
        let mut state = self.lock();
        state.written = state.taken;
        let written = state.written;
        let (due, later) = std::mem::take(&mut state.wakers).into_iter().partition(|(number, _)| *number <= written);
        state.wakers = later;
        drop(state);
        let due: Vec<(u64, Waker)> = due;
        due.iter().for_each(|(_, wake)| wake());
    }

    /// Puts commits back that could not be written; later ones of the same partition stand.
    pub(crate) fn put_back(&self, commits: BTreeMap<TopicPartition, Commit>) {
        let mut state = self.lock();
        for (partition, commit) in commits {
            state.commits.entry(partition).or_insert(commit);
        }
    }

    /// Asks the control thread to end; `false` where it has ended already.
    pub(crate) fn end(&self, how: Turn) -> bool {
        let mut state = self.lock();
        if state.closed {
            return false;
        }
        state.ending = Some(how);
        self.changed.notify_all();
        true
    }

    /// Takes nothing from now on: the control thread ends.
    pub(crate) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        state.commits.clear();
        // Whoever waits for the end of a leave hears of it by the sender being dropped.
        state.ending = None;
    }

    /// Takes commits in. The answer is their number, or why some of them are not taken.
    fn give(&self, commits: &[Commit], waker: Option<Waker>) -> Result<u64, String> {
        let mut state = self.lock();
        if state.closed {
            return Err("the group has been left".to_owned());
        }
        let mut objections = Ok(());
        for commit in commits {
            if let Some(objection) = offsets::objection(commit) {
                error!(partition = %commit.partition, offset = commit.offset, "can't commit: {objection}");
                objections = Err(objection);
                continue;
            }
            state.commits.insert(commit.partition.clone(), commit.clone());
            state.fresh = true;
        }
        state.given += 1;
        let number = state.given;
        state.wakers.extend(waker.map(|waker| (number, waker)));
        self.changed.notify_all();
        objections.map(|()| state.given)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Commits by way of a mailbox.
pub(crate) struct MailboxCommitter {
    pub(crate) mailbox: Arc<Mailbox>,
    pub(crate) lease: Lease,
}

impl Committer for MailboxCommitter {
    fn commit(&self, commits: &[Commit]) {
        // What is not taken is logged; after a leave there is nothing to commit.
        drop(self.mailbox.give(commits, None));
    }

    /// None: a commit that can't be written stays in the mailbox until it can be.
    fn failures(&self) -> u64 {
        0
    }

    fn commit_surely(&self, commits: &[Commit], waker: Waker) -> Box<dyn Receipt> {
        let number = self.mailbox.give(commits, Some(waker));
        Box::new(MailboxReceipt { number, mailbox: Arc::clone(&self.mailbox) })
    }

    /// The lease, which every commit checks.
    fn standing(&self) -> Option<Standing> {
        Some(Standing(Arc::new(self.lease)))
    }

    fn committed(&self, commits: &[Commit]) {
        let mut state = self.mailbox.lock();
        for commit in commits {
            if !state.advanced.contains(&commit.partition.topic) {
                state.advanced.insert(Arc::clone(&commit.partition.topic));
            }
        }
    }

    fn rewind(&self, partitions: &[TopicPartition]) {
        let mut state = self.mailbox.lock();
        if !state.closed {
            state.rewinds.extend(partitions.iter().cloned());
            state.fresh = true;
            self.mailbox.changed.notify_all();
        }
    }
}

struct MailboxReceipt {
    number: Result<u64, String>,
    mailbox: Arc<Mailbox>,
}

impl Receipt for MailboxReceipt {
    fn answer(&mut self) -> Option<Result<(), String>> {
        match &self.number {
            Ok(number) => (self.mailbox.lock().written >= *number).then_some(Ok(())),
            Err(objection) => Some(Err(objection.clone())),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use pointsman_core::port::Waker;

    use super::Mailbox;

    fn counting() -> (Arc<AtomicU32>, Waker) {
        let count = Arc::new(AtomicU32::new(0));
        let counter = Arc::clone(&count);
        (
            count,
            Arc::new(move || {
                counter.fetch_add(1, Ordering::Relaxed);
            }),
        )
    }

    #[test]
    fn who_waits_for_a_commit_is_woken_when_that_one_is_written() {
        let mailbox = Mailbox::default();
        let [(first, wake_first), (second, wake_second)] = [counting(), counting()];
        let woken = || (first.load(Ordering::Relaxed), second.load(Ordering::Relaxed));
        assert_eq!(mailbox.give(&[], Some(wake_first)), Ok(1));
        mailbox.take();
        assert_eq!(mailbox.give(&[], Some(wake_second)), Ok(2));
        mailbox.written();
        assert_eq!(woken(), (1, 0));
        mailbox.take();
        mailbox.written();
        assert_eq!(woken(), (1, 1));
    }
}
