//! The documents agree with the code.

// A test reports through a panic.
#![allow(clippy::arithmetic_side_effects, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

use std::path::Path;

use firstword::config::Config;

#[test]
fn the_examples_are_configurations() {
    let mut count = 0;
    for entry in std::fs::read_dir(root().join("docs")).unwrap() {
        let page = entry.unwrap().path();
        if page.extension().is_none_or(|extension| extension != "md") {
            continue;
        }
        let text = document(&page);
        for example in text.split("```json").skip(1).filter_map(|rest| rest.split("```").next()) {
            assert_eq!(Config::parse(example.as_bytes()).err(), None, "{}: {example}", page.display());
            count += 1;
        }
    }
    assert!(count >= 5, "{count}");
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn document(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Each limit has the file of its constant, the constant, and the text in `docs/memory.md`.
#[test]
fn the_document_about_memory_has_the_limits_of_the_code() {
    let document = include_str!("../docs/memory.md");
    let limits = [
        (
            include_str!("../src/session/command_phase/queue.rs"),
            "const MAX_ENTRIES: usize = 1024;",
            "1,024 entries",
        ),
        (
            include_str!("../src/session/command_phase.rs"),
            "const MAX_OWNED: usize = 64 << 10;",
            "64 KiB together",
        ),
        (
            include_str!("../src/session/statements.rs"),
            "const MAX_STATEMENTS: usize = 16_382;",
            "16,382 of 8 bytes",
        ),
        (
            include_str!("../src/session/statements.rs"),
            "const MAX_DIGESTS: usize = 256;",
            "256, up to 256 bytes each",
        ),
        (
            include_str!("../src/session/statements.rs"),
            "const MAX_STATEMENTS_WITH_FILES: usize = 256;",
            "256 statements",
        ),
        (include_str!("../src/mysql/sql/digest.rs"), "const MAX_LEN: usize = 256;", "up to 256 bytes each"),
        (
            include_str!("../src/session/mod.rs"),
            "const MAX_CONNECTION_PHASE_PREFIX: usize = 4096;",
            "4 KiB during login",
        ),
        (
            include_str!("../src/session/pending.rs"),
            "const MAX_COMMAND_PREFIX: usize = 512;",
            "then 512 bytes",
        ),
        (
            include_str!("../src/session/pending.rs"),
            "const MAX_DIGESTED_PREFIX: usize = 1024;",
            "1 KiB with `slow_command`",
        ),
        (
            include_str!("../src/session/mod.rs"),
            "const MAX_JUDGED_PREFIX: usize = 16 << 10;",
            "16 KiB with `block_local_infile`",
        ),
        (include_str!("../src/session/mod.rs"), "const MAX_RESPONSE_PREFIX: usize = 64;", "then 64 bytes"),
        (
            include_str!("../src/session/mod.rs"),
            "const MAX_SESSION_STATE_PREFIX: usize = 512;",
            "512 with `schema`",
        ),
        (
            include_str!("../src/session/mod.rs"),
            "const MAX_FILE_REQUEST_PREFIX: usize = 4096;",
            "4 KiB with `block_local_infile`",
        ),
        (
            include_str!("../src/event/output.rs"),
            "const MAX_EVENTS: usize = 1024;",
            "handed over to the metrics",
        ),
        (
            include_str!("../src/connection/rewrite.rs"),
            "const MAX_WITHHELD: usize = 64 << 10;",
            "| 64 KiB | counted before they are held |",
        ),
        (
            include_str!("../src/connection/stages/proxy_header/guard.rs"),
            "const MAX_GREETING_PREFIX: usize = 512;",
            "512 bytes for the greeting",
        ),
        (
            include_str!("../src/connection/inspector/mod.rs"),
            "const FIRST_READ: usize = 16 << 10;",
            "one of 16 KiB",
        ),
        (
            include_str!("../src/connection/inspector/mod.rs"),
            "const NEXT_READ: usize = 64 << 10;",
            "then 64 KiB each",
        ),
        (include_str!("../src/escape.rs"), "pub const MAX_WORD_LEN: usize = 256;", "words of 256 bytes"),
        (
            include_str!("../src/event/runner.rs"),
            "const MAX_KEPT: usize = 1024;",
            "1,024 kept between callbacks",
        ),
        (include_str!("../src/filter/budget.rs"), "const MIN_SHARE: usize = 4 << 10;", "at least 4 KiB"),
        (include_str!("../src/filter/budget.rs"), "saturating_mul(3) / 4", "three quarters of the budget"),
        (
            include_str!("../src/filter/log/ports.rs"),
            "const MAX_PORTS: usize = 256;",
            "| 256 | no further line |",
        ),
        (include_str!("../src/filter/mod.rs"), "Duration::from_millis(500)", "every 500 ms"),
        (include_str!("../src/config/limits.rs"), "connection_state: 16 * MIB", "16 MiB unless you set it"),
        (include_str!("../src/config/limits.rs"), "MIB..=512 * MIB", "at most 512 MiB"),
    ];
    for (source, constant, text) in limits {
        assert!(source.contains(constant), "no longer in the source: {constant}; correct docs/memory.md too");
        assert!(document.contains(text), "not in docs/memory.md: {text}");
    }
}

/// The texts in code marks.
fn in_marks(cell: &str) -> impl Iterator<Item = &str> {
    cell.split('`').skip(1).step_by(2)
}

/// Paths in a cell of the guide's table are relative to the folder in the head of the column. With a `/` they are relative to
/// the repository.
#[test]
fn every_path_in_the_table_of_features_and_levels_exists() {
    let root = root();
    let guide = document(&root.join("docs/testing.md"));
    let table = guide.lines().skip_while(|line| !line.starts_with("| feature |"));
    let rows: Vec<Vec<_>> =
        table.map(|line| line.split('|').collect()).take_while(|row: &Vec<_>| row.len() > 1).collect();
    let folders: Vec<_> = rows[0].iter().map(|cell| in_marks(cell).next()).collect();
    let mut missing = Vec::new();
    let mut count = 0;
    for row in &rows[2..] {
        for (folder, cell) in folders.iter().zip(row).filter_map(|(folder, cell)| Some(((*folder)?, cell))) {
            // Names of captures contain a `*`.
            for path in in_marks(cell).filter(|path| !path.contains('*')) {
                let path = path.strip_prefix('/').map_or_else(|| format!("{folder}{path}"), str::to_owned);
                count += 1;
                if !root.join(&path).exists() {
                    missing.push(path);
                }
            }
        }
    }
    assert!(count > 80, "{count}");
    assert_eq!(missing, [""; 0]);
}
