//! Search for hostile connections that need more memory than the budget: random clients and servers through the whole filter.
//!
//! After every callback:
//! - The memory that the filter counts is at most `limits.connection_state`.
//! - Its heap is at most that, plus [`FIXED`], plus [`OUTSIDE`] for each open connection.
//! - All bytes are forwarded in order, unless a rule changes bytes or protects the connection.
//!
//! After the end of all connections no memory is counted, all gauges are zero, and the heap has grown by at most [`FIXED`].

mod peers;

use std::time::Duration;

use serde_json::json;

use crate::budget::search;
use crate::host::{Ending, ORDERS, Outcome, Plugin, Stream, Vm, count};
use firstword_testing::packets::{CLIENT_CAPABILITIES, greeting, handshake_response, ok, packet};
use firstword_testing::random::Random;
use peers::Owed;

/// Memory of the configuration, its metrics and the lists that callbacks share, in bytes.
const FIXED: isize = 512 << 10;
/// Memory of a connection that the budget does not count, in bytes: the context of the SDK.
const OUTSIDE: isize = 512;
/// Maximum memory that a callback needs until it returns, in bytes: without a chunk, and with one, in addition to
/// [`MAX_TEMPORARY_PER_BYTE`].
const MAX_TEMPORARY: [isize; 2] = [1 << 20, 5 << 20];
/// Maximum memory for each byte of a chunk: the chunk itself, and the bytes that replace it.
const MAX_TEMPORARY_PER_BYTE: isize = 3;
/// Maximum number of the server's bytes that are held on one connection.
const MAX_HELD: usize = 64 << 10;

/// Configuration of a run.
struct Settings {
    json: String,
    limit: usize,
    /// True if a rule for PROXY headers applies to all connections.
    proxy: bool,
    sends: bool,
    blocks: bool,
    /// Kind of the batches of all clients. `None` if the kinds are random.
    theme: Option<usize>,
}

fn settings(random: &mut Random) -> Settings {
    let mut one_in = |n: usize| random.below(n) == 0;
    let (receives, sends, blocks, requests) = (one_in(4), one_in(6), one_in(2), one_in(5));
    let mut mysql = json!({"slow_command": if one_in(2) { "1ms" } else { "0s" }});
    if !requests {
        mysql["hold_split_eof"] = if one_in(2) { "always".into() } else { "off".into() };
        mysql["block_local_infile"] = blocks.into();
    } else {
        mysql = json!({"inspect": "requests"});
    }
    let mut rule = json!({"protocol": "mysql", "mysql": mysql});
    if receives {
        let connect = if one_in(2) { "after_header" } else { "immediately" };
        let mode = if one_in(2) { "optional" } else { "required" };
        // The connection to the server can wait for a header only if the header is required.
        let connect = if mode == "optional" { "immediately" } else { connect };
        rule["proxy_protocol"]["receive"] =
            json!({"mode": mode, "trusted_networks": ["*"], "connect_upstream": connect, "timeout": "1s"});
    }
    if sends {
        rule["proxy_protocol"]["send"] = json!({"mode": "with_first_client_bytes"});
    }
    let limit = 1 << (20 + random.below(2));
    let mut json = json!({
        "rules": [rule],
        "log": {"level": "warn", "max_per_minute": 100},
        "limits": {"connection_state": format!("{}KiB", limit / 1024)},
    });
    if random.below(2) == 0 {
        json["access_log"] = json!(["user", "schema", "client", "commands"]);
    }
    let json = json.to_string();
    let theme = [Some(peers::PREPARES), Some(random.below(peers::KINDS)), None][random.below(3)];
    Settings { theme, json, limit, proxy: receives || sends, sends, blocks: blocks && !requests }
}

/// One connection, and the state of its peers.
struct Connection {
    stream: Stream,
    greeted: bool,
    logged_in: bool,
    accepted: bool,
    owed: Vec<Owed>,
    next_id: u32,
    /// Bytes of the server that were not forwarded yet.
    pending: Vec<u8>,
    /// Bytes of the client that are held until the decision about the PROXY header.
    held: Vec<u8>,
    decided: bool,
    /// True once a rule has ended it.
    is_blocked: bool,
}

