//! Finds the Wasm filters in a document of any kind: bootstrap, xDS, configuration dump, `EnvoyFilter`.

use std::fmt;

use firstword::escape;
use serde_json::Value;

use crate::wasm_filter::{WasmFilter, get};

/// Maximum number of characters of a key that a path shows.
const MAX_KEY_CHARS: usize = 64;

/// Maximum number of Wasm filters in a document. A mesh has fewer.
const MAX_FILTERS: usize = 10_000;

/// The Wasm filters in a document, in its order as far as JSON objects have one.
pub(crate) fn wasm_filters(document: &Value) -> Result<Vec<WasmFilter>, String> {
    let mut found = Vec::new();
    visit(document, &Path::Root, None, &mut found);
    if found.len() > MAX_FILTERS {
        return Err(format!("expected at most {MAX_FILTERS} Wasm filters in a document, found more"));
    }
    Ok(found)
}

/// Whether the document belongs to another tool, so that it is not a configuration of Firstword.
pub(crate) fn is_of_another_tool(document: &Value) -> bool {
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

/// A path in a document. It becomes a text only for a filter that is found, because keys can be long.
enum Path<'p> {
    Root,
    Key(&'p Path<'p>, &'p str),
    Index(&'p Path<'p>, usize),
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root => f.write_str("$"),
            Self::Key(parent, key) => {
                let shown: String = key.chars().take(MAX_KEY_CHARS).collect();
                let more = if shown.len() < key.len() { "..." } else { "" };
                write!(f, "{parent}.{}{more}", escape::text(&shown))
            }
            Self::Index(parent, index) => write!(f, "{parent}[{index}]"),
        }
    }
}

/// Adds the filters in a value. `name` is the name of the object around it. The readers of JSON and YAML limit the depth.
fn visit(value: &Value, at: &Path<'_>, name: Option<&str>, found: &mut Vec<WasmFilter>) {
    if found.len() > MAX_FILTERS {
        return;
    }
    let filter = WasmFilter::of_envoy(at, name, value).or_else(|| WasmFilter::of_istio(at, value));
    if let Some(filter) = filter {
        found.push(filter);
        return;
    }
    match value {
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                visit(item, &Path::Index(at, index), None, found);
            }
        }
        Value::Object(entries) => {
            let name = get(value, "name").and_then(Value::as_str);
            for (key, value) in entries {
                visit(value, &Path::Key(at, key), name, found);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
