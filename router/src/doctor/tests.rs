//! What is found of a cluster that is well, and of one where a single thing is not.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use pointsman_config::{Plan, compile};
use pointsman_core::port::survey::{
    BrokerSurvey, ClusterSurvey, FileSurvey, GroupSurvey, MemberSurvey, Right, TopicSurvey,
};
use pointsman_core::port::{LogError, TopicInfo, TopicSettings};
use pointsman_core::record::TopicPartition;

use super::progress::{Place, Progress};
use super::{Finding, Severity, cluster, file, progress, question, rights};

fn plan(broker: &str) -> Plan {
    let text = format!(
        r#"
        version = 1
        [router]
        name = "demo"
        delivery = "exactly-once"
        [broker]
        {broker}
        [[routes]]
        name = "orders"
        from = ["in"]
        [[routes.outputs]]
        topic = "out"
        partition = "same"
        "#
    );
    compile(&text, "test.toml", &BTreeMap::new()).unwrap().0
}

const RETRY: &str = "demo.orders.in.retry";
const DEAD: &str = "demo.orders.dead-letter";

fn topic(name: &str) -> TopicSurvey {
    let rights = [Right::Read, Right::Write, Right::Create, Right::Delete, Right::Describe, Right::DescribeConfigs];
    TopicSurvey {
        partitions: 3,
        replicas: 3,
        in_sync: 3,
        leaderless: 0,
        rights: Some(rights.into()),
        settings: Ok(TopicSettings {
            retention: (name == DEAD).then_some(Duration::from_hours(14 * 24)),
            retention_bytes: None,
            compacted: false,
            max_batch_bytes: Some(2 << 20),
        }),
        min_in_sync: Some(2),
    }
}

fn error(code: &str) -> LogError {
    LogError { what: "can't ask".into(), code: code.into(), message: "it says no".into() }
}

/// A cluster with nothing to complain of.
fn well() -> ClusterSurvey {
    let settings = [
        ("transaction.max.timeout.ms", "900000"),
        ("transaction.state.log.replication.factor", "3"),
        ("transaction.state.log.min.isr", "2"),
    ];
    let settings: BTreeMap<String, String> =
        settings.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    let broker = |id| BrokerSurvey {
        id,
        address: format!("kafka-{id}:9092"),
        settings: Ok(settings.clone()),
        is_silent: false,
        requests: Some([(21, 2), (22, 4), (24, 4), (25, 3), (26, 3), (28, 3)].into()),
    };
    let group = GroupSurvey {
        members: vec![MemberSurvey { client_id: "demo-member".into(), host: "/10.0.0.1".into() }],
        assignor: "cooperative-sticky".into(),
        rights: Some([Right::Read].into()),
    };
    ClusterSurvey {
        brokers: Ok(vec![broker(1), broker(2), broker(3)]),
        topics: ["in", "out", RETRY, DEAD].map(|name| (Arc::from(name), Ok(Some(topic(name))))).into(),
        groups: [(Arc::from("demo"), Ok(Some(group)))].into(),
    }
}

fn judge(survey: &ClusterSurvey) -> Vec<Finding> {
    let plan = plan("bootstrap = \"kafka:9092\"");
    let mut findings = cluster::judge(&plan, survey);
    findings.extend(rights::judge(&plan, survey, "kafka:9092", "User:pointsman"));
    findings
}

/// What is not as it should be.
fn ills(findings: Vec<Finding>) -> Vec<Finding> {
    for finding in &findings {
        assert_eq!(finding.remedy.is_none(), finding.severity == Severity::Ok, "{finding:?}");
    }
    findings.into_iter().filter(|finding| finding.severity != Severity::Ok).collect()
}

#[test]
fn the_plans_topics_and_groups_are_asked_for() {
    let question = question(&plan("bootstrap = \"kafka:9092\""));
    assert_eq!(question.topics.iter().map(|name| &**name).collect::<Vec<_>>(), [DEAD, RETRY, "in", "out"]);
    assert_eq!(question.groups.iter().map(|name| &**name).collect::<Vec<_>>(), ["demo"]);
}

#[test]
fn nothing_is_wrong_with_a_cluster_that_is_well() {
    let findings = judge(&well());
    assert_eq!(ills(findings.clone()), [], "nothing is wrong");
    let things: Vec<&str> = findings.iter().map(|finding| finding.thing.as_str()).collect();
    for thing in ["broker 2 (kafka-2:9092)", "topic in", "topic out", "group demo", "rights"] {
        assert!(things.contains(&thing), "{things:?}");
    }
}

