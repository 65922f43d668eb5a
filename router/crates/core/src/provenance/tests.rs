#![allow(clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

use proptest::prelude::*;

use super::{Account, Blame, Family, KnownOrigin, Origin, Provenance, ProvenanceError, Writer, name};
use crate::failure::{Failure, FailureClass};
use crate::record::{Headers, OwnedHeader, TopicPartition};

fn provenance(offset: i64, message: String, due_ms: Option<i64>) -> Provenance {
    Provenance {
        origin: Origin { partition: TopicPartition::new("orders.v1", 3), offset, timestamp_ms: -1 },
        blame: Blame { route: "orders".into(), stage: Some("validate".into()), plugin_sha256: None },
        class: FailureClass::Deadline,
        code: "deadline".into(),
        message,
        attempts: 2,
        first_failed_ms: 5,
        last_failed_ms: 6,
        due_ms,
        truncated: false,
        replay_count: 0,
        deferred: false,
        marker: None,
    }
}

fn any_header() -> impl Strategy<Value = OwnedHeader> {
    let any_name = prop_oneof![Just(name::VERSION.as_bytes().to_vec()), prop::collection::vec(any::<u8>(), 0..8)];
    (any_name, prop::option::of(prop::collection::vec(any::<u8>(), 0..8)))
        .prop_map(|(name, value)| OwnedHeader { name: name.into(), value: value.map(Into::into) })
}

proptest! {
    /// I9: whatever headers the record had, they come back as they were, twice over.
    #[test]
    fn the_block_comes_off_as_it_was_put_on(
        original in prop::collection::vec(any_header(), 0..6),
        message in ".{0,40}",
        due in prop::option::of(any::<i64>()),
        (replay_count, deferred, truncated) in any::<(u32, bool, bool)>(),
    ) {
        let first = Provenance { replay_count, deferred, truncated, ..provenance(1, message.clone(), due) };
        let second = provenance(2, message, None);
        let mut headers = original.clone();
        headers.extend(first.headers());
        let once = headers.clone();
        headers.extend(second.headers());

        let (count, back) = Provenance::split(Headers::Owned(&headers)).expect("whole");
        prop_assert_eq!((count, back), (once.len(), second));
        let (count, back) = Provenance::split(Headers::Owned(&once)).expect("whole");
        prop_assert_eq!((&once[..count], back), (&original[..], first));
    }

    #[test]
    fn foreign_headers_never_panic(headers in prop::collection::vec(any_header(), 0..6)) {
        prop_assert!(Provenance::split(Headers::Owned(&headers)).is_err());
    }
}

#[test]
fn a_torn_block_names_what_is_missing() {
    let mut headers = provenance(1, String::new(), None).headers();
    headers.retain(|header| &*header.name != name::ORIGIN_OFFSET.as_bytes());
    assert_eq!(Provenance::split(Headers::Owned(&headers)), Err(ProvenanceError::Torn(name::ORIGIN_OFFSET)));
    headers[0] = OwnedHeader::text(name::VERSION, "9");
    assert_eq!(Provenance::split(Headers::Owned(&headers)), Err(ProvenanceError::Version("9".into())));
    assert_eq!(Provenance::split(Headers::NONE), Err(ProvenanceError::Absent));
}

/// A block as the first releases of format 1 wrote it: without the headers that came later.
#[test]
fn a_block_without_the_later_headers_reads_as_never_replayed_and_failed_itself() {
    let written = provenance(1, String::new(), None).headers();
    assert!(
        !written
            .iter()
            .any(|header| header.name.starts_with(b"pointsman.replay") || &*header.name == b"pointsman.deferred")
    );
    let (_, read) = Provenance::split(Headers::Owned(&written)).unwrap();
    assert_eq!((read.replay_count, read.deferred), (0, false));
    let once = Provenance { replay_count: 1, ..provenance(1, String::new(), None) };
    assert_eq!(Provenance::split(Headers::Owned(&once.headers())).unwrap().1, once);
    let mut torn = written;
    torn.push(OwnedHeader::text(name::REPLAY_COUNT, "often"));
    assert_eq!(Provenance::split(Headers::Owned(&torn)), Err(ProvenanceError::Torn(name::REPLAY_COUNT)));
}

