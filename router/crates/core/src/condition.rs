//! Conditions on an event, in [CEL](https://cel.dev): `topic == "orders" && value.amount >= 100`.
//!
//! # What a condition can name
//!
//! | Name | CEL type | Meaning |
//! | --- | --- | --- |
//! | `topic` | string | topic of the origin |
//! | `partition`, `offset` | int | partition and offset of the origin |
//! | `timestamp` | timestamp | time of the event; `null` where the log has none |
//! | `key` | string, bytes or null | a string where the key is UTF-8, bytes where it isn't, `null` where there is none |
//! | `headers` | map | name to the value of the *last* header of that name, typed as `key` is |
//! | `attempt` | int | 1 on the first run, 2 on the first retry, and so on |
//! | `value` | anything | the value read as JSON; `null` for a tombstone |
//!
//! JSON numbers become `int` where they are integers that fit, else `uint` where they fit that, else `double`. CEL
//! compares numbers of different types, but does not add them: write `double(value.amount) * 1.2`.
//!
//! A field that is absent is an error, not `false`: ask `has(value.customer)` or `"trace" in headers` first. An error
//! makes the condition fail, unless `&&` or `||` can be decided without it.
//!
//! # What it costs
//!
//! `value` is parsed when an evaluation first reads it, and once for all conditions on one [`EventView`]. A condition
//! that does not name it costs nothing of the kind. Evaluation is bounded when the condition is compiled:
//! [`Condition::MAX_BYTES`], [`Condition::MAX_DEPTH`] and [`Condition::MAX_NESTED_LOOPS`]. What is left is work
//! proportional to the event: one pass over its lists for each macro, or one for each element where two are nested.
//!
//! `matches` compiles its pattern each time it is evaluated, which takes longer than all else here: prefer `startsWith`,
//! `endsWith`, `contains` and `in`, or put a cheaper test before it with `&&`.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use cel::common::ast::IdedExpr;
use thiserror::Error;

mod check;
mod dead_letter;
mod json;
mod path;
#[cfg(test)]
mod tests;
mod typing;
mod view;

pub use dead_letter::{DeadLetterCondition, DeadLetterView};
pub use path::FieldPath;
pub use view::EventView;

/// A condition that was checked: its names are known, and its result can be a bool. Cloning it is cheap.
#[derive(Clone)]
pub struct Condition(Arc<Checked>);

struct Checked {
    text: String,
    expression: IdedExpr,
    reads_value: bool,
}

impl Condition {
    /// Longest text of a condition, in bytes.
    pub const MAX_BYTES: usize = 4096;
    /// Deepest nesting of operators, calls and selections; a chain such as `a + b + c` nests one deeper with each part.
    pub const MAX_DEPTH: usize = 64;
    /// Most macros (`all`, `exists`, `exists_one`, `map`, `filter`) inside one another, the outermost included.
    pub const MAX_NESTED_LOOPS: usize = 2;

    /// Compiles a condition.
    ///
    /// # Errors
    /// [`ConditionError`] if the text is not CEL, names what there is not, breaks a bound, or can't give a bool. Types
    /// that depend on the event (`value`, `key`, a header's value) are only checked when it is evaluated.
    pub fn compile(text: &str) -> Result<Self, ConditionError> {
        Self::compile_on(text, &typing::EVENT)
    }

    fn compile_on(text: &str, subject: &'static typing::Subject) -> Result<Self, ConditionError> {
        let check::Checked { expression, reads_value } = check::check(text, subject)?;
        Ok(Self(Arc::new(Checked { text: text.to_owned(), expression, reads_value })))
    }

    /// The text it was compiled from.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.0.text
    }

    /// Whether it names `value`, and so may need the value parsed.
    #[must_use]
    pub fn reads_value(&self) -> bool {
        self.0.reads_value
    }
}

impl fmt::Debug for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Condition").field(&self.0.text).finish()
    }
}

impl PartialEq for Condition {
    fn eq(&self, other: &Self) -> bool {
        self.0.text == other.0.text
    }
}

impl Eq for Condition {}

/// A text that is not a condition.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{message}")]
pub struct ConditionError {
    /// What is wrong with it, in a sentence without a full stop.
    pub message: String,
    /// Where in the text, in bytes; always within it, and on character borders.
    pub span: Option<Range<usize>>,
    /// What may have been meant, or what to write instead.
    pub help: Option<String>,
}