type Change = fn(&mut ClusterSurvey);

fn the<'a>(survey: &'a mut ClusterSurvey, name: &str) -> &'a mut TopicSurvey {
    survey.topics.get_mut(name).unwrap().as_mut().unwrap().as_mut().unwrap()
}

fn settings<'a>(survey: &'a mut ClusterSurvey, name: &str) -> &'a mut TopicSettings {
    the(survey, name).settings.as_mut().unwrap()
}

fn broker(survey: &mut ClusterSurvey) -> &mut BrokerSurvey {
    &mut survey.brokers.as_mut().unwrap()[0]
}

fn setting(survey: &mut ClusterSurvey, name: &str, value: &str) {
    broker(survey).settings.as_mut().unwrap().insert(name.into(), value.into());
}

fn group(survey: &mut ClusterSurvey) -> &mut GroupSurvey {
    survey.groups.get_mut("demo").unwrap().as_mut().unwrap().as_mut().unwrap()
}

/// A change for the worse, how bad it is, of what, and words of the cause and of the remedy.
const CHANGES: &[(Change, Severity, &str, &str, &str)] = &[
    (|s| s.brokers = Err(error("_TRANSPORT")), Severity::Error, "cluster", "_TRANSPORT", "see that the brokers run"),
    (
        |s| {
            broker(s).settings = Err(error("_TIMED_OUT"));
            broker(s).is_silent = true;
        },
        Severity::Error,
        "broker 1 (kafka-1:9092)",
        "_TIMED_OUT",
        "advertised listener",
    ),
    (
        |s| broker(s).settings = Err(error("CLUSTER_AUTHORIZATION_FAILED")),
        Severity::Warning,
        "broker 1 (kafka-1:9092)",
        "CLUSTER_AUTHORIZATION_FAILED",
        "DescribeConfigs",
    ),
    (|s| broker(s).requests = None, Severity::Warning, "broker 1 (kafka-1:9092)", "not known", "2.5 or later"),
    (
        |s| {
            broker(s).requests.as_mut().unwrap().insert(28, 2);
        },
        Severity::Error,
        "broker 1 (kafka-1:9092)",
        "KIP-447",
        "since 2.5",
    ),
    (
        |s| {
            broker(s).requests.as_mut().unwrap().remove(&22);
        },
        Severity::Error,
        "broker 1 (kafka-1:9092)",
        "idempotent",
        "upgrade",
    ),
    (
        |s| {
            broker(s).requests.as_mut().unwrap().remove(&21);
        },
        Severity::Warning,
        "broker 1 (kafka-1:9092)",
        "DeleteRecords",
        "upgrade",
    ),
    (
        |s| setting(s, "transaction.max.timeout.ms", "29999"),
        Severity::Error,
        "broker 1 (kafka-1:9092)",
        "29999 ms (transaction.max.timeout.ms), and `router.transaction.timeout` is 30000 ms",
        "lower `timeout`",
    ),
    (
        |s| setting(s, "transaction.state.log.min.isr", "1"),
        Severity::Warning,
        "broker 1 (kafka-1:9092)",
        "transaction.state.log.min.isr is 1",
        "set it to 2",
    ),
    (
        |s| setting(s, "transaction.state.log.replication.factor", "1"),
        Severity::Warning,
        "broker 1 (kafka-1:9092)",
        "replication.factor is 1",
        "set it to 3",
    ),
    (|s| drop(s.topics.insert("in".into(), Ok(None))), Severity::Error, "topic in", "it is not there", "create it"),
    (
        |s| drop(s.topics.insert("out".into(), Err(error("TOPIC_AUTHORIZATION_FAILED")))),
        Severity::Error,
        "topic out",
        "TOPIC_AUTHORIZATION_FAILED",
        "check --acls",
    ),
    (|s| the(s, "in").leaderless = 2, Severity::Error, "topic in", "2 partitions can't be read", "bring the brokers"),
    (|s| the(s, "in").in_sync = 2, Severity::Warning, "topic in", "on 2 of 3 brokers", "following"),
    (
        |s| {
            the(s, "in").replicas = 1;
            the(s, "in").in_sync = 1;
        },
        Severity::Warning,
        "topic in",
        "one replica",
        "kafka-reassign-partitions.sh",
    ),
    (
        |s| the(s, "out").min_in_sync = Some(1),
        Severity::Warning,
        "topic out",
        "one broker alone",
        "--add-config min.insync.replicas=2",
    ),
    (
        |s| the(s, "out").min_in_sync = Some(3),
        Severity::Warning,
        "topic out",
        "with one broker down nothing can be written",
        "--add-config min.insync.replicas=2",
    ),
    (
        |s| the(s, "out").min_in_sync = Some(4),
        Severity::Error,
        "topic out",
        "nothing can be written",
        "--add-config min.insync.replicas=3",
    ),
    (
        |s| the(s, RETRY).partitions = 2,
        Severity::Error,
        "topic demo.orders.in.retry",
        "2 partitions, and its source in has 3",
        "--topic demo.orders.in.retry --partitions 3",
    ),
    (
        |s| the(s, "out").partitions = 2,
        Severity::Error,
        "topic out",
        "has 2 partitions, and in has 3, which route \"orders\" wants to keep",
        "--partitions 3",
    ),
    (
        |s| settings(s, RETRY).compacted = true,
        Severity::Error,
        "topic demo.orders.in.retry",
        "is compacted",
        "cleanup.policy=delete",
    ),
    (
        |s| settings(s, RETRY).retention = Some(Duration::from_hours(1)),
        Severity::Error,
        "topic demo.orders.in.retry",
        "does not keep its records for ever",
        "retention.ms=-1",
    ),
    (
        |s| settings(s, DEAD).retention = Some(Duration::from_hours(1)),
        Severity::Warning,
        "topic demo.orders.dead-letter",
        "keeps dead letters 1h, and the plan has 14days",
        "retention.ms=1209600000",
    ),
    (
        |s| settings(s, "out").max_batch_bytes = Some(1000),
        Severity::Warning,
        "topic out",
        "takes 1000 bytes (max.message.bytes), and `router.max_record_size` is 1048576",
        "max.message.bytes=1052672",
    ),
    (
        |s| the(s, "out").settings = Err(error("TOPIC_AUTHORIZATION_FAILED")),
        Severity::Warning,
        "topic out",
        "TOPIC_AUTHORIZATION_FAILED",
        "DescribeConfigs",
    ),
    (
        |s| drop(s.groups.insert("demo".into(), Err(error("GROUP_AUTHORIZATION_FAILED")))),
        Severity::Error,
        "group demo",
        "GROUP_AUTHORIZATION_FAILED",
        "check --acls",
    ),
    (|s| group(s).assignor = "range".into(), Severity::Error, "group demo", "by \"range\"", "a `group` of its own"),
    (
        |s| group(s).members.push(MemberSurvey { client_id: "other".into(), host: "/10.0.0.9".into() }),
        Severity::Warning,
        "group demo",
        "1 of its 2 members are none of this router's, such as \"other\" at /10.0.0.9",
        "a `group` of its own",
    ),
    (
        |s| {
            the(s, "in").rights.as_mut().unwrap().remove(&Right::Read);
        },
        Severity::Error,
        "topic in",
        "User:pointsman may not Read: source",
        "--add --allow-principal 'User:pointsman' --topic 'in' --operation Read",
    ),
    (
        |s| {
            the(s, RETRY).rights.as_mut().unwrap().remove(&Right::Delete);
        },
        Severity::Warning,
        "topic demo.orders.in.retry",
        "may not Delete",
        "--topic 'demo.orders.in.retry' --operation Delete",
    ),
    (
        |s| group(s).rights = Some(BTreeSet::new()),
        Severity::Error,
        "group demo",
        "may not Read",
        "--group 'demo' --operation Read",
    ),
    (|s| the(s, "in").rights = None, Severity::Warning, "rights", "does not tell", "since 2.3"),
];

