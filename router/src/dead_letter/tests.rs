//! Dead letters of all kinds, on an embedded log.
#![allow(clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use pointsman_core::condition::DeadLetterCondition;
use pointsman_core::delivery::TopicId;
use pointsman_core::failure::FailureClass;
use pointsman_core::port::{Log as _, NewTopic, Token, TopicSettings};
use pointsman_core::provenance::{Blame, Origin, Provenance, name};
use pointsman_core::record::{OwnedHeader, TopicPartition};
use pointsman_embedded::{EmbeddedLog, Options};
use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::progress::{Progress, Stand, Total, UNTOLD, Unit};
use crate::reading::Ended;
use crate::record_text::RecordLine;

/// The time of the first letter.
pub(crate) const T0: i64 = 1_767_225_600_000;
pub(crate) const MINUTE: i64 = 60_000;
const DIGEST: &str = "6f1a3cb09b1d4f0c";

pub(crate) fn never() -> bool {
    false
}

/// A log with these topics, kept for ten years, each with two partitions.
pub(crate) fn log_of(topics: &[&str]) -> (TempDir, EmbeddedLog) {
    let folder = TempDir::new().unwrap();
    let log = EmbeddedLog::open(folder.path(), Options::default()).unwrap();
    let retention = Some(Duration::from_secs(3650 * 86_400));
    let new = topics.iter().map(|topic| NewTopic { name: Arc::from(*topic), partitions: 2, retention });
    log.create_topics(&new.collect::<Vec<_>>()).unwrap();
    (folder, log)
}

pub(crate) fn write(log: &EmbeddedLog, topic: &str, records: &[RecordLine]) {
    let mut sink = log.sink(&[topic.into()], Arc::new(|| {})).unwrap();
    for record in records {
        sink.produce(&record.delivery(TopicId(0)), Token(0)).unwrap();
    }
    let mut reports = Vec::new();
    sink.serve(&mut reports).unwrap();
    assert!(reports.len() == records.len() && reports.iter().all(|report| report.result.is_ok()));
}

pub(crate) fn provenance(minute: i64, class: FailureClass, code: &str, message: &str) -> Provenance {
    Provenance {
        origin: Origin { partition: TopicPartition::new("orders.v1", 0), offset: minute, timestamp_ms: T0 - MINUTE },
        blame: Blame { route: "orders".into(), stage: Some("validate".into()), plugin_sha256: Some(DIGEST.into()) },
        class,
        code: code.into(),
        message: message.into(),
        attempts: 1,
        first_failed_ms: T0 + minute * MINUTE,
        last_failed_ms: T0 + minute * MINUTE,
        due_ms: None,
        truncated: false,
        replay_count: 0,
        deferred: false,
        marker: None,
    }
}

pub(crate) fn letter(
    partition: i32,
    minute: i64,
    key: &[u8],
    value: Option<&[u8]>,
    provenance: &[OwnedHeader],
) -> RecordLine {
    let mut headers = vec![OwnedHeader::text("trace", format!("t-{minute}"))];
    headers.extend_from_slice(provenance);
    RecordLine {
        partition: Some(partition),
        timestamp_ms: Some(T0 + minute * MINUTE),
        key: Some(key.into()),
        value: value.map(Into::into),
        headers,
        ..RecordLine::default()
    }
}

