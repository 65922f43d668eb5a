//! Samples, as clients of the door see them.

use std::io::{BufRead as _, BufReader};
use std::time::Instant;

use serde_json::json;

use super::*;
use crate::counters::Fate;
use crate::samples::tests::sample;
use crate::samples::{Parts, SampleLine};
use pointsman_core::record::TopicPartition;

const SAMPLES: &str =
    "[admin]\nlisten = \"127.0.0.1:7090\"\n[admin.samples]\nvalues = true\nredact = [\"value.card\"]\n";
const PATH: &str = "/v1/routes/route/samples";

/// Lines of a stream.
fn stream(open: &Open, query: &str) -> BufReader<TcpStream> {
    let mut stream = TcpStream::connect(open.address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    // By HTTP 1.0: an answer without chunks, which ends with its connection.
    stream.write_all(format!("GET {PATH}{query} HTTP/1.0\r\nHost: localhost\r\n\r\n").as_bytes()).unwrap();
    let mut lines = BufReader::new(stream);
    let mut line = String::new();
    while line != "\r\n" {
        line.clear();
        assert_ne!(lines.read_line(&mut line).unwrap(), 0);
        assert!(!line.starts_with("HTTP") || line.contains(" 200 "), "{line}");
    }
    lines
}

fn line(lines: &mut BufReader<TcpStream>) -> Option<SampleLine> {
    let mut line = String::new();
    (lines.read_line(&mut line).unwrap() > 0).then(|| serde_json::from_str(&line).unwrap())
}

fn pulse(lines: &mut BufReader<TcpStream>) {
    assert!(matches!(line(lines), Some(SampleLine::Pulse(_))));
}

/// As many as watch give one sample each.
fn give(open: &Open, value: &str) {
    for watcher in open.samples.watchers_of(0, &TopicPartition::new("source", 3)) {
        if watcher.picks(Fate::Dropped).is_some() {
            watcher.give(sample(
                Fate::Dropped,
                watcher.wants_values().then(|| Ok(Parts { headers: Vec::new(), value: Some(value.into()) })),
            ));
        }
    }
}

#[test]
fn samples_come_line_by_line_and_what_is_hidden_is_not_among_them() {
    let open = open_with(Some(SAMPLES), Bounds::default(), Within::default());
    let mut with = stream(&open, "?values=true&fate=dropped&fate=parked&max=2");
    let mut without = stream(&open, "?per_second=100&topic=source&partition=3");
    // It is there from the beginning.
    pulse(&mut with);
    pulse(&mut without);
    give(&open, r#"{"card":"SECRET","eur":1}"#);
    give(&open, "SECRET");
    let mut next = || match line(&mut with) {
        Some(SampleLine::Sample(sample)) => json!(sample),
        other => panic!("{other:?}"),
    };
    let first = next();
    assert_eq!((&first["fate"], &first["value"]), (&json!("dropped"), &json!({ "card": "[redacted]", "eur": 1 })));
    let second = next();
    assert!(second["withheld"].is_string() && !second.to_string().contains("SECRET"), "{second}");
    assert!(line(&mut with).is_none(), "as many as were asked for");
    let Some(SampleLine::Sample(sample)) = line(&mut without) else { panic!("a sample") };
    assert!(sample.value.is_none() && sample.headers.is_none() && sample.withheld.is_none());
}

#[test]
fn few_watch_at_a_time_and_whoever_goes_away_is_forgotten() {
    let within = Within { usual: Duration::from_millis(200), samples: Duration::from_millis(800), ..Within::default() };
    let open = open_with(Some(SAMPLES), Bounds::default(), within);
    let mut streams: Vec<_> = (0..4).map(|_| stream(&open, "")).collect();
    streams.iter_mut().for_each(pulse);
    assert_eq!(ask(open.address, "GET", PATH, &[], None).error(), (503, "busy"));
    let began = Instant::now();
    let source = TopicPartition::new("source", 0);
    streams.drain(2..);
    while open.samples.watchers_of(0, &source).len() > 2 && began.elapsed() < Duration::from_secs(30) {
        thread::yield_now();
    }
    assert_eq!(open.samples.watchers_of(0, &source).len(), 2, "those that are gone are known");
    // The others are not cut off by the time for a request, but by their own, in good order.
    assert!(streams.iter_mut().all(|stream| line(stream).is_none()));
    while !open.samples.watchers_of(0, &source).is_empty() && began.elapsed() < Duration::from_secs(30) {
        thread::yield_now();
    }
    assert!(open.samples.watchers_of(0, &source).is_empty());
}

#[test]
fn what_may_not_be_seen_or_is_not_there_is_named() {
    let none = open();
    let answer = ask(none.address, "GET", PATH, &[], None);
    assert_eq!(answer.error(), (409, "no-samples"));
    assert!(answer.body["message"].as_str().unwrap().contains("add [admin.samples]"), "{}", answer.body);

    let open = open_with(Some(SAMPLES), Bounds::default(), Within::default());
    for (path, error, words) in [
        ("/v1/routes/rout/samples", (404, "no-route"), "is it route?"),
        ("/v1/routes/route/samples?fate=lost", (422, "malformed"), "there are delivered, dropped"),
        ("/v1/routes/route/samples?per_second=101", (422, "malformed"), "from 1 to 100"),
        ("/v1/routes/route/samples?per_second=0", (422, "malformed"), "nonzero"),
        ("/v1/routes/route/samples?max=0", (422, "malformed"), "nonzero"),
        ("/v1/routes/route/samples?partition=x", (422, "malformed"), "invalid type"),
        ("/v1/routes/route/samples?fat=lost", (422, "malformed"), "unknown field `fat`"),
        ("/v1/routes/route/samples?topic=a&topic=b", (422, "malformed"), "`topic` is there twice"),
    ] {
        let answer = ask(open.address, "GET", path, &[], None);
        assert_eq!(answer.error(), error, "{path}: {}", answer.body);
        assert!(answer.body["message"].as_str().unwrap().contains(words), "{path}: {}", answer.body);
    }
}

#[test]
fn values_are_for_operators_where_the_configuration_has_them_shown() {
    let with = |samples: &str| open_with(Some(&format!("{}{samples}", tokens())), Bounds::default(), Within::default());
    let values = format!("{PATH}?values=true&max=1");
    let ask = |open: &Open, token: &str| ask(open.address, "GET", &values, &[("authorization", &bearer(token))], None);
    let hidden = with("[admin.samples]\n");
    for token in [READER, OPERATOR] {
        assert_eq!(ask(&hidden, token).error(), (409, "no-values"));
    }
    let within = Within { samples: Duration::from_millis(1), ..Within::default() };
    let shown = open_with(Some(&format!("{}[admin.samples]\nvalues = true\n", tokens())), Bounds::default(), within);
    let refused = ask(&shown, READER);
    assert_eq!(refused.error(), (403, "reader"));
    assert!(refused.challenge.is_some_and(|challenge| challenge.contains("insufficient_scope")));
    assert_eq!(ask(&shown, OPERATOR).status, 200);
    assert_eq!(super::ask(shown.address, "GET", PATH, &[("authorization", &bearer(READER))], None).status, 200);
}
