//! The images of `make image`: a common tool pushes them to a real registry, and a model of Istio's agent fetches them with the
//! URLs of the overlays.

// A test and its helpers report through a panic.
#![allow(
    unreachable_pub,
    clippy::arithmetic_side_effects,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used
)]

mod agent;
#[path = "../../src/bin/image/layout.rs"]
mod layout;
#[path = "../../src/bin/image/platforms.rs"]
mod platforms;
mod registry;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use agent::fetch;
use firstword_testing::{root, temp_dir, wasm};
use layout::Form;
use platforms::Content;
use registry::Registry;
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

const FORMS: [Form; 2] = [Form::Image, Form::Artifact];
const REPOSITORY: &str = "firstword/firstword";
const TAG: &str = concat!("v", env!("CARGO_PKG_VERSION"));

fn module() -> Vec<u8> {
    std::fs::read(wasm()).unwrap()
}

/// Starts a registry, and pushes one form of the module to it. Returns the registry and the digest.
fn push(form: Form) -> (Registry, String) {
    let registry = Registry::start();
    let directory = temp_dir();
    let digest = layout::write(form, &module(), directory.path());
    registry.push(directory.path(), REPOSITORY, TAG);
    (registry, digest)
}

/// The content of the files in a directory, by path.
fn files(directory: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if path.is_dir() {
            let inside = files(&path).into_iter().map(|(inner, bytes)| (format!("{name}/{inner}"), bytes));
            found.extend(inside);
        } else {
            found.insert(name, std::fs::read(&path).unwrap());
        }
    }
    found
}

fn written(form: Form, module: &[u8]) -> (String, BTreeMap<String, Vec<u8>>) {
    let directory = temp_dir();
    // The layout replaces old files.
    std::fs::write(directory.path().join("old"), "").unwrap();
    (layout::write(form, module, directory.path()), files(directory.path()))
}

fn parsed(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).expect("JSON")
}

#[test]
fn the_same_module_makes_the_same_image() {
    let module = module();
    for form in FORMS {
        let first = written(form, &module);
        assert_eq!(first, written(form, &module), "{form:?}");
        let mut other = module.clone();
        *other.last_mut().unwrap() ^= 1;
        assert_ne!(first.0, written(form, &other).0, "{form:?}");
    }
}

/// A layout holds one manifest for one platform, and the blobs that it names. Attestations would need an index.
#[test]
fn a_layout_holds_one_manifest_and_its_blobs() {
    for form in FORMS {
        let (digest, mut files) = written(form, &module());
        let index = parsed(&files.remove("index.json").unwrap());
        assert_eq!(parsed(&files.remove("oci-layout").unwrap()), json!({"imageLayoutVersion": "1.0.0"}));
        let manifests = index["manifests"].as_array().unwrap();
        assert_eq!(manifests.len(), 1, "{index}");
        assert_eq!(manifests[0]["digest"], digest);
        assert_eq!(manifests[0]["annotations"], json!({"org.opencontainers.image.ref.name": TAG}));

        let mut take = |descriptor: &Value| {
            let digest = descriptor["digest"].as_str().unwrap();
            let hex = digest.strip_prefix("sha256:").unwrap();
            let bytes = files.remove(&format!("blobs/sha256/{hex}")).expect(digest);
            assert_eq!(format!("{:x}", Sha256::digest(&bytes)), hex);
            assert_eq!(descriptor["size"], bytes.len());
            bytes
        };
        let manifest = parsed(&take(&manifests[0]));
        let (configuration, layers) = (&manifest["config"], manifest["layers"].as_array().unwrap());
        let config = parsed(&take(configuration));
        match form {
            Form::Image => {
                assert_eq!((&config["os"], &config["architecture"]), (&json!("linux"), &json!("amd64")));
                let [layer] = layers.as_slice() else { panic!("{layers:?}") };
                let mut archive = Vec::new();
                let packed = take(layer);
                std::io::copy(&mut flate2::read::GzDecoder::new(packed.as_slice()), &mut archive).unwrap();
                let unpacked = format!("sha256:{:x}", Sha256::digest(&archive));
                assert_eq!(config["rootfs"], json!({"type": "layers", "diff_ids": [unpacked]}));
            }
            Form::Artifact => {
                let [runtime, content] = layers.as_slice() else { panic!("{layers:?}") };
                assert_eq!(runtime["digest"], configuration["digest"]);
                assert_eq!(take(content), module());
                // The ABI it names is the one that the module exports.
                let abi = config["abiVersions"][0].as_str().unwrap().replace('.', "_");
                let export = format!("proxy_abi_version_{abi}");
                assert!(module().windows(export.len()).any(|window| window == export.as_bytes()), "{export}");
            }
        }
        assert!(files.is_empty(), "blobs that no manifest names: {:?}", files.keys());
    }
}

