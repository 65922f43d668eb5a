//! Questions to the cluster, and topics to be made.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pointsman_core::port::{Commit, LogError, NewTopic, StartAt, TopicInfo, TopicSettings};
use pointsman_core::record::TopicPartition;

use rdkafka_sys::rd_kafka_resp_err_t as Known;

use crate::classify::{coordinator_moves, group_in_use, no_such_topic, remedy, topic_exists, topic_in_the_making};
use crate::error::{client_error, log_error};
use crate::native::{Client, Code, Kind, PartitionList, Topic, TopicConfig, TopicMetadata};
use crate::settings::KafkaSettings;

/// The topics there are, or those of `names` that there are.
pub(crate) fn topics(
    client: &Arc<Client>,
    names: Option<&[Arc<str>]>,
    timeout: Duration,
) -> Result<Vec<TopicInfo>, LogError> {
    let deadline = Instant::now() + timeout;
    let Some(names) = names else {
        let what = "can't list the cluster's topics";
        let all = client.metadata(None, timeout).map_err(|code| client_error(what, code, client))?;
        return all.iter().filter_map(|topic| topic_info(topic).transpose()).collect();
    };
    let mut asked = HashSet::new();
    let mut found = Vec::new();
    for name in names.iter().filter(|name| asked.insert(Arc::clone(name))) {
        let what = || format!("can't look up the topic {name}");
        let handle =
            Topic::new(client, name).ok_or_else(|| log_error(what(), "invalid-name", "it is no name for a topic"))?;
        loop {
            let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
            let answer = client.metadata(Some(&handle), left).map_err(|code| client_error(what(), code, client))?;
            // A topic whose partitions have no leaders yet was made a moment ago; the next answer has them.
            if answer.iter().any(|topic| topic_in_the_making(topic.code) && topic.partitions == 0)
                && Instant::now() < deadline
            {
                std::thread::sleep(Duration::from_millis(50));
                continue;
            }
            for topic in &answer {
                found.extend(topic_info(topic)?);
            }
            break;
        }
    }
    Ok(found)
}

/// `None` where the answer is that there is no such topic.
fn topic_info(topic: &TopicMetadata) -> Result<Option<TopicInfo>, LogError> {
    if no_such_topic(topic.code) {
        return Ok(None);
    }
    if topic.code.is_error() && !topic_in_the_making(topic.code) {
        let what = format!("can't look up the topic {}", topic.name);
        return Err(coded(what, topic.code, topic.code.describe()));
    }
    Ok(Some(TopicInfo { name: Arc::from(topic.name.as_str()), partitions: topic.partitions }))
}

/// Creates those topics that are not there.
pub(crate) fn create_topics(client: &Arc<Client>, topics: &[NewTopic], timeout: Duration) -> Result<(), LogError> {
    if topics.is_empty() {
        return Ok(());
    }
    let properties: Vec<_> = topics
        .iter()
        .map(|topic| {
            let retention = topic.retention.map_or_else(|| "-1".to_owned(), |kept| kept.as_millis().to_string());
            // The cluster's own default may compact, which would eat records that share a key.
            [("retention.ms", retention), ("cleanup.policy", "delete".to_owned())]
        })
        .collect();
    let requests: Vec<_> = topics
        .iter()
        .zip(&properties)
        .map(|(topic, properties)| (&*topic.name, topic.partitions, properties.as_slice()))
        .collect();
    let created = client.create_topics(&requests, timeout).map_err(|(code, message)| {
        let message = format!("{message}{}", client.complaint().clause());
        coded("can't create topics".to_owned(), code, message)
    })?;
    match created.into_iter().find(|topic| topic.code.is_error() && !topic_exists(topic.code)) {
        None => Ok(()),
        Some(topic) => Err(coded(format!("can't create the topic {}", topic.name), topic.code, topic.message)),
    }
}

/// What the cluster does with the records of topics, in their order.
pub(crate) fn settings(
    client: &Arc<Client>,
    topics: &[Arc<str>],
    timeout: Duration,
) -> Result<Vec<TopicSettings>, LogError> {
    if topics.is_empty() {
        return Ok(Vec::new());
    }
    let names: Vec<&str> = topics.iter().map(|topic| &**topic).collect();
    let found = client.topic_configs(&names, timeout).map_err(|(code, message)| {
        let message = format!("{message}{}", client.complaint().clause());
        coded("can't read the settings of topics".to_owned(), code, message)
    })?;
    topics
        .iter()
        .map(|topic| {
            let what = || format!("can't read the settings of the topic {topic}");
            match found.iter().find(|found| found.name == **topic) {
                Some(TopicConfig { error: Some((code, message)), .. }) => Err(coded(what(), *code, message.clone())),
                Some(TopicConfig { entries, .. }) => Ok(topic_settings(entries)),
                None => Err(log_error(what(), "no-answer", "the answer lacks the topic")),
            }
        })
        .collect()
}

