//! Accounts of each authentication plugin, in both modes of TLS to the server.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::json;

use crate::certificates::Certificates;
use crate::counts::{QUIET, address, sum, sums_by};
use crate::tls_modes::{Mode, REQUEST_LEN, Sides, new_client, result, results, tls_to_server};
use firstword_testing::client::{CLASSIC, Client, Login};
use firstword_testing::command_line::session_status;
use firstword_testing::database::{Database, PASSWORD, USER};
use firstword_testing::envoy::{Envoy, EnvoyOptions};
use firstword_testing::mariadb::COUNTED;
use firstword_testing::{process, root, temp_dir};

/// Envoy's name in its certificate for servers.
const CLIENT: &str = "envoy.example";

/// Output of a client: the session's cipher, or an error.
type Output = Result<String, String>;

/// Option of clients and servers that trusts this authority.
fn trusting(authority: &Certificates) -> String {
    format!("--ssl-ca={}", authority.directory().join("ca.pem").display())
}

/// Logs in with a client of MariaDB, without TLS if Envoy does not end it.
fn mariadb(program: &Path, mode: Mode, sides: &Sides, envoy: &Envoy, account: (&str, &str)) -> Output {
    let authority = trusting(&sides.proxy);
    let tls = match mode {
        Mode::Originate => "--skip-ssl",
        Mode::Bridge => &authority,
    };
    // The name in Envoy's certificate is not the address that the tests connect to.
    let options = [tls, "--disable-ssl-verify-server-cert"];
    session_status(program, address(envoy), account, &options, "Ssl_cipher")
}

/// The client of this system's MariaDB.
fn system_client() -> PathBuf {
    process::in_path("mariadb").expect("mariadb in PATH; run: make tools")
}

fn assert_tls(output: &Output) {
    assert!(output.as_ref().is_ok_and(|cipher| cipher.starts_with("TLS_")), "{output:?}");
}

fn assert_refused(output: &Output, why: &str) {
    assert!(output.as_ref().is_err_and(|error| error.contains(why)), "{output:?}");
}

/// Asserts the number of connections with TLS, on each side on which the filter ends or starts it.
fn assert_established(mode: Mode, envoy: &Envoy, count: u64) {
    assert_eq!(results(envoy, "upstream"), result("established", count), "{mode:?}: {}", envoy.log());
    let ended = if mode == Mode::Bridge { result("established", count) } else { BTreeMap::new() };
    assert_eq!(results(envoy, "downstream"), ended, "{mode:?}");
}

/// Envoy's cluster with a certificate for the server.
fn with_certificate(options: EnvoyOptions, mode: Mode, certificate: &Certificates) -> EnvoyOptions {
    options.edit(|bootstrap| {
        let cluster = &mut bootstrap["static_resources"]["clusters"][mode.cluster()];
        tls_to_server(cluster)["tls_certificates"] = json!([certificate.pair()]);
    })
}

/// The server sees the certificate of Envoy's cluster in place of the client's.
fn certificates_are_those_of_envoy(sides: &Sides, of_envoy: &Certificates, database: &Database) {
    let accounts = [
        ("x509", "X509".to_owned(), true),
        ("subject", format!("SUBJECT '/CN={CLIENT}' AND ISSUER '/CN=authority'"), true),
        ("other_subject", "SUBJECT '/CN=client.example'".to_owned(), false),
        ("other_issuer", "ISSUER '/CN=other'".to_owned(), false),
    ];
    for (user, required, _) in &accounts {
        database.sql(&format!("CREATE USER {user}@'%' IDENTIFIED BY '{PASSWORD}' REQUIRE {required}"));
        database.sql(&format!("GRANT ALL ON *.* TO {user}@'%'"));
    }
    for mode in Mode::ALL {
        let options = sides.options(mode, database);
        let without = Envoy::start(options.clone());
        let envoy = Envoy::start(with_certificate(options, mode, of_envoy));
        for (user, _, fits) in &accounts {
            let login = Login::new(CLASSIC).user(user, PASSWORD);
            let expected = (!fits).then_some(1045);
            assert_eq!(sides.use_tls(mode, &envoy, &login), expected, "{mode:?}, {user}");
            assert_eq!(sides.use_tls(mode, &without, &login), Some(1045), "{mode:?}, {user}, no certificate");
        }
        assert_established(mode, &envoy, accounts.len() as u64);
        assert_eq!(sum(&envoy.stable(QUIET), "opaque_total", &[]), 0, "{}", envoy.log());
    }
}

