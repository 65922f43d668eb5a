//! Groups: what is committed when members come and go, and retry partitions that follow.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use pointsman_core::port::{Commit, GroupPlan, StartAt};
use pointsman_core::record::TopicPartition;
use pointsman_kafka::KafkaLog;
use pointsman_tests::kafka::{Kafka, Sample};
use pointsman_tests::trials::Trial;
use pointsman_tests::wait;

use super::by_hand::value;
use super::{DEADLINE, Half, Member, log, plan, settings};

pub(crate) const TRIALS: &[Trial] = &[
    Trial::shared("client::closing_with_records_prefetched_commits_what_was_settled", prefetched_is_not_settled),
    Trial::shared("client::a_rebalance_under_load_loses_and_repeats_nothing", rebalance_under_load),
    Trial::shared("client::a_retry_partition_follows_its_source_through_rebalances", retry_partitions_follow),
    Trial::shared(
        "client::a_missing_retry_partition_halts_its_lane_only_and_until_it_is_there",
        missing_retry_partition,
    ),
    Trial::shared("client::a_partition_that_is_added_is_read_from_its_beginning", added_partition),
    Trial::shared("client::a_feed_that_outlives_its_membership_is_harmless", feeds_outlive),
    Trial::shared("client::of_many_partitions_little_is_taken_at_once", many_partitions),
];

fn prefetched_is_not_settled(kafka: &Kafka) -> anyhow::Result<()> {
    let topic = Kafka::unique("prefetched");
    kafka.create_topic(&topic, 1)?;
    kafka.fill_with(&topic, 20_000, value)?;
    let member = Member::join(&log(kafka)?, plan(&topic, &[(&topic, None)], StartAt::Earliest))?;
    member.take(10, 10)?;
    let state = member.leave()?;
    assert_eq!(state.seen.len(), 10);
    assert_eq!(kafka.committed(&topic, &topic, 0)?, Some((10, "settled 10".to_owned())));
    // And without a word about a commit, nothing is committed.
    let member = Member::join(&log(kafka)?, plan(&topic, &[(&topic, None)], StartAt::Earliest))?;
    member.take(1000, 100)?;
    drop(member);
    assert_eq!(kafka.committed(&topic, &topic, 0)?.map(|(offset, _)| offset), Some(10));
    Ok(())
}

/// Every lane settles what it takes before it gives up a partition, and commits it before it says so: so that the next
/// owner neither misses nor repeats a record.
fn rebalance_under_load(kafka: &Kafka) -> anyhow::Result<()> {
    const RECORDS: u64 = 60_000;
    const PARTITIONS: usize = 8;
    let topic = Kafka::unique("rebalance");
    kafka.create_topic(&topic, i32::try_from(PARTITIONS)?)?;
    kafka.fill_with(&topic, RECORDS, value)?;
    let log = log(kafka)?;
    let plan = plan(&topic, &[(&topic, None)], StartAt::Earliest);
    let first = Member::join(&log, plan.clone())?;
    first.take(5_000, 100)?;
    let second = Member::join(&log, plan.clone())?;
    // Both run on while partitions move to the second.
    wait::until_ok("a share of the second", DEADLINE, || {
        first.lanes.step(20)?;
        second.lanes.step(20)?;
        Ok((second.lanes.state().lanes.len() == PARTITIONS / 2).then_some(()))
    })?;
    second.take(2_000, 50)?;
    let third = Member::join(&log, plan)?;
    wait::until_ok("a share of the third", DEADLINE, || {
        for member in [&first, &second, &third] {
            member.lanes.step(20)?;
        }
        Ok((third.lanes.state().lanes.len() >= 2).then_some(()))
    })?;
    let mut seen = first.leave()?.seen;
    seen.extend(second.leave()?.seen);
    let left = usize::try_from(RECORDS)? - seen.len();
    third.take(left, 500)?;
    seen.extend(third.leave()?.seen);

    let mut values: Vec<_> = seen.iter().map(|(_, record)| record.value.clone()).collect();
    values.sort_unstable();
    let expected: Vec<_> = (0..RECORDS).map(|i| Some(i.to_be_bytes().to_vec())).collect();
    ensure!(values == expected, "{} records were seen of {RECORDS}, or some twice", values.len());
    Ok(())
}

