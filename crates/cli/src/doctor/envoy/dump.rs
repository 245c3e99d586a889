//! The content of the input: a configuration dump, a bootstrap, or listeners alone.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::cluster::{Assignment, Cluster};
use super::filter::Any;
use super::key_spelling::snake_case;
use super::listener::{Listener, Status};
use super::name_table;
use super::node::Node;

#[derive(Clone, Debug, Default)]
pub(in super::super) struct Dump {
    pub(in super::super) node: Node,
    pub(in super::super) listeners: Vec<Listener>,
    /// `None` if the input has no list of clusters.
    pub(in super::super) clusters: Option<BTreeMap<String, Cluster>>,
    /// Endpoints that EDS provides, by cluster; `None` if the input has no list of endpoints.
    pub(in super::super) endpoints: Option<BTreeMap<String, Assignment>>,
    /// Filter configurations that Envoy discovered by name; `None` if the input has no list of them.
    pub(in super::super) extensions: Option<BTreeMap<String, Any>>,
    /// `bootstrap_extensions`; `None` if the input has no bootstrap.
    pub(in super::super) bootstrap_extensions: Option<Value>,
    /// `stats_config`; `None` if the input has no bootstrap.
    pub(in super::super) statistics: Option<Value>,
    /// Addresses with which Istio's agent or a DNS listener responds, by host.
    pub(in super::super) names: BTreeMap<String, Vec<IpAddr>>,
    /// Listeners that Envoy refused, each with its name and the reason.
    pub(in super::super) refused: Vec<(String, String)>,
    /// Filters that Envoy discovers by name, and of which it has refused each configuration. A dump lists what it refused
    /// as if it were in force, so only statistics show this.
    pub(in super::super) refused_filters: BTreeSet<String>,
}

/// The expected input, for the message about any other input.
const EXPECTED: &str = "a /config_dump, the output of \"istioctl proxy-config all -o json\" or \"istioctl proxy-config \
                        listeners -o json\", or an Envoy bootstrap";

/// The message about an input without a listener.
pub(in super::super) const NO_LISTENER: &str = "$: expected at least one listener, found none";

/// The one document of an input, in the spelling of Envoy.
pub(in super::super) struct Document {
    pub(in super::super) value: Value,
    pub(in super::super) content: Content,
}

/// What a document holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Content {
    ConfigDump,
    Bootstrap,
    Listeners,
    Listener,
}

impl Document {
    /// Chooses the document among those of one input.
    pub(in super::super) fn of(documents: Vec<Value>) -> Result<Self, String> {
        let mut documents: Vec<Value> =
            documents.into_iter().filter(|document| !document.is_null()).collect();
        let document = match documents.len() {
            1 => documents.remove(0),
            0 => return Err(format!("$: expected {EXPECTED}, found nothing")),
            count => return Err(format!("$: expected {EXPECTED}, found {count} YAML documents")),
        };
        // In the spelling of the input.
        let found = in_words(&document);
        let value = snake_case(document);
        let content = match &value {
            Value::Array(_) => Content::Listeners,
            Value::Object(object) if object.contains_key("configs") => Content::ConfigDump,
            Value::Object(object) if object.contains_key("static_resources") => Content::Bootstrap,
            Value::Object(object) if object.contains_key("filter_chains") => Content::Listener,
            _ => return Err(format!("$: expected {EXPECTED}, found {found}")),
        };
        Ok(Self { value, content })
    }
}

impl Dump {
    /// Reads the documents of one input.
    pub(in super::super) fn read(documents: Vec<Value>) -> Result<Self, String> {
        let Document { value: document, content } = Document::of(documents)?;
        let mut dump = Self::default();
        match content {
            Content::Listeners => {
                for (index, listener) in document.as_array().into_iter().flatten().enumerate() {
                    dump.add_listener(listener, &format!("$[{index}]"))?;
                }
            }
            Content::ConfigDump => dump.add_configs(&document)?,
            Content::Bootstrap => {
                dump.add_bootstrap(&document, "$")?;
                dump.add_static(&document, "$")?;
            }
            Content::Listener => dump.add_listener(&document, "$")?,
        }
        if dump.listeners.is_empty() && dump.refused.is_empty() {
            return Err(NO_LISTENER.to_owned());
        }
        Ok(dump)
    }