#[test]
fn each_thing_that_is_wrong_is_found_and_nothing_else() {
    for (number, (change, severity, thing, cause, remedy)) in CHANGES.iter().enumerate() {
        let mut survey = well();
        change(&mut survey);
        let found = ills(judge(&survey));
        assert_eq!(found.len(), 1, "{number}: {found:#?}");
        let Finding { severity: how_bad, thing: what, cause: why, remedy: then } = &found[0];
        assert_eq!((how_bad, what.as_str()), (severity, *thing), "{number}");
        assert!(why.contains(cause), "{number}: {why}");
        assert!(then.as_ref().is_some_and(|then| then.contains(remedy)), "{number}: {then:?}");
    }
}

#[test]
fn what_the_router_makes_itself_need_not_be_there_yet() {
    let mut survey = well();
    survey.topics.insert(RETRY.into(), Ok(None));
    survey.topics.insert(DEAD.into(), Ok(None));
    survey.groups.insert("demo".into(), Ok(None));
    assert_eq!(ills(judge(&survey)), []);
}

#[test]
fn a_single_broker_is_told_once() {
    let mut survey = well();
    survey.brokers.as_mut().unwrap().truncate(1);
    for name in ["in", "out", RETRY, DEAD] {
        let one = TopicSurvey { replicas: 1, in_sync: 1, min_in_sync: Some(1), ..topic(name) };
        survey.topics.insert(name.into(), Ok(Some(one)));
    }
    let found = ills(judge(&survey));
    assert_eq!(found.iter().map(|finding| finding.thing.as_str()).collect::<Vec<_>>(), ["cluster"], "{found:#?}");
}

