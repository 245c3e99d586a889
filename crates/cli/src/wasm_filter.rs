//! A Wasm filter, or a filter of a native module, in a file: its owner, and the configuration that Envoy would pass to it.

use std::fmt::Display;

use base64::Engine;
use firstword::config::Config;
use serde_json::Value;

use crate::protobuf_json::get;
use crate::reach::Reach;

/// A filter found in a document.
pub(crate) struct WasmFilter {
    /// True if it is of a native module.
    pub(crate) is_native: bool,
    /// The JSON path of its configuration in the document.
    pub(crate) at: String,
    /// Whether a name, root id, VM id, or file name of its code holds `firstword`.
    pub(crate) named: bool,
    /// The configuration, or its problems, one line each. A path that begins with `$` is a path in the configuration.
    pub(crate) checked: Checked,
    /// The connections that the filter sees; empty if the file does not say it.
    pub(crate) reach: Vec<Reach>,
}

const NETWORK_FILTER: &str = "envoy.extensions.filters.network.wasm.v3.Wasm";
const NATIVE_FILTER: &str = "envoy.extensions.filters.network.dynamic_modules.v3.DynamicModuleNetworkFilter";
const HTTP_FILTER: &str = "envoy.extensions.filters.http.wasm.v3.Wasm";

/// The start of a non-empty `google.protobuf.Struct`, which the filter receives instead of JSON.
const STRUCT_BYTES: &[u8] = b"\x0a\x08\x0a\x04mode\x12\x00";

impl WasmFilter {
    /// Reads a `typed_config` of Envoy. `name` is the name of the filter. `None` if it is neither a Wasm filter nor Firstword's
    /// native module.
    pub(crate) fn of_envoy(at: &dyn Display, name: Option<&str>, typed_config: &Value) -> Option<Self> {
        let kind = type_name(get(typed_config, "@type")?)?;
        let (kind, body, path) = match kind {
            "udpa.type.v1.TypedStruct" | "xds.type.v3.TypedStruct" => {
                (type_name(get(typed_config, "type_url")?)?, get(typed_config, "value")?, ".value")
            }
            kind => (kind, typed_config, ""),
        };
        if kind == NATIVE_FILTER {
            return Self::of_native(&format!("{at}{path}"), name, body);
        }
        if kind != NETWORK_FILTER && kind != HTTP_FILTER {
            return None;
        }
        let named =
            name.is_some_and(is_ours) || NAMES.iter().any(|path| text(body, path).is_some_and(is_ours));
        let checked = match walk(body, &["config", "configuration"]) {
            // Firstword cannot work as an HTTP filter.
            _ if kind == HTTP_FILTER => {
                Err(vec![format!("expected a network filter, {NETWORK_FILTER}, found {HTTP_FILTER}")])
            }
            Some(configuration) => in_wasm(of_any(configuration)),
            None => check(b""),
        };
        // An HTTP filter without our name belongs to another author, even if it is the only one.
        let at = format!("{at}{path}.config.configuration");
        (named || kind == NETWORK_FILTER).then_some(Self {
            is_native: false,
            at,
            named,
            checked,
            reach: Vec::new(),
        })
    }

    /// Reads a filter of a native module. `None` without our name, because the module belongs to another author.
    fn of_native(at: &str, name: Option<&str>, body: &Value) -> Option<Self> {
        let named = name.is_some_and(is_ours)
            || NATIVE_NAMES.iter().any(|path| text(body, path).is_some_and(is_ours));
        let checked = match get(body, "filter_config") {
            // Envoy turns this Struct into JSON.
            Some(any) if get(any, "@type").and_then(type_name) == Some("google.protobuf.Struct") => {
                check(get(any, "value").map(Value::to_string).unwrap_or_default().as_bytes())
            }
            Some(any) => of_any(any),
            None => check(b""),
        };
        let at = format!("{at}.filter_config");
        named.then_some(Self { is_native: true, at, named, checked, reach: Vec::new() })
    }

