//! Search for a way to bypass a decision by account.
//!
//! Envoy's RBAC filter reads the access-log state once for each callback, after this filter and before the server gets the
//! bytes. A model of a server reads the forwarded bytes as MariaDB and MySQL do: strict about sequence ids, TLS after an
//! accepted SSLRequest, commands after the login. It must never get a complete packet that names a denied account.

use crate::budget::search;
use crate::host::{Ending, ORDERS, Plugin, Vm};
use firstword_testing::packets::packet;
use firstword_testing::random::Random;

const PROTOCOL_41: u32 = 1 << 9;
const SSL: u32 = 1 << 11;
const SECURE_CONNECTION: u32 = 1 << 15;
const PLUGIN_AUTH: u32 = 1 << 19;
/// Capabilities of the server, including LONG_PASSWORD, CONNECT_WITH_DB and LOCAL_FILES.
const SERVER: u32 = 1 | 1 << 3 | 1 << 7 | PROTOCOL_41 | SSL | SECURE_CONNECTION | PLUGIN_AUTH;

/// Accounts that may connect. The second letter is `n` for no password, or `p` for a password.
const ALLOWED: [&str; 2] = ["an", "ap"];
/// Accounts that may not connect.
const DENIED: [&str; 2] = ["en", "ep"];

/// Keys of an administrator's policy: `envoy/rbac-by-user.yaml` uses both, but an administrator can forget the second.
const POLICIES: [&str; 2] = [r#"["user", "opaque_reason"]"#, r#"["user"]"#];

/// The next packet that the server expects of its client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expects {
    /// A handshake response with this id.
    Login(u8),
    /// The next packet of an authentication.
    Secret(u8),
    Command,
    /// A piece of a file.
    File(u8),
    /// TLS, which the filter cannot read.
    Tls,
    /// The server has closed the connection.
    Nothing,
}

/// Model of a server that authenticates accounts.
struct Server {
    expects: Expects,
    unread: Vec<u8>,
    /// Responses that were not sent yet.
    responses: Vec<Vec<u8>>,
}

impl Server {
    fn new() -> Self {
        Self { expects: Expects::Login(1), unread: Vec::new(), responses: Vec::new() }
    }

    /// Reads bytes. Returns the denied account that a packet names, or that a byte inside TLS can name.
    fn read(&mut self, bytes: &[u8]) -> Option<String> {
        self.unread.extend_from_slice(bytes);
        loop {
            if self.expects == Expects::Tls && !self.unread.is_empty() {
                return Some("any account, inside TLS".into());
            }
            let header: [u8; 4] = self.unread.get(..4)?.try_into().ok()?;
            let length = u32::from_le_bytes([header[0], header[1], header[2], 0]) as usize;
            if self.unread.len() < 4 + length || self.expects == Expects::Nothing {
                return None;
            }
            let payload: Vec<u8> = self.unread.drain(..4 + length).skip(4).collect();
            let account = self.packet(header[3], &payload);
            if account.as_ref().is_some_and(|account| !ALLOWED.contains(&account.as_str())) {
                return account;
            }
        }
    }

    /// Takes a packet. Returns the account that it names.
    fn packet(&mut self, id: u8, payload: &[u8]) -> Option<String> {
        match self.expects {
            Expects::Login(expected) if expected == id => {
                let flags = payload.get(..4).map_or(0, |flags| u32::from_le_bytes(flags.try_into().unwrap()));
                if flags & SSL != 0 {
                    self.expects = Expects::Tls;
                    return None;
                }
                let user = payload.get(32..).and_then(until_nul);
                self.authenticates(id, user)
            }
            Expects::Secret(expected) if expected == id => {
                self.accepts(id);
                None
            }
            Expects::File(expected) if expected == id => {
                self.expects = Expects::File(id.wrapping_add(1));
                if payload.is_empty() {
                    self.accepts(id);
                }
                None
            }
            Expects::Command if id == 0 => match payload.first() {
                Some(0x01) => {
                    self.expects = Expects::Nothing;
                    None
                }
                Some(0x11) if payload.len() == 1 => {
                    self.responses.push(packet(1, &greeting()));
                    self.expects = Expects::Login(2);
                    None
                }
                Some(0x11) => self.authenticates(id, until_nul(&payload[1..])),
                Some(0x03) if payload.ends_with(b"'f'") => {
                    self.responses.push(packet(1, b"\xfbf"));
                    self.expects = Expects::File(2);
                    None
                }
                _ => {
                    self.accepts(id);
                    None
                }
            },
            _ => {
                self.expects = Expects::Nothing;
                None
            }
        }
    }

