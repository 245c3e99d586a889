//! Faults of a real server and of slow peers.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::thread::sleep;
use std::time::Duration;

use firstword_testing::client::{CLASSIC, Client, Login};
use firstword_testing::mariadb::MariaDb;
use firstword_testing::packets::{COM_STMT_PREPARE, packet};

use crate::good::{bodies, value};

/// A result of 25 MiB in rows of 100 KiB: more than fits into all buffers, so the server waits for a client that does not read.
const LARGE: &str = "SELECT a.body FROM bodies AS a JOIN bodies AS b";
/// How often each body is a row of it.
const TIMES: usize = 16;
/// Time in which the buffers between the peers become full.
const FULL: Duration = Duration::from_millis(300);

fn login(address: SocketAddr) -> Client {
    Client::login(address, &Login::new(CLASSIC))
}

/// Begins the large result, and reads up to its first row.
fn begin_large(address: SocketAddr) -> Client {
    let mut client = login(address);
    let query = client.query_payload(LARGE);
    client.command(&query);
    // Column count, definition, EOF and a row.
    (0..4).for_each(|_| drop(client.packet()));
    sleep(FULL);
    client
}

/// Reads the rows up to the end of the stream or of the result. Asserts that each is a body, and returns true if all arrived.
fn read_large(client: &mut Client) -> bool {
    let mut missing: BTreeMap<Vec<u8>, usize> = bodies().iter().map(|body| (value(body), TIMES)).collect();
    let mut rows = 1;
    while let Some(row) = client.next_packet() {
        if row.len() < 100 {
            assert_eq!((row[0], rows), (0xfe, TIMES * missing.len()), "the end of the result");
            return true;
        }
        let left = missing.get_mut(&row).expect("a row as it was stored");
        *left = left.checked_sub(1).expect("each row once");
        rows += 1;
    }
    false
}

/// The client does not read until all buffers are full.
pub fn slow_reader(address: SocketAddr) -> &'static str {
    let mut client = begin_large(address);
    assert!(read_large(&mut client));
    client.quit();
    "all bytes"
}

/// The client sends a statement of 100 KiB in pieces with pauses.
pub fn slow_writer(address: SocketAddr) -> &'static str {
    let mut client = login(address);
    let statement = format!("SELECT id FROM bodies WHERE body = '{}'", bodies()[3]);
    for piece in packet(0, &client.query_payload(&statement)).chunks(2000) {
        client.send(piece);
        sleep(Duration::from_millis(2));
    }
    assert!(client.results().expect("a result").0.contains(&value("3")));
    client.quit();
    "all bytes"
}

/// A statement of 8 MiB in one write. Envoy delivers it in chunks of up to 1 MiB.
pub fn large_statement(address: SocketAddr) -> &'static str {
    let mut client = login(address);
    let (piece, times) = ("0123456789abcdef", 512 << 10);
    let statement = format!("SELECT '{}' = REPEAT('{piece}', {times})", piece.repeat(times));
    let response = client.query(&statement).expect("a result");
    assert!(response.0.contains(&value("1")), "{:?}", response.0.last());
    client.quit();
    "all bytes"
}

/// The server ends the session while it waits for the client.
pub fn killed_session(address: SocketAddr, server: &MariaDb) -> &'static str {
    let mut client = begin_large(address);
    server.sql(&format!("KILL {}", client.thread_id));
    assert!(!read_large(&mut client), "the result ends early");
    "an end, after right rows"
}

/// The server's process is killed in the middle of a result and of a COM_STMT_PREPARE. Returns what each client sees.
pub fn killed_process(address: SocketAddr, mut server: MariaDb) -> [&'static str; 2] {
    let mut preparing = login(address);
    let mut reading = begin_large(address);
    server.process().freeze();
    preparing.command(&[&[COM_STMT_PREPARE], LARGE.as_bytes()].concat());
    sleep(FULL);
    server.process().kill();
    assert!(!read_large(&mut reading), "the result ends early");
    assert_eq!(preparing.next_packet(), None);
    ["an end, after right rows", "an end"]
}

/// No server accepts connections at the address of the cluster.
pub fn refused(address: SocketAddr) -> &'static str {
    let mut client = Client::connect(address);
    assert_eq!(client.next_packet(), None);
    "an end"
}
