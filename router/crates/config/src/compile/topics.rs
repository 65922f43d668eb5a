//! The topics that the router writes to: each once, with one role.

use std::collections::BTreeSet;
use std::sync::Arc;

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
}

impl<'f> Topics<'f> {
    pub(super) const fn new(sources: BTreeSet<String>, findings: &'f Findings) -> Self {
        Self { findings, sources, topics: Vec::new() }
    }

    /// The index of a topic in this role; `span` is the place that wants it.
    pub(super) fn add(&mut self, name: &str, role: TopicRole, span: &Span) -> TopicId {
        if matches!(role, TopicRole::Retry { .. }) && self.sources.contains(name) {
            let message = format!("the retry topic `{name}` is also a source topic");
            self.findings.mistake(span, message, "retry topics belong to the router alone: choose another name");
        }
        if let Some(index) = self.topics.iter().position(|(topic, _)| &*topic.name == name) {
            self.share(index, &role, span);
            return id(index);
        }
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
        for (index, (topic, span)) in self.topics.iter().enumerate() {
            let twin = self.topics[..index].iter().map(|(twin, _)| &twin.name).find(|twin| collide(twin, &topic.name));
            let twin = twin.map(|twin| twin.as_ref());
            let twin =
                twin.or_else(|| self.sources.iter().map(String::as_str).find(|source| collide(source, &topic.name)));
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

fn collide(one: &str, other: &Arc<str>) -> bool {
    one != &**other && metric_name(one) == metric_name(other)
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
