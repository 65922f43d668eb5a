//! Guests that break what can be broken. Each costs its own call, and nothing else.

use std::time::Duration;

use pointsman_core::port::{CallError, PluginHost};
use pointsman_core::verdict::Verdict;
use pointsman_wasm::Limits;

use crate::guests::{Bench, Guest, PASS, PLUGIN, call, call_at, event, fault, limits, thread_cpu_time, worker};

/// What a hostile `process` does, and how its call ends.
struct Hostile {
    name: &'static str,
    items: &'static str,
    process: &'static str,
    class: &'static str,
    code: &'static str,
}

/// Makes the first verdict an emission of `$length` outputs at `$list`, and the others passes.
pub const EMIT: &str = "(func $emit (param $list i32) (param $length i32) (param $count i32) (result i32)
    (i32.store8 (i32.const 4096) (i32.const 2))
    (i32.store (i32.const 4104) (local.get $list))
    (i32.store (i32.const 4108) (local.get $length))
    (call $pass (local.get $count)))
  (func $grow (param $pages i32) (if (i32.eq (memory.grow (local.get $pages)) (i32.const -1)) (then (unreachable))))";

const HOSTILE: &[Hostile] = &[
    Hostile {
        name: "memory bomb",
        items: "",
        process: "(loop $more (br_if $more (i32.ne (memory.grow (i32.const 1)) (i32.const -1)))) (unreachable)",
        class: "memory",
        code: "memory-limit",
    },
    Hostile {
        name: "memory bomb that goes on with a bad answer",
        items: "",
        process: "(drop (memory.grow (i32.const 60000))) (i32.const -8)",
        class: "memory",
        code: "memory-limit",
    },
    Hostile {
        name: "table bomb",
        items: "(table $table 1 funcref)",
        process: "(if (i32.eq (table.grow $table (ref.null func) (i32.const 5000)) (i32.const -1))
                    (then (unreachable))) (call $pass (local.get $count))",
        class: "memory",
        code: "table-limit",
    },
    Hostile {
        name: "deep recursion",
        items: "(func $deep (param i64) (result i64) (i64.add (local.get 0) (call $deep (i64.add (local.get 0) (i64.const 1)))))",
        process: "(drop (call $deep (i64.const 0))) (unreachable)",
        class: "trap",
        code: "stack-overflow",
    },
    Hostile { name: "panic", items: "", process: "(unreachable)", class: "trap", code: "unreachable" },
    Hostile {
        name: "division by zero",
        items: "",
        process: "(i32.div_u (local.get $count) (i32.const 0))",
        class: "trap",
        code: "integer-divide-by-zero",
    },
    Hostile {
        name: "wild pointer",
        items: "",
        process: "(i32.load (i32.const 0x7fffffff))",
        class: "trap",
        code: "memory-out-of-bounds",
    },
    Hostile {
        name: "call of nothing",
        items: "(table $table 1 funcref) (type $none (func))",
        process: "(call_indirect $table (type $none) (i32.const 0)) (unreachable)",
        class: "trap",
        code: "indirect-call-to-null",
    },
    Hostile {
        name: "a verdict too many",
        items: "",
        process: "(call $pass (i32.add (local.get $count) (i32.const 1)))",
        class: "bad-output",
        code: "verdict-count",
    },
    Hostile {
        name: "a verdict too few",
        items: "",
        process: "(call $pass (i32.sub (local.get $count) (i32.const 1)))",
        class: "bad-output",
        code: "verdict-count",
    },
    Hostile {
        name: "no verdicts",
        items: "",
        process: "(call $pass (i32.const 0))",
        class: "bad-output",
        code: "verdict-count",
    },
    Hostile {
        name: "more verdicts than memory",
        items: "",
        process: "(call $pass (i32.const 0x7ffffff))",
        class: "bad-output",
        code: "malformed",
    },
    Hostile {
        name: "as many verdicts as memory",
        items: EMIT,
        process: "(call $grow (i32.const 100)) (call $pass (i32.const 200000))",
        class: "bad-output",
        code: "output-bytes",
    },
    Hostile {
        name: "too many outputs",
        items: EMIT,
        process: "(call $emit (i32.const 8192) (i32.const 101) (local.get $count))",
        class: "bad-output",
        code: "output-events",
    },
    Hostile {
        name: "huge output",
        items: EMIT,
        process: "(call $grow (i32.const 100))
            (i32.store8 (i32.const 8216) (i32.const 2)) (i32.store (i32.const 8224) (i32.const 6000000))
            (call $emit (i32.const 8192) (i32.const 1) (local.get $count))",
        class: "bad-output",
        code: "output-bytes",
    },
    Hostile {
        name: "output one byte over the limit",
        items: EMIT,
        process: "(call $grow (i32.const 100))
            (i32.store8 (i32.const 8216) (i32.const 2)) (i32.store (i32.const 8224) (i32.const 1048577))
            (call $emit (i32.const 8192) (i32.const 1) (local.get $count))",
        class: "bad-output",
        code: "output-bytes",
    },
    Hostile {
        name: "reason one byte over the limit, though it would be cut",
        items: EMIT,
        process: "(call $grow (i32.const 100))
            (i32.store8 (i32.const 4096) (i32.const 1)) (i32.store (i32.const 4104) (i32.const 262144))
            (i32.store (i32.const 4108) (i32.const 1048577))
            (call $pass (local.get $count))",
        class: "bad-output",
        code: "output-bytes",
    },
    Hostile {
        name: "a port of too many bytes",
        items: EMIT,
        process: "(i32.store8 (i32.const 8192) (i32.const 1)) (i32.store (i32.const 8196) (i32.const 61000))
            (i32.store (i32.const 8200) (i32.const 65))
            (call $emit (i32.const 8192) (i32.const 1) (local.get $count))",
        class: "bad-output",
        code: "port-length",
    },
    Hostile {
        name: "headers beyond the limit, though empty",
        items: EMIT,
        process: "(call $grow (i32.const 100))
            (i32.store8 (i32.const 8228) (i32.const 1)) (i32.store (i32.const 8232) (i32.const 131072))
            (i32.store (i32.const 8236) (i32.const 22000))
            (call $emit (i32.const 8192) (i32.const 1) (local.get $count))",
        class: "bad-output",
        code: "output-bytes",
    },
    Hostile {
        name: "a text that is not UTF-8",
        items: "(data (i32.const 60000) \"\\ff\")",
        process: "(i32.store8 (i32.const 4096) (i32.const 1)) (i32.store (i32.const 4104) (i32.const 60000))
            (i32.store (i32.const 4108) (i32.const 1)) (call $pass (local.get $count))",
        class: "bad-output",
        code: "utf-8",
    },
    Hostile {
        name: "a text outside of memory",
        items: "",
        process: "(i32.store8 (i32.const 4096) (i32.const 1)) (i32.store (i32.const 4104) (i32.const -1))
            (i32.store (i32.const 4108) (i32.const 1)) (call $pass (local.get $count))",
        class: "bad-output",
        code: "malformed",
    },
    Hostile {
        name: "an answer outside of memory",
        items: "",
        process: "(i32.const 0x7ffffff8)",
        class: "bad-output",
        code: "malformed",
    },
    Hostile {
        name: "a crooked answer",
        items: "",
        process: "(i32.const 1025)",
        class: "bad-output",
        code: "malformed",
    },
    Hostile {
        name: "a verdict that does not exist",
        items: "",
        process: "(i32.store8 (i32.const 4096) (i32.const 5)) (call $pass (local.get $count))",
        class: "bad-output",
        code: "malformed",
    },
    Hostile {
        name: "a log line outside of memory",
        items: "",
        process: "(call $log (i32.const 0) (i32.const -16) (i32.const 16)) (unreachable)",
        class: "bad-output",
        code: "malformed",
    },
    Hostile {
        name: "a log level that does not exist",
        items: "",
        process: "(call $log (i32.const 4) (i32.const 0) (i32.const 0)) (unreachable)",
        class: "bad-output",
        code: "malformed",
    },
];

