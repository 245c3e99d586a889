//! Findings about Firstword itself: its place in chains, its configuration, and the consequences of a crash.

use std::collections::{BTreeMap, BTreeSet};

use firstword::escape;
use serde_json::Value;

use super::diagnose::name;
use super::envoy::dump::Dump;
use super::envoy::filter::{Any, Filter};
use super::envoy::filter_chain::FilterChain;
use super::envoy::filter_config::{TCP_PROXY, known};
use super::envoy::listener::Listener;
use super::fix::{self, ServicePort, Workload};
use super::plugin::{Plugin, module};
use crate::findings::{Finding, Fix, Location, Severity};

/// Firstword in a chain.
struct Found<'d> {
    location: Location,
    filter: &'d Filter,
    any: &'d Any,
    plugin: Plugin<'d>,
}

pub(super) fn findings(dump: &Dump) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut found = Vec::new();
    for listener in &dump.listeners {
        for (index, chain) in listener.chains().enumerate() {
            let here = in_chain(dump, listener, index, chain);
            findings.extend(arrangement(dump, chain, &here));
            found.extend(here);
        }
    }
    findings.extend(pending(dump));
    if found.is_empty() {
        return findings;
    }
    // One configuration is in many chains. Its problems appear once.
    let mut seen = BTreeSet::new();
    let distinct: Vec<_> = found
        .iter()
        .filter(|found| seen.insert((&found.filter.name, found.any.value().to_string())))
        .collect();
    for found in &distinct {
        findings.extend(configuration(found));
        if found.plugin.is_native() {
            findings.extend(without_extension(dump, found));
        } else {
            findings.extend(failure(found));
            findings.extend(digest(found));
            findings.extend(file(dump, found));
        }
        findings.extend(sends_late(dump, found));
    }
    let wasm: Vec<_> = distinct.into_iter().filter(|found| !found.plugin.is_native()).collect();
    if wasm.is_empty() {
        return findings;
    }
    findings.extend(shared(&wasm));
    findings.extend(untagged(dump));
    findings.extend(renamed_tag(dump));
    findings
}

fn finding(
    severity: Severity,
    code: &'static str,
    location: &Location,
    why: String,
    fixes: Vec<Fix>,
) -> Finding {
    Finding::new(severity, code, location.clone(), why, fixes)
}

fn in_chain<'d>(
    dump: &'d Dump,
    listener: &'d Listener,
    index: usize,
    chain: &'d FilterChain,
) -> Vec<Found<'d>> {
    let of = |filter: &'d Filter| {
        let any = known(filter, dump)?;
        let plugin = Plugin::of(&filter.name, any)?;
        let chain = if chain.name.is_empty() {
            format!("number {}", index.saturating_add(1))
        } else {
            escape::text(&chain.name)
        };
        let location = Location {
            listener: Some(escape::text(name(listener))),
            chain: Some(chain),
            filter: Some(escape::text(&filter.name)),
            ..Location::default()
        };
        Some(Found { location, filter, any, plugin })
    };
    chain.filters.iter().filter_map(of).collect()
}

/// Filters that wait for their module, each once.
fn pending(dump: &Dump) -> Vec<Finding> {
    let Some(come) = &dump.extensions else { return Vec::new() };
    let filters = dump.listeners.iter().flat_map(Listener::chains).flat_map(|chain| &chain.filters);
    let is_pending = |filter: &&Filter| {
        filter.name.to_ascii_lowercase().contains("firstword")
            && filter.config_discovery.is_some()
            && !come.contains_key(&filter.name)
            && known(filter, dump).is_some()
    };
    let names: BTreeSet<_> = filters.filter(is_pending).map(|filter| &filter.name).collect();
    let of = |name: &String| {
        let location = Location { filter: Some(escape::text(name)), ..Location::default() };
        let (severity, code, what) = if dump.refused_filters.contains(name) {
            (Severity::Warning, "extension-refused", "Envoy has refused the filter's configuration")
        } else {
            (Severity::Info, "extension-pending", "Envoy has not received the filter's configuration")
        };
        let why = format!("{what}. Its default_config is in force, so traffic passes uninspected.");
        finding(severity, code, &location, why, Vec::new())
    };
    names.into_iter().map(of).collect()
}

