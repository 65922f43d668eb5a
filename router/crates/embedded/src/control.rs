//! The control thread of a member: assigns partitions, commits, renews the lease, and removes what is not needed any more.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use pointsman_core::port::{AssignedFeed, Assignment, Commit, GroupPlan, LaneHost, Revocation, SinkFailed};
use pointsman_core::record::TopicPartition;
use tracing::{info, warn};

use crate::assign::{self, Found, Start};
use crate::catalog;
use crate::fault::{Fault, FaultKind};
use crate::feed::PageFeed;
use crate::lease::{Fenced, Lease};
use crate::log::Shared;
use crate::mailbox::{Mailbox, Turn};
use crate::offsets;
use crate::retention;

/// How often new partitions are looked for, and what failed is tried again.
const TICK: Duration = Duration::from_millis(500);

/// How often the log is searched for what is too old.
const RETENTION_INTERVAL: Duration = Duration::from_secs(10);

/// How much of a turn goes into removing: less than half of a tick, so that commits and the lease are never late for it.
const RETENTION_SHARE: Duration = Duration::from_millis(200);

/// The part of a leave's time that is kept from the lanes, for the last commit.
const LAST_WRITE_SHARE: u32 = 10;

/// What the control thread knows.
pub(crate) struct Control {
    shared: Arc<Shared>,
    plan: GroupPlan,
    lease: Lease,
    host: Arc<dyn LaneHost>,
    mailbox: Arc<Mailbox>,
    assigned: BTreeSet<TopicPartition>,
    /// What the host was told of partitions that can't be worked on.
    halted: BTreeMap<TopicPartition, String>,
    /// See [`assign::shape`]; empty before the first assignment.
    shape: Vec<i64>,
    renew_at: Instant,
    retention_at: Instant,
    retry_topics: Vec<Arc<str>>,
    /// There may be settled records in the retry topics.
    trimming: bool,
    /// The last turn failed, and the log says so already.
    failing: bool,
}

/// Why a member ends before it is asked to.
enum Stop {
    Lost,
    Damaged(Fault),
}

impl Control {
    pub(crate) fn new(
        shared: Arc<Shared>,
        plan: GroupPlan,
        lease: Lease,
        host: Arc<dyn LaneHost>,
        mailbox: Arc<Mailbox>,
    ) -> Self {
        let now = Instant::now();
        let retry_topics = plan.sources.iter().filter_map(|source| source.retry_topic.clone()).collect();
        Self {
            shared,
            plan,
            lease,
            host,
            mailbox,
            assigned: BTreeSet::new(),
            halted: BTreeMap::new(),
            shape: Vec::new(),
            renew_at: now,
            retention_at: now + RETENTION_INTERVAL,
            retry_topics,
            trimming: true,
            failing: false,
        }
    }

    /// Works until the member leaves, or can't go on.
    pub(crate) fn run(mut self) {
        let mailbox = Arc::clone(&self.mailbox);
        // Closed whatever happens: a panic of the host must not leave anybody waiting for this thread.
        let _closing = Closing(&mailbox);
        let tick = TICK.min(self.renewal());
        loop {
            if let Err(stop) = self.turn() {
                return self.stop(stop);
            }
            match self.mailbox.wait(tick) {
                Turn::Work => {}
                Turn::Leave { deadline, done } => {
                    let all = self.leave(deadline);
                    if done.send(all).is_err() {
                        warn!(group = %self.plan.group, all, "left after the deadline");
                    }
                    return;
                }
                Turn::Abandon => return self.release(),
            }
        }
    }

    /// Does what is due.
    fn turn(&mut self) -> Result<(), Stop> {
        // Damage that a feed or a sink has found ends the member like damage found here.
        let intact = self.shared.database.intact().map_err(Fenced::from);
        self.rewind();
        let done = intact.and_then(|()| self.assign()).and_then(|()| self.commit()).and_then(|()| Ok(self.clean_up()?));
        self.bear(done)
    }

