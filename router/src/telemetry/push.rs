//! Metrics as an OpenTelemetry collector takes them: the same as [`exposition`](super::exposition) writes, by OTLP.

use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceResponse;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::metrics::v1::{
    AggregationTemporality, Gauge, Histogram, HistogramDataPoint, Metric, MetricsData, NumberDataPoint,
    ResourceMetrics, ScopeMetrics, Sum, metric, number_data_point,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use prost::Message as _;

use super::Telemetry;
use super::catalogue::Kind;
use super::exposition::{Family, Sample, Value};
use crate::otlp::{Collector, scope, text};

/// What is sent last has so long.
const LAST: Duration = Duration::from_secs(2);

/// Sends metrics until this is dropped, and once more then.
pub struct Pushing {
    stop: Option<SyncSender<()>>,
    /// Closed when the thread ends.
    ended: Receiver<()>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Pushing {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Err(RecvTimeoutError::Disconnected) = self.ended.recv_timeout(LAST)
            && let Some(thread) = self.thread.take()
        {
            let _ = thread.join();
        }
    }
}

impl Telemetry {
    /// Begins to send metrics to the plan's collector, where they are to be sent.
    ///
    /// # Errors
    /// The system's, if it gives no thread.
    pub fn push(&self) -> io::Result<Option<Pushing>> {
        let plan = &self.0.plan;
        let Some(telemetry) = &plan.telemetry else { return Ok(None) };
        let Some(every) = telemetry.metrics else { return Ok(None) };
        let collector = Collector::new(plan, telemetry, "metrics");
        let (stop, stopped) = sync_channel(0);
        let (alive, ended) = sync_channel::<()>(0);
        let telemetry = self.clone();
        let thread = std::thread::Builder::new().name("metrics".into()).spawn(move || {
            let mut pushing = Push { telemetry, collector, failing: false };
            while let Err(RecvTimeoutError::Timeout) = stopped.recv_timeout(every) {
                pushing.send();
            }
            pushing.send();
            drop(alive);
        })?;
        Ok(Some(Pushing { stop: Some(stop), ended, thread: Some(thread) }))
    }
}

struct Push {
    telemetry: Telemetry,
    collector: Collector,
    /// The last time, it was not taken.
    failing: bool,
}

impl Push {
    /// What is not taken is not sent again: the next has it all, and is newer.
    fn send(&mut self) {
        let inner = &self.telemetry.0;
        let message = message(self.collector.resource(), &inner.gather(), inner.started, SystemTime::now());
        let refused = match self.collector.send(&message.encode_to_vec()) {
            Ok(answer) => refused(&answer),
            Err(error) => Some(error.to_string()),
        };
        // Each turn for the worse once: a collector that is away is told of by whoever watches it.
        match &refused {
            Some(why) if !self.failing => tracing::warn!("metrics can't be sent: {why}; they are, with the next"),
            None if self.failing => tracing::info!("metrics are sent again"),
            _ => {}
        }
        self.failing = refused.is_some();
    }
}

fn refused(answer: &[u8]) -> Option<String> {
    let partial = ExportMetricsServiceResponse::decode(answer).ok()?.partial_success?;
    let (points, message) = (partial.rejected_data_points, partial.error_message.escape_debug());
    (partial.rejected_data_points > 0).then(|| format!("the collector has refused {points} of them: {message}"))
}

fn message(resource: Resource, families: &[Family], started: SystemTime, now: SystemTime) -> MetricsData {
    let times = Times { started: unix_ns(started), now: unix_ns(now) };
    let metrics = families.iter().map(|family| times.metric(family)).collect();
    let scope_metrics = vec![ScopeMetrics { scope: Some(scope()), metrics, ..Default::default() }];
    MetricsData {
        resource_metrics: vec![ResourceMetrics { resource: Some(resource), scope_metrics, ..Default::default() }],
    }
}

fn unix_ns(at: SystemTime) -> u64 {
    let since: Duration = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// When counting began, and now, in nanoseconds since 1970-01-01 UTC.
struct Times {
    started: u64,
    now: u64,
}

impl Times {
    fn metric(&self, Family { metric, samples }: &Family) -> Metric {
        let attributes = |sample: &Sample| -> Vec<KeyValue> {
            metric.labels.iter().zip(&sample.labels).map(|(name, value)| text(name, value.as_str())).collect()
        };
        let cumulative = AggregationTemporality::Cumulative.into();
        let numbers = || samples.iter().filter_map(|sample| self.number(sample, attributes(sample))).collect();
        let data = match metric.kind {
            Kind::Counter => metric::Data::Sum(Sum {
                data_points: numbers(),
                aggregation_temporality: cumulative,
                is_monotonic: true,
            }),
            Kind::Gauge => metric::Data::Gauge(Gauge { data_points: numbers() }),
            Kind::Histogram => {
                let points = samples.iter().filter_map(|sample| self.distribution(sample, attributes(sample)));
                metric::Data::Histogram(Histogram {
                    data_points: points.collect(),
                    aggregation_temporality: cumulative,
                })
            }
        };
        Metric {
            name: metric.name.to_owned(),
            description: metric.help.to_owned(),
            unit: unit(metric.name).to_owned(),
            data: Some(data),
            ..Default::default()
        }
    }

    fn number(&self, sample: &Sample, attributes: Vec<KeyValue>) -> Option<NumberDataPoint> {
        let value = match &sample.value {
            Value::Count(count) => number_data_point::Value::AsInt(i64::try_from(*count).unwrap_or(i64::MAX)),
            Value::Number(number) => number_data_point::Value::AsDouble(*number),
            Value::Distribution(_) => return None,
        };
        Some(NumberDataPoint {
            attributes,
            start_time_unix_nano: self.started,
            time_unix_nano: self.now,
            value: Some(value),
            ..Default::default()
        })
    }

    fn distribution(&self, sample: &Sample, attributes: Vec<KeyValue>) -> Option<HistogramDataPoint> {
        let Value::Distribution(distribution) = &sample.value else { return None };
        let bounds = distribution.buckets.iter().map(|(bound, _)| *bound).filter(|bound| bound.is_finite());
        Some(HistogramDataPoint {
            attributes,
            start_time_unix_nano: self.started,
            time_unix_nano: self.now,
            count: distribution.count(),
            sum: Some(distribution.sum),
            bucket_counts: distribution.buckets.iter().map(|(_, count)| *count).collect(),
            explicit_bounds: bounds.collect(),
            ..Default::default()
        })
    }
}

/// By UCUM, of what the name ends with.
fn unit(name: &str) -> &'static str {
    match name.rsplit('_').next() {
        Some("seconds") => "s",
        Some("bytes") => "By",
        Some("ratio") => "1",
        Some("records") => "{record}",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::panic, reason = "a test fails by panicking")]

    use super::*;
    use crate::counters::histogram;
    use crate::telemetry::catalogue;

    #[test]
    fn metrics_are_what_the_collector_takes() {
        let sample =
            |labels: &[&str], value| Sample { labels: labels.iter().map(|label| (*label).into()).collect(), value };
        let times = histogram::Histogram::new(&[0.1, 1.0]);
        [0.05, 0.5, 0.5, 7.0].iter().for_each(|seconds| times.observe(*seconds, 1));
        let families = [
            Family {
                metric: &catalogue::RECORDS,
                samples: vec![
                    sample(&["orders", "delivered"], Value::Count(3)),
                    sample(&["orders", "dropped"], Value::Count(0)),
                ],
            },
            Family {
                metric: &catalogue::LAG_SECONDS,
                samples: vec![sample(&["orders", "orders.v1", "0"], Value::Number(1.5))],
            },
            Family {
                metric: &catalogue::HANDLING_SECONDS,
                samples: vec![sample(&["orders"], Value::Distribution(times.read()))],
            },
        ];
        let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
        let message = message(Resource::default(), &families, at(1), at(2));
        insta::assert_debug_snapshot!(message.resource_metrics[0].scope_metrics[0].metrics);
    }
}
