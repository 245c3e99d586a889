//! What Envoy does with a connection on which the server has the first word: a pure function of its configuration.
//!
//! As Envoy's sources have it (1.36 to 1.40): the listener's filters in order, `original_dst` of `use_original_dst` last
//! of them; then, and only then, the hand-over to the listener of the original destination, whose own filters follow;
//! then the choice of a chain; then its transport socket and its filters.

mod chain_match;
mod filters;
mod inspection;

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::destination::{Destination, Entry};
use super::envoy::chain::FilterChain;
use super::envoy::dump::Dump;
use super::envoy::listener::Listener;

pub(super) use filters::{Configured, TCP_PROXY, configured, is_for};
pub(super) use inspection::{Kind, kind};

/// Who connects, which is what the client's side of the connection begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Client {
    /// Waits for the greeting.
    Silent,
    /// Is behind a proxy that sends a PROXY header at once, then waits for the greeting.
    ProxyHeader,
    /// Comes by the mesh's mutual TLS, from a sidecar, and waits for the greeting inside it.
    Mesh,
}

/// What becomes of the client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The server's first bytes reach it.
    Greeting,
    /// Nothing ever does.
    Hang(Cause),
    /// The connection is closed without a word.
    Closed(Cause),
    /// The connection does not pass this Envoy.
    Bypass(&'static str),
    /// The configuration does not tell.
    Unknown(String),
}

/// Why the server's first bytes do not reach a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// A listener filter waits for the client.
    ListenerFilter,
    /// A chain that terminates TLS waits for a ClientHello.
    Tls,
    /// A network filter, by this name, waits for the client.
    Filter(String),
    /// A filter's configuration is to come by this name, and has not.
    NoConfiguration(String),
    /// Firstword has been told to wait for a PROXY header.
    NoHeader,
    /// The header would come, but `tcp_proxy` reads nothing before it has connected.
    NoEarlyData,
    /// No chain of the listener is for the connection.
    NoChain,
    /// The cluster has no endpoint.
    NoEndpoint(String),
    /// The input has no cluster of this name.
    NoCluster(String),
    /// Nobody listens there.
    NoListener,
}

/// A listener filter that waited in vain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wait<'d> {
    pub(super) listener: &'d Listener,
    pub(super) filter: String,
    pub(super) kind: Kind,
    /// The message its configuration is.
    pub(super) message: String,
    /// `None`: for ever.
    pub(super) timeout: Option<Duration>,
}

/// A connection from its acceptance to what becomes of it.
#[derive(Clone, Debug)]
pub(super) struct Journey<'d> {
    pub(super) client: Client,
    /// Those it passed through, in order.
    pub(super) listeners: Vec<&'d Listener>,
    pub(super) chain: Option<&'d FilterChain>,
    pub(super) waits: Vec<Wait<'d>>,
    /// How long all of it took before what becomes of it: listener filters, and Firstword.
    pub(super) after: Duration,
    pub(super) outcome: Outcome,
    /// The cluster it goes to.
    pub(super) cluster: Option<String>,
}

/// What is unread of the client's first bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unread {
    Nothing,
    ProxyHeader,
    ClientHello,
}

/// What Envoy knows of a connection.
#[derive(Clone, Debug)]
struct Socket {
    unread: Unread,
    /// Where it takes the connection to go. An unspecified address is none in particular.
    local: SocketAddr,
    /// `local` is no longer the listener's own address.
    restored: bool,
    /// What inspection found; empty without.
    transport_protocol: &'static str,
    application_protocols: &'static [&'static str],
}

/// What a client's sidecar asks for.
const MESH_ALPN: &[&str] = &["istio-peer-exchange", "istio"];

/// Through so many listeners a connection is followed; more are a circle.
const MAX_LISTENERS: usize = 8;

impl Socket {
    /// The address, if it is a particular one.
    fn ip(&self) -> Option<IpAddr> {
        Some(self.local.ip()).filter(|ip| !ip.is_unspecified())
    }

    fn transport_protocol(&self) -> &'static str {
        if self.transport_protocol.is_empty() { "raw_buffer" } else { self.transport_protocol }
    }
}

impl PartialEq for Listener {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self, other)
    }
}

impl Eq for Listener {}

/// Whether one of a listener's own filters asks the kernel for the original destination.
pub(super) fn has_original_dst(listener: &Listener, dump: &Dump) -> bool {
    listener.listener_filters.iter().any(|filter| kind(filter, dump).0 == Kind::OriginalDst)
}

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
    let (first, local) = match to.entry(dump) {
        Entry::Listener(listener) => (listener, to.address()),
        Entry::Redirected(listener) => {
            // The kernel has changed the destination; original_dst asks it for the original.
            let own = listener.addresses().next().unwrap_or_else(|| to.address());
            (listener, own)
        }
        Entry::Bypass(why) => {
            journey.outcome = Outcome::Bypass(why);
            return journey;
        }
        Entry::Nobody => return journey,
    };
    let mut socket = Socket {
        unread: match client {
            Client::Silent => Unread::Nothing,
            Client::ProxyHeader => Unread::ProxyHeader,
            Client::Mesh => Unread::ClientHello,
        },
        local,
        restored: false,
        transport_protocol: "",
        application_protocols: &[],
    };
    journey.outcome = journey.accept(dump, first, &mut socket, to);
    journey
}

impl<'d> Journey<'d> {
    /// A listener gets the connection.
    fn accept(
        &mut self,
        dump: &'d Dump,
        listener: &'d Listener,
        socket: &mut Socket,
        to: &Destination,
    ) -> Outcome {
        if self.listeners.len() >= MAX_LISTENERS {
            return Outcome::Unknown(format!("more than {MAX_LISTENERS} listeners, one behind the other"));
        }
        let handed_over = !self.listeners.is_empty();
        self.listeners.push(listener);
        if let Err(outcome) = inspection::run(self, dump, listener, socket, to, handed_over) {
            return outcome;
        }
        if listener.use_original_dst && socket.restored && !handed_over {
            if let Some(next) = for_address(dump, socket).filter(|next| *next != listener) {
                return self.accept(dump, next, socket, to);
            }
        }
        if listener.filter_chain_matcher.is_some() {
            return Outcome::Unknown("the listener chooses its chains by filter_chain_matcher".to_owned());
        }
        let Some(chain) = chain_match::find(listener, socket) else {
            return Outcome::Closed(Cause::NoChain);
        };
        self.chain = Some(chain);
        filters::run(self, dump, chain, socket, to)
    }
}

/// The listener of an address: exactly that, else any address of the port.
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
