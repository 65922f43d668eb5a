//! Looks at an embedded log.
#![allow(clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

use std::num::NonZeroU64;
use std::time::{Duration, Instant};

use pointsman_core::lag::Status;
use pointsman_core::metadata::Metadata;
use pointsman_core::port::{Commit, Log, NewTopic};
use pointsman_core::record::TopicPartition;
use pointsman_core::settled::Settled;
use pointsman_core::tracker::{Admission, CommitPoint, Tracker};
use pointsman_embedded::{EmbeddedLog, Options};
use tempfile::TempDir;

use super::look::{Look, Seen, look};
use super::*;
use crate::dead_letter::tests::{MINUTE, T0, log_of, never, write};
use crate::dead_letter::{Order, Report as Ran, Selection, Signature, Site, Verb, handle};
use crate::progress::UNTOLD;
use crate::record_text::RecordLine;

const CONFIG: &str = r#"
version = 1
[router]
name = "test"
[broker]
embedded = "nowhere"
[[routes]]
name = "orders"
from = ["orders.v1"]
retry = { topic = "retry" }
dead_letter = { topic = "dead" }
[[routes.outputs]]
topic = "out"
[[routes]]
name = "late"
from = ["late.v1"]
start = "latest"
dead_letter = false
retry = false
[[routes.outputs]]
topic = "out"
"#;

pub(crate) fn plan() -> Plan {
    pointsman_config::compile(CONFIG, "config.toml", &|_: &str| None).unwrap().0
}

fn record(partition: i32, minute: i64) -> RecordLine {
    RecordLine {
        partition: Some(partition),
        timestamp_ms: Some(T0 + minute * MINUTE),
        value: Some(b"{}".to_vec()),
        ..RecordLine::default()
    }
}

fn commit(topic: &str, partition: i32, offset: i64, metadata: &str) -> Commit {
    Commit { partition: TopicPartition::new(topic, partition), offset, metadata: metadata.to_owned() }
}

/// Metadata of a commit at 0, of three records, of which the second is settled.
fn second_of_three() -> String {
    let mut tracker = Tracker::resume(CommitPoint { offset: 0, settled: Settled::default() });
    for offset in 0..3 {
        let admitted = tracker.admit(offset).unwrap();
        if let (1, Admission::Run(ticket)) = (offset, admitted) {
            tracker.settle(ticket);
        }
    }
    Metadata { settled: tracker.commit_point().settled, ..Metadata::default() }.encode(0).text
}

/// Ten records in each partition of `orders.v1`, a minute apart, of which 4 and all are read; three that are parked in the first
/// retry partition, of which one is settled; three dead letters, of which one was discarded; and a topic that is begun at its end.
pub(crate) fn sample() -> (TempDir, EmbeddedLog) {
    let (folder, log) = log_of(&["orders.v1", "retry", "dead", "late.v1", "other"]);
    let records: Vec<RecordLine> = (0..20).map(|number| record(number % 2, i64::from(number / 2))).collect();
    write(&log, "orders.v1", &records);
    write(&log, "late.v1", &records);
    write(&log, "retry", &[record(0, 1), record(0, 2), record(0, 3)]);
    write(&log, "dead", &[record(0, 4), record(0, 5), record(1, 6)]);
    let commits =
        [commit("orders.v1", 0, 4, ""), commit("orders.v1", 1, 10, ""), commit("retry", 0, 0, &second_of_three())];
    log.set_committed("test", &commits).unwrap();
    log.set_committed("others", &[commit("late.v1", 1, 7, "whatever it means")]).unwrap();

    let plan = plan();
    let site = Site { log: &log, plan: &plan, now_ms: &|| T0 + 60 * MINUTE, stop: &never, progress: UNTOLD };
    let discard = Order::new(Verb::Discard, Signature { by: "ana".into(), run: "r1".into() });
    let order = Order { max: NonZeroU64::new(1), ..discard };
    let topics = Topic::look_up(&log, &["dead".into()]).unwrap();
    handle(&site, &topics, &Selection::default(), &order, &mut Ran::default(), &mut |_| {}, &mut |_| {}).unwrap();
    (folder, log)
}

fn look_once(log: &dyn Log, choice: Choice) -> Result<Report, LagError> {
    Watcher::new(log, &plan(), choice).look(T0 + 30 * MINUTE, &never)
}

fn row<'a>(report: &'a Report, topic: &str, partition: i32) -> &'a PartitionLag {
    let is_it = |row: &&PartitionLag| row.what.topic == topic && row.partition == partition;
    report.partitions.iter().find(is_it).unwrap()
}

