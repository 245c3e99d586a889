//! The agent of each proxy. For a filter that istiod sends by name, it fetches the module, and gives the proxy a local file.

use std::path::Path;

use serde_json::{Value, json};

use super::Xds;

/// Delivers the extensions as files in `directory`, with `module` as the module of each. An extension that istiod
/// did not send becomes an empty file.
pub fn deliver(xds: &mut Xds, directory: &Path, module: &Path) {
    for extension in &mut xds.extensions {
        let code = &mut extension["typed_config"]["config"]["vm_config"];
        assert!(code["code"].is_object(), "no module: {code}");
        code["code"] = json!({"local": {"filename": module}});
        if let Some(variables) = code["environment_variables"]["key_values"].as_object_mut() {
            variables.retain(|name, _| !name.starts_with("ISTIO_META_WASM_IMAGE_PULL_"));
        }
    }
    let extensions = &xds.extensions;
    xds.listeners.iter_mut().for_each(|listener| find(listener, &mut |name, discovery| {
        let resources: Vec<_> = extensions
            .iter()
            .filter(|extension| extension["name"] == name)
            .map(|extension| {
                let mut resource = json!({"@type": "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig"});
                resource["name"] = extension["name"].clone();
                resource["typed_config"] = extension["typed_config"].clone();
                resource
            })
            .collect();
        let file = directory.join(format!("{}.json", name.replace(['/', '~'], "_")));
        let response = json!({"version_info": "1", "resources": resources});
        std::fs::write(&file, response.to_string()).expect("a file for the proxy");
        discovery["config_source"] =
            json!({"path_config_source": {"path": file}, "resource_api_version": "V3", "initial_fetch_timeout": "0s"});
    }));
}

fn find(value: &mut Value, found: &mut dyn FnMut(&str, &mut Value)) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| find(item, found)),
        Value::Object(entries) => {
            let name = entries.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
            for (key, entry) in entries {
                if key == "config_discovery" {
                    found(&name, entry);
                } else {
                    find(entry, found);
                }
            }
        }
        _ => {}
    }
}