/// Seven letters in `dead`, a minute apart: one of each kind there is, and their origin in `orders.v1`.
pub(crate) fn sample() -> (TempDir, EmbeddedLog) {
    let (folder, log) = log_of(&["dead", "orders.v1"]);
    let rejected = |minute: i64| {
        let message = format!("order o-{minute} of 12.50 EUR has no country.");
        provenance(minute, FailureClass::Reject, "no-country", &message).headers()
    };
    let trapped = Provenance {
        blame: Blame { route: "orders".into(), stage: Some("enrich".into()), plugin_sha256: None },
        attempts: 3,
        first_failed_ms: T0,
        replay_count: 2,
        deferred: true,
        ..provenance(4, FailureClass::Trap, "unreachable", "it says\n\u{1b}[2Jgone")
    };
    let truncated = Provenance {
        truncated: true,
        origin: Origin { offset: 0, ..provenance(0, FailureClass::Refused, "", "").origin },
        ..provenance(5, FailureClass::Refused, "MSG_SIZE_TOO_LARGE", "too large")
    };
    let mut torn = rejected(3);
    torn.retain(|header| &*header.name != name::ORIGIN_OFFSET.as_bytes() && &*header.name != name::CODE.as_bytes());
    let spring = [
        OwnedHeader::text("kafka_dlt-original-topic", "payments"),
        OwnedHeader { name: (*b"kafka_dlt-original-partition").into(), value: Some([0, 0, 0, 7].into()) },
        OwnedHeader { name: (*b"kafka_dlt-original-offset").into(), value: Some([0, 0, 0, 0, 0, 0, 1, 0].into()) },
        OwnedHeader::text("kafka_dlt-original-consumer-group", "billing"),
        OwnedHeader::text("kafka_dlt-exception-fqcn", "java.lang.IllegalStateException"),
        OwnedHeader::text("kafka_dlt-exception-message", "no such customer: 4711"),
    ];
    let none = RecordLine { headers: vec![], ..letter(1, 6, b"", None, &[]) };
    let letters = [
        letter(0, 0, b"a", Some(b"{\"id\":\"o-0\",\"amount\":12.50}"), &rejected(0)),
        letter(1, 1, b"b", Some(b"{\"id\":\"o-1\",\"amount\":99}"), &rejected(1)),
        letter(0, 2, b"c", Some(b"plain text"), &spring),
        letter(0, 3, b"d", Some(b"{\"id\":\"o-3\"}"), &torn),
        letter(1, 4, b"\xff\x1b", Some(b"\xffbytes"), &trapped.headers()),
        RecordLine { key: None, value: None, ..letter(1, 5, b"", None, &truncated.headers()) },
        none,
    ];
    write(&log, "dead", &letters);
    let origin = RecordLine {
        partition: Some(0),
        timestamp_ms: Some(T0 - MINUTE),
        key: Some(b"large".into()),
        value: Some(b"{\"id\":\"o-5\"}".into()),
        ..RecordLine::default()
    };
    write(&log, "orders.v1", &[origin]);
    (folder, log)
}

pub(crate) fn topics(log: &EmbeddedLog) -> Vec<Topic> {
    Topic::look_up(log, &["dead".into()]).unwrap()
}

/// Goes through the letters that are selected.
fn visited(
    log: &EmbeddedLog,
    selection: &Selection,
    progress: Progress<'_>,
    see: &mut dyn FnMut(&Topic, &Letter<'_>) -> ControlFlow<()>,
    note: &mut dyn FnMut(&str),
) -> Visited<()> {
    let config = "version = 1\n[router]\nname = \"r\"\n[broker]\nembedded = \".\"\n[[routes]]\nname = \"r\"\nfrom = [\"s\"]\n\
                  [[routes.outputs]]\ntopic = \"o\"\n";
    let (plan, _) = pointsman_config::compile(config, "test", &|_: &str| None).unwrap();
    let site = Site { log, plan: &plan, now_ms: &|| T0, stop: &never, progress };
    visit(&site, &topics(log), selection, see, note).unwrap()
}

/// Keys of the letters that are selected, and the tally.
fn selected(log: &EmbeddedLog, selection: &Selection) -> (Vec<String>, Tally) {
    let mut keys = Vec::new();
    let mut see = |_: &Topic, letter: &Letter<'_>| {
        keys.push(letter.place().to_string().replace("dead/", ""));
        ControlFlow::<()>::Continue(())
    };
    let visited = visited(log, selection, UNTOLD, &mut see, &mut |note| panic!("{note}"));
    assert!(matches!(visited.ended, Ended::Done));
    (keys, visited.tally)
}

