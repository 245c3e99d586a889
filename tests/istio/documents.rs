//! The commands of the documents: the test runs each, or `docs/testing.md` names it and the reason.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::process::Command;

use firstword_testing::generated::{assert_section, table};
use firstword_testing::program::firstword;
use firstword_testing::{root, temp_dir};

use crate::readme::istioctl;

/// What the test does with a command.
#[derive(Clone, Copy)]
enum Treatment {
    /// Runs it, and expects this exit status.
    Run(i32),
    /// Asks make whether the target exists, because it takes minutes.
    Target,
    /// Does not run it, because `make test-cluster` does.
    Cluster,
    /// Does not run it, for this reason.
    Left(&'static str),
}

use Treatment::{Cluster, Left, Run, Target};

const WITH_KUBELETS: &str = "needs a cluster with kubelets, which no test has";

/// The treatment of each command that begins so. The first that fits decides.
const TREATMENTS: &[(&str, Treatment)] = &[
    (
        "istioctl proxy-config all deploy/app -o json | firstword doctor - --dest 55.108.108.2:10000 --fix 1",
        Run(0),
    ),
    ("istioctl proxy-config all deploy/app -o json | firstword doctor - --dest 55.108.108.2:10000", Run(1)),
    (
        "istioctl proxy-config all deploy/app -o json | firstword doctor - --dest orders.example.com",
        Left(
            "needs a name server; `crates/cli/tests/findings/names.rs` runs it with names of the configuration",
        ),
    ),
    ("istioctl proxy-config all deploy/app -o json > before.json", Run(0)),
    ("istioctl proxy-config all deploy/app -o json > after.json", Run(0)),
    ("firstword doctor --diff", Run(0)),
    (
        "firstword doctor --mesh",
        Left(
            "needs the dumps of a cluster; `crates/cli/tests/doctor/mesh.rs` runs it in a folder of its own",
        ),
    ),
    ("mkdir -p dumps", Run(0)),
    // The capture has a hazard.
    ("firstword inspect", Run(3)),
    ("firstword check-config", Run(0)),
    ("firstword schema", Run(0)),
    ("cp -r istio/overlays/envoyfilter istio/overlays/mine", Run(0)),
    ("kubectl kustomize", Run(0)),
    ("make", Target),
    ("sudo install", Left("installs into the system")),
    (
        "tcpdump",
        Left("needs the traffic of a machine; `crates/cli/tests/inspect/live.rs` records with dumpcap"),
    ),
    ("docker compose", Left("needs images of a registry; `make compose-test` runs the file")),
    ("helm template firstword", Cluster),
    ("helm push", Cluster),
    ("helm install firstword target/", Cluster),
    ("helm install firstword oci:", Cluster),
    ("kubectl diff -k istio/overlays/mine", Cluster),
    ("kubectl apply -k istio/overlays/mine", Cluster),
    ("kubectl delete -k istio/overlays/mine", Cluster),
    ("kubectl patch deployment app", Cluster),
    ("kubectl get envoyfilters,wasmplugins", Cluster),
    ("kubectl create configmap firstword-native", Cluster),
    ("kubectl", Left(WITH_KUBELETS)),
    ("istioctl", Left(WITH_KUBELETS)),
    ("curl", Left("needs an Envoy with traffic; `tests/envoy` reads the same page")),
];

/// Commands in the blocks of a document, without comments. A line that ends with a backslash goes on.
fn commands(document: &str) -> Vec<String> {
    let blocks = document.split("```sh\n").skip(1).filter_map(|rest| rest.split("```").next());
    let text = blocks.collect::<String>().replace("\\\n", " ");
    let lines = text.lines().filter_map(|line| line.split(" # ").next()).map(str::trim);
    let lines = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
}

fn treatment(command: &str) -> (&'static str, Treatment) {
    let found = TREATMENTS.iter().find(|(start, _)| command.starts_with(start));
    *found.unwrap_or_else(|| panic!("no treatment for: {command}"))
}

/// The page whose commands need a release. `tests/signatures.rs` and `make release DRY=1` run them.
const OF_A_RELEASE: &str = "verify-release.md";

/// Each other page of the book with its commands.
fn pages() -> Vec<(String, Vec<String>)> {
    let mut paths: Vec<_> = fs::read_dir(root().join("docs"))
        .expect("docs")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    paths.sort();
    let is_page = |path: &std::path::PathBuf| {
        path.extension().is_some_and(|extension| extension == "md") && !path.ends_with(OF_A_RELEASE)
    };
    let paths = paths.into_iter().filter(is_page);
    let page = |path: std::path::PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str()).expect("a name").to_owned();
        (name, commands(&fs::read_to_string(path).expect("a document")))
    };
    paths.map(page).collect()
}