#[test]
fn what_is_not_settled_is_counted_with_the_age_of_the_oldest() {
    let (_folder, log) = sample();
    let report = look_once(&log, Choice::default()).unwrap();
    assert_eq!(report.notes, [] as [String; 0]);
    let minutes = |minutes: f64| Some(minutes * 60.0);
    for (topic, partition, committed, records, age) in [
        ("orders.v1", 0, Some(4), 6, minutes(26.0)),
        ("orders.v1", 1, Some(10), 0, Some(0.0)),
        // The second of three is settled.
        ("retry", 0, Some(0), 2, minutes(29.0)),
        ("retry", 1, None, 0, Some(0.0)),
        // The first of two was handled.
        ("dead", 0, None, 1, minutes(25.0)),
        ("dead", 1, None, 1, minutes(24.0)),
        // Nothing was committed, and it is begun at its end.
        ("late.v1", 0, None, 0, Some(0.0)),
    ] {
        let row = row(&report, topic, partition);
        assert_eq!(
            (row.committed, row.records, row.lag_seconds),
            (committed, Some(records), age),
            "{topic}/{partition}"
        );
        assert!(row.exact && row.problem.is_none(), "{topic}/{partition}");
        let is_read = if topic == "dead" { None } else { Some(false) };
        assert_eq!((row.is_read, row.status), (is_read, None), "{topic}/{partition}");
    }
    let ten_years = 3650.0 * 86_400.0;
    let gone = row(&report, "orders.v1", 0).retention_seconds;
    assert_eq!(gone, Some(ten_years - 26.0 * 60.0), "from the age of the oldest that is not read");
    assert_eq!(row(&report, "orders.v1", 0).retention_records, Some(4));
    assert_eq!(row(&report, "orders.v1", 1).retention_seconds, None, "nothing is left that could go");
    let orders = report.topics.iter().find(|topic| topic.what.topic == "orders.v1").unwrap();
    assert_eq!((orders.records, orders.behind, orders.partitions, orders.unread), (6, 1, 2, 2));
    assert_eq!(orders.lag_seconds, minutes(26.0));
}

#[test]
fn another_group_is_what_it_has_committed() {
    let (_folder, log) = sample();
    let of = |group: &str| Choice { group: Some(group.to_owned()), ..Choice::default() };
    let report = look_once(&log, of("others")).unwrap();
    assert_eq!(report.partitions.len(), 1);
    let row = row(&report, "late.v1", 1);
    assert_eq!((row.committed, row.records, row.lag_seconds), (Some(7), Some(3), Some(23.0 * 60.0)));
    let nobody = look_once(&log, of("nobody")).unwrap_err();
    assert!(matches!(nobody, LagError::NoGroup(_)), "{nobody}");
    let topic = Choice { topic: Some("order.v1".into()), ..Choice::default() };
    let error = look_once(&log, topic).unwrap_err().to_string();
    assert!(error.contains("orders.v1, retry, late.v1, dead"), "{error}");
}

#[test]
fn a_route_or_a_topic_is_told_alone() {
    let (_folder, log) = sample();
    let topics = |choice| -> Vec<String> {
        look_once(&log, choice).unwrap().topics.into_iter().map(|topic| topic.what.topic).collect()
    };
    let route = Choice { route: Some("late".into()), ..Choice::default() };
    assert_eq!(topics(route), ["late.v1"]);
    assert_eq!(topics(Choice { topic: Some("retry".into()), ..Choice::default() }), ["retry"]);
    assert_eq!(topics(Choice::default()), ["orders.v1", "retry", "late.v1", "dead"]);
}

#[test]
fn with_a_second_look_there_are_rates_and_a_status() {
    let (_folder, log) = sample();
    let plan = plan();
    let mut watcher = Watcher::new(&log, &plan, Choice::default());
    let mut look = |second: i64| watcher.look(T0 + 30 * MINUTE + second * 1000, &never).unwrap();
    let told = |report: &Report, partition: i32| {
        let row = row(report, "orders.v1", partition);
        (row.status, row.pace.map(|pace| (pace.written_per_second, pace.read_per_second, pace.drain_seconds)))
    };
    assert_eq!(told(&look(0), 0), (None, None));
    let second = look(4);
    assert_eq!(told(&second, 1).0, Some(Status::Ok));
    assert_eq!(told(&second, 0).0.map(Status::name), Some("unknown"));
    let third = look(9);
    assert_eq!(told(&third, 0), (Some(Status::Stopped), Some((0.0, 0.0, None))));
    assert!(row(&third, "retry", 0).status.is_none(), "what is parked waits, and is well");
    assert_eq!(third.topics[0].status, Some(Status::Stopped), "the worst of its partitions");

    log.set_committed("test", &[commit("orders.v1", 0, 9, ""), commit("orders.v1", 1, 2, "")]).unwrap();
    let fourth = look(10);
    assert_eq!(told(&fourth, 0).1, Some((0.0, 0.5, Some(2.0))));
    assert_eq!(told(&fourth, 0).0.map(Status::name), Some("unknown"), "one commit is no pace");
    assert_eq!(told(&fourth, 1).0, Some(Status::Rewinding));
    assert_eq!(row(&fourth, "orders.v1", 0).lag_seconds, Some(21.0 * 60.0 + 10.0), "another record is the oldest");
}

