//! Letters that are replayed and discarded, on an embedded log.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use pointsman_core::failure::FailureClass;
use pointsman_core::provenance::{Origin, Provenance, name};
use pointsman_core::record::{OwnedHeader, OwnedRecord};
use pointsman_embedded::EmbeddedLog;
use proptest::prelude::*;
use tempfile::TempDir;

use self::mortal::{Mortal, Strike};
use super::*;
use crate::dead_letter::tests::{MINUTE, T0, letter, log_of, never, provenance, sample, topics, write};
use crate::dead_letter::{PartitionRule, Timestamp, history};
use crate::progress::{Stand, Total, UNTOLD};
use crate::reading::{Merge, Seen, Span};

mod mortal;

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
"#;

fn plan() -> Plan {
    pointsman_config::compile(CONFIG, "config.toml", &|_: &str| None).unwrap().0
}

fn order(verb: Verb) -> Order {
    Order::new(verb, Signature { by: "ana".into(), run: "r1".into() })
}

fn to_source() -> Verb {
    Verb::Replay(Replay::to(Target::Source))
}

/// What a run did.
struct Ran {
    ended: Result<(), HandleError>,
    report: Report,
    seen: Vec<Handling>,
    notes: Vec<String>,
}

fn run(log: &dyn Log, letters: &[Topic], selection: &Selection, order: &Order, stop: &dyn Fn() -> bool) -> Ran {
    let (mut report, mut seen, mut notes) = (Report::default(), Vec::new(), Vec::new());
    let (plan, now_ms) = (plan(), || T0 + 60 * MINUTE);
    let site = Site { log, plan: &plan, now_ms: &now_ms, stop, progress: UNTOLD };
    let mut see = |handling: &Handling| seen.push(handling.clone());
    let ended = handle(&site, letters, selection, order, &mut report, &mut see, &mut |text| notes.push(text.into()));
    Ran { ended, report, seen, notes }
}

fn ran(log: &EmbeddedLog, order: &Order) -> Ran {
    let ran = run(log, &topics(log), &Selection::default(), order, &never);
    ran.ended.as_ref().unwrap();
    ran
}

/// All that lies in a topic, by partition and offset.
fn records(log: &dyn Log, topic: &str) -> Vec<(i32, OwnedRecord)> {
    let mut found = Vec::new();
    for partition in [0, 1].map(|number| TopicPartition::new(topic, number)) {
        let (start, end) = log.watermarks(&partition).unwrap();
        let number = partition.partition;
        let mut see = |seen: Seen<'_>| {
            if let Seen::Record(_, record) = seen {
                found.push((number, OwnedRecord::from(record)));
            }
            ControlFlow::<()>::Continue(())
        };
        let read = Merge::begin(log, vec![Span { partition, start, end }], false).unwrap();
        assert!(matches!(read.run(&mut see, &never, &mut |_| {}), Ended::Done));
    }
    found
}

fn line(topic: &str, (partition, record): &(i32, OwnedRecord)) -> RecordLine {
    let line = RecordLine::from_record(&TopicPartition::new(topic, *partition), record.as_record());
    RecordLine { offset: None, ..line }
}

/// One word for what became of a letter.
fn word(Handling { letter, outcome }: &Handling) -> String {
    let what = match outcome {
        Outcome::Replayed(record) => format!("to {}/{}", record.topic.as_deref().unwrap(), record.partition.unwrap()),
        Outcome::Parked(record) => format!("parked in {}", record.topic.as_deref().unwrap()),
        Outcome::Discarded => "discarded".into(),
        Outcome::LeftAlone(why) => why.name().into(),
        Outcome::Failed(_) => "failed".into(),
    };
    format!("{} {what}", letter.to_string().replace("dead/", ""))
}

fn words(ran: &Ran) -> Vec<String> {
    ran.seen.iter().map(word).collect()
}

