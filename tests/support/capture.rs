//! Captures of real connections: `tests/captures/NAME.cap`, with what the core should say in `NAME.events`.
//!
//! A capture is text: comment lines (`#`) that say server, client and how it was made, then a line for each chunk in the
//! order in which it passed, `C` or `S` for who sent it and the bytes in hexadecimal.

use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use bytes::Bytes;
use firstword::event::Sender;

use super::database::Oracle;
use super::{connect_from, loopback, root};

const COUNTED: &str = "the server counted: ";

pub type Chunks = Vec<(Sender, Bytes)>;

pub fn directory() -> PathBuf {
    root().join("tests/captures")
}

pub fn parse(text: &str) -> Chunks {
    let lines = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    lines.map(|line| chunk(line).unwrap_or_else(|| panic!("not a line of a capture: {line}"))).collect()
}

fn chunk(line: &str) -> Option<(Sender, Bytes)> {
    let (sender, hex) = line.split_once(' ')?;
    let sender = match sender {
        "C" => Sender::Client,
        "S" => Sender::Server,
        _ => return None,
    };
    let digits = hex.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).ok());
    let bytes: Option<Vec<u8>> = digits.map(|pair| u8::from_str_radix(pair?, 16).ok()).collect();
    Some((sender, bytes?.into()))
}

pub fn format(comments: &[String], chunks: &Chunks) -> String {
    let mut text: String = comments.iter().map(|comment| format!("# {comment}\n")).collect();
    for (sender, bytes) in chunks {
        text.push_str(if *sender == Sender::Client { "C " } else { "S " });
        for byte in bytes {
            write!(text, "{byte:02x}").expect("a String takes everything");
        }
        text.push('\n');
    }
    text
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
