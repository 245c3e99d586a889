//! The reason for closing a connection because of a PROXY header, for the log.

use std::fmt;

use crate::event::HeaderResult;
use crate::proxy_protocol::{Format, HeaderError};

/// A refused connection. `Display` writes `result`, `format` and `why` as `key=value`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Result that it is counted as.
    pub result: HeaderResult,
    /// Format of the header; `None` if there is none.
    pub format: Option<Format>,
    /// The reason.
    pub why: RefusalReason,
}

/// The reason, and the place in the header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusalReason {
    /// The header breaks a rule of the specification.
    Malformed(HeaderError),
    /// The stream ends within the header.
    Truncated,
    /// The header is not at the start of the connection.
    Late,
    /// A header arrived, and no rule enables receive.
    Unexpected,
    /// The sender of the header is not trusted.
    Untrusted,
    /// A required header is missing.
    Missing,
    /// The header did not arrive in time, or not completely.
    Timeout {
        /// Number of bytes of it that arrived.
        held: usize,
        /// True if the server was connected meanwhile.
        connected: bool,
    },
    /// The host does not provide the bytes.
    Unreadable,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let format = self.format.map_or("none", Format::label);
        write!(f, "result={} format={format} why=\"{}\"", self.result.label(), self.why)
    }
}

impl RefusalReason {
    /// What the operator can do.
    #[must_use]
    pub const fn fix(&self) -> &'static str {
        match self {
            Self::Malformed(_) | Self::Truncated | Self::Late => "correct the sender, which is the peer",
            Self::Unexpected => {
                "add proxy_protocol.receive to the rule of this port, or turn headers off in the sender"
            }
            Self::Untrusted => "add the peer to receive.trusted_networks if it is your proxy",
            Self::Missing | Self::Timeout { connected: true, .. } => {
                "let the peer send a header, or set receive.mode to optional"
            }
            Self::Timeout { connected: false, .. } => {
                "set tcp_proxy.max_early_data_bytes, or let the peer send its header at once"
            }
            Self::Unreadable => "report it, with the version of Envoy",
        }
    }
}

impl fmt::Display for RefusalReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Self::Malformed(error) => return error.fmt(f),
            Self::Truncated => "the stream ends within the header",
            Self::Late => {
                "a header that is not at the start of the connection, which the server could believe"
            }
            Self::Unexpected => "a header, and no rule says to receive one on this port",
            Self::Untrusted => "its sender is not in receive.trusted_networks",
            Self::Missing => "the first bytes are no header",
            Self::Timeout { held, connected: true } => {
                return write!(f, "{held} bytes of a header within receive.timeout");
            }
            Self::Timeout { held, connected: false } => {
                return write!(
                    f,
                    "{held} bytes of a header within receive.timeout; with connect_upstream after_header Envoy reads \
                     none unless tcp_proxy has max_early_data_bytes (Envoy 1.37 and newer)"
                );
            }
            Self::Unreadable => "the host does not give the bytes",
        };
        f.write_str(text)
    }
}
