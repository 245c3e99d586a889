//! Finds the Wasm filters in a document of any kind: bootstrap, xDS, configuration dump, `EnvoyFilter`.

use std::fmt;

use firstword::escape;
use serde_json::Value;

use crate::documents;
use crate::protobuf_json::get;
use crate::reach::Reach;
use crate::wasm_filter::WasmFilter;

/// Maximum number of characters of a key that a path shows.
const MAX_KEY_CHARS: usize = 64;

/// Maximum number of Wasm filters in a document. A mesh has fewer.
const MAX_FILTERS: usize = 10_000;

/// The Wasm filters in a document, in its order as far as JSON objects have one.
pub(crate) fn wasm_filters(document: &Value) -> Result<Vec<WasmFilter>, String> {
    let mut found = Vec::new();
    visit(document, &Path::Root, &Around::default(), &mut found);
    if found.len() > MAX_FILTERS {
        return Err(format!("expected at most {MAX_FILTERS} Wasm filters in a document, found more"));
    }
    Ok(found)
}

/// Keys of documents of other tools, which are not configurations of Firstword.
pub(crate) const KEYS_OF_OTHER_TOOLS: [&str; 9] = [
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

/// Whether the document belongs to another tool, so that it is not a configuration of Firstword.
pub(crate) fn is_of_another_tool(document: &Value) -> bool {
    KEYS_OF_OTHER_TOOLS.iter().any(|key| get(document, key).is_some())
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

/// What is around a value.
#[derive(Clone, Copy, Default)]
struct Around<'v> {
    /// The name of the object around it.
    name: Option<&'v str>,
    /// The connections that a filter sees here, if known.
    reach: Option<&'v Reach>,
    /// Whether the document is an entry of a ConfigMap. No other ConfigMap is looked for there.
    in_config_map: bool,
}

/// Adds the filters in a value. The readers of JSON and YAML limit the depth.
fn visit(value: &Value, at: &Path<'_>, around: &Around<'_>, found: &mut Vec<WasmFilter>) {
    if found.len() > MAX_FILTERS {
        return;
    }
    if let Some(mut filter) = WasmFilter::of_envoy(at, around.name, value) {
        filter.reach = around.reach.cloned().into_iter().collect();
        found.push(filter);
        return;
    }
    if let Some(filter) = WasmFilter::of_istio(at, value) {
        found.push(filter);
        return;
    }
    match value {
        Value::Array(items) => {
            let around = Around { name: None, ..*around };
            for (index, item) in items.iter().enumerate() {
                visit(item, &Path::Index(at, index), &around, found);
            }
        }
        Value::Object(entries) => {
            if get(value, "kind").and_then(Value::as_str) == Some("ConfigMap") {
                visit_config_map(value, at, around, found);
                return;
            }
            let reach = Reach::of_listener(value).or_else(|| Reach::of_patch(value));
            let name = get(value, "name").and_then(Value::as_str);
            let around = Around { name, reach: reach.as_ref().or(around.reach), ..*around };
            for (key, value) in entries {
                visit(value, &Path::Key(at, key), &around, found);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Adds the filters in the files of a ConfigMap. Most files of ConfigMaps are in another language, so one that cannot be read is
/// no problem.
fn visit_config_map(config_map: &Value, at: &Path<'_>, around: &Around<'_>, found: &mut Vec<WasmFilter>) {
    if around.in_config_map {
        return;
    }
    let around = Around { in_config_map: true, ..Around::default() };
    let at = &Path::Key(at, "data");
    for (file, text) in get(config_map, "data").and_then(Value::as_object).into_iter().flatten() {
        let documents = text.as_str().map(|text| documents::parse(text.as_bytes()));
        for document in documents.and_then(Result::ok).into_iter().flatten() {
            visit(&document, &Path::Key(at, file), &around, found);
        }
    }
}