impl Connection {
    fn client(&mut self, settings: &Settings, bytes: &[u8]) {
        let (outcome, calls) = self.stream.pass_client(bytes, false);
        let mut offered = std::mem::take(&mut self.held);
        offered.extend(bytes);
        match outcome {
            Outcome::Forwarded(forwarded) if self.decided && forwarded == offered => {}
            Outcome::Forwarded(forwarded) if forwarded.is_empty() && settings.blocks => {
                self.is_blocked = true
            }
            Outcome::Forwarded(forwarded) => {
                assert!(
                    !self.decided && settings.proxy,
                    "the client's bytes were changed: {offered:?} to {forwarded:?}, {}",
                    settings.json
                );
                // The server gets its header with the client's first bytes after the received header.
                self.decided = !forwarded.is_empty();
                let line = forwarded.windows(2).position(|end| end == b"\r\n").filter(|_| settings.sends);
                let own = line.filter(|_| forwarded.starts_with(b"PROXY ")).map_or(0, |line| line + 2);
                assert!(offered.ends_with(&forwarded[own..]), "the client's bytes were changed");
            }
            Outcome::Held => {
                assert!(settings.proxy, "a callback holds bytes: {calls:?}");
                self.held = offered;
            }
            Outcome::Closed => {
                assert!(settings.proxy || settings.blocks, "a connection is closed: {calls:?}");
                self.is_blocked = true;
            }
        }
    }

    fn server(&mut self, settings: &Settings, bytes: &[u8], end_stream: bool) {
        let (forwarded, _) = self.stream.pass_server(bytes, end_stream);
        self.pending.extend(bytes);
        if self.is_blocked || settings.blocks && !self.pending.starts_with(&forwarded) {
            // The client may still get an error.
            self.is_blocked = true;
            self.pending.clear();
            return;
        }
        assert!(self.pending.starts_with(&forwarded), "the server's bytes were changed");
        self.pending.drain(..forwarded.len());
        if settings.blocks && self.pending.len() > MAX_HELD {
            // The test cannot distinguish dropped bytes from held bytes.
            self.is_blocked = true;
            self.pending.clear();
        }
        assert!(self.pending.len() <= MAX_HELD, "{} bytes are held", self.pending.len());
        if end_stream && !settings.blocks {
            assert_eq!(self.pending.len(), 0, "bytes that are never forwarded");
        }
    }

    /// Makes one of the peers send bytes. Returns the length of the chunk, including held bytes.
    fn act(&mut self, random: &mut Random, settings: &Settings) -> usize {
        let from_client = |this: &mut Self, bytes: Vec<u8>| {
            this.client(settings, &bytes);
            bytes.len() + this.held.len()
        };
        let from_server = |this: &mut Self, bytes: Vec<u8>| {
            this.server(settings, &bytes, false);
            bytes.len() + this.pending.len()
        };
        if random.below(40) == 0 {
            let bytes = peers::noise(random);
            return from_client(self, bytes);
        }
        if !self.greeted && !settings.proxy && random.below(10) < 8 {
            (self.greeted, self.logged_in, self.accepted) = (true, true, true);
            self.server(settings, &greeting(), false);
            self.client(settings, &packet(1, &handshake_response(CLIENT_CAPABILITIES)));
            return from_server(self, packet(2, &ok()));
        }
        if !self.greeted {
            self.greeted = true;
            if settings.proxy {
                let header = peers::proxy_header(random);
                self.client(settings, &header);
            }
            let bytes = peers::first(random);
            return from_server(self, bytes);
        }
        if !self.logged_in {
            self.logged_in = true;
            let bytes = peers::login(random);
            return from_client(self, bytes);
        }
        if !self.accepted {
            self.accepted = true;
            return from_server(self, packet(2, &ok()));
        }
        match random.below(20) {
            0 => {
                let bytes = peers::rogue(random);
                from_server(self, bytes)
            }
            1..8 if !self.owed.is_empty() => {
                let pausing = if settings.theme == Some(peers::PREPARES) { 2 } else { 50 };
                let bytes = peers::responses(random, pausing, &mut self.owed, &mut self.next_id);
                from_server(self, bytes)
            }
            8 => {
                let login = packet(2, &handshake_response(CLIENT_CAPABILITIES));
                self.client(settings, &login);
                from_server(self, packet(3, &ok()))
            }
            _ => {
                let kind = settings.theme.unwrap_or_else(|| random.below(peers::KINDS));
                let bytes = peers::batch(random, kind, &mut self.owed);
                let mut sent = 0;
                // In one callback or in several callbacks.
                let size = [bytes.len(), 16 << 10, 700][random.below(3)].max(1);
                for piece in bytes.chunks(size).take(400) {
                    sent = sent.max(from_client(self, piece.to_vec()));
                }
                sent
            }
        }
    }
}