pub(crate) fn topic_settings(entries: &[(String, String)]) -> TopicSettings {
    let value = |name: &str| entries.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str());
    // -1 stands for no bound, and does not parse.
    let bound = |name| value(name).and_then(|value| value.parse::<u64>().ok());
    let policies = value("cleanup.policy").unwrap_or_default();
    let deletes = policies.split(',').any(|policy| policy.trim() == "delete");
    TopicSettings {
        retention: bound("retention.ms").filter(|_| deletes).map(Duration::from_millis),
        retention_bytes: bound("retention.bytes").filter(|_| deletes),
        compacted: policies.split(',').any(|policy| policy.trim() == "compact"),
        max_batch_bytes: bound("max.message.bytes").and_then(|bytes| usize::try_from(bytes).ok()),
    }
}

/// The first offset there is, and one past the last.
pub(crate) fn watermarks(
    client: &Client,
    partition: &TopicPartition,
    timeout: Duration,
) -> Result<(i64, i64), LogError> {
    client
        .watermarks(&partition.topic, partition.partition, timeout)
        .map_err(|code| client_error(format!("can't learn what {partition} holds"), code, client))
}

/// Partitions of one request: librdkafka's work for a list grows with the square of its length, and a request to brokers that are far
/// away takes its time.
pub(crate) const AT_ONCE: usize = 250;

/// Said of a partition that has no such offset.
const NOT_THERE: Known = Known::RD_KAFKA_RESP_ERR_OFFSET_NOT_AVAILABLE;

/// The first offset of each partition at or after a time, in milliseconds, or one of its ends
/// ([`OFFSET_BEGINNING`](Client::OFFSET_BEGINNING), [`OFFSET_END`](Client::OFFSET_END)), for which Kafka's protocol asks in the same
/// way: in one request for each leader.
pub(crate) fn offsets<'p>(
    client: &Client,
    times: impl IntoIterator<Item = (&'p TopicPartition, i64)>,
    timeout: Duration,
) -> Result<Vec<Result<i64, Code>>, Code> {
    let deadline = Instant::now() + timeout;
    let mut times = times.into_iter().peekable();
    let mut offsets = Vec::new();
    while times.peek().is_some() {
        let mut list = PartitionList::with_capacity(AT_ONCE);
        for (partition, time) in times.by_ref().take(AT_ONCE) {
            list.push(&partition.topic, partition.partition, time, "");
        }
        client.offsets_for_times(&mut list, left(deadline))?;
        // librdkafka keeps the order of the list.
        offsets.extend(list.iter().map(|found| match found.code.ok() {
            Ok(()) if found.offset >= 0 => Ok(found.offset),
            Ok(()) => Err(Code::of(NOT_THERE)),
            Err(code) => Err(code),
        }));
    }
    Ok(offsets)
}

/// What is left until then: never nothing, which librdkafka takes for no time to answer at all.
pub(crate) fn left(deadline: Instant) -> Duration {
    deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1))
}

/// One past the last record of each partition.
pub(crate) fn ends(client: &Client, partitions: &[TopicPartition], timeout: Duration) -> Result<Vec<i64>, Code> {
    let ends = partitions.iter().map(|partition| (partition, Client::OFFSET_END));
    offsets(client, ends, timeout)?.into_iter().collect()
}

/// Where each partition is to be started: at its end where nothing has come since a time.
pub(crate) fn starts(
    client: &Client,
    wanted: &[(&TopicPartition, StartAt)],
    timeout: Duration,
) -> Result<Vec<i64>, Code> {
    let times = wanted.iter().map(|(partition, start)| match start {
        StartAt::Earliest => (*partition, Client::OFFSET_BEGINNING),
        StartAt::Latest => (*partition, Client::OFFSET_END),
        StartAt::Time(timestamp_ms) => (*partition, (*timestamp_ms).max(0)),
    });
    let mut starts = offsets(client, times, timeout)?;
    let is_late = |at: &usize| matches!(wanted[*at].1, StartAt::Time(_)) && starts[*at] == Err(Code::of(NOT_THERE));
    let late: Vec<usize> = (0..wanted.len()).filter(is_late).collect();
    let ends = offsets(client, late.iter().map(|at| (wanted[*at].0, Client::OFFSET_END)), timeout)?;
    for (at, end) in late.into_iter().zip(ends) {
        starts[at] = end;
    }
    starts.into_iter().collect()
}

