//! Fuzz target: a rule that starts TLS to the server, or ends the client's, or both, with random bytes, cuts and order of the
//! directions. Whatever the peers send: if the rule starts TLS, nothing but one SSLRequest leaves to the server without it; if not,
//! no request for TLS does. Nothing of the server reaches the client without TLS once the client has sent its SSLRequest.
//!
//! ```text
//! flags | step...
//! step: op | length | bytes        bit 0 of op: sender; bit 1: the end of its stream; bit 2: a tick before
//! ```

#![no_main]

mod packets;
mod seeds;

use std::time::Duration;

use bytes::Bytes;
use firstword::clock::Timestamp;
use firstword::connection::Connection;
use firstword::connection::chunk::{
    ClientVerdict, Edit, HandOver, HeldRest, Reply, ServerVerdict, TickVerdict,
};
use firstword::connection::clear_start::ClearStart;
use firstword::event::details::Details;
use firstword::event::output::Output;
use firstword::event::runner::Runner;
use firstword::event::{ClosedBy, Event, Sender, TlsSide};
use firstword::password_key::{PasswordKey, PasswordKeyRef};
use firstword::rules::{ClearCapabilities, Expected, GuardPassword, Inspection, OriginateTls, Rules};
use libfuzzer_sys::fuzz_target;

/// Length of an SSLRequest.
const REQUEST_LEN: usize = 36;

/// Key that only turns bits.
struct Turned;

impl PasswordKey for Turned {
    fn public_pem(&self) -> &str {
        "-----BEGIN PUBLIC KEY-----"
    }

    fn decrypt(&self, block: &[u8]) -> Option<Vec<u8>> {
        Some(block.iter().map(|byte| !byte).collect())
    }

    fn encrypt_for(&self, _: &[u8], password: &[u8]) -> Option<Vec<u8>> {
        Some(password.iter().map(|byte| !byte).collect())
    }
}

/// Plays the host of one connection.
struct Driver {
    /// First filter of a connection whose client's TLS ends in the proxy. `None` if it does not.
    start: Option<ClearStart>,
    /// Bytes that the first filter holds.
    held_by_start: Vec<u8>,
    /// True once the client has sent its SSLRequest.
    is_requested: bool,
    connection: Connection,
    now: Timestamp,
    events: Vec<Event>,
    held: Vec<u8>,
    /// Bytes that the server gets without TLS.
    clear: Vec<u8>,
    in_tls: bool,
    /// False if the server gets a session without TLS.
    originates: bool,
    is_closed: bool,
}

impl Driver {
    fn new(flags: u8) -> Self {
        let password_key = (flags & 1 == 0).then_some(PasswordKeyRef(&Turned));
        let alone = flags & 48 == 48;
        let rules = Rules {
            expected: Expected::Mysql,
            inspection: if flags & 2 == 0 { Inspection::Full } else { Inspection::Nothing },
            block_local_infile: flags & 4 != 0,
            clear_capabilities: ClearCapabilities {
                compress: flags & 8 != 0,
                zstd: flags & 8 != 0,
                ssl: false,
            },
            originate_tls: (!alone).then_some(OriginateTls { password_key }),
            guard_password: alone.then_some(GuardPassword { password_key }),
            terminate_tls: flags & 16 != 0,
            ..Rules::observe_only()
        };
        let now = Timestamp::from_nanos(1);
        let connection = Connection::new(&rules, now);
        Self {
            start: rules.terminate_tls.then(ClearStart::default),
            held_by_start: Vec::new(),
            is_requested: false,
            connection,
            now,
            events: Vec::new(),
            held: Vec::new(),
            clear: Vec::new(),
            in_tls: false,
            originates: !alone,
            is_closed: false,
        }
    }

    fn call<T>(&mut self, call: impl FnOnce(&mut Connection, &mut Output) -> T) -> T {
        let Self { connection, now, events, .. } = self;
        let now = *now;
        let mut record = |emitted: &[Event], _: &mut Details| events.extend_from_slice(emitted);
        Runner::default().run(&|| now, usize::MAX, &mut record, |out| call(connection, out))
    }