    /// Reads a `WasmPlugin` or `TrafficExtension` of Istio. `None` if the resource is another one.
    pub(crate) fn of_istio(at: &dyn Display, resource: &Value) -> Option<Self> {
        let path: &[&str] = match get(resource, "kind")?.as_str()? {
            "WasmPlugin" => &["spec"],
            "TrafficExtension" => &["spec", "wasm"],
            _ => return None,
        };
        let plugin = walk(resource, path)?;
        let path = path.join(".");
        let names =
            [text(resource, &["metadata", "name"]), text(plugin, &["pluginName"]), text(plugin, &["url"])];
        let mut problems = Vec::new();
        if text(plugin, &["type"]) != Some("NETWORK") {
            let found = get(plugin, "type").map_or("nothing, which means HTTP".to_owned(), Value::to_string);
            problems.push(format!("{path}.type: expected \"NETWORK\", found {found}"));
        }
        // Istio turns this Struct into JSON.
        let checked = match get(plugin, "pluginConfig") {
            Some(config) => in_wasm(check(config.to_string().as_bytes())),
            None => check(b""),
        };
        let checked = match checked {
            Ok(config) if problems.is_empty() => Ok(config),
            Ok(_) => Err(problems),
            Err(own) => Err([problems, own].concat()),
        };
        Some(Self {
            is_native: false,
            at: format!("{at}.{path}.pluginConfig"),
            named: names.into_iter().flatten().any(is_ours),
            checked,
            reach: get(resource, "spec").map(Reach::of_plugin).unwrap_or_default(),
        })
    }
}

/// A configuration, or its problems.
pub(crate) type Checked = Result<Config, Vec<String>>;

/// Refuses what only the native module can do, as the wasm module does.
fn in_wasm(checked: Checked) -> Checked {
    let config = checked?;
    let rules = config
        .rules()
        .iter()
        .enumerate()
        .filter(|(_, rule)| rule.policy().originate_tls || rule.policy().terminate_tls);
    let problem = |(index, _)| {
        let why = "because Envoy lets no WebAssembly module start TLS";
        format!("$.rules[{index}].tls: expected it in the native module, {why}; found it in a wasm module")
    };
    let problems: Vec<_> = rules.map(problem).collect();
    if problems.is_empty() { Ok(config) } else { Err(problems) }
}

/// Checks a configuration as the filter does.
pub(crate) fn check(json: &[u8]) -> Checked {
    Config::parse(json).map_err(|errors| errors.iter().map(ToString::to_string).collect())
}

/// Paths of names in the configuration of a Wasm filter.
const NAMES: [&[&str]; 5] = [
    &["config", "name"],
    &["config", "root_id"],
    &["config", "vm_config", "vm_id"],
    &["config", "vm_config", "code", "local", "filename"],
    &["config", "vm_config", "code", "remote", "http_uri", "uri"],
];

/// Paths of names in the configuration of a filter of a native module.
const NATIVE_NAMES: [&[&str]; 3] = [
    &["filter_name"],
    &["dynamic_module_config", "name"],
    &["dynamic_module_config", "module", "local", "filename"],
];

fn is_ours(name: &str) -> bool {
    name.to_ascii_lowercase().contains("firstword")
}

/// Checks the `google.protobuf.Any` that holds a plugin's configuration in Envoy.
fn of_any(any: &Value) -> Checked {
    // Istiod sends an Any without a type if a WasmPlugin has no configuration.
    if any.as_object().is_some_and(serde_json::Map::is_empty) {
        return check(b"");
    }
    let value = get(any, "value");
    let text = value.and_then(Value::as_str);
    match (get(any, "@type").and_then(type_name), value, text) {
        (Some("google.protobuf.Struct"), value, _) => {
            let empty = value.is_none_or(|value| value.as_object().is_some_and(serde_json::Map::is_empty));
            check(if empty { b"" } else { STRUCT_BYTES })
        }
        (Some("google.protobuf.StringValue" | "google.protobuf.BytesValue"), None, _) => check(b""),
        (Some("google.protobuf.StringValue"), Some(_), Some(text)) => check(text.as_bytes()),
        (Some("google.protobuf.BytesValue"), Some(_), Some(text)) => {
            match base64::engine::general_purpose::STANDARD.decode(text) {
                Ok(bytes) => check(&bytes),
                Err(error) => Err(vec![format!("value: expected base64, found other text: {error}")]),
            }
        }
        (Some("google.protobuf.StringValue"), Some(_), None) => {
            Err(vec!["value: expected the JSON in one string, such as '{\"mode\": \"observe\"}'".to_owned()])
        }
        _ => Err(vec!["@type: expected type.googleapis.com/google.protobuf.StringValue".to_owned()]),
    }
}

/// `type.googleapis.com/NAME` -> `NAME`.
fn type_name(url: &Value) -> Option<&str> {
    url.as_str()?.rsplit('/').next()
}

fn walk<'v>(value: &'v Value, path: &[&str]) -> Option<&'v Value> {
    path.iter().try_fold(value, |value, key| get(value, key))
}

fn text<'v>(value: &'v Value, path: &[&str]) -> Option<&'v str> {
    walk(value, path)?.as_str()
}
