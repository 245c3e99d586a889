//! Firstword as a filter of a chain.

use firstword::config::{Config, Mode};
use firstword::event::Direction;
use serde_json::Value;

use super::destination::{Destination, Side};
use super::envoy::filter::Any;
use crate::protobuf_json::get;
use crate::wasm_filter::WasmFilter;

/// A filter with the name Firstword, of Wasm or of the native module, and its configuration in Envoy.
pub(super) struct Plugin<'d> {
    config: &'d Value,
    filter: WasmFilter,
}

impl<'d> Plugin<'d> {
    /// Reads a filter's configuration. `name` is the name of the filter. `None` if the filter is not Firstword.
    pub(super) fn of(name: &str, config: &'d Any) -> Option<Self> {
        let filter = WasmFilter::of_envoy(&"", Some(name), config.value()).filter(|filter| filter.named)?;
        Some(Self { config: config.body(), filter })
    }

    /// True if it is the native module.
    pub(super) fn is_native(&self) -> bool {
        self.filter.is_native
    }

    /// The file or name of the native module.
    pub(super) fn module(&self) -> [Option<&'d Value>; 2] {
        module(self.config)
    }

    /// Firstword's own configuration; `None` if it is not valid.
    pub(super) fn config(&self) -> Option<&Config> {
        self.filter.checked.as_ref().ok()
    }

    /// The problems of Firstword's own configuration.
    pub(super) fn problems(&self) -> &[String] {
        self.filter.checked.as_ref().err().map_or(&[], Vec::as_slice)
    }

    /// A field of `PluginConfig`, by its path.
    pub(super) fn field(&self, path: &[&str]) -> Option<&'d Value> {
        path.iter().try_fold(self.config.get("config")?, |value, key| get(value, key))
    }

    /// A field of `PluginConfig`, if it is a text and not empty.
    pub(super) fn text(&self, path: &[&str]) -> Option<&'d str> {
        self.field(path)?.as_str().filter(|text| !text.is_empty())
    }

    /// Whether it removes PROXY headers on connections to this destination.
    pub(super) fn receives_header(&self, to: &Destination) -> bool {
        let direction = if to.side == Side::Inbound { Direction::Inbound } else { Direction::Outbound };
        // In a gateway, Envoy reports no direction. Rules that have a condition on it say outbound then.
        let sides = [direction, Direction::Outbound, Direction::Unspecified];
        self.config().is_some_and(|config| {
            let policy = |side| config.policy(Some(to.port), Some(to.address().ip()), side);
            config.mode == Mode::Active
                && sides.into_iter().any(|side| policy(side).proxy_protocol.receive.is_some())
        })
    }

    /// Whether a rule for this port sends PROXY headers.
    pub(super) fn sends_header(&self, port: u16) -> bool {
        let sides = [Direction::Inbound, Direction::Outbound, Direction::Unspecified];
        self.config().is_some_and(|config| {
            let policy = |side| config.policy(Some(port), None, side);
            config.mode == Mode::Active
                && sides.into_iter().any(|side| policy(side).proxy_protocol.send.is_some())
        })
    }
}

/// The file and the name of the native module in a configuration of Envoy.
pub(super) fn module(config: &Value) -> [Option<&Value>; 2] {
    let module = config.get("dynamic_module_config");
    ["module", "name"].map(|key| get(module?, key))
}
