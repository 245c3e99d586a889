//! What a chain does with a connection: its transport socket, its network filters, the cluster.

use std::time::Duration;

use firstword::config::Mode;

use firstword::event;
use firstword::rules::Need;
use serde_json::Value;

use super::super::destination::Destination;
use super::super::envoy::chain::FilterChain;
use super::super::envoy::dump::Dump;
use super::super::envoy::filter::{Any, Filter};
use super::super::envoy::listener::Direction;
use super::super::plugin::Plugin;
use super::{Cause, Client, Journey, Outcome, Socket, Unread};

/// Network filters that end a chain and wait for a request.
const CLIENT_FIRST: [&str; 6] = [
    "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
    "envoy.extensions.filters.network.redis_proxy.v3.RedisProxy",
    "envoy.extensions.filters.network.thrift_proxy.v3.ThriftProxy",
    "envoy.extensions.filters.network.dubbo_proxy.v3.DubboProxy",
    "envoy.extensions.filters.network.echo.v3.Echo",
    "envoy.extensions.filters.network.generic_proxy.v3.GenericProxy",
];

pub(in super::super) const TCP_PROXY: &str = "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy";

/// What a filter of a chain is configured with.
pub(in super::super) enum Configured<'d> {
    Here(&'d Any),
    /// It comes by name; the input does not tell whether it has come.
    Elsewhere,
    /// It comes by name, and has not come.
    Missing,
}

pub(in super::super) fn configured<'d>(dump: &'d Dump, filter: &'d Filter) -> Configured<'d> {
    if let Some(config) = &filter.typed_config {
        return Configured::Here(config);
    }
    let Some(discovery) = &filter.config_discovery else { return Configured::Elsewhere };
    let come = dump.extensions.as_ref().and_then(|extensions| extensions.get(&filter.name));
    match come.or(discovery.default_config.as_ref()) {
        Some(config) => Configured::Here(config),
        None if dump.extensions.is_some() => Configured::Missing,
        None => Configured::Elsewhere,
    }
}

pub(super) fn run<'d>(
    journey: &mut Journey<'d>,
    dump: &'d Dump,
    chain: &'d FilterChain,
    socket: &mut Socket,
    to: &Destination,
) -> Outcome {
    if chain.terminates_tls() {
        if socket.unread != Unread::ClientHello {
            if let Some(closed) = closed_before_tls(journey, dump, chain, socket, to) {
                return closed;
            }
            let Some(timeout) = chain.transport_socket_connect_timeout.filter(|timeout| !timeout.is_zero())
            else {
                return Outcome::Hang(Cause::Tls);
            };
            journey.after = journey.after.saturating_add(timeout);
            return Outcome::Closed(Cause::Tls);
        }
        // What is inside it is a client that waits.
        socket.unread = Unread::Nothing;
    }
    network_filters(journey, dump, chain, socket, to)
}

/// What closes the connection although it waits for TLS: Envoy makes the network filters before the handshake, and
/// `tcp_proxy` connects then, unless its configuration says to wait for the client.
fn closed_before_tls<'d>(
    journey: &mut Journey<'d>,
    dump: &'d Dump,
    chain: &'d FilterChain,
    socket: &Socket,
    to: &Destination,
) -> Option<Outcome> {
    let waits_for_tls = |filter: &Filter| match configured(dump, filter) {
        Configured::Here(any) => {
            any.body().get("upstream_connect_mode").and_then(Value::as_str)
                == Some("ON_DOWNSTREAM_TLS_HANDSHAKE")
        }
        Configured::Elsewhere | Configured::Missing => false,
    };
    if chain.filters.iter().any(waits_for_tls) {
        return None;
    }
    let (mut attempt, mut socket) = (journey.clone(), Socket { unread: Unread::Nothing, ..socket.clone() });
    let outcome = network_filters(&mut attempt, dump, chain, &mut socket, to);
    let at_once = matches!(
        outcome,
        Outcome::Closed(Cause::NoCluster(_) | Cause::NoEndpoint(_) | Cause::NoConfiguration(_))
    ) && attempt.after == journey.after
        // A listener inside Envoy is reached in a second step, whose end this one need not see before TLS.
        && attempt.listeners.len() == journey.listeners.len();
    at_once.then(|| {
        *journey = attempt;
        outcome
    })
}

