//! Envoy's search for the filter chain of a connection: criterion by criterion, the most specific value first. The result of
//! a criterion stays, even if a later criterion matches nothing.

use super::super::envoy::filter_chain::FilterChain;
use super::super::envoy::listener::Listener;
use super::super::envoy::matcher::Facts;
use super::socket::Socket;

/// The chain by the listener's matcher, or by the conditions of its chains. An error if the matcher is not evaluated.
pub(super) fn choose<'d>(listener: &'d Listener, socket: &Socket) -> Result<Option<&'d FilterChain>, String> {
    let Some(matcher) = &listener.filter_chain_matcher else { return Ok(find(listener, socket)) };
    let facts = Facts {
        ip: socket.ip(),
        port: socket.local.port(),
        transport_protocol: socket.transport_protocol(),
        application_protocols: socket.application_protocols,
    };
    let name = matcher.find(&facts)?;
    Ok(name.and_then(|name| listener.chain(name)).or(listener.default_filter_chain.as_ref()))
}

/// The chain that matches the connection, otherwise the default chain.
fn find<'d>(listener: &'d Listener, socket: &Socket) -> Option<&'d FilterChain> {
    search(listener, socket).or(listener.default_filter_chain.as_ref())
}

fn search<'d>(listener: &'d Listener, socket: &Socket) -> Option<&'d FilterChain> {
    let port = u32::from(socket.local.port());
    let mut chains: Vec<_> = listener.filter_chains.iter().collect();
    keep_best(&mut chains, |chain| match chain.filter_chain_match.destination_port {
        None => Some(0),
        Some(wanted) => (wanted == port).then_some(1_u8),
    });
    keep_best(&mut chains, |chain| {
        let networks = &chain.filter_chain_match.prefix_ranges;
        if networks.is_empty() {
            return Some(0);
        }
        networks.iter().filter_map(|network| network.covers(socket.ip())).max()
    });
    // A client that waits for a greeting has not named a server. A client with mTLS has, but only the mesh knows the
    // name.
    keep_best(&mut chains, |chain| chain.filter_chain_match.server_names.is_empty().then_some(0));
    keep_best(&mut chains, |chain| match chain.filter_chain_match.transport_protocol.as_str() {
        "" => Some(0),
        wanted => (wanted == socket.transport_protocol()).then_some(1),
    });
    let offered = socket.application_protocols;
    keep_best(&mut chains, |chain| {
        let wanted = &chain.filter_chain_match.application_protocols;
        if wanted.is_empty() {
            return Some(0);
        }
        let first = offered.iter().position(|name| wanted.iter().any(|wanted| wanted == name))?;
        // The client's first protocol is the best match.
        u8::try_from(first).ok().and_then(|first| u8::MAX.checked_sub(first))
    });
    // The client's address is not known: chains that require one come second.
    keep_best(&mut chains, |chain| Some(u8::from(!chain.filter_chain_match.depends_on_client())));
    chains.first().copied()
}

/// Keeps the chains that match best. A rank of `None` means no match.
fn keep_best(chains: &mut Vec<&FilterChain>, rank: impl Fn(&FilterChain) -> Option<u8>) {
    let best = chains.iter().filter_map(|chain| rank(chain)).max();
    chains.retain(|chain| best.is_some() && rank(chain) == best);
}

#[cfg(test)]
mod tests {
    use super::super::socket::{MESH_ALPN, Unread};
    use super::*;
    use serde_json::json;

    fn found(to: &str, transport: &'static str, alpn: &'static [&'static str]) -> Option<String> {
        let chain = |name: &str, matching| json!({"name": name, "filter_chain_match": matching});
        let listener: Listener = serde_json::from_value(json!({"filter_chains": [
            chain("port", json!({"destination_port": 3306, "transport_protocol": "tls"})),
            chain("http", json!({"transport_protocol": "raw_buffer", "application_protocols": ["http/1.1"]})),
            chain("wide", json!({"prefix_ranges": [{"address_prefix": "10.0.0.0", "prefix_len": 8}]})),
            chain("narrow tls", json!({"prefix_ranges": [{"address_prefix": "10.1.0.0", "prefix_len": 16}],
                                       "transport_protocol": "tls", "application_protocols": ["istio"]})),
            chain("narrow", json!({"prefix_ranges": [{"address_prefix": "10.1.0.0", "prefix_len": 16}],
                                   "source_type": "EXTERNAL"})),
            chain("named", json!({"server_names": ["a.example"]})),
        ], "default_filter_chain": {"name": "default"}}))
        .unwrap();
        let socket = Socket {
            unread: Unread::Nothing,
            local: to.parse().unwrap(),
            restored: true,
            transport_protocol: transport,
            application_protocols: alpn,
        };
        find(&listener, &socket).map(|chain| chain.name.clone())
    }

    #[test]
    fn the_most_specific_chain_wins_at_each_criterion() {
        let named = |name: &str| Some(name.to_owned());
        // A chain names the port, so no other chain is a candidate.
        assert_eq!(found("10.1.0.1:3306", "tls", &[]), named("port"));
        assert_eq!(found("10.1.0.1:3306", "", &[]), named("default"));
        assert_eq!(found("192.0.2.1:80", "raw_buffer", &["http/1.1"]), named("http"));
        assert_eq!(found("192.0.2.1:80", "", &[]), named("default"));
        assert_eq!(found("10.2.0.1:80", "", &[]), named("wide"));
        assert_eq!(found("10.1.0.1:80", "", &[]), named("narrow"));
        assert_eq!(found("10.1.0.1:80", "tls", MESH_ALPN), named("narrow tls"));
        // The only chain for TLS does not have this protocol.
        assert_eq!(found("10.1.0.1:80", "tls", &["h2"]), named("default"));
    }
}
