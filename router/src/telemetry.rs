//! What the person on call is told of a running router: metrics, and whether it is well.
//!
//! Everything is gathered when somebody asks, from counters that are there anyway, from what the workers answer between two steps,
//! and from what the [survey] of the log has found last. Nobody who routes waits for it.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use pointsman_config::Plan;
use pointsman_core::failure::FailureClass;
use pointsman_core::lag::age;
use pointsman_core::port::{Log, PluginId};
use pointsman_wasm::Plugins;

use crate::counters::{Counters, Fate};
use crate::lanes::{LaneName, Lanes, Look, State};
use crate::shared::Now;
use catalogue::{self as metrics, Metric};
use exposition::{Family, Sample, Value};
use survey::{Findings, Survey};

pub(crate) mod catalogue;
pub(crate) mod exposition;
mod health;
mod process;
mod push;
mod reference;
mod report;
mod survey;

pub use exposition::CONTENT_TYPE as METRICS_CONTENT_TYPE;
pub use health::{Health, Unready};
pub use push::Pushing;
pub use reference::page as reference_page;
pub use report::{Fates, LaneLag, RouteReport};

/// How long workers are waited for. What they have not told by then is missing from the metrics.
const ANSWER_WITHIN: Duration = Duration::from_secs(1);

/// Tells of a running router. Cheap to clone.
#[derive(Clone)]
pub struct Telemetry(Arc<Inner>);

struct Inner {
    plan: Arc<Plan>,
    counters: Arc<Counters>,
    lanes: Lanes,
    plugins: Plugins,
    survey: Survey,
    log: Arc<dyn Log>,
    started: SystemTime,
}

impl Telemetry {
    /// Begins to look.
    ///
    /// # Errors
    /// The system's, if it gives no thread.
    pub(crate) fn start(
        counters: Arc<Counters>,
        lanes: Lanes,
        plugins: Plugins,
        log: Arc<dyn Log>,
    ) -> std::io::Result<Self> {
        let plan = Arc::clone(&lanes.plan);
        let survey = Survey::start(Arc::clone(&plan), Arc::clone(&log), lanes.clone())?;
        Ok(Self(Arc::new(Inner { plan, counters, lanes, plugins, survey, log, started: SystemTime::now() })))
    }

    /// All metrics, as OpenMetrics text. Waits for the workers, a second at most.
    #[must_use]
    pub fn metrics(&self) -> String {
        exposition::text(self.0.gather())
    }

    /// Whether the router is well. Waits for the workers, a second at most.
    #[must_use]
    pub fn health(&self) -> Health {
        let look = self.0.lanes.look(ANSWER_WITHIN);
        health::judge(&look, &self.0.survey.findings())
    }
}

/// Collects samples.
#[derive(Default)]
struct Gathered(Vec<Family>);

impl Gathered {
    fn add(&mut self, metric: &'static Metric, labels: &[&str], value: Value) {
        debug_assert_eq!(metric.labels.len(), labels.len(), "{}", metric.name);
        let sample = Sample { labels: labels.iter().map(|label| (*label).to_owned()).collect(), value };
        match self.0.iter_mut().rfind(|family| std::ptr::eq(family.metric, metric)) {
            Some(family) => family.samples.push(sample),
            None => self.0.push(Family { metric, samples: vec![sample] }),
        }
    }

    fn count(&mut self, metric: &'static Metric, labels: &[&str], count: u64) {
        self.add(metric, labels, Value::Count(count));
    }

    fn number(&mut self, metric: &'static Metric, labels: &[&str], number: f64) {
        self.add(metric, labels, Value::Number(number));
    }
}

fn seconds(milliseconds: u64) -> f64 {
    milliseconds as f64 / 1000.0
}

impl Inner {
    fn gather(&self) -> Vec<Family> {
        let mut gathered = Gathered::default();
        let look = self.lanes.look(ANSWER_WITHIN);
        self.lag(&mut gathered);
        self.lanes(&look, &mut gathered);
        self.records(&mut gathered);
        self.dead_letters(&mut gathered);
        self.plugins(&mut gathered);
        self.groups(&mut gathered);
        self.connections(&mut gathered);
        self.process(&look, &mut gathered);
        gathered.0
    }

