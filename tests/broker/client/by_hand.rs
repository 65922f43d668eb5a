//! Sinks and feeds, served by hand.

use pointsman_core::delivery::{Delivery, PartitionChoice, TopicId};
use pointsman_core::port::{DeliveryError, Feed, ProduceError, Report, Sink, Token, Undelivered};
use pointsman_core::record::{Headers, OwnedRecord};
use pointsman_tests::kafka::Sample;
use pointsman_tests::wait;

use super::DEADLINE;

/// Which of its first two topics a sink [expects few records for](Sink::expect_few): none, or both. They go another way then.
pub(super) const FEW: [&[TopicId]; 2] = [&[], &[TopicId(0), TopicId(1)]];

pub(super) fn value(i: u64) -> Sample {
    Sample { key: Some(format!("key-{i}").into()), value: Some(i.to_be_bytes().into()), ..Sample::default() }
}

/// Sends one record, waiting where the sink is full.
pub(super) fn send(
    sink: &mut dyn Sink,
    reports: &mut Vec<Report>,
    delivery: &Delivery<'_>,
    token: u64,
) -> anyhow::Result<()> {
    wait::until_ok("room in the sink", DEADLINE, || match sink.produce(delivery, Token(token)) {
        Ok(_) => Ok(Some(())),
        Err(ProduceError::Full) => {
            sink.serve(reports)?;
            Ok(None)
        }
        Err(ProduceError::Delivery(error)) => Err(error.into()),
    })
}

/// Serves a sink until it has given this many reports in all.
pub(super) fn serve(sink: &mut dyn Sink, reports: &mut Vec<Report>, count: usize) -> anyhow::Result<()> {
    wait::until_ok(&format!("{count} reports"), DEADLINE, || {
        sink.serve(reports)?;
        Ok((reports.len() >= count).then_some(()))
    })
}

pub(super) fn delivery<'a>(key: Option<&'a [u8]>, value: Option<&'a [u8]>) -> Delivery<'a> {
    Delivery {
        topic: TopicId(0),
        partition: PartitionChoice::ByKey,
        timestamp_ms: -1,
        key,
        value,
        headers: Headers::NONE,
        stamps: Headers::NONE,
    }
}

/// Reads a feed until it has given this many records.
pub(super) fn read(feed: &mut dyn Feed, count: usize) -> anyhow::Result<Vec<OwnedRecord>> {
    let mut records = Vec::new();
    wait::until_ok(&format!("{count} records of a feed"), DEADLINE, || {
        while let Some(batch) = feed.fetch(100, 1 << 20)? {
            records.extend((0..batch.len()).map(|index| OwnedRecord::from(batch.record(index))));
        }
        Ok((records.len() >= count).then_some(()))
    })?;
    Ok(records)
}

/// Whether a delivery was refused for itself.
pub(super) fn is_refused(result: &Result<Option<i64>, Box<Undelivered>>) -> bool {
    result.as_ref().is_err_and(|undelivered| matches!(undelivered.error, DeliveryError::Refused { .. }))
}
