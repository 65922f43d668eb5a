//! What plugins say besides their verdicts.

use std::io::Write;
use std::sync::{Arc, Mutex};

use pointsman_core::failure::FailureClass;
use pointsman_core::port::{CallError, PluginHost, PluginId};
use pointsman_wasm::WorkerPlugins;

use crate::guests::{Bench, Guest, PASS, PLUGIN, call, call_at, event, worker};

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

/// The lines that `work` logs on this thread, at the level info and above.
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

/// What the worker's plugins have counted since the last time.
fn counts(worker: &mut WorkerPlugins) -> Vec<(PluginId, String, u64)> {
    let mut counts = Vec::new();
    worker.take_counts(&mut |plugin, name, count| counts.push((plugin, name.to_owned(), count)));
    counts
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
    assert_eq!(counts(&mut worker), [(PLUGIN, "seen".into(), 10)]);
    assert_eq!(counts(&mut worker), []);
}

#[test]
fn a_discarded_call_is_not_heard() {
    let mut worker = worker(TALKING);
    let lines = logged(|| assert!(call_at(&mut worker, 13).is_err()));
    assert_eq!(lines, [""; 0]);
    assert_eq!(counts(&mut worker), []);
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
    assert_eq!(counts(&mut worker).into_iter().map(|(_, _, count)| count).collect::<Vec<_>>(), [2; 64]);
}

/// Logs 64 lines, in `configure` and in each call; traps at offset 13.
const CHATTY: Guest<'static> = Guest {
    items: "(func $chat (local $i i32)
        (loop $more
          (call $log (i32.const 1) (i32.const 60000) (i32.const 0))
          (br_if $more (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 64))))
        (i32.store8 (i32.const 60000) (i32.const 110))
        (call $count (i32.const 60000) (i32.const 1) (i64.const 1)))",
    configure: "(call $chat) (i32.const 2048)",
    process: "(call $chat) (if (i64.eq (i64.load offset=16 (local.get $events)) (i64.const 13)) (then (unreachable)))
        (call $pass (local.get $count))",
    ..PASS
};

#[test]
fn what_configure_says_is_heard_once_when_the_plugin_is_loaded() {
    let bench = Bench::new(&CHATTY.component());
    let mut worker = None;
    assert_eq!(logged(|| worker = Some(bench.worker())).len(), 64);
    let mut worker = worker.unwrap();
    assert_eq!(logged(|| (0..9).for_each(|_| assert!(call_at(&mut worker, 13).is_err()))), [""; 0]);
    assert_eq!(logged(|| assert!(call_at(&mut worker, 1).is_ok())).len(), 64, "of the call, not of the start");
    assert_eq!(counts(&mut worker), [(PLUGIN, "n".into(), 1)]);
}

#[test]
fn lines_come_at_a_bounded_rate() {
    let mut worker = worker(CHATTY);
    let mut lines = |calls: usize, now_ms| {
        logged(|| (0..calls).for_each(|_| drop(worker.call(PLUGIN, &[event(0, b"")], now_ms).unwrap())))
    };
    let now_ms = 1_790_000_000_000;
    assert_eq!(lines(100, now_ms).len(), 200);
    assert_eq!(lines(100, now_ms + 999).len(), 0);
    let later = lines(100, now_ms + 1000);
    assert_eq!(later.len(), 51);
    assert_eq!(
        later[0],
        "WARN pointsman::plugin: the plugin logged more than 200 lines at once or 50 a second; the others were left out \
         plugin=\"judge\" lines=12600"
    );
}

#[test]
fn a_name_that_metrics_can_not_have_is_ignored_and_said_once() {
    let guest = Guest {
        items: "(data (i32.const 60000) \"n{a}\")",
        process: "(call $count (i32.const 60000) (i32.const 1) (i64.const 1))
            (call $count (i32.const 60000) (i32.const 4) (i64.const 1))
            (call $count (i32.const 60000) (i32.const 0) (i64.const 1))
            (call $pass (local.get $count))",
        ..PASS
    };
    let mut worker = worker(guest);
    let lines = logged(|| (0..3).for_each(|_| drop(call(&mut worker).unwrap())));
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].contains("ASCII letters, digits, `_`, `-` and `.`"), "{lines:?}");
    assert_eq!(counts(&mut worker), [(PLUGIN, "n".into(), 3)]);
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

#[test]
fn a_guest_that_panics_says_why_and_at_which_event() {
    let guest = Guest {
        imports: "(import \"pointsman:plugin/host@0.1.0\" \"panic\" (func $panic (param i32 i32 i32)))",
        items: "(data (i32.const 60000) \"at lib.rs:7\\0a\")",
        process: "(call $log (i32.const 3) (i32.const 60000) (i32.const 2))
            (call $panic (local.get $count) (i32.const 60000) (i32.const 12))
            (call $pass (local.get $count))",
        ..PASS
    };
    let mut worker = worker(guest);
    for events in [1, 3] {
        let lines = logged(|| {
            let answer = worker.call(PLUGIN, &vec![event(0, b"v"); events], 0);
            let Err(CallError::Guest { class, code, message, suspect }) = answer else { panic!("it must end") };
            assert_eq!((class, &*code, suspect), (FailureClass::Trap, "panic", Some(events)));
            assert_eq!(message, "plugin judge: at lib.rs:7\\n; it said: at");
        });
        assert_eq!(lines, [""; 0]);
    }
}
