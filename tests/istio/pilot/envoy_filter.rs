//! `EnvoyFilter`s, applied to listeners as in istiod: in its order, and without what it ignores.

use serde_json::Value;

use super::matching::Match;
use super::mesh::{Mesh, Proxy};
use super::resource::{ROOT_NAMESPACE, Resource, of_kind};
use super::{Context, Xds};

/// One patch of an `EnvoyFilter` that selects the proxy.
struct Patch {
    /// Name in messages.
    name: String,
    apply_to: String,
    operation: String,
    matching: Match,
    value: Value,
    hits: usize,
}

/// The patches for the proxy, in the order in which they are applied.
pub struct Patches(Vec<Patch>);

/// Values of `applyTo` that we implement. Others are refused, because they would be ignored.
const IMPLEMENTED: [&str; 6] =
    ["LISTENER", "LISTENER_FILTER", "FILTER_CHAIN", "NETWORK_FILTER", "EXTENSION_CONFIG", "CLUSTER"];

impl Patches {
    pub fn new(mesh: &Mesh, proxy: &Proxy, resources: &[Resource]) -> Self {
        let ours =
            |filter: &&Resource| filter.selects(&proxy.namespace, &proxy.labels, "/workloadSelector/labels");
        let mut filters: Vec<_> = of_kind(resources, "EnvoyFilter").filter(ours).collect();
        // istiod then sorts by age, which is equal here.
        filters.sort_by_key(|filter| {
            let priority = filter.spec()["priority"].as_i64().unwrap_or(0);
            (priority, filter.namespace != ROOT_NAMESPACE, filter.name.clone())
        });
        let mut patches = Vec::new();
        for filter in filters {
            let own = filter.spec()["configPatches"].as_array().expect("configPatches");
            for (index, patch) in own.iter().enumerate() {
                let text = |value: &Value| value.as_str().expect("a word").to_owned();
                let apply_to = text(&patch["applyTo"]);
                assert!(IMPLEMENTED.contains(&apply_to.as_str()), "{}: applyTo {apply_to}", filter.name);
                let matching = Match::new(patch);
                if matching.proxy_version(mesh.version) {
                    patches.push(Patch {
                        name: format!("{}/{} configPatches[{index}]", filter.namespace, filter.name),
                        apply_to,
                        operation: text(&patch["patch"]["operation"]),
                        matching,
                        value: patch["patch"]["value"].clone(),
                        hits: 0,
                    });
                }
            }
        }
        Self(patches)
    }

    fn of(&mut self, apply_to: &str, context: Context) -> impl Iterator<Item = &mut Patch> {
        self.0.iter_mut().filter(move |patch| patch.apply_to == apply_to && patch.matching.context(context))
    }

    /// Patches the listeners, and with `add` also adds listeners. No patch applies to added listeners.
    pub fn apply(&mut self, context: Context, listeners: &mut Vec<Value>, add: bool) {
        listeners.retain_mut(|listener| self.listener(context, listener));
        for patch in self.of("LISTENER", context).filter(|patch| add && patch.operation == "ADD") {
            listeners.push(patch.take());
        }
    }

    /// Adds clusters. No other operation on clusters is implemented.
    pub fn add_clusters(&mut self, context: Context, clusters: &mut Vec<Value>) {
        for patch in self.of("CLUSTER", context) {
            assert_eq!(patch.operation, "ADD", "{}", patch.name);
            clusters.push(patch.take());
        }
    }

    /// Patches a listener. Returns whether it remains.
    fn listener(&mut self, context: Context, listener: &mut Value) -> bool {
        for patch in self.of("LISTENER", context) {
            if patch.operation == "ADD" || !patch.matching.listener(listener, true) {
                continue;
            }
            match patch.operation.as_str() {
                "REMOVE" => {
                    patch.hits += 1;
                    return false;
                }
                "MERGE" => merge(listener, &patch.take()),
                other => panic!("{}: {other} of a LISTENER", patch.name),
            }
        }
        self.listener_filters(context, listener);
        for key in ["filter_chains", "default_filter_chain"] {
            let Some(mut chains) = listener.as_object_mut().expect("a listener").remove(key) else {
                continue;
            };
            let remain = match &mut chains {
                Value::Array(chains) => {
                    chains.retain_mut(|chain| self.chain(context, listener, chain));
                    true
                }
                chain => self.chain(context, listener, chain),
            };
            if remain {
                listener[key] = chains;
            }
        }
        for patch in self.of("FILTER_CHAIN", context) {
            if patch.operation == "ADD" && patch.matching.listener(listener, false) {
                let chain = patch.take();
                listener["filter_chains"].as_array_mut().expect("chains").push(chain);
            }
        }
        true
    }

    fn listener_filters(&mut self, context: Context, listener: &mut Value) {
        for patch in self.of("LISTENER_FILTER", context) {
            if !patch.matching.listener(listener, false) {
                continue;
            }
            let mut filters = listener["listener_filters"].as_array().cloned().unwrap_or_default();
            let wanted = patch.matching.listener_filter().map(str::to_owned);
            if patch.operation == "MERGE" {
                // Merges only `typed_config`, into all filters of the same type. istiod drops `filter_disabled`.
                let typed_config = patch.value.get("typed_config").filter(|_| wanted.is_some());
                for (filter, merged) in filters.iter_mut().zip(std::iter::repeat(typed_config)) {
                    let Some(merged) =
                        merged.filter(|merged| merged["@type"] == filter["typed_config"]["@type"])
                    else {
                        continue;
                    };
                    merge(&mut filter["typed_config"], merged);
                    patch.hits += 1;
                }
            } else {
                patch.insert_into(&mut filters, wanted.as_deref());
            }
            listener["listener_filters"] = filters.into();
        }
    }

