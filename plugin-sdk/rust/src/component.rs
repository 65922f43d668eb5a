//! What [`export!`](crate::export) expands to. Not for authors.

use std::cell::RefCell;
use std::panic;

use crate::bindings::exports::pointsman::plugin::processor::Guest;
use crate::bindings::pointsman::plugin::types;
use crate::{Config, Event, Level, Plugin, Verdict, log};

/// Holds the plugin of this instance.
pub struct Slot<P>(RefCell<Option<P>>);

impl<P> Slot<P> {
    /// Before `configure`.
    #[must_use]
    pub const fn empty() -> Self {
        Self(RefCell::new(None))
    }
}

impl<P: Plugin> Slot<P> {
    /// `configure` of the contract.
    ///
    /// # Errors
    /// As [`Plugin::configure`].
    pub fn configure(&self, config: String) -> Result<(), String> {
        // A panic on this target says nothing by itself: it is a bare `unreachable`.
        #[cfg(target_arch = "wasm32")]
        log_panics();
        self.0.replace(Some(P::configure(Config::from(config))?));
        Ok(())
    }

    /// `process` of the contract.
    ///
    /// # Panics
    /// Before `configure` has succeeded, which the contract rules out.
    pub fn process(&self, events: Vec<types::Event>) -> Vec<Verdict> {
        // In place: an `Event` is laid out as what it wraps.
        let events: Vec<Event> = events.into_iter().map(Event::from).collect();
        match &mut *self.0.borrow_mut() {
            Some(plugin) => plugin.process_batch(&events),
            #[allow(clippy::panic, reason = "a trap is all that can be said to a host that breaks the contract")]
            None => panic!("`process` was called before `configure` succeeded"),
        }
    }
}

/// The functions of the contract.
pub type Exports = (fn(String) -> Result<(), String>, fn(Vec<types::Event>) -> Vec<Verdict>);

/// The functions that `C` exports.
#[must_use]
pub const fn exports<C: Guest>() -> Exports {
    (C::configure, C::process)
}

/// Has each panic logged, with its place and message, before it traps: the router makes it part of the failure's message.
#[cfg_attr(not(target_arch = "wasm32"), allow(dead_code, reason = "tests have a hook of their own"))]
fn log_panics() {
    // On one line: "panicked at src/lib.rs:7:5: index out of bounds".
    panic::set_hook(Box::new(|info| log(Level::Error, info.to_string().replacen(":\n", ": ", 1))));
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may fail by panic")]

    use super::*;

    struct Counting(u32);

    impl Plugin for Counting {
        fn configure(config: Config) -> Result<Self, String> {
            config.text().parse().map(Self).map_err(|_| format!("`{}` is not a number", config.text()))
        }

        fn process(&mut self, event: &Event) -> Verdict {
            self.0 += 1;
            if event.is_tombstone() { Verdict::pass() } else { Verdict::drop(self.0.to_string()) }
        }
    }

    fn raw(event: Event) -> types::Event {
        event.into()
    }

    #[test]
    fn a_batch_gets_one_verdict_each_in_order_from_the_configured_plugin() {
        let slot = Slot::<Counting>::empty();
        slot.configure("10".into()).unwrap();
        let verdicts = slot.process(vec![raw(Event::of("a")), raw(Event::tombstone()), raw(Event::of("b"))]);
        assert_eq!(verdicts, [Verdict::drop("11"), Verdict::pass(), Verdict::drop("13")]);
    }

    #[test]
    fn a_refused_configuration_says_why() {
        assert_eq!(Slot::<Counting>::empty().configure("x".into()), Err("`x` is not a number".into()));
    }

    #[test]
    #[should_panic(expected = "before `configure` succeeded")]
    fn an_instance_without_a_configuration_does_not_work() {
        let slot = Slot::<Counting>::empty();
        assert!(slot.configure(String::new()).is_err());
        slot.process(vec![]);
    }
}
