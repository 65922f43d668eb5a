//! What a group has committed, set by a tool.

use pointsman_core::port::{Commit, Log as _, StartAt};
use pointsman_core::record::TopicPartition;
use pointsman_tests::kafka::Kafka;
use pointsman_tests::trials::Trial;
use pointsman_tests::wait;

use crate::client::{DEADLINE, Member, log, plan};

pub(crate) const TRIALS: &[Trial] =
    &[Trial::shared("offsets::they_are_set_for_a_group_at_rest_and_no_other", at_rest_and_no_other)];

fn at_rest_and_no_other(kafka: &Kafka) -> anyhow::Result<()> {
    let topic = Kafka::unique("offsets");
    kafka.create_topic(&topic, 2)?;
    let log = log(kafka)?;
    let commit = |partition, offset, metadata: &str| Commit {
        partition: TopicPartition::new(topic.as_str(), partition),
        offset,
        metadata: metadata.to_owned(),
    };
    // Of a group that nobody has heard of.
    log.set_committed(&topic, &[commit(0, 0, "settled"), commit(1, 3, "")])?;
    assert_eq!(kafka.committed(&topic, &topic, 0)?, Some((0, "settled".to_owned())));
    assert_eq!(kafka.committed(&topic, &topic, 1)?, Some((3, String::new())));

    let member = Member::join(&log, plan(&topic, &[(&topic, None)], StartAt::Earliest))?;
    member.wait_for_lanes(2)?;
    let refused = log.set_committed(&topic, &[commit(0, 7, "")]);
    let error = refused.err().map(|error| error.to_string()).unwrap_or_default();
    assert!(error.contains("the group has members: stop the routers that are in it"), "{error}");
    member.leave()?;
    assert_eq!(kafka.committed(&topic, &topic, 0)?.map(|(offset, _)| offset), Some(0));

    // The broker knows of the leave before its answer; only then does it let the group be moved.
    wait::until("the group to be empty", DEADLINE, || log.set_committed(&topic, &[commit(0, 7, "")]).ok())?;
    assert_eq!(kafka.committed(&topic, &topic, 0)?, Some((7, String::new())), "what was settled beyond is forgotten");
    Ok(())
}
