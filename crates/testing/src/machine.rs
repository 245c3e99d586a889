//! The machine and the programs of a measurement, for its report.

use std::fmt;
use std::path::Path;
use std::process::Command;

/// Machine and programs of a run.
pub struct Machine {
    pub date: String,
    pub processor: String,
    pub cores: usize,
    pub kernel: String,
    /// Names with versions, from [`program`].
    pub programs: Vec<String>,
}

impl Machine {
    pub fn look(programs: Vec<String>) -> Self {
        let read = |path| std::fs::read_to_string(path).unwrap_or_default();
        let processors = read("/proc/cpuinfo");
        let processor = processors.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
        Self {
            date: output(Command::new("date").args(["-u", "+%F"])),
            processor: processor.map_or("unknown processor", |(_, name)| name).to_owned(),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            programs,
        }
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { date, processor, cores, kernel, programs } = self;
        write!(f, "{date}, {cores} cores of {processor}, Linux {kernel}. {}", programs.join(", "))
    }
}

/// Name of a program, with the version that it prints.
pub fn program(name: &str, path: &Path, option: &str) -> String {
    format!("{name} {}", version(&output(Command::new(path).arg(option)).replace('/', " ")))
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
