//! What is in the log is printed, in a sensible order, to its end and no further.
#![allow(clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

use std::cell::RefCell;
use std::io::Write as _;
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex};

use clap::Parser as _;
use pointsman_core::delivery::TopicId;
use pointsman_core::port::{
    Batch, Commit, Feed, FeedError, GroupPlan, LaneHost, LogError, Membership, NewTopic, Reader, Report, Sink, Token,
    TopicInfo, TopicSettings, TransactionError, TransactionalSink, Transactions, Waker, WriterPlan,
};
use pointsman_core::record::{OwnedHeader, OwnedRecord, Record, TopicPartition};
use pointsman_embedded::{EmbeddedLog, Options};
use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::progress::{Total, UNTOLD, Unit};
use crate::record_text::{RecordLine, parse_line};

/// A command line.
#[derive(clap::Parser)]
struct CommandLine {
    #[command(flatten)]
    arguments: Arguments,
}

fn arguments(line: &[&str]) -> Arguments {
    CommandLine::try_parse_from([&["consume", "config.toml"], line].concat()).unwrap().arguments
}

/// What a command printed, noted and answered.
#[derive(Debug, PartialEq)]
struct Said {
    exit: Exit,
    out: String,
    notes: Vec<String>,
}

fn consume(log: &dyn Log, line: &[&str]) -> Said {
    interrupted(log, line, 0)
}

fn interrupted(log: &dyn Log, line: &[&str], interrupts: u32) -> Said {
    let (mut out, mut notes) = (Vec::new(), Vec::new());
    let listen = || Ok(Arc::new(Interrupts::simulated(interrupts)));
    let exit = print(&arguments(line), log, &mut out, listen, UNTOLD, &mut |text| notes.push(text.to_owned()));
    Said { exit, out: String::from_utf8_lossy(&out).into_owned(), notes }
}

fn folder() -> (TempDir, EmbeddedLog) {
    let folder = TempDir::new().unwrap();
    let log = EmbeddedLog::open(folder.path(), Options::default()).unwrap();
    (folder, log)
}

/// A log with one topic `t`, of `partitions`, that holds these records.
fn log_of(partitions: u32, records: &[RecordLine]) -> (TempDir, EmbeddedLog) {
    let (folder, log) = folder();
    log.create_topics(&[NewTopic { name: "t".into(), partitions, retention: None }]).unwrap();
    write(&log, records);
    (folder, log)
}

fn write(log: &EmbeddedLog, records: &[RecordLine]) {
    let mut sink = log.sink(&["t".into()], Arc::new(|| {})).unwrap();
    for record in records {
        sink.produce(&record.delivery(TopicId(0)), Token(0)).unwrap();
    }
    let mut reports: Vec<Report> = Vec::new();
    sink.serve(&mut reports).unwrap();
    assert!(reports.len() == records.len() && reports.iter().all(|report| report.result.is_ok()));
}

fn text(partition: i32, timestamp_ms: i64, key: Option<&str>, value: Option<&str>) -> RecordLine {
    let bytes = |text: &str| text.as_bytes().to_vec();
    RecordLine {
        partition: Some(partition),
        timestamp_ms: Some(timestamp_ms),
        key: key.map(bytes),
        value: value.map(bytes),
        ..RecordLine::default()
    }
}

/// Three records in partition 0, two in partition 1, none in partition 2.
fn sample() -> Vec<RecordLine> {
    vec![
        text(0, 10, Some("a"), Some("1")),
        text(0, 50, Some("b"), Some("{\"x\":5}")),
        text(0, 20, Some("a"), None),
        text(1, 15, None, Some("")),
        text(1, 50, Some("a"), Some("2")),
    ]
}

