//! Metrics as Prometheus scrapes them: OpenMetrics text.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

use super::catalogue::{Kind, Metric};
use crate::counters::histogram::Distribution;

/// Media type of the metrics' text.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// One metric, with all that is told of it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Family {
    pub(crate) metric: &'static Metric,
    pub(crate) samples: Vec<Sample>,
}

/// The value of a metric for some labels.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Sample {
    /// One for each label of the metric.
    pub(crate) labels: Vec<String>,
    pub(crate) value: Value,
}

/// A value.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    Count(u64),
    Number(f64),
    Distribution(Distribution),
}

#[derive(Debug)]
struct Snapshot(Vec<Family>);

impl Collector for Snapshot {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        for Family { metric, samples } in self.0.iter().filter(|family| !family.samples.is_empty()) {
            let kind = match metric.kind {
                Kind::Counter => MetricType::Counter,
                Kind::Gauge => MetricType::Gauge,
                Kind::Histogram => MetricType::Histogram,
            };
            let mut family = encoder.encode_descriptor(metric.name, metric.help, None, kind)?;
            for Sample { labels, value } in samples {
                let labels: Vec<(&str, &str)> =
                    metric.labels.iter().copied().zip(labels.iter().map(String::as_str)).collect();
                if labels.is_empty() {
                    value.encode(metric.kind, &mut family)?;
                } else {
                    value.encode(metric.kind, &mut family.encode_family(&labels.as_slice())?)?;
                }
            }
        }
        Ok(())
    }
}

impl Value {
    fn encode(&self, kind: Kind, encoder: &mut prometheus_client::encoding::MetricEncoder<'_>) -> fmt::Result {
        match (kind, self) {
            (Kind::Counter, Self::Count(count)) => encoder.encode_counter::<NoLabelSet, _, u64>(count, None),
            (Kind::Counter, Self::Number(number)) => encoder.encode_counter::<NoLabelSet, _, u64>(number, None),
            (_, Self::Count(count)) => encoder.encode_gauge(&(*count as f64)),
            (_, Self::Number(number)) => encoder.encode_gauge(number),
            (_, Self::Distribution(distribution)) => encoder.encode_histogram::<NoLabelSet>(
                distribution.sum,
                distribution.count(),
                &distribution.buckets,
                None,
            ),
        }
    }
}

/// The text for these metrics.
pub(crate) fn text(families: Vec<Family>) -> String {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Snapshot(families)));
    let mut text = String::new();
    // To write to a string does not fail.
    let _ = encode(&mut text, &registry);
    text
}