/// Logins, a refusal and a change of account. The filter's counts equal the server's.
#[test]
fn accounts_of_mariadb_log_in_and_counts_equal_the_servers() {
    let sides = Sides::new();
    let database = sides.mariadb(&[&["--plugin-load-add=auth_ed25519"], &COUNTED[..]].concat());
    for (user, plugin) in [("ed", "ed25519"), ("native", "mysql_native_password")] {
        let password = format!("PASSWORD('{PASSWORD}')");
        database.sql(&format!("CREATE USER {user}@'%' IDENTIFIED VIA {plugin} USING {password} REQUIRE SSL"));
        database.sql(&format!("GRANT ALL ON *.* TO {user}@'%'"));
    }
    let login = |user, password| Login::new(CLASSIC).user(user, password);
    let direct = Client::connect(database.addr()).log_in(&Login::new(CLASSIC));
    assert_eq!(direct.err(), Some(1045), "the server refuses clients without TLS");
    for mode in Mode::ALL {
        let envoy = Envoy::start(sides.options(mode, &database));
        let before = (database.oracle(), database.status("Ssl_accepts"));
        for user in [USER, "ed", "native"] {
            assert_eq!(sides.use_tls(mode, &envoy, &login(user, PASSWORD)), None, "{mode:?}, {user}");
        }
        assert_eq!(sides.use_tls(mode, &envoy, &login("ed", "wrong")), Some(1045));
        let mut changed = sides.log_in(mode, &envoy, &Login::new(CLASSIC)).expect("a login");
        changed.change_user(&login("ed", PASSWORD), "mysql_native_password").expect("a change of account");
        changed.quit();

        let metrics = envoy.stable(QUIET);
        let server = database.oracle_when_alone().since(&before.0);
        assert_eq!(sums_by(&metrics, "opaque_total", "reason").len(), 0, "{}", envoy.log());
        assert_established(mode, &envoy, 5);
        assert_eq!(database.status("Ssl_accepts") - before.1, 5);
        assert_eq!(sum(&metrics, "connections_total", &[]), 5, "each connection is counted once");
        assert_eq!(sum(&metrics, "handshakes_total", &[("result", "ok")]), 4);
        // The SSLRequests are no part of the visible conversation.
        let client_bytes = sum(&metrics, "bytes_total", &[("sender", "client")]);
        assert_eq!(client_bytes + 5 * REQUEST_LEN, server.bytes_received);
        assert_eq!(sum(&metrics, "bytes_total", &[("sender", "server")]), server.bytes_sent);
        assert_eq!(sum(&metrics, "commands_total", &[("command", "query")]), 3);
        assert_eq!(sum(&metrics, "commands_total", &[("command", "change_user")]), 1);
        assert_eq!(sum(&metrics, "commands_total", &[("command", "quit")]), 4);
    }
}

#[test]
fn certificates_are_those_of_envoy_with_mariadb() {
    let (sides, of_envoy) = (Sides::new(), Certificates::new(CLIENT, 2090));
    let database = sides.mariadb(&[&trusting(&of_envoy)]);
    certificates_are_those_of_envoy(&sides, &of_envoy, &database);
}

mod needs_mysqld {
    use super::*;
    use firstword_testing::mysqld::SHA256_USER;

    #[test]
    #[ignore = "needs MySQL: make tools-mysql"]
    fn certificates_are_those_of_envoy_with_mysql() {
        let (sides, of_envoy) = (Sides::new(), Certificates::new(CLIENT, 2090));
        let database = sides.mysql(&[&trusting(&of_envoy)]);
        certificates_are_those_of_envoy(&sides, &of_envoy, &database);
    }

