//! Opening the log of a configuration, for the commands that go around the router.

use std::path::Path;
use std::sync::Arc;

use pointsman_config::Plan;
use pointsman_core::port::Log;

use super::{Exit, complain_of, configuration};
use crate::lookup::TopicError;
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

impl TopicError {
    pub(crate) fn exit(&self) -> Exit {
        match self {
            Self::Log(_) => Exit::NotStarted,
            Self::Name { .. } => Exit::Configuration,
            Self::Missing { .. } => Exit::No,
        }
    }
}
