//! A model of Istio's agent that fetches a module from a registry (istio/istio, `pkg/wasm/cache.go` and `imagefetcher.go` at
//! 86c9f01, August 2026). It has the checks and the error texts of the agent, in the same order.

use std::io::Read;

use serde_json::Value;
use sha2::{Digest, Sha256};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const DOCKER_INDEX: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
/// Media type of a list of manifests for several platforms.
pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";
const MODULE_LAYER: &str = "application/vnd.module.wasm.content.layer.v1+wasm";

/// The module at an `oci://` URL, or the error with which the agent refuses it.
pub fn fetch(url: &str) -> Result<Vec<u8>, String> {
    let rest = url.strip_prefix("oci://").ok_or("not an oci:// URL")?;
    let (host, image) = rest.split_once('/').ok_or("no repository")?;
    let (repository, reference) = image.split_once(['@', ':']).ok_or("no reference")?;
    let base = format!("http://{host}/v2/{repository}");
    let (digest, manifest) = manifest(&base, reference)?;
    // The agent compares a digest in the URL with that of the chosen manifest, even if the URL names an index.
    if let Some(wanted) = reference.strip_prefix("sha256:").filter(|wanted| **wanted != digest) {
        return Err(format!(
            "module downloaded from {url} has checksum {digest}, which does not match: {wanted}"
        ));
    }
    let layers: Vec<_> = manifest["layers"].as_array().into_iter().flatten().collect();
    let module = if manifest["mediaType"] == DOCKER_MANIFEST {
        archived(&base, &layers, DOCKER_LAYER)?
    } else {
        let standard = archived(&base, &layers, LAYER);
        standard.or_else(|first| artifact(&base, &layers).map_err(|second| format!("{first}; {second}")))?
    };
    if module.starts_with(b"\0asm") && module.len() >= 8 { Ok(module) } else { Err("invalid binary".into()) }
}

/// The digest of the manifest, without its algorithm, and the manifest.
fn manifest(base: &str, reference: &str) -> Result<(String, Value), String> {
    let bytes = get(&format!("{base}/manifests/{reference}"))?;
    let manifest: Value = serde_json::from_slice(&bytes).map_err(|e| e.to_string())?;
    if manifest["mediaType"] == INDEX || manifest["mediaType"] == DOCKER_INDEX {
        let listed = manifest["manifests"].as_array().into_iter().flatten();
        // The agent chooses this platform on any node.
        let chosen =
            |one: &&Value| one["platform"]["os"] == "linux" && one["platform"]["architecture"] == "amd64";
        let chosen = listed.clone().find(chosen).ok_or("no child with platform linux/amd64")?;
        return self::manifest(base, chosen["digest"].as_str().ok_or("no digest")?);
    }
    Ok((format!("{:x}", Sha256::digest(&bytes)), manifest))
}

/// The file `plugin.wasm`, in any directory, of the last layer.
fn archived(base: &str, layers: &[&Value], media_type: &str) -> Result<Vec<u8>, String> {
    let layer = layers.last().ok_or("number of layers must be greater than zero")?;
    if layer["mediaType"] != media_type {
        return Err(format!("invalid media type {} (expect {media_type})", layer["mediaType"]));
    }
    let bytes = blob(base, layer)?;
    let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(bytes.as_slice()));
    for entry in archive.entries().map_err(|e| e.to_string())? {
        let mut entry = entry.map_err(|e| e.to_string())?;
        if entry.path().is_ok_and(|path| path.file_name().is_some_and(|name| name == "plugin.wasm")) {
            let mut module = Vec::new();
            entry.read_to_end(&mut module).map_err(|e| e.to_string())?;
            return Ok(module);
        }
    }
    Err("plugin.wasm not found in the archive".into())
}

/// The layer that is the module, one of two.
fn artifact(base: &str, layers: &[&Value]) -> Result<Vec<u8>, String> {
    if layers.len() != 2 {
        return Err(format!("number of layers must be 2 but got {}", layers.len()));
    }
    let layer = layers.iter().find(|layer| layer["mediaType"] == MODULE_LAYER);
    blob(base, layer.ok_or_else(|| format!("could not find the layer of type {MODULE_LAYER}"))?)
}

fn blob(base: &str, layer: &Value) -> Result<Vec<u8>, String> {
    let digest = layer["digest"].as_str().ok_or("no digest")?;
    let bytes = get(&format!("{base}/blobs/{digest}"))?;
    let is = format!("sha256:{:x}", Sha256::digest(&bytes));
    if is == digest { Ok(bytes) } else { Err(format!("{digest} is {is}")) }
}

fn get(url: &str) -> Result<Vec<u8>, String> {
    let accept = [MANIFEST, INDEX, DOCKER_MANIFEST, DOCKER_INDEX].join(",");
    let config = ureq::Agent::config_builder().proxy(None).build();
    let mut response = ureq::Agent::from(config)
        .get(url)
        .header("accept", accept)
        .call()
        .map_err(|e| format!("{url}: {e}"))?;
    response.body_mut().with_config().limit(1 << 28).read_to_vec().map_err(|e| e.to_string())
}