/// One of each kind there is: what is ours goes back as it was, what is not known stays, and all of it is told.
#[test]
fn each_letter_goes_back_as_it_was_or_is_left_alone_with_the_reason() {
    let (_folder, log) = sample();
    let before = records(&log, "orders.v1").len();
    let ran = ran(&log, &order(to_source()));
    assert_eq!(
        words(&ran),
        [
            "0/0 to orders.v1/0",
            "1/0 to orders.v1/0",
            "0/1 no-topic",
            "0/2 torn",
            "1/1 to orders.v1/0",
            "1/2 to orders.v1/0",
            "1/3 unknown"
        ]
    );
    let written = records(&log, "orders.v1").split_off(before);
    let expected = |key: &[u8], value: &[u8], headers: &[(&str, &str)]| RecordLine {
        topic: Some("orders.v1".into()),
        partition: Some(0),
        offset: None,
        timestamp_ms: Some(T0 - MINUTE),
        key: Some(key.into()),
        value: Some(value.into()),
        headers: headers.iter().map(|(name, value)| OwnedHeader::text(name, *value)).collect(),
    };
    let stamp = |count| (name::REPLAY_COUNT, count);
    assert_eq!(
        written.iter().map(|record| line("orders.v1", record)).collect::<Vec<_>>(),
        [
            expected(b"a", b"{\"id\":\"o-0\",\"amount\":12.50}", &[("trace", "t-0"), stamp("1")]),
            expected(b"b", b"{\"id\":\"o-1\",\"amount\":99}", &[("trace", "t-1"), stamp("1")]),
            // Replayed twice before.
            expected(b"\xff\x1b", b"\xffbytes", &[("trace", "t-4"), stamp("3")]),
            // Its payload was at its origin alone.
            expected(b"large", b"{\"id\":\"o-5\"}", &[stamp("1")]),
        ]
    );
    let report = &ran.report;
    assert_eq!((report.replayed, report.done(), report.read), (4, 4, 7));
    assert_eq!(report.left_alone.keys().copied().collect::<Vec<_>>(), ["no-topic", "torn", "unknown"]);
    assert_eq!(report.left_alone["no-topic"].why, "there is no topic payments; name another with --to-topic");
}

#[test]
fn what_was_done_is_not_done_again_and_stands_in_the_audit_topic() {
    let (_folder, log) = sample();
    let mended = Replay { edits: vec!["header region=eu".parse().unwrap()], ..Replay::to(Target::Source) };
    let only = Selection { key: Some(b"b".into()), ..Selection::default() };
    let first = run(&log, &topics(&log), &only, &order(Verb::Replay(mended)), &never);
    assert_eq!(first.notes, ["note: topic dead.audit was made", "note: topic dead.parking was made"]);
    // The truncated one may have that key.
    assert_eq!((first.report.replayed, first.report.left_alone["unsure"].count), (1, 1));
    let second = ran(&log, &order(to_source()));
    assert_eq!((second.report.handled_before, second.report.replayed), (1, 3));
    let third = ran(&log, &order(Verb::Discard));
    assert_eq!(words(&third), ["0/1 discarded", "0/2 discarded", "1/3 discarded"]);
    let last = ran(&log, &order(Verb::Discard));
    assert_eq!((last.report.handled_before, last.seen.len()), (7, 0));

    let place: Place = "dead/1/0".parse().unwrap();
    let found = crate::dead_letter::find(&log, place.clone(), &never, &mut |_| {}).unwrap();
    let told = history(&log, &topics(&log)[0], &found.letter(), &never, UNTOLD, &mut |_| {}).unwrap();
    let [AuditRecord { letter, action, to, replays, by, at, run, edits, .. }] = told.as_slice() else {
        panic!("{told:?}")
    };
    assert_eq!((letter, *action, to.as_deref(), *replays), (&place, Action::Replayed, Some("orders.v1/0"), 1));
    assert_eq!(
        (by.as_str(), *at, run.as_str(), edits.as_slice()),
        ("ana", T0 + 60 * MINUTE, "r1", &["header region=eu".to_owned()][..])
    );
    assert_eq!(records(&log, "dead.audit").len(), 7);
}

