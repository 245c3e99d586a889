//! File requests of the server (LOCAL INFILE), and their judgement by the client's statement.
//!
//! A client can accept a request as the response to its command even if the server sent it too early, after another
//! request, or in place of another packet. Therefore a request is judged everywhere except among rows. It is blocked unless
//! it is the first packet of the response to the only command in the queue.

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

/// Maximum length of a packet that can be held, in bytes.
const MAX_HELD: u32 = 32 << 10;

impl CommandPhase {
    /// Takes the first packet of a file request, after which the file has the sequence id `next`.
    pub(super) fn on_file_request(&mut self, next: u8, events: &mut Vec<Event>) {
        self.sequence.upload = Some(next);
        events.push(Event::LocalInfile);
        let judged = self.options.judge_files;
        if self.queue.front().is_some_and(|head| head.names_no_file && !judged) {
            events.push(Event::Hazard(HazardKind::LocalInfileUnsolicited));
        }
    }

    /// The files that a command allows the server to request; `None` if it allows none. Only called if
    /// [`CommandPhase::names_no_file`] is false. `escapes`: see [`NamedFiles::of`].
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
                // No text, or attributes that cannot be read.
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

    /// True if a command is a COM_QUERY with a single statement whose verb cannot name a file.
    pub(super) fn names_no_file(&self, command: Command, verb: Option<Verb>, packet: &Packet) -> bool {
        if command != Command::QUERY {
            return false;
        }
        let text = statement(packet.prefix, self.capabilities);
        let is_whole = packet.prefix.len() == packet.length as usize;
        let is_single = !self.multi_statements || is_whole && !text.contains(&b';');
        is_single && cannot_name_file(text, verb)
    }

    /// True if a client could accept a file request as the server's next packet: anywhere except among text rows, because
    /// the first column of a row can be NULL (0xfb). A row of a prepared statement begins with 0x00.
    pub(in super::super) fn may_request_file(&self) -> bool {
        let has_text_rows = |head: &Queued| matches!(head.command, Command::QUERY | Command::PROCESS_INFO);
        let is_row = self.response.is_at_rows() && self.queue.front().is_some_and(has_text_rows);
        // No rows follow an unsolicited error. A client that sends a command during a response may ignore the rest of the
        // response; most clients that pipeline commands do not offer LOCAL INFILE.
        self.broke_off || self.interrupted && !self.declines_files || !is_row
    }

    /// Notes that the client accepts no file requests.
    pub(in super::super) fn decline_files(&mut self) {
        self.declines_files = true;
    }

    /// True if a client may drop the part of the server's next packet that has arrived, and send its next command. It would
    /// then read the rest as a response. False for rows and events, because they can be too long to be held.
    pub(in super::super) fn can_be_dropped(&self) -> bool {
        let sends_events = |head: &Queued| head.command.grammar() == Grammar::BinlogDump;
        !self.response.is_at_rows() && !self.queue.front().is_some_and(sends_events)
    }

    /// True if a packet is too long to be held and belongs to no response.
    pub(super) fn is_too_long(&self, packet: &Packet) -> bool {
        let is_expected = !self.queue.is_empty() && !self.response.is_at_definitions();
        packet.length > MAX_HELD && !is_expected && self.can_be_dropped()
    }

    /// Notes a row that a client could accept as a file request, because it stopped reading the result and sent its next
    /// command. The file has the sequence id of a command if the row has the id 255.
    pub(super) fn note_row(&mut self, packet: &Packet) {
        let is_null = packet.first() == Some(LOCAL_INFILE) && !self.may_request_file();
        self.may_send_file |= is_null && packet.sequence_id == u8::MAX;
    }

    /// True if a packet of the client with the sequence id of a command can be the beginning of a file.
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
        self.may_send_file && (!command.is_known() || is_bare && packet.length > 1)
    }

    /// Sequence id of the file request that must not reach the client; `None` if there was none.
    pub(in super::super) fn blocked_request(&self) -> Option<u8> {
        self.blocked_request
    }

    /// Judges a packet of the server if it can be a file request. True if the packet must not reach the client.
    pub(super) fn judge_file_request(&mut self, packet: &Packet, events: &mut Vec<Event>) -> bool {
        if packet.first() != Some(LOCAL_INFILE) || !self.may_request_file() {
            return false;
        }
        // The server would read a further command as the content of the file, so no client sends one.
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

/// True if the text is a single statement whose verb can neither name a file nor execute a statement that does.
fn cannot_name_file(text: &[u8], verb: Option<Verb>) -> bool {
    let is_verb = text.trim_ascii_start().first().is_some_and(u8::is_ascii_alphabetic);
    let other = matches!(verb, None | Some(Verb::Load | Verb::Call | Verb::Set | Verb::Begin | Verb::Other));
    is_verb && !other
}
