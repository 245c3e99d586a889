//! Model clients. Real clients differ in how strictly they read responses; a model has a random choice of each leniency
//! that some real client has.

use std::collections::VecDeque;

use firstword_testing::hostile::pick;
use firstword_testing::packets::*;
use firstword_testing::random::Random;

/// Name of the file in the client's LOAD DATA LOCAL.
pub const WANTED: &str = "wanted.tsv";

/// First bytes of `Protocol::ColumnDefinition41`.
const DEFINITION: &[u8] = b"\x03def";

/// Deviations of a model client from a strict one.
#[derive(Clone, Copy, Debug, Default)]
pub struct Leniency {
    /// Accepts any sequence id.
    pub ignores_ids: bool,
    /// Reads column definitions up to the first EOF, and ignores the count.
    pub definitions_until_eof: bool,
    /// Reads a column count of 0, in any number of bytes, as an OK.
    pub zero_count_is_ok: bool,
    /// Reads a column count of 8 bytes as 4 bytes.
    pub short_count: bool,
    /// Reads only the first byte of a column count.
    pub first_byte_of_count: bool,
    /// Never expects a second result.
    pub ignores_more: bool,
    /// Reads a packet that begins with 0xfe and has less than 9 bytes as the end, also with DEPRECATE_EOF.
    pub short_end: bool,
    /// Reads any packet that begins with 0xfe as the end.
    pub long_end: bool,
    /// Does not read the last EOF of a response to COM_STMT_PREPARE (Connector/J 6.0.4 to 8.0.31).
    pub leaves_prepare_eof: bool,
    /// Drops all bytes that have arrived before it sends a command.
    pub drops_before_command: bool,
    /// Reads any packet except an ERR as an OK.
    pub any_ok: bool,
    /// Does not read the content of definitions and rows.
    pub takes_any_content: bool,
    /// Accepts a request for a file in place of any response.
    pub sends_always: bool,
    /// Sends commands before it has read the responses to earlier ones.
    pub pipelines: bool,
    /// Continues with its next command after a response that it cannot read.
    pub survives: bool,
}

impl Leniency {
    pub fn random(random: &mut Random) -> Self {
        let often = *pick(random, &[3, 5, 8]);
        let mut is = || random.below(often) == 0;
        Self {
            ignores_ids: is(),
            definitions_until_eof: is(),
            zero_count_is_ok: is(),
            short_count: is(),
            first_byte_of_count: is(),
            ignores_more: is(),
            short_end: is(),
            long_end: is(),
            leaves_prepare_eof: is(),
            drops_before_command: is(),
            any_ok: is(),
            takes_any_content: is(),
            sends_always: is(),
            pipelines: is(),
            survives: is(),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    Select,
    Load,
    Ping,
    Statistics,
    Prepare,
    Execute,
    FieldList,
}

impl Command {
    pub const ALL: [Self; 7] = [
        Self::Select,
        Self::Load,
        Self::Ping,
        Self::Statistics,
        Self::Prepare,
        Self::Execute,
        Self::FieldList,
    ];

    pub fn payload(self) -> Vec<u8> {
        match self {
            Self::Select => b"\x03SELECT 1".to_vec(),
            Self::Load => format!("\x03LOAD DATA LOCAL INFILE '{WANTED}' INTO TABLE t").into_bytes(),
            Self::Ping => vec![COM_PING],
            Self::Statistics => vec![0x09],
            Self::Prepare => b"\x16SELECT ?".to_vec(),
            Self::Execute => b"\x17\x01\0\0\0\0\x01\0\0\0".to_vec(),
            Self::FieldList => b"\x04t\0".to_vec(),
        }
    }
}

/// Position of the client in a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    First,
    Columns(u64),
    ColumnsEof,
    Rows,
    /// Group of definitions: the number that is left in this group, and the size of the next group.
    Definitions(u16, u16),
    File,
}

/// Reaction of the client to a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    Reads,
    Ends,
    /// The packet cannot be read.
    Fails,
    /// The client reads the packet with this sequence id as a request for this file.
    Sends(u8, Vec<u8>),
}

pub struct Client {
    pub leniency: Leniency,
    deprecate_eof: bool,
    optional_metadata: bool,
    progress: bool,
    at: At,
    next: u8,
    columns: u64,
    pub waiting: VecDeque<Command>,
    inbox: Vec<u8>,
    pub is_closed: bool,
}

impl Client {
    pub fn new(leniency: Leniency, deprecate_eof: bool, optional_metadata: bool, progress: bool) -> Self {
        Self {
            leniency,
            deprecate_eof,
            optional_metadata,
            progress,
            at: At::First,
            next: 0,
            columns: 0,
            waiting: VecDeque::new(),
            inbox: Vec::new(),
            is_closed: false,
        }
    }

