//! The cases: what breaks a database whose server speaks first, and what of `istio/` mends it. Each is the whole of what is
//! applied to a mesh.

use std::net::{IpAddr, Ipv4Addr};

use serde_json::Value;

use crate::manifests;
use crate::pilot::mesh::{Mesh, OutboundPolicy, Port, Protocol, Proxy, Service};
use crate::pilot::resource::{Resource, parse};

/// The database of the case that hung, the second of its addresses, and one that no manifest names.
pub const DATABASE: Ipv4Addr = Ipv4Addr::new(55, 108, 108, 2);
pub const SECOND: Ipv4Addr = Ipv4Addr::new(55, 108, 108, 9);
pub const NEIGHBOUR: Ipv4Addr = Ipv4Addr::new(55, 108, 108, 10);
pub const PORT: u16 = 10_000;

/// The HTTP Service: what clients connect to, and its pod.
pub const HTTP_SERVICE: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 10);
pub const HTTP_POD: Ipv4Addr = Ipv4Addr::new(10, 0, 1, 1);
pub const HTTP_POD_PORT: u16 = 8080;
/// A database in the mesh, likewise.
pub const MYSQL_SERVICE: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 20);
pub const MYSQL_POD: Ipv4Addr = Ipv4Addr::new(10, 0, 1, 2);
pub const MYSQL_PORT: u16 = 3306;
/// Its port where nothing is declared: on 3306 Istio would take it for TCP all the same.
pub const UNDECLARED_PORT: u16 = 3307;

/// One row of the table.
pub struct Case {
    /// Unique; in the order of the table.
    pub name: &'static str,
    /// What is so, and what was applied.
    pub what: &'static str,
    pub mesh: MeshOf,
    /// Manifests, paths below `istio/`.
    pub apply: &'static [&'static str],
    /// Further resources: what users have of their own, or try.
    pub resources: &'static str,
    pub clients: Clients,
    /// The server knows the client's own connection, by a PROXY header.
    pub sends_header: bool,
    /// The oldest Envoy that takes what is applied.
    pub since: (u32, u32),
    /// The filter is in the chain, and counts the connections with this `destination`.
    pub counted_as: Option<&'static str>,
}

/// What differs from the mesh of the article: a pod `app`, an HTTP Service on port 10000, a database Service on 3306.
#[derive(Clone, Copy, PartialEq)]
pub enum MeshOf {
    Article,
    /// The HTTP Service is on another port.
    OtherPort,
    /// Its port is declared TCP.
    DeclaredTcp,
    /// `protocolDetectionTimeout: 100ms`.
    DetectionTimeout,
    /// The database Service's port declares nothing.
    Undeclared,
    /// `outboundTrafficPolicy: ALLOW_ANY_DYNAMIC_DNS`, and no HTTP Service on the port.
    DynamicDns,
    /// There is no Service for the database's port in the pod.
    NoService,
}

pub enum Clients {
    /// In the pod, of a database outside: what becomes of it, and of the HTTP Service on the same port.
    Outbound(Outbound),
    /// Outside, of the pod, which is a database: without a sidecar, and by mTLS if that is to work at all.
    Inbound { plain: Expected, mtls: Option<Expected> },
    /// Outside, of a gateway in the pod.
    Gateway(Expected),
    /// Outside, of a database's pod or of a gateway: who sends a PROXY header at once, who sends none, and by mTLS.
    Proxied { gateway: bool, with: Expected, without: Expected, mtls: Option<Expected> },
}

pub struct Outbound {
    pub to: (Ipv4Addr, u16),
    /// Another address that fares the same.
    pub also: Option<Ipv4Addr>,
    pub expected: Expected,
    pub http: Option<HttpExpected>,
    /// The address is excluded from redirection.
    pub excluded: bool,
}

/// What becomes of a client that waits for the greeting.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Expected {
    /// As soon as through `tcp_proxy` alone.
    Greeting,
    /// After so many milliseconds, which each connection pays.
    After(u64),
    /// Silence, for ever.
    Hang,
    /// Closed without a word after so many milliseconds.
    Closed(u64),
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum HttpExpected {
    /// Handled as HTTP.
    Manager,
    /// Passed as raw TCP.
    Raw,
    /// Handled as HTTP, unless its first byte comes after 200 ms.
    ManagerIfQuick,
    /// On ports that no Service has: handled as HTTP, on the database's port perhaps as raw TCP.
    ManagerElsewhere { raw_on_the_port: bool },
}

