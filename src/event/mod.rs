//! What the core tells the outside: the only input of metrics and access-log state.
//!
//! No event carries bytes a peer sent: every word in them comes from a fixed set.

mod advice;
pub mod details;
mod hazard;
pub mod output;
pub mod refusal;
pub mod runner;
pub mod violation;

use std::time::Duration;

use crate::labels::labels;
use crate::mysql::peer::bug_106252::AffectedClient;
use crate::mysql::peer::client::{Connector, Series};
use crate::mysql::peer::server::{Flavor, Release};
use crate::mysql::sql::verb::Verb;
use crate::mysql::wire::auth_plugin::AuthPlugin;
use crate::mysql::wire::command::Command;
use crate::proxy_protocol::Format;
use crate::rules::Expected;
pub use hazard::HazardKind;

labels! {
    /// Which peer sent the bytes.
    Sender {
        /// The MySQL client: Envoy's downstream.
        Client = "client",
        /// The MySQL server: Envoy's upstream.
        Server = "server",
    }
}

labels! {
    /// Envoy's `xds.listener_direction`.
    Direction {
        /// `UNSPECIFIED` (0): a listener outside a mesh.
        Unspecified = "unspecified",
        /// `INBOUND` (1).
        Inbound = "inbound",
        /// `OUTBOUND` (2).
        Outbound = "outbound",
    }
}

labels! {
    /// What a connection carries: what was observed or, before that, what is expected.
    Protocol {
        /// MySQL or MariaDB.
        Mysql = "mysql",
        /// Another protocol in which the server speaks first.
        ServerFirst = "server_first",
        /// A protocol in which the client speaks first.
        ClientFirst = "client_first",
        /// Not looked at, by configuration.
        Opaque = "opaque",
        /// Nobody has said anything yet, or nobody ever did.
        Unknown = "unknown",
    }
}

/// What a connection counts as while nothing is observed.
impl From<Expected> for Protocol {
    fn from(expected: Expected) -> Self {
        match expected {
            Expected::Mysql => Self::Mysql,
            Expected::ServerFirst => Self::ServerFirst,
            Expected::Opaque => Self::Opaque,
            Expected::Unknown => Self::Unknown,
        }
    }
}

labels! {
    /// What a client that spoke before the server began with.
    ClientFirst {
        /// PROXY protocol, human-readable header.
        ProxyV1 = "proxy_v1",
        /// PROXY protocol, binary header.
        ProxyV2 = "proxy_v2",
        /// A TLS record with a handshake.
        Tls = "tls",
        /// An HTTP/1 request line or the HTTP/2 preface.
        Http = "http",
        /// A MySQL X Protocol message.
        MysqlX = "mysqlx",
        /// Anything else.
        Other = "other",
    }
}

labels! {
    /// What a server that spoke before the client spoke.
    ServerFirst {
        /// MySQL's protocol, be it an error instead of a greeting.
        Mysql = "mysql",
        /// SMTP or LMTP.
        Smtp = "smtp",
        /// FTP.
        Ftp = "ftp",
        /// POP3.
        Pop3 = "pop3",
        /// IMAP.
        Imap = "imap",
        /// SSH.
        Ssh = "ssh",
        /// NNTP.
        Nntp = "nntp",
        /// RFB, the protocol of VNC.
        Rfb = "rfb",
        /// Anything else.
        Other = "other",
    }
}

labels! {
    /// What became of a PROXY header, or of a connection without one.
    HeaderResult {
        /// Removed and believed.
        Stripped = "stripped",
        /// Its sender is not believed: removed, or the connection closed.
        Untrusted = "untrusted",
        /// It breaks a rule of the specification, or is not where it belongs: closed.
        Malformed = "malformed",
        /// There is none where there must be one: closed.
        Missing = "missing",
        /// It did not come in time, or not all of it: closed.
        Timeout = "timeout",
    }
}

