#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;

use super::catalogue::{Kind, SECTIONS};
use super::*;
use crate::counters::histogram::{Histogram, PARTS};

/// Names and units as Prometheus wants them: <https://prometheus.io/docs/practices/naming/>.
#[test]
fn every_metric_is_named_as_prometheus_wants_it() {
    let mut names = BTreeSet::new();
    for metric in SECTIONS.iter().flat_map(|section| section.metrics) {
        let name = metric.name;
        assert!(names.insert(name), "{name} is there twice");
        assert!(name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{name}");
        assert!(name.starts_with("pointsman_") || name.starts_with("process_"), "{name}");
        for ending in ["_total", "_count", "_sum", "_bucket"] {
            assert!(!name.ends_with(ending), "{name}: its kind adds the ending");
        }
        for unit in ["_ms", "_milliseconds", "_minutes", "_kilobytes", "_percent"] {
            assert!(!name.ends_with(unit), "{name}: base units are seconds, bytes and ratios");
        }
        assert!(!metric.help.is_empty() && !metric.help.ends_with('.'), "{name}: {}", metric.help);
        for label in metric.labels {
            assert!(!["key", "offset", "value"].contains(label), "{name} would have as many series as {label}s");
        }
        if metric.kind == Kind::Histogram {
            assert!(!metric.labels.contains(&"partition"), "{name} has too many series");
        }
    }
}

#[test]
fn what_is_told_is_open_metrics() {
    let histogram = Histogram::new(PARTS);
    histogram.observe(0.07, 3);
    histogram.observe(2.0, 1);
    let mut gathered = Gathered::default();
    gathered.number(&metrics::LAG_SECONDS, &["orders", "orders \"v1\"\n", "3"], 12.5);
    gathered.count(&metrics::RECORDS, &["orders", "delivered"], 7);
    gathered.count(&metrics::SILENT_WORKERS, &[], 0);
    gathered.add(&metrics::PLUGIN_DEADLINE_USED_RATIO, &["orders", "enrich"], Value::Distribution(histogram.read()));
    insta::assert_snapshot!(exposition::text(gathered.0));
}

/// `POINTSMAN_UPDATE=1` writes it anew.
#[test]
fn the_reference_page_is_made_from_the_catalogue() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/METRICS.md");
    if std::env::var_os("POINTSMAN_UPDATE").is_some() {
        std::fs::write(file, reference_page()).unwrap();
    }
    let there = std::fs::read_to_string(file).unwrap_or_default();
    assert!(there == reference_page(), "deploy/METRICS.md is not up to date: run this test with POINTSMAN_UPDATE=1");
}