#[test]
fn arguments_choose_what_is_printed() {
    let (_folder, log) = log_of(3, &sample());
    let value = ["--format", "value"];
    let note = "1 tombstones are not shown; --format json shows them";
    let cases: &[(&[&str], &str, &[&str])] = &[
        // By time, and the record of time 20 behind that of 50, as in its partition; of two at 50, partition 0 first.
        (&["--format", "value"], "1\n\n{\"x\":5}\n2\n", &[note]),
        (&["--format", "raw"], "1{\"x\":5}2", &[note]),
        (&[value[0], value[1], "--partition", "1", "--partition", "1"], "\n2\n", &[]),
        (&[value[0], value[1], "--partition", "2"], "", &[]),
        (&[value[0], value[1], "--partition", "1", "--from", "1"], "2\n", &[]),
        (&[value[0], value[1], "--partition", "1", "--from", "2"], "", &[]),
        (&[value[0], value[1], "--from", "1970-01-01T00:00:00.050Z"], "{\"x\":5}\n2\n", &[note]),
        (&[value[0], value[1], "--from", "latest"], "", &[]),
        (&[value[0], value[1], "--max", "2"], "1\n\n", &[]),
        (&[value[0], value[1], "--key", "a", "--max", "3"], "1\n2\n", &[note]),
        (&[value[0], value[1], "--key", "c"], "", &[]),
        (
            &["--from", "1", "--partition", "0"],
            "{\"topic\":\"t\",\"partition\":0,\"offset\":1,\"timestamp\":50,\"key\":\"b\",\"value\":\"{\\\"x\\\":5}\"}\n\
             {\"topic\":\"t\",\"partition\":0,\"offset\":2,\"timestamp\":20,\"key\":\"a\",\"value\":null}\n",
            &[],
        ),
        (
            &["--json-values", "--key", "b"],
            "{\"topic\":\"t\",\"partition\":0,\"offset\":1,\"timestamp\":50,\"key\":\"b\",\"value\":{\"x\":5}}\n",
            &[],
        ),
    ];
    for (line, out, notes) in cases {
        let said = consume(&log, &[&["t"], *line].concat());
        let notes = notes.iter().map(|note| (*note).to_owned()).collect();
        assert_eq!(said, Said { exit: Exit::Fine, out: (*out).to_owned(), notes }, "{line:?}");
    }
}

#[test]
fn what_is_not_there_is_named() {
    let (_folder, log) = log_of(2, &sample()[..3]);
    for (line, exit, error) in [
        (&["topic"][..], Exit::No, "error: there is no topic topic; correct the name"),
        (&["tt"], Exit::No, "error: there is no topic tt (is it t?); correct the name"),
        (&["t", "--partition", "2"], Exit::No, "error: topic t has no partition 2; it has 2, numbered from 0"),
        (
            &["t", "--from", "0"],
            Exit::Configuration,
            "error: an offset means something else in each partition of t; name one with --partition",
        ),
        (
            &["t", "--from", "4", "--partition", "0"],
            Exit::No,
            "error: t/0 has no offset 4; it has 0 up to 3, which is the next to be written",
        ),
    ] {
        assert_eq!(consume(&log, line), Said { exit, out: String::new(), notes: vec![error.to_owned()] }, "{line:?}");
    }
    for wrong in [&["--from", "soon"][..], &["--from", "-1"], &["--max", "0"], &["--partition", "-1"]] {
        let line = [&["consume", "config.toml", "t"], wrong].concat();
        assert!(CommandLine::try_parse_from(&line).is_err(), "{wrong:?}");
    }
}

#[test]
fn an_interrupt_is_the_end_of_following_only() {
    let (_folder, log) = log_of(1, &[]);
    write(&log, &[text(0, 1, None, Some("v"))]);
    assert_eq!(interrupted(&log, &["t"], 1).exit, Exit::No);
    assert_eq!(interrupted(&log, &["t", "--follow"], 1).exit, Exit::Fine);
}

/// Fails every write.
struct Closed(io::ErrorKind);

impl io::Write for Closed {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(self.0.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Err(self.0.into())
    }
}

