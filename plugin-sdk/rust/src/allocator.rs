//! The plugin's allocator: small blocks come from free lists, one for each size, and go back there; what is larger is the
//! standard library's.
//!
//! A plugin that reads and writes JSON allocates some twenty small blocks for a record, which have no fate but to be freed
//! before the next one. The standard library's dlmalloc divides and merges blocks, so that memory of one size can become
//! memory of another; here it can't, and what a plugin once had in use of a size is kept for that size.

#[cfg(target_arch = "wasm32")]
use std::alloc::System;
use std::alloc::{GlobalAlloc, Layout};
use std::cell::UnsafeCell;
use std::ptr;

/// Sizes are rounded up to a multiple of this, and blocks are aligned to it.
const GRAIN: usize = 16;

/// So many sizes have a free list.
const LISTS: usize = 64;

/// What the lists are filled from, at a time.
const CHUNK: Layout = match Layout::from_size_align(16 * 1024, GRAIN) {
    Ok(layout) => layout,
    Err(_) => unreachable!(),
};

#[cfg(target_arch = "wasm32")]
#[global_allocator]
static ALLOCATOR: FreeLists<System> = FreeLists::new(System);

/// For one thread.
struct FreeLists<Large> {
    large: Large,
    small: UnsafeCell<Small>,
}

// SAFETY: without `atomics` a component has one thread.
#[cfg(target_arch = "wasm32")]
unsafe impl Sync for FreeLists<System> {}

struct Small {
    /// The first free block of each size; it holds the address of the next.
    free: [*mut u8; LISTS],
    /// The part of the last chunk that was never handed out. What is too short for a block is lost: 6 % of a chunk at most.
    rest: *mut u8,
    rest_bytes: usize,
}

impl<Large> FreeLists<Large> {
    const fn new(large: Large) -> Self {
        let small = Small { free: [ptr::null_mut(); LISTS], rest: ptr::null_mut(), rest_bytes: 0 };
        Self { large, small: UnsafeCell::new(small) }
    }
}

/// The list that a block is taken from.
#[inline]
fn list_of(layout: Layout) -> Option<usize> {
    let list = layout.size().wrapping_sub(1) / GRAIN;
    (list < LISTS && layout.align() <= GRAIN).then_some(list)
}

impl Small {
    #[inline]
    fn take(&mut self, list: usize, large: &impl GlobalAlloc) -> *mut u8 {
        let first = self.free[list];
        if first.is_null() {
            return self.cut(list, large);
        }
        // SAFETY: a free block of at least `GRAIN` bytes, aligned to as many, that `put` wrote this to.
        self.free[list] = unsafe { first.cast::<*mut u8>().read() };
        first
    }

    /// # Safety
    /// The block came from `take` with this list, and nobody uses it any more.
    #[inline]
    unsafe fn put(&mut self, list: usize, block: *mut u8) {
        // SAFETY: at least `GRAIN` bytes, aligned to as many, and ours again.
        unsafe { block.cast::<*mut u8>().write(self.free[list]) };
        self.free[list] = block;
    }

    /// A block that was never handed out. Null: there is no memory.
    #[cold]
    fn cut(&mut self, list: usize, large: &impl GlobalAlloc) -> *mut u8 {
        let bytes = (list + 1) * GRAIN;
        if self.rest_bytes < bytes {
            // SAFETY: the layout has a size.
            let chunk = unsafe { large.alloc(CHUNK) };
            if chunk.is_null() {
                return chunk;
            }
            (self.rest, self.rest_bytes) = (chunk, CHUNK.size());
        }
        let block = self.rest;
        // SAFETY: the rest is at least as long.
        self.rest = unsafe { block.add(bytes) };
        self.rest_bytes -= bytes;
        block
    }
}

