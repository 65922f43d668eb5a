//! A file that is not what it should be gives a clear error, and is left as it is.

use std::fs;
use std::time::Duration;

use pointsman_core::delivery::PartitionChoice;
use pointsman_core::port::{Feed, FeedError, Log, StartAt, Token};
use pointsman_core::record::TopicPartition;
use pointsman_embedded::{EmbeddedLog, OpenError, Options};

use crate::harness::*;

fn refusal(place: &Place) -> OpenError {
    match EmbeddedLog::open(place.path(), place.options()) {
        Ok(_) => panic!("the log was opened"),
        Err(error) => error,
    }
}

/// A log with some records, closed.
fn written() -> (Place, Vec<u8>) {
    let place = Place::new();
    let log = log_with(&place, &[("t", 3)]);
    let records: Vec<_> = (0..500).map(|number| record(&format!("{number:0200}"))).collect();
    for number in 0..3 {
        write(&log, &TopicPartition::new("t", number), &records);
    }
    drop(log);
    let bytes = fs::read(place.path().join("pointsman.db")).unwrap();
    (place, bytes)
}

#[test]
fn a_damaged_file_is_refused_with_the_remedy_and_not_touched() {
    let (place, whole) = written();
    let file = place.path().join("pointsman.db");
    let mut torn: Vec<(String, Vec<u8>)> = [0, 1, 99, 100, 4096, 8192, whole.len() / 2, whole.len() - 8192]
        .into_iter()
        .map(|length| (format!("cut to {length} bytes"), whole[..length].to_vec()))
        .collect();
    torn.push(("garbage".into(), b"no database ".repeat(1000)));
    torn.push(("zeros".into(), vec![0; whole.len()]));
    let mut overwritten = whole.clone();
    overwritten[100..8192].fill(0xa5);
    torn.push(("a garbled first page".into(), overwritten));
    for (what, bytes) in torn {
        fs::write(&file, &bytes).unwrap();
        match refusal(&place) {
            error @ OpenError::Damaged { .. } => {
                let text = error.to_string();
                assert!(text.contains("pointsman.db") && text.contains("backup"), "{what}: {text}");
            }
            other => panic!("{what}: {other}"),
        }
        assert_eq!(fs::read(&file).unwrap(), bytes, "{what}: the file was changed");
    }
    // And the whole one is fine.
    fs::write(&file, &whole).unwrap();
    assert_eq!(contents(&place.open(), &TopicPartition::new("t", 2)).len(), 500);
}

#[test]
fn another_programs_file_and_another_format_are_refused() {
    let (place, _) = written();
    place.sql().pragma_update(None, "user_version", 2).unwrap();
    assert!(matches!(refusal(&place), OpenError::Format { found: 2, .. }));
    place.sql().pragma_update(None, "application_id", 7).unwrap();
    assert!(matches!(refusal(&place), OpenError::Foreign { application_id: 7, .. }));
}

#[test]
fn a_directory_that_is_none_is_refused() {
    let place = Place::new();
    let file = place.path().join("file");
    fs::write(&file, "").unwrap();
    let error = EmbeddedLog::open(&file, place.options()).err().unwrap();
    assert!(matches!(error, OpenError::Directory { .. }), "{error}");
    // Missing ones are made.
    drop(EmbeddedLog::open(&place.path().join("a/b/c"), place.options()).unwrap());
}

#[test]
fn a_log_half_made_by_a_killed_process_is_made_anew() {
    let place = Place::new();
    fs::write(place.path().join("pointsman.db.new"), "half").unwrap();
    drop(log_with(&place, &[("t", 1)]));
    assert!(!fs::exists(place.path().join("pointsman.db.new")).unwrap());
}

#[test]
fn a_write_ahead_log_whose_file_is_gone_is_not_replayed() {
    let place = Place::new();
    let log = log_with(&place, &[("old", 1)]);
    // What a killed process leaves behind, after the operator has removed the file itself.
    let beside = ["pointsman.db-wal", "pointsman.db-shm"].map(|name| place.path().join(name));
    let left = beside.clone().map(|file| fs::read(file).unwrap());
    drop(log);
    fs::remove_file(place.path().join("pointsman.db")).unwrap();
    for (file, bytes) in beside.iter().zip(left) {
        fs::write(file, bytes).unwrap();
    }
    let log = place.open();
    assert_eq!(log.topics(None).unwrap(), []);
    create(&log, &[("new", 1)]);
    let check: String = place.sql().query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(check, "ok");
}

#[test]
fn a_lock_that_its_holder_never_gives_back_is_an_error_with_the_remedy() {
    let place = Place::new();
    let lock = fs::File::create(place.path().join("pointsman.lock")).unwrap();
    lock.lock().unwrap();
    let (path, options) = (place.path().to_owned(), Options { busy_timeout: Duration::ZERO, ..place.options() });
    let (answer, opened) = std::sync::mpsc::channel();
    std::thread::spawn(move || answer.send(EmbeddedLog::open(&path, options).err()));
    let error = opened.recv_timeout(PATIENCE).expect("opening a log does not wait for ever").unwrap();
    assert!(matches!(error, OpenError::Unavailable { .. }), "{error}");
    let text = error.to_string();
    assert!(text.contains("pointsman.lock") && text.contains("resume or end it"), "{text}");
    lock.unlock().unwrap();
    drop(place.open());
}

