//! Groups: one member each, from where it left off, and never past what it may.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use pointsman_core::port::{Log, Revocation, StartAt};
use pointsman_core::record::TopicPartition;
use pointsman_embedded::{EmbeddedLog, Options};

use crate::harness::*;

const EARLIEST: StartAt = StartAt::Earliest;

fn starts(host: &SimulatedHost) -> Vec<(String, i64, String)> {
    host.with(|told| {
        let feeds = told.assigned.iter().flat_map(|assignment| [Some(&assignment.source), assignment.retry.as_ref()]);
        feeds.flatten().map(|feed| (feed.partition.to_string(), feed.start, feed.metadata.clone())).collect()
    })
}

#[test]
fn a_member_gets_all_partitions_at_once_and_goes_on_where_it_left() {
    let place = Place::new();
    let log = log_with(&place, &[("orders", 2), ("orders.retry", 2), ("other", 1)]);
    let orders = TopicPartition::new("orders", 1);
    write(&log, &orders, &[record("a"), record("b"), record("c")]);
    let plan = plan("g", &[("orders", Some("orders.retry"), EARLIEST), ("other", None, EARLIEST)]);

    let host = SimulatedHost::new();
    let member = log.join(plan.clone(), host.clone()).unwrap();
    host.wait_for_assigned(3);
    assert_eq!(host.with(|told| told.calls.clone()), [3]);
    let expected = ["orders/0", "orders.retry/0", "orders/1", "orders.retry/1", "other/0"];
    assert_eq!(starts(&host), expected.map(|name| (name.into(), 0, String::new())));
    host.with(|told| assert_eq!(values(&drain(&mut *told.assigned[1].source.feed)), ["a", "b", "c"]));

    let committer = member.committer();
    committer.commit(&[commit(&orders, 1, "one"), commit(&TopicPartition::new("other", 0), 0, "")]);
    host.with(|told| told.last_commits = vec![commit(&orders, 2, "two")]);
    assert!(member.leave(PATIENCE));
    assert_eq!(host.with(|told| told.revoked.clone()).len(), 1);
    // Nobody listens any more.
    committer.commit(&[commit(&orders, 3, "late")]);

    let committed = log.committed("g", &[orders.clone(), TopicPartition::new("t", 0)]).unwrap();
    assert_eq!(committed, [Some(commit(&orders, 2, "two")), None]);
    assert_eq!(log.committed("other-group", &[orders]).unwrap(), [None]);
    let again = SimulatedHost::new();
    let member = log.join(plan, again.clone()).unwrap();
    again.wait_for_assigned(3);
    assert_eq!(starts(&again)[2], ("orders/1".into(), 2, "two".into()));
    again.with(|told| assert_eq!(values(&drain(&mut *told.assigned[1].source.feed)), ["c"]));
    assert!(member.leave(PATIENCE));
}

#[test]
fn a_tool_sets_the_commits_of_a_group_at_rest_and_of_no_other() {
    let place = Place::new();
    let log = log_with(&place, &[("t", 1)]);
    let t = TopicPartition::new("t", 0);
    write(&log, &t, &[record("a"), record("b")]);
    let host = SimulatedHost::new();
    let member = log.join(plan("g", &[("t", None, EARLIEST)]), host.clone()).unwrap();
    host.wait_for_assigned(1);
    let error = log.set_committed("g", &[commit(&t, 1, "")]).unwrap_err();
    assert_eq!(error.code, "lease-held", "{error}");
    // Its lease is as good as before.
    member.committer().commit(&[commit(&t, 2, "two")]);
    assert!(member.leave(PATIENCE));
    assert_eq!(log.committed("g", std::slice::from_ref(&t)).unwrap(), [Some(commit(&t, 2, "two"))]);

    let nowhere = TopicPartition::new("t", 7);
    let error = log.set_committed("g", &[commit(&t, 1, ""), commit(&nowhere, 0, "")]).unwrap_err();
    assert_eq!(error.code, "unknown-partition", "{error}");
    assert_eq!(log.committed("g", std::slice::from_ref(&t)).unwrap(), [Some(commit(&t, 2, "two"))], "all or nothing");
    log.set_committed("g", &[commit(&t, 1, "")]).unwrap();
    log.set_committed("new", &[commit(&t, 0, "")]).unwrap();
    for (group, offset) in [("g", 1), ("new", 0)] {
        assert_eq!(log.committed(group, std::slice::from_ref(&t)).unwrap(), [Some(commit(&t, offset, ""))]);
    }
}

