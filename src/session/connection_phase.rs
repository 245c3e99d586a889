//! The connection phase: from the greeting to the server's decision about the client.
//!
//! | state          | sender | packet                          | next                        |
//! |----------------|--------|---------------------------------|-----------------------------|
//! | Greeting       | server | 0x0a HandshakeV10               | Handshake                   |
//! | Greeting       | server | 0xff ERR                        | Refused                     |
//! | Handshake      | client | response with SSL on both sides | TlsRequested                |
//! | Handshake      | client | response                        | Authentication              |
//! | TlsRequested   | client | any byte                        | opaque(tls)                 |
//! | TlsRequested   | server | any byte, except in an ERR      | opaque(tls)                 |
//! | Authentication | client | a secret, id = server's last + 1| Authentication              |
//! | Authentication | client | COM_QUIT                        | Authentication, ending      |
//! | Authentication | server | 0x01, 0x02, 0xfe                | Authentication              |
//! | Authentication | server | 0x00 OK                         | the command phase           |
//! | Handshake      | server | 0xff ERR                        | Handshake                   |
//! | any other      | server | 0xff ERR                        | Refused                     |
//! | Refused        | server | anything, if files are judged   | opaque(desync)              |
//! | Refused        | both   | anything                        | Refused                     |
//!
//! After the handshake response the client sends one packet for each packet of the server. A server reads what else
//! comes as commands, so nothing else can be passed over: it could be a COM_CHANGE_USER.

use crate::clock::Timestamp;
use crate::event::details::{UNREADABLE, word};
use crate::event::output::{Outcome, Output};
use crate::event::violation::Rule;
use crate::event::{Event, HandshakeResult, HazardKind, OpaqueReason, Phase};
use crate::mysql::peer::bug_106252::AffectedClient;
use crate::mysql::peer::client;
use crate::mysql::peer::server::identify;
use crate::mysql::wire::auth_plugin::AuthPlugin;
use crate::mysql::wire::capability::Capabilities;
use crate::mysql::wire::command::Command;
use crate::mysql::wire::handshake::{self, HandshakeResponse, HandshakeV10};
use crate::mysql::wire::packet::Packet;
use crate::mysql::wire::response::{EOF, ERR, OK, error_code};
use crate::mysql::wire::types::Reader;
use crate::rules::Field;
use crate::session::options::Options;
use crate::session::pending::RequestedIdentity;

/// `Protocol::AuthMoreData`.
const AUTH_MORE_DATA: u8 = 0x01;
/// `Protocol::AuthNextFactor`.
const AUTH_NEXT_FACTOR: u8 = 0x02;
/// caching_sha2_password's `perform_full_authentication`.
const FULL_AUTHENTICATION: u8 = 0x04;
/// As much of a version text as a report shows.
const MAX_SHOWN: usize = 40;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Greeting,
    Handshake,
    TlsRequested,
    Authentication,
    /// The server refused the client in this phase; nothing more is expected.
    Refused(Phase),
}

/// What a packet of the server did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// The connection phase goes on.
    Stays,
    /// The server takes commands.
    Accepted {
        /// What both sides can do.
        capabilities: Capabilities,
        /// The client can hang on a split EOF.
        affected_client: Option<AffectedClient>,
    },
}

/// The connection phase of one connection.
#[derive(Debug)]
pub(super) struct ConnectionPhase {
    pub(super) options: Options,
    state: State,
    opened: Timestamp,
    /// What the server offers, and from the handshake response on what both sides can do.
    capabilities: Capabilities,
    plugin: AuthPlugin,
    /// The server asked for more than a hash it has cached, by caching_sha2_password.
    full_authentication: bool,
    /// What it was last told that the client gives away.
    exposed: Option<HazardKind>,
    /// Whom and what the client asks for, where somebody wants to be told of it.
    asked: RequestedIdentity,
    /// Sequence id of the client's next packet; `None` if the server has to send one first.
    expected: Option<u8>,
    /// The client has sent COM_QUIT.
    quit: bool,
    affected_client: Option<AffectedClient>,
    /// The client has not taken the server's offer of LOCAL INFILE.
    declines_files: bool,
}

impl ConnectionPhase {
    pub(super) fn new(opened: Timestamp, options: Options) -> Self {
        let capabilities = Capabilities::default();
        let (plugin, asked) = (AuthPlugin::None, RequestedIdentity::default());
        Self {
            options,
            state: State::Greeting,
            opened,
            capabilities,
            plugin,
            full_authentication: false,
            exposed: None,
            asked,
            expected: None,
            quit: false,
            affected_client: None,
            declines_files: false,
        }
    }

    pub(super) fn phase(&self) -> Phase {
        match self.state {
            State::Greeting => Phase::Greeting,
            State::Handshake | State::TlsRequested => Phase::Handshake,
            State::Authentication => Phase::Authentication,
            State::Refused(phase) => phase,
        }
    }

    pub(super) fn capabilities(&self) -> Capabilities {
        self.capabilities
    }

    /// Both sides have agreed on TLS: every further byte is TLS, except in an ERR of the server.
    pub(super) fn awaits_tls(&self) -> bool {
        self.state == State::TlsRequested
    }

