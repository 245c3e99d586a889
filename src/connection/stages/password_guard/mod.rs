//! Keeps passwords that a client sends in its TLS from a path without TLS to the server.
//!
//! In TLS a client sends some passwords as they are, because TLS protects them. If the client's TLS ends in the proxy, and the
//! server gets a session without TLS, such a password would leave without TLS. So the filter asks the server for its RSA key
//! and sends the password encrypted, as a client without TLS does, or it refuses the login.
//!
//! | state        | client                                                         | server                                |
//! |--------------|----------------------------------------------------------------|---------------------------------------|
//! | Response     | handshake response: refused if it can contain a password       | greeting                              |
//! | Login        | hash: forwarded; password: held, and the key requested         | forwarded, read for its requests      |
//! | KeyRequested | held                                                           | key: dropped                          |
//! | KeyReceived  | password: encrypted                                            | any byte: dropped, client closed      |
//! | Commands     | COM_CHANGE_USER: as a handshake response; others: forwarded    | forwarded                             |
//! | Refused      | closed                                                         | dropped, or an error of the server    |
//!
//! The rest of the list and the inspector see the client's conversation: the request for the key and the key are no part of it.
//! They make the server's sequence ids larger by two until the login is decided.

mod commands;
mod requests;

use std::mem::size_of;

use self::commands::{Commands, MAX_LOGIN_LEN, Scanned};
use self::requests::{Expected, Progress, Requests, hashes};
use crate::clock::Timestamp;
use crate::connection::chunk::Chunk;
use crate::connection::rewrite::{Flow, Rewrite};
use crate::connection::stages::auth_data;
use crate::connection::stages::packet_headers::{Found, PacketHeaders};
use crate::connection::stages::{Seen, Stage};
use crate::event::output::Output;
use crate::event::{Event, TlsResult, TlsSide};
use crate::mysql::wire::auth_plugin::{AUTH_MORE_DATA, AuthPlugin};
use crate::mysql::wire::capability::Capabilities;
use crate::mysql::wire::handshake::HandshakeResponse;
use crate::mysql::wire::packet::{Framed, Framer, HEADER_LEN, payload_len, whole};
use crate::mysql::wire::response::{ERR, OK, handshake_error};
use crate::password_key::{PasswordKeyRef, wipe};
use crate::rules::Rules;

/// Maximum length of the packet with the key. A key of 4096 bits has 800 characters.
const MAX_KEY_LEN: usize = 2 << 10;
/// Packets that only the filter and the server exchange for a password.
const KEY_PACKETS: u8 = 2;

const CLEAR: &[u8] = b"The proxy sends no password to the server without TLS, and this login needs that (tls.downstream is terminate, \
      and tls.upstream is not originate)";
const NO_KEY: &[u8] = b"The server has sent no RSA key by which the proxy can encrypt the password (tls.upstream is not originate)";

#[derive(Debug)]
enum State {
    /// The client has not responded to the greeting.
    Response,
    /// The server has not decided about the client.
    Login {
        /// True if the client was logged in before.
        again: bool,
    },
    /// The server has not sent its key.
    KeyRequested { again: bool, server: Framer },
    /// The server has sent this packet.
    KeyReceived { again: bool, packet: Vec<u8> },
    /// The server takes commands.
    Commands,
    /// The connection forwards nothing more from the client.
    Refused {
        /// True if the server's bytes are forwarded, because the server itself has refused the client.
        by_server: bool,
    },
}

/// A change of the state by the client's chunk, which takes place unless a later stage holds the chunk.
#[derive(Debug)]
enum Next {
    /// A login begins.
    Login { again: bool, plugin: AuthPlugin, capabilities: Capabilities },
    /// The client has sent what the server has requested.
    Data,
    /// The client has sent its password.
    Password,
    /// The client has sent commands.
    Commands(Commands),
}