/// Who is selected, by partition and offset, and how many can't be decided.
#[test]
fn a_selection_picks_what_every_part_of_it_agrees_with() {
    let (_folder, log) = sample();
    let text = |text: &str| Some(text.to_owned());
    let origin = |text: &str| Some(text.parse().unwrap());
    let header =
        |name: &str, value: Option<&[u8]>| vec![HeaderFilter { name: name.into(), value: value.map(Into::into) }];
    let condition = |text: &str| Some(DeadLetterCondition::compile(text).unwrap());
    let all = Selection::default;
    let cases: Vec<(&str, Selection, &[&str], u64)> = vec![
        ("all, oldest first", all(), &["0/0", "1/0", "0/1", "0/2", "1/1", "1/2", "1/3"], 0),
        // The record that is no dead letter may be one of any route.
        ("route", Selection { route: text("orders"), ..all() }, &["0/0", "1/0", "0/2", "1/1", "1/2"], 1),
        ("group", Selection { route: text("billing"), ..all() }, &["0/1"], 1),
        ("stage", Selection { stage: text("enrich"), ..all() }, &["1/1"], 1),
        ("digest", Selection { stage: text(&DIGEST[..8]), ..all() }, &["0/0", "1/0", "0/2", "1/2"], 1),
        ("too few digits", Selection { stage: text(&DIGEST[..7]), ..all() }, &[], 1),
        ("class", Selection { class: text("reject"), ..all() }, &["0/0", "1/0", "0/2"], 1),
        ("exception", Selection { class: text("java.lang.IllegalStateException"), ..all() }, &["0/1"], 1),
        // The torn one has lost its code.
        ("code", Selection { code: text("no-country"), ..all() }, &["0/0", "1/0"], 2),
        ("origin", Selection { origin: origin("payments/7/256"), ..all() }, &["0/1"], 1),
        ("offset", Selection { origin: origin("orders.v1/0/1"), ..all() }, &["1/0"], 2),
        ("topic", Selection { origin: origin("orders.v1"), ..all() }, &["0/0", "1/0", "0/2", "1/1", "1/2"], 1),
        ("since", Selection { since_ms: Some(T0 + 4 * MINUTE), ..all() }, &["1/1", "1/2", "1/3"], 0),
        ("until", Selection { until_ms: Some(T0 + 2 * MINUTE), ..all() }, &["0/0", "1/0"], 0),
        // The key of the truncated one is not here.
        ("key", Selection { key: Some(b"c".into()), ..all() }, &["0/1"], 1),
        ("header", Selection { headers: header("trace", Some(b"t-3")), ..all() }, &["0/2"], 0),
        ("own header", Selection { headers: header(name::REPLAY_COUNT, None), ..all() }, &["1/1"], 0),
        ("text", Selection { text: Some(Text::new("o-1")), ..all() }, &["1/0"], 1),
        (
            "condition",
            Selection { condition: condition("class == 'reject' && value.amount > 50"), ..all() },
            &["1/0"],
            1,
        ),
        (
            "decided by others",
            Selection {
                condition: condition("replays > 0 || value.amount > 50"),
                until_ms: Some(T0 + MINUTE),
                ..all()
            },
            &[],
            0,
        ),
        (
            "foreign",
            Selection { condition: condition("writer == 'spring' && headers == {'trace': 't-2'}"), ..all() },
            &["0/1"],
            0,
        ),
        (
            "several",
            Selection { class: text("reject"), key: Some(b"b".into()), route: text("orders"), ..all() },
            &["1/0"],
            0,
        ),
    ];
    for (what, selection, expected, unsure) in cases {
        let (keys, tally) = selected(&log, &selection);
        assert_eq!((keys.as_slice(), tally.unsure), (&expected.map_owned()[..], unsure), "{what}: {tally:?}");
        assert_eq!(tally.selected, expected.len() as u64, "{what}");
        assert_eq!(tally.first_unsure.is_some(), unsure > 0, "{what}");
    }
}

