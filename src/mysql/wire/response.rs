//! Packets of responses (MySQL manual, "Generic Response Packets" and "Command Phase").

use crate::mysql::wire::capability::Capabilities;
use crate::mysql::wire::packet::whole;
use crate::mysql::wire::types::{ParseError, Reader};

/// First byte of an OK packet.
pub const OK: u8 = 0x00;
/// First byte of an ERR packet.
pub const ERR: u8 = 0xff;
/// First byte of an EOF packet, and of the OK packet that ends a result set under `DEPRECATE_EOF`.
pub const EOF: u8 = 0xfe;
/// First byte of a LOCAL INFILE request.
pub const LOCAL_INFILE: u8 = 0xfb;

/// `SERVER_STATUS_flags_enum`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StatusFlags(pub u16);

impl StatusFlags {
    /// `SERVER_STATUS_IN_TRANS`.
    pub const IN_TRANS: Self = Self(0x0001);
    /// `SERVER_MORE_RESULTS_EXISTS`: another response follows without a further command.
    pub const MORE_RESULTS: Self = Self(0x0008);
    /// `SERVER_STATUS_CURSOR_EXISTS`: the rows wait for COM_STMT_FETCH.
    pub const CURSOR_EXISTS: Self = Self(0x0040);
    /// `SERVER_PS_OUT_PARAMS`: the result set holds the OUT parameters of a procedure.
    pub const PS_OUT_PARAMS: Self = Self(0x1000);

    /// `SERVER_QUERY_NO_INDEX_USED`.
    pub const NO_INDEX_USED: Self = Self(0x0020);
    /// `SERVER_STATUS_NO_BACKSLASH_ESCAPES`: a backslash in a string is no escape character.
    pub const NO_BACKSLASH_ESCAPES: Self = Self(0x0200);
    /// `SERVER_SESSION_STATE_CHANGED`: the OK packet contains the changes.
    pub const SESSION_STATE_CHANGED: Self = Self(0x4000);
    /// `SERVER_QUERY_WAS_SLOW`.
    pub const QUERY_WAS_SLOW: Self = Self(0x0800);

    /// True if all of `flags` are set.
    #[must_use]
    pub const fn contains(self, flags: Self) -> bool {
        self.0 & flags.0 == flags.0
    }
}

/// `OK_Packet`, also the form with the first byte 0xfe that ends a result set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OkPacket {
    /// Number of rows changed, deleted or inserted.
    pub affected_rows: u64,
    /// The server's state after the command.
    pub status_flags: StatusFlags,
    /// Number of warnings that the command raised.
    pub warnings: u16,
}

impl OkPacket {
    /// Reads a payload that begins with 0x00 or 0xfe. Before `PROTOCOL_41` there are no warnings, and a status only with
    /// `CLIENT_TRANSACTIONS`.
    pub fn parse(payload: &[u8], capabilities: Capabilities) -> Result<Self, ParseError> {
        let mut reader = Reader::new(payload);
        reader.u8("header")?;
        let affected_rows = reader.lenenc_int("affected_rows")?;
        reader.lenenc_int("last_insert_id")?;
        if !capabilities.contains(Capabilities::PROTOCOL_41) {
            let status_flags = StatusFlags(reader.u16("status_flags").unwrap_or(0));
            return Ok(Self { affected_rows, status_flags, warnings: 0 });
        }
        let status_flags = StatusFlags(reader.u16("status_flags")?);
        let warnings = reader.u16("warnings")?;
        Ok(Self { affected_rows, status_flags, warnings })
    }
}

/// `EOF_Packet`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EofPacket {
    /// Number of warnings that the command raised.
    pub warnings: u16,
    /// The server's state.
    pub status_flags: StatusFlags,
}

impl EofPacket {
    /// Reads a payload that begins with 0xfe and is shorter than 9 bytes. Before `PROTOCOL_41` the payload is that byte.
    pub fn parse(payload: &[u8], capabilities: Capabilities) -> Result<Self, ParseError> {
        let mut reader = Reader::new(payload);
        reader.u8("header")?;
        if !capabilities.contains(Capabilities::PROTOCOL_41) {
            return Ok(Self { warnings: 0, status_flags: StatusFlags(0) });
        }
        let warnings = reader.u16("warnings")?;
        let status_flags = StatusFlags(reader.u16("status_flags")?);
        Ok(Self { warnings, status_flags })
    }
}

