//! The full authentication of `caching_sha2_password` and `sha256_password`, for a client without TLS and a server with TLS.
//!
//! The server expects the password itself, because TLS protects it. The client sends it only encrypted, and asks for the
//! server's RSA key first. So the filter answers with a key of its own, decrypts the password, and sends it in TLS (MySQL
//! manual, "Caching SHA-2 Pluggable Authentication"; `sha256_password_authenticate` and `caching_sha2_password_authenticate` in
//! MySQL).

use crate::connection::stages::auth_data::{
    self, KEY_REQUEST_OF_CACHING_SHA2, KEY_REQUEST_OF_SHA256, SCRAMBLE_LEN,
};
use crate::mysql::wire::auth_plugin::{AUTH_MORE_DATA, AuthPlugin, FULL_AUTHENTICATION};
use crate::mysql::wire::handshake::{HandshakeV10, PROTOCOL_V10};
use crate::mysql::wire::packet::{Framed, Framer};
use crate::mysql::wire::response::EOF;
use crate::password_key::{PasswordKeyRef, wipe};

/// Maximum number of bytes of a packet that are read. A version text has at most 60 characters.
const MAX_PREFIX: usize = 256;

/// Place in the exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Exchange {
    /// The server has not asked for the password.
    None,
    /// The server has asked. The client asks for the key by this byte.
    Asked(u8),
    /// The client has got the filter's key.
    KeySent,
}

/// Treatment of a packet of the client.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// Forward it.
    Forward,
    /// Drop it, and send this payload to the client.
    Reply(Vec<u8>),
    /// Send this payload in its place.
    Replace(Vec<u8>),
}

/// Full authentication of one connection.
#[derive(Debug)]
pub(super) struct FullAuthentication {
    key: PasswordKeyRef,
    server: Framer,
    plugin: AuthPlugin,
    /// Last scramble of the server. The client combines its password with it.
    scramble: Vec<u8>,
    exchange: Exchange,
}

impl FullAuthentication {
    pub(super) fn new(key: PasswordKeyRef) -> Self {
        let (plugin, scramble) = (AuthPlugin::None, Vec::new());
        Self { key, server: Framer::new(MAX_PREFIX), plugin, scramble, exchange: Exchange::None }
    }

    /// Maximum heap memory in bytes.
    pub(super) const fn max_memory() -> usize {
        MAX_PREFIX + SCRAMBLE_LEN
    }

    /// True if the next packet of the client must be complete before it is forwarded.
    pub(super) fn needs_whole_packet(&self) -> bool {
        self.exchange != Exchange::None
    }

    /// Takes bytes of the server.
    pub(super) fn server(&mut self, mut bytes: &[u8]) {
        let Self { server, plugin, scramble, exchange, .. } = self;
        while let Some(framed) = server.next(&mut bytes) {
            let Framed::Head(packet) = framed else { continue };
            let found = match packet.prefix {
                [PROTOCOL_V10, ..] => {
                    HandshakeV10::parse(packet.prefix).map(|greeting| auth_data::of_greeting(&greeting))
                }
                [EOF, ..] => auth_data::of_switch(packet.prefix),
                [AUTH_MORE_DATA, FULL_AUTHENTICATION] if *plugin == AuthPlugin::CachingSha2Password => {
                    *exchange = Exchange::Asked(KEY_REQUEST_OF_CACHING_SHA2);
                    continue;
                }
                _ => continue,
            };
            let Ok((name, data)) = found else { continue };
            *plugin = AuthPlugin::from_name(name);
            *scramble = data;
            let is_switch = packet.first() == Some(EOF);
            let asks = is_switch && *plugin == AuthPlugin::Sha256Password;
            *exchange = if asks { Exchange::Asked(KEY_REQUEST_OF_SHA256) } else { Exchange::None };
        }
    }

