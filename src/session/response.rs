//! The response to one command, inspected packet by packet.
//!
//! ```text
//!                 +--------------------- MORE_RESULTS ---------------------+
//!                 v                                                        |
//! First --count--> Columns --last--> ColumnsEof --EOF--> Rows --end--> (done)
//!   | |                       (DEPRECATE_EOF: straight to Rows)
//!   | +--0xfb--> Infile --OK--> (done)
//!   +--PREPARE_OK--> Definitions of the parameters --> Definitions of the columns --> (done)
//! ```
//! OK ends the response in `First`, ERR ends it anywhere. Without `DEPRECATE_EOF` the groups of COM_STMT_PREPARE end at
//! their EOF, not by count, because the counts overflow at 16 bits.

use crate::event::Tally;
use crate::mysql::wire::capability::Capabilities;
use crate::mysql::wire::command::Grammar;
use crate::mysql::wire::packet::{MAX_FRAGMENT_LEN, Packet};
use crate::mysql::wire::response::{
    ColumnCount, EOF, ERR, EofPacket, LOCAL_INFILE, OK, OkPacket, PrepareOk, StatusFlags, error_code,
};
use crate::mysql::wire::types::{ParseError, Reader};

/// Length of an EOF packet. An OK in its place is longer.
const EOF_LEN: u32 = 5;
/// An EOF packet is shorter than this; a row that begins with 0xfe is longer.
const EOF_MAX_LEN: u32 = 9;
/// Error number of MariaDB's progress reports, which are ERR packets.
const PROGRESS_REPORT: u16 = 0xffff;

/// Effect of a packet on the response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// More packets follow.
    More,
    /// The response is complete.
    Done,
    /// The packet is not valid in the current state.
    Unexpected,
    /// The packet cannot be read.
    Malformed(ParseError),
}

impl From<ParseError> for Step {
    fn from(error: ParseError) -> Self {
        Self::Malformed(error)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    First,
    Columns {
        left: u64,
    },
    ColumnsEof,
    Rows,
    /// A group of COM_STMT_PREPARE with `left` definitions to come, then a group of `then`.
    Definitions {
        left: u16,
        then: u16,
        group: Group,
    },
    Infile,
}

/// Group of definitions in the response to COM_STMT_PREPARE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Group {
    Parameters,
    Columns,
}

/// The state of the response to one command.
#[derive(Clone, Copy, Debug)]
pub struct ResponseState {
    grammar: Grammar,
    state: State,
    /// The command requested a cursor. Otherwise no rows can be left to COM_STMT_FETCH.
    asks_for_cursor: bool,
    /// The response ended at column definitions whose EOF announces a cursor. Rows can still follow.
    rows_may_follow: bool,
    /// The current result set holds OUT parameters.
    out_parameters: bool,
    /// Rows of the result sets before the current one.
    rows_before: u64,
    tally: Tally,
    status: Option<StatusFlags>,
    statement_id: Option<u32>,
    /// The last packet reported a change of the session's state.
    state_changed: bool,
}

impl ResponseState {
    /// The response to a command, before its first packet.
    #[must_use]
    pub fn new(grammar: Grammar) -> Self {
        Self {
            grammar,
            state: State::First,
            asks_for_cursor: false,
            rows_may_follow: false,
            out_parameters: false,
            rows_before: 0,
            tally: Tally::default(),
            status: None,
            statement_id: None,
            state_changed: false,
        }
    }

    /// Sets whether the command requests a cursor.
    #[must_use]
    pub fn with_cursor(self, asks_for_cursor: bool) -> Self {
        Self { asks_for_cursor, ..self }
    }

    /// True if the response is complete for a client that uses COM_STMT_FETCH, and rows can still follow. They can because
    /// MariaDB sets the same flag for an open cursor of a stored routine. [`ResponseState::packet`] takes these rows.
    #[must_use]
    pub fn rows_may_follow(&self) -> bool {
        self.rows_may_follow
    }

