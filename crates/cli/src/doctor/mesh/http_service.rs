//! The configuration that a proxy would have if an HTTP Service had a port number.

use std::collections::BTreeSet;

use serde_json::json;

use super::super::envoy::dump::Dump;
use super::super::envoy::listener::{Listener, ListenerFilter};
use super::super::envoy::listener_filter::{Kind, kind};

/// Gives each of these ports to an HTTP Service, as istiod does.
///
/// A sidecar gets a listener for all addresses of the port, with `http_inspector`. istiod merges a listener for TCP that has all
/// addresses of the port into it. A waypoint inspects a port number for all of its Services or for none.
pub(super) fn add(dump: &mut Dump, ports: &BTreeSet<u16>) {
    if dump.waypoint().is_some() {
        inspect_each_port(dump);
        return;
    }
    let (seconds, continues) = timeouts(dump);
    let listeners = ports.iter().filter_map(|port| {
        let socket = |ip: &str| json!({"socket_address": {"address": ip, "port_value": port}});
        let inspector = "envoy.extensions.filters.listener.http_inspector.v3.HttpInspector";
        let proxy = "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy";
        let listener = json!({
            "name": format!("0.0.0.0_{port}"),
            "address": socket("0.0.0.0"),
            "additional_addresses": [{"address": socket("::")}],
            "bind_to_port": false,
            "traffic_direction": "OUTBOUND",
            "listener_filters_timeout": format!("{seconds}s"),
            "continue_on_listener_filters_timeout": continues,
            "listener_filters": [{
                "name": "envoy.filters.listener.http_inspector",
                "typed_config": {"@type": format!("type.googleapis.com/{inspector}")},
            }],
            "filter_chains": [{"filters": [{
                "name": "envoy.filters.network.tcp_proxy",
                "typed_config": {"@type": format!("type.googleapis.com/{proxy}"), "cluster": "PassthroughCluster"},
            }]}],
        });
        serde_json::from_value::<Listener>(listener).ok()
    });
    let listeners: Vec<_> = listeners.collect();
    // The first listener of an address gets its connections.
    dump.listeners.splice(0..0, listeners);
}

/// Time-out in seconds, and whether Envoy continues after it, as in the dump's listeners with `http_inspector`. Without such a
/// listener, as istiod configures them by default.
fn timeouts(dump: &Dump) -> (f64, bool) {
    let inspects = |listener: &&Listener| {
        listener.listener_filters.iter().any(|filter| kind(filter, dump) == Kind::HttpInspector)
    };
    match dump.listeners.iter().find(|listener| !listener.is_bound() && inspects(listener)) {
        Some(listener) => {
            let seconds = listener.timeout().map_or(0.0, |timeout| timeout.as_secs_f64());
            (seconds, listener.continue_on_listener_filters_timeout)
        }
        None => (0.0, true),
    }
}

/// Turns the inspection of a waypoint on for each port.
fn inspect_each_port(dump: &mut Dump) {
    let inspectors: Vec<bool> = dump
        .waypoint()
        .map(|(_, inner)| {
            inner.listener_filters.iter().map(|filter| kind(filter, dump) == Kind::HttpInspector).collect()
        })
        .unwrap_or_default();
    let Some(inner) = dump.listeners.iter_mut().find(|listener| listener.name == "main_internal") else {
        return;
    };
    if !inspectors.contains(&true) {
        inner.listener_filters.push(ListenerFilter {
            name: "envoy.filters.listener.http_inspector".to_owned(),
            typed_config: None,
            config_discovery: None,
            filter_disabled: None,
        });
    }
    for (filter, is_inspector) in inner.listener_filters.iter_mut().zip(inspectors) {
        if is_inspector {
            filter.filter_disabled = None;
        }
    }
}
