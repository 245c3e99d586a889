//! Lines in the proxy's log, as `key=value`. Configuration sets their level and their maximum number in a minute.

pub(super) mod affected_clients;
pub(super) mod catalogue;
pub(super) mod hazards;
pub(super) mod host_calls;
pub(super) mod once;
pub(super) mod opaque;
pub(super) mod ports;
pub(super) mod proxy_headers;
pub(super) mod rule_effects;
pub(super) mod slow_commands;

use std::cell::Cell;
use std::time::Duration;

use log::{Level, LevelFilter};

use super::destination::Destination;
use super::host::Host;
use crate::clock::Timestamp;
use crate::config::LogConfig;

const MINUTE: Duration = Duration::from_secs(60);

/// Log of one configuration on one worker.
#[derive(Debug)]
pub(super) struct RateLimitedLog {
    level: LevelFilter,
    max_per_minute: u32,
    window: Cell<Window>,
}

/// One minute.
#[derive(Clone, Copy, Debug, Default)]
struct Window {
    began: Timestamp,
    /// Number of lines that were logged.
    lines: u32,
    /// Number of lines that the limit withheld.
    withheld: u32,
}

impl RateLimitedLog {
    pub(super) fn new(config: &LogConfig) -> Self {
        Self { level: config.level, max_per_minute: config.max_per_minute, window: Cell::default() }
    }

    /// Logs a line unless its level or the limit forbids it.
    pub(super) fn line(&self, host: &dyn Host, level: Level, line: impl FnOnce() -> String) {
        if self.admits(host, level) {
            host.log(level, &line());
        }
    }

    /// Counts a line. Returns true if it may be logged.
    fn admits(&self, host: &dyn Host, level: Level) -> bool {
        if level > self.level {
            return false;
        }
        let mut window = self.window.get();
        if window.lines == 0 {
            window.began = host.now();
        }
        let is_admitted = window.lines < self.max_per_minute;
        let count = if is_admitted { &mut window.lines } else { &mut window.withheld };
        *count = count.saturating_add(1);
        self.window.set(window);
        is_admitted
    }

    /// Closes the window if a minute is over. Only the tick closes it, so withheld lines cost nothing, and their number is
    /// logged even after the burst has ended.
    pub(super) fn tick(&self, host: &dyn Host) {
        let Window { began, lines, withheld } = self.window.get();
        if lines > 0 && host.now().since(began) >= MINUTE {
            self.window.set(Window::default());
            if withheld > 0 {
                host.log(
                    Level::Warn,
                    &format!(
                        "event=log_limit withheld={withheld} fix=\"raise log.max_per_minute to see them\""
                    ),
                );
            }
        }
    }
}

/// Log for lines about one connection.
#[derive(Clone, Copy)]
pub(super) struct ConnectionLog<'a> {
    pub(super) log: &'a RateLimitedLog,
    pub(super) host: &'a dyn Host,
    pub(super) to: &'a Destination,
}

impl ConnectionLog<'_> {
    /// Logs a line unless its level or the limit forbids it.
    fn line(&self, level: Level, line: impl FnOnce() -> String) {
        self.log.line(self.host, level, line);
    }

    /// Returns the destination of the connection as fields of a line.
    fn destination(&self) -> String {
        self.to.text(self.host)
    }
}
