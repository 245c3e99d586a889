//! `firstword doctor` about one destination, with its report as JSON.

use std::io::Write;
use std::process::{Command, Stdio};

use serde_json::Value;

/// Report of `firstword doctor` about one destination, as JSON.
pub struct Verdict(pub Value);

/// Runs `firstword doctor` by this command about one destination (`HOST:PORT`), with this standard input.
pub fn doctor(mut command: Command, input: &str, to: impl ToString, stdin: &[u8]) -> Verdict {
    let to = to.to_string();
    let mut child = command
        .args(["doctor", input, "-o", "json", "--dest", &to])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("firstword");
    child.stdin.take().expect("a pipe").write_all(stdin).expect("input");
    let output = child.wait_with_output().expect("its end");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{to}");
    let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let worst = match report["worst"].as_str() {
        None | Some("info") => 0,
        Some("error") => 1,
        _ => 3,
    };
    assert_eq!(output.status.code(), Some(worst), "{report}");
    Verdict(report)
}

impl Verdict {
    /// Outcome for a kind of client. `None` if the case has no such clients.
    pub fn of(&self, client: &str) -> Option<String> {
        let clients = self.0["destinations"][0]["clients"].as_array().expect("clients");
        let found = clients.iter().find(|one| one["client"] == client)?;
        let verdict = found["verdict"].as_str().expect("a verdict");
        Some(match found["after_ms"].as_u64() {
            Some(millis) => format!("{verdict} {millis}"),
            None => verdict.to_owned(),
        })
    }

    /// Severity and code of each finding.
    pub fn codes(&self) -> Vec<String> {
        let findings = self.0["findings"].as_array().expect("findings").iter();
        let text = |value: &Value| value.as_str().expect("a text").to_owned();
        findings.map(|one| format!("{} {}", text(&one["severity"]), text(&one["code"]))).collect()
    }
}
