//! Keys that are held by a dead letter, and their release.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use pointsman_config::Plan;
use pointsman_config::dead_letters::audit_topic;
use pointsman_config::plan::RoutePlan;
use pointsman_core::delivery::{Delivery, PartitionChoice, TopicId};
use pointsman_core::port::{Log, LogError, Token, Transaction, TransactionError};
use pointsman_core::provenance::{Marker, Provenance};
use pointsman_core::record::{Headers, TopicPartition};
use serde::Serialize;
use thiserror::Error;

use super::audit::{ReleaseRecord, Signature};
use super::handle::{HandleError, Site};
use super::topic::Topic;
use super::writing;
use crate::progress::{Progress, Stand, Total, Unit};
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
    /// The topic for the dead letters of the route.
    #[serde(skip)]
    letters: Arc<str>,
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
    /// There is no audit topic that would keep who released them.
    #[error(transparent)]
    Account(#[from] HandleError),
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
    progress: Progress<'_>,
    note: &mut dyn FnMut(&str),
) -> Result<Vec<HeldKey>, ReleaseError> {
    let mut held = Vec::new();
    for route in routes {
        let letters = route.dead_letter.and_then(|topic| plan.topics.get(topic.0 as usize));
        // Without, no key is held.
        let Some(letters) = letters else { continue };
        let retries = route.sources.iter().filter_map(|source| plan.topics.get(source.retry?.0 as usize));
        for topic in retries {
            let found = log.topics(Some(std::slice::from_ref(&topic.name)))?;
            let count = found.first().map_or(0, |topic| i32::try_from(topic.partitions).unwrap_or(i32::MAX));
            for number in 0..count {
                let partition = TopicPartition::new(Arc::clone(&topic.name), number);
                held.extend(held_in(log, (route, &letters.name), &partition, stop, progress, note)?);
            }
        }
    }
    Ok(held)
}

fn held_in(
    log: &dyn Log,
    (route, letters): (&RoutePlan, &Arc<str>),
    partition: &TopicPartition,
    stop: &dyn Fn() -> bool,
    progress: Progress<'_>,
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
    unsettled(log, &route.group, partition, &mut see, stop, progress, note)?;
    let told = |(key, hold): (Vec<u8>, Provenance)| HeldKey {
        route: route.name.to_string(),
        key,
        origin: format!("{}/{}", hold.origin.partition, hold.origin.offset),
        since_ms: hold.last_failed_ms,
        class: hold.class.to_string(),
        code: hold.code.clone(),
        message: hold.message.clone(),
        noted_in: partition.clone(),
        letters: Arc::clone(letters),
        hold,
    };
    Ok(held.into_iter().map(told).collect())
}

/// Most keys of one transaction.
const BATCH: usize = 500;

/// Releases these keys, which are ordered as [`held_keys`] has them, up to 500 of a topic at once: their lanes run later
/// records of theirs again, once they have read that. It stands in the audit topic beside the dead letters who has done it.
/// Those that somebody else has released meanwhile are left out: the answer is those that were released.
///
/// It writes as those do who handle the letters of the topic: such a run ends by it, and it ends by such a run.
///
/// # Errors
/// [`ReleaseError`].
pub fn release<'a>(
    site: &Site<'_>,
    keys: &'a [HeldKey],
    signature: &Signature,
    note: &mut dyn FnMut(&str),
) -> Result<Vec<&'a HeldKey>, ReleaseError> {
    let note = RefCell::new(note);
    let say = |text: &str| (*note.borrow_mut())(text);
    let count = keys.len();
    let topics = |held: &HeldKey| (Arc::clone(&held.noted_in.topic), Arc::clone(&held.letters));
    let mut parts = Vec::new();
    for keys in keys.chunk_by(|one, next| topics(one) == topics(next)) {
        let (retry, letters) = topics(&keys[0]);
        let mut names = vec![retry];
        match Topic::look_up(site.log, std::slice::from_ref(&letters))?.first() {
            Some(letters) => {
                let audit = audit_topic(&letters.name);
                writing::prepare(site, letters, &audit, false, &say)?;
                names.push(audit);
            }
            None => say(&format!(
                "note: topic {letters} is not there, or can't be described by you: who releases these keys stands nowhere"
            )),
        }
        parts.push((keys, letters, names));
    }
    let mut released = Vec::new();
    for (keys, letters, names) in parts {
        let mut writer = writing::open_writer(site, &letters, &names, &say).map_err(|error| match error {
            HandleError::Write(error) => ReleaseError::Write(error),
            error => ReleaseError::Account(error),
        })?;
        // Nobody else can release any from here on.
        let routes = site.plan.routes.iter().filter(|route| keys.iter().any(|held| *held.route == *route.name));
        let still = held_keys(site.log, site.plan, routes, site.stop, site.progress, &mut |text| say(text))?;
        let still: HashSet<_> = still.iter().map(HeldKey::hold_of).collect();
        let keys: Vec<&HeldKey> = keys.iter().filter(|held| still.contains(&held.hold_of())).collect();
        for keys in keys.chunks(BATCH) {
            let transaction = writer.begin()?;
            write(transaction, keys, names.len() > 1, signature, (site.now_ms)())?;
            released.extend_from_slice(keys);
            let (done, total) = (released.len() as u64, Total::Exactly(count as u64));
            (site.progress)(&Stand { what: "releasing keys", unit: Unit::Keys, done, total, picked: None });
        }
    }
    Ok(released)
}

