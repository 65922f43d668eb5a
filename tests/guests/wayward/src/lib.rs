//! Fails as the headers of an event say: for tests of what becomes of records that fail for a while, and of those that fail
//! for good.
//!
//! | header | what happens |
//! | --- | --- |
//! | `fails` | so many runs of the event ask for a retry |
//! | `pill` | `trap`: the plugin panics; `reject`: the event is rejected with the code `pill` |
//!
//! What passes is emitted with the number of its run in one more header, `run`.

use pointsman_sdk::{Config, Event, Fields, Header, Output, Plugin, Verdict};

struct Wayward;

impl Plugin for Wayward {
    const FIELDS: Fields = Fields::HEADERS;

    fn configure(_: Config) -> Result<Self, String> {
        Ok(Self)
    }

    fn process(&mut self, event: &Event) -> Verdict {
        let fails = event.header_text("fails").and_then(|number| number.parse::<u32>().ok()).unwrap_or(0);
        match event.header_text("pill") {
            _ if event.attempt() <= fails => Verdict::retry("this run was to fail"),
            Some("trap") => trap(),
            Some(_) => Verdict::reject("pill", "this event was to be rejected"),
            None => Verdict::emit([Output::unchanged().headers(headers(event))]),
        }
    }
}

/// Those of the event, and the number of its run.
fn headers(event: &Event) -> impl Iterator<Item = Header> {
    let own = event.headers().map(|(name, value)| match value {
        Some(value) => Header::new(name.to_owned(), value),
        None => Header::null(name.to_owned()),
    });
    own.chain([Header::new("run", event.attempt().to_string())])
}

#[allow(clippy::panic, reason = "that is the purpose")]
fn trap() -> Verdict {
    panic!("this event was to trap")
}

pointsman_sdk::export!(Wayward);

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(event: Event) -> Verdict {
        Wayward.process(&event)
    }

    #[test]
    fn it_fails_as_often_as_it_is_told() {
        let event = |attempt| Event::of("v").with_header("fails", "2").on_attempt(attempt);
        let headers = [Header::new("fails", "2"), Header::new("run", "3")];
        assert_eq!(verdict(event(2)), Verdict::retry("this run was to fail"));
        assert_eq!(verdict(event(3)), Verdict::emit([Output::unchanged().headers(headers)]));
    }

    #[test]
    fn a_pill_is_rejected_after_its_retries() {
        let event =
            |attempt| Event::of("v").with_header("fails", "1").with_header("pill", "reject").on_attempt(attempt);
        assert!(matches!(verdict(event(1)), Verdict::Retry(_)));
        assert!(matches!(verdict(event(2)), Verdict::Reject(_)));
    }

    #[test]
    #[should_panic(expected = "this event was to trap")]
    fn a_pill_may_trap() {
        verdict(Event::of("v").with_header("pill", "trap"));
    }
}
