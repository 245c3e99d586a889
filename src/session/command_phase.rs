//! The command phase. Commands wait in a queue, because a client can send them before the responses to earlier ones. The
//! server's packets belong to the oldest command.
//!
//! | sender | sequence id         | meaning                                                        |
//! |--------|---------------------|----------------------------------------------------------------|
//! | client | 0                   | a command                                                      |
//! | client | 0, first byte 0xef  | a replica's acknowledgement, during a COM_BINLOG_DUMP          |
//! | client | that of the upload  | a part of a requested file; an empty packet ends the file      |
//! | client | any other           | authentication, during a COM_CHANGE_USER                       |
//! | server | that of the oldest  | its response, see [`super::response`]                          |
//! | server | 1                   | an event for a semi-synchronous replica: ids start again at 1  |
//! | server | 0 or 1, an ERR      | an unsolicited error: 4031, 1927, 1053                         |
//! | server | that of the tail    | a packet after a response that looked complete                 |
//!
//! Everything else is a desync.

mod file_requests;
mod late_rows;
mod queue;
mod relogin;
mod sequence;
mod slow_commands;

use std::rc::Rc;
use std::time::Duration;

use crate::clock::{Clock, Timestamp};
use crate::event::details::word;
use crate::event::output::{Outcome, Output};
use crate::event::violation::Rule;
use crate::event::{ClosedBy, Event, OpaqueReason, Response, Sender, Tally};
use crate::mysql::sql::verb::{Verb, verb};
use crate::mysql::wire::capability::Capabilities;
use crate::mysql::wire::command::{Command, Grammar};
use crate::mysql::wire::packet::Packet;
use crate::mysql::wire::query::statement;
use crate::mysql::wire::response::{ERR, StatusFlags, error_code, tracked_schema};
use crate::rules::Field;
use crate::session::idle::Idle;
use crate::session::options::Options;
use crate::session::pending::{Context, PendingCommand, command_prefix_len};
use crate::session::response::{ResponseState, Step};
use crate::session::statements::{Statements, statement_id};
use late_rows::LateRows;
use queue::{Queue, Queued};
use relogin::Relogin;
use sequence::{Sequence, SequenceOwner};

/// Maximum memory of the statements, digests, accounts and file names of one connection, in bytes.
const MAX_OWNED: usize = 64 << 10;
/// First byte of a semi-synchronous replica's acknowledgement.
pub(super) const SEMI_SYNC_ACK: u8 = 0xef;

/// The command phase of one connection. Its memory is bounded by [`Queue`], [`Statements`] and [`MAX_OWNED`].
#[derive(Debug)]
pub(super) struct CommandPhase {
    pub(super) options: Options,
    /// Capabilities of both peers.
    capabilities: Capabilities,
    queue: Queue,
    idle: Idle,
    /// Number of commands, from the oldest on, that are counted as stalled.
    stalled: usize,
    /// The response to the oldest command.
    response: ResponseState,
    /// Time of its first packet; `None` if none has arrived.
    first_byte: Option<Timestamp>,
    sequence: Sequence,
    /// `None` if the last response left no rows to COM_STMT_FETCH.
    late_rows: Option<Box<LateRows>>,
    relogin: Relogin,
    /// The oldest command is a COM_CHANGE_USER, and the server waits for the client's next authentication packet.
    awaits_client: bool,
    statements: Statements,
    /// The account that the server accepted last; `None` if it is not of interest.
    user: Option<String>,
    /// True if a backslash is an escape character in strings; `None` if the SQL mode is not known.
    escapes: Option<bool>,
    in_transaction: bool,
    quit: bool,
    /// The sequence id of the COM_QUIT was not that of a command.
    quit_out_of_order: bool,
    /// A COM_QUERY may hold several statements.
    multi_statements: bool,
    /// Sequence id of the file request that is blocked; see [`CommandPhase::blocked_request`].
    blocked_request: Option<u8>,
    /// The server has sent an unsolicited error.
    broke_off: bool,
    /// The client may send a file that the filter sees no request for, see [`CommandPhase::note_row`].
    may_send_file: bool,
    /// The client has sent a command within the response to an earlier one.
    interrupted: bool,
    /// The server offers LOCAL INFILE, and the client does not.
    declines_files: bool,
}

