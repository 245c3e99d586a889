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

/// Platforms of the archives, and the names that krew has for them.
const PLATFORMS: [(&str, &str); 4] = [
    ("linux-x86_64", "linux-amd64"),
    ("linux-aarch64", "linux-arm64"),
    ("darwin-x86_64", "darwin-amd64"),
    ("darwin-aarch64", "darwin-arm64"),
];

/// Packs the command of this build, and stand-ins for the other platforms.
fn pack(directory: &Path) {
    // Without debug information, which takes a minute to compress.
    let firstword = directory.join("stripped");
    let built = assert_cmd::cargo::cargo_bin("firstword");
    assert!(Command::new("strip").arg("-o").arg(&firstword).arg(built).status().expect("strip").success());
    let other = directory.join("other");
    std::fs::write(&other, "for another processor").unwrap();
    let binaries = PLATFORMS.map(|(platform, _)| {
        let is_own = platform == format!("linux-{}", std::env::consts::ARCH);
        format!("{platform}={}", if is_own { &firstword } else { &other }.display())
    });
    let output = Command::new(root().join("scripts/archives.sh"))
        .arg(directory.join("dist"))
        .arg(root().join("LICENSE"))
        .args(binaries)
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
    for (platform, _) in PLATFORMS {
        let folder = format!("firstword-{VERSION}-{platform}");
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
    assert_eq!(platforms.len(), PLATFORMS.len());
    for (platform, (_, name)) in platforms.iter().zip(PLATFORMS) {
        let labels = &platform["selector"]["matchLabels"];
        assert_eq!(format!("{}-{}", labels["os"].as_str().unwrap(), labels["arch"].as_str().unwrap()), name);
        let archive = format!("kubectl-firstword-{name}.tar.gz");
        assert!(platform["uri"].as_str().unwrap().ends_with(&format!("/v{VERSION}/{archive}")));
        assert_eq!(platform["sha256"], sha256(&dist.join(&archive)));
        assert_eq!(platform["bin"], "kubectl-firstword");
        assert_eq!(names(&dist.join(archive)), ["LICENSE", "LICENSES.txt", "kubectl-firstword"]);
    }
}

/// They run krew and its own check of manifests.
mod needs_krew {
    use std::path::Path;
    use std::process::{Command, Output};

    use firstword_testing::root;

    use super::{PLATFORMS, VERSION, pack};

    /// Runs a program of krew as on this platform. `platform` is also the folder into which it installs.
    fn krew(program: &str, home: &Path, platform: &str, arguments: &[&str]) -> Output {
        let (os, arch) = platform.split_once('-').unwrap();
        let mut krew = Command::new(root().join("target/tools").join(program));
        krew.args(arguments).current_dir(home).env("HOME", home).env("KREW_ROOT", home.join(platform));
        krew.env("KREW_OS", os).env("KREW_ARCH", arch).output().expect("krew; run: make tools-istio")
    }

    fn printed(output: &Output) -> String {
        String::from_utf8_lossy(&[&output.stdout[..], &output.stderr[..]].concat()).into_owned()
    }

    #[test]
    #[ignore = "needs krew"]
    fn krew_installs_the_plugin_and_refuses_another_archive() {
        let directory = tempfile::tempdir().unwrap();
        let home = directory.path();
        pack(home);
        // In krew's index a manifest has the name of its plugin.
        std::fs::copy(home.join("dist/firstword.krew.yaml"), home.join("firstword.yaml")).unwrap();
        let check = ["-manifest", "firstword.yaml", "-skip-install"];
        let validate = || krew("validate-krew-manifest", home, "linux-amd64", &check);
        let output = validate();
        assert!(output.status.success(), "{}", printed(&output));
        assert!(printed(&output).contains("structural validation OK"), "{}", printed(&output));

        let install = |platform: &str, archive: &str| {
            let archive = format!("--archive=dist/kubectl-firstword-{archive}.tar.gz");
            krew("krew", home, platform, &["install", "--manifest=firstword.yaml", &archive])
        };
        let refused = install("linux-amd64", "linux-arm64");
        assert!(!refused.status.success() && printed(&refused).contains("checksum"), "{}", printed(&refused));
        for (_, platform) in PLATFORMS {
            let output = install(platform, platform);
            assert!(output.status.success(), "{}", printed(&output));
            let store = home.join(platform).join("store/firstword").join(format!("v{VERSION}"));
            for file in ["kubectl-firstword", "LICENSE", "LICENSES.txt"] {
                assert!(store.join(file).exists(), "{file}");
            }
        }
        // krew's link, by which kubectl finds the plugin.
        let own = if cfg!(target_arch = "x86_64") { "linux-amd64" } else { "linux-arm64" };
        let plugin = home.join(own).join("bin/kubectl-firstword");
        let output = Command::new(plugin).args(["doctor", "-h"]).output().unwrap();
        assert!(printed(&output).contains("Usage: kubectl firstword doctor"), "{}", printed(&output));

        let manifest = std::fs::read_to_string(home.join("firstword.yaml")).unwrap();
        std::fs::write(home.join("firstword.yaml"), manifest.replace("sha256: ", "sha256: x")).unwrap();
        assert!(!validate().status.success(), "a checksum that is none");
    }
}