#[test]
fn a_reader_that_has_gone_away_is_no_error() {
    let (_folder, log) = log_of(3, &sample());
    for (kind, exit, notes) in
        [(io::ErrorKind::BrokenPipe, Exit::Fine, 0), (io::ErrorKind::StorageFull, Exit::Fatal, 1)]
    {
        for line in [&["t"][..], &["t", "--format", "value"], &["t", "--format", "raw", "--follow"]] {
            // At once, or when the buffer is emptied in the end.
            for capacity in [0, 1 << 20] {
                let mut said = Vec::new();
                let mut out = BufWriter::with_capacity(capacity, Closed(kind));
                let note = &mut |text: &str| said.extend(text.starts_with("error").then(|| text.to_owned()));
                let found = print(&arguments(line), &log, &mut out, || Ok(Arc::default()), UNTOLD, note);
                assert_eq!((found, said.len()), (exit, notes), "{line:?}: {said:?}");
            }
        }
    }
}

/// Tells of each line.
struct Told(Sender<String>, Vec<u8>);

impl io::Write for Told {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.1.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let text = String::from_utf8_lossy(&std::mem::take(&mut self.1)).into_owned();
        text.lines().for_each(|line| drop(self.0.send(line.to_owned())));
        Ok(())
    }
}

/// What another handle writes is printed as it comes in, and before that what was there.
#[test]
fn following_goes_on_with_what_comes_in() {
    let (folder, log) = log_of(2, &[text(1, 9, None, Some("old"))]);
    let (sender, lines) = mpsc::channel();
    let reader = thread::spawn(move || {
        let line = arguments(&["t", "--follow", "--max", "3", "--format", "value"]);
        let mut out = Told(sender, Vec::new());
        let exit = print(&line, &log, &mut out, || Ok(Arc::default()), UNTOLD, &mut |_| {});
        out.flush().unwrap();
        exit
    });
    assert_eq!(lines.recv().unwrap(), "old");
    let other = EmbeddedLog::open(folder.path(), Options::default()).unwrap();
    write(&other, &[text(0, 5, None, Some("new"))]);
    assert_eq!(lines.recv().unwrap(), "new");
    write(&other, &[text(1, 4, None, Some("newer")), text(1, 4, None, Some("too many"))]);
    assert_eq!(lines.recv().unwrap(), "newer");
    assert_eq!(reader.join().unwrap(), Exit::Fine);
    assert!(lines.recv().is_err());
}

fn any_line() -> impl Strategy<Value = RecordLine> {
    let bytes = || proptest::option::of(proptest::collection::vec(any::<u8>(), 0..5));
    let header = (proptest::collection::vec(any::<u8>(), 0..3), bytes())
        .prop_map(|(name, value)| OwnedHeader { name: name.into(), value: value.map(Into::into) });
    (0..3_i32, 0..6_i64, bytes(), bytes(), proptest::collection::vec(header, 0..3)).prop_map(
        |(partition, timestamp_ms, key, value, headers)| RecordLine {
            partition: Some(partition),
            timestamp_ms: Some(timestamp_ms),
            key,
            value,
            headers,
            ..RecordLine::default()
        },
    )
}

/// The rule of the order, said another way: always the lowest of (timestamp, partition) among the first of each.
fn merged(records: &[RecordLine]) -> Vec<RecordLine> {
    let mut queues: Vec<Vec<RecordLine>> = (0..3)
        .map(|number| records.iter().filter(|record| record.partition == Some(number)).cloned().collect())
        .collect();
    let mut order = Vec::new();
    while let Some(index) =
        (0..3).filter(|index| !queues[*index].is_empty()).min_by_key(|index| (queues[*index][0].timestamp_ms, *index))
    {
        order.push(queues[index].remove(0));
    }
    order
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn all_records_are_printed_once_in_order_and_read_back(records in proptest::collection::vec(any_line(), 0..30), as_json: bool) {
        let (_folder, log) = log_of(3, &records);
        let said = consume(&log, if as_json { &["t", "--json-values"] } else { &["t"] });
        prop_assert_eq!(said.exit, Exit::Fine);
        let read: Vec<RecordLine> = said
            .out
            .lines()
            .map(|line| RecordLine { topic: None, offset: None, ..parse_line(line).unwrap() })
            .collect();
        prop_assert_eq!(read, merged(&records));
    }
}

