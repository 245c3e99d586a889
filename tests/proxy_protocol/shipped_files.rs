//! The files `envoy/proxy-*.yaml`, changed only in ports and addresses, and the client address that MariaDB sees with each.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use crate::bootstrap::{MYSQL, filters, listeners, plugin, tcp_proxy, with_fast_flush};
use crate::database::{TRUSTS_ENVOY, client_hosts, login};
use crate::headers::{V1, V2, assert_counted, metric, refusals};
use firstword_testing::client::Client;
use firstword_testing::envoy::{Envoy, EnvoyOptions};
use firstword_testing::mariadb::MariaDb;
use firstword_testing::packets::{greeting, packet};
use firstword_testing::peer::{Ending, Peer, Server};
use firstword_testing::proxies::Proxy;
use firstword_testing::wait_for;

/// Address of a client that the files do not trust. They trust 127.0.0.1.
const UNTRUSTED_CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 7));

/// One of the files, with the labels of `envoy/mysql.yaml`, as the first lines of the file ask for.
pub(crate) fn file_options(file: &str, server: SocketAddr) -> EnvoyOptions {
    EnvoyOptions::new(file).labels().upstream(MYSQL, server).edit(|bootstrap| {
        for listener in listeners(bootstrap) {
            // Internal listeners have no filter of ours.
            if filters(listener)[0]["name"] == "firstword" {
                configure(listener, |_| {});
            }
        }
    })
}

pub(crate) fn start(file: &str, server: SocketAddr) -> Envoy {
    Envoy::start(file_options(file, server))
}

/// Changes the filter's configuration, and lets it export often.
fn configure(listener: &mut Value, change: impl FnOnce(&mut Value)) {
    let value = &mut plugin(listener)["configuration"]["value"];
    let mut configuration: Value = serde_json::from_str(value.as_str().expect("JSON")).expect("JSON");
    change(&mut configuration);
    *value = json!(with_fast_flush(configuration).to_string());
}

/// Sends these bytes and logs in. Returns the client address that MariaDB sees. `None` if the connection was closed.
fn seen_address(from: Option<IpAddr>, address: SocketAddr, header: &[u8]) -> Option<String> {
    let mut client = Client::connect_from(from, address);
    client.try_send(header)?;
    let greeting = client.next_packet()?;
    let plugin = client.read_greeting(&greeting);
    client.capabilities &= login().capabilities;
    let response = client.handshake_response(&login(), &plugin);
    client.try_send(&packet(1, &response))?;
    client.sequence_id = 2;
    (client.next_packet()?[0] == 0).then_some(())?;
    let (user, _) = client_hosts(&mut client);
    client.quit();
    Some(user)
}

#[test]
fn proxy_receive_strips_headers_of_trusted_clients() {
    let server = MariaDb::start(&[TRUSTS_ENVOY]);
    let envoy = start("envoy/proxy-receive.yaml", server.addr());
    let (required, optional) = (envoy.listener_addr("required"), envoy.listener_addr("optional"));
    // The filter does not forward the header, although the server would trust it.
    let envoys = Some("127.0.0.1".to_owned());
    for header in [V1, V2] {
        assert_eq!(seen_address(None, required, header), envoys);
        assert_eq!(seen_address(None, optional, header), envoys);
        assert_eq!(seen_address(Some(UNTRUSTED_CLIENT), required, header), None);
        assert_eq!(seen_address(Some(UNTRUSTED_CLIENT), optional, header), envoys);
    }
    assert_eq!(seen_address(None, required, b""), None);
    assert_eq!(seen_address(None, optional, b""), envoys);
    let results = |destination| {
        let count = |result| {
            let labels = [("destination", destination), ("result", result)];
            metric(&envoy, "proxy_protocol_received_total", &labels)
        };
        ["stripped", "untrusted", "missing"].map(count)
    };
    // Each worker flushes by its own clock, so a busy machine shows some of the counts later.
    let counts = || [results("behind-proxy"), results("mixed")];
    let expected = [[2.0, 2.0, 1.0], [2.0, 2.0, 0.0]];
    wait_for("counts of headers", Duration::from_secs(20), || (counts() == expected).then_some(()));
    crate::counter_diff::wait_for_flushes(&envoy);
    assert_eq!(counts(), expected);
}

