//! Kinds of listener filters, by the messages of their configurations.

use super::dump::Dump;
use super::listener::{Listener, ListenerFilter};

/// What a listener filter does with a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Kind {
    OriginalDst,
    ProxyProtocol,
    TlsInspector,
    HttpInspector,
    /// An unknown filter whose name says that it reads the client's bytes.
    OtherInspector,
    /// A filter that waits for nothing.
    Other,
}

const PREFIX: &str = "envoy.extensions.filters.listener.";

/// The name of the message that configures a filter; empty if the input has no configuration.
pub(in super::super) fn message<'d>(filter: &'d ListenerFilter, dump: &'d Dump) -> &'d str {
    let by_name = || dump.extensions.as_ref()?.get(&filter.name);
    let discovered = filter.config_discovery.as_ref();
    let config = filter
        .typed_config
        .as_ref()
        .or_else(|| discovered.and_then(|discovery| by_name().or(discovery.default_config.as_ref())));
    config.map(|config| config.kind()).unwrap_or_default()
}

pub(in super::super) fn kind(filter: &ListenerFilter, dump: &Dump) -> Kind {
    // Without a configuration the name is that of the factory.
    let short = message(filter, dump).strip_prefix(PREFIX).and_then(|rest| rest.split('.').next());
    let short = short.or_else(|| filter.name.strip_prefix("envoy.filters.listener.")).unwrap_or(&filter.name);
    match short {
        "original_dst" => Kind::OriginalDst,
        "proxy_protocol" => Kind::ProxyProtocol,
        "tls_inspector" => Kind::TlsInspector,
        "http_inspector" => Kind::HttpInspector,
        other if other.ends_with("_inspector") => Kind::OtherInspector,
        _ => Kind::Other,
    }
}

/// Whether a `proxy_protocol` filter accepts connections without a header.
pub(in super::super) fn allows_no_header(filter: &ListenerFilter) -> bool {
    let field = "allow_requests_without_proxy_protocol";
    filter.typed_config.as_ref().is_some_and(|config| config.body().get(field) == Some(&true.into()))
}

/// Whether one of a listener's own filters asks the kernel for the original destination.
pub(in super::super) fn has_original_dst(listener: &Listener, dump: &Dump) -> bool {
    listener.listener_filters.iter().any(|filter| kind(filter, dump) == Kind::OriginalDst)
}
