//! HTTP without TLS: Envoy's admin interface, the agent's ports, probes.

use std::net::SocketAddr;
use std::time::Duration;

/// The body of a response with the status 200. Call it in the namespace from which the port is reachable.
pub fn get(to: SocketAddr, path: &str) -> Result<String, String> {
    let agent: ureq::Agent =
        ureq::Agent::config_builder().timeout_global(Some(Duration::from_secs(10))).build().into();
    let mut response = agent.get(format!("http://{to}{path}")).call().map_err(|error| error.to_string())?;
    // A dump of a whole mesh is larger than the default limit.
    response.body_mut().with_config().limit(64 << 20).read_to_string().map_err(|error| error.to_string())
}
