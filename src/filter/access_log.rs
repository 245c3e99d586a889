//! Access-log state: facts about a connection in the proxy's filter state, for access logs and for filters after this one.
//! The key `user` of the configuration becomes `firstword.user` there. A host may add a prefix.

use std::net::SocketAddr;

use log::Level;

use super::host::{Host, HostError};
use super::log::{RateLimitedLog, host_calls};
use crate::event::details::{Details, UNREADABLE};
use crate::event::{Event, OpaqueReason, Protocol};
use crate::rules::{Field, Interests};

/// Keys by which a filter after this one may decide, as RBAC does by the account.
pub(super) const POLICY_KEYS: [&str; 4] = ["user", "schema", "source", "opaque_reason"];

/// Keys of access-log state that a configuration requires.
#[derive(Debug)]
pub(super) struct StateKeys {
    keys: Vec<&'static str>,
}

impl StateKeys {
    /// `None` if the configuration requires no key.
    pub(super) fn new(keys: &[&'static str]) -> Option<Self> {
        (!keys.is_empty()).then(|| Self { keys: keys.to_vec() })
    }

    /// Calls `declare` with the name of each key.
    pub(super) fn declare(
        &self,
        log: &RateLimitedLog,
        host: &dyn Host,
        declare: impl Fn(&str) -> Result<(), HostError>,
    ) {
        for key in &self.keys {
            if let Err(error) = declare(&state_key(key)) {
                host_calls::refused(log, host, Level::Info, Some(key), &error);
            }
        }
    }

    /// True if one of [`POLICY_KEYS`] is among them.
    pub(super) fn can_decide(&self) -> bool {
        POLICY_KEYS.iter().any(|key| self.has(key))
    }

    /// Details that the core must record for these keys.
    pub(super) fn interests(&self) -> Interests {
        let mut interests = Interests::NONE;
        let fields = Field::ALL.iter().filter(|field| self.has(field.label()));
        fields.for_each(|field| interests.add(*field));
        interests
    }

    fn has(&self, key: &str) -> bool {
        self.keys.contains(&key)
    }
}

/// Returns the key of filter state for a key of the configuration. It is one segment, because a path of two segments would be
/// a key that contains a NUL, which no access log can name.
fn state_key(key: &str) -> String {
    format!("firstword.{key}")
}

/// Writer of one connection's filter state.
#[derive(Clone, Copy)]
pub(super) struct StateWriter<'a> {
    pub(super) keys: &'a StateKeys,
    pub(super) log: &'a RateLimitedLog,
    pub(super) host: &'a dyn Host,
}

impl StateWriter<'_> {
    /// Sets the state of a connection that is not inspected.
    pub(super) fn uninspected(&self, protocol: Protocol) {
        self.set("protocol", protocol.label());
        self.set("opaque_reason", OpaqueReason::Memory.label());
        self.set_unreadable();
    }

    /// Marks the account and the schema as unreadable, because they can change after the end of inspection.
    fn set_unreadable(&self) {
        for field in [Field::User, Field::Schema] {
            self.set(field.label(), UNREADABLE);
        }
    }

    /// Sets the client's address from a trusted PROXY header.
    pub(super) fn source(&self, source: SocketAddr) {
        if self.keys.has("source") {
            self.set("source", &source.to_string());
        }
    }

    fn set(&self, key: &str, value: &str) {
        if !self.keys.has(key) {
            return;
        }
        if let Err(error) = self.host.set_filter_state(&state_key(key), value) {
            host_calls::refused(self.log, self.host, Level::Warn, Some(key), &error);
        }
    }
}

/// Counts of one connection, and the counts that the filter state already has.
#[derive(Debug, Default)]
pub(super) struct AccessLogState {
    now: Counts,
    /// `None` until counts are written.
    written: Option<Counts>,
    /// Accounts that the current callback has named.
    accounts: NamedAccounts,
}

/// Accounts of one callback.
#[derive(Debug, Default)]
enum NamedAccounts {
    #[default]
    None,
    One(String),
    Several,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counts {
    commands: u64,
    errors: u64,
    /// `None` if the server has sent no error.
    last_errno: Option<u16>,
}

impl AccessLogState {
    /// Ends a callback. Filters after this one read the state once for each callback.
    pub(super) fn end_callback(&mut self) {
        self.accounts = NamedAccounts::None;
    }

    /// Takes the events of a callback, or of a part of it. Writes names at once. Counts are written on the tick and at the
    /// end.
    pub(super) fn record(&mut self, writer: StateWriter, events: &[Event], details: &mut Details) {
        for (field, value) in details.fields.drain(..) {
            if field == Field::User && !self.is_only_account(&value) {
                // A filter that decides by the account would check only the last one.
                writer.set(field.label(), UNREADABLE);
                continue;
            }
            writer.set(field.label(), &value);
        }
        for event in events {
            match *event {
                Event::Recognised { protocol, .. } => writer.set("protocol", protocol.label()),
                Event::Opaque(reason) => {
                    writer.set("opaque_reason", reason.label());
                    writer.set_unreadable();
                }
                Event::CommandSent(_) | Event::CommandStarted(_) => {
                    self.now.commands = self.now.commands.saturating_add(1);
                }
                Event::CommandEnded { response: Some(response), .. } => {
                    if let Some(errno) = response.tally.errno {
                        self.now.errors = self.now.errors.saturating_add(1);
                        self.now.last_errno = Some(errno);
                    }
                }
                Event::PreHandshakeError { errno }
                | Event::HandshakeError { errno, .. }
                | Event::ServerNotice { errno } => self.now.last_errno = Some(errno),
                Event::Closed { .. } => self.write_counts(writer),
                _ => {}
            }
        }
    }

    /// True if this account is the only one that the callback has named.
    fn is_only_account(&mut self, user: &str) -> bool {
        self.accounts = match std::mem::take(&mut self.accounts) {
            NamedAccounts::None => NamedAccounts::One(user.to_owned()),
            NamedAccounts::One(named) if named == user => NamedAccounts::One(named),
            NamedAccounts::One(_) | NamedAccounts::Several => NamedAccounts::Several,
        };
        matches!(self.accounts, NamedAccounts::One(_))
    }

    /// True if a count has changed since the counts were last written.
    pub(super) fn is_due(&self) -> bool {
        self.written.unwrap_or_default() != self.now
    }

    /// Writes the counts that have changed.
    pub(super) fn write_counts(&mut self, writer: StateWriter) {
        let Counts { commands, errors, last_errno } = self.now;
        let written = self.written.replace(self.now);
        if written.is_none_or(|written| written.commands != commands) {
            writer.set("commands", &commands.to_string());
        }
        if written.is_none_or(|written| written.errors != errors) {
            writer.set("errors", &errors.to_string());
        }
        let is_new = written.is_none_or(|written| written.last_errno != last_errno);
        if let Some(errno) = last_errno.filter(|_| is_new) {
            writer.set("last_errno", &errno.to_string());
        }
    }
}
