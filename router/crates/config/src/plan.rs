//! The plan: what the router runs by. Everything in it is resolved, defaulted and bounded; names that refer to something
//! have become indices. Only [`compile`](crate::compile) makes one.

use std::collections::BTreeMap;
use std::fmt;
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use pointsman_core::breaker::Terms;
use pointsman_core::condition::Condition;
use pointsman_core::delivery::TopicId;
use pointsman_core::policy::FailurePolicy;
use pointsman_core::port::{PluginId, StartAt};

mod admin;
mod telemetry;

pub use admin::{AdminPlan, Open, Role, SamplesPlan, TokenPlan, TokenSecret};
pub use telemetry::{TelemetryPlan, TracesPlan};

/// The whole plan.
#[derive(Debug)]
#[non_exhaustive]
pub struct Plan {
    /// The process as a whole.
    pub router: RouterPlan,
    /// Where records come from and go to.
    pub broker: BrokerPlan,
    /// The plugins; [`PluginId`] is an index here.
    pub plugins: Vec<PluginPlan>,
    /// The routes, in the order of the file.
    pub routes: Vec<RoutePlan>,
    /// Every topic that the router writes to; [`TopicId`] is an index here.
    pub topics: Vec<TopicPlan>,
    /// Sample records for `pointsman dev`.
    pub feeds: Vec<FeedPlan>,
    /// The admin door; `None` where there is none.
    pub admin: Option<AdminPlan>,
    /// What is sent to an OpenTelemetry collector; `None` is nothing.
    pub telemetry: Option<TelemetryPlan>,
}

impl Plan {
    /// Worker threads on a machine with so many processors. One processor is left to the client library's own threads: with
    /// as many workers as processors, both get less done. But a worker stands still while its transaction on Kafka ends, and then another
    /// is to go on.
    #[must_use]
    pub fn workers_on(&self, processors: NonZeroUsize) -> NonZeroUsize {
        let waits =
            matches!((&self.router.delivery, &self.broker), (DeliveryPlan::ExactlyOnce(_), BrokerPlan::Kafka { .. }));
        let spare = (processors.get() - usize::from(!waits)).min(RouterPlan::WORKERS_MAX);
        self.router.workers.or(NonZeroUsize::new(spare)).unwrap_or(NonZeroUsize::MIN)
    }

    /// The topics that only records go to which have failed: to be run again, or for good.
    #[must_use]
    pub fn topics_of_failures(&self) -> Vec<TopicId> {
        let topics = (0..).map(TopicId).zip(&self.topics);
        topics.filter(|(_, topic)| topic.role != TopicRole::Output).map(|(id, _)| id).collect()
    }
}

/// `[router]`.
#[derive(Debug)]
#[non_exhaustive]
pub struct RouterPlan {
    /// Name; consumer group and client ids derive from it.
    pub name: Arc<str>,
    /// Static membership, unique for each process: `group.instance.id`.
    pub instance_id: Option<String>,
    /// Worker threads; `None` is as many as [fit](Plan::workers_on) the machine.
    pub workers: Option<NonZeroUsize>,
    /// What is promised of each record.
    pub delivery: DeliveryPlan,
    /// How often progress is committed.
    pub commit_interval: Duration,
    /// How long a shutdown or a revocation may wait for work in flight.
    pub drain_deadline: Duration,
    /// Largest record (key, value, headers) that an output may have, in bytes.
    pub max_record_bytes: usize,
}

/// `delivery`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeliveryPlan {
    /// Its outputs are there before its progress is committed: after a crash some come again.
    AtLeastOnce,
    /// Its outputs and its progress are there together, or neither.
    ExactlyOnce(TransactionPlan),
}

/// `[router.transaction]`: what ends a transaction, besides `commit_interval`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransactionPlan {
    /// How long one may be open before the log aborts it.
    pub timeout: Duration,
    /// Records, of all outputs together.
    pub records: usize,
    /// Bytes of their keys, values and headers.
    pub bytes: usize,
}

