//! Which clients can hang when the last EOF of the answer to COM_STMT_PREPARE comes later than the column definition in
//! front of it: MySQL Bug#106252. Connector/J 6.0.4 to 8.0.31 with server-side prepared statements does not read that EOF,
//! but drops what has arrived of it before it sends the next command; what arrives later it takes for the answer.

use crate::mysql::wire::capability::Capabilities;
use crate::mysql::wire::types::ParseError;

/// The first and the last release with the bug.
const FIRST: [u8; 3] = [6, 0, 4];
const LAST: [u8; 3] = [8, 0, 31];

/// A client that can hang.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum AffectedClient {
    /// Connector/J of this release: major, minor, patch.
    ConnectorJ([u8; 3]),
    /// It can be one, for the server takes no connection attributes.
    Unnamed,
}

impl AffectedClient {
    /// Whether a client is one, from its attributes `_client_name` and `_client_version`, what the server can do and
    /// what both can. Where EOF packets are deprecated none comes.
    #[must_use]
    pub fn of(name: &[u8], version: &[u8], server: Capabilities, both: Capabilities) -> Option<Self> {
        // The protocol before 4.1 has no prepared statements.
        if both.contains(Capabilities::DEPRECATE_EOF) || !both.contains(Capabilities::PROTOCOL_41) {
            return None;
        }
        if !server.contains(Capabilities::CONNECT_ATTRS) {
            return Some(Self::Unnamed);
        }
        // The first name is that of releases before 8.0.11.
        let names: [&[u8]; 2] = [b"MySQL Connector Java", b"MySQL Connector/J"];
        let release = release(version).ok().filter(|_| names.contains(&name))?;
        // All releases between have the minor 0, which bounds how many there can be.
        let [_, minor, patch] = release;
        let exists = minor == 0 && patch <= LAST[2];
        (exists && (FIRST..=LAST).contains(&release)).then_some(Self::ConnectorJ(release))
    }
}

/// `8.0.27`, and anything behind it.
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
    fn releases_with_the_bug() {
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
    fn a_server_without_attributes_leaves_it_open_and_one_without_eof_settles_it() {
        let none = Capabilities::default();
        assert_eq!(
            AffectedClient::of(b"", b"", none, Capabilities::PROTOCOL_41),
            Some(AffectedClient::Unnamed)
        );
        assert_eq!(AffectedClient::of(b"", b"", none, none), None);
        let deprecated = CLASSIC | Capabilities::DEPRECATE_EOF;
        assert_eq!(AffectedClient::of(b"MySQL Connector/J", b"8.0.27", deprecated, deprecated), None);
        // The client does not know what the server offers.
        let found = AffectedClient::of(b"MySQL Connector/J", b"8.0.27", deprecated, CLASSIC);
        assert_eq!(found, Some(AffectedClient::ConnectorJ([8, 0, 27])));
    }
}
