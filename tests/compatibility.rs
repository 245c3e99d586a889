//! What `docs/compatibility.md`, `docs/limitations.md` and the limits in `docs/commands.md` say is what the sources say.

// A test reports through a panic.
#![allow(clippy::arithmetic_side_effects, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::fs::read_to_string;

use firstword::event::HazardKind;
use firstword::filter::LOG_EVENTS;
use firstword::metrics::catalogue::Metric;
use firstword_testing::root;
use regex::Regex;

fn file(path: &str) -> String {
    read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The cells of the table row that begins with this one.
fn row(page: &str, first: &str) -> Vec<String> {
    let start = format!("| {first} |");
    let line = page.lines().find(|line| line.starts_with(&start)).unwrap_or_else(|| panic!("no row {first}"));
    line.trim_matches('|').split(" | ").map(|cell| cell.trim().to_owned()).collect()
}

fn versions(text: &str, pattern: &str) -> BTreeSet<String> {
    let version = Regex::new(pattern).unwrap();
    version.find_iter(text).map(|found| found.as_str().to_owned()).collect()
}

/// The Envoys that `make test-istio ENVOY_VERSIONS=all` runs.
fn envoys() -> BTreeSet<String> {
    let makefile = file("Makefile");
    let line = makefile.lines().find_map(|line| line.strip_prefix("envoy_versions := ")).unwrap();
    versions(line, r"\b1\.\d+\.\d+\b")
}

fn minor(version: &str) -> u32 {
    version.split('.').nth(1).unwrap().parse().unwrap()
}

#[test]
fn the_envoys_are_those_that_the_tests_run() {
    let page = file("docs/compatibility.md");
    let of = |first: &str| versions(&row(&page, first)[2], r"\b1\.\d+\.\d+\b");
    let run = envoys();
    assert_eq!(of("the filter in Envoy"), run);
    // Those that `make test` fetches for it, and the newest one.
    let makefile = file("Makefile");
    let fetched = makefile.lines().find(|line| line.contains("for version in 1.39")).unwrap();
    let mut native = versions(fetched, r"\b1\.\d+\.\d+\b");
    native.extend(run.iter().filter(|version| minor(version) > 39).cloned());
    assert_eq!(of("the [native module](native.md) in Envoy"), native);
    assert_eq!(versions(&file("docs/manifests.md"), r"\b1\.(3[6-9]|4\d)\.\d+\b"), run);
    let minors: Vec<u32> = run.iter().map(|version| minor(version)).collect();
    let range = format!("Envoy 1.{} to 1.{}", minors.iter().min().unwrap(), minors.iter().max().unwrap());
    assert_eq!(file("README.md").matches(&range).count(), 2, "{range}");
}

#[test]
fn the_minimum_versions_are_the_same_on_each_page() {
    let page = file("docs/compatibility.md");
    let cell = |first: &str| row(&page, first)[1].clone();
    let envoy = cell("the filter in Envoy").split(',').next().unwrap().to_owned();
    let istio = cell("the filter in Istio");
    let readme = file("README.md");
    assert!(readme.contains(&format!("Istio {istio} or Envoy {envoy}, or newer")), "{istio}, {envoy}");
    let manifests = file("docs/manifests.md");
    let (_, section) = manifests.split_once("## Versions").unwrap();
    let table = section.split("\n\n").nth(1).unwrap();
    let froms: Vec<u32> =
        table.lines().skip(2).map(|line| minor(line.split('|').nth(2).unwrap().trim())).collect();
    let range = format!("from 1.{} to 1.{}", froms.iter().min().unwrap(), froms.iter().max().unwrap());
    assert!(cell("the manifests that fix hangs").contains(&range), "{range}");
    assert_eq!(row(&manifests, "`base/wasmplugin.yaml`, `hazards/wasmplugin.yaml`")[1], istio);
}

#[test]
fn the_drivers_are_those_of_the_measured_table() {
    let page = file("docs/compatibility.md");
    let line = page.lines().find(|line| line.starts_with("| drivers, ")).unwrap();
    let measured = file("docs/tls.md");
    let (_, rest) = measured.split_once("<!-- drivers: begin -->").unwrap();
    let (table, _) = rest.split_once("<!-- drivers: end -->").unwrap();
    let mut count = 0;
    for row in table.lines().filter(|line| line.starts_with("| ")).skip(1) {
        let cells: Vec<_> = row.split('|').map(str::trim).collect();
        let (driver, version) = (cells[1], cells[2].trim_end_matches(".0"));
        // The page names these in other words.
        let (words, named_version) = match driver {
            "MySQL Connector/J" => ("Connector/J", version),
            "MariaDB Connector/J" => ("MariaDB Connector/J", version),
            "mysql2 for Node.js" | "mariadb for Node.js" => (driver.split(' ').next().unwrap(), ""),
            "MariaDB's command line" | "MySQL's command line" => ("both command lines", ""),
            "mysql-connector-python, in Python" => ("mysql-connector-python in Python", ""),
            "mysql-connector-python, in C" => ("and in C", ""),
            "PHP mysqli" => ("mysqli", ""),
            "PHP PDO" => ("PDO of PHP", ""),
            other => (other.split(" (").next().unwrap(), ""),
        };
        assert!(line.contains(words) && line.contains(named_version), "{driver} {version}: {line}");
        count += 1;
    }
    assert!(count > 15, "{count}");
}

#[test]
fn rust_is_the_one_that_the_sources_need() {
    let cargo = file("Cargo.toml");
    let built = versions(cargo.lines().find(|line| line.starts_with("rust-version = ")).unwrap(), r"\d\.\d+");
    let tested =
        versions(file("Makefile").lines().find(|line| line.contains("need_rust ")).unwrap(), r"\d\.\d+");
    let (built, tested) = (built.first().unwrap(), tested.first().unwrap());
    let page = file("docs/compatibility.md");
    let sentence = format!("need Rust {built} or newer. Tests and the demo need Rust {tested},");
    assert!(page.contains(&sentence), "{sentence}");
    let readme = file("README.md");
    for part in [format!("Rust {built};"), format!("Python 3 and Rust {tested}.")] {
        assert!(readme.contains(&part), "{part}");
    }
}

/// A name in the page of limitations is a name in the sources.
#[test]
fn the_limitations_name_what_exists() {
    let page = file("docs/limitations.md");
    let metrics: BTreeSet<_> = Metric::ALL.iter().map(|metric| metric.definition().name).collect();
    let hazards: BTreeSet<_> = HazardKind::ALL.iter().map(|kind| kind.label()).collect();
    let events: BTreeSet<_> = LOG_EVENTS.iter().map(|event| event.name).collect();
    let findings = file("docs/findings.md");
    let quoted = Regex::new("`([^`]+)`").unwrap();
    let mut count = 0;
    for name in quoted.captures_iter(&page).map(|found| found.extract::<1>().1[0]) {
        if name.ends_with("_total") {
            assert!(metrics.contains(name), "no metric {name}");
            count += 1;
        } else if ["istio/", "tests/", "envoy/"].iter().any(|folder| name.starts_with(folder)) {
            assert!(root().join(name).exists(), "no file {name}");
            count += 1;
        } else if name.contains('-') && name.chars().all(|char| char.is_ascii_lowercase() || char == '-') {
            let is_finding = findings.contains(&format!("\n## {name}\n"));
            assert!(is_finding || hazards.contains(name) || events.contains(name), "no finding {name}");
            count += 1;
        } else if let Some(target) = name.strip_prefix("make ") {
            let target = target.split_whitespace().next().unwrap();
            assert!(file("Makefile").contains(&format!("\n{target}:")), "no target {target}");
            count += 1;
        }
    }
    assert!(count > 8, "{count}");
}

/// The limits of the command in `docs/commands.md` are those of its sources.
#[test]
fn the_limits_of_the_command_are_those_of_its_sources() {
    let page = file("docs/commands.md");
    let limits = page.split_once("## Limits").unwrap().1;
    for (source, constant, texts) in [
        (
            "documents.rs",
            "MAX_BYTES: u64 = 64 << 20",
            &["| `check-config` | 64 MiB;", "| `doctor` | 64 MiB;"][..],
        ),
        ("documents.rs", "MAX_OPEN_BRACKETS: usize = 10_000", &["more than 10,000 open brackets"]),
        ("documents/budget.rs", "MAX: usize = 64 << 20", &["more than 64 MiB, and"]),
        ("documents/budget.rs", "PER_BYTE: usize = 8", &["and 8 bytes for each byte"]),
        ("find.rs", "MAX_FILTERS: usize = 10_000", &["more than 10,000 Wasm filters"]),
        (
            "doctor/mod.rs",
            "MAX_DESTINATIONS: usize = 10_000",
            &["| `doctor` | 64 MiB; 10,000 destinations |"],
        ),
        ("doctor/mesh/scan.rs", "MAX_FILES: usize = 100_000", &["100,000 files"]),
        ("doctor/mesh/rows.rs", "MAX_ROWS: usize = 100_000", &["100,000 destinations in all"]),
        ("inspect/pcap.rs", "MAX_CAPTURE: u64 = 64 << 30", &["| `inspect` | 64 GiB"]),
        ("inspect/pcap.rs", "MAX_RECORD: usize = 16 << 20", &["records of 16 MiB"]),
        ("inspect/pcap.rs", "MAX_INTERFACES: usize = 1 << 16", &["65,536 interfaces"]),
        ("inspect/proxy_headers.rs", "MAX_HEADERS: usize = 16", &["16 PROXY headers of each"]),
        (
            "inspect/flows.rs",
            "Limits { open: 1 << 16, ended: 1 << 16, listed: 10_000, held: 64 << 20, memory: 512 << 20 }",
            &["65,536 connections at once, 10,000 listed", "64 MiB of it for bytes", "at most 512 MiB"],
        ),
    ] {
        assert!(file(&format!("crates/cli/src/{source}")).contains(constant), "{source}: {constant}");
        let words = limits.split_whitespace().collect::<Vec<_>>().join(" ");
        for text in texts {
            assert!(words.contains(text), "{constant}: {text}");
        }
    }
}