/// What a feed says when it finds nothing it can give.
fn code(feed: &mut dyn Feed) -> Option<String> {
    match feed.fetch(10, 1000) {
        Ok(_) => None,
        Err(FeedError::Damaged { code, .. }) => Some(code),
        Err(other) => panic!("{other}"),
    }
}

#[test]
fn whoever_finds_damage_writes_no_more() {
    let (place, _) = written();
    // Nobody is told by a renewal that fails.
    let lease = Duration::from_secs(3600);
    let log = EmbeddedLog::open(place.path(), Options { lease, ..place.options() }).unwrap();
    let host = SimulatedHost::new();
    let plan = plan("g", &[("t", None, StartAt::Latest)]);
    let _member = log.join(plan, host.clone()).unwrap();
    host.wait_for_assigned(3);
    let mut idle = log.read(&TopicPartition::new("t", 1), 500).unwrap();
    idle.wake_with(nobody());
    assert_eq!(code(&mut *idle), None);

    place.sql().execute("DELETE FROM records WHERE position & 0xffffffffff = 100", []).unwrap();
    let mut feed = log.read(&TopicPartition::new("t", 0), 100).unwrap();
    assert_eq!(code(&mut *feed).as_deref(), Some("damaged"));
    // Nobody goes on: not a sink, not the member, not a feed that has found nothing wrong itself.
    let mut sink = sink(&log, "t");
    sink.produce(&delivery(&record("v"), PartitionChoice::Exactly(1)), Token(0)).unwrap();
    assert_eq!(sink.serve(&mut Vec::new()).unwrap_err().code, "damaged");
    assert_eq!(log.grow_topic("t", 4).unwrap_err().code, "damaged");
    assert_eq!(code(&mut *idle).as_deref(), Some("damaged"));
    host.wait_until("failed", |told| !told.failed.is_empty());
    assert_eq!(host.with(|told| told.failed[0].code.clone()), "damaged");
    let written: i64 = place.sql().query_row("SELECT max(next_offset) FROM partitions", [], |row| row.get(0)).unwrap();
    assert_eq!(written, 500);
}

#[test]
fn records_that_went_missing_are_damage_not_an_end() {
    let (place, _) = written();
    let log = place.open();
    place.sql().execute("DELETE FROM records WHERE position & 0xffffffffff IN (100, 499)", []).unwrap();
    let mut feed = log.read(&TopicPartition::new("t", 0), 100).unwrap();
    assert!(matches!(feed.fetch(10, 1000), Err(FeedError::Damaged { offset: 100, code, .. }) if code == "damaged"));
    assert!(matches!(refusal(&place), OpenError::Damaged { .. }));
}

/// SQLite would go on for ever with a file that nobody can open any more.
#[test]
fn nothing_is_written_to_a_file_that_was_deleted_or_replaced() {
    for replaced in [false, true] {
        let (place, _) = written();
        let lease = Duration::from_millis(300);
        let log = EmbeddedLog::open(place.path(), Options { lease, ..place.options() }).unwrap();
        let host = SimulatedHost::new();
        let _member = log.join(plan("g", &[("t", None, StartAt::Latest)]), host.clone()).unwrap();
        host.wait_for_assigned(3);
        let mut sink = sink(&log, "t");
        sink.produce(&delivery(&record("v"), PartitionChoice::Exactly(0)), Token(0)).unwrap();
        for file in fs::read_dir(place.path()).unwrap() {
            fs::remove_file(file.unwrap().path()).unwrap();
        }
        let _other = replaced.then(|| place.open());
        assert_eq!(sink.serve(&mut Vec::new()).unwrap_err().code, "replaced");
        host.wait_until("failed", |told| !told.failed.is_empty());
        assert_eq!(host.with(|told| told.failed[0].code.clone()), "replaced");
    }
}

#[test]
fn a_sink_that_finds_damage_is_of_no_more_use() {
    let (place, _) = written();
    let log = place.open();
    place.sql().execute("UPDATE partitions SET next_offset = 3", []).unwrap();
    let mut sink = sink(&log, "t");
    sink.produce(&delivery(&record("v"), PartitionChoice::Exactly(0)), Token(0)).unwrap();
    let failed = sink.serve(&mut Vec::new()).unwrap_err();
    assert_eq!(failed.code, "damaged");
    assert_eq!(contents(&place.open(), &TopicPartition::new("t", 0)).len(), 3, "nothing was written");
}

#[test]
fn a_transaction_that_never_ends_is_never_seen() {
    let (place, _) = written();
    let log = place.open();
    let partition = TopicPartition::new("t", 1);
    let before = contents(&log, &partition);
    let mut other = place.sql();
    let torn = other.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate).unwrap();
    torn.execute("UPDATE partitions SET next_offset = 501", []).unwrap();
    torn.execute("INSERT INTO records SELECT (id << 40) + 500, 0, NULL, NULL, NULL FROM partitions", []).unwrap();
    assert_eq!(contents(&log, &partition), before);
    assert_eq!(log.watermarks(&partition).unwrap(), (0, 500));
    drop(torn);
    drop(other);
    drop(log);
    assert_eq!(contents(&place.open(), &partition), before);
}