// SAFETY: blocks are as long as asked for, and aligned: those of the lists to `GRAIN`, and none is asked of them that is to be
// aligned to more. No block is given out twice: it leaves its list, or the rest, before that. Nothing here panics.
unsafe impl<Large: GlobalAlloc> GlobalAlloc for FreeLists<Large> {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        match list_of(layout) {
            // SAFETY: there is one thread, and `take` calls nothing that comes back here.
            Some(list) => unsafe { &mut *self.small.get() }.take(list, &self.large),
            // SAFETY: as the caller promises.
            None => unsafe { self.large.alloc(layout) },
        }
    }

    #[inline]
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        match list_of(layout) {
            // SAFETY: as above; a layout always has the same list.
            Some(list) => unsafe { (*self.small.get()).put(list, block) },
            // SAFETY: as the caller promises.
            None => unsafe { self.large.dealloc(block, layout) },
        }
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if list_of(layout).is_none() {
            // SAFETY: as the caller promises.
            return unsafe { self.large.alloc_zeroed(layout) };
        }
        // SAFETY: as the caller promises.
        let block = unsafe { self.alloc(layout) };
        if !block.is_null() {
            // SAFETY: it is that long.
            unsafe { block.write_bytes(0, layout.size()) };
        }
        block
    }

    #[inline]
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        // SAFETY: the caller promises that the size is not too large for the alignment.
        let new_layout = unsafe { Layout::from_size_align_unchecked(new_size, layout.align()) };
        match (list_of(layout), list_of(new_layout)) {
            // SAFETY: as the caller promises.
            (None, None) => unsafe { self.large.realloc(block, layout, new_size) },
            (old, new) if old == new => block,
            _ => {
                // SAFETY: as the caller promises; two blocks that are at least as long as what is copied, and the old one is
                // the caller's until then.
                unsafe {
                    let new_block = self.alloc(new_layout);
                    if !new_block.is_null() {
                        block.copy_to_nonoverlapping(new_block, layout.size().min(new_size));
                        self.dealloc(block, layout);
                    }
                    new_block
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::alloc::System;
    use std::cell::Cell;

    use super::*;

    /// Counts what is out, and has none to give where it is told so.
    #[derive(Default)]
    struct Counted {
        bytes: Cell<usize>,
        is_exhausted: Cell<bool>,
    }

    // SAFETY: `System` does it.
    unsafe impl GlobalAlloc for Counted {
        unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
            if self.is_exhausted.get() {
                return ptr::null_mut();
            }
            self.bytes.update(|bytes| bytes + layout.size());
            // SAFETY: as the caller promises.
            unsafe { System.alloc(layout) }
        }

        unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
            self.bytes.update(|bytes| bytes - layout.size());
            // SAFETY: as the caller promises.
            unsafe { System.dealloc(block, layout) }
        }
    }

    /// A block that is in use, each of its bytes the same.
    struct Held {
        block: *mut u8,
        layout: Layout,
        content: u8,
    }

    impl Held {
        fn check(&self) {
            // SAFETY: in use, that long, and written to.
            let bytes = unsafe { std::slice::from_raw_parts(self.block, self.layout.size()) };
            assert!(bytes.iter().all(|byte| *byte == self.content), "{:?} of {}", self.layout, self.content);
            assert!(self.block.addr().is_multiple_of(self.layout.align()), "{:?}", self.layout);
        }

        fn fill(&mut self, content: u8) {
            self.content = content;
            // SAFETY: in use, and that long.
            unsafe { self.block.write_bytes(content, self.layout.size()) };
        }
    }

    #[test]
    fn blocks_keep_what_is_written_to_them_whatever_is_done_to_others() {
        let lists = FreeLists::new(Counted::default());
        let mut random = 0x9e37_79b9_7f4a_7c15_u64;
        let mut below = |end: usize| {
            // Xorshift (Marsaglia, 2003).
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            usize::try_from(random >> 33).unwrap() % end
        };
        let mut held: Vec<Held> = Vec::new();
        for step in 0..100_000_u32 {
            let content = u8::try_from(step % 251).unwrap();
            let size = 1 + if below(10) == 0 { below(5000) } else { below(200) };
            match below(3) {
                0 if !held.is_empty() => {
                    let Held { block, layout, .. } = held.swap_remove(below(held.len()));
                    // SAFETY: in use until now, and of this layout.
                    unsafe { lists.dealloc(block, layout) };
                }
                1 if !held.is_empty() => {
                    let at = below(held.len());
                    let one = &mut held[at];
                    let kept = one.layout.size().min(size);
                    // SAFETY: in use until now, and of this layout.
                    let block = unsafe { lists.realloc(one.block, one.layout, size) };
                    let layout = Layout::from_size_align(size, one.layout.align()).unwrap();
                    Held { block, layout: Layout::from_size_align(kept, 1).unwrap(), content: one.content }.check();
                    *one = Held { block, layout, content };
                    one.fill(content);
                }
                _ => {
                    let layout = Layout::from_size_align(size, 1 << below(7)).unwrap();
                    let zeroed = below(2) == 0;
                    // SAFETY: the layout has a size.
                    let block = unsafe { if zeroed { lists.alloc_zeroed(layout) } else { lists.alloc(layout) } };
                    let mut one = Held { block, layout, content: 0 };
                    if zeroed {
                        one.check();
                    }
                    one.fill(content);
                    held.push(one);
                }
            }
            if let Some(one) = (!held.is_empty()).then(|| &held[below(held.len())]) {
                one.check();
            }
        }
        held.iter().for_each(Held::check);
    }

    #[test]
    fn memory_is_used_again() {
        let lists = FreeLists::new(Counted::default());
        for _ in 0..1000 {
            for size in 1..=LISTS * GRAIN {
                let layout = Layout::from_size_align(size, 8).unwrap();
                // SAFETY: the layout has a size; the block is given back once.
                unsafe { lists.dealloc(lists.alloc(layout), layout) };
            }
        }
        // One block of each size.
        let least = LISTS * (LISTS + 1) / 2 * GRAIN;
        assert!(lists.large.bytes.get() < least + CHUNK.size(), "{} bytes", lists.large.bytes.get());
    }

    #[test]
    fn without_memory_there_is_no_block_and_what_there_was_stays() {
        let lists = FreeLists::new(Counted::default());
        let layout = Layout::new::<[u8; 100]>();
        // SAFETY: layouts have sizes; blocks are given back once, with theirs.
        unsafe {
            let block = lists.alloc(layout);
            lists.large.is_exhausted.set(true);
            assert!(lists.realloc(block, layout, 2000).is_null());
            let mut blocks = vec![block];
            // What is left of the chunk.
            blocks.extend(std::iter::from_fn(|| Some(lists.alloc(layout)).filter(|block| !block.is_null())));
            assert_eq!(blocks.len(), CHUNK.size() / 112);
            lists.dealloc(block, layout);
            assert_eq!(lists.alloc_zeroed(layout), block);
            assert!(lists.alloc_zeroed(layout).is_null());
        }
    }
}
