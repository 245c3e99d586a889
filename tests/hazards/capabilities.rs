//! `clear_capabilities` with real servers and clients: the effects of `ssl`, and of `compress` and `zstd`.

use std::net::SocketAddr;
use std::process::Command;

use crate::{QUIET, count, envoy};
use firstword_testing::command_line::session_status;
use firstword_testing::database::{DATABASE, Database, PASSWORD, USER};
use firstword_testing::envoy::Envoy;
use firstword_testing::mariadb::MariaDb;
use firstword_testing::mysqld::MySql;
use firstword_testing::root;

const NO_TLS: &str = r#"{"rules": [{"name": "mysql", "match": {"addresses": ["127.0.0.0/8"]}, "mysql":
    {"clear_capabilities": ["ssl"]}}]}"#;
const NO_COMPRESSION: &str =
    r#"{"rules": [{"name": "mysql", "mysql": {"clear_capabilities": ["compress", "zstd"]}}]}"#;

/// Versions of Connector/J: 8 and the newest.
const CONNECTORS: [&str; 2] = ["8.0.33", "26.10.0"];

/// Output of a client: the session's cipher, which is empty without TLS, or an error.
type Output = Result<String, String>;

fn mysql(address: SocketAddr, options: &[&str], variable: &str) -> Output {
    session_status(&root().join("target/tools/mysql"), address, (USER, PASSWORD), options, variable)
}

fn connector_j(version: &str, address: SocketAddr, options: &[&str]) -> Output {
    let program = root().join(format!("target/drivers/bin/login-{version}"));
    let mut command = Command::new(program);
    command.args([&address.ip().to_string(), &address.port().to_string(), USER, PASSWORD, DATABASE]);
    let output = command.args(options).output().expect("Connector/J");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = text.lines().next().unwrap_or_else(|| panic!("{}", String::from_utf8_lossy(&output.stderr)));
    match line.split_once(' ') {
        Some(("cipher", cipher)) => Ok(cipher.to_owned()),
        _ => Err(line.to_owned()),
    }
}

fn with_tls(output: &Output) -> bool {
    output.as_ref().is_ok_and(|cipher| cipher.starts_with("TLS_"))
}

fn without_tls(output: &Output) -> bool {
    output.as_deref() == Ok("")
}

fn refused(output: &Output, why: &str) -> bool {
    output.as_ref().is_err_and(|error| error.contains(why))
}

/// Clears the server's cache of passwords, so that caching_sha2_password needs the password itself.
fn clear_password_cache(server: &Database) {
    server.sql("FLUSH PRIVILEGES");
}

fn opaque(envoy: &Envoy, reason: &str) -> f64 {
    envoy.stable(QUIET).get("firstword_opaque_total", &[("reason", reason)]).unwrap_or(-1.0)
}

mod needs_mysqld {
    use super::*;

    #[test]
    #[ignore = "needs MySQL: make tools-mysql"]
    fn the_command_line_client_loses_tls_silently() {
        let server = MySql::start(&[]);
        let shown = envoy(server.addr(), "{}");
        let output = mysql(shown.listener_addr("mysql"), &[], "Ssl_cipher");
        assert!(with_tls(&output), "{output:?}");
        assert_eq!(opaque(&shown, "tls"), 1.0);

        let envoy = envoy(server.addr(), NO_TLS);
        let address = envoy.listener_addr("mysql");
        clear_password_cache(&server);
        // By default, the client prefers TLS. The first login without it fails, unless the client requests the public key.
        let output = mysql(address, &[], "Ssl_cipher");
        assert!(
            refused(&output, "ERROR 2061 (HY000)") && refused(&output, "requires secure connection"),
            "{output:?}"
        );
        let output = mysql(address, &["--get-server-public-key"], "Ssl_cipher");
        assert!(without_tls(&output), "{output:?}");
        // Now the server has the password in its cache.
        let output = mysql(address, &[], "Ssl_cipher");
        assert!(without_tls(&output), "{output:?}");
        let output = mysql(address, &["--ssl-mode=REQUIRED"], "Ssl_cipher");
        assert!(refused(&output, "ERROR 2026 (HY000)"), "{output:?}");
        server.sql(&format!("CREATE USER tls@'%' IDENTIFIED BY '{PASSWORD}' REQUIRE SSL"));
        let output = mysql(address, &["--user=tls", "--get-server-public-key"], "Ssl_cipher");
        assert!(refused(&output, "ERROR 1045 (28000)"), "{output:?}");
        assert_eq!(opaque(&envoy, "tls"), 0.0);
        assert_eq!(envoy.log().matches("event=tls_cleared").count(), 1);
        let metrics = envoy.stable(QUIET);
        // The first two logins and the last one, because the server checks REQUIRE SSL after the password.
        assert_eq!(count(&metrics, "plaintext_full_auth_total"), 3);
    }