#[test]
fn a_letter_that_goes_to_the_retry_topic_is_due_at_once_and_starts_anew() {
    let (_folder, log) = sample();
    write(&log, "orders.v1", &[]);
    log.create_topics(&[pointsman_core::port::NewTopic { name: "retry".into(), partitions: 2, retention: None }])
        .unwrap();
    let ran = ran(&log, &order(Verb::Replay(Replay::to(Target::Retry))));
    assert_eq!(
        words(&ran),
        [
            "0/0 to retry/0",
            "1/0 to retry/0",
            "0/1 no-retry",
            "0/2 torn",
            "1/1 to retry/0",
            "1/2 to retry/0",
            "1/3 unknown"
        ]
    );
    let parked = records(&log, "retry");
    let (originals, told) = Provenance::split(parked[2].1.as_record().headers).unwrap();
    let now = T0 + 60 * MINUTE;
    assert_eq!((originals, told.attempts, told.due_ms, told.first_failed_ms), (1, 0, Some(now), now));
    assert_eq!((told.replay_count, told.deferred, told.truncated, told.origin.offset), (3, false, false, 4));
    assert_eq!(parked[3].1.value.as_deref(), Some(&b"{\"id\":\"o-5\"}"[..]));
}

#[test]
fn a_record_that_comes_back_too_often_goes_to_the_parking_topic_and_no_further() {
    let (_folder, log) = sample();
    let twice = |verb| Order { verb: Verb::Replay(Replay { max_replays: 2, ..verb }), ..order(Verb::Discard) };
    let ran = ran(&log, &twice(Replay::to(Target::Source)));
    assert_eq!((words(&ran)[4].as_str(), ran.report.parked), ("1/1 parked in dead.parking", 1));
    let (lies, parked) = (records(&log, "dead"), records(&log, "dead.parking"));
    let letter = lies.iter().find(|(partition, record)| (*partition, record.offset) == (1, 1)).unwrap();
    assert_eq!((parked[0].0, &parked[0].1.value, &parked[0].1.headers), (1, &letter.1.value, &letter.1.headers));
    // From there it goes back only if it is allowed to.
    let parking = Topic::look_up(&log, &["dead.parking".into()]).unwrap();
    let again = run(&log, &parking, &Selection::default(), &twice(Replay::to(Target::Source)), &never);
    assert_eq!(again.report.left_alone["looping"].why, "it was replayed 2 times already; --max-replays allows more");
    let again = run(&log, &parking, &Selection::default(), &order(to_source()), &never);
    assert_eq!(again.report.replayed, 1);
}

/// Another tool that took a replayed record for its own keeps our header among those of the record.
#[test]
fn the_count_of_replays_is_kept_by_whoever_fails_the_record() {
    let (_folder, log) = log_of(&["dead", "orders.v1"]);
    let mut headers = vec![OwnedHeader::text(name::REPLAY_COUNT, "2")];
    headers.extend(["topic", "partition"].map(|part| {
        OwnedHeader::text(&format!("__dlq.errors.{part}"), if part == "topic" { "orders.v1" } else { "1" })
    }));
    write(&log, "dead", &[letter(0, 0, b"k", Some(b"v"), &headers)]);
    let ran = ran(&log, &order(to_source()));
    assert_eq!(words(&ran), ["0/0 to orders.v1/1"]);
    let written = records(&log, "orders.v1");
    let expected = [OwnedHeader::text("trace", "t-0"), OwnedHeader::text(name::REPLAY_COUNT, "3")];
    assert_eq!(written[0].1.headers, expected);
}

