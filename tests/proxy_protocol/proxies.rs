//! Headers from HAProxy and nginx, through the filter, and the client address that MariaDB then sees.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::process::Command;

use ppp::HeaderResult;
use ppp::v2::{self, Type};
use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use serde_json::json;

use crate::bootstrap::{MYSQL, listeners};
use crate::database::{TRUSTS_ENVOY, client_hosts, login};
use crate::headers::{assert_counted, refusals, response};
use crate::shipped_files::{file_options, start};
use firstword_testing::client::Client;
use firstword_testing::envoy::Envoy;
use firstword_testing::mariadb::{MariaDb, PASSWORD, USER};
use firstword_testing::packets::greeting;
use firstword_testing::peer::{Peer, Server};
use firstword_testing::process::in_path;
use firstword_testing::proxies::Proxy;
use firstword_testing::temp_dir;

/// Address of a client. It differs from that of the proxies, which connect from 127.0.0.1.
const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 7));
/// Address of the client with a certificate.
const TLS_CLIENT: &str = "127.0.0.9";

/// Writes `authority.pem`, and `server.pem` and `client.pem` with their keys. Both have the common name `orders`.
fn write_certificates(directory: &Path) {
    let authority_key = KeyPair::generate().expect("a key");
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    authority.distinguished_name.push(DnType::CommonName, "authority");
    let certificate = authority.self_signed(&authority_key).expect("a certificate");
    std::fs::write(directory.join("authority.pem"), certificate.pem()).expect("a file");
    let issuer = Issuer::new(authority, authority_key);
    for (name, usage) in
        [("server", ExtendedKeyUsagePurpose::ServerAuth), ("client", ExtendedKeyUsagePurpose::ClientAuth)]
    {
        let key = KeyPair::generate().expect("a key");
        let mut own = CertificateParams::default();
        own.distinguished_name = rcgen::DistinguishedName::new();
        own.distinguished_name.push(DnType::CommonName, "orders");
        own.extended_key_usages.push(usage);
        let certificate = own.signed_by(&key, &issuer).expect("a certificate");
        let pem = certificate.pem() + &key.serialize_pem();
        std::fs::write(directory.join(name).with_extension("pem"), pem).expect("a file");
    }
}

/// HAProxy before `to`. `v1` and `v2` send that version of the header, `six_*` listens on IPv6. `tls` connects with a client
/// certificate to `ended`, which terminates TLS.
fn haproxy(to: SocketAddr, files: &Path) -> Proxy {
    let files = files.display();
    Proxy::haproxy(&format!(
        "
listen v1
  bind 127.0.0.1:<v1>
  server s {to} send-proxy
listen v2
  bind 127.0.0.1:<v2>
  server s {to} send-proxy-v2
listen six_v1
  bind [::1]:<six_v1>
  server s {to} send-proxy
listen six_v2
  bind [::1]:<six_v2>
  server s {to} send-proxy-v2
listen tls
  bind 127.0.0.1:<tls>
  server s 127.0.0.1:<ended> source {TLS_CLIENT} ssl crt {files}/client.pem verify none
listen ended
  bind 127.0.0.1:<ended> ssl crt {files}/server.pem ca-file {files}/authority.pem verify required
  unique-id-format %ci:%cp-%rt
  server s {to} send-proxy-v2-ssl-cn proxy-v2-options crc32c,unique-id
"
    ))
}

/// The IPv6 loopback address with the same port.
fn on_ipv6(address: SocketAddr) -> SocketAddr {
    (Ipv6Addr::LOCALHOST, address.port()).into()
}

/// Shows that the header from HAProxy has all TLVs that we ask for, so that the other tests strip such a header.
#[test]
fn haproxy_sends_a_checksum_an_id_and_tls_fields() {
    let files = temp_dir();
    write_certificates(files.path());
    let server = Server::start();
    let proxy = haproxy(server.address(), files.path());
    let mut client = Peer::connect(proxy.addr("tls"));
    let mut peer = server.accept();
    peer.send(&greeting());
    client.expect(&greeting());
    let response = response();
    client.send(&response);
    client.finish();
    let (bytes, _) = peer.rest();
    let HeaderResult::V2(Ok(header)) = HeaderResult::parse(&bytes) else {
        panic!("{}", bytes.escape_ascii())
    };
    let v2::Addresses::IPv4(addresses) = header.addresses else { panic!("{header:?}") };
    assert_eq!(addresses.source_address.to_string(), TLS_CLIENT);
    let vectors: Vec<_> = header.tlvs().map(|vector| vector.expect("a vector")).collect();
    let value = |kind: Type| {
        let found = vectors.iter().find(|vector| vector.kind == u8::from(kind));
        found.unwrap_or_else(|| panic!("no {kind:?}: {vectors:?}")).value.to_vec()
    };
    assert_eq!(value(Type::CRC32C).len(), 4);
    let id = String::from_utf8(value(Type::UniqueId)).expect("text");
    assert!(id.starts_with(&format!("{TLS_CLIENT}:{}-", addresses.source_port)), "{id}");
    let tls = value(Type::SSL);
    // PP2_CLIENT_SSL, PP2_CLIENT_CERT_CONN and PP2_CLIENT_CERT_SESS, verified, and a TLV with the common name.
    assert_eq!((tls[0], &tls[1..5]), (7, [0; 4].as_slice()));
    assert!(tls.windows(9).any(|window| window == b"\x22\0\x06orders"), "{}", tls.escape_ascii());
    assert_eq!(bytes[header.len()..], response);
}

