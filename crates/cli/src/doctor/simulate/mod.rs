//! Simulates Envoy on a connection with a server-first protocol: a pure function of Envoy's configuration.
//!
//! The steps follow Envoy's sources (1.36 to 1.40):
//! 1. The listener's filters run in order; `original_dst` of `use_original_dst` is the last of them.
//! 2. Then, and only then, the listener of the original destination may accept the connection. Its own filters run.
//! 3. Envoy chooses a filter chain.
//! 4. The chain's transport socket and its filters run.

mod chain_match;
mod filters;
mod inspection;
mod journey;
mod socket;

use std::net::SocketAddr;
use std::time::Duration;

use super::destination::{Destination, Entry};
use super::envoy::dump::Dump;
use super::envoy::filter_chain::FilterChain;
use super::envoy::listener::Listener;
use journey::Step;
use socket::{Socket, Unread};

pub(super) use journey::{Cause, Client, Journey, Outcome, Wait};

/// Maximum number of listeners that accept one connection. More of them form a circle.
const MAX_LISTENERS: usize = 8;

/// Follows a connection of this client to a destination.
pub(super) fn journey<'d>(dump: &'d Dump, to: &Destination, client: Client) -> Journey<'d> {
    let mut journey = Journey {
        client,
        listeners: Vec::new(),
        chain: None,
        waits: Vec::new(),
        after: Duration::ZERO,
        outcome: Outcome::Closed(Cause::NoListener),
        cluster: None,
    };
    let (mut listener, local) = match to.entry(dump) {
        Entry::Listener(listener) => (listener, to.address()),
        Entry::Redirected(listener) => {
            // The kernel has changed the destination; original_dst asks it for the original.
            let own = listener.addresses().next().unwrap_or_else(|| to.address());
            (listener, own)
        }
        Entry::Tunnelled(outer, inner) => {
            journey.listeners.push(outer);
            (inner, to.address())
        }
        Entry::Bypass(why) => {
            journey.outcome = Outcome::Bypass(why);
            return journey;
        }
        Entry::NoListener => return journey,
        Entry::Unknown => {
            let why =
                "several listeners have port 0, and the input does not show the ports that the kernel chose";
            journey.outcome = Outcome::Unknown(why.to_owned());
            return journey;
        }
    };
    let unread = match client {
        Client::Silent => Unread::Nothing,
        Client::ProxyHeader => Unread::ProxyHeader,
        Client::Mesh => Unread::ClientHello,
    };
    let mut socket = Socket::new(unread, local);
    loop {
        match accept(&mut journey, dump, listener, &mut socket, to) {
            Step::Accept(next) => listener = next,
            Step::End(outcome) => {
                journey.outcome = outcome;
                return journey;
            }
        }
    }
}

/// The chain that a listener chooses for a client that waits, without its listener filters.
pub(super) fn chain_for<'d>(listener: &'d Listener, to: &Destination) -> Option<&'d FilterChain> {
    chain_match::choose(listener, &Socket::new(Unread::Nothing, to.address())).ok().flatten()
}

/// Takes the connection through a listener.
fn accept<'d>(
    journey: &mut Journey<'d>,
    dump: &'d Dump,
    listener: &'d Listener,
    socket: &mut Socket,
    to: &Destination,
) -> Step<'d> {
    if journey.listeners.len() >= MAX_LISTENERS {
        let why = format!("more than {MAX_LISTENERS} listeners, one behind the other");
        return Step::End(Outcome::Unknown(why));
    }
    let handed_over = !journey.listeners.is_empty();
    journey.listeners.push(listener);
    if let Err(outcome) = inspection::run(journey, dump, listener, socket, to, handed_over) {
        return Step::End(outcome);
    }
    if listener.use_original_dst && socket.restored && !handed_over {
        if let Some(next) = for_address(dump, socket).filter(|next| *next != listener) {
            return Step::Accept(next);
        }
    }
    let chain = match chain_match::choose(listener, socket) {
        Ok(Some(chain)) => chain,
        Ok(None) => return Step::End(Outcome::Closed(Cause::NoChain)),
        Err(why) => return Step::End(Outcome::Unknown(why)),
    };
    journey.chain = Some(chain);
    filters::run(journey, dump, chain, socket, to)
}

/// The listener of an address: the one with exactly this address, otherwise one with any address of the port.
fn for_address<'d>(dump: &'d Dump, socket: &Socket) -> Option<&'d Listener> {
    let has = |wanted: SocketAddr| {
        dump.listeners.iter().find(|listener| listener.addresses().any(|address| address == wanted))
    };
    let port = socket.local.port();
    let any = |ip: &str| has(SocketAddr::new(ip.parse().ok()?, port));
    has(socket.local)
        .or_else(|| any(if socket.local.is_ipv4() { "0.0.0.0" } else { "::" }))
        .or_else(|| any("::"))
}
