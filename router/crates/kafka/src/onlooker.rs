//! What somebody asks who only looks at groups and partitions: many at once, and nobody is waited for.
//!
//! None of it goes by librdkafka's administrative requests to the coordinator of a group. In version 2.12 an assertion of its own ends
//! the process where such a request times out or its connection breaks, and the one that lists all offsets of a group reads from a null
//! pointer where the coordinator has moved. What a group has committed anywhere is asked for by naming all partitions that there are.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pointsman_core::port::{Commit, LogError, Reader};
use pointsman_core::record::TopicPartition;

use crate::admin::{self, AT_ONCE, left};
use crate::error::{client_error, log_error};
use crate::native::{Client, Code, Kind};
use crate::settings::KafkaSettings;

/// The first offset and the end of one partition.
type Bounds<E> = Result<(i64, i64), E>;

/// What partitions hold: for all together as long as `timeout`.
pub(crate) fn bounds(client: &Arc<Client>, partitions: &[TopicPartition], timeout: Duration) -> Vec<Bounds<LogError>> {
    let deadline = Instant::now() + timeout;
    partitions.chunks(AT_ONCE).flat_map(|chunk| chunk_bounds(client, chunk, deadline)).collect()
}

/// All at once; where that fails, each topic by itself, so that one that can't be asked keeps no other from an answer.
fn chunk_bounds(client: &Arc<Client>, partitions: &[TopicPartition], deadline: Instant) -> Vec<Bounds<LogError>> {
    let what = |partition: &TopicPartition| format!("can't learn what {partition} holds");
    let told = |partition: &TopicPartition, code| client_error(what(partition), code, client);
    let in_words = |partitions: &[TopicPartition], found: Vec<Bounds<Code>>| {
        let each = partitions.iter().zip(found);
        each.map(|(partition, found)| found.map_err(|code| told(partition, code))).collect::<Vec<_>>()
    };
    let failed = match ask_bounds(client, partitions, deadline) {
        Ok(found) => return in_words(partitions, found),
        Err(code) => code,
    };
    // Of partitions that are new, or have another leader, the client may not know yet: it learns that by asking.
    let names: Vec<Arc<str>> = partitions.iter().map(|partition| Arc::clone(&partition.topic)).collect();
    let there = match admin::topics(client, Some(&names), left(deadline)) {
        Ok(there) => there,
        Err(error) => {
            return partitions
                .iter()
                .map(|partition| Err(LogError { what: what(partition), ..error.clone() }))
                .collect();
        }
    };
    let mut answers = BTreeMap::new();
    for (topic, own) in by_topic(partitions) {
        let found = if !there.iter().any(|found| found.name == topic) {
            own.iter()
                .map(|partition| Err(log_error(what(partition), "unknown-topic", "there is no such topic")))
                .collect()
        } else if Instant::now() >= deadline {
            own.iter().map(|partition| Err(told(partition, failed))).collect()
        } else {
            match ask_bounds(client, &own, deadline) {
                Ok(found) => in_words(&own, found),
                Err(code) => own.iter().map(|partition| Err(told(partition, code))).collect(),
            }
        };
        answers.extend(own.into_iter().zip(found));
    }
    let no_answer =
        |partition: &TopicPartition| Err(log_error(what(partition), "no-answer", "the answer lacks the partition"));
    partitions.iter().map(|partition| answers.get(partition).cloned().unwrap_or_else(|| no_answer(partition))).collect()
}

fn by_topic(partitions: &[TopicPartition]) -> BTreeMap<Arc<str>, Vec<TopicPartition>> {
    let mut topics: BTreeMap<Arc<str>, Vec<TopicPartition>> = BTreeMap::new();
    for partition in partitions {
        topics.entry(Arc::clone(&partition.topic)).or_default().push(partition.clone());
    }
    topics
}

/// First offsets and ends, in the order of the partitions.
fn ask_bounds(client: &Client, partitions: &[TopicPartition], deadline: Instant) -> Result<Vec<Bounds<Code>>, Code> {
    let all = |which| admin::offsets(client, partitions.iter().map(|partition| (partition, which)), left(deadline));
    let (firsts, ends) = (all(Client::OFFSET_BEGINNING)?, all(Client::OFFSET_END)?);
    // What was removed in between.
    let both = |(first, end): (Result<i64, Code>, Result<i64, Code>)| Ok((first?, end?.max(first?)));
    Ok(firsts.into_iter().zip(ends).map(both).collect())
}

/// What a group has committed by now, by a client that lives for this question only.
pub(crate) fn progress(
    settings: &KafkaSettings,
    asking: &Arc<Client>,
    group: &str,
    partitions: Option<&[TopicPartition]>,
) -> Result<Vec<Commit>, LogError> {
    let what = format!("can't read the commits of the group {group}");
    let deadline = Instant::now() + settings.request_timeout;
    let all;
    let partitions = match partitions {
        Some(partitions) => partitions,
        None => {
            let topics = admin::topics(asking, None, left(deadline))?;
            let partitions = topics.iter().flat_map(|topic| {
                let count = i32::try_from(topic.partitions).unwrap_or(i32::MAX);
                (0..count).map(|number| TopicPartition::new(Arc::clone(&topic.name), number))
            });
            all = partitions.collect::<Vec<_>>();
            &all
        }
    };
    if partitions.is_empty() {
        return Ok(Vec::new());
    }
    let client = Client::new(Kind::Reader, &settings.passer_by(group))
        .map_err(|message| log_error(what.as_str(), "client", message))?;
    let mut commits = Vec::new();
    for chunk in partitions.chunks(AT_ONCE) {
        let ask = |left| admin::committed_by(&client, chunk, left);
        let found = admin::of_coordinator(left(deadline), |code| *code, ask);
        commits.extend(found.map_err(|code| client_error(what.as_str(), code, &client))?.into_iter().flatten());
    }
    Ok(commits)
}

/// Who reads for a group.
pub(crate) fn readers(client: &Client, group: &str, timeout: Duration) -> Result<Option<Vec<Reader>>, LogError> {
    let what = format!("can't ask for the members of the group {group}");
    let members = client.members(group, timeout).map_err(|code| client_error(what, code, client))?;
    Ok(members.map(|members| {
        let readers = members.into_iter().map(|member| {
            let share = member.share.into_iter().flat_map(|(topic, numbers)| {
                let topic: Arc<str> = topic.into();
                numbers.into_iter().map(move |number| TopicPartition::new(Arc::clone(&topic), number))
            });
            // Kafka puts a slash before an address without a name.
            let host = member.host.trim_start_matches('/');
            Reader { name: format!("{} @ {host}", member.client_id), partitions: Some(share.collect()) }
        });
        readers.collect()
    }))
}