    fn accepts(&mut self, id: u8) {
        self.responses.push(packet(id.wrapping_add(1), b"\0\0\0\x02\0\0\0"));
        self.expects = Expects::Command;
    }

    /// Accepts an account without a password at once, and requests a secret of any other account.
    fn authenticates(&mut self, id: u8, user: Option<&[u8]>) -> Option<String> {
        let user = String::from_utf8_lossy(user.unwrap_or_default()).into_owned();
        if user.ends_with('n') {
            self.accepts(id);
        } else {
            self.responses.push(packet(id.wrapping_add(1), b"\xfedialog\0Password: "));
            self.expects = Expects::Secret(id.wrapping_add(2));
        }
        Some(user)
    }
}

fn until_nul(bytes: &[u8]) -> Option<&[u8]> {
    bytes.split(|byte| *byte == 0).next().filter(|text| text.len() < bytes.len())
}

fn greeting() -> Vec<u8> {
    let [a, b, c, d] = SERVER.to_le_bytes();
    let front =
        [b"\x0a5.5.5-10.11.19-MariaDB\0\x07\0\0\0\x31\x32\x33\x34\x35\x36\x37\x38\0".as_slice(), &[a, b]];
    [&front.concat()[..], b"\x2d\x02\0", &[c, d, 21], &[0; 10], b"123456789012\0dialog\0"].concat()
}

/// Random payload of a client, with its sequence id. `None` for the next id.
fn payload(random: &mut Random) -> (Option<u8>, Vec<u8>) {
    let users = [ALLOWED[0], ALLOWED[1], DENIED[0], DENIED[1], ALLOWED[1]];
    let user = users[random.below(users.len())].as_bytes();
    let response = |flags: u32| {
        let front = [flags.to_le_bytes().as_slice(), &[0, 0, 0, 1, 45], &[0; 23]].concat();
        [&front[..], user, b"\0\x01s", b"dialog\0"].concat()
    };
    let change = [b"\x11", user, b"\0\x01s\0\x2d\0dialog\0"].concat();
    match random.below(16) {
        0 => (Some(1), response(SERVER & !SSL)),
        1 => (None, response(SERVER & !SSL)),
        2 => (Some(1), response(SERVER)[..32].to_vec()),
        3 => (Some(1), response(SERVER)),
        4..=7 => (Some(0), change),
        8 => (Some(0), b"\x11".to_vec()),
        9 => (Some(0), b"\x03LOAD DATA LOCAL INFILE 'f'".to_vec()),
        10 => (None, Vec::new()),
        11 => (Some(0), b"\x01".to_vec()),
        12 => (None, change),
        13 => (Some(0), b"\x0e".to_vec()),
        14 => (Some([0, 1, 2, 255][random.below(4)]), b"a secret".to_vec()),
        _ => (None, b"a secret".to_vec()),
    }
}

