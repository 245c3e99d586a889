//! MySQL traffic: captures of real connections, and packets too large to capture.

use std::net::SocketAddr;
use std::thread;

use bytes::Bytes;
use firstword::event::Sender;

use crate::support::capture;
pub use crate::support::capture::Chunks;
use crate::support::peer::{Peer, Server};

/// How many chunks of a capture the connection phase is: greeting, response, OK.
const LOGIN: usize = 3;
/// The payload length of a fragment that another one follows.
const FULL_FRAGMENT: usize = 0xff_ffff;

/// `tests/captures/NAME.cap`.
pub fn captured(name: &str) -> Chunks {
    let path = capture::directory().join(format!("{name}.cap"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    capture::parse(&text)
}

/// A session in text commands, MariaDB's, from the greeting to QUIT.
pub fn session() -> Chunks {
    captured("mariadb-text")
}

/// Its connection phase.
pub fn login() -> Chunks {
    session()[..LOGIN].to_vec()
}

/// What follows its connection phase.
pub fn commands() -> Chunks {
    session()[LOGIN..].to_vec()
}

/// A connection through Envoy, both ends of it.
pub struct Pair {
    pub client: Peer,
    pub server: Peer,
}

impl Pair {
    pub fn open(envoy: SocketAddr, server: &Server) -> Self {
        Self { client: Peer::connect(envoy), server: server.accept() }
    }

    /// One that has come to the command phase.
    pub fn logged_in(envoy: SocketAddr, server: &Server) -> Self {
        let mut pair = Self::open(envoy, server);
        pair.play(&login());
        pair
    }

    /// Each chunk arrives whole and unchanged before the next is sent.
    pub fn play(&mut self, chunks: &[(Sender, Bytes)]) {
        for (sender, bytes) in chunks {
            let (from, to) = self.ends(*sender);
            from.send(bytes);
            to.expect(bytes);
        }
    }

    /// Each byte arrives before the next is sent, so Envoy has to read them one by one.
    pub fn play_bytes(&mut self, chunks: &[(Sender, Bytes)]) {
        for (sender, bytes) in chunks {
            let (from, to) = self.ends(*sender);
            for byte in bytes.chunks(1) {
                from.send(byte);
                to.expect(byte);
            }
        }
    }

    /// Sends in another thread, for what does not fit into the buffers between.
    pub fn play_large(&mut self, sender: Sender, bytes: &[u8]) {
        let (from, to) = self.ends(sender);
        thread::scope(|scope| {
            scope.spawn(|| from.send(bytes));
            to.expect(bytes);
        });
    }

    fn ends(&mut self, sender: Sender) -> (&mut Peer, &mut Peer) {
        match sender {
            Sender::Client => (&mut self.client, &mut self.server),
            Sender::Server => (&mut self.server, &mut self.client),
        }
    }

    /// The client closes, then the server.
    pub fn close(mut self) {
        drop(self.client);
        self.server.assert_finished();
    }
}

/// How many bytes a side sends in all.
pub fn sent(chunks: &[(Sender, Bytes)], sender: Sender) -> usize {
    chunks.iter().filter(|(from, _)| *from == sender).map(|(_, bytes)| bytes.len()).sum()
}

/// A packet, in fragments where it has to be, and the sequence id of the next.
pub fn packet(sequence_id: u8, payload: &[u8]) -> (Vec<u8>, u8) {
    let mut bytes = Vec::with_capacity(payload.len() + 64);
    let mut id = sequence_id;
    let mut rest = payload;
    loop {
        let (fragment, behind) = rest.split_at(rest.len().min(FULL_FRAGMENT));
        let length = u32::try_from(fragment.len()).expect("24 bits").to_le_bytes();
        bytes.extend_from_slice(&[length[0], length[1], length[2], id]);
        bytes.extend_from_slice(fragment);
        id = id.wrapping_add(1);
        rest = behind;
        if fragment.len() < FULL_FRAGMENT {
            return (bytes, id);
        }
    }
}

/// Bytes in which no part is like another.
pub fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        bytes.extend_from_slice(&(state ^ (state >> 29)).to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// A result set of one column and one row, with so many bytes in it. The peers of [`login`] announce the metadata and end
/// both parts with an EOF.
pub fn result_set(length: usize) -> Vec<u8> {
    let mut row = vec![0xfe];
    row.extend_from_slice(&(length as u64).to_le_bytes());
    row.extend_from_slice(&noise(length));
    let payloads: [&[u8]; 5] = [b"\x01\x01", b"\x03def a column", b"\xfe\0\0\x02\0", &row, b"\xfe\0\0\x02\0"];
    let mut sequence_id = 1;
    let mut bytes = Vec::with_capacity(length + 256);
    for payload in payloads {
        let (packet, next) = packet(sequence_id, payload);
        bytes.extend_from_slice(&packet);
        sequence_id = next;
    }
    bytes
}
