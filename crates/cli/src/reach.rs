//! The connections that a filter sees, as far as the file around it says.

use std::ops::RangeInclusive;

use firstword::config::Rule;
use firstword::event::Direction;
use serde_json::Value;

use crate::protobuf_json::get;

/// Connections that a filter sees.
#[derive(Clone, Debug)]
pub(crate) struct Reach {
    /// Their destination ports; empty if these are not known.
    ports: Vec<u16>,
    /// What Envoy may report as their direction; empty if this is not known.
    directions: &'static [Direction],
}

impl Reach {
    /// The reach of the filters of a listener. `None` if the object is no listener, or if the destination of a connection need
    /// not be the address of the listener.
    pub(crate) fn of_listener(object: &Value) -> Option<Self> {
        get(object, "filter_chains")?;
        let address = get(get(object, "address")?, "socket_address")?;
        let port = u16::try_from(get(address, "port_value")?.as_u64()?).ok().filter(|port| *port > 0)?;
        let redirected = get(object, "use_original_dst").is_some_and(|value| *value == Value::Bool(true));
        let restores = |filter: &Value| {
            let name = get(filter, "name").and_then(Value::as_str).unwrap_or_default();
            let config =
                get(filter, "typed_config").and_then(|config| get(config, "@type")).and_then(Value::as_str);
            let names = [name, config.unwrap_or_default()];
            names.iter().any(|name| name.contains("original_dst") || name.contains("proxy_protocol"))
        };
        let filters = get(object, "listener_filters").and_then(Value::as_array);
        if redirected || filters.is_some_and(|filters| filters.iter().any(restores)) {
            return None;
        }
        let directions: &[_] = match get(object, "traffic_direction").and_then(Value::as_str) {
            Some("INBOUND") => &[Direction::Inbound],
            Some("OUTBOUND") => &[Direction::Outbound],
            _ => &[Direction::Unspecified],
        };
        Some(Self { ports: vec![port], directions })
    }

    /// The reach of what an item of `configPatches` of an EnvoyFilter adds. `None` if it names no port.
    pub(crate) fn of_patch(object: &Value) -> Option<Self> {
        get(object, "patch")?;
        let conditions = get(object, "match")?;
        let port = get(get(conditions, "listener")?, "port_number")?.as_u64()?;
        let directions: &[_] = match get(conditions, "context").and_then(Value::as_str) {
            Some("SIDECAR_INBOUND") => &[Direction::Inbound],
            Some("SIDECAR_OUTBOUND") => &[Direction::Outbound],
            _ => &[],
        };
        Some(Self { ports: vec![u16::try_from(port).ok()?], directions })
    }

    /// What the items of `match` of a WasmPlugin or TrafficExtension reach. Empty if there are none.
    pub(crate) fn of_plugin(spec: &Value) -> Vec<Self> {
        let of = |item: &Value| {
            let numbers = get(item, "ports").and_then(Value::as_array);
            let number = |port: &Value| u16::try_from(get(port, "number")?.as_u64()?).ok();
            // In a gateway Envoy reports no direction.
            let directions: &[_] = match get(item, "mode").and_then(Value::as_str) {
                Some("CLIENT") => &[Direction::Outbound, Direction::Unspecified],
                Some("SERVER") => &[Direction::Inbound],
                _ => &[],
            };
            Self { ports: numbers.into_iter().flatten().filter_map(number).collect(), directions }
        };
        get(spec, "match").and_then(Value::as_array).into_iter().flatten().map(of).collect()
    }

    /// Whether the rule can match one of the connections.
    pub(crate) fn meets(&self, rule: &Rule) -> bool {
        let matches =
            |port: &u16| rule.ports().iter().any(|range: &RangeInclusive<u16>| range.contains(port));
        let port = rule.ports().is_empty() || self.ports.is_empty() || self.ports.iter().any(matches);
        let direction = self.directions.is_empty()
            || rule.direction().is_none_or(|wanted| self.directions.contains(&wanted));
        port && direction
    }

    /// The connections in a few words, as in `port 3306, outbound`.
    pub(crate) fn in_words(&self) -> String {
        let ports: Vec<_> = self.ports.iter().map(|port| format!("port {port}")).collect();
        let directions: Vec<_> = self.directions.iter().map(|direction| direction.label()).collect();
        let parts = [ports.join(" or "), directions.join(" or ")];
        let parts: Vec<_> = parts.into_iter().filter(|part| !part.is_empty()).collect();
        if parts.is_empty() { "every port".to_owned() } else { parts.join(", ") }
    }
}
