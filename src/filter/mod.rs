//! One configuration on one worker, without a proxy: policy, metrics, log and access-log state of its connections.
//!
//! A shell translates the callbacks of a proxy into calls of this module, and implements [`host::Host`] with the functions
//! of that proxy. The shell does four things:
//!
//! 1. It reads a configuration with [`Filter::configure`], and then calls [`Filter::log_start`]. It remembers which
//!    configurations were accepted and rejected ([`rejection::ProxyState`]).
//! 2. For each connection it calls [`stream::Stream::open`], passes the bytes to the stream, and applies the verdicts.
//! 3. Every [`Filter::tick_period`] it calls [`Filter::begin_tick`], then [`stream::Stream::tick`] for each stream that is
//!    due, then [`Filter::end_tick`].
//! 4. At the end of a configuration it calls [`Filter::end`], and again after each connection that ends later.

mod access_log;
pub mod after_panic;
pub mod budget;
#[cfg(not(target_family = "wasm"))]
pub mod clear_stream;
mod destination;
pub mod host;
mod log;
pub mod mode;
mod policy;
mod recorder;
pub mod rejection;
pub mod stream;
pub mod uninspected;

use std::cell::{Cell, RefCell};
use std::time::Duration;

use ::log::Level;

use self::access_log::{StateKeys, StateWriter};
use self::destination::Labels;
use self::host::{Host, HostError};
use self::log::RateLimitedLog;
pub use self::log::catalogue::{LOG_EVENTS, LogEvent};
use self::log::once::ReportOnce;
use self::log::{affected_clients, host_calls, ports};
use self::rejection::ProxyState;
use crate::config::{Config, Mode};
use crate::event::runner::Runner;
use crate::event::{Event, HazardKind};
use crate::metrics::{Accumulator, MemoryChange, ScopeId, Sink};
use crate::mysql::peer::bug_106252::AffectedClient;
use crate::password_key::PasswordKeyRef;
use crate::version::{COMMIT, VERSION};

/// Maximum time between two ticks, which is the resolution of all time-outs.
pub const MAX_TICK: Duration = Duration::from_millis(500);

/// One configuration on one worker.
pub struct Filter {
    config: Config,
    log: RateLimitedLog,
    /// `None` if the configuration requires no access-log state.
    access_log: Option<StateKeys>,
    /// `None` if no rule starts TLS, or if the shell has no key.
    password_key: Option<PasswordKeyRef>,
    metrics: RefCell<Accumulator>,
    ticks_per_flush: u32,
    /// Number of ticks since the last flush.
    ticks: Cell<u32>,
    /// Memory of the state of this configuration's connections, in bytes.
    connection_state: Cell<usize>,
    /// The part of it that the gauge already has.
    reported_state: Cell<i64>,
    has_ended: Cell<bool>,
    /// True if the filter runs with the defaults, because the configuration has problems.
    is_rejected: bool,
    /// True if the gauge of rejected configurations counts this one.
    is_counted_as_rejected: Cell<bool>,
    /// True if the next tick exports all counts, also if the flush interval is not over.
    flushes_on_tick: Cell<bool>,
    reported_ports: ReportOnce<u16>,
    reported_clients: ReportOnce<AffectedClient>,
    reported_hazards: ReportOnce<(ScopeId, HazardKind)>,
    reported_tls: ReportOnce<()>,
    /// Runner of all callbacks. It is reused, so that callbacks do not allocate. `None` during a callback.
    runner: Cell<Option<Box<Runner>>>,
}

impl Filter {
    /// Reads a configuration. If it has problems, logs each of them, and either runs with the defaults or refuses, depending
    /// on the state of the proxy ([`rejection`]). Returns `None` if it refuses.
    pub fn configure(
        configuration: &[u8],
        proxy: impl FnOnce() -> ProxyState,
        host: &dyn Host,
    ) -> Option<Self> {
        match Config::parse(configuration) {
            Ok(config) => Some(Self::new(config)),
            Err(problems) => {
                let runs = rejection::runs_with_defaults(configuration, &problems, proxy(), host);
                runs.then(Self::rejected)
            }
        }
    }