/// A log whose only partition gives what it is told to, one step for each fetch.
struct SimulatedLog {
    bounds: (i64, i64),
    steps: Arc<Mutex<Vec<Step>>>,
    /// Where reading was begun.
    starts: Mutex<Vec<i64>>,
}

enum Step {
    Records(Vec<i64>),
    Nothing { position: Option<i64> },
    Unavailable,
    OutOfRange { wanted: i64, first: i64 },
}

struct SimulatedFeed {
    steps: Arc<Mutex<Vec<Step>>>,
    position: Option<i64>,
}

struct SimulatedBatch(Vec<OwnedRecord>);

impl Batch for SimulatedBatch {
    fn len(&self) -> usize {
        self.0.len()
    }

    fn record(&self, index: usize) -> Record<'_> {
        self.0[index].as_record()
    }
}

impl Feed for SimulatedFeed {
    fn fetch(&mut self, _: usize, _: usize) -> Result<Option<Box<dyn Batch>>, FeedError> {
        let partition = TopicPartition::new("t", 0);
        let mut steps = self.steps.lock().unwrap();
        match steps.remove(0) {
            Step::Records(offsets) => {
                let record = |offset| OwnedRecord {
                    offset,
                    timestamp_ms: 0,
                    key: None,
                    value: Some(format!("{offset}").into_bytes()),
                    headers: vec![],
                };
                Ok(Some(Box::new(SimulatedBatch(offsets.into_iter().map(record).collect()))))
            }
            Step::Nothing { position } => {
                self.position = position;
                Ok(None)
            }
            Step::Unavailable => {
                Err(FeedError::Unavailable { partition, code: "simulated".into(), message: "not now".into() })
            }
            Step::OutOfRange { wanted, first } => {
                Err(FeedError::OutOfRange { partition, wanted, available: Some((first, 10)) })
            }
        }
    }

    fn wake_with(&mut self, _: Waker) {}

    fn position(&self) -> Option<i64> {
        self.position
    }
}

fn not_simulated() -> LogError {
    LogError { what: "not simulated".into(), code: "simulated".into(), message: String::new() }
}

impl Log for SimulatedLog {
    fn transactional_sink(&self, _: WriterPlan, _: Waker) -> Result<Box<dyn TransactionalSink>, LogError> {
        Err(not_simulated())
    }

    fn topics(&self, _: Option<&[Arc<str>]>) -> Result<Vec<TopicInfo>, LogError> {
        Ok(vec![TopicInfo { name: "t".into(), partitions: 1 }])
    }

    fn create_topics(&self, _: &[NewTopic]) -> Result<(), LogError> {
        Err(not_simulated())
    }

    fn settings(&self, _: &[Arc<str>]) -> Result<Vec<TopicSettings>, LogError> {
        Err(not_simulated())
    }

    fn watermarks(&self, _: &TopicPartition) -> Result<(i64, i64), LogError> {
        Ok(self.bounds)
    }

    fn bounds(&self, _: &[TopicPartition]) -> Vec<Result<(i64, i64), LogError>> {
        vec![Err(not_simulated())]
    }

    fn progress(&self, _: &str, _: Option<&[TopicPartition]>) -> Result<Vec<Commit>, LogError> {
        Err(not_simulated())
    }

    fn readers(&self, _: &str) -> Result<Option<Vec<Reader>>, LogError> {
        Err(not_simulated())
    }

    fn offset_at(&self, _: &TopicPartition, _: i64) -> Result<i64, LogError> {
        Err(not_simulated())
    }

    fn read(&self, _: &TopicPartition, start: i64) -> Result<Box<dyn Feed>, LogError> {
        self.starts.lock().unwrap().push(start);
        Ok(Box::new(SimulatedFeed { steps: Arc::clone(&self.steps), position: None }))
    }

    fn committed(&self, _: &str, _: &[TopicPartition]) -> Result<Vec<Option<Commit>>, LogError> {
        Err(not_simulated())
    }

    fn set_committed(&self, _: &str, _: &[Commit]) -> Result<(), LogError> {
        Err(not_simulated())
    }

