//! Counts the bytes that this thread holds on the heap, in programs with the global allocator [`Counting`].

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// The system's allocator, and the counts.
pub struct Counting;

thread_local! {
    static HELD: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
    static IS_OUTSIDE: Cell<bool> = const { Cell::new(false) };
}

fn add(bytes: isize) {
    if IS_OUTSIDE.try_with(Cell::get).unwrap_or(true) {
        return;
    }
    let _ = HELD.try_with(|held| {
        held.set(held.get() + bytes);
        let _ = PEAK.try_with(|peak| peak.set(peak.get().max(held.get())));
    });
}

// SAFETY: forwards every call to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        add(layout.size() as isize);
        // SAFETY: the caller keeps the contract of this function, which is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        add(-(layout.size() as isize));
        // SAFETY: the caller keeps the contract of this function, which is the same.
        unsafe { System.dealloc(pointer, layout) }
    }
}

/// Number of bytes that are held now.
pub fn held() -> isize {
    HELD.get()
}

/// Maximum number of bytes that were held since the last call of [`reset_peak`].
pub fn peak() -> isize {
    PEAK.get()
}

/// Starts a new measurement of [`peak`].
pub fn reset_peak() {
    PEAK.set(held());
}

/// Stops counting on this thread until it is dropped. Use it for the work of a test host within a callback.
pub struct Outside(());

impl Outside {
    pub fn enter() -> Self {
        IS_OUTSIDE.set(true);
        Self(())
    }
}

impl Drop for Outside {
    fn drop(&mut self) {
        IS_OUTSIDE.set(false);
    }
}

/// Counts the memory that `allocate` returns although an [`Outside`] exists, because the code under test owns it.
pub fn hand_over<T>(allocate: impl FnOnce() -> T) -> T {
    let was_outside = IS_OUTSIDE.replace(false);
    let memory = allocate();
    IS_OUTSIDE.set(was_outside);
    memory
}
