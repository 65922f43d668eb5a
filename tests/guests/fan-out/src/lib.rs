//! Sends every event out by the ports `a`, `b` and `c`, unchanged: what it costs to make three records of one.

use pointsman_sdk::{Config, Event, Fields, Output, Plugin, Verdict};

struct FanOut;

impl Plugin for FanOut {
    const FIELDS: Fields = Fields::empty();

    fn configure(_: Config) -> Result<Self, String> {
        Ok(Self)
    }

    fn process(&mut self, _: &Event) -> Verdict {
        Verdict::emit(["a", "b", "c"].map(Output::to_port))
    }
}

pointsman_sdk::export!(FanOut);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_leaves_by_three_ports() {
        let outputs = [Output::to_port("a"), Output::to_port("b"), Output::to_port("c")];
        assert_eq!(FanOut.process(&Event::of("v")), Verdict::emit(outputs));
    }
}