#[test]
fn proxy_receive_after_header_hides_probes_from_the_server() {
    let server = Server::start();
    let envoy = start("envoy/proxy-receive-after-header.yaml", server.address());
    let address = envoy.listener_addr(MYSQL);
    for _ in 0..10 {
        let mut probe = Peer::connect(address);
        probe.finish();
        assert_eq!(probe.rest().0, b"");
    }
    let mut client = Peer::connect(address);
    client.send(V2);
    let mut peer = server.accept();
    peer.send(&greeting());
    client.expect(&greeting());
    assert_counted(&envoy, &["received v2 stripped 1"]);
    let connections = "cluster.mysql.upstream_cx_total";
    assert_eq!(envoy.stats(connections)[connections], 1, "only the client with a header");
}

/// The filter closes each connection, and logs the missing setting.
#[test]
fn after_header_without_early_data_logs_the_cause() {
    let server = Server::start();
    let options = file_options("envoy/proxy-receive-after-header.yaml", server.address()).edit(|bootstrap| {
        let listener = &mut listeners(bootstrap)[0];
        let early = tcp_proxy(listener).as_object_mut().expect("tcp_proxy").remove("max_early_data_bytes");
        assert_eq!(early, Some(json!(1024)));
        configure(listener, |configuration| {
            configuration["rules"][0]["proxy_protocol"]["receive"]["timeout"] = json!("300ms");
        });
    });
    let envoy = Envoy::start(options);
    let mut client = Peer::connect(envoy.listener_addr(MYSQL));
    client.send(V1);
    let (bytes, ending) = client.rest();
    assert!(bytes.is_empty() && matches!(ending, Ending::Finished | Ending::Reset));
    assert!(refusals(&envoy)[0].contains("max_early_data_bytes"));
}

#[test]
fn proxy_send_sends_the_received_address() {
    let server = MariaDb::start(&[TRUSTS_ENVOY]);
    let envoy = start("envoy/proxy-send.yaml", server.addr());
    let address = envoy.listener_addr(MYSQL);
    assert_eq!(seen_address(None, address, V1).as_deref(), Some("192.0.2.1"));
    assert_eq!(seen_address(Some(UNTRUSTED_CLIENT), address, b"").as_deref(), Some("127.0.0.7"));
    assert_eq!(seen_address(Some(UNTRUSTED_CLIENT), address, V1), None);
    assert_counted(&envoy, &["received v1 stripped 1", "received v1 untrusted 1", "sent v1 2"]);
}

/// HAProxy before MariaDB, as a server that waits for the header before its greeting, and that MariaDB trusts.
fn start_waiting_server(server: SocketAddr) -> Proxy {
    Proxy::haproxy(&format!(
        "listen waiting\n  bind 127.0.0.1:<waiting> accept-proxy\n  server s {server} send-proxy\n"
    ))
}

#[test]
fn proxy_send_native_sends_the_clients_address() {
    let server = MariaDb::start(&[TRUSTS_ENVOY]);
    let waiting = start_waiting_server(server.addr());
    let envoy = start("envoy/proxy-send-native.yaml", waiting.addr("waiting"));
    let address = envoy.listener_addr(MYSQL);
    let mut client = Client::connect_from(Some(UNTRUSTED_CLIENT), address);
    let own = client.local_addr();
    client = client.log_in(&login()).expect("a login");
    assert_eq!(client_hosts(&mut client), ("127.0.0.7".into(), format!("127.0.0.7:{}", own.port())));
    client.quit();
    envoy.wait_metric("firstword_handshakes_total", &[("result", "ok"), ("destination", "orders")], 1.0);
    assert_counted(&envoy, &[]);
}

/// The server waits for a header, and the filter can only send it with the client's first bytes. The log names the cause.
#[test]
fn a_server_that_waits_for_the_header_hangs_with_first_bytes() {
    let server = MariaDb::start(&[TRUSTS_ENVOY]);
    let waiting = start_waiting_server(server.addr());
    let options = file_options("envoy/proxy-send.yaml", waiting.addr("waiting")).edit(|bootstrap| {
        configure(&mut listeners(bootstrap)[0], |configuration| {
            configuration["rules"][0]["greeting_timeout"] = json!("500ms");
        });
    });
    let envoy = Envoy::start(options);
    Peer::connect(envoy.listener_addr(MYSQL)).assert_silent();
    envoy.wait_metric("firstword_greeting_timeouts_total", &[("destination", "orders")], 1.0);
    envoy.wait_log("causes=\"1: the server waits for the PROXY header");
}

