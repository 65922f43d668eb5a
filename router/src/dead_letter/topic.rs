//! The topics that dead letters lie in, and how long they stay there.

use std::sync::Arc;
use std::time::Duration;

use pointsman_config::Plan;
use pointsman_core::port::{Log, LogError, TopicInfo, TopicSettings};
use pointsman_core::record::TopicPartition;

/// A topic, looked up.
#[derive(Clone, Debug)]
pub struct Topic {
    /// Name.
    pub name: Arc<str>,
    /// Number of partitions.
    pub partitions: u32,
    /// What the log does with its records; `None` where that can't be asked (a right that a careful operator does not give).
    pub settings: Option<TopicSettings>,
}

/// Until when a letter is kept. By size, a topic may drop it before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expiry {
    /// It is not known.
    Unknown,
    /// From this time on it may be gone: milliseconds since 1970-01-01 UTC.
    At(i64),
    /// For ever.
    Never,
}

impl Expiry {
    /// The sooner of two; what is not known may be sooner than never.
    #[must_use]
    pub fn sooner(self, other: Self) -> Self {
        match (self, other) {
            (Self::At(one), Self::At(other)) => Self::At(one.min(other)),
            (Self::At(at), _) | (_, Self::At(at)) => Self::At(at),
            (Self::Unknown, _) | (_, Self::Unknown) => Self::Unknown,
            (Self::Never, Self::Never) => Self::Never,
        }
    }
}

/// The dead-letter topics of a plan, each once, in the order of the routes.
#[must_use]
pub fn of_plan(plan: &Plan) -> Vec<Arc<str>> {
    let mut names: Vec<Arc<str>> = Vec::new();
    for topic in plan.routes.iter().filter_map(|route| plan.topics.get(route.dead_letter?.0 as usize)) {
        if !names.contains(&topic.name) {
            names.push(Arc::clone(&topic.name));
        }
    }
    names
}

impl Topic {
    /// Looks up topics. Names that the log does not have are not in the answer.
    ///
    /// # Errors
    /// [`LogError`]: the log can't list its topics.
    pub fn look_up(log: &dyn Log, names: &[Arc<str>]) -> Result<Vec<Self>, LogError> {
        let found = log.topics(Some(names))?;
        let in_order = names.iter().filter_map(|name| found.iter().find(|topic| topic.name == *name));
        Ok(in_order.map(|topic| Self::of(log, topic)).collect())
    }

    /// A topic that was looked up already.
    #[must_use]
    pub fn of(log: &dyn Log, topic: &TopicInfo) -> Self {
        let settings =
            log.settings(std::slice::from_ref(&topic.name)).ok().and_then(|settings| settings.into_iter().next());
        Self { name: Arc::clone(&topic.name), partitions: topic.partitions, settings }
    }

    /// Until when a record with this timestamp is kept.
    #[must_use]
    pub fn expiry(&self, timestamp_ms: i64) -> Expiry {
        match &self.settings {
            None => Expiry::Unknown,
            Some(TopicSettings { retention: None, .. }) => Expiry::Never,
            Some(_) if timestamp_ms < 0 => Expiry::Unknown,
            Some(TopicSettings { retention: Some(retention), .. }) => {
                Expiry::At(timestamp_ms.saturating_add(ms(*retention)))
            }
        }
    }

    /// What may go before its time, or is not known: sentences for a person.
    #[must_use]
    pub fn cautions(&self) -> Vec<String> {
        let name = &self.name;
        let Some(settings) = &self.settings else {
            return vec![format!(
                "until when {name} keeps its letters is not known: that takes the right DescribeConfigs on the topic"
            )];
        };
        let mut cautions = Vec::new();
        if settings.compacted {
            cautions.push(format!("{name} is compacted: of letters with one key it keeps only the last"));
        }
        if let Some(bytes) = settings.retention_bytes {
            cautions
                .push(format!("{name} keeps at most {bytes} bytes of a partition: letters may go before they expire"));
        }
        cautions
    }

    /// Its partitions.
    pub fn all_partitions(&self) -> impl Iterator<Item = TopicPartition> {
        let count = i32::try_from(self.partitions).unwrap_or(i32::MAX);
        (0..count).map(|partition| TopicPartition::new(Arc::clone(&self.name), partition))
    }
}

fn ms(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