/// Problems with the filter's place in the chain.
fn arrangement(dump: &Dump, chain: &FilterChain, here: &[Found]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let Some(first) = here.first() else { return findings };
    if here.len() > 1 {
        let why = format!(
            "{} filters of Firstword's stand in this chain: each connection is counted as often. Take away the WasmPlugin or the \
             EnvoyFilter.",
            here.len()
        );
        findings.push(finding(Severity::Error, "filter-twice", &first.location, why, Vec::new()));
    }
    let is_proxy = |filter| known(filter, dump).is_some_and(|any| any.kind() == TCP_PROXY);
    let proxy = chain.filters.iter().position(is_proxy);
    let after = here.iter().find(|found| {
        let own = chain.filters.iter().position(|filter| std::ptr::eq(filter, found.filter));
        proxy.is_some_and(|proxy| own > Some(proxy))
    });
    if let Some(after) = after {
        let why = "The filter stands behind tcp_proxy, which ends the chain: Envoy refuses such a listener.";
        findings.push(finding(
            Severity::Error,
            "filter-behind-tcp-proxy",
            &after.location,
            why.to_owned(),
            Vec::new(),
        ));
    }
    findings
}

/// Problems of the filter's own configuration, as `check-config` reports them.
fn configuration(found: &Found) -> Vec<Finding> {
    let problem = |problem: &String| {
        let (path, why) = problem.split_once(": ").unwrap_or(("$", problem));
        let location = Location { path: Some(escape::text(path)), ..found.location.clone() };
        finding(Severity::Error, "configuration", &location, escape::text(why), Vec::new())
    };
    found.plugin.problems().iter().map(problem).collect()
}

/// A native module whose bootstrap extension is missing, or is another file.
fn without_extension(dump: &Dump, found: &Found) -> Option<Finding> {
    let extensions = dump.bootstrap_extensions.as_ref()?.as_array();
    let configs = extensions.into_iter().flatten().filter_map(|extension| extension.get("typed_config"));
    let has_extension = configs.into_iter().any(|config| module(config) == found.plugin.module());
    (!has_extension).then(|| {
        let why = "The bootstrap has no extension with the same module. The filter works, but exports no metrics, and no time-out \
                   ends a connection. envoy/native.yaml has the extension.";
        finding(Severity::Warning, "native-without-extension", &found.location, why.to_owned(), Vec::new())
    })
}

/// The consequence of a crash of the filter for connections.
fn failure(found: &Found) -> Option<Finding> {
    let field = |key: &str| found.plugin.field(&[key]);
    let policy = field("failure_policy").and_then(Value::as_str);
    let open = field("fail_open") == Some(&Value::Bool(true));
    let (severity, why) = match policy {
        None | Some("UNSPECIFIED") if open => return None,
        Some("FAIL_OPEN") => (
            Severity::Info,
            "After a crash of the filter Envoy closes the live connections of the worker at their next byte, and lets new ones \
             pass (failure_policy: FAIL_OPEN, which is what a WasmPlugin's failStrategy becomes). Only fail_open: true, in an \
             EnvoyFilter, keeps them.",
        ),
        Some("FAIL_RELOAD") => (
            Severity::Info,
            "After a crash of the filter Envoy closes the live connections of the worker, and new ones for about a second, until \
             it has loaded the module again (failure_policy: FAIL_RELOAD).",
        ),
        _ => (
            Severity::Warning,
            "After a crash of the filter Envoy closes all connections of the worker, live and new, until the configuration \
             changes (failure_policy: FAIL_CLOSED, the default). fail_open: true keeps them.",
        ),
    };
    Some(finding(severity, "failure-policy", &found.location, why.to_owned(), Vec::new()))
}

