//! A client that implements the protocol itself. It can have any capabilities, and send any packets in any order and with any
//! cuts. It reads responses with its own code, independent of the core.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::Duration;

use mysql_common::crypto::encrypt;
use mysql_common::io::ParseBuf;
use mysql_common::packets::{AuthPlugin, HandshakePacket};

use super::connect_from;
use super::database::{DATABASE, PASSWORD, USER};
use super::packets::packet;

/// Maximum time to wait for a packet of the server.
const PATIENCE: Duration = Duration::from_secs(20);

pub const CONNECT_WITH_DB: u32 = 1 << 3;
pub const COMPRESS: u32 = 1 << 5;
pub const LOCAL_FILES: u32 = 1 << 7;
pub const PROTOCOL_41: u32 = 1 << 9;
pub const SSL: u32 = 1 << 11;
pub const SECURE_CONNECTION: u32 = 1 << 15;
pub const MULTI_STATEMENTS: u32 = 1 << 16;
pub const PLUGIN_AUTH: u32 = 1 << 19;
pub const CONNECT_ATTRS: u32 = 1 << 20;
pub const PLUGIN_AUTH_LENENC: u32 = 1 << 21;
pub const EXPIRED_PASSWORDS: u32 = 1 << 22;
pub const SESSION_TRACK: u32 = 1 << 23;
pub const DEPRECATE_EOF: u32 = 1 << 24;
pub const OPTIONAL_METADATA: u32 = 1 << 25;
pub const ZSTD: u32 = 1 << 26;
pub const QUERY_ATTRIBUTES: u32 = 1 << 27;

/// An extended capability of MariaDB. So are the next ones.
pub const MARIADB_PROGRESS: u32 = 1 << 0;
pub const MARIADB_BULK: u32 = 1 << 2;
pub const MARIADB_CACHE_METADATA: u32 = 1 << 4;
pub const MARIADB_UNIT_RESULTS: u32 = 1 << 5;

/// Capabilities for result sets with EOF packets: LONG_PASSWORD, CONNECT_WITH_DB, LOCAL_FILES, PROTOCOL_41, TRANSACTIONS,
/// SECURE_CONNECTION, MULTI_STATEMENTS, MULTI_RESULTS, PS_MULTI_RESULTS, PLUGIN_AUTH, CONNECT_ATTRS, PLUGIN_AUTH_LENENC.
pub const CLASSIC: u32 = 0x003f_a289;

const CURSOR_EXISTS: u16 = 0x0040;
const MORE_RESULTS: u16 = 0x0008;
const PS_OUT_PARAMS: u16 = 0x1000;

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

/// The payloads of the packets that respond to a command, with fragments joined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response(pub Vec<Vec<u8>>);

impl Response {
    /// Number of the error that ended it. `None` if no error did.
    pub fn errno(&self) -> Option<u16> {
        let last = self.0.last().filter(|packet| packet.first() == Some(&0xff))?;
        Some(u16::from_le_bytes([last[1], last[2]]))
    }

    /// Asserts that no error ended it.
    pub fn expect(self, what: &str) -> Self {
        assert_eq!(self.errno(), None, "{what}: {}", self.message());
        self
    }

    /// Asserts that this error ended it.
    pub fn expect_errno(self, errno: u16) -> Self {
        assert_eq!(self.errno(), Some(errno), "{}", self.message());
        self
    }

    /// The statement id in a COM_STMT_PREPARE_OK.
    pub fn statement_id(&self) -> u32 {
        let first = &self.0[0];
        assert_eq!(first[0], 0, "a statement: {}", self.message());
        u32::from_le_bytes([first[1], first[2], first[3], first[4]])
    }

    fn message(&self) -> String {
        String::from_utf8_lossy(self.0.last().map_or(&[], |packet| packet)).into_owned()
    }
}

/// A connection to a server, or to a proxy before it.
pub struct Client {
    stream: TcpStream,
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
    nonce: Vec<u8>,
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

    /// Connects and logs in.
    pub fn login(address: SocketAddr, login: &Login) -> Self {
        Self::connect(address).log_in(login).unwrap_or_else(|errno| panic!("refused: {errno} for {login:?}"))
    }

    /// Logs in on an open connection. `Err` holds the number of the error with which the server refuses.
    pub fn log_in(mut self, login: &Login) -> Result<Self, u16> {
        let payload = self.response(login)?;
        self.write(&payload);
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
            // Requests the public key.
            return vec![1];
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
        // Servers end the nonce with a NUL that is not part of it, except for ed25519.
        self.nonce = nonce.strip_suffix(&[0]).unwrap_or(nonce).to_vec();
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

    /// Sends these bytes unchanged.
    pub fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("a server that reads");
    }

