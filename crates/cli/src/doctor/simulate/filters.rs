//! The way of a connection through a filter chain: the transport socket, the network filters, the cluster.

use std::time::Duration;

use firstword::config::Mode;
use firstword::event;
use firstword::rules::Need;
use serde_json::Value;

use super::super::destination::Destination;
use super::super::envoy::dump::Dump;
use super::super::envoy::filter::{Any, Filter};
use super::super::envoy::filter_chain::FilterChain;
use super::super::envoy::filter_config::{FilterConfig, TCP_PROXY, known};
use super::super::envoy::listener::Direction;
use super::super::plugin::Plugin;
use super::journey::{Cause, Journey, Outcome, Step};
use super::socket::{Socket, Unread};

/// Network filters that end a chain and wait for a request of the client.
const CLIENT_FIRST: [&str; 6] = [
    "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
    "envoy.extensions.filters.network.redis_proxy.v3.RedisProxy",
    "envoy.extensions.filters.network.thrift_proxy.v3.ThriftProxy",
    "envoy.extensions.filters.network.dubbo_proxy.v3.DubboProxy",
    "envoy.extensions.filters.network.echo.v3.Echo",
    "envoy.extensions.filters.network.generic_proxy.v3.GenericProxy",
];

/// Takes the connection through a chain.
pub(super) fn run<'d>(
    journey: &mut Journey<'d>,
    dump: &'d Dump,
    chain: &'d FilterChain,
    socket: &mut Socket,
    to: &Destination,
) -> Step<'d> {
    if chain.terminates_tls() && !greets_before_tls(journey, chain) {
        if socket.unread != Unread::ClientHello {
            let closed = closed_before_tls(journey, dump, chain, socket, to);
            return Step::End(closed.unwrap_or_else(|| wait_for_tls(journey, chain)));
        }
        // Inside TLS the client waits.
        socket.unread = Unread::Nothing;
    }
    network_filters(journey, dump, chain, socket, to)
}

/// Whether the native modules of this listener and of one before it bring the greeting to the client before its TLS.
fn greets_before_tls(journey: &Journey, chain: &FilterChain) -> bool {
    let ends_tls =
        |chain: &FilterChain| chain.filters.iter().any(|filter| filter.is_native_module_with("terminate"));
    let mut before = journey.listeners.iter().rev().skip(1);
    ends_tls(chain) && before.any(|listener| listener.chains().any(ends_tls))
}

/// Waits for a ClientHello that does not come.
fn wait_for_tls(journey: &mut Journey, chain: &FilterChain) -> Outcome {
    match chain.transport_socket_connect_timeout.filter(|timeout| !timeout.is_zero()) {
        Some(timeout) => {
            journey.after = journey.after.saturating_add(timeout);
            Outcome::Closed(Cause::Tls)
        }
        None => Outcome::Hang(Cause::Tls),
    }
}

/// Closes the connection before the TLS handshake, if a network filter does so. Envoy creates the network filters before
/// the handshake, and `tcp_proxy` connects then, unless its configuration says to wait for the client.
fn closed_before_tls<'d>(
    journey: &mut Journey<'d>,
    dump: &'d Dump,
    chain: &'d FilterChain,
    socket: &Socket,
    to: &Destination,
) -> Option<Outcome> {
    let waits_for_tls = |filter: &Filter| {
        let mode = known(filter, dump).and_then(|any| any.body().get("upstream_connect_mode"));
        mode.and_then(Value::as_str) == Some("ON_DOWNSTREAM_TLS_HANDSHAKE")
    };
    if chain.filters.iter().any(waits_for_tls) {
        return None;
    }
    let (mut attempt, socket) = (journey.clone(), Socket { unread: Unread::Nothing, ..socket.clone() });
    // An internal listener accepts the connection in a second step, which need not end before TLS.
    let Step::End(outcome) = network_filters(&mut attempt, dump, chain, &socket, to) else { return None };
    let at_once = matches!(
        outcome,
        Outcome::Closed(Cause::NoCluster(_) | Cause::NoEndpoint(_) | Cause::NoConfiguration(_))
    ) && attempt.after == journey.after;
    at_once.then(|| {
        *journey = attempt;
        outcome
    })
}

