//! `firstword doctor` on configurations of every kind. `tests/istio` and `tests/envoy` compare its findings with real
//! Envoys.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, unreachable_pub, reason = "helpers of tests, too")]

mod admin;
mod diff;
mod filter;
mod inputs;
mod listener_filters;
mod listeners;
mod mesh;
mod native;
mod refused;

use assert_cmd::Command;
use inputs::{bootstrap, listener};
use serde_json::{Value, json};

/// Runs the command. Returns exit status, standard output, standard error.
fn run(arguments: &[&str], input: impl Into<Vec<u8>>) -> (i32, String, String) {
    let mut command = Command::cargo_bin("firstword").unwrap();
    let output = command.arg("doctor").args(arguments).write_stdin(input).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

fn json_of(arguments: &[&str], input: &Value) -> (i32, Value) {
    let (code, report, problems) = run(&[arguments, &["-o", "json"]].concat(), input.to_string());
    assert_eq!(problems, "");
    (code, serde_json::from_str(&report).unwrap())
}

fn verdicts(report: &Value) -> Vec<String> {
    let destinations = report["destinations"].as_array().unwrap().iter();
    let clients = destinations.flat_map(|to| {
        to["clients"].as_array().unwrap().iter().map(move |client| (&to["destination"], client))
    });
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    clients
        .map(|(to, client)| format!("{} {}: {}", text(to), text(&client["client"]), text(&client["verdict"])))
        .collect()
}

fn codes(report: &Value) -> Vec<String> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let findings = report["findings"].as_array().unwrap().iter();
    findings.map(|one| format!("{} {}", text(&one["severity"]), text(&one["code"]))).collect()
}

#[test]
fn help_is_printed_and_wrong_usage_is_an_error() {
    let (code, help, _) = run(&["--help"], "");
    assert_eq!(code, 0);
    for part in [
        "INPUT",
        "config_dump",
        "istioctl proxy-config",
        "Exit status:",
        "--dest <HOST:PORT>",
        "docs/commands.md",
    ] {
        assert!(help.contains(part), "{part}: {help}");
    }
    // A fix is for review first, because it can also be a patch or have placeholders.
    assert!(!help.contains("kubectl apply"), "{help}");
    for wrong in [
        &[][..],
        &["-", "--dest", "10.0.0.1"],
        &["-", "--dest", "mysql"],
        &["-", "--fix", "0"],
        &["-", "--side", "inbound"],
        &["-", "-o", "xml"],
    ] {
        assert_eq!(run(wrong, "").0, 2, "{wrong:?}");
    }
    let (_, text, _) = run(&["-"], bootstrap(&[listener(&json!({}))]).to_string());
    assert!(!text.contains('\u{1b}'), "colours without a terminal: {text}");
}
