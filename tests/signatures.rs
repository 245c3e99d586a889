//! Signatures and provenance of a release: the commands of `docs/verify-release.md` accept what `scripts/sign.sh` has signed, and
//! refuse a changed byte, another key and another digest. `make release DRY=1` runs them on the whole release.

// A test and its helpers report through a panic.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

/// They run cosign, a registry and Helm.
mod needs_cosign {
    use std::collections::BTreeMap;
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::path::{Path, PathBuf};
    use std::process::{Command, Output};

    use firstword_testing::registry::Registry;
    use firstword_testing::root;

    const TAG: &str = concat!("v", env!("CARGO_PKG_VERSION"));
    const SECTIONS: [&str; 5] =
        ["Checksums and their signature", "Provenance of the files", "Images", "Lists of packages", "Chart"];

    fn run(command: &mut Command) -> String {
        let output = command.output().unwrap();
        assert!(output.status.success(), "{command:?}: {}", printed(&output));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    fn printed(output: &Output) -> String {
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
    }

    /// The native module among the files of a release.
    fn native() -> String {
        format!("libfirstword-{}-linux-x86_64.so", env!("CARGO_PKG_VERSION"))
    }

    /// What cosign prints at the end if it does not accept something.
    const COSIGN_REFUSES: &str = "error during command execution";

    /// A small release in a registry of its own, signed with a key of its own.
    struct Release {
        tree: tempfile::TempDir,
        registry: Registry,
        repository: String,
    }

    impl Release {
        fn new() -> Self {
            let tree = tempfile::tempdir().unwrap();
            let mut copy = Command::new("cp");
            let parts = ["scripts", "charts", "docs", "Cargo.toml"].map(|part| root().join(part));
            run(copy.arg("-r").args(parts).arg(tree.path()));
            fs::create_dir_all(tree.path().join("target/dist/oci")).unwrap();
            symlink(root().join("target/tools"), tree.path().join("target/tools")).unwrap();
            let registry = Registry::start();
            let repository = format!("localhost:{}/firstword/firstword", registry.port());
            let release = Self { tree, registry, repository };
            release.make_files();
            run(release.script("publish.sh").args([&release.repository, TAG]));
            for owner in ["owner", "other"] {
                fs::create_dir(release.path(owner)).unwrap();
                let mut cosign = Command::new(release.path("target/tools/cosign"));
                cosign.arg("generate-key-pair").current_dir(release.path(owner)).env("COSIGN_PASSWORD", "");
                run(&mut cosign);
            }
            let mut sign = release.script("sign.sh");
            sign.env("COSIGN_PASSWORD", "").env("COSIGN_KEY", release.path("owner/cosign.key"));
            run(sign.args([&release.repository, TAG]));
            release
        }

        fn path(&self, path: &str) -> PathBuf {
            self.tree.path().join(path)
        }

        fn script(&self, name: &str) -> Command {
            let mut script = Command::new(self.path("scripts").join(name));
            script.env_remove("GITHUB_WORKFLOW_REF").env_remove("COSIGN_KEY").env_remove("DIST");
            script
        }

        /// Pushes an image with one file to the repository, or to one whose name goes on. Returns its digest.
        fn push_to(&self, of: &str, name: &str, file: &str, content: &str) -> String {
            let directory = tempfile::tempdir().unwrap();
            fs::write(directory.path().join(file), content).unwrap();
            let layer = directory.path().join("layer.tar");
            run(Command::new("tar").arg("-cf").arg(&layer).arg("-C").arg(directory.path()).arg(file));
            let image = format!("{}{of}:{name}", self.repository);
            self.registry.crane(&[
                "append",
                "--oci-empty-base",
                "--new_layer",
                layer.to_str().unwrap(),
                "--new_tag",
                &image,
            ]);
            self.registry.crane(&["digest", &image])
        }

        /// What `scripts/release.sh` puts into target/dist, with small contents.
        fn make_files(&self) {
            let mut build = format!("firstword\ncommit {}\n", "c".repeat(40));
            let mut digests = BTreeMap::new();
            let contents = [
                ("image", "plugin.wasm", "the module\n"),
                ("artifact", "plugin.wasm", "the artifact\n"),
                ("command", "firstword", "the command\n"),
                ("native", "libfirstword.so", "the native module\n"),
            ];
            for (layout, file, content) in contents {
                let digest = self.push_to("", layout, file, content);
                let image = format!("{}@{digest}", self.repository);
                let directory = self.path(&format!("target/dist/oci/{layout}"));
                self.registry.crane(&["pull", "--format", "oci", &image, directory.to_str().unwrap()]);
                build += &format!("oci/{layout}    {digest}\n");
                digests.insert(layout, digest);
            }
            let dist = self.path("target/dist");
            fs::write(dist.join("BUILD.txt"), build).unwrap();
            fs::write(dist.join("firstword.wasm"), "the module\n").unwrap();
            fs::write(dist.join(native()), "the native module\n").unwrap();
            let component = r#"{"type": "library", "name": "nom", "version": "8"}"#;
            let packages = format!(
                r#"{{"bomFormat": "CycloneDX", "specVersion": "1.5", "version": 1, "components": [{component}]}}"#
            );
            for list in ["sbom.cdx.json", "sbom-command.cdx.json", "sbom-native.cdx.json"] {
                fs::write(dist.join(list), &packages).unwrap();
            }
            let mut chart = self.script("chart.sh");
            chart.env("IMAGE_REPOSITORY", &self.repository);
            for (name, layout) in [("IMAGE_DIGEST", "image"), ("NATIVE_DIGEST", "native")] {
                chart.env(name, digests.get(layout).unwrap());
            }
            run(chart.arg(&dist));
            let sums = "find . -maxdepth 1 -type f | sed 's|^\\./||' | xargs sha256sum >../SHA256SUMS";
            run(Command::new("sh").args(["-c", sums]).current_dir(&dist));
            fs::rename(self.path("target/SHA256SUMS"), dist.join("SHA256SUMS")).unwrap();
        }

        /// A folder with the files of the release, as a user downloads them.
        fn download(&self) -> tempfile::TempDir {
            let directory = tempfile::tempdir().unwrap();
            for entry in fs::read_dir(self.path("target/dist")).unwrap().map(Result::unwrap) {
                if entry.file_type().unwrap().is_file() {
                    fs::copy(entry.path(), directory.path().join(entry.file_name())).unwrap();
                }
            }
            directory
        }

        /// Runs the commands of a section. `Err` has what they print if one of them fails.
        fn verify(&self, directory: &Path, owner: &str, section: &str) -> Result<(), String> {
            let mut verify = self.script("verify.sh");
            verify.arg(directory).args([&self.repository, TAG]).arg(self.path(owner).join("cosign.pub"));
            let output = verify.arg(section).output().unwrap();
            if output.status.success() { Ok(()) } else { Err(printed(&output)) }
        }

        /// Asserts that a section refuses the files after a change, for this reason.
        fn refuses(&self, section: &str, change: impl FnOnce(&Path), reason: &str) {
            let directory = self.download();
            change(directory.path());
            let refused = self.verify(directory.path(), "owner", section);
            let refused = refused.expect_err(&format!("{section} accepts it"));
            assert!(refused.contains(reason), "{section}: {refused}");
        }
    }

    /// Changes the byte after the first `marker` of a file.
    fn change_byte(file: &Path, marker: &str) {
        let mut bytes = fs::read(file).unwrap();
        let text = String::from_utf8(bytes.clone()).unwrap();
        let byte = bytes.get_mut(text.find(marker).unwrap().checked_add(marker.len()).unwrap()).unwrap();
        *byte = if *byte == b'A' { b'B' } else { b'A' };
        fs::write(file, bytes).unwrap();
    }

    fn replace(file: &Path, from: &str, to: &str) {
        let text = fs::read_to_string(file).unwrap();
        assert!(text.contains(from), "{} has no {from}", file.display());
        fs::write(file, text.replace(from, to)).unwrap();
    }

    #[test]
    #[ignore = "needs cosign, crane and Helm"]
    fn the_documented_commands_accept_a_release_of_its_owner_only() {
        let release = Release::new();
        for section in SECTIONS {
            let directory = release.download();
            assert_eq!(release.verify(directory.path(), "owner", section), Ok(()), "{section}");
            let refused = release.verify(release.download().path(), "other", section);
            assert!(refused.is_err_and(|why| why.contains(COSIGN_REFUSES)), "{section}: another key");
        }
        // Without a list of sections, all of them.
        let mut all = release.script("verify.sh");
        let directory = release.download();
        all.arg(directory.path()).args([&release.repository, TAG]).arg(release.path("owner/cosign.pub"));
        let text = run(&mut all);
        let ran = text.lines().filter_map(|line| line.strip_prefix("verify.sh: "));
        assert_eq!(ran.collect::<Vec<_>>(), SECTIONS);
    }

    #[test]
    #[ignore = "needs cosign, crane and Helm"]
    fn a_changed_byte_is_refused() {
        let release = Release::new();
        let [checksums, provenance, images, packages, chart] = SECTIONS;
        let module = |directory: &Path| change_byte(&directory.join("firstword.wasm"), "the ");
        release.refuses(checksums, module, "firstword.wasm: FAILED");
        release.refuses(provenance, module, COSIGN_REFUSES);
        release.refuses(images, module, "differ");
        release.refuses(images, |directory| change_byte(&directory.join(native()), "the "), "differ");
        // Who changes a file can also write its checksum, but not the signature.
        let with_checksum = |directory: &Path| {
            module(directory);
            let sums = "sha256sum $(cut -d' ' -f3 SHA256SUMS) >new && mv new SHA256SUMS";
            run(Command::new("sh").args(["-c", sums]).current_dir(directory));
        };
        release.refuses(checksums, with_checksum, COSIGN_REFUSES);
        let payload =
            |directory: &Path| change_byte(&directory.join("provenance.sigstore.json"), "\"payload\":\"");
        release.refuses(provenance, payload, COSIGN_REFUSES);
        for list in ["sbom.cdx.json", "sbom-command.cdx.json", "sbom-native.cdx.json"] {
            release.refuses(packages, |directory| replace(&directory.join(list), "nom", "mon"), "differ");
        }
        let archive = format!("firstword-{}.tgz", env!("CARGO_PKG_VERSION"));
        release.refuses(chart, |directory| fs::write(directory.join(&archive), "another").unwrap(), "differ");
    }

    #[test]
    #[ignore = "needs cosign, crane and Helm"]
    fn a_digest_that_was_not_signed_is_refused() {
        let release = Release::new();
        let [_, provenance, images, packages, chart] = SECTIONS;
        // The same module, so that only the signature can tell the images apart.
        let unsigned = release.push_to("", "unsigned", "plugin.wasm", "the module\nagain\n");
        let unsigned_native =
            release.push_to("-native", "unsigned", "libfirstword.so", "the native module\nagain\n");
        for (layout, other) in [("oci/image ", &unsigned), ("oci/native ", &unsigned_native)] {
            let digest = |directory: &Path| {
                let build = directory.join("BUILD.txt");
                let text = fs::read_to_string(&build).unwrap();
                let ours = text.lines().find_map(|line| line.strip_prefix(layout)).unwrap().trim().to_owned();
                replace(&build, &ours, other);
            };
            release.refuses(images, digest, COSIGN_REFUSES);
            release.refuses(packages, digest, COSIGN_REFUSES);
            release.refuses(chart, digest, "refused in the section");
        }
        // A file that the release does not have.
        release.refuses(
            provenance,
            |directory| fs::write(directory.join("firstword.wasm"), "").unwrap(),
            COSIGN_REFUSES,
        );
    }
}
