//! Counts what this thread holds on the heap, in programs whose global allocator is [`Counting`].

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

// SAFETY: every call goes on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        add(layout.size() as isize);
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        add(-(layout.size() as isize));
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(pointer, layout) }
    }
}

/// So many bytes.
pub fn held() -> isize {
    HELD.get()
}

/// The most that was held since the last call of [`reset_peak`], in bytes.
pub fn peak() -> isize {
    PEAK.get()
}

/// Begins a new measurement of [`peak`].
pub fn reset_peak() {
    PEAK.set(held());
}

/// While it lives, this thread's allocations do not count: a host does its own work in the middle of a callback.
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

/// Memory that is allocated while an [`Outside`] lives, and that belongs to the other side.
pub fn hand_over<T>(allocate: impl FnOnce() -> T) -> T {
    let was_outside = IS_OUTSIDE.replace(false);
    let memory = allocate();
    IS_OUTSIDE.set(was_outside);
    memory
}