    /// Returns the packet of its next command. `None` if it does not send one now.
    pub fn sends(&mut self, command: Command) -> Option<Vec<u8>> {
        if self.is_closed
            || !self.waiting.is_empty() && (!self.leniency.pipelines || command == Command::Load)
        {
            return None;
        }
        if self.waiting.is_empty() {
            if self.leniency.drops_before_command {
                self.inbox.clear();
            }
            (self.at, self.next) = (At::First, 1);
        }
        self.waiting.push_back(command);
        Some(packet(0, &command.payload()))
    }

    pub fn receives(&mut self, bytes: &[u8]) {
        self.inbox.extend_from_slice(bytes);
    }

    /// Ends the connection phase, and drops all packets of the server so far.
    pub fn logged_in(&mut self) {
        self.inbox.clear();
    }

    /// Returns the reaction to the next packet. `None` if the client waits for no packet, or for more bytes.
    pub fn acts(&mut self) -> Option<Act> {
        let command = *self.waiting.front().filter(|_| !self.is_closed)?;
        let (id, payload) = self.packet()?;
        if self.is_closed {
            return Some(Act::Fails);
        }
        let act = self.reads(command, id, &payload);
        match act {
            Act::Reads | Act::Sends(..) => {}
            Act::Ends => self.ends(),
            Act::Fails => {
                self.is_closed = !self.leniency.survives;
                self.ends();
            }
        }
        Some(act)
    }

    fn ends(&mut self) {
        self.waiting.pop_front();
        (self.at, self.next) = (At::First, 1);
    }

    /// Records that the client has sent the file, up to the packet before this sequence id.
    pub fn sent_file(&mut self, next: u8) {
        (self.at, self.next) = (At::File, next);
    }

    /// Takes a complete packet, with its fragments joined. `None` if bytes are missing.
    fn packet(&mut self) -> Option<(u8, Vec<u8>)> {
        let (mut at, mut payload, mut next) = (0, Vec::new(), self.next);
        loop {
            let header = self.inbox.get(at..at + 4)?;
            let len = header[0] as usize | (header[1] as usize) << 8 | (header[2] as usize) << 16;
            let id = header[3];
            payload.extend_from_slice(self.inbox.get(at + 4..at + 4 + len)?);
            at += 4 + len;
            if id != next && !self.leniency.ignores_ids {
                self.is_closed = true;
            }
            next = id.wrapping_add(1);
            if len < MAX_FRAGMENT {
                self.inbox.drain(..at);
                self.next = next;
                return Some((next.wrapping_sub(1), payload));
            }
        }
    }

    fn reads(&mut self, command: Command, id: u8, payload: &[u8]) -> Act {
        let Some(first) = payload.first().copied() else { return Act::Fails };
        if first == 0xff {
            let is_progress = self.progress && payload.get(1..3) == Some(&[0xff, 0xff]);
            return match is_progress {
                true if is_progress_report(&payload[3..]) => Act::Reads,
                true => Act::Fails,
                false => Act::Ends,
            };
        }
        let is_end = first == 0xfe
            && match self.deprecate_eof {
                _ if self.leniency.long_end => true,
                true if !self.leniency.short_end => payload.len() < MAX_FRAGMENT,
                _ => payload.len() < 9,
            };
        match self.at {
            At::First => self.first(command, id, payload),
            At::File if first == 0 => self.ok(payload),
            At::File => Act::Fails,
            At::Columns(_) if self.leniency.definitions_until_eof && !is_end => self.content(payload),
            At::Columns(left) if !self.leniency.definitions_until_eof => {
                self.at = match left.saturating_sub(1) {
                    0 if self.deprecate_eof => At::Rows,
                    0 => At::ColumnsEof,
                    left => At::Columns(left),
                };
                self.content(payload)
            }
            // Real clients read one packet there without a check.
            At::Columns(_) | At::ColumnsEof => {
                self.at = At::Rows;
                Act::Reads
            }
            At::Rows if is_end => self.ok(payload),
            At::Rows if command == Command::Execute && first != 0 => self.doubtful(),
            At::Rows if command != Command::Execute && !is_row(payload, self.columns) => self.doubtful(),
            At::Rows => Act::Reads,
            At::Definitions(left, then) => {
                let act = if left > 0 { self.content(payload) } else { Act::Reads };
                if act == Act::Fails { act } else { self.definitions(left.wrapping_sub(1), left > 0, then) }
            }
        }
    }

