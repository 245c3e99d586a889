//! The pod of a proxy, and a Service's port, as far as the configuration shows them.

use super::super::envoy::dump::Dump;
use super::super::envoy::filter_config::cluster;
use super::super::envoy::listener::Listener;
use super::template::is_name;

/// The pod of the proxy.
#[derive(Debug, Default)]
pub(in super::super) struct Workload {
    pub(super) namespace: Option<String>,
    /// A label that selects the pod, such as `app: shop`.
    pub(super) label: Option<String>,
    /// The name of its Deployment.
    pub(super) name: Option<String>,
    /// The name of the Gateway from which Istio made it.
    pub(super) gateway: Option<String>,
    /// Its own name and namespace, as in `app-0.shop`.
    pod: Option<String>,
}

/// A port of a Service, from the name of a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) struct ServicePort {
    pub(in super::super) host: String,
    pub(in super::super) name: String,
    pub(in super::super) namespace: String,
    pub(in super::super) port: u16,
}

impl ServicePort {
    /// Reads a name such as `outbound|3306|subset|mysql.db.svc.cluster.local`; `None` if it is not a Service of Kubernetes.
    pub(in super::super) fn of_cluster(cluster: &str) -> Option<Self> {
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

    /// The Service's port to which a listener forwards bytes.
    pub(in super::super) fn of_listener(listener: &Listener, dump: &Dump) -> Option<Self> {
        let filters = listener.chains().flat_map(|chain| &chain.filters);
        let clusters = filters.filter_map(|filter| cluster(filter, dump));
        clusters.filter_map(Self::of_cluster).next()
    }
}

impl Workload {
    pub(in super::super) fn of(dump: &Dump) -> Self {
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
            gateway: labels.get("gateway.networking.k8s.io/gateway-name").copied().and_then(own),
            pod: dump.node.pod().and_then(own),
        }
    }

    pub(super) fn namespace<'w>(&'w self, otherwise: &'w str) -> &'w str {
        self.namespace.as_deref().unwrap_or(otherwise)
    }

    pub(super) fn label<'w>(&'w self, otherwise: &'w str) -> &'w str {
        self.label.as_deref().unwrap_or(otherwise)
    }

    /// The pod as an argument of `istioctl`, or a placeholder.
    pub(in super::super) fn argument(&self) -> &str {
        self.pod.as_deref().unwrap_or("POD")
    }

    /// A note for a file with a selector that could not be filled in.
    pub(super) fn unknown(&self) -> &'static str {
        if self.label.is_none() || self.namespace.is_none() {
            "; put in the pod's namespace and labels, which the input does not have"
        } else {
            ""
        }
    }

    /// Values for the client's pod: namespace `default`, label `app: app` in the files.
    pub(super) fn client(&self) -> Vec<(&'static str, String)> {
        vec![
            ("namespace: default", format!("namespace: {}", self.namespace("default"))),
            ("app: app", self.label("app: app").to_owned()),
        ]
    }

    /// Values for the database's pod: namespace `db`, label `app: mysql` in the files.
    pub(super) fn server(&self) -> Vec<(&'static str, String)> {
        vec![
            ("namespace: db", format!("namespace: {}", self.namespace("db"))),
            ("app: mysql", self.label("app: mysql").to_owned()),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