fn network_filters<'d>(
    journey: &mut Journey<'d>,
    dump: &'d Dump,
    chain: &'d FilterChain,
    socket: &Socket,
    to: &Destination,
) -> Step<'d> {
    let mut before_connect = None;
    for filter in &chain.filters {
        let config = match FilterConfig::of(filter, dump) {
            FilterConfig::Known(config) => config,
            FilterConfig::Missing => {
                return Step::End(Outcome::Closed(Cause::NoConfiguration(filter.name.clone())));
            }
            FilterConfig::Unknown if filter.name == "envoy.filters.network.tcp_proxy" => {
                return Step::End(Outcome::Greeting);
            }
            FilterConfig::Unknown => continue,
        };
        if CLIENT_FIRST.contains(&config.kind()) {
            return Step::End(Outcome::Hang(Cause::Filter(filter.name.clone())));
        }
        if config.kind() == TCP_PROXY {
            return tcp_proxy(journey, dump, config.body(), before_connect, socket.unread);
        }
        before_connect = waits_for_header(journey, filter, config, socket, to).or(before_connect);
    }
    Step::End(Outcome::Unknown("no filter of the chain is known to connect to a server".to_owned()))
}

/// Maximum time for which Firstword keeps `tcp_proxy` from connecting because it waits for a PROXY header. `None` if the
/// filter is not Firstword, or does not wait.
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

/// Connects to the cluster, or hands the connection to an internal listener.
fn tcp_proxy<'d>(
    journey: &mut Journey<'d>,
    dump: &'d Dump,
    body: &'d Value,
    before_connect: Option<Duration>,
    unread: Unread,
) -> Step<'d> {
    let early = body.get("max_early_data_bytes").and_then(Value::as_u64).unwrap_or(0) > 0;
    if let Some(timeout) = before_connect {
        let has_header = unread == Unread::ProxyHeader;
        if !has_header || !early {
            journey.after = journey.after.saturating_add(timeout);
            let cause = if has_header { Cause::NoEarlyData } else { Cause::NoHeader };
            return Step::End(Outcome::Closed(cause));
        }
    }
    let on_data = body.get("upstream_connect_mode").and_then(Value::as_str) == Some("ON_DOWNSTREAM_DATA");
    if on_data && unread == Unread::Nothing {
        let filter = "envoy.filters.network.tcp_proxy".to_owned();
        return Step::End(Outcome::Hang(Cause::Filter(filter)));
    }
    let weighted = || body.get("weighted_clusters")?.get("clusters")?.get(0)?.get("name")?.as_str();
    let Some(name) = body.get("cluster").and_then(Value::as_str).or_else(weighted) else {
        return Step::End(Outcome::Unknown("tcp_proxy takes its cluster from elsewhere".to_owned()));
    };
    journey.cluster = Some(name.to_owned());
    connect(dump, name)
}

fn connect<'d>(dump: &'d Dump, name: &str) -> Step<'d> {
    let Some(cluster) = dump.cluster(name) else {
        return Step::End(match &dump.clusters {
            Some(_) => Outcome::Closed(Cause::NoCluster(name.to_owned())),
            // Istio's own cluster, which never has an endpoint.
            None if name == "BlackHoleCluster" => Outcome::Closed(Cause::NoEndpoint(name.to_owned())),
            None => Outcome::Greeting,
        });
    };
    if let Some(internal) = cluster.internal_listener() {
        let next = dump.listeners.iter().find(|listener| listener.name == internal);
        return next.map_or(Step::End(Outcome::Closed(Cause::NoListener)), Step::Accept);
    }
    let known = dump.endpoints.as_ref().filter(|_| cluster.is_discovered());
    let none_found =
        known.is_some_and(|known| known.get(name).is_none_or(|assignment| assignment.is_empty()));
    Step::End(if cluster.is_empty() || none_found {
        Outcome::Closed(Cause::NoEndpoint(name.to_owned()))
    } else {
        Outcome::Greeting
    })
}
