//! What a guest returns: whatever its bytes, it is an answer within the limits, or the guest's own fault.
#![no_main]

use std::cell::RefCell;

use libfuzzer_sys::fuzz_target;

#[path = "../../all/parrot.rs"]
#[allow(dead_code, reason = "the smoke test builds its answers with the rest")]
mod parrot;

thread_local! {
    #[allow(clippy::expect_used, reason = "without its guest the target is of no use")]
    static PARROT: RefCell<parrot::Parrot> = RefCell::new(parrot::Parrot::new().expect("the parrot loads"));
}

fuzz_target!(|answer: (u8, &[u8])| {
    let (events, bytes) = answer;
    PARROT.with_borrow_mut(|parrot| parrot.survive(1 + usize::from(events % 4), bytes));
});
