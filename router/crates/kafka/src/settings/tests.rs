#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;

use super::*;
use crate::native::{Client, Kind};

fn plan() -> GroupPlan {
    GroupPlan {
        group: Arc::from("g"),
        instance_id: Some("i-1".to_owned()),
        sources: Vec::new(),
        fetch_ahead_bytes: 3 << 20,
        fetch_ahead_of_all_bytes: usize::MAX,
        revoke_deadline: Duration::from_secs(400),
    }
}

fn writer_plan(time: Duration) -> WriterPlan {
    bounded(WriterPlan { timeout: time, deadline: time, ..WriterPlan::new("w", Vec::new()) })
}

fn settings() -> KafkaSettings {
    KafkaSettings::new("127.0.0.1:1")
}

fn every(settings: &KafkaSettings) -> Vec<(Kind, Properties)> {
    vec![
        (Kind::Reader, settings.reader()),
        (Kind::Reader, settings.onlooker("g")),
        (Kind::Member, settings.member(&plan(), Ahead::of_each(&plan(), 4))),
        (Kind::Producer, settings.producer()),
        (Kind::Writer, settings.writer(&writer_plan(Duration::from_secs(30)), None)),
        (Kind::Writer, settings.writer(&writer_plan(Duration::ZERO), Some(0))),
        (Kind::Writer, settings.writer(&writer_plan(Duration::MAX), Some(1 << 20))),
    ]
}

#[test]
fn librdkafka_takes_every_property() {
    for (kind, properties) in every(&settings()) {
        Client::new(kind, &properties).unwrap();
    }
}

#[test]
fn an_answer_is_no_larger_than_may_be_received() {
    let with =
        |name: &str, value: &str| KafkaSettings { properties: [(name.into(), value.into())].into(), ..settings() };
    let answer = |settings: &KafkaSettings, ahead| {
        let member = settings.member(&plan(), Ahead { bytes: ahead, batch_records: usize::MAX });
        member.get("fetch.max.bytes").unwrap().parse::<usize>().unwrap()
    };
    assert_eq!(answer(&settings(), 64 << 10), 4 << 20);
    assert_eq!(answer(&settings(), 16 << 20), 16 << 20);
    assert_eq!(answer(&settings(), usize::MAX), 50 << 20);
    assert_eq!(answer(&with("queued.max.messages.kbytes", "8192"), 1 << 20), 8 << 20);
    let little = with("receive.message.max.bytes", "1000512");
    assert_eq!(answer(&little, 1 << 20), 1_000_000);
    for (kind, properties) in every(&little) {
        Client::new(kind, &properties).unwrap();
    }
    let less = with("receive.message.max.bytes", "1000511");
    let refusal = Client::new(Kind::Reader, &less.reader()).err().unwrap().to_string();
    assert!(refusal.contains("`receive.message.max.bytes` must be"), "{refusal}");
}

#[test]
fn extreme_bounds_are_taken() {
    for bytes in [0, 1, usize::MAX / 4] {
        let settings = KafkaSettings {
            max_record_bytes: bytes,
            producer_queue_bytes: bytes.min(1 << 40),
            read_ahead_bytes: bytes,
            ..settings()
        };
        for (kind, properties) in every(&settings) {
            Client::new(kind, &properties).unwrap();
        }
    }
}

#[test]
fn an_owned_property_is_refused_with_its_reason() {
    for (name, why) in OWNED {
        for given in [(*name).to_owned(), format!("topic.{name}")] {
            let mut settings = settings();
            settings.properties.insert(given.clone(), "x".to_owned());
            let error = settings.check().unwrap_err().to_string();
            assert!(error.contains(&given) && error.contains(why), "{error}");
        }
    }
}

#[test]
fn what_we_set_last_is_owned() {
    let sets = [CONSUMER_OWNED, PRODUCER_OWNED].concat();
    for (name, _) in sets {
        assert!(OWNED.iter().any(|(owned, _)| *owned == name), "{name} is set over the user's without a refusal");
    }
}

