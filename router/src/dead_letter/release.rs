//! Keys that are held by a dead letter, and their release.

use std::collections::BTreeMap;
use std::sync::Arc;

use pointsman_config::Plan;
use pointsman_config::dead_letters::writer_id;
use pointsman_config::plan::RoutePlan;
use pointsman_core::delivery::{Delivery, PartitionChoice, TopicId};
use pointsman_core::port::{Log, LogError, Token, TransactionError, WriterPlan};
use pointsman_core::provenance::{Marker, Provenance};
use pointsman_core::record::{Headers, TopicPartition};
use serde::Serialize;
use thiserror::Error;

use crate::reading::{UnsettledError, unsettled};

/// A key whose later records become dead letters.
#[derive(Clone, Debug, Serialize)]
pub struct HeldKey {
    /// The route.
    pub route: String,
    /// The key, as text.
    #[serde(serialize_with = "as_text")]
    pub key: Vec<u8>,
    /// Topic, partition and offset of the record that holds it.
    pub origin: String,
    /// When that became a dead letter, in milliseconds since 1970-01-01 UTC.
    pub since_ms: i64,
    /// Class of its failure.
    pub class: String,
    /// Code of its failure.
    pub code: String,
    /// Message of its failure.
    pub message: String,
    #[serde(skip)]
    noted_in: TopicPartition,
    #[serde(skip)]
    hold: Provenance,
}

fn as_text<S: serde::Serializer>(key: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&String::from_utf8_lossy(key))
}

/// Keys can't be released, or it is not known which are held.
#[derive(Debug, Error)]
pub enum ReleaseError {
    /// The log can't be asked.
    #[error(transparent)]
    Log(#[from] LogError),
    /// A retry topic can't be read.
    #[error("can't read which keys are held: {0}")]
    Read(#[from] UnsettledError),
    /// The log can't be written to.
    #[error("no key was released: {0}")]
    Write(#[from] TransactionError),
}

/// The keys that are held on these routes, in order of routes, partitions and keys.
///
/// # Errors
/// [`ReleaseError::Log`] and [`ReleaseError::Read`].
pub fn held_keys<'a>(
    log: &dyn Log,
    plan: &Plan,
    routes: impl Iterator<Item = &'a RoutePlan>,
    stop: &dyn Fn() -> bool,
    note: &mut dyn FnMut(&str),
) -> Result<Vec<HeldKey>, ReleaseError> {
    let mut held = Vec::new();
    for route in routes {
        let retries = route.sources.iter().filter_map(|source| plan.topics.get(source.retry?.0 as usize));
        for topic in retries {
            let found = log.topics(Some(std::slice::from_ref(&topic.name)))?;
            let count = found.first().map_or(0, |topic| i32::try_from(topic.partitions).unwrap_or(i32::MAX));
            for number in 0..count {
                let partition = TopicPartition::new(Arc::clone(&topic.name), number);
                held.extend(held_in(log, route, &partition, stop, note)?);
            }
        }
    }
    Ok(held)
}

fn held_in(
    log: &dyn Log,
    route: &RoutePlan,
    partition: &TopicPartition,
    stop: &dyn Fn() -> bool,
    note: &mut dyn FnMut(&str),
) -> Result<Vec<HeldKey>, ReleaseError> {
    let mut held = BTreeMap::<Vec<u8>, Provenance>::new();
    let mut see = |record: pointsman_core::record::Record<'_>| {
        let (Some(key), Ok((_, told))) = (record.key, Provenance::split(record.headers)) else { return };
        match told.marker {
            // As the lane has it: the first record of a key holds it, and is what a release has to name.
            Some(Marker::Hold) if held.get(key).is_none_or(|known| told.origin.offset <= known.origin.offset) => {
                held.insert(key.to_vec(), told);
            }
            Some(Marker::Release) if held.get(key).is_some_and(|known| known.origin.offset <= told.origin.offset) => {
                held.remove(key);
            }
            _ => {}
        }
    };
    unsettled(log, &route.group, partition, &mut see, stop, note)?;
    let told = |(key, hold): (Vec<u8>, Provenance)| HeldKey {
        route: route.name.to_string(),
        key,
        origin: format!("{}/{}", hold.origin.partition, hold.origin.offset),
        since_ms: hold.last_failed_ms,
        class: hold.class.to_string(),
        code: hold.code.clone(),
        message: hold.message.clone(),
        noted_in: partition.clone(),
        hold,
    };
    Ok(held.into_iter().map(told).collect())
}

/// Releases these keys, all or none: their lanes run later records of theirs again, once they have read that.
///
/// # Errors
/// [`ReleaseError::Write`].
pub fn release(log: &dyn Log, keys: &[HeldKey], now_ms: i64) -> Result<(), ReleaseError> {
    let mut topics: Vec<Arc<str>> = keys.iter().map(|key| Arc::clone(&key.noted_in.topic)).collect();
    topics.dedup();
    let Some(first) = topics.first() else { return Ok(()) };
    let mut writer = log.transactional(WriterPlan::new(writer_id(first), topics.clone()))?;
    let mut transaction = writer.begin()?;
    for (token, key) in (0..).zip(keys) {
        let topic = topics.iter().position(|topic| *topic == key.noted_in.topic).unwrap_or_default();
        let stamps = Provenance { marker: Some(Marker::Release), ..key.hold.clone() }.headers();
        let delivery = Delivery {
            topic: TopicId(u32::try_from(topic).unwrap_or(u32::MAX)),
            partition: PartitionChoice::Exactly(key.noted_in.partition),
            timestamp_ms: now_ms,
            key: Some(&key.key),
            value: None,
            headers: Headers::NONE,
            stamps: &stamps,
        };
        transaction.produce(&delivery, Token(token))?;
    }
    Ok(transaction.commit()?)
}
