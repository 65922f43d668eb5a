//! Components that are composed of components, as those in JavaScript are: each has a memory of its own, and they are
//! bounded as one.

use std::time::Duration;

use pointsman_core::verdict::Verdict;
use pointsman_wasm::{Limits, LoadErrorReason};

use crate::guests::{Bench, Guest, PASS, call, fault, limits};

/// What the guest imports, and what [`STORE`] provides to it.
const WIT: &str = "package test:guest;
    package test:two { interface store { keep: func(bytes: list<u8>); spin: func(); fall: func(); } }
    world plugin { include pointsman:plugin/plugin@0.1.0; import test:two/store; }";

const IMPORTS: &str = r#"(import "test:two/store" "keep" (func $keep (param i32 i32)))
    (import "test:two/store" "spin" (func $spin))
    (import "test:two/store" "fall" (func $fall))"#;

/// A component with one page of memory, and one more for each list that it is handed.
const STORE: &str = r#"(component
    (core module $store
      (memory (export "memory") 1)
      (func (export "realloc") (param i32 i32 i32 i32) (result i32)
        (local $page i32)
        (local.set $page (memory.grow (i32.const 1)))
        (if (i32.eq (local.get $page) (i32.const -1)) (then (unreachable)))
        (i32.shl (local.get $page) (i32.const 16)))
      (func (export "keep") (param i32 i32))
      (func (export "spin") (loop $ever (br $ever)))
      (func (export "fall") (drop (i32.div_u (i32.const 1) (i32.const 0)))))
    (core instance $store (instantiate $store))
    (alias core export $store "memory" (core memory $memory))
    (func (export "keep") (param "bytes" (list u8))
      (canon lift (core func $store "keep") (memory $memory) (realloc (core func $store "realloc"))))
    (func (export "spin") (canon lift (core func $store "spin")))
    (func (export "fall") (canon lift (core func $store "fall"))))"#;

/// Pages that the guest and the store have from the start.
const FROM_THE_START: u32 = 2 + 1;

