//! Groups: who reads which partitions, and how far.

use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

use super::{Feed, SinkFailed, Waker};
use crate::record::TopicPartition;

/// How far a lane has come in one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commit {
    /// The partition.
    pub partition: TopicPartition,
    /// The lowest offset that is not settled: where to start again.
    pub offset: i64,
    /// What was settled beyond it, and how assignments have ended: opaque text, at most 4096 bytes.
    pub metadata: String,
}

/// Commits the progress of lanes. Shared by the workers.
pub trait Committer: Send + Sync {
    /// Commits, without waiting for the answer. What fails is logged and counted in [`failures`](Self::failures).
    fn commit(&self, commits: &[Commit]);

    /// How many commits have failed so far. When it has grown, callers commit everything again: it is not told which it
    /// was. (A rebalance makes a broker refuse the commits that were under way.)
    fn failures(&self) -> u64;

    /// Commits, and tells what became of it: for commits that have to be there before something else is done. `waker` is
    /// called when the answer may have come.
    fn commit_surely(&self, commits: &[Commit], waker: Waker) -> Box<dyn Receipt>;

    /// As whom the member commits in a [transaction](super::TransactionalSink) from now on; `None` where it can't, for now or
    /// for good. What is committed with it fails once the partitions may be somebody else's. So it is to be taken before
    /// looking for revocations: then a commit with it is of partitions that were not revoked, or fails.
    fn standing(&self) -> Option<Standing>;

    /// These were committed in a transaction. (Records of retry partitions may not be needed any more.)
    fn committed(&self, commits: &[Commit]);

    /// These source partitions, which have no lanes any more, are to be [assigned](LaneHost::assigned) anew from what is
    /// committed; [`LaneHost::revoked`] is called for them first. Those that go to somebody else meanwhile are not.
    fn rewind(&self, partitions: &[TopicPartition]);
}

/// As whom a member of a group commits: the log's own, for its [`TransactionalSink`](super::TransactionalSink).
#[derive(Clone)]
pub struct Standing(pub Arc<dyn Any + Send + Sync>);

/// What a member of a group has read.
#[derive(Clone)]
pub struct MemberProgress {
    /// The member.
    pub standing: Standing,
    /// How far it is.
    pub commits: Vec<Commit>,
}

/// The answer to a commit, once it is there. Dropped before, it tells nothing, and the commit takes its course.
pub trait Receipt: Send {
    /// Whether the commits are there, as durable as the log makes them; `None` while that is not known. Never blocks. After
    /// an error, which says why, some of them may be there.
    fn answer(&mut self) -> Option<Result<(), String>>;
}

/// One partition to read, from where its group left off.
pub struct AssignedFeed {
    /// The partition.
    pub partition: TopicPartition,
    /// The first offset that the feed gives.
    pub start: i64,
    /// The metadata of the commit that `start` comes from; empty where there was no commit.
    pub metadata: String,
    /// The records.
    pub feed: Box<dyn Feed>,
}

/// One source partition that this router is now to work on, with the retry partition that follows it.
pub struct Assignment {
    /// The source partition.
    pub source: AssignedFeed,
    /// The partition of the same number in the retry topic, where the route has one. Its feed tells when it has
    /// [reached the end](super::Feed::reached_end): before, nothing of the source is run.
    pub retry: Option<AssignedFeed>,
}

/// Why partitions go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Revocation {
    /// They are asked for in good order: what is settled can still be committed.
    Revoked,
    /// They belong to somebody else already: nothing may be committed.
    Lost,
}

/// The router, as a backend sees it. Called on the backend's control thread, one call at a time.
pub trait LaneHost: Send + Sync {
    /// These partitions are now ours.
    fn assigned(&self, assignments: Vec<Assignment>);

    /// These source partitions are to be given up. Returns once their feeds are dropped, within `deadline`; after it
    /// has returned no lane of theirs commits any more. The answer is what to commit for them, source and retry
    /// partitions alike; it is empty after [`Revocation::Lost`].
    fn revoked(&self, partitions: &[TopicPartition], why: Revocation, deadline: Duration) -> Vec<Commit>;

    /// The source partition can't be worked on (no retry partition for it, no leader); it stays assigned to this router
    /// and unread, until it is [assigned](Self::assigned) after all, or [revoked](Self::revoked). Told again where the reason
    /// changes.
    fn halted(&self, partition: TopicPartition, reason: String);

    /// The backend can't go on; the router stops.
    fn failed(&self, error: SinkFailed);
}

/// A joined group.
pub trait Membership: Send {
    /// Commits for this member.
    fn committer(&self) -> Arc<dyn Committer>;

    /// Gives up all partitions ([`LaneHost::revoked`], then a last commit), leaves the group, and ends the control
    /// thread. The answer is whether all of it was done within `deadline`, and what a last write takes; the rest is given up.
    fn leave(self: Box<Self>, deadline: Duration) -> bool;
}

/// What a member of a group reads.
#[derive(Clone, Debug)]
pub struct GroupPlan {
    /// Name of the consumer group.
    pub group: Arc<str>,
    /// Static membership: Kafka's `group.instance.id`, unique in the group.
    pub instance_id: Option<String>,
    /// The topics.
    pub sources: Vec<SourceTopic>,
    /// While so many bytes of a partition are fetched ahead, no more of it are asked for.
    pub fetch_ahead_bytes: usize,
    /// The same of all partitions of the sources together, be they this member's or not: each has an equal part.
    pub fetch_ahead_of_all_bytes: usize,
    /// How long a revocation may take.
    pub revoke_deadline: Duration,
}

/// One source topic of a group.
#[derive(Clone, Debug)]
pub struct SourceTopic {
    /// The topic.
    pub topic: Arc<str>,
    /// The retry topic whose partitions follow those of this topic.
    pub retry_topic: Option<Arc<str>>,
    /// Where to start in a partition for which the group has committed nothing.
    pub start: StartAt,
}

/// Where a group starts in a partition for which it has committed nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartAt {
    /// At the first record there is.
    Earliest,
    /// At the records that come after the assignment.
    Latest,
    /// At the first record with this timestamp or a later one, in milliseconds since 1970-01-01 UTC.
    Time(i64),
}
