//! Opening the log of a configuration, and finding a topic in it, for the commands that go around the router.

use std::path::Path;
use std::sync::Arc;

use pointsman_config::Plan;
use pointsman_config::document::{nearest, topic_fault};
use pointsman_core::port::{Log, LogError, TopicInfo};
use thiserror::Error;

use super::{Exit, complain_of, configuration};
use crate::topology;

/// A log, open.
pub(crate) struct Opened {
    pub(crate) log: Arc<dyn Log>,
    pub(crate) plan: Plan,
    /// Largest record that may be written, in bytes of key, value and headers.
    pub(crate) max_record_bytes: usize,
}

/// Opens the log that `file` names. What is wrong is printed.
pub(crate) fn open(file: &Path) -> Result<Opened, Exit> {
    let configuration = configuration::load(file)?;
    let max_record_bytes = configuration.plan.router.max_record_bytes;
    match topology::open_log(&configuration.plan, &configuration.directory) {
        Ok(log) => Ok(Opened { log, plan: configuration.plan, max_record_bytes }),
        Err(error) => {
            complain_of(&error);
            Err(Exit::NotStarted)
        }
    }
}

/// A topic that can't be had.
#[derive(Debug, Error)]
pub(crate) enum TopicError {
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

impl TopicError {
    pub(crate) fn exit(&self) -> Exit {
        match self {
            Self::Log(_) => Exit::NotStarted,
            Self::Name { .. } => Exit::Configuration,
            Self::Missing { .. } => Exit::No,
        }
    }
}

/// Looks up one topic. `or_else` is what the user may do instead of correcting its name.
pub(crate) fn find_topic(log: &dyn Log, name: &str, or_else: &'static str) -> Result<TopicInfo, TopicError> {
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