fn network_filters<'d>(
    journey: &mut Journey<'d>,
    dump: &'d Dump,
    chain: &'d FilterChain,
    socket: &mut Socket,
    to: &Destination,
) -> Outcome {
    let mut before_connect = None;
    for filter in &chain.filters {
        let config = match configured(dump, filter) {
            Configured::Here(config) => config,
            Configured::Missing => {
                return Outcome::Closed(Cause::NoConfiguration(filter.name.clone()));
            }
            Configured::Elsewhere if filter.name == "envoy.filters.network.tcp_proxy" => {
                return Outcome::Greeting;
            }
            Configured::Elsewhere => continue,
        };
        if CLIENT_FIRST.contains(&config.kind()) {
            return Outcome::Hang(Cause::Filter(filter.name.clone()));
        }
        if config.kind() == TCP_PROXY {
            return tcp_proxy(journey, dump, config.body(), before_connect, socket, to);
        }
        before_connect = waits_for_header(journey, filter, config, socket, to).or(before_connect);
    }
    Outcome::Unknown("no filter of the chain is known to connect to a server".to_owned())
}

/// How long Firstword, if the filter is one, keeps `tcp_proxy` from connecting until a PROXY header has come.
fn waits_for_header(
    journey: &Journey,
    filter: &Filter,
    config: &Any,
    socket: &Socket,
    to: &Destination,
) -> Option<Duration> {
    let plugin = Plugin::of(&filter.name, config)?;
    let parsed = plugin.config().filter(|parsed| parsed.mode == Mode::Active)?;
    let direction = match journey.listeners.last()?.traffic_direction {
        Direction::Inbound => event::Direction::Inbound,
        Direction::Outbound => event::Direction::Outbound,
        Direction::Unspecified => event::Direction::Unspecified,
    };
    let policy = parsed.policy(Some(socket.local.port()), Some(to.address().ip()), direction);
    let receive = policy.proxy_protocol.receive.as_ref()?;
    (receive.need == Need::BeforeConnect).then_some(receive.timeout)
}

fn tcp_proxy<'d>(
    journey: &mut Journey<'d>,
    dump: &'d Dump,
    body: &'d Value,
    before_connect: Option<Duration>,
    socket: &mut Socket,
    to: &Destination,
) -> Outcome {
    let early = body.get("max_early_data_bytes").and_then(Value::as_u64).unwrap_or(0) > 0;
    if let Some(timeout) = before_connect {
        let has_header = socket.unread == Unread::ProxyHeader;
        if !has_header || !early {
            journey.after = journey.after.saturating_add(timeout);
            return Outcome::Closed(if has_header { Cause::NoEarlyData } else { Cause::NoHeader });
        }
    }
    let on_data = body.get("upstream_connect_mode").and_then(Value::as_str) == Some("ON_DOWNSTREAM_DATA");
    if on_data && socket.unread == Unread::Nothing {
        return Outcome::Hang(Cause::Filter("envoy.filters.network.tcp_proxy".to_owned()));
    }
    let weighted = || body.get("weighted_clusters")?.get("clusters")?.get(0)?.get("name")?.as_str();
    let Some(name) = body.get("cluster").and_then(Value::as_str).or_else(weighted) else {
        return Outcome::Unknown("tcp_proxy takes its cluster from elsewhere".to_owned());
    };
    journey.cluster = Some(name.to_owned());
    let Some(cluster) = dump.cluster(name) else {
        return match &dump.clusters {
            Some(_) => Outcome::Closed(Cause::NoCluster(name.to_owned())),
            // Istio's own, which never has one.
            None if name == "BlackHoleCluster" => Outcome::Closed(Cause::NoEndpoint(name.to_owned())),
            None => Outcome::Greeting,
        };
    };
    if let Some(internal) = cluster.internal_listener() {
        let next = dump.listeners.iter().find(|listener| listener.name == internal);
        let Some(next) = next else { return Outcome::Closed(Cause::NoListener) };
        return journey.accept(dump, next, socket, to);
    }
    let known = dump.endpoints.as_ref().filter(|_| cluster.is_discovered());
    let none_found =
        known.is_some_and(|known| known.get(name).is_none_or(|assignment| assignment.is_empty()));
    if cluster.is_empty() || none_found {
        return Outcome::Closed(Cause::NoEndpoint(name.to_owned()));
    }
    Outcome::Greeting
}

/// Whether the client is one that the chain, as it was chosen, is made for.
pub(in super::super) fn is_for(client: Client, chain: Option<&FilterChain>) -> bool {
    client != Client::Mesh || chain.is_some_and(FilterChain::terminates_tls)
}
