//! Clients with MySQL Bug#106252. They can hang if the final EOF of a COM_STMT_PREPARE response arrives later than the column
//! definition before it. Connector/J 6.0.4 to 8.0.31 with server-side prepared statements does not read that EOF. It drops
//! the bytes that have arrived before it sends the next command, and reads later bytes as the response to that command.

use crate::mysql::wire::capability::Capabilities;
use crate::mysql::wire::types::ParseError;

/// First release with the bug.
const FIRST: [u8; 3] = [6, 0, 4];
/// Last release with the bug.
const LAST: [u8; 3] = [8, 0, 31];

/// A client that can hang.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum AffectedClient {
    /// Connector/J of this release: major, minor, patch.
    ConnectorJ([u8; 3]),
    /// Not known, because the server accepts no connection attributes.
    Unnamed,
}

impl AffectedClient {
    /// Identifies a client by its attributes `_client_name` and `_client_version`, the server's capabilities and those of both
    /// peers. `None` if it cannot hang. No client can if EOF packets are deprecated, because no such EOF is sent.
    #[must_use]
    pub fn of(name: &[u8], version: &[u8], server: Capabilities, both: Capabilities) -> Option<Self> {
        // The protocol before 4.1 has no prepared statements.
        if both.contains(Capabilities::DEPRECATE_EOF) || !both.contains(Capabilities::PROTOCOL_41) {
            return None;
        }
        if !server.contains(Capabilities::CONNECT_ATTRS) {
            return Some(Self::Unnamed);
        }
        // Releases before 8.0.11 have the first name.
        let names: [&[u8]; 2] = [b"MySQL Connector Java", b"MySQL Connector/J"];
        let release = release(version).ok().filter(|_| names.contains(&name))?;
        // All affected releases have the minor 0. The check bounds the number of distinct values.
        let [_, minor, patch] = release;
        let exists = minor == 0 && patch <= LAST[2];
        (exists && (FIRST..=LAST).contains(&release)).then_some(Self::ConnectorJ(release))
    }
}

/// Reads a release such as `8.0.27`. Ignores the text after it.
fn release(version: &[u8]) -> Result<[u8; 3], ParseError> {
    let mut parts = version.split(|byte| !byte.is_ascii_digit());
    let mut part = || {
        let digits = parts.next().and_then(|digits| std::str::from_utf8(digits).ok());
        digits
            .and_then(|digits| digits.parse().ok())
            .ok_or(ParseError::Truncated { field: "_client_version" })
    };
    Ok([part()?, part()?, part()?])
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLASSIC: Capabilities = Capabilities::new(1 << 9 | 1 << 20, 0);

    #[test]
    fn only_releases_with_the_bug_are_affected() {
        let old = "MySQL Connector Java";
        let new = "MySQL Connector/J";
        for (name, version, expected) in [
            (old, "5.1.49", None),
            (old, "6.0.3", None),
            (old, "6.0.4", Some([6, 0, 4])),
            (old, "8.0.9", Some([8, 0, 9])),
            (new, "8.0.27", Some([8, 0, 27])),
            (new, "8.0.31-SNAPSHOT", Some([8, 0, 31])),
            (new, "8.0.32", None),
            (new, "6.0.200", None),
            (new, "7.1.1", None),
            (new, "9.1.0", None),
            (new, "26.10.0", None),
            (new, "8.0", None),
            (new, "", None),
            (new, "8.0.999", None),
            ("MariaDB Connector/J", "8.0.27", None),
            ("", "", None),
        ] {
            let found = AffectedClient::of(name.as_bytes(), version.as_bytes(), CLASSIC, CLASSIC);
            assert_eq!(found, expected.map(AffectedClient::ConnectorJ), "{name} {version}");
        }
    }

    #[test]
    fn clients_without_attributes_can_be_affected_and_clients_without_eof_packets_cannot() {
        let none = Capabilities::default();
        assert_eq!(
            AffectedClient::of(b"", b"", none, Capabilities::PROTOCOL_41),
            Some(AffectedClient::Unnamed)
        );
        assert_eq!(AffectedClient::of(b"", b"", none, none), None);
        let deprecated = CLASSIC | Capabilities::DEPRECATE_EOF;
        assert_eq!(AffectedClient::of(b"MySQL Connector/J", b"8.0.27", deprecated, deprecated), None);
        // The client does not support the capability that the server offers.
        let found = AffectedClient::of(b"MySQL Connector/J", b"8.0.27", deprecated, CLASSIC);
        assert_eq!(found, Some(AffectedClient::ConnectorJ([8, 0, 27])));
    }
}
