//! The number of steps of doctor's searches. A test uses it to show how the work grows with a configuration, without a clock.

use std::cell::Cell;

thread_local! {
    static STEPS: Cell<u64> = const { Cell::new(0) };
}

/// Counts one step.
pub(super) fn step() {
    STEPS.with(|steps| steps.set(steps.get().saturating_add(1)));
}

/// The number of steps of this thread during some work.
pub(super) fn during(work: impl FnOnce()) -> u64 {
    let before = STEPS.with(Cell::get);
    work();
    STEPS.with(Cell::get).saturating_sub(before)
}
