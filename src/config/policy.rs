//! The settings of one connection.

use std::sync::Arc;
use std::time::Duration;

use super::proxy_protocol::ProxyProtocol;
use crate::rules::{ClearCapabilities, HoldSplitEof};

/// The protocol that a rule expects on a connection. It never delays a byte.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ProtocolRule {
    /// MySQL or MariaDB.
    Mysql,
    /// Any other server-first protocol (SMTP, FTP, ...).
    ServerFirst,
    /// Any protocol; the connection is not inspected.
    Opaque,
    /// The first bytes decide, and which side sends them.
    #[default]
    Detect,
}

/// The inspected part of a MySQL connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Inspect {
    /// All packets of both sides.
    #[default]
    Full,
    /// The connection phase and the client's packets after it.
    Requests,
    /// The connection phase.
    Handshake,
}

/// The settings of one connection: those of its rule, completed from `defaults`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// The rule's name, a valid label value of 1 to 64 characters of `[a-z0-9_+./-]`; `None` for a rule without one
    /// and if no rule matched.
    pub name: Option<Arc<str>>,
    /// The expected protocol.
    pub protocol: ProtocolRule,
    /// Maximum silence of a server that should speak first, 1 ms to an hour.
    pub greeting_timeout: Duration,
    /// PROXY headers that the filter receives and sends; none if no rule matched.
    pub proxy_protocol: ProxyProtocol,
    /// Duration from which a command is logged, 1 ms to an hour; failed commands are logged too. `None` if neither is.
    pub slow_command: Option<Duration>,
    /// Clients for which the end of a COM_STMT_PREPARE response is held until it is complete; `Off` if no rule matched.
    pub hold_split_eof: HoldSplitEof,
    /// The inspected part of a MySQL connection.
    pub inspect: Inspect,
    /// Capabilities that the filter clears in the server's greeting; none if no rule matched.
    pub clear_capabilities: ClearCapabilities,
    /// Whether the filter blocks requests for files that the client's statement does not name; false if no rule matched.
    pub block_local_infile: bool,
    /// True if the filter starts TLS to the server for clients without TLS; false if no rule matched.
    pub originate_tls: bool,
    /// True if the client's TLS ends in the proxy; false if no rule matched.
    pub terminate_tls: bool,
}

impl Default for Policy {
    fn default() -> Self {
        let greeting_timeout = Duration::from_millis(5000);
        Self {
            name: None,
            protocol: ProtocolRule::default(),
            greeting_timeout,
            slow_command: None,
            proxy_protocol: ProxyProtocol::default(),
            hold_split_eof: HoldSplitEof::default(),
            inspect: Inspect::default(),
            clear_capabilities: ClearCapabilities::default(),
            block_local_infile: false,
            originate_tls: false,
            terminate_tls: false,
        }
    }
}