    /// The client has not taken the server's offer of LOCAL INFILE.
    pub(super) fn declines_files(&self) -> bool {
        self.declines_files
    }

    /// The client has sent COM_QUIT.
    pub(super) fn has_quit(&self) -> bool {
        self.quit
    }

    /// Heap memory in bytes.
    pub(super) fn memory(&self) -> usize {
        self.asked.memory()
    }

    /// Whom and what the client asked for.
    pub(super) fn take_identity(&mut self) -> RequestedIdentity {
        std::mem::take(&mut self.asked)
    }

    /// The client has been greeted and the server has not decided about it.
    pub(super) fn is_undecided(&self) -> bool {
        matches!(self.state, State::Handshake | State::TlsRequested | State::Authentication)
    }

    /// The client has been greeted and has said nothing.
    pub(super) fn is_unanswered(&self) -> bool {
        self.state == State::Handshake
    }

    pub(super) fn client_packet(&mut self, packet: &Packet, peers: &mut String, out: &mut Output) -> Outcome {
        match self.state {
            State::Greeting => Err(OpaqueReason::NotMysql),
            // The server reads nothing after COM_QUIT.
            _ if self.quit => Ok(()),
            State::Handshake if packet.sequence_id != 1 => Err(out.desync(Rule::HandshakeResponse)),
            State::Handshake => {
                let response = HandshakeResponse::parse(packet.prefix, self.capabilities);
                let response = response.map_err(|error| out.malformed(Rule::HandshakeResponse, error))?;
                let both = self.capabilities & response.capabilities;
                self.declines_files = self.capabilities.contains(Capabilities::LOCAL_FILES)
                    && !both.contains(Capabilities::LOCAL_FILES);
                let HandshakeResponse { client_name, client_version, .. } = response;
                self.affected_client =
                    AffectedClient::of(client_name, client_version, self.capabilities, both);
                self.capabilities = both;
                if !response.auth_plugin.is_empty() {
                    self.plugin = AuthPlugin::from_name(response.auth_plugin);
                }
                show(peers, " client=", response.client_name);
                show(peers, "/", response.client_version);
                let tls = self.capabilities.contains(Capabilities::SSL);
                if self.options.interests.has_identity() {
                    let user = response.user.map_or(UNREADABLE.to_owned(), word);
                    self.asked = RequestedIdentity { user: Some(user), schema: response.schema.map(word) };
                }
                if !tls {
                    out.details.record(self.options.interests, Field::User, || {
                        self.asked.user.clone().unwrap_or_default()
                    });
                    if !response.client_name.is_empty() {
                        let HandshakeResponse { client_name, client_version, .. } = response;
                        let slash: &[u8] = if client_version.is_empty() { b"" } else { b"/" };
                        let client = || word(&[client_name, slash, client_version].concat());
                        out.details.record(self.options.interests, Field::Client, client);
                    }
                    let (connector, series) = client::identify(response.client_name, response.client_version);
                    out.events.push(Event::Client { connector, series });
                    self.check_exposure(response.auth_response_len, out.events);
                }
                self.state = if tls { State::TlsRequested } else { State::Authentication };
                Ok(())
            }
            State::Authentication if is_quit(packet) => {
                self.quit = true;
                Ok(())
            }
            State::Authentication if self.expected != Some(packet.sequence_id) => {
                Err(out.desync(Rule::AuthenticationTurn))
            }
            State::Authentication => {
                self.expected = None;
                self.check_exposure(usize::try_from(packet.length).unwrap_or(usize::MAX), out.events);
                Ok(())
            }
            State::TlsRequested | State::Refused(_) => Ok(()),
        }
    }

    /// The client on_authentication without TLS, in `len` bytes: tells what it gives away with them, once for all of the same
    /// kind.
    fn check_exposure(&mut self, len: usize, events: &mut Vec<Event>) {
        let kind = match self.plugin {
            // The NUL of an empty password, or a request for the server's key.
            _ if len <= 1 => return,
            AuthPlugin::ClearPassword | AuthPlugin::Dialog => HazardKind::ClearPassword,
            AuthPlugin::Sha256Password => HazardKind::FullAuthWithoutTls,
            AuthPlugin::CachingSha2Password if self.full_authentication && !is_encrypted(len) => {
                HazardKind::ClearPassword
            }
            _ => return,
        };
        if self.exposed.replace(kind) != Some(kind) {
            events.push(Event::Hazard(kind));
        }
    }

