//! Counts events in the VM's memory. [`Accumulator::flush`] exports the counts to the host on the tick and at the end, never
//! on the data path.

use std::time::Duration;

use super::catalogue::{Kind, LabelCode, Labels, Metric, NO_LABELS, client_series, label, labels};
use super::encoding::{push_label, push_name, scope};
use super::histogram::bounds;
use super::series::{Cell, Histogram, from_response, histogram_series, signed};
use super::table::Table;
use super::templates::HISTOGRAM;
use super::{Profile, ScopeLabel, budget};
use crate::event::{Event, HazardKind, PanicResult, Protocol, Response, Tally};
use crate::mysql::sql::verb::Verb;
use crate::mysql::wire::command::Command;
use crate::mysql::wire::errno;

/// The host's metrics.
pub trait Sink {
    /// Defines a metric and returns its number; `None` if the host refuses it.
    fn define(&mut self, kind: Kind, name: &str) -> Option<u32>;

    /// Adds to a metric. The `delta` of a counter is positive. False if the host refuses; then nothing was added.
    fn add(&mut self, id: u32, delta: i64) -> bool;

    /// Sets a gauge that all VMs set to the same value. False if the host refuses.
    fn set(&mut self, id: u32, value: u64) -> bool;
}

/// Growth of memory in bytes; negative if it shrank.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryChange {
    /// The VM's linear memory.
    pub linear: i64,
    /// The state of its connections.
    pub connection_state: i64,
}

/// The values of `metrics.labels` that the metrics of a connection carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ScopeId(u16);

/// The scope of the VM's own metrics, which carry no `metrics.labels`.
const VM: ScopeId = ScopeId(0);
/// The scope in which all of `metrics.labels` are `other`.
const OVERFLOW: ScopeId = ScopeId(1);

#[derive(Clone, Copy, Debug)]
struct Key {
    scope: ScopeId,
    metric: Metric,
    labels: Labels,
}

impl Key {
    /// The whole key in one number with the same order, because every count looks up a key.
    fn rank(self) -> u64 {
        let [first, second] = self.labels;
        u64::from(self.scope.0) << 48
            | (self.metric as u64) << 32
            | u64::from(first.0) << 16
            | u64::from(second.0)
    }
}

/// The values of `metrics.labels` that a group of series has in common.
#[derive(Debug)]
struct Scope {
    /// The start of the names of these series.
    text: String,
    has_presets: bool,
}

impl Scope {
    fn new(text: String) -> Self {
        Self { text, has_presets: false }
    }
}

/// The deltas of all series of one plugin configuration in one VM.
#[derive(Debug)]
pub struct Accumulator {
    profile: Profile,
    scope_labels: Vec<ScopeLabel>,
    max_series: usize,
    scopes: Vec<Scope>,
    /// By [`Key::rank`], like the histograms.
    cells: Table<(Key, Cell)>,
    histograms: Table<(Key, Histogram)>,
    /// Number of series that the host has defined.
    defined: u64,
    /// Number of them that the gauge of series includes.
    announced: u64,
    build_info_is_set: bool,
}

impl Default for ScopeId {
    fn default() -> Self {
        OVERFLOW
    }
}

impl Accumulator {
    /// An accumulator for at most `max_series` series. Further label sets count as `other`.
    #[must_use]
    pub fn new(profile: Profile, scope_labels: Vec<ScopeLabel>, max_series: u32) -> Self {
        let overflow = scope(scope_labels.iter().map(|label| (*label, "other")));
        let mut this = Self {
            profile,
            scope_labels,
            max_series: max_series as usize,
            scopes: vec![Scope::new(String::new()), Scope::new(overflow)],
            cells: Table::default(),
            histograms: Table::default(),
            defined: 0,
            announced: 0,
            build_info_is_set: false,
        };
        this.preset(VM);
        this
    }

