//! A process that is killed leaves a log that is whole, and a group that can be joined at once.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use pointsman_core::port::{Log, StartAt};
use pointsman_core::record::TopicPartition;
use pointsman_embedded::{EmbeddedLog, Options};

use crate::harness::*;

/// Names the directory to the process that is to be killed.
const DIRECTORY: &str = "POINTSMAN_TEST_VICTIM_DIRECTORY";

/// Not a test of its own: the process that gets killed. Joins the group, then writes batches of ten, and says after each
/// how many records were reported as written.
#[test]
fn victim() {
    let Some(directory) = std::env::var_os(DIRECTORY) else { return };
    let log = EmbeddedLog::open(Path::new(&directory), Options::default()).unwrap();
    let host = SimulatedHost::new();
    let _member = log.join(plan("g", &[("t", None, StartAt::Earliest)]), host.clone()).unwrap();
    host.wait_for_assigned(1);
    let (_, mut written) = log.watermarks(&TopicPartition::new("t", 0)).unwrap();
    loop {
        let records: Vec<_> = (written..written + 10).map(|number| record(&number.to_string())).collect();
        write(&log, &TopicPartition::new("t", 0), &records);
        written += 10;
        let mut out = std::io::stdout().lock();
        writeln!(out, "written {written}").unwrap();
        out.flush().unwrap();
    }
}

fn start_victim(directory: &Path) -> (Child, impl Iterator<Item = i64>) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "processes::victim", "--nocapture"])
        .env(DIRECTORY, directory)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let written = lines.map_while(Result::ok).filter_map(|line| line.strip_prefix("written ")?.parse().ok());
    (child, written)
}

#[test]
fn a_killed_writer_loses_nothing_it_was_told_is_written() {
    let directory = tempfile::TempDir::new().unwrap();
    let log = EmbeddedLog::open(directory.path(), Options::default()).unwrap();
    create(&log, &[("t", 1)]);
    let plan = plan("g", &[("t", None, StartAt::Earliest)]);
    for round in 0..3 {
        let (mut child, mut written) = start_victim(directory.path());
        let mut last = written.by_ref().nth(5 + round).unwrap();
        // It holds the group, from another process.
        assert_eq!(log.join(plan.clone(), SimulatedHost::new()).err().unwrap().code, "lease-held");
        child.kill().unwrap();
        // What it said before it died, and the pipe still holds.
        last = written.last().unwrap_or(last);
        child.wait().unwrap();

        let contents = contents(&log, &TopicPartition::new("t", 0));
        assert!(contents.len() as i64 >= last, "{last} records were reported, {} are there", contents.len());
        assert_eq!(contents.len() % 10, 0, "a transaction is there whole or not at all");
        let expected: Vec<_> = (0..contents.len()).map(|number| number.to_string()).collect();
        assert_eq!(values(&contents), expected);
        // On Linux it is known to be gone; elsewhere its lease has to run out.
        if cfg!(target_os = "linux") {
            assert!(log.join(plan.clone(), SimulatedHost::new()).unwrap().leave(PATIENCE));
        }
    }
}

#[test]
fn processes_that_write_without_a_pause_take_turns() {
    const WRITES: i64 = 200;
    let directory = tempfile::TempDir::new().unwrap();
    let log = EmbeddedLog::open(directory.path(), Options::default()).unwrap();
    create(&log, &[("t", 1), ("ours", 1)]);
    let (mut child, mut written) = start_victim(directory.path());
    written.next().unwrap();
    let transactions = || log.watermarks(&TopicPartition::new("t", 0)).unwrap().1 / 10;
    let before = transactions();
    for _ in 0..WRITES {
        write(&log, &TopicPartition::new("ours", 0), &[record("v")]);
    }
    let meanwhile = transactions() - before;
    child.kill().unwrap();
    child.wait().unwrap();
    // By turns it is one for each of ours, give or take what either of them is slowed down by others.
    assert!(
        (WRITES / 3..WRITES * 3).contains(&meanwhile),
        "the other process wrote {meanwhile} transactions during {WRITES} of ours"
    );
}