    /// Sends these bytes unchanged. `None` if the server has closed the connection.
    pub fn try_send(&mut self, bytes: &[u8]) -> Option<()> {
        self.stream.write_all(bytes).ok()
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
            match self.stream.read(&mut buffer) {
                Ok(0) => return None,
                Ok(size) => self.unread.extend_from_slice(&buffer[..size]),
                Err(e) if e.kind() == ErrorKind::ConnectionReset => return None,
                Err(e) => panic!("no packet of the server: {e}"),
            }
        }
        Some(self.unread.drain(..length).collect())
    }

    /// Reads a response of one packet: OK, ERR, EOF or text.
    pub fn single(&mut self) -> Response {
        Response(vec![self.packet()])
    }

    /// Reads a response up to an EOF, an OK in its place, or an error: COM_FIELD_LIST, COM_STMT_FETCH, COM_BINLOG_DUMP.
    pub fn until_eof(&mut self) -> Response {
        let mut response = Response(Vec::new());
        while !self.ends(&mut response) {}
        response
    }

    /// Reads a response to COM_STMT_PREPARE. Its counts must not have overflowed.
    pub fn prepare_response(&mut self) -> Response {
        let mut response = self.single();
        let first = response.0[0].clone();
        if first[0] == 0xff {
            return response;
        }
        // A server that leaves out the definitions still sends their EOFs.
        let left_out = self.has(OPTIONAL_METADATA) && first.get(12) == Some(&0);
        let count = |at: usize| u16::from_le_bytes([first[at], first[at + 1]]);
        for definitions in [count(7), count(5)].into_iter().filter(|definitions| *definitions > 0) {
            let definitions = if left_out { 0 } else { definitions };
            for _ in 0..definitions + u16::from(!self.has(DEPRECATE_EOF)) {
                response.0.push(self.packet());
            }
        }
        response
    }

    /// Reads all results of a statement, or the response up to a file request.
    pub fn results(&mut self) -> Response {
        self.results_of(false)
    }

    /// Reads all results of a statement. `cursor` is true if the client requested a cursor, whose rows wait for COM_STMT_FETCH.
    /// Without it the status flag is ignored, because MariaDB also sets it if a routine has an open cursor.
    fn results_of(&mut self, cursor: bool) -> Response {
        let mut response = Response(Vec::new());
        loop {
            let first = self.packet();
            response.0.push(first.clone());
            let status = match first[0] {
                0x00 => ok_status(&first),
                0xff if first[1..3] == [0xff, 0xff] => MORE_RESULTS,
                0xff | 0xfb => return response,
                _ => match self.result_set(&first, cursor, &mut response) {
                    Some(status) => status,
                    None => return response,
                },
            };
            if status & MORE_RESULTS == 0 {
                return response;
            }
        }
    }

    /// Reads the rest of a result set after its column count. Returns its status, or `None` if it ends with an error.
    fn result_set(&mut self, first: &[u8], cursor: bool, response: &mut Response) -> Option<u16> {
        let (columns, rest) = lenenc(first);
        let optional = self.has(OPTIONAL_METADATA) || self.extended & MARIADB_CACHE_METADATA != 0;
        if !optional || rest != [0] {
            for _ in 0..columns {
                response.0.push(self.packet());
            }
        }
        let mut follows = 0;
        if !self.has(DEPRECATE_EOF) {
            let eof = self.packet();
            assert_eq!((eof[0], eof.len()), (0xfe, 5), "an EOF after the definitions");
            response.0.push(eof.clone());
            let status = u16::from_le_bytes([eof[3], eof[4]]);
            if cursor && status & CURSOR_EXISTS != 0 {
                return Some(status);
            }
            // MySQL does not set MORE_RESULTS in the EOF after OUT parameters, but an OK always follows.
            if status & PS_OUT_PARAMS != 0 {
                follows = MORE_RESULTS;
            }
        }
        while !self.ends(response) {}
        let last = response.0.last()?;
        match (last[0], self.has(DEPRECATE_EOF)) {
            (0xff, _) => None,
            // MySQL sends an EOF nevertheless if a routine handles the error that ended a result set.
            (_, true) if last.len() > 5 => Some(ok_status(last)),
            _ => Some(u16::from_le_bytes([last[3], last[4]]) | follows),
        }
    }

    /// Reads a packet, and returns true if it is the last one of its group.
    fn ends(&mut self, response: &mut Response) -> bool {
        let packet = self.packet();
        let longest = if self.has(DEPRECATE_EOF) { 0xff_ffff } else { 9 };
        let ends = packet[0] == 0xff || (packet[0] == 0xfe && packet.len() < longest);
        response.0.push(packet);
        ends
    }

    fn has(&self, flag: u32) -> bool {
        self.capabilities & flag != 0
    }

    /// Sends COM_QUERY without attributes, and reads the results.
    pub fn query(&mut self, statement: &str) -> Response {
        let payload = self.query_payload(statement);
        self.command(&payload);
        self.results()
    }

    /// The payload of [`Client::query`], for [`Client::pipeline`].
    pub fn query_payload(&self, statement: &str) -> Vec<u8> {
        let none: &[u8] = if self.has(QUERY_ATTRIBUTES) { &[0, 1] } else { &[] };
        [&[3], none, statement.as_bytes()].concat()
    }

    /// Sends COM_STMT_PREPARE, and reads the response.
    pub fn prepare(&mut self, statement: &str) -> Response {
        self.command(&[&[0x16], statement.as_bytes()].concat());
        self.prepare_response()
    }

    /// Sends COM_STMT_EXECUTE with texts as parameters, and reads the results. The value 1 of `flags` requests a cursor.
    pub fn execute(&mut self, statement: u32, flags: u8, parameters: &[&str]) -> Response {
        let payload = self.execute_payload(statement, flags, parameters, &[]);
        self.command(&payload);
        self.results_of(flags & 1 != 0)
    }

    /// Sends COM_STMT_EXECUTE of a CALL, and reads the results. The rows of a routine's cursor do not wait, whatever `flags`
    /// request.
    pub fn execute_call(&mut self, statement: u32, flags: u8) -> Response {
        let payload = self.execute_payload(statement, flags, &[], &[]);
        self.command(&payload);
        self.results_of(false)
    }

    /// The payload of [`Client::execute`], with query attributes (name, value) after the parameters.
    pub fn execute_payload(
        &self,
        statement: u32,
        flags: u8,
        parameters: &[&str],
        attributes: &[(&str, &str)],
    ) -> Vec<u8> {
        let unnamed = parameters.iter().map(|value| ("", *value));
        let values: Vec<_> = unnamed.chain(attributes.iter().copied()).collect();
        // PARAMETER_COUNT_AVAILABLE
        let flags = if attributes.is_empty() { flags } else { flags | 8 };
        let mut payload = [&[0x17], &statement.to_le_bytes()[..], &[flags, 1, 0, 0, 0]].concat();
        if !values.is_empty() {
            if self.has(QUERY_ATTRIBUTES) {
                payload.push(u8::try_from(values.len()).expect("few parameters"));
            }
            payload.extend(self.parameters(&values));
        }
        payload
    }

    /// The payload of COM_QUERY with query attributes.
    pub fn query_with_attributes(&self, statement: &str, attributes: &[(&str, &str)]) -> Vec<u8> {
        let count = u8::try_from(attributes.len()).expect("few attributes");
        [&[3, count, 1], self.parameters(attributes).as_slice(), statement.as_bytes()].concat()
    }

    /// NULL bitmap, types, names and values of texts shorter than 251 bytes.
    fn parameters(&self, values: &[(&str, &str)]) -> Vec<u8> {
        let mut payload = vec![0; values.len().div_ceil(8)];
        payload.push(1);
        let text = |text: &str| [&[text.len() as u8], text.as_bytes()].concat();
        for (name, _) in values {
            payload.extend([0xfe, 0]);
            if self.has(QUERY_ATTRIBUTES) {
                payload.extend(text(name));
            }
        }
        payload.extend(values.iter().flat_map(|(_, value)| text(value)));
        payload
    }

    /// Sends COM_QUIT, and waits until the server closes the connection.
    pub fn quit(mut self) {
        self.command(&[1]);
        assert_eq!(self.next_packet(), None, "the server closes");
    }
}

