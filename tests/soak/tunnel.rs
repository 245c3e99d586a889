//! A tunnel of HTTP/2 CONNECT, as in an ambient mesh: all connections of a worker share one connection to its other end.

use std::net::SocketAddr;

use firstword_testing::connection_manager::connection_manager;
use firstword_testing::envoy::{Envoy, EnvoyOptions};
use serde_json::{Value, json};

/// More than all streams, frames or connections of a run. Envoy's own limits protect it from strangers.
const MANY: u32 = 1_000_000;

/// Makes a `tcp_proxy` and its cluster send each connection as a stream.
pub fn enter(tcp_proxy: &mut Value, cluster: &mut Value) {
    tcp_proxy["tunneling_config"] = json!({"hostname": "database:3306"});
    cluster["circuit_breakers"]["thresholds"][0]["max_requests"] = json!(MANY);
    cluster["typed_extension_protocol_options"] = json!({
        "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
            "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
            "explicit_http_config": {"http2_protocol_options": http2()},
        },
    });
}

/// Starts the other end, which connects to a server for each stream.
pub fn exit(server: SocketAddr, workers: u32) -> Envoy {
    let anywhere = json!({"socket_address": {"address": "127.0.0.1", "port_value": 0}});
    let routes = json!([{
        "match": {"connect_matcher": {}},
        "route": {
            "cluster": "server",
            "timeout": "0s",
            "upgrade_configs": [{"upgrade_type": "CONNECT", "connect_config": {}}],
        },
    }]);
    let mut manager = connection_manager("tunnel", &routes);
    let config = &mut manager["typed_config"];
    config["codec_type"] = json!("HTTP2");
    config["http2_protocol_options"] = http2();
    config["stream_idle_timeout"] = json!("0s");
    let bootstrap = json!({
        "static_resources": {
            "listeners": [{"name": "tunnel", "address": anywhere, "filter_chains": [{"filters": [manager]}]}],
            "clusters": [{
                "name": "server",
                "type": "STATIC",
                "connect_timeout": "5s",
                "circuit_breakers": {"thresholds": [{
                    "max_connections": MANY, "max_pending_requests": MANY, "max_requests": MANY,
                }]},
                "load_assignment": {
                    "cluster_name": "server",
                    "endpoints": [{"lb_endpoints": [{"endpoint": {"address": anywhere}}]}],
                },
            }],
        },
    });
    Envoy::start(EnvoyOptions::from_value(bootstrap).upstream("server", server).concurrency(workers))
}

/// All streams share a connection, and Envoy closes it if it has more streams or frames than these limits.
fn http2() -> Value {
    json!({
        "allow_connect": true,
        "max_concurrent_streams": MANY,
        "max_outbound_frames": MANY,
        "max_outbound_control_frames": MANY,
    })
}