    fn doubtful(&self) -> Act {
        if self.leniency.takes_any_content { Act::Reads } else { Act::Fails }
    }

    fn content(&self, payload: &[u8]) -> Act {
        if payload.starts_with(DEFINITION) { Act::Reads } else { self.doubtful() }
    }

    fn definitions(&mut self, left: u16, has_eof: bool, then: u16) -> Act {
        let is_last = then == 0;
        let ends_without = self.deprecate_eof || self.leniency.leaves_prepare_eof && is_last;
        self.at = match left {
            0 if has_eof && !ends_without => At::Definitions(0, then),
            0 | u16::MAX if is_last => return Act::Ends,
            0 | u16::MAX => At::Definitions(then, 0),
            _ => At::Definitions(left, then),
        };
        Act::Reads
    }

    /// An OK, or the end of a result.
    fn ok(&mut self, payload: &[u8]) -> Act {
        let is_eof = payload.len() < 7 && payload[0] == 0xfe;
        let at = if is_eof { payload.get(3) } else { payload.get(3).filter(|_| payload[1] < 251) };
        let more = at.is_some_and(|low| u16::from(*low) & MORE_RESULTS != 0) && !self.leniency.ignores_more;
        self.at = At::First;
        if more { Act::Reads } else { Act::Ends }
    }

    fn first(&mut self, command: Command, id: u8, payload: &[u8]) -> Act {
        let first = payload[0];
        let has_results = matches!(command, Command::Select | Command::Load | Command::Execute);
        if first == 0xfb && (has_results || self.leniency.sends_always) {
            return Act::Sends(id, payload[1..].to_vec());
        }
        match (command, first) {
            (Command::Statistics, _) => Act::Ends,
            (Command::Ping, 0x00 | 0xfe) => Act::Ends,
            (Command::FieldList, 0xfe) => Act::Ends,
            (Command::FieldList, _) => self.content(payload),
            (Command::Ping, _) if self.leniency.any_ok => Act::Ends,
            (Command::Prepare, 0x00) if payload.len() >= 12 => {
                let number = |at: usize| u16::from_le_bytes([payload[at], payload[at + 1]]);
                let (columns, params) = (number(5), number(7));
                match (params, columns) {
                    (0, 0) => Act::Ends,
                    (0, columns) => {
                        self.at = At::Definitions(columns, 0);
                        Act::Reads
                    }
                    (params, columns) => {
                        self.at = At::Definitions(params, columns);
                        Act::Reads
                    }
                }
            }
            (Command::Ping | Command::Prepare, _) => Act::Fails,
            (_, 0x00) => self.ok(payload),
            (_, 0xfe) if payload.len() < 9 => self.ok(payload),
            _ => self.count(payload),
        }
    }

    fn count(&mut self, payload: &[u8]) -> Act {
        let bytes = |range: std::ops::Range<usize>| {
            let bytes = payload.get(range)?;
            Some(bytes.iter().rev().fold(0_u64, |number, byte| number << 8 | u64::from(*byte)))
        };
        let (count, len) = match payload[0] {
            first if self.leniency.first_byte_of_count => (Some(u64::from(first)), 1),
            0xfc => (bytes(1..3), 3),
            0xfd => (bytes(1..4), 4),
            0xfe if self.leniency.short_count => (bytes(1..5), 9),
            0xfe => (bytes(1..9), 9),
            first => (Some(u64::from(first)), 1),
        };
        let Some(count) = count else { return Act::Fails };
        if count == 0 {
            let rest = [&[0], payload.get(len..).unwrap_or_default()].concat();
            return if self.leniency.zero_count_is_ok || self.leniency.short_count {
                self.ok(&rest)
            } else {
                Act::Fails
            };
        }
        let metadata = !self.optional_metadata || payload.get(len).is_none_or(|flag| *flag != 0);
        self.columns = count;
        self.at = match (metadata, self.deprecate_eof) {
            (true, _) => At::Columns(count),
            (false, true) => At::Rows,
            (false, false) => At::ColumnsEof,
        };
        Act::Reads
    }
}

fn is_progress_report(report: &[u8]) -> bool {
    matches!(report, [1, _, _, _, _, _, len, info @ ..] if info.len() == usize::from(*len))
}

/// A text row with this number of short columns.
fn is_row(mut row: &[u8], columns: u64) -> bool {
    for _ in 0..columns {
        let Some((len, rest)) = row.split_first() else { return false };
        let len = if *len == 0xfb { 0 } else { usize::from(*len) };
        let Some(rest) = rest.get(len..) else { return false };
        row = rest;
    }
    row.is_empty()
}
