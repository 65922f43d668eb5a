//! What a guest returns: whatever its bytes, it is an answer within the limits, or the guest's own fault.
#![no_main]

use std::cell::RefCell;

use libfuzzer_sys::fuzz_target;

#[path = "../../all/parrot.rs"]
#[allow(dead_code, reason = "the smoke test builds its answers with the rest")]
mod parrot;

thread_local! {
    #[allow(clippy::expect_used, reason = "without its guests the target is of no use")]
    static PARROTS: RefCell<[parrot::Parrot; 2]> = RefCell::new(
        [parrot::Door::Records, parrot::Door::Columns].map(|door| parrot::Parrot::new(door).expect("the parrot loads")),
    );
}

fuzz_target!(|answer: (bool, u8, &[u8])| {
    let (columns, events, bytes) = answer;
    PARROTS.with_borrow_mut(|parrots| parrots[usize::from(columns)].survive(1 + usize::from(events % 4), bytes));
});
