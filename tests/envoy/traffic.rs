//! MySQL traffic: captures of real connections.

use std::net::SocketAddr;
use std::thread;

use bytes::Bytes;
use firstword::event::Sender;

use firstword_testing::capture;
pub use firstword_testing::capture::Chunks;
use firstword_testing::peer::{Peer, Server};

/// Number of chunks in the connection phase of a capture: greeting, handshake response, OK.
const LOGIN_CHUNKS: usize = 3;

/// `tests/captures/NAME.cap`.
pub fn captured(name: &str) -> Chunks {
    let path = capture::directory().join(format!("{name}.cap"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    capture::parse(&text)
}

/// A session of text commands with MariaDB, from the greeting to COM_QUIT.
pub fn session() -> Chunks {
    captured("session-text")
}

/// The connection phase of [`session`].
pub fn login() -> Chunks {
    session()[..LOGIN_CHUNKS].to_vec()
}

/// The command phase of [`session`].
pub fn commands() -> Chunks {
    session()[LOGIN_CHUNKS..].to_vec()
}

/// Both ends of a connection through Envoy.
pub struct Pair {
    pub client: Peer,
    pub server: Peer,
}

impl Pair {
    pub fn open(envoy: SocketAddr, server: &Server) -> Self {
        Self { client: Peer::connect(envoy), server: server.accept() }
    }

    /// A connection in the command phase.
    pub fn logged_in(envoy: SocketAddr, server: &Server) -> Self {
        let mut pair = Self::open(envoy, server);
        pair.play(&login());
        pair
    }

    /// Sends the chunks. Each arrives whole and unchanged before the next is sent.
    pub fn play(&mut self, chunks: &[(Sender, Bytes)]) {
        for (sender, bytes) in chunks {
            let (from, to) = self.ends(*sender);
            from.send(bytes);
            to.expect(bytes);
        }
    }

    /// Sends byte by byte. Each byte arrives before the next is sent, so that Envoy reads them one by one.
    pub fn play_bytes(&mut self, chunks: &[(Sender, Bytes)]) {
        for (sender, bytes) in chunks {
            let (from, to) = self.ends(*sender);
            for byte in bytes.chunks(1) {
                from.send(byte);
                to.expect(byte);
            }
        }
    }

    /// Sends in another thread, because the bytes may not fit into the buffers between the peers.
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

/// Number of bytes that a side sends.
pub fn sent(chunks: &[(Sender, Bytes)], sender: Sender) -> usize {
    chunks.iter().filter(|(from, _)| *from == sender).map(|(_, bytes)| bytes.len()).sum()
}
