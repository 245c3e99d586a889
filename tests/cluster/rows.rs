//! The rows of the decision table: a mesh, what is applied, and the outcome for each kind of client.

use crate::documents::{
    ADDED_CHAIN, DATABASE_PLUGIN, DECLARED_TCP, DISABLED_INSPECTOR, EXCLUDED, NATIVE_HEADER, NETWORK_ENTRY,
    OTHER_PORT, REMOVED_INSPECTOR, STRICT, TLS_GATEWAY, TRAFFIC_EXTENSION, UNDECLARED,
};
use crate::outcome::Outcome::{self, After, Closed, Greeting, Silence};
use firstword_testing::probe::Http::{self, Manager, Raw};

/// One row.
pub struct Row {
    pub name: &'static str,
    /// The mesh and what is applied, in words.
    pub what: &'static str,
    /// Lines of MeshConfig.
    pub mesh_config: &'static str,
    /// Documents that replace workloads of the same name.
    pub workloads: &'static str,
    /// Documents that users have or try.
    pub resources: &'static str,
    /// Manifests, as paths in `istio/`.
    pub apply: &'static [&'static str],
    pub clients: &'static [(Client, Outcome)],
    pub http: Option<Http>,
    /// Label `destination` of the filter's counts, and the pod that counts. `None` if no filter is in the chain.
    pub counted: Option<(&'static str, &'static str)>,
    /// Whether the database outside receives the address of the client's own socket.
    pub sends_header: bool,
}

/// A kind of client, which waits for the greeting unless it sends a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Client {
    /// In the pod `app`, of the database outside the mesh at the address of the manifests.
    Outside,
    /// The same, at the second address of the manifests.
    Second,
    /// The same, at an address that no manifest names.
    Neighbour,
    /// In the pod `app`, of the Service `mysql.db`, by mutual TLS unless it is off.
    Service,
    /// Outside the mesh, of the pod `mysql`.
    Plain,
    /// The same, with a PROXY header first.
    Header,
    /// Outside the mesh, of the gateway.
    Gateway,
    /// The same, with a PROXY header first.
    GatewayHeader,
}

impl Client {
    pub const fn in_words(self) -> &'static str {
        match self {
            Self::Outside => "the database outside",
            Self::Second => "its second address",
            Self::Neighbour => "an address that no file lists",
            Self::Service => "client with sidecar",
            Self::Plain => "client without sidecar",
            Self::Header => "client without sidecar, with a header",
            Self::Gateway => "client of the gateway",
            Self::GatewayHeader => "client of the gateway, with a header",
        }
    }
}

const fn row(name: &'static str, what: &'static str, clients: &'static [(Client, Outcome)]) -> Row {
    Row {
        name,
        what,
        mesh_config: "",
        workloads: "",
        resources: "",
        apply: &[],
        clients,
        http: None,
        counted: None,
        sends_header: false,
    }
}

const SERVICE_ENTRY: &str = "scenarios/port-conflict/serviceentry.yaml";
const LISTENER_ADD: &str = "scenarios/port-conflict/listener-add.yaml";
const EXTENSION: &str = "envoyfilter/extension.yaml";
const WASM_PLUGIN: &str = "base/wasmplugin.yaml";
const INBOUND: &str = "envoyfilter/inbound.yaml";
const PEER_AUTHENTICATION: &str = "envoyfilter/peerauthentication.yaml";
const GATEWAY: &str = "scenarios/gateway/gateway.yaml";
const RECEIVE: &str = "scenarios/proxy-protocol/receive.yaml";

const TO_DATABASE: &str = "mysql";
const FROM_APP: &str = "app";