impl CommandPhase {
    pub(super) fn new(
        capabilities: Capabilities,
        user: Option<String>,
        now: Timestamp,
        options: Options,
    ) -> Self {
        Self {
            options,
            capabilities,
            queue: Queue::default(),
            idle: Idle::since(now),
            stalled: 0,
            response: ResponseState::new(Grammar::Nothing),
            first_byte: None,
            sequence: Sequence::default(),
            late_rows: None,
            relogin: Relogin::No,
            awaits_client: false,
            statements: Statements::default(),
            user,
            escapes: None,
            in_transaction: false,
            quit: false,
            quit_out_of_order: false,
            multi_statements: capabilities.contains(Capabilities::MULTI_STATEMENTS),
            blocked_request: None,
            broke_off: false,
            may_send_file: false,
            interrupted: false,
            declines_files: false,
        }
    }

    pub(super) fn capabilities(&self) -> Capabilities {
        self.capabilities
    }

    /// Takes the COM_QUIT that the client sent after its login, before the server decided.
    pub(super) fn on_early_quit(&mut self, events: &mut Vec<Event>) {
        events.push(Event::CommandSent(Command::QUIT));
        self.quit = true;
    }

    /// Heap memory in bytes, including that of `self`.
    pub(super) fn memory(&self) -> usize {
        let user = self.user.as_ref().map_or(0, String::capacity);
        let late = self.late_rows.as_ref().map_or(0, |_| size_of::<LateRows>());
        let lists = self.queue.memory().saturating_add(self.statements.memory());
        lists.saturating_add(user).saturating_add(late).saturating_add(size_of::<Self>())
    }

    /// True if the client sent COM_QUIT: then the client is the peer that ends the connection.
    pub(super) fn has_quit(&self) -> bool {
        self.quit
    }

    /// The event of a connection that `by` ended while no command waited for its response; `None` if one did.
    pub(super) fn idle_closed(&self, by: ClosedBy, clock: &mut Clock) -> Option<Event> {
        if self.queue.is_empty() { self.idle.on_close(by, clock) } else { None }
    }

    /// Takes the beginning of a packet of the client.
    pub(super) fn client_packet(&mut self, packet: &Packet, out: &mut Output) -> Outcome {
        let owner = self.on_command(packet, out)?;
        self.sequence.set_owner(Sender::Client, packet, owner);
        Ok(())
    }

    /// Takes a packet of the server if all of it has arrived, and it is a row or a column definition of the response to the
    /// oldest command. Returns false, and changes nothing, if it can be another packet, or if file requests are judged.
    ///
    /// The first packet of a response has done everything else that [`CommandPhase::on_response`] does.
    pub(super) fn content(&mut self, packet: &Packet) -> bool {
        if self.options.judge_files || !packet.complete || !self.response.awaits_content() {
            return false;
        }
        match self.queue.front_mut() {
            Some(head) if head.sequence_id == packet.sequence_id => {
                let is_content = self.response.content(packet, self.capabilities);
                head.sequence_id = head.sequence_id.wrapping_add(u8::from(is_content));
                is_content
            }
            _ => false,
        }
    }

    /// Takes the beginning of a packet of the server.
    pub(super) fn server_packet(&mut self, packet: &Packet, out: &mut Output) -> Outcome {
        if self.options.judge_files {
            if self.judge_file_request(packet, out.events) {
                return Ok(());
            }
            if self.is_too_long(packet) {
                return Err(out.desync(Rule::PacketLength));
            }
            self.note_row(packet);
        }
        let owner = self.on_response(packet, out)?;
        self.sequence.set_owner(Sender::Server, packet, owner);
        Ok(())
    }

    /// Number of column definitions still expected before the final EOF of a COM_STMT_PREPARE response; `None` if no such
    /// response is in progress.
    pub(super) fn definitions_left(&self) -> Option<u16> {
        self.response.columns_left().filter(|_| !self.capabilities.contains(Capabilities::DEPRECATE_EOF))
    }

    /// Takes the end of a long packet, whose last fragment has `sequence_id`.
    pub(super) fn packet_end(&mut self, sender: Sender, sequence_id: u8) {
        let next = sequence_id.wrapping_add(1);
        let queued = match self.sequence.take_owner(sender) {
            SequenceOwner::Oldest => self.queue.front_mut(),
            SequenceOwner::Newest => self.queue.back_mut(),
            SequenceOwner::Upload => return self.sequence.upload = Some(next),
            SequenceOwner::Tail => return self.sequence.advance_tail(next),
            SequenceOwner::None => None,
        };
        if let Some(queued) = queued {
            queued.sequence_id = next;
        }
    }

