//! The files in `envoy/` other than `mysql.yaml`, changed only in ports and addresses. A silent client receives the greeting,
//! and the other promises of each file hold.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::json;

use crate::bootstrap::{MYSQL, listeners};
use crate::counter_diff::CounterDiff;
use crate::session_counts::LOGIN;
use crate::traffic::Pair;
use firstword_testing::envoy::{Envoy, EnvoyOptions};
use firstword_testing::loopback;
use firstword_testing::peer::{Peer, Server};
use firstword_testing::process::in_path;

/// Counts of a login and of the end of its connection.
fn counts() -> String {
    format!("{LOGIN}connections_closed_total{{closed_by=client,phase=command}} 1")
}

/// Asserts that a request goes through an HTTP connection manager, which adds headers in both directions. Only Envoy receives
/// the client's bytes in `before`.
fn assert_http(mut client: Peer, before: &[u8], web: &Server) {
    client.send(before);
    client.send(b"GET /orders HTTP/1.1\r\nhost: shop\r\nconnection: close\r\n\r\n");
    let mut server = web.accept();
    let request = server.until("\r\n\r\n");
    assert!(
        request.starts_with("GET /orders HTTP/1.1\r\n") && request.contains("\r\nx-request-id: "),
        "{request}"
    );
    server.send(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}");
    let (response, _) = client.rest();
    let response = String::from_utf8_lossy(&response);
    assert!(response.contains("\r\nserver: envoy\r\n") && response.ends_with("\r\n\r\n{}"), "{response}");
}

#[test]
fn a_port_range_without_inspectors() {
    let (mysql, web, web_tls) = (Server::start(), Server::start(), Server::start());
    let (options, distance) = EnvoyOptions::with_moved_ports("envoy/port-range.yaml");
    let options = options.upstream(MYSQL, mysql.address()).upstream("web", web.address()).labels();
    let envoy = Envoy::start(options.upstream("web_tls", web_tls.address()));
    let port = |port: u16| loopback(port + distance);
    let mut diff = CounterDiff::new(&envoy, MYSQL);
    for port in [port(10001), port(10002)] {
        Pair::logged_in(port, &mysql).close();
        diff.expect(&counts());
    }

    assert_http(Peer::connect(port(10000)), b"", &web);

    // A real ClientHello arrives unchanged at the server of its cluster.
    let mut client = Command::new(in_path("openssl").expect("openssl in PATH"));
    client.args(["s_client", "-connect", &port(10000).to_string()]);
    client.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut client = client.spawn().expect("openssl");
    let mut server = web_tls.accept();
    server.expect(b"\x16\x03\x01");
    drop(server);
    client.wait().expect("the end of openssl");
    // The filter saw none of these connections.
    diff.finish();
}

/// Without the range, the client waits for the greeting, and the inspectors wait for the client.
#[test]
fn the_same_ports_with_inspectors_hang() {
    let mysql = Server::start();
    let (options, distance) = EnvoyOptions::with_moved_ports("envoy/port-range.yaml");
    let options = options.upstream(MYSQL, mysql.address()).upstream("web", mysql.address());
    let options = options.upstream("web_tls", mysql.address()).edit(|bootstrap| {
        for filter in listeners(bootstrap)[0]["listener_filters"].as_array_mut().expect("listener filters") {
            filter.as_object_mut().expect("a filter").remove("filter_disabled").expect("a range");
        }
    });
    let envoy = Envoy::start(options);
    let mut client = Peer::connect(loopback(10001 + distance));
    envoy.wait_stat(r"^listener\.\d.*\.downstream_pre_cx_active$", 1);
    client.assert_silent();
    mysql.assert_not_connected();
    envoy.wait_stat(r"^listener\.\d.*\.downstream_pre_cx_active$", 1);
}

/// A PROXY header from the client names the original destination, because iptables needs a network namespace. Envoy then
/// selects the listener as it does for a redirected connection, and the client is silent.
#[test]
fn an_exact_address_without_inspectors() {
    let database = Server::start();
    let port = database.address().port();
    // A server on another address with the same port.
    let web = Server::at((Ipv4Addr::new(127, 0, 0, 2), port).into());
    let envoy = Envoy::start(exact_address(database.address()));
    let redirected = envoy.listener_addr("redirected");
    let header = |to: SocketAddr| format!("PROXY TCP4 127.0.0.1 {} 50000 {}\r\n", to.ip(), to.port());
    let connect = |to: SocketAddr| {
        let mut client = Peer::connect(redirected);
        client.send(header(to).as_bytes());
        client
    };

    let mut diff = CounterDiff::new(&envoy, "original_dst");
    let mut pair = Pair { client: connect(database.address()), server: database.accept() };
    pair.play(&crate::traffic::login());
    pair.close();
    diff.expect(&counts());

    assert_http(Peer::connect(redirected), header(web.address()).as_bytes(), &web);
    diff.finish();
    // A silent client of that server waits, because no listener can distinguish it from a slow one.
    let _silent = connect(web.address());
    envoy.wait_stat(r"^listener\.0\.0\.0\.0_\d+\.downstream_pre_cx_active$", 1);
    web.assert_not_connected();
}

