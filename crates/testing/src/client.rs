//! A client that speaks the protocol itself: any capabilities, any packets, in any order and any cut. What it makes of
//! answers is its own reading of the protocol, not the core's.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::Duration;

use mysql_common::crypto::encrypt;
use mysql_common::io::ParseBuf;
use mysql_common::packets::{AuthPlugin, HandshakePacket};

use super::connect_from;
use super::database::{DATABASE, PASSWORD, USER};
use super::packets::packet;

/// A server that says nothing for this long says nothing any more.
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

/// MariaDB's extended flags.
pub const MARIADB_PROGRESS: u32 = 1 << 0;
pub const MARIADB_BULK: u32 = 1 << 2;
pub const MARIADB_CACHE_METADATA: u32 = 1 << 4;
pub const MARIADB_UNIT_RESULTS: u32 = 1 << 5;

/// LONG_PASSWORD, CONNECT_WITH_DB, LOCAL_FILES, PROTOCOL_41, TRANSACTIONS, SECURE_CONNECTION, MULTI_STATEMENTS,
/// MULTI_RESULTS, PS_MULTI_RESULTS, PLUGIN_AUTH, CONNECT_ATTRS, PLUGIN_AUTH_LENENC: no more than result sets with EOF.
pub const CLASSIC: u32 = 0x003f_a289;

const CURSOR_EXISTS: u16 = 0x0040;
const MORE_RESULTS: u16 = 0x0008;
const PS_OUT_PARAMS: u16 = 0x1000;

/// How to log in.
#[derive(Clone, Debug)]
pub struct Login {
    pub user: String,
    pub password: String,
    pub database: String,
    /// What of this the server offers is asked for.
    pub capabilities: u32,
    /// MariaDB's; with any of them LONG_PASSWORD is left out, as MariaDB's clients do.
    pub extended: u32,
    /// Answers the greeting with this plugin instead of the one it names.
    pub plugin: Option<String>,
    pub attributes: Vec<(String, String)>,
}

impl Login {
    /// The user every server has, with these capabilities.
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

/// The packets that answer a command, payloads only, fragments joined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response(pub Vec<Vec<u8>>);

impl Response {
    /// The number of the error that ended it.
    pub fn errno(&self) -> Option<u16> {
        let last = self.0.last().filter(|packet| packet.first() == Some(&0xff))?;
        Some(u16::from_le_bytes([last[1], last[2]]))
    }

    /// Itself, if no error ended it.
    pub fn expect(self, what: &str) -> Self {
        assert_eq!(self.errno(), None, "{what}: {}", self.message());
        self
    }

    /// Itself, if this error ended it.
    pub fn expect_errno(self, errno: u16) -> Self {
        assert_eq!(self.errno(), Some(errno), "{}", self.message());
        self
    }

    /// The id in a COM_STMT_PREPARE_OK.
    pub fn statement_id(&self) -> u32 {
        let first = &self.0[0];
        assert_eq!(first[0], 0, "a statement: {}", self.message());
        u32::from_le_bytes([first[1], first[2], first[3], first[4]])
    }

    fn message(&self) -> String {
        String::from_utf8_lossy(self.0.last().map_or(&[], |packet| packet)).into_owned()
    }
}

/// A connection to a server, or to whatever stands in front of one.
pub struct Client {
    stream: TcpStream,
    /// What was read and not yet taken.
    unread: Vec<u8>,
    /// Of the next packet of the current exchange.
    pub sequence_id: u8,
    /// What both sides agreed on.
    pub capabilities: u32,
    pub extended: u32,
    pub thread_id: u32,
    /// The plugin the connection phase began with.
    pub plugin: String,
    nonce: Vec<u8>,
}

impl Client {
    /// Connects and says nothing.
    pub fn connect(address: SocketAddr) -> Self {
        Self::connect_from(None, address)
    }

    /// The same from another address of this machine, `127.0.0.2`.
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

    /// The rest of [`Client::login`]. The number of the server's error where it refuses.
    pub fn log_in(mut self, login: &Login) -> Result<Self, u16> {
        let payload = self.response(login)?;
        self.write(&payload);
        let plugin = self.plugin.clone();
        self.authenticate(&plugin, &login.password).expect_ok()?;
        Ok(self)
    }

    /// Reads the greeting; gives the payload that answers it.
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

    /// Takes from a greeting what the answer needs; the plugin it names.
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

    /// COM_CHANGE_USER, to the end of its authentication.
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

