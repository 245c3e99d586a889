//! The messages of the connection phase (MySQL manual, "Connection Phase Packets").

use crate::mysql::wire::capability::Capabilities;
use crate::mysql::wire::types::{ParseError, Reader};

/// `protocol_version` of every server since MySQL 3.21.
pub const PROTOCOL_V10: u8 = 0x0a;
/// `protocol_version` of older servers; recognised, not inspected.
pub const PROTOCOL_V9: u8 = 0x09;
/// First byte of the ERR packet of a server that refuses a client before greeting it.
pub const ERR: u8 = 0xff;

/// `Protocol::HandshakeV10`, the server's first packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HandshakeV10<'a> {
    /// Human-readable server version.
    pub server_version: &'a [u8],
    /// The server's number for the connection.
    pub thread_id: u32,
    /// Both parts of `auth_plugin_data`; the second is empty without `PLUGIN_AUTH`.
    pub scramble: [&'a [u8]; 2],
    /// Capabilities of the server.
    pub capabilities: Capabilities,
    /// `auth_plugin_name`; empty if the server names none.
    pub auth_plugin: &'a [u8],
}

impl<'a> HandshakeV10<'a> {
    /// Reads a payload that begins with 0x0a.
    pub fn parse(payload: &'a [u8]) -> Result<Self, ParseError> {
        let mut reader = Reader::new(payload);
        let version = reader.u8("protocol_version")?;
        if version != PROTOCOL_V10 {
            return Err(ParseError::Invalid { field: "protocol_version", value: u64::from(version) });
        }
        let server_version = reader.nul_bytes("server_version")?;
        let thread_id = reader.u32("thread_id")?;
        let first = reader.bytes("auth_plugin_data_part_1", 8)?;
        reader.u8("filler")?;
        let lower = u32::from(reader.u16("capability_flags_1")?);
        if reader.rest().is_empty() {
            // Servers before 4.1 stop here.
            let capabilities = Capabilities::new(lower, 0);
            let scramble = [first, &[]];
            return Ok(Self { server_version, thread_id, scramble, capabilities, auth_plugin: &[] });
        }
        reader.u8("character_set")?;
        reader.u16("status_flags")?;
        let upper = u32::from(reader.u16("capability_flags_2")?);
        let auth_data_len = reader.u8("auth_plugin_data_len")?;
        reader.bytes("reserved", 6)?;
        let reserved = reader.u32("reserved")?;
        let base = Capabilities::new(lower | upper << 16, 0);
        // MariaDB omits LONG_PASSWORD and puts its extended flags into the reserved bytes.
        let extended = if base.contains(Capabilities::LONG_PASSWORD) { 0 } else { reserved };
        let capabilities = Capabilities::new(lower | upper << 16, extended);
        let (mut second, mut auth_plugin): (&[u8], &[u8]) = (&[], &[]);
        if base.contains(Capabilities::PLUGIN_AUTH) {
            // MySQL Bug#59453: some servers omit the NUL.
            let len = usize::from(auth_data_len).saturating_sub(8).max(13);
            second = reader.bytes("auth_plugin_data_part_2", len)?;
            auth_plugin = reader.rest().split(|byte| *byte == 0).next().unwrap_or_default();
        }
        Ok(Self { server_version, thread_id, scramble: [first, second], capabilities, auth_plugin })
    }
}

/// The client's first packet: `Protocol::HandshakeResponse41`, the older `HandshakeResponse320`, or
/// `Protocol::SSLRequest`, which is the first part of either.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HandshakeResponse<'a> {
    /// Capabilities of the client. The flag `SSL`, not the packet's length, makes servers expect TLS next.
    pub capabilities: Capabilities,
    /// The account's name; `None` in an SSLRequest, which ends before it.
    pub user: Option<&'a [u8]>,
    /// The initial schema; `None` if the client names none.
    pub schema: Option<&'a [u8]>,
    /// Length of the auth response, in bytes; 0 in the protocol before 4.1.
    pub auth_response_len: usize,
    /// `client_plugin_name`; empty if the client names none.
    pub auth_plugin: &'a [u8],
    /// The connection attribute `_client_name`.
    pub client_name: &'a [u8],
    /// The connection attribute `_client_version`.
    pub client_version: &'a [u8],
}

