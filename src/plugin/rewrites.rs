//! What is told to the people who run a mesh about what a rule changed of what servers send: one line in the log, with
//! what it means for whom.

use std::cell::Cell;

use log::Level;

use super::advice::Place;
use super::journal::Journal;
use crate::event::ProtectionLost;

/// A request for a file was blocked, and the connection ends.
pub(super) fn file_blocked(journal: &Journal, place: &Place) {
    journal.line(Level::Warn, || {
        format!(
            "event=local_infile_blocked {} cause=\"the server asked for a file that the client's statement does not name\" \
             fix=\"find out who answers at this address; no server of MySQL or MariaDB does that of its own accord\"",
            place.text()
        )
    });
}

/// A rule protects a connection, which ends because that can no longer be done.
pub(super) fn protection_lost(journal: &Journal, place: &Place, reason: ProtectionLost) {
    journal.line(Level::Warn, || {
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
                "raise limits.connection_state, or find the clients that pipeline or connect so much",
            ),
        };
        let (reason, place) = (reason.label(), place.text());
        format!("event=protection_lost reason={reason} {place} cause=\"{cause}\" fix=\"{fix}\"")
    });
}

/// It has been told that greetings lose the offer of TLS.
#[derive(Debug, Default)]
pub(super) struct ToldTls(Cell<bool>);

impl ToldTls {
    /// A server offered TLS, and its client is not told so: told once.
    pub(super) fn cleared(&self, journal: &Journal, place: &Place) {
        if self.0.replace(true) {
            return;
        }
        journal.line(Level::Warn, || {
            format!(
                "event=tls_cleared {} cause=\"clear_capabilities has ssl: clients that prefer TLS go without and are not \
                 told, those that require it fail, and a first login by caching_sha2_password needs the server's public \
                 key\" fix=\"none needed where mutual TLS of the mesh reaches from client to server; else take ssl out of \
                 the rule\"",
                place.text()
            )
        });
    }
}
