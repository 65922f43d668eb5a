//! A joined group.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use pointsman_core::port::{Committer, GroupPlan, LaneHost, LogError, Membership, SinkFailed};
use tracing::warn;

use crate::catalog;
use crate::control::Control;
use crate::lease::{self, Lease};
use crate::log::Shared;
use crate::mailbox::{Mailbox, MailboxCommitter, Turn};
use crate::owner::Owner;

/// The one member of a group. Dropped without [`leave`](Membership::leave), it gives the lease up and commits nothing.
pub(crate) struct Member {
    mailbox: Arc<Mailbox>,
    lease: Lease,
    control: Option<JoinHandle<()>>,
    /// How long the last commit may take, beyond the deadline of a leave: without it, a drain up to there was for nothing.
    last_write: Duration,
}

impl Member {
    /// Takes the group's lease, and starts the control thread.
    pub(crate) fn join(shared: Arc<Shared>, plan: GroupPlan, host: Arc<dyn LaneHost>) -> Result<Self, LogError> {
        let what = format!("can't join group {} in {}", plan.group, shared.file());
        let fail = |code: &str, message: String| LogError { what: what.clone(), code: code.into(), message };
        for source in &plan.sources {
            let partitions = shared.database.read(|snapshot| catalog::partitions(snapshot, &source.topic));
            if partitions.map_err(|fault| fault.to_log_error(&*what))?.is_empty() {
                let message = format!("there is no topic {}; create it first", source.topic);
                return Err(fail("unknown-topic", message));
            }
        }
        let (database, me) = (&shared.database, Owner::current());
        let length = database.options().lease;
        let lease = database
            .write(|transaction| lease::acquire(transaction, &plan.group, &me, database.now_ms(), length))
            .map_err(|fault| fault.to_log_error(&*what))?
            .map_err(|held| fail("lease-held", held.to_string()))?;

        let last_write = database.options().busy_timeout;
        let mailbox = Arc::new(Mailbox::default());
        let watching = Arc::clone(&host);
        let control = Control::new(Arc::clone(&shared), plan, lease, host, Arc::clone(&mailbox));
        let control = thread::Builder::new().name("embedded-control".into()).spawn(move || {
            // Without this thread nobody would renew the lease or commit, and the lanes would stand still in silence.
            if catch_unwind(AssertUnwindSafe(|| control.run())).is_err() {
                let message = "a group's control thread panicked, which is a bug of Pointsman".to_owned();
                watching.failed(SinkFailed { code: "panic".to_owned(), message });
            }
        });
        let control = control.map_err(|error| {
            if let Err(fault) = shared.database.write(|transaction| lease.release(transaction)) {
                warn!(%fault, "can't give the group's lease up; it will run out");
            }
            fail("thread", format!("the system gives no thread: {error}"))
        })?;
        Ok(Self { mailbox, lease, control: Some(control), last_write })
    }

    fn wait_for_control(&mut self) {
        if let Some(control) = self.control.take() {
            // The last to know a host may be its own control thread.
            if control.thread().id() != thread::current().id() && control.join().is_err() {
                warn!("the control thread of a group panicked");
            }
        }
    }
}

impl Membership for Member {
    fn committer(&self) -> Arc<dyn Committer> {
        Arc::new(MailboxCommitter { mailbox: Arc::clone(&self.mailbox), lease: self.lease })
    }

    fn leave(mut self: Box<Self>, deadline: Duration) -> bool {
        let (done, left) = mpsc::sync_channel(1);
        if !self.mailbox.end(Turn::Leave { deadline: Instant::now() + deadline, done }) {
            self.wait_for_control();
            return false;
        }
        match left.recv_timeout(deadline.saturating_add(self.last_write)) {
            Ok(all) => {
                self.wait_for_control();
                all
            }
            Err(_) => {
                // The control thread ends by itself when the host answers, or with the process.
                self.control = None;
                false
            }
        }
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        if self.control.is_some() {
            self.mailbox.end(Turn::Abandon);
            self.wait_for_control();
        }
    }
}
