//! The part of Envoy's configuration that decides where bytes go and when. Unknown fields are ignored, because Envoy's
//! configuration is large and grows.

pub(super) mod cluster;
pub(super) mod dump;
pub(super) mod filter;
pub(super) mod filter_chain;
pub(super) mod filter_config;
pub(super) mod key_spelling;
pub(super) mod listener;
pub(super) mod listener_filter;
pub(super) mod matcher;
pub(super) mod name_table;
pub(super) mod node;

use std::time::Duration;

use serde::{Deserialize, Deserializer, de};
use serde_json::Value;

/// Reads a `google.protobuf.Duration` in JSON, such as `"0.050s"`.
pub(super) fn duration<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Duration>, D::Error> {
    let Some(text) = Option::<String>::deserialize(from)? else { return Ok(None) };
    let seconds = text.strip_suffix('s').and_then(|number| number.parse::<f64>().ok());
    match seconds.map(Duration::try_from_secs_f64) {
        Some(Ok(duration)) => Ok(Some(duration)),
        _ => Err(de::Error::custom(format!("expected a duration such as \"0.050s\", found {text:?}"))),
    }
}

/// `metadata`. Istio's part of it names the resource from which Istio made a listener, chain or cluster.
#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct Metadata {
    #[serde(default)]
    filter_metadata: serde_json::Map<String, Value>,
}

impl Metadata {
    /// The resource of Istio, such as `networking.istio.io/v1 gateway db/mysql`.
    pub(super) fn resource(&self) -> Option<String> {
        // /apis/GROUP/VERSION/namespaces/NAMESPACE/KIND/NAME
        let path = self.istio("config")?.as_str()?.trim_start_matches("/apis/");
        match path.split('/').collect::<Vec<_>>().as_slice() {
            [group, version, "namespaces", namespace, kind, name] => {
                Some(format!("{group}/{version} {kind} {namespace}/{name}"))
            }
            _ => Some(path.to_owned()),
        }
    }

    /// The Service of a cluster: name and namespace.
    pub(super) fn service(&self) -> Option<(&str, &str)> {
        let service = self.istio("services")?.as_array()?.first()?;
        Some((service.get("name")?.as_str()?, service.get("namespace")?.as_str()?))
    }

    fn istio(&self, key: &str) -> Option<&Value> {
        self.filter_metadata.get("istio")?.get(key)
    }
}
