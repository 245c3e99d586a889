//! Events: the output of the core, from which metrics and access-log state are made.
//!
//! No event contains bytes that a peer sent: every word in it comes from a fixed set.

mod advice;
pub mod desync_report;
pub mod details;
mod hazard;
pub mod output;
pub mod recent_packets;
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
    /// The peer that sent the bytes.
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
    /// The protocol of a connection: the observed one or, until one is observed, the expected one.
    Protocol {
        /// MySQL or MariaDB.
        Mysql = "mysql",
        /// Another protocol in which the server speaks first.
        ServerFirst = "server_first",
        /// A protocol in which the client speaks first.
        ClientFirst = "client_first",
        /// Not inspected, because of the configuration.
        Opaque = "opaque",
        /// No peer has sent a byte.
        Unknown = "unknown",
    }
}

/// The protocol that a connection counts as until one is observed.
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
    /// What followed a panic in a callback about a connection.
    PanicResult {
        /// The connection was closed, because it could not continue without its rules.
        Closed = "closed",
        /// The connection continues without inspection.
        Passed = "passed",
    }
}

labels! {
    /// The first bytes of a client that sent before the server.
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
    /// The protocol of a server that sent before the client.
    ServerFirst {
        /// MySQL's protocol: a greeting, or an error instead of it.
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
    /// Result of a PROXY header, or of a connection without one.
    HeaderResult {
        /// Removed and trusted.
        Stripped = "stripped",
        /// Its sender is not trusted: removed, or the connection closed.
        Untrusted = "untrusted",
        /// It breaks a rule of the specification, or is at the wrong place: closed.
        Malformed = "malformed",
        /// A required header is missing: closed.
        Missing = "missing",
        /// It did not arrive in time, or not completely: closed.
        Timeout = "timeout",
    }
}

labels! {
    /// The reason for which a connection is not inspected.
    OpaqueReason {
        /// The MySQL session continued in TLS.
        Tls = "tls",
        /// The MySQL session continued compressed.
        Compressed = "compressed",
        /// The packets are not valid in the protocol as this filter knows it.
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
        /// The configuration disables inspection.
        Configured = "configured",
    }
}

labels! {
    /// The reason for which `block_local_infile` can no longer be enforced on a connection.
    ProtectionLost {
        /// The packets are not valid in the protocol.
        Desync = "desync",
        /// The server does not speak MySQL.
        NotMysql = "not_mysql",
        /// Inspection needs more memory than the connection is given.
        Memory = "memory",
    }
}

labels! {
    /// Result of TLS between the filter and a peer.
    TlsResult {
        /// The peer has sent something in TLS.
        Established = "established",
        /// The server does not offer TLS.
        NotOffered = "not_offered",
        /// The client wants TLS too.
        ClientTls = "client_tls",
        /// The client does not ask for TLS.
        NotRequested = "not_requested",
        /// A peer broke the protocol before TLS began.
        Refused = "refused",
        /// A login needs a password that would leave to the server without TLS.
        ClearPassword = "clear_password",
        /// The connection ended before the peer had sent anything in TLS.
        Failed = "failed",
    }
}

labels! {
    /// Side of the proxy on which it starts or ends TLS.
    TlsSide {
        /// Between the proxy and the server.
        Upstream = "upstream",
        /// Between the client and the proxy.
        Downstream = "downstream",
    }
}

labels! {
    /// Result of the connection phase.
    HandshakeResult {
        /// The server accepted the client.
        Ok = "ok",
        /// The server refused the client.
        Error = "error",
        /// The connection ended before the server decided.
        Aborted = "aborted",
        /// It continued in TLS, where it is not visible.
        Tls = "tls",
    }
}

labels! {
    /// The phase that a connection had reached when it ended.
    Phase {
        /// The server had not greeted.
        Greeting = "greeting",
        /// The client had not responded to the greeting.
        Handshake = "handshake",
        /// The server had not accepted or refused the client.
        Authentication = "authentication",
        /// The server accepted commands.
        Command = "command",
        /// The connection was no longer inspected.
        Opaque = "opaque",
    }
}

labels! {
    /// The peer that ended a connection.
    ClosedBy {
        /// The client: by COM_QUIT, the end of its stream, or a reset.
        Client = "client",
        /// The server: by the end of its stream or a reset.
        Server = "server",
        /// Envoy: no upstream, a time-out, drain.
        Proxy = "proxy",
    }
}

/// Content of the response to a command.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Number of rows of all its result sets.
    pub rows: u64,
    /// Number of rows changed, deleted or inserted, according to the server.
    pub affected_rows: u64,
    /// Number of warnings, according to the server.
    pub warnings: u32,
    /// Number of result sets.
    pub result_sets: u32,
    /// Number of its parts that used no index (`SERVER_QUERY_NO_INDEX_USED`).
    pub no_index_used: u32,
    /// Number of its parts that the server reports as slow (`SERVER_QUERY_WAS_SLOW`).
    pub slow: u32,
    /// The error that ended it; `None` if it did not fail.
    pub errno: Option<u16>,
}

impl Tally {
    /// The difference to an earlier tally of the same response.
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

/// The complete response to a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Response {
    /// Its content.
    pub tally: Tally,
    /// Time from the command's first packet to the response's last.
    pub duration: Duration,
    /// Time from the command's first packet to the response's first.
    pub first_byte: Duration,
}

