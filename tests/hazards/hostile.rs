//! A hostile server. It accepts each login, responds correctly to a few commands, and then sends random packets, including
//! requests for a file.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use firstword_testing::hostile::{Id, Numbers, Piece, Style, pick, progress};
use firstword_testing::loopback;
use firstword_testing::packets::*;
use firstword_testing::random::Random;

const LONG_PASSWORD: u32 = 1;
const LOCAL_FILES: u32 = 1 << 7;
const MULTI_RESULTS: u32 = 1 << 17;
const SESSION_TRACK: u32 = 1 << 23;
const OPTIONAL_METADATA: u32 = 1 << 25;
/// All flags of MySQL 8.0 up to OPTIONAL_RESULTSET_METADATA, without TLS and compression.
const ALL: u32 = 0x03ff_f7df;

/// Maximum silence of a client. One that is silent longer waits for a packet, so the server closes.
const MAX_SILENCE: Duration = Duration::from_millis(100);
/// Maximum silence of a client that starts.
const MAX_START: Duration = Duration::from_secs(5);

/// State that all connections share.
#[derive(Debug, Default)]
struct Shared {
    first_seed: u64,
    connections: u64,
    ended: u64,
    stolen: Vec<Stolen>,
}

/// A connection on which the file arrived.
#[derive(Clone, Debug)]
pub struct Stolen {
    pub seed: u64,
    /// Packets of both sides, in order.
    pub log: Vec<String>,
}

/// Results of all connections since [`Hostile::set_seed`].
#[derive(Debug)]
pub struct Results {
    pub connections: u64,
    pub stolen: Vec<Stolen>,
}

/// The server.
pub struct Hostile {
    address: SocketAddr,
    shared: Arc<Mutex<Shared>>,
}

impl Hostile {
    /// Starts a server that requests this file, and looks for these bytes of it. It ends with the test's process.
    pub fn start(file: &str, marker: &'static [u8]) -> Self {
        let listener = TcpListener::bind(loopback(0)).expect("a port on loopback");
        let address = listener.local_addr().expect("a bound address");
        let shared: Arc<Mutex<Shared>> = Arc::default();
        let (for_threads, file) = (Arc::clone(&shared), file.to_owned());
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let (shared, file) = (Arc::clone(&for_threads), file.clone());
                thread::spawn(move || {
                    let seed = {
                        let mut shared = shared.lock().expect("no panic");
                        shared.connections += 1;
                        shared.first_seed.wrapping_add(shared.connections - 1)
                    };
                    let mut connection = Connection::new(client, &file, seed);
                    // Ignore an error, because the client may close.
                    let _ = connection.serve();
                    let mut shared = shared.lock().expect("no panic");
                    shared.ended += 1;
                    if connection.received.windows(marker.len()).any(|window| window == marker) {
                        shared.stolen.push(Stolen { seed, log: std::mem::take(&mut connection.log) });
                    }
                });
            }
        });
        Self { address, shared }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Sets the seed of the next connection. Each further connection has the next number.
    pub fn set_seed(&self, seed: u64) {
        let mut shared = self.shared.lock().expect("no panic");
        *shared = Shared { first_seed: seed, ..Shared::default() };
    }

    /// Results since [`Hostile::set_seed`]. `None` while a connection is open.
    pub fn results(&self) -> Option<Results> {
        let shared = self.shared.lock().expect("no panic");
        let Shared { connections, ended, stolen, .. } = &*shared;
        (connections == ended).then(|| Results { connections: *connections, stolen: stolen.clone() })
    }
}

struct Connection {
    client: TcpStream,
    random: Random,
    style: Style,
    capabilities: u32,
    numbers: Numbers,
    /// Bytes from the client.
    received: Vec<u8>,
    /// Number of bytes that were read as packets.
    read: usize,
    log: Vec<String>,
}

