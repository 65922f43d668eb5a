//! Why a guest did not return cleanly: told by the kind of the error, never by its text.

use std::char::DecodeUtf16Error;
use std::fmt;
use std::str::Utf8Error;
use std::time::Duration;

use pointsman_core::failure::FailureClass;
use rustix::io::Errno;
use thiserror::Error;
use wasmtime::Trap;

use crate::guest::Refused;
use crate::spec::Limits;

/// A guest's unclean end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// One of trap, deadline, memory and bad-output.
    pub class: FailureClass,
    /// A short word of a small set.
    pub code: &'static str,
    /// What happened, and the limit where there is one; a part of a sentence.
    pub message: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}: {})", self.message, self.class, self.code)
    }
}

/// The call spent its CPU time. Raised by the epoch callback.
#[derive(Clone, Copy, Debug, Error)]
#[error("the call took more than its deadline of {0:?} of CPU time")]
pub(crate) struct DeadlineExceeded(pub(crate) Duration);

/// The guest said that it panicked, and ends with that.
#[derive(Clone, Debug, Error)]
#[error("{message}")]
pub(crate) struct Panic {
    /// The event of the batch that it says it was at.
    pub(crate) event: u32,
    pub(crate) message: String,
}

/// The guest called something that it was not granted, or that ends it. Raised by the stand-ins.
#[derive(Clone, Debug, Error)]
pub(crate) enum Denial {
    /// An import that exists so that a component links, and does nothing.
    #[error("it called {0}, which plugins have no access to")]
    Import(String),
    /// `wasi:cli/exit`.
    #[error("it called exit")]
    Exit,
    /// More randomness at once than anybody needs.
    #[error("it asked for {0} random bytes at once; {max} are the limit", max = crate::stand_in::RANDOM_MAX_BYTES)]
    Random(u64),
    /// It was granted real randomness, and the system gave none.
    #[error("the system has no random bytes for it: {0}")]
    NoRandom(Errno),
}

impl Fault {
    pub(crate) fn bad_output(code: &'static str, message: String) -> Self {
        Self { class: FailureClass::BadOutput, code, message }
    }

    /// Judges the error of a call. `refused` is what the limiter refused during it, if anything: a guest that can't grow
    /// ends in one of many ways, and all of them are about its limit.
    pub(crate) fn of(error: &wasmtime::Error, refused: Option<Refused>, limits: &Limits) -> Self {
        if let Some(exceeded) = error.downcast_ref::<DeadlineExceeded>() {
            return Self { class: FailureClass::Deadline, code: "deadline", message: exceeded.to_string() };
        }
        if let Some(refused) = refused {
            return Self::refused(refused, error);
        }
        if let Some(denial) = error.downcast_ref::<Denial>() {
            let code = match denial {
                Denial::Import(_) | Denial::Random(_) => "denied",
                Denial::Exit => "exit",
                Denial::NoRandom(_) => "no-random",
            };
            return Self { class: FailureClass::Trap, code, message: denial.to_string() };
        }
        if let Some(panic) = error.downcast_ref::<Panic>() {
            return Self { class: FailureClass::Trap, code: "panic", message: panic.message.clone() };
        }
        if let Some(trap) = error.downcast_ref::<Trap>() {
            return Self::trapped(*trap);
        }
        Self::malformed(error, limits)
    }

    fn refused(refused: Refused, error: &wasmtime::Error) -> Self {
        let end = error.root_cause();
        let (code, message) = match refused {
            Refused::Memory { limit } => {
                ("memory-limit", format!("it reached its memory limit of {limit} bytes: {end}"))
            }
            Refused::Table { limit } => {
                ("table-limit", format!("it reached its table limit of {limit} elements: {end}"))
            }
        };
        Self { class: FailureClass::Memory, code, message }
    }

    fn trapped(trap: Trap) -> Self {
        let code = match trap {
            Trap::UnreachableCodeReached => "unreachable",
            Trap::StackOverflow => "stack-overflow",
            Trap::MemoryOutOfBounds => "memory-out-of-bounds",
            Trap::TableOutOfBounds => "table-out-of-bounds",
            Trap::IndirectCallToNull => "indirect-call-to-null",
            Trap::BadSignature => "bad-signature",
            Trap::IntegerOverflow => "integer-overflow",
            Trap::IntegerDivisionByZero => "integer-divide-by-zero",
            Trap::BadConversionToInteger => "bad-conversion-to-integer",
            Trap::CannotEnterComponent => "cannot-enter-component",
            Trap::CannotLeaveComponent => "cannot-leave-component",
            // wasmtime's list is open; the text tells the rest.
            _ => "other-trap",
        };
        Self { class: FailureClass::Trap, code, message: trap.to_string() }
    }

    /// What is left are values that can't be taken over. wasmtime raises plain messages for those that are malformed, and
    /// where a guest holds more handles than it may, which only the message tells apart; and one error of a private kind
    /// where a guest would have the host hold more bytes than it may: that is what remains at the end.
    fn malformed(error: &wasmtime::Error, limits: &Limits) -> Self {
        let cause = error.root_cause().to_string();
        if error.is::<Utf8Error>() {
            return Self::bad_output("utf-8", format!("it handed over a text that is not UTF-8: {cause}"));
        }
        if error.is::<DecodeUtf16Error>() {
            return Self::bad_output("utf-16", format!("it handed over a text that is not UTF-16: {cause}"));
        }
        if error.is::<String>() || error.is::<&'static str>() {
            return Self::bad_output("malformed", format!("it handed over a value that can't be taken: {cause}"));
        }
        Self::bad_output("output-bytes", format!("its answer holds more than {} bytes: {cause}", limits.output_bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits =
        Limits { memory_bytes: 0, deadline: Duration::ZERO, output_bytes: 1000, output_events: 0, table_elements: 0 };

    #[test]
    fn what_is_no_large_answer_is_not_told_as_one() {
        let utf16 = char::decode_utf16([0xd800]).find_map(Result::err);
        let errors = [
            (wasmtime::Error::from(Denial::NoRandom(Errno::NOSYS)), "no-random"),
            (wasmtime::Error::msg("cannot allocate another handle"), "malformed"),
            (utf16.map_or_else(|| wasmtime::Error::msg("it was decoded"), wasmtime::Error::from), "utf-16"),
        ];
        for (error, code) in errors {
            let fault = Fault::of(&error, None, &LIMITS);
            assert_eq!(fault.code, code, "{fault}");
            assert!(!fault.message.contains("1000"), "{fault}");
        }
    }
}
