//! Keys that are held by a dead letter, and their release.

use std::collections::BTreeMap;
use std::sync::Arc;

use pointsman_config::Plan;
use pointsman_config::dead_letters::writer_id;
use pointsman_config::plan::RoutePlan;
use pointsman_core::delivery::{Delivery, PartitionChoice, TopicId};
use pointsman_core::port::{Log, LogError, Token, Transaction, TransactionError, WriterPlan};
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
    #[error("not all of these keys were released: {0}; run it again to go on")]
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

/// Most keys of one transaction.
const BATCH: usize = 500;

/// Releases these keys, which are ordered as [`held_keys`] has them, up to 500 of a topic at once: their lanes run later
/// records of theirs again, once they have read that.
///
/// # Errors
/// [`ReleaseError::Write`].
pub fn release(log: &dyn Log, keys: &[HeldKey], now_ms: i64) -> Result<(), ReleaseError> {
    for keys in keys.chunk_by(|one, next| one.noted_in.topic == next.noted_in.topic) {
        let topic = &keys[0].noted_in.topic;
        let mut writer = log.transactional(WriterPlan::new(writer_id(topic), vec![Arc::clone(topic)]))?;
        for keys in keys.chunks(BATCH) {
            let transaction = writer.begin()?;
            write(transaction, keys, now_ms)?;
        }
    }
    Ok(())
}

/// Writes to the only topic of the writer.
fn write(mut transaction: Box<dyn Transaction + '_>, keys: &[HeldKey], now_ms: i64) -> Result<(), TransactionError> {
    for (token, key) in (0..).zip(keys) {
        let stamps = Provenance { marker: Some(Marker::Release), ..key.hold.clone() }.headers();
        let delivery = Delivery {
            topic: TopicId(0),
            partition: PartitionChoice::Exactly(key.noted_in.partition),
            timestamp_ms: now_ms,
            key: Some(&key.key),
            value: None,
            headers: Headers::NONE,
            stamps: &stamps,
        };
        transaction.produce(&delivery, Token(token))?;
    }
    transaction.commit()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use pointsman_core::failure::FailureClass;

    use super::*;
    use crate::dead_letter::tests::{T0, letter, log_of, never, provenance, write};

    const CONFIG: &str = r#"
version = 1
[router]
name = "test"
[broker]
embedded = "nowhere"
[[routes]]
name = "orders"
from = ["orders.v1"]
ordering = "key"
on_dead = "park-key"
retry = { topic = "retry" }
[[routes.outputs]]
topic = "out"
"#;

    fn marker(marker: Marker, minute: i64, key: &str) -> crate::record_text::RecordLine {
        let noted = Provenance { marker: Some(marker), ..provenance(minute, FailureClass::Reject, "no-country", "no") };
        letter(0, minute, key.as_bytes(), None, &noted.headers())
    }

    #[test]
    fn more_keys_than_a_transaction_takes_are_found_and_released() {
        let count = i64::try_from(BATCH).unwrap() + 7;
        let (plan, _) = pointsman_config::compile(CONFIG, "test", &|_: &str| None).unwrap();
        let (_folder, log) = log_of(&["retry", "dead"]);
        let holds = (0..count).map(|number| marker(Marker::Hold, number, &number.to_string()));
        // A key that was released, one that was held anew after that, and one that was held later than it was released.
        let others = [
            marker(Marker::Hold, 1, "released"),
            marker(Marker::Release, 1, "released"),
            marker(Marker::Hold, 1, "anew"),
            marker(Marker::Release, 1, "anew"),
            marker(Marker::Hold, 2, "anew"),
            marker(Marker::Hold, 3, "late"),
            marker(Marker::Release, 2, "late"),
        ];
        write(&log, "retry", &holds.chain(others).collect::<Vec<_>>());
        let held = || held_keys(&log, &plan, plan.routes.iter(), &never, &mut |_| {}).unwrap();
        let keys = held();
        assert_eq!(keys.len() as i64, count + 2);
        assert!(keys.iter().all(|held| held.key != b"released"));
        release(&log, &keys, T0).unwrap();
        assert!(held().is_empty());
    }
}
