//! The pages about findings and options are what the command prints. `FIRSTWORD_BLESS=1` writes them.

// A test reports through a panic.
#![allow(clippy::panic, clippy::unwrap_used)]

use std::fmt::Write as _;

use assert_cmd::Command;
use firstword_testing::generated::assert_file;

fn printed(arguments: &[&str]) -> String {
    let output =
        Command::cargo_bin("firstword").unwrap().args(arguments).env("NO_COLOR", "1").output().unwrap();
    assert!(output.status.success(), "{arguments:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// The Markdown link to a page that is named by its path in the repository.
fn link(path: &str) -> String {
    let target = path.strip_prefix("docs/").map_or_else(|| format!("../{path}"), str::to_owned);
    format!("[{path}]({target})")
}

/// One section for each code.
fn findings() -> String {
    let mut page = String::from(
        "# Findings of `firstword doctor`\n\nEach finding of `firstword doctor` and `firstword check-config` has a code, as in \
         `error[port-conflict]`. `firstword explain CODE`\nprints the section of the code. The fixes that `doctor` lists have \
         the manifest and the trade-off.\n",
    );
    for line in printed(&["explain"]).lines() {
        let code = line.split_whitespace().next().unwrap();
        let text = printed(&["explain", code]);
        let text = text.strip_prefix(&format!("{code}: ")).unwrap();
        let (title, rest) = text.split_once("\n\n").unwrap();
        let (body, more) = rest.trim_end().split_once("\n\nMore: ").unwrap();
        write!(page, "\n## {code}\n\n**{title}.**\n{body}\n\nMore: {}\n", link(more)).unwrap();
    }
    page
}

/// The help of each command.
fn options() -> String {
    let mut page = String::from(
        "# Options of the command\n\n`firstword COMMAND --help` prints these texts. [The command](commands.md) describes what \
         each command does.\n",
    );
    let help = printed(&["--help"]);
    let list = help.split_once("Commands:\n").unwrap().1.split_once("\n\n").unwrap().0;
    let commands =
        list.lines().map(|line| line.split_whitespace().next().unwrap()).filter(|name| *name != "help");
    let mut add = |name: &str, text: &str| {
        write!(
            page,
            "\n## {name}\n\n```text\n{}\n```\n",
            text.lines().map(str::trim_end).collect::<Vec<_>>().join("\n").trim_end()
        )
        .unwrap()
    };
    add("firstword", &help);
    for command in commands {
        add(&format!("firstword {command}"), &printed(&[command, "--help"]));
    }
    page
}

#[test]
fn the_page_of_findings_has_each_explanation() {
    assert_file("docs/findings.md", |_| findings());
}

#[test]
fn the_page_of_options_has_each_help() {
    assert_file("docs/options.md", |_| options());
}
