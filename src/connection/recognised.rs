//! What a connection turns out to carry, and when it is looked at no more.

use super::{Connection, Inspection, State};
use crate::connection::inspector::detect::Detection;
use crate::connection::inspector::mysql::Mysql;
use crate::event::{ClientFirst, Event, OpaqueReason, Protocol, Sender, ServerFirst};

impl Connection {
    /// Nobody looks at this connection. That is told when something happens on it and not when it opens,
    /// for by then the host has not chosen where it goes.
    pub(super) fn skip_if_told_so(&mut self, events: &mut Vec<Event>) {
        if self.inspection == Inspection::Nothing && self.recognised.is_none() {
            self.handle_off(events);
        }
    }

    /// It is known who spoke first, and with what, or not yet.
    pub(super) fn detected(&mut self, detection: Detection, events: &mut Vec<Event>) {
        match detection {
            Detection::Undecided => {}
            Detection::Mysql => {
                self.recognise(Protocol::Mysql, events);
                events.push(Event::ServerFirst(ServerFirst::Mysql));
            }
            Detection::ServerFirst(kind) => {
                self.recognise(Protocol::ServerFirst, events);
                events.push(Event::ServerFirst(kind));
            }
            Detection::ClientFirst(kind) => {
                self.recognise(Protocol::ClientFirst, events);
                events.push(Event::ClientFirst(kind));
                // A PROXY header is in front of a protocol, and says nothing of who speaks first in it.
                if !matches!(kind, ClientFirst::ProxyV1 | ClientFirst::ProxyV2) {
                    self.greeting_timeout = None;
                }
            }
        }
    }

    /// It is known what the connection carries.
    pub(super) fn recognise(&mut self, protocol: Protocol, events: &mut Vec<Event>) {
        if self.recognised.is_none() {
            self.recognised = Some(protocol);
            events.push(Event::Recognised { protocol, waited_as: self.waited_as });
        }
    }

    /// Inspection ends; all it needed is freed.
    pub(super) fn give_up(&mut self, reason: OpaqueReason, events: &mut Vec<Event>) {
        if let State::Mysql(mysql) = &mut self.state {
            count_packets(mysql, Sender::Client, events);
            count_packets(mysql, Sender::Server, events);
            mysql.session.end(Some(reason), events);
            if reason == OpaqueReason::Desync {
                self.report = Some(mysql.session.report());
            }
        }
        self.state = State::Opaque { compressed: reason == OpaqueReason::Compressed };
        events.push(Event::Opaque(reason));
    }
}

/// Tells how many packets of `sender` have passed since it was last told.
pub(super) fn count_packets(mysql: &mut Mysql, sender: Sender, events: &mut Vec<Event>) {
    let count = mysql.framer(sender).take_count();
    if count > 0 {
        events.push(Event::Packets { sender, count });
    }
}
