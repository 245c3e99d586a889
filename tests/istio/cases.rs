//! The cases: configurations of a mesh that break a server-first database, and the manifests of `istio/` that fix them.

use crate::case::{
    AUTOMATIC, Case, Clients, DATABASE, Expected, HttpExpected, MYSQL_PORT, MYSQL_SERVICE, MeshOf, NEIGHBOUR,
    Outbound, PORT, SECOND, UNDECLARED_PORT,
};

const EXTENSION: &str = "envoyfilter/extension.yaml";
const WASM_PLUGIN: &str = "base/wasmplugin.yaml";
const SERVICE_ENTRY: &str = "scenarios/port-conflict/serviceentry.yaml";
const SNIFF_TIMEOUT: &str = "scenarios/port-conflict/sniff-timeout.yaml";
const LISTENER_ADD: &str = "scenarios/port-conflict/listener-add.yaml";
const DYNAMIC_DNS: &str = "scenarios/dynamic-dns/envoyfilter.yaml";
const INBOUND: &str = "envoyfilter/inbound.yaml";
const PEER_AUTHENTICATION: &str = "envoyfilter/peerauthentication.yaml";
const GATEWAY: &str = "scenarios/gateway/gateway.yaml";
const RECEIVE: &str = "scenarios/proxy-protocol/receive.yaml";

/// Label `destination` of connections through the database Service, and to the database's pod.
const SERVICE_DESTINATION: &str = "outbound_3306__mysql.db.svc.cluster.local";
const INBOUND_DESTINATION: &str = "inbound_3306__";

/// A resource that `tests/cluster` applies too. A macro, because one case joins two of them.
macro_rules! shared {
    ($name:literal) => {
        include_str!(concat!("resources/", $name, ".yaml"))
    };
}

const NETWORK_SERVICE_ENTRY: &str = shared!("network-entry");
const DISABLE_INSPECTOR: &str = shared!("disabled-inspector");
const REMOVE_INSPECTOR: &str = shared!("removed-inspector");
const STRICT: &str = shared!("strict");
const DATABASE_PLUGIN: &str = shared!("database-plugin");
const TLS_GATEWAY: &str = shared!("tls-gateway");
const ADD_FILTER_CHAIN: &str = shared!("added-chain");
const NATIVE_HEADER: &str = shared!("native-header");

const DISABLE: &str = "{kind: PeerAuthentication, metadata: {name: default, namespace: istio-system}, spec: {mtls: {mode: DISABLE}}}";

/// As users write it, and as its manifest has it, but without DNS proxying.
const NAMED_SERVICE_ENTRY: &str = "
    {kind: ServiceEntry, metadata: {name: orders-example-com, namespace: default}, spec: {
      hosts: [orders.example.com], resolution: DNS, location: MESH_EXTERNAL,
      ports: [{number: 10000, name: tcp-mysql, protocol: TCP}]}}";

const SHORT_OUTBOUND_TIMEOUT: &str = "
    {kind: EnvoyFilter, metadata: {name: merge, namespace: default}, spec: {configPatches: [
      {applyTo: LISTENER, match: {context: SIDECAR_OUTBOUND, listener: {name: virtualOutbound}},
       patch: {operation: MERGE, value: {
         listener_filters_timeout: 0.1s, continue_on_listener_filters_timeout: true}}}]}}";

const SHORT_INBOUND_TIMEOUT: &str = "
    {kind: EnvoyFilter, metadata: {name: timeout, namespace: db}, spec: {configPatches: [
      {applyTo: LISTENER, match: {context: SIDECAR_INBOUND, listener: {name: virtualInbound}},
       patch: {operation: MERGE, value: {listener_filters_timeout: 0.1s}}}]}}";

use Expected::{After, Closed, Greeting, Hang};
use HttpExpected::{Manager, ManagerElsewhere, ManagerIfQuick, Raw};

/// Clients of the database outside the mesh.
const fn database(expected: Expected) -> Outbound {
    Outbound::to((DATABASE, PORT), expected)
}

/// Clients of the database Service.
const fn service(expected: Expected) -> Outbound {
    Outbound::to((MYSQL_SERVICE, MYSQL_PORT), expected)
}

