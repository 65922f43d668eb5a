#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::HashMap;
use std::sync::{Mutex, OnceLock};

use pointsman_core::port::{LaneHost as _, Revocation};

use super::*;
use crate::counters::Counters;

const CONFIG: &str = r#"
version = 1
[router]
name = "r"
[broker]
embedded = "."
[[routes]]
name = "route"
from = ["source"]
[[routes.outputs]]
topic = "output"
"#;

/// Of a router with one route.
fn plan() -> Arc<Plan> {
    plan_with("")
}

/// The same, with more in its configuration.
pub(crate) fn plan_with(more: &str) -> Arc<Plan> {
    Arc::new(pointsman_config::compile(&format!("{CONFIG}{more}"), "test", &|_: &str| None).unwrap().0)
}

/// Partition 0 has a lane, of a worker that has ended; partition 1 can't be read.
fn lanes() -> Lanes {
    let workers = Arc::new(Workers::new(Vec::new()));
    let group = Dispatcher {
        workers: Arc::clone(&workers),
        routes: HashMap::from([("source".into(), 0)]),
        committer: Arc::new(OnceLock::new()),
        placed: Mutex::new(HashMap::from([(TopicPartition::new("source", 0), 0)])),
        unread: Mutex::default(),
        counters: Arc::new(Counters::new(&plan())),
        group: 0,
        failed: Box::new(|_| {}),
    };
    group.halted(TopicPartition::new("source", 1), "it has no retry partition; add one".into());
    Lanes { plan: plan(), workers, groups: vec![Arc::new(group)] }
}

fn states(lanes: &Lanes) -> Vec<(String, State, Option<String>)> {
    let reports = lanes.list().into_iter();
    reports.map(|report| (report.lane.to_string(), report.state, report.reason)).collect()
}

#[test]
fn a_lane_of_which_nothing_is_heard_is_listed_all_the_same() {
    let lanes = lanes();
    let unread = Some("it has no retry partition; add one".to_owned());
    let silent = ("route source/0".to_owned(), State::Silent, None);
    assert_eq!(states(&lanes), [silent.clone(), ("route source/1".to_owned(), State::Halted, unread)]);
    // It is another router's now.
    lanes.groups[0].revoked(&[TopicPartition::new("source", 1)], Revocation::Revoked, Duration::ZERO);
    assert_eq!(states(&lanes), [silent]);
}

#[test]
fn a_partition_that_is_not_read_takes_no_orders_and_no_other_lane_does() {
    let lanes = lanes();
    let name = |route: &str, topic: &str, partition| LaneName { route: route.into(), topic: topic.into(), partition };
    let reason = "it has no retry partition; add one".to_owned();
    for (lane, refusal) in [
        (name("route", "source", 1), Refusal::Unread { reason }),
        (name("route", "source", 2), Refusal::NoLane),
        (name("route", "output", 0), Refusal::NoLane),
        (name("other", "source", 0), Refusal::NoLane),
    ] {
        assert_eq!(lanes.tell(&lane, Verb::Pause), Err(refusal), "{lane}");
    }
}
