//! Hazards: what breaks clients, or gives their secrets away, and can be seen on the way.

use super::{ClosedBy, Event};
use crate::labels::labels;
use crate::mysql::wire::auth_plugin::AuthPlugin;

labels! {
    /// What endangers a client's connection or its secrets: a label value of `hazards_total`. Each is counted once for what
    /// causes it, and told in the log with what to do.
    HazardKind {
        /// The client sent its password itself, without TLS.
        ClearPassword = "clear_password",
        /// The server needed more than a cached hash of the password, without TLS: SHA-256 with the server's public key, or
        /// nothing.
        FullAuthWithoutTls = "full_auth_without_tls",
        /// The server asked for the hash of MySQL before 4.1.
        OldPassword = "old_password",
        /// The client went away without an answer to the greeting, as health checks do; the server counts an error of that host.
        UnansweredGreeting = "unanswered_greeting",
        /// The server has no room for another connection (1040).
        TooManyConnections = "too_many_connections",
        /// The server takes no connection from this address after too many errors (1129).
        HostBlocked = "host_blocked",
        /// The server has no account for this address (1130).
        HostNotAllowed = "host_not_allowed",
        /// The server refuses a client without TLS (3159).
        TlsRequired = "tls_required",
        /// The server ended a connection on which nothing was asked of it.
        IdleClosedByServer = "idle_closed_by_server",
        /// Envoy did.
        IdleClosedByProxy = "idle_closed_by_proxy",
        /// A packet is longer than the server's `max_allowed_packet` (1153, 1301).
        PacketTooLarge = "packet_too_large",
        /// The server asked for a file of the client's that the client's statement does not name.
        LocalInfileUnsolicited = "local_infile_unsolicited",
        /// The server asked for a file of the client's, and whether the statement names it cannot be said.
        LocalInfileUndecidable = "local_infile_undecidable",
        /// A client that hangs where the final EOF of an answer to COM_STMT_PREPARE comes late.
        SplitEof = "split_eof",
    }
}

/// `ER_CON_COUNT_ERROR`. For the last place, which is kept for administrators, a client is refused after the handshake.
const TOO_MANY_CONNECTIONS: u16 = 1040;
/// `ER_HOST_IS_BLOCKED`.
const HOST_IS_BLOCKED: u16 = 1129;
/// `ER_HOST_NOT_PRIVILEGED`.
const HOST_NOT_PRIVILEGED: u16 = 1130;
/// `ER_SECURE_TRANSPORT_REQUIRED`.
const SECURE_TRANSPORT_REQUIRED: u16 = 3159;
/// `ER_NET_PACKET_TOO_LARGE`: what a client sent.
const PACKET_TOO_LARGE: u16 = 1153;
/// `ER_WARN_ALLOWED_PACKET_OVERFLOWED`: what a function of the server gave, where that is an error and no warning.
const RESULT_TOO_LARGE: u16 = 1301;

impl HazardKind {
    /// The hazard that an event shows, if any.
    #[must_use]
    pub const fn of(event: &Event) -> Option<Self> {
        Some(match event {
            Event::Hazard(kind) => *kind,
            Event::AuthSwitch(AuthPlugin::OldPassword) => Self::OldPassword,
            Event::PlaintextFullAuth => Self::FullAuthWithoutTls,
            Event::PreHandshakeError { errno } | Event::HandshakeError { errno, .. } => match *errno {
                TOO_MANY_CONNECTIONS => Self::TooManyConnections,
                HOST_IS_BLOCKED => Self::HostBlocked,
                HOST_NOT_PRIVILEGED => Self::HostNotAllowed,
                SECURE_TRANSPORT_REQUIRED => Self::TlsRequired,
                _ => return None,
            },
            Event::IdleClosed { by: ClosedBy::Server, .. } => Self::IdleClosedByServer,
            Event::IdleClosed { .. } => Self::IdleClosedByProxy,
            Event::CommandEnded { answer: Some(answer), .. } => match answer.tally.errno {
                Some(PACKET_TOO_LARGE | RESULT_TOO_LARGE) => Self::PacketTooLarge,
                _ => return None,
            },
            Event::ServerNotice { errno: PACKET_TOO_LARGE } => Self::PacketTooLarge,
            Event::EofHazardClient(_) => Self::SplitEof,
            _ => return None,
        })
    }
}
