//! The filter through its ABI, natively: Envoy's callbacks, in Envoy's order, and every host call of the module. For each
//! callback of each test the driver asserts that traffic is forwarded and that host calls do not exceed their budget.

// Tests report errors by a panic.
#![allow(
    unreachable_pub,
    clippy::arithmetic_side_effects,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::panic_in_result_fn,
    clippy::unwrap_used
)]

mod access_log;
mod bad_configuration;
mod counters;
mod expected_counts;
mod faults;
mod first_bytes;
mod golden;
mod greeting_timeout;
mod hazards;
mod hold_split_eof;
mod host;
mod host_calls;
mod inspect;
mod labels;
mod lifecycle;
mod memory;
mod mode;
mod proxy_protocol;
mod rewrites;
mod scripts;
mod session;
mod slow_commands;

use firstword_testing::heap;
use host::Vm;

#[global_allocator]
static ALLOCATOR: heap::Counting = heap::Counting;

/// First labels in the names of the metrics of [`host::ORDERS`].
const OUTBOUND_ORDERS: &str = "direction=.=outbound;.;destination=.=orders;.;";

/// The metrics whose names begin with `front`, as `name{label=value} number`, sorted, including zeros, without the prefix
/// `firstword_` and without the buckets of histograms. An empty `front` returns the metrics of the VM.
fn under(vm: &Vm, front: &str) -> Vec<String> {
    let metrics = vm.metrics();
    let mut lines: Vec<_> = metrics
        .iter()
        .filter_map(|(name, value)| {
            let rest = name.strip_prefix(front)?;
            let (labels, name) = rest.rsplit_once(";.;").unwrap_or(("", rest));
            let labels = labels.replace("=.=", "=").replace(";.;", ",");
            let is_vm = labels.is_empty() || labels.starts_with("version=");
            let name = name.strip_prefix("firstword_").expect("a prefix");
            let wanted = (!front.is_empty() || is_vm) && !name.ends_with("_bucket");
            wanted.then(|| format!("{name}{{{labels}}} {value}").replace("{}", ""))
        })
        .collect();
    lines.sort();
    lines
}

/// The same without zeros.
fn counted(vm: &Vm, front: &str) -> Vec<String> {
    under(vm, front).into_iter().filter(|line| !line.ends_with(" 0")).collect()
}

/// Number of buckets of a histogram, and `le:count` of the first bucket and of each that counts more than the one below it.
fn buckets(vm: &Vm, front: &str, name: &str) -> (usize, String) {
    let ending = format!(";.;firstword_{name}_seconds_bucket");
    let metrics = vm.metrics();
    let bucket = |(name, count): (&String, &u64)| {
        let le = name.strip_prefix(front)?.strip_suffix(&ending)?.strip_prefix("le=.=")?;
        Some((le.parse::<f64>().expect("a number"), *count, format!("{le}:{count}")))
    };
    let mut buckets: Vec<_> = metrics.iter().filter_map(bucket).collect();
    buckets.sort_by(|(a, ..), (b, ..)| a.total_cmp(b));
    let all = buckets.len();
    buckets.dedup_by_key(|(_, count, _)| *count);
    let steps: Vec<_> = buckets.into_iter().map(|(_, _, step)| step).collect();
    (all, steps.join(" "))
}

/// Sum of a metric over all series with these labels (`key=.=value`).
fn sum(vm: &Vm, name: &str, labels: &[&str]) -> u64 {
    let ending = format!("firstword_{name}");
    let metrics = vm.metrics();
    let matching = metrics.iter().filter(|(metric, _)| {
        let (front, name) = metric.rsplit_once(";.;").unwrap_or(("", metric));
        name == ending && labels.iter().all(|label| front.split(";.;").any(|part| part == *label))
    });
    matching.map(|(_, value)| value).sum()
}

/// Asserts that every gauge except those of the VM is zero, as it must be when no connection is open.
fn assert_gauges_are_zero(vm: &Vm) {
    for (name, value) in vm.metrics() {
        let gauges = [
            "connections_active",
            "commands_in_flight",
            "commands_stalled",
            "prepared_statements_open",
            "transactions_open",
        ];
        if gauges.iter().any(|gauge| name.ends_with(gauge)) {
            assert_eq!(value, 0, "{name}");
        }
    }
}