#[test]
fn partition_and_timestamp_are_chosen_as_told() {
    let (_folder, log) = log_of(&["dead", "orders.v1", "narrow"]);
    let of = |partition: i32, key: &[u8]| {
        let origin = Origin { partition: TopicPartition::new("orders.v1", partition), offset: 0, timestamp_ms: 1000 };
        letter(0, 0, key, Some(b"v"), &Provenance { origin, ..provenance(0, FailureClass::Reject, "c", "m") }.headers())
    };
    // Partition 7 has been there once.
    write(&log, "dead", &[of(0, b"21"), of(1, b"21"), of(7, b"21")]);
    let by_key = pointsman_core::delivery::partition_of_key(b"21", 2).cast_signed();
    let partitions = |replay: Replay| -> Vec<i32> {
        let dry = Order { dry_run: true, ..order(Verb::Replay(replay)) };
        let record = |handling: &Handling| match &handling.outcome {
            Outcome::Replayed(record) => record.partition.unwrap(),
            other => panic!("{other:?}"),
        };
        ran(&log, &dry).seen.iter().map(record).collect()
    };
    let now = Replay { timestamp: Timestamp::Now, ..Replay::to(Target::Source) };
    assert_eq!(partitions(now.clone()), [0, 1, by_key]);
    assert_eq!(partitions(Replay { partition: PartitionRule::Key, ..now.clone() }), [by_key; 3]);
    assert_eq!(partitions(Replay { to: Target::Topic("narrow".into()), ..now }), [0, 1, by_key]);
    // Ten years are not enough for a record of 1970.
    let ran = ran(&log, &order(to_source()));
    assert_eq!((ran.report.left_alone["too-old"].count, ran.report.done()), (3, 0));
}

#[test]
fn what_must_not_be_a_target_is_refused() {
    let (_folder, log) = sample();
    for topic in ["dead", "dead.audit", "dead.parking", "retry"] {
        let order = order(Verb::Replay(Replay::to(Target::Topic(topic.into()))));
        let ran = run(&log, &topics(&log), &Selection::default(), &order, &never);
        assert!(matches!(ran.ended, Err(HandleError::Target { .. })), "{topic}: {:?}", ran.ended);
    }
    let order = order(Verb::Replay(Replay::to(Target::Topic("none".into()))));
    let ran = ran(&log, &order);
    assert_eq!((ran.report.done(), ran.report.left_alone["no-topic"].count), (0, 5));
}

/// Whatever else lies in the audit topic is told, and hides no letter.
#[test]
fn a_stranger_in_the_audit_topic_handles_nothing_and_is_told() {
    let (_folder, log) = log_of(&["dead", "dead.audit", "dead.parking", "orders.v1"]);
    let letters: Vec<_> = (0..4)
        .map(|minute| {
            letter(0, minute, b"k", Some(b"v"), &provenance(minute, FailureClass::Reject, "c", "m").headers())
        })
        .collect();
    write(&log, "dead", &letters);
    let account = |place: &str| {
        let signature = Signature { by: "eve".into(), run: "r0".into() };
        AuditRecord::new(place.parse().unwrap(), T0, Action::Discarded, &signature, T0)
    };
    let stranger = |partition: i32, key: &str, value: Vec<u8>| RecordLine {
        partition: Some(partition),
        key: Some(key.into()),
        value: Some(value),
        ..RecordLine::default()
    };
    let (key, torn) = account("dead/0/0").encode().unwrap();
    let mut later = account("dead/0/1");
    later.version = 2;
    let strangers = [
        stranger(0, "dead/0/0", torn[..torn.len() - 1].to_vec()),
        stranger(0, "dead/0/1", later.encode().unwrap().1),
        stranger(1, "dead/0/2", account("dead/0/2").encode().unwrap().1),
        stranger(0, "dead/0/2", account("dead/0/3").encode().unwrap().1),
        stranger(0, "other/0/3", account("other/0/3").encode().unwrap().1),
        stranger(0, "x", b"hello".to_vec()),
        RecordLine { value: None, ..stranger(0, &String::from_utf8(key).unwrap(), vec![]) },
    ];
    write(&log, "dead.audit", &strangers);
    let ran = ran(&log, &order(to_source()));
    assert_eq!((ran.report.replayed, ran.report.handled_before), (4, 0));
    assert!(
        ran.notes[0].contains("tell of no letter: 7; the first is dead.audit/0/0: it is no audit record"),
        "{:?}",
        ran.notes
    );
}