    /// What fails for now is tried again in the next turn.
    fn bear(&mut self, done: Result<(), Fenced>) -> Result<(), Stop> {
        match done {
            Ok(()) => self.failing = false,
            Err(Fenced::Lost) => return Err(Stop::Lost),
            Err(Fenced::Fault(fault)) if fault.kind == FaultKind::Damaged => return Err(Stop::Damaged(fault)),
            Err(Fenced::Fault(fault)) => {
                if !self.failing {
                    warn!(group = %self.plan.group, %fault, "can't commit or assign now; trying on");
                }
                self.failing = true;
            }
        }
        Ok(())
    }

    /// Takes back what is to be assigned anew: by the next look that is taken.
    fn rewind(&mut self) {
        let partitions: Vec<_> = self.mailbox.take_rewinds().into_iter().filter(|p| self.assigned.remove(p)).collect();
        if !partitions.is_empty() {
            self.host.revoked(&partitions, Revocation::Lost, Duration::ZERO);
            self.shape.clear();
        }
    }

    /// Hands the host every partition that it does not have yet.
    fn assign(&mut self) -> Result<(), Fenced> {
        let database = &self.shared.database;
        let shape = database.read(|snapshot| assign::shape(snapshot, &self.plan.sources))?;
        if shape == self.shape {
            return Ok(());
        }
        let found = self.lease.write(database, |transaction| {
            assign::find(transaction, self.lease.group, &self.plan.sources, &self.assigned)
        })?;
        self.shape = shape;
        let mut assignments = Vec::new();
        for found in found {
            match found {
                Found::Ready(source, retry) => {
                    self.assigned.insert(source.partition.clone());
                    self.halted.remove(&source.partition);
                    let retry = retry.map(|start| self.feed(start));
                    assignments.push(Assignment { source: self.feed(source), retry });
                }
                Found::Halted(partition, reason) => {
                    if self.halted.insert(partition.clone(), reason.clone()).as_ref() != Some(&reason) {
                        self.host.halted(partition, reason);
                    }
                }
            }
        }
        if !assignments.is_empty() {
            info!(group = %self.plan.group, partitions = assignments.len(), "assigned");
            self.host.assigned(assignments);
        }
        Ok(())
    }

    fn feed(&self, start: Start) -> AssignedFeed {
        let Start { partition, id, offset, metadata } = start;
        let feed = Box::new(PageFeed::new(Arc::clone(&self.shared), partition.clone(), id, offset));
        AssignedFeed { partition, start: offset, metadata, feed }
    }

    /// Writes the commits that wait, or renews the lease where that is due.
    fn commit(&mut self) -> Result<(), Fenced> {
        let commits = self.mailbox.take();
        if commits.is_empty() && Instant::now() < self.renew_at {
            return Ok(());
        }
        let written = self.write(&commits);
        match written {
            Ok(()) => self.mailbox.written(),
            Err(_) => self.mailbox.put_back(commits),
        }
        written
    }

    /// One transaction: all of it, under our own epoch, or nothing.
    fn write(&mut self, commits: &BTreeMap<TopicPartition, Commit>) -> Result<(), Fenced> {
        let database = &self.shared.database;
        self.lease.write(database, |transaction| {
            for commit in commits.values() {
                match catalog::partition(transaction, &commit.partition)? {
                    Some(found) => {
                        offsets::store(transaction, self.lease.group, found.id, commit.offset, &commit.metadata)?;
                    }
                    None => warn!(partition = %commit.partition, "can't commit: the log has no such partition"),
                }
            }
            Ok(())
        })?;
        self.renew_at = Instant::now() + self.renewal();
        self.trimming |= commits.keys().any(|partition| self.retry_topics.contains(&partition.topic));
        Ok(())
    }

    /// How often the lease is renewed.
    fn renewal(&self) -> Duration {
        self.shared.database.options().lease / 3
    }

    fn clean_up(&mut self) -> Result<(), Fault> {
        self.trimming |= self.mailbox.take_advanced().iter().any(|topic| self.retry_topics.contains(topic));
        let database = &self.shared.database;
        let began = Instant::now();
        // Whatever is left over when the time is up comes in the next turn.
        while self.trimming && began.elapsed() < RETENTION_SHARE {
            self.trimming = retention::trim(database, &self.retry_topics)?;
        }
        while Instant::now() >= self.retention_at && began.elapsed() < RETENTION_SHARE {
            if !retention::step(database, database.now_ms())? {
                self.retention_at = Instant::now() + RETENTION_INTERVAL;
            }
        }
        Ok(())
    }

