//! What of the log is written: read once at the start, and changed while the process runs.

use std::sync::{Mutex, OnceLock, PoisonError};

use thiserror::Error;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::Directive;

/// Longest text that says what is logged, in bytes: each directive costs memory, and time for each place that logs.
const TEXT_MAX: usize = 1000;

/// What was done at the admin door is logged whatever is chosen: nobody is to do a thing there and hide it by this.
const ALWAYS: &str = "pointsman::audit=info";

/// Puts a filter in the place of the one before.
type Replace = Box<dyn Fn(EnvFilter) -> Result<(), String> + Send + Sync>;

/// What is logged, and the means to change it.
pub struct LogFilter {
    text: Mutex<String>,
    replace: Replace,
}

/// It is not changed.
#[derive(Debug, PartialEq, Eq, Error)]
pub enum FilterError {
    /// It says nothing that is understood.
    #[error("{text:?} can't be read ({why}); write a level, or directives such as info,pointsman=debug")]
    Unreadable {
        /// What was said.
        text: String,
        /// What is wrong with it.
        why: String,
    },
    /// It is too long.
    #[error("what is to be logged has {0} bytes, and {TEXT_MAX} are taken; write fewer directives")]
    TooLong(usize),
    /// There is no log any more, or somebody else's.
    #[error("the log can't be changed: {0}")]
    Stuck(String),
}

/// Reads what is to be logged.
///
/// # Errors
/// [`FilterError`].
pub fn parse(text: &str) -> Result<EnvFilter, FilterError> {
    if text.len() > TEXT_MAX {
        return Err(FilterError::TooLong(text.len()));
    }
    let unreadable = |why: String| FilterError::Unreadable { text: text.to_owned(), why };
    let filter = EnvFilter::try_new(text).map_err(|error| unreadable(error.to_string()))?;
    let always: Directive = ALWAYS.parse().map_err(|error| unreadable(format!("{error}")))?;
    Ok(filter.add_directive(always))
}

impl LogFilter {
    /// For a log that is filtered by `text`; `replace` puts another filter in its place.
    pub fn new(text: String, replace: impl Fn(EnvFilter) -> Result<(), String> + Send + Sync + 'static) -> Self {
        Self { text: Mutex::new(text), replace: Box::new(replace) }
    }

    /// What is logged.
    #[must_use]
    pub fn text(&self) -> String {
        self.text.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Has something else logged from now on.
    ///
    /// # Errors
    /// [`FilterError`]; it stays as it was.
    pub fn set(&self, text: &str) -> Result<(), FilterError> {
        let filter = parse(text)?;
        let mut kept = self.text.lock().unwrap_or_else(PoisonError::into_inner);
        (self.replace)(filter).map_err(FilterError::Stuck)?;
        text.clone_into(&mut kept);
        Ok(())
    }
}

/// The one of this process: the log is the process's, too.
static OF_PROCESS: OnceLock<LogFilter> = OnceLock::new();

/// Says what the log of this process is filtered by. A second one is not taken.
pub(crate) fn set_of_process(filter: LogFilter) {
    let _ = OF_PROCESS.set(filter);
}

/// What the log of this process is filtered by; `None` where it was not started by us.
#[must_use]
pub fn of_process() -> Option<&'static LogFilter> {
    OF_PROCESS.get()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use std::sync::Arc;

    use super::*;

    #[test]
    fn what_can_not_be_read_changes_nothing() {
        let set = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&set);
        let filter = LogFilter::new("info".to_owned(), move |filter| {
            seen.lock().unwrap().push(filter.to_string());
            Ok(())
        });
        filter.set("warn,pointsman=debug").unwrap();
        assert!(filter.set("pointsman=loud").unwrap_err().to_string().contains("\"pointsman=loud\" can't be read"));
        assert_eq!(filter.set(&"a".repeat(1001)), Err(FilterError::TooLong(1001)));
        assert_eq!(filter.text(), "warn,pointsman=debug");
        let set = set.lock().unwrap();
        assert!(set.len() == 1 && set[0].contains("pointsman=debug"), "{set:?}");
        let stuck = LogFilter::new("info".to_owned(), |_| Err("it is gone".to_owned()));
        assert_eq!((stuck.set("warn"), stuck.text()), (Err(FilterError::Stuck("it is gone".into())), "info".into()));
    }

    #[test]
    fn what_is_done_at_the_door_is_logged_whatever_is_chosen() {
        for text in ["off", "error", "pointsman::audit=off", "pointsman=warn,pointsman::audit=error"] {
            let filter = parse(text).unwrap().to_string();
            assert!(filter.split(',').any(|directive| directive == ALWAYS), "{text}: {filter}");
        }
    }
}
