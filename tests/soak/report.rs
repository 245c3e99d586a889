//! The table and the JSON of a run, and what must hold.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use firstword_testing::machine::{Machine, program};
use firstword_testing::median::Median;
use firstword_testing::{envoy, mariadbd, root};
use serde_json::{Value, json};

use crate::delays::{Round, Times};
use crate::exact::{self, Comparison};
use crate::options::Options;
use crate::proxy::Subject;
use crate::run::CONNECTS;
use crate::tally::Counts;

/// The interval from which on memory must not grow, and the growth in MiB that is allowed.
const WARM: u32 = 10;
const GROWTH: f64 = 2.0;
/// Allowed ratio of the times with the filter to those with `tcp_proxy` alone.
const RATIO: f64 = 1.25;

/// Figures of a moment without load.
#[derive(Clone, Copy)]
pub struct Sample {
    pub minute: u32,
    pub open: u64,
    /// Memory of the state of all connections, and linear memory of all VMs, in bytes.
    pub state: f64,
    pub vm: f64,
    /// Resident memory of Envoy in MiB.
    pub resident: f64,
    /// Memory that Envoy's allocator has given out, in MiB.
    pub allocated: f64,
}

pub struct Report {
    pub subject: Subject,
    pub options: Options,
    pub rounds: Vec<Round>,
    pub opened_in: Duration,
    /// Connects in a second.
    pub connects: f64,
    pub samples: Vec<Sample>,
    pub reloads: u32,
    pub counts: Counts,
    pub comparisons: Vec<Comparison>,
}

/// A figure, its limit, and whether the limit holds. `None` if the run is too short for it.
struct Verdict {
    what: String,
    found: String,
    limit: String,
    holds: Option<bool>,
}

impl Report {
    pub fn assert_exact(&self) {
        exact::assert_equal(&self.comparisons);
        // The times are measured and not asserted, because they depend on what else the machine does.
        let memory = self.memory();
        assert_ne!(memory.holds, Some(false), "{}: {}, limit {}", memory.what, memory.found, memory.limit);
    }

    fn memory(&self) -> Verdict {
        let warm = self.samples.iter().find(|sample| self.options.minutes.is_some() && sample.minute == WARM);
        let last = self.samples.last().expect("a sample");
        let grown = warm.filter(|warm| warm.minute < last.minute).map(|warm| last.resident - warm.resident);
        Verdict {
            what: format!("growth of resident memory from minute {WARM} to minute {}", last.minute),
            found: grown.map_or_else(|| "not measured".to_owned(), |grown| format!("{grown:+.1} MiB")),
            limit: format!("{GROWTH} MiB"),
            holds: grown.map(|grown| grown <= GROWTH),
        }
    }

    fn verdicts(&self) -> Vec<Verdict> {
        let Options { asked, connections, tunnelled, minutes, .. } = self.options;
        let is_long = minutes.is_some();
        let unequal = self.comparisons.iter().filter(|compared| !compared.is_equal()).count();
        let Median { low, median, high } = self.median(|round| round.filtered.p99 / round.plain.p99);
        vec![
            Verdict {
                what: "open connections".into(),
                found: format!(
                    "{connections} ({tunnelled} of them tunnelled), opened in {:.0} s",
                    self.opened_in.as_secs_f64()
                ),
                limit: asked.to_string(),
                holds: Some(connections == asked),
            },
            Verdict {
                what: "connects per second, each with a login".into(),
                found: format!("{:.0}", self.connects),
                limit: CONNECTS.to_string(),
                holds: is_long.then_some(self.connects >= f64::from(CONNECTS) * 0.99),
            },
            Verdict {
                what: "wrong or lost bytes, errors of good clients".into(),
                found: "0".into(),
                limit: "0".into(),
                // The run ends with a panic at the first one.
                holds: Some(true),
            },
            Verdict {
                what: "counts that differ from the servers' or the clients'".into(),
                found: format!("{unequal} of {}", self.comparisons.len()),
                limit: "0".into(),
                holds: Some(unequal == 0),
            },
            self.memory(),
            Verdict {
                what: "p99 of good queries beside the flood, to plain `tcp_proxy`".into(),
                found: format!("{median:.2} ({low:.2} to {high:.2})"),
                limit: format!("{RATIO:.2}"),
                holds: is_long.then_some(median <= RATIO),
            },
        ]
    }

    fn median(&self, of: impl Fn(&Round) -> f64) -> Median {
        Median::of(self.rounds.iter().map(of)).expect("a round")
    }