#[test]
fn the_agent_fetches_the_module_in_each_form() {
    let module = module();
    for form in FORMS {
        let (registry, digest) = push(form);
        assert_eq!(registry.digest(REPOSITORY, TAG), digest, "{form:?}: the registry has another one");
        for reference in [format!(":{TAG}"), format!("@{digest}")] {
            let url = format!("oci://{}/{REPOSITORY}{reference}", registry.host());
            assert!(fetch(&url) == Ok(module.clone()), "{form:?} {reference}: {:?}", fetch(&url).err());
        }
    }
}

/// A runtime chooses the file by its own processor.
#[test]
fn the_images_of_the_command_and_of_the_native_module_have_one_file_for_each_processor() {
    let program = json!({"Entrypoint": ["/firstword"], "User": "65532:65532", "WorkingDir": "/"});
    let expected = [
        (Content::Command, "firstword", 0o755, program),
        // A volume needs no program.
        (Content::Native, "libfirstword.so", 0o644, json!({})),
    ];
    let files: [(&str, &[u8]); 2] = [("amd64", b"for x86_64"), ("arm64", b"for aarch64")];
    for (content, name, mode, process) in expected {
        let layouts = [temp_dir(), temp_dir()];
        let digests = layouts.each_ref().map(|directory| platforms::write(content, &files, directory.path()));
        assert_eq!(digests[0], digests[1], "the same files make the same image");
        let registry = Registry::start();
        registry.push(layouts[0].path(), REPOSITORY, TAG);
        assert_eq!(registry.digest(REPOSITORY, TAG), digests[0], "the registry has another one");
        for (processor, file) in files {
            let config = registry.config(REPOSITORY, TAG, processor);
            assert_eq!(config["architecture"], processor);
            assert_eq!(config["config"], process, "{content:?}");
            let archive = registry.files(REPOSITORY, TAG, processor);
            let mut archive = tar::Archive::new(archive.as_slice());
            let mut entries = archive.entries().unwrap().map(Result::unwrap);
            let mut entry = entries.next().expect("the file");
            assert_eq!(entry.path().unwrap().to_str(), Some(name));
            assert_eq!(entry.header().mode().unwrap() & 0o777, mode);
            let mut unpacked = Vec::new();
            std::io::copy(&mut entry, &mut unpacked).unwrap();
            assert_eq!(unpacked, file);
            assert!(entries.next().is_none());
        }
    }
}

