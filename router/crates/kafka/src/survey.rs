//! How a cluster is, for `pointsman doctor`. Nothing is changed by asking.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use pointsman_core::port::LogError;
use pointsman_core::port::survey::{BrokerSurvey, ClusterSurvey, Question, Said, TopicSurvey};

use crate::admin::{coded, of_coordinator, topic_settings};
use crate::classify::{did_not_answer, no_such_group, no_such_topic};
use crate::error::log_error;
use crate::native::{Client, Code, DescribedTopic, Kind, Node, TopicConfig};
use crate::settings::KafkaSettings;

/// One broker that is away is not to hold up what the others say for long.
const BROKER_TIMEOUT: Duration = Duration::from_secs(5);

/// Asks the cluster that `settings` name, by a client that lives for this question only.
///
/// # Errors
/// [`LogError`] where a property is refused. What the cluster itself does not tell is an error in its place.
pub fn survey(settings: &KafkaSettings, question: &Question) -> Result<ClusterSurvey, LogError> {
    settings.check()?;
    let client = Client::new(Kind::Reader, &settings.examiner())
        .map_err(|message| log_error("can't use [broker]", "client", message))?;
    let client = Arc::new(client);
    let timeout = settings.request_timeout;
    let nodes = match client.describe_cluster(timeout) {
        Ok(nodes) => nodes,
        Err(failed) => {
            let error = failure(&client, "can't reach the cluster".to_owned(), failed);
            // Without it nothing else is answered either, and each answer would be waited for.
            return Ok(ClusterSurvey { brokers: Err(error), topics: BTreeMap::new(), groups: BTreeMap::new() });
        }
    };
    let brokers = nodes.into_iter().map(|node| broker(&client, node, timeout.min(BROKER_TIMEOUT))).collect();
    let topics = question.topics.iter().map(|name| (Arc::clone(name), topic(&client, name, timeout))).collect();
    let groups = question.groups.iter().map(|name| {
        // With all of the time, each time: librdkafka ends the process where such a request times out while a coordinator moves.
        let ask = |_| client.describe_group(name, timeout);
        let found = match of_coordinator(timeout, |(code, _): &(Code, String)| *code, ask) {
            Ok(group) => Ok(Some(group)),
            Err((code, _)) if no_such_group(code) => Ok(None),
            Err(failed) => Err(failure(&client, format!("can't look up the group {name}"), failed)),
        };
        (Arc::clone(name), found)
    });
    Ok(ClusterSurvey { brokers: Ok(brokers), topics, groups: groups.collect() })
}

fn failure(client: &Client, what: String, (code, message): (Code, String)) -> LogError {
    let clause = if did_not_answer(code) { client.complaint().clause() } else { String::new() };
    coded(what, code, format!("{message}{clause}"))
}

fn broker(client: &Arc<Client>, Node { id, address }: Node, timeout: Duration) -> BrokerSurvey {
    let what = || format!("can't read the settings of the broker {id}");
    let (settings, is_silent) = match client.broker_config(id, timeout).map(one) {
        Ok(Ok(entries)) => (Ok(entries.into_iter().collect()), false),
        Ok(Err(failed)) => (Err(failure(client, what(), failed)), false),
        Err(failed) => {
            let is_silent = did_not_answer(failed.0);
            (Err(failure(client, what(), failed)), is_silent)
        }
    };
    let requests = client.requests().of(&address);
    BrokerSurvey { id, address, settings, is_silent, requests }
}

/// Names and values of the one thing that was asked for.
fn one(configs: Vec<TopicConfig>) -> Result<Vec<(String, String)>, (Code, String)> {
    match configs.into_iter().next() {
        Some(TopicConfig { error: Some(failed), .. }) => Err(failed),
        Some(TopicConfig { entries, .. }) => Ok(entries),
        None => Ok(Vec::new()),
    }
}

fn topic(client: &Arc<Client>, name: &str, timeout: Duration) -> Said<Option<TopicSurvey>> {
    let DescribedTopic { partitions, replicas, in_sync, leaderless, rights } =
        match client.describe_topic(name, timeout) {
            Ok(described) => described,
            Err((code, _)) if no_such_topic(code) => return Ok(None),
            Err(failed) => return Err(failure(client, format!("can't look up the topic {name}"), failed)),
        };
    let found = client.topic_configs(&[name], timeout).and_then(one);
    let entries =
        found.map_err(|failed| failure(client, format!("can't read the settings of the topic {name}"), failed));
    let min_in_sync = entries.as_ref().ok().and_then(|entries| {
        entries.iter().find(|(name, _)| name == "min.insync.replicas").and_then(|(_, value)| value.parse().ok())
    });
    let settings = entries.map(|entries| topic_settings(&entries));
    Ok(Some(TopicSurvey { partitions, replicas, in_sync, leaderless, rights, settings, min_in_sync }))
}
