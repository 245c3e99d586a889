//! Every manifest and overlay of `istio/` through kubectl, the API server and istiod's webhook.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::documents::UNDECLARED;
use crate::mesh::Mesh;
use crate::report::Report;
use firstword_testing::root;

pub const STEP: &str = "manifests";

/// Files that are patches of a user's own objects.
const PATCHES: [(&str, &str); 6] = [
    ("components/pod-annotations/annotations.yaml", "deployment/app -n default"),
    ("native/deployment.yaml", "deployment/app -n default"),
    ("overlays/configmap/mount.yaml", "deployment/app -n default"),
    ("scenarios/tls-bridge/deployment.yaml", "deployment/app -n default"),
    ("scenarios/tls-origination/deployment.yaml", "deployment/app -n default"),
    ("scenarios/undeclared-port/service-port.yaml", "service/mysql -n db"),
];
const OVERLAYS: [&str; 5] =
    ["base", "envoyfilter", "overlays/example", "overlays/envoyfilter", "overlays/configmap"];
/// Istiod's warning about each EnvoyFilter.
const EXPECTED_WARNING: &str = "EnvoyFilter exposes internal implementation details";

pub fn run(mesh: &Mesh<'_>, report: &mut Report) {
    refused(mesh, report);
    accepted(mesh, report);
    overlays(mesh, report);
    analyzed(mesh, report);
    mesh.reset();
}

/// The webhook is in the path: it refuses what no schema can.
fn refused(mesh: &Mesh<'_>, report: &mut Report) {
    let wrong = mesh
        .manifest("scenarios/gateway/gateway.yaml")
        .replace("port: {number: 3306}}", "port: {number: 99999}}");
    let error =
        mesh.lab.kubectl.attempt(&["apply", "--dry-run=server", "-f", "-"], &wrong).expect_err("a port");
    let expected = "admission webhook \"validation.istio.io\" denied the request";
    assert!(error.contains(expected) || error.contains("rev.validation.istio.io"), "{error}");
    report.add(STEP, "Istiod's webhook validates", "refused: a VirtualService with port 99999");
}

/// The manifests, as paths in `istio/`. Without files that only kustomize reads, and without patches.
fn manifests() -> Vec<String> {
    let mut found = Vec::new();
    collect(&root().join("istio"), &mut found);
    let name = |path: PathBuf| path.strip_prefix(root().join("istio")).expect("below").display().to_string();
    let mut names: Vec<_> = found.into_iter().map(name).collect();
    names.retain(|name| PATCHES.iter().all(|(patch, _)| name != patch));
    names.sort();
    names
}

fn collect(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(directory).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            collect(&path, found);
        } else if path.extension().is_some_and(|end| end == "yaml") && !path.ends_with("kustomization.yaml") {
            found.push(path);
        }
    }
}

/// Asserts that kubectl printed no warning but the one that each EnvoyFilter gets.
fn assert_no_warning(what: &str, output: &str) {
    for line in output.lines().filter(|line| line.contains("Warning")) {
        assert!(line.contains(EXPECTED_WARNING), "{what}: {line}");
    }
}

fn accepted(mesh: &Mesh<'_>, report: &mut Report) {
    let manifests = manifests();
    let mut warned = 0;
    // `service.yaml` asks for a name that no Service has.
    mesh.lab.kubectl.run(&["delete", "service", "mysql", "-n", "db"]);
    for name in &manifests {
        let file = format!("istio/{name}");
        for mode in [vec!["apply"], vec!["apply", "--server-side"]] {
            let dry = [mode.as_slice(), &["--dry-run=server", "-f", &file]].concat();
            let output = mesh.lab.kubectl.run(&dry);
            assert!(output.contains("(server dry run)"), "{file}: {output}");
            assert_no_warning(&file, &output);
            warned += usize::from(output.contains(EXPECTED_WARNING));
        }
        let validated = istioctl(mesh, &["validate", "-f", &file]);
        assert_no_warning(&file, &validated);
    }
    mesh.lab.kubectl.apply(UNDECLARED);
    for (patch, object) in PATCHES {
        let file = format!("istio/{patch}");
        let mut arguments = vec!["patch", "--dry-run=server", "--patch-file", &file];
        arguments.extend(object.split(' '));
        assert_no_warning(&file, &mesh.lab.kubectl.run(&arguments));
    }
    assert!(warned > 0, "no EnvoyFilter was warned about");
    report.add(
        STEP,
        format!(
            "Each of the {} manifests: `kubectl apply`, on the client's and on the server's side",
            manifests.len()
        ),
        "accepted; the only warning is that of each EnvoyFilter",
    );
    report.add(STEP, "The same, `istioctl validate`", "valid");
    report.add(STEP, format!("Each of the {} patches: `kubectl patch`", PATCHES.len()), "accepted");
}

fn overlays(mesh: &Mesh<'_>, report: &mut Report) {
    for overlay in OVERLAYS {
        let directory = format!("istio/{overlay}");
        let first = mesh.lab.kubectl.run(&["apply", "-k", &directory]);
        assert_no_warning(&directory, &first);
        let second = mesh.lab.kubectl.run(&["apply", "-k", &directory]);
        let changed =
            second.lines().filter(|line| !line.contains("Warning") && !line.ends_with(" unchanged"));
        assert_eq!(changed.collect::<Vec<_>>(), [""; 0], "{directory}, applied again");
        let difference = mesh.lab.kubectl.run(&["diff", "-k", &directory]);
        assert!(difference.lines().all(|line| line.contains("Warning")), "{directory}: {difference}");
        mesh.lab.kubectl.run(&["delete", "-k", &directory]);
    }
    report.add(
        STEP,
        format!("`kubectl apply -k` of {}", OVERLAYS.map(|name| format!("`{name}`")).join(", ")),
        "created; applied again: unchanged; `kubectl diff -k`: empty; deleted",
    );
}

/// The command of the README. The annotations of the pods are deprecated, and work.
fn analyzed(mesh: &Mesh<'_>, report: &mut Report) {
    let output = istioctl(mesh, &["analyze", "-n", "default"]);
    let findings: Vec<_> = output.lines().filter(|line| line.contains("[IST")).collect();
    assert!(!findings.is_empty(), "{output}");
    for finding in findings {
        assert!(finding.contains("[IST0135]") && finding.contains("extraStatTags"), "{finding}");
    }
    report.add(
        STEP,
        "`istioctl analyze -n default`, with the pod annotations",
        "exit 0; IST0135, that `extraStatTags` is deprecated",
    );
}

/// Runs istioctl, which must succeed. Returns both of its outputs.
fn istioctl(mesh: &Mesh<'_>, arguments: &[&str]) -> String {
    let mut command: Command = mesh.lab.kubectl.of(&crate::lab::program("istioctl"));
    let output = command.args(arguments).output().expect("istioctl");
    let text =
        [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    assert!(output.status.success(), "istioctl {}: {text}", arguments.join(" "));
    text
}
