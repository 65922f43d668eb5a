//! What a name means: a route of a plan, a topic of a log; and what was meant where it means nothing.

use std::sync::Arc;

use pointsman_config::Plan;
use pointsman_config::document::{nearest, topic_fault};
use pointsman_config::plan::RoutePlan;
use pointsman_core::port::{Log, LogError, TopicInfo};
use thiserror::Error;

/// The configuration has no such route.
#[derive(Debug, Error)]
#[error("there is no route {name:?}{}; the configuration has {known}", .meant.as_ref().map(|meant| format!(" (is it {meant}?)")).unwrap_or_default())]
pub struct NoRoute {
    name: String,
    /// One with a name much like it.
    meant: Option<Arc<str>>,
    known: String,
}

/// The route of this name.
///
/// # Errors
/// [`NoRoute`].
pub fn find_route<'a>(plan: &'a Plan, name: &str) -> Result<&'a RoutePlan, NoRoute> {
    plan.routes.iter().find(|route| &*route.name == name).ok_or_else(|| NoRoute {
        name: name.to_owned(),
        meant: nearest(name, plan.routes.iter().map(|route| &*route.name)).map(Arc::from),
        known: plan.routes.iter().map(|route| &*route.name).collect::<Vec<_>>().join(", "),
    })
}

/// A topic that can't be had.
#[derive(Debug, Error)]
pub enum TopicError {
    /// The log can't be asked.
    #[error(transparent)]
    Log(#[from] LogError),
    /// There can be none of that name.
    #[error("no topic can be called {name:?}: {fault}")]
    Name {
        /// The name.
        name: String,
        /// What is wrong with it, as a clause.
        fault: String,
    },
    /// There is none of that name.
    #[error("there is no topic {name}{}; correct the name{or_else}", .meant.as_ref().map(|meant| format!(" (is it {meant}?)")).unwrap_or_default())]
    Missing {
        /// The name that was asked for.
        name: String,
        /// A topic there is with a name much like it.
        meant: Option<Arc<str>>,
        /// What else there is to be done, as a clause.
        or_else: &'static str,
    },
}

/// Looks up one topic. `or_else` is what the user may do instead of correcting its name.
///
/// # Errors
/// [`TopicError`].
pub fn find_topic(log: &dyn Log, name: &str, or_else: &'static str) -> Result<TopicInfo, TopicError> {
    if let Some(fault) = topic_fault(name) {
        return Err(TopicError::Name { name: name.to_owned(), fault });
    }
    let found = log.topics(Some(&[Arc::from(name)]))?;
    if let Some(topic) = found.into_iter().find(|topic| &*topic.name == name) {
        return Ok(topic);
    }
    // The list only serves a suggestion; whoever may not see it gets none.
    let all = log.topics(None).unwrap_or_default();
    let meant = nearest(name, all.iter().map(|topic| &*topic.name)).map(Arc::from);
    Err(TopicError::Missing { name: name.to_owned(), meant, or_else })
}
