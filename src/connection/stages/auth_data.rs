//! The plugin and the scramble that a packet of the server names.

use crate::mysql::wire::handshake::HandshakeV10;
use crate::mysql::wire::types::{ParseError, Reader};

/// Length of a scramble that a password is combined with.
pub(super) const SCRAMBLE_LEN: usize = 20;
/// Requests of a client for the server's RSA key.
pub(super) const KEY_REQUEST_OF_CACHING_SHA2: u8 = 0x02;
pub(super) const KEY_REQUEST_OF_SHA256: u8 = 0x01;

/// Returns the plugin and the scramble of a greeting.
pub(super) fn of_greeting<'a>(greeting: &HandshakeV10<'a>) -> (&'a [u8], Vec<u8>) {
    let mut scramble = greeting.scramble.concat();
    // A NUL follows it.
    scramble.truncate(SCRAMBLE_LEN);
    (greeting.auth_plugin, scramble)
}

/// Returns the plugin and the scramble of an AuthSwitchRequest or an AuthNextFactor.
pub(super) fn of_switch(payload: &[u8]) -> Result<(&[u8], Vec<u8>), ParseError> {
    let mut reader = Reader::new(payload);
    reader.u8("header")?;
    let name = reader.nul_bytes("plugin_name")?;
    let rest = reader.rest();
    Ok((name, rest.get(..SCRAMBLE_LEN).unwrap_or(rest).to_vec()))
}

/// Combines a password with a scramble, or a combination with the scramble that made it.
pub(super) fn combine(password: &mut [u8], scramble: &[u8]) {
    for (byte, with) in password.iter_mut().zip(scramble.iter().cycle()) {
        *byte ^= with;
    }
}
