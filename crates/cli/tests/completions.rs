//! `firstword completions` and `firstword man`.
#![allow(clippy::unwrap_used, reason = "helpers of tests, too")]

use std::collections::BTreeSet;
use std::process::Command as Shell;

use assert_cmd::Command;

fn firstword(arguments: &[&str]) -> Command {
    let mut command = Command::cargo_bin("firstword").unwrap();
    command.args(arguments);
    command
}

/// Names of the commands that the help lists.
fn commands() -> BTreeSet<String> {
    let help = firstword(&["--help"]).output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    let (_, list) = help.split_once("Commands:\n").unwrap();
    let lines = list.lines().take_while(|line| !line.is_empty());
    lines.filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect()
}

#[test]
fn each_shell_gets_its_completions() {
    for (shell, mark) in [
        ("bash", "complete -F _firstword"),
        ("elvish", "edit:completion:arg-completer[firstword]"),
        ("fish", "complete -c firstword"),
        ("powershell", "Register-ArgumentCompleter"),
        ("zsh", "#compdef firstword"),
    ] {
        let output = firstword(&["completions", shell]).output().unwrap();
        assert!(output.status.success(), "{shell}");
        let text = String::from_utf8(output.stdout).unwrap();
        for expected in [mark, "check-config", "doctor"] {
            assert!(text.contains(expected), "{shell}: no {expected}");
        }
    }
    assert_eq!(firstword(&["completions", "cmd"]).output().unwrap().status.code(), Some(2));
}

/// A real bash loads them and completes.
#[test]
fn bash_completes_a_command() {
    let completions = firstword(&["completions", "bash"]).output().unwrap().stdout;
    let script = format!(
        "{}\nCOMP_WORDS=(firstword check-c) COMP_CWORD=1\n_firstword firstword check-c firstword\necho \"${{COMPREPLY[@]}}\"",
        String::from_utf8(completions).unwrap()
    );
    let output = Shell::new("bash").args(["--norc", "-c", &script]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "check-config");
}

#[test]
fn each_command_has_a_manual_page() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().to_str().unwrap();
    assert!(firstword(&["man", path]).output().unwrap().status.success());
    let pages = std::fs::read_dir(directory.path()).unwrap();
    let pages: BTreeSet<_> = pages.map(|page| page.unwrap().file_name().into_string().unwrap()).collect();
    let commands = commands();
    assert!(commands.contains("doctor") && !commands.contains("man"), "{commands:?}");
    for command in commands.iter().filter(|command| *command != "help") {
        assert!(pages.contains(&format!("firstword-{command}.1")), "{command}: {pages:?}");
    }
    assert!(pages.contains("firstword.1") && !pages.contains("firstword-man.1"), "{pages:?}");
    let page = std::fs::read_to_string(directory.path().join("firstword-doctor.1")).unwrap();
    assert!(page.contains(".TH firstword-doctor 1") && page.contains(".SH OPTIONS"), "{page}");

    let output = firstword(&["man", "/nonexistent"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("/nonexistent"));
}
