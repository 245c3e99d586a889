//! The table, the JSON and the plot of a run.

use std::fmt::Write as _;
use std::path::Path;

use firstword_testing::median::Median;
use firstword_testing::root;
use serde_json::{Value, json};

use crate::measure::CONNECTIONS;
use crate::open::{Growth, ratio};
use crate::plot;
use crate::results::{CPU, Figure, Measured, RATE, Results, TIMES};
use crate::sides::{FLOOR, HAPROXY, NAMES, NATIVE, PLAIN, ROUTER, WASM};

/// Lines of `docs/cost.md` between which a run is recorded.
const BEGIN: &str = "<!-- bench: begin -->\n";
const END: &str = "<!-- bench: end -->";

/// Compared sides, and the intended ratio of their CPU time for a point select as text.
const COMPARED: [(usize, usize, Option<f64>); 6] = [
    (NATIVE, PLAIN, Some(1.08)),
    (WASM, FLOOR, Some(1.10)),
    (WASM, PLAIN, None),
    (NATIVE, WASM, None),
    (NATIVE, HAPROXY, None),
    (NATIVE, ROUTER, None),
];

/// Writes the results to `target/bench`, prints the table, and records the run in `docs` if `record` is true.
pub(crate) fn write(results: &Results, record: bool) {
    let (table, plot) = (table(results), plot::draw(results));
    let json = serde_json::to_string_pretty(&json(results)).expect("JSON");
    println!("{table}");
    let target = root().join("target/bench");
    std::fs::create_dir_all(&target).expect("target/bench");
    for (name, text) in [("cost.md", &table), ("cost.svg", &plot), ("cost.json", &(json + "\n"))] {
        save(&target.join(name), text);
        eprintln!("target/bench/{name}");
    }
    if record {
        let path = root().join("docs/cost.md");
        let page = std::fs::read_to_string(&path).expect("docs/cost.md");
        let (before, rest) = page.split_once(BEGIN).expect("the begin of the recorded run");
        let (_, after) = rest.split_once(END).expect("the end of the recorded run");
        save(&path, &format!("{before}{BEGIN}{table}{END}{after}"));
        save(&root().join("docs/cost.svg"), &plot);
    }
}

fn save(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
}

/// The tables, in Markdown.
fn table(results: &Results) -> String {
    let machine = &results.machine;
    let mut text = format!(
        "{machine}. {} rounds, {CONNECTIONS} connections. Other processes used {:.1} cores on average.\n",
        results.rounds, results.other_cores,
    );
    let first = &results.measured[0];
    text += "\n| CPU for a point select as text | ratio | target |\n|---|---|---|\n";
    for (own, base, target) in COMPARED {
        let ratio = cell(first.ratio(own, base, CPU), 2);
        let target = target.map_or_else(String::new, |target| format!("{target:.2}"));
        let _ = writeln!(text, "| {} to {} | {ratio} | {target} |", NAMES[own], NAMES[base]);
    }
    results.measured.iter().for_each(|measured| text += &load_table(measured));
    text + &open_table(results)
}

fn load_table(measured: &Measured) -> String {
    let Measured { load, samples } = measured;
    let unit = load.unit;
    let units = if unit == "MiB" { unit.to_owned() } else { unit.replace("query", "querie") + "s" };
    let mut text = format!("\n**{}**, {} rounds:\n\n", load.title, samples[0].len());
    let times = load.timed.map_or_else(String::new, |of| format!(" time of {of}: p50, p95, p99, µs |"));
    let _ = writeln!(text, "| | CPU per {unit}, µs | to plain | {units} per second | to plain |{times}");
    let _ = writeln!(text, "|---|---|---|---|---|{}", if times.is_empty() { "" } else { "---|" });
    for (side, name) in NAMES.iter().enumerate() {
        let cpu = median(measured.of(side, CPU), 1);
        let rate = median(measured.of(side, RATE), 0);
        let [cpu_ratio, rate_ratio] =
            [CPU, RATE].map(|figure| cell(measured.ratio(side, PLAIN, figure).filter(|_| side != PLAIN), 2));
        let times = TIMES.map(|figure| median(measured.of(side, figure), 0)).join(", ");
        let times = load.timed.map_or_else(String::new, |_| format!(" {times} |"));
        let _ = writeln!(text, "| {name} | {cpu} | {cpu_ratio} | {rate} | {rate_ratio} |{times}");
    }
    text
}

