//! Requests of the server for a file of the client's (LOCAL INFILE), where they are to be judged by the client's statement.
//!
//! A client can take a request for the response to its command although the server sent it before the command, after
//! another request, or in the place of another packet. So a request is judged everywhere but among rows, and it is refused
//! unless it is the first packet of the response to the only command that waits.

use std::rc::Rc;

use super::{CommandPhase, statement_id};
use crate::event::{Event, HazardKind};
use crate::mysql::sql::load_data::{Judgement, NamedFiles};
use crate::mysql::sql::verb::Verb;
use crate::mysql::wire::capability::Capabilities;
use crate::mysql::wire::command::{Command, Grammar};
use crate::mysql::wire::packet::Packet;
use crate::mysql::wire::query::statement;
use crate::mysql::wire::response::LOCAL_INFILE;
use crate::session::command_phase::queue::Queued;

/// Maximum length of a packet that is held, in bytes.
const MAX_HELD: u32 = 32 << 10;

impl CommandPhase {
    /// The files that a command lets the server ask for, of which [`CommandPhase::names_no_file`] does not know better; none: no
    /// files. `escapes`: see [`NamedFiles::of`].
    pub(super) fn named_files(
        &mut self,
        command: Command,
        packet: &Packet,
        escapes: Option<bool>,
    ) -> Option<Rc<NamedFiles>> {
        let is_whole = packet.prefix.len() == packet.length as usize;
        let of = |text: &[u8]| {
            if is_whole { NamedFiles::of(text, escapes) } else { NamedFiles::of_prefix(text, escapes) }
        };
        let files = match command {
            Command::QUERY => match statement(packet.prefix, self.capabilities) {
                // Nothing, or attributes that cannot be read.
                [] if self.capabilities.contains(Capabilities::QUERY_ATTRIBUTES) => NamedFiles::UNKNOWN,
                text => of(text),
            },
            Command::STMT_PREPARE => of(packet.prefix.get(1..).unwrap_or_default()),
            Command::STMT_EXECUTE | Command::STMT_BULK_EXECUTE => {
                return self.statements.files(statement_id(packet));
            }
            _ => return None,
        };
        let files = (!files.is_empty()).then(|| Rc::new(files));
        if command == Command::STMT_PREPARE {
            self.statements.set_last_files(files.clone());
        }
        files
    }

    /// A COM_QUERY is one statement that by its verb names no file.
    pub(super) fn names_no_file(&self, command: Command, verb: Option<Verb>, packet: &Packet) -> bool {
        if command != Command::QUERY {
            return false;
        }
        let text = statement(packet.prefix, self.capabilities);
        let is_whole = packet.prefix.len() == packet.length as usize;
        let is_single = !self.multi_statements || is_whole && !text.contains(&b';');
        is_single && cannot_name_file(text, verb)
    }

    /// The server's next packet stands where a client could take one that asks for a file: anywhere but among text rows,
    /// because their first column can be NULL. A row of a prepared statement begins with 0x00.
    pub(in super::super) fn may_request_file(&self) -> bool {
        let has_text_rows = |head: &Queued| matches!(head.command, Command::QUERY | Command::PROCESS_INFO);
        let is_row = self.response.is_at_rows() && self.queue.front().is_some_and(has_text_rows);
        // Behind an unsolicited error no rows come. And a client that sends a command within a response can have finished
        // with the response; most clients that send ahead do not take files.
        self.broke_off || self.interrupted && !self.declines_files || !is_row
    }

    /// The client takes no requests for files.
    pub(in super::super) fn decline_files(&mut self) {
        self.declines_files = true;
    }

    /// A client may have no use for the server's next packet, or for the rest of one: it drops what has arrived and sends
    /// its next command, and would read the rest as a response. Rows and events can be too long to be held.
    pub(in super::super) fn can_be_dropped(&self) -> bool {
        let sends_events = |head: &Queued| head.command.grammar() == Grammar::BinlogDump;
        !self.response.is_at_rows() && !self.queue.front().is_some_and(sends_events)
    }

    /// The packet is too long to be held, and it is no response.
    pub(super) fn is_too_long(&self, packet: &Packet) -> bool {
        let is_expected = !self.queue.is_empty() && !self.response.is_at_definitions();
        packet.length > MAX_HELD && !is_expected && self.can_be_dropped()
    }

    /// A client that reads no further in a result which it cannot use takes the rest for the response to its next command.
    /// It may then take a row for a request. Its file has the id of a command if the row has the id 255.
    pub(super) fn note_row(&mut self, packet: &Packet) {
        let is_null = packet.first() == Some(LOCAL_INFILE) && !self.may_request_file();
        self.may_get_file |= is_null && packet.sequence_id == u8::MAX;
    }

    /// The client's packet has the id of a command, and it is the beginning of a file, as far as can be told.
    pub(super) fn looks_like_file(&self, packet: &Packet) -> bool {
        let command = packet.first().map_or(Command::SLEEP, Command);
        let is_bare = matches!(
            command,
            Command::SLEEP
                | Command::QUIT
                | Command::STATISTICS
                | Command::PROCESS_INFO
                | Command::DEBUG
                | Command::PING
                | Command::RESET_CONNECTION
        );
        self.may_get_file && (!command.is_known() || is_bare && packet.length > 1)
    }

    /// The sequence id of the server's packet that asks for a file which the client's statement does not name.
    pub(in super::super) fn blocked_request(&self) -> Option<u8> {
        self.blocked_request
    }

    /// Judges a packet of the server, if it asks for a file. True: it must not reach the client.
    pub(super) fn judge_file_request(&mut self, packet: &Packet, events: &mut Vec<Event>) -> bool {
        if packet.first() != Some(LOCAL_INFILE) || !self.may_request_file() {
            return false;
        }
        // A server would take a command that waits for the contents of the file, so no client sends one.
        let is_alone = self.queue.len() == 1;
        let is_first = |head: &Queued| self.response.awaits_first() && head.sequence_id == packet.sequence_id;
        let can_be_first = self.queue.front().is_some_and(|head| is_alone && is_first(head));
        let can_name = |files: &Rc<NamedFiles>| can_be_first.then(|| Rc::clone(files));
        let executed = self.queue.front().filter(|head| head.command != Command::STMT_PREPARE);
        let files = executed.and_then(|head| head.files.as_ref()).and_then(can_name).unwrap_or_default();
        let is_whole = packet.prefix.len() == packet.length as usize;
        let name = packet.prefix.get(1..).filter(|_| is_whole);
        match name.map_or(Judgement::NotNamed, |name| files.judge(name)) {
            Judgement::Named => false,
            Judgement::Undecidable => {
                events.push(Event::Hazard(HazardKind::LocalInfileUndecidable));
                false
            }
            Judgement::NotNamed => {
                let hazard = Event::Hazard(HazardKind::LocalInfileUnsolicited);
                events.extend([Event::LocalInfile, Event::LocalInfileBlocked, hazard]);
                self.blocked_request = Some(packet.sequence_id);
                true
            }
        }
    }
}

/// A statement is the only one and none that names a file or can run one that does, however long it is.
fn cannot_name_file(text: &[u8], verb: Option<Verb>) -> bool {
    let is_verb = text.trim_ascii_start().first().is_some_and(u8::is_ascii_alphabetic);
    let other = matches!(verb, None | Some(Verb::Load | Verb::Call | Verb::Set | Verb::Begin | Verb::Other));
    is_verb && !other
}
