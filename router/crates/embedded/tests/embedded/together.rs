//! Records and the progress of a group's member, in one transaction.

use std::sync::Arc;

use pointsman_core::delivery::PartitionChoice;
use pointsman_core::port::{
    Committer, Ended, Log as _, MemberProgress, Membership, ProduceError, StartAt, Token, TransactionalSink, WriterPlan,
};
use pointsman_core::record::TopicPartition;
use pointsman_embedded::EmbeddedLog;

use crate::harness::*;

fn orders() -> TopicPartition {
    TopicPartition::new("orders", 0)
}

fn output() -> TopicPartition {
    TopicPartition::new("output", 0)
}

fn join(log: &EmbeddedLog) -> (Arc<SimulatedHost>, Box<dyn Membership>) {
    let host = SimulatedHost::new();
    let member = log.join(plan("g", &[("orders", None, StartAt::Earliest)]), host.clone()).unwrap();
    host.wait_for_assigned(1);
    (host, member)
}

fn together(log: &EmbeddedLog) -> Box<dyn TransactionalSink> {
    log.transactional_sink(WriterPlan::new("w", vec!["output".into()]), nobody()).unwrap()
}

fn produce(sink: &mut dyn TransactionalSink, value: &str) {
    sink.produce(&delivery(&record(value), PartitionChoice::Exactly(0)), Token(7)).unwrap();
    assert_eq!(served(sink), [Ok(())]);
}

fn progress(committer: &dyn Committer, offset: i64) -> Vec<MemberProgress> {
    vec![MemberProgress { standing: committer.standing().unwrap(), commits: vec![commit(&orders(), offset, "m")] }]
}

fn output_values(log: &EmbeddedLog) -> Vec<String> {
    values(&contents(log, &output()))
}

#[test]
fn records_are_there_when_the_progress_is_and_never_without_it() {
    let place = Place::new();
    let log = log_with(&place, &[("orders", 1), ("output", 1)]);
    let (_host, member) = join(&log);
    let committer = member.committer();
    let committed = || log.committed("g", &[orders()]).unwrap().remove(0).unwrap();
    let mut sink = together(&log);
    produce(&mut *sink, "a");
    assert_eq!(output_values(&log), [""; 0]);
    sink.commit(progress(&*committer, 1));
    assert_eq!((sink.ended(), sink.ended()), (Some(Ended::Committed), None));
    assert_eq!((output_values(&log), committed()), (vec!["a".into()], commit(&orders(), 1, "m")));

    produce(&mut *sink, "aborted");
    sink.abort();
    assert_eq!(sink.ended(), Some(Ended::Aborted), "it is not told as committed");
    produce(&mut *sink, "b");
    sink.commit(progress(&*committer, 2));
    assert_eq!(sink.ended(), Some(Ended::Committed));
    assert_eq!((output_values(&log), committed()), (vec!["a".into(), "b".into()], commit(&orders(), 2, "m")));
    assert!(member.leave(PATIENCE));
}

#[test]
fn a_member_that_has_left_commits_nothing_any_more() {
    let place = Place::new();
    let log = log_with(&place, &[("orders", 1), ("output", 1)]);
    let (_host, member) = join(&log);
    let late = progress(&*member.committer(), 5);
    assert!(member.leave(PATIENCE));
    let (_host, member) = join(&log);
    let mut sink = together(&log);
    produce(&mut *sink, "late");
    sink.commit(late);
    let ended = sink.ended();
    assert!(matches!(&ended, Some(Ended::Undone { code, .. }) if code == "lease-lost"), "{ended:?}");
    assert_eq!(output_values(&log), [""; 0]);
    assert_eq!(log.committed("g", &[orders()]).unwrap()[0].as_ref().unwrap().offset, 0);
    assert!(member.leave(PATIENCE));
}

#[test]
fn what_the_log_would_refuse_is_refused_before_anything_is_reported() {
    let place = Place::new();
    let log = log_with(&place, &[("orders", 1), ("output", 1)]);
    let mut sink = together(&log);
    let refused = sink.produce(&delivery(&record("a"), PartitionChoice::Exactly(3)), Token(1));
    assert!(matches!(refused, Err(ProduceError::Delivery(_))), "{refused:?}");
    assert_eq!(served(&mut *sink), []);
}

#[test]
fn what_is_rewound_is_taken_back_and_assigned_anew_from_what_is_committed() {
    let place = Place::new();
    let log = log_with(&place, &[("orders", 1), ("output", 1)]);
    let (host, member) = join(&log);
    let committer = member.committer();
    let mut sink = together(&log);
    produce(&mut *sink, "a");
    sink.commit(progress(&*committer, 0));
    assert_eq!(sink.ended(), Some(Ended::Committed));
    committer.rewind(&[orders()]);
    host.wait_until("assigned anew", |told| told.calls.len() == 2);
    host.with(|told| {
        assert_eq!(told.revoked.len(), 1);
        assert_eq!((told.assigned[0].source.start, &*told.assigned[0].source.metadata), (0, "m"));
    });
    assert!(member.leave(PATIENCE));
}
