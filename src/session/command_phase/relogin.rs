//! A second login on the same connection.
//!
//! MariaDB responds to an empty COM_CHANGE_USER with a new greeting (`Protocol::HandshakeV10`, sequence id 1). The client
//! then logs in as on a new connection. It can also start TLS.

use super::CommandPhase;
use crate::event::OpaqueReason;
use crate::event::details::{UNREADABLE, word};
use crate::event::output::{Outcome, Output};
use crate::event::violation::Rule;
use crate::mysql::wire::capability::Capabilities;
use crate::mysql::wire::handshake::{HandshakeResponse, HandshakeV10, PROTOCOL_V10};
use crate::mysql::wire::packet::Packet;
use crate::rules::Field;
use crate::session::pending::{PendingCommand, RequestedIdentity};

/// State of a second login.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Relogin {
    /// The newest COM_CHANGE_USER names its account.
    No,
    /// The newest COM_CHANGE_USER has no content.
    Requested,
    /// The server greeted again, with these capabilities.
    Greeted(Capabilities),
}

impl Relogin {
    /// The state after a COM_CHANGE_USER.
    pub(super) fn of(packet: &Packet) -> Self {
        if packet.length == 1 { Self::Requested } else { Self::No }
    }
}

impl CommandPhase {
    /// True if the server's next packet can be a new greeting.
    pub(in super::super) fn may_greet_again(&self) -> bool {
        self.relogin == Relogin::Requested && self.response.awaits_first()
    }

    /// Takes the server's first packet after a COM_CHANGE_USER. True if it is a new greeting.
    pub(super) fn take_second_greeting(&mut self, packet: &Packet, out: &mut Output) -> Outcome<bool> {
        if self.relogin != Relogin::Requested || packet.first() != Some(PROTOCOL_V10) {
            return Ok(false);
        }
        let greeting = HandshakeV10::parse(packet.prefix);
        let greeting = greeting.map_err(|error| out.malformed(Rule::SecondGreeting, error))?;
        self.relogin = Relogin::Greeted(greeting.capabilities);
        Ok(true)
    }

    /// Takes the client's next packet. After a new greeting it is a handshake response.
    pub(super) fn take_second_login(&mut self, packet: &Packet, out: &mut Output) -> Outcome {
        let Relogin::Greeted(server) = self.relogin else { return Ok(()) };
        let response = HandshakeResponse::parse(packet.prefix, server);
        let response = response.map_err(|error| out.malformed(Rule::HandshakeResponse, error))?;
        self.relogin = Relogin::No;
        self.capabilities = server & response.capabilities;
        if self.capabilities.contains(Capabilities::SSL) {
            return Err(OpaqueReason::Tls);
        }
        if !self.options.interests.has_identity() {
            return Ok(());
        }
        let user = response.user.map_or(UNREADABLE.to_owned(), word);
        out.details.record(self.options.interests, Field::User, || user.clone());
        let identity = RequestedIdentity { user: Some(user), schema: response.schema.map(word) };
        self.queue.replace_pending_of_front(Box::new(PendingCommand::Identity(identity)));
        Ok(())
    }
}