impl Connection {
    fn new(client: TcpStream, file: &str, seed: u64) -> Self {
        let mut random = Random::from_seed(seed);
        let mut capabilities = ALL;
        for flag in [CLIENT_DEPRECATE_EOF, OPTIONAL_METADATA, LONG_PASSWORD] {
            if random.below(2) == 0 {
                capabilities &= !flag;
            }
        }
        for flag in [LOCAL_FILES, MULTI_RESULTS, SESSION_TRACK] {
            if random.below(4) == 0 {
                capabilities &= !flag;
            }
        }
        let style = Style {
            deprecate_eof: capabilities & CLIENT_DEPRECATE_EOF != 0,
            optional_metadata: false,
            file: file.to_owned(),
            has_long: random.below(10) == 0,
        };
        let (numbers, received) = (Numbers::default(), Vec::new());
        Self { client, random, style, capabilities, numbers, received, read: 0, log: Vec::new() }
    }

    fn serve(&mut self) -> std::io::Result<()> {
        self.client.set_nodelay(true)?;
        self.client.set_read_timeout(Some(MAX_START))?;
        if !self.accept_login()? {
            return Ok(());
        }
        let mut correct = self.random.below(8);
        while let Some((id, packet)) = self.packet()? {
            self.client.set_read_timeout(Some(MAX_SILENCE))?;
            if id != 0 {
                // A part of a file. An empty packet is its end.
                if packet.is_empty() {
                    let next = if self.random.below(3) > 0 { id.wrapping_add(1) } else { 1 };
                    self.send(&[Piece::Packet(Id::Fixed(next), ok())])?;
                }
                continue;
            }
            let command = packet.first().copied().unwrap_or(0);
            self.numbers.next = 1;
            match command {
                COM_QUIT => break,
                COM_STMT_CLOSE | COM_STMT_SEND_LONG_DATA => {}
                _ if correct > 0 => {
                    correct -= 1;
                    let response = self.correct_response(command, &packet);
                    let pieces: Vec<_> =
                        response.into_iter().map(|payload| Piece::Packet(Id::Next, payload)).collect();
                    self.send(&pieces)?;
                    if correct == 0 && self.random.below(4) == 0 {
                        let pieces = self.style.unsolicited(&mut self.random);
                        self.send(&pieces)?;
                    }
                }
                _ => {
                    let mut pieces = self.style.response(command, &mut self.random);
                    if self.random.below(20) == 0 {
                        pieces.push(self.style.broken(&mut self.random));
                    }
                    self.send(&pieces)?;
                }
            }
        }
        Ok(())
    }

    /// Sends the greeting and accepts the login, mostly without violations. Returns whether the client is logged in.
    fn accept_login(&mut self) -> std::io::Result<bool> {
        let anomaly = self.random.below(16);
        let version =
            if self.capabilities & LONG_PASSWORD == 0 { "5.5.5-10.11.19-MariaDB" } else { "8.0.36" };
        let mut greeting = handshake_v10(version, self.capabilities);
        let mut id = 0;
        match anomaly {
            0 => id = 1 + self.random.below(255) as u8,
            1 => greeting.extend(vec![0; 5000]),
            2 => self.send(&[Piece::Packet(Id::Fixed(0), progress(&mut Random::from_seed(0)))])?,
            _ => {}
        }
        self.send(&[Piece::Packet(Id::Fixed(id), greeting)])?;
        let Some((mut id, response)) = self.packet()? else { return Ok(false) };
        self.numbers.next = id.wrapping_add(1);
        for _ in 0..*pick(&mut self.random, &[0, 0, 0, 0, 0, 0, 1, 2]) {
            let payload = match self.random.below(4) {
                0 => local_infile(&self.style.file),
                1 => progress(&mut self.random),
                2 => auth_switch("mysql_native_password"),
                _ => self.style.any(&mut self.random),
            };
            let is_switch = payload.first() == Some(&0xfe) && payload.len() > 9;
            self.send(&[Piece::Packet(Id::Next, payload)])?;
            if is_switch {
                let Some((switched, _)) = self.packet()? else { return Ok(false) };
                id = switched;
                self.numbers.next = id.wrapping_add(1);
            }
        }
        let plugin = b"caching_sha2_password";
        if response.windows(plugin.len()).any(|window| window == plugin) {
            // Pretend that the password is in the server's cache.
            self.send(&[Piece::Packet(Id::Next, b"\x01\x03".to_vec())])?;
        }
        self.send(&[Piece::Packet(Id::Next, ok())])?;
        Ok(true)
    }