#[test]
fn a_commit_beyond_the_end_and_a_topic_that_is_not_there_are_told() {
    let (_folder, log) = log_of(&["orders.v1"]);
    write(&log, "orders.v1", &[record(0, 1)]);
    log.set_committed("test", &[commit("orders.v1", 0, 5, "")]).unwrap();
    let report = look_once(&log, Choice::default()).unwrap();
    let row = row(&report, "orders.v1", 0);
    assert_eq!((row.records, row.lag_seconds), (None, None));
    assert!(row.problem.as_ref().is_some_and(|why| why.contains("made anew")) && row.wants_a_look(), "{row:?}");
    assert_eq!(report.missing, ["late.v1"]);
}

#[test]
fn what_retention_has_taken_is_lost_and_not_lag() {
    let folder = TempDir::new().unwrap();
    let log = EmbeddedLog::open(folder.path(), Options::default()).unwrap();
    let day = Duration::from_secs(86_400);
    log.create_topics(&[NewTopic { name: "orders.v1".into(), partitions: 1, retention: Some(day) }]).unwrap();
    write(&log, "orders.v1", &(0..10).map(|minute| record(0, minute)).collect::<Vec<_>>());
    log.set_committed("test", &[commit("orders.v1", 0, 4, "")]).unwrap();
    log.enforce_retention(jiff::Timestamp::now().as_millisecond() + 2 * 86_400_000).unwrap();
    write(&log, "orders.v1", &[record(0, 10), record(0, 11)]);
    let report = look_once(&log, Choice { route: Some("orders".into()), ..Choice::default() }).unwrap();
    let row = row(&report, "orders.v1", 0);
    assert_eq!((row.lost, row.records, row.oldest_offset, row.retention_records), (6, Some(2), Some(10), Some(0)));
    assert!(row.wants_a_look());
    // The two that are left: a day old when they are gone.
    assert_eq!(row.retention_seconds, Some((24 * 60 - 20) as f64 * 60.0));
}

#[test]
fn what_does_not_come_in_time_is_not_known() {
    let (_folder, log) = sample();
    let partition = |number| TopicPartition::new("orders.v1", number);
    // The end is said to be further away than it is.
    let nothing = |_: i64| false;
    let odd = |offset: i64| offset < 3;
    let of = |number, from, end| Look { partition: partition(number), from, end, is_settled: &nothing };
    let looks = [of(0, 10, 11), of(0, 8, 10), Look { is_settled: &odd, ..of(1, 0, 10) }, of(7, 0, 1)];
    let answers = look(&log, &looks, Instant::now() + Duration::from_millis(200), &never);
    assert_eq!(answers[0].as_ref().unwrap_err(), "no record came in time");
    assert_eq!(answers[1], Ok(Seen { oldest: Some((8, T0 + 8 * MINUTE)), records: Some(2) }));
    assert_eq!(answers[2], Ok(Seen { oldest: Some((3, T0 + 3 * MINUTE)), records: Some(7) }));
    assert!(answers[3].as_ref().is_err_and(|why| why.contains("orders.v1/7")), "{answers:?}");
    let stopped = look(&log, &looks, Instant::now() + Duration::from_secs(60), &|| true);
    assert!(stopped.iter().all(Result::is_err), "{stopped:?}");
}

#[test]
fn so_many_records_are_not_counted() {
    let (_folder, log) = log_of(&["orders.v1"]);
    write(&log, "orders.v1", &(0..1200).map(|minute| record(0, minute)).collect::<Vec<_>>());
    let report = look_once(&log, Choice { route: Some("orders".into()), ..Choice::default() }).unwrap();
    let row = row(&report, "orders.v1", 0);
    assert_eq!((row.records, row.exact, row.oldest_offset), (Some(1200), false, Some(0)));
}
