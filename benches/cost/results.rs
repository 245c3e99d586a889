//! What a run has measured, and its medians and ratios.

use std::time::Instant;

use firstword_testing::machine::Machine;
use firstword_testing::median::Median;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;

use crate::loads::{Load, Sample};
use crate::open::Growth;

/// Results of a run.
pub(crate) struct Results {
    pub(crate) machine: Machine,
    /// Number of cores that other processes have used.
    pub(crate) other_cores: f64,
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

/// CPU time that other processes take during a run.
pub(crate) struct OtherWork {
    began: Instant,
    /// CPU time of all processes, and that of this one and its children, in seconds.
    before: (f64, f64),
}

impl OtherWork {
    pub(crate) fn start() -> Self {
        Self { began: Instant::now(), before: (all_processes(), own_processes()) }
    }

    /// Number of cores that other processes have used, on average. The programs of the run must have ended.
    pub(crate) fn cores(&self) -> f64 {
        let all = all_processes() - self.before.0;
        let own = own_processes() - self.before.1;
        (all - own).max(0.0) / self.began.elapsed().as_secs_f64()
    }
}

/// CPU time since the start of the machine: all columns of `/proc/stat` but those of idle time, in hundredths of a second.
fn all_processes() -> f64 {
    let stat = std::fs::read_to_string("/proc/stat").expect("/proc/stat");
    let columns = stat.lines().next().expect("the line of all cores").split_whitespace().skip(1).take(8);
    let busy = columns.enumerate().filter(|(column, _)| !matches!(column, 3 | 4));
    busy.map(|(_, time)| time.parse::<f64>().expect("a time")).sum::<f64>() / 100.0
}

fn own_processes() -> f64 {
    let time = |who| {
        let usage = getrusage(who).expect("the use of the CPU");
        let times = [usage.user_time(), usage.system_time()];
        times.map(|time| time.num_microseconds() as f64 / 1e6).iter().sum::<f64>()
    };
    time(UsageWho::RUSAGE_SELF) + time(UsageWho::RUSAGE_CHILDREN)
}
