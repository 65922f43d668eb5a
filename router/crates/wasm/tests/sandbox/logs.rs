//! What plugins say besides their verdicts.

use std::io::Write;
use std::sync::{Arc, Mutex};

use pointsman_core::port::{CallError, PluginId};

use crate::guests::{Guest, PASS, call, call_at, worker};

/// A log in memory.
#[derive(Clone, Default)]
pub struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// The lines that `work` logs on this thread, at any level but trace.
pub fn logged(work: impl FnOnce()) -> Vec<String> {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::INFO)
        .with_ansi(false)
        .without_time()
        .with_writer(move || writer.clone())
        .finish();
    tracing::subscriber::with_default(subscriber, work);
    let bytes = log.0.lock().unwrap();
    String::from_utf8_lossy(&bytes).lines().map(|line| line.trim().to_owned()).collect()
}

const TALKING: Guest<'static> = Guest {
    items: "(data (i32.const 60000) \"seen\\0a\\1b[31m\")",
    process: "(call $log (i32.const 2) (i32.const 60000) (i32.const 10))
        (call $count (i32.const 60000) (i32.const 4) (i64.const 5))
        (if (i64.eq (i64.load offset=16 (local.get $events)) (i64.const 13)) (then (unreachable)))
        (call $pass (local.get $count))",
    ..PASS
};

#[test]
fn a_clean_call_is_heard() {
    let mut worker = worker(TALKING);
    let lines = logged(|| {
        call_at(&mut worker, 1).unwrap();
        call_at(&mut worker, 2).unwrap();
    });
    let line = "WARN pointsman::plugin: seen\\n\\u{1b}[31m plugin=\"judge\"";
    assert_eq!(lines, [line, line]);
    assert_eq!(worker.take_counts().collect::<Vec<_>>(), [(PluginId(0), "seen", 10)]);
    assert_eq!(worker.take_counts().count(), 0);
}

#[test]
fn a_discarded_call_is_not_heard() {
    let mut worker = worker(TALKING);
    let lines = logged(|| assert!(call_at(&mut worker, 13).is_err()));
    assert_eq!(lines, [""; 0]);
    assert_eq!(worker.take_counts().count(), 0);
}

#[test]
fn a_flood_of_lines_and_names_is_cut_and_said_once() {
    let flood = Guest {
        process: "(local $i i32)
            (loop $more
              (call $log (i32.const 1) (i32.const 60000) (i32.const 2000))
              (i32.store (i32.const 60000) (i32.add (i32.const 0x61616161) (i32.or
                (i32.and (local.get $i) (i32.const 15))
                (i32.shl (i32.shr_u (local.get $i) (i32.const 4)) (i32.const 8)))))
              (call $count (i32.const 60000) (i32.const 4) (i64.const 1))
              (call $count (i32.const 60000) (i32.const 65) (i64.const 1))
              (br_if $more (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 100))))
            (call $pass (local.get $count))",
        ..PASS
    };
    let mut worker = worker(flood);
    let first = logged(|| drop(call(&mut worker).unwrap()));
    assert_eq!(first.len(), 66, "64 lines, the number of the others, and the names");
    assert!(first[..64].iter().all(|line| line.len() < 1200), "a line is cut");
    assert_eq!(
        first[64],
        "WARN pointsman::plugin: the plugin logged more lines in one call than the 64 that are kept plugin=\"judge\" lines=36"
    );
    assert!(first[65].contains("counts under more names than 64"), "{}", first[65]);
    assert_eq!(logged(|| drop(call(&mut worker).unwrap())).len(), 65, "the names are mentioned once");
    assert_eq!(worker.take_counts().map(|(_, _, count)| count).collect::<Vec<_>>(), [2; 64]);
}

#[test]
fn what_a_guest_says_before_it_traps_becomes_part_of_the_failure() {
    // As a panic of a compiled language does it.
    let panicking = Guest {
        items: "(data (i32.const 60000) \"panicked\")",
        process: "(call $log (i32.const 3) (i32.const 60000) (i32.const 8)) (unreachable)",
        ..PASS
    };
    let mut worker = worker(panicking);
    let lines = logged(|| {
        let Err(CallError::Guest { message, .. }) = call(&mut worker) else { panic!("it must trap") };
        assert_eq!(message, "plugin judge: wasm trap: wasm `unreachable` instruction executed; it said: panicked");
    });
    assert_eq!(lines, [""; 0]);
}
