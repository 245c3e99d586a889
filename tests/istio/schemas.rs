//! Istio's schemas for the API server. Unknown fields are refused, as `kubectl apply` requests.

use std::collections::BTreeMap;

use jsonschema::Validator;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::pilot::resource::Resource;
use firstword_testing::root;

/// Schemas by `apiVersion` and kind.
pub struct Schemas(BTreeMap<(String, String), Validator>);

impl Schemas {
    pub fn read() -> Self {
        let path = root().join("target/tools/istio-crds.yaml");
        let text = std::fs::read_to_string(&path);
        let text = text.unwrap_or_else(|e| panic!("{}: {e}; run: make tools-istio", path.display()));
        let mut schemas = BTreeMap::new();
        for document in serde_norway::Deserializer::from_str(&text) {
            let definition = Value::deserialize(document).expect("YAML");
            let spec = &definition["spec"];
            for version in spec["versions"].as_array().into_iter().flatten() {
                let text = |value: &Value| value.as_str().expect("a name").to_owned();
                let api_version = format!("{}/{}", text(&spec["group"]), text(&version["name"]));
                let mut schema = version["schema"]["openAPIV3Schema"].clone();
                for known in ["apiVersion", "kind", "metadata"] {
                    schema["properties"][known] = json!({});
                }
                close(&mut schema);
                let validator = jsonschema::validator_for(&schema).expect("a schema");
                schemas.insert((api_version, text(&spec["names"]["kind"])), validator);
            }
        }
        assert!(schemas.contains_key(&("networking.istio.io/v1alpha3".into(), "EnvoyFilter".into())));
        Self(schemas)
    }

    /// Problems for which the API server refuses a resource. Resources of Kubernetes itself are not checked.
    pub fn problems(&self, resource: &Resource) -> Vec<String> {
        let api_version = resource.document["apiVersion"].as_str().unwrap_or_default().to_owned();
        if !api_version.contains("istio.io") {
            assert!(["v1", "apps/v1"].contains(&api_version.as_str()), "{api_version}");
            return Vec::new();
        }
        let Some(schema) = self.0.get(&(api_version.clone(), resource.kind.clone())) else {
            return vec![format!("no {} in {api_version}", resource.kind)];
        };
        let errors = schema.iter_errors(&resource.document);
        errors.map(|error| format!("{}: {error}", error.instance_path)).collect()
    }
}

/// Refuses properties that the schema does not list.
fn close(schema: &mut Value) {
    let Some(entries) = schema.as_object_mut() else { return };
    let open = entries.get("x-kubernetes-preserve-unknown-fields") == Some(&json!(true));
    if let Some(Value::Object(properties)) = entries.get_mut("properties") {
        properties.values_mut().for_each(close);
        if !open {
            entries.insert("additionalProperties".into(), json!(false));
        }
    } else if let Some(additional) = entries.get_mut("additionalProperties") {
        close(additional);
    }
    // Alternatives (`oneOf`, `not`) remain, because they only combine listed properties.
    if let Some(items) = entries.get_mut("items") {
        close(items);
    }
}
