//! Errors of the log as a whole.

use pointsman_core::port::LogError;

use crate::classify::remedy;
use crate::native::{Client, Code};

/// An error with a code of our own.
pub(crate) fn log_error(what: impl Into<String>, code: &str, message: impl Into<String>) -> LogError {
    LogError { what: what.into(), code: code.to_owned(), message: message.into() }
}

/// An error that a client answered with, what it complained of meanwhile, and what can be done about it.
pub(crate) fn client_error(what: impl Into<String>, code: Code, client: &Client) -> LogError {
    LogError {
        what: what.into(),
        code: code.to_string(),
        message: format!("{}{}{}", code.describe(), client.complaint().clause(), remedy(code)),
    }
}
