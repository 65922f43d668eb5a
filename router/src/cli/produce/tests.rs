//! What is given is written, to the embedded log; what is not, is told.
#![allow(clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fs;
use std::path::Path;

use clap::Parser as _;
use pointsman_core::delivery::Delivery;
use pointsman_core::port::{DeliveryError, ProduceError, Report, Sink, SinkFailed, Token};
use pointsman_core::record::TopicPartition;
use pointsman_embedded::{EmbeddedLog, Options};
use proptest::prelude::*;
use tempfile::TempDir;

use super::input::{Input, InputError, Numbered, Overrides, Shape};
use super::lines::{self, Line};
use super::writing::{Failed, How, Written, write_all, write_to};
use super::*;
use crate::progress::{Total, UNTOLD};

const fn how(skip_bad: bool, interrupts: &Interrupts) -> How<'_> {
    How { skip_bad, what: "writing", interrupts, progress: UNTOLD }
}

/// A command line.
#[derive(clap::Parser)]
struct CommandLine {
    #[command(flatten)]
    arguments: Arguments,
}

/// A configuration with an embedded log, in a folder of its own.
struct Place(TempDir);

impl Place {
    fn new() -> Self {
        let place = Self(TempDir::new().unwrap());
        let text = r#"
            version = 1
            [router]
            name = "test"
            max_record_size = "1KiB"
            [broker]
            embedded = "data"
            [[routes]]
            name = "copy"
            from = ["in"]
            [[routes.outputs]]
            topic = "out"
        "#;
        fs::write(place.path("config.toml"), text).unwrap();
        place
    }

    fn with_topic(name: &str, partitions: u32) -> Self {
        let place = Self::new();
        place.log().create_topics(&[NewTopic { name: name.into(), partitions, retention: None }]).unwrap();
        place
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.0.path().join(name)
    }

    fn log(&self) -> EmbeddedLog {
        open(&self.path("data"), Options::default())
    }

    /// Runs the command with this input.
    fn produce(&self, arguments: &[&str], input: &[u8]) -> Exit {
        fs::write(self.path("input"), input).unwrap();
        let (config, input) = (self.path("config.toml"), self.path("input"));
        let mut line = vec!["produce", config.to_str().unwrap()];
        line.extend(arguments);
        if !arguments.contains(&"--tombstone") {
            line.extend(["--input", input.to_str().unwrap()]);
        }
        execute(&CommandLine::try_parse_from(line).unwrap().arguments)
    }
}

fn open(folder: &Path, options: Options) -> EmbeddedLog {
    EmbeddedLog::open(folder, options).unwrap()
}

/// Every record of the topic, as a line without the fields that say where it is.
fn lines_of(log: &EmbeddedLog, topic: &str) -> Vec<(i32, String)> {
    let partitions = log.topics(None).unwrap().into_iter().find(|found| &*found.name == topic).unwrap().partitions;
    let mut found = Vec::new();
    for number in 0..i32::try_from(partitions).unwrap() {
        let partition = TopicPartition::new(topic, number);
        let mut feed = log.read(&partition, 0).unwrap();
        while let Some(batch) = feed.fetch(1000, 1 << 20).unwrap() {
            for index in 0..batch.len() {
                let line = RecordLine::from_record(&partition, batch.record(index));
                found.push((number, RecordLine { topic: None, partition: None, offset: None, ..line }.to_line()));
            }
        }
    }
    found
}

