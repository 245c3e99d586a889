//! Clients that try to exhaust the memory of the VM. Each VM of Envoy has 1 GiB. If it is exhausted, the module traps, and
//! all connections of the worker end.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use serde_json::json;
use socket2::Socket;

use crate::bootstrap::{MYSQL, configured};
use crate::counter_diff::wait_for_flushes;
use firstword_testing::client::{CLASSIC, Client, Login};
use firstword_testing::database::DATABASE;
use firstword_testing::envoy::Envoy;
use firstword_testing::mariadb::MariaDb;
use firstword_testing::packets::{
    CLIENT_CAPABILITIES, COM_PING, COM_QUERY, COM_STMT_PREPARE, command, greeting, handshake_response, ok,
    packet,
};
use firstword_testing::root;
use firstword_testing::shell::is_native;

/// Number of hostile connections: more than the 142 that ended a filter without a limit.
const ATTACKERS: usize = 200;
/// The default of `limits.connection_state`, in bytes.
const BUDGET: f64 = 16_777_216.0;
/// Maximum linear memory of all VMs, in bytes: the budget, fragmentation, and two VMs of about 2 MiB.
const MAX_LINEAR: f64 = 33_554_432.0;

fn load(name_len: usize) -> String {
    format!("LOAD DATA LOCAL INFILE '{}' INTO TABLE t", "n".repeat(name_len))
}

fn metric(envoy: &Envoy, name: &str, labels: &[(&str, &str)]) -> f64 {
    let metrics = envoy.prometheus();
    metrics.select(&format!("firstword_{name}"), labels).map(|sample| sample.value).sum()
}

/// Asserts that the VM has not trapped, and that its memory is within the limits.
fn assert_bounded(envoy: &Envoy) {
    wait_for_flushes(envoy);
    let (linear, state) =
        (metric(envoy, "vm_memory_bytes", &[]), metric(envoy, "connection_state_bytes", &[]));
    println!("linear memory {linear}, connection state {state}");
    let log = envoy.log();
    assert!(!log.contains("Uncaught RuntimeError"), "{log}");
    assert!(state <= BUDGET, "{state}");
    assert!(linear <= MAX_LINEAR, "{linear}");
}

/// Sends for a short time: the rest stays unsent if the peer stops reading.
fn send_partly(mut stream: &TcpStream, bytes: &[u8]) {
    stream.set_write_timeout(Some(Duration::from_millis(300))).expect("a time-out");
    // An error means that a rule has closed the connection.
    let _ = stream.write_all(bytes);
}

/// A server that accepts each login and then only reads.
fn start_reading_server() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("its address");
    thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { continue };
            thread::spawn(move || {
                let mut buffer = vec![0; 64 << 10];
                let mut is_logged_in = stream.write_all(&greeting()).is_err();
                while stream.read(&mut buffer).is_ok_and(|len| len > 0) {
                    if !std::mem::replace(&mut is_logged_in, true) {
                        let _ = stream.write_all(&packet(2, &ok()));
                    }
                }
            });
        }
    });
    address
}

/// A client that has sent its handshake response and read the server's OK.
fn log_in(address: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(address).expect("a connection");
    let mut read = |len: usize| {
        let mut bytes = vec![0; len];
        stream.read_exact(&mut bytes).map(|()| bytes)
    };
    if read(greeting().len()).is_ok() {
        let mut writer = &stream;
        writer.write_all(&packet(1, &handshake_response(CLIENT_CAPABILITIES))).expect("a login");
        let mut bytes = [0; 11];
        let _ = (&stream).read_exact(&mut bytes);
    }
    stream
}

/// `docs/memory.md` has the sizes in both modules.
#[test]
fn an_idle_connection_takes_the_documented_memory() {
    const CONNECTIONS: u64 = 20;
    let database = MariaDb::start(&[]);
    let envoy = Envoy::start(configured(database.addr(), json!({})));
    let address = envoy.listener_addr(MYSQL);
    let clients: Vec<_> = (0..CONNECTIONS).map(|_| Client::login(address, &Login::new(CLASSIC))).collect();
    wait_for_flushes(&envoy);
    let bytes = metric(&envoy, "connection_state_bytes", &[]) as u64 / CONNECTIONS;
    let bytes = format!("{},{:03}", bytes / 1000, bytes % 1000);
    let documented =
        if is_native() { format!("| {bytes} bytes after") } else { format!("({bytes} in the wasm module)") };
    let document = std::fs::read_to_string(root().join("docs/memory.md")).expect("a page");
    assert!(document.contains(&documented), "{documented}");
    clients.into_iter().for_each(Client::quit);
}

