//! Firstword in a chain.

use firstword::config::{Config, Mode};
use firstword::event::Direction;
use serde_json::Value;

use super::destination::{Destination, Side};
use super::envoy::filter::Any;
use crate::wasm_filter::{WasmFilter, get};

/// A Wasm filter that is named so, and what Envoy is told about it.
pub(super) struct Plugin<'d> {
    config: &'d Value,
    filter: WasmFilter,
}

impl<'d> Plugin<'d> {
    /// `name` is that of the filter; `None` if the configuration is not Firstword's.
    pub(super) fn of(name: &str, config: &'d Any) -> Option<Self> {
        let filter = WasmFilter::of_envoy(&"", Some(name), config.value()).filter(|filter| filter.named)?;
        Some(Self { config: config.body(), filter })
    }

    /// Its own configuration, if that is right.
    pub(super) fn config(&self) -> Option<&Config> {
        self.filter.config.as_ref()
    }

    /// What is wrong with its own configuration.
    pub(super) fn problems(&self) -> &[String] {
        &self.filter.problems
    }

    /// A field of its `PluginConfig`, by its path.
    pub(super) fn field(&self, path: &[&str]) -> Option<&'d Value> {
        path.iter().try_fold(self.config.get("config")?, |value, key| get(value, key))
    }

    /// The same, if it is a text that is not empty.
    pub(super) fn text(&self, path: &[&str]) -> Option<&'d str> {
        self.field(path)?.as_str().filter(|text| !text.is_empty())
    }

    /// Whether it takes PROXY headers away on connections to this destination.
    pub(super) fn receives_header(&self, to: &Destination) -> bool {
        let direction = if to.side == Side::Inbound { Direction::Inbound } else { Direction::Outbound };
        // Of a gateway Envoy does not tell the direction, and what a rule asks for is then outbound.
        let sides = [direction, Direction::Outbound, Direction::Unspecified];
        self.config().is_some_and(|config| {
            let policy = |side| config.policy(Some(to.port), Some(to.address().ip()), side);
            config.mode == Mode::Active
                && sides.into_iter().any(|side| policy(side).proxy_protocol.receive.is_some())
        })
    }

    /// Whether a rule for this port has it send one.
    pub(super) fn sends_header(&self, port: u16) -> bool {
        let sides = [Direction::Inbound, Direction::Outbound, Direction::Unspecified];
        self.config().is_some_and(|config| {
            let policy = |side| config.policy(Some(port), None, side);
            config.mode == Mode::Active
                && sides.into_iter().any(|side| policy(side).proxy_protocol.send.is_some())
        })
    }
}