trait MapOwned {
    fn map_owned(&self) -> Vec<String>;
}

impl MapOwned for &[&str] {
    fn map_owned(&self) -> Vec<String> {
        self.iter().map(|text| (*text).to_owned()).collect()
    }
}

#[test]
fn what_is_left_out_for_lack_of_knowledge_is_told() {
    let (_folder, log) = sample();
    let by_code = Selection { code: Some("no-country".into()), ..Selection::default() };
    let (place, why) = selected(&log, &by_code).1.first_unsure.unwrap();
    assert_eq!((place.to_string().as_str(), why.as_str()), ("dead/0/2", "it does not tell its code"));
    let condition = Some(DeadLetterCondition::compile("code.startsWith('no')").unwrap());
    let (_, tally) = selected(&log, &Selection { condition, ..Selection::default() });
    // The torn one has no code, and neither has that of Spring nor the record that is no dead letter.
    assert_eq!((tally.selected, tally.unsure), (2, 3));
    assert!(tally.first_unsure.unwrap().1.contains("startsWith"));
}

#[test]
fn it_is_told_how_many_were_read_of_how_many_and_how_many_are_meant() {
    let (_folder, log) = sample();
    let told = |selection: &Selection| {
        let told = RefCell::new(Vec::new());
        let progress = |stand: &Stand<'_>| {
            assert_eq!((stand.what, stand.unit), ("reading dead", Unit::Records));
            told.borrow_mut().push((stand.done, stand.total, stand.picked));
        };
        let tally = visited(&log, selection, &progress, &mut |_, _| ControlFlow::Continue(()), &mut |_| {}).tally;
        (told.into_inner(), tally)
    };
    let (all, tally) = told(&Selection::default());
    let (first, last) = (all[0], all[all.len() - 1]);
    assert!(tally.read > 5, "{tally:?}");
    assert_eq!(first, (0, Total::AtMost(tally.read), None));
    assert_eq!(last, (tally.read, Total::AtMost(tally.read), None));
    let steps: Vec<u64> = all.windows(2).map(|pair| pair[1].0 - pair[0].0).collect();
    assert!(steps.iter().all(|step| *step <= 1), "each record is told: {steps:?}");
    assert!(all.iter().all(|(_, total, picked)| *total == first.1 && picked.is_none()), "{all:?}");

    let (some, tally) = told(&Selection { class: Some("reject".into()), ..Selection::default() });
    assert!(tally.selected > 0 && tally.selected < tally.read, "{tally:?}");
    assert_eq!(some.last(), Some(&(tally.read, Total::AtMost(tally.read), Some(tally.selected))));
}

#[test]
fn letters_of_one_cause_are_counted_together() {
    let (_folder, log) = sample();
    let mut causes = Causes::default();
    let mut see = |topic: &Topic, letter: &Letter<'_>| {
        causes.add(topic, letter);
        ControlFlow::<()>::Continue(())
    };
    visited(&log, &Selection::default(), UNTOLD, &mut see, &mut |_| {});
    let (groups, others) = causes.into_groups();
    assert_eq!((groups.len(), others), (6, 0));
    let Group { cause, count, first_seen, last_seen, expires, newest, message } = &groups[0];
    assert_eq!((*count, *first_seen, *last_seen), (2, Some(T0), Some(T0 + MINUTE)));
    assert_eq!(cause.pattern.as_deref(), Some("order # of # EUR has no country."));
    assert_eq!(message.as_deref(), Some("order o-1 of 12.50 EUR has no country."));
    assert_eq!((newest.to_string().as_str(), *expires), ("dead/1/0", Expiry::At(T0 + 3650 * 86_400_000)));
    let mut writers: Vec<_> = groups.iter().map(|group| group.cause.writer).collect();
    writers.sort_unstable();
    assert_eq!(writers, ["pointsman", "pointsman", "pointsman", "spring", "torn", "unknown"]);
}

