//! Finds the Wasm filters in a document, wherever they stand: bootstrap, xDS, configuration dump, `EnvoyFilter`.

use firstword::escape;
use serde_json::Value;

use crate::wasm_filter::{WasmFilter, get};

/// The Wasm filters in a document, in its order as far as JSON objects have one.
pub(crate) fn wasm_filters(document: &Value) -> Vec<WasmFilter> {
    let mut found = Vec::new();
    visit(document, "$", None, &mut found);
    found
}

/// Whether the document is one that other tools read, and no configuration of ours on its own.
pub(crate) fn is_of_others(document: &Value) -> bool {
    const KEYS: [&str; 9] = [
        "@type",
        "admin",
        "apiVersion",
        "configs",
        "dynamic_resources",
        "kind",
        "node",
        "resources",
        "static_resources",
    ];
    KEYS.iter().any(|key| get(document, key).is_some())
}

/// `name` is that of the object the value stands in. The depth is bounded by the readers of JSON and YAML.
fn visit(value: &Value, at: &str, name: Option<&str>, found: &mut Vec<WasmFilter>) {
    let filter = WasmFilter::of_envoy(at, name, value).or_else(|| WasmFilter::of_istio(at, value));
    if let Some(filter) = filter {
        found.push(filter);
        return;
    }
    match value {
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                visit(item, &format!("{at}[{index}]"), None, found);
            }
        }
        Value::Object(entries) => {
            let name = get(value, "name").and_then(Value::as_str);
            for (key, value) in entries {
                visit(value, &format!("{at}.{}", escape::text(key)), name, found);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