/// Next payload of an honest client, so that attacks get deep into a session.
fn honest(random: &mut Random, server: &Server) -> (Option<u8>, Vec<u8>) {
    let user = ALLOWED[random.below(ALLOWED.len())].as_bytes();
    match server.expects {
        Expects::Login(id) => {
            let front = [(SERVER & !SSL).to_le_bytes().as_slice(), &[0, 0, 0, 1, 45], &[0; 23]].concat();
            (Some(id), [&front[..], user, b"\0\x01s", b"dialog\0"].concat())
        }
        Expects::Secret(id) => (Some(id), b"s".to_vec()),
        Expects::File(id) => (Some(id), vec![b'x'; random.below(3)]),
        Expects::Command | Expects::Tls | Expects::Nothing => match random.below(4) {
            0 => (Some(0), [b"\x11", user, b"\0\x01s\0\x2d\0dialog\0"].concat()),
            1 => (Some(0), b"\x03LOAD DATA LOCAL INFILE 'f'".to_vec()),
            2 => (Some(0), b"\x11".to_vec()),
            _ => (Some(0), b"\x0e".to_vec()),
        },
    }
}

/// Numbers of the endings of attacks. They show if the search reaches the decision.
#[derive(Debug, Default)]
struct Endings {
    denied: usize,
    ran_out: usize,
}

/// Plays one hostile client. Returns its chunks if a denied account has reached the server.
fn attack(random: &mut Random, plugin: &Plugin, endings: &mut Endings) -> Option<String> {
    let stream = plugin.connect(&ORDERS);
    let mut server = Server::new();
    let mut sent = Vec::new();
    let mut id = 1;
    stream.pass_server(&packet(0, &greeting()), false);
    let (mut found, mut is_denied) = (None, false);
    // Some clients begin with a random login, with other packets in the same chunk.
    let login = |random: &mut Random| loop {
        let (at, payload) = payload(random);
        if at == Some(1) && payload.len() > 32 {
            return payload;
        }
    };
    let mut pending = if random.below(4) == 0 { packet(1, &login(random)) } else { Vec::new() };
    for _ in 0..20 {
        for _ in 0..[0, 1, 1, 1, 2, 4][random.below(6)] {
            let is_honest = pending.is_empty() && random.below(16) > 0;
            let (at, payload) = if is_honest { honest(random, &server) } else { payload(random) };
            let at = at.unwrap_or(id);
            pending.extend(packet(at, &payload));
            id = at.wrapping_add(if random.below(3) == 0 { 2 } else { 1 });
        }
        let cut = if random.below(3) == 0 { random.below(pending.len() + 1) } else { pending.len() };
        let chunk: Vec<u8> = pending.drain(..cut).collect();
        if !chunk.is_empty() {
            stream.client(&chunk);
            sent.push(chunk.clone());
            let user = stream.state("user");
            let is_allowed = user.as_deref().is_none_or(|user| ALLOWED.contains(&user));
            // The second policy has no key `opaque_reason`.
            if !is_allowed || stream.state("opaque_reason").is_some() {
                is_denied = true;
                break;
            }
            if let Some(account) = server.read(&chunk) {
                found = Some(format!("{account} after {sent:02x?}"));
                break;
            }
        }
        while random.below(3) > 0 && !server.responses.is_empty() {
            let response = server.responses.remove(0);
            id = response[3].wrapping_add(1);
            stream.pass_server(&response, false);
        }
    }
    stream.close(Ending::ClientFin);
    *(if is_denied { &mut endings.denied } else { &mut endings.ran_out }) += 1;
    found
}

#[test]
fn no_denied_account_reaches_the_server() {
    let vm = Vm::start();
    let mut plugins = Vec::new();
    for keys in POLICIES {
        for inspect in ["full", "requests"] {
            for block in [false, inspect == "full"] {
                let rule = format!(
                    r#"{{"access_log": {keys}, "log": {{"level": "off"}}, "rules": [{{"match": {{"ports": [3306]}},
                        "mysql": {{"inspect": "{inspect}", "block_local_infile": {block}}}}}]}}"#
                );
                plugins.push((rule.clone(), vm.plugin(&rule)));
            }
        }
    }
    let mut endings = Endings::default();
    search(|random| {
        for (rule, plugin) in &plugins {
            for _ in 0..20 {
                if let Some(hole) = attack(random, plugin, &mut endings) {
                    panic!("with {rule}: {hole}");
                }
            }
        }
    });
    println!("{endings:?}");
    assert!(endings.denied > 0, "{endings:?}");
}