    fn add_listener(&mut self, listener: &Value, at: &str) -> Result<(), String> {
        let is_listener =
            ["filter_chains", "default_filter_chain", "address", "internal_listener", "api_listener"]
                .iter()
                .any(|key| listener.get(key).is_some());
        if !is_listener {
            return Err(format!("{at}: expected a listener, found {}", in_words(listener)));
        }
        self.names.extend(name_table::of_listener(listener));
        self.listeners.push(typed(listener, at)?);
        Ok(())
    }

    fn add_cluster(&mut self, cluster: &Value, at: &str) -> Result<(), String> {
        let cluster: Cluster = typed(cluster, at)?;
        self.clusters.get_or_insert_default().insert(cluster.name.clone(), cluster);
        Ok(())
    }

    fn add_bootstrap(&mut self, bootstrap: &Value, at: &str) -> Result<(), String> {
        if let Some(node) = bootstrap.get("node") {
            self.node = typed(node, &format!("{at}.node"))?;
        }
        let extensions = bootstrap.get("bootstrap_extensions");
        self.bootstrap_extensions = Some(extensions.cloned().unwrap_or(Value::Null));
        self.statistics = Some(bootstrap.get("stats_config").cloned().unwrap_or(Value::Null));
        Ok(())
    }

    fn add_static(&mut self, bootstrap: &Value, at: &str) -> Result<(), String> {
        let at = format!("{at}.static_resources");
        let resources = bootstrap.get("static_resources").unwrap_or(&Value::Null);
        for (listener, path) in elements(resources, "listeners", &at)? {
            self.add_listener(listener, &path)?;
        }
        self.clusters = Some(BTreeMap::new());
        for (cluster, path) in elements(resources, "clusters", &at)? {
            self.add_cluster(cluster, &path)?;
        }
        Ok(())
    }

    fn add_configs(&mut self, document: &Value) -> Result<(), String> {
        for (config, at) in elements(document, "configs", "$")? {
            let kind = config.get("@type").and_then(Value::as_str).unwrap_or_default();
            match kind.rsplit('.').next().unwrap_or_default() {
                "BootstrapConfigDump" => {
                    let bootstrap = config.get("bootstrap").unwrap_or(&Value::Null);
                    self.add_bootstrap(bootstrap, &format!("{at}.bootstrap"))?;
                }
                "ListenersConfigDump" => self.add_listeners(config, &at)?,
                "ClustersConfigDump" => self.add_clusters(config, &at)?,
                "EndpointsConfigDump" => self.add_endpoints(config, &at)?,
                "EcdsConfigDump" => self.add_extensions(config, &at)?,
                "NameTable" => self.names.extend(name_table::of_istio(config)),
                _ => {}
            }
        }
        Ok(())
    }

    fn add_listeners(&mut self, config: &Value, at: &str) -> Result<(), String> {
        for (entry, path) in elements(config, "static_listeners", at)? {
            if let Some(listener) = entry.get("listener") {
                self.add_listener(listener, &format!("{path}.listener"))?;
            }
        }
        for (entry, path) in elements(config, "dynamic_listeners", at)? {
            if let Some(error) = entry.get("error_state") {
                let text =
                    |value: Option<&Value>| value.and_then(Value::as_str).unwrap_or_default().to_owned();
                self.refused.push((text(entry.get("name")), text(error.get("details"))));
            }
            // A warming listener accepts no connections yet, but will replace the active one.
            let state = ["active_state", "warming_state"].iter().find(|state| entry.get(state).is_some());
            if let Some(state) = state {
                let listener =
                    entry.get(state).and_then(|state| state.get("listener")).unwrap_or(&Value::Null);
                self.add_listener(listener, &format!("{path}.{state}.listener"))?;
            }
        }
        Ok(())
    }

    fn add_clusters(&mut self, config: &Value, at: &str) -> Result<(), String> {
        self.clusters.get_or_insert_default();
        for kind in ["static_clusters", "dynamic_active_clusters", "dynamic_warming_clusters"] {
            for (entry, path) in elements(config, kind, at)? {
                if let Some(cluster) = entry.get("cluster") {
                    self.add_cluster(cluster, &format!("{path}.cluster"))?;
                }
            }
        }
        Ok(())
    }

    fn add_endpoints(&mut self, config: &Value, at: &str) -> Result<(), String> {
        let endpoints = self.endpoints.get_or_insert_default();
        for kind in ["static_endpoint_configs", "dynamic_endpoint_configs"] {
            for (entry, path) in elements(config, kind, at)? {
                if let Some(assignment) = entry.get("endpoint_config") {
                    let assignment: Assignment = typed(assignment, &format!("{path}.endpoint_config"))?;
                    endpoints.insert(assignment.cluster_name.clone(), assignment);
                }
            }
        }
        Ok(())
    }

