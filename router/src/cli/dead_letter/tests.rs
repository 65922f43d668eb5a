//! What the commands print, of letters of every kind.
#![allow(clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

use clap::Parser as _;
use insta::assert_snapshot;
use pointsman_embedded::EmbeddedLog;
use serde_json::Value;

use super::*;
use crate::dead_letter::tests::{T0, log_of, sample, write};
use crate::progress::UNTOLD;
use crate::record_text::parse_line;

const CONFIG: &str = r#"
version = 1
[router]
name = "test"
[broker]
embedded = "nowhere"

[[routes]]
name = "orders"
from = ["orders.v1"]
dead_letter = { topic = "dead" }
[[routes.outputs]]
topic = "out"

[[routes]]
name = "billing"
group = "billing"
from = ["orders.v1"]
dead_letter = { topic = "other" }
[[routes.outputs]]
topic = "out"

[[routes]]
name = "halting"
group = "halting"
from = ["orders.v1"]
dead_letter = false
[[routes.outputs]]
topic = "out"
"#;

#[derive(clap::Parser)]
struct CommandLine {
    #[command(subcommand)]
    command: Command,
}

fn command(line: &[&str]) -> Result<Command, clap::Error> {
    // The file stands behind the name of the command.
    let (name, rest) = line.split_first().unwrap();
    CommandLine::try_parse_from([&["dead-letter", name, "config.toml"], rest].concat()).map(|line| line.command)
}

/// What a command printed, noted and answered.
struct Said {
    exit: Exit,
    out: String,
    notes: Vec<String>,
}

fn run(log: &EmbeddedLog, line: &[&str], width: Option<u16>, stopped: bool) -> Said {
    let (plan, _) = pointsman_config::compile(CONFIG, "config.toml", &|_: &str| None).unwrap();
    let desk = Desk { plan: &plan, log, clock: &|| T0 + 3_600_000, width, stop: &|| stopped, progress: UNTOLD };
    let (mut out, mut notes) = (Vec::new(), Vec::new());
    let exit = print(&command(line).unwrap(), &desk, &mut out, &mut |text| notes.push(text.to_owned()));
    Said { exit, out: String::from_utf8(out).unwrap(), notes }
}

/// All of it in one text.
fn said(log: &EmbeddedLog, line: &[&str]) -> String {
    let Said { exit, out, notes } = run(log, line, None, false);
    format!("{out}---\n{}\n{exit:?}", notes.join("\n"))
}

#[test]
fn letters_are_listed() {
    let (_folder, log) = sample();
    assert_snapshot!("ls", said(&log, &["ls"]));
    assert_snapshot!("ls_narrow", run(&log, &["ls"], Some(110), false).out);
    assert_snapshot!(
        "ls_some",
        said(&log, &["ls", "--topic", "dead", "--class", "reject", "--since", "59m", "--code", "no-country"])
    );
    assert_snapshot!("ls_limited", said(&log, &["ls", "--limit", "1", "--topic", "dead", "--plugin", "validate"]));
    assert_snapshot!(
        "ls_json",
        said(&log, &["ls", "--json", "--topic", "dead", "--where", "replays == 2 || writer == 'torn'"])
    );
}

#[test]
fn causes_are_counted() {
    let (_folder, log) = sample();
    assert_snapshot!("stats", said(&log, &["stats", "--route", "orders"]));
    assert_snapshot!("stats_narrow", run(&log, &["stats", "--topic", "dead"], Some(110), false).out);
    assert_snapshot!("stats_none", said(&log, &["stats", "--topic", "dead", "--key", "nobody's"]));
    assert_snapshot!(
        "stats_json",
        said(&log, &["stats", "--json", "--topic", "dead", "--class", "reject", "--key", "b"])
    );
}

#[test]
fn one_letter_is_shown_in_full() {
    let (_folder, log) = sample();
    let places = ["dead/0/0", "dead/0/1", "dead/0/2", "dead/1/1", "dead/1/2", "dead/1/3"];
    let shown = places.map(|place| said(&log, &["show", place]));
    assert_snapshot!("show", shown.join("\n======\n"));
    assert_eq!(said(&log, &["show", "0/0", "--route", "orders"]), shown[0]);
    assert_snapshot!("show_json", said(&log, &["show", "--json", "dead/1/2"]));
}