    /// Takes bytes of the client. The end of TLS between the two filters changes no byte here.
    fn start(&mut self, bytes: &[u8], end_stream: bool) {
        let Some(start) = &mut self.start else { return self.client(bytes, end_stream) };
        let offered = [&std::mem::take(&mut self.held_by_start), bytes].concat();
        match start.client(&Bytes::copy_from_slice(&offered), end_stream, &mut self.events) {
            ClientVerdict::Pass if self.is_requested => self.client(&offered, end_stream),
            ClientVerdict::Pass => assert!(offered.is_empty(), "nothing passes before the SSLRequest"),
            ClientVerdict::Hold => {
                assert!(offered.len() < REQUEST_LEN && !end_stream);
                self.held_by_start = offered;
            }
            ClientVerdict::HandOver(hand_over) => {
                let HandOver { edit, bytes } = *hand_over;
                assert!(!self.is_requested && bytes == offered[..REQUEST_LEN] && edit.drain == REQUEST_LEN);
                self.is_requested = true;
                self.connection.tls_requested();
                self.client(&offered[REQUEST_LEN..], end_stream);
            }
            ClientVerdict::Close => self.is_closed = true,
            ClientVerdict::Reply(reply) => {
                assert!(reply.closes && reply.edit.drain == offered.len() && reply.edit.prepend.is_empty());
                self.is_closed = true;
            }
            verdict => panic!("{verdict:?}"),
        }
    }

    fn client(&mut self, bytes: &[u8], end_stream: bool) {
        self.held.extend_from_slice(bytes);
        let offered = std::mem::take(&mut self.held);
        let chunk = Bytes::copy_from_slice(&offered);
        let edited = |Edit { drain, prepend }: Edit| [&prepend, &offered[drain..]].concat();
        match self.call(|connection, out| connection.client(&chunk, end_stream, out)) {
            ClientVerdict::Pass => self.forward(&offered),
            ClientVerdict::Edit(edit) => self.forward(&edited(edit)),
            ClientVerdict::Hold => self.held = offered,
            ClientVerdict::Close => self.is_closed = true,
            ClientVerdict::HoldRest(rest) => {
                let HeldRest { drain, send, is_due_next_turn } = *rest;
                self.forward(&send);
                self.held = offered[drain..].to_vec();
                if is_due_next_turn {
                    assert!(!self.held.is_empty(), "Envoy delivers only what it holds");
                    self.client(&[], end_stream);
                }
            }
            ClientVerdict::HandOver(_) => panic!("the second filter hands over no bytes of the client"),
            ClientVerdict::Resume(_) => panic!("the filter holds no bytes of the server"),
            ClientVerdict::StartServerTls(edit) => {
                assert!(!self.in_tls && self.originates, "TLS starts once");
                assert_eq!(self.clear.len(), REQUEST_LEN, "TLS starts after an SSLRequest");
                self.in_tls = true;
                self.forward(&edited(edit));
            }
            ClientVerdict::Reply(reply) => {
                let Reply { edit, bytes, closes } = *reply;
                assert!(!bytes.is_empty());
                self.forward(&edited(edit));
                self.is_closed |= closes;
            }
        }
    }

    fn forward(&mut self, bytes: &[u8]) {
        if self.in_tls {
            return;
        }
        self.clear.extend_from_slice(bytes);
        if !self.originates {
            let flags = self.clear.get(5).copied().unwrap_or(0);
            assert_eq!(flags & 0x08, 0, "the server gets no request for TLS");
            assert!(self.is_requested || self.clear.is_empty(), "nothing passes before the SSLRequest");
            return;
        }
        if let [first, ..] = self.clear.as_slice() {
            assert_eq!(self.clear.len(), REQUEST_LEN, "only an SSLRequest leaves without TLS");
            assert!(*first == 32 && self.clear[5] & 0x08 != 0);
        }
    }

