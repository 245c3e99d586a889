//! Access-log state: what is known of a connection, in Envoy's filter state, for `tcp_proxy`'s and the
//! listener's access logs and for filters behind this one. The key `user` is `wasm.firstword.user` there.

use std::net::SocketAddr;

use log::Level;

use super::host;
use super::journal::Journal;
use crate::event::details::{Notes, Subject, UNREADABLE, Wanted};
use crate::event::{Event, OpaqueReason, Protocol};

/// The keys that a configuration asks for.
#[derive(Debug)]
pub(super) struct Keys {
    keys: Vec<&'static str>,
}

/// What is counted of one connection, and as much of it as the host has been told.
#[derive(Debug, Default)]
pub(super) struct State {
    now: Counts,
    /// None: nothing yet.
    told: Option<Counts>,
    source_is_told: bool,
    /// The accounts that the current callback has named.
    named: Named,
}

/// Accounts of one callback.
#[derive(Debug, Default)]
enum Named {
    #[default]
    None,
    One(String),
    Several,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counts {
    commands: u64,
    errors: u64,
    /// None: the server has sent no error.
    last_errno: Option<u16>,
}

impl Keys {
    /// None: no key is asked for, and nothing is to be done.
    pub(super) fn new(keys: &[&'static str]) -> Option<Self> {
        (!keys.is_empty()).then(|| Self { keys: keys.to_vec() })
    }

    /// Says, while the plugin is configured, that the values are text: else CEL would have to compare them
    /// with bytes.
    pub(super) fn declare(&self, journal: &Journal) {
        for key in &self.keys {
            if let Err(status) = host::declare_text(&name(key)) {
                journal.line(Level::Info, || {
                    format!("event=host_refused call=declare_property key={key} status={status}")
                });
            }
        }
    }

    /// What the core has to tell for these keys.
    pub(super) fn wanted(&self) -> Wanted {
        let mut wanted = Wanted::default();
        let subjects = Subject::ALL.iter().filter(|subject| self.has(subject.label()));
        subjects.for_each(|subject| wanted.add(*subject));
        wanted
    }

    /// Inspection has ended: the account and the schema can be any.
    fn set_unreadable(&self, journal: &Journal) {
        for subject in [Subject::User, Subject::Schema] {
            self.set(subject.label(), UNREADABLE, journal);
        }
    }

    fn has(&self, key: &str) -> bool {
        self.keys.contains(&key)
    }

    fn set(&self, key: &str, value: &str, journal: &Journal) {
        if !self.has(key) {
            return;
        }
        if let Err(status) = host::set_property(&name(key), value) {
            journal.line(Level::Warn, || {
                format!("event=host_refused call=set_property key={key} status={status}")
            });
        }
    }
}

/// A connection passes of which nothing is read.
pub(super) fn unfollowed(keys: &Keys, protocol: Protocol, journal: &Journal) {
    keys.set("protocol", protocol.label(), journal);
    keys.set("opaque_reason", OpaqueReason::Memory.label(), journal);
    keys.set_unreadable(journal);
}

fn name(key: &str) -> String {
    // One segment: a path of two would be a key with a NUL in it, which no access log can name.
    format!("firstword.{key}")
}

impl State {
    /// A PROXY header that is believed gave this address.
    pub(super) fn source(&mut self, keys: &Keys, source: SocketAddr, journal: &Journal) {
        if !std::mem::replace(&mut self.source_is_told, true) && keys.has("source") {
            keys.set("source", &source.to_string(), journal);
        }
    }

    /// A callback begins. Filters behind this one see the state once for each.
    pub(super) fn callback_begins(&mut self) {
        self.named = Named::None;
    }

    /// Takes what happened in a callback, or in a part of it. Sets names at once, and counts on the tick and at the end.
    pub(super) fn take(&mut self, keys: &Keys, events: &[Event], notes: &mut Notes, journal: &Journal) {
        for (subject, word) in notes.said.drain(..) {
            if subject == Subject::User && !self.is_only_account(&word) {
                // A filter that decides by it would judge the last account alone.
                keys.set(subject.label(), UNREADABLE, journal);
                continue;
            }
            keys.set(subject.label(), &word, journal);
        }
        for event in events {
            match *event {
                Event::Recognised { protocol, .. } => keys.set("protocol", protocol.label(), journal),
                Event::Opaque(reason) => {
                    keys.set("opaque_reason", reason.label(), journal);
                    keys.set_unreadable(journal);
                }
                Event::CommandSent(_) | Event::CommandStarted(_) => {
                    self.now.commands = self.now.commands.saturating_add(1);
                }
                Event::CommandEnded { answer: Some(answer), .. } => {
                    if let Some(errno) = answer.tally.errno {
                        self.now.errors = self.now.errors.saturating_add(1);
                        self.now.last_errno = Some(errno);
                    }
                }
                Event::PreHandshakeError { errno }
                | Event::HandshakeError { errno, .. }
                | Event::ServerNotice { errno } => self.now.last_errno = Some(errno),
                Event::Closed { .. } => self.tell(keys, journal),
                _ => {}
            }
        }
    }

    /// This account is the only one that the callback has named.
    fn is_only_account(&mut self, user: &str) -> bool {
        self.named = match std::mem::take(&mut self.named) {
            Named::None => Named::One(user.to_owned()),
            Named::One(named) if named == user => Named::One(named),
            Named::One(_) | Named::Several => Named::Several,
        };
        matches!(self.named, Named::One(_))
    }

    /// Some count has not been told.
    pub(super) fn is_due(&self) -> bool {
        self.told.unwrap_or_default() != self.now
    }

    /// Tells the counts that have changed.
    pub(super) fn tell(&mut self, keys: &Keys, journal: &Journal) {
        let Counts { commands, errors, last_errno } = self.now;
        let told = self.told.replace(self.now);
        if told.is_none_or(|told| told.commands != commands) {
            keys.set("commands", &commands.to_string(), journal);
        }
        if told.is_none_or(|told| told.errors != errors) {
            keys.set("errors", &errors.to_string(), journal);
        }
        if let Some(errno) = last_errno.filter(|_| told.is_none_or(|told| told.last_errno != last_errno)) {
            keys.set("last_errno", &errno.to_string(), journal);
        }
    }
}
