//! Promises of a release: images named by their digest, the right commit, licences that allow distribution, and metrics that stay as
//! they are.

// A test and its helpers report through a panic.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used
)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use firstword::metrics::Profile;
use firstword::metrics::catalogue::{Kind, Metric};
use regex::Regex;

const VERSION: &str = env!("CARGO_PKG_VERSION");

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn text(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
}

fn stdout(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// Documents and YAML files in a directory and its subdirectories.
fn documents(directory: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(root().join(directory)).expect(directory);
    let mut found = Vec::new();
    for path in entries.map(|entry| entry.unwrap().path()) {
        let relative = path.strip_prefix(root()).unwrap().to_owned();
        match relative.extension().and_then(|extension| extension.to_str()) {
            _ if path.is_dir() && !["", "."].contains(&directory) => {
                found.extend(documents(relative.to_str().unwrap()));
            }
            Some("md" | "yaml" | "yml") => found.push(relative),
            _ => {}
        }
    }
    found
}

/// An image is named by its digest, because a tag can be moved to another image, and no registry is ours before a release.
#[test]
fn no_manifest_names_the_image_by_tag() {
    // A registry's host, or the scheme of a WasmPlugin's image.
    let image = Regex::new(
        r"(oci://|[a-z0-9-]+[.][a-z0-9.-]*/)[A-Za-z0-9._/-]*firstword(-[a-z]+)?[:@][A-Za-z0-9:._-]*",
    )
    .unwrap();
    let by_digest = Regex::new(r"firstword(-native)?@sha256:").unwrap();
    let mut places = 0;
    let named = |path: &PathBuf| path.extension().is_some_and(|extension| extension != "md");
    for path in ["istio", "envoy", "charts"].iter().flat_map(|directory| documents(directory)).filter(named) {
        for found in image.find_iter(&text(path.to_str().unwrap())) {
            assert!(by_digest.is_match(found.as_str()), "{}: {}", path.display(), found.as_str());
            places += 1;
        }
    }
    assert!(places >= 10, "{places}");
    for (tagged, finds) in [
        ("url: oci://registry.example.com/firstword:v1", true),
        ("image: ghcr.io/a/firstword:1", true),
        ("reference: ghcr.io/a/firstword-native:1", true),
        ("image: firstword-client:compose", false),
    ] {
        assert_eq!(image.is_match(tagged), finds, "{tagged}");
    }
}

/// The changelog has the form of keepachangelog.com: unreleased changes first, then each version with its date, the newest first.
#[test]
fn the_changelog_has_this_version() {
    let changelog = text("CHANGELOG.md");
    let released = Regex::new(r"^## \[([0-9]+)\.([0-9]+)\.([0-9]+)\] - [0-9]{4}-[0-9]{2}-[0-9]{2}$").unwrap();
    let headings: Vec<_> = changelog.lines().filter(|line| line.starts_with("## ")).collect();
    assert_eq!(headings.first(), Some(&"## [Unreleased]"));
    let versions: Vec<_> = headings[1..]
        .iter()
        .map(|heading| {
            let numbers = released.captures(heading).unwrap_or_else(|| panic!("{heading}"));
            [1, 2, 3].map(|group| numbers[group].parse::<u32>().unwrap())
        })
        .collect();
    assert!(versions.is_sorted_by(|newer, older| newer > older), "{versions:?}");
    // Cargo.toml has the last released version or the next one.
    let ours: Vec<u32> = VERSION.split('.').map(|number| number.parse().unwrap()).collect();
    assert!(versions.first().is_none_or(|newest| newest.as_slice() <= ours.as_slice()), "{versions:?}");

    let kinds = ["Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"];
    for heading in changelog.lines().filter_map(|line| line.strip_prefix("### ")) {
        assert!(kinds.contains(&heading), "{heading}");
    }
}

/// A source tree with only the scripts that print the commit.
fn tree(parent: &Path) -> PathBuf {
    let tree = parent.join("tree");
    std::fs::create_dir_all(tree.join("scripts")).unwrap();
    for script in ["commit.sh", "common.sh"] {
        std::fs::copy(root().join("scripts").join(script), tree.join("scripts").join(script)).unwrap();
    }
    tree
}

fn git(directory: &Path, arguments: &[&str]) -> String {
    let mut git = Command::new("git");
    git.current_dir(directory).args(["-c", "user.name=a", "-c", "user.email=a@example.com"]).args(arguments);
    stdout(&git.output().expect("git"))
}

/// The commit that `commit.sh` prints, and its standard error.
fn commit(tree: &Path) -> (String, String) {
    let output = Command::new(tree.join("scripts/commit.sh")).output().expect("commit.sh");
    (stdout(&output), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn the_commit_is_that_of_the_source_tree() {
    let parent = tempfile::tempdir().unwrap();
    let tree = tree(parent.path());
    // A source archive, unpacked within another repository.
    git(parent.path(), &["init", "--quiet"]);
    assert_eq!(commit(&tree), ("unknown".into(), String::new()));

    git(&tree, &["init", "--quiet"]);
    // A repository without a commit.
    let (unknown, why) = commit(&tree);
    assert_eq!(unknown, "unknown");
    assert!(why.contains("commit.sh: git does not tell the commit"), "{why}");

    git(&tree, &["add", "."]);
    git(&tree, &["commit", "--quiet", "--message", "a"]);
    let head = git(&tree, &["rev-parse", "HEAD"]);
    let clean = (head.get(..12).unwrap().to_owned(), String::new());
    assert_eq!(commit(&tree), clean);
    std::fs::write(tree.join("untracked"), "").unwrap();
    assert_eq!(commit(&tree), clean);
    std::fs::write(tree.join("scripts/common.sh"), "say() { :; }").unwrap();
    assert_eq!(commit(&tree), (format!("{}-dirty", clean.0), String::new()));
}

/// The commit becomes the value of a label.
#[test]
fn a_commit_that_is_no_valid_label_value_is_refused() {
    let output = Command::new(root().join("scripts/wasm.sh")).env("FIRSTWORD_COMMIT", "a;.;b").output();
    let output = output.expect("wasm.sh");
    assert!(!output.status.success());
    let message = String::from_utf8_lossy(&output.stderr);
    assert!(message.contains("FIRSTWORD_COMMIT becomes a label's value"), "{message}");
}

/// Lines of `cargo tree`, one for each package that is not only used by tests.
fn packages(format: &str, arguments: &[&str]) -> BTreeSet<String> {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.current_dir(root()).args(["tree", "--locked", "--offline", "--edges", "normal,build"]);
    cargo.args(["--prefix", "none", "--no-dedupe", "--format", format]).args(arguments);
    stdout(&cargo.output().expect("cargo")).lines().map(str::to_owned).collect()
}

/// deny.toml lists the licences of all packages of the module and the command. `make deny` checks them with that list too.
#[test]
fn the_licences_allow_distribution() {
    let deny = text("deny.toml");
    let list = deny.lines().find_map(|line| line.strip_prefix("allow = ")).expect("a list in one line");
    let allowed: BTreeSet<String> = serde_json::from_str(list).expect("a list of texts");
    let module =
        packages("{p}\t{l}", &["--package", "firstword-proxy-wasm", "--target", "wasm32-unknown-unknown"]);
    let program = packages("{p}\t{l}", &["--package", "firstword-cli"]);
    assert!(module.len() >= 15 && program.len() > module.len(), "{module:#?} {program:#?}");
    let mut needed = BTreeSet::new();
    for package in module.union(&program) {
        let (name, licence) = package.split_once('\t').unwrap();
        // Older packages separate licences by a slash.
        let licence = spdx::Expression::parse(&licence.replace('/', " OR ")).expect(name);
        let mut found = |requirement: &spdx::LicenseReq| {
            let licence = requirement.to_string();
            let is_allowed = allowed.contains(&licence);
            needed.extend(is_allowed.then_some(licence));
            is_allowed
        };
        assert!(licence.evaluate(&mut found), "{name}: {licence} is not on the list of deny.toml");
    }
    assert_eq!(needed, allowed, "deny.toml lists a licence that no package has");
}

/// Each further package is code that every connection to a database passes through.
#[test]
fn the_module_uses_five_packages() {
    let direct = ["firstword", "firstword-proxy-wasm"].map(|package| {
        packages("{p}", &["--package", package, "--target", "wasm32-unknown-unknown", "--depth", "1"])
    });
    let names = direct.iter().flatten().map(|package| package.split(' ').next().unwrap());
    let names: BTreeSet<_> = names.filter(|name| !name.starts_with("firstword")).collect();
    let five = ["bytes", "log", "proxy-wasm", "serde", "serde_json"];
    assert_eq!(names, BTreeSet::from(five));
}

/// A line for each stable metric: its name, its kind, and its labels.
fn stable_metrics() -> Vec<String> {
    let stable = Metric::ALL.iter().map(|metric| metric.definition());
    let stable = stable.filter(|definition| !matches!(definition.profile, Profile::Full));
    let lines = stable.map(|definition| {
        let kind = match definition.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        let labels = definition.labels.iter().map(|label| label.key());
        [definition.name, kind].into_iter().chain(labels).collect::<Vec<_>>().join(" ")
    });
    lines.collect()
}

/// The metrics of `minimal` and `standard` are stable, because dashboards and alerts use them.
#[test]
fn no_stable_metric_changes_by_accident() {
    let list = text("tests/stable_metrics.txt");
    let (listed, ours) = (list.lines().filter(|line| !line.starts_with('#')), stable_metrics());
    let listed: BTreeSet<_> = listed.map(str::to_owned).collect();
    let ours: BTreeSet<_> = ours.into_iter().collect();
    let removed: Vec<_> = listed.difference(&ours).collect();
    assert!(removed.is_empty(), "only a major version may change or remove stable metrics: {removed:#?}");
    let new: Vec<_> = ours.difference(&listed).collect();
    assert!(
        new.is_empty(),
        "add these metrics to tests/stable_metrics.txt; they are stable from then on: {new:#?}"
    );
}

/// A tree that `release-checks.sh` accepts: this one, with the contact and the heading of the changelog that a release needs.
fn releasable(parent: &Path) -> PathBuf {
    let tree = parent.join("tree");
    std::fs::create_dir(&tree).unwrap();
    let mut copy = Command::new("cp");
    copy.current_dir(root()).arg("-r").args([
        "scripts",
        "istio",
        "envoy",
        "charts",
        "docs",
        "Cargo.toml",
        "LICENSE",
        "SUPPORT.md",
    ]);
    assert!(copy.arg(&tree).status().unwrap().success());
    let replaced = text("SECURITY.md").replace("CONTACT-NOT-SET.", "security@example.org.");
    std::fs::write(tree.join("SECURITY.md"), replaced).unwrap();
    std::fs::write(tree.join("CHANGELOG.md"), format!("## [{VERSION}] - 2026-12-24\n")).unwrap();
    tree
}

/// Problems that keep a tree from being released. Empty if there are none.
fn release_problems(tree: &Path, tag: &str) -> String {
    let output =
        Command::new(tree.join("scripts/release-checks.sh")).arg(tag).output().expect("release-checks.sh");
    let problems = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.success(), problems.is_empty(), "{problems}");
    problems
}

#[test]
fn a_release_stops_at_what_is_not_ready() {
    let parent = tempfile::tempdir().unwrap();
    let tree = releasable(parent.path());
    let tag = format!("v{VERSION}");
    assert_eq!(release_problems(&tree, &tag), "");
    assert!(release_problems(&tree, "v99.0.0").contains("the tag is v99.0.0"));

    let broken = |file: &str, from: &str, to: &str, why: &str| {
        let path = tree.join(file);
        let right = std::fs::read_to_string(&path).unwrap();
        assert!(right.contains(from), "{file} has no {from}");
        std::fs::write(&path, right.replace(from, to)).unwrap();
        let problems = release_problems(&tree, &tag);
        assert!(problems.contains(why) && problems.lines().count() == 1, "{file}: {problems}");
        std::fs::write(&path, right).unwrap();
    };
    broken("SECURITY.md", "security@example.org", "CONTACT-NOT-SET", "no security contact");
    broken("SECURITY.md", "Security contact: ", "", "no security contact");
    broken("CHANGELOG.md", VERSION, "99.0.0", "CHANGELOG.md has no heading");
    broken("docs/upgrade.md", &format!("## To {VERSION}"), "## To 99.0.0", "docs/upgrade.md has no heading");
    broken("istio/native/deployment.yaml", &"0".repeat(64), &"1".repeat(64), "a manifest names an image");
    broken("istio/base/wasmplugin.yaml", &"0".repeat(64), &"1".repeat(64), "a manifest names an image");
    std::fs::remove_file(tree.join("SUPPORT.md")).unwrap();
    assert!(release_problems(&tree, &tag).contains("SUPPORT.md is missing"));
}

/// `make release DRY=1` runs each script of the release workflow, and lists the programs that it cannot run.
#[test]
fn the_dry_run_has_each_step_of_the_workflow() {
    let (workflow, dry) = (text(".github/workflows/release.yaml"), text("scripts/release-dry.sh"));
    let script = Regex::new(r"scripts/[a-z-]+\.sh").unwrap();
    let steps: BTreeSet<_> = script.find_iter(&workflow).map(|found| found.as_str()).collect();
    assert_eq!(steps.len(), 8, "{steps:?}");
    for step in steps {
        assert!(dry.contains(step), "{step}");
    }
    let (_, not_run) = dry.split_once("step \"not run").unwrap();
    let program = Regex::new(r"(?m)^ *(?:- run: )?(make [a-z]+|gh release create)").unwrap();
    let programs: BTreeSet<_> = program.captures_iter(&workflow).map(|found| found[1].to_owned()).collect();
    assert_eq!(programs.len(), 2, "{programs:?}");
    for program in programs {
        assert!(not_run.contains(&program), "{program}");
    }
}

#[test]
fn the_notes_of_a_release_are_its_part_of_the_changelog() {
    let parent = tempfile::tempdir().unwrap();
    let tree = releasable(parent.path());
    let changelog = format!(
        "# Changelog\n\n## [Unreleased]\n\n- later\n\n## [{VERSION}] - 2026-12-24\n\n### Added\n\n- [a page](docs/a.md#b), \
         [another](https://example.org/a)\n\n## [0.0.1] - 2026-01-01\n\n- older\n"
    );
    std::fs::write(tree.join("CHANGELOG.md"), changelog).unwrap();
    let notes = |tag: &str| Command::new(tree.join("scripts/release-notes.sh")).arg(tag).output().unwrap();
    let tag = format!("v{VERSION}");
    let text = stdout(&notes(&tag));
    let at = format!("https://github.com/firstword/firstword/blob/{tag}");
    assert!(text.starts_with("### Added\n\n- [a page]("), "{text}");
    assert!(
        text.contains(&format!("- [a page]({at}/docs/a.md#b), [another](https://example.org/a)\n")),
        "{text}"
    );
    assert!(text.contains("### Upgrade\n\n") && text.contains(&format!("({at}/CHANGELOG.md)")), "{text}");
    assert!(text.ends_with(&format!("[verify this release]({at}/docs/verify-release.md).")), "{text}");
    assert!(!text.contains("later") && !text.contains("older"), "{text}");
    assert!(!notes("v99.0.0").status.success());
}
