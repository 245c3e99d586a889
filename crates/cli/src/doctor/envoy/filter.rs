//! Network filters and their configurations.

use serde::Deserialize;
use serde_json::Value;

/// A `google.protobuf.Any` in JSON: an object with a `@type`, or one in which `TypedStruct` wraps another.
#[derive(Clone, Debug, Deserialize)]
#[serde(transparent)]
pub(in super::super) struct Any(Value);

impl Any {
    /// The name of the message, such as `envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy`; empty without one.
    pub(in super::super) fn kind(&self) -> &str {
        let name = |key: &str| self.0.get(key).and_then(Value::as_str).and_then(|url| url.rsplit('/').next());
        match name("@type") {
            Some("udpa.type.v1.TypedStruct" | "xds.type.v3.TypedStruct") => {
                name("type_url").unwrap_or_default()
            }
            kind => kind.unwrap_or_default(),
        }
    }

    /// The fields of the message.
    pub(in super::super) fn body(&self) -> &Value {
        match self.0.get("type_url") {
            Some(_) => self.0.get("value").unwrap_or(&Value::Null),
            None => &self.0,
        }
    }

    /// The value as it is in the input.
    pub(in super::super) fn value(&self) -> &Value {
        &self.0
    }
}

/// An entry of a chain's `filters`.
#[derive(Clone, Debug, Deserialize)]
pub(in super::super) struct Filter {
    #[serde(default)]
    pub(in super::super) name: String,
    pub(in super::super) typed_config: Option<Any>,
    pub(in super::super) config_discovery: Option<Discovery>,
}

impl Filter {
    /// Whether it is a native module whose configuration contains this word.
    pub(in super::super) fn is_native_module_with(&self, word: &str) -> bool {
        self.typed_config.as_ref().is_some_and(|config| {
            config.kind().contains(".dynamic_modules.") && config.value().to_string().contains(word)
        })
    }
}

/// `config_discovery`: a filter with a configuration that Envoy discovers by name.
#[derive(Clone, Debug, Deserialize)]
pub(in super::super) struct Discovery {
    pub(in super::super) default_config: Option<Any>,
}