fn open(plugin: &Plugin, settings: &Settings) -> Option<Connection> {
    let (stream, _, calls) = plugin.connect_from(Some("10.9.9.9:4000"), &ORDERS);
    if count(&calls, "close_stream") > 0 {
        assert!(settings.proxy || settings.blocks, "a connection is refused");
        stream.close(Ending::Drain);
        return None;
    }
    Some(Connection {
        stream,
        greeted: false,
        logged_in: false,
        accepted: false,
        owed: Vec::new(),
        next_id: 0,
        pending: Vec::new(),
        held: Vec::new(),
        decided: !settings.proxy,
        is_blocked: false,
    })
}

/// Asserts the properties after a callback with a chunk of `chunk` bytes.
fn check(vm: &Vm, settings: &Settings, base: isize, open: usize, chunk: usize) {
    let counted = firstword::filter::budget::connection_state();
    assert!(counted <= settings.limit, "{counted} bytes of connection state, {}", settings.json);
    let allowed = counted as isize + FIXED + OUTSIDE * open as isize;
    let heap = vm.heap() - base;
    assert!(heap <= allowed, "{heap} bytes on the heap, {counted} counted, {}", settings.json);
    let temporary = MAX_TEMPORARY[usize::from(chunk > 0)] + MAX_TEMPORARY_PER_BYTE * chunk as isize;
    let peak = vm.peak() - base;
    assert!(
        peak <= settings.limit as isize + FIXED + OUTSIDE * open as isize + temporary,
        "{peak} at the peak"
    );
}

fn ending(random: &mut Random, settings: &Settings) -> Ending {
    // The end of a stream before a header closes the connection, which the driver of endings does not expect.
    let endings: &[Ending] = if settings.proxy {
        &[Ending::ClientReset, Ending::ServerReset, Ending::Drain, Ending::TornDown]
    } else {
        &Ending::ALL
    };
    endings[random.below(endings.len())]
}

fn run(random: &mut Random) {
    let settings = settings(random);
    let vm = Vm::start();
    let plugin = vm.plugin(&settings.json);
    let base = vm.heap();
    let mut connections: Vec<Connection> = Vec::new();
    let most = [3, 40, 600][random.below(3)];
    for _ in 0..random.below(600) {
        let mut chunk = 0;
        match random.below(30) {
            0 => drop(plugin.tick()),
            1 => vm.advance(Duration::from_millis(random.below(2_000) as u64)),
            2 if !connections.is_empty() => {
                let mut connection = connections.swap_remove(random.below(connections.len()));
                if random.below(2) == 0 {
                    connection.server(&settings, b"", true);
                }
                connection.stream.close(ending(random, &settings));
            }
            _ if connections.len() < most && random.below(10) == 0 || connections.is_empty() => {
                for _ in 0..=random.below(most) {
                    connections.extend(open(&plugin, &settings));
                }
            }
            _ => {
                let index = random.below(connections.len());
                chunk = connections[index].act(random, &settings);
            }
        }
        drop(vm.log());
        check(&vm, &settings, base, connections.len(), chunk);
    }
    for connection in connections.drain(..) {
        connection.stream.close(ending(random, &settings));
    }
    plugin.flush();
    assert_eq!(firstword::filter::budget::connection_state(), 0);
    assert!(vm.heap() - base <= FIXED, "{} bytes are left", vm.heap() - base);
    let gauges =
        ["active", "in_flight", "stalled", "statements_open", "transactions_open", "connection_state_bytes"];
    for (name, value) in vm.metrics() {
        let is_gauge = gauges.iter().any(|gauge| name.ends_with(gauge));
        assert!(!is_gauge || value == 0, "{name} is {value}");
    }
    plugin.end();
}

#[test]
fn hostile_peers_never_exceed_the_budget() {
    search(run);
}
