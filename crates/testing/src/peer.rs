//! Scripted TCP peers on loopback: a client and a server whose steps a test runs in its own thread.
//!
//! A step that depends on the other side waits for it, and panics after a time limit. No step sleeps.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

use socket2::SockRef;

use super::{free_port, loopback};

/// Maximum time of one step on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);
/// Time after which silence is a hang.
const HANG: Duration = Duration::from_secs(5);

/// A listening server. Connections wait in a queue until the test takes them with [`Server::accept`].
pub struct Server {
    address: SocketAddr,
    queue: Receiver<TcpStream>,
}

impl Server {
    pub fn start() -> Self {
        Self::at(loopback(0))
    }

    /// Starts a server on this address.
    pub fn at(address: SocketAddr) -> Self {
        let listener = TcpListener::bind(address).expect("an address to listen on");
        let address = listener.local_addr().expect("a bound address");
        let (connections, queue) = mpsc::channel();
        // Ends with the test's process, or with the first connection after the server is dropped.
        thread::spawn(move || listener.incoming().flatten().try_for_each(|stream| connections.send(stream)));
        Self { address, queue }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Waits for the next connection.
    pub fn accept(&self) -> Peer {
        Peer::new("server", self.queue.recv_timeout(PATIENCE).expect("a connection to the server"))
    }

    /// The next connection. `None` if there is none yet.
    pub fn try_accept(&self) -> Option<Peer> {
        self.queue.try_recv().ok().map(|stream| Peer::new("server", stream))
    }

    pub fn assert_not_connected(&self) {
        assert!(self.queue.try_recv().is_err(), "a client connected to the server");
    }
}

/// An address on which no server listens.
pub fn closed_address() -> SocketAddr {
    loopback(free_port())
}

/// The end of the other side's stream.
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

    /// Reads as many bytes as expected, and asserts that they are equal.
    pub fn expect(&mut self, expected: &[u8]) {
        let mut bytes = vec![0; expected.len()];
        self.stream
            .read_exact(&mut bytes)
            .unwrap_or_else(|e| panic!("{}: receives {} bytes: {e}", self.name, expected.len()));
        if let Some(at) = bytes.iter().zip(expected).position(|(found, expected)| found != expected) {
            panic!("{}: byte {at} of {} differs", self.name, expected.len());
        }
    }

    /// Reads up to and including `end`. Further bytes stay unread.
    pub fn until(&mut self, end: &str) -> String {
        let mut bytes = Vec::new();
        while !bytes.ends_with(end.as_bytes()) {
            let mut byte = [0];
            let read = self.stream.read_exact(&mut byte);
            let so_far = String::from_utf8_lossy(&bytes);
            read.unwrap_or_else(|e| panic!("{}: waits for {end:?} after {so_far:?}: {e}", self.name));
            bytes.extend(byte);
        }
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// True if the other side has closed. False if bytes before the end have not been read.
    pub fn has_ended(&self) -> bool {
        self.stream.set_nonblocking(true).expect("a socket option");
        let ended = match self.stream.peek(&mut [0]) {
            Ok(bytes) => bytes == 0,
            Err(e) => e.kind() != ErrorKind::WouldBlock,
        };
        self.stream.set_nonblocking(false).expect("a socket option");
        ended
    }

    /// Asserts that no byte and no end of the stream arrives within the time of a hang.
    pub fn assert_silent(&mut self) {
        self.stream.set_read_timeout(Some(HANG)).expect("a socket option");
        let read = self.stream.read(&mut [0]);
        let silent = read.as_ref().is_err_and(|e| e.kind() == ErrorKind::WouldBlock);
        assert!(silent, "{}: silence is expected: {read:?}", self.name);
        self.stream.set_read_timeout(Some(PATIENCE)).expect("a socket option");
    }

    /// Asserts that one read returns all the expected bytes, because they arrive in one piece.
    pub fn expect_in_one_read(&mut self, expected: &[u8]) {
        let mut bytes = vec![0; expected.len() + 1];
        let size = self.stream.read(&mut bytes).unwrap_or_else(|e| panic!("{}: receives: {e}", self.name));
        let (found, expected) = (bytes[..size].escape_ascii(), expected.escape_ascii());
        assert_eq!(found.to_string(), expected.to_string(), "{}", self.name);
    }

    pub fn local_addr(&self) -> SocketAddr {
        self.stream.local_addr().expect("a bound address")
    }

    /// Reads up to the end of the other side's stream. Returns the bytes and the kind of end.
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

    /// Asserts that the other side sends a FIN and no further byte.
    pub fn assert_finished(&mut self) {
        assert_eq!(self.rest(), (Vec::new(), Ending::Finished), "{}", self.name);
    }
}