#[test]
fn an_export_reads_back_to_the_same_records() {
    let (_folder, log) = sample();
    for values in [&[][..], &["--json-values"]] {
        let exported = run(&log, &[&["export", "--topic", "dead"], values].concat(), None, false);
        assert_eq!(exported.exit, Exit::Fine);
        assert_eq!(exported.notes, ["7 letters written, 1 without payload: it is only at their origin"]);
        let lines: Vec<_> = exported.out.lines().map(|line| parse_line(line).unwrap()).collect();
        let (_folder, again) = log_of(&["dead"]);
        write(&again, "dead", &lines);
        let copied = run(&again, &[&["export", "--topic", "dead"], values].concat(), None, false);
        assert_eq!(copied.out, exported.out);
    }
    assert_snapshot!("export_originals", said(&log, &["export", "--topic", "dead", "--originals"]));
    let folder = tempfile::TempDir::new().unwrap();
    let file = folder.path().join("letters.jsonl");
    let line = ["export", "--topic", "dead", "--class", "trap", "--json", "--output", file.to_str().unwrap()];
    let exported = run(&log, &line, None, false);
    let report: Value = serde_json::from_str(&exported.out).unwrap();
    assert_eq!((&report["written"], &report["unsure"]), (&Value::from(1), &Value::from(1)));
    assert_eq!(std::fs::read_to_string(&file).unwrap().lines().count(), 1);
    // What can't be begun leaves no file behind.
    let nothing = folder.path().join("nothing.jsonl");
    let begun = run(&log, &["export", "--topic", "daed", "--output", nothing.to_str().unwrap()], None, false);
    assert_eq!((begun.exit, nothing.exists()), (Exit::No, false));
    // What is there is not written over.
    let refused = run(&log, &line, None, false);
    assert_eq!(refused.exit, Exit::Configuration);
    assert!(
        refused.notes[0].starts_with("error: can't write ") && refused.notes[0].contains("exists"),
        "{:?}",
        refused.notes
    );
}

#[test]
fn what_is_not_there_is_named() {
    let (_folder, log) = sample();
    for (line, exit, error) in [
        (&["ls", "--topic", "daed"][..], Exit::No, "there is no topic daed (is it dead?); correct the name"),
        (
            &["ls", "--route", "order"],
            Exit::Configuration,
            "there is no route \"order\" (is it orders?); the configuration has orders, billing, halting",
        ),
        (
            &["ls", "--route", "halting"],
            Exit::No,
            "route \"halting\" has no dead-letter topic; name a topic with --topic",
        ),
        (&["show", "dead/2/0"], Exit::No, "topic dead has no partition 2; it has 2, numbered from 0"),
        (&["show", "dead/0/3"], Exit::No, "dead/0 has no offset 3; it has 0 up to 3, which is the next to be written"),
        (
            &["show", "0/x", "--route", "orders"],
            Exit::Configuration,
            "\"0/x\" names no record; write topic/partition/offset, or partition/offset with --route or --topic",
        ),
    ] {
        let said = run(&log, line, None, false);
        assert_eq!((said.exit, said.out.as_str()), (exit, ""), "{line:?}");
        assert_eq!(said.notes, [format!("error: {error}")], "{line:?}");
    }
    // The route's topic is not there yet, which is no mistake: nothing has failed so far.
    let said = run(&log, &["ls", "--route", "billing"], None, false);
    assert_eq!((said.exit, said.out.as_str()), (Exit::Fine, "0 letters\n"));
    assert_eq!(said.notes, ["note: topic other is not there; the router makes it when it starts"]);
    for wrong in [
        &["ls", "--limit", "0"][..],
        &["ls", "--since", "soon"],
        &["ls", "--origin", "t/x"],
        &["ls", "--where", "rout == 'x'"],
        &["show"],
    ] {
        assert_eq!(command(wrong).unwrap_err().exit_code(), 2, "{wrong:?}");
    }
    let told = command(&["ls", "--where", "rout == 'x'"]).unwrap_err().to_string();
    assert!(told.contains("there is no variable `rout`, at `rout`; did you mean `route`?"), "{told}");
}

#[test]
fn an_interrupt_is_no_answer() {
    let (_folder, log) = sample();
    for line in [&["ls"][..], &["stats"], &["export"], &["show", "dead/0/0"]] {
        let said = run(&log, line, None, true);
        assert_eq!((said.exit, said.out.as_str()), (Exit::No, ""), "{line:?}");
    }
}