    fn add_extensions(&mut self, config: &Value, at: &str) -> Result<(), String> {
        let extensions = self.extensions.get_or_insert_default();
        for (entry, path) in elements(config, "ecds_filters", at)? {
            let Some(filter) = entry.get("ecds_filter") else { continue };
            let name = filter.get("name").and_then(Value::as_str).unwrap_or_default();
            if let Some(config) = filter.get("typed_config") {
                let config = typed(config, &format!("{path}.ecds_filter.typed_config"))?;
                extensions.insert(name.to_owned(), config);
            }
        }
        Ok(())
    }

    /// Whether the kernel chooses ports, which the input does not show.
    pub(in super::super) fn has_chosen_ports(&self) -> bool {
        self.listeners.iter().any(Listener::has_chosen_port)
    }

    /// Sets the ports that the kernel has chosen, from Envoy's `/listeners?format=json`.
    pub(in super::super) fn set_chosen_ports(&mut self, statuses: &Value) -> Result<(), String> {
        for (status, at) in elements(statuses, "listener_statuses", "$")? {
            let status: Status = typed(status, &at)?;
            for listener in self.listeners.iter_mut().filter(|listener| listener.name == status.name) {
                listener.set_chosen_ports(&status.sockets());
            }
        }
        Ok(())
    }

    /// The listeners of a waypoint: the one that accepts tunnels, and the one that accepts the connections inside them.
    pub(in super::super) fn waypoint(&self) -> Option<(&Listener, &Listener)> {
        let named = |name: &str| self.listeners.iter().find(|listener| listener.name == name);
        let outer = named("connect_terminate")?;
        let known = self.node.is_waypoint() || !self.node.is_of_istio();
        named("main_internal").filter(|_| known).map(|inner| (outer, inner))
    }

    /// Removes the configurations of filters that Envoy has refused.
    pub(in super::super) fn refuse_filters(&mut self, has_refused: impl Fn(&str) -> bool) {
        let Some(extensions) = &mut self.extensions else { return };
        self.refused_filters = extensions.keys().filter(|name| has_refused(name)).cloned().collect();
        extensions.retain(|name, _| !self.refused_filters.contains(name));
    }

    pub(in super::super) fn cluster(&self, name: &str) -> Option<&Cluster> {
        self.clusters.as_ref()?.get(name)
    }
}

/// The elements of a list, each with its path.
pub(in super::super) fn elements<'v>(
    value: &'v Value,
    key: &str,
    at: &str,
) -> Result<Vec<(&'v Value, String)>, String> {
    match value.get(key) {
        None => Ok(Vec::new()),
        Some(Value::Array(items)) => {
            Ok(items.iter().enumerate().map(|(index, item)| (item, format!("{at}.{key}[{index}]"))).collect())
        }
        Some(other) => Err(format!("{at}.{key}: expected a list, found {}", in_words(other))),
    }
}

/// Reads a message. An error begins with the path of the problem.
pub(in super::super) fn typed<T: DeserializeOwned>(value: &Value, at: &str) -> Result<T, String> {
    serde_path_to_error::deserialize(value).map_err(|error| {
        let path = error.path().to_string();
        let path = if path == "." { String::new() } else { format!(".{path}") };
        format!("{at}{path}: {}", error.inner())
    })
}

/// A description of a value in a few words.
fn in_words(value: &Value) -> String {
    match value {
        Value::Null => "nothing".to_owned(),
        Value::Bool(_) => "a boolean".to_owned(),
        Value::Number(_) => "a number".to_owned(),
        Value::String(_) => "a text".to_owned(),
        Value::Array(_) => "a list".to_owned(),
        Value::Object(entries) if entries.is_empty() => "an empty object".to_owned(),
        Value::Object(entries) => {
            let keys: Vec<_> = entries.keys().take(5).map(|key| format!("{:?}", shortened(key))).collect();
            let more = if entries.len() > keys.len() { ", ..." } else { "" };
            format!("an object with {}{more}", keys.join(", "))
        }
    }
}

/// The beginning of a text from the input.
fn shortened(text: &str) -> String {
    text.chars().take(40).collect()
}
