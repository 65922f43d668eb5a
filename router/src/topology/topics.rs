//! Sees that the topics are there, and that they keep what is entrusted to them.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use pointsman_config::plan::{BrokerPlan, OutputPlan, Plan, RoutePlan, TopicPlan, TopicRole};
use pointsman_core::port::{Log, NewTopic, TopicInfo, TopicSettings};
use thiserror::Error;

use super::StartError;

/// Partitions of a source topic that is made on the embedded log because it is not there.
const EMBEDDED_PARTITIONS: u32 = 4;

/// Makes the retry and dead-letter topics that are not there, and on the embedded log all others too; checks those that
/// are there.
///
/// # Errors
/// [`StartError::MissingTopics`], [`StartError::UnfitTopics`], [`StartError::Log`].
pub fn prepare_topics(plan: &Plan, log: &dyn Log) -> Result<(), StartError> {
    let topics = Topics::look_up(plan, log)?;
    match &plan.broker {
        BrokerPlan::Embedded { retention, .. } => {
            let own = topics.own(*retention).chain(topics.derived());
            create(log, &own.collect::<Vec<_>>(), &topics)
        }
        BrokerPlan::Kafka { .. } => {
            topics.all_there()?;
            topics.check(log)?;
            let missing = topics.derived().filter(|topic| !topics.is_there(&topic.name));
            create(log, &missing.collect::<Vec<_>>(), &topics)
        }
    }
}

fn create(log: &dyn Log, topics: &[NewTopic], known: &Topics<'_>) -> Result<(), StartError> {
    for topic in topics.iter().filter(|topic| !known.is_there(&topic.name)) {
        tracing::info!(topic = %topic.name, partitions = topic.partitions, "creating topic");
    }
    if !topics.is_empty() {
        log.create_topics(topics)?;
    }
    Ok(())
}

/// The topics of a plan, and those of them that are there.
struct Topics<'a> {
    plan: &'a Plan,
    sources: BTreeSet<&'a Arc<str>>,
    there: Vec<TopicInfo>,
}

impl<'a> Topics<'a> {
    fn look_up(plan: &'a Plan, log: &dyn Log) -> Result<Self, StartError> {
        let sources: BTreeSet<&Arc<str>> =
            plan.routes.iter().flat_map(|route| &route.sources).map(|source| &source.topic).collect();
        let names: BTreeSet<Arc<str>> =
            sources.iter().copied().chain(plan.topics.iter().map(|topic| &topic.name)).cloned().collect();
        let there = log.topics(Some(&names.into_iter().collect::<Vec<_>>()))?;
        Ok(Self { plan, sources, there })
    }

    fn is_there(&self, name: &str) -> bool {
        self.there.iter().any(|topic| &*topic.name == name)
    }

    /// How many partitions a topic has, or will have.
    fn partitions(&self, name: &str) -> u32 {
        self.there.iter().find(|topic| &*topic.name == name).map_or(EMBEDDED_PARTITIONS, |topic| topic.partitions)
    }

    fn widest_source(&self) -> u32 {
        self.sources.iter().map(|source| self.partitions(source)).max().unwrap_or(EMBEDDED_PARTITIONS)
    }

