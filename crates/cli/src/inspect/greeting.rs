//! Identity and capabilities of server and client, from the greeting and the handshake response.

use firstword::escape::name;
use firstword::event::Sender;
use firstword::mysql::peer::server::identify;
use firstword::mysql::wire::capability::Capabilities;
use firstword::mysql::wire::handshake::{HandshakeResponse, HandshakeV10};
use firstword::mysql::wire::packet::{Framed, Framer};

use super::report::{Client, Server};
use super::stream::Piece;

/// Maximum length of a packet that is read. A greeting is shorter, and so are nearly all handshake responses.
const MAX_LEN: usize = 4096;

/// The capabilities that a report shows.
const NAMES: [(Capabilities, &str); 12] = [
    (Capabilities::SSL, "ssl"),
    (Capabilities::COMPRESS, "compress"),
    (Capabilities::ZSTD_COMPRESSION, "zstd_compression"),
    (Capabilities::DEPRECATE_EOF, "deprecate_eof"),
    (Capabilities::LOCAL_FILES, "local_files"),
    (Capabilities::PLUGIN_AUTH, "plugin_auth"),
    (Capabilities::CONNECT_ATTRS, "connect_attrs"),
    (Capabilities::SESSION_TRACK, "session_track"),
    (Capabilities::QUERY_ATTRIBUTES, "query_attributes"),
    (Capabilities::OPTIONAL_RESULTSET_METADATA, "optional_resultset_metadata"),
    (Capabilities::MARIADB_PROGRESS, "mariadb_progress"),
    (Capabilities::MARIADB_CACHE_METADATA, "mariadb_cache_metadata"),
];

fn names(capabilities: Capabilities) -> Vec<&'static str> {
    NAMES.iter().filter(|(flag, _)| capabilities.contains(*flag)).map(|(_, name)| *name).collect()
}

/// The greeting of the server and the client's response to it.
#[derive(Debug)]
pub(super) struct Greeting {
    /// `None` after the first packet, or if it cannot be read.
    framers: [Option<Framer>; 2],
    offered: Capabilities,
    shows_user: bool,
    pub(super) server: Option<Server>,
    pub(super) client: Option<Client>,
    pub(super) agreed: Vec<&'static str>,
}

impl Greeting {
    pub(super) fn new(shows_user: bool) -> Self {
        let framers = [Some(Framer::new(MAX_LEN)), Some(Framer::new(MAX_LEN))];
        let offered = Capabilities::default();
        Self { framers, offered, shows_user, server: None, client: None, agreed: Vec::new() }
    }

    /// Maximum memory that it takes in addition to its own size, in bytes.
    pub(super) fn memory(&self) -> usize {
        self.framers.iter().flatten().count().saturating_mul(MAX_LEN)
    }

    pub(super) fn take(&mut self, sender: Sender, piece: &Piece) {
        let Some(slot) = self.framers.get_mut(sender as usize) else { return };
        let Some(mut framer) = slot.take() else { return };
        let mut input: &[u8] = &piece.bytes;
        match framer.next(&mut input) {
            Some(Framed::Head(packet)) => match sender {
                Sender::Server => self.greeting(packet.prefix),
                Sender::Client => self.response(packet.prefix),
            },
            Some(_) => {}
            None if piece.is_whole() => *slot = Some(framer),
            None => {}
        }
    }

    fn greeting(&mut self, payload: &[u8]) {
        let Ok(greeting) = HandshakeV10::parse(payload) else { return };
        let (flavor, release) = identify(greeting.server_version);
        self.offered = greeting.capabilities;
        self.server = Some(Server {
            flavor: flavor.label(),
            release: release.label(),
            version: name(greeting.server_version),
            connection_id: greeting.thread_id,
            capabilities: names(greeting.capabilities),
            auth_plugin: name(greeting.auth_plugin),
        });
    }

    fn response(&mut self, payload: &[u8]) {
        let Ok(response) = HandshakeResponse::parse(payload, self.offered) else { return };
        self.agreed = names(self.offered & response.capabilities);
        self.client = Some(Client {
            name: name(response.client_name),
            version: name(response.client_version),
            capabilities: names(response.capabilities),
            auth_plugin: name(response.auth_plugin),
            user: response.user.filter(|_| self.shows_user).map(name),
        });
    }
}
