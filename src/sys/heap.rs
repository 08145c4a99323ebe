//! The heap: Rust's share of it, counted as it is taken and given back. What libbpf takes in C is not in it.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

static IN_USE: AtomicUsize = AtomicUsize::new(0);

/// Bytes of the heap in use, as asked for; 0 in programs whose allocator is another one.
pub fn bytes() -> usize {
    IN_USE.load(Relaxed)
}

/// The system's allocator, counted: to be the program's `#[global_allocator]`.
#[derive(Debug)]
pub struct Counted;

// SAFETY: every call goes on to the system's allocator with what it was given, and gives back what that says; counting on the
// side touches one atomic number and allocates nothing.
unsafe impl GlobalAlloc for Counted {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller keeps the contract, which is the same.
        let memory = unsafe { System.alloc(layout) };
        if !memory.is_null() {
            IN_USE.fetch_add(layout.size(), Relaxed);
        }
        memory
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as above.
        let memory = unsafe { System.alloc_zeroed(layout) };
        if !memory.is_null() {
            IN_USE.fetch_add(layout.size(), Relaxed);
        }
        memory
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: as above.
        let memory = unsafe { System.realloc(memory, layout, size) };
        if !memory.is_null() {
            IN_USE.fetch_add(size, Relaxed);
            IN_USE.fetch_sub(layout.size(), Relaxed);
        }
        memory
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        IN_USE.fetch_sub(layout.size(), Relaxed);
        // SAFETY: as above.
        unsafe { System.dealloc(memory, layout) };
    }
}
