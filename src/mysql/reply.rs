//! The answer to one command, followed packet by packet.
//!
//! ```text
//!                 +--------------------- MORE_RESULTS ---------------------+
//!                 v                                                        |
//! First --count--> Columns --last--> ColumnsEof --EOF--> Rows --end--> (done)
//!   | |                       (DEPRECATE_EOF: straight to Rows)
//!   | +--0xfb--> Infile --OK--> (done)
//!   +--PREPARE_OK--> Definitions of the parameters --> Definitions of the columns --> (done)
//! ```
//! OK ends the answer in `First`, ERR ends it anywhere. Without `DEPRECATE_EOF` the groups of
//! COM_STMT_PREPARE end at their EOF, not by count, because the counts overflow at 16 bits.

use super::capability::Capabilities;
use super::command::Grammar;
use super::packet::{MAX_FRAGMENT_LEN, Packet};
use super::response::{
    ColumnCount, EOF, ERR, EofPacket, LOCAL_INFILE, OK, OkPacket, PrepareOk, StatusFlags, error_code,
};
use super::types::ParseError;
use crate::event::Tally;

/// An EOF packet is shorter than this; a row that begins with 0xfe is longer.
const EOF_MAX_LEN: u32 = 9;
/// MariaDB's progress reports are ERR packets with this number.
const PROGRESS_REPORT: u16 = 0xffff;

/// Where the answer stands after a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// More packets follow.
    More,
    /// The answer is complete.
    Done,
    /// The packet cannot stand here.
    Unexpected,
}

/// A packet that cannot be read cannot stand where it is.
impl From<ParseError> for Step {
    fn from(_: ParseError) -> Self {
        Self::Unexpected
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
    },
    Infile,
}

/// The answer to one command.
#[derive(Clone, Copy, Debug)]
pub struct Reply {
    grammar: Grammar,
    state: State,
    /// The current result set holds OUT parameters.
    out_parameters: bool,
    tally: Tally,
}

impl Reply {
    /// The answer to a command, before its first packet.
    #[must_use]
    pub fn new(grammar: Grammar) -> Self {
        Self { grammar, state: State::First, out_parameters: false, tally: Tally::default() }
    }

    /// What it held so far.
    #[must_use]
    pub fn tally(&self) -> Tally {
        self.tally
    }

    /// No packet of it has come.
    #[must_use]
    pub fn awaits_first(&self) -> bool {
        self.state == State::First
    }

    /// The server asked for a file and has not said yet what became of it.
    #[must_use]
    pub fn awaits_file(&self) -> bool {
        self.state == State::Infile
    }

    /// Takes the next packet of the server.
    pub fn packet(&mut self, packet: &Packet, capabilities: Capabilities) -> Step {
        // Nearly all packets are rows.
        if self.state == State::Rows && !matches!(packet.first(), Some(EOF | ERR) | None) {
            self.tally.rows = self.tally.rows.saturating_add(1);
            return Step::More;
        }
        match self.step(packet, capabilities) {
            Ok(step) | Err(step) => step,
        }
    }

    fn step(&mut self, packet: &Packet, capabilities: Capabilities) -> Result<Step, Step> {
        let Some(first) = packet.first() else { return Err(Step::Unexpected) };
        let deprecate_eof = capabilities.contains(Capabilities::DEPRECATE_EOF);
        if first == ERR {
            return self.error(packet, capabilities);
        }
        let is_eof = first == EOF && packet.length < EOF_MAX_LEN;
        match self.state {
            State::First => self.first(packet, first, capabilities),
            State::Infile if first == OK => self.ok(packet),
            State::Columns { left } => {
                self.state = match left.saturating_sub(1) {
                    0 if deprecate_eof => State::Rows,
                    0 => State::ColumnsEof,
                    left => State::Columns { left },
                };
                Ok(Step::More)
            }
            State::ColumnsEof if is_eof => {
                let status = EofPacket::parse(packet.prefix)?.status_flags;
                self.state = State::Rows;
                self.out_parameters = status.contains(StatusFlags::PS_OUT_PARAMS);
                Ok(if status.contains(StatusFlags::CURSOR_EXISTS) { Step::Done } else { Step::More })
            }
            State::Rows if deprecate_eof && packet.length < MAX_FRAGMENT_LEN => self.ok(packet),
            State::Rows if is_eof => {
                let eof = EofPacket::parse(packet.prefix)?;
                Ok(self.end_of_result(eof.status_flags))
            }
            State::Rows => {
                // A first column of 16 MiB or more: its length begins with 0xfe.
                self.tally.rows = self.tally.rows.saturating_add(1);
                Ok(Step::More)
            }
            State::Definitions { left, then } if deprecate_eof => {
                Ok(self.definitions(left.saturating_sub(1), then))
            }
            State::Definitions { then, .. } if is_eof => Ok(self.definitions(0, then)),
            State::Definitions { .. } => Ok(Step::More),
            State::ColumnsEof | State::Infile => Err(Step::Unexpected),
        }
    }