const fn database(expected: Expected, http: HttpExpected) -> Clients {
    Clients::Outbound(Outbound {
        to: (DATABASE, PORT),
        also: None,
        expected,
        http: Some(http),
        excluded: false,
    })
}

/// The database Service in the mesh.
const fn service(expected: Expected, http: Option<HttpExpected>) -> Clients {
    Clients::Outbound(Outbound {
        to: (MYSQL_SERVICE, MYSQL_PORT),
        also: None,
        expected,
        http,
        excluded: false,
    })
}

impl Case {
    /// All that is applied.
    pub fn all_resources(&self) -> Vec<Resource> {
        let own = (!self.resources.is_empty()).then(|| parse(self.resources)).into_iter().flatten();
        self.apply.iter().flat_map(|path| manifests::resources(path)).chain(own).collect()
    }

    /// The proxy that matters, in a pod of this address: the client's, the database's, or a gateway.
    pub fn proxy(&self, address: IpAddr) -> Proxy {
        match self.clients {
            Clients::Outbound(_) => Proxy::sidecar("default", "app", address),
            Clients::Inbound { .. } | Clients::Proxied { gateway: false, .. } => {
                Proxy::sidecar("db", "mysql", address)
            }
            Clients::Gateway(_) | Clients::Proxied { gateway: true, .. } => {
                let labels = [("istio".to_owned(), "ingressgateway".to_owned())].into();
                Proxy { namespace: "istio-system".into(), labels, address, gateway: true }
            }
        }
    }

    /// The annotations of the proxy's pod: those that the shipped component puts there, and what the case is about.
    pub fn annotations(&self) -> Value {
        let mut annotations = manifests::annotations();
        if matches!(&self.clients, Clients::Outbound(of) if of.excluded) {
            annotations["traffic.sidecar.istio.io/excludeOutboundIPRanges"] = format!("{DATABASE}/32").into();
        }
        annotations
    }

    /// An HTTP Service in one namespace, a database in another, whose pod may be the proxy's.
    pub fn mesh(&self, proxy: &Proxy, certificates: &str) -> Mesh {
        let service =
            |host: &str, namespace: &str, address: Ipv4Addr, app: &str, endpoint: IpAddr, port: Port| {
                Service {
                    host: format!("{host}.{namespace}.svc.cluster.local"),
                    namespace: namespace.into(),
                    address: address.to_string(),
                    ports: vec![port],
                    selector: [("app".to_owned(), app.to_owned())].into(),
                    endpoints: vec![endpoint],
                }
            };
        let http = Port { number: PORT, target: HTTP_POD_PORT, protocol: Protocol::Http };
        let http = match self.mesh {
            MeshOf::OtherPort | MeshOf::DynamicDns => Port { number: 10_002, ..http },
            MeshOf::DeclaredTcp => Port { protocol: Protocol::Tcp, ..http },
            _ => http,
        };
        let mysql = match self.mesh {
            MeshOf::Undeclared => {
                Port { number: UNDECLARED_PORT, target: MYSQL_PORT, protocol: Protocol::Auto }
            }
            _ => Port { number: MYSQL_PORT, target: MYSQL_PORT, protocol: Protocol::Tcp },
        };
        let inbound =
            matches!(self.clients, Clients::Inbound { .. } | Clients::Proxied { gateway: false, .. });
        let mysql_pod = if inbound { proxy.address } else { MYSQL_POD.into() };
        let mut services = vec![
            service("irrelevant-svc", "other", HTTP_SERVICE, "irrelevant", HTTP_POD.into(), http),
            service("mysql", "db", MYSQL_SERVICE, "mysql", mysql_pod, mysql),
        ];
        if self.mesh == MeshOf::NoService {
            services.pop();
        }
        Mesh {
            version: "1.32.0",
            services,
            detection_timeout: if self.mesh == MeshOf::DetectionTimeout { "0.100s" } else { "0s" },
            outbound: match self.mesh {
                MeshOf::DynamicDns => OutboundPolicy::AllowAnyDynamicDns,
                _ => OutboundPolicy::AllowAny,
            },
            certificates: certificates.to_owned(),
        }
    }
}

