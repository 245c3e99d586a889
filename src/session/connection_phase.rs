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
//! After the handshake response the client sends one packet for each packet of the server. The server reads further packets
//! as commands. Therefore no packet can be ignored: it could be a COM_CHANGE_USER.

use crate::clock::Timestamp;
use crate::event::details::{UNREADABLE, word};
use crate::event::output::{Outcome, Output};
use crate::event::violation::Rule;
use crate::event::{Event, HandshakeResult, HazardKind, OpaqueReason, Phase};
use crate::mysql::peer::bug_106252::AffectedClient;
use crate::mysql::peer::client;
use crate::mysql::peer::server::identify;
use crate::mysql::wire::auth_plugin::{AUTH_MORE_DATA, AUTH_NEXT_FACTOR, AuthPlugin, FULL_AUTHENTICATION};
use crate::mysql::wire::capability::Capabilities;
use crate::mysql::wire::command::Command;
use crate::mysql::wire::handshake::{self, HandshakeResponse, HandshakeV10};
use crate::mysql::wire::packet::Packet;
use crate::mysql::wire::response::{EOF, ERR, OK, error_code};
use crate::mysql::wire::types::Reader;
use crate::rules::Field;
use crate::session::options::Options;
use crate::session::pending::RequestedIdentity;

/// Maximum length of a version text in a report.
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

/// Effect of a packet of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// The connection phase continues.
    Continues,
    /// The server takes commands.
    Accepted {
        /// Capabilities of both peers.
        capabilities: Capabilities,
        /// The client, if it can hang on a split EOF.
        affected_client: Option<AffectedClient>,
    },
}

/// The connection phase of one connection.
#[derive(Debug)]
pub(super) struct ConnectionPhase {
    pub(super) options: Options,
    state: State,
    opened: Timestamp,
    /// Capabilities of the server, and after the handshake response those of both peers.
    capabilities: Capabilities,
    plugin: AuthPlugin,
    /// With caching_sha2_password, the server has requested a full authentication.
    full_authentication: bool,
    /// The last hazard that was emitted because of the client's authentication data.
    exposed: Option<HazardKind>,
    /// The account and the schema that the client requests; empty if they are not of interest.
    identity: RequestedIdentity,
    /// Sequence id of the client's next packet; `None` if the server has to send one first.
    expected_id: Option<u8>,
    /// The client has sent COM_QUIT.
    quit: bool,
    affected_client: Option<AffectedClient>,
    /// The server offers LOCAL INFILE, and the client does not.
    declines_files: bool,
}

