//! Advice about hazards, for the operators of a mesh.

use super::HazardKind;

impl HazardKind {
    /// The cause and the remedy, each as one phrase; `None` if they depend on the client.
    #[must_use]
    pub const fn advice(self) -> Option<(&'static str, &'static str)> {
        Some(match self {
            Self::ClearPassword => (
                "a client sent its password without TLS and not encrypted: mysql_clear_password, dialog (PAM), or a full \
                 authentication without the server's key",
                "TLS in the client, or the mesh's mTLS on every hop to the server; else an account with a plugin that sends \
                 no password",
            ),
            Self::FullAuthWithoutTls => (
                "without TLS, caching_sha2_password (for a user the server has not cached) and sha256_password encrypt the \
                 password with a key that anybody on the way can replace; some clients refuse that (Public Key Retrieval \
                 is not allowed)",
                "TLS, or the server's public key in the client's configuration",
            ),
            Self::OldPassword => (
                "the account's password is a hash of MySQL before 4.1 (mysql_old_password): most clients refuse it, and who \
                 hears it can log in",
                "give the account a new password with another plugin",
            ),
            Self::UnansweredGreeting => (
                "a client took the greeting and left without an answer, as TCP health checks do; the server counts each as an \
                 error of this host, and at max_connect_errors (100) without a login between blocks all clients behind its \
                 address (1129)",
                "a health check that logs in, or one that is no connection to this port; else a larger max_connect_errors",
            ),
            Self::TooManyConnections => (
                "the server's max_connections is reached (1040)",
                "smaller pools, fewer of them, or a larger max_connections",
            ),
            Self::HostBlocked => (
                "the server blocks the address of this host after max_connect_errors handshakes that did not end (1129)",
                "TRUNCATE TABLE performance_schema.host_cache (in MariaDB FLUSH HOSTS); then find the health check that connects and \
                 leaves",
            ),
            Self::HostNotAllowed => (
                "the server has no account for the address it sees (1130): with a proxy between, the proxy's",
                "an account for that address, or PROXY headers",
            ),
            Self::TlsRequired => (
                "the server takes no client without TLS (3159)",
                "TLS in the client, and no ssl in clear_capabilities for this server",
            ),
            Self::IdleClosedByServer => (
                "the server ended an idle connection: wait_timeout, KILL or a shutdown; a pool learns of it from its next \
                 statement, which fails",
                "a maximum lifetime in the pool that is shorter than wait_timeout",
            ),
            Self::IdleClosedByProxy => (
                "Envoy ended an idle connection: idle_timeout of tcp_proxy (an hour unless it is set), a maximum duration, or \
                 a drain; a pool learns of it from its next statement, which fails",
                "a maximum lifetime in the pool that is shorter than idle_timeout, or a longer idle_timeout",
            ),
            Self::PacketTooLarge => (
                "a packet is longer than the server's max_allowed_packet (1153, 1301); the server ends such a connection",
                "smaller batches and values, or a larger max_allowed_packet",
            ),
            Self::LocalInfileUnsolicited => (
                "the server asked for a file of the client's that no LOAD DATA LOCAL of the client names: it is not the server \
                 it should be, or a third party changes what it says",
                "find out who answers at this address; block_local_infile in the rule of this destination, and no local_infile \
                 in the client",
            ),
            Self::LocalInfileUndecidable => (
                "the server asked for a file of the client's, and the filter cannot tell whether the statement names it",
                "no local_infile in clients that do not need it",
            ),
            Self::SplitEof => return None,
        })
    }
}