    /// Number of commands that have waited at least `stall` for the end of their response. Responses come in the order of
    /// the commands. A COM_BINLOG_DUMP never counts, because its response does not end.
    fn count_stalled(&self, now: Timestamp, stall: Duration) -> usize {
        let old = self.queue.iter().take_while(|(queued, _)| now.since(queued.started) >= stall);
        let ends = old.filter(|(queued, _)| queued.command.grammar() != Grammar::BinlogDump);
        ends.fold(0, |sum, (_, count)| sum.saturating_add(count))
    }

    /// True if [`CommandPhase::stall`] would emit an event.
    pub(super) fn is_stall_due(&self, now: Timestamp, stall: Duration) -> bool {
        self.count_stalled(now, stall) != self.stalled
    }

    /// Emits the change of the number of stalled commands.
    pub(super) fn stall(&mut self, now: Timestamp, stall: Duration, events: &mut Vec<Event>) {
        self.set_stalled(self.count_stalled(now, stall), events);
    }

    fn set_stalled(&mut self, stalled: usize, events: &mut Vec<Event>) {
        let count = |count| i64::try_from(count).unwrap_or(i64::MAX);
        let change = count(stalled).saturating_sub(count(std::mem::replace(&mut self.stalled, stalled)));
        if change != 0 {
            events.push(Event::Stalled { change });
        }
    }

    /// Ends the session: no command gets a response any more, and no statement or transaction is open.
    pub(super) fn end(&mut self, events: &mut Vec<Event>) {
        self.set_stalled(0, events);
        self.end_late_rows(events);
        while let Some((Queued { command, verb, .. }, count)) = self.queue.pop_entry() {
            events.push(Event::CommandEnded { command, verb, response: None });
            if let Some(count) = count.checked_sub(1).filter(|count| *count > 0) {
                events.push(Event::CommandsAbandoned { command, count });
            }
        }
        self.forget_statements(events);
        self.set_transaction(false, events);
    }

    fn on_command(&mut self, packet: &Packet, out: &mut Output) -> Outcome<SequenceOwner> {
        let next = packet.sequence_id.wrapping_add(1);
        if self.sequence.is_upload(packet.sequence_id) {
            if may_hide_account(packet) && self.options.interests.has_identity() {
                return Err(out.desync(Rule::AccountInFile));
            }
            self.sequence.upload = (packet.length > 0).then_some(next);
            // After a server has refused the file, the oldest command is another one.
            if let Some(head) = self.queue.front_mut().filter(|_| self.response.awaits_file()) {
                head.sequence_id = next;
            }
            return Ok(SequenceOwner::Upload);
        }
        let head = self.queue.front().map(|queued| queued.command.grammar());
        match (packet.sequence_id, head) {
            // A server should have closed the connection. A policy about accounts must not rely on that.
            _ if self.quit_out_of_order && self.options.interests.has_identity() => {
                Err(out.desync(Rule::NothingAfterQuit))
            }
            // The server reads nothing after COM_QUIT.
            _ if self.quit => Ok(SequenceOwner::None),
            (0, Some(Grammar::BinlogDump)) if packet.first() == Some(SEMI_SYNC_ACK) => {
                Ok(SequenceOwner::None)
            }
            (0, _) => self.start_command(packet, out),
            (_, Some(Grammar::ChangeUser)) => self.on_authentication(packet, out),
            // The asyncio part of Connector/Python continues the ids of the last response. The server does not count this
            // COM_QUIT, and closes.
            (_, None) if packet.length == 1 && packet.first() == Some(Command::QUIT.0) => {
                (self.quit, self.quit_out_of_order) = (true, true);
                Ok(SequenceOwner::None)
            }
            _ => Err(out.desync(Rule::CommandId)),
        }
    }

