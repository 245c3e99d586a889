//! The archives of a release, and the manifest with which krew installs `kubectl firstword`.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers of tests, too"
)]

use std::path::Path;
use std::process::Command;

use firstword_testing::root;
use serde_json::Value;

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Packs the command of this build, and a stand-in for the other processor.
fn pack(directory: &Path) {
    // Without debug information, which takes a minute to compress.
    let firstword = directory.join("stripped");
    let built = assert_cmd::cargo::cargo_bin("firstword");
    assert!(Command::new("strip").arg("-o").arg(&firstword).arg(built).status().expect("strip").success());
    let other = directory.join("other");
    std::fs::write(&other, "for another processor").unwrap();
    let (x86_64, aarch64) =
        if cfg!(target_arch = "x86_64") { (&firstword, &other) } else { (&other, &firstword) };
    let output = Command::new(root().join("scripts/archives.sh"))
        .arg(directory.join("dist"))
        .args([x86_64, aarch64, &root().join("LICENSE")])
        .output()
        .expect("archives.sh");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Names in an archive.
fn names(archive: &Path) -> Vec<String> {
    let output = Command::new("tar").arg("-tzf").arg(archive).output().expect("tar");
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

fn sha256(file: &Path) -> String {
    let output = Command::new("sha256sum").arg(file).output().expect("sha256sum");
    String::from_utf8(output.stdout).unwrap().split(' ').next().unwrap().to_owned()
}

#[test]
fn the_archives_have_the_command_and_what_describes_it() {
    let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    pack(first.path());
    pack(second.path());
    let dist = first.path().join("dist");
    for processor in ["x86_64", "aarch64"] {
        let folder = format!("firstword-{VERSION}-linux-{processor}");
        let archive = dist.join(format!("{folder}.tar.gz"));
        let names = names(&archive);
        for file in
            ["firstword", "LICENSE", "LICENSES.txt", "man/firstword-doctor.1", "completions/firstword.zsh"]
        {
            assert!(names.contains(&format!("{folder}/{file}")), "{file}: {names:?}");
        }
    }
    for file in std::fs::read_dir(&dist).unwrap() {
        let name = file.unwrap().file_name();
        let same = std::fs::read(dist.join(&name)).unwrap()
            == std::fs::read(second.path().join("dist").join(&name)).unwrap();
        assert!(same, "{name:?}: other bytes from the same binaries");
    }

    // The plugin runs as kubectl would run it.
    let machine = if cfg!(target_arch = "x86_64") { "amd64" } else { "arm64" };
    let plugin = dist.join(format!("kubectl-firstword-linux-{machine}.tar.gz"));
    assert!(Command::new("tar").arg("-xzf").arg(&plugin).arg("-C").arg(&dist).status().unwrap().success());
    let output = Command::new(dist.join("kubectl-firstword")).arg("--version").output().unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap().trim(), format!("firstword {VERSION}"));
}

#[test]
fn the_manifest_of_the_plugin_names_its_archives() {
    let directory = tempfile::tempdir().unwrap();
    pack(directory.path());
    let dist = directory.path().join("dist");
    let manifest = std::fs::read_to_string(dist.join("firstword.krew.yaml")).unwrap();
    let manifest: Value = serde_norway::from_str(&manifest).expect("YAML");
    assert_eq!(manifest["metadata"]["name"], "firstword");
    let spec = &manifest["spec"];
    assert_eq!(spec["version"], format!("v{VERSION}"));
    // krew's limit.
    assert!(spec["shortDescription"].as_str().unwrap().len() <= 50);
    let platforms = spec["platforms"].as_array().unwrap();
    assert_eq!(platforms.len(), 2);
    for platform in platforms {
        assert_eq!(platform["selector"]["matchLabels"]["os"], "linux");
        let arch = platform["selector"]["matchLabels"]["arch"].as_str().unwrap();
        let archive = format!("kubectl-firstword-linux-{arch}.tar.gz");
        assert!(platform["uri"].as_str().unwrap().ends_with(&format!("/v{VERSION}/{archive}")));
        assert_eq!(platform["sha256"], sha256(&dist.join(&archive)));
        assert_eq!(platform["bin"], "kubectl-firstword");
        assert_eq!(names(&dist.join(archive)), ["LICENSE", "LICENSES.txt", "kubectl-firstword"]);
    }
}
