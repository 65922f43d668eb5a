//! What is told of instances: how many, of what size, and how they ended; and the plugin that does nothing.

use pointsman_core::failure::FailureClass;
use pointsman_core::port::PluginHost as _;
use pointsman_wasm::{Plugins, componentize};

use crate::guests::{Bench, Guest, PASS, PLUGIN, event};

const PAGE: u64 = 1 << 16;

/// Grows by a page at each call, and traps at the value `t`.
const GROWING: Guest<'static> = Guest {
    process: "(drop (memory.grow (i32.const 1)))
      (if (i32.eq (i32.load8_u (i32.load offset=48 (local.get $events))) (i32.const 0x74)) (then (unreachable)))
      (call $pass (local.get $count))",
    ..PASS
};

#[test]
fn instances_and_their_memory_are_counted() {
    let bench = Bench::new(&GROWING.component());
    let plugins = Plugins::new(vec![bench.load().unwrap()]);
    let usage = || plugins.get(PLUGIN).unwrap().usage();
    assert_eq!((usage().instances, usage().made, usage().memory_bytes), (0, 1, 0), "the trial's is gone");
    let (mut one, mut other) = (plugins.worker(), plugins.worker());
    one.renew(PLUGIN, 0).unwrap();
    let start = one.memory_bytes(PLUGIN);
    assert_eq!(usage().memory_bytes, start);
    for worker in [&mut one, &mut other] {
        worker.call(PLUGIN, &[event(0, b"a")], 0).unwrap();
    }
    assert_eq!((usage().instances, usage().made), (2, 3));
    assert_eq!((one.memory_bytes(PLUGIN), usage().memory_bytes), (start + PAGE, 2 * (start + PAGE)));

    // On its used instance, and once more on a new one.
    one.call(PLUGIN, &[event(0, b"t")], 0).unwrap_err();
    assert_eq!((usage().failed(FailureClass::Trap), usage().failed(FailureClass::Memory)), (2, 0));
    assert_eq!((usage().instances, usage().made, one.memory_bytes(PLUGIN)), (1, 4, 0));
    drop((one, other));
    assert_eq!((usage().instances, usage().memory_bytes), (0, 0));
}

#[test]
fn a_renewed_instance_is_a_new_one() {
    let mut worker = crate::guests::worker(GROWING);
    worker.call(PLUGIN, &[event(0, b"a")], 0).unwrap();
    let used = worker.memory_bytes(PLUGIN);
    worker.renew(PLUGIN, 0).unwrap();
    assert_eq!(worker.memory_bytes(PLUGIN), used - PAGE);
}

/// Another door than the one of [`PASS`].
const COLUMNS: &str = r#"(module
  (memory (export "memory") 1)
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 4096))
  (func (export "pointsman:plugin/columns@0.1.0#configure") (param i32 i32) (result i32) (i32.const 2048))
  (func (export "pointsman:plugin/columns@0.1.0#process") (param i32) (result i32) (unreachable)))"#;

#[test]
fn the_empty_plugin_passes_everything_by_either_door() {
    let columns = componentize(&wat::parse_str(COLUMNS).unwrap()).unwrap();
    for component in [PASS.component(), columns] {
        let empty = Bench::new(&component).load().unwrap().empty_of_its_door().unwrap();
        let bench = Bench::new(&empty);
        let same = bench.load().unwrap().empty_of_its_door().unwrap();
        assert_eq!(same, empty, "it has the door that it is to have");
        let mut worker = bench.worker();
        let large = vec![7; 1 << 17];
        for count in [1, 256, 3, 1000] {
            let events: Vec<_> =
                (0..count).map(|offset| event(offset, if offset == 0 { &large } else { b"" })).collect();
            let verdicts = worker.call(PLUGIN, &events, 0).unwrap();
            assert_eq!((verdicts.len(), verdicts.others().len()), (events.len(), 0));
        }
        // All is free again after each call.
        assert!(worker.memory_bytes(PLUGIN) < 8 * PAGE, "{}", worker.memory_bytes(PLUGIN));
    }
}
