//! The difference as text and as JSON.

use std::fmt::Write as _;

use firstword::escape;
use serde_json::{Value, json};

use super::difference::Difference;
use super::update::{Chain, Change, Effect, Update};
use crate::paint::{BOLD, Paint, RED, YELLOW};
use crate::wrap::wrapped;

/// The version of the JSON format. It changes if a field changes its meaning or goes.
const FORMAT: u32 = 1;

/// Maximum number of chains that the text names for each listener.
const MAX_CHAINS: usize = 20;

/// The statistic with the number of open connections of a listener.
const OPEN: &str = "downstream_cx_active";

impl Difference {
    /// The number of open connections of a listener before the change, if the statistics have it.
    fn open(&self, update: &Update) -> Option<u64> {
        self.statistics.as_ref()?.of_listener(update.statistics.as_deref()?, OPEN)
    }
}

/// The statistic of a listener's open connections.
fn statistic(update: &Update) -> Option<String> {
    update.statistics.as_ref().map(|listener| format!("listener.{listener}.{OPEN}"))
}

/// The JSON object that docs/commands.md describes, in one line.
pub(super) fn json(of: &Difference) -> String {
    let listeners = of.updates.iter().filter(|update| update.effect != Effect::Skip).map(|update| {
        let because: Vec<String> = match &update.effect {
            Effect::Replace(because) => because.clone(),
            Effect::Refuse(why) => vec![(*why).to_owned()],
            _ => Vec::new(),
        };
        json!({
            "listener": update.listener,
            "change": change(&update.effect),
            "drains": drains(update),
            "because": because,
            "chains": update.chains.iter().map(chain).collect::<Vec<_>>(),
            "statistic": statistic(update),
            "open": of.open(update),
        })
    });
    let filters =
        of.filters.iter().map(|(filter, change)| json!({"filter": filter, "change": word(*change)}));
    let refused = of.after.refused.iter().map(|(listener, why)| json!({"listener": listener, "why": why}));
    let report = json!({
        "format": FORMAT,
        "before": of.before.input,
        "after": of.after.input,
        "listeners": listeners.collect::<Vec<_>>(),
        "filters": filters.collect::<Vec<_>>(),
        "refused": refused.collect::<Vec<_>>(),
        "not_compared": of.not_compared,
    });
    format!("{}\n", escape::json(&report.to_string()))
}

fn change(effect: &Effect) -> &'static str {
    match effect {
        Effect::Add => "added",
        Effect::Remove => "removed",
        Effect::Replace(_) => "replaced",
        Effect::InPlace => "in_place",
        Effect::Refuse(_) => "refused",
        Effect::Restart => "restart",
        Effect::Skip => "skipped",
    }
}

fn drains(update: &Update) -> &'static str {
    match (update.drains_all(), update.drains()) {
        (true, _) => "all",
        (false, true) => "chains",
        (false, false) => "nothing",
    }
}

fn chain(chain: &Chain) -> Value {
    json!({
        "chain": chain.name,
        "change": word(chain.change),
        "differences": chain.differences,
        "drained": chain.drained,
    })
}

fn word(change: Change) -> &'static str {
    match change {
        Change::Removed => "removed",
        Change::Changed => "changed",
        Change::Kept => "kept",
        Change::Added => "added",
    }
}

/// The report as text.
pub(super) fn text(of: &Difference, paint: Paint) -> String {
    let mut text = String::new();
    for update in of.updates.iter().filter(|update| update.effect != Effect::Skip) {
        listener(&mut text, of, update, paint);
    }
    for (filter, change) in &of.filters {
        let name = paint.with(BOLD, &format!("filter {}", escape::text(filter)));
        let what = match change {
            Change::Kept => continue,
            Change::Changed => {
                "a new configuration by name (ECDS) closes nothing. Open connections keep the old one."
            }
            Change::Added => "its configuration came by name (ECDS), which closes nothing.",
            Change::Removed => "its configuration by name (ECDS) has gone, which closes nothing.",
        };
        let _ = writeln!(text, "{name}: {what}");
    }
    for (name, why) in &of.after.refused {
        let name = paint.with(RED, &format!("listener {}", escape::text(name)));
        let _ = writeln!(
            text,
            "{name}: Envoy has refused the newest version and keeps the one before, so its change is not in this comparison:"
        );
        paragraph(&mut text, &escape::text(why));
    }
    if of.updates.iter().all(|update| !update.drains()) {
        text.push_str("This change closes no open connection.\n");
    } else {
        text.push_str("\nWhen: at the end of Envoy's drain time: 45 s in Istio (drainDuration), 600 s in Envoy alone (--drain-time-s).\n");
        text.push_str(&count_hint(of));
    }
    text.push_str("\nNot compared:\n");
    for sentence in &of.not_compared {
        paragraph(&mut text, &format!("- {}", escape::text(sentence)));
    }
    text
}

