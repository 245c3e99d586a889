//! Scripted TCP peers on loopback: a client and a server that do what a test says, step by step, in the test's own thread.
//!
//! A step that another side must answer waits for it, and panics when that takes too long; nothing sleeps.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

use socket2::SockRef;

use super::{free_port, loopback};

/// How long any one step may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);
/// Silence that long is a hang.
const HANG: Duration = Duration::from_secs(5);

/// A server's port. Who connects waits in line until the test takes it with [`Server::accept`].
pub struct Server {
    address: SocketAddr,
    line: Receiver<TcpStream>,
}

impl Server {
    pub fn start() -> Self {
        Self::at(loopback(0))
    }

    /// Listens on this address.
    pub fn at(address: SocketAddr) -> Self {
        let listener = TcpListener::bind(address).expect("an address to listen on");
        let address = listener.local_addr().expect("a bound address");
        let (door, line) = mpsc::channel();
        // Ends with the test's process, or with the first connection nobody waits for any more.
        thread::spawn(move || listener.incoming().flatten().try_for_each(|stream| door.send(stream)));
        Self { address, line }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The next connection.
    pub fn accept(&self) -> Peer {
        Peer::new("server", self.line.recv_timeout(PATIENCE).expect("a connection to the server"))
    }

    /// The next connection, if it is there.
    pub fn try_accept(&self) -> Option<Peer> {
        self.line.try_recv().ok().map(|stream| Peer::new("server", stream))
    }

    pub fn assert_not_connected(&self) {
        assert!(self.line.try_recv().is_err(), "somebody connected to the server");
    }
}

/// Where nobody listens.
pub fn closed_address() -> SocketAddr {
    loopback(free_port())
}

/// How the other side's stream ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// A FIN.
    Finished,
    /// A RST.
    Reset,
}

/// One side of a connection.
pub struct Peer {
    name: &'static str,
    stream: TcpStream,
}

impl Peer {
    pub fn connect(address: SocketAddr) -> Self {
        Self::new("client", TcpStream::connect(address).expect("a connection"))
    }

    fn new(name: &'static str, stream: TcpStream) -> Self {
        stream.set_nodelay(true).expect("a socket option");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket option");
        stream.set_write_timeout(Some(PATIENCE)).expect("a socket option");
        Self { name, stream }
    }

    pub fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap_or_else(|e| panic!("{}: sends: {e}", self.name));
    }

    /// Reads as many bytes as are expected, and compares.
    pub fn expect(&mut self, expected: &[u8]) {
        let mut bytes = vec![0; expected.len()];
        self.stream
            .read_exact(&mut bytes)
            .unwrap_or_else(|e| panic!("{}: receives {} bytes: {e}", self.name, expected.len()));
        if let Some(at) = bytes.iter().zip(expected).position(|(found, expected)| found != expected) {
            panic!("{}: byte {at} of {} differs", self.name, expected.len());
        }
    }

    /// Everything up to and with `end`; further bytes stay unread.
    pub fn until(&mut self, end: &str) -> String {
        let mut bytes = Vec::new();
        while !bytes.ends_with(end.as_bytes()) {
            let mut byte = [0];
            let read = self.stream.read_exact(&mut byte);
            let so_far = String::from_utf8_lossy(&bytes);
            read.unwrap_or_else(|e| panic!("{}: waits for {end:?} behind {so_far:?}: {e}", self.name));
            bytes.extend(byte);
        }
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The other side has closed. Bytes that came before that and were not read hide it.
    pub fn has_ended(&self) -> bool {
        self.stream.set_nonblocking(true).expect("a socket option");
        let ended = match self.stream.peek(&mut [0]) {
            Ok(bytes) => bytes == 0,
            Err(e) => e.kind() != ErrorKind::WouldBlock,
        };
        self.stream.set_nonblocking(false).expect("a socket option");
        ended
    }

    /// Nothing comes and nothing ends for longer than anybody would call slow.
    pub fn assert_silent(&mut self) {
        self.stream.set_read_timeout(Some(HANG)).expect("a socket option");
        let read = self.stream.read(&mut [0]);
        let silent = read.as_ref().is_err_and(|e| e.kind() == ErrorKind::WouldBlock);
        assert!(silent, "{}: silence is expected: {read:?}", self.name);
        self.stream.set_read_timeout(Some(PATIENCE)).expect("a socket option");
    }

    /// The same where one read gives them all: they came in one piece.
    pub fn expect_in_one_read(&mut self, expected: &[u8]) {
        let mut bytes = vec![0; expected.len() + 1];
        let size = self.stream.read(&mut bytes).unwrap_or_else(|e| panic!("{}: receives: {e}", self.name));
        let (found, expected) = (bytes[..size].escape_ascii(), expected.escape_ascii());
        assert_eq!(found.to_string(), expected.to_string(), "{}", self.name);
    }

    pub fn local_addr(&self) -> SocketAddr {
        self.stream.local_addr().expect("a bound address")
    }

    /// Everything up to the end of the other side's stream, and how it ended.
    pub fn rest(&mut self) -> (Vec<u8>, Ending) {
        let mut bytes = Vec::new();
        match self.stream.read_to_end(&mut bytes) {
            Ok(_) => (bytes, Ending::Finished),
            Err(e) if e.kind() == ErrorKind::ConnectionReset => (bytes, Ending::Reset),
            Err(e) => panic!("{}: waits for the end: {e}", self.name),
        }
    }

    /// Sends a FIN and can still receive.
    pub fn finish(&mut self) {
        self.stream.shutdown(Shutdown::Write).unwrap_or_else(|e| panic!("{}: finishes: {e}", self.name));
    }

    /// Sends bytes and a FIN so that they arrive together.
    pub fn send_and_finish(&mut self, bytes: &[u8]) {
        let socket = SockRef::from(&self.stream);
        socket.set_tcp_cork(true).expect("a socket option");
        self.send(bytes);
        self.finish();
    }

    /// Sends a RST.
    pub fn reset(self) {
        SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)).expect("a socket option");
    }

    /// The other side sends nothing more, and a FIN.
    pub fn assert_finished(&mut self) {
        assert_eq!(self.rest(), (Vec::new(), Ending::Finished), "{}", self.name);
    }
}