    fn first(&mut self, packet: &Packet, first: u8, capabilities: Capabilities) -> Result<Step, Step> {
        let ended = first == EOF && packet.length < EOF_MAX_LEN;
        match (self.grammar, first) {
            (Grammar::Statistics, _) => Ok(Step::Done),
            (Grammar::Ok | Grammar::Eof, EOF) => Ok(Step::Done),
            (Grammar::Ok | Grammar::Eof | Grammar::ResultSet | Grammar::ChangeUser, OK) => self.ok(packet),
            (Grammar::ResultSet, EOF) => self.ok(packet),
            (Grammar::ResultSet, LOCAL_INFILE) => {
                self.state = State::Infile;
                Ok(Step::More)
            }
            (Grammar::ResultSet, _) => {
                let count = ColumnCount::parse(packet.prefix, capabilities)?;
                self.tally.result_sets = self.tally.result_sets.saturating_add(1);
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
                let (params, columns) = (prepared.num_params, prepared.num_columns);
                // Where the definitions are left out, the EOFs behind them are not (measured on MySQL 9.7).
                let packets_follow =
                    prepared.metadata_follows || !capabilities.contains(Capabilities::DEPRECATE_EOF);
                Ok(if packets_follow { self.definitions(params, columns) } else { Step::Done })
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
            return Ok(Step::More);
        }
        self.tally.errno = Some(errno);
        Ok(Step::Done)
    }

    fn ok(&mut self, packet: &Packet) -> Result<Step, Step> {
        let ok = OkPacket::parse(packet.prefix)?;
        self.tally.affected_rows = self.tally.affected_rows.saturating_add(ok.affected_rows);
        Ok(self.end_of_result(ok.status_flags))
    }

    fn end_of_result(&mut self, status: StatusFlags) -> Step {
        self.state = State::First;
        // An OK follows OUT parameters, also where MySQL forgets to say so in the EOF behind them.
        let more = status.contains(StatusFlags::MORE_RESULTS) || self.out_parameters;
        self.out_parameters = false;
        if more { Step::More } else { Step::Done }
    }

    fn definitions(&mut self, left: u16, then: u16) -> Step {
        let (left, then) = if left == 0 { (then, 0) } else { (left, then) };
        self.state = State::Definitions { left, then };
        if left == 0 { Step::Done } else { Step::More }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mysql::command::Command;

    const CLASSIC: Capabilities = Capabilities::PROTOCOL_41;
    const MODERN: Capabilities = Capabilities::DEPRECATE_EOF;
    const EOF_PACKET: &[u8] = b"\xfe\0\0\x02\0";
    const OK_PACKET: &[u8] = b"\0\x03\0\x02\0\0\0";

    /// Feeds payloads; all but the last have to leave the answer open. Gives where the last one leads.
    fn feed(command: Command, capabilities: Capabilities, payloads: &[&[u8]]) -> (Step, Tally) {
        let mut reply = Reply::new(command.grammar());
        let mut last = Step::More;
        for payload in payloads {
            assert_eq!(last, Step::More, "before {payload:?}");
            let length = payload.len() as u32;
            let packet = Packet { length, sequence_id: 1, prefix: payload, complete: true };
            last = reply.packet(&packet, capabilities);
        }
        (last, reply.tally())
    }

    fn tally(rows: u64, result_sets: u32) -> Tally {
        Tally { rows, result_sets, ..Tally::default() }
    }

    #[test]
    fn answers_of_one_packet() {
        let affected = Tally { affected_rows: 3, ..Tally::default() };
        let failed = Tally { errno: Some(1047), ..Tally::default() };
        let error = b"\xff\x17\x04#08S01Unknown command";
        let cases: [(Command, &[u8], Tally); 7] = [
            (Command::PING, OK_PACKET, affected),
            (Command::QUERY, OK_PACKET, affected),
            (Command::QUERY, error, failed),
            (Command::STMT_FETCH, error, failed),
            (Command::DEBUG, EOF_PACKET, Tally::default()),
            (Command::STATISTICS, b"Uptime: 5  Threads: 1", Tally::default()),
            (Command(0x77), error, failed),
        ];
        for (command, payload, tally) in cases {
            for capabilities in [CLASSIC, MODERN] {
                assert_eq!(feed(command, capabilities, &[payload]), (Step::Done, tally), "{command:?}");
            }
        }
    }

    #[test]
    fn what_cannot_stand_first() {
        for payload in [&b""[..], b"\0", b"\0\xfb\0\0\0\0\0", b"\xff\0", b"\xfc\x01"] {
            assert_eq!(feed(Command::QUERY, CLASSIC, &[payload]).0, Step::Unexpected, "{payload:?}");
        }
        assert_eq!(feed(Command::PING, CLASSIC, &[b"\x01"]).0, Step::Unexpected);
        assert_eq!(feed(Command::QUERY, CLASSIC, &[b"\x01", b"\x03def", b"\x011"]).0, Step::Unexpected);
    }

    #[test]
    fn rows_that_look_like_something_else() {
        let long = [&[0xfe, 0, 0, 0, 1, 0, 0, 0, 0][..], b"a first column of 16 MiB"].concat();
        let payloads: [&[u8]; 7] = [b"\x01", b"\x03def", EOF_PACKET, b"\xfb", b"\0", &long, EOF_PACKET];
        assert_eq!(feed(Command::QUERY, CLASSIC, &payloads), (Step::Done, tally(3, 1)));
    }

    #[test]
    fn results_are_chained() {
        let more = b"\xfe\0\0\x08\0";
        let payloads: [&[u8]; 9] = [
            b"\x01",
            b"\x03def",
            EOF_PACKET,
            b"\x011",
            more,
            b"\0\x03\0\x08\0\0\0",
            b"\x01",
            b"\x03def",
            b"\xff\x28\x04#42000",
        ];
        let expected = Tally { rows: 1, affected_rows: 3, result_sets: 2, errno: Some(1064) };
        assert_eq!(feed(Command::QUERY, CLASSIC, &payloads), (Step::Done, expected));
    }

    #[test]
    fn rows_of_a_cursor_come_with_fetch() {
        let opened = b"\xfe\0\0\x40\0";
        let payloads: [&[u8]; 3] = [b"\x01", b"\x03def", opened];
        assert_eq!(feed(Command::STMT_EXECUTE, CLASSIC, &payloads), (Step::Done, tally(0, 1)));
        let rows: [&[u8]; 3] = [b"\0\0\x011", b"\0\0\x012", EOF_PACKET];
        assert_eq!(feed(Command::STMT_FETCH, CLASSIC, &rows), (Step::Done, tally(2, 0)));
        assert_eq!(feed(Command::STMT_FETCH, CLASSIC, &[EOF_PACKET]), (Step::Done, tally(0, 0)));
    }

    #[test]
    fn definitions_can_be_left_out() {
        for (capabilities, end) in [
            (Capabilities::MARIADB_CACHE_METADATA | CLASSIC, vec![EOF_PACKET, b"\x011", EOF_PACKET]),
            (Capabilities::OPTIONAL_RESULTSET_METADATA | MODERN, vec![b"\x011", b"\xfe\0\0\x02\0\0\0"]),
        ] {
            let payloads = [vec![&b"\x01\0"[..]], end].concat();
            assert_eq!(feed(Command::STMT_EXECUTE, capabilities, &payloads), (Step::Done, tally(1, 1)));
        }
        let prepared = b"\0\x01\0\0\0\x05\0\x02\0\0\0\0\0";
        let optional = Capabilities::OPTIONAL_RESULTSET_METADATA;
        assert_eq!(feed(Command::STMT_PREPARE, optional | MODERN, &[prepared]).0, Step::Done);
        assert_eq!(feed(Command::STMT_PREPARE, optional, &[prepared, EOF_PACKET]).0, Step::More);
        assert_eq!(feed(Command::STMT_PREPARE, optional, &[prepared, EOF_PACKET, EOF_PACKET]).0, Step::Done);
    }

    #[test]
    fn an_ok_follows_out_parameters() {
        let out_parameters = &b"\xfe\0\0\x0a\x10"[..];
        let rows = [&b"\x01"[..], b"\x03def", out_parameters, b"\0\0\x01", EOF_PACKET];
        assert_eq!(feed(Command::STMT_EXECUTE, CLASSIC, &rows).0, Step::More);
        let ok = &b"\0\0\0\x02\0\0\0"[..];
        assert_eq!(feed(Command::STMT_EXECUTE, CLASSIC, &[&rows[..], &[ok]].concat()).0, Step::Done);
    }

    #[test]
    fn definitions_of_a_prepared_statement() {
        let prepared = |columns: u8, params: u8| [0, 1, 0, 0, 0, columns, 0, params, 0, 0, 0, 0];
        let definition = &b"\x03def"[..];
        assert_eq!(feed(Command::STMT_PREPARE, CLASSIC, &[&prepared(0, 0)]).0, Step::Done);
        assert_eq!(feed(Command::STMT_PREPARE, MODERN, &[&prepared(0, 0)]).0, Step::Done);
        assert_eq!(
            feed(Command::STMT_PREPARE, MODERN, &[&prepared(1, 1), definition, definition]).0,
            Step::Done
        );
        // More definitions than 16 bits can count: the EOF ends the group.
        let overflown = [&prepared(1, 0)[..], definition, definition, EOF_PACKET];
        assert_eq!(feed(Command::STMT_PREPARE, CLASSIC, &overflown).0, Step::Done);
        let both = [&prepared(1, 1)[..], definition, EOF_PACKET, definition, EOF_PACKET];
        assert_eq!(feed(Command::STMT_PREPARE, CLASSIC, &both).0, Step::Done);
    }

    #[test]
    fn a_file_is_asked_for() {
        let mut reply = Reply::new(Grammar::ResultSet);
        let mut take = |prefix: &[u8]| {
            let packet = Packet { length: prefix.len() as u32, sequence_id: 1, prefix, complete: true };
            (reply.packet(&packet, CLASSIC), reply.awaits_file())
        };
        assert_eq!(take(b"\xfbfile"), (Step::More, true));
        assert_eq!(take(OK_PACKET), (Step::Done, false));
    }

    #[test]
    fn progress_is_no_error() {
        let progress = b"\xff\xff\xff\x01\x01\x02\0\0\0\0";
        let with = Capabilities::MARIADB_PROGRESS;
        assert_eq!(feed(Command::QUERY, with, &[progress, progress, OK_PACKET]).0, Step::Done);
        assert_eq!(feed(Command::QUERY, CLASSIC, &[progress]).1.errno, Some(0xffff));
    }

    #[test]
    fn grammars_of_their_own() {
        let definition = &b"\x03def"[..];
        assert_eq!(feed(Command::FIELD_LIST, CLASSIC, &[definition, definition, EOF_PACKET]).0, Step::Done);
        assert_eq!(feed(Command::BINLOG_DUMP, MODERN, &[b"\0event", b"\0event", EOF_PACKET]).0, Step::Done);
        let rounds: [&[u8]; 4] = [b"\xfeplugin\0", b"\x01\x04", b"\x02plugin\0", OK_PACKET];
        assert_eq!(feed(Command::CHANGE_USER, CLASSIC, &rounds).0, Step::Done);
    }
}
