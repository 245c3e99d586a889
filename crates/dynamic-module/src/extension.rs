//! The bootstrap extension: one timer, and the export of all metrics, on the main thread.

use std::cell::RefCell;
use std::time::Duration;

use firstword::filter::MAX_TICK;
use log::Level;

use crate::abi::{self, ExtensionHandle, Timer};
use crate::metrics::Metrics;
use crate::{clock, configuration, worker};

struct Extension {
    timer: Timer,
    metrics: Metrics,
    /// True if a refused call was logged. Each flush would repeat it.
    has_logged_refusal: bool,
}

thread_local! {
    /// The extension, on the main thread. `None` on the workers, and in a process that has not loaded it.
    static EXTENSION: RefCell<Option<Extension>> = const { RefCell::new(None) };
}

/// Starts the extension.
pub(crate) fn start(handle: ExtensionHandle) {
    let extension =
        Extension { timer: handle.timer(), metrics: Metrics::define(handle), has_logged_refusal: false };
    EXTENSION.set(Some(extension));
    start_timer(MAX_TICK);
}

/// True if this process has the extension. Call it on the main thread.
pub(crate) fn is_present() -> bool {
    EXTENSION.with_borrow(Option::is_some)
}

/// Starts the timer of the next tick.
pub(crate) fn start_timer(time: Duration) {
    EXTENSION.with_borrow(|extension| {
        if let Some(extension) = extension {
            extension.timer.start(u64::try_from(time.as_millis()).unwrap_or(u64::MAX).max(1));
        }
    });
}

/// Ticks all filters and all connections. Returns the time until the next tick.
pub(crate) fn tick() -> Duration {
    let next = with_metrics(|metrics| configuration::tick(clock::now(), MAX_TICK, metrics));
    worker::post_ticks();
    next.unwrap_or(MAX_TICK)
}

/// Exports everything that is counted.
pub(crate) fn flush() {
    with_metrics(configuration::flush);
}

/// Ends the extension.
pub(crate) fn end() {
    EXTENSION.set(None);
}

fn with_metrics<T>(act: impl FnOnce(&mut Metrics) -> T) -> Option<T> {
    EXTENSION.with_borrow_mut(|extension| {
        let Extension { metrics, has_logged_refusal, .. } = extension.as_mut()?;
        let result = act(metrics);
        if let Some(error) = metrics.take_refused()
            && !std::mem::replace(has_logged_refusal, true)
        {
            abi::log(
                Level::Warn,
                &format!("event=host_refused {error} fix=\"report it, with the version of Envoy\""),
            );
        }
        Some(result)
    })
}
