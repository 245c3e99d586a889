//! Searches the client's commands for COM_CHANGE_USER, which begins another login.

use super::requests::hashes;
use crate::connection::stages::packet_headers::{Found, PacketHeaders};
use crate::mysql::wire::auth_plugin::AuthPlugin;
use crate::mysql::wire::capability::Capabilities;
use crate::mysql::wire::command::Command;
use crate::mysql::wire::types::{ParseError, Reader};

/// Maximum length of a packet of the client in a login. Its connection attributes have at most 64 KiB.
pub(super) const MAX_LOGIN_LEN: usize = 80 << 10;

/// Place in the client's commands.
#[derive(Clone, Debug, Default)]
pub(super) struct Commands {
    headers: PacketHeaders,
    /// Sequence id of the client's newest packet. A command has 0.
    id: u8,
    /// True if the newest packet is a command.
    is_command: bool,
    /// True if the server has sent nothing since a command that has a response.
    is_pending: bool,
    /// True if the server has sent something since the newest packet.
    is_after_server: bool,
}

/// Result of the search for a COM_CHANGE_USER.
pub(super) enum Scanned {
    /// There is none.
    Commands,
    /// It is not complete.
    PartOfLogin,
    /// Another command waits for its response, or something follows.
    Broken,
    /// It is the last command, with a hash or no authentication data.
    Login(AuthPlugin),
    /// It can contain a password.
    Password,
}

impl Commands {
    /// Takes bytes of the server.
    pub(super) fn server(&mut self) {
        (self.is_pending, self.is_after_server) = (false, true);
    }

    /// Takes bytes of the client.
    pub(super) fn scan(&mut self, bytes: &[u8], capabilities: Capabilities) -> Scanned {
        let mut at = 0;
        loop {
            let first_at = at;
            match self.headers.next(bytes, &mut at) {
                None => return Scanned::Commands,
                Some(Found::SequenceId { id, .. }) => {
                    // A client that sends a file (LOAD DATA LOCAL) numbers its packets. After 255 comes 0, which is also the id of
                    // a command. But a command follows a packet of the server, and the next packet of a file does not.
                    let continues = self.id == u8::MAX && !self.is_after_server;
                    self.is_command = id == 0 && !continues;
                    (self.id, self.is_after_server) = (id, false);
                }
                Some(Found::First(byte)) if self.is_command && byte == Command::CHANGE_USER.0 => {
                    let payload = bytes.get(first_at..at).unwrap_or_default();
                    return if self.is_pending || payload.len() > MAX_LOGIN_LEN {
                        Scanned::Broken
                    } else if !self.headers.is_at_boundary() {
                        Scanned::PartOfLogin
                    } else if at < bytes.len() {
                        Scanned::Broken
                    } else {
                        change_user(payload, capabilities)
                    };
                }
                Some(Found::First(byte)) => {
                    let is_silent = [Command::STMT_CLOSE.0, Command::STMT_SEND_LONG_DATA.0].contains(&byte);
                    self.is_pending |= self.is_command && !is_silent;
                }
            }
        }
    }
}

/// Takes a whole COM_CHANGE_USER.
fn change_user(payload: &[u8], capabilities: Capabilities) -> Scanned {
    match read_change_user(payload, capabilities) {
        Ok((plugin, is_empty)) if is_empty || hashes(plugin) => Scanned::Login(plugin),
        Ok(_) => Scanned::Password,
        Err(_) => Scanned::Broken,
    }
}

/// Returns the plugin of a COM_CHANGE_USER, and true if it has no authentication data.
fn read_change_user(payload: &[u8], capabilities: Capabilities) -> Result<(AuthPlugin, bool), ParseError> {
    let mut reader = Reader::new(payload);
    reader.u8("command")?;
    reader.nul_bytes("user")?;
    let data = if capabilities.contains(Capabilities::SECURE_CONNECTION) {
        let len = reader.u8("auth_response_length")?;
        reader.bytes("auth_response", usize::from(len))?
    } else {
        reader.nul_bytes("auth_response")?
    };
    reader.nul_bytes("schema")?;
    let has_plugin = capabilities.contains(Capabilities::PLUGIN_AUTH) && !reader.rest().is_empty();
    let name = if has_plugin {
        reader.u16("character_set")?;
        reader.nul_bytes("client_plugin_name")?
    } else {
        &[]
    };
    Ok((AuthPlugin::from_name(name), data.is_empty()))
}