/// Else letters would count as handled that are at the places of others.
#[test]
fn a_topic_that_was_made_anew_is_not_mistaken_for_the_old_one() {
    let (_folder, old) = sample();
    ran(&old, &order(Verb::Discard));
    let accounts: Vec<_> = records(&old, "dead.audit").iter().map(|record| line("dead.audit", record)).collect();
    let made_anew = |count: i64| {
        let (folder, log) = log_of(&["dead", "dead.audit", "dead.parking", "orders.v1"]);
        let letters: Vec<_> = (0..count)
            .map(|minute| {
                letter(
                    (minute % 2) as i32,
                    1000 + minute,
                    b"k",
                    Some(b"v"),
                    &provenance(0, FailureClass::Reject, "c", "m").headers(),
                )
            })
            .collect();
        write(&log, "dead", &letters);
        write(&log, "dead.audit", &accounts);
        (folder, log)
    };
    // Shorter than the old one, and longer.
    for count in [2, 20] {
        let (_folder, log) = made_anew(count);
        let ran = run(&log, &topics(&log), &Selection::default(), &order(to_source()), &never);
        let error = ran.ended.unwrap_err().to_string();
        assert!(error.starts_with("dead.audit tells of letters that dead does not have"), "{error}");
        assert_eq!(ran.report.done(), 0);
    }
}

#[test]
fn a_topic_that_would_not_keep_the_account_is_refused() {
    let (_folder, log) = sample();
    let short = std::time::Duration::from_secs(60);
    log.create_topics(&[pointsman_core::port::NewTopic {
        name: "dead.audit".into(),
        partitions: 2,
        retention: Some(short),
    }])
    .unwrap();
    let ran = run(&log, &topics(&log), &Selection::default(), &order(Verb::Discard), &never);
    let error = ran.ended.unwrap_err().to_string();
    assert!(
        error.contains("as long as the letters are kept") && error.contains("retention.ms=315360000000"),
        "{error}"
    );
}

#[test]
fn a_run_tells_what_it_is_at_and_how_many_are_meant() {
    let (_folder, log) = sample();
    let (plan, now_ms, told) = (plan(), || T0 + 60 * MINUTE, RefCell::new(Vec::<(String, u64, Total)>::new()));
    let progress = |stand: &Stand<'_>| told.borrow_mut().push((stand.what.to_owned(), stand.done, stand.total));
    let run = |order: &Order| {
        let site = Site { log: &log, plan: &plan, now_ms: &now_ms, stop: &never, progress: &progress };
        let mut report = Report::default();
        let selection = Selection::default();
        handle(&site, &topics(&log), &selection, order, &mut report, &mut |_| {}, &mut |_| {}).unwrap();
        let mut told = told.take();
        // The last of each piece of work.
        told.reverse();
        told.dedup_by(|one, other| one.0 == other.0);
        told.reverse();
        (report.read, told)
    };
    let last = |what: &str, done: u64| (what.to_owned(), done, Total::AtMost(done));
    let dry = Order { dry_run: true, ..order(Verb::Discard) };
    let (read, told) = run(&dry);
    assert_eq!(told, [last("reading what was handled", 0), last("looking through dead", read)]);
    let (read, told) = run(&order(Verb::Discard));
    assert_eq!(told, [last("reading what was handled", 0), last("discarding from dead", read)]);
    // Now the account has a record of each, which is read first.
    let (read, told) = run(&order(to_source()));
    assert_eq!(told, [last("reading what was handled", read), last("replaying from dead", read)]);
}