    /// Gives everything up in good order; whether all of it was committed in time.
    fn leave(&mut self, deadline: Instant) -> bool {
        // What waits here now is not to be lost with a drain that does not come to its end.
        let waiting = self.commit();
        if let Err(stop) = self.bear(waiting) {
            self.stop(stop);
            return false;
        }
        let remaining = deadline.saturating_duration_since(Instant::now());
        let last_write = (remaining / LAST_WRITE_SHARE).min(self.shared.database.options().busy_timeout);
        let last = self.drain(remaining - last_write);
        let mut commits = self.mailbox.take();
        for commit in last {
            match offsets::objection(&commit) {
                Some(objection) => warn!(partition = %commit.partition, "can't commit: {objection}"),
                None => drop(commits.insert(commit.partition.clone(), commit)),
            }
        }
        let all = loop {
            match self.write(&commits) {
                Ok(()) => break true,
                Err(Fenced::Fault(fault)) if fault.kind == FaultKind::Passing && Instant::now() + TICK < deadline => {
                    warn!(group = %self.plan.group, %fault, "can't commit on leaving; trying on");
                    thread::sleep(TICK);
                }
                Err(error) => {
                    warn!(group = %self.plan.group, %error, "left without the last commit; its records come again");
                    break false;
                }
            }
        };
        self.release();
        all
    }

    /// Takes the partitions back, and renews the lease meanwhile: a drain may be longer than the lease.
    fn drain(&self, deadline: Duration) -> Vec<Commit> {
        thread::scope(|scope| {
            let (drained, draining) = mpsc::channel();
            let renewing = thread::Builder::new().name("embedded-lease".into());
            if let Err(error) = renewing.spawn_scoped(scope, move || self.renew_while(&draining)) {
                warn!(group = %self.plan.group, %error, "no thread to renew the lease while the lanes are drained");
            }
            let last = self.host.revoked(&self.partitions(), Revocation::Revoked, deadline);
            drop::<mpsc::Sender<()>>(drained);
            last
        })
    }

    fn renew_while(&self, draining: &Receiver<()>) {
        while draining.recv_timeout(self.renewal()) == Err(RecvTimeoutError::Timeout) {
            if let Err(error) = self.lease.write(&self.shared.database, |_| Ok(())) {
                // The last commit tells what comes of it.
                warn!(group = %self.plan.group, %error, "can't renew the lease while the lanes are drained");
            }
        }
    }

    fn stop(&mut self, stop: Stop) {
        let failure = match stop {
            Stop::Lost => {
                let late = self.host.revoked(&self.partitions(), Revocation::Lost, self.plan.revoke_deadline);
                if !late.is_empty() {
                    warn!(group = %self.plan.group, "what the lanes would commit for lost partitions is thrown away");
                }
                SinkFailed {
                    code: "lease-lost".into(),
                    message: format!(
                        "another process has taken group {} over in {}: this one was stopped or starved for longer than \
                         the lease of {} s; nothing was committed since",
                        self.plan.group,
                        self.shared.file(),
                        self.shared.database.options().lease.as_secs()
                    ),
                }
            }
            Stop::Damaged(fault) => fault.to_sink_failed(),
        };
        self.host.failed(failure);
    }

    fn partitions(&self) -> Vec<TopicPartition> {
        self.assigned.iter().cloned().collect()
    }

    fn release(&mut self) {
        let released = self.shared.database.write(|transaction| self.lease.release(transaction));
        if let Err(fault) = released {
            warn!(group = %self.plan.group, %fault, "can't give the group's lease up; it will run out");
        }
    }
}

/// Closes the mailbox when the thread ends.
struct Closing<'a>(&'a Mailbox);

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        self.0.close();
    }
}

#[cfg(test)]
mod tests;
