//! Capability flags (MySQL manual, "Capabilities Flags"; MariaDB knowledge base, "Connection").

use std::ops::{BitAnd, BitOr};

/// MySQL's 32 capability bits, with MariaDB's extended ones above them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Capabilities(u64);

macro_rules! flags {
    ($($(#[$doc:meta])* $name:ident = $bit:literal;)*) => {
        impl Capabilities {
            $($(#[$doc])* pub const $name: Self = Self(1 << $bit);)*
        }
    };
}

flags! {
    /// `CLIENT_LONG_PASSWORD`; MariaDB calls it `CLIENT_MYSQL` and leaves it out of its greeting.
    LONG_PASSWORD = 0;
    /// `CLIENT_CONNECT_WITH_DB`: the handshake response names a schema.
    CONNECT_WITH_DB = 3;
    /// `CLIENT_COMPRESS`: zlib after the final OK of the connection phase.
    COMPRESS = 5;
    /// `CLIENT_LOCAL_FILES`: the server may request a file.
    LOCAL_FILES = 7;
    /// `CLIENT_PROTOCOL_41`.
    PROTOCOL_41 = 9;
    /// `CLIENT_SSL`: TLS follows the short handshake response.
    SSL = 11;
    /// `CLIENT_SECURE_CONNECTION` (`CLIENT_RESERVED2`): the auth response has a length byte.
    SECURE_CONNECTION = 15;
    /// `CLIENT_MULTI_STATEMENTS`: a COM_QUERY may hold several statements.
    MULTI_STATEMENTS = 16;
    /// `CLIENT_PLUGIN_AUTH`: both sides name an authentication plugin.
    PLUGIN_AUTH = 19;
    /// `CLIENT_CONNECT_ATTRS`: the handshake response ends with key-value pairs.
    CONNECT_ATTRS = 20;
    /// `CLIENT_PLUGIN_AUTH_LENENC_CLIENT_DATA`: the auth response has a length-encoded length.
    PLUGIN_AUTH_LENENC = 21;
    /// `CLIENT_SESSION_TRACK`: OK packets can carry session state.
    SESSION_TRACK = 23;
    /// `CLIENT_DEPRECATE_EOF`: result sets end with an OK packet, and have no EOF after the column definitions.
    DEPRECATE_EOF = 24;
    /// `CLIENT_OPTIONAL_RESULTSET_METADATA`: column definitions can be omitted.
    OPTIONAL_RESULTSET_METADATA = 25;
    /// `CLIENT_ZSTD_COMPRESSION_ALGORITHM`.
    ZSTD_COMPRESSION = 26;
    /// `CLIENT_QUERY_ATTRIBUTES`: parameters precede a statement's text.
    QUERY_ATTRIBUTES = 27;
    /// `MARIADB_CLIENT_PROGRESS`, extended bit 0: progress reports look like errors.
    MARIADB_PROGRESS = 32;
    /// `MARIADB_CLIENT_CACHE_METADATA`, extended bit 4: known column definitions are omitted.
    MARIADB_CACHE_METADATA = 36;
}

impl Capabilities {
    /// Combines the protocol's fields: lower 32 bits, MariaDB's extended 32 bits.
    #[must_use]
    pub const fn new(base: u32, extended: u32) -> Self {
        Self(base as u64 | (extended as u64) << 32)
    }

    /// The protocol's fields: lower 32 bits, MariaDB's extended 32 bits.
    #[must_use]
    pub const fn split(self) -> (u32, u32) {
        (self.0 as u32, (self.0 >> 32) as u32)
    }

    /// True if all of `flags` are set.
    #[must_use]
    pub const fn contains(self, flags: Self) -> bool {
        self.0 & flags.0 == flags.0
    }

    /// True if at least one of `flags` is set.
    #[must_use]
    pub const fn intersects(self, flags: Self) -> bool {
        self.0 & flags.0 != 0
    }
}

impl BitAnd for Capabilities {
    type Output = Self;

    fn bitand(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
}

impl BitOr for Capabilities {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}