    /// The scope for these values of the labels; `values` returns the text of each. Series of a new scope with values that are
    /// known in advance start at zero.
    pub fn scope<'a>(&mut self, values: impl Fn(ScopeLabel) -> &'a str) -> ScopeId {
        let text = scope(self.scope_labels.iter().map(|label| (*label, values(*label))));
        // A search, because there are few destinations. It skips the VM's scope, which is the first. The scope of the overflow
        // also serves connections without labels, and those whose labels are all `other`.
        let known = self.scopes.iter().skip(1).position(|scope| scope.text == text);
        let index = known.map_or(self.scopes.len(), |index| index.saturating_add(1));
        let id = match u16::try_from(index) {
            Ok(index) if known.is_some() || usize::from(index) < self.max_series => ScopeId(index),
            _ => {
                self.count(VM, Metric::SeriesOverflow, NO_LABELS);
                return OVERFLOW;
            }
        };
        if known.is_none() {
            self.scopes.push(Scope::new(text));
        }
        self.preset(id);
        id
    }

    fn preset(&mut self, scope: ScopeId) {
        match self.scopes.get_mut(usize::from(scope.0)) {
            Some(scope) if !scope.has_presets => scope.has_presets = true,
            _ => return,
        }
        for metric in Metric::ALL {
            let definition = metric.definition();
            let elsewhere = definition.scoped != (scope != VM) || definition.profile > self.profile;
            if definition.kind == Kind::Histogram || elsewhere {
                continue;
            }
            let count = match definition.labels {
                [] => Some(1),
                [label] => label.preset(),
                _ => None,
            };
            for code in 0..count.unwrap_or(0) {
                if scope == VM || self.has_room(1) {
                    self.cell(Key { scope, metric: *metric, labels: label(code) });
                }
            }
        }
    }

    /// Counts a hazard of a connection of `scope`.
    pub fn hazard(&mut self, scope: ScopeId, kind: HazardKind) {
        self.count(scope, Metric::Hazards, label(kind as u16));
    }

    /// Counts an event of a connection of `scope`, without the hazard that it may show.
    pub fn record(&mut self, scope: ScopeId, event: &Event) {
        match *event {
            Event::Waiting(expected) => self.active(scope, expected.into(), 1),
            Event::Recognised { protocol, waited_as } => {
                if let Some(before) = waited_as {
                    self.active(scope, before.into(), -1);
                }
                self.active(scope, protocol, 1);
                self.count(scope, Metric::ConnectionsTotal, label(protocol as u16));
            }
            Event::Closed { protocol, phase, by } => {
                self.active(scope, protocol, -1);
                self.count(scope, Metric::ConnectionsClosed, labels(phase as u16, by as u16));
            }
            Event::ServerFirst(spoken) => self.count(scope, Metric::ServerFirst, label(spoken as u16)),
            Event::GreetingTimeout => self.count(scope, Metric::GreetingTimeouts, NO_LABELS),
            Event::ProxyHeader { format, result } => {
                let format = format.map_or(LabelCode::NONE.0, |format| format as u16);
                self.count(scope, Metric::ProxyProtocolReceived, labels(format, result as u16));
            }
            Event::ProxyHeaderSent(format) => {
                self.count(scope, Metric::ProxyProtocolSent, label(format as u16));
            }
            Event::ClientFirst(seen) => self.count(scope, Metric::ClientFirst, label(seen as u16)),
            Event::Greeting { flavor, release, after } => {
                self.count(scope, Metric::Greetings, labels(flavor as u16, release.code()));
                self.observe(scope, Metric::GreetingDuration, NO_LABELS, after);
            }
            Event::PreHandshakeError { errno } => self.error(scope, Metric::PreHandshakeErrors, errno),
            Event::Client { connector, series } => {
                self.count(scope, Metric::Clients, [LabelCode(connector as u16), client_series(series)]);
            }
            Event::Handshake { result, duration } => {
                self.count(scope, Metric::Handshakes, label(result as u16));
                if let Some(duration) = duration {
                    self.observe(scope, Metric::HandshakeDuration, NO_LABELS, duration);
                }
            }
            Event::HandshakeError { errno, plugin } => {
                self.count(scope, Metric::HandshakeErrors, labels(errno::code(errno), plugin as u16));
            }
            Event::AuthSwitch(plugin) => self.count(scope, Metric::AuthSwitches, label(plugin as u16)),
            Event::PlaintextFullAuth => self.count(scope, Metric::PlaintextFullAuth, NO_LABELS),
            Event::Bytes { sender, count } => {
                self.add(scope, Metric::Bytes, label(sender as u16), signed(count));
            }
            Event::Packets { sender, count } => {
                self.add(scope, Metric::Packets, label(sender as u16), signed(count));
            }
            Event::CompressedBytes { sender, count } => {
                self.add(scope, Metric::CompressedBytes, label(sender as u16), signed(count));
            }
            Event::CommandSent(command) => self.count(scope, Metric::Commands, label(code(command))),
            Event::CommandStarted(command) => {
                self.count(scope, Metric::Commands, label(code(command)));
                self.add(scope, Metric::CommandsInFlight, NO_LABELS, 1);
            }
            Event::CommandEnded { command, verb, response } => {
                self.add(scope, Metric::CommandsInFlight, NO_LABELS, -1);
                if let Some(response) = response {
                    self.response(scope, command, verb, &response);
                }
            }
            Event::CommandsAbandoned { count, .. } => {
                let count = i64::try_from(count).unwrap_or(i64::MAX);
                self.add(scope, Metric::CommandsInFlight, NO_LABELS, count.saturating_neg());
            }
            Event::ResponseContinued(tally) => self.tally(scope, &tally),
            Event::Stalled { change } => self.add(scope, Metric::CommandsStalled, NO_LABELS, change),
            Event::PreparedStatements { change } => {
                self.add(scope, Metric::PreparedStatements, NO_LABELS, change);
            }
            Event::Transaction { open } => {
                self.add(scope, Metric::Transactions, NO_LABELS, if open { 1 } else { -1 });
            }
            Event::Tls { side, result } => {
                self.count(scope, Metric::TlsSessions, labels(side as u16, result as u16));
            }
            Event::LocalInfile => self.count(scope, Metric::LocalInfile, NO_LABELS),
            Event::ProtectionLost(reason) => self.count(scope, Metric::ProtectionLost, label(reason as u16)),
            Event::LocalInfileBlocked => self.count(scope, Metric::LocalInfileBlocked, NO_LABELS),
            Event::EofHazardClient(_) => self.count(scope, Metric::EofHazardClients, NO_LABELS),
            Event::PrepareEofSplit { .. } => self.count(scope, Metric::PrepareEofSplits, NO_LABELS),
            Event::PrepareEofHeld => self.count(scope, Metric::PrepareEofHeld, NO_LABELS),
            Event::PrepareEofLost => self.count(scope, Metric::PrepareEofLost, NO_LABELS),
            Event::ServerNotice { errno } => self.error(scope, Metric::ServerNotices, errno),
            Event::IdleClosed { .. } | Event::Hazard(_) | Event::TlsCleared => {}
            Event::Opaque(reason) => self.count(scope, Metric::Opaque, label(reason as u16)),
        }
    }

    /// Counts a tick, and the change of the VM's memory since the last tick.
    pub fn tick(&mut self, change: MemoryChange) {
        self.count(VM, Metric::Heartbeat, NO_LABELS);
        self.memory(change);
    }

    /// Counts that a plugin begins (1) or ceases (-1) to run with the defaults, because its configuration has problems.
    pub fn config_rejected(&mut self, change: i64) {
        self.add(VM, Metric::ConfigRejected, NO_LABELS, change);
    }

    /// Counts a panic in a callback about a connection.
    pub fn panic(&mut self, result: PanicResult) {
        self.count(VM, Metric::Panics, label(result as u16));
    }

    fn memory(&mut self, change: MemoryChange) {
        self.add(VM, Metric::VmMemory, NO_LABELS, change.linear);
        self.add(VM, Metric::ConnectionState, NO_LABELS, change.connection_state);
    }

    /// Exports all changes since the last flush to `sink`. Keeps the changes that it refuses for the next flush.
    pub fn flush(&mut self, sink: &mut impl Sink) {
        let profile = self.profile;
        self.histograms.for_each(|(_, histogram)| histogram.apply_pending(profile));
        if !self.build_info_is_set {
            let key = Key { scope: VM, metric: Metric::BuildInfo, labels: NO_LABELS };
            let name = self.name(key, None, "");
            self.build_info_is_set = sink.define(Kind::Gauge, &name).is_some_and(|id| sink.set(id, 1));
            self.defined = self.defined.saturating_add(u64::from(self.build_info_is_set));
        }
        self.write(sink);
        // The gauge of series is one of them.
        let new = self.defined.saturating_sub(self.announced);
        self.add(VM, Metric::Series, NO_LABELS, signed(new));
        self.announced = self.defined;
        self.write(sink);
    }

    /// Final flush: subtracts this VM's share from the gauges of the VM, then exports everything. Connections that are still
    /// open may cause a further flush and a further end.
    pub fn end(&mut self, change: MemoryChange, sink: &mut impl Sink) {
        self.flush(sink);
        self.memory(change);
        self.add(VM, Metric::Series, NO_LABELS, signed(self.announced).saturating_neg());
        self.announced = 0;
        self.write(sink);
    }

    fn write(&mut self, sink: &mut impl Sink) {
        let mut cells = std::mem::take(&mut self.cells);
        cells.for_each(|(key, cell)| {
            let kind = key.metric.definition().kind;
            self.export(cell, kind, sink, |this| this.name(*key, None, ""));
        });
        self.cells = cells;
        let mut histograms = std::mem::take(&mut self.histograms);
        histograms.for_each(|(key, histogram)| {
            let [(bucket, _), (count, _), (sum, _)] = HISTOGRAM;
            let buckets = bounds(self.profile).map(|(le, _)| (Some(le), bucket));
            let parts = buckets.chain([(None, count), (None, sum)]);
            for (cell, (le, ending)) in histogram.cells.iter_mut().zip(parts) {
                self.export(cell, Kind::Counter, sink, |this| this.name(*key, le, ending));
            }
        });
        self.histograms = histograms;
    }

    fn export(&mut self, cell: &mut Cell, kind: Kind, sink: &mut impl Sink, name: impl Fn(&Self) -> String) {
        if cell.id.is_none() {
            cell.id = sink.define(kind, &name(self));
            self.defined = self.defined.saturating_add(u64::from(cell.id.is_some()));
        }
        if let Some(id) = cell.id {
            cell.export(id, kind, sink);
        }
    }

    fn name(&self, key: Key, le: Option<&str>, ending: &str) -> String {
        let definition = key.metric.definition();
        let scope = self.scopes.get(usize::from(key.scope.0));
        let mut text = scope.map(|scope| scope.text.clone()).unwrap_or_default();
        for (label, code) in definition.labels(self.profile).zip(key.labels) {
            push_label(&mut text, label.key(), &label.value(code));
        }
        if let Some(le) = le {
            push_label(&mut text, "le", le);
        }
        push_name(&mut text, definition.name, ending);
        text
    }

    fn active(&mut self, scope: ScopeId, protocol: Protocol, change: i64) {
        self.add(scope, Metric::ConnectionsActive, label(protocol as u16), change);
    }

    fn response(&mut self, scope: ScopeId, command: Command, verb: Option<Verb>, response: &Response) {
        let of_command = label(code(command));
        let with_verb = labels(code(command), verb.map_or(LabelCode::NONE.0, |verb| verb as u16));
        let timed = if self.profile == Profile::Full { with_verb } else { of_command };
        self.observe(scope, Metric::CommandDuration, timed, response.duration);
        self.observe(scope, Metric::CommandFirstByte, of_command, response.first_byte);
        if let Some(verb) = verb.filter(|_| command != Command::STMT_PREPARE) {
            self.count(scope, Metric::Statements, label(verb as u16));
        }
        self.tally(scope, &response.tally);
    }

    fn tally(&mut self, scope: ScopeId, tally: &Tally) {
        let counts = [
            (Metric::Rows, tally.rows),
            (Metric::AffectedRows, tally.affected_rows),
            (Metric::Warnings, tally.warnings.into()),
            (Metric::NoIndexUsed, tally.no_index_used.into()),
            (Metric::SlowFlag, tally.slow.into()),
            (Metric::ResultSets, tally.result_sets.into()),
        ];
        // These series exist from the start, so that a zero needs no count.
        for (metric, count) in counts.into_iter().filter(|(_, count)| *count > 0) {
            self.add(scope, metric, NO_LABELS, from_response(count));
        }
        if let Some(errno) = tally.errno {
            self.error(scope, Metric::Errors, errno);
        }
    }

    fn error(&mut self, scope: ScopeId, metric: Metric, number: u16) {
        self.count(scope, metric, label(errno::code(number)));
    }

    fn count(&mut self, scope: ScopeId, metric: Metric, labels: Labels) {
        self.add(scope, metric, labels, 1);
    }

    fn add(&mut self, scope: ScopeId, metric: Metric, labels: Labels, change: i64) {
        let key = Key { scope, metric, labels };
        match self.cells.recent(key.rank()) {
            Some((_, cell)) => cell.delta = cell.delta.saturating_add(change),
            None => self.add_to_other(key, change),
        }
    }

    /// Adds to a series that was not found among the recent ones, unless the profile leaves out its metric.
    fn add_to_other(&mut self, key: Key, change: i64) {
        if key.metric.definition().profile > self.profile {
            return;
        }
        let cell = match self.cells.get_mut(key.rank()) {
            Some((_, cell)) => Some(cell),
            None => {
                let key = self.admitted(key, 1);
                self.cell(key)
            }
        };
        if let Some(cell) = cell {
            cell.delta = cell.delta.saturating_add(change);
        }
    }

    fn cell(&mut self, key: Key) -> Option<&mut Cell> {
        self.cells.get_or_insert_with(key.rank(), || (key, Cell::default())).map(|(_, cell)| cell)
    }

    fn observe(&mut self, scope: ScopeId, metric: Metric, labels: Labels, duration: Duration) {
        let key = Key { scope, metric, labels };
        match self.histograms.recent(key.rank()) {
            Some((_, histogram)) => histogram.pending.observe(duration),
            None => self.observe_in_other(key, duration),
        }
    }

    /// Adds to a histogram that was not found among the recent ones, unless the profile leaves out its metric.
    fn observe_in_other(&mut self, key: Key, duration: Duration) {
        if key.metric.definition().profile > self.profile {
            return;
        }
        if let Some((_, histogram)) = self.histograms.get_mut(key.rank()) {
            return histogram.pending.observe(duration);
        }
        let series = histogram_series(self.profile);
        let key = self.admitted(key, series);
        let new = || (key, Histogram::new(series));
        if let Some((_, histogram)) = self.histograms.get_or_insert_with(key.rank(), new) {
            histogram.pending.observe(duration);
        }
    }

    /// The key under which a label set without series is counted. It never changes, because series are never removed.
    fn admitted(&mut self, mut key: Key, series: usize) -> Key {
        if key.scope == VM {
            return key;
        }
        let others = key.metric.definition().others(self.profile);
        let limit = budget::size(key.metric, self.profile);
        if limit.is_some_and(|limit| key.labels != others && !self.is_within_budget(key, limit, others)) {
            key.labels = others;
        }
        if self.cells.contains(key.rank()) || self.histograms.contains(key.rank()) {
            return key;
        }
        // In `full` any label set can use up the series. A third is kept for the label sets that `standard` always has.
        let is_standard = key.labels == others
            || key.metric.definition().profile <= Profile::Standard
                && budget::is_reserved(key.metric, key.labels, Profile::Standard);
        let kept = if self.profile == Profile::Full && !is_standard { self.max_series / 3 } else { 0 };
        if self.has_room(series.saturating_add(kept)) {
            return key;
        }
        self.count(VM, Metric::SeriesOverflow, NO_LABELS);
        Key { scope: OVERFLOW, labels: others, ..key }
    }

    /// Whether a label set is reserved, or is one of the first others.
    fn is_within_budget(&self, key: Key, limit: usize, others: Labels) -> bool {
        let is_reserved = |labels: Labels| budget::is_reserved(key.metric, labels, self.profile);
        if is_reserved(key.labels) {
            return true;
        }
        let all = Key { labels: NO_LABELS, ..key }.rank()
            ..=Key { labels: labels(u16::MAX, u16::MAX), ..key }.rank();
        let cells = self.cells.range(all.clone()).map(|(key, _)| key.labels);
        let histograms = self.histograms.range(all).map(|(key, _)| key.labels);
        let early = cells.chain(histograms).filter(|labels| *labels != others && !is_reserved(*labels));
        early.count() < limit.saturating_sub(budget::reserved(key.metric, self.profile).len())
    }

    fn has_room(&self, more: usize) -> bool {
        let histograms = self.histograms.iter().map(|(_, histogram)| histogram.cells.len());
        // The series `build_info` has no cell.
        let series = histograms.fold(self.cells.len().saturating_add(1), usize::saturating_add);
        series.saturating_add(more) <= self.max_series
    }
}

/// The code of a command's label.
fn code(command: Command) -> u16 {
    if command.is_known() { u16::from(command.0) } else { LabelCode::OTHER.0 }
}

#[cfg(test)]
mod tests;
