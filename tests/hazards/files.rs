//! `block_local_infile` with real clients: requests of a server for the client's files.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use crate::rogue::Rogue;
use crate::tables::{FILLED, GIVEN};
use crate::{QUIET, count, envoy};
use firstword_testing::database::{DATABASE, PASSWORD, USER};
use firstword_testing::envoy::{Envoy, EnvoyOptions};
use firstword_testing::mariadb::MariaDb;
use firstword_testing::mysqld::MySql;
use firstword_testing::packets::*;
use firstword_testing::peer::{Ending, Peer, Server};
use firstword_testing::{root, temp_dir, wait_for};

const BLOCK: &str = r#"{"rules": [{"name": "mysql", "mysql": {"block_local_infile": true}}]}"#;

/// Maximum time of a driver in seconds. One that takes longer hangs, and `timeout` kills it.
const MAX_SECONDS: &str = "120";
const PATIENCE: Duration = Duration::from_secs(20);

/// The programs of `tests/drivers`. Without the filter, all except [`SAFE`] send the file to any server that requests it.
/// [`WITHOUT`] does not support LOCAL INFILE.
pub const DRIVERS: [&str; 19] = [
    "connector-j-26.10.0",
    "connector-j-5.1.49",
    "connector-j-8.0.33",
    "go-sql-driver",
    "mariadb-cli",
    "mariadb-java-3.5.11",
    "mariadb-java-4.0.0",
    "mariadb-node",
    "mysql-cli",
    "mysql2",
    "mysql_async",
    "mysql-connector-python",
    "mysql-connector-python-c",
    "perl-mariadb",
    "perl-mysql",
    "php-mysqli",
    "php-pdo",
    "pymysql",
    "sqlx",
];
pub const WITHOUT: &str = "sqlx";
/// Drivers that send no file in response to their first statement, with any setting.
const SAFE: [&str; 7] = [
    "connector-j-5.1.49",
    "go-sql-driver",
    "mariadb-java-3.5.11",
    "mariadb-java-4.0.0",
    "mariadb-node",
    "mysql-connector-python",
    "pymysql",
];

const SECRET: &str = "1\tthe secret of the client\n";

