//! The path of a connection through Envoy, and its outcome.

use std::time::Duration;

use super::super::envoy::filter_chain::FilterChain;
use super::super::envoy::listener::Listener;
use super::super::envoy::listener_filter::Kind;

/// A client, by the first bytes that it sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in super::super) enum Client {
    /// Waits for the greeting.
    Silent,
    /// Connects through a proxy that sends a PROXY header at once, then waits for the greeting.
    ProxyHeader,
    /// Connects from a sidecar by the mesh's mutual TLS, and waits for the greeting inside it.
    Mesh,
}

/// How a connection ends for the client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) enum Outcome {
    /// The server's first bytes reach the client.
    Greeting,
    /// The client waits for ever.
    Hang(Cause),
    /// Envoy closes the connection before the greeting.
    Closed(Cause),
    /// The connection does not pass this Envoy.
    Bypass(&'static str),
    /// The configuration does not decide it.
    Unknown(String),
}

/// Why the server's first bytes do not reach a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) enum Cause {
    /// A listener filter waits for the client.
    ListenerFilter,
    /// A chain that terminates TLS waits for a ClientHello.
    Tls,
    /// A network filter, by this name, waits for the client.
    Filter(String),
    /// Envoy has not received the configuration of the filter with this name.
    NoConfiguration(String),
    /// Firstword is configured to wait for a PROXY header, and the client sends none.
    NoHeader,
    /// The client sends the header, but `tcp_proxy` reads nothing before it has connected.
    NoEarlyData,
    /// No chain of the listener matches the connection.
    NoChain,
    /// The cluster has no endpoint.
    NoEndpoint(String),
    /// The input has no cluster of this name.
    NoCluster(String),
    /// No listener accepts the connection.
    NoListener,
}

/// A listener filter that waited in vain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) struct Wait<'d> {
    pub(in super::super) listener: &'d Listener,
    pub(in super::super) filter: String,
    pub(in super::super) kind: Kind,
    /// The name of the message that configures it; may be empty.
    pub(in super::super) message: &'d str,
    /// `None` if the filter waits for ever.
    pub(in super::super) timeout: Option<Duration>,
}

/// A connection from its acceptance to its outcome.
#[derive(Clone, Debug)]
pub(in super::super) struct Journey<'d> {
    pub(in super::super) client: Client,
    /// The listeners that the connection passed, in order.
    pub(in super::super) listeners: Vec<&'d Listener>,
    pub(in super::super) chain: Option<&'d FilterChain>,
    pub(in super::super) waits: Vec<Wait<'d>>,
    /// Time until the outcome: the waits of listener filters and of Firstword.
    pub(in super::super) after: Duration,
    pub(in super::super) outcome: Outcome,
    /// The cluster to which the connection goes.
    pub(in super::super) cluster: Option<String>,
}

impl Journey<'_> {
    /// Whether the client does not get the greeting here.
    pub(in super::super) fn is_refused(&self) -> bool {
        !matches!(self.outcome, Outcome::Greeting | Outcome::Bypass(_))
    }

    /// Whether the chosen chain is made for this client.
    pub(in super::super) fn has_chain_for_client(&self) -> bool {
        self.client != Client::Mesh || self.chain.is_some_and(FilterChain::terminates_tls)
    }
}

/// The next step of a connection.
pub(super) enum Step<'d> {
    /// Another listener accepts it.
    Accept(&'d Listener),
    End(Outcome),
}
