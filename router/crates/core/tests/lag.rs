//! Histories of groups, one in each file of `tests/lag/`, and what is said of them.
//!
//! A file has a line for each observation: seconds, the committed offset (`-` for none), the end, and what else there is of `first=`,
//! `settled=`, `heard` (now), `heard=` (seconds) and `nothing-unread`. `patience` has seconds, and `=>` what is said at that point: the
//! status, and what else there is of `lag=` and `drain=` (seconds, or `never`).
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::fs;
use std::path::Path;

use pointsman_core::lag::{History, Observation, Terms};

fn number(text: &str) -> i64 {
    text.parse().unwrap_or_else(|_| panic!("{text} is no number"))
}

fn observation(words: &[&str]) -> Observation {
    let [time, committed, end, more @ ..] = words else { panic!("{words:?} is no observation") };
    let mut observation = Observation {
        time_ms: number(time) * 1000,
        committed: (*committed != "-").then(|| number(committed)),
        settled_beyond: 0,
        end: number(end),
        first: 0,
        nothing_unread: false,
        heard_ms: None,
    };
    for word in more {
        match word.split_once('=') {
            Some(("first", first)) => observation.first = number(first),
            Some(("settled", settled)) => observation.settled_beyond = number(settled).unsigned_abs(),
            Some(("heard", heard)) => observation.heard_ms = Some(number(heard) * 1000),
            None if *word == "heard" => observation.heard_ms = Some(observation.time_ms),
            None if *word == "nothing-unread" => observation.nothing_unread = true,
            _ => panic!("{word} is not known"),
        }
    }
    observation
}

fn check(history: &History, patience_ms: u64, words: &[&str], told: &str) {
    for word in words {
        let (found, expected) = match word.split_once('=') {
            Some(("lag", lag)) => {
                let found = history.last().and_then(Observation::lag);
                (found.map_or_else(|| "?".to_owned(), |lag| lag.to_string()), lag)
            }
            Some(("drain", drain)) => {
                let found = history.drain_ms();
                (found.map_or_else(|| "never".to_owned(), |ms| (ms / 1000).to_string()), drain)
            }
            None => (history.status(&Terms { patience_ms }).name().to_owned(), *word),
            Some(_) => panic!("{told}: {word} is not known"),
        };
        assert_eq!(found, expected, "{told}: {word}");
    }
}

#[test]
fn histories_have_the_statuses_that_they_are_said_to_have() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/lag");
    let mut said = 0;
    for entry in fs::read_dir(folder).expect("the folder is there") {
        let path = entry.expect("it is listed").path();
        let text = fs::read_to_string(&path).expect("it can be read");
        let (mut history, mut patience_ms, mut said_here) = (History::new(10), 10_000, 0);
        for (index, line) in text.lines().enumerate() {
            let told = format!("{}:{}: {line}", path.display(), index + 1);
            let line = line.split('#').next().unwrap_or_default();
            match &*line.split_whitespace().collect::<Vec<_>>() {
                [] => {}
                ["patience", seconds] => patience_ms = number(seconds).unsigned_abs() * 1000,
                ["=>", words @ ..] => {
                    check(&history, patience_ms, words, &told);
                    said_here += 1;
                }
                words => assert!(history.push(observation(words)), "{told}: it is not later"),
            }
        }
        assert!(said_here > 0, "{} says nothing", path.display());
        said += said_here;
    }
    assert!(said >= 30, "only {said} statuses were looked at");
}