/// Nothing of a record steers the terminal, in whatever form it is shown.
#[test]
fn what_records_say_is_escaped() {
    let (_folder, log) = sample();
    for line in [
        &["ls"][..],
        &["ls", "--json"],
        &["stats"],
        &["stats", "--json"],
        &["show", "dead/1/1"],
        &["show", "--json", "dead/1/1"],
    ] {
        let out = run(&log, line, None, false).out;
        assert!(out.contains("it says") && !out.chars().any(|c| c.is_control() && c != '\n'), "{line:?}: {out:?}");
    }
}

#[test]
fn letters_are_handled_and_then_listed_no_more() {
    let (_folder, log) = sample();
    let rejected = ["--topic", "dead", "--class", "reject", "--code", "no-country", "--by", "ana"];
    let dry =
        run(&log, &[&["replay", "--dry-run", "--edit", "{\"country\":\"DE\"}"], &rejected[..]].concat(), None, false);
    assert_snapshot!("replay_dry_run", format!("{}---\n{}\n{:?}", dry.out, dry.notes.join("\n"), dry.exit));
    let replayed = said(&log, &[&["replay", "--edit", "{\"country\":\"DE\"}"], &rejected[..]].concat());
    assert_snapshot!("replay", replayed);
    let again = run(&log, &[&["replay"], &rejected[..]].concat(), None, false);
    assert!(
        again.exit == Exit::Fine
            && again.out.starts_with("were                letters")
            && again.out.contains("handled before            2"),
        "{}",
        again.out
    );
    assert_snapshot!("ls_left", said(&log, &["ls", "--topic", "dead"]));
    assert_snapshot!("ls_all", said(&log, &["ls", "--topic", "dead", "--all", "--code", "no-country"]));
    let counted = run(&log, &["stats", "--topic", "dead"], None, false);
    assert!(counted.out.ends_with("5 of 7 letters, 5 causes; 2 handled, which --all counts too\n"), "{}", counted.out);
    let shown = run(&log, &["show", "dead/0/0"], None, false).out;
    assert!(shown.contains("handled     replayed to orders.v1/0 2026-01-01T01:00:00Z by ana, in the run "), "{shown}");
    assert!(shown.contains("with the edit {\"country\":\"DE\"}"), "{shown}");

    // What can't be done for a letter that is meant is no success.
    let undone = run(&log, &["replay", "--topic", "dead", "--all", "--json"], None, false);
    assert_eq!(
        (undone.exit, undone.notes.last().unwrap().as_str()),
        (Exit::No, "error: not all letters that are meant were done; the table says why")
    );
    let lines: Vec<Value> = undone.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(
        (lines.len(), &lines[0]["outcome"], &lines[5]["summary"]["left_alone"]),
        (6, &"left-alone".into(), &3.into())
    );
    let discarded = run(&log, &["discard", "--topic", "dead", "--all"], None, false);
    assert_eq!(discarded.exit, Exit::Fine);
    assert_eq!(
        run(&log, &["ls", "--topic", "dead"], None, false).out.lines().last(),
        Some("0 of 7 letters; 7 handled, which --all lists too")
    );
}

#[test]
fn nothing_is_handled_by_mistake() {
    let (_folder, log) = sample();
    for line in [&["replay"][..], &["discard", "--topic", "dead", "--max", "3"], &["replay", "--dry-run"]] {
        let refused = run(&log, line, None, false);
        assert_eq!(refused.exit, Exit::Configuration, "{line:?}");
        assert_eq!(refused.notes, ["error: no filter says which letters are meant; name some, or write --all"]);
    }
    let there = run(&log, &["replay", "--all", "--topic", "dead", "--to-topic", "dead"], None, false);
    assert_eq!(there.exit, Exit::Configuration);
    assert_eq!(
        there.notes,
        ["error: letters can't be replayed to dead: it is the one they are in; choose another topic"]
    );
    for wrong in [
        &["replay", "--edit", "country=DE"][..],
        &["replay", "--rate", "0"],
        &["replay", "--rate", "many/s"],
        &["replay", "--max", "0"],
        &["replay", "--max-replays", "0"],
        &["replay", "--to", "retry", "--to-topic", "x"],
        &["discard", "--edit", "unset x"],
    ] {
        assert_eq!(command(wrong).unwrap_err().exit_code(), 2, "{wrong:?}");
    }
    // Nothing was made.
    assert_eq!(run(&log, &["ls", "--topic", "dead.audit"], None, false).exit, Exit::No);
}