#[test]
fn records_are_written_as_arguments_and_lines_say() {
    type Case<'a> = (&'a [&'a str], &'a str, &'a [(i32, &'a str)]);
    let cases: &[Case<'_>] = &[
        (
            &["--timestamp", "5"],
            "{\"key\":null,\"value\":null,\"partition\":1}\n\n  \r\n{\"partition\":1,\"key\":\"\",\"value\":{\"a\": 1},\"headers\":[[\"h\",null]]}",
            &[
                (1, r#"{"timestamp":5,"key":null,"value":null}"#),
                (1, r#"{"timestamp":5,"key":"","value":"{\"a\":1}","headers":[["h",null]]}"#),
            ],
        ),
        (
            &["--key", "k", "--header", "a=1=2", "--header", "b=", "--partition", "1"],
            r#"{"topic":"elsewhere","offset":99,"partition":0,"timestamp":7,"key":"other","value":"v","headers":{"a":"0"}}"#,
            &[(1, r#"{"timestamp":7,"key":"k","value":"v","headers":[["a","0"],["a","1=2"],["b",""]]}"#)],
        ),
        (
            // 21 has the hash -973932308, and so partition 0 of 2.
            &["--by-key"],
            r#"{"partition":1,"timestamp":7,"key":"21","value":"v"}"#,
            &[(0, r#"{"timestamp":7,"key":"21","value":"v"}"#)],
        ),
        (
            &["--raw", "--timestamp", "5", "--partition", "0"],
            "a:b\r\n\n{}",
            &[
                (0, r#"{"timestamp":5,"key":null,"value":"a:b\r"}"#),
                (0, r#"{"timestamp":5,"key":null,"value":""}"#),
                (0, r#"{"timestamp":5,"key":null,"value":"{}"}"#),
            ],
        ),
        (
            &["--raw", "--key-separator", "::", "--timestamp", "5", "--partition", "0"],
            "a::b::c\n::\n",
            &[(0, r#"{"timestamp":5,"key":"a","value":"b::c"}"#), (0, r#"{"timestamp":5,"key":"","value":""}"#)],
        ),
        (
            &["--whole", "--timestamp", "1970-01-01T00:00:00.005Z", "--partition", "0"],
            "a\nb\n",
            &[(0, r#"{"timestamp":5,"key":null,"value":"a\nb\n"}"#)],
        ),
        (&["--whole", "--timestamp", "5", "--partition", "0"], "", &[(0, r#"{"timestamp":5,"key":null,"value":""}"#)]),
        (
            &["--tombstone", "--key", "k", "--timestamp", "5", "--partition", "0"],
            "",
            &[(0, r#"{"timestamp":5,"key":"k","value":null}"#)],
        ),
        (&["--json"], "", &[]),
    ];
    for (arguments, input, expected) in cases {
        let place = Place::with_topic("t", 2);
        let exit = place.produce(&[&["t"], *arguments].concat(), input.as_bytes());
        assert_eq!(exit, Exit::Fine, "{arguments:?}");
        let found = lines_of(&place.log(), "t");
        let found: Vec<(i32, &str)> = found.iter().map(|(number, line)| (*number, line.as_str())).collect();
        assert_eq!(found, *expected, "{arguments:?}");
    }
}

#[test]
fn raw_values_need_not_be_text() {
    let place = Place::with_topic("t", 1);
    assert_eq!(place.produce(&["t", "--raw", "--timestamp", "0"], b"\xff\0\n"), Exit::Fine);
    assert_eq!(
        lines_of(&place.log(), "t"),
        [(0, r#"{"timestamp":0,"key":null,"value":{"base64":"/wA="}}"#.to_owned())]
    );
}

#[test]
fn arguments_that_contradict_each_other_are_refused() {
    for wrong in [
        &["--raw", "--whole"][..],
        &["--key-separator", ":"],
        &["--raw", "--key-separator", ""],
        &["--raw", "--key-separator", ":", "--key", "k"],
        &["--tombstone"],
        &["--tombstone", "--key", "k", "--raw"],
        &["--header", "name"],
        &["--timestamp", "soon"],
        &["--partition", "-1"],
        &["--partition", "1", "--by-key"],
        &["--create", "0"],
    ] {
        let line = [&["produce", "config.toml", "t"], wrong].concat();
        assert!(CommandLine::try_parse_from(&line).is_err(), "{wrong:?}");
    }
}

/// The exit code, and how many records were written before.
#[test]
fn a_bad_line_ends_it_and_keeps_what_was_before() {
    let good = "{\"value\":1}\n";
    let cases: &[(&str, &[&str], Exit, usize)] = &[
        ("{\"vlaue\":1}\n", &[], Exit::Configuration, 2),
        ("{\"vlaue\":1}\n", &["--skip-bad"], Exit::Fine, 3),
        ("\u{1f}\n", &["--skip-bad", "--json"], Exit::Fine, 3),
        ("{\"value\":1,\"partition\":7}\n", &[], Exit::Configuration, 2),
        ("{\"value\":1,\"partition\":7}\n", &["--skip-bad"], Exit::Fine, 3),
    ];
    for (bad, arguments, exit, written) in cases {
        let place = Place::with_topic("t", 1);
        let input = [good, good, bad, good].concat();
        assert_eq!(place.produce(&[&["t"], *arguments].concat(), input.as_bytes()), *exit, "{bad}");
        let found = lines_of(&place.log(), "t").len();
        assert_eq!(found, *written, "{bad}");
    }
}

#[test]
fn a_record_that_is_too_large_is_refused_by_its_line() {
    let place = Place::with_topic("t", 1);
    let log = open(&place.path("data"), Options { max_record_bytes: 100, ..Options::default() });
    let input = format!("{{\"value\":1}}\n\n{{\"value\":\"{}\"}}\n", "x".repeat(101));
    let input =
        Input::new(Box::leak(input.into_boxed_str()).as_bytes(), Shape::JsonLines, Overrides::default(), 1 << 20);
    let written = write_all(&log, "t", input, how(false, &Interrupts::default()), &mut |_| {}).unwrap();
    assert_eq!((written.written, written.unacknowledged), (1, 0));
    let failed = written.failed.unwrap();
    assert_eq!(failed.exit(), Exit::No);
    assert!(failed.to_string().starts_with("line 3: refused: "), "{failed}");
}

#[test]
fn a_topic_that_is_not_there_is_named_or_made() {
    let place = Place::with_topic("orders.v1", 1);
    assert_eq!(place.produce(&["orders.v2"], b"{\"value\":1}"), Exit::No);
    let error = see_to_topic(&place.log(), "orders.v2", None).unwrap_err();
    assert_eq!(
        error.to_string(),
        "there is no topic orders.v2 (is it orders.v1?); correct the name, or create it with `--create PARTITIONS`"
    );
    assert_eq!(place.produce(&["orders.v2", "--create", "3"], b"{\"value\":1,\"partition\":2}"), Exit::Fine);
    assert_eq!(lines_of(&place.log(), "orders.v2").len(), 1);
    // One that is there stays as it is.
    assert_eq!(place.produce(&["orders.v1", "--create", "3"], b"{\"value\":1}"), Exit::Fine);
    assert_eq!(place.log().topics(Some(&["orders.v1".into()])).unwrap()[0].partitions, 1);
}

#[test]
fn what_can_not_be_opened_is_a_documented_exit() {
    let place = Place::with_topic("t", 1);
    let run = |line: &[&str]| execute(&CommandLine::try_parse_from(line).unwrap().arguments);
    let config = place.path("config.toml");
    assert_eq!(run(&["produce", "nowhere.toml", "t"]), Exit::Configuration);
    assert_eq!(run(&["produce", config.to_str().unwrap(), "t", "--input", "nowhere"]), Exit::Configuration);
    fs::write(place.path("data").join("pointsman.db"), "no database").unwrap();
    assert_eq!(place.produce(&["t"], b""), Exit::NotStarted);
}

fn numbered(count: u64) -> impl Iterator<Item = Result<Numbered, InputError>> + Send {
    (1..=count).map(|line| {
        let value = Some(line.to_string().into_bytes());
        Ok(Numbered { line, record: RecordLine { value, partition: Some(0), ..RecordLine::default() } })
    })
}

/// A sink with room for a few records only makes the input wait, and nothing is lost.
#[test]
fn a_full_sink_is_waited_for() {
    let place = Place::with_topic("t", 1);
    let log = open(&place.path("data"), Options { sink_queue_bytes: 2000, ..Options::default() });
    let told = RefCell::new(Vec::new());
    let progress = |stand: &Stand<'_>| told.borrow_mut().push((stand.done, stand.total));
    let interrupts = Interrupts::default();
    let how = How { progress: &progress, ..how(false, &interrupts) };
    let written = write_all(&log, "t", numbered(500), how, &mut |_| {}).unwrap();
    assert!(written.failed.is_none());
    assert_eq!(written.written, 500);
    let told = told.into_inner();
    assert!(told.len() > 10, "it is told as the sink takes them: {told:?}");
    assert!(told.is_sorted_by_key(|(done, _)| *done) && told.last() == Some(&(500, Total::Unknown)), "{told:?}");
    let values: Vec<String> = lines_of(&log, "t").into_iter().map(|(_, line)| line).collect();
    assert_eq!(values.len(), 500);
    assert!(values.iter().zip(1..).all(|(line, number)| line.ends_with(&format!("\"value\":\"{number}\"}}"))));
}

/// A sink that keeps its reports back, tells the last first, and is full at four records.
struct SimulatedSink {
    held: VecDeque<Token>,
    /// How often it was served; it reports every other time.
    rounds: u32,
    refuses: Option<u64>,
    breaks_at: Option<u64>,
}

impl SimulatedSink {
    const ROOM: usize = 4;

    fn new() -> Self {
        Self { held: VecDeque::new(), rounds: 0, refuses: None, breaks_at: None }
    }
}

impl Sink for SimulatedSink {
    fn capacity_bytes(&self) -> usize {
        Self::ROOM
    }

    fn produce(&mut self, delivery: &Delivery<'_>, token: Token) -> Result<usize, ProduceError> {
        if self.held.len() == Self::ROOM {
            return Err(ProduceError::Full);
        }
        self.held.push_front(token);
        Ok(delivery.rough_bytes())
    }

    fn serve(&mut self, reports: &mut Vec<Report>) -> Result<(), SinkFailed> {
        if self.held.iter().any(|token| Some(token.0) == self.breaks_at) {
            return Err(SinkFailed { code: "simulated".into(), message: "it broke".into() });
        }
        self.rounds += 1;
        if self.rounds.is_multiple_of(2) {
            reports.extend(self.held.drain(..).map(|token| Report {
                token,
                result: if Some(token.0) == self.refuses {
                    let error = DeliveryError::Unavailable { code: "simulated".into(), message: "not now".into() };
                    Err(Box::new(error.into()))
                } else {
                    Ok(None)
                },
            }));
        }
        Ok(())
    }
}

fn write_simulated(sink: SimulatedSink, count: u64, interrupts: u32) -> Written {
    write_to(Box::new(sink), numbered(count), how(false, &Interrupts::simulated(interrupts)), &mut |_| {}).unwrap()
}

#[test]
fn late_reports_of_a_simulated_sink_are_waited_for() {
    let written = write_simulated(SimulatedSink::new(), 10, 0);
    assert_eq!((written.written, written.unacknowledged), (10, 0));
    assert!(written.failed.is_none());
}

#[test]
fn a_failed_delivery_of_a_simulated_sink_ends_it_by_its_line() {
    let written = write_simulated(SimulatedSink { refuses: Some(3), ..SimulatedSink::new() }, 100, 0);
    let failed = written.failed.unwrap();
    assert_eq!(failed.to_string(), "line 3: not delivered: not now (simulated)");
    assert_eq!(failed.exit(), Exit::Fatal);
    assert_eq!(written.unacknowledged, 0);
    assert!((2..100).contains(&written.written), "{}", written.written);
}

#[test]
fn a_broken_simulated_sink_leaves_records_open() {
    let written = write_simulated(SimulatedSink { breaks_at: Some(1), ..SimulatedSink::new() }, 100, 0);
    assert!(matches!(written.failed, Some(Failed::Sink(_))), "{:?}", written.failed);
    assert_eq!(written.written, 0);
    assert!(written.unacknowledged >= 1);
}

#[test]
fn an_interrupt_ends_the_reading() {
    let written = write_simulated(SimulatedSink::new(), u64::MAX / 2, 1);
    assert_eq!((written.written, written.unacknowledged), (0, 0));
    assert!(written.failed.is_none());
}

/// Reads a few bytes at a time.
struct Trickle<'a>(&'a [u8], usize);

impl io::Read for Trickle<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.1.min(self.0.len()).min(buffer.len());
        buffer[..count].copy_from_slice(&self.0[..count]);
        self.0 = &self.0[count..];
        Ok(count)
    }
}

proptest! {
    #[test]
    fn lines_are_split_at_line_feeds_and_bounded(bytes in proptest::collection::vec(prop_oneof![Just(b'\n'), any::<u8>()], 0..60), max in 0_usize..8, step in 1_usize..9) {
        let mut reader = BufReader::with_capacity(5, Trickle(&bytes, step));
        let mut found = Vec::new();
        while let Some(line) = lines::next(&mut reader, max).unwrap() {
            found.push(match line {
                Line::Whole(line) => Some(line),
                Line::TooLong => {
                    lines::skip(&mut reader).unwrap();
                    None
                }
            });
        }
        // `split` gives one more after the last line feed.
        let mut expected: Vec<Option<Vec<u8>>> =
            bytes.split(|byte| *byte == b'\n').map(|line| (line.len() <= max).then(|| line.to_vec())).collect();
        if bytes.last().is_none_or(|byte| *byte == b'\n') {
            expected.pop();
        }
        prop_assert_eq!(found, expected);
    }
}

#[test]
fn a_line_that_has_no_end_is_refused_where_it_is_too_long() {
    for shape in [Shape::JsonLines, Shape::Raw { key_separator: None }, Shape::Whole] {
        let mut input = Input::new(BufReader::new(io::repeat(b'x')), shape, Overrides::default(), 100);
        assert!(matches!(input.next(), Some(Err(InputError::Line { line: 1, .. }))));
    }
}

#[test]
fn an_input_that_can_not_be_read_ends_it() {
    struct Broken;
    impl io::Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("simulated"))
        }
    }
    let input = Input::new(BufReader::new(Broken), Shape::JsonLines, Overrides::default(), 100);
    let written =
        write_to(Box::new(SimulatedSink::new()), input, how(true, &Interrupts::default()), &mut |_| {}).unwrap();
    let failed = written.failed.unwrap();
    assert_eq!((failed.to_string().as_str(), failed.exit()), ("can't read the input: simulated", Exit::Fatal));
}

#[test]
fn errors_never_quote_a_record() {
    let secret =
        "{\"value\":\"hush\",\"timestamp\":\"hush\"}\n{\"value\":hush}\n{\"value\":{\"base64\":\"hush!\"}}\n\"hush\"\n";
    let input = Input::new(secret.as_bytes(), Shape::JsonLines, Overrides::default(), 100);
    let errors: Vec<String> = input.map(|item| item.unwrap_err().to_string()).collect();
    assert_eq!(errors.len(), 4);
    assert!(errors.iter().all(|error| !error.contains("hush")), "{errors:?}");
}

#[test]
fn a_transaction_is_written_whole_or_not_at_all() {
    let place = Place::with_topic("t", 1);
    let count = || lines_of(&place.log(), "t").len();
    let good = "{\"value\":1}\n{\"value\":2}\n";
    assert_eq!(place.produce(&["t", "--transaction"], format!("{good}no record\n").as_bytes()), Exit::Configuration);
    assert_eq!(count(), 0, "a line is no record");
    let large = format!("{good}{{\"value\":\"{}\"}}\n", "x".repeat(2000));
    assert_eq!(place.produce(&["t", "--transaction"], large.as_bytes()), Exit::No);
    assert_eq!(count(), 0, "a record is refused");
    assert_eq!(
        place.produce(&["t", "--transaction", "--skip-bad"], format!("{good}no record\n").as_bytes()),
        Exit::Fine
    );
    assert_eq!(count(), 2);
    assert_eq!(place.produce(&["t"], format!("{good}no record\n").as_bytes()), Exit::Configuration);
    assert_eq!(count(), 4, "without one, what was before it stays");
}

/// Writes values of 100 bytes, where a transaction takes three of them.
fn together(place: &Place, values: usize, bad: bool, interrupts: &Interrupts) -> Written {
    let line = format!("{{\"value\":\"{}\"}}\n", "x".repeat(100));
    written_together(place, line.repeat(values) + if bad { "no record" } else { "" }, interrupts)
}

fn written_together(place: &Place, text: String, interrupts: &Interrupts) -> Written {
    let log = open(&place.path("data"), Options { sink_queue_bytes: 3 * (100 + 128), ..Options::default() });
    let input = Input::new(Box::new(std::io::Cursor::new(text)), Shape::JsonLines, Overrides::default(), 1 << 20);
    write_together(&log, "t", "id".into(), input, how(false, interrupts), &mut |_| {}).unwrap()
}

#[test]
fn what_is_too_much_for_one_transaction_is_written_in_several() {
    let place = Place::with_topic("t", 1);
    let written = together(&place, 10, false, &Interrupts::default());
    assert_eq!((written.written, written.transactions, lines_of(&place.log(), "t").len()), (10, Some(4), 10));
    let written = together(&place, 8, true, &Interrupts::default());
    assert_eq!(
        (written.written, written.transactions, lines_of(&place.log(), "t").len()),
        (6, Some(2), 16),
        "two are with the bad line"
    );
    assert!(matches!(written.failed, Some(Failed::Input(InputError::Line { line: 9, .. }))), "{written:?}");
    let large = format!("{{\"value\":1,\"headers\":{{\"h\":\"{}\"}}}}\n", "x".repeat(300)).repeat(3);
    let written = written_together(&place, large, &Interrupts::default());
    assert_eq!((written.written, written.transactions), (3, Some(3)), "headers count");
    let written = together(&place, 2, false, &Interrupts::simulated(1));
    assert_eq!((written.written, written.transactions, lines_of(&place.log(), "t").len()), (0, Some(0), 19));
}
