//! Matching of an `EnvoyFilter`'s patch with listeners, chains and filters.

use serde_json::Value;

use super::Context;

/// Listeners in which istiod compares a patch's `portNumber` with the chain's port instead of the listener's.
const VIRTUAL: [&str; 2] = ["virtualInbound", "virtualOutbound"];

/// The `match` of a patch.
#[derive(Clone, Debug)]
pub struct Match(Value);

impl Match {
    pub fn new(patch: &Value) -> Self {
        Self(patch["match"].clone())
    }

    pub fn context(&self, context: Context) -> bool {
        match self.0["context"].as_str() {
            None | Some("ANY") => true,
            Some("SIDECAR_INBOUND") => context == Context::Inbound,
            Some("SIDECAR_OUTBOUND") => context == Context::Outbound,
            Some("GATEWAY") => context == Context::Gateway,
            Some(other) => panic!("context {other}"),
        }
    }

    /// Whether the proxy's version matches. The regular expression is not anchored.
    pub fn proxy_version(&self, version: &str) -> bool {
        let wanted = self.0["proxy"]["proxyVersion"].as_str();
        wanted.is_none_or(|wanted| regex::Regex::new(wanted).expect("a regular expression").is_match(version))
    }

    pub fn listener(&self, listener: &Value, of_listener_itself: bool) -> bool {
        let wanted = &self.0["listener"];
        if wanted.get("name").is_some_and(|name| *name != listener["name"]) {
            return false;
        }
        if !of_listener_itself && is_virtual(listener) {
            return true;
        }
        let port = &listener["address"]["socket_address"]["port_value"];
        wanted.get("portNumber").is_none_or(|wanted| wanted == port)
    }

    pub fn chain(&self, listener: &Value, chain: &Value) -> bool {
        let matching = &chain["filter_chain_match"];
        let port = &matching["destination_port"];
        let wanted = &self.0["listener"];
        if is_virtual(listener) && wanted.get("portNumber").is_some_and(|wanted| wanted != port) {
            return false;
        }
        let wanted = &wanted["filterChain"];
        let same = |key: &str, found: &Value| wanted.get(key).is_none_or(|wanted| wanted == found);
        let has = |list: &str, wanted: &str| {
            matching[list].as_array().is_some_and(|list| list.iter().any(|found| found == wanted))
        };
        same("name", &chain["name"])
            && same("transportProtocol", &matching["transport_protocol"])
            && same("destinationPort", port)
            && wanted["sni"].as_str().is_none_or(|sni| has("server_names", sni))
            && wanted["applicationProtocols"]
                .as_str()
                .is_none_or(|wanted| wanted.split(',').all(|one| has("application_protocols", one)))
    }

    /// Name of the filter in a chain. `None` if the patch names no filter.
    pub fn filter(&self) -> Option<&str> {
        self.0["listener"]["filterChain"]
            .get("filter")
            .map(|filter| filter["name"].as_str().unwrap_or_default())
    }

    /// Name of the listener filter. `None` if the patch names no filter.
    pub fn listener_filter(&self) -> Option<&str> {
        self.0["listener"]["listenerFilter"].as_str()
    }
}

fn is_virtual(listener: &Value) -> bool {
    VIRTUAL.iter().any(|name| listener["name"] == *name)
}
