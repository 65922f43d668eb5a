//! Evaluation of conditions on one event.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, OnceLock};

use cel::common::types::{CelBool, CelBytes, CelInt, CelMap, CelMapKey, CelNull, CelString, CelTimestamp};
use cel::common::value::{CowVal, Val};
use cel::context::VariableResolver;
use cel::{Context, Env, ExecutionError, Value};
use chrono::DateTime;

use super::Condition;
use super::json::{self, Boxed};
use crate::event::Event;
use crate::failure::{Failure, FailureClass};

/// The functions of the language: built once, since that is a few hundred allocations.
static LANGUAGE: LazyLock<Arc<Env>> = LazyLock::new(|| Arc::new(Env::stdlib()));

/// One event, as conditions see it. Making one is free; what is expensive is read when a condition first asks for it,
/// and kept for the next condition.
pub struct EventView<'a> {
    event: Event<'a>,
    /// The value as JSON, or why it isn't any.
    value: OnceLock<Result<Boxed<'a>, Failure>>,
    headers: OnceLock<Boxed<'a>>,
}

impl<'a> EventView<'a> {
    /// Looks at `event`.
    #[must_use]
    pub const fn new(event: Event<'a>) -> Self {
        Self { event, value: OnceLock::new(), headers: OnceLock::new() }
    }

    /// Whether `condition` holds for the event.
    ///
    /// # Errors
    /// A failure of the class [`FailureClass::Condition`] if the condition read `value` and that is not JSON
    /// (code `not-json`), if it read a field that is not there (`no-such-key`), if an operator or function was applied
    /// to types it does not take (`type`), or anything else went wrong in it (`evaluation`). The message names the
    /// condition and the cause, never a part of the event's value.
    pub fn holds(&self, condition: &Condition) -> Result<bool, Failure> {
        self.holds_with(condition, self)
    }

    /// The same, with variables by `resolver`, which may be more than those of the event.
    pub(super) fn holds_with(&self, condition: &Condition, resolver: &dyn VariableResolver) -> Result<bool, Failure> {
        let mut context = Context::with_env(Arc::clone(&LANGUAGE));
        context.set_variable_resolver(resolver);
        match Value::resolve_val(&condition.0.expression, &context) {
            Ok(result) => match result.downcast_ref::<CelBool>() {
                Some(holds) => Ok(*holds.inner()),
                None => {
                    Err(failure(condition, "type", &format!("its result is {}, not bool", result.get_type().name())))
                }
            },
            Err(error) => Err(self.failure(condition, &error)),
        }
    }

    /// Tells what went wrong, without the values that the library's own messages print.
    fn failure(&self, condition: &Condition, error: &ExecutionError) -> Failure {
        // A value that can't be read is an unknown name to the library.
        if let (ExecutionError::UndeclaredReference(name), Some(Err(not_json))) = (error, self.value.get())
            && name.as_str() == "value"
        {
            return failure(condition, &not_json.code, &not_json.message);
        }
        let (code, cause) = match error {
            ExecutionError::NoSuchKey(key) => {
                ("no-such-key", format!("there is no `{key}`; ask has(…) or `in` before reading it"))
            }
            ExecutionError::IndexOutOfBounds(_) => ("no-such-key", "a list is shorter than the index".to_owned()),
            ExecutionError::NoSuchOverload(overload) => ("type", overload.to_string()),
            ExecutionError::UnexpectedType { got, want } => ("type", format!("a value is {got}, not {want}")),
            ExecutionError::ValuesNotComparable(..) => ("type", "two values can't be compared".to_owned()),
            ExecutionError::UnsupportedBinaryOperator(operator, left, right) => {
                ("type", format!("`{operator}` does not take {} and {}", left.type_of(), right.type_of()))
            }
            ExecutionError::UnsupportedIndex(index, of) => {
                ("type", format!("{} can't index {}", index.type_of(), of.type_of()))
            }
            ExecutionError::UnsupportedKeyType(key) => ("type", format!("{} can't be a key of a map", key.type_of())),
            ExecutionError::DivisionByZero(_) | ExecutionError::RemainderByZero(_) => {
                ("evaluation", "a division by zero".to_owned())
            }
            ExecutionError::Overflow(operator, ..) => ("evaluation", format!("an overflow in `{operator}`")),
            ExecutionError::FunctionError { function, .. } => {
                ("evaluation", format!("{function}() failed on its argument"))
            }
            _ => ("evaluation", "it can't be evaluated on this event".to_owned()),
        };
        failure(condition, code, &cause)
    }

    /// Whether the value was looked at.
    #[cfg(test)]
    pub(super) fn has_read_value(&self) -> bool {
        self.value.get().is_some()
    }

    fn value(&self) -> &Result<Boxed<'a>, Failure> {
        self.value.get_or_init(|| match self.event.value {
            None => Ok(Box::new(CelNull)),
            Some(text) => json::parse(text).map_err(|error| {
                let at = format!("it stops being JSON at line {}, column {}", error.line(), error.column());
                Failure::new(FailureClass::Condition, "not-json", format!("the event's value is not JSON: {at}"))
            }),
        })
    }

    fn headers(&self) -> &Boxed<'a> {
        self.headers.get_or_init(|| {
            let mut map: HashMap<CelMapKey<'a>, Boxed<'a>> = HashMap::with_capacity(self.event.headers.len());
            for header in self.event.headers.iter() {
                // Names of events are UTF-8.
                if let Ok(name) = str::from_utf8(header.name) {
                    map.insert(CelMapKey::from(name), text_or_bytes(header.value));
                }
            }
            Box::new(CelMap::from(map))
        })
    }
}

impl VariableResolver for EventView<'_> {
    fn resolve<'b>(&'b self, name: &str) -> Option<CowVal<'b, 'b>> {
        Some(match name {
            "topic" => CowVal::owned(CelString::from(self.event.topic)),
            "partition" => CowVal::owned(CelInt::from(i64::from(self.event.partition))),
            "offset" => CowVal::owned(CelInt::from(self.event.offset)),
            "attempt" => CowVal::owned(CelInt::from(i64::from(self.event.attempt))),
            "timestamp" => time(self.event.timestamp_ms),
            "key" => CowVal::Owned(text_or_bytes(self.event.key)),
            "headers" => CowVal::Borrowed(self.headers().as_ref()),
            "value" => CowVal::Borrowed(self.value().as_ref().ok()?.as_ref()),
            _ => return None,
        })
    }
}

/// A timestamp, in milliseconds since 1970-01-01 UTC; null where it is before that, or too far away.
pub(super) fn time<'a>(ms: i64) -> CowVal<'a, 'a> {
    match DateTime::from_timestamp_millis(ms) {
        Some(time) if ms >= 0 => CowVal::owned(CelTimestamp::from(time.fixed_offset())),
        _ => CowVal::owned(CelNull),
    }
}

/// A string where the bytes are UTF-8, bytes where they aren't, null where there are none.
fn text_or_bytes<'a>(bytes: Option<&'a [u8]>) -> Box<dyn Val + 'a> {
    match bytes.map(|bytes| (str::from_utf8(bytes), bytes)) {
        None => Box::new(CelNull),
        Some((Ok(text), _)) => Box::new(CelString::from(text)),
        Some((Err(_), bytes)) => Box::new(CelBytes::from(bytes)),
    }
}

fn failure(condition: &Condition, code: &str, cause: &str) -> Failure {
    let message = format!("{cause}, in the condition `{}`", condition.text());
    Failure::new(FailureClass::Condition, code, message)
}