/// A guest of which each call does this, composed with the store.
fn composed(process: &str) -> Vec<u8> {
    let process = format!("{process} (call $pass (local.get $count))");
    let alone = Guest { imports: IMPORTS, process: &process, ..PASS }.component_of(WIT);
    let guest = wasmprinter::print_bytes(&alone).unwrap();
    // What it imports, the composition does, but for the store.
    let (imports, _) = guest.split_once("(core module").unwrap();
    let (before, store) = imports.split_once(r#"(import "test:two/store" "#).unwrap();
    let (_, after) = store.split_once('\n').unwrap();
    let with = |name: &str| format!(r#"(with "{name}" (instance ${name}))"#);
    let names = ["pointsman:plugin/types@0.1.0", "pointsman:plugin/host@0.1.0"];
    let given: String =
        names.into_iter().filter(|name| imports.contains(&format!("(import \"{name}\""))).map(with).collect();
    let parts = [("guest", guest.as_str()), ("store", STORE)]
        .map(|(name, text)| text.replacen("(component", &format!("(component ${name}"), 1))
        .concat();
    let composed = format!(
        r#"{before}{after}{parts}
        (instance $store (instantiate $store))
        (instance $whole (instantiate $guest {given} (with "test:two/store" (instance $store))))
        (export "pointsman:plugin/processor@0.1.0" (instance $whole "pointsman:plugin/processor@0.1.0")))"#
    );
    wat::parse_str(composed).unwrap()
}

/// A guest that grows by some pages, and has the store grow by some.
fn growing(guest: u32, store: u32) -> Vec<u8> {
    composed(&format!(
        "(if (i32.eq (memory.grow (i32.const {guest})) (i32.const -1)) (then (unreachable)))
         {}",
        "(call $keep (i32.const 0) (i32.const 65536))\n".repeat(store as usize)
    ))
}

#[test]
fn the_memory_limit_is_of_all_memories_together() {
    const PAGES: u32 = 20;
    for (guest, store) in [(0, 0), (17, 0), (0, 17), (9, 8), (18, 0), (0, 18), (9, 9), (17, 1), (1, 17)] {
        let mut bench = Bench::new(&growing(guest, store));
        bench.spec.limits = Limits { memory_bytes: (PAGES as usize) << 16, ..limits() };
        let mut worker = bench.worker();
        let answer = call(&mut worker);
        if FROM_THE_START + guest + store <= PAGES {
            assert_eq!(answer, Ok(vec![Verdict::Pass; 3]), "{guest} and {store} pages");
        } else {
            assert_eq!(fault(answer), ("memory", "memory-limit".into()), "{guest} and {store} pages");
        }
    }
}

#[test]
fn memory_from_the_start_is_of_all_memories_together() {
    let mut bench = Bench::new(&growing(0, 0));
    let start = (FROM_THE_START as usize) << 16;
    bench.spec.limits = Limits { memory_bytes: start, ..limits() };
    assert_eq!(bench.sandbox.examine(&bench.spec).unwrap().memory_bytes, start as u64);
    assert!(bench.load().is_ok());
    bench.spec.limits = Limits { memory_bytes: start - 1, ..limits() };
    let examined = bench.sandbox.examine(&bench.spec).unwrap_err().reason;
    assert!(matches!(examined, LoadErrorReason::Memory { has, .. } if has == start as u64), "{examined}");
    assert!(matches!(bench.refusal(), LoadErrorReason::Instantiate(fault) if fault.code == "memory-limit"));
}

#[test]
fn a_call_between_components_keeps_the_deadline_and_traps() {
    let mut bench = Bench::new(&composed("(call $spin)"));
    bench.spec.limits.deadline = Duration::from_millis(20);
    assert_eq!(fault(call(&mut bench.worker())), ("deadline", "deadline".into()));
    let mut worker = Bench::new(&composed("(call $fall)")).worker();
    for _ in 0..3 {
        assert_eq!(fault(call(&mut worker)), ("trap", "integer-divide-by-zero".into()));
    }
    let outside = "(call $keep (i32.const 65536) (i32.const 131072))";
    assert_eq!(fault(call(&mut Bench::new(&composed(outside)).worker())).0, "trap");
}

#[test]
fn an_instance_has_a_bounded_number_of_memories() {
    let memories = |count: usize| {
        let one = "(core module $m (memory 1))";
        wat::parse_str(format!("(component {one} {})", "(core instance (instantiate $m))".repeat(count))).unwrap()
    };
    assert!(matches!(Bench::new(&memories(2)).refusal(), LoadErrorReason::World { .. }));
    let reason = Bench::new(&memories(3)).refusal();
    assert!(matches!(&reason, LoadErrorReason::Malformed(why) if why.contains("linear memories")), "{reason}");
}

#[test]
fn texts_cross_between_components_in_any_encoding() {
    let encodings = ["utf8", "utf16", "latin1+utf16"];
    for (caller, callee) in encodings.iter().flat_map(|caller| encodings.map(|callee| (*caller, callee))) {
        let composed = format!(
            r#"(component
              (component $callee
                (core module $m (memory (export "m") 1) (func (export "f") (param i32 i32))
                  (func (export "r") (param i32 i32 i32 i32) (result i32) (i32.const 0)))
                (core instance $i (instantiate $m))
                (alias core export $i "m" (core memory $memory))
                (func (export "f") (param "s" string)
                  (canon lift (core func $i "f") (memory $memory) (realloc (core func $i "r")) string-encoding={callee})))
              (component $caller
                (import "f" (func $f (param "s" string)))
                (core module $libc (memory (export "m") 1))
                (core instance $libc (instantiate $libc))
                (alias core export $libc "m" (core memory $memory))
                (core func $lowered (canon lower (func $f) (memory $memory) string-encoding={caller}))
                (core module $m (import "" "f" (func $f (param i32 i32)))
                  (func (export "g") (call $f (i32.const 0) (i32.const 0))))
                (core instance $i (instantiate $m (with "" (instance (export "f" (func $lowered))))))
                (func (export "g") (canon lift (core func $i "g"))))
              (instance $callee (instantiate $callee))
              (instance $caller (instantiate $caller (with "f" (func $callee "f"))))
              (export "g" (func $caller "g")))"#,
        );
        let reason = Bench::new(&wat::parse_str(composed).unwrap()).refusal();
        assert!(matches!(reason, LoadErrorReason::World { .. }), "it is compiled: {caller}, {callee}: {reason}");
    }
}
