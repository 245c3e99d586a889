//! In place of ztunnel: the connections of a pod to Services go to a waypoint, each in a tunnel (HBONE: mutual TLS, HTTP/2
//! CONNECT with the original destination), by an Envoy in the pod.

use std::net::IpAddr;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use base64::Engine as _;
use serde_json::{Value, json};

use super::kubectl::Kubectl;
use super::pod::Pod;
use super::world::{SERVICES, World};
use firstword_testing::envoy::{Envoy, EnvoyOptions};

/// Port to which the pod's connections to Services are redirected, and that of a waypoint for tunnels.
const REDIRECTED: u16 = 15_001;
const HBONE: u16 = 15_008;

/// A running tunnel.
pub struct Ztunnel {
    _envoy: Envoy,
    // The tunnel is in its namespace.
    _pod: Arc<Pod>,
}

impl Ztunnel {
    /// Redirects the pod's connections to Services into tunnels to the waypoint.
    pub fn start(world: &World, kubectl: &Kubectl, pod: Arc<Pod>, waypoint: IpAddr) -> Self {
        let credentials = world.folder("ztunnel");
        issue(kubectl, &credentials, &format!("spiffe://cluster.local/ns/{}/sa/default", pod.of));
        let redirect = format!("-A OUTPUT -p tcp -d {SERVICES} -j REDIRECT --to-ports {REDIRECTED}");
        pod.network.run_with("iptables-restore", &format!("*nat\n{redirect}\nCOMMIT\n"));
        let launcher = pod.network.launcher(world.files(), &firstword_testing::envoy(), None);
        let options = EnvoyOptions::unchanged(bootstrap(waypoint, &credentials)).run_by(&launcher, 0);
        let envoy = pod.network.enter(|| Envoy::start(options));
        Self { _envoy: envoy, _pod: pod }
    }
}

/// Writes a certificate for an identity, signed by istiod's authority: `ca.pem`, `certificate.pem`, `key.pem`.
fn issue(kubectl: &Kubectl, directory: &Path, identity: &str) {
    let secret =
        kubectl.get(&["secret", "istio-ca-secret", "-n", "istio-system"]).expect("istiod's authority");
    for (name, key) in [("ca.pem", "ca-cert.pem"), ("ca-key.pem", "ca-key.pem")] {
        let encoded = secret["data"][key].as_str().unwrap_or_else(|| panic!("the Secret has no {key}"));
        let text = base64::engine::general_purpose::STANDARD.decode(encoded).expect("base64");
        std::fs::write(directory.join(name), text).expect("a file");
    }
    std::fs::write(directory.join("extensions"), format!("subjectAltName=critical,URI:{identity}\n"))
        .expect("a file");
    let request = "req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj / -keyout key.pem -out request.pem";
    let sign = "x509 -req -in request.pem -CA ca.pem -CAkey ca-key.pem -set_serial 1 -days 1 -extfile extensions \
                -out certificate.pem";
    for arguments in [request, sign] {
        let output =
            Command::new("openssl").args(arguments.split_whitespace()).current_dir(directory).output();
        let output = output.expect("openssl");
        assert!(output.status.success(), "openssl {arguments}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

fn bootstrap(waypoint: IpAddr, credentials: &Path) -> Value {
    let file = |name: &str| json!({"filename": credentials.join(name)});
    let address = |host: &str, port: u16| json!({"socket_address": {"address": host, "port_value": port}});
    json!({
        "admin": {"address": address("127.0.0.1", 0)},
        // The waypoint ends a tunnel by END_STREAM and a reset without an error. Envoy 1.38.2 then resets the client's connection,
        // and drops the bytes before END_STREAM (https://github.com/envoyproxy/envoy/issues/45190, corrected in 1.39).
        "layered_runtime": {"layers": [{"name": "static", "static_layer": {
            "envoy.reloadable_features.propagate_upstream_rst_through_tunneled_tcp_proxy": false,
        }}]},
        "static_resources": {
            "listeners": [{
                "name": "redirected", "address": address("0.0.0.0", REDIRECTED),
                "listener_filters": [{"name": "envoy.filters.listener.original_dst", "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.filters.listener.original_dst.v3.OriginalDst",
                }}],
                "filter_chains": [{"filters": [{"name": "envoy.filters.network.tcp_proxy", "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
                    "stat_prefix": "tunnel", "cluster": "waypoint",
                    "tunneling_config": {"hostname": "%DOWNSTREAM_LOCAL_ADDRESS%"},
                }}]}],
            }],
            "clusters": [{
                "name": "waypoint", "type": "STATIC",
                "load_assignment": {"cluster_name": "waypoint", "endpoints": [{"lb_endpoints": [
                    {"endpoint": {"address": address(&waypoint.to_string(), HBONE)}},
                ]}]},
                "typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                    "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                    "explicit_http_config": {"http2_protocol_options": {}},
                }},
                "transport_socket": {"name": "envoy.transport_sockets.tls", "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
                    "common_tls_context": {
                        "alpn_protocols": ["h2"],
                        "tls_params": {"tls_maximum_protocol_version": "TLSv1_3"},
                        "tls_certificates": [{
                            "certificate_chain": file("certificate.pem"), "private_key": file("key.pem"),
                        }],
                        "validation_context": {"trusted_ca": file("ca.pem")},
                    },
                }},
            }],
        },
    })
}