const BASE: Case = Case {
    name: "",
    what: "",
    mesh: MeshOf::Article,
    apply: &[],
    resources: "",
    clients: Clients::Gateway(Expected::Hang),
    sends_header: false,
    since: (0, 0),
    counted_as: None,
};

const EXTENSION: &str = "envoyfilter/extension.yaml";
const WASM_PLUGIN: &str = "base/wasmplugin.yaml";
const SERVICE_ENTRY: &str = "scenarios/port-conflict/serviceentry.yaml";
const LISTENER_ADD: &str = "scenarios/port-conflict/listener-add.yaml";

/// As `wasmplugin.yaml`, for the pods of the database Service.
macro_rules! plugin_of_database {
    () => {
        "{apiVersion: extensions.istio.io/v1alpha1, kind: WasmPlugin, metadata: {name: firstword, namespace: db}, spec: {
           selector: {matchLabels: {app: mysql}}, type: NETWORK, url: 'oci://ghcr.io/firstword/firstword:v0.1.0',
           pluginName: firstword, phase: AUTHN, failStrategy: FAIL_OPEN,
           match: [{mode: SERVER, ports: [{number: 3306}]}], pluginConfig: {}}}"
    };
}

/// Envoy's own listener filter, as Istio's users put it into a sidecar. First, so that original_dst has the last word about
/// where the client wanted to go: the header names the load balancer.
macro_rules! native_header {
    () => {
        "{kind: EnvoyFilter, metadata: {name: native, namespace: db}, spec: {
           workloadSelector: {labels: {app: mysql}}, configPatches: [
             {applyTo: LISTENER_FILTER, match: {context: SIDECAR_INBOUND, listener: {name: virtualInbound}},
              patch: {operation: INSERT_FIRST, value: {name: envoy.filters.listener.proxy_protocol, typed_config: {
                '@type': type.googleapis.com/envoy.extensions.filters.listener.proxy_protocol.v3.ProxyProtocol,
                allow_requests_without_proxy_protocol: true}}}}]}}"
    };
}

macro_rules! strict {
    () => {
        "{kind: PeerAuthentication, metadata: {name: default, namespace: db}, spec: {mtls: {mode: STRICT}}}"
    };
}

const DISABLE: &str = "{kind: PeerAuthentication, metadata: {name: default, namespace: istio-system}, spec: {mtls: {mode: DISABLE}}}";

use Expected::{After, Closed, Greeting, Hang};
use HttpExpected::{Manager, ManagerElsewhere, ManagerIfQuick, Raw};

const ELSEWHERE: HttpExpected = ManagerElsewhere { raw_on_the_port: false };
const ELSEWHERE_ONLY: HttpExpected = ManagerElsewhere { raw_on_the_port: true };