const ELSEWHERE: HttpExpected = ManagerElsewhere { raw_on_the_port: false };
const ELSEWHERE_ONLY: HttpExpected = ManagerElsewhere { raw_on_the_port: true };

pub const CASES: &[Case] = &[
    Case::outbound("A0", "no HTTP Service has the port", database(Greeting)).mesh_of(MeshOf::OtherPort),
    Case::outbound(
        "A0 filter",
        "the same with the filter: `outbound-passthrough.yaml`, `extension.yaml`",
        database(Greeting),
    )
    .mesh_of(MeshOf::OtherPort)
    .apply(&[EXTENSION, "envoyfilter/outbound-passthrough.yaml"])
    .counted_as("orders"),
    Case::outbound("A1", "**an HTTP Service has the port**", database(Hang).http(Manager)),
    Case::outbound(
        "A2",
        "the same, `protocolDetectionTimeout: 100ms`",
        database(After(100)).http(ManagerIfQuick),
    )
    .mesh_of(MeshOf::DetectionTimeout),
    Case::outbound(
        "A4",
        "a database Service in the mesh on port 3307, which declares no protocol",
        Outbound::to((MYSQL_SERVICE, UNDECLARED_PORT), Hang),
    )
    .mesh_of(MeshOf::Undeclared),
    Case::outbound("A5", "a database Service in the mesh, its port declared `tcp`", service(Greeting)),
    Case::outbound("A5 filter", "the same with the filter: `wasmplugin.yaml`", service(Greeting))
        .apply(&[WASM_PLUGIN])
        .counted_as(SERVICE_DESTINATION),
    Case::outbound(
        "N0",
        "a ServiceEntry for the database's name, without addresses, without DNS proxying",
        database(Hang).http(Manager),
    )
    .resources(NAMED_SERVICE_ENTRY),
    Case::outbound(
        "N1",
        "`dns-name.yaml`, a client that connects by the name",
        Outbound::to((AUTOMATIC, PORT), Greeting).http(Manager),
    )
    .apply(&["scenarios/port-conflict/dns-name.yaml"]),
    Case::outbound("F5", "`serviceentry.yaml`", database(Greeting).http(Manager)).apply(&[SERVICE_ENTRY]),
    Case::outbound("F5 plugin", "`serviceentry.yaml`, `wasmplugin.yaml`", database(Greeting).http(Manager))
        .apply(&[SERVICE_ENTRY, WASM_PLUGIN])
        .counted_as("orders"),
    Case::outbound(
        "F5 filter",
        "`serviceentry.yaml`, `outbound-tcp.yaml`, `extension.yaml`",
        database(Greeting).http(Manager),
    )
    .apply(&[SERVICE_ENTRY, EXTENSION, "envoyfilter/outbound-tcp.yaml"])
    .counted_as("orders"),
    Case::outbound(
        "F5 neighbour",
        "`serviceentry.yaml`, an address it does not list",
        Outbound::to((NEIGHBOUR, PORT), Hang).http(Manager),
    )
    .apply(&[SERVICE_ENTRY]),
    Case::outbound("F6", "a ServiceEntry for the network, `55.108.108.0/24`", database(Hang).http(Manager))
        .resources(NETWORK_SERVICE_ENTRY),
    Case::outbound("F1", "`listener-add.yaml`", database(Greeting).http(Manager).also(SECOND))
        .apply(&[LISTENER_ADD]),
    Case::outbound("F1 filter", "`listener-add.yaml`, `extension.yaml`", database(Greeting).http(Manager))
        .apply(&[EXTENSION, LISTENER_ADD])
        .counted_as("orders"),
    Case::outbound("S1", "`sidecar.yaml`", database(Greeting).http(Raw))
        .apply(&["scenarios/port-conflict/sidecar.yaml"]),
    Case::outbound("F3", "`sniff-timeout.yaml`, `extension.yaml`", database(After(50)).http(ManagerIfQuick))
        .apply(&[EXTENSION, SNIFF_TIMEOUT])
        .counted_as("orders"),
    Case::outbound(
        "X1",
        "annotation `excludeOutboundIPRanges: 55.108.108.2/32`: past Envoy, so without the filter",
        database(Greeting).http(Manager).excluded(),
    ),
    Case::outbound("X2", "the HTTP Service's port declared `tcp`", database(Greeting).http(Raw))
        .mesh_of(MeshOf::DeclaredTcp),
    Case::outbound(
        "F4",
        "an EnvoyFilter that adds a filter chain for the address",
        database(Hang).http(Manager),
    )
    .resources(ADD_FILTER_CHAIN),
    Case::outbound(
        "F2m",
        "an EnvoyFilter that merges `filter_disabled` into `http_inspector`: istiod drops it",
        database(Hang).http(Manager),
    )
    .resources(DISABLE_INSPECTOR),
    Case::outbound("F2", "an EnvoyFilter that removes `http_inspector`", database(Greeting).http(Raw))
        .resources(REMOVE_INSPECTOR),
    Case::outbound(
        "H0",
        "**the pod of a headless Service**, with PILOT_ENABLE_HEADLESS_FILTER_CHAIN_LISTENER (1.32)",
        database(Hang).http(Manager),
    )
    .mesh_of(MeshOf::Headless),
    Case::outbound(
        "H1",
        "the same, `headless/serviceentry.yaml`, until the pod restarts",
        database(Greeting).http(Manager),
    )
    .mesh_of(MeshOf::Headless)
    .apply(&["scenarios/headless/serviceentry.yaml"]),
    Case::outbound("H2", "the same, `sniff-timeout.yaml`", database(After(50)).http(ManagerIfQuick))
        .mesh_of(MeshOf::Headless)
        .apply(&[SNIFF_TIMEOUT]),
    Case::outbound(
        "D0",
        "**ALLOW_ANY_DYNAMIC_DNS**, any address without a listener",
        database(Closed(15_000)).http(ELSEWHERE),
    )
    .mesh_of(MeshOf::DynamicDns),
    Case::outbound(
        "D1",
        "the same, a database Service declared `tcp`",
        service(Closed(15_000)).http(ELSEWHERE),
    )
    .mesh_of(MeshOf::DynamicDns),
    Case::outbound(
        "D2",
        "the same, an EnvoyFilter that merges a time-out of 100 ms into `virtualOutbound`",
        service(Closed(100)).http(ELSEWHERE),
    )
    .mesh_of(MeshOf::DynamicDns)
    .resources(SHORT_OUTBOUND_TIMEOUT),
    Case::outbound(
        "D5",
        "`dynamic-dns/envoyfilter.yaml`, an address without a listener",
        database(Greeting).http(ELSEWHERE_ONLY),
    )
    .mesh_of(MeshOf::DynamicDns)
    .apply(&[DYNAMIC_DNS]),
    Case::outbound(
        "D5 service",
        "`dynamic-dns/envoyfilter.yaml`, a database Service declared `tcp`, with `wasmplugin.yaml`",
        service(Greeting).http(ELSEWHERE_ONLY),
    )
    .mesh_of(MeshOf::DynamicDns)
    .apply(&[DYNAMIC_DNS, WASM_PLUGIN])
    .counted_as(SERVICE_DESTINATION),
    Case::inbound("I0", "**PERMISSIVE** (Istio's default), port declared `tcp`", Hang, Some(Greeting)),
    Case::inbound(
        "I0 filter",
        "the same with the filter: `inbound.yaml`, `extension.yaml`",
        Hang,
        Some(Greeting),
    )
    .apply(&[EXTENSION, INBOUND])
    .counted_as(INBOUND_DESTINATION),
    Case::inbound("I3", "`peerauthentication.yaml`", Greeting, None).apply(&[PEER_AUTHENTICATION]),
    Case::inbound("I3 filter", "`peerauthentication.yaml`, `inbound.yaml`, `extension.yaml`", Greeting, None)
        .apply(&[PEER_AUTHENTICATION, EXTENSION, INBOUND])
        .counted_as(INBOUND_DESTINATION),
    Case::inbound(
        "I3 plugin",
        "`peerauthentication.yaml`, a WasmPlugin as `wasmplugin.yaml` for the database's pods",
        Greeting,
        None,
    )
    .apply(&[PEER_AUTHENTICATION])
    .resources(DATABASE_PLUGIN)
    .counted_as(INBOUND_DESTINATION),
    Case::inbound("I4 plugin", "STRICT, the same WasmPlugin", Hang, Some(Greeting))
        .resources(concat!(shared!("strict"), "---\n", shared!("database-plugin")))
        .counted_as(INBOUND_DESTINATION),
    Case::inbound(
        "I1",
        "an EnvoyFilter that merges a time-out of 100 ms into `virtualInbound`",
        After(100),
        Some(Greeting),
    )
    .resources(SHORT_INBOUND_TIMEOUT),
    Case::inbound("I4", "**STRICT**", Hang, Some(Greeting)).resources(STRICT),
    Case::inbound("I4 filter", "STRICT, `inbound.yaml`, `extension.yaml`", Hang, Some(Greeting))
        .apply(&[EXTENSION, INBOUND])
        .resources(STRICT)
        .counted_as(INBOUND_DESTINATION),
    Case::inbound("I6", "**DISABLE**, port declared `tcp`", Greeting, None).resources(DISABLE),
    Case::inbound("I7", "DISABLE, the Service's port is 3307 and declares no protocol", Hang, None)
        .mesh_of(MeshOf::Undeclared)
        .resources(DISABLE),
    Case::inbound("I5", "DISABLE, no Service has the port", Hang, None)
        .mesh_of(MeshOf::NoService)
        .resources(DISABLE),
    Case::inbound("I8", "PERMISSIVE, no Service has the port", Hang, Some(Greeting))
        .mesh_of(MeshOf::NoService),
    Case::new(
        "G0",
        "**a Gateway whose server has protocol TLS** (PASSTHROUGH)",
        Clients::Gateway(Closed(15_000)),
    )
    .resources(TLS_GATEWAY),
    Case::new("G1", "`gateway/gateway.yaml`", Clients::Gateway(Greeting)).apply(&[GATEWAY]),
    Case::new(
        "G1 filter",
        "`gateway/gateway.yaml`, `envoyfilter/gateway.yaml`, `extension.yaml`",
        Clients::Gateway(Greeting),
    )
    .apply(&[GATEWAY, EXTENSION, "envoyfilter/gateway.yaml"])
    .counted_as(SERVICE_DESTINATION),
    Case::new(
        "P1",
        "**Envoy's `proxy_protocol` listener filter**, PERMISSIVE",
        Clients::Proxied { gateway: false, with: Hang, without: Hang, mtls: Some(Greeting) },
    )
    .resources(NATIVE_HEADER),
    Case::new(
        "P2",
        "Envoy's `proxy_protocol` listener filter, `peerauthentication.yaml`",
        Clients::Proxied { gateway: false, with: Greeting, without: Hang, mtls: None },
    )
    .apply(&[PEER_AUTHENTICATION])
    .resources(NATIVE_HEADER),
    Case::new(
        "P0",
        "`proxy-protocol/receive.yaml`, PERMISSIVE",
        Clients::Proxied { gateway: false, with: Greeting, without: Hang, mtls: Some(Greeting) },
    )
    .apply(&[RECEIVE])
    .counted_as("mysql"),
    Case::new(
        "P3",
        "`proxy-protocol/receive.yaml`, `peerauthentication.yaml`",
        Clients::Proxied { gateway: false, with: Greeting, without: Greeting, mtls: None },
    )
    .apply(&[RECEIVE, PEER_AUTHENTICATION])
    .counted_as("mysql"),
    Case::new(
        "P4",
        "`gateway/gateway.yaml`, `proxy-protocol/gateway.yaml`",
        Clients::Proxied { gateway: true, with: Greeting, without: Closed(3_000), mtls: None },
    )
    .apply(&[GATEWAY, "scenarios/proxy-protocol/gateway.yaml"])
    .since(1, 37)
    .counted_as("mysql"),
    Case::outbound(
        "P5",
        "`proxy-protocol/send.yaml`, a database Service declared `tcp`: it sees the pod's own connections",
        service(Greeting),
    )
    .apply(&["scenarios/proxy-protocol/send.yaml"])
    .sends_header(),
    Case::outbound(
        "P6",
        "`serviceentry.yaml`, `proxy-protocol/send-cluster-add.yaml`: the same outside the mesh",
        database(Greeting).http(Manager),
    )
    .apply(&[SERVICE_ENTRY, "scenarios/proxy-protocol/send-cluster-add.yaml"])
    .sends_header(),
];
