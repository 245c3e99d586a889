//! Greetings that lose capabilities, with real servers and clients: what `ssl` costs, which is more than the others.

use std::net::SocketAddr;
use std::process::Command;

use crate::{QUIET, count, envoy};
use firstword_testing::database::{DATABASE, Database, PASSWORD, USER};
use firstword_testing::envoy::Envoy;
use firstword_testing::mariadb::MariaDb;
use firstword_testing::mysqld::MySql;
use firstword_testing::root;

const NO_TLS: &str = r#"{"rules": [{"name": "mysql", "match": {"addresses": ["127.0.0.0/8"]}, "mysql":
    {"clear_capabilities": ["ssl"]}}]}"#;
const NO_COMPRESSION: &str =
    r#"{"rules": [{"name": "mysql", "mysql": {"clear_capabilities": ["compress", "zstd"]}}]}"#;

/// Connector/J 8 and the newest.
const CONNECTORS: [&str; 2] = ["8.0.33", "26.10.0"];

/// What a client says: the session's cipher, which is empty without TLS, or an error.
type Said = Result<String, String>;

/// MySQL's or MariaDB's own client asks for a status variable.
fn status(program: &std::path::Path, address: SocketAddr, options: &[&str], variable: &str) -> Said {
    let output = Command::new(program)
        .args(["--no-defaults", "--batch", "--skip-column-names", "--user", USER])
        .args([format!("--host={}", address.ip()), format!("--port={}", address.port())])
        .args(options)
        .args([format!("--execute=SHOW SESSION STATUS LIKE '{variable}'").as_str(), DATABASE])
        .env("MYSQL_PWD", PASSWORD)
        .output()
        .expect("a client");
    let text = |bytes| String::from_utf8_lossy(bytes).trim().to_owned();
    if !output.status.success() {
        return Err(text(&output.stderr));
    }
    Ok(text(&output.stdout).split_once('\t').map(|(_, value)| value.to_owned()).unwrap_or_default())
}

fn mysql(address: SocketAddr, options: &[&str], variable: &str) -> Said {
    status(&root().join("target/tools/mysql"), address, options, variable)
}

fn connector_j(version: &str, address: SocketAddr, options: &[&str]) -> Said {
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

fn with_tls(said: &Said) -> bool {
    said.as_ref().is_ok_and(|cipher| cipher.starts_with("TLS_"))
}

fn without_tls(said: &Said) -> bool {
    said.as_deref() == Ok("")
}

fn refused(said: &Said, why: &str) -> bool {
    said.as_ref().is_err_and(|error| error.contains(why))
}

/// The server forgets who has logged in: caching_sha2_password needs the password itself again.
fn cool(server: &Database) {
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
        let said = mysql(shown.listener_addr("mysql"), &[], "Ssl_cipher");
        assert!(with_tls(&said), "{said:?}");
        assert_eq!(opaque(&shown, "tls"), 1.0);

        let envoy = envoy(server.addr(), NO_TLS);
        let address = envoy.listener_addr("mysql");
        cool(&server);
        // By default it prefers TLS. The first login shows what is missing, and where the key is asked for nothing is.
        let said = mysql(address, &[], "Ssl_cipher");
        assert!(
            refused(&said, "ERROR 2061 (HY000)") && refused(&said, "requires secure connection"),
            "{said:?}"
        );
        let said = mysql(address, &["--get-server-public-key"], "Ssl_cipher");
        assert!(without_tls(&said), "{said:?}");
        // From then on the server has it in its cache.
        let said = mysql(address, &[], "Ssl_cipher");
        assert!(without_tls(&said), "{said:?}");
        let said = mysql(address, &["--ssl-mode=REQUIRED"], "Ssl_cipher");
        assert!(refused(&said, "ERROR 2026 (HY000)"), "{said:?}");
        server.sql(&format!("CREATE USER tls@'%' IDENTIFIED BY '{PASSWORD}' REQUIRE SSL"));
        let said = mysql(address, &["--user=tls", "--get-server-public-key"], "Ssl_cipher");
        assert!(refused(&said, "ERROR 1045 (28000)"), "{said:?}");
        assert_eq!(opaque(&envoy, "tls"), 0.0);
        assert_eq!(envoy.log().matches("event=tls_cleared").count(), 1);
        let metrics = envoy.stable(QUIET);
        // The first two and the last: the server looks at REQUIRE SSL when it knows the password.
        assert_eq!(count(&metrics, "plaintext_full_auth_total"), 3);
    }

    #[test]
    #[ignore = "needs MySQL: make tools-mysql"]
    fn a_server_that_requires_tls_refuses_everybody_and_the_cause_is_named() {
        let server = MySql::start(&["--require-secure-transport=ON"]);
        let envoy = envoy(server.addr(), NO_TLS);
        let address = envoy.listener_addr("mysql");
        for _ in 0..2 {
            let said = mysql(address, &["--get-server-public-key"], "Ssl_cipher");
            assert!(refused(&said, "ERROR 3159 (HY000)"), "{said:?}");
        }
        let metrics = envoy.stable(QUIET);
        let errors = metrics.get("firstword_handshake_errors_total", &[("errno", "3159")]);
        assert_eq!(errors, Some(2.0));
        let log = envoy.log();
        let told: Vec<_> = log.lines().filter(|line| line.contains("kind=tls_required")).collect();
        let [line] = told.as_slice() else { panic!("{told:#?}") };
        assert!(line.contains("clear_capabilities takes its offer of TLS away"), "{line}");
    }

    #[test]
    #[ignore = "needs MySQL: make tools-mysql"]
    fn sessions_that_would_be_compressed_stay_visible() {
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
                let said = status(client, envoy.listener_addr("mysql"), options, "Compression");
                assert_eq!(said.as_deref(), Ok(compression), "{options:?}");
                let unseen = f64::from(u8::from(compression == "ON"));
                assert_eq!(opaque(&envoy, "compressed"), unseen, "{options:?}");
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
            let said = connector_j(version, shown.listener_addr("mysql"), &[]);
            assert!(with_tls(&said), "{version}: {said:?}");
            let envoy = envoy(server.addr(), NO_TLS);
            let address = envoy.listener_addr("mysql");
            cool(&server);
            let said = connector_j(version, address, &[]);
            assert!(refused(&said, "Public Key Retrieval is not allowed"), "{version}: {said:?}");
            let said = connector_j(version, address, &["allowPublicKeyRetrieval=true"]);
            assert!(without_tls(&said), "{version}: {said:?}");
            let said = connector_j(version, address, &[]);
            assert!(without_tls(&said), "{version}: {said:?}");
            let said = connector_j(version, address, &["sslMode=REQUIRED"]);
            assert!(said.is_err(), "{version}: {said:?}");
            println!("Connector/J {version} that requires TLS: {said:?}");
            assert_eq!(opaque(&envoy, "tls"), 0.0);
        }
    }
}
