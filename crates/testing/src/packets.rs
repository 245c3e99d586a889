//! Writers of MySQL and MariaDB packets. A function with the name of a message returns its payload. [`packet`], [`answer`] and
//! [`command`] return whole packets.

pub const COM_QUIT: u8 = 0x01;
pub const COM_QUERY: u8 = 0x03;
pub const COM_PING: u8 = 0x0e;
pub const COM_CHANGE_USER: u8 = 0x11;
pub const COM_BINLOG_DUMP: u8 = 0x12;
pub const COM_STMT_PREPARE: u8 = 0x16;
pub const COM_STMT_EXECUTE: u8 = 0x17;
pub const COM_STMT_SEND_LONG_DATA: u8 = 0x18;
pub const COM_STMT_CLOSE: u8 = 0x19;

pub const CLIENT_COMPRESS: u32 = 1 << 5;
pub const CLIENT_SSL: u32 = 1 << 11;
pub const CLIENT_DEPRECATE_EOF: u32 = 1 << 24;
/// Capabilities that MariaDB 10.11 offers without TLS.
pub const MARIADB_CAPABILITIES: u32 = 0x81ff_f7fe;
/// Capabilities of a plain client: LONG_PASSWORD, LOCAL_FILES, PROTOCOL_41, TRANSACTIONS, SECURE_CONNECTION,
/// MULTI_STATEMENTS, MULTI_RESULTS, PS_MULTI_RESULTS, PLUGIN_AUTH. Its result sets have EOF packets.
pub const CLIENT_CAPABILITIES: u32 = 0x000f_a281;

/// `SERVER_STATUS_IN_TRANS`.
pub const IN_TRANS: u16 = 0x0001;
/// `SERVER_STATUS_AUTOCOMMIT`.
pub const AUTOCOMMIT: u16 = 0x0002;
/// `SERVER_MORE_RESULTS_EXISTS`.
pub const MORE_RESULTS: u16 = 0x0008;
/// `SERVER_QUERY_NO_INDEX_USED`.
pub const NO_INDEX_USED: u16 = 0x0020;
/// `SERVER_STATUS_CURSOR_EXISTS`.
pub const CURSOR_EXISTS: u16 = 0x0040;
/// `SERVER_QUERY_WAS_SLOW`.
pub const QUERY_WAS_SLOW: u16 = 0x0800;

/// Maximum length of the payload of one fragment.
pub const MAX_FRAGMENT: usize = 0xff_ffff;

/// A payload as one packet, or as several fragments if it is long.
pub fn packet(sequence_id: u8, payload: &[u8]) -> Vec<u8> {
    let fragments = payload.len() / MAX_FRAGMENT + 1;
    let mut wire = Vec::with_capacity(payload.len() + 4 * fragments);
    for index in 0..fragments {
        let rest = &payload[index * MAX_FRAGMENT..];
        let fragment = &rest[..rest.len().min(MAX_FRAGMENT)];
        wire.extend_from_slice(&(fragment.len() as u32).to_le_bytes()[..3]);
        wire.push(sequence_id.wrapping_add(index as u8));
        wire.extend_from_slice(fragment);
    }
    wire
}

/// Payloads as consecutive packets.
pub fn packets(first_id: u8, payloads: impl IntoIterator<Item = Vec<u8>>) -> Vec<u8> {
    let mut sequence_id = first_id;
    let mut wire = Vec::new();
    for payload in payloads {
        wire.extend(packet(sequence_id, &payload));
        sequence_id = sequence_id.wrapping_add((payload.len() / MAX_FRAGMENT + 1) as u8);
    }
    wire
}

/// The packets of a response to a command of one fragment.
pub fn answer(payloads: impl IntoIterator<Item = Vec<u8>>) -> Vec<u8> {
    packets(1, payloads)
}

/// The packet of a command.
pub fn command(byte: u8, arguments: &[u8]) -> Vec<u8> {
    packet(0, &[&[byte], arguments].concat())
}

/// The greeting of MariaDB 10.11, as a packet.
pub fn greeting() -> Vec<u8> {
    packet(0, &handshake_v10("5.5.5-10.11.19-MariaDB-0+deb12u1", MARIADB_CAPABILITIES))
}

/// `Protocol::HandshakeV10`. Without LONG_PASSWORD it is MariaDB's, with the extended capabilities 0x1f.
pub fn handshake_v10(version: &str, capabilities: u32) -> Vec<u8> {
    let [c0, c1, c2, c3] = capabilities.to_le_bytes();
    let extended: u32 = if capabilities & 1 == 0 { 0x1f } else { 0 };
    let mut payload = [b"\x0a", version.as_bytes(), b"\0", &7_u32.to_le_bytes(), b"12345678\0"].concat();
    payload.extend_from_slice(&[c0, c1, 0x2d, 0x02, 0x00, c2, c3, 21]);
    payload.extend_from_slice(&[0; 6]);
    payload.extend_from_slice(&extended.to_le_bytes());
    payload.extend_from_slice(b"123456789012\0mysql_native_password\0");
    payload
}