    #[test]
    #[ignore = "needs MySQL: make tools-mysql"]
    fn accounts_of_mysql_log_in() {
        let sides = Sides::new();
        let database = sides.mysql(&[]);
        let login = Login::new(CLASSIC);
        assert_eq!(Client::connect(database.addr()).log_in(&login).err(), Some(3159));
        for mode in Mode::ALL {
            let envoy = Envoy::start(sides.options(mode, &database));
            // Without this the server knows the hash of the password, and does not ask for it.
            database.sql("FLUSH PRIVILEGES");
            for _ in 0..3 {
                assert_eq!(sides.use_tls(mode, &envoy, &login), None);
            }
            let sha256 = Login::new(CLASSIC).user(SHA256_USER, PASSWORD);
            assert_eq!(sides.use_tls(mode, &envoy, &sha256), None);
            let wrong = Login::new(CLASSIC).user(USER, "wrong");
            assert_eq!(sides.use_tls(mode, &envoy, &wrong), Some(1045));
            assert_established(mode, &envoy, 5);
            let metrics = envoy.stable(QUIET);
            assert_eq!(sum(&metrics, "opaque_total", &[]), 0, "{}", envoy.log());
            assert_eq!(sum(&metrics, "handshakes_total", &[("result", "ok")]), 4);
            // Without TLS of the client: the first login, and the one with a wrong password.
            let passwords = if mode == Mode::Originate { 2 } else { 0 };
            assert_eq!(sum(&metrics, "plaintext_full_auth_total", &[]), passwords, "{mode:?}");
            if mode == Mode::Bridge {
                assert_eq!(sum(&metrics, "hazards_total", &[]), 0);
            }
        }
    }
}

mod needs_netns {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn executable(path: &Path, text: &str) {
        fs::write(path, text).expect("a script");
        fs::set_permissions(path, PermissionsExt::from_mode(0o755)).expect("a script");
    }

    /// Writes a program that starts MariaDB where PAM has one service, `firstword`, whose only password is `PASSWORD`.
    fn server_with_pam(directory: &Path) -> PathBuf {
        let (services, check) = (directory.join("pam.d"), directory.join("check"));
        fs::create_dir(&services).expect("a directory");
        // The password is on the standard input, and ends with a NUL.
        executable(&check, &format!("#!/bin/sh\n[ \"$(tr -d '\\0')\" = '{PASSWORD}' ]\n"));
        let service = format!(
            "auth required pam_exec.so expose_authtok quiet {}\naccount required pam_permit.so\n",
            check.display()
        );
        fs::write(services.join("firstword"), service).expect("a service");
        let program = directory.join("mariadbd");
        let mount = format!("mount --bind {} /etc/pam.d", services.display());
        let server = firstword_testing::mariadbd();
        let server = server.display();
        executable(
            &program,
            &format!("#!/bin/sh\nexec unshare --mount sh -c '{mount} && exec {server} \"$@\"' sh \"$@\"\n"),
        );
        program
    }

    /// Logs in with MySQL's client, which sends a password in clear text only with an option.
    fn mysql(mode: Mode, sides: &Sides, envoy: &Envoy, options: &[&str]) -> Output {
        let authority = trusting(&sides.proxy);
        let tls: &[&str] = match mode {
            Mode::Originate => &["--ssl-mode=DISABLED"],
            Mode::Bridge => &["--ssl-mode=VERIFY_CA", &authority],
        };
        let (program, account) = (root().join("target/tools/mysql"), ("pam", PASSWORD));
        session_status(&program, address(envoy), account, &[tls, options].concat(), "Ssl_cipher")
    }

    /// The client sends the password itself: in TLS with the bridge, and in clear text to the Envoy that starts TLS.
    #[test]
    #[ignore = "needs namespaces and MySQL: make tools-istio tools-mysql"]
    fn passwords_of_pam_are_forwarded_in_tls() {
        let (sides, files) = (Sides::new(), temp_dir());
        let program = server_with_pam(files.path());
        for (option, plugin) in [
            ("--pam-use-cleartext-plugin=1", "mysql_clear_password"),
            ("--pam-use-cleartext-plugin=0", "dialog"),
        ] {
            let database = sides.mariadb_by(program.clone(), &["--plugin-load-add=auth_pam", option]);
            database.sql("CREATE USER pam@'%' IDENTIFIED VIA pam USING 'firstword' REQUIRE SSL");
            database.sql("GRANT ALL ON *.* TO pam@'%'");
            for mode in Mode::ALL {
                let envoy = Envoy::start(sides.options(mode, &database));
                let accepted = database.status("Ssl_accepts");
                assert_tls(&mariadb(&system_client(), mode, &sides, &envoy, ("pam", PASSWORD)));
                assert_refused(
                    &mariadb(&system_client(), mode, &sides, &envoy, ("pam", "wrong")),
                    "ERROR 1045",
                );
                if plugin == "dialog" {
                    assert_refused(&mysql(mode, &sides, &envoy, &["--enable-cleartext-plugin"]), "dialog");
                } else {
                    assert_refused(&mysql(mode, &sides, &envoy, &[]), "plugin not enabled");
                    assert_tls(&mysql(mode, &sides, &envoy, &["--enable-cleartext-plugin"]));
                }
                let metrics = envoy.stable(QUIET);
                let count = |name, labels: &[(&str, &str)]| sum(&metrics, name, labels);
                let logins = if plugin == "dialog" { 1 } else { 2 };
                let sent = if mode == Mode::Originate { logins + 1 } else { 0 };
                assert_eq!(count("handshakes_total", &[("result", "ok")]), logins, "{mode:?}, {plugin}");
                assert_eq!(count("handshake_errors_total", &[("errno", "1045"), ("plugin", plugin)]), 1);
                assert_eq!(count("hazards_total", &[("kind", "clear_password")]), sent, "{mode:?}, {plugin}");
                assert_eq!(sums_by(&metrics, "opaque_total", "reason").len(), 0, "{}", envoy.log());
                let connections = if plugin == "dialog" { 3 } else { 4 };
                assert_established(mode, &envoy, connections);
                assert_eq!(database.status("Ssl_accepts") - accepted, connections);
            }
        }
    }
}

