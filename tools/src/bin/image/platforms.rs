//! Images with one file and nothing else, for each processor, as an index of platforms: the command, and the native module.

use std::path::Path;

use serde_json::{Value, json};

use crate::layout::{Blobs, INDEX, MANIFEST, annotations, archive, compressed, digest, write_index};

/// A user without rights. The command only reads, and nothing in the image belongs to it.
const USER: &str = "65532:65532";

/// What the image has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    /// The command, which is the image's program.
    Command,
    /// The native module, for a volume. The image has no program.
    Native,
}

impl Content {
    /// Path of the file in the image, and its mode.
    const fn file(self) -> (&'static str, u32) {
        match self {
            Self::Command => ("firstword", 0o755),
            Self::Native => ("libfirstword.so", 0o644),
        }
    }

    /// How a container of the image runs.
    fn process(self) -> Value {
        match self {
            Self::Command => {
                json!({"Entrypoint": [format!("/{}", self.file().0)], "User": USER, "WorkingDir": "/"})
            }
            Self::Native => json!({}),
        }
    }
}

/// Replaces `directory` by a layout with the image of `files`, given by the name that images have for their processor. Returns
/// the digest of the index.
pub(crate) fn write(content: Content, files: &[(&str, &[u8])], directory: &Path) -> String {
    let blobs = Blobs::create(directory);
    let manifests: Vec<_> =
        files.iter().map(|(processor, file)| manifest(&blobs, content, processor, file)).collect();
    let index = json!({
        "schemaVersion": 2, "mediaType": INDEX, "manifests": manifests, "annotations": annotations(),
    });
    write_index(directory, blobs.add(INDEX, index.to_string().as_bytes()))
}

/// The descriptor of the image for one processor.
fn manifest(blobs: &Blobs<'_>, content: Content, processor: &str, file: &[u8]) -> Value {
    let (name, mode) = content.file();
    let archive = archive(name, mode, file);
    let config = json!({
        "architecture": processor,
        "os": "linux",
        "config": content.process(),
        "rootfs": {"type": "layers", "diff_ids": [digest(&archive)]},
    });
    let layer = blobs.add("application/vnd.oci.image.layer.v1.tar+gzip", &compressed(&archive));
    let config = blobs.add("application/vnd.oci.image.config.v1+json", config.to_string().as_bytes());
    let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [layer]});
    let mut descriptor = blobs.add(MANIFEST, manifest.to_string().as_bytes());
    descriptor["platform"] = json!({"architecture": processor, "os": "linux"});
    descriptor
}
