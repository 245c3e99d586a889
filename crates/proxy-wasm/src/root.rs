//! The root context: one for each plugin configuration in each VM.

use std::rc::Rc;

use firstword::filter::Filter;
use firstword::filter::rejection::ProxyState;
use log::Level;
use proxy_wasm::traits::{Context, RootContext, StreamContext};
use proxy_wasm::types::ContextType;

use crate::host::Envoy;
use crate::hostcalls::{self, Buffer};
use crate::instance::Instance;
use crate::shared_mode::SharedMode;
use crate::stream::Stream;

/// Environment variable of the VM: with the value `refuse` the filter refuses each bad configuration.
const ON_CONFIG_ERROR: &str = "FIRSTWORD_ON_CONFIG_ERROR";

/// Root context: reads the configuration, creates the contexts of connections, and ticks.
#[derive(Default)]
pub(crate) struct Root {
    /// `None` if no configuration was accepted.
    instance: Option<Rc<Instance>>,
}

impl Root {
    fn configure(&mut self, configuration: &[u8]) -> bool {
        let shared_mode = SharedMode::new();
        let state = || ProxyState {
            always_refuses: hostcalls::environment(ON_CONFIG_ERROR).is_some_and(|value| value == b"refuse"),
            has_accepted: shared_mode.published().is_some(),
            has_rejected: shared_mode.has_rejected(configuration),
        };
        let Some(filter) = Filter::configure(configuration, state, &Envoy::default()) else { return false };
        if filter.needs_tls() {
            let line = "event=config_refused word=tls reason=\"Envoy lets no WebAssembly module start TLS\" fix=\"use the \
                        native module of Firstword\"";
            hostcalls::log(Level::Error, line);
            return false;
        }
        let period = u32::try_from(filter.tick_period().as_millis()).unwrap_or(u32::MAX);
        if let Err(error) = hostcalls::set_tick_period(period) {
            // Without ticks no metric would ever be exported.
            hostcalls::log(
                Level::Error,
                &format!("event=refused {error} fix=\"report it, with the version of Envoy\""),
            );
            return false;
        }
        self.instance = Some(Rc::new(Instance::new(filter, shared_mode, configuration)));
        true
    }
}

impl Context for Root {
    fn on_done(&mut self) -> bool {
        if let Some(instance) = &self.instance {
            instance.end();
        }
        true
    }
}

impl RootContext for Root {
    fn on_configure(&mut self, size: usize) -> bool {
        match hostcalls::buffer(Buffer::PluginConfiguration, 0, size) {
            Ok(configuration) => self.configure(&configuration),
            // An absent configuration is the empty one.
            Err(_) if size == 0 => self.configure(&[]),
            Err(status) => {
                let line = format!("configuration refused: the host does not give it: {status}");
                hostcalls::log(Level::Error, &line);
                false
            }
        }
    }

    fn on_tick(&mut self) {
        if let Some(instance) = &self.instance {
            instance.tick();
        }
    }

    fn create_stream_context(&self, context_id: u32) -> Option<Box<dyn StreamContext>> {
        if let Some(instance) = &self.instance {
            instance.use_now();
        }
        Some(Box::new(Stream::new(context_id, self.instance.clone())))
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::StreamContext)
    }
}