#[test]
fn causes_beyond_the_bound_are_counted_and_not_kept() {
    let partition = TopicPartition::new("dead", 0);
    let topic = Topic { name: "dead".into(), partitions: 1, settings: None };
    let mut causes = Causes::default();
    for number in 0..Causes::MAX_GROUPS + 5 {
        // A letter for each figure, since figures alone don't tell causes apart.
        let code: String = number.to_string().chars().map(|c| char::from(b'a' + (c as u8 - b'0'))).collect();
        let record = letter(0, 0, b"", None, &provenance(0, FailureClass::Reject, &code, "").headers());
        let record = pointsman_core::record::OwnedRecord {
            offset: 0,
            timestamp_ms: 5,
            key: record.key,
            value: record.value,
            headers: record.headers,
        };
        for _ in 0..2 {
            causes.add(&topic, &Letter::new(&partition, record.as_record()));
        }
    }
    let (groups, others) = causes.into_groups();
    assert_eq!((groups.len(), others), (Causes::MAX_GROUPS, 10));
    assert!(groups.iter().all(|group| group.count == 2 && group.expires == Expiry::Unknown));
}

fn found(log: &EmbeddedLog, place: &str) -> Result<Found, FindError> {
    find(log, place.parse().unwrap(), &never, &mut |note| panic!("{note}"))
}

#[test]
fn one_letter_is_found_with_its_payload_wherever_that_is() {
    let (_folder, log) = sample();
    let here = found(&log, "dead/0/0").unwrap();
    assert_eq!((&here.payload, here.whole().unwrap().key.as_deref()), (&Payload::Here, Some(&b"a"[..])));
    let large = found(&log, "dead/1/2").unwrap();
    assert!(
        matches!(&large.payload, Payload::AtOrigin(record) if record.value.as_deref() == Some(b"{\"id\":\"o-5\"}"))
    );
    for (place, message) in [
        ("dead/0/3", "dead/0 has no offset 3; it has 0 up to 3, which is the next to be written"),
        ("dead/9/0", "unknown-partition"),
    ] {
        assert!(found(&log, place).unwrap_err().to_string().contains(message), "{place}");
    }
    let stopped = find(&log, "dead/0/0".parse().unwrap(), &|| true, &mut |_| {});
    assert!(matches!(stopped, Err(FindError::Stopped(_))));
}

/// I9: byte for byte, wherever the payload is.
#[test]
fn the_record_that_became_a_letter_is_given_back() {
    let (_folder, log) = sample();
    let of = |place: &str| {
        let found = found(&log, place).unwrap();
        original(&log, &found.letter(), &never, &mut |_| {})
    };
    let ours = of("dead/0/0").unwrap();
    assert_eq!(
        (ours.topic.as_deref(), ours.partition, ours.offset, ours.timestamp_ms),
        (Some("orders.v1"), Some(0), Some(0), Some(T0 - MINUTE))
    );
    assert_eq!((ours.key.as_deref(), ours.headers), (Some(&b"a"[..]), vec![OwnedHeader::text("trace", "t-0")]));
    let spring = of("dead/0/1").unwrap();
    assert_eq!(
        (spring.topic.as_deref(), spring.partition, spring.offset, spring.timestamp_ms),
        (Some("payments"), Some(7), Some(256), None)
    );
    assert_eq!(spring.headers, [OwnedHeader::text("trace", "t-2")]);
    let large = of("dead/1/2").unwrap();
    assert_eq!((large.key.as_deref(), large.offset, large.headers.len()), (Some(&b"large"[..]), Some(0), 0));
    assert!(matches!(of("dead/0/2"), Err(NoOriginal::Torn(_))));
    assert_eq!(of("dead/1/3"), Err(NoOriginal::NoLetter));
}

