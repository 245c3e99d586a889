//! The image of the command: one static binary and nothing else, for each processor, as an index of platforms.

use std::path::Path;

use serde_json::{Value, json};

use crate::layout::{Blobs, INDEX, MANIFEST, annotations, archive, compressed, digest, write_index};

/// Path of the binary in the image.
const BINARY: &str = "firstword";
/// A user without rights. The command only reads, and nothing in the image belongs to it.
const USER: &str = "65532:65532";

/// Replaces `directory` by a layout with the image of `binaries`, given by the name that images have for their processor.
/// Returns the digest of the index.
pub(crate) fn write(binaries: &[(&str, &[u8])], directory: &Path) -> String {
    let blobs = Blobs::create(directory);
    let manifests: Vec<_> =
        binaries.iter().map(|(processor, binary)| manifest(&blobs, processor, binary)).collect();
    let index = json!({
        "schemaVersion": 2, "mediaType": INDEX, "manifests": manifests, "annotations": annotations(),
    });
    write_index(directory, blobs.add(INDEX, index.to_string().as_bytes()))
}

/// The descriptor of the image for one processor.
fn manifest(blobs: &Blobs<'_>, processor: &str, binary: &[u8]) -> Value {
    let archive = archive(BINARY, 0o755, binary);
    let config = json!({
        "architecture": processor,
        "os": "linux",
        "config": {"Entrypoint": [format!("/{BINARY}")], "User": USER, "WorkingDir": "/"},
        "rootfs": {"type": "layers", "diff_ids": [digest(&archive)]},
    });
    let layer = blobs.add("application/vnd.oci.image.layer.v1.tar+gzip", &compressed(&archive));
    let config = blobs.add("application/vnd.oci.image.config.v1+json", config.to_string().as_bytes());
    let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [layer]});
    let mut descriptor = blobs.add(MANIFEST, manifest.to_string().as_bytes());
    descriptor["platform"] = json!({"architecture": processor, "os": "linux"});
    descriptor
}
