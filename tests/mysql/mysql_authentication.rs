//! Authentication plugins of MySQL, and a client that switches to TLS.

use std::net::SocketAddr;
use std::process::{Command, Stdio};

use crate::counts::{QUIET, address, start_envoy, sum, sums_by};
use firstword_testing::client::{CLASSIC, Client, Login};
use firstword_testing::database::{PASSWORD, USER};
use firstword_testing::mysqld::{MySql, NO_TLS, SHA256_USER};

mod needs_mysqld {
    use super::*;

    #[test]
    #[ignore = "needs MySQL: make tools-mysql"]
    fn logins_with_the_plugins_of_mysql_are_counted() {
        let database = MySql::start(&[NO_TLS]);
        let envoy = start_envoy(&database);
        for _ in 0..3 {
            Client::login(address(&envoy), &Login::new(CLASSIC)).quit();
        }
        Client::login(address(&envoy), &Login::new(CLASSIC).user(SHA256_USER, PASSWORD)).quit();
        let refused = Client::connect(address(&envoy)).log_in(&Login::new(CLASSIC).user(USER, "x")).err();
        assert_eq!(refused, Some(1045));
        let metrics = envoy.stable(QUIET);
        // The first login needs the password itself, encrypted with a public key that a proxy could have replaced.
        assert!(sum(&metrics, "plaintext_full_auth_total", &[]) >= 1);
        assert_eq!(sum(&metrics, "handshakes_total", &[("result", "ok")]), 4);
        assert_eq!(sums_by(&metrics, "auth_switches_total", "plugin").get("sha256_password"), Some(&1));
        assert_eq!(sum(&metrics, "handshake_errors_total", &[("errno", "1045")]), 1);
        assert_eq!(sum(&metrics, "opaque_total", &[]), 0, "{}", envoy.log());
    }

    #[test]
    #[ignore = "needs MySQL: make tools-mysql"]
    fn a_connection_with_tls_is_opaque_after_the_handshake() {
        let database = MySql::start(&[]);
        let envoy = start_envoy(&database);
        start_tls(address(&envoy));
        let metrics = envoy.stable(QUIET);
        assert_eq!(sum(&metrics, "opaque_total", &[("reason", "tls")]), 1);
        assert_eq!(sum(&metrics, "opaque_total", &[]), 1);
        assert_eq!(sum(&metrics, "handshakes_total", &[("result", "tls")]), 1);
        assert_eq!(sum(&metrics, "handshakes_total", &[]), 1);
        assert_eq!(sum(&metrics, "commands_total", &[]), 0);
        assert!(sum(&metrics, "bytes_total", &[("sender", "server")]) > 1000);
    }
}

/// Performs a TLS handshake in the MySQL protocol, and closes.
fn start_tls(address: SocketAddr) {
    let output = Command::new("openssl")
        .args(["s_client", "-starttls", "mysql", "-connect", &address.to_string()])
        .stdin(Stdio::null())
        .output()
        .expect("openssl in PATH; run: apt-get install openssl");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains("BEGIN CERTIFICATE"), "{text}");
}
