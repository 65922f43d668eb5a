#![allow(clippy::unwrap_used, reason = "a failed test may panic")]

use std::sync::atomic::{AtomicI64, Ordering};

use pointsman_core::port::{Committer as _, Log, NewTopic, SourceTopic, StartAt};
use tempfile::TempDir;

use super::*;
use crate::lease;
use crate::log::EmbeddedLog;
use crate::mailbox::MailboxCommitter;
use crate::options::Options;
use crate::owner::Owner;

const PATIENCE: Duration = Duration::from_secs(60);

/// A host that looks at the log while it is asked for its partitions.
struct Draining<F>(F);

impl<F: Fn(Duration) -> Vec<Commit> + Send + Sync> LaneHost for Draining<F> {
    fn assigned(&self, _: Vec<Assignment>) {}

    fn revoked(&self, _: &[TopicPartition], _: Revocation, deadline: Duration) -> Vec<Commit> {
        (self.0)(deadline)
    }

    fn halted(&self, _: TopicPartition, _: String) {}

    fn failed(&self, _: SinkFailed) {}
}

fn commit(offset: i64) -> Commit {
    Commit { partition: TopicPartition::new("t", 0), offset, metadata: String::new() }
}

/// A member of group `g` that has one commit waiting, offset 1, and leaves; whether it says that all was committed.
fn leave(options: Options, revoked: impl Fn(&Shared, Duration) -> Vec<Commit> + Send + Sync + 'static) -> bool {
    let directory = TempDir::new().unwrap();
    let log = EmbeddedLog::open(directory.path(), options).unwrap();
    log.create_topics(&[NewTopic { name: "t".into(), partitions: 1, retention: None }]).unwrap();
    let shared = Arc::clone(log.shared());
    let database = &shared.database;
    let length = database.options().lease;
    let lease = database
        .write(|transaction| lease::acquire(transaction, "g", &Owner::current(), database.now_ms(), length))
        .unwrap()
        .unwrap();
    let source = SourceTopic { topic: "t".into(), retry_topic: None, start: StartAt::Earliest };
    let plan = GroupPlan {
        group: "g".into(),
        instance_id: None,
        sources: vec![source],
        fetch_ahead_bytes: 1,
        fetch_ahead_of_all_bytes: 1,
        revoke_deadline: PATIENCE,
    };
    let seen = Arc::clone(&shared);
    let host = Arc::new(Draining(move |deadline| revoked(&seen, deadline)));
    let mailbox = Arc::new(Mailbox::default());
    let mut control = Control::new(Arc::clone(&shared), plan, lease, host, Arc::clone(&mailbox));
    MailboxCommitter { mailbox: Arc::clone(&mailbox), lease }.commit(&[commit(1)]);
    let all = control.leave(Instant::now() + PATIENCE);
    assert_eq!(committed(&shared), Some(commit(2)), "the last commit is the one that stands");
    all
}

fn committed(shared: &Shared) -> Option<Commit> {
    shared.database.read(|snapshot| offsets::committed(snapshot, "g", &commit(0).partition)).unwrap()
}

#[test]
fn what_waits_is_committed_before_the_lanes_are_drained_and_they_leave_time_for_the_last_write() {
    let all = leave(Options::default(), |shared, deadline| {
        assert_eq!(committed(shared), Some(commit(1)));
        assert!(deadline > PATIENCE / 2, "{deadline:?}");
        assert!(deadline < PATIENCE - Duration::from_secs(4), "{deadline:?} leaves nothing of {PATIENCE:?}");
        vec![commit(2)]
    });
    assert!(all);
}

#[test]
fn the_lease_is_renewed_while_the_lanes_are_drained() {
    const LATER: i64 = 3_600_000;
    let clock = Arc::new(AtomicI64::new(0));
    let now = Arc::clone(&clock);
    let options = Options {
        clock: Arc::new(move || now.load(Ordering::SeqCst)),
        lease: Duration::from_millis(30),
        ..Options::default()
    };
    let all = leave(options, move |shared, _| {
        clock.store(LATER, Ordering::SeqCst);
        let sql = "SELECT expires_ms FROM consumer_groups";
        let expires_ms =
            || shared.database.read(|snapshot| Ok(snapshot.query_row(sql, [], |row| row.get::<_, i64>(0))?));
        let began = Instant::now();
        while expires_ms().unwrap() <= LATER {
            assert!(began.elapsed() < PATIENCE, "nobody has renewed the lease");
            thread::yield_now();
        }
        vec![commit(2)]
    });
    assert!(all);
}