#[test]
fn each_command_that_no_test_runs_is_named() {
    let mut rows = vec![["page", "command", "reason"].map(str::to_owned).to_vec()];
    let mut used = Vec::new();
    for (page, commands) in pages() {
        for command in commands {
            let (start, treatment) = treatment(&command);
            used.push(start);
            if let Left(reason) = treatment {
                let row = vec![format!("[{page}]({page})"), format!("`{command}`"), reason.to_owned()];
                if !rows.contains(&row) {
                    rows.push(row);
                }
            }
        }
    }
    for (start, _) in TREATMENTS {
        assert!(used.contains(start), "no document has a command that begins with {start}");
    }
    assert_section("docs/testing.md", "commands", &table(&rows));
}

/// A copy of the files that the commands read and write, and programs that stand in for those of a cluster.
fn workplace(directory: &Path) {
    for part in ["envoy", "istio", "tests/captures/pcap"] {
        let to = directory.join(part);
        fs::create_dir_all(to.parent().expect("a parent")).expect("a directory");
        assert!(Command::new("cp").arg("-r").arg(root().join(part)).arg(&to).status().expect("cp").success());
    }
    fs::copy(root().join("tests/captures/pcap/mysql-9.7.pcapng"), directory.join("capture.pcap"))
        .expect("a capture");
    let programs = directory.join("programs");
    fs::create_dir(&programs).expect("a directory");
    symlink(firstword(), programs.join("firstword")).expect("a link");
    let kubectl = programs.join("kubectl");
    let kustomize = root().join("target/tools/kustomize");
    let script = format!("#!/bin/sh\n[ \"$1\" = kustomize ] && exec {} build \"$2\"\n", kustomize.display());
    fs::write(&kubectl, script).expect("kubectl");
    fs::set_permissions(&kubectl, fs::Permissions::from_mode(0o755)).expect("kubectl");
}

/// `tests/cluster/printed.rs` takes commands from the documents by how they begin.
#[test]
fn the_cluster_test_runs_what_is_left_to_it() {
    let sources = fs::read_dir(root().join("tests/cluster")).expect("tests/cluster");
    let sources = sources.map(|entry| entry.expect("an entry").path()).filter(|path| path.is_file());
    let sources: Vec<_> = sources.map(|path| fs::read_to_string(path).expect("a source")).collect();
    for (start, treatment) in TREATMENTS {
        if matches!(treatment, Cluster) {
            let is_run = sources.iter().any(|source| source.contains(&format!(", \"{start}")));
            assert!(is_run, "tests/cluster runs no command that begins with {start}");
        }
    }
}

#[test]
fn the_commands_of_the_book_run_as_printed() {
    let (directory, istioctl) = (temp_dir(), istioctl());
    workplace(directory.path());
    let path = format!(
        "{}:{}:{}",
        directory.path().join("programs").display(),
        istioctl.path().display(),
        std::env::var("PATH").expect("PATH")
    );
    let mut count = 0;
    for (page, commands) in pages() {
        for command in commands {
            let (command, at, expected) = match treatment(&command).1 {
                Run(status) => (command, directory.path(), status),
                Target => (format!("{command} --dry-run"), root(), 0),
                Cluster | Left(_) => continue,
            };
            let mut shell = Command::new("sh");
            shell.args(["-c", &command]).current_dir(at).env("PATH", &path).env_remove("MAKEFLAGS");
            let output = shell.output().expect("sh");
            let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
            assert_eq!(output.status.code(), Some(expected), "{page}: {command}: {text}");
            count += 1;
        }
    }
    assert!(count >= 15, "{count}");
}