#[test]
fn a_users_property_goes_over_ours() {
    let mut settings = settings();
    settings.properties.insert("linger.ms".to_owned(), "77".to_owned());
    settings.properties.insert("fetch.wait.max.ms".to_owned(), "10".to_owned());
    settings.check().unwrap();
    assert_eq!(settings.producer().get("linger.ms"), Some("77"));
    assert_eq!(settings.reader().get("fetch.wait.max.ms"), Some("10"));
}

#[test]
fn a_refused_property_is_named() {
    let mut settings = settings();
    settings.properties.insert("no.such.property".to_owned(), "1".to_owned());
    let error = Client::new(Kind::Reader, &settings.reader()).err().unwrap();
    assert!(error.contains("no.such.property"), "{error}");
}

#[test]
fn a_member_has_time_for_its_revocations() {
    let properties = settings().member(&plan(), Ahead::of_each(&plan(), 1));
    assert_eq!(properties.get("max.poll.interval.ms"), Some("800000"));
    assert_eq!(properties.get("group.instance.id"), Some("i-1"));
}

#[test]
fn what_is_fetched_ahead_of_many_partitions_is_bounded() {
    let plan = GroupPlan { fetch_ahead_of_all_bytes: 64 << 20, ..plan() };
    let of_each = |partitions| Ahead::of_each(&plan, partitions);
    for few in [0, 1, 21] {
        assert_eq!(of_each(few), Ahead { bytes: 3 << 20, batch_records: usize::MAX }, "{few}");
    }
    assert_eq!(of_each(22), Ahead { bytes: (64 << 20) / 22, batch_records: (64 << 10) / 22 });
    let ahead = Ahead { bytes: 128 << 10, batch_records: 128 };
    assert_eq!(of_each(512), ahead);
    let properties = settings().member(&plan, ahead);
    assert_eq!(properties.get("queued.max.messages.kbytes"), Some("128"));
    assert_eq!(properties.get("queued.min.messages"), Some("1310"));
    for many in [1024, 1025, u32::MAX] {
        assert_eq!(of_each(many), Ahead { bytes: 64 << 10, batch_records: 64 }, "{many}");
    }
    let small = GroupPlan { fetch_ahead_bytes: 4096, ..plan };
    assert_eq!(Ahead::of_each(&small, 1025), Ahead { bytes: 4096, batch_records: usize::MAX }, "a batch is enough");
}

#[test]
fn secrets_do_not_print() {
    let mut settings = settings();
    settings.properties.insert("sasl.password".to_owned(), "hunter2".to_owned());
    assert!(!format!("{settings:?}").contains("hunter2"));
}

#[test]
fn a_time_to_linger_that_the_user_has_set_is_kept_to() {
    let mut settings = KafkaSettings::new("k:9092");
    assert!(settings.hurries());
    settings.properties.insert("topic.queue.buffering.max.ms".to_owned(), "500".to_owned());
    assert!(!settings.hurries());
}

/// librdkafka takes no longer time than the transaction has, and a user may have set one for the other clients.
#[test]
fn a_writer_waits_no_longer_than_its_transaction_lasts() {
    let mut settings = settings();
    settings.properties.insert("socket.timeout.ms".to_owned(), "120000".to_owned());
    settings.properties.insert("batch.size".to_owned(), "5000".to_owned());
    let properties = settings.writer(&writer_plan(Duration::from_secs(5)), Some(1 << 20));
    Client::new(Kind::Writer, &properties).unwrap();
    for name in ["transaction.timeout.ms", "message.timeout.ms", "socket.timeout.ms", "batch.size"] {
        assert_eq!(properties.get(name), Some("5000"), "{name}");
    }
    assert_eq!(settings.writer(&writer_plan(Duration::ZERO), Some(4000)).get("batch.size"), Some("4000"));
}
