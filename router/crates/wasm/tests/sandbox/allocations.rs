//! Counts what a thread has allocated, to see what a guest makes its host hold.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

thread_local! {
    static HELD: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

fn count(change: isize) {
    let counted = HELD.try_with(|held| {
        held.set(held.get() + change);
        held.get()
    });
    // A thread that is ending has nothing left to count with.
    counted.and_then(|held| PEAK.try_with(|peak| peak.set(peak.get().max(held)))).unwrap_or_default();
}

// SAFETY: every call is passed on to the system's allocator as it came, and counting does not allocate.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size().cast_signed());
        // SAFETY: the caller keeps the contract of `GlobalAlloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(-layout.size().cast_signed());
        // SAFETY: the caller keeps the contract of `GlobalAlloc`, and the pointer came from `System`.
        unsafe { System.dealloc(pointer, layout) }
    }
}

/// The most bytes that this thread held at once during `work`, beyond what it held before. What other threads freed of
/// it, or for it, is not seen.
pub fn peak<T>(work: impl FnOnce() -> T) -> (T, usize) {
    let before = HELD.get();
    PEAK.set(before);
    let done = work();
    (done, usize::try_from(PEAK.get() - before).unwrap())
}

#[test]
fn a_peak_is_seen_after_it_is_gone() {
    let ((), peak) = peak(|| drop(std::hint::black_box(vec![0_u8; 1 << 20])));
    assert!((1 << 20..2 << 20).contains(&peak), "{peak}");
}