    #[test]
    #[ignore = "needs MySQL: make tools-mysql"]
    fn a_server_that_requires_tls_refuses_each_client_and_the_cause_is_logged() {
        let server = MySql::start(&["--require-secure-transport=ON"]);
        let envoy = envoy(server.addr(), NO_TLS);
        let address = envoy.listener_addr("mysql");
        for _ in 0..2 {
            let output = mysql(address, &["--get-server-public-key"], "Ssl_cipher");
            assert!(refused(&output, "ERROR 3159 (HY000)"), "{output:?}");
        }
        let metrics = envoy.stable(QUIET);
        let errors = metrics.get("firstword_handshake_errors_total", &[("errno", "3159")]);
        assert_eq!(errors, Some(2.0));
        let log = envoy.log();
        let lines: Vec<_> = log.lines().filter(|line| line.contains("kind=tls_required")).collect();
        let [line] = lines.as_slice() else { panic!("{lines:#?}") };
        assert!(line.contains("clear_capabilities removes its offer of TLS"), "{line}");
    }

    #[test]
    #[ignore = "needs MySQL: make tools-mysql"]
    fn sessions_without_compression_are_inspected() {
        let (mariadb, mysql_server) = (MariaDb::start(&[]), MySql::start(&[]));
        let mariadb_client = firstword_testing::process::in_path("mariadb").expect("mariadb in PATH");
        let mysql_client = root().join("target/tools/mysql");
        let plain = "--ssl-mode=DISABLED";
        let key = "--get-server-public-key";
        type Case<'a> = (SocketAddr, &'a std::path::Path, &'a [&'a str]);
        let cases: [Case; 3] = [
            (mariadb.addr(), &mariadb_client, &["--skip-ssl", "--compress"]),
            (mysql_server.addr(), &mysql_client, &[plain, key, "--compression-algorithms=zlib,uncompressed"]),
            (mysql_server.addr(), &mysql_client, &[plain, key, "--compression-algorithms=zstd,uncompressed"]),
        ];
        for (server, client, options) in cases {
            for (configuration, compression) in [("{}", "ON"), (NO_COMPRESSION, "OFF")] {
                let envoy = envoy(server, configuration);
                let output = session_status(
                    client,
                    envoy.listener_addr("mysql"),
                    (USER, PASSWORD),
                    options,
                    "Compression",
                );
                assert_eq!(output.as_deref(), Ok(compression), "{options:?}");
                let expected = f64::from(u8::from(compression == "ON"));
                assert_eq!(opaque(&envoy, "compressed"), expected, "{options:?}");
            }
        }
    }
}

mod needs_drivers {
    use super::*;

    #[test]
    #[ignore = "needs Connector/J: make test-hazards"]
    fn connector_j_loses_tls_silently() {
        let status = Command::new(root().join("scripts/drivers.sh")).arg("hazards").status();
        assert!(status.expect("scripts/drivers.sh").success(), "Connector/J is not ready");
        let server = MySql::start(&[]);
        for version in CONNECTORS {
            let shown = envoy(server.addr(), "{}");
            let output = connector_j(version, shown.listener_addr("mysql"), &[]);
            assert!(with_tls(&output), "{version}: {output:?}");
            let envoy = envoy(server.addr(), NO_TLS);
            let address = envoy.listener_addr("mysql");
            clear_password_cache(&server);
            let output = connector_j(version, address, &[]);
            assert!(refused(&output, "Public Key Retrieval is not allowed"), "{version}: {output:?}");
            let output = connector_j(version, address, &["allowPublicKeyRetrieval=true"]);
            assert!(without_tls(&output), "{version}: {output:?}");
            let output = connector_j(version, address, &[]);
            assert!(without_tls(&output), "{version}: {output:?}");
            let output = connector_j(version, address, &["sslMode=REQUIRED"]);
            assert!(output.is_err(), "{version}: {output:?}");
            println!("Connector/J {version} that requires TLS: {output:?}");
            assert_eq!(opaque(&envoy, "tls"), 0.0);
        }
    }
}