impl Response {
    fn expect_ok(&self) -> Result<(), u16> {
        self.errno().map_or(Ok(()), Err)
    }
}

/// Reads a length-encoded integer. Returns its value, and the bytes after it.
fn lenenc(payload: &[u8]) -> (u64, &[u8]) {
    let width = match payload[0] {
        0xfc => 2,
        0xfd => 3,
        0xfe => 8,
        small => return (small.into(), &payload[1..]),
    };
    let mut bytes = [0; 8];
    bytes[..width].copy_from_slice(&payload[1..=width]);
    (u64::from_le_bytes(bytes), &payload[1 + width..])
}

/// The status flags of an OK packet.
fn ok_status(payload: &[u8]) -> u16 {
    let (_, rest) = lenenc(&payload[1..]);
    let (_, rest) = lenenc(rest);
    u16::from_le_bytes([rest[0], rest[1]])
}

/// `length, (key, value)*`, with texts shorter than 251 bytes.
fn attributes(attributes: &[(String, String)]) -> Vec<u8> {
    let texts = attributes.iter().flat_map(|(name, value)| [name, value]);
    let block: Vec<u8> = texts.flat_map(|text| [&[text.len() as u8], text.as_bytes()].concat()).collect();
    [&[u8::try_from(block.len()).expect("short attributes")], block.as_slice()].concat()
}