/// A module that Envoy fetches without a digest.
fn digest(found: &Found) -> Option<Finding> {
    let remote = ["vm_config", "code", "remote"];
    let uri = found.plugin.text(&[remote.as_slice(), &["http_uri", "uri"]].concat())?;
    let has_digest =
        found.plugin.text(&[remote.as_slice(), &["sha256"]].concat()).is_some() || uri.contains("@sha256:");
    (!has_digest).then(|| {
        let why = format!(
            "The module is fetched from {} without a digest: what runs need not be what was tested.",
            escape::text(uri)
        );
        // A tag shows at least the intended version.
        let severity = if uri.starts_with("oci://") { Severity::Info } else { Severity::Warning };
        finding(severity, "module-without-digest", &found.location, why, Vec::new())
    })
}

/// The module in Istio: the image from which the agent took it, or a file that only the pod can have.
fn file(dump: &Dump, found: &Found) -> Option<Finding> {
    /// Directory in which the agent keeps what it fetched, each file under the digest of the image's manifest.
    const FETCHED: &str = "/var/lib/istio/data/";
    let file = found.plugin.text(&["vm_config", "code", "local", "filename"])?;
    if !dump.node.is_of_istio() {
        return None;
    }
    if let Some(path) = file.strip_prefix(FETCHED) {
        let digest = path.rsplit('/').next()?.strip_suffix(".wasm")?;
        let why = format!("The module is that of the image sha256:{}.", escape::text(digest));
        return Some(finding(Severity::Info, "module-image", &found.location, why, Vec::new()));
    }
    let why = format!(
        "The module is the file {}. If the pod does not have it, Envoy refuses the filter and closes every connection, and a dump \
         does not show that. The statistics do: give doctor Envoy's admin interface.",
        escape::text(file)
    );
    Some(finding(Severity::Info, "module-file", &found.location, why, Vec::new()))
}

/// PROXY headers that Firstword sends. They reach the server only after the greeting.
fn sends_late(dump: &Dump, found: &Found) -> Vec<Finding> {
    let Some(config) = found.plugin.config() else { return Vec::new() };
    let Some(port) =
        config.named_ports().map(|range| *range.start()).find(|port| found.plugin.sends_header(*port))
    else {
        return Vec::new();
    };
    let why = format!(
        "Firstword sends a PROXY header (port {port}) in front of the client's first bytes, which come after the greeting. \
         MariaDB takes it there; a server that waits for the header before it greets (Percona Server, Vitess, ProxySQL) never \
         greets. Envoy's own upstream_proxy_protocol sends it at once."
    );
    let clusters = chain_clusters(dump, found);
    let service = clusters.iter().find_map(|cluster| ServicePort::of_cluster(cluster));
    let mut findings = vec![finding(
        Severity::Warning,
        "proxy-header-late",
        &found.location,
        why,
        vec![fix::send(service.as_ref())],
    )];
    let twice =
        clusters.iter().find(|name| dump.cluster(name).is_some_and(|cluster| cluster.sends_proxy_header()));
    if let Some(cluster) = twice {
        let why = format!(
            "Firstword sends a PROXY header (port {port}), and so does Envoy's transport socket for the cluster {}: the server \
             gets two.",
            escape::text(cluster)
        );
        findings.push(finding(Severity::Error, "proxy-header-twice", &found.location, why, Vec::new()));
    }
    findings
}

/// The clusters of the chains with this filter.
fn chain_clusters<'d>(dump: &'d Dump, found: &Found) -> Vec<&'d str> {
    let chains = dump.listeners.iter().flat_map(Listener::chains);
    let with = chains.filter(|chain| chain.filters.iter().any(|filter| filter.name == found.filter.name));
    let cluster = |filter| {
        let any = known(filter, dump).filter(|any| any.kind() == TCP_PROXY)?;
        any.body().get("cluster")?.as_str()
    };
    with.flat_map(|chain| &chain.filters).filter_map(cluster).collect()
}