impl HeldKey {
    /// What tells it from all others.
    fn hold_of(&self) -> (&str, &[u8], &str) {
        (&self.route, &self.key, &self.origin)
    }
}

/// Writes to the first topic of the writer, and the account of it to the second.
fn write(
    mut transaction: Box<dyn Transaction + '_>,
    keys: &[&HeldKey],
    has_account: bool,
    signature: &Signature,
    now_ms: i64,
) -> Result<(), TransactionError> {
    for (token, held) in (0..).zip(keys) {
        let stamps = Provenance { marker: Some(Marker::Release), ..held.hold.clone() }.headers();
        let delivery = Delivery {
            topic: TopicId(0),
            partition: PartitionChoice::Exactly(held.noted_in.partition),
            timestamp_ms: now_ms,
            key: Some(&held.key),
            value: None,
            headers: Headers::NONE,
            stamps: Headers::Owned(&stamps),
        };
        transaction.produce(&delivery, Token(token))?;
        if !has_account {
            continue;
        }
        let account = ReleaseRecord::new(&held.route, &held.key, &held.origin, signature, now_ms);
        let (key, value) = account
            .encode()
            .map_err(|error| TransactionError::Fatal { code: "account".into(), message: error.to_string() })?;
        // There may be fewer partitions than the source has.
        let partition = PartitionChoice::ByKey;
        let account = Delivery {
            topic: TopicId(1),
            partition,
            key: Some(&key),
            value: Some(&value),
            stamps: Headers::NONE,
            ..delivery
        };
        transaction.produce(&account, Token(token))?;
    }
    transaction.commit()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use pointsman_core::failure::FailureClass;
    use pointsman_core::port::NewTopic;

    use super::*;
    use crate::dead_letter::Handled;
    use crate::dead_letter::tests::{T0, letter, log_of, never, provenance, write};
    use crate::progress::UNTOLD;

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
dead_letter = { topic = "dead" }
[[routes.outputs]]
topic = "out"
"#;

    fn marker(marker: Marker, minute: i64, key: &str) -> crate::record_text::RecordLine {
        let noted = Provenance { marker: Some(marker), ..provenance(minute, FailureClass::Reject, "no-country", "no") };
        letter(i32::from(key == "late"), minute, key.as_bytes(), None, &noted.headers())
    }

    #[test]
    fn more_keys_than_a_transaction_takes_are_found_and_released() {
        let count = i64::try_from(BATCH).unwrap() + 7;
        let (plan, _) = pointsman_config::compile(CONFIG, "test", &|_: &str| None).unwrap();
        let (_folder, log) = log_of(&["retry"]);
        // With fewer partitions than the source has.
        log.create_topics(&[NewTopic { name: "dead".into(), partitions: 1, retention: None }]).unwrap();
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
        let held = || held_keys(&log, &plan, plan.routes.iter(), &never, UNTOLD, &mut |_| {}).unwrap();
        let keys = held();
        assert_eq!(keys.len() as i64, count + 2);
        assert!(keys.iter().all(|held| held.key != b"released"));
        let told = RefCell::new(Vec::new());
        let progress = |stand: &Stand<'_>| {
            if stand.unit == Unit::Keys {
                told.borrow_mut().push((stand.done, stand.total));
            }
        };
        let site = Site { log: &log, plan: &plan, now_ms: &|| T0, stop: &never, progress: &progress };
        let signature = Signature { by: "ana".into(), run: "r1".into() };
        assert_eq!(release(&site, &keys, &signature, &mut |_| {}).unwrap().len(), keys.len());
        let all = Total::Exactly(keys.len() as u64);
        assert!(told.borrow().windows(2).all(|pair| pair[0].0 < pair[1].0), "{told:?}");
        assert_eq!(told.borrow().last(), Some(&(keys.len() as u64, all)));
        assert!(held().is_empty());
        let again = release(&site, &keys, &signature, &mut |_| {}).unwrap();
        assert!(again.is_empty(), "they are released already");
        let letters = Topic::look_up(&log, &["dead".into()]).unwrap();
        let handled = Handled::read(&log, &letters, &mut |_| panic!("a letter"), &never, UNTOLD, &mut |_| {}).unwrap();
        assert_eq!((handled.strangers, handled.first_stranger), (0, None));
        assert_eq!(log.watermarks(&TopicPartition::new("dead.audit", 0)).unwrap().1, count + 2);
    }
}