    /// Prints the report, and writes it.
    pub fn write(&self) {
        let programs =
            vec![program("Envoy", &envoy(), "--version"), program("MariaDB", &mariadbd(), "--version")];
        let machine = Machine::look(programs);
        let (table, name) = (self.table(&machine), self.subject.name());
        println!("{table}");
        let target = root().join("target/soak");
        std::fs::create_dir_all(&target).expect("target/soak");
        let json = serde_json::to_string_pretty(&self.json(&machine)).expect("JSON");
        // The short run keeps the results of a long one.
        let file = if self.options.minutes.is_some() { name.to_owned() } else { format!("{name}-short") };
        save(&target.join(format!("{file}.md")), &table);
        save(&target.join(format!("{file}.json")), &(json + "\n"));
        if self.options.is_recorded {
            let path = root().join("docs/soak.md");
            let page = std::fs::read_to_string(&path).expect("docs/soak.md");
            let [begin, end] = ["begin", "end"].map(|which| format!("<!-- soak {name}: {which} -->\n"));
            let (before, rest) = page.split_once(&begin).expect("the begin of the recorded run");
            let (_, after) = rest.split_once(&end).expect("the end of the recorded run");
            save(&path, &format!("{before}{begin}{table}{end}{after}"));
        }
    }

    fn table(&self, machine: &Machine) -> String {
        let minutes =
            self.options.minutes.map_or_else(|| "Seconds".to_owned(), |minutes| format!("{minutes} minutes"));
        let [flood, proxied] = self.counts.attacks;
        let mut text = format!(
            "{machine}. {minutes} of mixed load.\n\n| {} | found | limit | |\n|---|---|---|---|\n",
            self.subject.name()
        );
        for Verdict { what, found, limit, holds } in self.verdicts() {
            let holds = holds.map_or("", |holds| if holds { "holds" } else { "does not hold" });
            let _ = writeln!(text, "| {what} | {found} | {limit} | {holds} |");
        }
        let tally = &self.counts.good;
        let _ = writeln!(
            text,
            "\n{} connections and {} commands of good clients, {:.1} GiB compared byte by byte, {} connections cut by their \
             clients, {} hostile connections, {} changes of the configuration, 1 drain.",
            tally.connections,
            tally.all_commands(),
            tally.checked as f64 / f64::from(1 << 30),
            self.counts.cut,
            flood + proxied,
            self.reloads,
        );
        let _ = writeln!(
            text,
            "Times of good queries beside the flood in {} rounds: p50 {:.0} µs with the filter, {:.0} µs without it; p99 {:.0} µs and \
             {:.0} µs.",
            self.rounds.len(),
            self.median(|round| round.filtered.p50).median,
            self.median(|round| round.plain.p50).median,
            self.median(|round| round.filtered.p99).median,
            self.median(|round| round.plain.p99).median,
        );
        text += "\n| minute | open connections | resident, MiB | allocated, MiB | state of connections, MiB | linear memory of the VMs, MiB |\n\
                 |---|---|---|---|---|---|\n";
        let shown = |minute: u32| self.samples.len() < 6 || minute == 1 || minute % 5 == 0;
        for Sample { minute, open, state, vm, resident, allocated } in
            self.samples.iter().filter(|sample| shown(sample.minute))
        {
            let [state, vm] = [state, vm].map(|bytes| bytes / f64::from(1 << 20));
            let _ = writeln!(
                text,
                "| {minute} | {open} | {resident:.1} | {allocated:.1} | {state:.1} | {vm:.1} |"
            );
        }
        text
    }

    fn json(&self, machine: &Machine) -> Value {
        let verdict = |verdict: Verdict| json!({"what": verdict.what, "found": verdict.found, "limit": verdict.limit, "holds": verdict.holds});
        let times = |times: Times| json!({"p50_us": times.p50, "p99_us": times.p99});
        let tally = &self.counts.good;
        json!({
            "subject": self.subject.name(),
            "date": machine.date,
            "processor": machine.processor,
            "cores": machine.cores,
            "kernel": machine.kernel,
            "programs": machine.programs,
            "minutes": self.options.minutes,
            "verdicts": self.verdicts().into_iter().map(verdict).collect::<Vec<_>>(),
            "connections": tally.connections,
            "commands": tally.commands,
            "rows": tally.rows,
            "compared_bytes": tally.checked,
            "cut": self.counts.cut,
            "hostile": self.counts.attacks,
            "reloads": self.reloads,
            "rounds": self.rounds.iter().map(|round| json!({
                "filtered": times(round.filtered), "plain": times(round.plain),
            })).collect::<Vec<_>>(),
            "samples": self.samples.iter().map(|sample| json!({
                "minute": sample.minute, "open": sample.open, "resident_mib": sample.resident,
                "allocated_mib": sample.allocated,
                "state_bytes": sample.state, "vm_bytes": sample.vm,
            })).collect::<Vec<_>>(),
            "counts": self.comparisons.iter().map(|compared| json!({
                "what": compared.what, "found": compared.found, "expected": compared.expected,
            })).collect::<Vec<_>>(),
        })
    }
}

fn save(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    eprintln!("{}", path.display());
}