/// Each rule of the agent is broken once.
#[test]
fn the_agent_refuses_images_that_it_cannot_unpack() {
    let (image, image_digest) = push(Form::Image);
    let (artifact, _) = push(Form::Artifact);
    let at = |registry: &Registry, reference: &str| {
        fetch(&format!("oci://{}/{REPOSITORY}{reference}", registry.host()))
    };
    let change = |registry: &Registry, change: &dyn Fn(&mut Value)| {
        let mut manifest = registry.manifest(REPOSITORY, TAG);
        change(&mut manifest);
        registry.put(REPOSITORY, "changed", &manifest);
        at(registry, ":changed").expect_err("refused")
    };

    let none = change(&image, &|manifest| manifest["layers"] = json!([]));
    assert!(none.contains("number of layers must be greater than zero"), "{none}");
    let uncompressed = change(&image, &|manifest| {
        manifest["layers"][0]["mediaType"] = json!("application/vnd.oci.image.layer.v1.tar");
    });
    assert!(uncompressed.contains("invalid media type"), "{uncompressed}");
    // The layout of the CNCF's working group, one layer.
    let single = change(&artifact, &|manifest| {
        let content = manifest["layers"][1].clone();
        manifest["layers"] = json!([content]);
    });
    assert!(single.contains("number of layers must be 2 but got 1"), "{single}");
    let other = change(&artifact, &|manifest| manifest["layers"][1]["mediaType"] = json!("application/wasm"));
    assert!(other.contains("could not find the layer of type"), "{other}");

    // An index, as `docker buildx` makes without --provenance=false. The agent fetches it by tag, and refuses it by digest.
    let platform = json!({"architecture": "amd64", "os": "linux"});
    let mut descriptor = image.manifest_descriptor(REPOSITORY, TAG);
    descriptor["platform"] = platform;
    let index = json!({"schemaVersion": 2, "mediaType": agent::INDEX, "manifests": [descriptor]});
    let index_digest = image.put(REPOSITORY, "index", &index);
    assert!(at(&image, ":index") == Ok(module()));
    let by_digest = at(&image, &format!("@{index_digest}")).expect_err("refused");
    let image_digest = image_digest.trim_start_matches("sha256:");
    assert!(by_digest.contains(&format!("has checksum {image_digest}")), "{by_digest}");
}

/// The documents that kustomize makes of an overlay.
fn kustomize(overlay: &str) -> Vec<Value> {
    let kustomize = firstword_testing::built("KUSTOMIZE", "target/tools/kustomize", "make tools-istio");
    let output = Command::new(kustomize).arg("build").arg(root().join("istio").join(overlay)).output();
    let output = output.expect("kustomize");
    assert!(output.status.success(), "{overlay}: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    let documents = serde_norway::Deserializer::from_str(&text).map(Value::deserialize);
    documents.collect::<Result<_, _>>().expect("YAML")
}

/// The field with the URL, for each kind of resource.
const PLACES: [(&str, &str); 2] = [
    ("WasmPlugin", "/spec/url"),
    (
        "EnvoyFilter",
        "/spec/configPatches/0/patch/value/typed_config/config/vm_config/code/remote/http_uri/uri",
    ),
];

#[test]
fn each_overlay_names_the_image_by_its_digest() {
    for ((kind, place), overlay) in PLACES.iter().zip(["overlays/example", "overlays/envoyfilter"]) {
        let documents = kustomize(overlay);
        let urls = documents.iter().filter(|document| document["kind"] == *kind);
        let urls: Vec<_> = urls.filter_map(|document| document.pointer(place)?.as_str()).collect();
        let [url] = urls.as_slice() else { panic!("{overlay}: {urls:?}") };
        let (image, digest) = url.split_once("@sha256:").unwrap_or_else(|| panic!("{overlay}: {url}"));
        assert_eq!(image, "oci://registry.example.com/firstword", "{overlay}");
        // No image has this digest, so a user must choose one.
        assert_eq!(digest, "0".repeat(64), "{overlay}");
        // With another registry and digest in the URL, the agent fetches the module.
        let (registry, digest) = push(Form::Image);
        let own = url.replace("registry.example.com/firstword", &format!("{}/{REPOSITORY}", registry.host()));
        let own = own.split_once('@').map(|(image, _)| format!("{image}@{digest}")).unwrap();
        assert!(fetch(&own) == Ok(module()), "{own}: {:?}", fetch(&own).err());
    }
}
