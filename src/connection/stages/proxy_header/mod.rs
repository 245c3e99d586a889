//! PROXY headers: receives the first, refuses later ones, and sends one to the server.

pub(in crate::connection) mod guard;
pub(in crate::connection) mod receive;
pub(in crate::connection) mod send;

use crate::connection::rewrite::Flow;
use crate::event::output::Output;
use crate::event::refusal::{Refusal, RefusalReason};
use crate::event::{Event, HeaderResult};
use crate::proxy_protocol::{Endpoints, Format};

/// Header of the client that is believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::connection) struct Believed {
    /// Addresses in it. `None` if it names no addresses.
    pub(in crate::connection) endpoints: Option<Endpoints>,
}

/// Refuses the connection.
fn refuse(result: HeaderResult, format: Option<Format>, why: RefusalReason, out: &mut Output) -> Flow {
    out.details.refusal = Some(Refusal { result, format, why });
    // A header that did not arrive completely is counted without its version. Only the log shows the version.
    let format = format.filter(|_| result != HeaderResult::Timeout);
    out.events.push(Event::ProxyHeader { format, result });
    Flow::Close
}