impl Default for TransactionPlan {
    fn default() -> Self {
        Self { timeout: Duration::from_secs(30), records: 500_000, bytes: 64 << 20 }
    }
}

impl RouterPlan {
    /// Most workers that a router may have.
    pub const WORKERS_MAX: usize = 64;
}

/// `[broker]`.
#[derive(Debug)]
pub enum BrokerPlan {
    /// A Kafka cluster.
    Kafka {
        /// `host:port`, separated by commas.
        bootstrap: String,
        /// Bytes of records that are fetched ahead of all partitions together.
        fetch_ahead_bytes: usize,
        /// Further librdkafka properties, none of them one of ours.
        librdkafka: BTreeMap<String, Secret>,
    },
    /// The embedded log in this directory.
    Embedded {
        /// The directory, as written: relative to the file's own.
        directory: PathBuf,
        /// How long sources and outputs keep records after they were written; `None` is for ever.
        retention: Option<Duration>,
        /// Largest size of its file, in bytes.
        max_bytes: u64,
    },
}

/// A value that is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a value.
    #[must_use]
    pub fn new(value: String) -> Self {
        Self(value)
    }

    /// The value itself, for the library that needs it.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// `[plugins.NAME]`. Its `Debug` leaves out the configuration, which may hold secrets.
#[non_exhaustive]
pub struct PluginPlan {
    /// Name.
    pub name: Arc<str>,
    /// The component.
    pub component: ComponentPlan,
    /// SHA-256 that the component must have.
    pub sha256: Option<[u8; 32]>,
    /// What `configure` is given: JSON text.
    pub config: String,
    /// Limits.
    pub limits: PluginLimits,
    /// What it may use beyond computing: names such as `clock` and `env:REGION`.
    pub grants: Vec<String>,
    /// Most events a second, over all lanes of this process.
    pub rate_limit: Option<NonZeroU32>,
}

impl fmt::Debug for PluginPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, component, sha256, config: _, limits, grants, rate_limit } = self;
        f.debug_struct("PluginPlan")
            .field("name", name)
            .field("component", component)
            .field("sha256", sha256)
            .field("config", &"***")
            .field("limits", limits)
            .field("grants", grants)
            .field("rate_limit", rate_limit)
            .finish()
    }
}

/// Where a plugin's component is. Paths are as written: relative to the file's own directory.
#[derive(Debug)]
pub enum ComponentPlan {
    /// A built component.
    File(PathBuf),
    /// A folder that `pointsman plugin build` makes it from.
    Source(PathBuf),
}

/// `[plugins.NAME.limits]`: they hold for one instance, and one call.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PluginLimits {
    /// Linear memory, in bytes.
    pub memory_bytes: usize,
    /// CPU time of one call.
    pub deadline: Duration,
    /// Bytes that the verdicts of one call may hold.
    pub output_bytes: usize,
    /// Events that the verdicts of one call may emit in all.
    pub output_events: usize,
    /// Elements of one table.
    pub table_elements: usize,
}

impl Default for PluginLimits {
    /// What a plugin has whose table says nothing of it.
    fn default() -> Self {
        Self {
            memory_bytes: 64 << 20,
            deadline: Duration::from_millis(50),
            output_bytes: 8 << 20,
            output_events: 10_000,
            table_elements: 10_000,
        }
    }
}

