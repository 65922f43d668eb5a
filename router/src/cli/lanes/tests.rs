#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use clap::Parser;

use super::*;
use crate::lanes::{BreakerPosition, Position, RetryPosition, StandsAt, State};

#[derive(Debug, Parser)]
struct Line {
    #[command(flatten)]
    arguments: Arguments,
}

fn parse(words: &[&str]) -> Result<Arguments, String> {
    let line = Line::try_parse_from(["lanes"].iter().chain(words));
    line.map(|line| line.arguments).map_err(|error| error.to_string())
}

fn lane(partition: i32, state: State) -> LaneReport {
    LaneReport {
        lane: LaneName { route: "orders".into(), topic: "orders.v1".into(), partition },
        state,
        reason: None,
        since: None,
        stands_at: None,
        position: Some(Position {
            watermark: 1_203 + i64::from(partition),
            next_offset: 1_300,
            in_flight: 97,
            in_flight_bytes: 9_700,
            oldest_ms: Some(1_769_860_800_000),
            settled_beyond: 0,
            unreported: 5,
            breaker: Some(BreakerPosition { open: false, tokens: 10 }),
            retry: Some(RetryPosition { topic: "orders.retry".into(), watermark: 17, parked: 3, due_ms: None }),
        }),
    }
}

fn halted(partition: i32) -> LaneReport {
    LaneReport {
        reason: Some("no country\u{1b}[2J (reject: no-country), and the plan says to halt at that".into()),
        since: Some("2026-01-31T12:00:00Z".into()),
        stands_at: Some(StandsAt {
            topic: "orders.v1".into(),
            partition,
            offset: 1_204,
            class: "reject".into(),
            code: "no-country".into(),
            message: "no country".into(),
        }),
        ..lane(partition, State::Halted)
    }
}

#[test]
fn lanes_are_listed_a_line_each() {
    let mut in_place = lane(2, State::PausedByHand);
    in_place.position.as_mut().unwrap().retry = None;
    let silent = LaneReport { position: None, ..lane(3, State::Silent) };
    let lanes = [lane(0, State::Running), halted(1), in_place, silent];
    insta::assert_snapshot!("ls", rows(&lanes, None).trim_fmt());
    insta::assert_snapshot!("ls_narrow", rows(&lanes, Some(100)).trim_fmt());
    let lanes = lanes.into();
    let json = serde_json::to_string_pretty(&Listing { lanes }).unwrap();
    insta::assert_snapshot!("ls_json", printable::json(&json));
    // As the command line gets it.
    let read: Listing = serde_json::from_str(&json).unwrap();
    assert_eq!(read.lanes[1], halted(1));
}

#[test]
fn only_one_record_is_skipped_at_a_time() {
    let name = |partition| lane(partition, State::Running).lane;
    // A lane that is named is asked, whatever it stands at.
    assert_eq!(lane_to_skip(&[lane(0, State::Running)]), Ok(&name(0)));
    assert_eq!(lane_to_skip(&[lane(0, State::Running), halted(1), lane(2, State::Halted)]), Ok(&name(1)));
    assert_eq!(lane_to_skip(&[lane(0, State::Running), lane(2, State::Halted)]), Err(Unclear::None(2)));
    let several = lane_to_skip(&[halted(0), lane(1, State::Running), halted(2)]).unwrap_err();
    assert_eq!(
        several.to_string(),
        "2 lanes have halted at a record: orders orders.v1/0, orders orders.v1/2; name one of them"
    );
}

#[test]
fn a_verb_needs_a_route_and_either_a_file_or_an_address() {
    for words in [
        &["r.toml"][..],
        &["ls", "r.toml", "--route", "a", "--json"],
        &["--at", "127.0.0.1:7090"],
        &["pause", "r.toml", "--route", "a"],
        &["resume", "--at", "[::1]:7090", "--route", "a", "--topic", "t", "--partition", "0"],
        &["skip", "r.toml", "--route", "a", "--drop"],
    ] {
        parse(words).unwrap_or_else(|error| panic!("{words:?}: {error}"));
    }
    for words in [
        &[][..],
        &["r.toml", "--at", "127.0.0.1:7090"],
        &["pause", "r.toml"],
        &["pause", "--route", "a"],
        &["pause", "r.toml", "--route", "a", "--drop"],
        &["ls", "--at", "localhost"],
    ] {
        assert!(parse(words).is_err(), "{words:?}");
    }
}

#[test]
fn without_a_door_in_the_file_the_remedy_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("r.toml");
    let config = "version = 1\n[router]\nname = \"r\"\n[broker]\nembedded = \".\"\n[[routes]]\nname = \"r\"\nfrom = [\"s\"]\n[[routes.outputs]]\ntopic = \"o\"\n";
    let find = |more: &str, route| {
        std::fs::write(&file, format!("{config}{more}")).unwrap();
        let door = DoorArguments { file: Some(file.clone()), at: None, token_file: None };
        let found = find(&door, route, &PartArguments { topic: None, partition: None });
        found.map(|_| ()).map_err(|failed| (failed.exit(), failed.to_string()))
    };
    let (exit, told) = find("", None).unwrap_err();
    assert!(exit == Exit::Configuration && told.contains("add one and restart the router"), "{told}");
    assert!(find("[admin]\nlisten = \"127.0.0.1:0\"\n", None).unwrap_err().1.contains("--at"));
    assert!(find("[admin]\nlisten = \"127.0.0.1:1\"\n", Some("q")).unwrap_err().1.contains("there is no route \"q\""));
    assert_eq!(find("[admin]\nlisten = \"127.0.0.1:1\"\n", Some("r")), Ok(()));
}