pub const CASES: &[Case] = &[
    Case {
        name: "A0",
        what: "no HTTP Service has the port",
        mesh: MeshOf::OtherPort,
        clients: Clients::Outbound(Outbound {
            to: (DATABASE, PORT),
            also: None,
            expected: Greeting,
            http: None,
            excluded: false,
        }),
        ..BASE
    },
    Case {
        name: "A0 filter",
        what: "the same with the filter: `outbound-passthrough.yaml`, `extension.yaml`",
        mesh: MeshOf::OtherPort,
        apply: &[EXTENSION, "envoyfilter/outbound-passthrough.yaml"],
        clients: Clients::Outbound(Outbound {
            to: (DATABASE, PORT),
            also: None,
            expected: Greeting,
            http: None,
            excluded: false,
        }),
        counted_as: Some("orders"),
        ..BASE
    },
    Case {
        name: "A1",
        what: "**an HTTP Service has the port**",
        clients: database(Hang, Manager),
        ..BASE
    },
    Case {
        name: "A2",
        what: "the same, `protocolDetectionTimeout: 100ms`",
        mesh: MeshOf::DetectionTimeout,
        clients: database(After(100), ManagerIfQuick),
        ..BASE
    },
    Case {
        name: "A4",
        what: "a database Service in the mesh on port 3307, which declares no protocol",
        mesh: MeshOf::Undeclared,
        clients: Clients::Outbound(Outbound {
            to: (MYSQL_SERVICE, UNDECLARED_PORT),
            also: None,
            expected: Hang,
            http: None,
            excluded: false,
        }),
        ..BASE
    },
    Case {
        name: "A5",
        what: "a database Service in the mesh, its port declared `tcp`",
        clients: service(Greeting, None),
        ..BASE
    },
    Case {
        name: "A5 filter",
        what: "the same with the filter: `wasmplugin.yaml`",
        apply: &[WASM_PLUGIN],
        clients: service(Greeting, None),
        counted_as: Some("outbound_3306__mysql.db.svc.cluster.local"),
        ..BASE
    },
    Case {
        name: "F5",
        what: "`serviceentry.yaml`",
        apply: &[SERVICE_ENTRY],
        clients: database(Greeting, Manager),
        ..BASE
    },
    Case {
        name: "F5 plugin",
        what: "`serviceentry.yaml`, `wasmplugin.yaml`",
        apply: &[SERVICE_ENTRY, WASM_PLUGIN],
        clients: database(Greeting, Manager),
        counted_as: Some("orders"),
        ..BASE
    },
    Case {
        name: "F5 filter",
        what: "`serviceentry.yaml`, `outbound-tcp.yaml`, `extension.yaml`",
        apply: &[SERVICE_ENTRY, EXTENSION, "envoyfilter/outbound-tcp.yaml"],
        clients: database(Greeting, Manager),
        counted_as: Some("orders"),
        ..BASE
    },
    Case {
        name: "F5 neighbour",
        what: "`serviceentry.yaml`, an address it does not list",
        apply: &[SERVICE_ENTRY],
        clients: Clients::Outbound(Outbound {
            to: (NEIGHBOUR, PORT),
            also: None,
            expected: Hang,
            http: Some(Manager),
            excluded: false,
        }),
        ..BASE
    },
    Case {
        name: "F6",
        what: "a ServiceEntry for the network, `55.108.108.0/24`",
        resources: "
            {kind: ServiceEntry, metadata: {name: network, namespace: default}, spec: {
              hosts: [network.external], addresses: [55.108.108.0/24], resolution: NONE,
              ports: [{number: 10000, name: tcp-mysql, protocol: TCP}]}}",
        clients: database(Hang, Manager),
        ..BASE
    },
    Case {
        name: "F1",
        what: "`listener-add.yaml`",
        apply: &[LISTENER_ADD],
        clients: Clients::Outbound(Outbound {
            to: (DATABASE, PORT),
            also: Some(SECOND),
            expected: Greeting,
            http: Some(Manager),
            excluded: false,
        }),
        ..BASE
    },
    Case {
        name: "F1 filter",
        what: "`listener-add.yaml`, `extension.yaml`",
        apply: &[EXTENSION, LISTENER_ADD],
        clients: database(Greeting, Manager),
        counted_as: Some("orders"),
        ..BASE
    },
    Case {
        name: "S1",
        what: "`sidecar.yaml`",
        apply: &["scenarios/port-conflict/sidecar.yaml"],
        clients: database(Greeting, Raw),
        ..BASE
    },
    Case {
        name: "F3",
        what: "`sniff-timeout.yaml`, `extension.yaml`",
        apply: &[EXTENSION, "scenarios/port-conflict/sniff-timeout.yaml"],
        clients: database(After(50), ManagerIfQuick),
        counted_as: Some("orders"),
        ..BASE
    },
    Case {
        name: "X1",
        what: "annotation `excludeOutboundIPRanges: 55.108.108.2/32`: past Envoy, so without the filter",
        clients: Clients::Outbound(Outbound {
            to: (DATABASE, PORT),
            also: None,
            expected: Greeting,
            http: Some(Manager),
            excluded: true,
        }),
        ..BASE
    },
    Case {
        name: "X2",
        what: "the HTTP Service's port declared `tcp`",
        mesh: MeshOf::DeclaredTcp,
        clients: database(Greeting, Raw),
        ..BASE
    },
    Case {
        name: "F4",
        what: "an EnvoyFilter that adds a filter chain for the address",
        resources: "
            {kind: EnvoyFilter, metadata: {name: chain, namespace: default}, spec: {configPatches: [
              {applyTo: FILTER_CHAIN, match: {context: SIDECAR_OUTBOUND, listener: {name: 0.0.0.0_10000}},
               patch: {operation: ADD, value: {
                 filter_chain_match: {prefix_ranges: [{address_prefix: 55.108.108.2, prefix_len: 32}]},
                 filters: [{name: envoy.filters.network.tcp_proxy, typed_config: {
                   '@type': type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy,
                   stat_prefix: chain, cluster: PassthroughCluster}}]}}}]}}",
        clients: database(Hang, Manager),
        ..BASE
    },
    Case {
        name: "F2m",
        what: "an EnvoyFilter that merges `filter_disabled` into `http_inspector`: istiod drops it",
        resources: "
            {kind: EnvoyFilter, metadata: {name: merge, namespace: default}, spec: {configPatches: [
              {applyTo: LISTENER_FILTER,
               match: {context: SIDECAR_OUTBOUND,
                       listener: {name: 0.0.0.0_10000, listenerFilter: envoy.filters.listener.http_inspector}},
               patch: {operation: MERGE, value: {
                 filter_disabled: {destination_port_range: {start: 10000, end: 10001}},
                 typed_config: {
                   '@type': type.googleapis.com/envoy.extensions.filters.listener.http_inspector.v3.HttpInspector}}}}]}}",
        clients: database(Hang, Manager),
        ..BASE
    },
    Case {
        name: "F2",
        what: "an EnvoyFilter that removes `http_inspector`",
        resources: "
            {kind: EnvoyFilter, metadata: {name: remove, namespace: default}, spec: {configPatches: [
              {applyTo: LISTENER_FILTER,
               match: {context: SIDECAR_OUTBOUND,
                       listener: {name: 0.0.0.0_10000, listenerFilter: envoy.filters.listener.http_inspector}},
               patch: {operation: REMOVE}}]}}",
        clients: database(Greeting, Raw),
        ..BASE
    },
    Case {
        name: "D0",
        what: "**ALLOW_ANY_DYNAMIC_DNS**, any address without a listener",
        mesh: MeshOf::DynamicDns,
        clients: Clients::Outbound(Outbound {
            to: (DATABASE, PORT),
            also: None,
            expected: Closed(15_000),
            http: Some(ELSEWHERE),
            excluded: false,
        }),
        ..BASE
    },
    Case {
        name: "D1",
        what: "the same, a database Service declared `tcp`",
        mesh: MeshOf::DynamicDns,
        clients: service(Closed(15_000), Some(ELSEWHERE)),
        ..BASE
    },
    Case {
        name: "D2",
        what: "the same, an EnvoyFilter that merges a time-out of 100 ms into `virtualOutbound`",
        mesh: MeshOf::DynamicDns,
        resources: "
            {kind: EnvoyFilter, metadata: {name: merge, namespace: default}, spec: {configPatches: [
              {applyTo: LISTENER, match: {context: SIDECAR_OUTBOUND, listener: {name: virtualOutbound}},
               patch: {operation: MERGE, value: {
                 listener_filters_timeout: 0.1s, continue_on_listener_filters_timeout: true}}}]}}",
        clients: service(Closed(100), Some(ELSEWHERE)),
        ..BASE
    },
    Case {
        name: "D5",
        what: "`dynamic-dns/envoyfilter.yaml`, an address without a listener",
        mesh: MeshOf::DynamicDns,
        apply: &["scenarios/dynamic-dns/envoyfilter.yaml"],
        clients: Clients::Outbound(Outbound {
            to: (DATABASE, PORT),
            also: None,
            expected: Greeting,
            http: Some(ELSEWHERE_ONLY),
            excluded: false,
        }),
        ..BASE
    },
    Case {
        name: "D5 service",
        what: "`dynamic-dns/envoyfilter.yaml`, a database Service declared `tcp`, with `wasmplugin.yaml`",
        mesh: MeshOf::DynamicDns,
        apply: &["scenarios/dynamic-dns/envoyfilter.yaml", WASM_PLUGIN],
        clients: service(Greeting, Some(ELSEWHERE_ONLY)),
        counted_as: Some("outbound_3306__mysql.db.svc.cluster.local"),
        ..BASE
    },
    Case {
        name: "I0",
        what: "**PERMISSIVE** (Istio's default), port declared `tcp`",
        clients: Clients::Inbound { plain: Hang, mtls: Some(Greeting) },
        ..BASE
    },
    Case {
        name: "I0 filter",
        what: "the same with the filter: `inbound.yaml`, `extension.yaml`",
        apply: &[EXTENSION, "envoyfilter/inbound.yaml"],
        clients: Clients::Inbound { plain: Hang, mtls: Some(Greeting) },
        counted_as: Some("inbound_3306__"),
        ..BASE
    },
    Case {
        name: "I3",
        what: "`peerauthentication.yaml`",
        apply: &["envoyfilter/peerauthentication.yaml"],
        clients: Clients::Inbound { plain: Greeting, mtls: None },
        ..BASE
    },
    Case {
        name: "I3 filter",
        what: "`peerauthentication.yaml`, `inbound.yaml`, `extension.yaml`",
        apply: &["envoyfilter/peerauthentication.yaml", EXTENSION, "envoyfilter/inbound.yaml"],
        clients: Clients::Inbound { plain: Greeting, mtls: None },
        counted_as: Some("inbound_3306__"),
        ..BASE
    },
    Case {
        name: "I3 plugin",
        what: "`peerauthentication.yaml`, a WasmPlugin as `wasmplugin.yaml` for the database's pods",
        apply: &["envoyfilter/peerauthentication.yaml"],
        resources: plugin_of_database!(),
        clients: Clients::Inbound { plain: Greeting, mtls: None },
        counted_as: Some("inbound_3306__"),
        ..BASE
    },
    Case {
        name: "I4 plugin",
        what: "STRICT, the same WasmPlugin",
        resources: concat!(strict!(), "\n---\n", plugin_of_database!()),
        clients: Clients::Inbound { plain: Hang, mtls: Some(Greeting) },
        counted_as: Some("inbound_3306__"),
        ..BASE
    },
    Case {
        name: "I1",
        what: "an EnvoyFilter that merges a time-out of 100 ms into `virtualInbound`",
        resources: "
            {kind: EnvoyFilter, metadata: {name: timeout, namespace: db}, spec: {configPatches: [
              {applyTo: LISTENER, match: {context: SIDECAR_INBOUND, listener: {name: virtualInbound}},
               patch: {operation: MERGE, value: {listener_filters_timeout: 0.1s}}}]}}",
        clients: Clients::Inbound { plain: After(100), mtls: Some(Greeting) },
        ..BASE
    },
    Case {
        name: "I4",
        what: "**STRICT**",
        resources: strict!(),
        clients: Clients::Inbound { plain: Hang, mtls: Some(Greeting) },
        ..BASE
    },
    Case {
        name: "I4 filter",
        what: "STRICT, `inbound.yaml`, `extension.yaml`",
        apply: &[EXTENSION, "envoyfilter/inbound.yaml"],
        resources: strict!(),
        clients: Clients::Inbound { plain: Hang, mtls: Some(Greeting) },
        counted_as: Some("inbound_3306__"),
    ..BASE
    },
    Case {
        name: "I6",
        what: "**DISABLE**, port declared `tcp`",
        resources: DISABLE,
        clients: Clients::Inbound { plain: Greeting, mtls: None },
        ..BASE
    },
    Case {
        name: "I7",
        what: "DISABLE, the Service's port is 3307 and declares no protocol",
        mesh: MeshOf::Undeclared,
        resources: DISABLE,
        clients: Clients::Inbound { plain: Hang, mtls: None },
        ..BASE
    },
    Case {
        name: "I5",
        what: "DISABLE, no Service has the port",
        mesh: MeshOf::NoService,
        resources: DISABLE,
        clients: Clients::Inbound { plain: Hang, mtls: None },
        ..BASE
    },
    Case {
        name: "I8",
        what: "PERMISSIVE, no Service has the port",
        mesh: MeshOf::NoService,
        clients: Clients::Inbound { plain: Hang, mtls: Some(Greeting) },
        ..BASE
    },
    Case {
        name: "G0",
        what: "**a Gateway whose server has protocol TLS** (PASSTHROUGH)",
        resources: "
            {kind: Gateway, metadata: {name: mysql, namespace: db}, spec: {
              selector: {istio: ingressgateway},
              servers: [{port: {number: 3306, name: tls-mysql, protocol: TLS}, hosts: ['*'],
                         tls: {mode: PASSTHROUGH}}]}}
            \n---\n
            {kind: VirtualService, metadata: {name: mysql, namespace: db}, spec: {
              hosts: ['*'], gateways: [mysql],
              tls: [{match: [{port: 3306, sniHosts: ['*']}],
                     route: [{destination: {host: mysql.db.svc.cluster.local, port: {number: 3306}}}]}]}}",
        clients: Clients::Gateway(Closed(15_000)),
        ..BASE
    },
    Case {
        name: "G1",
        what: "`gateway/gateway.yaml`",
        apply: &["scenarios/gateway/gateway.yaml"],
        clients: Clients::Gateway(Greeting),
        ..BASE
    },
    Case {
        name: "G1 filter",
        what: "`gateway/gateway.yaml`, `envoyfilter/gateway.yaml`, `extension.yaml`",
        apply: &["scenarios/gateway/gateway.yaml", EXTENSION, "envoyfilter/gateway.yaml"],
        clients: Clients::Gateway(Greeting),
        counted_as: Some("outbound_3306__mysql.db.svc.cluster.local"),
        ..BASE
    },
    Case {
        name: "P1",
        what: "**Envoy's `proxy_protocol` listener filter**, PERMISSIVE",
        resources: native_header!(),
        clients: Clients::Proxied { gateway: false, with: Hang, without: Hang, mtls: Some(Greeting) },
        ..BASE
    },
    Case {
        name: "P2",
        what: "Envoy's `proxy_protocol` listener filter, `peerauthentication.yaml`",
        apply: &["envoyfilter/peerauthentication.yaml"],
        resources: native_header!(),
        clients: Clients::Proxied { gateway: false, with: Greeting, without: Hang, mtls: None },
        ..BASE
    },
    Case {
        name: "P0",
        what: "`proxy-protocol/receive.yaml`, PERMISSIVE",
        apply: &["scenarios/proxy-protocol/receive.yaml"],
        clients: Clients::Proxied { gateway: false, with: Greeting, without: Hang, mtls: Some(Greeting) },
        counted_as: Some("mysql"),
        ..BASE
    },
    Case {
        name: "P3",
        what: "`proxy-protocol/receive.yaml`, `peerauthentication.yaml`",
        apply: &["scenarios/proxy-protocol/receive.yaml", "envoyfilter/peerauthentication.yaml"],
        clients: Clients::Proxied { gateway: false, with: Greeting, without: Greeting, mtls: None },
        counted_as: Some("mysql"),
        ..BASE
    },
    Case {
        name: "P4",
        what: "`gateway/gateway.yaml`, `proxy-protocol/gateway.yaml`",
        apply: &["scenarios/gateway/gateway.yaml", "scenarios/proxy-protocol/gateway.yaml"],
        clients: Clients::Proxied { gateway: true, with: Greeting, without: Closed(3_000), mtls: None },
        since: (1, 37),
        counted_as: Some("mysql"),
        ..BASE
    },
    Case {
        name: "P5",
        what: "`proxy-protocol/send.yaml`, a database Service declared `tcp`: it sees the pod's own connections",
        apply: &["scenarios/proxy-protocol/send.yaml"],
        clients: service(Greeting, None),
        sends_header: true,
        ..BASE
    },
    Case {
        name: "P6",
        what: "`serviceentry.yaml`, `proxy-protocol/send-cluster-add.yaml`: the same outside the mesh",
        apply: &[SERVICE_ENTRY, "scenarios/proxy-protocol/send-cluster-add.yaml"],
        clients: database(Greeting, Manager),
        sends_header: true,
        ..BASE
    },
];