#[test]
fn places_outside_their_partitions_are_found_and_others_are_counted() {
    let plan = plan("bootstrap = \"kafka:9092\"");
    let judged = |places: &[(Option<i64>, i64, i64)]| {
        let place = |(number, &(committed, first, end)): (i32, &(Option<i64>, i64, i64))| Place {
            partition: TopicPartition::new("in", number),
            committed,
            first,
            end,
        };
        let places = Ok((0..).zip(places).map(place).collect());
        progress::judge(&plan, &[Progress { route: 0, places }])
            .into_iter()
            .map(|finding| (finding.severity, finding.cause))
            .collect::<Vec<_>>()
    };
    let (lost, cut) = (judged(&[(Some(3), 5, 9), (Some(5), 5, 9)]), judged(&[(Some(10), 0, 9)]));
    assert!(
        lost[0].0 == Severity::Error && lost[0].1.contains("in/0, which begins at 5: 2 records are gone"),
        "{lost:?}"
    );
    assert!(cut[0].0 == Severity::Error && cut[0].1.contains("in/0, which ends at 9"), "{cut:?}");
    assert_eq!((lost.len(), cut.len()), (1, 1));
    for (places, text) in [
        (&[(Some(5), 5, 9), (Some(9), 9, 9)][..], "4 records to be read"),
        (&[(None, 0, 9)], "nothing was committed yet: it begins with the first record"),
        (
            &[(None, 0, 9), (Some(8), 0, 9)],
            "1 record to be read, and 1 partition without a commit, to begin with the first record",
        ),
        (&[], "it has no source to read yet"),
    ] {
        assert_eq!(judged(places), [(Severity::Ok, text.to_owned())]);
    }
}

#[test]
fn a_file_is_judged_by_its_soundness_and_the_room_it_has() {
    let plan = plan("embedded = \"data\"");
    let survey = |damage: &[&str]| FileSurvey {
        file: PathBuf::from("data/pointsman.db"),
        bytes: 1 << 30,
        damage: damage.iter().map(|line| (*line).to_owned()).collect(),
        topics: vec![TopicInfo { name: "in".into(), partitions: 4 }],
        holders: vec![("demo".into(), "process 7 on here".into())],
    };
    let judged = |survey, free| file::judge(&plan, Path::new("data"), 2 << 30, Ok(survey), Some(free));
    let found = judged(Some(survey(&[])), 2 << 30);
    assert_eq!(ills(found.clone()), []);
    let held = found.iter().find(|finding| finding.thing == "group demo").map(|finding| finding.cause.as_str());
    assert_eq!(held, Some("process 7 on here holds it"));
    assert_eq!(ills(judged(None, 2 << 30)), [], "it is made by the router");
    for (damage, free, severity, cause) in [
        (&["row 3 missing"][..], 2 << 30, Severity::Error, "row 3 missing"),
        (&[], 1 << 29, Severity::Warning, "512 MiB left"),
        (&[], 1 << 20, Severity::Error, "1 MiB left"),
    ] {
        let found = ills(judged(Some(survey(damage)), free));
        assert_eq!(found.len(), 1, "{found:#?}");
        assert!(found[0].severity == severity && found[0].cause.contains(cause), "{found:#?}");
    }
}