impl<'a> HandshakeResponse<'a> {
    /// Reads the client's first packet. `server`: capabilities of the server. Skips the auth response. Fields after the end
    /// of `payload`, which can be the beginning of the packet, stay empty.
    pub fn parse(payload: &'a [u8], server: Capabilities) -> Result<Self, ParseError> {
        let mut reader = Reader::new(payload);
        let lower = u32::from(reader.u16("capability_flags")?);
        if !Capabilities::new(lower, 0).contains(Capabilities::PROTOCOL_41) {
            let capabilities = Capabilities::new(lower, 0);
            let mut response = Self { capabilities, ..Self::default() };
            let _ = response.read_rest_320(&mut reader);
            return Ok(response);
        }
        let base = lower | u32::from(reader.u16("capability_flags")?) << 16;
        reader.u32("max_packet_size")?;
        reader.u8("character_set")?;
        reader.bytes("filler", 19)?;
        let filler = reader.u32("filler")?;
        let mariadb = !Capabilities::new(base, 0).contains(Capabilities::LONG_PASSWORD);
        let capabilities = Capabilities::new(base, if mariadb { filler } else { 0 });
        let mut response = Self { capabilities, ..Self::default() };
        // Only an error in the fixed part matters, because the next packets do not depend on the rest.
        let _ = response.read_rest(&mut reader, capabilities & server);
        Ok(response)
    }

    fn read_rest_320(&mut self, reader: &mut Reader<'a>) -> Result<(), ParseError> {
        reader.bytes("max_packet_size", 3)?;
        self.user = Some(reader.nul_bytes("username")?);
        if self.capabilities.contains(Capabilities::CONNECT_WITH_DB) {
            reader.nul_bytes("auth_response")?;
            let rest = reader.rest();
            self.schema = Some(reader.nul_bytes("database").unwrap_or(rest));
        }
        Ok(())
    }

    fn read_rest(&mut self, reader: &mut Reader<'a>, capabilities: Capabilities) -> Result<(), ParseError> {
        self.user = Some(reader.nul_bytes("username")?);
        let auth_response = if capabilities.contains(Capabilities::PLUGIN_AUTH_LENENC) {
            reader.lenenc_bytes("auth_response")?
        } else if capabilities.contains(Capabilities::SECURE_CONNECTION) {
            let len = reader.u8("auth_response_length")?;
            reader.bytes("auth_response", usize::from(len))?
        } else {
            reader.nul_bytes("auth_response")?
        };
        self.auth_response_len = auth_response.len();
        if capabilities.contains(Capabilities::CONNECT_WITH_DB) {
            self.schema = Some(reader.nul_bytes("database")?);
        }
        if capabilities.contains(Capabilities::PLUGIN_AUTH) {
            self.auth_plugin = reader.nul_bytes("client_plugin_name")?;
        }
        if capabilities.contains(Capabilities::CONNECT_ATTRS) {
            reader.lenenc_int("length of all key-values")?;
            while !reader.rest().is_empty() {
                let key = reader.lenenc_bytes("key")?;
                let value = reader.lenenc_bytes("value")?;
                match key {
                    b"_client_name" => self.client_name = value,
                    b"_client_version" => self.client_version = value,
                    _ => {}
                }
            }
        }
        Ok(())
    }
}

/// `COM_CHANGE_USER`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ChangeUser<'a> {
    /// The account's name.
    pub user: &'a [u8],
    /// The new schema; empty to have none. `None` if it is after the end of the payload that was read.
    pub schema: Option<&'a [u8]>,
}

impl<'a> ChangeUser<'a> {
    /// Reads a payload that begins with 0x11. Skips the auth response.
    pub fn parse(payload: &'a [u8], capabilities: Capabilities) -> Result<Self, ParseError> {
        let mut reader = Reader::new(payload);
        reader.u8("command")?;
        let mut this = Self { user: reader.nul_bytes("user")?, schema: None };
        this.schema = this.read_schema(&mut reader, capabilities).ok();
        Ok(this)
    }

    fn read_schema(
        &self,
        reader: &mut Reader<'a>,
        capabilities: Capabilities,
    ) -> Result<&'a [u8], ParseError> {
        if capabilities.contains(Capabilities::SECURE_CONNECTION) {
            let len = reader.u8("auth_response_length")?;
            reader.bytes("auth_response", usize::from(len))?;
        } else {
            reader.nul_bytes("auth_response")?;
        }
        reader.nul_bytes("schema")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// MariaDB 10.11's greeting: version with the replication prefix, extended capabilities 0x1f.
    fn mariadb_greeting() -> Vec<u8> {
        let mut payload = b"\x0a5.5.5-10.11.19-MariaDB-0+deb12u1\0".to_vec();
        payload.extend_from_slice(&7_u32.to_le_bytes());
        payload.extend_from_slice(b"12345678\0");
        payload.extend_from_slice(&[0xfe, 0xf7, 0x2d, 0x02, 0x00, 0xff, 0x81, 21]);
        payload.extend_from_slice(&[0; 6]);
        payload.extend_from_slice(&0x1f_u32.to_le_bytes());
        payload.extend_from_slice(b"123456789012\0mysql_native_password\0");
        payload
    }

    #[test]
    fn mariadb_puts_extended_capabilities_into_the_reserved_bytes() {
        let payload = mariadb_greeting();
        let greeting = HandshakeV10::parse(&payload).unwrap();
        assert_eq!(greeting.server_version, b"5.5.5-10.11.19-MariaDB-0+deb12u1");
        assert_eq!(greeting.auth_plugin, b"mysql_native_password");
        assert_eq!(greeting.capabilities, Capabilities::new(0x81ff_f7fe, 0x1f));
    }