/// Plugins in one VM with the same name and different configurations.
fn shared(found: &[&Found]) -> Vec<Finding> {
    let mut machines: BTreeMap<String, Vec<&&Found>> = BTreeMap::new();
    for found in found {
        let field = |path: &[&str]| found.plugin.field(path).map(Value::to_string).unwrap_or_default();
        // Envoy's key for a VM.
        let key = [
            field(&["vm_config", "vm_id"]),
            field(&["vm_config", "code"]),
            field(&["vm_config", "configuration"]),
            field(&["vm_config", "environment_variables"]),
        ];
        machines.entry(key.join("|")).or_default().push(found);
    }
    let mut findings = Vec::new();
    for plugins in machines.into_values() {
        let mut names: BTreeMap<(Option<&str>, Option<&str>), &&Found> = BTreeMap::new();
        for found in plugins {
            let name = (found.plugin.text(&["name"]), found.plugin.text(&["root_id"]));
            let other = names.insert(name, found);
            let differs = |other: &&&Found| {
                other.plugin.field(&["configuration"]) != found.plugin.field(&["configuration"])
            };
            if other.filter(differs).is_some() {
                let why = format!(
                    "Two configurations of Firstword have the same name ({}) in one VM: the mode of the newer one is taken for \
                     both. Give the plugins different names.",
                    escape::text(name.0.unwrap_or("none"))
                );
                findings.push(finding(Severity::Warning, "vm-shared", &found.location, why, Vec::new()));
            }
        }
    }
    findings
}

/// True if Envoy makes this label of a part of the names of metrics.
fn has_tag(statistics: &Value, label: &str) -> bool {
    let tags = statistics.get("stats_tags").and_then(Value::as_array);
    tags.into_iter().flatten().any(|tag| tag.get("tag_name").and_then(Value::as_str) == Some(label))
}

/// Labels that Envoy leaves in the names of the filter's metrics.
fn untagged(dump: &Dump) -> Option<Finding> {
    /// Labels that almost every metric has.
    const LABELS: [&str; 3] = ["direction", "destination", "protocol"];
    let statistics = dump.statistics.as_ref()?;
    let missing: Vec<_> = LABELS.into_iter().filter(|label| !has_tag(statistics, label)).collect();
    if missing.is_empty() {
        return None;
    }
    let (how, fixes) = if dump.node.is_of_istio() {
        (
            "The pod has no annotation sidecar.istio.io/extraStatTags for them",
            vec![Workload::of(dump).annotations()],
        )
    } else {
        ("The bootstrap has no stats_tags for them; envoy/mysql.yaml has", Vec::new())
    };
    let why = format!(
        "Envoy leaves labels of the filter's metrics in their names ({}). {how}, and Prometheus can make them at scrape time \
         (envoy/observability).",
        missing.join(", ")
    );
    Some(finding(Severity::Warning, "labels-missing", &Location::default(), why, fixes))
}

/// A tag for the former name of a label of the filter's metrics.
fn renamed_tag(dump: &Dump) -> Option<Finding> {
    /// The former name, which Istio's tag finds at the end of the new one, and the new name.
    const RENAMED: (&str, &str) = ("by", "closed_by");
    let (old, new) = RENAMED;
    dump.statistics.as_ref().filter(|statistics| has_tag(statistics, old))?;
    let (place, fixes) = if dump.node.is_of_istio() {
        (
            "Replace the annotation sidecar.istio.io/extraStatTags of the pod",
            vec![Workload::of(dump).annotations()],
        )
    } else {
        ("Replace the stats_tags of the bootstrap by those of envoy/mysql.yaml", Vec::new())
    };
    let why = format!(
        "Envoy has a tag for the label {old}, which was renamed to {new}. With it, firstword_connections_closed_total gets a wrong \
         name or a wrong label. {place}."
    );
    Some(finding(Severity::Warning, "label-renamed", &Location::default(), why, fixes))
}