#[test]
fn each_hostile_guest_ends_its_own_call_with_its_class_and_code() {
    for hostile in HOSTILE {
        let mut worker = worker(Guest { items: hostile.items, process: hostile.process, ..PASS });
        for _ in 0..2 {
            // The second time on a fresh instance: nothing stays behind, in the guest or in the pool.
            assert_eq!(fault(call(&mut worker)), (hostile.class, hostile.code.into()), "{}", hostile.name);
        }
    }
}

#[test]
fn an_endless_loop_ends_at_its_deadline_of_cpu_time() {
    let guest = Guest { process: "(loop $ever (br $ever)) (unreachable)", ..PASS };
    let mut bench = Bench::new(&guest.component());
    bench.spec.limits.deadline = Duration::from_millis(20);
    let mut worker = bench.worker();
    assert_eq!(fault(call(&mut worker)), ("deadline", "deadline".into()));
    let tries = |worker: &pointsman_wasm::WorkerPlugins| worker.last_cost().unwrap().tries;
    assert_eq!(tries(&worker), 1, "of several, each is run alone by whoever wants to know");
    let Err(CallError::Guest { message, .. }) = call(&mut worker) else { panic!("it must fail again") };
    assert!(worker.call(PLUGIN, &[event(0, b"")], 0).is_err());
    assert_eq!(tries(&worker), 2, "once may be the fault of a machine that stood still");
    assert_eq!(message, "plugin judge: the call took more than its deadline of 20ms of CPU time");
}

