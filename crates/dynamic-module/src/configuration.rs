//! One filter configuration: the filters of all workers, and what the configurations of one name share.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use firstword::clock::Timestamp;
use firstword::filter::Filter;
use firstword::filter::host::Host;
use firstword::filter::mode::PublishedMode;
use firstword::filter::rejection::ProxyState;
use firstword::metrics::Sink;
use log::Level;

use crate::abi::{self, ConfigurationCounter};
use crate::host::Process;

/// Environment variable of Envoy: with the value `refuse` the filter refuses each bad configuration.
const ON_CONFIG_ERROR: &str = "FIRSTWORD_ON_CONFIG_ERROR";

/// Filter of one worker. The worker locks it in each callback, and the main thread on each tick.
pub(crate) type SharedFilter = Arc<Mutex<Filter>>;

/// What the configurations of one filter name share. It stays until Envoy ends.
#[derive(Debug, Default)]
struct Shared {
    /// Mode of the newest accepted configuration.
    newest: Option<PublishedMode>,
    /// Hashes of the rejected configurations.
    rejected: BTreeSet<u64>,
}

static NAMES: Mutex<BTreeMap<String, Arc<Mutex<Shared>>>> = Mutex::new(BTreeMap::new());
/// All configurations that are not ended yet.
static CONFIGURATIONS: Mutex<Vec<Arc<Configuration>>> = Mutex::new(Vec::new());

/// Locks, also after a panic: what it interrupted is a count, or belongs to a connection that is given up.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One filter configuration.
pub(crate) struct Configuration {
    shared: Arc<Mutex<Shared>>,
    /// Filter of the main thread. It has no connection.
    main: SharedFilter,
    workers: Mutex<BTreeMap<u32, SharedFilter>>,
    ticks: Mutex<Ticks>,
    /// What was published when a rejected configuration was last in use: at its start, or at the start of a connection.
    published_at_use: Mutex<Option<PublishedMode>>,
    has_ended: AtomicBool,
    /// Counts connections in a process without the bootstrap extension. `None` if the process has it.
    unexported: Option<ConfigurationCounter>,
}

struct Ticks {
    period: Duration,
    last: Timestamp,
}

impl Configuration {
    /// Reads a configuration. Returns `None` if it is refused.
    pub(crate) fn new(
        name: &[u8],
        text: &[u8],
        unexported: impl FnOnce() -> Option<ConfigurationCounter>,
    ) -> Option<Arc<Self>> {
        let name = String::from_utf8_lossy(name).into_owned();
        let shared = Arc::clone(lock(&NAMES).entry(name).or_default());
        let mut hasher = DefaultHasher::new();
        text.hash(&mut hasher);
        let hash = hasher.finish();
        let state = || {
            let shared = lock(&shared);
            ProxyState {
                always_refuses: std::env::var_os(ON_CONFIG_ERROR).is_some_and(|value| value == "refuse"),
                has_accepted: shared.newest.is_some(),
                has_rejected: shared.rejected.contains(&hash),
            }
        };
        let mut filter = Filter::configure(text, state, &Process)?;
        if filter.needs_direction() && !abi::is_1_40() {
            let line = "event=config_refused word=direction reason=\"Envoy 1.39 does not report the direction of a listener to \
                        native modules, so the filter cannot apply match.direction\" fix=\"use Envoy 1.40, or the wasm module\"";
            Process.log(Level::Error, line);
            return None;
        }
        if let Some(key) = filter.needs_tls().then(firstword_password_rsa::password_key).flatten() {
            filter.set_password_key(key);
        }
        filter.log_start(&Process);
        let now = Process.now();
        if filter.is_rejected() {
            lock(&shared).rejected.insert(hash);
        } else {
            lock(&shared).newest = Some(PublishedMode { since: now, mode: filter.mode() });
        }
        let ticks = Mutex::new(Ticks { period: filter.tick_period(), last: now });
        let this = Arc::new(Self {
            shared,
            main: Arc::new(Mutex::new(filter)),
            workers: Mutex::default(),
            ticks,
            published_at_use: Mutex::default(),
            has_ended: AtomicBool::new(false),
            unexported: unexported(),
        });
        this.use_now();
        if this.unexported.is_none() {
            lock(&CONFIGURATIONS).push(Arc::clone(&this));
        }
        Some(this)
    }

    /// Returns the filter of a worker.
    pub(crate) fn worker(&self, index: u32) -> SharedFilter {
        let mut workers = lock(&self.workers);
        let filter = workers.entry(index).or_insert_with(|| {
            let filter = lock(&self.main).for_worker();
            Arc::new(Mutex::new(filter))
        });
        Arc::clone(filter)
    }

    /// Counter of connections without metrics. `None` if metrics are exported.
    pub(crate) fn unexported(&self) -> Option<ConfigurationCounter> {
        self.unexported
    }

    /// Mode of the newest accepted configuration of the same name. `None` if there is none.
    pub(crate) fn newest(&self) -> Option<PublishedMode> {
        lock(&self.shared).newest
    }

    /// Notes that a rejected configuration is in use now. Envoy uses the newest configuration for each new connection.
    pub(crate) fn use_now(&self) {
        let newest = self.newest();
        *lock(&self.published_at_use) = newest;
    }

    /// Notes that no connection is left. The next tick exports the rest.
    pub(crate) fn end(&self) {
        self.has_ended.store(true, Ordering::Release);
    }

    fn filters(&self) -> Vec<SharedFilter> {
        let workers = lock(&self.workers);
        std::iter::once(&self.main).chain(workers.values()).map(Arc::clone).collect()
    }

    /// Ticks the filters if their period is over.
    fn tick(&self, now: Timestamp, sink: &mut impl Sink) {
        {
            let mut ticks = lock(&self.ticks);
            // The timer may come a little early.
            if now.since(ticks.last).saturating_add(EARLY) < ticks.period {
                return;
            }
            ticks.last = now;
        }
        let is_in_use = *lock(&self.published_at_use) == self.newest();
        lock(&self.main).count_as_rejected(is_in_use);
        for filter in self.filters() {
            let filter = lock(&filter);
            filter.begin_tick(&Process);
            filter.end_tick(None, sink);
        }
    }
}

/// Maximum time by which a tick may be early.
const EARLY: Duration = Duration::from_millis(5);

/// Ticks all configurations, and ends those without connections. Returns the time until the next tick, at most `max`.
pub(crate) fn tick(now: Timestamp, max: Duration, sink: &mut impl Sink) -> Duration {
    let mut all = lock(&CONFIGURATIONS);
    all.retain(|configuration| {
        let has_ended = configuration.has_ended.load(Ordering::Acquire);
        if has_ended {
            configuration.filters().iter().for_each(|filter| lock(filter).end(None, sink));
        } else {
            configuration.tick(now, sink);
        }
        !has_ended
    });
    all.iter().map(|configuration| lock(&configuration.ticks).period).fold(max, Duration::min)
}

/// Exports everything that is counted.
pub(crate) fn flush(sink: &mut impl Sink) {
    for configuration in lock(&CONFIGURATIONS).iter() {
        configuration.filters().iter().for_each(|filter| lock(filter).flush(sink));
    }
}
