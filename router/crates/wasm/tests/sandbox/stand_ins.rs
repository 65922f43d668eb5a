//! What the runtimes of other languages import and may not have.

use std::time::Duration;

use pointsman_core::port::{CallError, PluginHost};
use pointsman_core::verdict::{Output, Patch, Verdict};
use pointsman_wasm::{ComponentizeError, Provision, WorkerPlugins, componentize};

use crate::guests::{Bench, Guest, PASS, PLUGIN, call, event, fault, thread_cpu_time};
use crate::logs::logged;

/// The parts of WASI 0.2 that the guests below use, in a late version of it.
const WASI: &str = r#"package test:guest;

package wasi:io@0.2.6 {
  interface error { resource error; }
  interface poll {
    resource pollable { ready: func() -> bool; block: func(); }
    poll: func(in: list<borrow<pollable>>) -> list<u32>;
  }
  interface streams {
    use error.{error};
    use poll.{pollable};
    variant stream-error { last-operation-failed(error), closed }
    resource output-stream {
      check-write: func() -> result<u64, stream-error>;
      blocking-write-and-flush: func(contents: list<u8>) -> result<_, stream-error>;
      subscribe: func() -> pollable;
    }
  }
}
package wasi:cli@0.2.6 {
  interface environment { get-environment: func() -> list<tuple<string, string>>; }
  interface exit { exit: func(status: result); }
  interface stdout { use wasi:io/streams@0.2.6.{output-stream}; get-stdout: func() -> output-stream; }
}
package wasi:clocks@0.2.6 {
  interface wall-clock {
    record datetime { seconds: u64, nanoseconds: u32 }
    now: func() -> datetime;
  }
  interface monotonic-clock {
    use wasi:io/poll@0.2.6.{pollable};
    now: func() -> u64;
    subscribe-duration: func(when: u64) -> pollable;
  }
}
package wasi:random@0.2.6 {
  interface random { get-random-bytes: func(len: u64) -> list<u8>; }
}
package wasi:filesystem@0.2.6 {
  interface types { resource descriptor { sync: func(); } }
  interface preopens { use types.{descriptor}; get-directories: func() -> list<tuple<descriptor, string>>; }
}
package wasi:sockets@0.2.6 {
  interface tcp { resource tcp-socket { is-listening: func() -> bool; } }
  interface tcp-create-socket { use tcp.{tcp-socket}; create-tcp-socket: func() -> result<tcp-socket>; }
}

world plugin {
  include pointsman:plugin/plugin@0.1.0;
  import wasi:cli/environment@0.2.6;
  import wasi:cli/exit@0.2.6;
  import wasi:cli/stdout@0.2.6;
  import wasi:clocks/wall-clock@0.2.6;
  import wasi:clocks/monotonic-clock@0.2.6;
  import wasi:random/random@0.2.6;
  import wasi:filesystem/preopens@0.2.6;
  import wasi:sockets/tcp-create-socket@0.2.6;
}
"#;

const IMPORTS: &str = r#"
  (import "wasi:cli/environment@0.2.6" "get-environment" (func $environment (param i32)))
  (import "wasi:cli/exit@0.2.6" "exit" (func $exit (param i32)))
  (import "wasi:cli/stdout@0.2.6" "get-stdout" (func $stdout (result i32)))
  (import "wasi:io/streams@0.2.6" "[method]output-stream.check-write" (func $check (param i32 i32)))
  (import "wasi:io/streams@0.2.6" "[method]output-stream.blocking-write-and-flush" (func $write (param i32 i32 i32 i32)))
  (import "wasi:io/streams@0.2.6" "[method]output-stream.subscribe" (func $writable (param i32) (result i32)))
  (import "wasi:io/streams@0.2.6" "[resource-drop]output-stream" (func $close (param i32)))
  (import "wasi:io/poll@0.2.6" "[method]pollable.block" (func $block (param i32)))
  (import "wasi:io/poll@0.2.6" "[method]pollable.ready" (func $ready (param i32) (result i32)))
  (import "wasi:io/poll@0.2.6" "poll" (func $poll (param i32 i32 i32)))
  (import "wasi:clocks/wall-clock@0.2.6" "now" (func $wall (param i32)))
  (import "wasi:clocks/monotonic-clock@0.2.6" "now" (func $monotonic (result i64)))
  (import "wasi:clocks/monotonic-clock@0.2.6" "subscribe-duration" (func $sleep (param i64) (result i32)))
  (import "wasi:random/random@0.2.6" "get-random-bytes" (func $random (param i64 i32)))
  (import "wasi:filesystem/preopens@0.2.6" "get-directories" (func $folders (param i32)))
  (import "wasi:sockets/tcp-create-socket@0.2.6" "create-tcp-socket" (func $socket (param i32)))"#;

