//! The connection phase: the greeting, the handshake response and the authentication.

use std::net::SocketAddr;

use mysql_common::crypto::encrypt;
use mysql_common::io::ParseBuf;
use mysql_common::packets::{AuthPlugin, HandshakePacket};

use super::capability::{CONNECT_ATTRS, CONNECT_WITH_DB, PLUGIN_AUTH, ZSTD};
use super::connection::Client;
use super::response::Response;
use crate::database::{DATABASE, PASSWORD, USER};

/// Parameters of a login.
#[derive(Clone, Debug)]
pub struct Login {
    pub user: String,
    pub password: String,
    pub database: String,
    /// Capabilities that the client requests if the server offers them.
    pub capabilities: u32,
    /// Extended capabilities of MariaDB. With any of them the client leaves out LONG_PASSWORD, as MariaDB's clients do.
    pub extended: u32,
    /// Authentication plugin for the handshake response. `None` for the one that the greeting names.
    pub plugin: Option<String>,
    pub attributes: Vec<(String, String)>,
}

impl Login {
    /// Returns a login of the user that every server has, with these capabilities.
    pub fn new(capabilities: u32) -> Self {
        Self {
            user: USER.into(),
            password: PASSWORD.into(),
            database: DATABASE.into(),
            capabilities,
            extended: 0,
            plugin: None,
            attributes: vec![("_client_name".into(), "firstword".into())],
        }
    }

    pub fn user(mut self, user: &str, password: &str) -> Self {
        (self.user, self.password) = (user.into(), password.into());
        self
    }

    pub fn database(mut self, database: &str) -> Self {
        self.database = database.into();
        self
    }

    pub fn extended(mut self, extended: u32) -> Self {
        self.extended = extended;
        self
    }

    pub fn plugin(mut self, plugin: &str) -> Self {
        self.plugin = Some(plugin.into());
        self
    }

    pub fn attribute(mut self, name: &str, value: &str) -> Self {
        self.attributes.push((name.into(), value.into()));
        self
    }
}

impl Client {
    /// Connects and logs in.
    pub fn login(address: SocketAddr, login: &Login) -> Self {
        Self::connect(address).log_in(login).unwrap_or_else(|errno| panic!("refused: {errno} for {login:?}"))
    }

    /// Logs in on an open connection. `Err` holds the number of the error with which the server refuses.
    pub fn log_in(mut self, login: &Login) -> Result<Self, u16> {
        let payload = self.response(login)?;
        self.respond(&payload, login)
    }

    /// Sends the handshake response, and authenticates.
    pub(super) fn respond(mut self, payload: &[u8], login: &Login) -> Result<Self, u16> {
        self.write(payload);
        let plugin = self.plugin.clone();
        self.authenticate(&plugin, &login.password).expect_ok()?;
        Ok(self)
    }

    /// Reads the greeting, and returns the payload of the handshake response.
    pub fn response(&mut self, login: &Login) -> Result<Vec<u8>, u16> {
        let greeting = self.packet();
        if greeting[0] == 0xff {
            return Err(u16::from_le_bytes([greeting[1], greeting[2]]));
        }
        let plugin = self.read_greeting(&greeting);
        self.capabilities &= login.capabilities;
        self.extended &= login.extended;
        if self.extended != 0 {
            self.capabilities &= !1;
        }
        let plugin = login.plugin.clone().unwrap_or(plugin);
        self.plugin.clone_from(&plugin);
        Ok(self.handshake_response(login, &plugin))
    }

    /// Stores the fields of a greeting that the handshake response needs. Returns the plugin that it names.
    pub fn read_greeting(&mut self, greeting: &[u8]) -> String {
        let greeting: HandshakePacket = ParseBuf(greeting).parse(()).expect("a greeting");
        self.capabilities = greeting.capabilities().bits();
        self.extended = greeting.mariadb_ext_capabilities().bits();
        self.thread_id = greeting.connection_id();
        self.nonce = greeting.nonce();
        String::from_utf8_lossy(greeting.auth_plugin_name_ref().unwrap_or(b"mysql_native_password")).into()
    }

    pub fn handshake_response(&self, login: &Login, plugin: &str) -> Vec<u8> {
        let has = |flag: u32| self.capabilities & flag != 0;
        let scramble = self.scramble(plugin, &login.password);
        let mut payload = self.capabilities.to_le_bytes().to_vec();
        payload.extend((64_u32 << 20).to_le_bytes());
        payload.push(45);
        payload.extend([0; 19]);
        payload.extend(if has(1) { [0; 4] } else { self.extended.to_le_bytes() });
        payload.extend(login.user.bytes().chain([0, u8::try_from(scramble.len()).expect("short")]));
        payload.extend(scramble);
        if has(CONNECT_WITH_DB) {
            payload.extend(login.database.bytes().chain([0]));
        }
        if has(PLUGIN_AUTH) {
            payload.extend(plugin.bytes().chain([0]));
        }
        if has(CONNECT_ATTRS) {
            payload.extend(attributes(&login.attributes));
        }
        if has(ZSTD) {
            payload.push(3);
        }
        payload
    }