    pub(super) fn server_packet(
        &mut self,
        packet: &Packet,
        peers: &mut String,
        out: &mut Output,
    ) -> Outcome<Progress> {
        self.expected = Some(packet.sequence_id.wrapping_add(1));
        match (self.state, packet.first()) {
            // A client may pass over the error and log in: MariaDB's passes over progress reports everywhere.
            (State::Refused(_), _) if self.options.judge_files => {
                return Err(out.desync(Rule::NothingAfterRefusal));
            }
            (State::Refused(_), _) => {}
            (State::Greeting, _) => self.greeting(packet, peers, out)?,
            // Not about the client, which has not said who it is: MySQL's 1158 where the client goes
            // away, 1159 where it never answers.
            (State::Handshake, Some(ERR)) => {
                let errno = error_code(packet.prefix).map_err(|error| out.malformed(Rule::Error, error))?;
                out.events.push(Event::ServerNotice { errno });
            }
            (_, Some(ERR)) => {
                let errno = error_code(packet.prefix).map_err(|error| out.malformed(Rule::Error, error))?;
                out.events.push(Event::HandshakeError { errno, plugin: self.plugin });
                self.state = State::Refused(self.phase());
                self.decided(HandshakeResult::Error, out);
            }
            (State::Handshake, _) => return Err(out.desync(Rule::GreetingThenClient)),
            (State::TlsRequested, _) => return Err(OpaqueReason::Tls),
            (State::Authentication, Some(OK)) => {
                self.decided(HandshakeResult::Ok, out);
                return Ok(Progress::Accepted {
                    capabilities: self.capabilities,
                    affected_client: self.affected_client,
                });
            }
            (State::Authentication, Some(first)) => self.authentication(first, packet, out)?,
            (State::Authentication, None) => return Err(out.desync(Rule::AuthenticationPacket)),
        }
        Ok(Progress::Stays)
    }

    fn decided(&self, result: HandshakeResult, out: &mut Output) {
        let took = Some(out.clock.now().since(self.opened));
        out.events.push(Event::Handshake { result, took });
    }

    fn greeting(&mut self, packet: &Packet, peers: &mut String, out: &mut Output) -> Outcome {
        match packet.first() {
            Some(handshake::PROTOCOL_V10) => {
                let greeting = HandshakeV10::parse(packet.prefix).map_err(|_| OpaqueReason::NotMysql)?;
                self.greeted(greeting.server_version, peers, out);
                out.details
                    .record(self.options.interests, Field::ThreadId, || greeting.thread_id.to_string());
                self.capabilities = greeting.capabilities;
                self.plugin = AuthPlugin::from_name(greeting.auth_plugin);
                self.state = State::Handshake;
                Ok(())
            }
            Some(handshake::PROTOCOL_V9) => {
                let mut reader = Reader::new(packet.prefix);
                let version = reader.u8("protocol_version").and_then(|_| reader.nul_bytes("server_version"));
                self.greeted(version.map_err(|_| OpaqueReason::NotMysql)?, peers, out);
                Err(OpaqueReason::NotMysql)
            }
            Some(handshake::ERR) => {
                let errno = error_code(packet.prefix).map_err(|_| OpaqueReason::NotMysql)?;
                out.events.push(Event::PreHandshakeError { errno });
                self.state = State::Refused(Phase::Greeting);
                Ok(())
            }
            _ => Err(OpaqueReason::NotMysql),
        }
    }

    fn greeted(&self, version: &[u8], peers: &mut String, out: &mut Output) {
        let (flavor, release) = identify(version);
        let after = out.clock.now().since(self.opened);
        out.events.push(Event::Greeting { flavor, release, after });
        show(peers, "server=", version);
        out.details.record(self.options.interests, Field::ServerVersion, || word(version));
    }

    fn authentication(&mut self, first: u8, packet: &Packet, out: &mut Output) -> Outcome {
        let data = packet.prefix.get(1..).unwrap_or_default();
        match first {
            EOF | AUTH_NEXT_FACTOR => {
                let name = data.split(|byte| *byte == 0).next().unwrap_or_default();
                // A lone 0xfe is the request for the hash of MySQL before 4.1.
                let old = first == EOF && packet.length == 1;
                self.plugin = if old { AuthPlugin::OldPassword } else { AuthPlugin::from_name(name) };
                self.full_authentication = false;
                out.events.push(Event::AuthSwitch(self.plugin));
            }
            AUTH_MORE_DATA => {
                let full = self.plugin == AuthPlugin::CachingSha2Password && data == [FULL_AUTHENTICATION];
                if full {
                    self.full_authentication = true;
                    out.events.push(Event::PlaintextFullAuth);
                }
            }
            _ => return Err(out.desync(Rule::AuthenticationPacket)),
        }
        Ok(())
    }
}

/// Clients that give up a login say so. Its id is that of a command.
fn is_quit(packet: &Packet) -> bool {
    packet.sequence_id == 0 && packet.length == 1 && packet.first() == Some(Command::QUIT.0)
}

/// A password encrypted by RSA has the length of the key: 1024 bits or a multiple.
fn is_encrypted(len: usize) -> bool {
    len % 128 == 0
}

/// Appends a version text, as far as it is fit for a log.
fn show(peers: &mut String, key: &str, text: &[u8]) {
    let fit = |byte: &u8| byte.is_ascii_alphanumeric() || b"._+-".contains(byte);
    let shown = text.iter().take(MAX_SHOWN).map(|byte| if fit(byte) { char::from(*byte) } else { '_' });
    if !text.is_empty() {
        peers.push_str(key);
        peers.extend(shown);
    }
}

#[cfg(test)]
mod tests;
