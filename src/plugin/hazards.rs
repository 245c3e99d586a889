//! What is told to the people who run a mesh about clients and servers that do not go together: one line in the log for
//! each cause, with what to do.

use std::collections::BTreeSet;

use log::Level;

use super::advice::Place;
use super::journal::Journal;
use crate::event::{Event, HazardKind};
use crate::metrics::ScopeId;
use crate::mysql::peer::bug_106252::Suspect;

/// A server requires TLS, and a rule takes its offer away.
const TLS_TAKEN: (&str, &str) = (
    "the server takes no client without TLS (3159), and clear_capabilities takes its offer of TLS away from clients",
    "take ssl out of the rule of this destination",
);

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
        let Some(advice) = kind.advice() else { return };
        let (cause, fix) =
            if kind == HazardKind::TlsRequired && place.clears_tls { TLS_TAKEN } else { advice };
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