    /// Returns a filter with the defaults, in place of a configuration that has problems.
    fn rejected() -> Self {
        let filter = Self { is_rejected: true, ..Self::new(Config::default()) };
        filter.count_as_rejected(true);
        filter
    }

    fn new(config: Config) -> Self {
        let metrics = &config.metrics;
        let accumulator = Accumulator::new(metrics.profile, metrics.labels.clone(), metrics.max_series);
        let interval = metrics.flush_interval;
        let ticks = interval.as_nanos().div_ceil(interval.min(MAX_TICK).as_nanos().max(1));
        Self {
            log: RateLimitedLog::new(&config.log),
            password_key: None,
            access_log: StateKeys::new(&config.access_log),
            metrics: RefCell::new(accumulator),
            ticks_per_flush: u32::try_from(ticks).unwrap_or(u32::MAX),
            ticks: Cell::new(0),
            connection_state: Cell::new(0),
            reported_state: Cell::new(0),
            has_ended: Cell::new(false),
            is_rejected: false,
            is_counted_as_rejected: Cell::new(false),
            flushes_on_tick: Cell::new(false),
            reported_ports: ReportOnce::new(ports::MAX_PORTS),
            reported_clients: ReportOnce::new(affected_clients::MAX_CLIENTS),
            reported_hazards: ReportOnce::new(usize::MAX),
            reported_tls: ReportOnce::new(1),
            runner: Cell::default(),
            config,
        }
    }

    /// Returns another filter with the same configuration, for another worker. Only this one counts as rejected.
    #[must_use]
    pub fn for_worker(&self) -> Self {
        Self { password_key: self.password_key, ..Self::new(self.config.clone()) }
    }

    /// Sets the key by which clients without TLS encrypt their passwords.
    pub fn set_password_key(&mut self, key: PasswordKeyRef) {
        self.password_key = Some(key);
    }

    /// Time between two ticks.
    #[must_use]
    pub fn tick_period(&self) -> Duration {
        self.config.metrics.flush_interval.min(MAX_TICK)
    }

    /// Mode of the configuration: what the filter may do.
    #[must_use]
    pub fn mode(&self) -> Mode {
        self.config.mode
    }

    /// True if a rule cannot be applied without the direction of the listener. A shell whose proxy does not report it must
    /// refuse the configuration.
    #[must_use]
    pub fn needs_direction(&self) -> bool {
        self.config.rules().iter().any(|rule| rule.direction().is_some())
    }

    /// True if a rule starts or ends TLS. A shell that cannot must refuse the configuration.
    #[must_use]
    pub fn needs_tls(&self) -> bool {
        self.config.rules().iter().any(|rule| rule.policy().originate_tls || rule.policy().terminate_tls)
    }

    /// True if the filter runs with the defaults, because the configuration has problems.
    #[must_use]
    pub fn is_rejected(&self) -> bool {
        self.is_rejected
    }

    /// Sets whether the gauge of rejected configurations counts this one. The next tick exports the change. Use false if a
    /// newer configuration was accepted, because the proxy keeps this one as long as it has connections.
    pub fn count_as_rejected(&self, counts: bool) {
        let counts = counts && self.is_rejected && !self.has_ended();
        if self.is_counted_as_rejected.replace(counts) != counts {
            self.with_metrics(|metrics| metrics.config_rejected(if counts { 1 } else { -1 }));
            self.flushes_on_tick.set(true);
        }
    }

    /// Logs that the configuration is effective.
    pub fn log_start(&self, host: &dyn Host) {
        self.log.line(host, Level::Info, || format!("event=configured version={VERSION} commit={COMMIT}"));
    }

    /// Calls `declare` with each key of filter state, for hosts that must know in advance that its value is text.
    pub fn declare_filter_state(&self, host: &dyn Host, declare: impl Fn(&str) -> Result<(), HostError>) {
        if let Some(keys) = &self.access_log {
            keys.declare(&self.log, host, declare);
        }
    }

    /// Logs a call that the host refused.
    pub fn check(&self, result: Result<(), HostError>, host: &dyn Host) {
        if let Err(error) = result {
            host_calls::refused(&self.log, host, Level::Warn, None, &error);
        }
    }

