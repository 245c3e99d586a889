//! Input of istiod other than Istio's resources: Services, the proxy, and the configuration of the mesh.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use serde_json::Value;

use super::resource::{Resource, of_kind};

#[derive(Clone, Debug)]
pub struct Mesh {
    /// Istio's version, as in a proxy's metadata.
    pub version: &'static str,
    pub services: Vec<Service>,
    /// `meshConfig.protocolDetectionTimeout`, in protobuf's format.
    pub detection_timeout: &'static str,
    pub outbound: OutboundPolicy,
    /// Folder with the certificates for mTLS: `cert-chain.pem`, `key.pem`, `root-cert.pem`.
    pub certificates: String,
}

/// `meshConfig.outboundTrafficPolicy.mode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutboundPolicy {
    AllowAny,
    #[allow(dead_code, reason = "no case uses it, but it completes the model")]
    RegistryOnly,
    /// Since Istio 1.31.
    AllowAnyDynamicDns,
}

impl OutboundPolicy {
    /// Cluster of connections without a listener.
    pub fn cluster(self) -> &'static str {
        match self {
            Self::AllowAny | Self::AllowAnyDynamicDns => "PassthroughCluster",
            Self::RegistryOnly => "BlackHoleCluster",
        }
    }
}

/// A Service of Kubernetes, or one from a `ServiceEntry`.
#[derive(Clone, Debug)]
pub struct Service {
    /// `mysql.db.svc.cluster.local`
    pub host: String,
    pub namespace: String,
    /// An address, or a network in CIDR notation.
    pub address: String,
    pub ports: Vec<Port>,
    pub selector: BTreeMap<String, String>,
    /// Addresses of its pods. If empty, connections go to their original destination.
    pub endpoints: Vec<IpAddr>,
    /// Whether the proxy resolves the host by DNS.
    pub by_dns: bool,
}

#[derive(Clone, Copy, Debug)]
pub struct Port {
    pub number: u16,
    pub target: u16,
    pub protocol: Protocol,
}

/// Protocol that the name or the `appProtocol` of a port declares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    Http,
    Tcp,
    /// Like TCP, but does not share a listener with other protocols.
    Mysql,
    /// No declaration. Envoy detects it from the client's first bytes, except on [`SERVER_FIRST`] ports.
    Auto,
}

/// Ports on which istiod uses TCP without a declaration.
const SERVER_FIRST: [u16; 4] = [25, 53, 3306, 27_017];

impl Protocol {
    pub fn parse(text: &str) -> Self {
        match text.to_ascii_lowercase().as_str() {
            "http" | "http2" | "grpc" => Self::Http,
            "tcp" | "tls" | "https" | "mongo" | "redis" => Self::Tcp,
            "mysql" => Self::Mysql,
            _ => Self::Auto,
        }
    }
}

impl Service {
    pub fn endpoints_at(&self, port: &Port) -> impl Iterator<Item = SocketAddr> {
        self.endpoints.iter().map(|address| (*address, port.target).into())
    }

    /// Name of the cluster for a port, in proxies of clients.
    pub fn cluster(&self, port: &Port) -> String {
        format!("outbound|{}||{}", port.number, self.host)
    }
}

/// A sidecar or a gateway.
#[derive(Clone, Debug)]
pub struct Proxy {
    pub namespace: String,
    pub labels: BTreeMap<String, String>,
    pub address: IpAddr,
    pub gateway: bool,
}

impl Proxy {
    pub fn sidecar(namespace: &str, app: &str, address: IpAddr) -> Self {
        let labels = [("app".to_owned(), app.to_owned())].into();
        Self { namespace: namespace.into(), labels, address, gateway: false }
    }

    /// Whether the Service selects this pod.
    pub fn is_selected_by(&self, service: &Service) -> bool {
        service.namespace == self.namespace
            && !service.selector.is_empty()
            && service.selector.iter().all(|(key, value)| self.labels.get(key) == Some(value))
    }
}