    /// Patches a chain. Returns whether it remains.
    fn chain(&mut self, context: Context, listener: &Value, chain: &mut Value) -> bool {
        for patch in self.of("FILTER_CHAIN", context) {
            let matches = patch.matching.listener(listener, false) && patch.matching.chain(listener, chain);
            match patch.operation.as_str() {
                "REMOVE" if matches => {
                    patch.hits += 1;
                    return false;
                }
                "MERGE" if matches => merge(chain, &patch.take()),
                "ADD" | "MERGE" | "REMOVE" => {}
                other => panic!("{}: {other} of a FILTER_CHAIN", patch.name),
            }
        }
        for patch in self.of("NETWORK_FILTER", context) {
            if !patch.matching.listener(listener, false) || !patch.matching.chain(listener, chain) {
                continue;
            }
            let filters = chain["filters"].as_array_mut().expect("filters");
            let wanted = patch.matching.filter().map(str::to_owned);
            if patch.operation != "MERGE" {
                patch.insert_into(filters, wanted.as_deref());
            }
        }
        // Merge after all other operations.
        for patch in self.of("NETWORK_FILTER", context).filter(|patch| patch.operation == "MERGE") {
            if !patch.matching.listener(listener, false) || !patch.matching.chain(listener, chain) {
                continue;
            }
            let wanted = patch.matching.filter().map(str::to_owned);
            for filter in chain["filters"].as_array_mut().expect("filters") {
                let named = wanted.as_ref().is_none_or(|wanted| filter["name"] == **wanted);
                // A filter that Envoy discovers by name has no configuration to merge with.
                if named && filter.get("typed_config").is_some() {
                    merge(filter, &patch.take());
                }
            }
        }
        true
    }

    /// Adds the extensions that a listener refers to by name.
    pub fn add_extensions(&mut self, xds: &mut Xds) {
        let mut wanted = Vec::new();
        xds.listeners.iter().for_each(|listener| collect_discovered(listener, &mut wanted));
        for patch in self.0.iter_mut().filter(|patch| patch.apply_to == "EXTENSION_CONFIG") {
            assert_eq!(patch.operation, "ADD", "{}", patch.name);
            if wanted.iter().any(|name| patch.value["name"] == *name) {
                xds.extensions.push(patch.take());
            }
        }
    }

    /// Names of the patches that changed nothing.
    pub fn missed(&self) -> Vec<String> {
        self.0.iter().filter(|patch| patch.hits == 0).map(|patch| patch.name.clone()).collect()
    }
}

impl Patch {
    fn take(&mut self) -> Value {
        self.hits += 1;
        self.value.clone()
    }

    /// Operations that network filters and listener filters have in common. Without a filter name, INSERT_BEFORE inserts at
    /// the beginning, INSERT_AFTER at the end, and REPLACE and REMOVE do nothing.
    fn insert_into(&mut self, filters: &mut Vec<Value>, wanted: Option<&str>) {
        let at = wanted.map(|wanted| filters.iter().position(|filter| filter["name"] == wanted));
        let at = match (self.operation.as_str(), at) {
            ("ADD", _) | ("INSERT_AFTER", None) => Some(filters.len()),
            ("INSERT_FIRST", _) | ("INSERT_BEFORE", None) => Some(0),
            ("INSERT_BEFORE", Some(at)) => at,
            ("INSERT_AFTER", Some(at)) => at.map(|at| at + 1),
            ("REPLACE", at) => {
                if let Some(at) = at.flatten() {
                    filters[at] = self.take();
                }
                return;
            }
            ("REMOVE", at) => {
                if at.flatten().is_some() {
                    filters.retain(|filter| wanted.is_none_or(|wanted| filter["name"] != wanted));
                    self.hits += 1;
                }
                return;
            }
            (other, _) => panic!("{}: {other} of a filter", self.name),
        };
        if let Some(at) = at {
            filters.insert(at, self.take());
        }
    }
}

/// Collects the names of filters that Envoy discovers.
fn collect_discovered(value: &Value, names: &mut Vec<String>) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| collect_discovered(item, names)),
        Value::Object(entries) => {
            if let (true, Some(Value::String(name))) =
                (entries.contains_key("config_discovery"), entries.get("name"))
            {
                names.push(name.clone());
            }
            entries.values().for_each(|entry| collect_discovered(entry, names));
        }
        _ => {}
    }
}

/// Merges as protobuf does: lists are concatenated, and other values are replaced.
fn merge(into: &mut Value, from: &Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                match into.get_mut(key) {
                    Some(there) => merge(there, value),
                    None => drop(into.insert(key.clone(), value.clone())),
                }
            }
        }
        (Value::Array(into), Value::Array(from)) => into.extend(from.iter().cloned()),
        (into, from) => *into = from.clone(),
    }
}