fn retry_partitions_follow(kafka: &Kafka) -> anyhow::Result<()> {
    let (topic, retry) = (Kafka::unique("source"), Kafka::unique("retry"));
    kafka.create_topic(&topic, 4)?;
    kafka.create_topic(&retry, 4)?;
    let each = |from: u64| (0..4).map(move |p| Sample { partition: Some(p), ..value(from) });
    kafka.fill(&topic, each(0))?;
    kafka.fill(&retry, each(1))?;
    let log = log(kafka)?;
    let plan = plan(&topic, &[(&topic, Some(&retry))], StartAt::Earliest);
    let first = Member::join(&log, plan.clone())?;
    first.take(8, 100)?;
    let second = Member::join(&log, plan)?;
    second.wait_for_lanes(2)?;
    first.wait_for_lanes(2)?;
    for member in [&first, &second] {
        for halves in member.lanes.state().lanes.values() {
            assert_eq!(halves.len(), 2);
            assert_eq!(halves[0].partition.partition, halves[1].partition.partition);
            assert_eq!(&*halves[1].partition.topic, retry);
        }
    }
    for halves in second.lanes.state().lanes.values() {
        // What the first settled was committed before it gave the partitions up, metadata and all.
        assert!(halves.iter().all(|half| half.start == 1 && half.metadata == "settled 1"));
    }
    // What stayed with the first is still read, and its commits are taken: of a topic it is not subscribed to, too. Retry partitions that
    // the second has begun at their ends are at rest: what comes there is seen all the same.
    kafka.fill(&topic, each(2))?;
    kafka.fill(&retry, each(3))?;
    first.take(8 + 4, 100)?;
    second.take(4, 100)?;
    let commits: Vec<_> = first.lanes.state().lanes.values().flatten().map(commit_of).collect();
    first.membership.committer().commit(&commits);
    for commit in &commits {
        let TopicPartition { topic: committed, partition } = &commit.partition;
        wait::until_ok("a commit", DEADLINE, || {
            let found = kafka.committed(&topic, committed, *partition)?;
            Ok((found == Some((2, "while running".to_owned()))).then_some(()))
        })?;
    }
    // Everything comes back to the second, in the place where the first left it.
    first.leave()?;
    second.wait_for_lanes(4)?;
    kafka.fill(&retry, each(4))?;
    second.take(4 + 4, 100)?;
    second.leave()?;
    for partition in 0..4 {
        assert_eq!(kafka.committed(&topic, &retry, partition)?, Some((3, "settled 3".to_owned())));
        assert_eq!(kafka.committed(&topic, &topic, partition)?, Some((2, "settled 2".to_owned())));
    }
    Ok(())
}

fn missing_retry_partition(kafka: &Kafka) -> anyhow::Result<()> {
    let (topic, retry) = (Kafka::unique("source"), Kafka::unique("retry"));
    kafka.create_topic(&topic, 3)?;
    kafka.create_topic(&retry, 2)?;
    kafka.fill(&topic, (0..3).map(|p| Sample { partition: Some(p), ..value(0) }))?;
    let member = Member::join(&log(kafka)?, plan(&topic, &[(&topic, Some(&retry))], StartAt::Earliest))?;
    member.wait_for_lanes(2)?;
    member.take(2, 10)?;
    let halted = TopicPartition::new(topic.as_str(), 2);
    let reason = wait::until("the halt", DEADLINE, || member.lanes.state().halted.get(&halted).cloned())?;
    ensure!(reason.contains(&retry) && reason.contains("needs 3"), "{reason}");
    ensure!(member.lanes.state().seen.iter().all(|(partition, _)| *partition != halted));
    assert_eq!(kafka.committed(&topic, &topic, 2)?, None);
    kafka.grow_topic(&retry, 3)?;
    member.wait_for_lanes(3)?;
    member.take(3, 10)?;
    member.leave()?;
    Ok(())
}

