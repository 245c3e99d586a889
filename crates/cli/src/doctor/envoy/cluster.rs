//! `envoy.config.cluster.v3.Cluster`.

use std::net::SocketAddr;

use serde::Deserialize;
use serde_json::Value;

use super::Metadata;
use super::filter::Any;
use super::listener::SocketAddress;

#[derive(Clone, Debug, Default, Deserialize)]
pub(in super::super) struct Cluster {
    #[serde(default)]
    pub(in super::super) name: String,
    #[serde(default, rename = "type")]
    kind: String,
    cluster_type: Option<Value>,
    load_assignment: Option<Assignment>,
    transport_socket: Option<Socket>,
    #[serde(default)]
    transport_socket_matches: Vec<SocketMatch>,
    #[serde(default)]
    circuit_breakers: CircuitBreakers,
    #[serde(default)]
    pub(in super::super) metadata: Metadata,
}

#[derive(Clone, Debug, Default, Deserialize)]
struct CircuitBreakers {
    #[serde(default)]
    thresholds: Vec<Thresholds>,
}

#[derive(Clone, Debug, Deserialize)]
struct Thresholds {
    /// `DEFAULT` if absent.
    priority: Option<String>,
    max_connections: Option<u32>,
}

/// `ClusterLoadAssignment`.
#[derive(Clone, Debug, Default, Deserialize)]
pub(in super::super) struct Assignment {
    #[serde(default)]
    pub(in super::super) cluster_name: String,
    #[serde(default)]
    endpoints: Vec<Locality>,
}

#[derive(Clone, Debug, Deserialize)]
struct Locality {
    #[serde(default)]
    lb_endpoints: Vec<LbEndpoint>,
}

#[derive(Clone, Debug, Deserialize)]
struct LbEndpoint {
    endpoint: Option<Endpoint>,
}

#[derive(Clone, Debug, Deserialize)]
struct Endpoint {
    address: Option<EndpointAddress>,
}

#[derive(Clone, Debug, Deserialize)]
struct EndpointAddress {
    socket_address: Option<SocketAddress>,
    envoy_internal_address: Option<Internal>,
}

#[derive(Clone, Debug, Deserialize)]
struct Internal {
    server_listener_name: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
struct Socket {
    typed_config: Option<Any>,
}

#[derive(Clone, Debug, Deserialize)]
struct SocketMatch {
    transport_socket: Option<Socket>,
}

impl Assignment {
    fn endpoints(&self) -> impl Iterator<Item = &LbEndpoint> {
        self.endpoints.iter().flat_map(|locality| &locality.lb_endpoints)
    }

    pub(in super::super) fn is_empty(&self) -> bool {
        self.endpoints().next().is_none()
    }

    /// Whether an endpoint has this address.
    pub(in super::super) fn has(&self, address: SocketAddr) -> bool {
        self.endpoints().any(|endpoint| {
            let socket = || endpoint.endpoint.as_ref()?.address.as_ref()?.socket_address.as_ref()?.ip();
            socket() == Some(address)
        })
    }
}

impl Cluster {
    /// Whether the cluster has Envoy's default limit of 1024 connections (`CircuitBreakers.Thresholds`).
    pub(in super::super) fn has_default_limit(&self) -> bool {
        let of_tcp = |threshold: &&Thresholds| threshold.priority.as_deref().is_none_or(|it| it == "DEFAULT");
        let threshold = self.circuit_breakers.thresholds.iter().find(of_tcp);
        threshold.is_none_or(|threshold| threshold.max_connections.is_none())
    }

    /// Whether the cluster has no endpoint, and its own configuration provides no other source of endpoints.
    pub(in super::super) fn is_empty(&self) -> bool {
        let fixed = self.cluster_type.is_none()
            && ["", "STATIC", "STRICT_DNS", "LOGICAL_DNS"].contains(&self.kind.as_str());
        fixed && self.load_assignment.as_ref().is_none_or(Assignment::is_empty)
    }

    /// Whether Envoy resolves the endpoints' names by DNS.
    pub(in super::super) fn is_resolved_by_dns(&self) -> bool {
        let other = self.cluster_type.as_ref().and_then(|other| other.get("name")).and_then(Value::as_str);
        ["STRICT_DNS", "LOGICAL_DNS"].contains(&self.kind.as_str())
            || other.is_some_and(|name| name.ends_with("dns"))
    }

    /// Whether EDS provides the endpoints.
    pub(in super::super) fn is_discovered(&self) -> bool {
        self.kind == "EDS"
    }

    pub(in super::super) fn assignment(&self) -> Option<&Assignment> {
        self.load_assignment.as_ref()
    }

    /// The listener inside Envoy to which the cluster connects.
    pub(in super::super) fn internal_listener(&self) -> Option<&str> {
        let endpoint = self.load_assignment.as_ref()?.endpoints().next()?.endpoint.as_ref()?;
        endpoint.address.as_ref()?.envoy_internal_address.as_ref()?.server_listener_name.as_deref()
    }

    /// Whether Envoy uses TLS to the endpoints, and verifies nothing.
    pub(in super::super) fn accepts_every_certificate(&self) -> bool {
        self.sockets().filter_map(|socket| socket.typed_config.as_ref()).any(|config| {
            tls_context(config.kind(), config.body()).is_some_and(|context| {
                let common = context.get("common_tls_context").unwrap_or(&Value::Null);
                !VALIDATIONS.iter().any(|key| common.get(key).is_some())
            })
        })
    }

    fn sockets(&self) -> impl Iterator<Item = &Socket> {
        let matched = self.transport_socket_matches.iter().filter_map(|one| one.transport_socket.as_ref());
        self.transport_socket.iter().chain(matched)
    }

    /// Whether Envoy sends a PROXY header to the endpoints.
    pub(in super::super) fn sends_proxy_header(&self) -> bool {
        const KIND: &str =
            "envoy.extensions.transport_sockets.proxy_protocol.v3.ProxyProtocolUpstreamTransport";
        self.sockets().any(|socket| socket.typed_config.as_ref().is_some_and(|config| config.kind() == KIND))
    }
}

/// Keys of `common_tls_context` by which Envoy verifies a certificate.
const VALIDATIONS: [&str; 3] =
    ["validation_context", "validation_context_sds_secret_config", "combined_validation_context"];

/// The `UpstreamTlsContext` of a transport socket, also inside another one; `None` if there is no TLS.
fn tls_context<'v>(kind: &str, body: &'v Value) -> Option<&'v Value> {
    match kind {
        "envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext" => Some(body),
        "envoy.extensions.transport_sockets.starttls.v3.UpstreamStartTlsConfig" => {
            body.get("tls_socket_config")
        }
        "envoy.extensions.transport_sockets.proxy_protocol.v3.ProxyProtocolUpstreamTransport" => {
            let inner = body.get("transport_socket")?.get("typed_config")?;
            let kind = inner.get("@type")?.as_str()?.rsplit('/').next()?;
            kind.ends_with(".UpstreamTlsContext").then_some(inner)
        }
        _ => None,
    }
}
