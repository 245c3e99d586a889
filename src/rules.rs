//! Settings that the configuration gives one connection. Observations of a connection are in [`crate::event`].

use std::time::Duration;

use crate::labels::labels;
use crate::password_key::PasswordKeyRef;
use crate::proxy_protocol::{Endpoints, Format};

/// Settings of one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// The part of the connection that is inspected.
    pub inspection: Inspection,
    /// Protocol that a rule or the port table expects.
    pub expected: Expected,
    /// Maximum time until the server's first byte, if the server is expected to speak first.
    pub greeting_timeout: Duration,
    /// Time after which a command without a complete response counts as stalled.
    pub stall: Duration,
    /// Details that are recorded in addition to events.
    pub interests: Interests,
    /// Rules for PROXY headers. `None` if headers are neither received nor sent.
    pub proxy_header: Option<ProxyHeaderRules>,
    /// Clients for which split COM_STMT_PREPARE responses are held until they are complete.
    pub hold_split_eof: HoldSplitEof,
    /// Capabilities that are removed from the server's greeting.
    pub clear_capabilities: ClearCapabilities,
    /// Blocks requests for files that the client's statement does not name.
    pub block_local_infile: bool,
    /// Starts TLS to the server for a client without TLS. `None` if TLS passes unchanged.
    pub originate_tls: Option<OriginateTls>,
    /// The client's TLS ends before this filter. Another filter starts the connection without TLS.
    pub terminate_tls: bool,
    /// Keeps passwords of the client's TLS from a server without TLS. `None` if the server has TLS, or the client has none.
    pub guard_password: Option<GuardPassword>,
}

impl Rules {
    /// Rules that inspect everything and change nothing.
    #[must_use]
    pub const fn observe_only() -> Self {
        Self {
            inspection: Inspection::Full,
            expected: Expected::Unknown,
            greeting_timeout: Duration::MAX,
            stall: Duration::MAX,
            interests: Interests::NONE,
            proxy_header: None,
            hold_split_eof: HoldSplitEof::Off,
            clear_capabilities: ClearCapabilities { compress: false, zstd: false, ssl: false },
            block_local_infile: false,
            originate_tls: None,
            terminate_tls: false,
            guard_password: None,
        }
    }
}

/// The part of a connection that is inspected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inspection {
    /// The first bytes and, if they are MySQL's, the whole connection.
    Full,
    /// The first bytes and, if they are MySQL's, the connection phase and the client's commands.
    Requests,
    /// The first bytes and, if they are MySQL's, the connection phase.
    Handshake,
    /// The first bytes.
    FirstBytes,
    /// Nothing.
    Nothing,
}

labels! {
    /// Protocol that is expected on a connection.
    Expected {
        /// MySQL or MariaDB.
        Mysql = "mysql",
        /// Another server-first protocol.
        ServerFirst = "server_first",
        /// Any, because configuration excludes the connection from inspection.
        Opaque = "opaque",
        /// Any.
        Unknown = "unknown",
    }
}

impl Expected {
    /// True if the server sends the first byte in this protocol.
    #[must_use]
    pub const fn is_server_first(self) -> bool {
        matches!(self, Self::Mysql | Self::ServerFirst)
    }
}

labels! {
    /// Detail of a session that can be recorded: a key of access-log state.
    Field {
        /// Name of the account that the client requested last and the server did not refuse.
        User = "user",
        /// Current schema.
        Schema = "schema",
        /// Version text of the greeting.
        ServerVersion = "server_version",
        /// Client library and its version.
        Client = "client",
        /// Number of the connection on the server.
        ThreadId = "thread_id",
    }
}

/// Details that are recorded in addition to events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Interests {
    /// Indexed by [`Field`].
    fields: [bool; Field::ALL.len()],
    /// Duration from which on a command is recorded as slow; failed commands are recorded too. `None` records neither.
    pub slow_after: Option<Duration>,
}

impl Interests {
    /// Records nothing.
    pub const NONE: Self = Self { fields: [false; Field::ALL.len()], slow_after: None };

    /// Adds a field.
    pub fn add(&mut self, field: Field) {
        if let Some(has) = self.fields.get_mut(field as usize) {
            *has = true;
        }
    }

    /// True if `field` is recorded.
    #[must_use]
    pub fn has(&self, field: Field) -> bool {
        self.fields.get(field as usize).is_some_and(|has| *has)
    }

    /// True if the account or the schema is recorded. A command that changes one of them is then remembered until its
    /// response.
    #[must_use]
    pub fn has_identity(&self) -> bool {
        self.has(Field::User) || self.has(Field::Schema)
    }
}

/// Rules for the PROXY headers of one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProxyHeaderRules {
    /// Rules for headers from the client. `None` if no header is received.
    pub receive: Option<ReceiveRules>,
    /// Rules for the header to the server. `None` if no header is sent.
    pub send: Option<SendRules>,
}

/// Rules for headers from the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReceiveRules {
    /// Defines if a header is required.
    pub need: Need,
    /// True if the peer's address is in a trusted network.
    pub trusted: bool,
    /// Treatment of a header from an untrusted peer.
    pub untrusted: Untrusted,
    /// Maximum time until the header is complete.
    pub timeout: Duration,
    /// Maximum length of a header in bytes.
    pub max_header_bytes: usize,
}

/// Defines if a header is required, and what is held until it has arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// `optional`: no header is required.
    Optional,
    /// `required` and `connect_upstream: immediately`: the proxy connects to the server before the header has arrived, and
    /// the server may send its greeting.
    Required,
    /// `required` and `connect_upstream: after_header`: the proxy connects to the server once the header has arrived.
    BeforeConnect,
}

/// Treatment of a header from an untrusted peer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Untrusted {
    /// The connection is closed.
    #[default]
    Close,
    /// The header is removed.
    Strip,
}

/// Rules for the header to the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SendRules {
    /// Format of the header.
    pub format: Format,
    /// Sends no header if the client sent one that was believed.
    pub only_unless_received: bool,
    /// Addresses of the client's connection. `None` if the host does not know them.
    pub endpoints: Option<Endpoints>,
}

/// Clients for which the last column definition of a COM_STMT_PREPARE response is held until the EOF after it has arrived.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HoldSplitEof {
    /// No client.
    #[default]
    Off,
    /// Clients that hang otherwise.
    AffectedClients,
    /// Every client.
    Always,
}

/// TLS to the server for a client without TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OriginateTls {
    /// Key for passwords that the server expects in TLS. `None` if the host has none. A login that needs it then fails.
    pub password_key: Option<PasswordKeyRef>,
}

/// Guard of passwords that a client sends in its TLS, and a server gets without TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GuardPassword {
    /// Encrypts passwords by the server's key. `None` if the host cannot. A login that needs it is then refused.
    pub password_key: Option<PasswordKeyRef>,
}

/// Capabilities that are removed from the server's greeting.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClearCapabilities {
    /// `CLIENT_COMPRESS`.
    pub compress: bool,
    /// `CLIENT_ZSTD_COMPRESSION_ALGORITHM`.
    pub zstd: bool,
    /// `CLIENT_SSL`.
    pub ssl: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interests_contain_the_added_fields() {
        let mut interests = Interests::NONE;
        assert!(!interests.has_identity());
        interests.add(Field::Schema);
        assert!(interests.has(Field::Schema) && !interests.has(Field::User) && interests.has_identity());
    }
}
