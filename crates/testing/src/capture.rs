//! Captures of real connections: `tests/captures/NAME.cap`, and the events that the core should emit in `NAME.events`.

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

/// The comment that holds the server's counts for the connection.
pub fn counted_comment(oracle: &Oracle) -> String {
    format!("{COUNTED}{}", serde_json::to_string(oracle).expect("JSON"))
}

/// The server's counts in the comments of a capture. `None` if no comment has them.
pub fn counted(text: &str) -> Option<Oracle> {
    let json = text.lines().find_map(|line| line.strip_prefix("# ")?.strip_prefix(COUNTED))?;
    Some(serde_json::from_str(json).expect("the server's counts"))
}

/// A relay for one connection that records its chunks.
pub struct Recorder {
    address: SocketAddr,
    relay: JoinHandle<()>,
    chunks: Arc<Mutex<Chunks>>,
}

impl Recorder {
    pub fn start(server: SocketAddr) -> Self {
        Self::start_from(None, server)
    }

    /// Starts a recorder that connects to the server from this address.
    pub fn start_from(source: Option<IpAddr>, server: SocketAddr) -> Self {
        let listener = TcpListener::bind(loopback(0)).expect("a port on loopback");
        let address = listener.local_addr().expect("a bound address");
        let chunks = Arc::new(Mutex::new(Chunks::new()));
        let log = chunks.clone();
        let relay = thread::spawn(move || {
            let (client, _) = listener.accept().expect("a client");
            let server = connect_from(source, server);
            let back = (server.try_clone().expect("a socket"), client.try_clone().expect("a socket"));
            let client_log = log.clone();
            let to_server = thread::spawn(move || pass(client, server, Sender::Client, &client_log));
            pass(back.0, back.1, Sender::Server, &log);
            to_server.join().expect("the relay");
        });
        Self { address, relay, chunks }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Waits until both sides have ended, and returns the chunks.
    pub fn finish(self) -> Chunks {
        self.relay.join().expect("the relay");
        self.chunks.lock().expect("the log").clone()
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream, sender: Sender, log: &Mutex<Chunks>) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(size @ 1..) = from.read(&mut buffer) {
        // Recorded before it is forwarded, so that the response comes after it.
        log.lock().expect("the log").push((sender, Bytes::copy_from_slice(&buffer[..size])));
        if to.write_all(&buffer[..size]).is_err() {
            break;
        }
    }
    // Ends the stream of the other side, unless that side has closed.
    let _ = to.shutdown(Shutdown::Write);
}
