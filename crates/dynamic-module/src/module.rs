//! The hooks, as functions of this shell.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use firstword::event::Sender;
use log::Level;

use crate::abi::{self, ConfigurationHandle, ConnectionHandle, ExtensionHandle, Module};
use crate::configuration::Configuration;
use crate::connection::Connection;
use crate::panics::inject;
use crate::types::{CloseSide, Status};
use crate::{extension, worker};

/// Counter of connections in a process without the bootstrap extension.
const UNEXPORTED: &str = "firstword_connections_without_extension_total";

/// The module.
pub(crate) enum Firstword {}

impl Module for Firstword {
    type Configuration = Configuration;
    type Connection = Connection;

    fn start() -> bool {
        std::panic::set_hook(Box::new(|panic| {
            let place = panic.location().map_or_else(String::new, ToString::to_string);
            abi::log(Level::Error, &format!("event=panic place={place} fix=\"report it\""));
        }));
        let is_supported = abi::since_1_39().is_some();
        if !is_supported {
            let line = "event=refused reason=\"the native module of Firstword needs Envoy 1.39 or newer\" fix=\"use the wasm module\"";
            abi::log(Level::Error, line);
        }
        is_supported
    }

    fn configure(name: &[u8], text: &[u8], handle: ConfigurationHandle) -> Option<Arc<Configuration>> {
        inject("configure");
        let unexported = || {
            if extension::is_present() {
                return None;
            }
            let line = "event=no_bootstrap_extension effect=\"no metrics and no time-outs\" fix=\"add the bootstrap \
                        extension of the same file to the bootstrap\"";
            abi::log(Level::Warn, line);
            handle.define_counter(UNEXPORTED)
        };
        Configuration::new(name, text, unexported)
    }

    fn end_configuration(configuration: &Configuration) {
        configuration.end();
    }

    fn connect(configuration: Arc<Configuration>, handle: ConnectionHandle) -> Rc<Connection> {
        Rc::new(Connection::new(configuration, handle))
    }

    fn opened(connection: &Rc<Connection>) -> Status {
        connection.opened()
    }

    fn data(connection: &Connection, sender: Sender, len: usize, end_stream: bool) -> Status {
        connection.data(sender, len, end_stream)
    }

    fn closed(connection: &Connection, side: CloseSide) {
        connection.closed(side);
    }

    fn scheduled() {
        worker::tick();
    }

    fn start_extension(handle: ExtensionHandle) {
        extension::start(handle);
    }

    fn tick() -> u64 {
        inject("timer");
        u64::try_from(extension::tick().as_millis()).unwrap_or(u64::MAX)
    }

    fn start_timer(milliseconds: u64) {
        extension::start_timer(Duration::from_millis(milliseconds));
    }

    fn flush() {
        inject("flush");
        extension::flush();
    }

    fn end_extension() {
        extension::end();
    }
}