    /// Begins a tick.
    pub fn begin_tick(&self, host: &dyn Host) {
        self.log.tick(host);
    }

    /// Ends a tick: counts it, and exports all counts if the flush interval is over. `memory`: change of the worker's linear
    /// memory in bytes; `None` for a host without a VM.
    pub fn end_tick(&self, memory: Option<i64>, sink: &mut impl Sink) {
        let change = MemoryChange {
            linear: memory.unwrap_or_default(),
            connection_state: if self.has_ended() { 0 } else { self.change_of_state() },
        };
        self.with_metrics(|metrics| metrics.tick(change));
        let ticks = self.ticks.get().saturating_add(1);
        let is_due = self.flushes_on_tick.replace(false) || ticks >= self.ticks_per_flush;
        self.ticks.set(if is_due { 0 } else { ticks });
        if is_due {
            self.flush(sink);
        }
    }

    /// Exports all counts that are not exported yet.
    pub fn flush(&self, sink: &mut impl Sink) {
        self.with_metrics(|metrics| metrics.flush(sink));
    }

    /// Ends the configuration: subtracts its share from the gauges of the worker, and exports everything. Connections can
    /// outlive the configuration. Call this again when one of them has ended. `memory`: the last change of the worker's
    /// linear memory, as in [`Filter::end_tick`].
    pub fn end(&self, memory: Option<i64>, sink: &mut impl Sink) {
        let reported = self.reported_state.replace(0);
        self.has_ended.set(true);
        self.count_as_rejected(false);
        let change =
            MemoryChange { linear: memory.unwrap_or_default(), connection_state: reported.saturating_neg() };
        self.with_metrics(|metrics| metrics.end(change, sink));
    }

    /// True if [`Filter::end`] was called.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.has_ended.get()
    }

    /// Returns the change of the connections' state since the last call, in bytes.
    fn change_of_state(&self) -> i64 {
        let now = i64::try_from(self.connection_state.get()).unwrap_or(i64::MAX);
        now.saturating_sub(self.reported_state.replace(now))
    }

    /// Counts that the state of a connection takes `after` bytes instead of `before`.
    fn count_state(&self, before: usize, after: usize) {
        self.connection_state.set(self.connection_state.get().saturating_sub(before).saturating_add(after));
    }

    /// Maximum number of bytes for the state of all connections of this worker.
    fn budget(&self) -> usize {
        self.config.limits.connection_state
    }

    /// Takes the runner for one callback. Return it with [`Filter::return_runner`].
    fn take_runner(&self) -> Box<Runner> {
        self.runner.take().unwrap_or_default()
    }

    fn return_runner(&self, runner: Box<Runner>) {
        self.runner.set(Some(runner));
    }

    /// Returns the scope of the metrics of connections with these labels.
    fn scope(&self, labels: &Labels, destination: &str) -> ScopeId {
        self.with_metrics(|metrics| metrics.scope(|label| labels.value(label, destination)))
            .unwrap_or_default()
    }

    /// Counts events in the metrics, without the hazards that they show.
    fn count(&self, scope: ScopeId, events: &[Event]) {
        self.with_metrics(|metrics| {
            for event in events {
                metrics.record(scope, event);
            }
        });
    }

    /// Counts a hazard in the metrics.
    fn count_hazard(&self, scope: ScopeId, kind: HazardKind) {
        self.with_metrics(|metrics| metrics.hazard(scope, kind));
    }

    /// `None` if the configuration requires no access-log state.
    fn access_log<'a>(&'a self, host: &'a dyn Host) -> Option<StateWriter<'a>> {
        self.access_log.as_ref().map(|keys| StateWriter { keys, log: &self.log, host })
    }

    /// Calls `act` with the metrics. The borrow cannot fail, because no callback calls the filter while another callback
    /// does. If it failed, only a count would be lost, whereas a panic would reset every connection of the worker.
    fn with_metrics<T>(&self, act: impl FnOnce(&mut Accumulator) -> T) -> Option<T> {
        self.metrics.try_borrow_mut().ok().map(|mut metrics| act(&mut metrics))
    }
}
