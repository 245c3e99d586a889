//! `firstword inspect`: on real traffic, compared with the filter's metrics; on the same traffic lost, reordered and cut as
//! networks and captures do; and on invalid files.

// A panic is how a test reports.
#![allow(
    unreachable_pub,
    clippy::arithmetic_side_effects,
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::panic_in_result_fn,
    clippy::unwrap_used
)]

mod committed;
mod hostile;
mod links;
mod live;
mod malformed;
mod order;
mod selection;
mod wire;

use std::path::Path;
use std::time::Duration;

use assert_cmd::Command;
use serde_json::Value;

/// Time limit of one command, far longer than any of these takes.
const MAX_TIME: Duration = Duration::from_secs(100);

/// The output of the command.
struct Printed {
    code: i32,
    output: String,
    problem: String,
}

impl Printed {
    /// The output as JSON, which matches the schema.
    fn json(&self) -> Value {
        let report = serde_json::from_str(&self.output).unwrap_or_else(|e| panic!("{e}: {}", self.output));
        assert_shape(&report);
        report
    }
}

fn run(arguments: &[&str], input: &[u8]) -> Printed {
    let mut command = Command::cargo_bin("firstword").unwrap();
    command.arg("inspect").args(arguments).current_dir(firstword_testing::root()).timeout(MAX_TIME);
    let output = command.write_stdin(input).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    let code = output.status.code().expect("it ends by itself");
    Printed { code, output: text(output.stdout), problem: text(output.stderr) }
}

/// The report on a valid capture from the standard input.
fn report(capture: &[u8], arguments: &[&str]) -> Value {
    let printed = run(&[&["-o", "json", "-"], arguments].concat(), capture);
    assert_eq!(printed.problem, "");
    let report = printed.json();
    let code = match report["totals"]["worst"].as_str() {
        None | Some("info") => 0,
        Some("warning") => 3,
        _ => 1,
    };
    assert_eq!(printed.code, code);
    report
}

/// The report on a valid capture file.
fn report_on(file: &Path, arguments: &[&str]) -> Value {
    let printed = run(&[&["-o", "json", file.to_str().unwrap()], arguments].concat(), b"");
    assert_eq!(printed.problem, "");
    printed.json()
}

fn assert_shape(report: &Value) {
    static SCHEMA: std::sync::LazyLock<jsonschema::Validator> = std::sync::LazyLock::new(|| {
        let schema = serde_json::from_str(&run(&["-o", "json-schema", "-"], b"").output).unwrap();
        jsonschema::validator_for(&schema).unwrap()
    });
    let problems: Vec<_> = SCHEMA.iter_errors(report).map(|e| format!("{}: {e}", e.instance_path)).collect();
    assert!(problems.is_empty(), "{problems:#?}\n{report:#}");
}

#[test]
fn help_is_printed_and_wrong_usage_is_an_error() {
    let help = run(&["--help"], b"");
    assert_eq!(help.code, 0);
    for part in [
        "Usage:",
        "--port",
        "--limit",
        "--user",
        "--problems",
        "--slowest",
        "--connection",
        "Never shown:",
        "Exit status:",
        "docs/commands.md",
        "jq",
    ] {
        assert!(help.output.contains(part), "{part}: {}", help.output);
    }
    assert!(run(&["-h"], b"").output.lines().count() < 20);
    assert!(help.output.find("tcpdump").unwrap() < help.output.find("Options:").unwrap(), "{}", help.output);
    for wrong in [&[][..], &["--port", "0", "-"], &["--port", "x", "-"], &["-o", "xml", "-"], &["--limit"]] {
        assert_eq!(run(wrong, b"").code, 2, "{wrong:?}");
    }
}
