//! The directions of `src/lib.rs`, the length of files, and where `unsafe` may stand. Each rule is shown to be able to
//! fail.

use std::fs::read_dir;
use std::path::{Path, PathBuf};

/// A longer file is two files.
const MAX_LINES: usize = 600;

/// What a module must not name, as paths from the crate's root.
const FORBIDDEN: &[(&str, &[&str])] = &[
    (
        "clock",
        &["config", "connection", "detect", "event", "metrics", "mysql", "plugin", "ports", "proxy_protocol"],
    ),
    ("config", &["connection", "detect", "mysql", "plugin"]),
    ("connection", &["metrics", "plugin"]),
    ("detect", &["connection", "metrics", "mysql::session", "plugin"]),
    (
        "event",
        &["config", "connection", "detect", "metrics", "mysql::packet", "mysql::session", "plugin", "ports"],
    ),
    (
        "escape",
        &[
            "clock",
            "config",
            "connection",
            "detect",
            "event",
            "labels",
            "metrics",
            "mysql",
            "plugin",
            "ports",
            "proxy_protocol",
        ],
    ),
    (
        "labels",
        &[
            "clock",
            "config",
            "connection",
            "detect",
            "event",
            "metrics",
            "mysql",
            "plugin",
            "ports",
            "proxy_protocol",
        ],
    ),
    (
        "metrics",
        &[
            "config",
            "connection",
            "detect",
            "mysql::handshake",
            "mysql::packet",
            "mysql::reply",
            "mysql::response",
            "mysql::session",
            "plugin",
            "ports",
        ],
    ),
    ("mysql", &["config", "connection", "detect", "metrics", "plugin", "ports", "proxy_protocol"]),
    ("ports", &["config", "connection", "detect", "metrics", "mysql", "plugin"]),
    ("proxy_protocol", &["config", "connection", "detect", "metrics", "mysql", "plugin", "ports"]),
];

/// Everything wrong with a file; `path` is relative to `src/`.
fn problems(path: &str, text: &str) -> Vec<String> {
    let code: Vec<_> =
        text.lines().map(|line| line.split_once("//").map_or(line, |(code, _)| code)).collect();
    let code = code.join("\n");
    let module = path.split(['/', '.']).next().unwrap_or(path);
    let mut problems = Vec::new();
    let lines = text.lines().count();
    if lines > MAX_LINES {
        problems.push(format!("{path} has {lines} lines, more than {MAX_LINES}"));
    }
    if words(&code).any(|word| word == "proxy_wasm") && module != "plugin" && path != "lib.rs" {
        problems.push(format!("{path} names proxy_wasm"));
    }
    let is_unsafe = |word: &str| word == "unsafe" || word == "unsafe_code" && path != "lib.rs";
    if words(&code).any(is_unsafe) && path != "plugin/host.rs" {
        problems.push(format!("{path} holds unsafe code"));
    }
    let rule = FORBIDDEN.iter().find(|(name, _)| *name == module);
    for forbidden in rule.into_iter().flat_map(|(_, forbidden)| *forbidden) {
        let within = |named: &String| named == forbidden || named.starts_with(&format!("{forbidden}::"));
        if let Some(named) = named(&code).iter().find(|named| within(named)) {
            problems.push(format!("{path} names {named}"));
        }
    }
    problems
}

fn words(code: &str) -> impl Iterator<Item = &str> {
    code.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|word| !word.is_empty())
}

/// The paths behind `crate::` and behind `super::`, groups taken apart. What is behind `super::` may be a sibling and not
/// a module of the crate's root; the two have no names in common.
fn named(code: &str) -> Vec<String> {
    let mut paths = Vec::new();
    for start in ["crate::", "super::"] {
        for behind in code.split(start).skip(1) {
            expand(String::new(), behind, &mut paths);
        }
    }
    paths
}

