//! What is told to the people who run a mesh about clients and servers that do not go together: one line in the log for
//! each cause, with what to do.

use std::collections::BTreeSet;

use log::Level;

use super::advice::Place;
use super::journal::Journal;
use crate::event::{Event, HazardKind};
use crate::metrics::ScopeId;
use crate::mysql::split_eof::Suspect;

/// Clients that hang on a split EOF of which it has been told; there are fewer than a hundred releases.
#[derive(Debug, Default)]
pub(super) struct ToldSuspects(BTreeSet<Suspect>);

impl ToldSuspects {
    /// A client can hang on a split EOF: told once for a release.
    pub(super) fn client(&mut self, journal: &Journal, place: &Place, suspect: Suspect) {
        if !self.0.insert(suspect) {
            return;
        }
        let level = if place.holds { Level::Info } else { Level::Warn };
        journal.line(level, || {
            let client = match suspect {
                Suspect::ConnectorJ([major, minor, patch]) => {
                    format!("MySQL Connector/J {major}.{minor}.{patch}")
                }
                Suspect::Unnamed => {
                    "unknown, as the server takes no connection attributes: MySQL Connector/J 6.0.4 to 8.0.31".into()
                }
            };
            let fix = if place.holds {
                "none needed: hold_split_eof is on".to_owned()
            } else {
                let setting = r#"'"mysql": {"hold_split_eof": "affected_clients"}'"#;
                format!("{setting} in the rule of this destination, or Connector/J 8.0.32 or newer")
            };
            let place = place.text();
            format!(
                "event=eof_hazard {place} client=\"{client}\" cause=\"hangs with useServerPrepStmts or useCursorFetch \
                 where the network splits the last EOF off the answer to COM_STMT_PREPARE (MySQL Bug#106252)\" \
                 fix={fix}"
            )
        });
    }
}

/// Hazards of which it has been told, and how often they have been seen where their metrics go.
#[derive(Debug, Default)]
pub(super) struct ToldHazards(Vec<(ScopeId, HazardKind, u64)>);

impl ToldHazards {
    /// A hazard was seen: told once for a destination. How many health checks there are decides when the server blocks their
    /// host, so of these it is told again whenever there are ten times as many.
    pub(super) fn seen(
        &mut self,
        kind: HazardKind,
        event: &Event,
        scope: ScopeId,
        place: &Place,
        journal: &Journal,
    ) {
        let Some((cause, fix)) = advice(kind) else { return };
        let count = match self.0.iter_mut().find(|(at, told, _)| (*at, *told) == (scope, kind)) {
            Some((_, _, count)) => {
                *count = count.saturating_add(1);
                *count
            }
            None => {
                self.0.push((scope, kind, 1));
                1
            }
        };
        let again = kind == HazardKind::UnansweredGreeting
            && count.checked_ilog10().map(|n| 10_u64.pow(n)) == Some(count);
        if count > 1 && !again {
            return;
        }
        journal.line(Level::Warn, || {
            let detail = match event {
                Event::IdleClosed { idle, .. } => format!(" idle_s={}", idle.as_secs()),
                _ if kind == HazardKind::UnansweredGreeting => format!(" count={count}"),
                _ => String::new(),
            };
            let (kind, place) = (kind.label(), place.text());
            format!("event=hazard kind={kind} {place}{detail} cause=\"{cause}\" fix=\"{fix}\"")
        });
    }
}

/// The cause of a hazard and what to do. None: it has a line of its own.
fn advice(kind: HazardKind) -> Option<(&'static str, &'static str)> {
    Some(match kind {
        HazardKind::ClearPassword => (
            "a client sent its password without TLS and not encrypted: mysql_clear_password, dialog (PAM), or a full \
             authentication without the server's key",
            "TLS in the client, or the mesh's mTLS on every hop to the server; else an account with a plugin that sends \
             no password",
        ),
        HazardKind::FullAuthWithoutTls => (
            "without TLS, caching_sha2_password (for a user the server has not cached) and sha256_password encrypt the \
             password with a key that anybody on the way can replace; some clients refuse that (Public Key Retrieval \
             is not allowed)",
            "TLS, or the server's public key in the client's configuration",
        ),
        HazardKind::OldPassword => (
            "the account's password is a hash of MySQL before 4.1 (mysql_old_password): most clients refuse it, and who \
             hears it can log in",
            "give the account a new password with another plugin",
        ),
        HazardKind::UnansweredGreeting => (
            "a client took the greeting and left without an answer, as TCP health checks do; the server counts each as an \
             error of this host, and at max_connect_errors (100) without a login between blocks all clients behind its \
             address (1129)",
            "a health check that logs in, or one that is no connection to this port; else a larger max_connect_errors",
        ),
        HazardKind::TooManyConnections => (
            "the server's max_connections is reached (1040)",
            "smaller pools, fewer of them, or a larger max_connections",
        ),
        HazardKind::HostBlocked => (
            "the server blocks the address of this host after max_connect_errors handshakes that did not end (1129)",
            "FLUSH HOSTS, or TRUNCATE TABLE performance_schema.host_cache; then find the health check that connects and \
             leaves",
        ),
        HazardKind::HostNotAllowed => (
            "the server has no account for the address it sees (1130): with a proxy between, the proxy's",
            "an account for that address, or PROXY headers",
        ),
        HazardKind::TlsRequired => (
            "the server takes no client without TLS (3159)",
            "TLS in the client, and no ssl in clear_capabilities for this server",
        ),
        HazardKind::IdleClosedByServer => (
            "the server ended an idle connection: wait_timeout, KILL or a shutdown; a pool learns of it from its next \
             statement, which fails",
            "a maximum lifetime in the pool that is shorter than wait_timeout",
        ),
        HazardKind::IdleClosedByProxy => (
            "Envoy ended an idle connection: idle_timeout of tcp_proxy (an hour unless it is set), a maximum duration, or \
             a drain; a pool learns of it from its next statement, which fails",
            "a maximum lifetime in the pool that is shorter than idle_timeout, or a longer idle_timeout",
        ),
        HazardKind::PacketTooLarge => (
            "a packet is longer than the server's max_allowed_packet (1153, 1301); the server ends such a connection",
            "smaller batches and values, or a larger max_allowed_packet",
        ),
        HazardKind::LocalInfileUnsolicited => (
            "the server asked for a file of the client's that no LOAD DATA LOCAL of the client names: it is not the server \
             it should be, or somebody changes what it says",
            "find out who answers at this address; block_local_infile in the rule of this destination, and no local_infile \
             in the client",
        ),
        HazardKind::LocalInfileUndecidable => (
            "the server asked for a file of the client's, and the filter cannot tell whether the statement names it",
            "no local_infile in clients that do not need it",
        ),
        HazardKind::SplitEof => return None,
    })
}