fn headers(named: &[(&str, &[u8])]) -> Vec<OwnedHeader> {
    named
        .iter()
        .map(|(name, value)| OwnedHeader { name: name.as_bytes().into(), value: Some((*value).into()) })
        .collect()
}

fn origin(topic: &str, partition: i32, offset: i64, timestamp_ms: Option<i64>) -> KnownOrigin {
    KnownOrigin { topic: Some(topic.into()), partition: Some(partition), offset: Some(offset), timestamp_ms }
}

fn text(text: &str) -> Option<String> {
    Some(text.to_owned())
}

/// What each tool writes, word by word, and what it tells.
#[test]
fn the_families_of_other_tools_are_understood() {
    let spring = |account| Account { writer: Writer::Foreign(Family::Spring), ..account };
    let cases: Vec<(&str, Vec<OwnedHeader>, Account)> = vec![
        (
            "the error handler of Spring Kafka: binary numbers",
            headers(&[
                ("kafka_deliveryAttempt", &[0, 0, 0, 10]),
                ("kafka_dlt-original-topic", b"orders"),
                ("kafka_dlt-original-partition", &[0, 0, 0, 3]),
                ("kafka_dlt-original-offset", &[0, 0, 0, 0, 0, 0, 0x30, 0x39]),
                ("kafka_dlt-original-timestamp", &[0, 0, 1, 0x9b, 0x76, 0xda, 0xa8, 0]),
                ("kafka_dlt-original-timestamp-type", b"CreateTime"),
                ("kafka_dlt-original-consumer-group", b"billing"),
                ("kafka_dlt-exception-fqcn", b"org.springframework.kafka.listener.ListenerExecutionFailedException"),
                ("kafka_dlt-exception-cause-fqcn", b"java.lang.IllegalStateException"),
                ("kafka_dlt-exception-message", b"Listener failed; no such customer"),
                ("kafka_dlt-exception-stacktrace", b"org.springframework\n\tat x"),
            ]),
            spring(Account {
                origin: origin("orders", 3, 12345, Some(1_767_225_600_000)),
                route: text("billing"),
                class: text("org.springframework.kafka.listener.ListenerExecutionFailedException"),
                code: text("java.lang.IllegalStateException"),
                message: text("Listener failed; no such customer"),
                attempts: Some(10),
                ..Account::default()
            }),
        ),
        (
            "the retry topics of Spring Kafka: a count of one byte, times as short as they go",
            headers(&[
                ("kafka_original-topic", b"orders"),
                ("kafka_original-partition", &[0, 0, 0, 0]),
                ("kafka_original-offset", &[0, 0, 0, 0, 0, 0, 0, 7]),
                ("retry_topic-attempts", &[3]),
                ("retry_topic-backoff-timestamp", &[1, 0x9b, 0x76, 0xda, 0xa8, 0]),
                ("retry_topic-original-timestamp", &[1, 0x9b, 0x76, 0xda, 0xa8, 0]),
                ("kafka_exception-fqcn", b"a.B"),
            ]),
            spring(Account {
                origin: origin("orders", 0, 7, Some(1_767_225_600_000)),
                class: text("a.B"),
                attempts: Some(3),
                ..Account::default()
            }),
        ),
        (
            "a record that failed twice under Spring: the first origin, the last exception",
            headers(&[
                ("kafka_original-topic", b"orders"),
                ("kafka_original-partition", b"2"),
                ("kafka_original-offset", b"41"),
                ("kafka_exception-fqcn", b"first"),
                ("kafka_original-topic", b"orders-dlt"),
                ("kafka_original-offset", b"5"),
                ("kafka_dlt-original-topic", b"orders-dlt"),
                ("kafka_dlt-exception-fqcn", b"second"),
            ]),
            spring(Account { origin: origin("orders", 2, 41, None), class: text("second"), ..Account::default() }),
        ),
        (
            "Kafka Connect",
            headers(&[
                ("__connect.errors.topic", b"orders"),
                ("__connect.errors.partition", b"1"),
                ("__connect.errors.offset", b"99"),
                ("__connect.errors.connector.name", b"to-s3"),
                ("__connect.errors.task.id", b"0"),
                ("__connect.errors.stage", b"VALUE_CONVERTER"),
                ("__connect.errors.class.name", b"org.apache.kafka.connect.json.JsonConverter"),
                ("__connect.errors.exception.class.name", b"org.apache.kafka.connect.errors.DataException"),
                ("__connect.errors.exception.message", b"Converting byte[] to Kafka Connect data failed"),
                ("__connect.errors.exception.stacktrace", b"org.apache\n"),
            ]),
            Account {
                writer: Writer::Foreign(Family::Connect),
                origin: origin("orders", 1, 99, None),
                route: text("to-s3"),
                stage: text("VALUE_CONVERTER"),
                class: text("org.apache.kafka.connect.errors.DataException"),
                code: text("org.apache.kafka.connect.json.JsonConverter"),
                message: text("Converting byte[] to Kafka Connect data failed"),
                ..Account::default()
            },
        ),
        (
            "Kafka Streams",
            headers(&[
                ("__streams.errors.exception", b"java.lang.ArithmeticException"),
                ("__streams.errors.message", b"/ by zero"),
                ("__streams.errors.stacktrace", b""),
                ("__streams.errors.topic", b"orders"),
                ("__streams.errors.partition", b"0"),
                ("__streams.errors.offset", b"0"),
            ]),
            Account {
                writer: Writer::Foreign(Family::Streams),
                origin: origin("orders", 0, 0, None),
                class: text("java.lang.ArithmeticException"),
                message: text("/ by zero"),
                ..Account::default()
            },
        ),
        (
            "the brokers, for a share group: the last header of a name counts",
            headers(&[
                ("__dlq.errors.topic", b"from the record itself"),
                ("__dlq.errors.topic", b"orders"),
                ("__dlq.errors.partition", b"4"),
                ("__dlq.errors.offset", b"12"),
                ("__dlq.errors.group", b"billing"),
                ("__dlq.errors.delivery.count", b"5"),
                ("__dlq.errors.message", b"delivery count limit exceeded"),
            ]),
            Account {
                writer: Writer::Foreign(Family::ShareGroup),
                origin: origin("orders", 4, 12, None),
                route: text("billing"),
                message: text("delivery count limit exceeded"),
                attempts: Some(5),
                ..Account::default()
            },
        ),
        (
            "numbers that are none, too large or negative, and a topic that is no text, are not known",
            headers(&[
                ("__connect.errors.topic", b"\xff"),
                ("__connect.errors.partition", b"4294967296"),
                ("__connect.errors.offset", b"-1"),
                ("__connect.errors.exception.message", b"\xff!"),
            ]),
            Account { writer: Writer::Foreign(Family::Connect), message: text("\u{fffd}!"), ..Account::default() },
        ),
        (
            "a negative number in binary, and one of too many bytes",
            headers(&[("__streams.errors.offset", &[0xff; 4]), ("__streams.errors.partition", &[1; 9])]),
            Account { writer: Writer::Foreign(Family::Streams), ..Account::default() },
        ),
        (
            "no dead letter: a count of deliveries, and what outputs are stamped with",
            headers(&[
                ("kafka_deliveryAttempt", &[0, 0, 0, 1]),
                (name::ORIGIN_TOPIC, b"orders"),
                (name::REPLAY_COUNT, b"1"),
            ]),
            Account::default(),
        ),
    ];
    for (what, headers, account) in cases {
        assert_eq!(Account::read(Headers::Owned(&headers)), account, "{what}");
        let mut around = super::tests::headers(&[("trace", b"1")]);
        around.extend(headers);
        around.push(OwnedHeader::text("trace", "2"));
        let left = account.originals(Headers::Owned(&around)).unwrap();
        if matches!(account.writer, Writer::Foreign(_)) {
            assert_eq!(
                left.iter().map(|header| header.value).collect::<Vec<_>>(),
                [Some(&b"1"[..]), Some(b"2")],
                "{what}"
            );
        } else {
            assert_eq!(left.len(), around.len(), "{what}");
        }
    }
}

