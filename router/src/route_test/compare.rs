//! What is not as a case expects it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use pointsman_config::plan::{Plan, TopicRole};
use pointsman_core::record::{Headers, OwnedRecord};
use serde::Serialize;
use serde_json::Value;

use super::case::{Case, Expected, ExpectedFate, Want};
use super::json::{self, Difference};
use super::run::Outcome;
use super::show;
use super::simulated_log::Written;
use crate::counters::Fate;
use crate::lane::{Told, Why};

/// Differences of one value that are told.
const DIFFERENCES: usize = 20;

/// One thing that is not as expected.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub(crate) enum Mismatch {
    /// It ran, and came to something else.
    Differs {
        /// What is meant.
        at: String,
        expected: String,
        got: String,
    },
    /// It could not be run to its end.
    Trouble { trouble: String },
}

impl Mismatch {
    fn new(at: String, expected: impl Into<String>, got: impl Into<String>) -> Self {
        Self::Differs { at, expected: expected.into(), got: got.into() }
    }
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Differs { at, expected, got } => write!(f, "{at}\n  expected  {expected}\n  got       {got}"),
            Self::Trouble { trouble } => f.write_str(trouble),
        }
    }
}

pub(super) fn compare(case: &Case, plan: &Plan, outcome: &Outcome) -> Vec<Mismatch> {
    if let Some(trouble) = &outcome.trouble {
        return vec![Mismatch::Trouble { trouble: trouble.clone() }];
    }
    let mut found = fates(case, outcome);
    if let Some(expected) = &case.expect {
        found.extend(deliveries(expected, plan, outcome));
    }
    let unused = outcome.unused.iter();
    found.extend(unused.map(|verdict| Mismatch::new(verdict.clone(), "used for an event", "not used")));
    found
}

fn fates(case: &Case, outcome: &Outcome) -> Vec<Mismatch> {
    let mut found = Vec::new();
    for (index, (given, place)) in case.given.iter().zip(&outcome.places).enumerate() {
        let runs = outcome.told.get(place).map(Vec::as_slice).unwrap_or_default();
        let at = || {
            let (partition, offset) = place;
            format!("record {} ({partition} offset {offset}, {})", index + 1, show::record(&given.record))
        };
        // I1, whatever the case looks at.
        let ends: Vec<&Told> = runs.iter().filter(|told| told.fate != Fate::Parked).collect();
        if ends.len() > 1 {
            let all: Vec<String> = ends.iter().map(|told| show::fate(told.fate, &told.why)).collect();
            found.push(Mismatch::new(format!("the fate of {}", at()), "exactly one", all.join(" and ")));
        }
        if let Some(expected) = &given.fate
            && !is_fate(expected, runs.last())
        {
            let got = runs.last().map_or_else(|| show::UNSETTLED.to_owned(), |told| show::fate(told.fate, &told.why));
            found.push(Mismatch::new(format!("the fate of {}", at()), show::expected_fate(expected), got));
        }
    }
    found
}

fn is_fate(expected: &ExpectedFate, told: Option<&Told>) -> bool {
    let (reason, failure) = match told.map(|told| &told.why) {
        Some(Why::Reason(reason)) => (Some(reason), None),
        Some(Why::Failure(failure)) => (None, Some(failure)),
        Some(Why::Routed { .. }) | None => (None, None),
    };
    let ExpectedFate { fate, reason: expected_reason, class, code } = expected;
    *fate == told.map(|told| told.fate)
        && (expected_reason.is_none() || expected_reason.as_ref() == reason)
        && (class.is_none() || *class == failure.map(|failure| failure.class))
        && (code.is_none() || code.as_ref() == failure.map(|failure| &failure.code))
}

/// Outputs must be exactly what is expected; of the router's own topics, those that the case names.
fn deliveries(expected: &[Expected], plan: &Plan, outcome: &Outcome) -> Vec<Mismatch> {
    let mut by_topic: BTreeMap<&Arc<str>, Vec<&Expected>> = BTreeMap::new();
    for topic in plan.topics.iter().filter(|topic| topic.role == TopicRole::Output) {
        by_topic.entry(&topic.name).or_default();
    }
    for expected in expected {
        by_topic.entry(&expected.topic).or_default().push(expected);
    }
    let topics = by_topic.into_iter();
    topics
        .flat_map(|(topic, expected)| {
            let written = outcome.written.get(topic).map(Vec::as_slice).unwrap_or_default();
            compare_topic(topic, &expected, written)
        })
        .collect()
}

fn compare_topic(topic: &str, expected: &[&Expected], written: &[Written]) -> Vec<Mismatch> {
    let mut found = Vec::new();
    let at = |position: usize| format!("{topic}, delivery {} of {}", position + 1, written.len());
    let (mut next_expected, mut next_written) = (0, 0);
    for (index, got) in align(expected, written) {
        // Between two pairs, what is missing is set against what is there instead.
        while next_expected < index || next_written < got {
            match (next_expected < index, next_written < got) {
                (true, true) => {
                    found.extend(differences(&at(next_written), expected[next_expected], &written[next_written]));
                }
                (true, false) => {
                    let at = format!("{topic}, expected delivery {} of {}", next_expected + 1, expected.len());
                    found.push(Mismatch::new(at, show_expected(expected[next_expected]), "nothing"));
                }
                _ => {
                    found.push(Mismatch::new(at(next_written), "nothing", show::record(&written[next_written].record)))
                }
            }
            next_expected += usize::from(next_expected < index);
            next_written += usize::from(next_written < got);
        }
        if let (Some(expected), Some(record)) = (expected.get(index), written.get(got)) {
            found.extend(differences(&at(got), expected, record));
        }
        (next_expected, next_written) = (index + 1, got + 1);
    }
    found
}

