//! Fails on one event in so many, and lets all others pass:
//!
//! ```toml
//! config = { fault = "trap", every = 1000 }
//! ```
//!
//! A key ends in the number of its event, as in `customer-0001000`. Where `every` divides that number, the event is
//! rejected (`fault = "reject"`), is to be retried (`fault = "retry"`), or the plugin panics (`fault = "trap"`) or never comes back (`fault = "loop"`). Without `every` nothing fails, at the cost of the
//! same look at every key: so routes that differ in nothing but their failures can be compared, on the same records.
//!
//! `first = 100` rejects the first 100 events that an instance is asked about, whatever their keys: an outage that ends.

use pointsman_sdk::{Config, Event, Fields, Plugin, Verdict};
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Faulty {
    fault: Fault,
    every: Option<u64>,
    #[serde(default)]
    first: u64,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Fault {
    Reject,
    Retry,
    Trap,
    Loop,
}

impl Plugin for Faulty {
    const FIELDS: Fields = Fields::KEY;

    fn configure(config: Config) -> Result<Self, String> {
        let faulty: Self = config.parse()?;
        if faulty.every == Some(0) { Err("`every` is 0; leave it out for no fault at all".into()) } else { Ok(faulty) }
    }

    fn process(&mut self, event: &Event) -> Verdict {
        if let Some(left) = self.first.checked_sub(1) {
            self.first = left;
            return Verdict::reject("outage", "this event was among the first");
        }
        let number = event.key().and_then(number);
        let fails = number.zip(self.every).is_some_and(|(number, every)| number.is_multiple_of(every));
        match self.fault {
            _ if !fails => Verdict::pass(),
            Fault::Reject => Verdict::reject("asked", "this event was to be rejected"),
            Fault::Retry => Verdict::retry("this event was to be retried"),
            Fault::Trap => trap(),
            Fault::Loop => endless(),
        }
    }
}

/// The number that the key ends in.
fn number(key: &[u8]) -> Option<u64> {
    let (_, digits) = key.split_at(key.iter().rposition(|byte| !byte.is_ascii_digit()).map_or(0, |at| at + 1));
    str::from_utf8(digits).ok()?.parse().ok()
}

#[allow(clippy::panic, reason = "that is the purpose")]
fn trap() -> Verdict {
    panic!("this event was to trap")
}

fn endless() -> Verdict {
    loop {
        std::hint::spin_loop();
    }
}

pointsman_sdk::export!(Faulty);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may fail by panic")]

    use super::*;

    fn verdict(config: &str, key: &str) -> Verdict {
        Faulty::configure(config.into()).unwrap().process(&Event::of("v").with_key(key))
    }

    #[test]
    fn one_event_in_so_many_is_rejected() {
        for (key, rejected) in
            [("c-0000000", true), ("c-0000200", true), ("c-0000201", false), ("c-", false), ("7", false)]
        {
            let verdict = verdict(r#"{"fault":"reject","every":100}"#, key);
            assert_eq!(matches!(verdict, Verdict::Reject(_)), rejected, "{key}: {verdict:?}");
        }
        assert_eq!(verdict(r#"{"fault":"reject"}"#, "c-0000000"), Verdict::pass());
    }

    #[test]
    fn the_first_events_are_rejected() {
        let mut faulty = Faulty::configure(r#"{"fault":"reject","first":2}"#.into()).unwrap();
        let mut is_rejected = || matches!(faulty.process(&Event::of("v")), Verdict::Reject(_));
        assert_eq!([is_rejected(), is_rejected(), is_rejected()], [true, true, false]);
    }

    #[test]
    #[should_panic(expected = "this event was to trap")]
    fn one_event_in_so_many_traps() {
        verdict(r#"{"fault":"trap","every":100}"#, "c-0000300");
    }

    #[test]
    fn a_wrong_configuration_is_refused() {
        for config in ["{}", r#"{"fault":"leave"}"#, r#"{"fault":"trap","every":0}"#, r#"{"fault":"trap","x":1}"#] {
            assert!(Faulty::configure(config.into()).is_err(), "{config}");
        }
    }
}
