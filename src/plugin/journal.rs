//! Lines in Envoy's log: `key=value`, of the configured level, at most so many a minute.

use std::cell::Cell;
use std::fmt::Display;
use std::time::Duration;

use log::{Level, LevelFilter};

use super::host;
use crate::clock::Timestamp;
use crate::config::LogConfig;

const MINUTE: Duration = Duration::from_secs(60);

/// What one plugin configuration in one VM may log.
#[derive(Debug)]
pub(super) struct Journal {
    level: LevelFilter,
    max_per_minute: u32,
    minute: Cell<Minute>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Minute {
    began: Timestamp,
    lines: u32,
    withheld: u32,
}

impl Journal {
    pub(super) fn new(config: &LogConfig) -> Self {
        Self { level: config.level, max_per_minute: config.max_per_minute, minute: Cell::default() }
    }

    /// Writes a line unless its level or the limit forbids.
    pub(super) fn line<L: Display>(&self, level: Level, line: impl FnOnce() -> L) {
        if level > self.level {
            return;
        }
        let mut minute = self.minute.get();
        if minute.lines == 0 {
            minute.began = host::now();
        }
        if minute.lines < self.max_per_minute {
            minute.lines = minute.lines.saturating_add(1);
            host::log(level, &line().to_string());
        } else {
            minute.withheld = minute.withheld.saturating_add(1);
        }
        self.minute.set(minute);
    }

    /// Some time has gone by. A minute ends here and not where a line is written, so that a storm of lines
    /// that are withheld costs nothing, and is told of also when it is over.
    pub(super) fn tick(&self) {
        let Minute { began, lines, withheld } = self.minute.get();
        if lines > 0 && host::now().since(began) >= MINUTE {
            self.minute.set(Minute::default());
            if withheld > 0 {
                host::log(Level::Warn, &format!("event=log_limit withheld={withheld}"));
            }
        }
    }
}
