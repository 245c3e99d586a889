//! Lines about rules that changed or blocked bytes of a server, with the consequences.

use log::Level;

use super::ConnectionLog;
use super::once::ReportOnce;
use super::opaque::MEMORY_FIX;
use crate::event::ProtectionLost;
#[cfg(not(target_family = "wasm"))]
use crate::event::{TlsResult, TlsSide};

/// Logs that a request for a file was blocked, and that the connection ends.
pub(in crate::filter) fn file_blocked(log: &ConnectionLog) {
    log.line(Level::Warn, || {
        format!(
            "event=local_infile_blocked {} cause=\"the server asked for a file that the client's statement does not name\" \
             fix=\"find out which server responds at this address; no server of MySQL or MariaDB does that unsolicited\"",
            log.destination()
        )
    });
}

/// Logs that a connection ends, because the rule that protects it can no longer be enforced.
pub(in crate::filter) fn protection_lost(log: &ConnectionLog, reason: ProtectionLost) {
    log.line(Level::Warn, || {
        let (cause, fix) = match reason {
            ProtectionLost::Desync => (
                "a packet does not follow the protocol, so requests for files can no longer be judged",
                "see event=opaque for the packets; find out which server responds at this address",
            ),
            ProtectionLost::NotMysql => (
                "the server does not speak MySQL, so requests for files cannot be judged",
                "take block_local_infile out of the rule of this destination, or find out which server responds there",
            ),
            ProtectionLost::Memory => (
                "inspection needs more memory than it may use, so the rule cannot be enforced",
                MEMORY_FIX,
            ),
        };
        let (reason, destination) = (reason.label(), log.destination());
        format!("event=protection_lost reason={reason} {destination} cause=\"{cause}\" fix=\"{fix}\"")
    });
}

/// Logs that TLS on one side of the proxy did not start, so that the connection ends.
#[cfg(not(target_family = "wasm"))]
pub(in crate::filter) fn tls(log: &ConnectionLog, side: TlsSide, result: TlsResult) {
    let event = match side {
        TlsSide::Upstream => "server_tls",
        TlsSide::Downstream => "client_tls",
    };
    let (cause, fix) = match (side, result) {
        (_, TlsResult::Established) => return,
        (TlsSide::Downstream, TlsResult::Failed) => (
            "the connection ended before the client sent anything in TLS, or Envoy connects the first listener to a server",
            "see DOWNSTREAM_TRANSPORT_FAILURE_REASON in Envoy's access log; check that the client trusts the certificate of \
             the second listener, and that the first listener connects to the second",
        ),
        (_, TlsResult::NotRequested) => (
            "the client does not ask for TLS, and tls.downstream is terminate",
            "connect with TLS (--ssl-mode=REQUIRED, --ssl), or take tls out of the rule of this destination",
        ),
        (_, TlsResult::NotOffered) => (
            "the server does not offer TLS, and tls.upstream is originate",
            "turn TLS on in the server, or take tls out of the rule of this destination",
        ),
        (_, TlsResult::ClientTls) => (
            "the client asks for TLS, which the filter does not offer it",
            "connect without TLS (--ssl-mode=DISABLED, --skip-ssl), or take tls out of the rule of this destination",
        ),
        (_, TlsResult::ClearPassword) => (
            "the login needs a password that would leave to the server without TLS: the account has a plugin without RSA, or \
             the server sent no RSA key",
            "set tls.upstream to originate, or give the account caching_sha2_password, sha256_password, \
             mysql_native_password or ed25519",
        ),
        (_, TlsResult::Refused) => (
            "a peer broke the protocol before TLS began, or before the login was decided",
            "see event=opaque for the packets; find out which server responds at this address",
        ),
        (TlsSide::Upstream, TlsResult::Failed) => (
            "the connection ended before the server sent anything in TLS",
            "see UPSTREAM_TRANSPORT_FAILURE_REASON in Envoy's access log; check the starttls transport socket of the \
             cluster: its CA, its SNI, its certificates",
        ),
    };
    log.line(Level::Warn, || {
        let (result, destination) = (result.label(), log.destination());
        format!("event={event} result={result} {destination} cause=\"{cause}\" fix=\"{fix}\"")
    });
}

/// Logs that a rule removed a server's offer of TLS. Logs one line for each configuration and worker.
pub(in crate::filter) fn tls_cleared(log: &ConnectionLog, reported: &ReportOnce<()>) {
    if !reported.is_first(()) {
        return;
    }
    log.line(Level::Warn, || {
        format!(
            "event=tls_cleared {} cause=\"clear_capabilities has ssl: clients that prefer TLS go without and are not \
             informed, those that require it fail, and a first login by caching_sha2_password needs the server's public \
             key\" fix=\"none needed where mutual TLS of the mesh reaches from client to server; else take ssl out of \
             the rule\"",
            log.destination()
        )
    });
}