    fn lag(&self, out: &mut Gathered) {
        let Findings { at, lanes, .. } = &*self.survey.findings();
        let now = Now::read();
        for (LaneName { route, topic, partition }, found) in lanes {
            let partition = partition.to_string();
            let lane = [route.as_str(), topic, &partition];
            out.count(&metrics::LAG_RECORDS, &lane, found.records());
            for (metric, ms) in [
                (&metrics::LAG_SECONDS, found.age_ms(now)),
                (&metrics::RETENTION_HEADROOM_SECONDS, found.left_ms(now)),
                (&metrics::LAG_DRAIN_SECONDS, found.drain_ms),
            ] {
                ms.into_iter().for_each(|ms| out.number(metric, &lane, seconds(ms)));
            }
            out.count(&metrics::LAG_STATUS, &[route, topic, &partition, found.status.name()], 1);
            out.number(&metrics::WATERMARK_OFFSET, &lane, found.observation.committed.unwrap_or(0) as f64);
            out.number(&metrics::END_OFFSET, &lane, found.observation.end as f64);
        }
        if let Some(at) = at {
            out.number(&metrics::SURVEY_AGE_SECONDS, &[], at.elapsed().as_secs_f64());
        }
    }

    fn lanes(&self, look: &Look, out: &mut Gathered) {
        let now_ms = Now::read().unix_ms;
        for report in &look.lanes {
            let LaneName { route, topic, partition } = &report.lane;
            let partition = partition.to_string();
            let lane = [route.as_str(), topic, &partition];
            out.count(&metrics::LANE_STATE, &[route, topic, &partition, report.state.name()], 1);
            let Some(position) = &report.position else { continue };
            out.count(&metrics::IN_FLIGHT_RECORDS, &lane, position.in_flight as u64);
            out.count(&metrics::IN_FLIGHT_BYTES, &lane, position.in_flight_bytes as u64);
            if let Some(breaker) = position.breaker {
                out.count(&metrics::BREAKER_OPEN, &lane, breaker.open.into());
                out.count(&metrics::BREAKER_TOKENS, &lane, breaker.tokens.into());
            }
            if let Some(retry) = &position.retry {
                out.count(&metrics::PARKED_RECORDS, &lane, retry.parked as u64);
                if let Some(due_ms) = retry.due_ms {
                    let overdue = now_ms.saturating_sub(due_ms) as f64 / 1000.0;
                    out.number(&metrics::PARKED_OVERDUE_SECONDS, &lane, overdue);
                }
            }
        }
        for route in &self.plan.routes {
            out.count(&metrics::IN_FLIGHT_LIMIT_BYTES, &[&route.name], route.in_flight_bytes.get() as u64);
        }
    }

    fn records(&self, out: &mut Gathered) {
        let counters = &self.counters;
        for (index, route) in self.plan.routes.iter().enumerate() {
            for (number, source) in route.sources.iter().enumerate() {
                let fetched = counters.fetched(index, number);
                out.count(&metrics::FETCHED_RECORDS, &[&route.name, &source.topic], fetched.records);
                out.count(&metrics::FETCHED_BYTES, &[&route.name, &source.topic], fetched.bytes);
            }
            for fate in Fate::ALL {
                out.count(&metrics::RECORDS, &[&route.name, fate.name()], counters.fate(index, fate));
            }
            for (error, count) in ["refused", "unavailable"].into_iter().zip(counters.failed_deliveries(index)) {
                out.count(&metrics::DELIVERY_ERRORS, &[&route.name, error], count);
            }
            let handling = Value::Distribution(counters.handling[index].read());
            out.add(&metrics::HANDLING_SECONDS, &[&route.name], handling);
            out.add(&metrics::EVENT_AGE_SECONDS, &[&route.name], Value::Distribution(counters.ages[index].read()));
        }
        for (cause, count) in &*counters.causes() {
            let fate = cause.fate.map_or("waiting", Fate::name);
            let labels = [&self.plan.routes[cause.route].name, cause.class, cause.code.as_str(), fate];
            out.count(&metrics::FAILURES, &labels, *count);
        }
        for (id, topic) in (0..).map(pointsman_core::delivery::TopicId).zip(&self.plan.topics) {
            let produced = counters.topic(id);
            out.count(&metrics::PRODUCED_RECORDS, &[&topic.name], produced.records);
            out.count(&metrics::PRODUCED_BYTES, &[&topic.name], produced.bytes);
        }
    }

