//! The configuration as it was read: typed and defaulted, but names are still names. Each value that a relation can
//! blame keeps its place in the file.

use std::collections::BTreeMap;
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::PathBuf;
use std::time::Duration;

use pointsman_core::breaker::Terms;
use pointsman_core::condition::Condition;
use pointsman_core::failure::FailureClass;
use pointsman_core::policy::{Reaction, RetrySchedule};
use pointsman_core::port::StartAt;

use crate::findings::Span;
use crate::plan::{AdminPlan, ComponentPlan, DeliveryPlan, Matching, OnDead, Ordering, Secret, TelemetryPlan};

/// A value and its place in the file.
#[derive(Clone, Debug)]
pub struct At<T> {
    /// The value.
    pub value: T,
    /// Where it is, in bytes.
    pub span: Span,
}

impl<T> At<T> {
    /// A default, for which the table is to blame that it is not in.
    pub(crate) const fn new(value: T, span: Span) -> Self {
        Self { value, span }
    }
}

/// The whole file. Absent is what could not be read; it was noted.
pub(crate) struct Raw {
    pub(crate) router: Option<Router>,
    pub(crate) broker: Option<Broker>,
    pub(crate) plugins: Vec<Plugin>,
    pub(crate) routes: Vec<Route>,
    pub(crate) feeds: Vec<Feed>,
    pub(crate) admin: Option<AdminPlan>,
    pub(crate) telemetry: Option<TelemetryPlan>,
}

/// `[[feeds]]`.
pub(crate) struct Feed {
    pub(crate) topic: At<String>,
    pub(crate) records: PathBuf,
    pub(crate) per_second: NonZeroU32,
}

/// `[router]`.
pub(crate) struct Router {
    pub(crate) name: String,
    pub(crate) group: At<String>,
    pub(crate) instance_id: Option<At<String>>,
    pub(crate) workers: Option<NonZeroUsize>,
    pub(crate) delivery: At<DeliveryPlan>,
    pub(crate) commit_interval: Duration,
    pub(crate) drain_deadline: At<Duration>,
    pub(crate) max_record: At<u64>,
}

/// `[broker]`.
pub(crate) enum Broker {
    Kafka { bootstrap: String, fetch_ahead_bytes: u64, librdkafka: BTreeMap<String, At<Secret>> },
    Embedded { directory: PathBuf, retention: Option<Duration>, max_bytes: u64 },
}

/// `[plugins.NAME]`.
pub(crate) struct Plugin {
    pub(crate) name: At<String>,
    pub(crate) component: Option<ComponentPlan>,
    pub(crate) sha256: Option<[u8; 32]>,
    pub(crate) config: String,
    pub(crate) limits: Limits,
    pub(crate) grants: Vec<String>,
    pub(crate) rate_limit: Option<NonZeroU32>,
}

/// `[plugins.NAME.limits]`.
pub(crate) struct Limits {
    pub(crate) memory: At<u64>,
    pub(crate) deadline: At<Duration>,
    pub(crate) output: At<u64>,
    pub(crate) output_events: u64,
    pub(crate) table_elements: u64,
}

/// `[[routes]]`.
pub(crate) struct Route {
    pub(crate) name: At<String>,
    pub(crate) group: Option<At<String>>,
    pub(crate) from: Vec<At<String>>,
    pub(crate) start: StartAt,
    pub(crate) ordering: Ordering,
    pub(crate) on_dead: Option<At<OnDead>>,
    pub(crate) stages: Vec<Stage>,
    pub(crate) rate_limit: Option<NonZeroU32>,
    pub(crate) batch_records: At<u64>,
    pub(crate) batch_bytes: At<u64>,
    pub(crate) in_flight_records: At<u64>,
    pub(crate) in_flight_bytes: At<u64>,
    pub(crate) retry: Option<Retry>,
    pub(crate) dead_letter: Option<DeadLetter>,
    pub(crate) breaker: Option<Breaker>,
    pub(crate) reactions: Vec<(FailureClass, At<Reaction>)>,
    pub(crate) origin_headers: bool,
    pub(crate) matching: Matching,
    pub(crate) outputs: Vec<Output>,
}

/// An element of `stages`.
pub(crate) enum Stage {
    Plugin(At<String>),
    Filter(Condition),
}

/// `[routes.retry]`.
pub(crate) struct Retry {
    pub(crate) schedule: RetrySchedule,
    pub(crate) initial: At<Duration>,
    pub(crate) topic: Option<At<String>>,
    pub(crate) span: Span,
}

/// `[routes.dead_letter]`.
pub(crate) struct DeadLetter {
    pub(crate) topic: Option<At<String>>,
    pub(crate) retention: Option<Duration>,
    pub(crate) span: Span,
}

/// `[routes.breaker]`.
pub(crate) struct Breaker {
    pub(crate) terms: Terms,
    pub(crate) tokens: Span,
    pub(crate) probe_initial: Span,
    /// Where it is, unless it is the default.
    pub(crate) written: Option<Span>,
}

/// `[[routes.outputs]]`.
pub(crate) struct Output {
    pub(crate) select: Chosen,
    pub(crate) topic: Option<At<String>>,
    pub(crate) same_partition: bool,
    pub(crate) span: Span,
}

/// Which events an output takes.
pub(crate) enum Chosen {
    Port(At<String>),
    When(At<Condition>),
    Default,
    /// It could not be read; that was noted.
    Unknown,
}
