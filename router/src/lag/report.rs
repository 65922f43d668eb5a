//! What is told: partitions, and the sums of topics.

use pointsman_core::lag::Status;
use serde::{Serialize, Serializer};

/// One look at everything that was asked for.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// When, as RFC 3339.
    pub at: String,
    /// The sum of each topic.
    pub topics: Vec<TopicLag>,
    /// Each partition.
    pub partitions: Vec<PartitionLag>,
    /// Source topics that are not there, so that nothing is known of them.
    pub missing: Vec<String>,
    /// What could not be found out, as sentences.
    pub notes: Vec<String>,
}

/// What a topic is to the group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Its records are read; what lies before its group is lag.
    Source,
    /// Its records are parked: they wait until they are due, so that what lies here is no sign of trouble, and has no status.
    Retry,
    /// Its records wait for somebody to handle them.
    DeadLetter,
}

impl Kind {
    /// The word for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Source => "source",
            Self::Retry => "retry",
            Self::DeadLetter => "dead letters",
        }
    }
}

/// A topic, as one group sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct What {
    /// The route; several, for dead letters of several routes; `None` of a group that has none.
    pub route: Option<String>,
    /// The group; `None` for dead letters.
    pub group: Option<String>,
    /// What the topic is to it.
    pub kind: Kind,
    /// The topic.
    pub topic: String,
}

/// How fast it goes, over the observations.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Pace {
    /// Offsets written a second.
    pub written_per_second: f64,
    /// Offsets settled a second.
    pub read_per_second: f64,
    /// How long it takes until nothing is left; `None` where it never would.
    pub drain_seconds: Option<f64>,
}

/// One partition.
#[derive(Clone, Debug, Serialize)]
pub struct PartitionLag {
    /// Of what.
    #[serde(flatten)]
    pub what: What,
    /// Its number.
    pub partition: i32,
    /// What the group has committed.
    pub committed: Option<i64>,
    /// The first offset there is.
    pub first: Option<i64>,
    /// One past the last.
    pub end: Option<i64>,
    /// Records that are not settled: to be read, parked, or not handled. `None` where it is not known.
    pub records: Option<u64>,
    /// Whether they were counted. Otherwise offsets were, some of which may have no record.
    pub exact: bool,
    /// The offset of the oldest of them.
    pub oldest_offset: Option<i64>,
    /// Its own timestamp, as RFC 3339.
    pub oldest_timestamp: Option<String>,
    /// Its age, 0 where there is none. `None` where it is not known.
    pub lag_seconds: Option<f64>,
    /// Offsets that were removed before the group came to them.
    pub lost: u64,
    /// When retention comes to the oldest of them. `None` where it does not, or where that is not known.
    pub retention_seconds: Option<f64>,
    /// How many offsets may be removed before that.
    pub retention_records: Option<u64>,
    /// Who reads the partition.
    pub reader: Option<String>,
    /// Whether anybody does; `None` where that is not known.
    pub is_read: Option<bool>,
    /// `None` before there are two observations.
    pub pace: Option<Pace>,
    /// Whether it is well; `None` where nothing was sampled, and for what has no status.
    #[serde(serialize_with = "status_name")]
    pub status: Option<Status>,
    /// What is wrong, or not known, and why.
    pub problem: Option<String>,
}

impl PartitionLag {
    /// Whether somebody ought to look at it.
    #[must_use]
    pub fn wants_a_look(&self) -> bool {
        let is_left_alone = self.what.kind == Kind::Source && self.is_read == Some(false) && self.records != Some(0);
        self.lost > 0 || self.problem.is_some() || is_left_alone || self.status.is_some_and(Status::is_bad)
    }
}

/// All partitions of a topic together.
#[derive(Clone, Debug, Serialize)]
pub struct TopicLag {
    /// Of what.
    #[serde(flatten)]
    pub what: What,
    /// How many partitions there are.
    pub partitions: usize,
    /// How many of them have something left.
    pub behind: usize,
    /// Of how many that is not known.
    pub unknown: usize,
    /// Records that are left in those of which it is known.
    pub records: u64,
    /// Whether they were counted.
    pub exact: bool,
    /// The age of the oldest. `None` where it is not known of every partition.
    pub lag_seconds: Option<f64>,
    /// Offsets that were removed before the group came to them.
    pub lost: u64,
    /// When retention comes to the first of them.
    pub retention_seconds: Option<f64>,
    /// How many read it.
    pub readers: usize,
    /// Partitions that nobody reads.
    pub unread: usize,
    /// The sum of what was written and read; and the partition that takes the longest. `None` before there are two observations.
    pub pace: Option<Pace>,
    /// The worst.
    #[serde(serialize_with = "status_name")]
    pub status: Option<Status>,
}

/// The sum of partitions that belong together.
pub(super) fn sum(partitions: &[PartitionLag]) -> Option<TopicLag> {
    let what = partitions.first()?.what.clone();
    let known = || partitions.iter().filter_map(|partition| partition.records);
    let mut readers: Vec<&str> = partitions.iter().filter_map(|partition| partition.reader.as_deref()).collect();
    readers.sort_unstable();
    readers.dedup();
    let ages: Option<Vec<f64>> = partitions.iter().map(|partition| partition.lag_seconds).collect();
    Some(TopicLag {
        what,
        partitions: partitions.len(),
        behind: known().filter(|records| *records > 0).count(),
        unknown: partitions.len() - known().count(),
        records: known().sum(),
        exact: partitions.iter().all(|partition| partition.exact),
        lag_seconds: ages.and_then(|ages| ages.into_iter().reduce(f64::max)),
        lost: partitions.iter().map(|partition| partition.lost).sum(),
        retention_seconds: partitions.iter().filter_map(|partition| partition.retention_seconds).reduce(f64::min),
        readers: readers.len(),
        unread: partitions.iter().filter(|partition| partition.is_read == Some(false)).count(),
        pace: pace(partitions),
        status: partitions.iter().filter_map(|partition| partition.status).max_by_key(|status| status.weight()),
    })
}

fn pace(partitions: &[PartitionLag]) -> Option<Pace> {
    let paces: Vec<Pace> = partitions.iter().filter_map(|partition| partition.pace).collect();
    let drains: Option<Vec<f64>> = paces.iter().map(|pace| pace.drain_seconds).collect();
    (!paces.is_empty()).then(|| Pace {
        written_per_second: paces.iter().map(|pace| pace.written_per_second).sum(),
        read_per_second: paces.iter().map(|pace| pace.read_per_second).sum(),
        drain_seconds: drains.and_then(|drains| drains.into_iter().reduce(f64::max)),
    })
}

fn status_name<S: Serializer>(status: &Option<Status>, serializer: S) -> Result<S::Ok, S::Error> {
    status.map(Status::name).serialize(serializer)
}
