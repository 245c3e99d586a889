//! Responses of the server to commands, and where each ends.

use super::capability::{DEPRECATE_EOF, MARIADB_CACHE_METADATA, OPTIONAL_METADATA};
use super::connection::Client;

const CURSOR_EXISTS: u16 = 0x0040;
const MORE_RESULTS: u16 = 0x0008;
const PS_OUT_PARAMS: u16 = 0x1000;

/// The payloads of the packets that respond to a command, with fragments joined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response(pub Vec<Vec<u8>>);

impl Response {
    /// Number of the error that ended it. `None` if no error did.
    pub fn errno(&self) -> Option<u16> {
        let last = self.0.last().filter(|packet| packet.first() == Some(&0xff))?;
        Some(u16::from_le_bytes([last[1], last[2]]))
    }

    /// Asserts that no error ended it.
    pub fn expect(self, what: &str) -> Self {
        assert_eq!(self.errno(), None, "{what}: {}", self.message());
        self
    }

    /// Asserts that this error ended it.
    pub fn expect_errno(self, errno: u16) -> Self {
        assert_eq!(self.errno(), Some(errno), "{}", self.message());
        self
    }

    /// The statement id in a COM_STMT_PREPARE_OK.
    pub fn statement_id(&self) -> u32 {
        let first = &self.0[0];
        assert_eq!(first[0], 0, "a statement: {}", self.message());
        u32::from_le_bytes([first[1], first[2], first[3], first[4]])
    }

    fn message(&self) -> String {
        String::from_utf8_lossy(self.0.last().map_or(&[], |packet| packet)).into_owned()
    }
    pub(super) fn expect_ok(&self) -> Result<(), u16> {
        self.errno().map_or(Ok(()), Err)
    }
}

impl Client {
    /// Reads a response of one packet: OK, ERR, EOF or text.
    pub fn single(&mut self) -> Response {
        Response(vec![self.packet()])
    }

    /// Reads a response up to an EOF, an OK in its place, or an error: COM_FIELD_LIST, COM_STMT_FETCH, COM_BINLOG_DUMP.
    pub fn until_eof(&mut self) -> Response {
        let mut response = Response(Vec::new());
        while !self.ends(&mut response) {}
        response
    }

    /// Reads a response to COM_STMT_PREPARE. Its counts must not have overflowed.
    pub fn prepare_response(&mut self) -> Response {
        let mut response = self.single();
        let first = response.0[0].clone();
        if first[0] == 0xff {
            return response;
        }
        // A server that leaves out the definitions still sends their EOFs.
        let left_out = self.has(OPTIONAL_METADATA) && first.get(12) == Some(&0);
        let count = |at: usize| u16::from_le_bytes([first[at], first[at + 1]]);
        for definitions in [count(7), count(5)].into_iter().filter(|definitions| *definitions > 0) {
            let definitions = if left_out { 0 } else { definitions };
            for _ in 0..definitions + u16::from(!self.has(DEPRECATE_EOF)) {
                response.0.push(self.packet());
            }
        }
        response
    }

    /// Reads all results of a statement, or the response up to a file request.
    pub fn results(&mut self) -> Response {
        self.results_of(false)
    }

    /// Reads all results of a statement. `cursor` is true if the client requested a cursor, whose rows wait for COM_STMT_FETCH.
    /// Without it the status flag is ignored, because MariaDB also sets it if a routine has an open cursor.
    pub(super) fn results_of(&mut self, cursor: bool) -> Response {
        let mut response = Response(Vec::new());
        loop {
            let first = self.packet();
            response.0.push(first.clone());
            let status = match first[0] {
                0x00 => ok_status(&first),
                0xff if first[1..3] == [0xff, 0xff] => MORE_RESULTS,
                0xff | 0xfb => return response,
                _ => match self.result_set(&first, cursor, &mut response) {
                    Some(status) => status,
                    None => return response,
                },
            };
            if status & MORE_RESULTS == 0 {
                return response;
            }
        }
    }

    /// Reads the rest of a result set after its column count. Returns its status, or `None` if it ends with an error.
    fn result_set(&mut self, first: &[u8], cursor: bool, response: &mut Response) -> Option<u16> {
        let (columns, rest) = lenenc(first);
        let optional = self.has(OPTIONAL_METADATA) || self.extended & MARIADB_CACHE_METADATA != 0;
        if !optional || rest != [0] {
            for _ in 0..columns {
                response.0.push(self.packet());
            }
        }
        let mut follows = 0;
        if !self.has(DEPRECATE_EOF) {
            let eof = self.packet();
            assert_eq!((eof[0], eof.len()), (0xfe, 5), "an EOF after the definitions");
            response.0.push(eof.clone());
            let status = u16::from_le_bytes([eof[3], eof[4]]);
            if cursor && status & CURSOR_EXISTS != 0 {
                return Some(status);
            }
            // MySQL does not set MORE_RESULTS in the EOF after OUT parameters, but an OK always follows.
            if status & PS_OUT_PARAMS != 0 {
                follows = MORE_RESULTS;
            }
        }
        while !self.ends(response) {}
        let last = response.0.last()?;
        match (last[0], self.has(DEPRECATE_EOF)) {
            (0xff, _) => None,
            // MySQL sends an EOF nevertheless if a routine handles the error that ended a result set.
            (_, true) if last.len() > 5 => Some(ok_status(last)),
            _ => Some(u16::from_le_bytes([last[3], last[4]]) | follows),
        }
    }

    /// Reads a packet, and returns true if it is the last one of its group.
    fn ends(&mut self, response: &mut Response) -> bool {
        let packet = self.packet();
        let longest = if self.has(DEPRECATE_EOF) { 0xff_ffff } else { 9 };
        let ends = packet[0] == 0xff || (packet[0] == 0xfe && packet.len() < longest);
        response.0.push(packet);
        ends
    }
}

/// Reads a length-encoded integer. Returns its value, and the bytes after it.
fn lenenc(payload: &[u8]) -> (u64, &[u8]) {
    let width = match payload[0] {
        0xfc => 2,
        0xfd => 3,
        0xfe => 8,
        small => return (small.into(), &payload[1..]),
    };
    let mut bytes = [0; 8];
    bytes[..width].copy_from_slice(&payload[1..=width]);
    (u64::from_le_bytes(bytes), &payload[1 + width..])
}

/// The status flags of an OK packet.
fn ok_status(payload: &[u8]) -> u16 {
    let (_, rest) = lenenc(&payload[1..]);
    let (_, rest) = lenenc(rest);
    u16::from_le_bytes([rest[0], rest[1]])
}