    /// True if rows begin or continue.
    #[must_use]
    pub fn is_at_rows(&self) -> bool {
        self.state == State::Rows
    }

    /// True if definitions of COM_STMT_PREPARE or the EOF after them come next.
    #[must_use]
    pub fn is_at_definitions(&self) -> bool {
        matches!(self.state, State::Definitions { .. })
    }

    /// The content counted so far.
    #[must_use]
    pub fn tally(&self) -> Tally {
        self.tally
    }

    /// The session's state according to the last OK or EOF; `None` if there was none.
    #[must_use]
    pub fn status(&self) -> Option<StatusFlags> {
        self.status
    }

    /// The id of the prepared statement. Returned once.
    pub fn take_statement_id(&mut self) -> Option<u32> {
        self.statement_id.take()
    }

    /// True if the last packet is an OK with changes of the session's state. Returned once.
    pub fn take_state_changed(&mut self) -> bool {
        std::mem::take(&mut self.state_changed)
    }

    /// True if no packet of the response has arrived.
    #[must_use]
    pub fn awaits_first(&self) -> bool {
        self.state == State::First
    }

    /// True if the server has requested a file and not yet reported the result.
    #[must_use]
    pub fn awaits_file(&self) -> bool {
        self.state == State::Infile
    }

    /// Number of column definitions of COM_STMT_PREPARE that are still expected, in 16 bits that overflow; `None` if none
    /// come next. An EOF follows the last one, unless EOF packets are deprecated.
    #[must_use]
    pub fn columns_left(&self) -> Option<u16> {
        match self.state {
            State::Definitions { left, group: Group::Columns, .. } => Some(left),
            _ => None,
        }
    }

    /// Notes an unsolicited error, after which no column definition is known to be the last.
    pub fn lose_count(&mut self) {
        if let State::Definitions { left, .. } = &mut self.state {
            *left = u16::MAX;
        }
    }

    /// True if the next packet can be a row or a column definition.
    #[must_use]
    pub fn awaits_content(&self) -> bool {
        matches!(self.state, State::Rows | State::Columns { .. })
    }

    /// Takes the next packet of the server if it is a row or a column definition, as nearly all packets are. Returns false,
    /// and changes nothing, if it can be another packet.
    pub fn content(&mut self, packet: &Packet, capabilities: Capabilities) -> bool {
        if matches!(packet.first(), Some(EOF | ERR) | None) {
            return false;
        }
        match self.state {
            State::Rows => self.tally.rows = self.tally.rows.saturating_add(1),
            State::Columns { left } => {
                self.state = match left.saturating_sub(1) {
                    0 if capabilities.contains(Capabilities::DEPRECATE_EOF) => State::Rows,
                    0 => State::ColumnsEof,
                    left => State::Columns { left },
                };
            }
            _ => return false,
        }
        true
    }

    /// Takes the next packet of the server.
    pub fn packet(&mut self, packet: &Packet, capabilities: Capabilities) -> Step {
        if self.content(packet, capabilities) {
            return Step::More;
        }
        match self.step(packet, capabilities) {
            Ok(step) | Err(step) => step,
        }
    }

