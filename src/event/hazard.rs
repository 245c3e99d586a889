//! Hazards: observable events that break clients or expose their secrets.

use super::{ClosedBy, Event};
use crate::labels::labels;
use crate::mysql::wire::auth_plugin::AuthPlugin;

labels! {
    /// A danger to a client's connection or to its secrets: a label value of `hazards_total`. Each is counted once per cause,
    /// and logged with a remedy.
    HazardKind {
        /// The client sent its password itself, without TLS.
        ClearPassword = "clear_password",
        /// Without TLS, the server needed more than a cached hash of the password, so the client has to send the password
        /// itself.
        FullAuthWithoutTls = "full_auth_without_tls",
        /// The server requested the hash of MySQL before 4.1.
        OldPassword = "old_password",
        /// The client left without a response to the greeting, as health checks do. The server counts an error of that host.
        UnansweredGreeting = "unanswered_greeting",
        /// The server accepts no further connection (1040).
        TooManyConnections = "too_many_connections",
        /// The server blocks this address after too many errors (1129).
        HostBlocked = "host_blocked",
        /// The server has no account for this address (1130).
        HostNotAllowed = "host_not_allowed",
        /// The server refuses a client without TLS (3159).
        TlsRequired = "tls_required",
        /// The server ended a connection without a pending command.
        IdleClosedByServer = "idle_closed_by_server",
        /// Envoy ended a connection without a pending command.
        IdleClosedByProxy = "idle_closed_by_proxy",
        /// A packet is longer than the server's `max_allowed_packet` (1153, 1301).
        PacketTooLarge = "packet_too_large",
        /// The server requested a file that the client's statement does not name.
        LocalInfileUnsolicited = "local_infile_unsolicited",
        /// The server requested a file, and it is not known whether the client's statement names it.
        LocalInfileUndecidable = "local_infile_undecidable",
        /// A client that hangs when the final EOF of a COM_STMT_PREPARE response arrives late.
        SplitEof = "split_eof",
    }
}

/// `ER_CON_COUNT_ERROR`. A client is refused after the handshake if only the connection for administrators is free.
const TOO_MANY_CONNECTIONS: u16 = 1040;
/// `ER_HOST_IS_BLOCKED`.
const HOST_IS_BLOCKED: u16 = 1129;
/// `ER_HOST_NOT_PRIVILEGED`.
const HOST_NOT_PRIVILEGED: u16 = 1130;
/// `ER_SECURE_TRANSPORT_REQUIRED`.
const SECURE_TRANSPORT_REQUIRED: u16 = 3159;
/// `ER_NET_PACKET_TOO_LARGE`: a packet of the client.
const PACKET_TOO_LARGE: u16 = 1153;
/// `ER_WARN_ALLOWED_PACKET_OVERFLOWED`: the result of a function of the server, if that is an error and not a warning.
const RESULT_TOO_LARGE: u16 = 1301;

impl HazardKind {
    /// The hazard that an event shows; `None` if it shows none.
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
            Event::CommandEnded { response: Some(response), .. } => match response.tally.errno {
                Some(PACKET_TOO_LARGE | RESULT_TOO_LARGE) => Self::PacketTooLarge,
                _ => return None,
            },
            Event::ServerNotice { errno: PACKET_TOO_LARGE } => Self::PacketTooLarge,
            Event::EofHazardClient(_) => Self::SplitEof,
            _ => return None,
        })
    }
}