/// Runs a session. Returns the two hosts that MariaDB sees, and the client's own address.
fn session(from: Option<IpAddr>, address: SocketAddr) -> (String, String, SocketAddr) {
    let client = Client::connect_from(from, address);
    let own = client.local_addr();
    let mut client = client.log_in(&login()).expect("a login");
    let (user, list) = client_hosts(&mut client);
    client.quit();
    (user, list, own)
}

/// Asserts that MariaDB sees the client's address and port, through the proxy and Envoy with `envoy/proxy-send.yaml`.
fn assert_client_address(proxy: SocketAddr) {
    let from = proxy.is_ipv4().then_some(CLIENT);
    let (user, list, own) = session(from, proxy);
    let host = own.ip().to_string();
    assert_eq!((user, list), (host.clone(), format!("{host}:{}", own.port())), "by {proxy}");
}

#[test]
fn headers_from_haproxy_reach_the_server() {
    let files = temp_dir();
    write_certificates(files.path());
    let server = MariaDb::start(&[TRUSTS_ENVOY]);
    let envoy = start("envoy/proxy-send.yaml", server.addr());
    let proxy = haproxy(envoy.listener_addr(MYSQL), files.path());
    for name in ["v1", "v2"] {
        assert_client_address(proxy.addr(name));
        assert_client_address(on_ipv6(proxy.addr(&format!("six_{name}"))));
    }
    // Here HAProxy itself is the client.
    assert_eq!(session(Some(CLIENT), proxy.addr("tls")).0, TLS_CLIENT);
    assert_counted(&envoy, &["received v1 stripped 2", "received v2 stripped 3", "sent v1 5"]);
    assert_eq!(refusals(&envoy), [""; 0]);
}

#[test]
fn headers_from_nginx_reach_the_server() {
    let server = MariaDb::start(&[TRUSTS_ENVOY]);
    let envoy = start("envoy/proxy-send.yaml", server.addr());
    let to = envoy.listener_addr(MYSQL);
    let proxy = Proxy::nginx(&format!(
        "proxy_protocol on;
         server {{ listen 127.0.0.1:<four>; proxy_pass {to}; }}
         server {{ listen [::1]:<six>; proxy_pass {to}; }}"
    ));
    assert_client_address(proxy.addr("four"));
    assert_client_address(on_ipv6(proxy.addr("six")));
    assert_counted(&envoy, &["received v1 stripped 2", "sent v1 2"]);
}

/// MariaDB's client starts TLS with the server after the header. The proxies forward it, and the server sees the client's
/// address.
#[test]
fn headers_before_tls_reach_the_server() {
    let files = temp_dir();
    write_certificates(files.path());
    let pem = files.path().join("server.pem");
    let option = |name: &str| format!("--ssl-{name}={}", pem.display());
    let server =
        MariaDb::start(&[TRUSTS_ENVOY, &option("cert"), &option("key"), "--require-secure-transport=1"]);
    let envoy = start("envoy/proxy-send.yaml", server.addr());
    let proxy = haproxy(envoy.listener_addr(MYSQL), files.path());
    for name in ["six_v1", "six_v2"] {
        let mut client = Command::new(in_path("mariadb").expect("mariadb in PATH"));
        client.args([
            "--no-defaults",
            "--batch",
            "--skip-column-names",
            "--protocol=TCP",
            "--host=::1",
            "--ssl",
        ]);
        client.arg(format!("--ssl-ca={}", files.path().join("authority.pem").display()));
        client.arg(format!("--port={}", proxy.addr(name).port()));
        client.args([format!("--user={USER}"), format!("--password={PASSWORD}")]);
        client.arg(
            "--execute=SELECT SUBSTRING_INDEX(USER(), '@', -1), \
             (SELECT SUBSTRING_INDEX(host, ':', 3) FROM information_schema.processlist WHERE id = CONNECTION_ID()), \
             (SELECT variable_value FROM information_schema.session_status WHERE variable_name = 'Ssl_version')",
        );
        let output = client.output().expect("MariaDB's client");
        let rows = String::from_utf8_lossy(&output.stdout);
        assert_eq!(rows, "::1\t::1\tTLSv1.3\n", "{}", String::from_utf8_lossy(&output.stderr));
    }
    // The server refuses a client without TLS.
    assert_eq!(Client::connect(proxy.addr("v1")).log_in(&login()).err(), Some(1045));
    assert_counted(&envoy, &["received v1 stripped 2", "received v2 stripped 1", "sent v1 3"]);
    envoy.wait_metric("firstword_opaque_total", &[("reason", "tls"), ("destination", "orders")], 2.0);
}

/// All connections to Envoy are over IPv6, with and without a proxy, so the filter sends an IPv6 header.
#[test]
fn headers_over_ipv6_reach_the_server() {
    let server = MariaDb::start(&[TRUSTS_ENVOY]);
    let envoy = Envoy::start(file_options("envoy/proxy-send.yaml", server.addr()).edit(|bootstrap| {
        listeners(bootstrap)[0]["address"]["socket_address"]["address"] = json!("::1");
    }));
    let address = envoy.listener_addr(MYSQL);
    assert!(address.is_ipv6());
    assert_client_address(address);
    let files = temp_dir();
    write_certificates(files.path());
    let proxy = haproxy(address, files.path());
    for name in ["v1", "v2"] {
        assert_client_address(proxy.addr(name));
        assert_client_address(on_ipv6(proxy.addr(&format!("six_{name}"))));
    }
    assert_counted(&envoy, &["received v1 stripped 2", "received v2 stripped 2", "sent v1 5"]);
}
