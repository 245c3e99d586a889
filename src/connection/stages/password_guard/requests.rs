//! What the server's packets request of the client during a login, and whether the client responds with a password.

use crate::connection::stages::auth_data::{
    self, KEY_REQUEST_OF_CACHING_SHA2, KEY_REQUEST_OF_SHA256, SCRAMBLE_LEN,
};
use crate::mysql::wire::auth_plugin::{AUTH_MORE_DATA, AUTH_NEXT_FACTOR, AuthPlugin, FULL_AUTHENTICATION};
use crate::mysql::wire::capability::Capabilities;
use crate::mysql::wire::handshake::{HandshakeV10, PROTOCOL_V10};
use crate::mysql::wire::packet::{Framed, Framer};
use crate::mysql::wire::response::{EOF, ERR, OK};

/// Maximum number of bytes of a packet that are read. A version text has at most 60 characters.
const MAX_PREFIX: usize = 256;
/// caching_sha2_password's `fast_auth_success`: no packet of the client follows.
const FAST_AUTHENTICATION: u8 = 0x03;

/// Next packet of the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expected {
    /// None before the server's next packet.
    Nothing,
    /// Data that do not contain the password.
    Data,
    /// The password with a NUL. The server gives the key for it in response to this byte.
    Password(u8),
    /// Data that may contain the password.
    Unknown,
}

/// Effect of the server's packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    Continues,
    Accepted,
    Refused,
    /// The server breaks the protocol.
    Broken,
}

/// Requests of the server to one client.
#[derive(Debug)]
pub(super) struct Requests {
    server: Framer,
    /// Capabilities of the server. `None` until it has greeted the client.
    pub(super) greeted: Option<Capabilities>,
    plugin: AuthPlugin,
    /// Last scramble of the server.
    pub(super) scramble: Vec<u8>,
    pub(super) expected: Expected,
}

impl Requests {
    pub(super) fn new() -> Self {
        Self {
            server: Framer::new(MAX_PREFIX),
            greeted: None,
            plugin: AuthPlugin::None,
            scramble: Vec::new(),
            expected: Expected::Nothing,
        }
    }

    /// Maximum heap memory in bytes.
    pub(super) const fn max_memory() -> usize {
        MAX_PREFIX + SCRAMBLE_LEN
    }

    /// Takes the plugin of the client's first packet of a login. `again`: the client was logged in before.
    pub(super) fn begin(&mut self, plugin: AuthPlugin, again: bool) {
        (self.plugin, self.expected) = (plugin, Expected::Nothing);
        if again {
            // It has not taken the responses to commands.
            self.server = Framer::new(MAX_PREFIX);
        }
    }

    /// Takes bytes of the server before the client has responded to the greeting.
    pub(super) fn greeting(&mut self, mut bytes: &[u8]) -> Progress {
        while let Some(framed) = self.server.next(&mut bytes) {
            let Framed::Head(packet) = framed else { continue };
            match packet.prefix {
                [PROTOCOL_V10, ..] if self.greeted.is_none() => {
                    let Ok(greeting) = HandshakeV10::parse(packet.prefix) else { return Progress::Broken };
                    self.greeted = Some(greeting.capabilities);
                    (_, self.scramble) = auth_data::of_greeting(&greeting);
                }
                [ERR, ..] => return Progress::Refused,
                _ => return Progress::Broken,
            }
        }
        Progress::Continues
    }

    /// Takes bytes of the server during a login.
    ///
    /// The client reads the packets one by one. So a second packet before the client's next one would hide from the guard
    /// what the client responds to.
    pub(super) fn login(&mut self, mut bytes: &[u8]) -> Progress {
        let Self { server, plugin, scramble, expected, .. } = self;
        while let Some(framed) = server.next(&mut bytes) {
            let Framed::Head(packet) = framed else { continue };
            let is_second = *expected != Expected::Nothing;
            match packet.prefix {
                _ if is_second => return Progress::Broken,
                [ERR, ..] => return Progress::Refused,
                [OK, ..] => return Progress::Accepted,
                // This byte alone requests the hash of MySQL before 4.1.
                [EOF] => *plugin = AuthPlugin::OldPassword,
                [EOF | AUTH_NEXT_FACTOR, ..] => {
                    let Ok((name, data)) = auth_data::of_switch(packet.prefix) else {
                        return Progress::Broken;
                    };
                    (*plugin, *scramble) = (AuthPlugin::from_name(name), data);
                }
                // Some clients read only the second byte.
                [AUTH_MORE_DATA, FULL_AUTHENTICATION, ..] => {
                    *expected = Expected::Password(KEY_REQUEST_OF_CACHING_SHA2);
                    continue;
                }
                [AUTH_MORE_DATA, FAST_AUTHENTICATION] if *plugin == AuthPlugin::CachingSha2Password => {
                    continue;
                }
                _ => {}
            }
            *expected = match *plugin {
                AuthPlugin::Sha256Password => Expected::Password(KEY_REQUEST_OF_SHA256),
                plugin if hashes(plugin) => Expected::Data,
                _ => Expected::Unknown,
            };
        }
        Progress::Continues
    }
}

/// True if no client of this plugin sends the password itself, unless the server requests a full authentication.
pub(super) fn hashes(plugin: AuthPlugin) -> bool {
    matches!(
        plugin,
        AuthPlugin::None
            | AuthPlugin::NativePassword
            | AuthPlugin::OldPassword
            | AuthPlugin::CachingSha2Password
            | AuthPlugin::Ed25519
            | AuthPlugin::Parsec
    )
}
