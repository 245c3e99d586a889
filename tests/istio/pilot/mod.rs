//! A model of istiod: it generates the configuration of one proxy from Services, Istio's resources and `EnvoyFilter`s, as far
//! as the configuration decides where bytes go.
//!
//! Written from istiod's source (pilot/pkg/networking/core, 1.32-dev), with its names. `tests/istio/istiod.rs` compares it
//! with the output of istiod for the same input.

pub mod agent;
pub mod bootstrap;
mod cluster;
mod envoy_filter;
mod gateway;
mod http;
mod inbound;
mod matching;
pub mod mesh;
mod outbound;
pub mod resource;
mod shape;
mod wasm_plugin;

use serde_json::Value;

use mesh::{Mesh, Proxy};
use resource::Resource;

/// Configuration of a proxy.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Xds {
    pub listeners: Vec<Value>,
    pub clusters: Vec<Value>,
    /// Filter configurations that listeners refer to by name.
    pub extensions: Vec<Value>,
}

/// Kind of a listener, as in the `match` of a patch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Context {
    Inbound,
    Outbound,
    Gateway,
}

/// Configuration of `proxy`. Panics on a resource that is not implemented, and on a patch that changes nothing, which istiod
/// ignores silently.
pub fn xds(mesh: &Mesh, proxy: &Proxy, resources: &[Resource]) -> Xds {
    let (xds, missed) = xds_and_misses(mesh, proxy, resources);
    assert!(missed.is_empty(), "patches that change nothing: {missed:?}");
    xds
}

/// Configuration of `proxy`, and the patches that change nothing.
pub fn xds_and_misses(mesh: &Mesh, proxy: &Proxy, resources: &[Resource]) -> (Xds, Vec<String>) {
    let services = mesh.services_with(proxy, resources);
    let plugins = wasm_plugin::plugins(mesh, proxy, resources);
    let mut patches = envoy_filter::Patches::new(mesh, proxy, resources);

    let mut xds = Xds { clusters: cluster::clusters(mesh, proxy, &services, resources), ..Xds::default() };
    let outbound = if proxy.gateway { Context::Gateway } else { Context::Outbound };
    patches.add_clusters(outbound, &mut xds.clusters);
    if proxy.gateway {
        xds.listeners = gateway::listeners(&services, proxy, resources, &plugins);
        patches.apply(Context::Gateway, &mut xds.listeners, true);
    } else {
        // istiod does not add listeners while it patches the two virtual ones.
        let mut virtual_outbound = vec![outbound::virtual_listener(mesh)];
        patches.apply(Context::Outbound, &mut virtual_outbound, false);
        let mut inbound = vec![inbound::virtual_listener(mesh, proxy, &services, resources, &plugins)];
        patches.apply(Context::Inbound, &mut inbound, true);
        xds.listeners = outbound::listeners(mesh, &services, &plugins);
        patches.apply(Context::Outbound, &mut xds.listeners, true);
        xds.listeners.extend(virtual_outbound);
        xds.listeners.extend(inbound);
    }
    xds.extensions = plugins.iter().map(|plugin| plugin.extension.clone()).collect();
    patches.add_extensions(&mut xds);
    (xds, patches.missed())
}
