//! The files `envoy/proxy-*.yaml`, as they are but for ports and addresses, each to the end: the address that MariaDB sees.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::thread;

use serde_json::{Value, json};

use crate::bootstrap::{MYSQL, filters, listeners, plugin, soon, tcp_proxy};
use crate::database::{BELIEVES, hosts, login};
use crate::headers::{V1, V2, assert_counted, metric, refusals};
use firstword_testing::client::Client;
use firstword_testing::envoy::{Envoy, EnvoyOptions};
use firstword_testing::mariadb::MariaDb;
use firstword_testing::packets::{greeting, packet};
use firstword_testing::peer::{Ending, Peer, Server};
use firstword_testing::proxies::Proxy;

/// A client that the files do not trust: they name 127.0.0.1.
const STRANGER: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 7));

/// One of the files, with the labels of `envoy/mysql.yaml`, as their first lines say.
pub(crate) fn scenario(file: &str, server: SocketAddr) -> EnvoyOptions {
    EnvoyOptions::new(file).labels().upstream(MYSQL, server).edit(|bootstrap| {
        for listener in listeners(bootstrap) {
            // One within Envoy has no filter of ours.
            if filters(listener)[0]["name"] == "firstword" {
                configure(listener, |_| {});
            }
        }
    })
}

pub(crate) fn start(file: &str, server: SocketAddr) -> Envoy {
    Envoy::start(scenario(file, server))
}

/// Changes the filter's own configuration, in which exports are quick.
fn configure(listener: &mut Value, change: impl FnOnce(&mut Value)) {
    let value = &mut plugin(listener)["configuration"]["value"];
    let mut configuration: Value = serde_json::from_str(value.as_str().expect("JSON")).expect("JSON");
    change(&mut configuration);
    *value = json!(soon(configuration).to_string());
}

/// Sends these bytes, perhaps none, and logs in. The client's address by MariaDB; none: the connection is closed.
fn seen(from: Option<IpAddr>, address: SocketAddr, header: &[u8]) -> Option<String> {
    let mut client = Client::connect_from(from, address);
    client.try_send(header)?;
    let greeting = client.next_packet()?;
    let plugin = client.read_greeting(&greeting);
    client.capabilities &= login().capabilities;
    let response = client.handshake_response(&login(), &plugin);
    client.try_send(&packet(1, &response))?;
    client.sequence_id = 2;
    (client.next_packet()?[0] == 0).then_some(())?;
    let (user, _) = hosts(&mut client);
    client.quit();
    Some(user)
}

#[test]
fn receive() {
    let server = MariaDb::start(&[BELIEVES]);
    let envoy = start("envoy/proxy-receive.yaml", server.addr());
    let (required, optional) = (envoy.listener_addr("required"), envoy.listener_addr("optional"));
    // The header goes no further, though this server would believe it.
    let envoys = Some("127.0.0.1".to_owned());
    for header in [V1, V2] {
        assert_eq!(seen(None, required, header), envoys);
        assert_eq!(seen(None, optional, header), envoys);
        assert_eq!(seen(Some(STRANGER), required, header), None);
        assert_eq!(seen(Some(STRANGER), optional, header), envoys);
    }
    assert_eq!(seen(None, required, b""), None);
    assert_eq!(seen(None, optional, b""), envoys);
    let results = |destination| {
        let count = |result| {
            let labels = [("destination", destination), ("result", result)];
            metric(&envoy, "proxy_protocol_received_total", &labels)
        };
        ["stripped", "untrusted", "missing"].map(count)
    };
    crate::ledger::several_ticks(&envoy);
    assert_eq!(results("behind-proxy"), [2.0, 2.0, 1.0]);
    assert_eq!(results("mixed"), [2.0, 2.0, 0.0]);
}

#[test]
fn receive_after_header() {
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
    assert_eq!(envoy.stats(connections)[connections], 1, "no probe among them");
}