/// Runs a driver's program. Returns its output.
fn run(driver: &str, address: SocketAddr, file: &std::path::Path) -> String {
    let output = Command::new("timeout")
        .arg(MAX_SECONDS)
        .arg(root().join("target/drivers/bin").join(driver))
        .args([&address.ip().to_string(), &address.port().to_string(), USER, PASSWORD, DATABASE])
        .arg(file)
        .arg("plain")
        .output()
        .expect("timeout");
    assert_ne!(output.status.code(), Some(124), "{driver} hangs");
    [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat()
}

pub fn set_up_drivers() {
    let status = Command::new(root().join("scripts/drivers.sh")).args(DRIVERS).status();
    assert!(status.expect("scripts/drivers.sh").success(), "the drivers are not ready");
}

#[test]
fn a_blocked_request_becomes_an_error_and_closes_both_sides() {
    let server = Server::start();
    let envoy = envoy(server.address(), BLOCK);
    let mut client = Peer::connect(envoy.listener_addr("mysql"));
    let mut rogue = server.accept();
    let forward = |sends: &mut Peer, receives: &mut Peer, bytes: &[u8]| {
        sends.send(bytes);
        receives.expect(bytes);
    };
    forward(&mut rogue, &mut client, &greeting());
    forward(&mut client, &mut rogue, &packet(1, &handshake_response(CLIENT_CAPABILITIES)));
    forward(&mut rogue, &mut client, &packet(2, &ok()));
    forward(&mut client, &mut rogue, &command(COM_QUERY, b"select 1"));
    rogue.send(&packet(1, &local_infile("/etc/passwd")));
    // The client sends it nevertheless, but only the FIN reaches the server.
    client.send(&packet(2, b"root:x:0:0"));
    let (error, ending) = client.rest();
    assert_eq!(ending, Ending::Finished);
    assert!(error[4..].starts_with(b"\xff\x6c\x0f#42000"), "{error:?}");
    assert_eq!((usize::from(error[0]), error[3]), (error.len() - 4, 1));
    client.finish();
    let (stolen, _) = rogue.rest();
    assert_eq!(stolen, b"");
    envoy.wait_metric("firstword_local_infile_blocked_total", &[], 1.0);
    envoy.wait_metric("firstword_connections_active", &[], 0.0);
    envoy.wait_log("event=local_infile_blocked");
}

mod needs_drivers {
    use super::*;

    #[test]
    #[ignore = "needs the drivers: make test-hazards"]
    fn a_rogue_server_receives_files_without_the_filter_and_none_with_it() {
        set_up_drivers();
        let files = temp_dir();
        let file = files.path().join("loaded.tsv");
        std::fs::write(&file, SECRET).expect("a file");
        let rogue = Rogue::start(file.to_str().expect("a path"));
        let mut safe = BTreeSet::new();
        for driver in DRIVERS.into_iter().filter(|driver| *driver != WITHOUT) {
            run(driver, rogue.address(), &file);
            let loot = rogue.take_loot();
            assert!(loot.requests > 0, "{driver}");
            if !loot.bytes.starts_with(SECRET.as_bytes()) {
                assert_eq!(loot.bytes, b"", "{driver}");
                safe.insert(driver);
            }
        }
        assert_eq!(safe, BTreeSet::from(SAFE));

        let options = EnvoyOptions::new(root().join("envoy/hazards.yaml")).labels();
        let envoy = Envoy::start(options.upstream("mysql", rogue.address()));
        let mut requests = 0;
        for driver in DRIVERS {
            let output = run(driver, envoy.listener_addr("mysql"), &file);
            let loot = wait_for("the end of all connections", PATIENCE, || {
                let loot = rogue.loot();
                (loot.requests == loot.ended).then_some(loot)
            });
            rogue.take_loot();
            assert!(loot.requests > 0, "{driver}: {output}");
            assert_eq!(loot.bytes, b"", "{driver}");
            let line = output.lines().find(|line| line.contains("block_local_infile"));
            println!(
                "{driver}: {} requests, {}",
                loot.requests,
                line.unwrap_or("the client prints no error")
            );
            requests += loot.requests;
        }
        let metrics = envoy.stable(QUIET);
        assert_eq!(count(&metrics, "local_infile_blocked_total"), requests);
        assert_eq!(count(&metrics, "local_infile_total"), requests);
    }

    #[test]
    #[ignore = "needs the drivers: make test-hazards"]
    fn each_driver_can_load_a_file_that_its_statement_names() {
        set_up_drivers();
        let files = temp_dir();
        let [plain, odd] = ["loaded.tsv", "it's \\ wanted.tsv"].map(|name| files.path().join(name));
        let lines: String = (1..=1000).map(|id| format!("{id}\tname {id}\n")).collect();
        for file in [&plain, &odd] {
            std::fs::write(file, &lines).expect("a file to load");
        }
        let quoted = odd.to_str().expect("a path").replace('\\', "\\\\").replace('\'', "\\'");
        let load = format!("LOAD DATA LOCAL INFILE '{quoted}' INTO TABLE loaded");
        let mariadb = MariaDb::start(&["--local-infile=1"]);
        let mysql = MySql::start(&["--local-infile=1"]);
        for server in [&*mariadb, &*mysql] {
            for statement in [format!("USE {DATABASE}").as_str()].into_iter().chain(GIVEN) {
                server.sql(statement);
            }
            let options = EnvoyOptions::new(root().join("envoy/hazards.yaml")).labels();
            let envoy = Envoy::start(options.upstream("mysql", server.addr()));
            let address = envoy.listener_addr("mysql");
            let mut failed = Vec::new();
            let drivers: Vec<_> = DRIVERS.into_iter().filter(|driver| *driver != WITHOUT).collect();
            for driver in &drivers {
                // Skip FLUSH PRIVILEGES, because some drivers cannot request the public key.
                for statement in &FILLED[1..] {
                    server.sql(statement);
                }
                let output = run(driver, address, &plain);
                if !output.lines().any(|line| line == "infile 1000 500500") {
                    failed.push(format!("{driver}: {output}"));
                }
            }
            assert!(failed.is_empty(), "{failed:#?}");

            // Escapes, several statements, and comments with code.
            let (client, no_tls) = if server.is_mysql() {
                ("mysql-cli", "--ssl-mode=DISABLED")
            } else {
                ("mariadb-cli", "--skip-ssl")
            };
            let statements = [
                load.clone(),
                format!("DO 1; /* LOAD */ {load}; DO 2"),
                load.replace("LOCAL", "/*!40000 LOW_PRIORITY */ LOCAL # '\n"),
            ];
            for statement in &statements {
                server.sql("TRUNCATE loaded");
                assert_eq!(execute(client, no_tls, address, statement), Ok(()), "{statement}");
                assert_eq!(server.sql("SELECT COUNT(*) FROM loaded"), [["1000"]], "{statement}");
            }
            let metrics = envoy.stable(QUIET);
            let requests = (drivers.len() + statements.len()) as u64;
            assert_eq!(count(&metrics, "local_infile_blocked_total"), 0);
            assert_eq!(count(&metrics, "local_infile_total"), requests);
            assert_eq!(count(&metrics, "protection_lost_total"), 0);
            println!(
                "{requests} requests for named files, none blocked, {} commands",
                count(&metrics, "commands_total")
            );
            assert!(!envoy.log().contains("event=local_infile"), "{}", envoy.log());
        }
        // MariaDB also loads in dynamic SQL. The filter allows it, because it cannot know the name of the file.
        let envoy = envoy(mariadb.addr(), BLOCK);
        let address = envoy.listener_addr("mysql");
        let load = format!("LOAD DATA LOCAL INFILE '{}' INTO TABLE loaded", plain.display());
        for statement in
            [format!("EXECUTE IMMEDIATE \"{load}\""), format!("PREPARE s FROM \"{load}\"; EXECUTE s")]
        {
            mariadb.sql("TRUNCATE loaded");
            assert_eq!(execute("mariadb-cli", "--skip-ssl", address, &statement), Ok(()), "{statement}");
            assert_eq!(mariadb.sql("SELECT COUNT(*) FROM loaded"), [["1000"]], "{statement}");
        }
    }
}

/// Runs a statement with a command-line client. Returns its error if it fails.
fn execute(program: &str, no_tls: &str, address: SocketAddr, statement: &str) -> Result<(), String> {
    let output = Command::new(root().join("target/drivers").join(program).join("client"))
        .args(["--no-defaults", no_tls, "--local-infile=1", "--user", USER, DATABASE])
        .args([format!("--host={}", address.ip()), format!("--port={}", address.port())])
        .arg(format!("--execute={statement}"))
        .env("MYSQL_PWD", PASSWORD)
        .output()
        .expect("a client");
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
}
