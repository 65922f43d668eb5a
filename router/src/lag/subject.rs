//! What a lag is told of: the topics of a plan, or those that some group has committed.

use std::collections::BTreeMap;
use std::sync::Arc;

use pointsman_config::Plan;
use pointsman_config::plan::RoutePlan;
use pointsman_core::port::{Commit, StartAt};
use pointsman_core::record::TopicPartition;

use super::report::{Kind, What};

/// One topic, for one group.
#[derive(Clone, Debug)]
pub(super) struct Subject {
    pub(super) what: What,
    pub(super) topic: Arc<str>,
    /// Whose commits count; `None` for dead letters, which nobody commits.
    pub(super) group: Option<Arc<str>>,
    /// Where the group begins in a partition for which it has committed nothing.
    pub(super) start: StartAt,
    /// The topic whose readers read this one along.
    pub(super) follows: Option<Arc<str>>,
    pub(super) partitions: Vec<i32>,
}

impl Subject {
    fn new(route: &str, group: Option<&Arc<str>>, kind: Kind, topic: &Arc<str>) -> Self {
        let what = What {
            route: Some(route.to_owned()),
            group: group.map(ToString::to_string),
            kind,
            topic: topic.to_string(),
        };
        let group = group.cloned();
        Self { what, topic: Arc::clone(topic), group, start: StartAt::Earliest, follows: None, partitions: Vec::new() }
    }

    /// The subject, with as many partitions as its topic has.
    pub(super) fn with(&self, partitions: u32) -> Self {
        Self { partitions: (0..i32::try_from(partitions).unwrap_or(i32::MAX)).collect(), ..self.clone() }
    }

    pub(super) fn all_partitions(&self) -> impl Iterator<Item = TopicPartition> {
        self.partitions.iter().map(|number| TopicPartition::new(Arc::clone(&self.topic), *number))
    }
}

/// The topics of a plan, or of one of its routes: sources, each with its retry topic, and dead letters. How many partitions they have
/// is not known yet.
pub(super) fn of_plan(plan: &Plan, route: Option<&str>) -> Vec<Subject> {
    let is_meant = |own: &&RoutePlan| route.is_none_or(|route| *own.name == *route);
    let mut subjects = Vec::new();
    let mut letters: Vec<(Arc<str>, Vec<&str>)> = Vec::new();
    for own in plan.routes.iter().filter(is_meant) {
        for source in &own.sources {
            let mut subject = Subject::new(&own.name, Some(&own.group), Kind::Source, &source.topic);
            subject.start = own.start;
            subjects.push(subject);
            if let Some(retry) = source.retry.and_then(|topic| plan.topics.get(topic.0 as usize)) {
                let mut subject = Subject::new(&own.name, Some(&own.group), Kind::Retry, &retry.name);
                subject.follows = Some(Arc::clone(&source.topic));
                subjects.push(subject);
            }
        }
        if let Some(topic) = own.dead_letter.and_then(|topic| plan.topics.get(topic.0 as usize)) {
            match letters.iter_mut().find(|(name, _)| *name == topic.name) {
                Some((_, routes)) => routes.push(&own.name),
                None => letters.push((Arc::clone(&topic.name), vec![&own.name])),
            }
        }
    }
    let letters = letters.iter().map(|(topic, routes)| Subject::new(&routes.join(", "), None, Kind::DeadLetter, topic));
    subjects.extend(letters);
    subjects
}

/// What some group has committed.
pub(super) fn of_group(group: &Arc<str>, commits: &[Commit]) -> Vec<Subject> {
    let mut topics: BTreeMap<Arc<str>, Vec<i32>> = BTreeMap::new();
    for Commit { partition, .. } in commits {
        topics.entry(Arc::clone(&partition.topic)).or_default().push(partition.partition);
    }
    let each = topics.into_iter().map(|(topic, mut partitions)| {
        partitions.sort_unstable();
        let what = What { route: None, group: Some(group.to_string()), kind: Kind::Source, topic: topic.to_string() };
        let group = Some(Arc::clone(group));
        Subject { what, topic, group, start: StartAt::Earliest, follows: None, partitions }
    });
    each.collect()
}
