//! Configurations of network filters, also of those that Envoy discovers by name.

use super::dump::Dump;
use super::filter::{Any, Filter};

pub(in super::super) const TCP_PROXY: &str = "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy";

/// The configuration of a network filter, as far as the input shows it.
pub(in super::super) enum FilterConfig<'d> {
    Known(&'d Any),
    /// It is discovered by name, and the input does not show whether Envoy has received it.
    Unknown,
    /// It is discovered by name, and Envoy has not received it.
    Missing,
}

impl<'d> FilterConfig<'d> {
    pub(in super::super) fn of(filter: &'d Filter, dump: &'d Dump) -> Self {
        if let Some(config) = &filter.typed_config {
            return Self::Known(config);
        }
        let Some(discovery) = &filter.config_discovery else { return Self::Unknown };
        let received = dump.extensions.as_ref().and_then(|extensions| extensions.get(&filter.name));
        match received.or(discovery.default_config.as_ref()) {
            Some(config) => Self::Known(config),
            None if dump.extensions.is_some() => Self::Missing,
            None => Self::Unknown,
        }
    }
}

/// The configuration of a network filter, if the input shows it.
pub(in super::super) fn known<'d>(filter: &'d Filter, dump: &'d Dump) -> Option<&'d Any> {
    match FilterConfig::of(filter, dump) {
        FilterConfig::Known(any) => Some(any),
        FilterConfig::Unknown | FilterConfig::Missing => None,
    }
}

/// The cluster that a network filter names, if the input shows its configuration.
pub(in super::super) fn cluster<'d>(filter: &'d Filter, dump: &'d Dump) -> Option<&'d str> {
    known(filter, dump)?.body().get("cluster")?.as_str()
}
