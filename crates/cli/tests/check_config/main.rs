//! `firstword check-config`.
#![allow(clippy::unwrap_used, reason = "helpers of tests, too")]

mod files;
mod filters;
mod limits;
mod warnings;

use assert_cmd::Command;
use std::path::Path;

/// Runs `firstword check-config` on the standard input. Returns the exit status and what it prints.
fn check(input: impl Into<Vec<u8>>) -> (i32, String) {
    run(&["check-config", "-"], input.into(), Path::new("."))
}

/// Returns the exit status and the standard output. All of the report is on the standard output.
fn run(arguments: &[&str], input: Vec<u8>, directory: &Path) -> (i32, String) {
    let mut command = Command::cargo_bin("firstword").unwrap();
    let output = command.args(arguments).write_stdin(input).current_dir(directory).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    let is_wrong_usage = output.stdout.is_empty();
    assert!(is_wrong_usage || output.stderr.is_empty(), "{}", text(output.stderr));
    (output.status.code().unwrap(), text(output.stdout))
}

/// The report ends with the numbers of configurations, problems and warnings.
fn assert_check(input: &str, code: i32, report: &str) {
    assert_eq!(check(input), (code, report.to_owned()), "{input}");
}

/// For an input that is too long to show.
fn assert_check_of(input: impl Into<Vec<u8>>, code: i32, report: &str) {
    assert_eq!(check(input), (code, report.to_owned()));
}

const ONE_RIGHT: &str = "1 configuration, 0 problems, 0 warnings\n";
const ONE_PROBLEM: &str = "1 configuration, 1 problem, 0 warnings\n";

/// The `typed_config` of a network filter, as YAML in one line.
fn wasm(root_id: &str, configuration: &str) -> String {
    format!(
        r#"{{"@type": type.googleapis.com/envoy.extensions.filters.network.wasm.v3.Wasm, config: {{root_id: {root_id}, configuration: {configuration}}}}}"#
    )
}

fn string_value(json: &str) -> String {
    format!(r#"{{"@type": type.googleapis.com/google.protobuf.StringValue, value: '{json}'}}"#)
}

const PORTS_PROBLEM: &str =
    r#"$.rules[0].match.ports[0]: expected a port from 1 to 65535 or a range like "10000-10099", found "x""#;
const STRUCT_PROBLEM: &str = "$: expected a JSON object, found the raw bytes of a protobuf message: in Envoy put the JSON in a google.protobuf.StringValue, not in a Struct";

#[test]
fn help_and_version_are_printed_and_wrong_usage_is_an_error() {
    let run = |arguments: &[&str]| run(arguments, Vec::new(), Path::new("."));
    let (code, help) = run(&["check-config", "--help"]);
    assert_eq!(code, 0);
    for part in ["WasmPlugin", "\"firstword\"", "Exit status:", "docs/commands.md", "kubectl get"] {
        assert!(help.contains(part), "{part}: {help}");
    }
    assert_eq!(run(&["--version"]).1, format!("firstword {}\n", env!("CARGO_PKG_VERSION")));
    for wrong in [&[][..], &["check-config"], &["check-config", "--strict"], &["check"]] {
        assert_eq!(run(wrong).0, 2, "{wrong:?}");
    }
}

/// As `check-config --help` advises.
#[test]
fn every_shipped_file_is_valid() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut arguments = vec!["check-config".to_owned()];
    for folder in ["envoy", "istio"] {
        let output =
            std::process::Command::new("find").arg(root.join(folder)).args(["-name", "*.yaml"]).output();
        arguments.extend(String::from_utf8(output.unwrap().stdout).unwrap().lines().map(str::to_owned));
    }
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    let (code, report) = run(&arguments, Vec::new(), &root);
    assert!(report.ends_with("configurations, 0 problems, 0 warnings\n"), "{report}");
    assert_eq!(code, 0);
}