    fn dead_letters(&self, out: &mut Gathered) {
        let now_ms = Now::read().unix_ms;
        for (topic, found) in &self.survey.findings().dead_letters {
            out.count(&metrics::DEAD_LETTERS_KEPT_RECORDS, &[topic], found.records);
            if let Some(oldest_ms) = found.oldest_ms {
                out.number(&metrics::DEAD_LETTERS_OLDEST_SECONDS, &[topic], seconds(age(oldest_ms, now_ms)));
            }
            if let Some(retention) = found.retention {
                out.number(&metrics::DEAD_LETTERS_RETENTION_SECONDS, &[topic], retention.as_secs_f64());
            }
        }
    }

    fn plugins(&self, out: &mut Gathered) {
        for (index, route) in self.plan.routes.iter().enumerate() {
            for (PluginId(plugin), calls) in self.counters.calls_of(index) {
                let names = [&*route.name, &*self.plan.plugins[*plugin as usize].name];
                out.number(&metrics::PLUGIN_CPU_SECONDS, &names, calls.cpu().as_secs_f64());
                out.add(&metrics::PLUGIN_CALL_EVENTS, &names, Value::Distribution(calls.events.read()));
                let used = Value::Distribution(calls.deadline_used.read());
                out.add(&metrics::PLUGIN_DEADLINE_USED_RATIO, &names, used);
                for (direction, bytes) in ["in", "out"].into_iter().zip(calls.bytes()) {
                    out.count(&metrics::PLUGIN_BORDER_BYTES, &[names[0], names[1], direction], bytes);
                }
                for class in FailureClass::ALL {
                    let failed = calls.failed(class);
                    if failed > 0 {
                        out.count(&metrics::PLUGIN_CALL_FAILURES, &[names[0], names[1], class.name()], failed);
                    }
                }
            }
        }
        for (id, plan) in (0..).map(PluginId).zip(&self.plan.plugins) {
            let name = [&*plan.name];
            out.count(&metrics::PLUGIN_SLOW_CALLS, &name, self.counters.slow_calls(id.0 as usize));
            out.number(&metrics::PLUGIN_DEADLINE_SECONDS, &name, plan.limits.deadline.as_secs_f64());
            out.count(&metrics::PLUGIN_MEMORY_LIMIT_BYTES, &name, plan.limits.memory_bytes as u64);
            let Some(usage) = self.plugins.get(id).map(pointsman_wasm::LoadedPlugin::usage) else { continue };
            out.count(&metrics::PLUGIN_INSTANCES, &name, usage.instances);
            out.count(&metrics::PLUGIN_INSTANCES_MADE, &name, usage.made);
            out.count(&metrics::PLUGIN_MEMORY_BYTES, &name, usage.memory_bytes);
        }
        for (plugin, counter, count) in self.counters.plugin_counts() {
            out.count(&metrics::PLUGIN_COUNTER, &[&self.plan.plugins[plugin].name, &counter], count);
        }
    }

