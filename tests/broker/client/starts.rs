//! Where a group starts that has committed nothing, or what is gone.

use anyhow::ensure;
use pointsman_core::port::{Commit, FeedError, Log as _, StartAt};
use pointsman_core::record::TopicPartition;
use pointsman_tests::kafka::{Kafka, Sample};
use pointsman_tests::trials::Trial;
use pointsman_tests::wait;

use super::by_hand::value;
use super::{DEADLINE, Member, log, plan};

pub(crate) const TRIALS: &[Trial] = &[
    Trial::shared("client::an_offset_out_of_range_is_said_and_not_reset", out_of_range),
    Trial::shared("client::a_start_at_the_end_is_committed_at_once", latest_is_committed),
    Trial::shared("client::a_start_at_a_time_is_the_first_record_from_then_on", start_at_a_time),
];

fn out_of_range(kafka: &Kafka) -> anyhow::Result<()> {
    let topic = Kafka::unique("range");
    kafka.create_topic(&topic, 1)?;
    kafka.fill_with(&topic, 5, value)?;
    let log = log(kafka)?;
    let partition = TopicPartition::new(topic.as_str(), 0);
    let member = Member::join(&log, plan(&topic, &[(&topic, None)], StartAt::Earliest))?;
    member.wait_for_lanes(1)?;
    let commit = Commit { partition: partition.clone(), offset: 1000, metadata: String::new() };
    member.membership.committer().commit(&[commit]);
    wait::until_ok("the commit", DEADLINE, || {
        Ok((kafka.committed(&topic, &topic, 0)?.is_some_and(|(offset, _)| offset == 1000)).then_some(()))
    })?;
    // It does not settle anything, and so must not be asked what it has settled.
    member.lanes.state().lanes.clear();
    member.leave()?;

    let member = Member::join(&log, plan(&topic, &[(&topic, None)], StartAt::Earliest))?;
    member.wait_for_lanes(1)?;
    let error = wait::until("the error", DEADLINE, || member.lanes.step(10).err())?;
    ensure!(matches!(&error, FeedError::OutOfRange { partition: p, wanted: 1000, .. } if *p == partition), "{error:?}");
    ensure!(member.lanes.step(10).is_err(), "it is said once only");
    member.lanes.state().lanes.clear();
    member.leave()?;

    let mut feed = log.read(&partition, 77)?;
    let error = wait::until("the error of a reader", DEADLINE, || feed.fetch(10, 1000).err())?;
    ensure!(matches!(error, FeedError::OutOfRange { wanted: 77, .. }), "{error:?}");
    Ok(())
}

fn latest_is_committed(kafka: &Kafka) -> anyhow::Result<()> {
    let topic = Kafka::unique("latest");
    kafka.create_topic(&topic, 1)?;
    kafka.fill_with(&topic, 5, value)?;
    let log = log(kafka)?;
    let plan = plan(&topic, &[(&topic, None)], StartAt::Latest);
    let member = Member::join(&log, plan.clone())?;
    member.wait_for_lanes(1)?;
    assert_eq!(kafka.committed(&topic, &topic, 0)?, Some((5, String::new())));
    // A crash before the first commit of the lane: what came meanwhile is not skipped.
    member.lanes.state().lanes.clear();
    member.leave()?;
    kafka.fill_with(&topic, 3, value)?;
    let member = Member::join(&log, plan)?;
    member.take(3, 10)?;
    assert_eq!(member.leave()?.seen[0].1.offset, 5);
    Ok(())
}

fn start_at_a_time(kafka: &Kafka) -> anyhow::Result<()> {
    let topic = Kafka::unique("time");
    kafka.create_topic(&topic, 1)?;
    let at = |ms| Sample { timestamp_ms: Some(ms), ..value(0) };
    kafka.fill(&topic, [at(1000), at(2000), at(3000)])?;
    let log = log(kafka)?;
    let partition = TopicPartition::new(topic.as_str(), 0);
    for (ms, offset) in [(1, 0), (1500, 1), (2000, 1), (3001, 3)] {
        assert_eq!(log.offset_at(&partition, ms)?, offset, "{ms}");
    }
    let member = Member::join(&log, plan(&topic, &[(&topic, None)], StartAt::Time(1500)))?;
    member.take(2, 10)?;
    assert_eq!(member.leave()?.seen[0].1.offset, 1);
    Ok(())
}
