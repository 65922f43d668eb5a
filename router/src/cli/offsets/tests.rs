//! Resets on an embedded log: what they say, and what is committed then.
#![allow(clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

use clap::Parser as _;
use insta::assert_snapshot;
use pointsman_core::metadata::Metadata;
use pointsman_core::port::Commit;
use pointsman_core::record::TopicPartition;
use pointsman_core::settled::Settled;
use pointsman_core::tracker::{Admission, CommitPoint, Tracker};
use pointsman_embedded::EmbeddedLog;

use super::*;
use crate::dead_letter::tests::{T0, log_of, write};
use crate::progress::{Stand, Total, UNTOLD, Unit};
use crate::record_text::RecordLine;

const CONFIG: &str = r#"
version = 1
[router]
name = "test"
[broker]
embedded = "nowhere"

[[routes]]
name = "orders"
from = ["orders.v1", "orders.v2"]
[[routes.outputs]]
topic = "out"
"#;

const RETRY: &str = "test.orders.orders.v1.retry";

#[derive(clap::Parser)]
struct CommandLine {
    #[command(subcommand)]
    command: Command,
}

/// What was said, and what the group has committed for both partitions of both sources, and of the first retry topic.
fn run(log: &EmbeddedLog, line: &str) -> String {
    let line = ["offsets", "reset", "config.toml", "--route"].into_iter().chain(line.split(' '));
    let Command::Reset(arguments) = match CommandLine::try_parse_from(line) {
        Ok(line) => line.command,
        Err(error) => return error.to_string(),
    };
    let (plan, _) = pointsman_config::compile(CONFIG, "config.toml", &|_: &str| None).unwrap();
    let said = match reset(&arguments, &plan, log, &|| false, UNTOLD) {
        Ok(answer) => answer,
        Err(failed) => format!("{failed}\n{:?}", failed.exit()),
    };
    let partitions =
        ["orders.v1", "orders.v2", RETRY].map(|topic| [0, 1].map(|partition| TopicPartition::new(topic, partition)));
    let committed = log.committed("test", partitions.as_flattened()).unwrap();
    let committed: Vec<String> =
        committed.into_iter().flatten().map(|commit| format!("{} {}", commit.partition, commit.offset)).collect();
    format!("{said}\n---\ncommitted: {}", committed.join(", "))
}

/// Ten records in each partition of the sources, a minute apart, and three in the first retry partition, of which the second is
/// settled.
fn sample() -> (tempfile::TempDir, EmbeddedLog) {
    let (folder, log) = log_of(&["orders.v1", "orders.v2", RETRY]);
    let record = |partition: i32, minute: i64| RecordLine {
        partition: Some(partition),
        timestamp_ms: Some(T0 + 60_000 * minute),
        value: Some(b"{}".to_vec()),
        ..RecordLine::default()
    };
    let records: Vec<RecordLine> = (0..20).map(|number| record(number % 2, i64::from(number / 2))).collect();
    write(&log, "orders.v1", &records);
    write(&log, "orders.v2", &records);
    write(&log, RETRY, &[record(0, 0), record(0, 1), record(0, 2)]);
    let mut tracker = Tracker::resume(CommitPoint { offset: 0, settled: Settled::default() });
    for offset in 0..3 {
        let admitted = tracker.admit(offset).unwrap();
        if let (1, Admission::Run(ticket)) = (offset, admitted) {
            tracker.settle(ticket);
        }
    }
    let beyond = Metadata { settled: tracker.commit_point().settled, ..Metadata::default() }.encode(0).text;
    let commit = |topic: &str, partition, offset, metadata: &str| Commit {
        partition: TopicPartition::new(topic, partition),
        offset,
        metadata: metadata.to_owned(),
    };
    let commits = [commit("orders.v1", 0, 4, ""), commit("orders.v1", 1, 9, ""), commit(RETRY, 0, 0, &beyond)];
    log.set_committed("test", &commits).unwrap();
    (folder, log)
}

#[test]
fn a_reset_says_what_it_does_and_a_dry_run_does_nothing() {
    let (_folder, log) = sample();
    for (name, line) in [
        ("parked", "orders --to earliest"),
        ("dry_run", "orders --to earliest --parked keep --dry-run"),
        ("keep", "orders --to latest --topic orders.v1 --parked keep"),
        ("time", "orders --to 2026-01-01T00:03:30Z --topic orders.v2"),
        ("offset", "orders --to 5 --topic orders.v1 --partition 1"),
        ("json", "orders --to earliest --topic orders.v1 --partition 0 --parked discard --json"),
    ] {
        assert_snapshot!(name, run(&log, line));
    }
}

#[test]
fn what_can_not_be_meant_is_refused() {
    let (_folder, log) = sample();
    for (name, line) in [
        ("no_route", "order --to earliest"),
        ("no_topic", "orders --to earliest --topic payments"),
        ("no_partition", "orders --to earliest --partition 7"),
        ("ambiguous", "orders --to 5"),
        ("out_of_range", "orders --to 11 --topic orders.v2 --partition 0"),
        ("nowhere", "orders --to yesterday"),
    ] {
        assert_snapshot!(name, run(&log, line));
    }
}

#[test]
fn it_is_told_how_many_parked_records_are_looked_through() {
    let (_folder, log) = sample();
    let (plan, _) = pointsman_config::compile(CONFIG, "config.toml", &|_: &str| None).unwrap();
    let wish =
        Wish { topic: Some("orders.v1".into()), partitions: vec![0], to: Whence::Earliest, parked: Some(Parked::Keep) };
    let told = std::cell::RefCell::new(Vec::new());
    let progress = |stand: &Stand<'_>| {
        assert_eq!((stand.what, stand.unit), (&*format!("reading {RETRY}/0"), Unit::Records));
        told.borrow_mut().push((stand.done, stand.total));
    };
    let route = find_route(&plan, "orders").unwrap();
    offsets::plan(&log, &plan, route, &wish, &|| false, &progress, &mut |_| {}).unwrap();
    let told = told.into_inner();
    assert_eq!((told[0], told[told.len() - 1]), ((0, Total::AtMost(3)), (3, Total::AtMost(3))), "{told:?}");
}
