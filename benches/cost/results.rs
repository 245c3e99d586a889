//! What a run has measured, and its medians and ratios.

use std::process::Command;

use firstword_testing::{built, envoy, mariadbd};

use crate::loads::{Load, Sample};
use crate::measure::Median;
use crate::open::Growth;

/// Results of a run.
pub(crate) struct Results {
    pub(crate) machine: Machine,
    pub(crate) rounds: usize,
    pub(crate) open_rounds: usize,
    pub(crate) measured: Vec<Measured>,
    pub(crate) open: Vec<Growth>,
}

/// A load, and the samples of each side, round by round.
pub(crate) struct Measured {
    pub(crate) load: Load,
    pub(crate) samples: Vec<Vec<Sample>>,
}

/// Figure of a sample.
pub(crate) type Figure = fn(&Sample) -> Option<f64>;

pub(crate) const CPU: Figure = |sample| sample.cpu;
pub(crate) const RATE: Figure = |sample| Some(sample.rate);
/// Percentiles 50, 95 and 99 of the times.
pub(crate) const TIMES: [Figure; 3] = [
    |sample| sample.times.map(|times| times[0]),
    |sample| sample.times.map(|times| times[1]),
    |sample| sample.times.map(|times| times[2]),
];

impl Measured {
    /// Median of a figure of one side.
    pub(crate) fn of(&self, side: usize, figure: Figure) -> Option<Median> {
        Median::of(self.samples[side].iter().filter_map(figure))
    }

    /// Median of the ratio of a figure of one side to that of another in the same rounds.
    pub(crate) fn ratio(&self, side: usize, base: usize, figure: Figure) -> Option<Median> {
        let pairs = self.samples[side].iter().zip(&self.samples[base]);
        Median::of(pairs.filter_map(|(own, base)| Some(figure(own)? / figure(base)?)))
    }
}

/// Machine and programs of a run.
pub(crate) struct Machine {
    pub(crate) date: String,
    pub(crate) processor: String,
    pub(crate) cores: usize,
    pub(crate) kernel: String,
    pub(crate) programs: Vec<String>,
    /// Load average of the minute before the run, which is that of other work.
    pub(crate) load_before: f64,
}

impl Machine {
    pub(crate) fn look() -> Self {
        let read = |path| std::fs::read_to_string(path).unwrap_or_default();
        let processors = read("/proc/cpuinfo");
        let processor = processors.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
        let program = |name: &str, variable, default| {
            let line = output(Command::new(built(variable, default, "make bench")).arg("-V"));
            format!("{name} {}", version(&line))
        };
        Self {
            date: output(Command::new("date").args(["-u", "+%F"])),
            processor: processor.map_or("unknown processor", |(_, name)| name).to_owned(),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            programs: vec![
                format!(
                    "Envoy {}",
                    version(&output(Command::new(envoy()).arg("--version")).replace('/', " "))
                ),
                format!("MariaDB {}", version(&output(Command::new(mariadbd()).arg("--version")))),
                format!(
                    "HAProxy {}",
                    version(&output(
                        Command::new(built("HAPROXY", "target/tools/haproxy", "make bench")).arg("-v")
                    ))
                ),
                program("MySQL Router", "MYSQLROUTER", "target/tools/mysqlrouter"),
            ],
            load_before: read("/proc/loadavg")
                .split(' ')
                .next()
                .and_then(|load| load.parse().ok())
                .unwrap_or(0.0),
        }
    }
}

/// First line that a program prints.
fn output(program: &mut Command) -> String {
    let output = program.output().expect("a program that runs");
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines().find(|line| !line.trim().is_empty()).unwrap_or_default().trim().to_owned()
}

/// First word of a line that is a version.
fn version(line: &str) -> &str {
    let is_version = |word: &&str| {
        let digits = word.starts_with(|c: char| c.is_ascii_digit());
        digits && word.contains('.') && word.split('.').take(2).all(|part| part.parse::<u32>().is_ok())
    };
    line.split([' ', '-']).find(is_version).unwrap_or(line)
}