/// Which expected delivery each one is, as pairs of indices in order: those that are as expected, and those that have at
/// least the key. The last pair is behind the ends of both.
fn align(expected: &[&Expected], written: &[Written]) -> Vec<(usize, usize)> {
    let start = (0..expected.len().min(written.len()))
        .take_while(|index| likeness(expected[*index], &written[*index]) == SAME)
        .count();
    let mut pairs: Vec<(usize, usize)> = (0..start).map(|index| (index, index)).collect();
    let (rows, columns) = (expected.len() - start, written.len() - start);
    // best[i][j]: the most likeness that pairs of what is left from i and j on can have.
    let mut best = vec![vec![0_u32; columns + 1]; rows + 1];
    let mut like = vec![vec![0_u32; columns]; rows];
    for row in (0..rows).rev() {
        for column in (0..columns).rev() {
            like[row][column] = likeness(expected[start + row], &written[start + column]);
            let paired = like[row][column] + best[row + 1][column + 1];
            best[row][column] = paired.max(best[row + 1][column]).max(best[row][column + 1]);
        }
    }
    let (mut row, mut column) = (0, 0);
    while row < rows && column < columns {
        if like[row][column] > 0 && best[row][column] == like[row][column] + best[row + 1][column + 1] {
            pairs.push((start + row, start + column));
            (row, column) = (row + 1, column + 1);
        } else if best[row][column] == best[row + 1][column] {
            row += 1;
        } else {
            column += 1;
        }
    }
    pairs.push((expected.len(), written.len()));
    pairs
}

/// The likeness of a delivery that is as expected.
const SAME: u32 = 3;

fn likeness(expected: &Expected, written: &Written) -> u32 {
    if differences("", expected, written).is_empty() {
        return SAME;
    }
    match (&expected.key, &written.record.key) {
        (Want::Bytes(wanted), Some(key)) => u32::from(wanted == key),
        _ => 0,
    }
}

/// Where a delivery is not what was expected.
fn differences(at: &str, expected: &Expected, written: &Written) -> Vec<Mismatch> {
    let record = &*written.record;
    let mut found = Vec::new();
    if let Some(partition) = expected.partition.filter(|partition| *partition != written.partition) {
        found.push(Mismatch::new(format!("{at}: partition"), partition.to_string(), written.partition.to_string()));
    }
    if let Some(time) = expected.timestamp_ms.filter(|time| *time != record.timestamp_ms) {
        found.push(Mismatch::new(format!("{at}: timestamp"), show_time(time), show_time(record.timestamp_ms)));
    }
    found.extend(field(&format!("{at}: key"), &expected.key, record.key.as_deref()));
    found.extend(field(&format!("{at}: value"), &expected.value, record.value.as_deref()));
    found.extend(headers(at, expected, record));
    found
}

fn field(at: &str, wanted: &Want, got: Option<&[u8]>) -> Vec<Mismatch> {
    let wanted_bytes = match wanted {
        Want::Any => return Vec::new(),
        Want::Null => None,
        Want::Bytes(bytes) => Some(bytes.as_slice()),
    };
    if wanted_bytes == got {
        return Vec::new();
    }
    let parsed = |bytes: Option<&[u8]>| bytes.and_then(|bytes| serde_json::from_slice::<Value>(bytes).ok());
    let (Some(wanted_json), Some(got_json)) = (parsed(wanted_bytes), parsed(got)) else {
        return vec![Mismatch::new(at.to_owned(), show::want(wanted), show::bytes(got))];
    };
    let text = |text: Option<String>| text.unwrap_or_else(|| "nothing".to_owned());
    let found = json::differences(&wanted_json, &got_json).into_iter().take(DIFFERENCES);
    found
        .map(|Difference { path, expected, got }| Mismatch::new(format!("{at}{path}"), text(expected), text(got)))
        .collect()
}

fn headers(at: &str, expected: &Expected, record: &OwnedRecord) -> Vec<Mismatch> {
    let got = Headers::Owned(&record.headers);
    let mut found = Vec::new();
    for wanted in &expected.headers {
        let last = got.iter().rev().find(|header| *header.name == *wanted.name).map(|header| header.value);
        if last != Some(wanted.value.as_deref()) {
            let at = format!("{at}: header {}", wanted.name.escape_ascii());
            let got = last.map_or_else(|| "no such header".to_owned(), show::bytes);
            found.push(Mismatch::new(at, show::bytes(wanted.value.as_deref()), got));
        }
    }
    if let Some(exact) = expected.exact_headers.as_ref().filter(|exact| **exact != record.headers) {
        found.push(Mismatch::new(format!("{at}: headers"), show::headers(Headers::Owned(exact)), show::headers(got)));
    }
    found
}

fn show_time(time_ms: i64) -> String {
    jiff::Timestamp::from_millisecond(time_ms).map_or_else(|_| time_ms.to_string(), |time| time.to_string())
}

fn show_expected(expected: &Expected) -> String {
    let mut parts = Vec::new();
    for (name, want) in [("key", &expected.key), ("value", &expected.value)] {
        if *want != Want::Any {
            parts.push(format!("{name} {}", show::want(want)));
        }
    }
    let headers = expected.exact_headers.as_ref().unwrap_or(&expected.headers);
    if !headers.is_empty() {
        parts.push(format!("headers {}", show::headers(Headers::Owned(headers))));
    }
    if parts.is_empty() { "a delivery".to_owned() } else { parts.join(", ") }
}