pub const ROWS: &[Row] = &[
    Row {
        workloads: OTHER_PORT,
        ..row("A0", "no HTTP Service has the port", &[(Client::Outside, Greeting)])
    },
    Row {
        workloads: OTHER_PORT,
        apply: &[EXTENSION, "envoyfilter/outbound-passthrough.yaml"],
        counted: Some((FROM_APP, "orders")),
        ..row(
            "A0 filter",
            "the same with the filter: `outbound-passthrough.yaml`, `extension.yaml`",
            &[(Client::Outside, Greeting)],
        )
    },
    Row {
        http: Some(Manager),
        ..row("A1", "**an HTTP Service has the port**", &[(Client::Outside, Silence)])
    },
    Row {
        mesh_config: "protocolDetectionTimeout: 100ms",
        http: Some(Manager),
        ..row("A2", "the same, `protocolDetectionTimeout: 100ms`", &[(Client::Outside, After(100))])
    },
    Row {
        workloads: UNDECLARED,
        ..row(
            "A4",
            "a database Service in the mesh on port 3307, which declares no protocol",
            &[(Client::Service, Silence)],
        )
    },
    row("A5", "a database Service in the mesh, its port declared `tcp`", &[(Client::Service, Greeting)]),
    Row {
        apply: &[WASM_PLUGIN],
        counted: Some((FROM_APP, "outbound_3306__mysql.db.svc.cluster.local")),
        ..row("A5 filter", "the same with the filter: `wasmplugin.yaml`", &[(Client::Service, Greeting)])
    },
    Row {
        apply: &[SERVICE_ENTRY],
        http: Some(Manager),
        ..row("F5", "`serviceentry.yaml`", &[(Client::Outside, Greeting), (Client::Neighbour, Silence)])
    },
    Row {
        apply: &[SERVICE_ENTRY, WASM_PLUGIN],
        http: Some(Manager),
        counted: Some((FROM_APP, "orders")),
        ..row("F5 plugin", "`serviceentry.yaml`, `wasmplugin.yaml`", &[(Client::Outside, Greeting)])
    },
    Row {
        apply: &[SERVICE_ENTRY],
        resources: TRAFFIC_EXTENSION,
        http: Some(Manager),
        counted: Some((FROM_APP, "orders")),
        ..row(
            "F5 extension",
            "`serviceentry.yaml`, the plugin as a TrafficExtension",
            &[(Client::Outside, Greeting)],
        )
    },
    Row {
        apply: &[SERVICE_ENTRY, EXTENSION, "envoyfilter/outbound-tcp.yaml"],
        http: Some(Manager),
        counted: Some((FROM_APP, "orders")),
        ..row(
            "F5 filter",
            "`serviceentry.yaml`, `outbound-tcp.yaml`, `extension.yaml`",
            &[(Client::Outside, Greeting)],
        )
    },
    Row {
        resources: NETWORK_ENTRY,
        http: Some(Manager),
        ..row("F6", "a ServiceEntry for the network, `55.108.108.0/24`", &[(Client::Outside, Silence)])
    },
    Row {
        apply: &[LISTENER_ADD],
        http: Some(Manager),
        ..row("F1", "`listener-add.yaml`", &[(Client::Outside, Greeting), (Client::Second, Greeting)])
    },
    Row {
        apply: &[LISTENER_ADD, EXTENSION],
        http: Some(Manager),
        counted: Some((FROM_APP, "orders")),
        ..row("F1 filter", "`listener-add.yaml`, `extension.yaml`", &[(Client::Outside, Greeting)])
    },
    Row {
        apply: &["scenarios/port-conflict/sidecar.yaml"],
        http: Some(Raw),
        ..row("S1", "`sidecar.yaml`", &[(Client::Outside, Greeting)])
    },
    Row {
        apply: &["scenarios/port-conflict/sniff-timeout.yaml", EXTENSION],
        http: Some(Manager),
        counted: Some((FROM_APP, "orders")),
        ..row("F3", "`sniff-timeout.yaml`, `extension.yaml`", &[(Client::Outside, After(50))])
    },
    Row {
        workloads: EXCLUDED,
        http: Some(Manager),
        ..row("X1", "annotation `excludeOutboundIPRanges: 55.108.108.2/32`", &[(Client::Outside, Greeting)])
    },
    Row {
        workloads: DECLARED_TCP,
        http: Some(Raw),
        ..row("X2", "the HTTP Service's port declared `tcp`", &[(Client::Outside, Greeting)])
    },
    Row {
        resources: ADDED_CHAIN,
        http: Some(Manager),
        ..row("F4", "an EnvoyFilter that adds a filter chain for the address", &[(Client::Outside, Silence)])
    },
    Row {
        resources: DISABLED_INSPECTOR,
        http: Some(Manager),
        ..row(
            "F2m",
            "an EnvoyFilter that merges `filter_disabled` into `http_inspector`",
            &[(Client::Outside, Silence)],
        )
    },
    Row {
        resources: REMOVED_INSPECTOR,
        http: Some(Raw),
        ..row("F2", "an EnvoyFilter that removes `http_inspector`", &[(Client::Outside, Greeting)])
    },
    Row {
        workloads: OTHER_PORT,
        mesh_config: "outboundTrafficPolicy: {mode: ALLOW_ANY_DYNAMIC_DNS}",
        ..row(
            "D0",
            "**ALLOW_ANY_DYNAMIC_DNS**, an address without a listener",
            &[(Client::Outside, Closed(15))],
        )
    },
    Row {
        workloads: OTHER_PORT,
        mesh_config: "outboundTrafficPolicy: {mode: ALLOW_ANY_DYNAMIC_DNS}",
        apply: &["scenarios/dynamic-dns/envoyfilter.yaml"],
        ..row("D5", "the same, `dynamic-dns/envoyfilter.yaml`", &[(Client::Outside, Greeting)])
    },
    row(
        "I0",
        "**PERMISSIVE** (Istio's default), port declared `tcp`",
        &[(Client::Plain, Silence), (Client::Service, Greeting)],
    ),
    Row {
        apply: &[EXTENSION, INBOUND],
        counted: Some((TO_DATABASE, "inbound_3306__")),
        ..row(
            "I0 filter",
            "the same with the filter: `inbound.yaml`, `extension.yaml`",
            &[(Client::Plain, Silence), (Client::Service, Greeting)],
        )
    },
    Row {
        apply: &[PEER_AUTHENTICATION],
        ..row("I3", "`peerauthentication.yaml`", &[(Client::Plain, Greeting), (Client::Service, Greeting)])
    },
    Row {
        apply: &[PEER_AUTHENTICATION, EXTENSION, INBOUND],
        counted: Some((TO_DATABASE, "inbound_3306__")),
        ..row(
            "I3 filter",
            "`peerauthentication.yaml`, `inbound.yaml`, `extension.yaml`",
            &[(Client::Plain, Greeting), (Client::Service, Greeting)],
        )
    },
    Row {
        resources: STRICT,
        ..row("I4", "**STRICT**", &[(Client::Plain, Silence), (Client::Service, Greeting)])
    },
    Row {
        resources: DATABASE_PLUGIN,
        counted: Some((TO_DATABASE, "inbound_3306__")),
        ..row(
            "I0 plugin",
            "PERMISSIVE, a WasmPlugin for the database's pods, without `pluginConfig`",
            &[(Client::Plain, Silence), (Client::Service, Greeting)],
        )
    },
    Row {
        resources: TLS_GATEWAY,
        ..row(
            "G0",
            "**a Gateway whose server has protocol TLS** (PASSTHROUGH)",
            &[(Client::Gateway, Closed(15))],
        )
    },
    Row { apply: &[GATEWAY], ..row("G1", "`gateway/gateway.yaml`", &[(Client::Gateway, Greeting)]) },
    Row {
        apply: &[GATEWAY, EXTENSION, "envoyfilter/gateway.yaml"],
        counted: Some(("gateway", "outbound_3306__mysql.db.svc.cluster.local")),
        ..row(
            "G1 filter",
            "`gateway/gateway.yaml`, `envoyfilter/gateway.yaml`, `extension.yaml`",
            &[(Client::Gateway, Greeting)],
        )
    },
    Row {
        resources: NATIVE_HEADER,
        apply: &[PEER_AUTHENTICATION],
        ..row(
            "P2",
            "Envoy's `proxy_protocol` listener filter, `peerauthentication.yaml`",
            &[(Client::Header, Greeting), (Client::Plain, Silence)],
        )
    },
    Row {
        apply: &[RECEIVE],
        counted: Some((TO_DATABASE, "mysql")),
        ..row(
            "P0",
            "`proxy-protocol/receive.yaml`, PERMISSIVE",
            &[(Client::Header, Greeting), (Client::Plain, Silence), (Client::Service, Greeting)],
        )
    },
    Row {
        apply: &[RECEIVE, PEER_AUTHENTICATION],
        counted: Some((TO_DATABASE, "mysql")),
        ..row(
            "P3",
            "`proxy-protocol/receive.yaml`, `peerauthentication.yaml`",
            &[(Client::Header, Greeting), (Client::Plain, Greeting), (Client::Service, Greeting)],
        )
    },
    Row {
        apply: &[GATEWAY, "scenarios/proxy-protocol/gateway.yaml"],
        ..row(
            "P4",
            "`gateway/gateway.yaml`, `proxy-protocol/gateway.yaml`",
            &[(Client::GatewayHeader, Greeting), (Client::Gateway, Closed(3))],
        )
    },
    Row {
        apply: &[SERVICE_ENTRY, "scenarios/proxy-protocol/send-cluster-add.yaml"],
        http: Some(Manager),
        sends_header: true,
        ..row(
            "P6",
            "`serviceentry.yaml`, `proxy-protocol/send-cluster-add.yaml`",
            &[(Client::Outside, Greeting)],
        )
    },
];