/// The brokers copy a payload only where they are told to, and headers never.
#[test]
fn a_letter_of_a_share_group_without_payload_is_fetched_from_its_origin() {
    let (_folder, log) = log_of(&["dead", "orders.v1"]);
    let told = ["topic", "partition", "offset"].into_iter().zip(["orders.v1", "1", "0"]);
    let told: Vec<_> = told.map(|(name, text)| OwnedHeader::text(&format!("__dlq.errors.{name}"), text)).collect();
    write(&log, "orders.v1", &[letter(1, 0, b"k", Some(b"whole"), &[])]);
    let bare = RecordLine { key: None, value: None, headers: told.clone(), ..letter(0, 0, b"", None, &[]) };
    let copied = RecordLine { headers: told, ..letter(0, 1, b"k", Some(b"copied"), &[]) };
    write(&log, "dead", &[bare, copied]);
    let value = |place: &str| found(&log, place).unwrap().whole().unwrap().value.clone();
    assert_eq!(
        (value("dead/0/0").as_deref(), value("dead/0/1").as_deref()),
        (Some(&b"whole"[..]), Some(&b"copied"[..]))
    );
}

#[test]
fn what_a_topic_may_lose_is_told() {
    let topic = |settings| Topic { name: "dead".into(), partitions: 1, settings };
    let kept = TopicSettings { retention: None, retention_bytes: None, compacted: false, max_batch_bytes: None };
    assert_eq!(topic(Some(kept.clone())).cautions(), [""; 0]);
    let bounded = topic(Some(TopicSettings { retention_bytes: Some(1000), compacted: true, ..kept })).cautions();
    assert!(bounded[0].contains("of letters with one key") && bounded[1].contains("1000 bytes"), "{bounded:?}");
    assert!(topic(None).cautions()[0].contains("DescribeConfigs"));
}

#[test]
fn a_payload_that_is_gone_is_told_and_not_replaced_by_another() {
    let (_folder, log) = log_of(&["dead", "orders.v1"]);
    let truncated = |offset: i64, topic: &str| {
        let origin = Origin { partition: TopicPartition::new(topic, 0), offset, timestamp_ms: 7 };
        let provenance = Provenance { truncated: true, origin, ..provenance(0, FailureClass::Refused, "c", "m") };
        letter(0, 0, b"", None, &provenance.headers())
    };
    // Made anew since, with another record; not that long; not there.
    write(&log, "orders.v1", &[letter(0, 1, b"other", Some(b"other"), &[])]);
    write(
        &log,
        "dead",
        &[truncated(0, "orders.v1"), truncated(1, "orders.v1"), truncated(0, "none"), truncated(-1, "orders.v1")],
    );
    for (offset, why) in
        ["another timestamp", "has no offset 1", "no such topic", "has no offset -1"].into_iter().enumerate()
    {
        let found = found(&log, &format!("dead/0/{offset}")).unwrap();
        assert!(found.whole().is_none());
        assert!(matches!(&found.payload, Payload::Gone(said) if said.contains(why)), "{:?}", found.payload);
    }
}

#[test]
fn places_and_origins_read_back_and_nonsense_does_not() {
    for text in ["orders.dead-letter/0/17", "t/2147483647/9223372036854775807"] {
        assert_eq!(text.parse::<Place>().unwrap().to_string(), text);
    }
    for text in
        ["", "0/1", "t/0", "t/-1/0", "t/0/-1", "/0/1", "a/b/0/1", "t/0/1/", "t/2147483648/0", "t/0/9223372036854775808"]
    {
        assert!(text.parse::<Place>().is_err(), "{text}");
    }
    for text in ["", "/0", "t/x", "t/0/x", "t/0/1/2", "t/0/", "t/-1"] {
        assert!(text.parse::<OriginFilter>().is_err(), "{text}");
    }
    let whole: OriginFilter = "t/1/2".parse().unwrap();
    assert_eq!(whole, OriginFilter { topic: "t".into(), partition: Some(1), offset: Some(2) });
}