impl ConnectionPhase {
    pub(super) fn new(opened: Timestamp, options: Options) -> Self {
        let capabilities = Capabilities::default();
        let (plugin, identity) = (AuthPlugin::None, RequestedIdentity::default());
        Self {
            options,
            state: State::Greeting,
            opened,
            capabilities,
            plugin,
            full_authentication: false,
            exposed: None,
            identity,
            expected_id: None,
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

    /// True if both peers have agreed on TLS: every further byte is TLS, except in an ERR of the server.
    pub(super) fn awaits_tls(&self) -> bool {
        self.state == State::TlsRequested
    }

    /// True if the server offers LOCAL INFILE and the client does not.
    pub(super) fn declines_files(&self) -> bool {
        self.declines_files
    }

    /// True if the client has sent COM_QUIT.
    pub(super) fn has_quit(&self) -> bool {
        self.quit
    }

    /// Heap memory in bytes.
    pub(super) fn memory(&self) -> usize {
        self.identity.memory()
    }

    /// Returns the account and the schema that the client requested.
    pub(super) fn take_identity(&mut self) -> RequestedIdentity {
        std::mem::take(&mut self.identity)
    }

    /// True if the server has greeted the client and not yet accepted or refused it.
    pub(super) fn is_undecided(&self) -> bool {
        matches!(self.state, State::Handshake | State::TlsRequested | State::Authentication)
    }

    /// True if the client has sent nothing since the greeting.
    pub(super) fn is_unanswered(&self) -> bool {
        self.state == State::Handshake
    }

    /// Takes the beginning of a packet of the client.
    pub(super) fn client_packet(&mut self, packet: &Packet, peers: &mut String, out: &mut Output) -> Outcome {
        match self.state {
            State::Greeting => Err(OpaqueReason::NotMysql),
            // The server reads nothing after COM_QUIT.
            _ if self.quit => Ok(()),
            State::Handshake if packet.sequence_id != 1 => Err(out.desync(Rule::HandshakeResponse)),
            State::Handshake => {
                let response = HandshakeResponse::parse(packet.prefix, self.capabilities);
                let response = response.map_err(|error| out.malformed(Rule::HandshakeResponse, error))?;
                self.on_handshake_response(&response, peers, out);
                Ok(())
            }
            State::Authentication if is_quit(packet) => {
                self.quit = true;
                Ok(())
            }
            State::Authentication if self.expected_id != Some(packet.sequence_id) => {
                Err(out.desync(Rule::AuthenticationTurn))
            }
            State::Authentication => {
                self.expected_id = None;
                self.check_exposure(usize::try_from(packet.length).unwrap_or(usize::MAX), out.events);
                Ok(())
            }
            State::TlsRequested | State::Refused(_) => Ok(()),
        }
    }

    fn on_handshake_response(&mut self, response: &HandshakeResponse, peers: &mut String, out: &mut Output) {
        let HandshakeResponse { client_name, client_version, .. } = *response;
        let both = self.capabilities & response.capabilities;
        self.declines_files = self.capabilities.contains(Capabilities::LOCAL_FILES)
            && !both.contains(Capabilities::LOCAL_FILES);
        self.affected_client = AffectedClient::of(client_name, client_version, self.capabilities, both);
        self.capabilities = both;
        if !response.auth_plugin.is_empty() {
            self.plugin = AuthPlugin::from_name(response.auth_plugin);
        }
        show(peers, " client=", client_name);
        show(peers, "/", client_version);
        let interests = self.options.interests;
        if interests.has_identity() {
            let user = response.user.map_or(UNREADABLE.to_owned(), word);
            self.identity = RequestedIdentity { user: Some(user), schema: response.schema.map(word) };
        }
        if self.capabilities.contains(Capabilities::SSL) {
            self.state = State::TlsRequested;
            return;
        }
        self.state = State::Authentication;
        out.details.record(interests, Field::User, || self.identity.user.clone().unwrap_or_default());
        if !client_name.is_empty() {
            let slash: &[u8] = if client_version.is_empty() { b"" } else { b"/" };
            let client = || word(&[client_name, slash, client_version].concat());
            out.details.record(interests, Field::Client, client);
        }
        let (connector, series) = client::identify(client_name, client_version);
        out.events.push(Event::Client { connector, series });
        self.check_exposure(response.auth_response_len, out.events);
    }

    /// Emits a hazard if authentication data of `len` bytes, sent without TLS, exposes the password. Emits each kind once.
    fn check_exposure(&mut self, len: usize, events: &mut Vec<Event>) {
        let kind = match self.plugin {
            _ if self.options.hides_secrets => return,
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

    /// Takes the beginning of a packet of the server.
    pub(super) fn server_packet(
        &mut self,
        packet: &Packet,
        peers: &mut String,
        out: &mut Output,
    ) -> Outcome<Progress> {
        self.expected_id = Some(packet.sequence_id.wrapping_add(1));
        match (self.state, packet.first()) {
            // A client may ignore the error and log in, because MariaDB's client ignores progress reports everywhere.
            (State::Refused(_), _) if self.options.judge_files => {
                return Err(out.desync(Rule::NothingAfterRefusal));
            }
            (State::Refused(_), _) => {}
            (State::Greeting, _) => self.greeting(packet, peers, out)?,
            // Not about this client, which has not sent its account: MySQL's 1158 if the client leaves, 1159 if it never
            // responds.
            (State::Handshake, Some(ERR)) => {
                let errno = error_code(packet.prefix).map_err(|error| out.malformed(Rule::Error, error))?;
                out.events.push(Event::ServerNotice { errno });
            }
            (_, Some(ERR)) => {
                let errno = error_code(packet.prefix).map_err(|error| out.malformed(Rule::Error, error))?;
                out.events.push(Event::HandshakeError { errno, plugin: self.plugin });
                self.state = State::Refused(self.phase());
                self.emit_decision(HandshakeResult::Error, out);
            }
            (State::Handshake, _) => return Err(out.desync(Rule::GreetingThenClient)),
            (State::TlsRequested, _) => return Err(OpaqueReason::Tls),
            (State::Authentication, Some(OK)) => {
                self.emit_decision(HandshakeResult::Ok, out);
                return Ok(Progress::Accepted {
                    capabilities: self.capabilities,
                    affected_client: self.affected_client,
                });
            }
            (State::Authentication, Some(first)) => self.authentication(first, packet, out)?,
            (State::Authentication, None) => return Err(out.desync(Rule::AuthenticationPacket)),
        }
        Ok(Progress::Continues)
    }

    fn emit_decision(&self, result: HandshakeResult, out: &mut Output) {
        let duration = Some(out.clock.now().since(self.opened));
        out.events.push(Event::Handshake { result, duration });
    }

    fn greeting(&mut self, packet: &Packet, peers: &mut String, out: &mut Output) -> Outcome {
        match packet.first() {
            Some(handshake::PROTOCOL_V10) => {
                let greeting = HandshakeV10::parse(packet.prefix).map_err(|_| OpaqueReason::NotMysql)?;
                self.emit_greeting(greeting.server_version, peers, out);
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
                self.emit_greeting(version.map_err(|_| OpaqueReason::NotMysql)?, peers, out);
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

    fn emit_greeting(&self, version: &[u8], peers: &mut String, out: &mut Output) {
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
                // 0xfe alone requests the hash of MySQL before 4.1.
                let old = first == EOF && packet.length == 1;
                self.plugin = if old { AuthPlugin::OldPassword } else { AuthPlugin::from_name(name) };
                self.full_authentication = false;
                out.events.push(Event::AuthSwitch(self.plugin));
            }
            AUTH_MORE_DATA => {
                let full = self.plugin == AuthPlugin::CachingSha2Password && data == [FULL_AUTHENTICATION];
                if full {
                    self.full_authentication = true;
                    if !self.options.hides_secrets {
                        out.events.push(Event::PlaintextFullAuth);
                    }
                }
            }
            _ => return Err(out.desync(Rule::AuthenticationPacket)),
        }
        Ok(())
    }
}

/// True for the COM_QUIT of a client that gives up the login. It has the sequence id of a command.
fn is_quit(packet: &Packet) -> bool {
    packet.sequence_id == 0 && packet.length == 1 && packet.first() == Some(Command::QUIT.0)
}

/// True if a password of this length can be encrypted with RSA: then it is as long as the key, 1024 bits or a multiple.
fn is_encrypted(len: usize) -> bool {
    len % 128 == 0
}

/// Appends a version text. Bytes that are not safe in a log become `_`.
fn show(peers: &mut String, key: &str, text: &[u8]) {
    let fit = |byte: &u8| byte.is_ascii_alphanumeric() || b"._+-".contains(byte);
    let shown = text.iter().take(MAX_SHOWN).map(|byte| if fit(byte) { char::from(*byte) } else { '_' });
    if !text.is_empty() {
        // Once, because the iterator promises no length, and the text would grow byte by byte.
        peers.reserve(key.len().saturating_add(text.len().min(MAX_SHOWN)));
        peers.push_str(key);
        peers.extend(shown);
    }
}

#[cfg(test)]
mod tests;