    fn sink(&self, _: &[Arc<str>], _: Waker) -> Result<Box<dyn Sink>, LogError> {
        Err(not_simulated())
    }

    fn transactional(&self, _: WriterPlan) -> Result<Box<dyn Transactions>, TransactionError> {
        let LogError { code, message, .. } = not_simulated();
        Err(TransactionError::Fatal { code, message })
    }

    fn join(&self, _: GroupPlan, _: Arc<dyn LaneHost>) -> Result<Box<dyn Membership>, LogError> {
        Err(not_simulated())
    }
}

/// What is printed, and where reading was begun.
fn simulate(bounds: (i64, i64), steps: Vec<Step>) -> (Said, Vec<i64>) {
    let log = SimulatedLog { bounds, steps: Arc::new(Mutex::new(steps)), starts: Mutex::default() };
    let said = consume(&log, &["t", "--format", "value"]);
    assert!(log.steps.lock().unwrap().is_empty(), "all steps are taken");
    (said, log.starts.into_inner().unwrap())
}

#[test]
fn gaps_do_not_keep_a_simulated_log_from_ending() {
    // In the middle, at the start, and at the end, where no record tells.
    let steps = vec![
        Step::Nothing { position: None },
        Step::Records(vec![2, 5]),
        Step::Nothing { position: Some(6) },
        Step::Nothing { position: Some(8) },
    ];
    let (said, _) = simulate((0, 8), steps);
    assert_eq!((said.exit, said.out.as_str()), (Exit::Fine, "2\n5\n"));
    // Records that came in since are not printed, whether they come with older ones or alone.
    let (said, _) = simulate((0, 8), vec![Step::Records(vec![6, 8, 9])]);
    assert_eq!((said.exit, said.out.as_str()), (Exit::Fine, "6\n"));
    let (said, _) = simulate((0, 8), vec![Step::Records(vec![6]), Step::Records(vec![8])]);
    assert_eq!((said.exit, said.out.as_str()), (Exit::Fine, "6\n"));
}

#[test]
fn what_a_simulated_log_loses_or_can_not_read_for_a_while_is_told() {
    let steps =
        vec![Step::Unavailable, Step::Unavailable, Step::OutOfRange { wanted: 1, first: 4 }, Step::Records(vec![4, 5])];
    let (said, starts) = simulate((1, 6), steps);
    assert_eq!((said.exit, said.out.as_str()), (Exit::Fine, "4\n5\n"));
    assert_eq!(
        said.notes,
        [
            "can't read t/0: not now (simulated); trying on",
            "t/0: offsets 1 up to 4 are gone, by retention; going on behind"
        ]
    );
    assert_eq!(starts, [1, 4]);

    let (said, _) = simulate((1, 6), vec![Step::Records(vec![1]), Step::OutOfRange { wanted: 2, first: 0 }]);
    assert_eq!((said.exit, said.out.as_str()), (Exit::Fatal, "1\n"));
    assert_eq!(said.notes, ["error: t/0 has no offset 2 any more: it has 0 up to 10"]);
}

#[test]
fn gaps_are_told_to_be_no_records() {
    let steps =
        vec![Step::Records(vec![2, 5]), Step::Nothing { position: Some(6) }, Step::Nothing { position: Some(8) }];
    let log = SimulatedLog { bounds: (0, 8), steps: Arc::new(Mutex::new(steps)), starts: Mutex::default() };
    let told = RefCell::new(Vec::new());
    let progress = |stand: &Stand<'_>| {
        assert_eq!((stand.what, stand.unit, stand.picked), ("reading t", Unit::Records, None));
        told.borrow_mut().push((stand.done, stand.total));
    };
    let listen = || Ok(Arc::default());
    print(&arguments(&["t"]), &log, &mut Vec::new(), listen, &progress, &mut |_| {});
    let mut told = told.into_inner();
    told.dedup();
    // With the first record 3 of 8 offsets are passed, with the second 6; then there is no more.
    let at_most = [(0, 8), (1, 6), (2, 4), (2, 2)].map(|(done, total)| (done, Total::AtMost(total)));
    assert_eq!(told, at_most);
}
