//! What the host holds of what a guest gives it: no more than it was told, and for long only what is needed.

use pointsman_core::verdict::Verdict;

use crate::allocations::peak;
use crate::guests::{Bench, Guest, PASS, call, fault, limits, worker};
use crate::hostile::EMIT;

#[test]
fn naming_the_same_bytes_many_times_does_not_make_the_host_hold_them_many_times() {
    // 90 outputs, each with the same 4 MiB as its value: 360 MiB, from a guest of 6.
    let guest = Guest {
        items: EMIT,
        process: "(local $at i32) (call $grow (i32.const 100)) (local.set $at (i32.const 131072))
            (loop $more
              (i32.store8 offset=24 (local.get $at) (i32.const 2))
              (i32.store offset=32 (local.get $at) (i32.const 4194304))
              (local.set $at (i32.add (local.get $at) (i32.const 64)))
              (br_if $more (i32.lt_u (local.get $at) (i32.const 136832))))
            (call $emit (i32.const 131072) (i32.const 90) (local.get $count))",
        ..PASS
    };
    let mut bench = Bench::new(&guest.component());
    bench.spec.limits.output_bytes = 16 << 20;
    let mut worker = bench.worker();
    let (answer, peak) = peak(|| call(&mut worker));
    assert_eq!(fault(answer), ("bad-output", "output-bytes".into()));
    assert!(peak < 18 << 20, "the host held {peak} bytes");
}

#[test]
fn an_answer_at_its_limits_is_taken() {
    let guest = Guest {
        items: EMIT,
        process: "(call $grow (i32.const 100))
            (i32.store8 (i32.const 8192) (i32.const 1)) (i32.store (i32.const 8200) (i32.const 64))
            (i32.store8 (i32.const 8216) (i32.const 2)) (i32.store (i32.const 8224) (i32.const 1048512))
            (call $emit (i32.const 8192) (i32.const 100) (local.get $count))",
        ..PASS
    };
    let verdicts = call(&mut worker(guest)).unwrap();
    let [Verdict::Emit(outputs), Verdict::Pass, Verdict::Pass] = &*verdicts else { panic!("{verdicts:?}") };
    assert_eq!(outputs.len(), limits().output_events);
    assert_eq!(outputs[0].port.as_ref().map(String::len), Some(64));
}

#[test]
fn of_a_reason_only_the_head_is_held() {
    // A text of 200,001 bytes, "xää…", as each reason, code and message.
    let guest = Guest {
        items: "(func $text (param $at i32)
            (i32.store (local.get $at) (i32.const 131071)) (i32.store offset=4 (local.get $at) (i32.const 200001)))",
        process: "(local $at i32) (drop (memory.grow (i32.const 10)))
            (i32.store8 (i32.const 131071) (i32.const 120)) (local.set $at (i32.const 131072))
            (loop $more
              (i32.store (local.get $at) (i32.const 0xa4c3a4c3))
              (br_if $more (i32.lt_u (local.tee $at (i32.add (local.get $at) (i32.const 4))) (i32.const 340000))))
            (i32.store8 (i32.const 4096) (i32.const 1)) (call $text (i32.const 4104))
            (i32.store8 (i32.const 4128) (i32.const 3)) (call $text (i32.const 4136))
            (i32.store8 (i32.const 4160) (i32.const 4)) (call $text (i32.const 4168)) (call $text (i32.const 4176))
            (call $pass (local.get $count))",
        ..PASS
    };
    let verdicts = call(&mut worker(guest)).unwrap();
    let [Verdict::Drop { reason }, Verdict::Retry { reason: why, .. }, Verdict::Reject { code, message }] = &*verdicts
    else {
        panic!("{verdicts:?}")
    };
    for text in [reason, why, code, message] {
        assert_eq!(*text, format!("x{}", "ä".repeat(511)), "the characters that 1024 bytes hold");
        assert!(text.capacity() <= 1024, "{} bytes are held", text.capacity());
    }
}

#[test]
fn a_text_of_a_host_call_is_not_copied_whole() {
    let guest = Guest {
        items: EMIT,
        process: "(call $grow (i32.const 100))
            (call $log (i32.const 0) (i32.const 131072) (i32.const 6000000))
            (call $count (i32.const 131072) (i32.const 6000000) (i64.const 1))
            (call $pass (local.get $count))",
        ..PASS
    };
    let mut bench = Bench::new(&guest.component());
    bench.spec.limits.output_bytes = 16 << 20;
    let mut worker = bench.worker();
    let (answer, peak) = peak(|| call(&mut worker));
    assert_eq!(answer.unwrap().len(), 3);
    assert!(peak < 1 << 20, "the host held {peak} bytes");
}