/// Adds an indented paragraph.
fn paragraph(text: &mut String, words: &str) {
    for line in wrapped(words) {
        let _ = writeln!(text, "  {line}");
    }
}

/// How to see the number of connections, for listeners of which it is not known.
fn count_hint(of: &Difference) -> String {
    let unknown = |update: &&Update| update.drains() && of.open(update).is_none();
    let mut unknown = of.updates.iter().filter(unknown).filter_map(statistic).peekable();
    let Some(first) = unknown.peek() else { return String::new() };
    let mut hint = String::new();
    let words = format!(
        "How many: a dump has no counts. Give Envoy's /stats before the change with --stats, or name the admin interface as BEFORE. The \
         statistic is {}. Istio does not export it by default: then count the sockets in the pod, with ss -tn.",
        escape::text(first)
    );
    for line in wrapped(&words) {
        let _ = writeln!(hint, "{line}");
    }
    hint
}

fn listener(text: &mut String, of: &Difference, update: &Update, paint: Paint) {
    let drained = update.chains.iter().filter(|chain| chain.drained).count();
    let old = update.chains.iter().filter(|chain| chain.change != Change::Added).count();
    let what = match &update.effect {
        Effect::Add => "is new, which closes nothing.".to_owned(),
        Effect::Remove => "is removed. Envoy closes all of its connections.".to_owned(),
        Effect::Replace(_) => "is replaced. Envoy closes all of its connections.".to_owned(),
        Effect::InPlace if drained == 0 => "is updated in place, which closes nothing.".to_owned(),
        Effect::InPlace => format!(
            "is updated in place. Envoy closes the connections of {drained} of {old} filter chains, and keeps the others."
        ),
        Effect::Refuse(why) => format!("Envoy refuses the change, because {why}. It closes nothing."),
        Effect::Restart => "is part of the bootstrap, which Envoy reads once. A restart of the proxy closes every connection.".to_owned(),
        Effect::Skip => return,
    };
    let colour = match (&update.effect, update.drains()) {
        (Effect::Refuse(_), _) => RED,
        (_, true) => YELLOW,
        (_, false) => BOLD,
    };
    let name = paint.with(colour, &format!("listener {}", escape::text(&update.listener)));
    let _ = writeln!(text, "{name}: {what}");
    if let Effect::Replace(because) = &update.effect {
        paragraph(text, &format!("because: {}", escape::text(&because.join(", "))));
    }
    let shown = update.chains.iter().filter(|chain| chain.change != Change::Kept);
    let shown: Vec<_> = if update.effect == Effect::InPlace { shown.collect() } else { Vec::new() };
    for chain in shown.iter().take(MAX_CHAINS) {
        let differences = if chain.differences.is_empty() {
            String::new()
        } else {
            format!(": {}", escape::text(&chain.differences.join(", ")))
        };
        paragraph(text, &format!("{} chain {}{differences}", word(chain.change), escape::text(&chain.name)));
    }
    if shown.len() > MAX_CHAINS {
        paragraph(text, &format!("and {} more (-o json lists all)", shown.len().saturating_sub(MAX_CHAINS)));
    }
    if let Some(open) = of.open(update).filter(|_| update.drains()) {
        let count = if update.drains_all() { open.to_string() } else { format!("at most {open}") };
        paragraph(text, &format!("open connections before the change: {count}"));
    }
}