#[test]
fn the_filter_receives_headers_that_envoy_sends() {
    let server = MariaDb::start(&[TRUSTS_ENVOY]);
    let receives = start("envoy/proxy-send.yaml", server.addr());
    let mut expected = Vec::new();
    for (version, line) in [("V1", "received v1 stripped 1"), ("V2", "received v2 stripped 1")] {
        let sends = file_options("envoy/proxy-send-native.yaml", receives.listener_addr(MYSQL));
        let sends = Envoy::start(sends.edit(|bootstrap| {
            let cluster = &mut bootstrap["static_resources"]["clusters"][0];
            cluster["transport_socket"]["typed_config"]["config"]["version"] = json!(version);
        }));
        let address = sends.listener_addr(MYSQL);
        assert_eq!(seen_address(Some(UNTRUSTED_CLIENT), address, b"").as_deref(), Some("127.0.0.7"));
        expected.push(line.to_owned());
        let sent = format!("sent v1 {}", expected.len());
        let lines: Vec<_> = expected.iter().map(String::as_str).chain([sent.as_str()]).collect();
        assert_counted(&receives, &lines);
    }
}

#[test]
fn proxy_forward_native_forwards_all_addresses() {
    let server = MariaDb::start(&[TRUSTS_ENVOY]);
    let waiting = start_waiting_server(server.addr());
    let envoy = start("envoy/proxy-forward-native.yaml", waiting.addr("waiting"));
    let address = envoy.listener_addr(MYSQL);
    thread::scope(|scope| {
        scope.spawn(|| Peer::connect(address).assert_silent());
        for header in [V1, V2] {
            assert_eq!(seen_address(None, address, header).as_deref(), Some("192.0.2.1"));
            // The file warns of this: Envoy trusts every client.
            assert_eq!(seen_address(Some(UNTRUSTED_CLIENT), address, header).as_deref(), Some("192.0.2.1"));
        }
    });
    envoy.wait_metric("firstword_handshakes_total", &[("result", "ok"), ("destination", "orders")], 4.0);
}

/// Envoy sends the address that the filter received in its own header. Headers of untrusted clients are refused.
#[test]
fn proxy_forward_forwards_trusted_addresses() {
    let server = MariaDb::start(&[TRUSTS_ENVOY]);
    let waiting = start_waiting_server(server.addr());
    let envoy = start("envoy/proxy-forward.yaml", waiting.addr("waiting"));
    let address = envoy.listener_addr(MYSQL);
    for header in [V1, V2] {
        assert_eq!(seen_address(None, address, header).as_deref(), Some("192.0.2.1"));
        assert_eq!(seen_address(Some(UNTRUSTED_CLIENT), address, header), None);
    }
    assert_counted(
        &envoy,
        &[
            "received v1 stripped 1",
            "received v1 untrusted 1",
            "received v2 stripped 1",
            "received v2 untrusted 1",
        ],
    );
}

/// If the listener continues after its timeout, a client that waits needs no header, although Envoy's filter requires one.
#[test]
fn a_required_native_header_is_bypassed_by_waiting() {
    let server = MariaDb::start(&[TRUSTS_ENVOY]);
    let waiting = start_waiting_server(server.addr());
    let options =
        file_options("envoy/proxy-forward-native.yaml", waiting.addr("waiting")).edit(|bootstrap| {
            let listener = &mut listeners(bootstrap)[0];
            listener["listener_filters_timeout"] = json!("0.2s");
            listener["continue_on_listener_filters_timeout"] = json!(true);
        });
    let envoy = Envoy::start(options);
    assert_eq!(
        seen_address(Some(UNTRUSTED_CLIENT), envoy.listener_addr(MYSQL), b"").as_deref(),
        Some("127.0.0.7")
    );
}

/// RBAC, to which Istio translates an AuthorizationPolicy, uses the address from a header that Envoy's own filter received.
/// If our filter received it, RBAC uses the peer's address.
#[test]
fn rbac_sees_the_address_of_native_headers_only() {
    let server = MariaDb::start(&[TRUSTS_ENVOY]);
    let waiting = start_waiting_server(server.addr());
    let only_the_header = |bootstrap: &mut Value| {
        let rbac = json!({
            "name": "envoy.filters.network.rbac",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.network.rbac.v3.RBAC",
                "stat_prefix": "only",
                "rules": {"policies": {"only": {
                    "permissions": [{"any": true}],
                    "principals": [{"remote_ip": {"address_prefix": "192.0.2.1", "prefix_len": 32}}],
                }}},
            },
        });
        filters(&mut listeners(bootstrap)[0]).insert(1, rbac);
    };
    let native =
        file_options("envoy/proxy-forward-native.yaml", waiting.addr("waiting")).edit(only_the_header);
    let native = Envoy::start(native);
    assert_eq!(seen_address(None, native.listener_addr(MYSQL), V1).as_deref(), Some("192.0.2.1"));
    let ours = Envoy::start(file_options("envoy/proxy-send.yaml", server.addr()).edit(only_the_header));
    assert_eq!(seen_address(None, ours.listener_addr(MYSQL), V1), None);
}
