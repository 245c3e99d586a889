//! `envoy.config.core.v3.Node`, with the facts about the pod that Istio's agent writes into it.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::Deserialize;
use serde_json::Value;

#[derive(Clone, Debug, Default, Deserialize)]
pub(in super::super) struct Node {
    #[serde(default)]
    id: String,
    #[serde(default)]
    metadata: serde_json::Map<String, Value>,
}

impl Node {
    /// Istio's kind of proxy: `sidecar`, `router` or `waypoint`. The id is `KIND~ADDRESS~POD.NAMESPACE~DOMAIN`.
    fn kind(&self) -> Option<&str> {
        let (kind, _) = self.id.split_once('~')?;
        ["sidecar", "router", "waypoint"].contains(&kind).then_some(kind)
    }

    pub(in super::super) fn is_gateway(&self) -> bool {
        self.kind() == Some("router")
    }

    pub(in super::super) fn is_waypoint(&self) -> bool {
        self.kind() == Some("waypoint")
    }

    /// Whether Istio's agent started it.
    pub(in super::super) fn is_of_istio(&self) -> bool {
        self.kind().is_some()
    }

    /// The pod's own addresses.
    pub(in super::super) fn addresses(&self) -> Vec<IpAddr> {
        let instance = self.metadata.get("INSTANCE_IPS").and_then(Value::as_str).unwrap_or_default();
        let own = self.kind().and(self.id.split('~').nth(1)).unwrap_or_default();
        instance.split(',').chain([own]).filter_map(|address| address.trim().parse().ok()).collect()
    }

    /// The pod's name and namespace, as in `app-0.shop`.
    pub(in super::super) fn pod(&self) -> Option<&str> {
        self.kind().and(self.id.split('~').nth(2))
    }

    pub(in super::super) fn namespace(&self) -> Option<&str> {
        let of_id = || self.id.split('~').nth(2)?.rsplit_once('.').map(|(_, namespace)| namespace);
        self.metadata.get("NAMESPACE").and_then(Value::as_str).or_else(of_id)
    }

    pub(in super::super) fn labels(&self) -> BTreeMap<&str, &str> {
        let labels = self.metadata.get("LABELS").and_then(Value::as_object);
        labels
            .into_iter()
            .flatten()
            .filter_map(|(key, value)| Some((key.as_str(), value.as_str()?)))
            .collect()
    }

    /// A text from the agent.
    pub(in super::super) fn metadata_text(&self, key: &str) -> Option<&str> {
        self.metadata.get(key)?.as_str()
    }

    /// An annotation of the pod.
    pub(in super::super) fn annotation(&self, name: &str) -> Option<&str> {
        self.metadata.get("ANNOTATIONS")?.get(name)?.as_str()
    }
}
