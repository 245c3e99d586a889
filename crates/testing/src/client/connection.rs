//! A connection: packets in both directions, and the end of the stream.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use socket2::SockRef;

use crate::connect_from;
use crate::packets::packet;

/// Maximum time to wait for a packet of the server.
const PATIENCE: Duration = Duration::from_secs(20);

/// A connection to a server, or to a proxy before it.
pub struct Client {
    pub(super) stream: TcpStream,
    /// `None` until the client starts TLS.
    pub(super) tls: Option<rustls::ClientConnection>,
    /// Bytes from the socket that no packet has used yet.
    unread: Vec<u8>,
    /// Sequence id of the next packet of the current command.
    pub sequence_id: u8,
    /// Capabilities that both sides agreed on.
    pub capabilities: u32,
    pub extended: u32,
    pub thread_id: u32,
    /// First authentication plugin of the connection phase.
    pub plugin: String,
    /// Random bytes of the server, with which a password is hashed.
    pub(super) nonce: Vec<u8>,
}

impl Client {
    /// Connects and sends nothing.
    pub fn connect(address: SocketAddr) -> Self {
        Self::connect_from(None, address)
    }

    /// Connects from another address of this machine, such as `127.0.0.2`.
    pub fn connect_from(source: Option<IpAddr>, address: SocketAddr) -> Self {
        let stream = connect_from(source, address);
        stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
        stream.set_nodelay(true).expect("an option");
        Self {
            stream,
            tls: None,
            unread: Vec::new(),
            sequence_id: 0,
            capabilities: 0,
            extended: 0,
            thread_id: 0,
            plugin: String::new(),
            nonce: Vec::new(),
        }
    }

    pub fn local_addr(&self) -> SocketAddr {
        self.stream.local_addr().expect("a bound address")
    }

    /// Sends these bytes unchanged.
    pub fn send(&mut self, bytes: &[u8]) {
        self.try_send(bytes).expect("a server that reads");
    }

    /// Sends these bytes unchanged. `None` if the server has closed the connection.
    pub fn try_send(&mut self, bytes: &[u8]) -> Option<()> {
        match &mut self.tls {
            Some(tls) => rustls::Stream::new(tls, &mut self.stream).write_all(bytes).ok(),
            None => self.stream.write_all(bytes).ok(),
        }
    }

    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        match &mut self.tls {
            Some(tls) => rustls::Stream::new(tls, &mut self.stream).read(buffer),
            None => self.stream.read(buffer),
        }
    }

    /// Sends the next packet of the current command.
    pub fn write(&mut self, payload: &[u8]) {
        let bytes = packet(self.sequence_id, payload);
        self.sequence_id = self.sequence_id.wrapping_add((bytes.len() - payload.len()).div_euclid(4) as u8);
        self.send(&bytes);
    }

    /// Sends the first packet of a command.
    pub fn command(&mut self, payload: &[u8]) {
        self.sequence_id = 0;
        self.write(payload);
    }

    /// Sends several commands in one write. The caller reads the responses.
    pub fn pipeline(&mut self, payloads: &[&[u8]]) {
        let bytes: Vec<u8> = payloads.iter().flat_map(|payload| packet(0, payload)).collect();
        self.send(&bytes);
    }

    /// Reads the server's next packet. Panics if the server has ended its stream.
    pub fn packet(&mut self) -> Vec<u8> {
        self.next_packet().expect("a packet of the server")
    }

    /// Reads the server's next packet. `None` if the server has ended its stream.
    pub fn next_packet(&mut self) -> Option<Vec<u8>> {
        let mut payload = Vec::new();
        loop {
            let header = self.take(4)?;
            let length = u32::from_le_bytes([header[0], header[1], header[2], 0]) as usize;
            self.sequence_id = header[3].wrapping_add(1);
            payload.extend(self.take(length)?);
            if length < 0xff_ffff {
                return Some(payload);
            }
        }
    }

    /// Reads a result set up to its second EOF, and keeps nothing of it. No row may have 16 MiB. Returns its length in bytes.
    pub fn skip_result(&mut self) -> usize {
        assert!(self.unread.is_empty(), "a command that follows a whole response");
        let mut buffer = vec![0; 256 << 10];
        // Bytes of a cut header, bytes left of the current packet, EOFs and bytes so far.
        let (mut kept, mut skip, mut eofs, mut total) = (0, 0, 0, 0);
        while eofs < 2 {
            let size = self.read(&mut buffer[kept..]).expect("a packet of the server");
            assert_ne!(size, 0, "the server has ended its stream after {total} bytes");
            total += size;
            let end = kept + size;
            let mut at = skip.min(end);
            skip -= at;
            while skip == 0 && end - at >= 5 {
                let length = u32::from_le_bytes([buffer[at], buffer[at + 1], buffer[at + 2], 0]) as usize;
                match buffer[at + 4] {
                    0xff => panic!("an error of the server"),
                    0xfe if length < 9 => eofs += 1,
                    _ => {}
                }
                let here = (length + 4).min(end - at);
                skip = length + 4 - here;
                at += here;
            }
            buffer.copy_within(at..end, 0);
            kept = end - at;
        }
        total
    }

    /// Reads packets until the server ends its stream, and returns true.
    pub fn closes(&mut self) -> bool {
        while self.next_packet().is_some() {}
        true
    }

    /// True if the server has ended its stream, or does so within 200 ms.
    pub fn is_closed(&self) -> bool {
        self.stream.set_read_timeout(Some(Duration::from_millis(200))).expect("a time-out");
        let closed = matches!(self.stream.peek(&mut [0]), Ok(0));
        self.stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
        closed
    }

    /// True if the server has ended its stream. False if responses before the end have not been read.
    pub fn has_ended(&self) -> bool {
        self.stream.set_nonblocking(true).expect("an option");
        let ended = match self.stream.peek(&mut [0]) {
            Ok(bytes) => bytes == 0,
            Err(e) => e.kind() != ErrorKind::WouldBlock,
        };
        self.stream.set_nonblocking(false).expect("an option");
        ended
    }

    fn take(&mut self, length: usize) -> Option<Vec<u8>> {
        let mut buffer = vec![0; 64 << 10];
        while self.unread.len() < length {
            match self.read(&mut buffer) {
                Ok(0) => return None,
                Err(e) if e.kind() == ErrorKind::UnexpectedEof => return None,
                Ok(size) => self.unread.extend_from_slice(&buffer[..size]),
                Err(e) if e.kind() == ErrorKind::ConnectionReset => return None,
                Err(e) => panic!("no packet of the server: {e}"),
            }
        }
        let taken = self.unread.drain(..length).collect();
        if self.unread.is_empty() {
            // Thousands of clients that keep the room for their largest response need more memory than what is under test.
            self.unread = Vec::new();
        }
        Some(taken)
    }

    pub(super) fn has(&self, flag: u32) -> bool {
        self.capabilities & flag != 0
    }

    /// Sends a FIN. Responses still arrive.
    pub fn finish(&self) {
        self.stream.shutdown(Shutdown::Write).expect("an open stream");
    }

    /// Sends a RST.
    pub fn reset(self) {
        SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)).expect("an option");
    }

    /// Sends COM_QUIT, and waits until the server closes the connection.
    pub fn quit(mut self) {
        self.command(&[1]);
        assert_eq!(self.next_packet(), None, "the server closes");
    }
}
