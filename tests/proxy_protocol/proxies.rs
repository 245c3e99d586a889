//! Headers that HAProxy, nginx and Envoy send, and what of the client a MariaDB behind the filter then sees.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::process::Command;

use ppp::HeaderResult;
use ppp::v2::{self, Type};
use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use serde_json::json;

use crate::bootstrap::{MYSQL, listeners};
use crate::database::{BELIEVES, hosts, login};
use crate::headers::{assert_counted, refusals, response};
use crate::scenarios::{scenario, start};
use firstword_testing::client::Client;
use firstword_testing::envoy::Envoy;
use firstword_testing::mariadb::{MariaDb, PASSWORD, USER};
use firstword_testing::packets::greeting;
use firstword_testing::peer::{Peer, Server};
use firstword_testing::process::in_path;
use firstword_testing::proxies::Proxy;
use firstword_testing::temp_dir;

/// A client of this machine that no proxy is mistaken for: all of them connect from 127.0.0.1.
const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 7));
/// From where the client with a certificate comes.
const TLS_CLIENT: &str = "127.0.0.9";

/// An authority, `server.pem` and `client.pem`, each with its key, for somebody of the name `orders`.
fn certificates(directory: &Path) {
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

/// HAProxy in front of `to`: `v1` and `v2` by their ports, `six` for clients of IPv6, `tls` for a client that HAProxy gives a
/// certificate, and whose TLS it then ends.
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

/// Both on the port of this name and the other loopback.
fn six(address: SocketAddr) -> SocketAddr {
    (Ipv6Addr::LOCALHOST, address.port()).into()
}

/// The checksum and the rest are there: what the filter takes off later is what it seems.
#[test]
fn haproxy_sends_what_it_is_asked_for() {
    let files = temp_dir();
    certificates(files.path());
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
    // PP2_CLIENT_SSL, PP2_CLIENT_CERT_CONN and PP2_CLIENT_CERT_SESS; verified; among the vectors inside the name.
    assert_eq!((tls[0], &tls[1..5]), (7, [0; 4].as_slice()));
    assert!(tls.windows(9).any(|window| window == b"\x22\0\x06orders"), "{}", tls.escape_ascii());
    assert_eq!(bytes[header.len()..], response);
}

/// From there to `address`, to the end of a session; what MariaDB calls its host, and the address it came from.
fn session(from: Option<IpAddr>, address: SocketAddr) -> (String, String, SocketAddr) {
    let client = Client::connect_from(from, address);
    let own = client.local_addr();
    let mut client = client.log_in(&login()).expect("a login");
    let (user, list) = hosts(&mut client);
    client.quit();
    (user, list, own)
}

/// Client, proxy, Envoy with `envoy/proxy-send.yaml`, MariaDB: the address and the port are the client's.
fn assert_seen(proxy: SocketAddr) {
    let from = proxy.is_ipv4().then_some(CLIENT);
    let (user, list, own) = session(from, proxy);
    let host = own.ip().to_string();
    assert_eq!((user, list), (host.clone(), format!("{host}:{}", own.port())), "by {proxy}");
}

#[test]
fn from_haproxy() {
    let files = temp_dir();
    certificates(files.path());
    let server = MariaDb::start(&[BELIEVES]);
    let envoy = start("envoy/proxy-send.yaml", server.addr());
    let proxy = haproxy(envoy.listener_addr(MYSQL), files.path());
    for name in ["v1", "v2"] {
        assert_seen(proxy.addr(name));
        assert_seen(six(proxy.addr(&format!("six_{name}"))));
    }
    // Of this one HAProxy itself is the client.
    assert_eq!(session(Some(CLIENT), proxy.addr("tls")).0, TLS_CLIENT);
    assert_counted(&envoy, &["received v1 stripped 2", "received v2 stripped 3", "sent v1 5"]);
    assert_eq!(refusals(&envoy), [""; 0]);
}

#[test]
fn from_nginx() {
    let server = MariaDb::start(&[BELIEVES]);
    let envoy = start("envoy/proxy-send.yaml", server.addr());
    let to = envoy.listener_addr(MYSQL);
    let proxy = Proxy::nginx(&format!(
        "proxy_protocol on;
         server {{ listen 127.0.0.1:<four>; proxy_pass {to}; }}
         server {{ listen [::1]:<six>; proxy_pass {to}; }}"
    ));
    assert_seen(proxy.addr("four"));
    assert_seen(six(proxy.addr("six")));
    assert_counted(&envoy, &["received v1 stripped 2", "sent v1 2"]);
}

/// TLS between MariaDB's own client and the server, begun behind the headers: the proxies pass it on, and the server sees the
/// client's address all the same.
#[test]
fn with_the_clients_own_tls_to_the_server() {
    let files = temp_dir();
    certificates(files.path());
    let pem = files.path().join("server.pem");
    let option = |name: &str| format!("--ssl-{name}={}", pem.display());
    let server = MariaDb::start(&[BELIEVES, &option("cert"), &option("key"), "--require-secure-transport=1"]);
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
        let said = String::from_utf8_lossy(&output.stdout);
        assert_eq!(said, "::1\t::1\tTLSv1.3\n", "{}", String::from_utf8_lossy(&output.stderr));
    }
    // Without TLS this server takes nobody.
    assert_eq!(Client::connect(proxy.addr("v1")).log_in(&login()).err(), Some(1045));
    assert_counted(&envoy, &["received v1 stripped 2", "received v2 stripped 1", "sent v1 3"]);
    envoy.wait_metric("firstword_opaque_total", &[("reason", "tls"), ("destination", "orders")], 2.0);
}

/// All of the way to Envoy, with a proxy and without: the header sent is of IPv6, too.
#[test]
fn over_ipv6_alone() {
    let server = MariaDb::start(&[BELIEVES]);
    let envoy = Envoy::start(scenario("envoy/proxy-send.yaml", server.addr()).edit(|bootstrap| {
        listeners(bootstrap)[0]["address"]["socket_address"]["address"] = json!("::1");
    }));
    let address = envoy.listener_addr(MYSQL);
    assert!(address.is_ipv6());
    assert_seen(address);
    let files = temp_dir();
    certificates(files.path());
    let proxy = haproxy(address, files.path());
    for name in ["v1", "v2"] {
        assert_seen(proxy.addr(name));
        assert_seen(six(proxy.addr(&format!("six_{name}"))));
    }
    assert_counted(&envoy, &["received v1 stripped 2", "received v2 stripped 2", "sent v1 5"]);
}