    /// Takes a packet of the authentication that a COM_CHANGE_USER began. One follows each packet of the server.
    fn on_authentication(&mut self, packet: &Packet, out: &mut Output) -> Outcome<SequenceOwner> {
        let expected = self.queue.front().map(|head| head.sequence_id);
        if !std::mem::take(&mut self.awaits_client) || expected != Some(packet.sequence_id) {
            return Err(out.desync(Rule::AuthenticationTurn));
        }
        self.take_second_login(packet, out)?;
        if let Some(head) = self.queue.front_mut() {
            head.sequence_id = packet.sequence_id.wrapping_add(1);
        }
        Ok(SequenceOwner::Oldest)
    }

    /// Takes the first packet of a command.
    fn start_command(&mut self, packet: &Packet, out: &mut Output) -> Outcome<SequenceOwner> {
        if self.options.judge_files && self.looks_like_file(packet) {
            return Err(out.desync(Rule::KnownCommand));
        }
        self.sequence.upload = None;
        if self.late_rows.is_none() {
            self.sequence.tail = None;
        }
        let command = packet.first().map_or(Command::SLEEP, Command);
        let grammar = command.grammar();
        if grammar == Grammar::Nothing {
            self.on_command_without_response(command, packet, out);
            return Ok(SequenceOwner::None);
        }
        if self.queue.is_full() {
            return Err(OpaqueReason::Memory);
        }
        out.events.push(Event::CommandStarted(command));
        let asks_for_cursor = command == Command::STMT_EXECUTE && asks_for_cursor(packet);
        self.interrupted = !self.queue.is_empty() && (self.interrupted || self.first_byte.is_some());
        self.may_send_file |= self.interrupted;
        if self.queue.is_empty() {
            self.response = ResponseState::new(grammar).with_cursor(asks_for_cursor);
        }
        if command == Command::CHANGE_USER {
            self.relogin = Relogin::of(packet);
        }
        self.multi_statements |= command == Command::SET_OPTION;
        let fits = self.enqueue(command, asks_for_cursor, packet, out);
        match command {
            _ if !fits => Err(OpaqueReason::Memory),
            Command::CLONE => Err(OpaqueReason::Clone),
            Command::SUBSCRIBE_GROUP_REPLICATION_STREAM => Err(OpaqueReason::Replication),
            _ => Ok(SequenceOwner::Newest),
        }
    }

    fn on_command_without_response(&mut self, command: Command, packet: &Packet, out: &mut Output) {
        out.events.push(Event::CommandSent(command));
        self.quit |= command == Command::QUIT;
        if command == Command::STMT_CLOSE && self.statements.remove(statement_id(packet)) {
            out.events.push(Event::PreparedStatements { change: -1 });
        }
    }

    /// Appends a command to the queue. False if what has to be remembered of it exceeds [`MAX_OWNED`].
    fn enqueue(&mut self, command: Command, asks_for_cursor: bool, whole: &Packet, out: &mut Output) -> bool {
        let packet = &whole.shortened(command_prefix_len(&self.options.interests));
        let verb = self.verb(command, packet);
        let started = out.clock.now();
        // An earlier command can still change the SQL mode.
        let escapes = self.escapes.filter(|_| self.queue.is_empty());
        let names_no_file = self.names_no_file(command, verb, whole);
        let judged = self.options.judge_files && !names_no_file;
        let files = judged.then(|| self.named_files(command, whole, escapes)).flatten();
        let context = Context {
            capabilities: self.capabilities,
            escapes,
            interests: self.options.interests,
            statements: &mut self.statements,
        };
        let mut pending = PendingCommand::of(command, verb, packet, context, out.details);
        let new = pending.as_ref().map_or(0, |pending| pending.memory());
        let new = new.saturating_add(files.as_ref().map_or(0, |files| files.memory()));
        let owned = self.queue.owned().saturating_add(self.statements.owned());
        let is_too_much = owned.saturating_add(new) > MAX_OWNED;
        // A log line can omit the digest. Accounts and judgements need the rest.
        let is_needed = files.is_some() || pending.as_ref().is_some_and(|pending| pending.is_identity());
        if is_too_much && !is_needed {
            pending = None;
        }
        let queued =
            Queued { command, verb, sequence_id: 1, started, pending, files, names_no_file, asks_for_cursor };
        self.queue.push(queued, packet.complete);
        !(is_too_much && is_needed)
    }

