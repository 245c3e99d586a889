//! The command phase of which the client's side alone is looked at: commands are counted, and no byte of an answer is
//! read.
//!
//! | sequence id                                      | meaning                                            |
//! |--------------------------------------------------|----------------------------------------------------|
//! | the next one of a file                           | a piece of it; an empty one ends it                |
//! | 0                                                | a command                                          |
//! | 0, first byte 0xef, behind a COM_BINLOG_DUMP     | a replica's acknowledgement                        |
//! | any other                                        | what the server asked for: a file, authentication  |

use crate::event::output::{Outcome, Output};
use crate::event::violation::Rule;
use crate::event::{Event, OpaqueReason};
use crate::mysql::wire::capability::Capabilities;
use crate::mysql::wire::command::{Command, Grammar};
use crate::mysql::wire::packet::Packet;
use crate::rules::Field;
use crate::session::command_phase::{SEMI_SYNC_ACK, may_hide_account};
use crate::session::options::Options;
use crate::session::pending::change_user;

/// What is remembered of one connection.
#[derive(Debug)]
pub(super) struct RequestsOnly {
    pub(super) options: Options,
    capabilities: Capabilities,
    /// What the server asked for passes, and this is its next sequence id.
    asked_for: Option<u8>,
    is_replica: bool,
    quit: bool,
}

impl RequestsOnly {
    /// `quit`: the client has sent COM_QUIT already.
    pub(super) fn new(capabilities: Capabilities, quit: bool, options: Options) -> Self {
        Self { options, capabilities, asked_for: None, is_replica: false, quit }
    }

    pub(super) fn capabilities(&self) -> Capabilities {
        self.capabilities
    }

    pub(super) fn has_quit(&self) -> bool {
        self.quit
    }

    /// Takes the head of a packet of the client.
    pub(super) fn packet(&mut self, packet: &Packet, out: &mut Output) -> Outcome {
        // The server reads nothing behind COM_QUIT.
        if self.quit {
            return Ok(());
        }
        // A long file counts through all ids, 0 among them.
        if packet.sequence_id != 0 || self.asked_for == Some(0) {
            if may_hide_account(packet) && self.options.interests.has_identity() {
                return Err(out.desync(Rule::AccountInFile));
            }
            self.asked_for = (packet.length > 0).then(|| packet.sequence_id.wrapping_add(1));
            return Ok(());
        }
        self.asked_for = None;
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
            // MariaDB responds by a new greeting, which is not read here; a second login follows.
            Command::CHANGE_USER if packet.length == 1 => return Err(out.desync(Rule::ChangeUserContent)),
            // A server that refuses it ends the connection.
            Command::CHANGE_USER if self.options.interests.has_identity() => {
                let asked = change_user(packet, self.capabilities);
                out.details.record(self.options.interests, Field::User, || asked.user.unwrap_or_default());
                out.details
                    .record(self.options.interests, Field::Schema, || asked.schema.unwrap_or_default());
            }
            _ => {}
        }
        Ok(())
    }

    /// The last byte of a long packet passed; its last fragment had `sequence_id`.
    pub(super) fn packet_end(&mut self, sequence_id: u8) {
        self.asked_for = self.asked_for.map(|_| sequence_id.wrapping_add(1));
    }
}

#[cfg(test)]
mod tests;
