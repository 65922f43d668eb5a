//! Misbehaves on demand: for demonstrations and tests of what a bad plugin can't do to its neighbours. **Not for
//! production.**
//!
//! An event whose value is a JSON object with `"poison"` gets what it asks for; every other event passes.
//!
//! | `poison` | what happens |
//! | --- | --- |
//! | `trap` | a panic, which is a trap |
//! | `loop` | an endless loop, until the deadline |
//! | `memory` | memory is taken until there is no more |
//! | `recursion` | the stack overflows |
//! | `output` | a value of 256 MiB is emitted |
//! | `count` | the batch gets one verdict too few |

use std::borrow::Cow;
use std::hint::black_box;

use pointsman_sdk::{Config, Event, Events, Output, Plugin, Verdict, Verdicts};
use serde::Deserialize;

struct Chaos;

#[derive(Deserialize)]
struct Poisonous<'a> {
    #[serde(borrow)]
    poison: Cow<'a, str>,
}

/// The poison of an event, if it has any.
fn poison<'a>(event: &'a Event<'_>) -> Option<Cow<'a, str>> {
    event.json::<Poisonous>().ok().map(|value| value.poison)
}

impl Plugin for Chaos {
    fn configure(_: Config) -> Result<Self, String> {
        Ok(Self)
    }

    fn process(&mut self, event: &Event) -> Verdict {
        match poison(event).as_deref() {
            Some("trap") => trap(event),
            Some("loop") => spin(),
            Some("memory") => hoard(),
            Some("recursion") => Verdict::drop(recurse(0).to_string()),
            Some("output") => Verdict::emit([Output::unchanged().value(vec![b'x'; 256 << 20])]),
            Some("count") | None => Verdict::pass(),
            Some(other) => Verdict::reject("unknown-poison", format!("`{other}` is no poison this plugin knows")),
        }
    }

    fn process_batch(&mut self, events: Events<'_>, verdicts: &mut Verdicts) {
        for event in events {
            // A verdict too few.
            if poison(&event).as_deref() != Some("count") {
                verdicts.push(self.process(&event));
            }
        }
    }
}

#[allow(clippy::panic, reason = "that is the purpose")]
fn trap(event: &Event) -> Verdict {
    panic!("poisoned by {}/{} at offset {}", event.topic(), event.partition(), event.offset())
}

fn spin() -> Verdict {
    let mut rounds = 0_u64;
    loop {
        rounds = black_box(rounds.wrapping_add(1));
    }
}

fn hoard() -> Verdict {
    let mut hoard = Vec::new();
    loop {
        // Touched, so that it is not only promised.
        hoard.push(black_box(vec![1_u8; 1 << 20]));
    }
}

#[allow(unconditional_recursion, reason = "that is the purpose")]
fn recurse(depth: u64) -> u64 {
    // Both sides of the call are used, so that it can't become a loop.
    let frame = black_box([depth; 64]);
    recurse(depth + 1) + frame[0]
}

pointsman_sdk::export!(Chaos);

#[cfg(test)]
mod tests {
    use pointsman_sdk::testing;

    use super::*;

    #[test]
    fn what_asks_for_nothing_passes() {
        for event in [Event::of("{}"), Event::of("no json"), Event::of(r#"{"poison":1}"#), Event::tombstone()] {
            assert_eq!(Chaos.process(&event), Verdict::pass(), "{event:?}");
        }
    }

    #[test]
    #[should_panic(expected = "poisoned by orders/2 at offset 7")]
    fn a_trap_names_the_event() {
        Chaos.process(&Event::of(r#"{"poison":"trap"}"#).from_origin("orders", 2, 7));
    }

    #[test]
    fn an_unknown_poison_is_rejected() {
        let verdict = Chaos.process(&Event::of(r#"{"poison":"arsenic"}"#));
        assert!(matches!(verdict, Verdict::Reject(why) if why.code == "unknown-poison"));
    }

    #[test]
    fn a_miscounted_batch_lacks_one_verdict() {
        let events = [Event::of("{}"), Event::of(r#"{"poison":"count"}"#), Event::of("{}")];
        assert_eq!(testing::judge_batch(&mut Chaos, events.clone()).len(), 2);
        assert_eq!(testing::judge_batch(&mut Chaos, events[2..].to_vec()).len(), 1);
    }
}