    fn step(&mut self, packet: &Packet, capabilities: Capabilities) -> Result<Step, Step> {
        let Some(first) = packet.first() else { return Err(Step::Unexpected) };
        let deprecate_eof = capabilities.contains(Capabilities::DEPRECATE_EOF);
        // The text of COM_STATISTICS can begin with any byte. An error has the mark of its SQL state.
        let is_text = self.grammar == Grammar::Statistics && packet.prefix.get(3) != Some(&b'#');
        if first == ERR && !is_text {
            return self.error(packet, capabilities);
        }
        let is_eof = first == EOF && packet.length < EOF_MAX_LEN;
        match self.state {
            State::First => self.first(packet, first, capabilities),
            State::Infile if first == OK => self.ok(packet, capabilities),
            // No column definition begins with an EOF. A client that reads up to the first EOF would see another end.
            State::Columns { .. } => Err(Step::Unexpected),
            State::ColumnsEof if is_eof => {
                let eof = EofPacket::parse(packet.prefix, capabilities)?;
                self.state = State::Rows;
                // Clients do not wait for an OK that neither EOF announces.
                let announced = StatusFlags(StatusFlags::PS_OUT_PARAMS.0 | StatusFlags::MORE_RESULTS.0);
                self.out_parameters = eof.status_flags.contains(announced);
                // MariaDB sets the flag in any response while a stored routine has a cursor open.
                if self.asks_for_cursor && eof.status_flags.contains(StatusFlags::CURSOR_EXISTS) {
                    self.rows_may_follow = true;
                    self.count_end(eof.status_flags, eof.warnings);
                    return Ok(Step::Done);
                }
                Ok(Step::More)
            }
            // MySQL ends a result set with a plain EOF if a routine handles an error that occurs among the rows.
            State::Rows if deprecate_eof && packet.length != EOF_LEN && packet.length < MAX_FRAGMENT_LEN => {
                self.ok(packet, capabilities)
            }
            State::Rows if is_eof => {
                let eof = EofPacket::parse(packet.prefix, capabilities)?;
                Ok(self.end_of_result(eof.status_flags, eof.warnings))
            }
            // Some clients read this packet as the end.
            State::Rows if packet.length < MAX_FRAGMENT_LEN => Err(Step::Unexpected),
            State::Rows => {
                // A first column of 16 MiB or more: its length begins with 0xfe.
                self.tally.rows = self.tally.rows.saturating_add(1);
                Ok(Step::More)
            }
            State::Definitions { left, then, group } if deprecate_eof => {
                Ok(self.definitions(left.saturating_sub(1), then, group))
            }
            State::Definitions { then, group, .. } if is_eof => Ok(self.definitions(0, then, group)),
            State::Definitions { left, then, group } => {
                self.state = State::Definitions { left: left.wrapping_sub(1), then, group };
                Ok(Step::More)
            }
            State::ColumnsEof | State::Infile => Err(Step::Unexpected),
        }
    }

    fn first(&mut self, packet: &Packet, first: u8, capabilities: Capabilities) -> Result<Step, Step> {
        let ended = first == EOF && packet.length < EOF_MAX_LEN;
        match (self.grammar, first) {
            (Grammar::Statistics, _) => Ok(Step::Done),
            (Grammar::Ok | Grammar::Eof, EOF) => Ok(Step::Done),
            (Grammar::Ok | Grammar::Eof | Grammar::ChangeUser, OK) => match self.ok(packet, capabilities)? {
                // Clients read no second response to such a command.
                Step::More => Err(Step::Unexpected),
                step => Ok(step),
            },
            (Grammar::ResultSet, OK | EOF) => self.ok(packet, capabilities),
            (Grammar::ResultSet, LOCAL_INFILE) => {
                self.state = State::Infile;
                Ok(Step::More)
            }
            (Grammar::ResultSet, _) => {
                let count = ColumnCount::parse(packet.prefix, capabilities)?;
                self.tally.result_sets = self.tally.result_sets.saturating_add(1);
                self.rows_before = self.tally.rows;
                self.state =
                    match (count.metadata_follows, capabilities.contains(Capabilities::DEPRECATE_EOF)) {
                        (true, _) => State::Columns { left: count.columns },
                        (false, false) => State::ColumnsEof,
                        (false, true) => State::Rows,
                    };
                Ok(Step::More)
            }
            (Grammar::Prepare, OK) => {
                let prepared = PrepareOk::parse(packet.prefix, capabilities)?;
                // Without definitions, no definition is the last.
                let count = |count| if prepared.metadata_follows || count == 0 { count } else { u16::MAX };
                let (params, columns) = (count(prepared.num_params), count(prepared.num_columns));
                self.statement_id = Some(prepared.statement_id);
                // MySQL 9.7 omits the definitions and still sends the EOFs after them (measured).
                let packets_follow =
                    prepared.metadata_follows || !capabilities.contains(Capabilities::DEPRECATE_EOF);
                Ok(if packets_follow {
                    self.definitions(params, columns, Group::Parameters)
                } else {
                    Step::Done
                })
            }
            // Switch to another plugin, more data, another factor.
            (Grammar::ChangeUser, EOF | 0x01 | 0x02) => Ok(Step::More),
            (Grammar::FieldList, EOF) => Ok(Step::Done),
            (Grammar::FieldList, _) => Ok(Step::More),
            (Grammar::Fetch, _) => {
                self.state = State::Rows;
                Ok(self.packet(packet, capabilities))
            }
            (Grammar::BinlogDump, OK) => Ok(Step::More),
            (Grammar::BinlogDump, EOF) if ended => Ok(Step::Done),
            _ => Err(Step::Unexpected),
        }
    }