/// `Protocol::HandshakeResponse41` of the user `app`.
pub fn handshake_response(capabilities: u32) -> Vec<u8> {
    [&ssl_request(capabilities)[..], b"app\0\x14", &[0x5a; 20], b"mysql_native_password\0"].concat()
}

/// `Protocol::SSLRequest`: the first part of a handshake response.
pub fn ssl_request(capabilities: u32) -> Vec<u8> {
    [&capabilities.to_le_bytes()[..], &(1_u32 << 24).to_le_bytes(), &[45], &[0; 23]].concat()
}

/// `Protocol::AuthSwitchRequest`.
pub fn auth_switch(plugin: &str) -> Vec<u8> {
    [b"\xfe", plugin.as_bytes(), b"\0", &[0x41; 20], b"\0"].concat()
}

/// `OK_Packet`.
pub fn ok() -> Vec<u8> {
    ok_with(0, AUTOCOMMIT)
}

/// `OK_Packet`. `affected_rows` is less than 251.
pub fn ok_with(affected_rows: u8, status: u16) -> Vec<u8> {
    let [s0, s1] = status.to_le_bytes();
    vec![0x00, affected_rows, 0, s0, s1, 0, 0]
}

/// An OK or an EOF packet with this number of warnings.
pub fn with_warnings(mut packet: Vec<u8>, warnings: u8) -> Vec<u8> {
    let at = if packet[0] == 0xfe && packet.len() == 5 { 1 } else { 5 };
    packet[at] = warnings;
    packet
}

/// `OK_Packet` in place of the EOF of a result set.
pub fn ok_as_eof(status: u16) -> Vec<u8> {
    let [s0, s1] = status.to_le_bytes();
    vec![0xfe, 0, 0, s0, s1, 0, 0]
}

/// `EOF_Packet`.
pub fn eof(status: u16) -> Vec<u8> {
    let [s0, s1] = status.to_le_bytes();
    vec![0xfe, 0, 0, s0, s1]
}

/// `ERR_Packet` with a message of usual length.
pub fn err(errno: u16) -> Vec<u8> {
    let message =
        b"#42000You have an error in your SQL syntax; check the manual that corresponds to your server";
    [&[0xff][..], &errno.to_le_bytes(), message].concat()
}

/// The column count that starts a result set.
pub fn column_count(columns: u8) -> Vec<u8> {
    vec![columns]
}

/// `Protocol::ColumnDefinition41`.
pub fn column_def(name: &str) -> Vec<u8> {
    let mut payload = Vec::new();
    for text in ["def", "shop", "orders", "orders", name, name] {
        payload.push(text.len() as u8);
        payload.extend_from_slice(text.as_bytes());
    }
    payload.extend_from_slice(&[0x0c, 45, 0, 20, 0, 0, 0, 0xfd, 0, 0, 0, 0, 0]);
    payload
}

/// A text row; each value is shorter than 251 bytes.
pub fn row(values: &[&str]) -> Vec<u8> {
    values.iter().flat_map(|value| [&[value.len() as u8], value.as_bytes()].concat()).collect()
}

/// A binary row of one short text.
pub fn binary_row(value: &str) -> Vec<u8> {
    [&[0, 0, value.len() as u8], value.as_bytes()].concat()
}

/// `COM_STMT_PREPARE_OK` for statement 1.
pub fn prepare_ok(columns: u16, params: u16) -> Vec<u8> {
    let mut payload = vec![0x00, 1, 0, 0, 0];
    payload.extend_from_slice(&columns.to_le_bytes());
    payload.extend_from_slice(&params.to_le_bytes());
    payload.extend_from_slice(&[0, 0, 0]);
    payload
}

/// `LOCAL INFILE Request`.
pub fn local_infile(name: &str) -> Vec<u8> {
    [b"\xfb", name.as_bytes()].concat()
}

/// The payloads of a text result set with one column and EOF packets.
pub fn result_set(rows: &[&str]) -> Vec<Vec<u8>> {
    let head = [column_count(1), column_def("a"), eof(AUTOCOMMIT)];
    head.into_iter().chain(rows.iter().map(|value| row(&[value]))).chain([eof(AUTOCOMMIT)]).collect()
}

/// The payloads of a text result set with one column under `CLIENT_DEPRECATE_EOF`.
pub fn result_set_without_eof(rows: &[&str]) -> Vec<Vec<u8>> {
    let head = [column_count(1), column_def("a")];
    head.into_iter().chain(rows.iter().map(|value| row(&[value]))).chain([ok_as_eof(AUTOCOMMIT)]).collect()
}
