//! Volumes of a Pod as folders of the machine, with the content that a kubelet would give them.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine;
use serde_json::Value;

use super::environment::field_of;
use super::kubectl::Kubectl;
use super::registry;
use super::world::World;
use firstword_testing::wait_for;

/// Maximum wait for a ConfigMap that a controller makes.
const CONFIG_MAP: Duration = Duration::from_secs(60);

/// Creates the folder of a volume below `directory`.
pub fn create(world: &World, kubectl: &Kubectl, pod: &Value, volume: &Value, directory: &Path) -> PathBuf {
    let name = volume["name"].as_str().expect("a volume's name");
    let folder = directory.join(name);
    std::fs::create_dir_all(&folder).expect("a volume's folder");
    // The users of containers write to it.
    std::fs::set_permissions(&folder, PermissionsExt::from_mode(0o777)).expect("a volume's folder");
    let namespace = pod["metadata"]["namespace"].as_str().expect("a namespace");
    if !volume["emptyDir"].is_null() {
        return folder;
    }
    if let Some(sources) = volume["projected"]["sources"].as_array() {
        for source in sources {
            if source["serviceAccountToken"].is_object() {
                put_token(kubectl, pod, &source["serviceAccountToken"], &folder);
            } else if source["configMap"].is_object() {
                put_config_map(kubectl, namespace, &source["configMap"], &folder);
            } else if source["downwardAPI"].is_object() {
                put_fields(pod, &source["downwardAPI"], &folder);
            } else {
                panic!("the node cannot project {source}");
            }
        }
    } else if volume["configMap"].is_object() {
        put_config_map(kubectl, namespace, &volume["configMap"], &folder);
    } else if volume["downwardAPI"].is_object() {
        put_fields(pod, &volume["downwardAPI"], &folder);
    } else if let Some(reference) = volume["image"]["reference"].as_str() {
        registry::unpack(world, reference, &folder);
    } else if let Some(name) = volume["secret"]["secretName"].as_str() {
        let source = &volume["secret"];
        match kubectl.get(&["secret", name, "-n", namespace]) {
            Some(secret) => put_decoded(source, &secret["data"], &folder),
            None => assert!(source["optional"] == true, "there is no Secret {name}"),
        }
    } else {
        panic!("the node cannot mount {volume}");
    }
    folder
}

fn put_token(kubectl: &Kubectl, pod: &Value, source: &Value, folder: &Path) {
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    let metadata = &pod["metadata"];
    let account = field_of(pod, "spec.serviceAccountName");
    let (namespace, name, uid) =
        (text(&metadata["namespace"]), text(&metadata["name"]), text(&metadata["uid"]));
    let mut arguments = vec!["create", "token", &account, "-n", &namespace, "--bound-object-kind=Pod"];
    arguments.extend(["--bound-object-name", &name, "--bound-object-uid", &uid]);
    let duration = format!("--duration={}s", source["expirationSeconds"].as_u64().unwrap_or(3600));
    arguments.push(&duration);
    if let Some(audience) = source["audience"].as_str() {
        arguments.extend(["--audience", audience]);
    }
    let token = kubectl.run(&arguments);
    write(&folder.join(text(&source["path"])), token.trim().as_bytes());
}

fn put_config_map(kubectl: &Kubectl, namespace: &str, source: &Value, folder: &Path) {
    let name = source["name"].as_str().expect("the name of a ConfigMap");
    let get = || kubectl.get(&["configmap", name, "-n", namespace]);
    let map = if source["optional"] == true {
        get()
    } else {
        Some(wait_for(&format!("ConfigMap {namespace}/{name}"), CONFIG_MAP, get))
    };
    let Some(map) = map else { return };
    for (key, value) in map["data"].as_object().into_iter().flatten() {
        if let Some(path) = file_of(source, key) {
            write(&folder.join(path), value.as_str().expect("a text").as_bytes());
        }
    }
    put_decoded(source, &map["binaryData"], folder);
}

/// Writes values in base64.
fn put_decoded(source: &Value, data: &Value, folder: &Path) {
    for (key, value) in data.as_object().into_iter().flatten() {
        if let Some(path) = file_of(source, key) {
            let decoded = base64::engine::general_purpose::STANDARD.decode(value.as_str().expect("a text"));
            write(&folder.join(path), &decoded.expect("base64"));
        }
    }
}

/// The file for a key. `None` if the volume leaves the key out.
fn file_of<'v>(source: &'v Value, key: &'v str) -> Option<&'v str> {
    let Some(items) = source["items"].as_array() else { return Some(key) };
    items.iter().find(|item| item["key"] == *key)?["path"].as_str()
}

fn put_fields(pod: &Value, source: &Value, folder: &Path) {
    for item in source["items"].as_array().expect("items of the downward API") {
        let field = item["fieldRef"]["fieldPath"].as_str().expect("a field");
        let path = item["path"].as_str().expect("a path");
        write(&folder.join(path), field_of(pod, field).as_bytes());
    }
}

fn write(path: &Path, content: &[u8]) {
    std::fs::write(path, content).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    std::fs::set_permissions(path, PermissionsExt::from_mode(0o644)).expect("a readable file");
}
