//! No number of hostile connections takes more memory than the budget: random clients and servers through the whole filter.
//!
//! After every callback
//! - what the filter counts is at most `limits.connection_state`;
//! - its heap is at most that, [`FIXED`], and [`OUTSIDE`] for each open connection;
//! - what has gone on is what came, in order, unless a rule changes bytes or protects the connection.
//!
//! After all connections have ended nothing is counted, no gauge is left, and the heap is where it began, but for [`FIXED`].

mod peers;

use std::time::Duration;

use serde_json::json;

use crate::budget::search;
use crate::host::{Ending, Led, ORDERS, Plugin, Stream, Vm, count};
use firstword_testing::packets::{CLIENT_CAPABILITIES, greeting, handshake_response, ok, packet};
use firstword_testing::random::Random;
use peers::Owed;

/// Memory of the configuration, its metrics and the lists that callbacks share, in bytes.
const FIXED: isize = 512 << 10;
/// Memory of a connection that the budget does not count, in bytes: the context of the SDK.
const OUTSIDE: isize = 512;
/// Maximum memory that a callback needs until it returns, in bytes: without a chunk, and beyond a multiple of its chunk.
const PASSING: [isize; 2] = [1 << 20, 5 << 20];
/// The multiple: the chunk read whole, and what takes its place.
const PASSING_PER_BYTE: isize = 3;
/// Maximum number of the server's bytes that wait on one connection.
const MAX_HELD: usize = 64 << 10;

/// What a run is configured with.
struct Settings {
    json: String,
    limit: usize,
    /// A rule of PROXY headers holds for all connections.
    proxy: bool,
    sends: bool,
    blocks: bool,
    /// All clients send batches of this kind.
    theme: Option<usize>,
}

fn settings(random: &mut Random) -> Settings {
    let mut one_in = |n: usize| random.below(n) == 0;
    let (receives, sends, blocks, requests) = (one_in(4), one_in(6), one_in(2), one_in(5));
    let mut mysql = json!({"slow_command_ms": if one_in(2) { 1 } else { 0 }});
    if !requests {
        mysql["hold_split_eof"] = if one_in(2) { "always".into() } else { "off".into() };
        mysql["block_local_infile"] = blocks.into();
    } else {
        mysql = json!({"observe": "requests"});
    }
    let mut rule = json!({"protocol": "mysql", "mysql": mysql});
    if receives {
        let connect = if one_in(2) { "after_header" } else { "first" };
        let mode = if one_in(2) { "optional" } else { "required" };
        // Without a header nothing may pass, so the server is connected to late only where there must be one.
        let connect = if mode == "optional" { "first" } else { connect };
        rule["proxy_protocol"]["receive"] =
            json!({"mode": mode, "trusted_networks": ["*"], "connect": connect, "timeout_ms": 1000});
    }
    if sends {
        rule["proxy_protocol"]["send"] = json!({"mode": "first_bytes"});
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

/// One connection, and what its peers have sent.
struct Connection {
    stream: Stream,
    greeted: bool,
    logged_in: bool,
    accepted: bool,
    owed: Vec<Owed>,
    next_id: u32,
    /// Bytes of the server that have not gone on.
    pending: Vec<u8>,
    /// Bytes of the client that wait for a decision about the PROXY header.
    waiting: Vec<u8>,
    decided: bool,
    /// A rule ended it.
    is_cut: bool,
}

impl Connection {
    fn client(&mut self, settings: &Settings, bytes: &[u8]) {
        let (led, calls) = self.stream.front(bytes, false);
        let mut offered = std::mem::take(&mut self.waiting);
        offered.extend(bytes);
        match led {
            Led::On(on) if self.decided && on == offered => {}
            Led::On(on) if on.is_empty() && settings.blocks => self.is_cut = true,
            Led::On(on) => {
                assert!(
                    !self.decided && settings.proxy,
                    "the client's bytes were changed: {offered:?} to {on:?}, {}",
                    settings.json
                );
                // The server gets its header with the client's first own bytes.
                self.decided = !on.is_empty();
                let line = on.windows(2).position(|end| end == b"\r\n").filter(|_| settings.sends);
                let own = line.filter(|_| on.starts_with(b"PROXY ")).map_or(0, |line| line + 2);
                assert!(offered.ends_with(&on[own..]), "the client's bytes were changed");
            }
            Led::Waits => {
                assert!(settings.proxy, "a callback waits: {calls:?}");
                self.waiting = offered;
            }
            Led::Ends => {
                assert!(settings.proxy || settings.blocks, "a connection ends: {calls:?}");
                self.is_cut = true;
            }
        }
    }

    fn server(&mut self, settings: &Settings, bytes: &[u8], end_stream: bool) {
        let (on, _) = self.stream.server_behind(bytes, end_stream);
        self.pending.extend(bytes);
        if self.is_cut || settings.blocks && !self.pending.starts_with(&on) {
            // It may still get an error.
            self.is_cut = true;
            self.pending.clear();
            return;
        }
        assert!(self.pending.starts_with(&on), "the server's bytes were changed");
        self.pending.drain(..on.len());
        if settings.blocks && self.pending.len() > MAX_HELD {
            // What is dropped looks like what is held.
            self.is_cut = true;
            self.pending.clear();
        }
        assert!(self.pending.len() <= MAX_HELD, "{} bytes are held", self.pending.len());
        if end_stream && !settings.blocks {
            assert_eq!(self.pending.len(), 0, "bytes that are never sent");
        }
    }

    /// The peers do something. Gives the length of the chunk.
    fn act(&mut self, random: &mut Random, settings: &Settings) -> usize {
        let from_client = |this: &mut Self, bytes: Vec<u8>| {
            this.client(settings, &bytes);
            bytes.len() + this.waiting.len()
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
                // In one callback or in several.
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
        waiting: Vec::new(),
        decided: !settings.proxy,
        is_cut: false,
    })
}

/// What must be true after a callback with a chunk of this many bytes.
fn check(vm: &Vm, settings: &Settings, base: isize, open: usize, chunk: usize) {
    let counted = firstword::filter::budget::connection_state();
    assert!(counted <= settings.limit, "{counted} bytes of connection state, {}", settings.json);
    let allowed = counted as isize + FIXED + OUTSIDE * open as isize;
    let heap = vm.heap() - base;
    assert!(heap <= allowed, "{heap} bytes on the heap, {counted} counted, {}", settings.json);
    let passing = PASSING[usize::from(chunk > 0)] + PASSING_PER_BYTE * chunk as isize;
    let peak = vm.peak() - base;
    assert!(
        peak <= settings.limit as isize + FIXED + OUTSIDE * open as isize + passing,
        "{peak} at the peak"
    );
}

fn ending(random: &mut Random, settings: &Settings) -> Ending {
    // The end of a stream in front of a header is a reason to close, which this driver of the endings does not expect.
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