labels! {
    /// Why a connection is passed through uninspected.
    OpaqueReason {
        /// The MySQL session went on in TLS.
        Tls = "tls",
        /// The MySQL session went on compressed.
        Compressed = "compressed",
        /// The packets contradict the protocol as this filter knows it.
        Desync = "desync",
        /// It is another protocol.
        NotMysql = "not_mysql",
        /// A replication stream with a protocol of its own.
        Replication = "replication",
        /// MySQL's CLONE, which has a protocol of its own.
        Clone = "clone",
        /// The filter did not see the connection from its first byte.
        LateStart = "late_start",
        /// The connection would need more memory than one is given.
        Memory = "memory",
        /// Configuration says not to look.
        Configured = "configured",
    }
}

labels! {
    /// Why `block_local_infile` can no longer be enforced on a connection.
    ProtectionLost {
        /// The packets cannot be followed.
        Desync = "desync",
        /// The server does not speak MySQL.
        NotMysql = "not_mysql",
        /// Following them needs more memory than the connection is given.
        Memory = "memory",
    }
}

labels! {
    /// How the connection phase ended.
    HandshakeResult {
        /// The server accepted the client.
        Ok = "ok",
        /// The server refused the client.
        Error = "error",
        /// The connection ended before the server decided.
        Aborted = "aborted",
        /// It went on in TLS, unseen.
        Tls = "tls",
    }
}

labels! {
    /// How far a connection had come when it ended.
    Phase {
        /// The server had not greeted.
        Greeting = "greeting",
        /// The client had not answered the greeting.
        Handshake = "handshake",
        /// The server had not decided about the client.
        Authentication = "authentication",
        /// The server took commands.
        Command = "command",
        /// The connection was not inspected any more.
        Opaque = "opaque",
    }
}

labels! {
    /// Who ended a connection.
    ClosedBy {
        /// The client: by COM_QUIT, the end of its stream, or a reset.
        Client = "client",
        /// The server: by the end of its stream or a reset.
        Server = "server",
        /// Envoy: no upstream, a time-out, drain.
        Proxy = "proxy",
    }
}

/// What the answer to a command held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Rows of all its result sets.
    pub rows: u64,
    /// Rows changed, deleted or inserted, as the server says.
    pub affected_rows: u64,
    /// Warnings, as the server says.
    pub warnings: u32,
    /// Its result sets.
    pub result_sets: u32,
    /// How many of its parts used no index (`SERVER_QUERY_NO_INDEX_USED`).
    pub no_index_used: u32,
    /// How many of its parts the server calls slow (`SERVER_QUERY_WAS_SLOW`).
    pub slow: u32,
    /// The error that ended it.
    pub errno: Option<u16>,
}

impl Tally {
    /// What this one holds beyond an earlier one of the same response.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            rows: self.rows.saturating_sub(earlier.rows),
            affected_rows: self.affected_rows.saturating_sub(earlier.affected_rows),
            warnings: self.warnings.saturating_sub(earlier.warnings),
            result_sets: self.result_sets.saturating_sub(earlier.result_sets),
            no_index_used: self.no_index_used.saturating_sub(earlier.no_index_used),
            slow: self.slow.saturating_sub(earlier.slow),
            errno: self.errno,
        }
    }
}

/// The complete answer to a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// What it held.
    pub tally: Tally,
    /// From the command's first packet to the answer's last.
    pub took: Duration,
    /// From the command's first packet to the answer's first.
    pub first_byte: Duration,
}

