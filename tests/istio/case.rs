//! One case: a mesh, all resources that are applied to it, and the expected outcome for each kind of client.

use std::net::{IpAddr, Ipv4Addr};

use serde_json::Value;

use crate::manifests;
use crate::pilot::mesh::{Mesh, OutboundPolicy, Port, Protocol, Proxy, Service};
use crate::pilot::resource::{Resource, parse};

/// Addresses of the database in the article: two that the manifests name, and one that they do not.
pub const DATABASE: Ipv4Addr = Ipv4Addr::new(55, 108, 108, 2);
/// The address that Istio chooses for a host without one, [`crate::pilot::mesh::AUTOMATIC`].
pub const AUTOMATIC: Ipv4Addr = Ipv4Addr::new(240, 240, 0, 1);
pub const SECOND: Ipv4Addr = Ipv4Addr::new(55, 108, 108, 9);
pub const NEIGHBOUR: Ipv4Addr = Ipv4Addr::new(55, 108, 108, 10);
pub const PORT: u16 = 10_000;

/// The HTTP Service: its address, and its pod.
pub const HTTP_SERVICE: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 10);
pub const HTTP_POD: Ipv4Addr = Ipv4Addr::new(10, 0, 1, 1);
pub const HTTP_POD_PORT: u16 = 8080;
/// The database Service: its address, and its pod.
pub const MYSQL_SERVICE: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 20);
pub const MYSQL_POD: Ipv4Addr = Ipv4Addr::new(10, 0, 1, 2);
pub const MYSQL_PORT: u16 = 3306;
/// Port of the database Service if it declares no protocol. Not 3306, because Istio uses TCP there without a declaration.
pub const UNDECLARED_PORT: u16 = 3307;

/// One row of the tables in `docs/measured.md`.
pub struct Case {
    /// Unique name.
    pub name: &'static str,
    /// The mesh and the resources, in words.
    pub description: &'static str,
    pub mesh: MeshOf,
    /// Manifests, as paths in `istio/`.
    pub apply: &'static [&'static str],
    /// Other resources, which users have or try.
    pub resources: &'static str,
    pub clients: Clients,
    /// The server receives a PROXY header with the client's address.
    pub sends_header: bool,
    /// The oldest Envoy that accepts the resources.
    pub since: (u32, u32),
    /// Label `destination` of the filter's counts. `None` if the filter is not in the chain.
    pub counted_as: Option<&'static str>,
}

/// A mesh: that of the article, or a variant. The article has a pod `app`, an HTTP Service on port 10000, and a database
/// Service on port 3306.
#[derive(Clone, Copy, PartialEq)]
pub enum MeshOf {
    Article,
    /// The HTTP Service has another port.
    OtherPort,
    /// The port of the HTTP Service is declared TCP.
    DeclaredTcp,
    /// `protocolDetectionTimeout: 100ms`.
    DetectionTimeout,
    /// The port of the database Service declares no protocol.
    Undeclared,
    /// `outboundTrafficPolicy: ALLOW_ANY_DYNAMIC_DNS`, and no HTTP Service on the port.
    DynamicDns,
    /// No Service has the port of the database in the pod.
    NoService,
    /// The database is the pod of a headless Service, with `PILOT_ENABLE_HEADLESS_FILTER_CHAIN_LISTENER`.
    Headless,
}

/// Clients of a case, with the expected outcome of each kind.
pub enum Clients {
    /// Clients in the pod, of a database outside the pod and of the HTTP Service on the same port.
    Outbound(Outbound),
    /// Clients outside the pod, which contains a database: without a sidecar, and with mTLS. `mtls` is `None` if the pod
    /// does not accept mTLS.
    Inbound { plain: Expected, mtls: Option<Expected> },
    /// Clients outside the pod, which is a gateway.
    Gateway(Expected),
    /// Clients outside the pod, which contains a database or is a gateway: those that send a PROXY header first, those
    /// that send none, and those with mTLS.
    Proxied { gateway: bool, with: Expected, without: Expected, mtls: Option<Expected> },
}

/// Clients of a database outside the pod.
pub struct Outbound {
    pub to: (Ipv4Addr, u16),
    /// Another address with the same outcome.
    pub also: Option<Ipv4Addr>,
    pub expected: Expected,
    pub http: Option<HttpExpected>,
    /// The address is excluded from redirection.
    pub excluded: bool,
}