    /// Takes the payload of a packet of the client, while [`FullAuthentication::needs_whole_packet`].
    pub(super) fn client(&mut self, payload: &[u8]) -> Action {
        match std::mem::replace(&mut self.exchange, Exchange::None) {
            Exchange::Asked(request) if payload == [request] => {
                self.exchange = Exchange::KeySent;
                Action::Reply([&[AUTH_MORE_DATA], self.key.0.public_pem().as_bytes()].concat())
            }
            Exchange::KeySent => {
                let mut password = self.key.0.decrypt(payload).unwrap_or_default();
                auth_data::combine(&mut password, &self.scramble);
                // The server refuses this as a wrong password.
                if password.last() != Some(&0) {
                    wipe(&mut password);
                    password = vec![0];
                }
                Action::Replace(password)
            }
            _ => Action::Forward,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::password_key::PasswordKey;

    /// Key that only turns bits.
    struct Turned;

    impl PasswordKey for Turned {
        fn public_pem(&self) -> &'static str {
            "PEM"
        }

        fn decrypt(&self, block: &[u8]) -> Option<Vec<u8>> {
            (block.len() > 2).then(|| block.iter().map(|byte| !byte).collect())
        }

        fn encrypt_for(&self, _: &[u8], _: &[u8]) -> Option<Vec<u8>> {
            panic!("the server has TLS")
        }
    }

    const SCRAMBLE: &[u8] = b"abcdefghijklmnopqrst";

    fn packet(payload: &[u8]) -> Vec<u8> {
        [&[payload.len() as u8, 0, 0, 0], payload].concat()
    }

    fn greeting(plugin: &str) -> Vec<u8> {
        // The upper flags have PLUGIN_AUTH.
        let flags = [0, 0, 0, 0, 0, 0x08, 0, 0];
        packet(
            &[
                b"\x0a8.4.0\0\x07\0\0\0abcdefgh\0".as_slice(),
                &flags,
                &[0; 10],
                b"ijklmnopqrst\0",
                plugin.as_bytes(),
                b"\0",
            ]
            .concat(),
        )
    }

    fn switch(plugin: &str) -> Vec<u8> {
        packet(&[b"\xfe", plugin.as_bytes(), b"\0", SCRAMBLE, b"\0"].concat())
    }

    fn encrypted(password: &[u8]) -> Vec<u8> {
        password.iter().zip(SCRAMBLE.iter().cycle()).map(|(byte, with)| !(byte ^ with)).collect()
    }

    fn after(packets: &[Vec<u8>], size: usize) -> FullAuthentication {
        let mut this = FullAuthentication::new(PasswordKeyRef(&Turned));
        packets.concat().chunks(size).for_each(|chunk| this.server(chunk));
        this
    }

    #[test]
    fn the_password_is_decrypted() {
        let asked = packet(&[AUTH_MORE_DATA, FULL_AUTHENTICATION]);
        for (packets, request) in [
            (vec![greeting("caching_sha2_password"), asked.clone()], 2),
            (vec![greeting("mysql_native_password"), switch("caching_sha2_password"), asked], 2),
            (vec![greeting("caching_sha2_password"), switch("sha256_password")], 1),
        ] {
            for size in [1, 7, usize::MAX] {
                let mut this = after(&packets, size);
                assert!(this.needs_whole_packet());
                assert_eq!(this.client(&[request]), Action::Reply(b"\x01PEM".to_vec()));
                let long = [b"p".repeat(45).as_slice(), b"\0"].concat();
                assert_eq!(this.client(&encrypted(&long)), Action::Replace(long));
                assert!(!this.needs_whole_packet());
            }
        }
    }

    #[test]
    fn other_packets_are_forwarded() {
        let asked = packet(&[AUTH_MORE_DATA, FULL_AUTHENTICATION]);
        for packets in [
            vec![greeting("caching_sha2_password")],
            vec![greeting("caching_sha2_password"), switch("mysql_native_password")],
            vec![greeting("mysql_native_password"), asked.clone()],
        ] {
            assert!(!after(&packets, usize::MAX).needs_whole_packet(), "{packets:?}");
        }
        // A client that has the server's key sends the encrypted password at once.
        let mut pinned = after(&[greeting("caching_sha2_password"), asked], usize::MAX);
        assert_eq!(pinned.client(&[7; 256]), Action::Forward);
        assert!(!pinned.needs_whole_packet());
    }

    #[test]
    fn a_block_of_another_key_is_a_wrong_password() {
        for block in [&[1, 2][..], &encrypted(b"no end")] {
            let mut this = after(&[greeting("x"), switch("sha256_password")], usize::MAX);
            this.client(&[1]);
            assert_eq!(this.client(block), Action::Replace(vec![0]));
        }
    }
}