    fn server(&mut self, bytes: &[u8], end_stream: bool) {
        let chunk = Bytes::copy_from_slice(bytes);
        let verdict = self.call(|connection, out| connection.server(&chunk, end_stream, out));
        match verdict {
            ServerVerdict::Pass => {}
            ServerVerdict::Edit(Edit { drain, .. }) => assert!(drain <= bytes.len()),
            ServerVerdict::Resume(edit) => {
                assert_eq!(
                    (edit.drain, edit.prepend.len()),
                    (bytes.len(), 0),
                    "no byte of the key reaches the client"
                );
                assert!(!self.held.is_empty(), "the password is held");
                self.client(&[], false);
            }
            ServerVerdict::HandOver(hand_over) => {
                assert_eq!((hand_over.edit.drain, hand_over.bytes.len()), (bytes.len(), bytes.len()));
                let start = self.start.as_mut().expect("a connection with a partner");
                assert!(!start.handed_over() || !self.is_requested, "no clear bytes in the client's TLS");
            }
        }
    }

    fn tick(&mut self) {
        self.now = Timestamp::from_nanos(self.now.nanos() + Duration::from_secs(1).as_nanos() as u64);
        let now = self.now;
        if self.connection.is_due(now) {
            self.is_closed |= self.call(|connection, out| connection.tick(now, out)) == TickVerdict::Close;
        }
    }
}

fn any_connection(input: &[u8]) {
    let Some((flags, mut rest)) = input.split_first() else { return };
    let mut driver = Driver::new(*flags);
    while let Some(([op, length], after)) = rest.split_first_chunk() {
        let (bytes, after) = after.split_at_checked(usize::from(*length)).unwrap_or((after, &[]));
        rest = after;
        if op & 4 != 0 {
            driver.tick();
        }
        if driver.is_closed {
            break;
        }
        match op & 1 {
            0 => driver.start(bytes, op & 2 != 0),
            _ => driver.server(bytes, op & 2 != 0),
        }
    }
    driver.call(|connection, out| connection.close(|| ClosedBy::Proxy, out));
    for on in [TlsSide::Upstream, TlsSide::Downstream] {
        let is_result = |event: &&Event| matches!(event, Event::Tls { side, .. } if *side == on);
        let results = driver.events.iter().filter(is_result).count();
        assert!(results <= 1, "a side has one result: {:?}", driver.events);
    }
}

/// The beginnings of the captures, for each of the three rules. Their servers offer TLS here, and count the SSLRequest in their
/// sequence ids. With the end of TLS their clients send an SSLRequest too.
fn examples() -> Vec<Vec<u8>> {
    packets::captures().iter().flat_map(|chunks| [0, 16, 48].map(|flags| example(flags, chunks))).collect()
}

fn example(flags: u8, chunks: &[(Sender, Bytes)]) -> Vec<u8> {
    let mut seed = vec![flags];
    let (mut is_greeting, mut is_response) = (true, flags != 0);
    for (sender, bytes) in chunks.iter().take(8) {
        let mut bytes = bytes.to_vec();
        if *sender == Sender::Server {
            if std::mem::take(&mut is_greeting) {
                offer_tls(&mut bytes);
            } else if let Some(id) = bytes.get_mut(3).filter(|_| flags != 48) {
                *id = id.wrapping_add(1);
            }
        } else if std::mem::take(&mut is_response) && bytes.len() > REQUEST_LEN {
            bytes[5] |= 0x08;
            bytes[3] = 2;
            let request = [&[32, 0, 0, 1], &bytes[4..REQUEST_LEN]].concat();
            bytes.splice(0..0, request);
        }
        for part in bytes.chunks(usize::from(u8::MAX)) {
            seed.extend([u8::from(*sender == Sender::Server), part.len() as u8]);
            seed.extend_from_slice(part);
        }
    }
    seed
}

/// Sets the flag in the greeting: header, protocol version, version text, NUL, thread id, scramble, filler, flags.
fn offer_tls(greeting: &mut [u8]) {
    let Some(version) = greeting.get(5..).and_then(|rest| rest.iter().position(|byte| *byte == 0)) else {
        return;
    };
    if let Some(flags) = greeting.get_mut(5 + version + 1 + 4 + 8 + 1 + 1) {
        *flags |= 0x08;
    }
}

fuzz_target!(init: seeds::write(examples()), |input: &[u8]| any_connection(input));
