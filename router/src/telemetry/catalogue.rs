//! Every metric there is: what it is called, what it counts, and by what it is told apart. The reference page is made of this, and
//! nothing that is not here can be told.

/// One metric.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Metric {
    /// Without the endings that its kind gives it (`_total`; `_bucket`, `_sum` and `_count`).
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    pub(crate) labels: &'static [&'static str],
    /// A sentence without its full stop.
    pub(crate) help: &'static str,
}

/// What a metric does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// It grows, from 0 at the start of the process.
    Counter,
    /// It is as it is now.
    Gauge,
    /// How often values were of which size, since the start of the process.
    Histogram,
}

impl Kind {
    /// Prometheus' word for it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

const fn counter(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Metric {
    Metric { name, kind: Kind::Counter, labels, help }
}

const fn gauge(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Metric {
    Metric { name, kind: Kind::Gauge, labels, help }
}

const fn histogram(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Metric {
    Metric { name, kind: Kind::Histogram, labels, help }
}

const LANE: &[&str] = &["route", "topic", "partition"];
const BROKER: &[&str] = &["role", "broker"];
const PLUGIN: &[&str] = &["route", "plugin"];

/// Metrics that belong together.
pub(crate) struct Section {
    /// A heading.
    pub(crate) title: &'static str,
    pub(crate) metrics: &'static [&'static Metric],
}

macro_rules! catalogue {
    ($($title:literal { $($(#[doc = $help:literal])+ $id:ident = $make:ident($name:literal, $labels:expr);)* })*) => {
        $($($(#[doc = $help])+ pub(crate) static $id: Metric = $make($name, $labels, concat!($($help),+).trim_ascii_start());)*)*

        /// All of them, in the order of the reference page.
        pub(crate) static SECTIONS: &[Section] = &[$(Section { title: $title, metrics: &[$(&$id),*] }),*];
    };
}

catalogue! {
    "Lag" {
        /// Records of the source partition that are written and have no fate yet
        LAG_RECORDS = gauge("pointsman_lag_records", LANE);
        /// Age of the oldest record of the source partition that has no fate yet, by the record's own timestamp; 0 where there is none
        LAG_SECONDS = gauge("pointsman_lag_seconds", LANE);
        /// 1 for the status that the lane has now: ok, rewinding, stopped, stalled, falling-behind or unknown
        LAG_STATUS = gauge("pointsman_lag_status", &["route", "topic", "partition", "status"]);
        /// How long it takes until nothing is left to do, if all goes on as over the last minutes; absent where it never would
        LAG_DRAIN_SECONDS = gauge("pointsman_lag_drain_seconds", LANE);
        /// How long it takes until retention by age may remove the oldest record that has no fate yet; absent where there is none, or records
        /// are kept for ever
        RETENTION_HEADROOM_SECONDS = gauge("pointsman_retention_headroom_seconds", LANE);
        /// The lowest offset that is not settled
        WATERMARK_OFFSET = gauge("pointsman_watermark_offset", LANE);
        /// One past the last offset of the source partition
        END_OFFSET = gauge("pointsman_end_offset", LANE);
        /// Seconds since the ends of the partitions were last asked for; what is said of lag is as old
        SURVEY_AGE_SECONDS = gauge("pointsman_survey_age_seconds", &[]);
    }
    "Lanes" {
        /// 1 for what the lane is at now: running, waiting, paused-by-breaker, paused-by-hand, halted, draining or silent
        LANE_STATE = gauge("pointsman_lane_state", &["route", "topic", "partition", "state"]);
        /// Records that are taken in and have no fate yet, parked ones that are run included
        IN_FLIGHT_RECORDS = gauge("pointsman_in_flight_records", LANE);
        /// Bytes that are held for them
        IN_FLIGHT_BYTES = gauge("pointsman_in_flight_bytes", LANE);
        /// Most bytes that a lane of the route takes in before some of them are settled
        IN_FLIGHT_LIMIT_BYTES = gauge("pointsman_in_flight_limit_bytes", &["route"]);
        /// 1 while the lane's breaker is open: failures are the rule, and one record at a time is tried
        BREAKER_OPEN = gauge("pointsman_breaker_open", LANE);
        /// Dead letters that the lane can pay for now
        BREAKER_TOKENS = gauge("pointsman_breaker_tokens", LANE);
    }
    "Records" {
        /// Records that were fetched
        FETCHED_RECORDS = counter("pointsman_fetched_records", &["route", "topic"]);
        /// Bytes of their keys, values and headers
        FETCHED_BYTES = counter("pointsman_fetched_bytes", &["route", "topic"]);
        /// Records that came to a fate: delivered, dropped, parked, dead-lettered or halted. One that is parked comes to another later
        RECORDS = counter("pointsman_records", &["route", "fate"]);
        /// Records that failed, by what became of them (a fate, or waiting where they are retried in place). Of the codes, which plugins choose,
        /// 1000 causes are told apart; what comes beyond has the code other
        FAILURES = counter("pointsman_failures", &["route", "class", "code", "fate"]);
        /// Records that were handed to the producer, for each topic
        PRODUCED_RECORDS = counter("pointsman_produced_records", &["topic"]);
        /// Bytes of their keys, values and headers
        PRODUCED_BYTES = counter("pointsman_produced_bytes", &["topic"]);
        /// Deliveries that failed: refused for themselves, or unavailable for now
        DELIVERY_ERRORS = counter("pointsman_delivery_errors", &["route", "error"]);
        /// From the fetch of a batch until the last of its records has its fate, for each of its records
        HANDLING_SECONDS = histogram("pointsman_handling_seconds", &["route"]);
        /// From the timestamp of the first record of a batch until the last of its records has its fate, for each of its records
        EVENT_AGE_SECONDS = histogram("pointsman_event_age_seconds", &["route"]);
    }
    "Retries and dead letters" {
        /// Records that wait in the retry partition of the lane
        PARKED_RECORDS = gauge("pointsman_parked_records", LANE);
        /// How long the first parked record has been due; negative while it is not due yet; absent where none waits for its time
        PARKED_OVERDUE_SECONDS = gauge("pointsman_parked_overdue_seconds", LANE);
        /// Records that the dead-letter topic has, handled or not
        DEAD_LETTERS_KEPT_RECORDS = gauge("pointsman_dead_letters_kept_records", &["topic"]);
        /// Age of the oldest of them; absent where there is none
        DEAD_LETTERS_OLDEST_SECONDS = gauge("pointsman_dead_letters_oldest_seconds", &["topic"]);
        /// How long dead letters are kept; absent where it is for ever
        DEAD_LETTERS_RETENTION_SECONDS = gauge("pointsman_dead_letters_retention_seconds", &["topic"]);
    }
    "Plugins" {
        /// CPU time of the plugin's calls, the way in and out included
        PLUGIN_CPU_SECONDS = counter("pointsman_plugin_cpu_seconds", PLUGIN);
        /// Events of each call: its count is that of calls, and its sum that of events
        PLUGIN_CALL_EVENTS = histogram("pointsman_plugin_call_events", PLUGIN);
        /// Which part of the plugin's deadline each call took, in CPU time: what is left to 1 is its headroom
        PLUGIN_DEADLINE_USED_RATIO = histogram("pointsman_plugin_deadline_used_ratio", PLUGIN);
        /// Bytes that crossed the border of the sandbox: in, or out
        PLUGIN_BORDER_BYTES = counter("pointsman_plugin_border_bytes", &["route", "plugin", "direction"]);
        /// Calls that gave no verdicts, by class. Most are made again with fewer events, so that they say nothing of the number of records
        PLUGIN_CALL_FAILURES = counter("pointsman_plugin_call_failures", &["route", "plugin", "class"]);
        /// Calls for a single event that took more than half of the deadline
        PLUGIN_SLOW_CALLS = counter("pointsman_plugin_slow_calls", &["plugin"]);
        /// CPU time that one call may take
        PLUGIN_DEADLINE_SECONDS = gauge("pointsman_plugin_deadline_seconds", &["plugin"]);
        /// Instances that there are
        PLUGIN_INSTANCES = gauge("pointsman_plugin_instances", &["plugin"]);
        /// Instances that were made
        PLUGIN_INSTANCES_MADE = counter("pointsman_plugin_instances_made", &["plugin"]);
        /// Memory of all instances together
        PLUGIN_MEMORY_BYTES = gauge("pointsman_plugin_memory_bytes", &["plugin"]);
        /// Memory that one instance may have
        PLUGIN_MEMORY_LIMIT_BYTES = gauge("pointsman_plugin_memory_limit_bytes", &["plugin"]);
        /// What the plugin counts itself, by the names that it chooses (64 at the most)
        PLUGIN_COUNTER = counter("pointsman_plugin_counter", &["plugin", "counter"]);
    }
    "Groups and transactions" {
        /// Partitions of the consumer group that this router works on
        GROUP_PARTITIONS = gauge("pointsman_group_partitions", &["group"]);
        /// How often partitions came (assigned), went in good order (revoked), or were somebody else's already (lost)
        GROUP_REBALANCES = counter("pointsman_group_rebalances", &["group", "kind"]);
        /// How long it took to give partitions up
        GROUP_REVOCATION_SECONDS = histogram("pointsman_group_revocation_seconds", &["group"]);
        /// Commits that failed, and were made again
        GROUP_COMMIT_FAILURES = counter("pointsman_group_commit_failures", &["group"]);
        /// Transactions that were committed, or undone
        TRANSACTIONS = counter("pointsman_transactions", &["outcome"]);
        /// How long it took to commit them, from the last of their records
        TRANSACTION_COMMIT_SECONDS = histogram("pointsman_transaction_commit_seconds", &[]);
    }
    "Connections to Kafka" {
        /// Clients of this process that are connected to the broker. The role is consumer or producer; what is told here is as the clients
        /// have told it last, which they do every 15 s
        KAFKA_CONNECTIONS = gauge("pointsman_kafka_connections", BROKER);
        /// Requests that wait to be sent to it, or to be answered
        KAFKA_WAITING_REQUESTS = gauge("pointsman_kafka_waiting_requests", BROKER);
        /// How long its answers took at the 99th percentile of the last interval; absent where it has answered nothing
        KAFKA_RTT_SECONDS = gauge("pointsman_kafka_rtt_seconds", BROKER);
        /// How long it has held a request back by its quotas, at the most, in the last interval
        KAFKA_THROTTLED_SECONDS = gauge("pointsman_kafka_throttled_seconds", BROKER);
        /// Requests that had no answer in time
        KAFKA_REQUEST_TIMEOUTS = counter("pointsman_kafka_request_timeouts", BROKER);
        /// Requests that could not be sent, and answers that could not be read
        KAFKA_REQUEST_ERRORS = counter("pointsman_kafka_request_errors", BROKER);
        /// Requests that were made again
        KAFKA_REQUEST_RETRIES = counter("pointsman_kafka_request_retries", BROKER);
        /// Connections that have ended, those too that a broker ends since they are idle (`connections.max.idle.ms`): the one for retry and dead-letter topics may be
        KAFKA_DISCONNECTS = counter("pointsman_kafka_disconnects", BROKER);
    }
    "Traces" {
        /// Spans that a collector has taken (sent), or nobody, or not in time (lost). Absent where nothing is traced
        TRACE_SPANS = counter("pointsman_trace_spans", &["outcome"]);
        /// Records that were not traced because there were more than records_per_second
        TRACES_PASSED_OVER_RECORDS = counter("pointsman_traces_passed_over_records", &[]);
    }
    "The process" {
        /// 1, with the version
        BUILD_INFO = gauge("pointsman_build_info", &["version"]);
        /// Workers that have not answered in a second, so that their lanes are missing here
        SILENT_WORKERS = gauge("pointsman_silent_workers", &[]);
        /// Lanes of the worker
        WORKER_LANES = gauge("pointsman_worker_lanes", &["worker"]);
        /// Bytes that wait in the worker's producer queue
        PRODUCER_QUEUE_BYTES = gauge("pointsman_producer_queue_bytes", &["worker"]);
        /// Most bytes that it takes
        PRODUCER_QUEUE_LIMIT_BYTES = gauge("pointsman_producer_queue_limit_bytes", &["worker"]);
        /// When the process was started, in seconds since 1970-01-01 UTC
        START_TIME_SECONDS = gauge("process_start_time_seconds", &[]);
        /// CPU time of the process
        CPU_SECONDS = counter("process_cpu_seconds", &[]);
        /// Memory that the process has
        RESIDENT_MEMORY_BYTES = gauge("process_resident_memory_bytes", &[]);
        /// Files and connections that are open
        OPEN_FDS = gauge("process_open_fds", &[]);
    }
}
