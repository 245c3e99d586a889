//! Istio's resources, as in manifests.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

/// Namespace whose resources apply to the whole mesh.
pub const ROOT_NAMESPACE: &str = "istio-system";

/// One document of a manifest.
#[derive(Clone, Debug)]
pub struct Resource {
    pub kind: String,
    pub name: String,
    pub namespace: String,
    /// The whole document.
    pub document: Value,
}

impl Resource {
    pub fn new(document: Value) -> Self {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let kind = text(&document["kind"]).unwrap_or_else(|| panic!("no kind: {document}"));
        let metadata = &document["metadata"];
        let name = text(&metadata["name"]).unwrap_or_default();
        let namespace = text(&metadata["namespace"]).unwrap_or_else(|| "default".into());
        Self { kind, name, namespace, document }
    }

    pub fn spec(&self) -> &Value {
        &self.document["spec"]
    }

    /// Whether the resource applies to a workload: in its own namespace or, for the root namespace, in all. If the spec has
    /// labels at `selector`, the workload must have them.
    pub fn selects(&self, namespace: &str, labels: &BTreeMap<String, String>, selector: &str) -> bool {
        let wanted = self.spec().pointer(selector).and_then(Value::as_object);
        let has = |(key, value): (&String, &Value)| labels.get(key).map(String::as_str) == value.as_str();
        (self.namespace == namespace || self.namespace == ROOT_NAMESPACE)
            && wanted.is_none_or(|wanted| wanted.iter().all(has))
    }
}

/// The documents of a manifest.
pub fn parse(yaml: &str) -> Vec<Resource> {
    let documents = serde_norway::Deserializer::from_str(yaml);
    documents.map(|document| Resource::new(Value::deserialize(document).expect("YAML"))).collect()
}

/// Resources of one kind.
pub fn of_kind<'r>(resources: &'r [Resource], kind: &str) -> impl Iterator<Item = &'r Resource> {
    resources.iter().filter(move |resource| resource.kind == kind)
}
