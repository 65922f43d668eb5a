//! What can be known of a condition without an event.

use cel::{Env, Program};

use super::ConditionError;

pub(super) struct Known {
    pub(super) reads_value: bool,
}

pub(super) fn parse(text: &str) -> Result<Program, ConditionError> {
    Env::stdlib().compile(text).map_err(|error| ConditionError { message: error.to_string(), span: None, help: None })
}

pub(super) fn check(program: &Program) -> Result<Known, ConditionError> {
    Ok(Known { reads_value: program.references().has_variable("value") })
}