impl Mesh {
    /// Services that a proxy can see: those of the mesh and of `ServiceEntry`s, without those that a `Sidecar` excludes.
    pub fn services_with(&self, proxy: &Proxy, resources: &[Resource]) -> Vec<Service> {
        // With DNS proxying, a proxy has a listener for the address that istiod has chosen.
        let proxying = |config: &Resource| {
            config.selects(&proxy.namespace, &proxy.labels, "/selector/matchLabels")
                && config.spec()["environmentVariables"]["ISTIO_META_DNS_CAPTURE"] == "true"
        };
        let chosen = if of_kind(resources, "ProxyConfig").any(proxying) { AUTOMATIC } else { "0.0.0.0" };
        let entries = of_kind(resources, "ServiceEntry").flat_map(|entry| service_entry(entry, chosen));
        let mut services: Vec<_> = self.services.iter().cloned().chain(entries).collect();
        for given in of_kind(resources, "Service") {
            declare(&mut services, given);
        }
        let selects = |sidecar: &&Resource| {
            sidecar.namespace == proxy.namespace
                && sidecar.selects(&proxy.namespace, &proxy.labels, "/workloadSelector/labels")
        };
        if let Some(sidecar) = of_kind(resources, "Sidecar").find(selects) {
            let egress = sidecar.spec()["egress"].as_array().expect("egress of a Sidecar");
            let [listener] = egress.as_slice() else { panic!("more than one egress listener in a Sidecar") };
            assert!(listener.get("port").is_none(), "an egress listener with a port");
            let hosts = listener["hosts"].as_array().expect("hosts");
            let imported = |service: &Service| {
                hosts.iter().filter_map(Value::as_str).any(|host| imports(host, &proxy.namespace, service))
            };
            services.retain(imported);
        }
        for port in services.iter_mut().flat_map(|service| &mut service.ports) {
            if port.protocol == Protocol::Auto && SERVER_FIRST.contains(&port.number) {
                port.protocol = Protocol::Tcp;
            }
        }
        services.sort_by(|a, b| a.host.cmp(&b.host));
        services
    }
}

/// Adds a Service of Kubernetes, or patches the ports of an existing one by their numbers.
fn declare(services: &mut Vec<Service>, given: &Resource) {
    let spec = given.spec();
    let host = format!("{}.{}.svc.cluster.local", given.name, given.namespace);
    let ports = spec["ports"].as_array().expect("ports").iter().map(|port| {
        let number = |key: &str| port[key].as_u64().and_then(|port| u16::try_from(port).ok());
        let protocol = Protocol::parse(port["appProtocol"].as_str().unwrap_or_default());
        (number("port").expect("a port"), number("targetPort"), protocol)
    });
    if let Some(service) = services.iter_mut().find(|service| service.host == host) {
        for (number, target, protocol) in ports {
            let port =
                service.ports.iter_mut().find(|port| port.number == number).expect("a port that is there");
            *port = Port { number, target: target.unwrap_or(port.target), protocol };
        }
        return;
    }
    let selector = spec["selector"].as_object().expect("a selector").iter();
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    services.push(Service {
        host,
        namespace: given.namespace.clone(),
        address: "10.96.0.30".into(),
        ports: ports
            .map(|(number, target, protocol)| Port { number, target: target.unwrap_or(number), protocol })
            .collect(),
        selector: selector.map(|(key, value)| (key.clone(), text(value))).collect(),
        endpoints: Vec::new(),
        by_dns: false,
    });
}

/// Whether a host of a `Sidecar` includes a Service. The format is `namespace/host`, with `*` for all, and `.` for the
/// sidecar's namespace.
fn imports(host: &str, own_namespace: &str, service: &Service) -> bool {
    let (namespace, host) = host.split_once('/').expect("namespace/host");
    let namespace = if namespace == "." { own_namespace } else { namespace };
    (namespace == "*" || namespace == service.namespace) && (host == "*" || host == service.host)
}

/// The address that istiod chooses for a host without one.
pub const AUTOMATIC: &str = "240.240.0.1";

/// Services of a `ServiceEntry`: one for each host and address. `chosen`: the address of a host without one.
fn service_entry(entry: &Resource, chosen: &str) -> Vec<Service> {
    let spec = entry.spec();
    let list = |key: &str| spec[key].as_array().cloned().unwrap_or_default();
    let by_dns = spec["resolution"] == "DNS";
    assert!(by_dns || spec["resolution"] == "NONE", "a ServiceEntry with other resolution");
    let addresses =
        if by_dns && list("addresses").is_empty() { vec![chosen.into()] } else { list("addresses") };
    let ports: Vec<_> = list("ports")
        .iter()
        .map(|port| {
            let number = u16::try_from(port["number"].as_u64().expect("a port")).expect("a port");
            let protocol = Protocol::parse(port["protocol"].as_str().unwrap_or_default());
            Port { number, target: number, protocol }
        })
        .collect();
    let mut services = Vec::new();
    for host in list("hosts") {
        for address in &addresses {
            services.push(Service {
                host: host.as_str().expect("a host").into(),
                namespace: entry.namespace.clone(),
                address: address.as_str().expect("an address").into(),
                ports: ports.clone(),
                selector: BTreeMap::new(),
                endpoints: Vec::new(),
                by_dns,
            });
        }
    }
    services
}