#[test]
fn a_deadline_begins_anew_with_each_call() {
    // About as much work as a deadline, in many calls.
    let spin = "(local $i i32) (local.set $i (i32.const 1000000))
        (loop $more (br_if $more (local.tee $i (i32.sub (local.get $i) (i32.const 1)))))
        (call $pass (local.get $count))";
    let mut bench = Bench::new(&Guest { process: spin, ..PASS }.component());
    bench.spec.limits.deadline = Duration::from_millis(300);
    let mut worker = bench.worker();
    for _ in 0..1000 {
        assert_eq!(call(&mut worker).unwrap().len(), 3);
    }
}

#[test]
fn what_a_call_costs_is_measured() {
    // Traps at offset 13, and else takes some milliseconds.
    let spin = "(local $i i32)
        (if (i64.eq (i64.load offset=16 (local.get $events)) (i64.const 13)) (then (unreachable)))
        (local.set $i (i32.const 20000000))
        (loop $more (br_if $more (local.tee $i (i32.sub (local.get $i) (i32.const 1)))))
        (call $pass (local.get $count))";
    let mut worker = worker(Guest { process: spin, ..PASS });
    assert_eq!(worker.last_cost(), None);
    call_at(&mut worker, 1).unwrap();
    let began = thread_cpu_time();
    call_at(&mut worker, 2).unwrap();
    let (alone, whole) = (worker.last_cost().unwrap(), thread_cpu_time() - began);
    assert!(alone.cpu <= whole && alone.cpu > whole / 2, "{alone:?} of {whole:?}");
    assert_eq!(alone.tries, 1);
    assert!(alone.bytes_in > 0);
    call(&mut worker).unwrap();
    assert_eq!(worker.last_cost().unwrap().bytes_in, 3 * alone.bytes_in);
    call_at(&mut worker, 1).unwrap();
    assert!(call_at(&mut worker, 13).is_err());
    assert_eq!(worker.last_cost().unwrap().tries, 2, "once more on a new instance");
}

/// Drops each event for the reason "n", n being the number of the call on this instance; traps at offset 13.
const COUNTING: Guest<'static> = Guest {
    items: "(global $calls (mut i32) (i32.const 0))",
    process: "(if (i64.eq (i64.load offset=16 (local.get $events)) (i64.const 13)) (then (unreachable)))
        (global.set $calls (i32.add (global.get $calls) (i32.const 1)))
        (i32.store8 (i32.const 60000) (i32.add (global.get $calls) (i32.const 48)))
        (i32.store8 (i32.const 4096) (i32.const 1))
        (i32.store (i32.const 4104) (i32.const 60000)) (i32.store (i32.const 4108) (i32.const 1))
        (call $pass (local.get $count))",
    ..PASS
};

