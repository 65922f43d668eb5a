//! Conditions on dead letters: on the event that failed, and on what became of it.

use cel::common::types::{CelBool, CelInt, CelNull, CelString};
use cel::common::value::CowVal;
use cel::context::VariableResolver;

use super::view::{self, EventView};
use super::{Condition, ConditionError, typing};
use crate::event::Event;
use crate::failure::Failure;
use crate::provenance::Account;
use crate::record::Headers;

/// A condition on a dead letter. Besides the names of [an event](super), it knows these, which are `null` where the letter
/// does not say:
///
/// | Name | CEL type | Meaning |
/// | --- | --- | --- |
/// | `writer` | string | who wrote it: `pointsman`, `spring`, `connect`, `streams`, `share-group`, `torn` or `unknown` |
/// | `route`, `stage` | string | where it failed |
/// | `plugin_sha256` | string | digest of the stage's component |
/// | `class`, `code`, `message` | string | why |
/// | `first_failed`, `last_failed` | timestamp | when |
/// | `replays` | int | how often it was replayed before |
/// | `deferred`, `truncated` | bool | it waits behind another of its key; its payload is only at its origin |
///
/// `topic`, `partition`, `offset` and `timestamp` are those of the origin, `null` where they are not known; `headers` are the
/// original ones, and `attempt` is the number of the last run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetterCondition(Condition);

impl DeadLetterCondition {
    /// Compiles a condition, within the bounds of any [`Condition`].
    ///
    /// # Errors
    /// As [`Condition::compile`].
    pub fn compile(text: &str) -> Result<Self, ConditionError> {
        Condition::compile_on(text, &typing::DEAD_LETTER).map(Self)
    }

    /// The text it was compiled from.
    #[must_use]
    pub fn text(&self) -> &str {
        self.0.text()
    }
}

/// One dead letter, as conditions see it.
pub struct DeadLetterView<'a> {
    event: EventView<'a>,
    account: &'a Account,
}

impl<'a> DeadLetterView<'a> {
    /// Looks at a letter: its key and value, the headers that it had originally, and what the others tell.
    #[must_use]
    pub fn new(account: &'a Account, key: Option<&'a [u8]>, value: Option<&'a [u8]>, headers: Headers<'a>) -> Self {
        let event = Event {
            // What the letter may not know is not taken from here.
            topic: "",
            partition: -1,
            offset: -1,
            timestamp_ms: account.origin.timestamp_ms.unwrap_or(-1),
            key,
            value,
            headers,
            attempt: 0,
        };
        Self { event: EventView::new(event), account }
    }

    /// Whether `condition` holds for the letter.
    ///
    /// # Errors
    /// As [`EventView::holds`].
    pub fn holds(&self, condition: &DeadLetterCondition) -> Result<bool, Failure> {
        self.event.holds_with(&condition.0, self)
    }
}

impl VariableResolver for DeadLetterView<'_> {
    fn resolve<'b>(&'b self, name: &str) -> Option<CowVal<'b, 'b>> {
        let Account { origin, .. } = self.account;
        Some(match name {
            "topic" => text(origin.topic.as_deref()),
            "partition" => int(origin.partition),
            "offset" => int(origin.offset),
            "attempt" => int(self.account.attempts),
            "writer" => text(Some(self.account.writer.name())),
            "route" => text(self.account.route.as_deref()),
            "stage" => text(self.account.stage.as_deref()),
            "plugin_sha256" => text(self.account.plugin_sha256.as_deref()),
            "class" => text(self.account.class.as_deref()),
            "code" => text(self.account.code.as_deref()),
            "message" => text(self.account.message.as_deref()),
            "first_failed" => view::time(self.account.first_failed_ms.unwrap_or(-1)),
            "last_failed" => view::time(self.account.last_failed_ms.unwrap_or(-1)),
            "replays" => int(Some(self.account.replay_count)),
            "deferred" => CowVal::owned(CelBool::from(self.account.deferred)),
            "truncated" => CowVal::owned(CelBool::from(self.account.truncated)),
            _ => return self.event.resolve(name),
        })
    }
}

fn text(text: Option<&str>) -> CowVal<'_, '_> {
    text.map_or_else(|| CowVal::owned(CelNull), |text| CowVal::owned(CelString::from(text)))
}

fn int<'a>(number: Option<impl Into<i64>>) -> CowVal<'a, 'a> {
    number.map_or_else(|| CowVal::owned(CelNull), |number| CowVal::owned(CelInt::from(number.into())))
}