    /// Verb of the statement that a command executes or prepares; `None` for other commands.
    fn verb(&mut self, command: Command, packet: &Packet) -> Option<Verb> {
        match command {
            Command::QUERY => Some(verb(statement(packet.prefix, self.capabilities))),
            Command::STMT_PREPARE => {
                let verb = verb(packet.prefix.get(1..).unwrap_or_default());
                self.statements.prepare(verb);
                Some(verb)
            }
            Command::STMT_EXECUTE | Command::STMT_BULK_EXECUTE => {
                Some(self.statements.verb(statement_id(packet)))
            }
            _ => None,
        }
    }

    /// Takes a packet that belongs to the oldest command, unless its sequence id says otherwise.
    fn on_response(&mut self, packet: &Packet, out: &mut Output) -> Outcome<SequenceOwner> {
        let next = packet.sequence_id.wrapping_add(1);
        let is_alone = self.queue.len() == 1;
        let Some(head) = self.queue.front() else { return self.on_unsolicited(packet, out) };
        // After an event that a replica has to acknowledge, the ids start again at 1.
        let starts_again = head.command.grammar() == Grammar::BinlogDump && packet.sequence_id == 1;
        // A server can refuse a file before all of it has arrived.
        if packet.sequence_id != head.sequence_id && !self.response.awaits_file() && !starts_again {
            // An unsolicited error has the id 0 or 1 (MySQL 4031, MariaDB 1927).
            if packet.sequence_id <= 1 || self.sequence.is_tail(packet.sequence_id) {
                return self.on_unsolicited(packet, out);
            }
            // A server can refuse a command that is too long (1153) at any of its fragments.
            let sending = is_alone && self.sequence.is_command_open();
            if !(sending && self.response.awaits_first() && packet.first() == Some(ERR)) {
                return Err(out.desync(Rule::SequenceId));
            }
        }
        if self.late_rows.is_some() {
            self.end_late_rows(out.events);
        }
        self.sequence.tail = None;
        let Some(head) = self.queue.front_mut() else { return Err(out.desync(Rule::Unsolicited)) };
        head.sequence_id = next;
        let is_change_user = head.command == Command::CHANGE_USER;
        let verb = head.verb.unwrap_or(Verb::Other);
        if self.first_byte.is_none() {
            self.first_byte = Some(out.clock.now());
        }
        self.awaits_client = is_change_user;
        if is_change_user && self.take_second_greeting(packet, out)? {
            return Ok(SequenceOwner::Oldest);
        }
        let awaited_file = self.response.awaits_file();
        let step = self.response.packet(packet, self.capabilities);
        self.on_state_change(verb, packet, out);
        match step {
            Step::More => {
                if self.response.awaits_file() && !awaited_file {
                    self.on_file_request(next, out.events);
                }
                Ok(SequenceOwner::Oldest)
            }
            Step::Done => {
                self.awaits_client = false;
                self.complete(next, out);
                Ok(SequenceOwner::Tail)
            }
            Step::Unexpected => Err(out.desync(Rule::Response)),
            Step::Malformed(error) => Err(out.malformed(Rule::Response, error)),
        }
    }

    /// Records a prepared statement, which the client can use before its definitions have arrived, and the current schema.
    fn on_state_change(&mut self, verb: Verb, packet: &Packet, out: &mut Output) {
        if let Some(id) = self.response.take_statement_id().filter(|id| self.statements.add(*id, verb)) {
            out.events.push(Event::PreparedStatements { change: 1 });
            self.remember_statement(id);
        }
        if self.response.take_state_changed() && self.options.interests.has(Field::Schema) {
            if let Some(schema) = tracked_schema(packet.prefix, self.capabilities) {
                out.details.record(self.options.interests, Field::Schema, || word(schema));
            }
        }
    }

    /// Remembers the digest and the files of the statement that the oldest command prepared.
    fn remember_statement(&mut self, id: u32) {
        let Some(head) = self.queue.front() else { return };
        if let Some(digest) = head.pending.as_ref().and_then(|pending| pending.prepared_digest()) {
            self.statements.set_digest(id, digest);
        }
        if let Some(files) = &head.files {
            self.statements.set_files(id, Rc::clone(files));
        }
    }

