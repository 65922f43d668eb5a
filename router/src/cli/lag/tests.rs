//! What is shown of an embedded log.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use insta::assert_snapshot;

use super::*;
use crate::dead_letter::tests::{MINUTE, T0, never};
use crate::lag::tests::{plan, sample};

/// What is told after so many looks, five seconds apart.
fn report(looks: i64) -> Report {
    let (_folder, log) = sample();
    let plan = plan();
    let mut watcher = Watcher::new(&log, &plan, Choice::default());
    let mut last = None;
    for look in 0..looks {
        last = Some(watcher.look(T0 + 30 * MINUTE + look * 5000, &never).unwrap());
    }
    last.unwrap()
}

#[test]
fn sums_come_first_and_then_what_wants_a_look() {
    assert_snapshot!("once", show::text(&report(1), false, None));
    assert_snapshot!("all_partitions", show::text(&report(1), true, None));
    assert_snapshot!("sampled", show::text(&report(3), false, None));
    assert_snapshot!("narrow", show::text(&report(3), false, Some(80)));
    assert_snapshot!("json", serde_json::to_string_pretty(&report(3)).unwrap());
}

#[test]
fn a_limit_holds_for_every_source_and_what_is_not_known_is_above_it() {
    for (limit, exit) in [("5", Exit::No), ("6", Exit::Fine), ("25m", Exit::No), ("26m", Exit::Fine), ("0", Exit::No)] {
        assert_eq!(judge(&report(1), limit.parse().unwrap()), exit, "{limit}");
    }
    let mut unknown = report(1);
    unknown.topics.iter_mut().for_each(|topic| {
        topic.unknown = 1;
        topic.lag_seconds = None;
    });
    let missing = Report { missing: vec!["gone.v1".to_owned()], ..report(1) };
    assert_eq!(judge(&missing, Limit::Records(1000)), Exit::No, "a topic that is not there has no lag of 0");
    assert_eq!(judge(&unknown, Limit::Records(1000)), Exit::No);
    assert_eq!(judge(&unknown, Limit::Age(Duration::from_secs(100_000))), Exit::No);
    assert!("5 apples".parse::<Limit>().unwrap_err().contains("write a number"), "a remedy");
}

#[test]
fn times_are_shown_in_two_units() {
    for (seconds, shown) in
        [(0.4, "0s"), (59.9, "59s"), (61.0, "1m 1s"), (3600.0, "1h 0m"), (90_000.0, "1d 1h"), (1e12, "11574074d 1h")]
    {
        assert_eq!(show::brief(seconds), shown);
    }
}
