//! The documents agree with the code, and each of their links has a target.

// A test reports through a panic.
#![allow(clippy::arithmetic_side_effects, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::path::Path;

use firstword::config::Config;
use firstword::event::HazardKind;
use firstword::metrics::Profile;
use firstword::metrics::catalogue::{Kind, Metric};

/// The documents with tables and examples of configurations.
const TEXT: &str = concat!(
    include_str!("../README.md"),
    include_str!("../docs/configuration.md"),
    include_str!("../docs/hazards.md"),
    include_str!("../docs/metrics.md"),
    include_str!("../docs/access-log.md"),
);

/// The rows of the table whose header begins with `| first |`, as cells.
fn table(first: &str) -> Vec<Vec<&'static str>> {
    let header = format!("| {first} |");
    let lines = TEXT.lines().skip_while(|line| !line.starts_with(&header));
    let rows = lines.skip(2).take_while(|line| line.starts_with('|'));
    let rows: Vec<_> = rows.map(|row| row.trim_matches('|').split('|').map(str::trim).collect()).collect();
    assert!(!rows.is_empty(), "no document has a table {header}");
    rows
}

fn metric_row(metric: Metric) -> [String; 5] {
    let definition = metric.definition();
    let kind = match definition.kind {
        Kind::Counter => "counter",
        Kind::Gauge => "gauge",
        Kind::Histogram => "histogram",
    };
    let profile = match definition.profile {
        Profile::Minimal => "minimal",
        Profile::Standard => "standard",
        Profile::Full => "full",
    };
    let labels = definition.labels.iter().map(|label| format!("`{}`", label.key()));
    let in_full = definition.in_full.map(|label| format!("in full `{}`", label.key()));
    let labels: Vec<_> = labels.chain(in_full).collect();
    [
        format!("`{}`", definition.name),
        kind.to_owned(),
        labels.join(", "),
        profile.to_owned(),
        definition.help.to_owned(),
    ]
}

#[test]
fn the_metric_table_is_the_catalogue() {
    let expected: Vec<_> = Metric::ALL.iter().map(|metric| metric_row(*metric).to_vec()).collect();
    let as_markdown: Vec<_> = expected.iter().map(|row| format!("| {} |", row.join(" | "))).collect();
    assert_eq!(table("metric"), expected, "the table should be:\n{}", as_markdown.join("\n"));
}

#[test]
fn the_table_of_hazards_has_every_kind() {
    let documented: Vec<_> = table("kind").iter().map(|row| row[0].trim_matches('`')).collect();
    let kinds: Vec<_> = HazardKind::ALL.iter().map(|kind| kind.label()).collect();
    assert_eq!(documented, kinds);
}

#[test]
fn the_examples_are_configurations() {
    let mut count = 0;
    for name in DOCUMENTS {
        let text = document(&root().join(name));
        for example in text.split("```json").skip(1).filter_map(|rest| rest.split("```").next()) {
            assert_eq!(Config::parse(example.as_bytes()).err(), None, "{name}: {example}");
            count += 1;
        }
    }
    assert!(count >= 5, "{count}");
}

const DOCUMENTS: [&str; 28] = [
    "README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "SUPPORT.md",
    "docs/access-log.md",
    "docs/client-address.md",
    "docs/commands.md",
    "docs/comparison.md",
    "docs/compatibility.md",
    "docs/configuration.md",
    "docs/cost.md",
    "docs/decisions/README.md",
    "docs/demo.md",
    "docs/hang.md",
    "docs/hazards.md",
    "docs/install-helm.md",
    "docs/limitations.md",
    "docs/memory.md",
    "docs/metrics.md",
    "docs/native.md",
    "docs/protocol-rules.md",
    "docs/symptoms.md",
    "docs/testing.md",
    "docs/tls.md",
    "envoy/README.md",
    "envoy/observability/README.md",
    "istio/README.md",
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn document(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// The fragments that GitHub makes of the headings.
fn fragments(text: &str) -> BTreeSet<String> {
    let headings = text.lines().filter(|line| line.starts_with('#'));
    let headings = headings.map(|line| line.trim_start_matches('#').trim().to_lowercase());
    let kept = |c: char| c.is_alphanumeric() || [' ', '-', '_'].contains(&c);
    headings
        .map(|heading| heading.chars().filter(|c| kept(*c)).collect::<String>().replace(' ', "-"))
        .collect()
}

#[test]
fn every_link_in_a_document_has_a_target() {
    let root = root();
    let mut followed = 0;
    for name in DOCUMENTS {
        let path = root.join(name);
        let text = document(&path);
        let links = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        for link in links.filter(|link| !link.contains("://")) {
            let (file, fragment) = link.split_once('#').unwrap_or((link, ""));
            let target = if file.is_empty() { path.clone() } else { path.with_file_name(file) };
            assert!(target.exists(), "{name}: {link}");
            if !fragment.is_empty() {
                assert!(fragments(&document(&target)).contains(fragment), "{name}: {link}");
            }
            followed += 1;
        }
    }
    assert!(followed >= 40, "{followed}");
}

/// Two links lead from "MySQL hangs on port 10000" in the README to the file that fixes it.
#[test]
fn the_fix_of_the_hang_is_two_links_away() {
    let root = root();
    assert!(document(&root.join("README.md")).contains("](istio/README.md#what-to-apply)"));
    let table = document(&root.join("istio/README.md"));
    let table = table.split("## What to apply").nth(1).expect("the table");
    assert!(table.contains("](scenarios/port-conflict/serviceentry.yaml)"));
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