#[test]
fn commits_are_written_without_leaving() {
    let place = Place::new();
    let log = log_with(&place, &[("t", 1)]);
    let host = SimulatedHost::new();
    let member = log.join(plan("g", &[("t", None, EARLIEST)]), host).unwrap();
    let partition = TopicPartition::new("t", 0);
    member.committer().commit(&[commit(&partition, 1, "first"), commit(&partition, 7, "last")]);
    // A commit is not answered, so the log is asked until it is there.
    let deadline = std::time::Instant::now() + PATIENCE;
    while log.committed("g", std::slice::from_ref(&partition)).unwrap()[0] != Some(commit(&partition, 7, "last")) {
        assert!(std::time::Instant::now() < deadline, "the commit was never written");
        std::thread::yield_now();
    }
    assert!(member.leave(PATIENCE));
}

#[test]
fn the_start_of_a_fresh_group_is_fixed_when_it_first_joins() {
    for (start, expected) in
        [(StartAt::Earliest, 0), (StartAt::Latest, 3), (StartAt::Time(NOW + 1), 1), (StartAt::Time(NOW + 9), 3)]
    {
        let place = Place::new();
        let log = log_with(&place, &[("t", 1)]);
        let partition = TopicPartition::new("t", 0);
        let at = |millis| pointsman_core::record::OwnedRecord { timestamp_ms: NOW + millis, ..record("v") };
        write(&log, &partition, &[at(0), at(1), at(2)]);
        for _ in 0..2 {
            let host = SimulatedHost::new();
            let member = log.join(plan("g", &[("t", None, start)]), host.clone()).unwrap();
            host.wait_for_assigned(1);
            assert_eq!(starts(&host)[0].1, expected, "{start:?}");
            // Dropped as by a crash: no commit. What is written meanwhile is not skipped.
            drop(member);
            write(&log, &partition, &[at(3)]);
        }
    }
}

#[test]
fn a_second_member_is_refused_until_the_first_has_left() {
    let place = Place::new();
    let (log, other) = (log_with(&place, &[("t", 1)]), place.open());
    let plan = plan("g", &[("t", None, EARLIEST)]);
    let member = log.join(plan.clone(), SimulatedHost::new()).unwrap();
    for log in [&log, &other] {
        let error = log.join(plan.clone(), SimulatedHost::new()).err().unwrap();
        assert_eq!(error.code, "lease-held");
        let text = error.to_string();
        assert!(text.contains(&format!("process {} on ", std::process::id())), "{text}");
        assert!(text.contains("ends in 1"), "says when the lease ends: {text}");
    }
    // Another group is another matter.
    drop(other.join(crate::harness::plan("h", &[("t", None, EARLIEST)]), SimulatedHost::new()).unwrap());
    assert!(member.leave(PATIENCE));
    assert!(other.join(plan, SimulatedHost::new()).unwrap().leave(PATIENCE));
}

#[test]
fn a_lease_of_a_process_that_nothing_is_known_of_runs_out() {
    let place = Place::new();
    let log = log_with(&place, &[("t", 1)]);
    for holder in [&in_another_container(), "torn"] {
        hold(&place, holder, place.clock.load(Ordering::SeqCst) + 1);
        let plan = plan("g", &[("t", None, EARLIEST)]);
        assert_eq!(log.join(plan.clone(), SimulatedHost::new()).err().unwrap().code, "lease-held");
        place.clock.fetch_add(1, Ordering::SeqCst);
        assert!(log.join(plan, SimulatedHost::new()).unwrap().leave(PATIENCE));
    }
}

/// Writes that `holder` holds group `g`.
fn hold(place: &Place, holder: &str, expires_ms: i64) {
    place
        .sql()
        .execute(
            "INSERT INTO consumer_groups (name, epoch, owner, expires_ms) VALUES ('g', 5, ?1, ?2)
             ON CONFLICT (name) DO UPDATE SET owner = excluded.owner, expires_ms = excluded.expires_ms",
            rusqlite::params![holder, expires_ms],
        )
        .unwrap();
}

/// A process of this boot that nothing can be known of.
fn in_another_container() -> String {
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    format!("1 far-away {}/pid:[1]/0 123", boot.trim())
}

