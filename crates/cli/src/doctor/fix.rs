//! Fixes for hangs: the files of `istio/` with the user's own address, port, namespace and labels.

use std::net::IpAddr;

use super::envoy::dump::Dump;
use crate::findings::Fix;

/// A file of `istio/`, with example values that the user's own values replace.
struct Template {
    path: &'static str,
    text: &'static str,
}

macro_rules! template {
    ($path:literal) => {
        Template { path: $path, text: include_str!(concat!("../../../../", $path)) }
    };
}

const SERVICE_ENTRY: Template = template!("istio/scenarios/port-conflict/serviceentry.yaml");
const SIDECAR: Template = template!("istio/scenarios/port-conflict/sidecar.yaml");
const LISTENER_ADD: Template = template!("istio/scenarios/port-conflict/listener-add.yaml");
const SNIFF_TIMEOUT: Template = template!("istio/scenarios/port-conflict/sniff-timeout.yaml");
const DYNAMIC_DNS: Template = template!("istio/scenarios/dynamic-dns/envoyfilter.yaml");
const SERVICE_PORT: Template = template!("istio/scenarios/undeclared-port/service-port.yaml");
const SERVICE: Template = template!("istio/scenarios/undeclared-port/service.yaml");
const GATEWAY: Template = template!("istio/scenarios/gateway/gateway.yaml");
const PEER_AUTHENTICATION: Template = template!("istio/envoyfilter/peerauthentication.yaml");
const EXTENSION: Template = template!("istio/envoyfilter/extension.yaml");
const ANNOTATIONS: Template = template!("istio/components/pod-annotations/annotations.yaml");
const RECEIVE: Template = template!("istio/scenarios/proxy-protocol/receive.yaml");
const RECEIVE_AT_GATEWAY: Template = template!("istio/scenarios/proxy-protocol/gateway.yaml");
const SEND: Template = template!("istio/scenarios/proxy-protocol/send.yaml");

/// The pod of the proxy, as far as the configuration shows it.
pub(super) struct Workload {
    namespace: Option<String>,
    /// A label that selects the pod, such as `app: shop`.
    label: Option<String>,
    /// The name of its Deployment.
    name: Option<String>,
}

/// A port of a Service, from the name of a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ServicePort {
    pub(super) host: String,
    pub(super) name: String,
    pub(super) namespace: String,
    pub(super) port: u16,
}

impl ServicePort {
    /// Reads a name such as `outbound|3306|subset|mysql.db.svc.cluster.local`; `None` if it is not a Service of Kubernetes.
    pub(super) fn of_cluster(cluster: &str) -> Option<Self> {
        let mut parts = cluster.split('|');
        let (_, port, _, host) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let (service, _) = host.split_once(".svc.")?;
        let (name, namespace) = service.split_once('.')?;
        let all = [name, namespace, host].into_iter().all(is_name);
        all.then_some(Self {
            host: host.to_owned(),
            name: name.to_owned(),
            namespace: namespace.to_owned(),
            port: port.parse().ok()?,
        })
    }
}

impl Workload {
    pub(super) fn of(dump: &Dump) -> Self {
        /// Keys of labels that usually select pods, the best first.
        const KEYS: [&str; 5] = ["app", "app.kubernetes.io/name", "istio", "k8s-app", "name"];
        let labels = dump.node.labels();
        let label = KEYS.iter().find_map(|key| {
            let value = labels.get(key).filter(|value| is_name(value))?;
            // A value that YAML reads as something else than a text needs quotes.
            let plain = value.starts_with(|first: char| first.is_ascii_alphabetic())
                && !["true", "false", "null", "yes", "no", "on", "off", "y", "n"]
                    .contains(&value.to_ascii_lowercase().as_str());
            Some(if plain { format!("{key}: {value}") } else { format!("{key}: \"{value}\"") })
        });
        let own = |text: &str| Some(text.to_owned()).filter(|text| is_name(text));
        Self {
            namespace: dump.node.namespace().and_then(own),
            label,
            name: dump.node.metadata_text("WORKLOAD_NAME").and_then(own),
        }
    }

    fn namespace<'w>(&'w self, otherwise: &'w str) -> &'w str {
        self.namespace.as_deref().unwrap_or(otherwise)
    }

    fn label<'w>(&'w self, otherwise: &'w str) -> &'w str {
        self.label.as_deref().unwrap_or(otherwise)
    }