fn open_table(results: &Results) -> String {
    let open = &results.open;
    let steps: Vec<_> = open[0].points.iter().map(|point| point.open).collect();
    let all = |title: &str| steps.iter().map(|open| format!(" {title} {open} |")).collect::<String>();
    let mut text = format!("\n**Open connections**, {} rounds:\n\n", results.open_rounds);
    let _ = writeln!(
        text,
        "| |{} KiB for each |{}",
        all("resident MiB with"),
        all("CPU per query, to plain, with")
    );
    let _ = writeln!(text, "|---|---|{}", "---|".repeat(2 * steps.len()));
    let plain = open.iter().find(|growth| growth.name == NAMES[PLAIN]).expect("plain");
    for growth in open {
        let resident: String =
            growth.points.iter().map(|point| format!(" {:.0} |", point.resident)).collect();
        let cpu =
            |(own, base)| format!(" {} |", cell(ratio(own, base).filter(|_| growth.name != plain.name), 2));
        let cpu: String = growth.points.iter().zip(&plain.points).map(cpu).collect();
        let _ = writeln!(text, "| {} |{resident} {:.1} |{cpu}", growth.name, growth.for_each_connection());
    }
    text
}

/// Median with its range. Empty if there is none.
fn cell(value: Option<Median>, digits: usize) -> String {
    value.map_or_else(String::new, |Median { low, median, high }| {
        format!("{median:.digits$} ({low:.digits$} to {high:.digits$})")
    })
}

fn median(value: Option<Median>, digits: usize) -> String {
    value.map_or_else(String::new, |value| format!("{:.digits$}", value.median))
}

fn json(results: &Results) -> Value {
    let machine = &results.machine;
    json!({
        "date": machine.date,
        "processor": machine.processor,
        "cores": machine.cores,
        "kernel": machine.kernel,
        "programs": machine.programs,
        "other_cores": results.other_cores,
        "connections": CONNECTIONS,
        "loads": results.measured.iter().map(load_json).collect::<Vec<_>>(),
        "open_connections": results.open.iter().map(open_json).collect::<Vec<_>>(),
    })
}

fn load_json(measured: &Measured) -> Value {
    let [p50, p95, p99] = TIMES;
    let figures: [(&str, Figure); 5] =
        [("cpu_us", CPU), ("per_second", RATE), ("p50_us", p50), ("p95_us", p95), ("p99_us", p99)];
    let side = |(side, name)| {
        let mut value = json!({"name": name});
        for (key, figure) in figures {
            value[key] = median_json(measured.of(side, figure));
            value[format!("{key}_to_plain")] = median_json(measured.ratio(side, PLAIN, figure));
        }
        value
    };
    let rounds = measured.samples[0].len();
    let sides: Vec<_> = NAMES.iter().enumerate().map(side).collect();
    json!({"load": measured.load.title, "unit": measured.load.unit, "rounds": rounds, "sides": sides})
}

fn open_json(growth: &Growth) -> Value {
    let point = |point: &crate::open::Point| {
        let cpu = median_json(Median::of(point.cpu.iter().copied()));
        json!({"open": point.open, "resident_mib": point.resident, "cpu_us": cpu})
    };
    let points: Vec<_> = growth.points.iter().map(point).collect();
    json!({"name": growth.name, "kib_for_each": growth.for_each_connection(), "points": points})
}

fn median_json(value: Option<Median>) -> Value {
    value.map_or(
        Value::Null,
        |Median { low, median, high }| json!({"median": median, "low": low, "high": high}),
    )
}
