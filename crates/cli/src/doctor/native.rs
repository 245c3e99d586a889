//! Native modules in an Istio whose proxy has no network filter for them.

use firstword::escape;

use super::diagnose::name;
use super::envoy::dump::Dump;
use super::envoy::filter::Filter;
use crate::findings::{Finding, Fix, Location, Severity};

/// The last minor version of Istio 1 whose proxy has no network filter for modules.
const LAST_WITHOUT: u32 = 30;

/// The finding for the first such filter, or for a listener that Envoy refused because of one.
pub(super) fn finding(dump: &Dump) -> Option<Finding> {
    let version = dump.node.metadata_text("ISTIO_VERSION")?;
    let mut numbers = version.split('.').map(str::parse::<u32>);
    let (Some(Ok(1)), Some(Ok(minor))) = (numbers.next(), numbers.next()) else { return None };
    if minor > LAST_WITHOUT {
        return None;
    }
    let is_module = |filter: &&Filter| {
        let config = filter.typed_config.as_ref();
        config.is_some_and(|config| {
            config.kind().starts_with("envoy.extensions.filters.network.dynamic_modules.")
        })
    };
    let in_chains = dump.listeners.iter().find_map(|listener| {
        let filter = listener.chains().flat_map(|chain| &chain.filters).find(is_module)?;
        Some((name(listener), Some(escape::text(&filter.name))))
    });
    let refused = || dump.refused.iter().find(|(_, why)| why.contains("dynamic_modules"));
    let (listener, filter) = in_chains.or_else(|| refused().map(|(name, _)| (name.as_str(), None)))?;
    let location = Location { listener: Some(escape::text(listener)), filter, ..Location::default() };
    let why = format!(
        "The proxy is of Istio {}, whose Envoy has no network filter for dynamic modules. It refuses the listener, so a new proxy \
         has no listener for the port, and a running one keeps the listener before.",
        escape::text(version)
    );
    let fixes = vec![
        Fix::advice(
            "Use the Wasm module in this proxy",
            "a query costs more of Envoy's time than with the native module.",
        ),
        Fix::advice("Upgrade the proxies to Istio 1.31 or newer", "the pods restart."),
    ];
    Some(Finding::new(Severity::Error, "native-module-unsupported", location, why, fixes))
}
