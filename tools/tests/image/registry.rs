//! The images of a registry, for the tests.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use firstword_testing::registry::{self, crane};

/// A running registry. When it is dropped, it ends.
pub struct Registry(registry::Registry);

impl Registry {
    pub fn start() -> Self {
        Self(registry::Registry::start())
    }

    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.0.port())
    }

    fn crane(&self, arguments: &[&str]) -> String {
        self.0.crane(arguments)
    }

    /// Pushes the image of a layout.
    pub fn push(&self, layout: &Path, repository: &str, tag: &str) {
        let image = format!("{}/{repository}:{tag}", self.host());
        self.crane(&["push", layout.to_str().expect("a path"), &image]);
    }

    /// The digest of the manifest, with its algorithm.
    pub fn digest(&self, repository: &str, tag: &str) -> String {
        self.crane(&["digest", &format!("{}/{repository}:{tag}", self.host())])
    }

    /// The configuration of the image for one processor.
    pub fn config(&self, repository: &str, tag: &str, processor: &str) -> Value {
        let image = format!("{}/{repository}:{tag}", self.host());
        let text = self.crane(&["config", "--platform", &format!("linux/{processor}"), &image]);
        serde_json::from_str(&text).expect("JSON")
    }

    /// A tar archive of the files of the image for one processor.
    pub fn files(&self, repository: &str, tag: &str, processor: &str) -> Vec<u8> {
        let image = format!("{}/{repository}:{tag}", self.host());
        let platform = format!("linux/{processor}");
        let output = Command::new(crane()).args(["export", "--platform", &platform, &image, "-"]).output();
        let output = output.expect("crane");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    }

    pub fn manifest(&self, repository: &str, tag: &str) -> Value {
        let text = self.crane(&["manifest", &format!("{}/{repository}:{tag}", self.host())]);
        serde_json::from_str(&text).expect("JSON")
    }

    /// The descriptor of the manifest, for an index.
    pub fn manifest_descriptor(&self, repository: &str, tag: &str) -> Value {
        let text = self.crane(&["manifest", &format!("{}/{repository}:{tag}", self.host())]);
        let media_type = &self.manifest(repository, tag)["mediaType"];
        json!({"mediaType": media_type, "digest": self.digest(repository, tag), "size": text.len()})
    }

    /// Stores a manifest or an index unchanged. Returns its digest.
    pub fn put(&self, repository: &str, tag: &str, manifest: &Value) -> String {
        let url = format!("http://{}/v2/{repository}/manifests/{tag}", self.host());
        let config = ureq::Agent::config_builder().proxy(None).build();
        let media_type = manifest["mediaType"].as_str().expect("a media type");
        let response =
            ureq::Agent::from(config).put(&url).header("content-type", media_type).send(manifest.to_string());
        response.unwrap_or_else(|e| panic!("{url}: {e}"));
        self.digest(repository, tag)
    }
}
