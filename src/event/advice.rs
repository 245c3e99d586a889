//! Advice about hazards, for the operators of a mesh. The log, `inspect` and `docs/hazards.md` have these texts.

use super::HazardKind;

impl HazardKind {
    /// The cause and the remedy, as sentences without quotation marks.
    #[must_use]
    pub const fn advice(self) -> (&'static str, &'static str) {
        match self {
            Self::ClearPassword => (
                "A client sent its password without TLS and not encrypted: mysql_clear_password, dialog (MariaDB's PAM), or a \
                 full authentication without the server's key.",
                "Use TLS in the client, or the mesh's mTLS on every hop to the server, or an account with a plugin that sends \
                 no password.",
            ),
            Self::FullAuthWithoutTls => (
                "Without TLS, caching_sha2_password (for a user that the server has not cached) and sha256_password encrypt \
                 the password with a key that an attacker on the path can replace. Some clients refuse (Public Key Retrieval \
                 is not allowed).",
                "Use TLS, or put the server's public key into the client's configuration.",
            ),
            Self::OldPassword => (
                "The account's password is a hash of MySQL before 4.1 (mysql_old_password). Most clients refuse it, and an \
                 attacker who reads it can log in.",
                "Give the account a new password with another plugin.",
            ),
            Self::UnansweredGreeting => (
                "A client took the greeting and left without a response, as TCP health checks do. The server counts each as \
                 an error of this host. After max_connect_errors (100) without a login between them it blocks all clients \
                 behind the address (1129).",
                "Use a health check that logs in, or one that does not connect to this port; or raise max_connect_errors.",
            ),
            Self::TooManyConnections => (
                "The server has max_connections clients (1040).",
                "Use smaller pools or fewer of them, or raise max_connections.",
            ),
            Self::HostBlocked => (
                "The server blocks the address of this host after max_connect_errors handshakes that did not end (1129).",
                "Run TRUNCATE TABLE performance_schema.host_cache (in MariaDB FLUSH HOSTS). Then find the health check that \
                 connects and leaves.",
            ),
            Self::HostNotAllowed => (
                "The server has no account for the address that it sees (1130), which can be that of a proxy.",
                "Create an account for that address, or use PROXY headers.",
            ),
            Self::TlsRequired => (
                "The server accepts no client without TLS (3159). MariaDB returns 1045 instead, which is not counted.",
                "Use TLS in the client, and do not clear ssl with clear_capabilities for this server.",
            ),
            Self::IdleClosedByServer => (
                "The server ended a connection that was idle for a second or longer: wait_timeout, KILL or a shutdown. The \
                 pool notices at its next statement, which fails.",
                "Give the pool a maximum lifetime that is shorter than wait_timeout.",
            ),
            Self::IdleClosedByProxy => (
                "Envoy ended an idle connection: idle_timeout of tcp_proxy (an hour by default), a maximum duration, or a \
                 drain. The pool notices at its next statement, which fails.",
                "Give the pool a maximum lifetime that is shorter than idle_timeout, or raise idle_timeout.",
            ),
            Self::PacketTooLarge => (
                "A packet is longer than the server's max_allowed_packet (1153, 1301). The server ends such a connection.",
                "Use smaller batches and values, or raise max_allowed_packet.",
            ),
            Self::LocalInfileUnsolicited => (
                "The server asked for a file of the client that no LOAD DATA LOCAL of the client names. It is not the server \
                 that it should be, or a third party changes what it sends.",
                "Find out which server responds at this address. Set block_local_infile in the rule of this destination, and \
                 turn off local_infile in the client.",
            ),
            Self::LocalInfileUndecidable => (
                "The server asked for a file of the client, and the filter cannot decide whether the statement names it.",
                "Turn off local_infile in clients that do not need it.",
            ),
            Self::SplitEof => (
                "The client hangs if the network splits the last EOF of a response to COM_STMT_PREPARE (MySQL Bug#106252). \
                 Its log line is event=eof_hazard, one for each release.",
                "Set hold_split_eof, or use Connector/J 8.0.32 or newer.",
            ),
        }
    }
}