    /// Takes the end of the response to the oldest command. A packet that continues it would have the sequence id `next`.
    fn complete(&mut self, next: u8, out: &mut Output) {
        let Some(queued) = self.queue.pop() else { return };
        let Queued { command, verb, started, .. } = queued;
        let tally = self.response.tally();
        let now = out.clock.now();
        let first_byte = self.first_byte.take().unwrap_or(now).since(started);
        let response = Response { tally, duration: now.since(started), first_byte };
        self.idle = Idle::since(now);
        out.events.push(Event::CommandEnded { command, verb, response: Some(response) });
        self.record_slow(&queued, response.duration, 1, Some(&tally), out.details);
        if command.grammar() != Grammar::BinlogDump {
            self.set_stalled(self.stalled.saturating_sub(1), out.events);
        }
        self.apply(command, &tally, out.events);
        if let Some(PendingCommand::Identity(identity)) = queued.pending.map(|pending| *pending) {
            self.apply_identity(command, identity, tally.errno, out.details);
        }
        self.sequence.tail = Some((command.grammar(), next));
        self.late_rows = LateRows::of(&self.response);
        if let Some(head) = self.queue.front() {
            self.response = ResponseState::new(head.command.grammar()).with_cursor(head.asks_for_cursor);
        }
    }

    /// Applies the session state that a response reports.
    fn apply(&mut self, command: Command, tally: &Tally, events: &mut Vec<Event>) {
        if let Some(status) = self.response.status() {
            self.set_transaction(status.contains(StatusFlags::IN_TRANS), events);
            self.escapes = Some(!status.contains(StatusFlags::NO_BACKSLASH_ESCAPES));
        }
        let resets = matches!(command, Command::CHANGE_USER | Command::RESET_CONNECTION);
        if resets {
            self.escapes = None;
        }
        if resets && tally.errno.is_none() {
            self.forget_statements(events);
        }
    }

    fn forget_statements(&mut self, events: &mut Vec<Event>) {
        let open = i64::try_from(self.statements.clear()).unwrap_or(i64::MAX);
        if open > 0 {
            events.push(Event::PreparedStatements { change: open.saturating_neg() });
        }
    }

    fn set_transaction(&mut self, open: bool, events: &mut Vec<Event>) {
        if self.in_transaction != open {
            self.in_transaction = open;
            events.push(Event::Transaction { open });
        }
    }

    /// Takes a packet of the server that belongs to no command. It is an unsolicited error, or it follows a response that
    /// looked complete: the OK after OUT parameters, or definitions beyond the 16 bits of their count.
    fn on_unsolicited(&mut self, packet: &Packet, out: &mut Output) -> Outcome<SequenceOwner> {
        let next = packet.sequence_id.wrapping_add(1);
        let follows = self.sequence.is_tail(packet.sequence_id);
        if follows && self.late_rows.is_some() {
            self.sequence.advance_tail(next);
            self.late_row(packet, out)?;
            return Ok(SequenceOwner::Tail);
        }
        if packet.first() == Some(ERR) {
            let errno = error_code(packet.prefix).map_err(|error| out.malformed(Rule::Error, error))?;
            out.events.push(Event::ServerNotice { errno });
            self.idle.on_unsolicited_error(errno, out.clock, out.events);
            self.response.lose_count();
            self.broke_off = true;
            return Ok(SequenceOwner::None);
        }
        match self.sequence.tail {
            Some((Grammar::ResultSet | Grammar::Prepare, _)) if follows => {
                self.sequence.advance_tail(next);
                Ok(SequenceOwner::Tail)
            }
            _ => Err(out.desync(Rule::Unsolicited)),
        }
    }
}

/// True if a packet of an upload would be a COM_CHANGE_USER for a server that has stopped reading the file.
pub(super) fn may_hide_account(packet: &Packet) -> bool {
    packet.sequence_id == 0 && packet.first() == Some(Command::CHANGE_USER.0)
}

/// True if a COM_STMT_EXECUTE has one of the flags `CURSOR_TYPE_READ_ONLY`, `CURSOR_TYPE_FOR_UPDATE`,
/// `CURSOR_TYPE_SCROLLABLE`.
fn asks_for_cursor(packet: &Packet) -> bool {
    const FLAGS_AT: usize = 5;
    const CURSOR_TYPES: u8 = 7;
    packet.prefix.get(FLAGS_AT).is_some_and(|flags| flags & CURSOR_TYPES != 0)
}

#[cfg(test)]
mod tests;