    fn error(&mut self, packet: &Packet, capabilities: Capabilities) -> Result<Step, Step> {
        let errno = error_code(packet.prefix)?;
        if errno == PROGRESS_REPORT && capabilities.contains(Capabilities::MARIADB_PROGRESS) {
            // MariaDB's client reads any other form as an error, and its command has ended.
            return if is_progress_report(packet)? { Ok(Step::More) } else { Err(Step::Unexpected) };
        }
        self.tally.errno = Some(errno);
        self.state = State::First;
        Ok(Step::Done)
    }

    fn ok(&mut self, packet: &Packet, capabilities: Capabilities) -> Result<Step, Step> {
        let ok = OkPacket::parse(packet.prefix, capabilities)?;
        self.tally.affected_rows = self.tally.affected_rows.saturating_add(ok.affected_rows);
        self.state_changed = ok.status_flags.contains(StatusFlags::SESSION_STATE_CHANGED);
        Ok(self.end_of_result(ok.status_flags, ok.warnings))
    }

    /// Counts the warnings and flags at the end of a result set, or of its definitions.
    fn count_end(&mut self, status: StatusFlags, warnings: u16) {
        self.status = Some(status);
        let tally = &mut self.tally;
        tally.warnings = tally.warnings.saturating_add(u32::from(warnings));
        let count = |flags| u32::from(status.contains(flags));
        tally.no_index_used = tally.no_index_used.saturating_add(count(StatusFlags::NO_INDEX_USED));
        tally.slow = tally.slow.saturating_add(count(StatusFlags::QUERY_WAS_SLOW));
    }

    fn end_of_result(&mut self, status: StatusFlags, warnings: u16) -> Step {
        self.state = State::First;
        self.rows_may_follow = false;
        self.count_end(status, warnings);
        let tally = &mut self.tally;
        if self.out_parameters || status.contains(StatusFlags::PS_OUT_PARAMS) {
            // No server counts the row of OUT parameters.
            tally.rows = self.rows_before;
        }
        // An OK follows OUT parameters, although MySQL sometimes does not announce it in the EOF after them.
        let more = status.contains(StatusFlags::MORE_RESULTS) || self.out_parameters;
        self.out_parameters = false;
        if more { Step::More } else { Step::Done }
    }

    fn definitions(&mut self, left: u16, then: u16, group: Group) -> Step {
        let (left, then, group) = if left == 0 { (then, 0, Group::Columns) } else { (left, then, group) };
        if left == 0 {
            self.state = State::First;
            return Step::Done;
        }
        self.state = State::Definitions { left, then, group };
        Step::More
    }
}

/// True if an ERR packet has the form of a progress report: number of strings, stage, number of stages, progress, text.
fn is_progress_report(packet: &Packet) -> Result<bool, ParseError> {
    let mut reader = Reader::new(packet.prefix);
    reader.bytes("header, error_code, strings, stages, progress", 9)?;
    let text = reader.lenenc_int("text")?;
    let before = u64::try_from(packet.prefix.len().saturating_sub(reader.rest().len())).unwrap_or(u64::MAX);
    Ok(text.checked_add(before) == Some(u64::from(packet.length)))
}

#[cfg(test)]
mod tests;
