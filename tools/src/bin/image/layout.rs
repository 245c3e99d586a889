//! OCI image layouts of the image specification 1.1, in the two forms that Istio's agent accepts (`pkg/wasm/imagefetcher.go`):
//!
//! - an image whose last layer, a compressed archive, holds `plugin.wasm`;
//! - an artifact of exactly two layers, one of which is the module itself.
//!
//! Each has one manifest and no index of platforms. With an index the digest in a WasmPlugin's URL would be that of the index,
//! and the agent would compare it with that of the manifest.

use std::io::Write;
use std::path::Path;

use flate2::{Compression, GzBuilder};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

pub(crate) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// The proxy-wasm ABI of the SDK, which the module exports as `proxy_abi_version_0_2_1`.
const ABI: &str = "0.2.1";
const DESCRIPTION: &str =
    "Finds out why MySQL hangs behind Istio or Envoy, and shows what services do to MySQL";

/// Form of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// A container image without an operating system. Every registry accepts it.
    Image,
    /// The artifact of the Wasm Artifact Image Specification.
    Artifact,
}

/// Replaces `directory` by a layout with one image. Returns the manifest's digest.
pub(crate) fn write(form: Form, module: &[u8], directory: &Path) -> String {
    let blobs = Blobs::create(directory);
    let (config, layers) = match form {
        Form::Image => image(&blobs, module),
        Form::Artifact => artifact(&blobs, module),
    };
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": config,
        "layers": layers,
        "annotations": annotations(),
    });
    write_index(directory, blobs.add(MANIFEST, manifest.to_string().as_bytes()))
}

/// Annotations of an image.
pub(crate) fn annotations() -> Value {
    json!({
        "org.opencontainers.image.title": "firstword",
        "org.opencontainers.image.description": DESCRIPTION,
        // Registries link an image to its repository by this one.
        "org.opencontainers.image.source": "https://github.com/firstword/firstword",
        "org.opencontainers.image.version": env!("CARGO_PKG_VERSION"),
        "org.opencontainers.image.licenses": env!("CARGO_PKG_LICENSE"),
    })
}

/// Writes the files of a layout that name its only image. Returns the image's digest.
pub(crate) fn write_index(directory: &Path, mut descriptor: Value) -> String {
    let digest = descriptor["digest"].as_str().expect("a digest").to_owned();
    // The tag, for tools that copy by it.
    let tag = concat!("v", env!("CARGO_PKG_VERSION"));
    descriptor["annotations"] = json!({"org.opencontainers.image.ref.name": tag});
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [descriptor]});
    for (name, content) in [("oci-layout", json!({"imageLayoutVersion": "1.0.0"})), ("index.json", index)] {
        std::fs::write(directory.join(name), content.to_string()).expect("a file of the layout");
    }
    digest
}

/// The descriptors of the configuration and of the layers.
fn image(blobs: &Blobs, module: &[u8]) -> (Value, Vec<Value>) {
    let archive = archive("plugin.wasm", 0o644, module);
    let config = json!({
        // A module runs on any platform, and Istio's agent requests this one everywhere.
        "architecture": "amd64",
        "os": "linux",
        "config": {},
        "rootfs": {"type": "layers", "diff_ids": [digest(&archive)]},
    });
    let layer = blobs.add("application/vnd.oci.image.layer.v1.tar+gzip", &compressed(&archive));
    (blobs.add("application/vnd.oci.image.config.v1+json", config.to_string().as_bytes()), vec![layer])
}

/// The descriptors of the configuration and of the layers. The first layer describes the module's host, and is the
/// configuration too.
fn artifact(blobs: &Blobs, module: &[u8]) -> (Value, Vec<Value>) {
    let runtime = json!({"type": "envoy_proxy", "abiVersions": [ABI], "config": {"rootIds": ["firstword"]}});
    let runtime = blobs.add("application/vnd.module.wasm.config.v1+json", runtime.to_string().as_bytes());
    let module = blobs.add("application/vnd.module.wasm.content.layer.v1+wasm", module);
    let titled = |mut layer: Value, title: &str| {
        layer["annotations"] = json!({"org.opencontainers.image.title": title});
        layer
    };
    (runtime.clone(), vec![titled(runtime, "runtime-config.json"), titled(module, "plugin.wasm")])
}

/// A tar archive with one file of the user root, without a time.
pub(crate) fn archive(name: &str, mode: u32, content: &[u8]) -> Vec<u8> {
    let mut header = tar::Header::new_ustar();
    header.set_size(u64::try_from(content.len()).expect("a size"));
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    let mut archive = tar::Builder::new(Vec::new());
    archive.append_data(&mut header, name, content).expect("an archive in memory");
    archive.into_inner().expect("an archive in memory")
}

pub(crate) fn compressed(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzBuilder::new().write(Vec::new(), Compression::best());
    encoder.write_all(bytes).expect("memory");
    encoder.finish().expect("memory")
}

pub(crate) fn digest(bytes: &[u8]) -> String {
    format!("sha256:{:x}", Sha256::digest(bytes))
}

/// The blobs of a layout.
pub(crate) struct Blobs<'a> {
    directory: &'a Path,
}

impl<'a> Blobs<'a> {
    /// Replaces `directory` by one without blobs.
    pub(crate) fn create(directory: &'a Path) -> Self {
        if directory.exists() {
            std::fs::remove_dir_all(directory).expect("the old layout removed");
        }
        std::fs::create_dir_all(directory.join("blobs/sha256")).expect("a directory for the layout");
        Self { directory }
    }

    /// Stores a blob under its digest. Returns its descriptor.
    pub(crate) fn add(&self, media_type: &str, bytes: &[u8]) -> Value {
        let digest = digest(bytes);
        let path = self.directory.join("blobs").join(digest.replace(':', "/"));
        std::fs::write(path, bytes).expect("a blob of the layout");
        json!({"mediaType": media_type, "digest": digest, "size": bytes.len()})
    }
}