#[test]
fn the_last_writer_is_the_one_and_one_layer_comes_off_at_a_time() {
    let mut letter = headers(&[("trace", b"1"), ("__connect.errors.topic", b"first")]);
    letter.extend(provenance(8, "second".into(), None).headers());
    letter.extend(headers(&[("kafka_dlt-original-topic", b"third")]));
    let mut layers = Vec::new();
    let mut left = letter;
    loop {
        let account = Account::read(Headers::Owned(&left));
        layers.push((account.writer.name(), account.origin.topic.clone().unwrap_or_default().to_string()));
        if account.writer == Writer::Unknown {
            break;
        }
        left = account.originals(Headers::Owned(&left)).unwrap().into_iter().map(OwnedHeader::from).collect();
    }
    let expected = [("spring", "third"), ("pointsman", "orders.v1"), ("connect", "first"), ("unknown", "")];
    assert_eq!(layers, expected.map(|(writer, topic)| (writer, topic.to_owned())));
    assert_eq!(left, headers(&[("trace", b"1")]));
}

/// Each header of the block is taken away in turn; the rest is told, and the record's own headers are not guessed at.
#[test]
fn a_torn_block_tells_what_is_left_of_it() {
    let whole = Provenance { replay_count: 2, deferred: true, ..provenance(8, "m".into(), None) };
    let mut letter = headers(&[("trace", b"1")]);
    letter.extend(whole.headers());
    let told = Account::read(Headers::Owned(&letter));
    assert_eq!(told.writer, Writer::Pointsman { originals: 1 });
    assert_eq!((told.replay_count, told.deferred, told.offset()), (2, true, Some(8)));
    for lost in 1..letter.len() {
        let mut torn = letter.clone();
        let gone = torn.remove(lost);
        let account = Account::read(Headers::Owned(&torn));
        let optional =
            [name::STAGE, name::REPLAY_COUNT, name::DEFERRED].iter().any(|name| name.as_bytes() == &*gone.name);
        let gone = String::from_utf8_lossy(&gone.name).into_owned();
        if optional {
            assert_eq!(account.writer, Writer::Pointsman { originals: 1 }, "{gone}");
            continue;
        }
        let Writer::Torn(ProvenanceError::Torn(missing)) = account.writer else { panic!("{gone}: {account:?}") };
        assert_eq!(missing, gone);
        assert_eq!(account.originals(Headers::Owned(&torn)), None);
        let known = [
            (name::ORIGIN_OFFSET, account.offset().is_some()),
            (name::ROUTE, account.route.is_some()),
            (name::CLASS, account.class.is_some()),
            (name::MESSAGE, account.message.is_some()),
            (name::LAST_FAILED_AT, account.last_failed_ms.is_some()),
        ];
        for (name, is_known) in known {
            assert_eq!(is_known, name != gone, "without {gone}, {name}");
        }
    }
}

