//! What is told to the people who run a mesh about what a rule changed of what servers send: one line in the log, with
//! what it means for whom.

use std::cell::Cell;

use log::Level;

use super::advice::Place;
use super::journal::Journal;

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