    /// A correct response. Clients query variables when they connect.
    fn correct_response(&mut self, command: u8, packet: &[u8]) -> Vec<Vec<u8>> {
        let text = String::from_utf8_lossy(packet.get(1..).unwrap_or_default()).into_owned();
        let is_select = text.to_ascii_uppercase().contains("SELECT");
        let set = |columns: &[(String, String)]| {
            let mut payloads = vec![column_count(columns.len() as u8)];
            payloads.extend(columns.iter().map(|(name, _)| column_def(name)));
            payloads.extend((!self.style.deprecate_eof).then(|| eof(AUTOCOMMIT)));
            payloads.push(row(&columns.iter().map(|(_, value)| value.as_str()).collect::<Vec<_>>()));
            payloads.push(if self.style.deprecate_eof { ok_as_eof(AUTOCOMMIT) } else { eof(AUTOCOMMIT) });
            payloads
        };
        match command {
            COM_QUERY if is_select && text.contains("@@") => set(&variables(&text)),
            COM_QUERY if is_select => set(&[("1".to_owned(), "1".to_owned())]),
            COM_STMT_PREPARE => {
                let params = u16::from(text.contains('?'));
                let columns = u16::from(is_select);
                let mut payloads = vec![prepare_ok(columns, params)];
                for _ in 0..params + columns {
                    payloads.push(column_def("a"));
                    payloads.extend((!self.style.deprecate_eof).then(|| eof(AUTOCOMMIT)));
                }
                payloads
            }
            0x09 => vec![b"Uptime: 7  Threads: 1  Questions: 1".to_vec()],
            _ => vec![ok()],
        }
    }

    fn send(&mut self, pieces: &[Piece]) -> std::io::Result<()> {
        self.log.push(format!("server: {pieces:?}"));
        let mut bytes: Vec<u8> = pieces.iter().flat_map(|piece| self.numbers.bytes(piece)).collect();
        if self.random.below(4) == 0 {
            let cut = self.random.below(bytes.len().min(600) + 1);
            let rest = bytes.split_off(cut);
            self.client.write_all(&bytes)?;
            thread::sleep(Duration::from_millis(2));
            bytes = rest;
        }
        self.client.write_all(&bytes)
    }

    /// Sequence id and payload of the next packet. `None` at the end, or after a silence.
    fn packet(&mut self) -> std::io::Result<Option<(u8, Vec<u8>)>> {
        loop {
            let unread = &self.received[self.read..];
            if let [l0, l1, l2, id, rest @ ..] = unread {
                let len = u32::from_le_bytes([*l0, *l1, *l2, 0]) as usize;
                if let Some(payload) = rest.get(..len) {
                    let packet = (*id, payload.to_vec());
                    let shown = payload[..len.min(60)].escape_ascii();
                    self.log.push(format!("client: id {id}, {len} bytes: {shown}"));
                    self.read += 4 + len;
                    return Ok(Some(packet));
                }
            }
            let mut bytes = [0; 4096];
            match self.client.read(&mut bytes) {
                Ok(0) => return Ok(None),
                Ok(size) => self.received.extend(&bytes[..size]),
                Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => return Ok(None),
                Err(e) => return Err(e),
            }
        }
    }
}

/// Variables that a SELECT queries, with values that clients accept.
fn variables(text: &str) -> Vec<(String, String)> {
    let named = text.split("@@").skip(1).map(|item| {
        let item = item.split(',').next().unwrap_or_default();
        let words: Vec<_> =
            item.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|w| !w.is_empty()).collect();
        let words: Vec<_> = words.iter().copied().filter(|w| !["session", "global"].contains(w)).collect();
        let variable = words.first().copied().unwrap_or("a");
        let name = match words.get(1..) {
            Some([alias, name, ..]) if alias.eq_ignore_ascii_case("as") => *name,
            _ => variable,
        };
        let value = match variable {
            "max_allowed_packet" => "16777216",
            "auto_increment_increment" | "autocommit" => "1",
            "wait_timeout" | "interactive_timeout" | "net_write_timeout" => "28800",
            "time_zone" => "SYSTEM",
            "system_time_zone" => "UTC",
            "tx_isolation" | "transaction_isolation" => "REPEATABLE-READ",
            "version" => "8.0.36",
            name if name.starts_with("character_set") => "utf8mb4",
            name if name.starts_with("collation") => "utf8mb4_general_ci",
            _ => "0",
        };
        (name.to_owned(), value.to_owned())
    });
    named.collect()
}