/// Reads one path off the front of `rest`; gives what follows it.
fn expand<'a>(mut path: String, mut rest: &'a str, paths: &mut Vec<String>) -> &'a str {
    loop {
        rest = rest.trim_start();
        if let Some(mut group) = rest.strip_prefix('{') {
            while !group.trim_start().starts_with('}') && !group.is_empty() {
                group = expand(path.clone(), group, paths).trim_start();
                group = group.strip_prefix(',').unwrap_or(group);
            }
            return group.trim_start().strip_prefix('}').unwrap_or(group);
        }
        let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
        let (segment, behind) = rest.split_at(end);
        path.push_str(segment);
        match behind.strip_prefix("::") {
            Some(behind) if end > 0 => {
                path.push_str("::");
                rest = behind;
            }
            _ => {
                paths.push(path);
                // Past `*`, `as name` and the like, to the end of the item.
                let item = behind.find([',', '}', ';', '\n']).unwrap_or(behind.len());
                return behind.get(item..).unwrap_or_default();
            }
        }
    }
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let entries = read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path());
    let (directories, files): (Vec<_>, Vec<_>) = entries.partition(|path| path.is_dir());
    files.into_iter().chain(directories.iter().flat_map(|path| self::files(path))).collect()
}

#[test]
fn the_sources_keep_to_the_layout() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let src = root.join("src");
    let mut checked = Vec::new();
    for file in [files(&src), files(&root.join("crates/cli/src"))].concat() {
        let path = file.strip_prefix(&src).or_else(|_| file.strip_prefix(root)).unwrap();
        let path = path.to_str().unwrap().replace('\\', "/");
        let found = problems(&path, &std::fs::read_to_string(&file).unwrap());
        assert!(found.is_empty(), "{found:#?}");
        checked.push(path);
    }
    for (module, _) in FORBIDDEN {
        let is_there = |path: &String| path.split(['/', '.']).next() == Some(module);
        assert!(checked.iter().any(is_there), "a rule for {module}, which is no module");
    }
    assert!(
        ["crates/cli/src/main.rs", "lib.rs", "plugin/host.rs"]
            .iter()
            .all(|path| checked.contains(&path.to_string()))
    );
}

#[test]
fn each_rule_can_fail() {
    let bad = [
        ("connection.rs", "use proxy_wasm::types::Action;", "connection.rs names proxy_wasm"),
        (
            "crates/cli/src/main.rs",
            "proxy_wasm::hostcalls::done()",
            "crates/cli/src/main.rs names proxy_wasm",
        ),
        ("mysql/packet.rs", "let x = unsafe { y() };", "mysql/packet.rs holds unsafe code"),
        ("plugin/root.rs", "#![allow(unsafe_code)]", "plugin/root.rs holds unsafe code"),
        ("lib.rs", "unsafe { f() }", "lib.rs holds unsafe code"),
        ("mysql/session.rs", "use crate::plugin::start;", "mysql/session.rs names plugin::start"),
        ("mysql/session.rs", "use crate::config;", "mysql/session.rs names config"),
        ("mysql/mod.rs", "fn f(_: &super::config::Config) {}", "mysql/mod.rs names config::Config"),
        (
            "metrics/mod.rs",
            "use crate::{event::Event, mysql::{errno, session::Session}};",
            "metrics/mod.rs names mysql::session::Session",
        ),
        (
            "metrics/mod.rs",
            "use crate::{\n    event,\n    connection::{self, Chunk},\n};",
            "metrics/mod.rs names connection::self",
        ),
        ("proxy_protocol/v1.rs", "use crate::config as c;", "proxy_protocol/v1.rs names config"),
        ("connection/tests.rs", "use super::super::metrics::*;", "connection/tests.rs names metrics::"),
        ("event.rs", "use crate::connection::Connection;", "event.rs names connection::Connection"),
    ];
    for (path, text, problem) in bad {
        assert_eq!(problems(path, text), [problem], "{text}");
    }
    let long = "\n".repeat(MAX_LINES + 1);
    assert_eq!(problems("ports.rs", &long), ["ports.rs has 601 lines, more than 600"]);
}

#[test]
fn what_is_allowed() {
    let good = [
        ("plugin/stream.rs", "use proxy_wasm::types::Action; use crate::connection::Connection;"),
        ("plugin/host.rs", "unsafe extern \"C\" {}"),
        ("lib.rs", "#[allow(unsafe_code)] mod abi { proxy_wasm::main! {{ crate::plugin::start(); }} }"),
        ("mysql/session.rs", "// as crate::plugin does with proxy_wasm, unsafe\nuse crate::event::Event;"),
        ("metrics/mod.rs", "use crate::{event::Event, mysql::{command, errno}};"),
        ("detect.rs", "use crate::mysql::handshake::ERR;"),
        ("connection.rs", "use crate::mysql::session::Session; use crate::detect::Detector;"),
    ];
    for (path, text) in good {
        assert_eq!(problems(path, text), [""; 0], "{text}");
    }
}
