//! The line about clients that hang if the network splits a response to COM_STMT_PREPARE (MySQL Bug#106252).

use log::Level;

use super::ConnectionLog;
use super::once::ReportOnce;
use crate::mysql::peer::bug_106252::AffectedClient;

/// Maximum number of affected clients that are remembered as reported. There are fewer than a hundred such releases.
pub(in crate::filter) const MAX_CLIENTS: usize = 256;

/// Logs that an affected client has logged in. Logs one line for each release.
pub(in crate::filter) fn seen(
    log: &ConnectionLog,
    reported: &ReportOnce<AffectedClient>,
    client: AffectedClient,
) {
    if !reported.is_first(client) {
        return;
    }
    let level = if log.to.holds_split_eof { Level::Info } else { Level::Warn };
    log.line(level, || {
        let client = match client {
            AffectedClient::ConnectorJ([major, minor, patch]) => {
                format!("MySQL Connector/J {major}.{minor}.{patch}")
            }
            AffectedClient::Unnamed => {
                "unknown, as the server takes no connection attributes: MySQL Connector/J 6.0.4 to 8.0.31".into()
            }
        };
        let fix = if log.to.holds_split_eof {
            "none needed: hold_split_eof is on".to_owned()
        } else {
            let setting = r#"'"mysql": {"hold_split_eof": "affected_clients"}'"#;
            format!("{setting} in the rule of this destination, or Connector/J 8.0.32 or newer")
        };
        let destination = log.destination();
        format!(
            "event=eof_hazard {destination} client=\"{client}\" cause=\"hangs with useServerPrepStmts or useCursorFetch \
             where the network splits the last EOF off the response to COM_STMT_PREPARE (MySQL Bug#106252)\" \
             fix={fix}"
        )
    });
}
