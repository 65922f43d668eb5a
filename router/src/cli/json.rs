//! Answers for programs: one JSON document on standard output.
//!
//! What is written is the serde type of each command, whose comments say what its members mean. Members are added, and neither
//! renamed nor removed; what is not known is null. Errors, which are no answer, stay on standard error.

use serde::Serialize;

use super::{Exit, complain, printable, say};

/// Says an answer, in which nothing steers a terminal, and passes on how the command ends.
pub(super) fn answer(answer: &impl Serialize, exit: Exit) -> Exit {
    match serde_json::to_string_pretty(answer) {
        Ok(text) => {
            say(&printable::json(&text));
            exit
        }
        Err(error) => {
            complain(&format!("error: can't write the answer as JSON: {error}"));
            Exit::Fatal
        }
    }
}