#[test]
fn the_sooner_expiry_counts_and_what_is_not_known_is_not_for_ever() {
    use Expiry::{At, Never, Unknown};
    for (one, other, sooner) in [
        (At(3), At(5), At(3)),
        (At(3), Never, At(3)),
        (Unknown, At(3), At(3)),
        (Unknown, Never, Unknown),
        (Never, Never, Never),
    ] {
        assert_eq!((one.sooner(other), other.sooner(one)), (sooner, sooner));
    }
}

#[test]
fn messages_of_one_cause_have_one_pattern() {
    for (message, expected) in [
        ("order o-17 of 12.50 EUR has no country.", "order # of # EUR has no country."),
        ("550e8400-e29b-41d4-a716-446655440000 at 2026-01-31T12:00:00Z", "# at #:#:#"),
        ("no field `amount` in orders.v1/3", "no field `amount` in #/#"),
        ("offset 17. Then", "offset #. Then"),
        ("Straße ٣ und Ⅷ", "Straße # und #"),
        ("...", "..."),
        ("", ""),
    ] {
        assert_eq!(pattern(message), expected, "{message}");
    }
}

proptest! {
    #[test]
    fn numbers_and_ids_never_split_a_cause(words in prop::collection::vec("[a-zé]{0,5}[ :,/`]{1,2}", 0..8), one in any::<u64>(), other in any::<u64>()) {
        let message = |number: u64| words.join(&format!("x{number}-y "));
        prop_assert_eq!(pattern(&message(one)), pattern(&message(other)));
    }

    #[test]
    fn any_message_has_a_pattern_without_figures(message in any::<String>()) {
        let pattern = pattern(&message);
        prop_assert!(pattern.len() <= 300 && !pattern.contains(|c: char| c.is_ascii_digit()), "{pattern:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(30))]
    /// Whatever lies in a topic is a letter: none is passed over, and each can be found where it is said to be.
    #[test]
    fn every_record_of_a_topic_is_a_letter(
        records in prop::collection::vec((0..2_i32, 0..4_i64, prop::collection::vec(("[a-z_.-]{0,4}", any::<Option<[u8; 3]>>()), 0..3)), 0..20),
        since in prop::option::of(0..4_i64),
    ) {
        let lines: Vec<RecordLine> = records
            .iter()
            .map(|(partition, minute, headers)| RecordLine {
                headers: headers
                    .iter()
                    .map(|(name, value)| OwnedHeader {
                        name: format!("pointsman.{name}").into_bytes().into(),
                        value: value.map(Into::into),
                    })
                    .collect(),
                ..letter(*partition, *minute, b"k", Some(b"v"), &[])
            })
            .collect();
        let (_folder, log) = log_of(&["dead"]);
        write(&log, "dead", &lines);
        let mut seen = BTreeMap::new();
        let mut see = |_: &Topic, letter: &Letter<'_>| {
            seen.insert(letter.place(), letter.record.timestamp_ms);
            ControlFlow::<()>::Continue(())
        };
        let since_ms = since.map(|minute| T0 + minute * MINUTE);
        let selection = Selection { since_ms, ..Selection::default() };
        visited(&log, &selection, UNTOLD, &mut see, &mut |_| {});
        let expected = lines.iter().filter(|line| line.timestamp_ms >= since_ms).count();
        prop_assert_eq!(seen.len(), expected);
        for (place, timestamp_ms) in seen {
            let found = find(&log, place, &never, &mut |_| {}).unwrap();
            prop_assert_eq!(found.record.timestamp_ms, timestamp_ms);
        }
    }
}
