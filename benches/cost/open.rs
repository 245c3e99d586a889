//! Open connections: their memory in the proxy, and the cost of a query while they are open and idle.

use firstword_testing::client::{CLASSIC, Client, Login};
use firstword_testing::median::Median;
use firstword_testing::process::resident;

use crate::loads::{Load, Sample};
use crate::progress::Progress;
use crate::sides::{NAMES, Side};

/// Options of the server. One thread for each connection would need more memory than the connections themselves.
pub(crate) const SERVER: [&str; 3] =
    ["--thread-handling=pool-of-threads", "--max-connections=25000", "--open-files-limit=20000"];

/// Runs of the load at each step of a round. They take less time than to open the connections.
const RUNS: usize = 3;
/// Files that a proxy needs in addition to two for each connection.
const OTHER_FILES: u32 = 200;

/// Figures of one side with some number of open connections.
pub(crate) struct Point {
    pub(crate) open: u32,
    /// Resident memory of the proxy in MiB when it first had that number of connections.
    pub(crate) resident: f64,
    /// CPU time for each query, in microseconds.
    pub(crate) cpu: Vec<f64>,
}

/// Figures of one side.
pub(crate) struct Growth {
    pub(crate) name: &'static str,
    pub(crate) points: Vec<Point>,
}

impl Growth {
    /// Memory of a connection in KiB, from the fewest to the most open ones.
    pub(crate) fn for_each_connection(&self) -> f64 {
        let (few, many) = (&self.points[0], &self.points[self.points.len() - 1]);
        (many.resident - few.resident) * 1024.0 / f64::from(many.open - few.open)
    }
}

/// Numbers of open connections, up to what the limit of open files allows.
pub(crate) fn steps(is_quick: bool) -> Vec<u32> {
    let limits = std::fs::read_to_string("/proc/self/limits").expect("the limits of this process");
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files")).expect("Max open files");
    let files: u32 = line.split_whitespace().next().and_then(|soft| soft.parse().ok()).unwrap_or(u32::MAX);
    assert!(
        files > 2 * 1000 + OTHER_FILES,
        "expected a limit of open files (ulimit -n) of 2200 or more, found {files}"
    );
    let most = 10_000.min((files - OTHER_FILES) / 2);
    if is_quick { vec![10, 1000] } else { vec![10, 1000, most] }
}

/// Opens connections through one side after the other in each round, and runs the load at each step.
pub(crate) fn measure(sides: &[Side], load: &Load, steps: &[u32], rounds: usize) -> Vec<Growth> {
    let point = |open: &u32| Point { open: *open, resident: 0.0, cpu: Vec::new() };
    let growth = |name| Growth { name, points: steps.iter().map(point).collect() };
    let mut all: Vec<_> = NAMES.into_iter().map(growth).collect();
    let progress = Progress::start("open connections", rounds);
    for round in 0..rounds {
        progress.show(round);
        for turn in 0..sides.len() {
            let index = (round + turn) % sides.len();
            let Some(pid) = sides[index].proxy() else { continue };
            // Caches fill.
            load.run(&sides[index]);
            let mut idle = Vec::new();
            for point in &mut all[index].points {
                open(&sides[index], &mut idle, point.open);
                if round == 0 {
                    point.resident = resident(pid);
                }
                for _ in 0..RUNS {
                    let Sample { cpu, .. } = load.run(&sides[index]);
                    point.cpu.extend(cpu);
                }
            }
        }
    }
    all.retain(|growth| !growth.points[0].cpu.is_empty());
    all
}

fn open(side: &Side, idle: &mut Vec<Client>, count: u32) {
    let login = Login::new(CLASSIC);
    while idle.len() < count as usize {
        idle.push(Client::login(side.address, &login));
    }
}

/// Median of the ratio of one side's CPU times to those of another in the same rounds.
pub(crate) fn ratio(own: &Point, base: &Point) -> Option<Median> {
    Median::of(own.cpu.iter().zip(&base.cpu).map(|(own, base)| own / base))
}