impl Account {
    fn offset(&self) -> Option<i64> {
        self.origin.offset
    }
}

/// Names that mean something, and others.
fn any_name() -> impl Strategy<Value = Vec<u8>> {
    let parts = prop::sample::select(vec![
        "pointsman.",
        "kafka_original-",
        "kafka_dlt-original-",
        "kafka_exception-",
        "kafka_dlt-exception-",
        "retry_topic-",
        "__connect.errors.",
        "__streams.errors.",
        "__dlq.errors.",
        "kafka_deliveryAttempt",
        "",
    ]);
    let ends = prop::sample::select(vec![
        "version",
        "origin.topic",
        "origin.offset",
        "route",
        "class",
        "topic",
        "partition",
        "offset",
        "timestamp",
        "fqcn",
        "message",
        "attempts",
        "delivery.count",
        "consumer-group",
        "",
    ]);
    prop_oneof![
        4 => (parts, ends).prop_map(|(part, end)| [part.as_bytes(), end.as_bytes()].concat()),
        1 => prop::collection::vec(any::<u8>(), 0..8),
    ]
}

fn any_value() -> impl Strategy<Value = Option<Vec<u8>>> {
    let bytes = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..12),
        any::<i64>().prop_map(|number| number.to_string().into_bytes()),
        Just(b"1".to_vec()),
        Just(vec![0xff; Failure::MESSAGE_MAX_BYTES + 9]),
    ];
    prop::option::weighted(0.9, bytes)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn no_headers_make_reading_panic_and_what_is_told_is_in_range(
        named in prop::collection::vec((any_name(), any_value()), 0..12),
    ) {
        let headers: Vec<OwnedHeader> =
            named.into_iter().map(|(name, value)| OwnedHeader { name: name.into(), value: value.map(Into::into) }).collect();
        let account = Account::read(Headers::Owned(&headers));
        let KnownOrigin { partition, offset, timestamp_ms, .. } = account.origin;
        if matches!(account.writer, Writer::Foreign(_)) {
            prop_assert!(partition.is_none_or(|number| number >= 0) && offset.is_none_or(|number| number >= 0));
            prop_assert!(timestamp_ms.is_none_or(|number| number >= 0));
            prop_assert!(account.message.as_ref().is_none_or(|text| text.len() <= Failure::MESSAGE_MAX_BYTES));
        }
        match (&account.writer, account.originals(Headers::Owned(&headers))) {
            (Writer::Torn(_), left) => prop_assert!(left.is_none()),
            (Writer::Unknown, left) => prop_assert_eq!(left.unwrap().len(), headers.len()),
            (_, left) => prop_assert!(left.unwrap().len() < headers.len(), "at least one header made it a dead letter"),
        }
    }

    #[test]
    fn numbers_are_read_as_text_and_as_java_writes_them(partition in 0..1_000_000_i32, offset in 0..1_i64 << 48) {
        let read = |partition: &[u8], offset: &[u8]| {
            let headers = headers(&[("kafka_dlt-original-partition", partition), ("kafka_dlt-original-offset", offset)]);
            let origin = Account::read(Headers::Owned(&headers)).origin;
            (origin.partition, origin.offset)
        };
        let expected = (Some(partition), Some(offset));
        prop_assert_eq!(read(&partition.to_be_bytes(), &offset.to_be_bytes()), expected);
        prop_assert_eq!(read(partition.to_string().as_bytes(), offset.to_string().as_bytes()), expected);
    }

    /// I9 for the dead letters of other tools, whatever headers the record had besides.
    #[test]
    fn the_headers_of_a_family_come_off_and_no_others(
        mut mixed in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..8), any_value()), 0..6),
        at in 0..6_usize,
    ) {
        mixed.retain(|(name, _)| !Family::ALL.iter().any(|family| family.owns(name)) && !name.starts_with(b"pointsman."));
        let originals: Vec<OwnedHeader> =
            mixed.into_iter().map(|(name, value)| OwnedHeader { name: name.into(), value: value.map(Into::into) }).collect();
        let mut letter = originals.clone();
        for own in headers(&[("__streams.errors.topic", b"t"), ("__streams.errors.exception", b"e")]) {
            letter.insert(at.min(letter.len()), own);
        }
        let account = Account::read(Headers::Owned(&letter));
        prop_assert_eq!(&account.writer, &Writer::Foreign(Family::Streams));
        let left: Vec<OwnedHeader> =
            account.originals(Headers::Owned(&letter)).unwrap().into_iter().map(OwnedHeader::from).collect();
        prop_assert_eq!(left, originals);
    }
}
