//! Reading what is no test file, and runs that come out the same twice.
#![allow(clippy::unwrap_used, reason = "a test may fail by panic")]

use std::collections::BTreeMap;
use std::sync::Arc;

use pointsman_config::plan::Plan;
use pointsman_core::record::Headers;
use pointsman_wasm::Plugins;
use proptest::prelude::*;

use super::{Components, read, run};

const CONFIG: &str = r#"
version = 1
router.name = "r"
broker.embedded = "./data"
plugins.judge.component = "not-there.wasm"
[[routes]]
name = "orders"
from = ["in"]
stages = ["judge"]
retry = { initial = "1s", max = "1h", max_attempts = 5, jitter = 1 }
[[routes.outputs]]
topic = "out"
"#;

const CASES: &str = r#"
config = "r.toml"
variables = { NAME = "value" }
partitions = 4
[[cases]]
name = "one"
route = "orders"
now = 2026-01-01T00:00:00Z
advance = "1h"
seed = 7
given = [{ key = "k", value = { a = [1, 2.5, true, 1979-05-27] }, headers = { h = "v" }, partition = 3, attempt = 2, fate = { parked = { class = "retry" } } }]
verdicts.judge = [{ when = 'attempt > 0', retry = "down", delay = "1s" }]
expect = [{ topic = "out", key_base64 = "AA==", tombstone = true, exact_headers = [{ name = "h" }], timestamp = "2026-01-01T00:00:00Z" }]
"#;

fn plan() -> Plan {
    pointsman_config::compile(CONFIG, "r.toml", &BTreeMap::new()).unwrap().0
}

#[test]
fn every_beginning_of_a_test_file_is_read_or_refused() {
    let mut sound = 0;
    for end in 0..=CASES.len() {
        sound += usize::from(read(&CASES[..end], "r.test.toml", |_, _| Some(plan())).is_ok());
    }
    assert_eq!(sound, 6, "up to `given`, `verdicts` and `expect`, each with and without the line break");
}

proptest! {
    /// A word of the file becomes another value: that may be a mistake, and never more.
    #[test]
    fn a_value_of_another_type_is_a_mistake_at_most(
        place in 0..200_usize,
        value in prop::sample::select(vec!["0", "-1", "9e999", "nan", "\"\"", "\"x\"", "[]", "{}", "[{}]", "true", "2026-01-01"]),
    ) {
        let mut words: Vec<&str> = CASES.split(' ').collect();
        let place = place % words.len();
        words[place] = value;
        drop(read(&words.join(" "), "r.test.toml", |_, _| Some(plan())));
    }
}

#[test]
fn a_case_comes_out_the_same_twice_and_otherwise_with_another_seed() {
    let components = Components { plugins: Plugins::new(Vec::new()), numbers: BTreeMap::new() };
    let times = |seed: &str| {
        let text = CASES.replace("seed = 7", seed).replace("\"1h\"", "\"until-done\"");
        let (plan, cases) = read(&text, "r.test.toml", |_, _| Some(plan())).unwrap();
        let outcome = run::run(&cases[0], &Arc::new(plan), &components);
        assert_eq!(outcome.trouble, None);
        let written = outcome.written.into_values().flatten();
        let times =
            written.map(|written| (written.record.timestamp_ms, Headers::Owned(&written.record.headers).bytes()));
        times.collect::<Vec<_>>()
    };
    let first = times("seed = 7");
    assert!(first.len() > 2, "it was parked some times: {first:?}");
    assert_eq!(first, times("seed = 7"));
    assert_ne!(first, times("seed = 8"));
}
