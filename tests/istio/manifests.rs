//! Each manifest on its own: read, refused where the API server would refuse it, and held against the rules of this
//! directory.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::pilot::resource::{Resource, parse};
use crate::support::root;

pub fn directory() -> PathBuf {
    root().join("istio")
}

/// What a manifest holds; a path below `istio/`.
pub fn resources(path: &str) -> Vec<Resource> {
    parse(&std::fs::read_to_string(directory().join(path)).unwrap_or_else(|e| panic!("istio/{path}: {e}")))
}

/// Those that the shipped component puts on pods.
pub fn annotations() -> Value {
    let [deployment] = resources("components/pod-annotations/annotations.yaml").try_into().expect("one document");
    deployment.document["spec"]["template"]["metadata"]["annotations"].clone()
}

/// Every manifest, and what is in it; what only kustomize reads left out.
fn all() -> Vec<(String, Vec<Resource>)> {
    let mut paths = Vec::new();
    collect(&directory(), &mut paths);
    paths.sort();
    let read = |path: PathBuf| {
        let name = path.strip_prefix(directory()).expect("below istio").to_str().expect("a path").to_owned();
        let resources = resources(&name);
        (name, resources)
    };
    paths.into_iter().map(read).collect()
}

fn collect(directory: &Path, paths: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(directory).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            collect(&path, paths);
        } else if path.extension().is_some_and(|extension| extension == "yaml")
            && path.file_name().is_some_and(|name| name != "kustomization.yaml")
        {
            paths.push(path);
        }
    }
}
