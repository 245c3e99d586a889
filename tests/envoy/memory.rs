//! Clients that try to use up the memory of the VM. Each VM of Envoy has 1 GiB; when it is used up the module traps, and all
//! connections of the worker end.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use serde_json::json;
use socket2::Socket;

use crate::bootstrap::{MYSQL, configured};
use crate::ledger::several_ticks;
use firstword_testing::client::{CLASSIC, Client, Login};
use firstword_testing::database::DATABASE;
use firstword_testing::envoy::Envoy;
use firstword_testing::mariadb::MariaDb;
use firstword_testing::packets::{
    CLIENT_CAPABILITIES, COM_PING, COM_QUERY, COM_STMT_PREPARE, command, greeting, handshake_response, ok,
    packet,
};

/// Number of hostile connections: more than the 142 behind which an unbounded filter died.
const ATTACKERS: usize = 200;
/// The default of `limits.connection_state`, in bytes.
const BUDGET: f64 = 16_777_216.0;
/// Maximum linear memory of all VMs, in bytes: the budget, what the allocator loses, and two VMs of some 2 MiB.
const MOST_LINEAR: f64 = 33_554_432.0;

fn load(name_len: usize) -> String {
    format!("LOAD DATA LOCAL INFILE '{}' INTO TABLE t", "n".repeat(name_len))
}

fn metric(envoy: &Envoy, name: &str, labels: &[(&str, &str)]) -> f64 {
    let metrics = envoy.prometheus();
    metrics.select(&format!("firstword_{name}"), labels).map(|sample| sample.value).sum()
}

/// The VM lives, and its memory is what it may be.
fn assert_bounded(envoy: &Envoy) {
    several_ticks(envoy);
    let (linear, state) =
        (metric(envoy, "vm_memory_bytes", &[]), metric(envoy, "connection_state_bytes", &[]));
    println!("linear memory {linear}, connection state {state}");
    let log = envoy.log();
    assert!(!log.contains("Uncaught RuntimeError"), "{log}");
    assert!(state <= BUDGET, "{state}");
    assert!(linear <= MOST_LINEAR, "{linear}");
}

/// Sends without waiting: the rest stays unsent if the peer stops reading.
fn push(mut stream: &TcpStream, bytes: &[u8]) {
    stream.set_write_timeout(Some(Duration::from_millis(300))).expect("a time-out");
    // A refusal is the end of a connection that a rule has closed.
    let _ = stream.write_all(bytes);
}

/// A server that lets everybody in and then only reads.
fn reading_server() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("its address");
    thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { continue };
            thread::spawn(move || {
                let mut buffer = vec![0; 64 << 10];
                let mut is_in = stream.write_all(&greeting()).is_err();
                while stream.read(&mut buffer).is_ok_and(|len| len > 0) {
                    if !std::mem::replace(&mut is_in, true) {
                        let _ = stream.write_all(&packet(2, &ok()));
                    }
                }
            });
        }
    });
    address
}

/// A client that has sent its login and read the server's OK.
fn enter(address: SocketAddr) -> TcpStream {
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

/// `SELECT SLEEP`, and behind it as many statements as the server's buffers take, each with a long name of a file; on each
/// connection 256 prepared statements of the kind too.
#[test]
fn an_honest_server_and_clients_that_pipeline_loads_do_not_end_the_vm() {
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
    assert_eq!(lost(), ATTACKERS as f64, "each wants more than one connection may keep");
    drop(attackers);

    // Each stays within what one connection may keep, but all of them want more than there is.
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
    bystander.query("SELECT 1").expect("a bystander");
    drop(attackers);
    assert_bounded(&envoy);
    bystander.quit();
}

/// Whatever the client pipelines is taken, and nothing is responded to.
#[test]
fn a_server_that_only_reads_does_not_end_the_vm() {
    let server = reading_server();
    let rules = json!({
        "access_log": ["user", "schema"],
        "defaults": {"protocol": "mysql", "mysql": {"slow_command_ms": 1}},
    });
    let envoy = Envoy::start(configured(server, rules));
    let address = envoy.listener_addr(MYSQL);
    let bystander = enter(address);
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
        let stream = enter(address);
        push(&stream, &storms[n % storms.len()]);
        attackers.push(stream);
        if n % 50 == 49 {
            assert_bounded(&envoy);
        }
    }
    // All end at once, with everything still in flight.
    for stream in attackers {
        let _ = Socket::from(stream).set_linger(Some(Duration::ZERO));
    }
    envoy.wait_metric("firstword_commands_in_flight", &[("destination", MYSQL)], 0.0);
    assert_bounded(&envoy);
    push(&bystander, &command(COM_PING, b""));
    envoy.wait_metric("firstword_commands_in_flight", &[("destination", MYSQL)], 1.0);
}