    /// What a plugin puts into the first packet that carries any of it.
    pub fn scramble(&self, plugin: &str, password: &str) -> Vec<u8> {
        if plugin == "sha256_password" && !password.is_empty() {
            // Asks for the public key.
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

    /// The plugin that an AuthSwitchRequest names, and the answer to it.
    pub fn read_auth_switch(&mut self, packet: &[u8], password: &str) -> (String, Vec<u8>) {
        let rest = &packet[1..];
        let end = rest.iter().position(|byte| *byte == 0).expect("a plugin's name");
        let plugin = String::from_utf8_lossy(&rest[..end]).into_owned();
        let nonce = &rest[end + 1..];
        // Servers end it with a NUL that is not part of it; ed25519's has none.
        self.nonce = nonce.strip_suffix(&[0]).unwrap_or(nonce).to_vec();
        let scramble = self.scramble(&plugin, password);
        (plugin, scramble)
    }

    /// Answers the server until it decides.
    pub fn authenticate(&mut self, plugin: &str, password: &str) -> Response {
        let mut plugin = plugin.to_owned();
        let mut answer = Response(Vec::new());
        loop {
            let packet = self.packet();
            answer.0.push(packet.clone());
            match packet.as_slice() {
                [0x00 | 0xff, ..] => return answer,
                [0xfe] => {
                    plugin = "mysql_old_password".into();
                    let scramble = self.scramble(&plugin, password);
                    self.write(&scramble);
                }
                [0xfe, ..] => {
                    let (asked_for, scramble) = self.read_auth_switch(&packet, password);
                    plugin = asked_for;
                    self.write(&scramble);
                }
                // caching_sha2_password: known here already.
                [0x01, 0x03] => {}
                // And not known: the whole password, so first the key for it.
                [0x01, 0x04] => self.write(&[2]),
                [0x01, pem @ ..] if pem.starts_with(b"-----BEGIN") => {
                    let mut secret = [password.as_bytes(), &[0]].concat();
                    secret.iter_mut().zip(self.nonce.iter().cycle()).for_each(|(byte, pad)| *byte ^= pad);
                    let encrypted = encrypt(&secret, pem);
                    self.write(&encrypted);
                }
                other => panic!("{plugin} asks for something unknown: {other:02x?}"),
            }
        }
    }

    /// Writes these bytes as they are.
    pub fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("a server that takes bytes");
    }

    /// The same to one who may have closed the connection.
    pub fn try_send(&mut self, bytes: &[u8]) -> Option<()> {
        self.stream.write_all(bytes).ok()
    }

    /// The next packet of the current exchange.
    pub fn write(&mut self, payload: &[u8]) {
        let bytes = packet(self.sequence_id, payload);
        self.sequence_id = self.sequence_id.wrapping_add((bytes.len() - payload.len()).div_euclid(4) as u8);
        self.send(&bytes);
    }

    /// The first packet of an exchange.
    pub fn command(&mut self, payload: &[u8]) {
        self.sequence_id = 0;
        self.write(payload);
    }

    /// Several commands in one write; the answers are for the caller to read.
    pub fn pipeline(&mut self, payloads: &[&[u8]]) {
        let bytes: Vec<u8> = payloads.iter().flat_map(|payload| packet(0, payload)).collect();
        self.send(&bytes);
    }

    /// The server's next packet; panics where it has ended.
    pub fn packet(&mut self) -> Vec<u8> {
        self.next_packet().expect("a packet of the server")
    }

    /// The server's next packet, unless it has ended.
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

    /// The server sends what it still has, and ends its stream.
    pub fn closes(&mut self) -> bool {
        while self.next_packet().is_some() {}
        true
    }

    /// The server has ended its stream, now or within a moment.
    pub fn is_closed(&self) -> bool {
        self.stream.set_read_timeout(Some(Duration::from_millis(200))).expect("a time-out");
        let closed = matches!(self.stream.peek(&mut [0]), Ok(0));
        self.stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
        closed
    }

    /// The server has ended its stream by now; answers that nobody has read hide it.
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

    /// One packet, whatever it is: OK, ERR, EOF, text.
    pub fn single(&mut self) -> Response {
        Response(vec![self.packet()])
    }

    /// Packets up to an EOF, or an OK in its place, or an error: COM_FIELD_LIST, COM_STMT_FETCH, COM_BINLOG_DUMP.
    pub fn until_eof(&mut self) -> Response {
        let mut answer = Response(Vec::new());
        while !self.ends(&mut answer) {}
        answer
    }

    /// A COM_STMT_PREPARE's answer. The counts must not have overflowed.
    pub fn prepare_response(&mut self) -> Response {
        let mut answer = self.single();
        let first = answer.0[0].clone();
        if first[0] == 0xff {
            return answer;
        }
        // Where the definitions are left out, their EOFs are not.
        let left_out = self.has(OPTIONAL_METADATA) && first.get(12) == Some(&0);
        let count = |at: usize| u16::from_le_bytes([first[at], first[at + 1]]);
        for definitions in [count(7), count(5)].into_iter().filter(|definitions| *definitions > 0) {
            let definitions = if left_out { 0 } else { definitions };
            for _ in 0..definitions + u16::from(!self.has(DEPRECATE_EOF)) {
                answer.0.push(self.packet());
            }
        }
        answer
    }

    /// The answer to a statement, all its results; up to the request where the server asks for a file.
    pub fn results(&mut self) -> Response {
        self.results_of(false)
    }

    /// The same; `cursor`: the client asked for a cursor, so the rows may wait for COM_STMT_FETCH. To a client that did not,
    /// the status flag says nothing, because MariaDB sets it also where a routine has a cursor open.
    fn results_of(&mut self, cursor: bool) -> Response {
        let mut answer = Response(Vec::new());
        loop {
            let first = self.packet();
            answer.0.push(first.clone());
            let status = match first[0] {
                0x00 => ok_status(&first),
                0xff if first[1..3] == [0xff, 0xff] => MORE_RESULTS,
                0xff | 0xfb => return answer,
                _ => match self.result_set(&first, cursor, &mut answer) {
                    Some(status) => status,
                    None => return answer,
                },
            };
            if status & MORE_RESULTS == 0 {
                return answer;
            }
        }
    }

    /// What follows a column count; the status it ends with, if it does not end with an error.
    fn result_set(&mut self, first: &[u8], cursor: bool, answer: &mut Response) -> Option<u16> {
        let (columns, rest) = lenenc(first);
        let optional = self.has(OPTIONAL_METADATA) || self.extended & MARIADB_CACHE_METADATA != 0;
        if !optional || rest != [0] {
            for _ in 0..columns {
                answer.0.push(self.packet());
            }
        }
        let mut follows = 0;
        if !self.has(DEPRECATE_EOF) {
            let eof = self.packet();
            assert_eq!((eof[0], eof.len()), (0xfe, 5), "an EOF behind the definitions");
            answer.0.push(eof.clone());
            let status = u16::from_le_bytes([eof[3], eof[4]]);
            if cursor && status & CURSOR_EXISTS != 0 {
                return Some(status);
            }
            // MySQL forgets to say so in the EOF behind OUT parameters: an OK always follows them.
            if status & PS_OUT_PARAMS != 0 {
                follows = MORE_RESULTS;
            }
        }
        while !self.ends(answer) {}
        let last = answer.0.last()?;
        match (last[0], self.has(DEPRECATE_EOF)) {
            (0xff, _) => None,
            // MySQL sends an EOF nevertheless where a routine handles the error that ended a result set.
            (_, true) if last.len() > 5 => Some(ok_status(last)),
            _ => Some(u16::from_le_bytes([last[3], last[4]]) | follows),
        }
    }

    /// Takes a packet; it is the last of the current group.
    fn ends(&mut self, answer: &mut Response) -> bool {
        let packet = self.packet();
        let longest = if self.has(DEPRECATE_EOF) { 0xff_ffff } else { 9 };
        let ends = packet[0] == 0xff || (packet[0] == 0xfe && packet.len() < longest);
        answer.0.push(packet);
        ends
    }

    fn has(&self, flag: u32) -> bool {
        self.capabilities & flag != 0
    }

    /// COM_QUERY. Has no attributes, but says so where they were agreed on.
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

    /// COM_STMT_PREPARE.
    pub fn prepare(&mut self, statement: &str) -> Response {
        self.command(&[&[0x16], statement.as_bytes()].concat());
        self.prepare_response()
    }

    /// COM_STMT_EXECUTE with texts for parameters; `flags` 1 asks for a cursor.
    pub fn execute(&mut self, statement: u32, flags: u8, parameters: &[&str]) -> Response {
        let payload = self.execute_payload(statement, flags, parameters, &[]);
        self.command(&payload);
        self.results_of(flags & 1 != 0)
    }

    /// COM_STMT_EXECUTE of a CALL. Where a routine has the cursor, its rows do not wait, whatever `flags` ask for.
    pub fn execute_call(&mut self, statement: u32, flags: u8) -> Response {
        let payload = self.execute_payload(statement, flags, &[], &[]);
        self.command(&payload);
        self.results_of(false)
    }

    /// The payload of [`Client::execute`], with query attributes (name, value) behind the parameters.
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

    /// NULL bitmap, types, names, values: none NULL, all texts shorter than 251 bytes.
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

    /// COM_QUIT, and the server's end.
    pub fn quit(mut self) {
        self.command(&[1]);
        assert_eq!(self.next_packet(), None, "the end");
    }
}

impl Response {
    fn expect_ok(&self) -> Result<(), u16> {
        self.errno().map_or(Ok(()), Err)
    }
}

/// A length-encoded integer at the front, and what follows it.
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

/// `length, (key, value)*`, all of it short.
fn attributes(attributes: &[(String, String)]) -> Vec<u8> {
    let texts = attributes.iter().flat_map(|(name, value)| [name, value]);
    let block: Vec<u8> = texts.flat_map(|text| [&[text.len() as u8], text.as_bytes()].concat()).collect();
    [&[u8::try_from(block.len()).expect("short attributes")], block.as_slice()].concat()
}