/// Guard of the passwords of one connection.
#[derive(Debug)]
pub(in crate::connection) struct PasswordGuard {
    key: Option<PasswordKeyRef>,
    state: State,
    next: Option<Next>,
    requests: Requests,
    /// Capabilities of both peers.
    capabilities: Capabilities,
    commands: Commands,
    server: PacketHeaders,
    /// Difference of the sequence ids in a login: that of the server minus that of the client.
    shift: u8,
}

impl Stage for PasswordGuard {
    fn new(rules: &Rules, _: Timestamp) -> Option<Self> {
        rules.guard_password.map(|guard| Self {
            key: guard.password_key,
            state: State::Response,
            next: None,
            requests: Requests::new(),
            capabilities: Capabilities::default(),
            commands: Commands::default(),
            server: PacketHeaders::default(),
            shift: 0,
        })
    }

    fn client_before<C: Chunk>(
        &mut self,
        rewrite: &mut Rewrite<C>,
        end_stream: bool,
        out: &mut Output,
    ) -> Flow {
        self.next = None;
        match self.state {
            State::Refused { .. } => return Flow::Close,
            _ if rewrite.len() == 0 => return Flow::Continue,
            State::Commands => return self.commands(rewrite, end_stream, out),
            State::Response
            | State::Login { .. }
            | State::KeyRequested { .. }
            | State::KeyReceived { .. } => {}
        }
        let rest = rewrite.rest();
        let header = rest.read(0, HEADER_LEN).unwrap_or_default();
        let len = header.first_chunk().map_or(0, |header| payload_len(*header));
        let end = len.saturating_add(HEADER_LEN);
        if len > MAX_LOGIN_LEN || rest.len() > end && header.len() == HEADER_LEN {
            return self.refuse(TlsResult::Refused, out);
        }
        if rest.len() < end {
            return if end_stream { self.refuse(TlsResult::Refused, out) } else { Flow::HoldRest };
        }
        let payload = || rest.read(HEADER_LEN, len).unwrap_or_default();
        match self.state {
            State::Response => self.response(&payload(), &header, rewrite, out),
            State::Login { again } => self.data(again, &payload(), &header, rewrite, out),
            State::KeyRequested { .. } => Flow::HoldRest,
            _ => {
                self.next = Some(Next::Password);
                Flow::Continue
            }
        }
    }

    fn client_after<C: Chunk>(&mut self, rewrite: &mut Rewrite<C>, _: &Seen, out: &mut Output) -> Flow {
        match self.next.take() {
            None => Flow::Continue,
            Some(Next::Login { again, plugin, capabilities }) => {
                self.capabilities = capabilities;
                self.requests.begin(plugin, again);
                self.server = PacketHeaders::default();
                self.state = State::Login { again };
                Flow::Continue
            }
            Some(Next::Data) => {
                self.requests.expected = Expected::Nothing;
                let id =
                    rewrite.replaced().and_then(|bytes| bytes.get(HEADER_LEN.saturating_sub(1)).copied());
                let Some(id) = id else { return self.refuse(TlsResult::Refused, out) };
                if self.shift != 0 {
                    rewrite.set_again(HEADER_LEN.saturating_sub(1), id.wrapping_add(self.shift));
                }
                Flow::Continue
            }
            Some(Next::Password) => self.password(rewrite, out),
            Some(Next::Commands(commands)) => {
                self.commands = commands;
                Flow::Continue
            }
        }
    }

    fn server_before<C: Chunk>(&mut self, rewrite: &mut Rewrite<C>, out: &mut Output) -> Flow {
        if rewrite.len() == 0 {
            return Flow::Continue;
        }
        let progress = match &mut self.state {
            State::Refused { by_server } => return if *by_server { Flow::Continue } else { Flow::Drop },
            State::Commands => {
                self.commands.server();
                return Flow::Continue;
            }
            State::Response => self.requests.greeting(&rewrite.bytes().unwrap_or_default()),
            State::Login { .. } => {
                let bytes = rewrite.bytes().unwrap_or_default();
                if self.shift != 0 {
                    self.renumber(&bytes, rewrite);
                }
                self.requests.login(&bytes)
            }
            State::KeyRequested { .. } | State::KeyReceived { .. } => return self.key(rewrite, out),
        };
        match progress {
            Progress::Continues => {}
            Progress::Accepted => self.accepted(),
            Progress::Refused => self.refused_by_server(matches!(self.state, State::Login { again: true })),
            Progress::Broken => {
                self.refuse(TlsResult::Refused, out);
                return Flow::Drop;
            }
        }
        Flow::Continue
    }

