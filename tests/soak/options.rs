//! Options of a run, from the environment.

use std::time::Duration;

use firstword_testing::process::raise_open_files;

/// Files that a process needs in addition to those of the open connections.
const OTHER_FILES: u64 = 600;

pub struct Options {
    /// Minutes of mixed load. `None` for the short run.
    pub minutes: Option<u32>,
    /// Number of connections that were asked for.
    pub asked: u32,
    /// Number of connections that the limit of open files allows.
    pub connections: u32,
    /// The part of them that leaves Envoy through the tunnel: a twentieth, or more if the others would exceed the limit with two
    /// open files for each.
    pub tunnelled: u32,
    /// True if the results are recorded in the documents.
    pub is_recorded: bool,
}

impl Options {
    pub fn from_environment() -> Self {
        let minutes = number("MINUTES").filter(|minutes| *minutes > 0);
        let asked = number("CONNECTIONS").unwrap_or(if minutes.is_some() { 10_000 } else { 100 });
        let files = u32::try_from(raise_open_files().saturating_sub(OTHER_FILES)).unwrap_or(u32::MAX);
        let connections = asked.min(files);
        let tunnelled = connections.saturating_mul(2).saturating_sub(files).max(connections / 20);
        assert!(connections > 0, "expected a higher limit of open files (ulimit -n)");
        Self {
            minutes,
            asked,
            connections,
            tunnelled,
            is_recorded: number("RECORD").is_some_and(|record| record != 0),
        }
    }

    /// Time between two samples of memory. It is a minute in the long run, and less in the short one.
    pub fn interval(&self) -> Duration {
        self.minutes.map_or(Duration::from_secs(2), |_| Duration::from_secs(60))
    }

    /// Number of these intervals.
    pub fn intervals(&self) -> u32 {
        self.minutes.unwrap_or(2)
    }

    /// Time of the connects.
    pub fn connecting(&self) -> Duration {
        self.minutes.map_or(Duration::from_secs(1), |_| Duration::from_secs(60))
    }

    /// Number of rounds in which delays are compared, and the time of each side in a round.
    pub fn rounds(&self) -> (usize, Duration) {
        self.minutes.map_or((2, Duration::from_millis(300)), |_| (60, Duration::from_secs(2)))
    }
}

fn number(name: &str) -> Option<u32> {
    let value = std::env::var(name).ok().filter(|value| !value.is_empty())?;
    Some(value.parse().unwrap_or_else(|_| panic!("{name}={value} is not a number")))
}