/// Returns the new current schema from an OK packet with [`StatusFlags::SESSION_STATE_CHANGED`] (MySQL manual, "OK_Packet",
/// `SESSION_TRACK_SCHEMA`); `None` if the schema did not change.
#[must_use]
pub fn tracked_schema(payload: &[u8], capabilities: Capabilities) -> Option<&[u8]> {
    const SCHEMA: u8 = 1;
    let known = Capabilities::PROTOCOL_41 | Capabilities::SESSION_TRACK;
    let mut reader = Reader::new(capabilities.contains(known).then_some(payload)?);
    reader.u8("header").ok()?;
    reader.lenenc_int("affected_rows").ok()?;
    reader.lenenc_int("last_insert_id").ok()?;
    reader.u32("status_flags, warnings").ok()?;
    reader.lenenc_bytes("info").ok()?;
    reader.lenenc_int("length of session state").ok()?;
    let mut schema = None;
    while let (Ok(kind), Ok(data)) = (reader.u8("type"), reader.lenenc_bytes("data")) {
        if kind == SCHEMA {
            schema = Reader::new(data).lenenc_bytes("schema").ok();
        }
    }
    schema
}

/// Returns an error as a whole packet (`ERR_Packet`). `state`: five characters, left out for peers without `PROTOCOL_41`.
#[must_use]
pub fn error_packet(
    sequence_id: u8,
    capabilities: Capabilities,
    errno: u16,
    state: &[u8],
    message: &[u8],
) -> Vec<u8> {
    let [low, high] = errno.to_le_bytes();
    let mut payload = vec![ERR, low, high];
    if capabilities.contains(Capabilities::PROTOCOL_41) {
        payload.extend([b"#", state].concat());
    }
    payload.extend_from_slice(message);
    whole(sequence_id, &payload)
}

/// Returns `ER_HANDSHAKE_ERROR` as a whole packet, for a client that logs in.
#[must_use]
pub fn handshake_error(sequence_id: u8, message: &[u8]) -> Vec<u8> {
    error_packet(sequence_id, Capabilities::PROTOCOL_41, 1043, b"08S01", message)
}

/// Reads `error_code` of an ERR packet. 0xffff is a progress report of MariaDB, not an error.
pub fn error_code(payload: &[u8]) -> Result<u16, ParseError> {
    let mut reader = Reader::new(payload);
    reader.u8("header")?;
    reader.u16("error_code")
}

/// `COM_STMT_PREPARE_OK`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PrepareOk {
    /// Id of the statement in COM_STMT_EXECUTE and COM_STMT_CLOSE.
    pub statement_id: u32,
    /// Number of columns of the result set, modulo 65536, because servers let the field overflow.
    pub num_columns: u16,
    /// Number of parameters of the statement, modulo 65536.
    pub num_params: u16,
    /// True if the definitions of both follow.
    pub metadata_follows: bool,
}

impl PrepareOk {
    /// Reads a payload that begins with 0x00.
    pub fn parse(payload: &[u8], capabilities: Capabilities) -> Result<Self, ParseError> {
        let mut reader = Reader::new(payload);
        reader.u8("status")?;
        let statement_id = reader.u32("statement_id")?;
        let num_columns = reader.u16("num_columns")?;
        let num_params = reader.u16("num_params")?;
        reader.u8("filler")?;
        reader.u16("warning_count")?;
        let metadata_follows = !capabilities.contains(Capabilities::OPTIONAL_RESULTSET_METADATA)
            || reader.rest().is_empty()
            || reader.u8("metadata_follows")? != 0;
        Ok(Self { statement_id, num_columns, num_params, metadata_follows })
    }
}

/// The first packet of a result set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ColumnCount {
    /// `column_count`.
    pub columns: u64,
    /// True if the column definitions follow.
    pub metadata_follows: bool,
}

impl ColumnCount {
    /// Reads a column count. The flag follows the count, although the manual's page on text result sets puts it first:
    /// MySQL 8.4 and MariaDB 11.8 both write it there.
    ///
    /// # Errors
    /// A count of 0, a count in more bytes than it needs, and bytes after it: clients read these differently, and no server
    /// sends them.
    pub fn parse(payload: &[u8], capabilities: Capabilities) -> Result<Self, ParseError> {
        let mut reader = Reader::new(payload);
        let columns = reader.lenenc_int("column_count")?;
        let least = match payload.first() {
            Some(0xfc) => 0xfb,
            Some(0xfd) => 1 << 16,
            Some(0xfe) => 1 << 24,
            _ => 1,
        };
        if columns < least {
            return Err(ParseError::Invalid { field: "column_count", value: columns });
        }
        let optional = Capabilities::OPTIONAL_RESULTSET_METADATA | Capabilities::MARIADB_CACHE_METADATA;
        let metadata_follows = !capabilities.intersects(optional)
            || reader.rest().is_empty()
            || reader.u8("metadata_follows")? != 0;
        // A column definition begins like a count, and has further bytes.
        match reader.rest().first() {
            Some(byte) => Err(ParseError::Invalid { field: "column_count", value: u64::from(*byte) }),
            None => Ok(Self { columns, metadata_follows }),
        }
    }
}