    /// A note for a file with a selector that could not be filled in.
    fn unknown(&self) -> &'static str {
        if self.label.is_none() || self.namespace.is_none() {
            "; put in the pod's namespace and labels, which the input does not tell"
        } else {
            ""
        }
    }

    /// Values for the client's pod: namespace `default`, label `app: app` in the files.
    fn client(&self) -> Vec<(&'static str, String)> {
        vec![
            ("namespace: default", format!("namespace: {}", self.namespace("default"))),
            ("app: app", self.label("app: app").to_owned()),
        ]
    }

    /// Values for the database's pod: namespace `db`, label `app: mysql` in the files.
    fn server(&self) -> Vec<(&'static str, String)> {
        vec![
            ("namespace: db", format!("namespace: {}", self.namespace("db"))),
            ("app: mysql", self.label("app: mysql").to_owned()),
        ]
    }

    pub(super) fn service_entry(&self, ip: IpAddr, port: u16) -> Fix {
        let own = [("mysql-ip-2", name_of(ip, port))];
        let values = [self.client(), address(ip), number(10_000, port), own.to_vec()].concat();
        fix(
            format!("a listener of its own for {ip}:{port}, in which nothing waits"),
            &[(&SERVICE_ENTRY, &values)],
        )
    }

    pub(super) fn listener_add(&self, ip: IpAddr, port: u16) -> Fix {
        let name = ("firstword-listener-add", format!("firstword-{}", name_of(ip, port)));
        let values = [self.client(), address(ip), number(10_000, port), vec![name]].concat();
        let mut fix = fix(
            format!("the same where no ServiceEntry may be made{}", self.unknown()),
            &[(&LISTENER_ADD, &values)],
        );
        // The file shows a second address.
        let second = |line: &&str| !line.contains("additional_addresses:") && !line.contains("55.108.108.9");
        fix.yaml = fix.yaml.lines().filter(second).map(|line| format!("{line}\n")).collect();
        fix
    }

    pub(super) fn sidecar(&self) -> Fix {
        let what = format!("for pods that do not call the HTTP Service on that port{}", self.unknown());
        fix(what, &[(&SIDECAR, &self.client())])
    }

    pub(super) fn sniff_timeout(&self, port: u16) -> Fix {
        let name = ("firstword-sniff-timeout", format!("firstword-sniff-timeout-{port}"));
        let values = [self.client(), number(10_000, port), vec![name]].concat();
        let what = format!("the last resort, 50 ms for each connection{}", self.unknown());
        fix(what, &[(&SNIFF_TIMEOUT, &values)])
    }

    pub(super) fn dynamic_dns(&self, port: u16) -> Fix {
        let next = u32::from(port).saturating_add(1).to_string();
        let values = [self.client(), number(10_000, port), vec![("10001", next)]].concat();
        fix(format!("port {port} left out of the inspection{}", self.unknown()), &[(&DYNAMIC_DNS, &values)])
    }

    fn peer_authentication_values(&self, port: u16) -> Vec<(&'static str, String)> {
        let name = ("firstword-mysql", format!("firstword-{port}"));
        [self.server(), number(3306, port), vec![name]].concat()
    }

    pub(super) fn peer_authentication(&self, port: u16) -> Fix {
        let what =
            format!("no TLS of the mesh on port {port}, for clients without a sidecar{}", self.unknown());
        fix(what, &[(&PEER_AUTHENTICATION, &self.peer_authentication_values(port))])
    }

    /// Declares a port as TCP that no Service has. With `mtls`, also turns off the mesh's TLS for it.
    pub(super) fn service(&self, port: u16, mtls: bool) -> Fix {
        let own_name = self.label.as_deref().and_then(|label| label.split(": ").nth(1)).unwrap_or("mysql");
        let name = ("name: mysql", format!("name: {}", own_name.trim_matches('"')));
        let values = [self.server(), number(3306, port), vec![name]].concat();
        let what = format!("a Service that declares port {port} as TCP{}", self.unknown());
        self.perhaps_without_mtls(what, (&SERVICE, &values), port, mtls)
    }

    /// Declares a port of a Service as TCP. With `mtls`, also turns off the mesh's TLS for it.
    pub(super) fn declared(&self, service: &ServicePort, port: u16, mtls: bool) -> Fix {
        let what = declares(service) + if mtls { " for the first document; apply the second" } else { "" };
        self.perhaps_without_mtls(what, (&SERVICE_PORT, &service_port(service)), port, mtls)
    }

    pub(super) fn gateway(&self, port: u16, to: Option<&ServicePort>) -> Fix {
        let mut values = number(3306, port);
        values.push(("istio: ingressgateway", self.label("istio: ingressgateway").to_owned()));
        if let Some(to) = to {
            values.push(("name: mysql", format!("name: {}", to.name)));
            values.push(("gateways: [mysql]", format!("gateways: [{}]", to.name)));
            values.push(("namespace: db", format!("namespace: {}", to.namespace)));
            let destination = format!("host: {}, port: {{number: {}}}", to.host, to.port);
            values.push(("host: mysql.db.svc.cluster.local, port: {number: 3306}", destination));
        }
        let what =
            format!("protocol TCP for the Gateway's server on port {port}, in place of what it has now");
        fix(what, &[(&GATEWAY, &values)])
    }

    /// Replaces Envoy's own filter by Firstword. With `mtls`, also turns off the mesh's TLS, for clients without a header.
    pub(super) fn receive(&self, port: u16, mtls: bool) -> Fix {
        let values = [self.server(), number(3306, port)].concat();
        let what = format!(
            "Firstword takes the header away, in place of the listener filter; put in the networks to believe{}",
            self.unknown()
        );
        self.perhaps_without_mtls(what, (&RECEIVE, &values), port, mtls)
    }

    /// A fix from one file, with a second file if mutual TLS has to be turned off.
    fn perhaps_without_mtls(&self, what: String, file: (&Template, Values), port: u16, mtls: bool) -> Fix {
        let mutual = self.peer_authentication_values(port);
        let both: [(&Template, Values); 2] = [file, (&PEER_AUTHENTICATION, &mutual)];
        fix(what, both.get(..if mtls { 2 } else { 1 }).unwrap_or_default())
    }

    pub(super) fn receive_at_gateway(&self, port: u16) -> Fix {
        let mut values = number(3306, port);
        values.push(("istio: ingressgateway", self.label("istio: ingressgateway").to_owned()));
        values.push(("namespace: istio-system", format!("namespace: {}", self.namespace("istio-system"))));
        fix(
            "tcp_proxy reads before it has connected; put in the networks to believe".to_owned(),
            &[(&RECEIVE_AT_GATEWAY, &values)],
        )
    }

    pub(super) fn annotations(&self) -> Fix {
        let name = ("name: app", format!("name: {}", self.name.as_deref().unwrap_or("app")));
        fix("annotations for the pods of the Deployment; they restart".to_owned(), &[(&ANNOTATIONS, &[name])])
    }
}