/// The first offset at or after a time, or the end of the partition.
pub(crate) fn offset_at(
    client: &Client,
    partition: &TopicPartition,
    timestamp_ms: i64,
    timeout: Duration,
) -> Result<i64, LogError> {
    let found = starts(client, &[(partition, StartAt::Time(timestamp_ms))], timeout);
    let found = found.and_then(|offsets| offsets.first().copied().ok_or(Code::of(NOT_THERE)));
    found.map_err(|code| client_error(format!("can't find a time in {partition}"), code, client))
}

/// What a group has committed, by a client that lives for this question only.
pub(crate) fn committed(
    settings: &KafkaSettings,
    group: &str,
    partitions: &[TopicPartition],
) -> Result<Vec<Option<Commit>>, LogError> {
    let what = format!("can't read the commits of the group {group}");
    if partitions.is_empty() {
        return Ok(Vec::new());
    }
    let client = Client::new(Kind::Reader, &settings.onlooker(group))
        .map_err(|message| log_error(what.as_str(), "client", message))?;
    of_coordinator(settings.request_timeout, |code| *code, |left| committed_by(&client, partitions, left))
        .map_err(|code| client_error(what.as_str(), code, &client))
}

/// Asks a group's coordinator, again where librdkafka has asked a broker that is not it any more, or not yet, and looks for
/// the one that is.
pub(crate) fn of_coordinator<T, E>(
    timeout: Duration,
    code: impl Fn(&E) -> Code,
    ask: impl Fn(Duration) -> Result<T, E>,
) -> Result<T, E> {
    let deadline = Instant::now() + timeout;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        match ask(left) {
            Err(error) if coordinator_moves(code(&error)) && !left.is_zero() => {
                std::thread::sleep(Duration::from_millis(50));
            }
            answer => return answer,
        }
    }
}

/// What a client's own group has committed, in the order of `partitions`.
pub(crate) fn committed_by(
    client: &Client,
    partitions: &[TopicPartition],
    timeout: Duration,
) -> Result<Vec<Option<Commit>>, Code> {
    let mut list = PartitionList::with_capacity(partitions.len());
    for partition in partitions {
        list.push(&partition.topic, partition.partition, 0, "");
    }
    client.committed(&mut list, timeout)?;
    // librdkafka keeps the order of the list.
    list.iter()
        .zip(partitions)
        .map(|(found, partition)| {
            found.code.ok()?;
            Ok((found.offset >= 0).then(|| Commit {
                partition: partition.clone(),
                offset: found.offset,
                // Not ours if it is not UTF-8: whoever reads it finds no version that it knows.
                metadata: String::from_utf8_lossy(found.metadata).into_owned(),
            }))
        })
        .collect()
}

const IN_USE: &str =
    "; the group has members: stop the routers that are in it, and wait until the broker knows that they are gone";

/// Sets what a group without members has committed.
pub(crate) fn set_committed(
    client: &Arc<Client>,
    group: &str,
    commits: &[Commit],
    timeout: Duration,
) -> Result<(), LogError> {
    if commits.is_empty() {
        return Ok(());
    }
    let mut list = PartitionList::with_capacity(commits.len());
    for Commit { partition, offset, metadata } in commits {
        list.push(&partition.topic, partition.partition, *offset, metadata);
    }
    let ask = |left| client.alter_group_offsets(group, &list, left);
    of_coordinator(timeout, |(code, _)| *code, ask).map_err(|(code, message)| {
        let in_use = if group_in_use(code) { IN_USE } else { "" };
        let message = format!("{message}{}{in_use}", client.complaint().clause());
        coded(format!("can't set what the group {group} has committed"), code, message)
    })
}

/// An error with a broker's own sentence, and what can be done about it.
pub(crate) fn coded(what: String, code: Code, message: String) -> LogError {
    LogError { what, code: code.to_string(), message: format!("{message}{}", remedy(code)) }
}
