//! What is told to the people who run a mesh about clients and servers that do not go together: one line in the log for
//! each cause, with what to do.

use std::collections::BTreeSet;

use log::Level;

use super::advice::Place;
use super::journal::Journal;
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