    #[test]
    fn a_mysql_server_has_no_extended_capabilities() {
        let mut payload = mariadb_greeting();
        let capabilities = payload.iter().position(|&b| b == 0xfe).unwrap();
        payload[capabilities] = 0xff;
        let greeting = HandshakeV10::parse(&payload).unwrap();
        assert_eq!(greeting.capabilities, Capabilities::new(0x81ff_f7ff, 0));
    }

    #[test]
    fn a_truncated_greeting_is_an_error() {
        let payload = mariadb_greeting();
        let read = payload.len() - "mysql_native_password\0".len();
        // The only shorter form that is valid ends after the lower capabilities (before MySQL 4.1).
        let before_41 = b"\x0a5.5.5-10.11.19-MariaDB-0+deb12u1\0".len() + 4 + 9 + 2;
        for cut in 0..read {
            assert_eq!(HandshakeV10::parse(&payload[..cut]).is_ok(), cut == before_41, "cut at {cut}");
        }
    }

    #[test]
    fn a_mariadb_client_sends_extended_capabilities() {
        let mut response = [0; 32];
        response[..4].copy_from_slice(&0x0200_u32.to_le_bytes());
        response[28..32].copy_from_slice(&4_u32.to_le_bytes());
        let capabilities = |payload: &[u8]| {
            let parsed = HandshakeResponse::parse(payload, Capabilities::default());
            parsed.map(|parsed| parsed.capabilities)
        };
        assert_eq!(capabilities(&response), Ok(Capabilities::new(0x0200, 4)));
        response[0] = 1;
        assert_eq!(capabilities(&response), Ok(Capabilities::new(0x0201, 0)));
        assert_eq!(capabilities(&response[..31]), Err(ParseError::Truncated { field: "filler" }));
    }

    #[test]
    fn plugin_and_attributes_of_a_response_are_read() {
        let flags = Capabilities::new(1 << 9 | 1 << 3 | 1 << 15 | 1 << 19 | 1 << 20 | 1 << 21 | 1, 0);
        let mut response =
            (1_u32 << 9 | 1 << 3 | 1 << 15 | 1 << 19 | 1 << 20 | 1 << 21 | 1).to_le_bytes().to_vec();
        response.extend([0; 28]);
        response.extend(b"app\0\x03pwddemo\0caching_sha2_password\0\x2e");
        response.extend(b"\x0c_client_name\x08libmysql\x0f_client_version\x058.0.1");
        let parsed = HandshakeResponse::parse(&response, flags).unwrap();
        assert_eq!((parsed.user, parsed.schema), (Some(&b"app"[..]), Some(&b"demo"[..])));
        assert_eq!(parsed.auth_plugin, b"caching_sha2_password");
        assert_eq!((parsed.client_name, parsed.client_version), (&b"libmysql"[..], &b"8.0.1"[..]));
        // Without PLUGIN_AUTH_LENENC the length is one byte, which has the same value here.
        for cut in 32..response.len() {
            let cut = HandshakeResponse::parse(&response[..cut], flags).unwrap();
            assert_eq!(cut.capabilities, flags);
        }
    }

    #[test]
    fn user_and_schema_of_a_change_user_are_read() {
        let payload = b"\x11app\0\x03pwdshop\0\x21\0";
        let read = |payload, capabilities| ChangeUser::parse(payload, capabilities);
        let expected = ChangeUser { user: b"app", schema: Some(b"shop") };
        assert_eq!(read(payload, Capabilities::SECURE_CONNECTION), Ok(expected));
        let old = b"\x11app\0pwd\0\0";
        assert_eq!(read(old, Capabilities::default()), Ok(ChangeUser { user: b"app", schema: Some(b"") }));
        let cut = ChangeUser { user: b"app", schema: None };
        assert_eq!(read(&payload[..9], Capabilities::SECURE_CONNECTION), Ok(cut));
        assert_eq!(read(b"\x11app", Capabilities::default()), Err(ParseError::Truncated { field: "user" }));
    }

    #[test]
    fn the_response_320_has_sixteen_bits() {
        let parsed = HandshakeResponse::parse(b"\x05\x00\xff\xff\xffroot\0", Capabilities::default());
        let parsed = parsed.unwrap();
        assert_eq!(parsed.capabilities, Capabilities::new(5, 0));
        assert_eq!((parsed.user, parsed.schema), (Some(&b"root"[..]), None));
        let parsed =
            HandshakeResponse::parse(b"\x08\0\xff\xff\xffapp\0secret\0shop", Capabilities::default());
        assert_eq!(parsed.unwrap().schema, Some(&b"shop"[..]));
    }
}
