//! Captures of real connections: `tests/captures/NAME.cap`, with what the core should say in `NAME.events`.

mod text;

use std::io::{Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use bytes::Bytes;
use firstword::event::Sender;

use super::database::Oracle;
use super::{connect_from, loopback, root};
pub use text::{Chunks, format, parse};

const COUNTED: &str = "the server counted: ";

pub fn directory() -> PathBuf {
    root().join("tests/captures")
}

/// The comment that says what the server counted of the connection.
pub fn counted_comment(oracle: &Oracle) -> String {
    format!("{COUNTED}{}", serde_json::to_string(oracle).expect("JSON"))
}

/// What such a comment says.
pub fn counted(text: &str) -> Option<Oracle> {
    let json = text.lines().find_map(|line| line.strip_prefix("# ")?.strip_prefix(COUNTED))?;
    Some(serde_json::from_str(json).expect("what the server counted"))
}

/// A relay for one connection that writes down what passes.
pub struct Recorder {
    address: SocketAddr,
    relay: JoinHandle<()>,
    chunks: Arc<Mutex<Chunks>>,
}

impl Recorder {
    pub fn start(server: SocketAddr) -> Self {
        Self::start_from(None, server)
    }

    /// The server sees the client come from this address.
    pub fn start_from(source: Option<IpAddr>, server: SocketAddr) -> Self {
        let listener = TcpListener::bind(loopback(0)).expect("a port on loopback");
        let address = listener.local_addr().expect("a bound address");
        let chunks = Arc::new(Mutex::new(Chunks::new()));
        let log = chunks.clone();
        let relay = thread::spawn(move || {
            let (client, _) = listener.accept().expect("a client");
            let server = connect_from(source, server);
            let back = (server.try_clone().expect("a socket"), client.try_clone().expect("a socket"));
            let there_log = log.clone();
            let there = thread::spawn(move || pass(client, server, Sender::Client, &there_log));
            pass(back.0, back.1, Sender::Server, &log);
            there.join().expect("the relay");
        });
        Self { address, relay, chunks }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What passed, once both sides have ended.
    pub fn finish(self) -> Chunks {
        self.relay.join().expect("the relay");
        self.chunks.lock().expect("the log").clone()
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream, sender: Sender, log: &Mutex<Chunks>) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(size @ 1..) = from.read(&mut buffer) {
        // Written down before it goes on: what answers it comes behind it.
        log.lock().expect("the log").push((sender, Bytes::copy_from_slice(&buffer[..size])));
        if to.write_all(&buffer[..size]).is_err() {
            break;
        }
    }
    // The other side has gone already, or is told that nothing more comes.
    let _ = to.shutdown(Shutdown::Write);
}
