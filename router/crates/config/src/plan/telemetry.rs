//! The plan of what is sent to an OpenTelemetry collector.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::time::Duration;

use super::Secret;

/// `[telemetry]`.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TelemetryPlan {
    /// Where OTLP is taken over HTTP, without a path's last part and slash: `http://127.0.0.1:4318`.
    pub endpoint: String,
    /// Headers of each request besides OTLP's own.
    pub headers: BTreeMap<String, Secret>,
    /// How long one request may take.
    pub timeout: Duration,
    /// Attributes of the resource, besides those by which the router tells who it is.
    pub attributes: BTreeMap<String, String>,
    /// Traces; `None` where none are sent.
    pub traces: Option<TracesPlan>,
    /// How often metrics are sent; `None` where none are.
    pub metrics: Option<Duration>,
}

/// `[telemetry.traces]`.
#[derive(Clone, Debug, PartialEq)]
pub struct TracesPlan {
    /// Share of records that are traced, of those that bring no trace along: 0 to 1.
    pub sample: f64,
    /// Most records that are traced in a second, over all lanes.
    pub records_per_second: NonZeroU32,
}
