//! `action.yml` and `.pre-commit-hooks.yaml`: they run `firstword check-config` and pass its verdict on.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "helpers of tests, too"
)]

use std::path::Path;
use std::process::{Command, Output};

use firstword_testing::root;
use serde_json::Value;

const GOOD: &str = r#"{"rules": [{"name": "orders", "match": {"ports": [3306]}, "protocol": "mysql"}]}"#;
const BAD: &str = r#"{"rules": [{"name": "orders", "match": {"ports": [3306]}, "protcol": "mysql"}]}"#;

fn yaml(path: &str) -> Value {
    let text = std::fs::read_to_string(root().join(path)).unwrap();
    serde_norway::from_str(&text).expect("YAML")
}

/// Runs the last step of the action, with the command of this build where the step before installs it.
fn action(directory: &Path, files: &str) -> Output {
    let action = yaml("action.yml");
    let [install, check] = action["runs"]["steps"].as_array().unwrap().as_slice() else { panic!("{action}") };
    assert!(
        install["run"]
            .as_str()
            .unwrap()
            .contains("--path \"$GITHUB_ACTION_PATH/crates/cli\" --root \"$RUNNER_TEMP/firstword\"")
    );
    assert_eq!(check["env"]["FILES"], "${{ inputs.files }}");
    let bin = directory.join("firstword/bin");
    std::fs::create_dir_all(&bin).unwrap();
    std::fs::copy(assert_cmd::cargo::cargo_bin("firstword"), bin.join("firstword")).unwrap();
    let mut shell = Command::new("bash");
    shell.current_dir(directory).args(["-e", "-o", "pipefail", "-c", check["run"].as_str().unwrap()]);
    shell.env("RUNNER_TEMP", directory).env("FILES", files).output().expect("bash")
}

#[test]
fn the_action_fails_for_a_problem_in_any_file() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("a.json"), GOOD).unwrap();
    let output = action(directory.path(), "*.json");
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    std::fs::write(directory.path().join("b.json"), BAD).unwrap();
    let output = action(directory.path(), "*.json");
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stdout).contains("protcol"));
}

#[test]
fn the_hook_fails_for_a_problem_in_any_file() {
    let hooks = yaml(".pre-commit-hooks.yaml");
    let hooks = hooks.as_array().unwrap();
    let entry = |id: &str| {
        let hook = hooks.iter().find(|hook| hook["id"] == id).expect(id);
        (hook["language"].as_str().unwrap(), hook["entry"].as_str().unwrap())
    };
    assert_eq!(entry("firstword-check-config-system"), ("system", "firstword check-config"));
    let (language, script) = entry("firstword-check-config");
    assert_eq!(language, "script");
    let directory = tempfile::tempdir().unwrap();
    for (name, content, status) in [("a.json", GOOD, 0), ("b.json", BAD, 1)] {
        std::fs::write(directory.path().join(name), content).unwrap();
        let output =
            Command::new(root().join(script)).current_dir(directory.path()).arg(name).output().unwrap();
        assert_eq!(output.status.code(), Some(status), "{name}: {}", String::from_utf8_lossy(&output.stderr));
    }
}
