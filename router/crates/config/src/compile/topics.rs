//! The topics that the router writes to: each once, with one role.

use std::collections::{BTreeMap, BTreeSet};

use pointsman_core::delivery::TopicId;

use crate::findings::{Findings, Span};
use crate::names::metric_name;
use crate::plan::{TopicPlan, TopicRole};

/// The table of topics while it grows.
pub(super) struct Topics<'f> {
    findings: &'f Findings,
    /// Every source topic of every route.
    sources: BTreeSet<String>,
    topics: Vec<(TopicPlan, Span)>,
    /// The index of each, by its name.
    indices: BTreeMap<String, usize>,
}

impl<'f> Topics<'f> {
    pub(super) const fn new(sources: BTreeSet<String>, findings: &'f Findings) -> Self {
        Self { findings, sources, topics: Vec::new(), indices: BTreeMap::new() }
    }

    /// The index of a topic in this role; `span` is the place that wants it.
    pub(super) fn add(&mut self, name: &str, role: TopicRole, span: &Span) -> TopicId {
        if matches!(role, TopicRole::Retry { .. }) && self.sources.contains(name) {
            let message = format!("the retry topic `{name}` is also a source topic");
            self.findings.mistake(span, message, "retry topics belong to the router alone: choose another name");
        }
        if let Some(&index) = self.indices.get(name) {
            self.share(index, &role, span);
            return id(index);
        }
        self.indices.insert(name.to_owned(), self.topics.len());
        self.topics.push((TopicPlan { name: name.into(), role }, span.clone()));
        id(self.topics.len() - 1)
    }

    /// A second use of a topic: only outputs, and dead letters with one retention, can share one.
    fn share(&self, index: usize, role: &TopicRole, span: &Span) {
        let Some((first, first_span)) = self.topics.get(index) else { return };
        let name = &first.name;
        let (message, remedy) = match (&first.role, role) {
            (TopicRole::Output, TopicRole::Output) => return,
            (TopicRole::DeadLetter { retention: one }, TopicRole::DeadLetter { retention: other }) => {
                if one == other {
                    return;
                }
                (
                    format!("the dead-letter topic `{name}` has two retentions"),
                    "give both routes the same `retention`, or topics of their own",
                )
            }
            (TopicRole::Retry { .. }, TopicRole::Retry { .. }) => (
                format!("the retry topic `{name}` is used twice"),
                "each source topic of each route needs a retry topic of its own",
            ),
            (one, other) => (
                format!("the topic `{name}` is {} and {}", role_name(one), role_name(other)),
                "outputs, retry topics and dead-letter topics must be different topics",
            ),
        };
        self.findings.conflict(span, (first_span, "and here"), message, remedy);
    }

    /// The finished table. Kafka refuses a topic whose name differs from another one's in `.` and `_` alone.
    pub(super) fn finish(self) -> Vec<TopicPlan> {
        let mut sources = BTreeMap::<String, Vec<&str>>::new();
        for source in &self.sources {
            sources.entry(metric_name(source)).or_default().push(source);
        }
        let mut topics = BTreeMap::<String, &str>::new();
        for (topic, span) in &self.topics {
            let metric = metric_name(&topic.name);
            let of_sources = || sources.get(&metric)?.iter().copied().find(|source| *source != &*topic.name);
            let twin = topics.get(&metric).copied().or_else(of_sources);
            topics.entry(metric).or_insert(&topic.name);
            if let Some(twin) = twin {
                self.findings.mistake(
                    span,
                    format!(
                        "the topics `{}` and `{twin}` differ in `.` and `_` alone, which Kafka refuses",
                        topic.name
                    ),
                    "name one of them differently; the names of retry and dead-letter topics can be set with `topic`",
                );
            }
        }
        self.topics.into_iter().map(|(topic, _)| topic).collect()
    }
}

const fn role_name(role: &TopicRole) -> &'static str {
    match role {
        TopicRole::Output => "an output",
        TopicRole::Retry { .. } => "a retry topic",
        TopicRole::DeadLetter { .. } => "a dead-letter topic",
    }
}

fn id(index: usize) -> TopicId {
    TopicId(u32::try_from(index).unwrap_or(u32::MAX))
}