/// Traps in its third call.
const TIRED: Guest<'static> = Guest {
    items: "(global $calls (mut i32) (i32.const 0))",
    process: "(global.set $calls (i32.add (global.get $calls) (i32.const 1)))
        (if (i32.eq (global.get $calls) (i32.const 3)) (then (unreachable)))
        (call $pass (local.get $count))",
    ..PASS
};

/// Takes a page more in each call, and never gives one back.
const LEAKING: Guest<'static> = Guest {
    process: "(if (i32.lt_s (memory.grow (i32.const 1)) (i32.const 0)) (then (unreachable)))
        (call $pass (local.get $count))",
    ..PASS
};

#[test]
fn an_instance_whose_memory_grows_is_replaced_before_a_call_fails_for_it() {
    let mut worker = worker(LEAKING);
    for number in 0..1000 {
        assert!(call(&mut worker).is_ok(), "call {number}");
    }
}

#[test]
fn an_instance_is_reused_after_a_clean_return_and_only_then() {
    let mut worker = worker(COUNTING);
    let mut seen = Vec::new();
    for offset in [0, 1, 2, 13, 4, 5, 13, 13, 6] {
        seen.push(match call_at(&mut worker, offset) {
            Ok(verdicts) => match &verdicts[..] {
                [Verdict::Drop { reason }] => reason.clone(),
                other => panic!("{other:?}"),
            },
            failed => fault(failed).1,
        });
    }
    assert_eq!(seen, ["1", "2", "3", "unreachable", "1", "2", "unreachable", "unreachable", "1"]);
}

#[test]
fn a_trap_on_the_nth_call_starts_the_count_again() {
    let mut worker = worker(TIRED);
    let clean: Vec<bool> = (0..9).map(|_| call(&mut worker).is_ok()).collect();
    assert_eq!(clean, [true, true, false, true, true, false, true, true, false]);
}

#[test]
fn an_event_alone_is_not_blamed_for_what_others_left_behind() {
    let mut worker = worker(TIRED);
    for offset in 0..9 {
        assert_eq!(
            call_at(&mut worker, offset),
            Ok(vec![Verdict::Pass]),
            "the third call is made again, on a new instance"
        );
    }
}

#[test]
fn a_batch_too_large_for_the_guest_is_a_matter_of_memory() {
    let mut worker = worker(PASS);
    let large = vec![b'x'; 9 << 20];
    let answer = worker.call(PLUGIN, &[event(0, &large)], 0);
    assert_eq!(fault(answer), ("memory", "memory-limit".into()));
    assert_eq!(call(&mut worker).unwrap().len(), 3, "the next call is not affected");
}

#[test]
fn workers_do_not_share_instances() {
    let bench = Bench::new(&COUNTING.component());
    let plugins = pointsman_wasm::Plugins::new(vec![bench.load().unwrap()]);
    let threads = (0..2).map(|_| {
        let mut worker = plugins.worker();
        std::thread::spawn(move || (0..5).map(|offset| call_at(&mut worker, offset).unwrap()).collect::<Vec<_>>())
    });
    for thread in threads.collect::<Vec<_>>() {
        let expected: Vec<_> = (1..6).map(|calls| vec![Verdict::Drop { reason: calls.to_string() }]).collect();
        assert_eq!(thread.join().unwrap(), expected);
    }
}

#[test]
fn an_unknown_plugin_is_unavailable() {
    let mut worker = worker(PASS);
    let answer = worker.call(pointsman_core::port::PluginId(7), &[event(0, b"")], 0);
    assert_eq!(answer, Err(CallError::Unavailable { message: "there is no plugin number 7".into() }));
}

#[test]
fn limits_are_of_the_plugin_not_of_the_sandbox() {
    let guest = Guest { items: EMIT, process: "(call $grow (i32.const 100)) (call $pass (local.get $count))", ..PASS };
    let mut bench = Bench::new(&guest.component());
    assert_eq!(call(&mut bench.worker()).unwrap().len(), 3);
    bench.spec.limits = Limits { memory_bytes: 1 << 20, ..limits() };
    assert_eq!(fault(call(&mut bench.worker())), ("memory", "memory-limit".into()));
}