/// Outcome for a client that waits for the greeting.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Expected {
    /// The greeting arrives as fast as through `tcp_proxy` alone.
    Greeting,
    /// Each greeting arrives after this number of milliseconds.
    After(u64),
    /// The client waits for ever.
    Hang,
    /// The connection is closed without a byte after this number of milliseconds.
    Closed(u64),
}

/// Outcome for a client of the HTTP Service.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum HttpExpected {
    /// Handled as HTTP.
    Manager,
    /// Forwarded as raw TCP.
    Raw,
    /// Handled as HTTP, unless its first byte comes after 200 ms.
    ManagerIfQuick,
    /// Handled as HTTP on ports without a Service. On the database's port perhaps forwarded as raw TCP.
    ManagerElsewhere { raw_on_the_port: bool },
}

impl Outbound {
    pub const fn to(to: (Ipv4Addr, u16), expected: Expected) -> Self {
        Self { to, also: None, expected, http: None, excluded: false }
    }

    pub const fn also(self, address: Ipv4Addr) -> Self {
        Self { also: Some(address), ..self }
    }

    pub const fn http(self, expected: HttpExpected) -> Self {
        Self { http: Some(expected), ..self }
    }

    pub const fn excluded(self) -> Self {
        Self { excluded: true, ..self }
    }
}

impl Case {
    /// A case in the mesh of the article, with nothing applied.
    pub const fn new(name: &'static str, description: &'static str, clients: Clients) -> Self {
        Self {
            name,
            description,
            mesh: MeshOf::Article,
            apply: &[],
            resources: "",
            clients,
            sends_header: false,
            since: (0, 0),
            counted_as: None,
        }
    }

    pub const fn outbound(name: &'static str, description: &'static str, clients: Outbound) -> Self {
        Self::new(name, description, Clients::Outbound(clients))
    }

    pub const fn inbound(
        name: &'static str,
        description: &'static str,
        plain: Expected,
        mtls: Option<Expected>,
    ) -> Self {
        Self::new(name, description, Clients::Inbound { plain, mtls })
    }

    pub const fn mesh_of(self, mesh: MeshOf) -> Self {
        Self { mesh, ..self }
    }

    pub const fn apply(self, apply: &'static [&'static str]) -> Self {
        Self { apply, ..self }
    }

    pub const fn resources(self, resources: &'static str) -> Self {
        Self { resources, ..self }
    }

    pub const fn sends_header(self) -> Self {
        Self { sends_header: true, ..self }
    }

    pub const fn since(self, major: u32, minor: u32) -> Self {
        Self { since: (major, minor), ..self }
    }

    pub const fn counted_as(self, destination: &'static str) -> Self {
        Self { counted_as: Some(destination), ..self }
    }

    /// Whether the configuration is from the stand-in alone: no istiod has generated it for this repository.
    pub fn is_of_the_stand_in(&self) -> bool {
        self.mesh == MeshOf::Headless || self.name.starts_with('N')
    }

    /// All resources that are applied.
    pub fn all_resources(&self) -> Vec<Resource> {
        let own = (!self.resources.is_empty()).then(|| parse(self.resources)).into_iter().flatten();
        self.apply.iter().flat_map(|path| manifests::resources(path)).chain(own).collect()
    }

    /// The proxy under test, in a pod with this address: that of the client or the database, or a gateway.
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

    /// Annotations of the proxy's pod: those of the shipped component, and those of the case.
    pub fn annotations(&self) -> Value {
        let mut annotations = manifests::annotations();
        if matches!(&self.clients, Clients::Outbound(clients) if clients.excluded) {
            annotations["traffic.sidecar.istio.io/excludeOutboundIPRanges"] = format!("{DATABASE}/32").into();
        }
        annotations
    }

    /// The mesh: an HTTP Service in one namespace, and a database in another, whose pod can be the proxy's.
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
                    by_dns: false,
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
        if self.mesh == MeshOf::Headless {
            let service = services.last_mut().expect("the database");
            // Its pod is a chain of the listener for all addresses of the port, and connections go to the pod's own address.
            service.address = format!("{DATABASE}/32");
            service.ports = vec![Port { number: PORT, target: PORT, protocol: Protocol::Tcp }];
            service.endpoints.clear();
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