/// One thing that happened on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A connection has been open for a while and no peer has sent a byte. Contains the expected protocol.
    Waiting(Expected),
    /// The protocol of a connection is known, or will never be known. Emitted once for each connection.
    Recognised {
        /// The protocol.
        protocol: Protocol,
        /// The expected protocol in [`Event::Waiting`]; `None` if that event was not emitted.
        waited_as: Option<Expected>,
    },
    /// The client sent before the server.
    ClientFirst(ClientFirst),
    /// The server sent before the client.
    ServerFirst(ServerFirst),
    /// The server has sent nothing before the greeting timeout.
    GreetingTimeout,
    /// A PROXY header arrived from the client, or a required one did not.
    ProxyHeader {
        /// Format of the header; `None` if no header arrived.
        format: Option<Format>,
        /// Its result.
        result: HeaderResult,
    },
    /// A PROXY header was sent to the server.
    ProxyHeaderSent(Format),
    /// The server greeted.
    Greeting {
        /// Kind of server, according to its version text.
        flavor: Flavor,
        /// Its release.
        release: Release,
        /// Time since the connection began.
        after: Duration,
    },
    /// The greeting offered TLS, and the offer was removed for the client.
    TlsCleared,
    /// A rule required TLS of the filter on this side.
    Tls {
        /// Side of the proxy.
        side: TlsSide,
        /// Result.
        result: TlsResult,
    },
    /// The server sent an error instead of a greeting.
    PreHandshakeError {
        /// MySQL's error number.
        errno: u16,
    },
    /// The client responded to the greeting, without TLS.
    Client {
        /// Client library, according to its attributes.
        connector: Connector,
        /// The library's release series.
        series: Series,
    },
    /// The connection phase ended.
    Handshake {
        /// The result.
        result: HandshakeResult,
        /// Time since the connection began; `None` if the server did not decide.
        duration: Option<Duration>,
    },
    /// The server refused the client after greeting it.
    HandshakeError {
        /// MySQL's error number.
        errno: u16,
        /// The plugin by which the client had to authenticate.
        plugin: AuthPlugin,
    },
    /// The server requested authentication by another plugin, or by a further one.
    AuthSwitch(AuthPlugin),
    /// caching_sha2_password needed the password itself on a connection without TLS.
    PlaintextFullAuth,
    /// Bytes were forwarded. PROXY headers do not count.
    Bytes {
        /// The peer that sent them.
        sender: Sender,
        /// Number of bytes.
        count: u64,
    },
    /// Packet headers were forwarded.
    Packets {
        /// The peer that sent them.
        sender: Sender,
        /// Number of packet headers.
        count: u64,
    },
    /// The client sent a command that gets no response.
    CommandSent(Command),
    /// The client sent a command; [`Event::CommandEnded`] follows.
    CommandStarted(Command),
    /// The response to a command ended, or will not arrive.
    CommandEnded {
        /// The command.
        command: Command,
        /// Verb of the statement that it executes or prepares; `None` for other commands.
        verb: Option<Verb>,
        /// The response; `None` if it did not arrive or could not be inspected.
        response: Option<Response>,
    },
    /// The responses to further commands will not arrive. The commands equal the one in the preceding
    /// [`Event::CommandEnded`], and arrived together with it.
    CommandsAbandoned {
        /// The command.
        command: Command,
        /// Number of commands, at least 1. One event stands for all of them because a client can pipeline millions.
        count: usize,
    },
    /// A response continued after [`Event::CommandEnded`]. Contains only the part after that event.
    ResponseContinued(Tally),
    /// The number of stalled commands changed. A command is stalled if its response takes longer than the stall time.
    Stalled {
        /// Change of the number.
        change: i64,
    },
    /// The number of open prepared statements changed.
    PreparedStatements {
        /// Change of the number.
        change: i64,
    },
    /// A transaction began or ended, according to the server's status flags.
    Transaction {
        /// True if it began.
        open: bool,
    },
    /// The server requested a file of the client.
    LocalInfile,
    /// A file request was blocked, because the client's statement does not name that file. The client gets an error instead,
    /// and the connection ends.
    LocalInfileBlocked,
    /// A rule blocks file requests, and can no longer be enforced. The connection ends.
    ProtectionLost(ProtectionLost),
    /// The server accepted a client that hangs when the final EOF of a COM_STMT_PREPARE response arrives late.
    EofHazardClient(AffectedClient),
    /// Such an EOF arrived later than the column definitions before it.
    PrepareEofSplit {
        /// Number of its 9 bytes that arrived together with the definitions.
        passed: u8,
    },
    /// The end of such a response is held until it is complete.
    PrepareEofHeld,
    /// The server ended the connection while bytes were held. These bytes are lost.
    PrepareEofLost,
    /// Bytes of [`Event::Bytes`] were forwarded in a compressed session.
    CompressedBytes {
        /// The peer that sent them.
        sender: Sender,
        /// Number of bytes.
        count: u64,
    },
    /// The server sent an unsolicited error.
    ServerNotice {
        /// MySQL's error number.
        errno: u16,
    },
    /// The server or Envoy ended a connection without a pending command.
    IdleClosed {
        /// The peer that ended it.
        by: ClosedBy,
        /// Time since the server accepted the client, or ended the response to its last command.
        idle: Duration,
    },
    /// A hazard that no other event shows; see [`HazardKind::of`].
    Hazard(HazardKind),
    /// Inspection ended. The bytes are still forwarded.
    Opaque(OpaqueReason),
    /// The connection ended.
    Closed {
        /// Its protocol.
        protocol: Protocol,
        /// The phase that it had reached.
        phase: Phase,
        /// The peer that ended it.
        by: ClosedBy,
    },
}
