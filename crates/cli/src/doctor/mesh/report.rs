//! The destinations of a mesh as text and as JSON.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use firstword::escape;
use serde_json::json;

use super::super::destination;
use super::rows::{Key, Row, State};
use super::scan::Mesh;
use crate::paint::{Paint, RED, YELLOW};
use crate::wrap::wrapped;

/// The version of the JSON format. It changes if a field changes its meaning or goes.
const FORMAT: u32 = 1;

impl Key {
    fn text(&self) -> String {
        let address = destination::text(self.ip, self.port);
        match &self.host {
            Some(host) => format!("{host}, {address}"),
            None => address,
        }
    }
}

/// The JSON object that docs/commands.md describes, in one line.
pub(super) fn json(mesh: &Mesh) -> String {
    let destinations = mesh.rows.all.iter().map(|(key, row)| {
        let count = |state| row.pods.get(&state).map_or(0, |pods| pods.count);
        let host = key.host.as_ref();
        let address = destination::text(key.ip, key.port);
        json!({
            "destination": address,
            "host": host,
            "cluster": row.cluster,
            "verdict": word(row.state()),
            "pods": {
                "waits": count(State::Waits),
                "would_wait": count(State::WouldWait),
                "unknown": count(State::Unknown),
                "safe": count(State::Safe),
            },
            "examples": row.pods.get(&row.state()).map(|pods| &pods.examples),
        })
    });
    let report = json!({
        "format": FORMAT,
        "folder": mesh.folder,
        "proxies": {"sidecars": mesh.rows.sidecars, "waypoints": mesh.rows.waypoints, "others": mesh.rows.others},
        "destinations": destinations.collect::<Vec<_>>(),
        "ports": ports(mesh),
        "left_out": mesh.rows.left_out.len(),
        "problems": mesh.problems,
    });
    format!("{}\n", escape::json(&report.to_string()))
}

fn word(state: State) -> &'static str {
    match state {
        State::Waits => "waits",
        State::WouldWait => "would_wait",
        State::Unknown => "unknown",
        State::Safe => "safe",
    }
}

/// The port numbers that no HTTP Service may have.
fn ports(mesh: &Mesh) -> BTreeSet<u16> {
    let at_risk = |row: &Row| [State::Waits, State::WouldWait].contains(&row.state());
    mesh.rows.all.iter().filter(|(_, row)| at_risk(row)).map(|(key, _)| key.port).collect()
}

/// The report as text: a row for each destination, then what to do.
pub(super) fn text(mesh: &Mesh, paint: Paint) -> String {
    let rows = &mesh.rows;
    let mut text = String::new();
    let names: Vec<_> = rows.all.keys().map(|key| escape::text(&key.text())).collect();
    let width = names.iter().map(String::len).max().unwrap_or_default();
    for (name, row) in names.iter().zip(rows.all.values()) {
        let verdict = verdict(row);
        let verdict = match row.state() {
            State::Waits => paint.with(RED, &verdict),
            State::WouldWait | State::Unknown => paint.with(YELLOW, &verdict),
            State::Safe => verdict,
        };
        let _ = writeln!(text, "{name:width$}  {verdict}");
    }
    if rows.all.is_empty() {
        text.push_str("No dump has a destination that may speak first. Name one with --dest.\n");
    }
    text.push('\n');
    let read = format!(
        "{} sidecars and {} waypoints were examined. {}{}",
        rows.sidecars,
        rows.waypoints,
        match rows.others {
            0 => String::new(),
            count => format!(
                "{count} other proxies were not, because a Service's port changes none of their listeners. "
            ),
        },
        match rows.left_out.len() {
            0 => String::new(),
            count => format!(
                "{count} destinations on ports of unknown protocols were left out: name them with --dest."
            ),
        },
    );
    paragraph(&mut text, &read);
    let ports: Vec<_> = ports(mesh).iter().map(u16::to_string).collect();
    if !ports.is_empty() {
        text.push('\n');
        let advice = format!(
            "Keep HTTP Services off port {}, or give each address a listener of its own: \
             istio/scenarios/port-conflict/serviceentry.yaml, and dns-name.yaml for a name. For a row that hangs now, run firstword doctor \
             with that pod's dump and --dest. docs/hang.md leads to the other fixes, docs/ambient.md to those for waypoints.",
            ports.join(", ")
        );
        paragraph(&mut text, &advice);
    }
    text
}

/// What becomes of the connections to a destination, with pods as examples.
fn verdict(row: &Row) -> String {
    let state = row.state();
    let total = row.pods.values().fold(0_usize, |sum, pods| sum.saturating_add(pods.count));
    let what = match state {
        State::Waits => "hangs now",
        State::WouldWait => "would hang with an HTTP Service on the port",
        State::Unknown => "cannot be decided",
        State::Safe => return format!("safe in {total} pods"),
    };
    let Some(pods) = row.pods.get(&state) else { return what.to_owned() };
    let more = if pods.count > pods.examples.len() { ", ..." } else { "" };
    format!("{what}, in {} of {total} pods: {}{more}", pods.count, escape::text(&pods.examples.join(", ")))
}

fn paragraph(text: &mut String, words: &str) {
    for line in wrapped(words) {
        let _ = writeln!(text, "{line}");
    }
}