/// A group that starts at the end of what there is must not pass over what comes into a new partition before it notices.
fn added_partition(kafka: &Kafka) -> anyhow::Result<()> {
    let topic = Kafka::unique("grows");
    kafka.create_topic(&topic, 1)?;
    kafka.fill_with(&topic, 5, value)?;
    let mut settings = settings(kafka);
    settings.properties.insert("topic.metadata.refresh.interval.ms".to_owned(), "200".to_owned());
    let log = KafkaLog::new(settings)?;
    let member = Member::join(&log, plan(&topic, &[(&topic, None)], StartAt::Latest))?;
    member.wait_for_lanes(1)?;
    kafka.grow_topic(&topic, 2)?;
    kafka.fill(&topic, (0..7).map(|i| Sample { partition: Some(1), ..value(i) }))?;
    member.wait_for_lanes(2)?;
    member.take(7, 10)?;
    let state = member.leave()?;
    ensure!(state.seen.iter().all(|(partition, _)| partition.partition == 1) && state.seen[0].1.offset == 0);
    Ok(())
}

fn feeds_outlive(kafka: &Kafka) -> anyhow::Result<()> {
    let topic = Kafka::unique("outlive");
    kafka.create_topic(&topic, 1)?;
    kafka.fill_with(&topic, 1000, value)?;
    let log = log(kafka)?;
    let plan = plan(&topic, &[(&topic, None)], StartAt::Earliest);
    let member = Member::join(&log, plan.clone())?;
    member.wait_for_lanes(1)?;
    // A worker that is late: it keeps a feed and a batch over the end of everything.
    let mut halves = member.lanes.state().lanes.pop_first().context("a lane")?.1;
    let feed = &mut halves[0].feed;
    let batch = wait::until_ok("a batch", DEADLINE, || Ok(feed.fetch(10, 1000)?))?;
    let started = Instant::now();
    member.leave()?;
    ensure!(started.elapsed() < Duration::from_secs(20), "leaving took {:?}", started.elapsed());
    assert_eq!(batch.record(0).value, Some(&0_u64.to_be_bytes()[..]));
    // It gets what it had taken already, and nothing that belongs to the next owner.
    let mut leftover = batch.len();
    while let Some(batch) = feed.fetch(10, 1000)? {
        leftover += batch.len();
    }
    ensure!(leftover <= 10, "{leftover} records came from a feed that was shut");
    let next = Member::join(&log, plan)?;
    next.take(1000, 100)?;
    next.leave()?;
    drop((batch, halves, log));
    Ok(())
}

fn commit_of(half: &Half) -> Commit {
    Commit { partition: half.partition.clone(), offset: half.settled, metadata: "while running".to_owned() }
}

/// With so many partitions that each has the least part of what is fetched ahead of all, a batch has 64 records.
fn many_partitions(kafka: &Kafka) -> anyhow::Result<()> {
    const RECORDS: usize = 4_000;
    const PARTITIONS: usize = 8;
    let topic = Kafka::unique("many");
    kafka.create_topic(&topic, i32::try_from(PARTITIONS)?)?;
    kafka.fill_with(&topic, RECORDS as u64, value)?;
    let usual = plan(&topic, &[(&topic, None)], StartAt::Earliest);
    let plan = GroupPlan { fetch_ahead_of_all_bytes: PARTITIONS << 16, ..usual };
    let member = Member::join(&log(kafka)?, plan)?;
    let mut most = 0;
    wait::until_ok("all records", DEADLINE, || {
        most = most.max(member.lanes.step(1000)?);
        Ok((member.lanes.state().seen.len() == RECORDS).then_some(()))
    })?;
    ensure!(most <= 64 * PARTITIONS, "{most} records were taken at once");
    member.leave()?;
    Ok(())
}