/// `[[routes]]`.
#[derive(Debug)]
#[non_exhaustive]
pub struct RoutePlan {
    /// Name.
    pub name: Arc<str>,
    /// Consumer group.
    pub group: Arc<str>,
    /// Source topics, each with its retry topic where the route retries.
    pub sources: Vec<SourcePlan>,
    /// Where to start where the group has committed nothing.
    pub start: StartAt,
    /// What may pass a record that waits for its retry.
    pub ordering: Ordering,
    /// What a dead letter does to later records of its key.
    pub on_dead: OnDead,
    /// The stages in order.
    pub stages: Vec<StagePlan>,
    /// Most records a second, over all lanes of this process.
    pub rate_limit: Option<NonZeroU32>,
    /// Most records of one batch.
    pub batch_records: NonZeroUsize,
    /// Most bytes of one batch; a larger record comes alone.
    pub batch_bytes: NonZeroUsize,
    /// Most records of one lane that are fetched and not settled.
    pub in_flight_records: NonZeroUsize,
    /// Most bytes of one lane that are fetched and not settled, parked ones held in memory included.
    pub in_flight_bytes: NonZeroUsize,
    /// What is done about failures.
    pub failure: FailurePolicy,
    /// Topic of the dead letters.
    pub dead_letter: Option<TopicId>,
    /// What the breaker of each lane goes by; `None` where there is none, as on every route without dead letters.
    pub breaker: Option<Terms>,
    /// The outputs in order.
    pub outputs: Vec<OutputPlan>,
    /// Which of several outputs that take an event get it.
    pub matching: Matching,
    /// Stamp outputs with topic, partition and offset of their origin.
    pub origin_headers: bool,
}

/// What may pass a record that waits for its retry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ordering {
    /// Everything.
    None,
    /// Records of other keys, and those with a null key: later ones of its own are parked behind it.
    Key,
    /// Nothing of its partition: it is retried in place. There is no retry topic.
    Partition,
}

/// What a dead letter does to later records of its key. Where that is anything, the route has order by key, a retry topic and
/// dead letters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnDead {
    /// Nothing: they go their way.
    Release,
    /// They become dead letters, too, in order and without being run, until somebody releases the key.
    ParkKey,
}

/// A source topic of a route.
#[derive(Debug)]
#[non_exhaustive]
pub struct SourcePlan {
    /// The topic.
    pub topic: Arc<str>,
    /// Its retry topic.
    pub retry: Option<TopicId>,
}

/// One stage.
#[derive(Debug)]
pub enum StagePlan {
    /// A plugin call.
    Plugin(PluginId),
    /// Keeps the events for which the condition holds, and drops the others.
    Filter(Condition),
}

impl StagePlan {
    /// The plugin that is called, where one is.
    #[must_use]
    pub const fn plugin(&self) -> Option<PluginId> {
        match self {
            Self::Plugin(plugin) => Some(*plugin),
            Self::Filter(_) => None,
        }
    }
}

/// Which of several outputs that take an event get it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Matching {
    /// The first in the order of the file.
    First,
    /// All of them.
    All,
}

/// `[[routes.outputs]]`.
#[derive(Debug)]
#[non_exhaustive]
pub struct OutputPlan {
    /// Which events it takes.
    pub select: Select,
    /// The topic.
    pub topic: TopicId,
    /// Keep the partition number of the origin, instead of the one the key has.
    pub same_partition: bool,
}

/// Which events an output takes.
#[derive(Debug)]
pub enum Select {
    /// Those that left by this port.
    Port(String),
    /// Those of the default port for which the condition holds.
    When(Condition),
    /// Those of the default port that no `when` took.
    Default,
}

/// `[[feeds]]`.
#[derive(Debug)]
#[non_exhaustive]
pub struct FeedPlan {
    /// The topic.
    pub topic: Arc<str>,
    /// A file of records as JSON lines, written over and over; its path is relative to the configuration's.
    pub records: PathBuf,
    /// Records a second.
    pub per_second: NonZeroU32,
}

/// A topic that the router writes to.
#[derive(Debug)]
#[non_exhaustive]
pub struct TopicPlan {
    /// Name.
    pub name: Arc<str>,
    /// What it is for.
    pub role: TopicRole,
}

/// What a topic is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TopicRole {
    /// An output: the operator's own; it is not created on a cluster.
    Output,
    /// Parked records of one source topic of one route; as many partitions as that topic.
    Retry {
        /// The source topic.
        source: Arc<str>,
    },
    /// Dead letters.
    DeadLetter {
        /// How long they are kept; `None` is for ever.
        retention: Option<Duration>,
    },
}