    fn outputs(&self) -> impl Iterator<Item = &'a Arc<str>> {
        self.plan.topics.iter().filter(|topic| topic.role == TopicRole::Output).map(|topic| &topic.name)
    }

    /// Sources and outputs, as the embedded log has them.
    fn own(&self, retention: Option<Duration>) -> impl Iterator<Item = NewTopic> {
        let names: BTreeSet<&Arc<str>> = self.sources.iter().copied().chain(self.outputs()).collect();
        names.into_iter().map(move |name| NewTopic {
            name: Arc::clone(name),
            partitions: if self.sources.contains(name) { self.partitions(name) } else { self.widest_source() },
            retention,
        })
    }

    /// Retry and dead-letter topics.
    fn derived(&self) -> impl Iterator<Item = NewTopic> {
        self.plan.topics.iter().filter_map(|topic| {
            let (partitions, retention) = match &topic.role {
                TopicRole::Output => return None,
                TopicRole::Retry { source } => (self.partitions(source), None),
                TopicRole::DeadLetter { retention } => (self.widest_source(), *retention),
            };
            Some(NewTopic { name: Arc::clone(&topic.name), partitions, retention })
        })
    }

    fn all_there(&self) -> Result<(), StartError> {
        let names: BTreeSet<&Arc<str>> = self.sources.iter().copied().chain(self.outputs()).collect();
        let missing: Vec<String> =
            names.into_iter().filter(|name| !self.is_there(name)).map(ToString::to_string).collect();
        if missing.is_empty() { Ok(()) } else { Err(StartError::MissingTopics(missing)) }
    }

    /// Whether the topics that are there keep what they are given, and have the partitions that are written to.
    fn check(&self, log: &dyn Log) -> Result<(), StartError> {
        let derived: Vec<&TopicPlan> = self
            .plan
            .topics
            .iter()
            .filter(|topic| topic.role != TopicRole::Output && self.is_there(&topic.name))
            .collect();
        let names: Vec<Arc<str>> = derived.iter().map(|topic| Arc::clone(&topic.name)).collect();
        let mut unfit: Vec<String> = self.plan.routes.iter().flat_map(|route| self.too_narrow(route)).collect();
        match log.settings(&names) {
            Ok(settings) => {
                for (topic, settings) in derived.into_iter().zip(settings) {
                    unfit.extend(self.faults(topic, &settings));
                }
            }
            // A right that a careful operator may not want to give: `check --acls` says what it is for.
            Err(error) => {
                tracing::warn!("whether the retry and dead-letter topics keep their records is not known: {error}")
            }
        }
        if unfit.is_empty() { Ok(()) } else { Err(StartError::UnfitTopics(unfit)) }
    }

    /// Outputs that keep the partition of the origin, and have fewer.
    fn too_narrow(&self, route: &'a RoutePlan) -> impl Iterator<Item = String> {
        let same = route.outputs.iter().filter(|output| output.same_partition);
        same.flat_map(move |output| route.sources.iter().map(move |source| (output, &source.topic))).filter_map(
            move |(output, source): (&OutputPlan, &Arc<str>)| {
                let output = &self.plan.topics.get(output.topic.0 as usize)?.name;
                let (wide, narrow) = (self.partitions(source), self.partitions(output));
                Some(format!("{output} {}", too_narrow(output, narrow, source, wide, &route.name)?))
            },
        )
    }

    /// What is wrong with a retry or dead-letter topic.
    fn faults(&self, topic: &TopicPlan, settings: &TopicSettings) -> Vec<String> {
        let name = &topic.name;
        let faults = unfit(topic, settings).into_iter().map(|unfit| format!("{name} {unfit}")).collect();
        match &topic.role {
            TopicRole::Output | TopicRole::Retry { .. } => {}
            TopicRole::DeadLetter { retention } => {
                if settings.retention != *retention {
                    tracing::warn!(
                        topic = %name, is = ?settings.retention, planned = ?retention,
                        "the retention of the dead letters is not the one of the route's `dead_letter`"
                    );
                }
            }
        }
        if settings.max_batch_bytes.is_some_and(|most| most < self.plan.router.max_record_bytes) {
            tracing::warn!(
                topic = %name, most = settings.max_batch_bytes, record = self.plan.router.max_record_bytes,
                "the topic takes smaller records than `router.max_record_size` allows; larger ones are dead-lettered without their payload"
            );
        }
        faults
    }
}

/// Why a topic can't be used as it is.
#[derive(Clone, Debug, Error)]
#[error("{cause}: {remedy}")]
pub(crate) struct Unfit {
    /// The topic is the subject.
    pub(crate) cause: String,
    pub(crate) remedy: String,
}

/// An output that keeps the partition of the origin, and has fewer.
pub(crate) fn too_narrow(output: &str, narrow: u32, source: &str, wide: u32, route: &str) -> Option<Unfit> {
    (narrow < wide).then(|| Unfit {
        cause: format!("has {narrow} partitions, and {source} has {wide}, which route {route:?} wants to keep"),
        remedy: format!("{}, or choose `partition = \"key\"`", add_partitions(output, wide)),
    })
}

/// What gives a topic more partitions.
pub(crate) fn add_partitions(topic: &str, partitions: u32) -> String {
    format!("add partitions (kafka-topics.sh --alter --topic {topic} --partitions {partitions})")
}

/// What is wrong with how a retry or dead-letter topic keeps its records.
pub(crate) fn unfit(topic: &TopicPlan, settings: &TopicSettings) -> Vec<Unfit> {
    let mut faults = Vec::new();
    if topic.role != TopicRole::Output && settings.compacted {
        faults.push(Unfit {
            cause: "is compacted, so that of records with one key all but the last are lost".to_owned(),
            remedy: format!("set its cleanup.policy {}", alter(&topic.name, "cleanup.policy=delete")),
        });
    }
    let is_bounded = settings.retention.is_some() || settings.retention_bytes.is_some();
    if matches!(topic.role, TopicRole::Retry { .. }) && is_bounded {
        faults.push(Unfit {
            cause: "does not keep its records for ever, so that parked records may be lost".to_owned(),
            remedy: format!("set its retention {}", alter(&topic.name, "retention.ms=-1,retention.bytes=-1")),
        });
    }
    faults
}

/// The command that changes a setting of a topic.
pub(crate) fn alter(topic: &str, setting: &str) -> String {
    format!("(kafka-configs.sh --alter --entity-type topics --entity-name {topic} --add-config {setting})")
}