/// Without the listener for the exact address, the inspector also waits for clients of the database.
#[test]
fn a_client_hangs_without_the_exact_address() {
    let database = Server::start();
    let options = exact_address(database.address());
    let envoy = Envoy::start(options.edit(|bootstrap| drop(listeners(bootstrap).remove(1))));
    let mut client = Peer::connect(envoy.listener_addr("redirected"));
    let port = database.address().port();
    client.send(format!("PROXY TCP4 127.0.0.1 127.0.0.1 50000 {port}\r\n").as_bytes());
    envoy.wait_stat(r"^listener\.0\.0\.0\.0_\d+\.downstream_pre_cx_active$", 1);
    client.assert_silent();
    database.assert_not_connected();
}

/// The options with the address of this database.
fn exact_address(database: SocketAddr) -> EnvoyOptions {
    let options = EnvoyOptions::new("envoy/exact-address.yaml").labels();
    options.edit(|bootstrap| {
        let listeners = listeners(bootstrap);
        listeners[0]["listener_filters"] = json!([{
            "name": "envoy.filters.listener.proxy_protocol",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.listener.proxy_protocol.v3.ProxyProtocol",
            },
        }]);
        let socket_address = json!({"address": database.ip(), "port_value": database.port()});
        listeners[1]["address"]["socket_address"] = socket_address;
        listeners[2]["address"]["socket_address"]["port_value"] = json!(database.port());
    })
}

/// The Envoy of Docker Compose forwards a greeting from each server, and accepts PROXY headers only from HAProxy.
#[test]
fn the_envoy_of_docker_compose() {
    let (mariadb, mysql) = (Server::start(), Server::start());
    let options = EnvoyOptions::new("envoy/compose/envoy.yaml").labels();
    let envoy = Envoy::start(options.upstream("mariadb", mariadb.address()).upstream(MYSQL, mysql.address()));
    for (listener, server) in [("mariadb", &mariadb), (MYSQL, &mysql)] {
        let mut diff = CounterDiff::new(&envoy, listener);
        Pair::logged_in(envoy.listener_addr(listener), server).close();
        diff.expect(&counts());
        diff.finish();
    }
    let mut diff = CounterDiff::new(&envoy, "behind-haproxy");
    let mut stranger = Peer::connect(envoy.listener_addr("behind-haproxy"));
    stranger.send(b"PROXY TCP4 127.0.0.1 127.0.0.1 50000 3306\r\n");
    stranger.rest();
    diff.expect(
        "connections_total{protocol=mysql} 1
        connections_closed_total{closed_by=proxy,phase=greeting} 1
        proxy_protocol_received_total{format=v1,result=untrusted} 1",
    );
    diff.finish_with_log_lines(&["event=proxy_protocol_refused result=untrusted"]);
}

fn files() -> Vec<PathBuf> {
    let directory = firstword_testing::root().join("envoy");
    let files = std::fs::read_dir(directory).expect("envoy/").flatten().map(|entry| entry.path());
    let mut files: Vec<_> = files.filter(|file| file.extension() == Some("yaml".as_ref())).collect();
    files.sort();
    files
}

/// Each file in `envoy/` has a test in this folder, `tests/compose.rs`, `tests/hazards`, `tests/proxy_protocol` or
/// `tests/mysql`.
#[test]
fn each_file_has_a_test() {
    let files = files();
    let names: Vec<_> = files.iter().map(|file| Path::new(file.file_name().expect("a name"))).collect();
    let tested = [
        "access-log.yaml",
        "docker-compose.yaml",
        "exact-address.yaml",
        "hazards.yaml",
        "mysql.yaml",
        "native.yaml",
        "port-range.yaml",
        "proxy-forward-native.yaml",
        "proxy-forward.yaml",
        "proxy-receive-after-header.yaml",
        "proxy-receive.yaml",
        "proxy-send-native.yaml",
        "proxy-send.yaml",
        "rbac-by-user.yaml",
        "tls-bridge.yaml",
        "tls-originate.yaml",
        "tls-terminate.yaml",
    ];
    assert_eq!(names, tested.map(Path::new));
}

/// By default, Envoy forwards 1024 connections of each cluster, and closes the others without a log line.
#[test]
fn the_files_do_not_limit_the_number_of_connections() {
    firstword_testing::process::raise_open_files();
    let server = Server::start();
    let envoy = Envoy::start(EnvoyOptions::new("envoy/mysql.yaml").upstream(MYSQL, server.address()));
    let mut pairs: Vec<_> = (0..1100).map(|_| Pair::open(envoy.listener_addr(MYSQL), &server)).collect();
    for pair in &mut pairs {
        pair.play(&crate::traffic::login()[..1]);
    }
    assert_eq!(envoy.stat(r"^cluster\.mysql\.upstream_cx_overflow$"), 0);

    let bootstraps = files().into_iter().filter(|file| !file.ends_with("docker-compose.yaml"));
    for file in bootstraps.chain([firstword_testing::root().join("envoy/compose/envoy.yaml")]) {
        let _ = EnvoyOptions::new(&file).edit(|bootstrap| {
            for cluster in bootstrap["static_resources"]["clusters"].as_array().expect("clusters") {
                let threshold = &cluster["circuit_breakers"]["thresholds"][0];
                for limit in ["max_connections", "max_pending_requests"] {
                    assert_eq!(
                        threshold[limit],
                        u32::MAX,
                        "{limit} of {} in {}",
                        cluster["name"],
                        file.display()
                    );
                }
            }
        });
    }
}
