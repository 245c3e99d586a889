//! The root context: one for each plugin configuration in each VM.

use std::rc::Rc;
use std::time::Duration;

use log::Level;
use proxy_wasm::traits::{Context, RootContext, StreamContext};
use proxy_wasm::types::ContextType;

use super::host::{self, Buffer};
use super::shared::Shared;
use super::stream::Stream;
use crate::config::Config;
use crate::version::{COMMIT, VERSION};

/// The longest time between two ticks: the resolution of everything that happens in time.
const LONGEST_TICK: Duration = Duration::from_millis(500);

/// Reads the configuration, makes the streams and ticks.
#[derive(Default)]
pub(super) struct Root {
    shared: Option<Rc<Shared>>,
    ticks_per_flush: u32,
    ticks: u32,
}

impl Root {
    fn configure(&mut self, configuration: &[u8]) -> bool {
        let config = match Config::parse(configuration) {
            Ok(config) => config,
            Err(problems) => {
                for problem in &problems {
                    host::log(Level::Error, &format!("configuration refused: {problem}"));
                }
                return false;
            }
        };
        let interval = config.metrics.flush_interval;
        let tick = interval.min(LONGEST_TICK);
        if let Err(status) = host::set_tick_period(u32::try_from(tick.as_millis()).unwrap_or(u32::MAX)) {
            // Without ticks nothing would ever be exported.
            host::log(Level::Error, &format!("event=refused call=set_tick_period status={status}"));
            return false;
        }
        let ticks = interval.as_nanos().div_ceil(tick.as_nanos().max(1));
        self.ticks_per_flush = u32::try_from(ticks).unwrap_or(u32::MAX);
        let shared = Shared::new(config);
        shared.journal.line(Level::Info, || format!("event=configured version={VERSION} commit={COMMIT}"));
        shared.announce();
        if let Some(keys) = &shared.access_log {
            keys.declare(&shared.journal);
        }
        self.shared = Some(Rc::new(shared));
        true
    }
}

impl Context for Root {
    fn on_done(&mut self) -> bool {
        if let Some(shared) = &self.shared {
            shared.end();
        }
        true
    }
}

impl RootContext for Root {
    fn on_configure(&mut self, size: usize) -> bool {
        match host::buffer(Buffer::PluginConfiguration, 0, size) {
            Ok(configuration) => self.configure(&configuration),
            // An absent configuration is the empty one.
            Err(_) if size == 0 => self.configure(&[]),
            Err(status) => {
                let line = format!("configuration refused: the host does not give it: {status}");
                host::log(Level::Error, &line);
                false
            }
        }
    }

    fn on_tick(&mut self) {
        let Some(shared) = &self.shared else { return };
        shared.tick();
        self.ticks = self.ticks.saturating_add(1);
        if self.ticks >= self.ticks_per_flush {
            self.ticks = 0;
            shared.flush();
        }
    }

    fn create_stream_context(&self, context_id: u32) -> Option<Box<dyn StreamContext>> {
        Some(Box::new(Stream::new(context_id, self.shared.clone())))
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::StreamContext)
    }
}