#[test]
fn a_lease_from_a_clock_ahead_of_ours_lasts_no_longer_than_any_other() {
    const YEARS: i64 = 300_000_000_000;
    let place = Place::new();
    let log = log_with(&place, &[("t", 1)]);
    let plan = plan("g", &[("t", None, EARLIEST)]);
    for expires_ms in [NOW + YEARS, i64::MAX] {
        hold(&place, &in_another_container(), expires_ms);
        let now = place.clock.load(Ordering::SeqCst);
        // Whoever tries again meanwhile does not push the end away.
        for (waited, left) in [(0, "ends in 11 s"), (9000, "ends in 2 s")] {
            place.clock.store(now + waited, Ordering::SeqCst);
            let error = log.join(plan.clone(), SimulatedHost::new()).err().unwrap();
            assert!(error.message.contains(left), "{error}");
        }
        place.clock.store(now + 10_000, Ordering::SeqCst);
        assert!(log.join(plan.clone(), SimulatedHost::new()).unwrap().leave(PATIENCE));
    }
    // Nobody outlives a boot. Elsewhere than on Linux there is nothing to tell boots by.
    if cfg!(target_os = "linux") {
        hold(&place, "1 here another-boot/pid:[1]/0 123", NOW + YEARS);
        assert!(log.join(plan, SimulatedHost::new()).unwrap().leave(PATIENCE));
    }
}

#[test]
fn a_group_that_is_new_to_a_partition_runs_nothing_that_was_parked_beside_it() {
    let place = Place::new();
    let log = log_with(&place, &[("t", 2), ("t.retry", 2)]);
    let sources = [("t", Some("t.retry"), EARLIEST)];
    let parked = TopicPartition::new("t.retry", 0);
    let retry_start = |group: &str| {
        let host = SimulatedHost::new();
        let member = log.join(plan(group, &sources), host.clone()).unwrap();
        host.wait_for_assigned(2);
        let start = host.with(|told| told.assigned[0].retry.as_ref().unwrap().start);
        assert!(member.leave(PATIENCE));
        start
    };
    assert_eq!(retry_start("old"), 0);
    write(&log, &parked, &[record("0"), record("1")]);
    assert_eq!(retry_start("new"), 2);
    // Whoever has been there goes on where it was,
    assert_eq!((retry_start("old"), retry_start("new")), (0, 2));
    // and where it is not known how far it came, nothing is left out.
    let sql = "DELETE FROM offsets WHERE partition IN
               (SELECT p.id FROM partitions p JOIN topics t ON t.id = p.topic WHERE t.name = 't.retry')";
    assert!(place.sql().execute(sql, []).unwrap() > 0);
    assert_eq!(retry_start("new"), 0);
}

#[test]
fn a_drain_that_takes_all_its_time_still_commits() {
    let place = Place::new();
    let log = EmbeddedLog::open(place.path(), Options { busy_timeout: PATIENCE, ..place.options() }).unwrap();
    create(&log, &[("t", 1)]);
    let partition = TopicPartition::new("t", 0);
    let host = SimulatedHost::new();
    let member = log.join(plan("g", &[("t", None, EARLIEST)]), host.clone()).unwrap();
    host.wait_for_assigned(1);
    host.with(|told| told.last_commits = vec![commit(&partition, 7, "last")]);
    // The time is over before the host is asked.
    assert!(member.leave(Duration::ZERO));
    assert_eq!(log.committed("g", std::slice::from_ref(&partition)).unwrap(), [Some(commit(&partition, 7, "last"))]);
}

#[test]
fn a_member_whose_lease_is_gone_commits_nothing_and_says_so() {
    let place = Place::new();
    let log = log_with(&place, &[("t", 1)]);
    let partition = TopicPartition::new("t", 0);
    let host = SimulatedHost::new();
    let member = log.join(plan("g", &[("t", None, EARLIEST)]), host.clone()).unwrap();
    host.wait_for_assigned(1);
    place.sql().execute("UPDATE consumer_groups SET epoch = epoch + 1", []).unwrap();
    host.with(|told| told.last_commits = vec![commit(&partition, 9, "")]);
    member.committer().commit(&[commit(&partition, 5, "stale")]);
    host.wait_until("failed", |told| !told.failed.is_empty());
    host.with(|told| {
        assert_eq!(told.revoked, [(vec![partition.clone()], Revocation::Lost)]);
        assert_eq!(told.failed[0].code, "lease-lost");
    });
    assert!(!member.leave(PATIENCE), "it could not leave in good order");
    assert_eq!(log.committed("g", std::slice::from_ref(&partition)).unwrap(), [Some(commit(&partition, 0, ""))]);
}

