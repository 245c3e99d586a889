//! What is told to the people who run a mesh about what a rule changed of what servers send: one line in the log, with
//! what it means for whom.

use std::cell::Cell;

use log::Level;

use super::advice::Place;
use super::journal::Journal;

/// `ER_SECURE_TRANSPORT_REQUIRED`: the server refuses clients without TLS.
const TLS_REQUIRED: u16 = 3159;

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

/// Of servers whose greetings lose the offer of TLS it has been told.
#[derive(Debug, Default)]
pub(super) struct ToldTls {
    cleared: Cell<bool>,
    refused: Cell<bool>,
}

impl ToldTls {
    /// A server offered TLS, and its client is not told so: told once.
    pub(super) fn cleared(&self, journal: &Journal, place: &Place) {
        if self.cleared.replace(true) {
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

    /// A server refused a client; if for want of TLS, which it was not offered, told once.
    pub(super) fn refused(&self, journal: &Journal, place: &Place, errno: u16) {
        if errno != TLS_REQUIRED || !place.clears_tls || self.refused.replace(true) {
            return;
        }
        journal.line(Level::Warn, || {
            format!(
                "event=tls_required {} errno={errno} cause=\"the server requires TLS, and clear_capabilities takes its \
                 offer away from clients\" fix=\"take ssl out of the rule of this destination\"",
                place.text()
            )
        });
    }
}
