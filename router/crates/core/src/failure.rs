//! Why a record failed, and the classes a policy speaks of.

use std::fmt;
use std::str::FromStr;

/// The class of a failure: what the configuration's `on = { … }`, the dead-letter headers and metric labels name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum FailureClass {
    /// A plugin rejected the event: permanent.
    Reject,
    /// A plugin asked for a retry: transient.
    Retry,
    /// A plugin trapped on this record alone.
    Trap,
    /// A plugin spent its deadline of CPU time on this record alone.
    Deadline,
    /// A plugin reached its memory or table limit on this record alone.
    Memory,
    /// A plugin's answer was malformed or larger than its limit for this record alone.
    BadOutput,
    /// The record can't be made an event: a header name that is not UTF-8, or torn retry headers.
    Undecodable,
    /// The condition of an output failed on the event, for instance by a type error.
    Condition,
    /// No output of the route takes the event.
    Unmatched,
    /// The broker refused an output for itself: too large, or an invalid topic.
    Refused,
    /// The process ended each time that the record was run, the last time while nothing else was.
    HostCrash,
}

impl FailureClass {
    /// Every class.
    pub const ALL: [Self; 11] = [
        Self::Reject,
        Self::Retry,
        Self::Trap,
        Self::Deadline,
        Self::Memory,
        Self::BadOutput,
        Self::Undecodable,
        Self::Condition,
        Self::Unmatched,
        Self::Refused,
        Self::HostCrash,
    ];

    /// The name in configuration, headers and labels.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Reject => "reject",
            Self::Retry => "retry",
            Self::Trap => "trap",
            Self::Deadline => "deadline",
            Self::Memory => "memory",
            Self::BadOutput => "bad-output",
            Self::Undecodable => "undecodable",
            Self::Condition => "condition",
            Self::Unmatched => "unmatched",
            Self::Refused => "refused",
            Self::HostCrash => "host-crash",
        }
    }
}

impl fmt::Display for FailureClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// No failure class has this name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownClass;

impl FromStr for FailureClass {
    type Err = UnknownClass;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|class| class.name() == name).ok_or(UnknownClass)
    }
}

/// Why one record failed, once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What kind of failure it is.
    pub class: FailureClass,
    /// Index of the stage in its route; `None` outside the stages (decoding, routing, delivery).
    pub stage: Option<u32>,
    /// A short word: a plugin's own code, a trap's name, a broker's error code.
    pub code: String,
    /// A sentence for a person, at most [`MESSAGE_MAX_BYTES`](Self::MESSAGE_MAX_BYTES) long when written to a header.
    pub message: String,
    /// The least delay before a retry that a plugin asked for, in milliseconds.
    pub delay_ms: Option<u64>,
    /// It is none of this record, which was not run: one before it in its key has failed.
    pub deferred: bool,
}

impl Failure {
    /// A longer message is cut to this many bytes in headers and logs.
    pub const MESSAGE_MAX_BYTES: usize = 1024;

    /// The failure as part of a log line. What a plugin says must not steer a terminal, or forge another line.
    #[must_use]
    pub fn line(&self) -> String {
        let text = format!("{} ({}: {})", self.message, self.class, self.code);
        let text = text.chars().flat_map(|c| {
            let escaped = c.is_control().then(|| c.escape_default());
            escaped.is_none().then_some(c).into_iter().chain(escaped.into_iter().flatten())
        });
        text.take(Self::MESSAGE_MAX_BYTES).collect()
    }

    /// A failure outside the stages, or whose stage is filled in later.
    pub fn new(class: FailureClass, code: impl Into<String>, message: impl Into<String>) -> Self {
        Self { class, stage: None, code: code.into(), message: message.into(), delay_ms: None, deferred: false }
    }

    /// The reason why a record goes where its predecessor went, without being run.
    pub fn deferred(message: impl Into<String>) -> Self {
        Self { deferred: true, ..Self::new(FailureClass::Retry, "deferred", message) }
    }
}

#[cfg(test)]
mod tests {
    use super::{Failure, FailureClass};

    #[test]
    fn what_a_plugin_says_stays_on_its_line() {
        let failure = Failure::new(FailureClass::Reject, "c", "no\nERROR forged\u{1b}[2J");
        assert_eq!(failure.line(), "no\\nERROR forged\\u{1b}[2J (reject: c)");
    }
}