/// Whoever needs what `after_header` needs and has it not: nobody gets through, and the log names the cause.
#[test]
fn after_header_without_early_data() {
    let server = Server::start();
    let options = scenario("envoy/proxy-receive-after-header.yaml", server.address()).edit(|bootstrap| {
        let listener = &mut listeners(bootstrap)[0];
        let early = tcp_proxy(listener).as_object_mut().expect("tcp_proxy").remove("max_early_data_bytes");
        assert_eq!(early, Some(json!(1024)));
        configure(listener, |configuration| {
            configuration["rules"][0]["proxy_protocol"]["receive"]["timeout_ms"] = json!(300);
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
fn send() {
    let server = MariaDb::start(&[BELIEVES]);
    let envoy = start("envoy/proxy-send.yaml", server.addr());
    let address = envoy.listener_addr(MYSQL);
    assert_eq!(seen(None, address, V1).as_deref(), Some("192.0.2.1"));
    assert_eq!(seen(Some(STRANGER), address, b"").as_deref(), Some("127.0.0.7"));
    assert_eq!(seen(Some(STRANGER), address, V1), None);
    assert_counted(&envoy, &["received v1 stripped 1", "received v1 untrusted 1", "sent v1 2"]);
}

/// A server that waits for the header before it greets, and MariaDB behind it that hears the same.
fn waiting(server: SocketAddr) -> Proxy {
    Proxy::haproxy(&format!(
        "listen waiting\n  bind 127.0.0.1:<waiting> accept-proxy\n  server s {server} send-proxy\n"
    ))
}

#[test]
fn send_native() {
    let server = MariaDb::start(&[BELIEVES]);
    let waiting = waiting(server.addr());
    let envoy = start("envoy/proxy-send-native.yaml", waiting.addr("waiting"));
    let address = envoy.listener_addr(MYSQL);
    let mut client = Client::connect_from(Some(STRANGER), address);
    let own = client.local_addr();
    client = client.log_in(&login()).expect("a login");
    assert_eq!(hosts(&mut client), ("127.0.0.7".into(), format!("127.0.0.7:{}", own.port())));
    client.quit();
    envoy.wait_metric("firstword_handshakes_total", &[("result", "ok"), ("destination", "orders")], 1.0);
    assert_counted(&envoy, &[]);
}

/// The same server with the filter's header, which would come with the client's first bytes: both wait, and that is named.
#[test]
fn first_bytes_are_too_late_for_a_server_that_waits() {
    let server = MariaDb::start(&[BELIEVES]);
    let waiting = waiting(server.addr());
    let options = scenario("envoy/proxy-send.yaml", waiting.addr("waiting")).edit(|bootstrap| {
        configure(&mut listeners(bootstrap)[0], |configuration| {
            configuration["rules"][0]["greeting_timeout_ms"] = json!(500);
        });
    });
    let envoy = Envoy::start(options);
    Peer::connect(envoy.listener_addr(MYSQL)).assert_silent();
    envoy.wait_metric("firstword_greeting_timeouts_total", &[("destination", "orders")], 1.0);
    envoy.wait_log("causes=\"1: the server waits for the PROXY header");
}

/// Headers of Envoy's own, to the filter.
#[test]
fn envoy_sends_and_the_filter_receives() {
    let server = MariaDb::start(&[BELIEVES]);
    let receives = start("envoy/proxy-send.yaml", server.addr());
    let mut expected = Vec::new();
    for (version, line) in [("V1", "received v1 stripped 1"), ("V2", "received v2 stripped 1")] {
        let sends = scenario("envoy/proxy-send-native.yaml", receives.listener_addr(MYSQL));
        let sends = Envoy::start(sends.edit(|bootstrap| {
            let cluster = &mut bootstrap["static_resources"]["clusters"][0];
            cluster["transport_socket"]["typed_config"]["config"]["version"] = json!(version);
        }));
        let address = sends.listener_addr(MYSQL);
        assert_eq!(seen(Some(STRANGER), address, b"").as_deref(), Some("127.0.0.7"));
        expected.push(line.to_owned());
        let sent = format!("sent v1 {}", expected.len());
        let lines: Vec<_> = expected.iter().map(String::as_str).chain([sent.as_str()]).collect();
        assert_counted(&receives, &lines);
    }
}

#[test]
fn forward_native() {
    let server = MariaDb::start(&[BELIEVES]);
    let waiting = waiting(server.addr());
    let envoy = start("envoy/proxy-forward-native.yaml", waiting.addr("waiting"));
    let address = envoy.listener_addr(MYSQL);
    thread::scope(|scope| {
        scope.spawn(|| Peer::connect(address).assert_silent());
        for header in [V1, V2] {
            assert_eq!(seen(None, address, header).as_deref(), Some("192.0.2.1"));
            // What the file warns of.
            assert_eq!(seen(Some(STRANGER), address, header).as_deref(), Some("192.0.2.1"));
        }
    });
    envoy.wait_metric("firstword_handshakes_total", &[("result", "ok"), ("destination", "orders")], 4.0);
}

/// The address that this filter read, in Envoy's own header; of strangers, none.
#[test]
fn forward() {
    let server = MariaDb::start(&[BELIEVES]);
    let waiting = waiting(server.addr());
    let envoy = start("envoy/proxy-forward.yaml", waiting.addr("waiting"));
    let address = envoy.listener_addr(MYSQL);
    for header in [V1, V2] {
        assert_eq!(seen(None, address, header).as_deref(), Some("192.0.2.1"));
        assert_eq!(seen(Some(STRANGER), address, header), None);
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

/// The header that Envoy's filter requires is not required of those who wait, once the listener goes on after its time-out.
#[test]
fn a_required_native_header_is_bypassed_by_waiting() {
    let server = MariaDb::start(&[BELIEVES]);
    let waiting = waiting(server.addr());
    let options = scenario("envoy/proxy-forward-native.yaml", waiting.addr("waiting")).edit(|bootstrap| {
        let listener = &mut listeners(bootstrap)[0];
        listener["listener_filters_timeout"] = json!("0.2s");
        listener["continue_on_listener_filters_timeout"] = json!(true);
    });
    let envoy = Envoy::start(options);
    assert_eq!(seen(Some(STRANGER), envoy.listener_addr(MYSQL), b"").as_deref(), Some("127.0.0.7"));
}

/// RBAC, which is what Istio's AuthorizationPolicy becomes, goes by the address in a header that Envoy's own filter read, and
/// by the peer's where this one did, though its header says otherwise.
#[test]
fn rbac_sees_the_address_of_native_headers_only() {
    let server = MariaDb::start(&[BELIEVES]);
    let waiting = waiting(server.addr());
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
    let native = scenario("envoy/proxy-forward-native.yaml", waiting.addr("waiting")).edit(only_the_header);
    let native = Envoy::start(native);
    assert_eq!(seen(None, native.listener_addr(MYSQL), V1).as_deref(), Some("192.0.2.1"));
    let ours = Envoy::start(scenario("envoy/proxy-send.yaml", server.addr()).edit(only_the_header));
    assert_eq!(seen(None, ours.listener_addr(MYSQL), V1), None);
}