    /// Sends COM_CHANGE_USER, and authenticates.
    pub fn change_user(&mut self, login: &Login, plugin: &str) -> Response {
        let scramble = self.scramble(plugin, &login.password);
        let mut payload = vec![0x11];
        payload.extend(login.user.bytes().chain([0, u8::try_from(scramble.len()).expect("short")]));
        payload.extend(scramble);
        payload.extend(login.database.bytes().chain([0, 45, 0]));
        payload.extend(plugin.bytes().chain([0]));
        if self.capabilities & CONNECT_ATTRS != 0 {
            payload.extend(attributes(&login.attributes));
        }
        self.command(&payload);
        self.authenticate(plugin, &login.password)
    }

    /// The first authentication data of a plugin.
    pub fn scramble(&self, plugin: &str, password: &str) -> Vec<u8> {
        if plugin == "sha256_password" && !password.is_empty() {
            // Without TLS, requests the public key.
            return if self.tls.is_some() { [password.as_bytes(), &[0]].concat() } else { vec![1] };
        }
        let data = AuthPlugin::from_bytes(plugin.as_bytes());
        let data = data.gen_data(Some(password), &self.nonce);
        let mut data = data.map_or_else(Vec::new, |data| data.to_vec());
        if plugin == "mysql_clear_password" || plugin == "mysql_old_password" {
            data.push(0);
        }
        data
    }

    /// Reads an AuthSwitchRequest. Returns the plugin that it names, and the payload of the response.
    pub fn read_auth_switch(&mut self, packet: &[u8], password: &str) -> (String, Vec<u8>) {
        let rest = &packet[1..];
        let end = rest.iter().position(|byte| *byte == 0).expect("a plugin's name");
        let plugin = String::from_utf8_lossy(&rest[..end]).into_owned();
        let nonce = &rest[end + 1..];
        // Servers end the nonce with a NUL that is not part of it, except for ed25519, whose last byte can be zero.
        let has_end = plugin != "client_ed25519";
        self.nonce = nonce.strip_suffix(&[0]).filter(|_| has_end).unwrap_or(nonce).to_vec();
        let scramble = self.scramble(&plugin, password);
        (plugin, scramble)
    }

    /// Sends authentication data until the server accepts or refuses.
    pub fn authenticate(&mut self, plugin: &str, password: &str) -> Response {
        let mut plugin = plugin.to_owned();
        let mut response = Response(Vec::new());
        loop {
            let packet = self.packet();
            response.0.push(packet.clone());
            match packet.as_slice() {
                [0x00 | 0xff, ..] => return response,
                [0xfe] => {
                    plugin = "mysql_old_password".into();
                    let scramble = self.scramble(&plugin, password);
                    self.write(&scramble);
                }
                [0xfe, ..] => {
                    let (requested, scramble) = self.read_auth_switch(&packet, password);
                    plugin = requested;
                    self.write(&scramble);
                }
                // caching_sha2_password: the server has this password in its cache.
                [0x01, 0x03] => {}
                [0x01, 0x04] if self.tls.is_some() => self.write(&[password.as_bytes(), &[0]].concat()),
                // The cache misses. The server needs the whole password, so request the key to encrypt it.
                [0x01, 0x04] => self.write(&[2]),
                [0x01, pem @ ..] if pem.starts_with(b"-----BEGIN") => {
                    let mut secret = [password.as_bytes(), &[0]].concat();
                    secret.iter_mut().zip(self.nonce.iter().cycle()).for_each(|(byte, pad)| *byte ^= pad);
                    let encrypted = encrypt(&secret, pem);
                    self.write(&encrypted);
                }
                other => panic!("{plugin}: unknown request: {other:02x?}"),
            }
        }
    }
}

/// `length, (key, value)*`, with texts shorter than 251 bytes.
fn attributes(attributes: &[(String, String)]) -> Vec<u8> {
    let texts = attributes.iter().flat_map(|(name, value)| [name, value]);
    let block: Vec<u8> = texts.flat_map(|text| [&[text.len() as u8], text.as_bytes()].concat()).collect();
    [&[u8::try_from(block.len()).expect("short attributes")], block.as_slice()].concat()
}