    fn is_final(&self) -> bool {
        matches!(self.state, State::Refused { by_server: false })
    }

    fn stays(&self) -> bool {
        true
    }

    fn memory(&self) -> usize {
        size_of::<Self>().saturating_add(Requests::max_memory()).saturating_add(MAX_KEY_LEN)
    }
}

impl PasswordGuard {
    fn accepted(&mut self) {
        (self.state, self.commands, self.shift) = (State::Commands, Commands::default(), 0);
    }

    /// `again`: true if the server may keep the account of before.
    fn refused_by_server(&mut self, again: bool) {
        if again {
            self.accepted();
        } else {
            self.state = State::Refused { by_server: true };
        }
    }

    fn refuse(&mut self, result: TlsResult, out: &mut Output) -> Flow {
        self.state = State::Refused { by_server: false };
        out.events.push(Event::Tls { side: TlsSide::Upstream, result });
        Flow::Close
    }

    /// Refuses the client with an error that follows its packet with this header.
    fn refuse_with<C: Chunk>(
        &mut self,
        message: &[u8],
        header: &[u8],
        rewrite: &mut Rewrite<C>,
        out: &mut Output,
    ) -> Flow {
        self.refuse(TlsResult::ClearPassword, out);
        let id = header.last().map_or(1, |id| id.wrapping_add(1));
        rewrite.reply(handshake_error(id, message));
        Flow::Refuse
    }

    /// Takes the handshake response.
    fn response<C: Chunk>(
        &mut self,
        payload: &[u8],
        header: &[u8],
        rewrite: &mut Rewrite<C>,
        out: &mut Output,
    ) -> Flow {
        let greeted = self.requests.greeted;
        let (Some(server), Ok(response)) =
            (greeted, HandshakeResponse::parse(payload, greeted.unwrap_or_default()))
        else {
            return self.refuse(TlsResult::Refused, out);
        };
        let capabilities = server & response.capabilities;
        // Compressed packets would hide the next login. The greeting does not offer compression.
        if capabilities.intersects(Capabilities::COMPRESS | Capabilities::ZSTD_COMPRESSION) {
            return self.refuse(TlsResult::Refused, out);
        }
        let plugin = AuthPlugin::from_name(response.auth_plugin);
        if response.auth_response_len > 0 && !hashes(plugin) {
            return self.refuse_with(CLEAR, header, rewrite, out);
        }
        self.next = Some(Next::Login { again: false, plugin, capabilities });
        Flow::Continue
    }

    /// Takes a packet of the client in a login.
    fn data<C: Chunk>(
        &mut self,
        again: bool,
        payload: &[u8],
        header: &[u8],
        rewrite: &mut Rewrite<C>,
        out: &mut Output,
    ) -> Flow {
        match self.requests.expected {
            Expected::Nothing => return self.refuse(TlsResult::Refused, out),
            // A single byte is no password: it is the NUL of an empty one, a request for the key, or COM_QUIT.
            _ if payload.len() <= 1 => {}
            Expected::Data => {}
            Expected::Password(request) if self.key.is_some() && payload.ends_with(&[0]) => {
                let id = header.last().map_or(0, |id| id.wrapping_add(self.shift));
                rewrite.send_first(whole(id, &[request]));
                self.state = State::KeyRequested { again, server: Framer::new(MAX_KEY_LEN) };
                return Flow::HoldRest;
            }
            Expected::Password(_) | Expected::Unknown => {
                return self.refuse_with(CLEAR, header, rewrite, out);
            }
        }
        self.next = Some(Next::Data);
        Flow::Continue
    }