/// Each client pipelines `SELECT SLEEP` and as many statements as the server's buffers accept, each with a long file name.
/// Half of them also prepare 256 such statements.
#[test]
fn clients_that_pipeline_load_data_to_a_real_server_do_not_exhaust_the_vm() {
    let options = ["--max-connections=1000", "--max-prepared-stmt-count=200000", "--local-infile=1"];
    let database = MariaDb::start(&options);
    database.sql(&format!("CREATE TABLE {DATABASE}.t (a TEXT)"));
    let configuration = json!({"rules": [{"protocol": "mysql", "mysql": {"block_local_infile": true}}]});
    let envoy = Envoy::start(configured(database.addr(), configuration));
    let address = envoy.listener_addr(MYSQL);
    let mut bystander = Client::login(address, &Login::new(CLASSIC));

    let sleep = command(COM_QUERY, b"SELECT SLEEP(100)");
    let prepared = command(COM_STMT_PREPARE, load(100).as_bytes()).repeat(256);
    let greedy = command(COM_QUERY, load(16_000).as_bytes()).repeat(200);
    let mut attackers = Vec::new();
    for n in 0..ATTACKERS {
        let mut client = Client::login(address, &Login::new(CLASSIC));
        if n % 2 == 0 {
            client.send(&prepared);
            // The server has responded to some of them by then.
            thread::sleep(Duration::from_millis(5));
        }
        if client.try_send(&sleep).is_some() {
            let _ = client.try_send(&greedy);
        }
        attackers.push(client);
    }
    assert_bounded(&envoy);
    let lost = || metric(&envoy, "protection_lost_total", &[("reason", "memory")]);
    assert_eq!(lost(), ATTACKERS as f64, "each needs more than the maximum of one connection");
    drop(attackers);

    // Each stays within the maximum of one connection, but together they need more than the budget.
    let modest = command(COM_QUERY, load(15_000).as_bytes());
    let mut attackers = Vec::new();
    for _ in 0..2 * ATTACKERS {
        let Ok(mut client) = Client::connect(address).log_in(&Login::new(CLASSIC)) else { continue };
        if client.try_send(&[&prepared[..prepared.len() / 2], &sleep, &modest].concat()).is_some() {
            attackers.push(client);
        }
    }
    assert_bounded(&envoy);
    assert!(lost() > ATTACKERS as f64, "the budget is used up");
    bystander.query("SELECT 1").expect("the bystander's query");
    drop(attackers);
    assert_bounded(&envoy);
    bystander.quit();
}

/// The server reads everything that clients pipeline, and never responds.
#[test]
fn a_server_that_only_reads_does_not_exhaust_the_vm() {
    let server = start_reading_server();
    let rules = json!({
        "access_log": ["user", "schema"],
        "defaults": {"protocol": "mysql", "mysql": {"slow_command": "1ms"}},
    });
    let envoy = Envoy::start(configured(server, rules));
    let address = envoy.listener_addr(MYSQL);
    let bystander = log_in(address);
    let statements: Vec<u8> =
        (0..1_000).flat_map(|n| command(COM_QUERY, format!("SELECT {n:0>1000}").as_bytes())).collect();
    let storms = [
        command(COM_PING, b"").repeat(600_000),
        statements,
        command(0x02, &[0xff; 250]).repeat(2_000),
        command(0x11, &[&[0xff; 250][..], b"\0\0", &[0xff; 250], b"\0\x2d\0"].concat()).repeat(2_000),
        command(COM_QUERY, &[b'x'; 16_000])[..15_000].to_vec(),
    ];
    let mut attackers = Vec::new();
    for n in 0..ATTACKERS {
        let stream = log_in(address);
        send_partly(&stream, &storms[n % storms.len()]);
        attackers.push(stream);
        if n % 50 == 49 {
            assert_bounded(&envoy);
        }
    }
    // All end at once, while their commands are in flight.
    for stream in attackers {
        let _ = Socket::from(stream).set_linger(Some(Duration::ZERO));
    }
    envoy.wait_metric("firstword_commands_in_flight", &[("destination", MYSQL)], 0.0);
    assert_bounded(&envoy);
    send_partly(&bystander, &command(COM_PING, b""));
    envoy.wait_metric("firstword_commands_in_flight", &[("destination", MYSQL)], 1.0);
}