/// One thing that happened on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A connection has been open for a while and nobody has said anything: what is expected there.
    Waiting(Expected),
    /// What a connection carries is known, or will never be. Told once for each connection.
    Recognised {
        /// What it carries.
        protocol: Protocol,
        /// What [`Event::Waiting`] took it for.
        waited_as: Option<Expected>,
    },
    /// The client spoke before the server.
    ClientFirst(ClientFirst),
    /// The server spoke before the client.
    ServerFirst(ServerFirst),
    /// The server has said nothing for as long as it may.
    GreetingTimeout,
    /// A PROXY header came from the client, or did not where it must.
    ProxyHeader {
        /// Which; none where no header came.
        format: Option<Format>,
        /// What became of it.
        result: HeaderResult,
    },
    /// The server gets a PROXY header.
    ProxyHeaderSent(Format),
    /// The server greeted.
    Greeting {
        /// Which server it says it is.
        flavor: Flavor,
        /// Its release.
        release: Release,
        /// Since the connection began.
        after: Duration,
    },
    /// The greeting offered TLS, and the client is not told so.
    TlsCleared,
    /// The server sent an error instead of a greeting.
    PreHandshakeError {
        /// MySQL's error number.
        errno: u16,
    },
    /// The client answered the greeting, not in TLS.
    Client {
        /// Which library it says it is.
        connector: Connector,
        /// The library's release series.
        series: Series,
    },
    /// The connection phase ended.
    Handshake {
        /// How.
        result: HandshakeResult,
        /// Since the connection began; none where the server did not decide.
        took: Option<Duration>,
    },
    /// The server refused the client after greeting it.
    HandshakeError {
        /// MySQL's error number.
        errno: u16,
        /// What the client was to authenticate by.
        plugin: AuthPlugin,
    },
    /// The server asked the client to authenticate by another plugin, or by a further one.
    AuthSwitch(AuthPlugin),
    /// caching_sha2_password needed the password itself on a connection without TLS.
    PlaintextFullAuth,
    /// Bytes passed, PROXY headers left out.
    Bytes {
        /// Who sent them.
        sender: Sender,
        /// How many.
        count: u64,
    },
    /// Packet headers passed.
    Packets {
        /// Who sent them.
        sender: Sender,
        /// How many.
        count: u64,
    },
    /// The client sent a command that is not answered.
    CommandSent(Command),
    /// The client sent a command; [`Event::CommandEnded`] follows.
    CommandStarted(Command),
    /// The answer to a command ended, or will not come any more.
    CommandEnded {
        /// Which command.
        command: Command,
        /// Of the statement it executes or prepares.
        verb: Option<Verb>,
        /// None when it did not come or could not be seen.
        answer: Option<Answer>,
    },
    /// The responses to further commands will not come any more. They equal the command of the [`Event::CommandEnded`] that
    /// this follows, and arrived together with it.
    CommandsAbandoned {
        /// Which command.
        command: Command,
        /// Number of commands, at least 1. One event stands for all of them because a client can pipeline millions.
        count: usize,
    },
    /// A response that [`Event::CommandEnded`] has counted went on: what came after that.
    ResponseContinued(Tally),
    /// Commands have become, or are not any more, older than an answer may take.
    Stalled {
        /// How many.
        change: i64,
    },
    /// Prepared statements were opened, or closed where negative.
    PreparedStatements {
        /// How many.
        change: i64,
    },
    /// A transaction began or ended, by the server's status flags.
    Transaction {
        /// It began.
        open: bool,
    },
    /// The server asked for a file of the client's.
    LocalInfile,
    /// The client's statement does not name that file, and the client gets an error instead; then the connection ends.
    LocalInfileBlocked,
    /// A rule blocks requests for files, and that can no longer be enforced: the connection ends.
    ProtectionLost(ProtectionLost),
    /// The server accepted a client that hangs where the final EOF of an answer to COM_STMT_PREPARE comes late.
    EofHazardClient(AffectedClient),
    /// Such an EOF came later than the column definitions in front of it.
    PrepareEofSplit {
        /// How many of its 9 bytes came with them.
        passed: u8,
    },
    /// The end of such an answer is held until it is complete.
    PrepareEofHeld,
    /// The server ended the connection where bytes were held, which are lost.
    PrepareEofLost,
    /// Bytes of [`Event::Bytes`] passed in a compressed session.
    CompressedBytes {
        /// Who sent them.
        sender: Sender,
        /// How many.
        count: u64,
    },
    /// The server sent an error that answers no command.
    ServerNotice {
        /// MySQL's error number.
        errno: u16,
    },
    /// A connection that asked nothing of the server was ended by somebody else than its client.
    IdleClosed {
        /// Who ended it.
        by: ClosedBy,
        /// Since the server accepted the client, or answered its last command.
        idle: Duration,
    },
    /// A hazard that no other event tells of; see [`HazardKind::of`].
    Hazard(HazardKind),
    /// Inspection ended; the connection goes on.
    Opaque(OpaqueReason),
    /// The connection ended.
    Closed {
        /// As it was recognised.
        protocol: Protocol,
        /// How far it had come.
        phase: Phase,
        /// Who ended it.
        by: ClosedBy,
    },
}