/// `$say` makes the first verdict an output whose value is the bytes at `$at`.
const ITEMS: &str = r#"
  (data (i32.const 61000) "first\nsecond\n")
  (func $say (param $at i32) (param $length i32) (param $count i32) (result i32)
    (i32.store8 (i32.const 8216) (i32.const 2))
    (i32.store (i32.const 8220) (local.get $at))
    (i32.store (i32.const 8224) (local.get $length))
    (i32.store8 (i32.const 4096) (i32.const 2))
    (i32.store (i32.const 4104) (i32.const 8192))
    (i32.store (i32.const 4108) (i32.const 1))
    (call $pass (local.get $count)))
  (func $say_list (param $at i32) (param $count i32) (result i32)
    (call $say (i32.load (local.get $at)) (i32.load offset=4 (local.get $at)) (local.get $count)))"#;

fn bench(process: &str, grants: &[&str]) -> Bench {
    let component = Guest { imports: IMPORTS, items: ITEMS, process, ..PASS }.component_of(WASI);
    let mut bench = Bench::new(&component);
    bench.spec.grants = grants.iter().map(|grant| (*grant).into()).collect();
    bench
}

/// What the guest said.
fn said(worker: &mut WorkerPlugins, now_ms: i64) -> Vec<u8> {
    let verdicts = worker.call(PLUGIN, &[event(0, b"")], now_ms).unwrap().into_vec();
    match &verdicts[..] {
        [Verdict::Emit(outputs)] => match &outputs[..] {
            [Output { value: Patch::Set(bytes), .. }] => bytes.to_vec(),
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    }
}

const CLOCK: &str = "(call $wall (i32.const 60000)) (call $say (i32.const 60000) (i32.const 12) (local.get $count))";

#[test]
fn the_clock_stands_at_the_time_of_the_batch() {
    let mut worker = bench(CLOCK, &[]).worker();
    for now_ms in [0, 1_790_000_000_123, -5] {
        let shown = u64::try_from(now_ms).unwrap_or(0);
        let nanoseconds = u32::try_from(shown % 1000).unwrap() * 1_000_000;
        let expected = [&(shown / 1000).to_le_bytes()[..], &nanoseconds.to_le_bytes()].concat();
        assert_eq!(said(&mut worker, now_ms), expected);
    }
    let granted = said(&mut bench(CLOCK, &["clock"]).worker(), 0);
    assert!(u64::from_le_bytes(granted[..8].try_into().unwrap()) > 1_700_000_000, "the real time, if granted");
}

#[test]
fn random_is_a_fixed_stream_for_each_plugin() {
    let process =
        "(call $random (i64.const 40) (i32.const 60000)) (call $say_list (i32.const 60000) (local.get $count))";
    let plugin = bench(process, &[]);
    let (mut one, mut two) = (plugin.worker(), plugin.worker());
    let first = said(&mut one, 0);
    assert_eq!(first.len(), 40);
    assert_eq!(first, said(&mut two, 7), "every instance has the same stream");
    assert_ne!(first, said(&mut one, 0), "which goes on");
    let mut other = bench(&format!("(nop) {process}"), &[]).worker();
    assert_ne!(first, said(&mut other, 0), "another plugin has another one");
    let granted = bench(process, &["random"]);
    assert_ne!(said(&mut granted.worker(), 0), said(&mut granted.worker(), 0), "real randomness, if granted");
}

#[test]
fn nobody_may_ask_for_more_randomness_than_is_sensible() {
    for grants in [&[][..], &["random"]] {
        let process = "(call $random (i64.const 0x7fffffffffffffff) (i32.const 60000)) (unreachable)";
        assert_eq!(fault(call(&mut bench(process, grants).worker())), ("trap", "denied".into()));
    }
}

#[test]
fn the_environment_is_empty_but_for_what_is_granted() {
    // 16 bytes of pointers for each variable; the first name, where there is one.
    let process = "(call $environment (i32.const 60000))
        (if (result i32) (i32.load (i32.const 60004))
          (then (call $say_list (i32.load (i32.const 60000)) (local.get $count)))
          (else (call $say (i32.const 0) (i32.const 0) (local.get $count))))";
    assert_eq!(said(&mut bench(process, &[]).worker(), 0), b"");
    assert_eq!(said(&mut bench(process, &["env:CARGO_MANIFEST_DIR"]).worker(), 0), b"CARGO_MANIFEST_DIR");
}

#[test]
fn no_folder_is_open() {
    let process = "(call $folders (i32.const 60000)) (call $say (i32.const 60004) (i32.const 4) (local.get $count))";
    assert_eq!(said(&mut bench(process, &[]).worker(), 0), [0; 4]);
}

#[test]
fn no_wait_takes_any_time() {
    // Waits for centuries, in each way there is.
    let process = "(local $handle i32)
        (call $block (call $sleep (i64.const -1)))
        (local.set $handle (call $sleep (i64.const 0x7fffffffffffffff)))
        (i32.store (i32.const 60000) (local.get $handle))
        (call $poll (i32.const 60000) (i32.const 1) (i32.const 60008))
        (if (i32.eqz (call $ready (local.get $handle))) (then (unreachable)))
        (call $block (call $writable (call $stdout)))
        (call $say_list (i32.const 60008) (local.get $count))";
    for grants in [&[][..], &["clock"]] {
        // The list of ready ones has one element, a zero, of which one byte is shown.
        assert_eq!(said(&mut bench(process, grants).worker(), 0), [0]);
    }
}

#[test]
fn a_guest_that_spins_on_the_clock_gets_done() {
    let process = "(local $end i64) (local.set $end (i64.add (call $monotonic) (i64.const 1000000)))
        (loop $spin (br_if $spin (i64.lt_u (call $monotonic) (local.get $end))))
        (call $pass (local.get $count))";
    assert_eq!(call(&mut bench(process, &[]).worker()).unwrap().len(), 3);
}

#[test]
fn the_standard_output_is_discarded_or_logged() {
    let process = "(local $stream i32) (local.set $stream (call $stdout))
        (call $check (local.get $stream) (i32.const 60000))
        (call $write (local.get $stream) (i32.const 61000) (i32.const 13) (i32.const 60000))
        (call $close (local.get $stream))
        (call $say (i32.const 60000) (i32.const 1) (local.get $count))";
    let lines = |grants: &[&str]| {
        let mut worker = bench(process, grants).worker();
        logged(|| assert_eq!(said(&mut worker, 0), [0], "the write succeeds"))
    };
    assert_eq!(lines(&[]), [""; 0]);
    let line = |text: &str| format!("INFO pointsman::plugin: {text} plugin=\"judge\"");
    assert_eq!(lines(&["stdout"]), [line("first"), line("second")]);
}

#[test]
fn a_start_that_takes_too_long_is_tried_once_more() {
    // It accepts its configuration at once when it is loaded, at the time 0, and never later.
    let configure = "(call $wall (i32.const 60000))
        (if (i64.ne (i64.load (i32.const 60000)) (i64.const 0)) (then (loop $ever (br $ever))))
        (i32.const 2048)";
    let mut bench = Bench::new(&Guest { imports: IMPORTS, items: ITEMS, configure, ..PASS }.component_of(WASI));
    bench.spec.limits.deadline = Duration::from_millis(20);
    let mut worker = bench.worker();
    let before = thread_cpu_time();
    let answer = worker.call(PLUGIN, &[event(0, b"")], 1_790_000_000_000);
    let took = thread_cpu_time() - before;
    let Err(CallError::Unavailable { message }) = answer else { panic!("{answer:?}") };
    assert!(message.starts_with("plugin judge failed in its configure function: the call took more"), "{message}");
    // No try ends before its deadline.
    assert!(took >= 2 * bench.spec.limits.deadline, "{took:?}");
}

#[test]
fn what_is_denied_traps() {
    for (process, code) in [
        ("(call $socket (i32.const 60000)) (unreachable)", "denied"),
        ("(call $exit (i32.const 0)) (unreachable)", "exit"),
    ] {
        assert_eq!(fault(call(&mut bench(process, &["clock", "random", "stdout"]).worker())), ("trap", code.into()));
    }
}

#[test]
fn of_the_name_of_what_is_denied_only_the_head_is_told() {
    let name = "a".repeat(50_000);
    let guest = Guest {
        imports: &format!(r#"(import "wasi:sockets/door@0.2.6" "{name}" (func $open))"#),
        process: "(call $open) (unreachable)",
        ..PASS
    };
    let wit = format!(
        "package test:guest; package wasi:sockets@0.2.6 {{ interface door {{ {name}: func(); }} }}
         world plugin {{ include pointsman:plugin/plugin@0.1.0; import wasi:sockets/door@0.2.6; }}"
    );
    let answer = call(&mut Bench::new(&guest.component_of(&wit)).worker());
    let Err(CallError::Guest { message, .. }) = answer else { panic!("it must be denied: {answer:?}") };
    assert!(message.len() < 300 && message.contains("wasi:sockets/door.aaa"), "{} bytes", message.len());
}

#[test]
fn handles_are_bounded() {
    let process = "(loop $more (drop (call $stdout)) (br $more)) (unreachable)";
    let Err(CallError::Guest { code, message, .. }) = call(&mut bench(process, &[]).worker()) else {
        panic!("the number of handles must end it")
    };
    assert_eq!(code, "malformed");
    assert!(message.contains("cannot allocate another handle"), "{message}");
}

#[test]
fn an_inspection_names_each_stand_in_and_its_grant() {
    let bench = bench(CLOCK, &[]);
    let inspection = bench.sandbox.inspect(&bench.spec.component).unwrap();
    let of = |name: &str| inspection.imports.iter().find(|(import, _)| import == name).and_then(|(_, is)| *is);
    let stand_in = |grant, is| Some(Provision::StandIn { grant, is });
    let clock = stand_in(Some("clock"), "a clock that stands at the time of the batch");
    assert_eq!(of("wasi:clocks/wall-clock@0.2.6"), clock);
    assert_eq!(of("wasi:io/streams@0.2.6"), stand_in(None, "streams and waits that never take any time"));
    assert_eq!(of("wasi:sockets/tcp-create-socket@0.2.6"), Some(Provision::Denied));
    assert_eq!(of("pointsman:plugin/host@0.1.0"), Some(Provision::Host));
    let grants = |given: &[&str]| given.iter().map(|grant| (*grant).to_owned()).collect::<Vec<_>>();
    assert_eq!(clock.unwrap().lacks(&grants(&["random", "env:clock"])), Some("clock"));
    assert_eq!(clock.unwrap().lacks(&grants(&["clock"])), None);
    let environment = of("wasi:cli/environment@0.2.6").unwrap();
    assert_eq!(environment.lacks(&grants(&["clock"])), Some("env:NAME"));
    assert_eq!(environment.lacks(&grants(&["env:REGION"])), None);
    assert_eq!(Provision::Denied.lacks(&[]), None);
}

/// What a libc asks of preview 1, through the adapter that toolchains link in. Each errno is kept as a byte at 60100.
const PREVIEW_1: Guest<'static> = Guest {
    imports: r#"
      (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
      (import "wasi_snapshot_preview1" "fd_read" (func $fd_read (param i32 i32 i32 i32) (result i32)))
      (import "wasi_snapshot_preview1" "fd_prestat_get" (func $fd_prestat_get (param i32 i32) (result i32)))
      (import "wasi_snapshot_preview1" "path_open"
        (func $path_open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
      (import "wasi_snapshot_preview1" "environ_sizes_get" (func $environ_sizes_get (param i32 i32) (result i32)))
      (import "wasi_snapshot_preview1" "args_sizes_get" (func $args_sizes_get (param i32 i32) (result i32)))
      (import "wasi_snapshot_preview1" "clock_time_get" (func $clock_time_get (param i32 i64 i32) (result i32)))
      (import "wasi_snapshot_preview1" "random_get" (func $random_get (param i32 i32) (result i32)))
      (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll_oneoff (param i32 i32 i32 i32) (result i32)))"#,
    items: r#"
      (data (i32.const 61000) "to the log\n")
      (global $step (mut i32) (i32.const 60100))
      (func $did (param $errno i32)
        (i32.store8 (global.get $step) (local.get $errno))
        (global.set $step (i32.add (global.get $step) (i32.const 1))))"#,
    process: r#"
      (i32.store (i32.const 60000) (i32.const 61000)) (i32.store (i32.const 60004) (i32.const 11))
      (call $did (call $fd_write (i32.const 1) (i32.const 60000) (i32.const 1) (i32.const 60008)))
      (call $did (call $fd_read (i32.const 0) (i32.const 60000) (i32.const 1) (i32.const 60008)))
      (call $did (call $fd_prestat_get (i32.const 3) (i32.const 60008)))
      (call $did (call $path_open (i32.const 3) (i32.const 0) (i32.const 61000) (i32.const 2) (i32.const 0)
        (i64.const 0) (i64.const 0) (i32.const 0) (i32.const 60008)))
      (call $did (call $environ_sizes_get (i32.const 60008) (i32.const 60012)))
      (call $did (call $args_sizes_get (i32.const 60008) (i32.const 60012)))
      (call $did (call $clock_time_get (i32.const 0) (i64.const 0) (i32.const 60110)))
      (call $did (call $random_get (i32.const 60120) (i32.const 8)))
      ;; A subscription to the monotonic clock, an hour from now.
      (i32.store8 (i32.const 60208) (i32.const 0)) (i32.store (i32.const 60216) (i32.const 1))
      (i64.store (i32.const 60224) (i64.const 3600000000000))
      (call $did (call $poll_oneoff (i32.const 60200) (i32.const 60300) (i32.const 1) (i32.const 60008)))
      (i32.store8 (i32.const 8216) (i32.const 2))
      (i32.store (i32.const 8220) (i32.const 60100)) (i32.store (i32.const 8224) (i32.const 28))
      (i32.store8 (i32.const 4096) (i32.const 2))
      (i32.store (i32.const 4104) (i32.const 8192)) (i32.store (i32.const 4108) (i32.const 1))
      (call $pass (local.get $count))"#,
    ..PASS
};

#[test]
fn a_libc_on_the_usual_adapter_finds_what_it_needs() {
    const BAD_FD: u8 = 8;
    let mut bench = Bench::new(&PREVIEW_1.component());
    bench.spec.grants = vec!["stdout".into()];
    let mut worker = bench.worker();
    let mut answer = Vec::new();
    let lines = logged(|| answer = said(&mut worker, 1_790_000_000_123));
    assert_eq!(lines, ["INFO pointsman::plugin: to the log plugin=\"judge\""]);
    assert_eq!(answer[..9], [0, 0, BAD_FD, BAD_FD, 0, 0, 0, 0, 0]);
    assert_eq!(answer[10..18], 1_790_000_000_123_000_000_u64.to_le_bytes(), "the time of the batch");
    assert_ne!(answer[20..28], [0; 8], "random bytes");
}

#[test]
fn a_libc_on_our_own_adapter_needs_nothing_of_the_host() {
    let component = componentize(&PREVIEW_1.core()).unwrap();
    let mut bench = Bench::new(&component);
    bench.spec.grants = vec!["stdout".into(), "clock".into(), "random".into()];
    let imports = bench.sandbox.examine(&bench.spec).unwrap().imports;
    assert!(imports.iter().all(|(_, provision)| *provision == Some(Provision::Host)), "{imports:?}");
    let mut answers = [Vec::new(), Vec::new()];
    for answer in &mut answers {
        let lines = logged(|| *answer = said(&mut bench.worker(), 1_790_000_000_123));
        assert_eq!(lines, [""; 0], "what it writes is discarded, whatever is granted");
    }
    const BAD_FD: u8 = 8;
    assert_eq!(answers[0][..9], [0, 0, BAD_FD, BAD_FD, 0, 0, 0, 0, 0]);
    assert_eq!(answers[0][10..18], 1_700_000_000_000_001_000_u64.to_le_bytes(), "a fixed time, and a microsecond");
    assert_ne!(answers[0][20..28], [0; 8], "random bytes");
    assert_eq!(answers[0], answers[1], "the same on every instance");
}

#[test]
fn our_adapter_exits_as_a_trap() {
    let exits = Guest {
        imports: r#"(import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))"#,
        process: "(call $exit (i32.const 0)) (unreachable)",
        ..PASS
    };
    let component = componentize(&exits.core()).unwrap();
    assert_eq!(fault(call(&mut Bench::new(&component).worker())), ("trap", "unreachable".into()));
}

#[test]
fn what_can_not_become_a_component_is_refused_with_the_reason() {
    let module = |text: &str| wat::parse_str(text).unwrap();
    let no_door = componentize(&module("(module)")).unwrap_err();
    assert!(matches!(no_door, ComponentizeError::NoDoor), "{no_door}");
    for (bytes, why) in [(b"#!/bin/sh".to_vec(), "not WebAssembly"), (PASS.component(), "already")] {
        let refused = componentize(&bytes).unwrap_err();
        assert!(matches!(&refused, ComponentizeError::NotAModule(cause) if cause.contains(why)), "{refused}");
    }
    let stranger =
        Guest { imports: r#"(import "env" "open" (func $open))"#, process: "(call $open) (unreachable)", ..PASS };
    let misfit = componentize(&stranger.core()).unwrap_err();
    assert!(matches!(&misfit, ComponentizeError::Misfit(cause) if cause.contains("env")), "{misfit}");
}