/// Declares the port of a Service as TCP, for a client outside its pod.
pub(super) fn service_port_tcp(service: &ServicePort) -> Fix {
    fix(declares(service), &[(&SERVICE_PORT, &service_port(service))])
}

/// The module and its configuration, by the name that listeners use.
pub(super) fn extension(ip: Option<IpAddr>, port: u16) -> Fix {
    let mut values = number(10_000, port);
    match ip {
        Some(ip) => values.extend(address(ip)),
        None => values.push((r#", "addresses": ["55.108.108.2"]"#, String::new())),
    }
    fix("the module and its configuration".to_owned(), &[(&EXTENSION, &values)])
}

/// Lets Envoy send the header as soon as it has connected.
pub(super) fn send(service: Option<&ServicePort>) -> Fix {
    let mut values = Vec::new();
    if let Some(service) = service {
        values.push(("name: mysql", format!("name: {}", service.name)));
        values.push(("namespace: db", format!("namespace: {}", service.namespace)));
        values.push(("mysql.db.svc.cluster.local", service.host.clone()));
    }
    fix("the header sent by Envoy itself, as soon as it has connected".to_owned(), &[(&SEND, &values)])
}

fn declares(service: &ServicePort) -> String {
    let ServicePort { name, namespace, port, .. } = service;
    format!(
        "port {port} of the Service {namespace}/{name} declared as TCP, by kubectl patch service {name} -n {namespace} --patch-file FILE"
    )
}

fn service_port(service: &ServicePort) -> Vec<(&'static str, String)> {
    vec![
        ("name: mysql", format!("name: {}", service.name)),
        ("namespace: db", format!("namespace: {}", service.namespace)),
        ("3307", service.port.to_string()),
    ]
}

fn number(stands_for: u16, port: u16) -> Vec<(&'static str, String)> {
    vec![(if stands_for == 3306 { "3306" } else { "10000" }, port.to_string())]
}

fn address(ip: IpAddr) -> Vec<(&'static str, String)> {
    // An IPv6 address alone needs quotes, because YAML gives colons a meaning.
    let alone = if ip.is_ipv6() { format!("\"{ip}\"") } else { ip.to_string() };
    vec![
        ("55.108.108.2", alone),
        ("55.108.108.2_", format!("{ip}_")),
        ("\"55.108.108.2\"", format!("\"{ip}\"")),
    ]
}

/// The name of a resource for an address and port.
fn name_of(ip: IpAddr, port: u16) -> String {
    let ip: String =
        ip.to_string().chars().map(|char| if char.is_ascii_alphanumeric() { char } else { '-' }).collect();
    format!("mysql-{ip}-{port}")
}

/// Whether a text may stand in YAML as a name: the characters that Kubernetes allows in names, hosts and label values.
pub(super) fn is_name(text: &str) -> bool {
    let plain = |char: char| char.is_ascii_alphanumeric() || "-_.".contains(char);
    !text.is_empty() && text.len() <= 253 && text.chars().all(plain)
}

type Values<'v> = &'v [(&'static str, String)];

fn fix(what: String, of: &[(&Template, Values)]) -> Fix {
    let texts: Vec<_> = of.iter().map(|(template, values)| filled(template.text, values)).collect();
    Fix { what, from: of.iter().map(|(template, _)| template.path).collect(), yaml: texts.join("---\n") }
}

/// A template with the user's values, without the command that applies the file unchanged.
fn filled(template: &str, values: Values) -> String {
    let lines: Vec<_> = template.lines().collect();
    let is_command = |line: &str| line.starts_with("#   ");
    let mut text = String::with_capacity(template.len());
    for (index, line) in lines.iter().enumerate() {
        let before_command =
            *line == "#" && lines.get(index.saturating_add(1)).is_some_and(|next| is_command(next));
        if !is_command(line) && !before_command {
            text.push_str(line);
            text.push('\n');
        }
    }
    replaced(&text, values)
}

/// Replaces whole words in one pass, so that a new value is not replaced again. Of several matches the longest wins.
fn replaced(text: &str, values: Values) -> String {
    let mut done = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(next) = rest.chars().next() {
        let in_word = |char: Option<char>| char.is_some_and(|char| char.is_ascii_alphanumeric());
        let matches_here = |from: &&str| {
            let begins = !in_word(from.chars().next()) || !in_word(done.chars().last());
            let ends = |after: &str| !in_word(from.chars().last()) || !in_word(after.chars().next());
            begins && rest.strip_prefix(*from).is_some_and(ends)
        };
        let found = values.iter().filter(|(from, _)| matches_here(from)).max_by_key(|(from, _)| from.len());
        match found.and_then(|(from, to)| Some((rest.strip_prefix(from)?, to))) {
            Some((after, to)) => {
                done.push_str(to);
                rest = after;
            }
            None => {
                done.push(next);
                rest = rest.get(next.len_utf8()..).unwrap_or_default();
            }
        }
    }
    done
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_words_are_replaced_once() {
        let values = [("10", "20".to_owned()), ("20", "30".to_owned()), ("10_a", "x".to_owned())];
        assert_eq!(replaced("10 100 a10 {10} 20 10_a 10_b", &values), "20 100 a10 {20} 30 x 20_b");
    }

    /// `kubectl apply` of a part of a Service can remove its selector, so the fix names the command of its file.
    #[test]
    fn a_port_of_a_service_is_declared_by_a_patch() {
        let command = SERVICE_PORT.text.lines().find_map(|line| line.strip_prefix("#   ")).unwrap();
        let command = command.replace(SERVICE_PORT.path, "FILE");
        let service = ServicePort::of_cluster("outbound|3307||orders.shop.svc.cluster.local").unwrap();
        let expected = command.replace("mysql -n db", "orders -n shop");
        assert_ne!(command, expected);
        assert!(service_port_tcp(&service).what.ends_with(&format!(", by {expected}")), "{expected}");
        let workload = Workload { namespace: None, label: None, name: None };
        for (mtls, documents) in [(false, 1), (true, 2)] {
            let fix = workload.declared(&service, 3306, mtls);
            assert!(fix.what.contains(&expected), "{}", fix.what);
            assert_eq!(fix.what.ends_with("for the first document; apply the second"), mtls, "{}", fix.what);
            assert_eq!(fix.yaml.split("---\n").count(), documents);
            assert!(!fix.yaml.contains("#   "), "{}", fix.yaml);
        }
    }

    #[test]
    fn a_service_port_is_read_from_the_name_of_a_cluster() {
        let service = ServicePort::of_cluster("outbound|3307||mysql.db.svc.cluster.local").unwrap();
        assert_eq!((service.name.as_str(), service.namespace.as_str(), service.port), ("mysql", "db", 3307));
        for other in
            ["PassthroughCluster", "outbound|1||a.example", "inbound|3306||", "outbound|x||a.b.svc.c"]
        {
            assert_eq!(ServicePort::of_cluster(other), None, "{other}");
        }
    }
}