#[test]
fn partitions_that_come_later_are_taken_on() {
    let place = Place::new();
    let (log, other) = (log_with(&place, &[("t", 1), ("t.retry", 1)]), place.open());
    let host = SimulatedHost::new();
    let member = log.join(plan("g", &[("t", Some("t.retry"), StartAt::Latest)]), host.clone()).unwrap();
    host.wait_for_assigned(1);
    // A source partition without its retry partition is halted, with the remedy,
    other.grow_topic("t", 2).unwrap();
    host.wait_until("halted", |told| !told.halted.is_empty());
    host.with(|told| {
        let (partition, reason) = &told.halted[0];
        assert_eq!(*partition, TopicPartition::new("t", 1));
        assert!(reason.contains("t.retry") && reason.contains("has 1 partitions"), "{reason}");
    });
    // which helps, and nothing that came meanwhile is skipped.
    write(&other, &TopicPartition::new("t", 1), &[record("v")]);
    other.grow_topic("t.retry", 2).unwrap();
    host.wait_for_assigned(2);
    assert_eq!(starts(&host)[2..], [("t/1".into(), 0, String::new()), ("t.retry/1".into(), 0, String::new())]);
    assert_eq!(host.with(|told| told.halted.len()), 1);
    assert!(member.leave(PATIENCE));
    assert_eq!(host.with(|told| told.revoked[0].0.len()), 2);
}

#[test]
fn an_offset_that_is_not_there_halts_its_partition_only() {
    let place = Place::new();
    let log = log_with(&place, &[("t", 3)]);
    let plan = plan("g", &[("t", None, EARLIEST)]);
    let member = log.join(plan.clone(), SimulatedHost::new()).unwrap();
    member.committer().commit(&[commit(&TopicPartition::new("t", 1), 5, "")]);
    assert!(member.leave(PATIENCE));
    place.sql().execute("UPDATE partitions SET first_offset = 7, next_offset = 7 WHERE number = 2", []).unwrap();

    let host = SimulatedHost::new();
    let member = log.join(plan, host.clone()).unwrap();
    host.wait_for_assigned(1);
    host.wait_until("halted", |told| told.halted.len() == 2);
    host.with(|told| {
        assert_eq!(told.assigned[0].source.partition, TopicPartition::new("t", 0));
        assert!(told.halted[0].1.contains("ends at 0"), "{}", told.halted[0].1);
        assert!(told.halted[1].1.contains("7 of them were lost"), "{}", told.halted[1].1);
    });
    assert!(member.leave(PATIENCE));
}

#[test]
fn a_group_of_a_topic_that_is_not_there_is_refused() {
    let place = Place::new();
    let log = place.open();
    let error = log.join(plan("g", &[("t", None, EARLIEST)]), SimulatedHost::new()).err().unwrap();
    assert_eq!(error.code, "unknown-topic");
}

#[test]
fn leaving_does_not_wait_longer_than_it_may() {
    let place = Place::new();
    let brief = Duration::from_millis(1);
    let log = EmbeddedLog::open(place.path(), Options { busy_timeout: brief, ..place.options() }).unwrap();
    create(&log, &[("t", 1)]);
    let host = SimulatedHost::new();
    let member = log.join(plan("g", &[("t", None, EARLIEST)]), host.clone()).unwrap();
    host.wait_for_assigned(1);
    host.with(|told| told.stuck = true);
    assert!(!member.leave(brief));
    host.with(|told| told.stuck = false);
    host.wait_until("revoked", |told| !told.revoked.is_empty());
}

#[test]
fn what_no_group_may_commit_is_left_out() {
    let place = Place::new();
    let log = log_with(&place, &[("t", 2)]);
    let (first, second) = (TopicPartition::new("t", 0), TopicPartition::new("t", 1));
    let member = log.join(plan("g", &[("t", None, EARLIEST)]), SimulatedHost::new()).unwrap();
    let most = "x".repeat(4096);
    member.committer().commit(&[
        commit(&first, 1, &most),
        commit(&first, 2, &format!("{most}x")),
        commit(&second, -1, ""),
        commit(&TopicPartition::new("missing", 0), 1, ""),
    ]);
    assert!(member.leave(PATIENCE));
    let expected = [Some(commit(&first, 1, &most)), Some(commit(&second, 0, ""))];
    assert_eq!(log.committed("g", &[first, second]).unwrap(), expected);
}

/// A log is used behind `Arc<dyn Log>`, from many threads.
#[test]
fn the_log_can_be_shared() {
    fn shared(_: Arc<dyn Log>) {}
    let place = Place::new();
    let log: EmbeddedLog = place.open();
    shared(Arc::new(log));
}