mod needs_new_mariadb {
    use std::net::SocketAddr;

    use super::*;
    use firstword_testing::mariadb::MariaDb;

    /// Logs in with the newer client. It requires TLS only if an option has the password.
    fn log_in(address: SocketAddr, options: &[&str]) -> Output {
        let password = format!("--password={PASSWORD}");
        let options = [&[password.as_str()], options].concat();
        session_status(&new_client(), address, ("parsec", PASSWORD), &options, "Ssl_cipher")
    }

    /// A newer MariaDB with an account of parsec.
    fn server(options: &[&str]) -> MariaDb {
        let database = MariaDb::start_new(&[&["--plugin-load-add=auth_parsec"], options].concat());
        let password = format!("PASSWORD('{PASSWORD}')");
        database.sql(&format!("CREATE USER parsec@'%' IDENTIFIED VIA parsec USING {password} REQUIRE SSL"));
        database.sql("GRANT ALL ON *.* TO parsec@'%'");
        database
    }

    fn server_with_certificate(sides: &Sides) -> MariaDb {
        let [cert, key, required] = sides.server.options();
        server(&[&cert, &key, &required])
    }

    #[test]
    #[ignore = "needs a newer MariaDB: make tools-mariadb"]
    fn accounts_of_parsec_log_in() {
        let sides = Sides::new();
        let database = server_with_certificate(&sides);
        for mode in Mode::ALL {
            let envoy = Envoy::start(sides.options(mode, &database));
            let client = new_client();
            assert_tls(&mariadb(&client, mode, &sides, &envoy, ("parsec", PASSWORD)));
            assert_refused(&mariadb(&client, mode, &sides, &envoy, ("parsec", "wrong")), "ERROR 1045");
            let old = mariadb(&system_client(), mode, &sides, &envoy, ("parsec", PASSWORD));
            assert_refused(&old, "Plugin parsec could not be loaded");
            let metrics = envoy.stable(QUIET);
            assert_eq!(sum(&metrics, "handshakes_total", &[("result", "ok")]), 1);
            assert_eq!(sum(&metrics, "opaque_total", &[]), 0, "{}", envoy.log());
            assert_established(mode, &envoy, 3);
        }
    }

    /// A client since 11.4 requires TLS, unless an option turns it off.
    #[test]
    #[ignore = "needs a newer MariaDB: make tools-mariadb"]
    fn clients_that_require_tls_by_default_need_an_option() {
        let sides = Sides::new();
        let database = server_with_certificate(&sides);
        assert_tls(&log_in(database.addr(), &[]));
        let envoy = Envoy::start(sides.options(Mode::Originate, &database));
        assert_refused(&log_in(address(&envoy), &[]), "SSL is required");
        assert_tls(&log_in(address(&envoy), &["--skip-ssl"]));
    }

    /// A certificate that the server makes at each start, which only the password verifies.
    #[test]
    #[ignore = "needs a newer MariaDB: make tools-mariadb"]
    fn envoy_refuses_a_certificate_that_the_server_makes_itself() {
        let sides = Sides::new();
        let database = server(&[]);
        assert_tls(&log_in(database.addr(), &[]));
        for mode in Mode::ALL {
            let envoy = Envoy::start(sides.options(mode, &database));
            let output = mariadb(&new_client(), mode, &sides, &envoy, ("parsec", PASSWORD));
            assert!(output.is_err(), "{output:?}");
            assert_eq!(results(&envoy, "upstream"), result("failed", 1));
        }
    }
}