    fn groups(&self, out: &mut Gathered) {
        for group in &self.counters.groups {
            let load = |count: &std::sync::atomic::AtomicU64| count.load(Ordering::Relaxed);
            out.count(&metrics::GROUP_PARTITIONS, &[&group.name], load(&group.partitions));
            out.count(&metrics::GROUP_REBALANCES, &[&group.name, "assigned"], load(&group.assignments));
            for (kind, count) in ["revoked", "lost"].into_iter().zip(&group.revocations) {
                out.count(&metrics::GROUP_REBALANCES, &[&group.name, kind], load(count));
            }
            let revoking = Value::Distribution(group.revoking.read());
            out.add(&metrics::GROUP_REVOCATION_SECONDS, &[&group.name], revoking);
        }
        for (group, failures) in self.lanes.commit_failures() {
            out.count(&metrics::GROUP_COMMIT_FAILURES, &[&self.counters.groups[group].name], failures);
        }
        let transactions = &self.counters.transactions;
        for (outcome, count) in [("committed", &transactions.committed), ("undone", &transactions.undone)] {
            out.count(&metrics::TRANSACTIONS, &[outcome], count.load(Ordering::Relaxed));
        }
        let traces = &self.counters.traces;
        if self.plan.telemetry.as_ref().is_some_and(|telemetry| telemetry.traces.is_some()) {
            out.count(&metrics::TRACES_PASSED_OVER_RECORDS, &[], traces.passed_over.load(Ordering::Relaxed));
            for (outcome, count) in [("sent", &traces.sent), ("lost", &traces.lost)] {
                out.count(&metrics::TRACE_SPANS, &[outcome], count.load(Ordering::Relaxed));
            }
        }
        let committing = Value::Distribution(transactions.committing.read());
        out.add(&metrics::TRANSACTION_COMMIT_SECONDS, &[], committing);
    }

    fn connections(&self, out: &mut Gathered) {
        for connections in self.log.connections() {
            let broker = [connections.role.name(), connections.broker.as_str()];
            out.count(&metrics::KAFKA_CONNECTIONS, &broker, connections.connected);
            out.count(&metrics::KAFKA_WAITING_REQUESTS, &broker, connections.waiting);
            if let Some(seconds) = connections.rtt_seconds {
                out.number(&metrics::KAFKA_RTT_SECONDS, &broker, seconds);
            }
            out.number(&metrics::KAFKA_THROTTLED_SECONDS, &broker, connections.throttled_seconds);
            out.count(&metrics::KAFKA_REQUEST_TIMEOUTS, &broker, connections.timeouts);
            out.count(&metrics::KAFKA_REQUEST_ERRORS, &broker, connections.errors);
            out.count(&metrics::KAFKA_REQUEST_RETRIES, &broker, connections.retries);
            out.count(&metrics::KAFKA_DISCONNECTS, &broker, connections.disconnects);
        }
    }

    fn process(&self, look: &Look, out: &mut Gathered) {
        out.count(&metrics::BUILD_INFO, &[env!("CARGO_PKG_VERSION")], 1);
        out.count(&metrics::SILENT_WORKERS, &[], look.silent as u64);
        for worker in &look.workers {
            let index = worker.index.to_string();
            out.count(&metrics::WORKER_LANES, &[&index], worker.lanes as u64);
            out.count(&metrics::PRODUCER_QUEUE_BYTES, &[&index], worker.queued_bytes as u64);
            out.count(&metrics::PRODUCER_QUEUE_LIMIT_BYTES, &[&index], worker.queue_limit_bytes as u64);
        }
        let started = self.started.duration_since(UNIX_EPOCH).unwrap_or_default();
        out.number(&metrics::START_TIME_SECONDS, &[], started.as_secs_f64());
        out.number(&metrics::CPU_SECONDS, &[], process::cpu().as_secs_f64());
        if let Some(bytes) = process::resident_bytes() {
            out.count(&metrics::RESIDENT_MEMORY_BYTES, &[], bytes);
        }
        if let Some(count) = process::open_files() {
            out.count(&metrics::OPEN_FDS, &[], count);
        }
    }
}

/// The word for what a lane is at, as a label.
impl State {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Waiting => "waiting",
            Self::PausedByBreaker => "paused-by-breaker",
            Self::PausedByHand => "paused-by-hand",
            Self::Halted => "halted",
            Self::Draining => "draining",
            Self::Silent => "silent",
        }
    }
}

#[cfg(test)]
mod tests;
