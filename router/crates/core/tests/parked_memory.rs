//! How much memory the index of parked records takes.
#![allow(clippy::expect_used, reason = "a test fails by panicking")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use pointsman_core::parked::{Edition, KeyHash, KeyOrder, Kind, Label, Original, Parked};
use pointsman_core::settled::Settled;
use pointsman_core::tracker::CommitPoint;

struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

static HELD: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call is passed on to the system's allocator as it came, and counting does not allocate.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        HELD.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller keeps the contract of `GlobalAlloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller keeps the contract of `GlobalAlloc`, and the pointer came from `System`.
        unsafe { System.dealloc(pointer, layout) }
    }
}

const RECORDS: u32 = 1_000_000;

/// Bytes that the index of a million records takes.
fn index_of(in_order: bool, key: impl Fn(u32) -> KeyHash) -> usize {
    let before = HELD.load(Ordering::Relaxed);
    // The source is far behind what was parked: each has still to come from there.
    let point = |offset| CommitPoint { offset, settled: Settled::default() };
    let keys = if in_order { KeyOrder::KeptAndHeld } else { KeyOrder::None };
    let mut parked = Parked::resume(point(0), point(i64::MAX), keys);
    for number in 0..RECORDS {
        let original = Original { key: key(number), offset: i64::from(number) };
        let label = Label {
            original: Some(original),
            due_ms: i64::from(number) * 7 % 5000,
            edition: Edition::new(0, 1),
            kind: Kind::Parked,
        };
        parked.admit(i64::from(number), &label).expect("in order");
    }
    assert_eq!(parked.len(), RECORDS as usize);
    HELD.load(Ordering::Relaxed) - before
}

#[test]
fn a_million_parked_records_take_less_than_100_megabytes() {
    let bytes = [
        index_of(false, |_| KeyHash::NULL),
        index_of(true, |number| if number < RECORDS - 1 { KeyHash::NULL } else { KeyHash::of(Some(b"one")) }),
        index_of(true, |number| KeyHash::of(Some(&number.to_le_bytes()))),
        index_of(true, |_| KeyHash::of(Some(b"one"))),
    ];
    assert!(bytes.iter().all(|bytes| *bytes < 100_000_000), "{bytes:?} bytes");
}