    /// Takes the server's key, or what it sends in place of it.
    fn key<C: Chunk>(&mut self, rewrite: &mut Rewrite<C>, out: &mut Output) -> Flow {
        let bytes = rewrite.bytes().unwrap_or_default();
        let mut rest = bytes.as_ref();
        let State::KeyRequested { again, server } = &mut self.state else {
            self.refuse(TlsResult::Refused, out);
            return Flow::Drop;
        };
        let packet = match server.next(&mut rest) {
            None => return Flow::Drop,
            Some(Framed::Head(packet)) if packet.complete && rest.is_empty() => packet.prefix.to_vec(),
            Some(_) => Vec::new(),
        };
        self.state = State::KeyReceived { again: *again, packet };
        rewrite.resume_client();
        Flow::Drop
    }

    /// Takes the client's password, once the server has sent its key.
    fn password<C: Chunk>(&mut self, rewrite: &mut Rewrite<C>, out: &mut Output) -> Flow {
        let State::KeyReceived { again, packet } = std::mem::replace(&mut self.state, State::Commands) else {
            return self.refuse(TlsResult::Refused, out);
        };
        let bytes = rewrite.replaced().unwrap_or_default();
        let Some((header, password)) = bytes.split_first_chunk::<HEADER_LEN>() else {
            return self.refuse(TlsResult::Refused, out);
        };
        let [.., id] = *header;
        if packet.first() == Some(&ERR) {
            self.refused_by_server(again);
            rewrite.replace_from(0, &[]);
            rewrite.reply(whole(id.wrapping_add(1), &packet));
            return Flow::Continue;
        }
        let block = match packet.split_first() {
            Some((&AUTH_MORE_DATA, key)) => self.encrypt(key, password),
            _ => None,
        };
        let Some(block) = block else { return self.refuse_with(NO_KEY, header, rewrite, out) };
        self.state = State::Login { again };
        self.requests.expected = Expected::Nothing;
        self.shift = self.shift.wrapping_add(KEY_PACKETS);
        rewrite.replace_from(0, &whole(id.wrapping_add(self.shift), &block));
        Flow::Continue
    }

    /// Encrypts the password by the server's key, combined with the scramble.
    fn encrypt(&self, key: &[u8], password: &[u8]) -> Option<Vec<u8>> {
        let mut combined = password.to_vec();
        auth_data::combine(&mut combined, &self.requests.scramble);
        let block = self.key.and_then(|own| own.0.encrypt_for(key, &combined));
        wipe(&mut combined);
        block
    }

    /// Numbers the server's packets up to its decision as the client expects them.
    fn renumber<C: Chunk>(&mut self, bytes: &[u8], rewrite: &mut Rewrite<C>) {
        let mut at = 0;
        while let Some(found) = self.server.next(bytes, &mut at) {
            match found {
                Found::SequenceId { at, id } => rewrite.set(at, id.wrapping_sub(self.shift)),
                Found::First(OK | ERR) => return,
                Found::First(_) => {}
            }
        }
    }

    /// Takes commands of the client.
    fn commands<C: Chunk>(&mut self, rewrite: &mut Rewrite<C>, end_stream: bool, out: &mut Output) -> Flow {
        let rest = rewrite.rest();
        let mut commands = self.commands.clone();
        let scan = |bytes: &[u8]| commands.scan(bytes, self.capabilities);
        let Some(found) = rest.with_bytes(0, rest.len(), scan) else {
            return self.refuse(TlsResult::Refused, out);
        };
        match found {
            Scanned::Commands => self.next = Some(Next::Commands(commands)),
            Scanned::PartOfLogin if !end_stream => return Flow::HoldRest,
            Scanned::PartOfLogin | Scanned::Broken => return self.refuse(TlsResult::Refused, out),
            Scanned::Login(plugin) => {
                self.next = Some(Next::Login { again: true, plugin, capabilities: self.capabilities });
            }
            Scanned::Password => return self.refuse_with(CLEAR, &[0], rewrite, out),
        }
        Flow::Continue
    }
}
