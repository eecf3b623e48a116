//! The system's allocator, with a count of calls and live bytes that can be switched on.
//!
//! Counting is off while time is measured: then an allocation costs one load and one branch more
//! than the system's own, for every library alike. Bytes are those asked for; what the allocator
//! adds to each block is not seen, which flatters libraries that make many small ones.

#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering::Relaxed};

static COUNTING: AtomicBool = AtomicBool::new(false);
static CALLS: AtomicU64 = AtomicU64::new(0);
static LIVE: AtomicI64 = AtomicI64::new(0);

/// The global allocator of this program.
pub struct Counting;

/// What was allocated between a call of [`start`] and one of [`now`].
#[derive(Clone, Copy)]
pub struct Count {
    /// Calls that asked for memory, growing a block included.
    pub calls: u64,
    /// Bytes asked for and not given back.
    pub live: i64,
}

/// Starts counting from zero.
pub fn start() {
    CALLS.store(0, Relaxed);
    LIVE.store(0, Relaxed);
    COUNTING.store(true, Relaxed);
}

/// Reads the count, which goes on.
pub fn now() -> Count {
    Count {
        calls: CALLS.load(Relaxed),
        live: LIVE.load(Relaxed),
    }
}

/// Stops counting.
pub fn stop() {
    COUNTING.store(false, Relaxed);
}

#[inline(always)]
fn note(calls: u64, bytes: i64) {
    if COUNTING.load(Relaxed) {
        CALLS.fetch_add(calls, Relaxed);
        LIVE.fetch_add(bytes, Relaxed);
    }
}

// SAFETY: every call goes to the system's allocator unchanged; the counters never allocate.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(1, layout.size() as i64);
        // SAFETY: the caller keeps the contract of `GlobalAlloc`, which is handed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        note(1, layout.size() as i64);
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        note(1, size as i64 - layout.size() as i64);
        // SAFETY: as above.
        unsafe { System.realloc(block, layout, size) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        note(0, -(layout.size() as i64));
        // SAFETY: as above.
        unsafe { System.dealloc(block, layout) }
    }
}
