//! The command phase if only the client's packets are inspected: commands are counted, and no byte of a response is read.
//!
//! | sequence id                                      | meaning                                            |
//! |--------------------------------------------------|----------------------------------------------------|
//! | the next one of a file                           | a part of the file; an empty packet ends it        |
//! | 0                                                | a command                                          |
//! | 0, first byte 0xef, after a COM_BINLOG_DUMP      | a replica's acknowledgement                        |
//! | any other                                        | requested by the server: a file, authentication    |

use crate::event::output::{Outcome, Output};
use crate::event::violation::Rule;
use crate::event::{Event, OpaqueReason};
use crate::mysql::wire::capability::Capabilities;
use crate::mysql::wire::command::{Command, Grammar};
use crate::mysql::wire::packet::Packet;
use crate::rules::Field;
use crate::session::command_phase::{SEMI_SYNC_ACK, may_hide_account};
use crate::session::options::Options;
use crate::session::pending::{RequestedIdentity, change_user};

/// The state of one connection.
#[derive(Debug)]
pub(super) struct RequestsOnly {
    pub(super) options: Options,
    capabilities: Capabilities,
    /// Next sequence id of the packets that the server requested; `None` if there are none.
    requested: Option<u8>,
    is_replica: bool,
    quit: bool,
}

impl RequestsOnly {
    /// Begins after the login. `quit`: true if the client has sent COM_QUIT already.
    pub(super) fn new(capabilities: Capabilities, quit: bool, options: Options) -> Self {
        Self { options, capabilities, requested: None, is_replica: false, quit }
    }

    pub(super) fn capabilities(&self) -> Capabilities {
        self.capabilities
    }

    pub(super) fn has_quit(&self) -> bool {
        self.quit
    }

    /// Takes the beginning of a packet of the client.
    pub(super) fn packet(&mut self, packet: &Packet, out: &mut Output) -> Outcome {
        // The server reads nothing after COM_QUIT.
        if self.quit {
            return Ok(());
        }
        // The packets of a long file have all ids, including 0.
        if packet.sequence_id != 0 || self.requested == Some(0) {
            if may_hide_account(packet) && self.options.interests.has_identity() {
                return Err(out.desync(Rule::AccountInFile));
            }
            self.requested = (packet.length > 0).then(|| packet.sequence_id.wrapping_add(1));
            return Ok(());
        }
        self.requested = None;
        if self.is_replica && packet.first() == Some(SEMI_SYNC_ACK) {
            return Ok(());
        }
        let command = packet.first().map_or(Command::SLEEP, Command);
        out.events.push(Event::CommandSent(command));
        self.quit = command == Command::QUIT;
        self.is_replica |= command.grammar() == Grammar::BinlogDump;
        match command {
            Command::CLONE => return Err(OpaqueReason::Clone),
            Command::SUBSCRIBE_GROUP_REPLICATION_STREAM => return Err(OpaqueReason::Replication),
            // MariaDB responds with a new greeting, which is not read here, and a second login follows.
            Command::CHANGE_USER if packet.length == 1 => return Err(out.desync(Rule::ChangeUserContent)),
            // A server that refuses it ends the connection.
            Command::CHANGE_USER if self.options.interests.has_identity() => {
                let RequestedIdentity { user, schema } = change_user(packet, self.capabilities);
                out.details.record(self.options.interests, Field::User, || user.unwrap_or_default());
                out.details.record(self.options.interests, Field::Schema, || schema.unwrap_or_default());
            }
            _ => {}
        }
        Ok(())
    }

    /// Takes the end of a long packet, whose last fragment has `sequence_id`.
    pub(super) fn packet_end(&mut self, sequence_id: u8) {
        self.requested = self.requested.map(|_| sequence_id.wrapping_add(1));
    }
}

#[cfg(test)]
mod tests;