#[test]
fn a_run_does_as_many_as_it_is_told_and_as_fast() {
    let (_folder, log) = many(200, 3);
    let some = Order { max: NonZeroU64::new(80), ..order(to_source()) };
    assert_eq!(ran(&log, &some).report.replayed, 80);
    let (began, slow) = (Instant::now(), Order { rate: NonZeroU32::new(100), ..order(to_source()) });
    assert_eq!(ran(&log, &slow).report.replayed, 120);
    // A quarter of a second's worth may go at once.
    assert!(began.elapsed().as_millis() >= 900, "{:?}", began.elapsed());
    let (_folder, log) = many(3, 3);
    let stop = AtomicBool::new(false);
    let stopped =
        run(&log, &topics(&log), &Selection::default(), &order(to_source()), &|| stop.swap(true, Ordering::Relaxed));
    assert!(matches!(stopped.ended, Err(HandleError::Audit(AuditError::Stopped) | HandleError::Stopped)));
}

/// Letters of some keys; the value is their number.
fn many(count: usize, keys: usize) -> (TempDir, EmbeddedLog) {
    let (folder, log) = log_of(&["dead", "orders.v1"]);
    let letters: Vec<_> = (0..count)
        .map(|number| {
            let key = number % keys;
            let origin = Origin {
                partition: TopicPartition::new("orders.v1", (key % 2) as i32),
                offset: number as i64,
                timestamp_ms: T0,
            };
            let block = Provenance { origin, ..provenance(number as i64, FailureClass::Reject, "c", "m") }.headers();
            letter(
                (key % 2) as i32,
                number as i64,
                key.to_string().as_bytes(),
                Some(number.to_string().as_bytes()),
                &block,
            )
        })
        .collect();
    write(&log, "dead", &letters);
    (folder, log)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// A writer that dies at any point, or does not know what became of its transaction; and each run goes on where the one
    /// before it has ended. Every letter is replayed once, those of a key in their order, and what the dry run has told is done.
    #[test]
    fn however_often_a_replay_is_interrupted_every_letter_is_replayed_once(
        count in 1..40_usize,
        keys in 1..5_usize,
        batch in 1..9_usize,
        strikes in prop::collection::vec((0..30_u32, prop::sample::select(&Strike::ALL[..])), 0..6),
        discarded in prop::option::of(0..5_usize),
    ) {
        let (_folder, log) = many(count, keys);
        let given_up = discarded.map(|key| Selection { key: Some(key.to_string().into_bytes()), ..Selection::default() });
        if let Some(selection) = &given_up {
            prop_assert!(run(&log, &topics(&log), selection, &order(Verb::Discard), &never).ended.is_ok());
        }
        let batched = Order { batch: NonZeroUsize::new(batch).unwrap(), ..order(to_source()) };
        let told = ran(&log, &Order { dry_run: true, ..batched.clone() });
        prop_assert_eq!(records(&log, "orders.v1").len(), 0);

        let (mortal, mut seen, mut runs) = (Mortal::new(&log, strikes.clone()), Vec::new(), 0);
        loop {
            runs += 1;
            prop_assert!(runs <= strikes.len() + 1, "it does not end");
            let signature = Signature { by: "ana".into(), run: format!("r{runs}") };
            let ran = run(&mortal, &topics(&log), &Selection::default(), &Order { signature, ..batched.clone() }, &never);
            // There is no other.
            prop_assert_eq!(ran.report.handled_meanwhile, 0);
            seen.extend(ran.seen.iter().map(word));
            if ran.ended.is_ok() {
                break;
            }
        }
        let record = |handling: &Handling| match &handling.outcome {
            Outcome::Replayed(record) => record.clone(),
            other => panic!("{other:?}"),
        };
        let mut planned: Vec<RecordLine> = told.seen.iter().map(record).collect();
        // Stable: in each partition, the order in which they were told.
        planned.sort_by_key(|record| record.partition);
        let written: Vec<RecordLine> = records(&log, "orders.v1").iter().map(|record| line("orders.v1", record)).collect();
        prop_assert_eq!(written, planned);
        // What a run that was interrupted has done without knowing it is the only thing that it does not tell.
        seen.sort();
        let all: Vec<String> = words(&told);
        prop_assert!(seen.iter().all(|word| all.contains(word)) && seen.windows(2).all(|pair| pair[0] != pair[1]));
        prop_assert_eq!(records(&log, "dead.audit").len(), count);
    }
}
