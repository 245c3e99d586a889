//! The output of the command as text and as JSON.

use std::fmt::Write as _;
use std::time::Duration;

use firstword::escape;
use serde_json::{Value, json};

use super::destination::{Reason, Side};
use super::diagnose::name;
use super::examination::Examination;
use super::listeners::{UNIX_SOCKET, UNKNOWN_PORT};
use super::simulate::{Cause, Client, Journey, Outcome};
use crate::findings::{Fix, Severity};
use crate::paint::{BOLD, Paint};

/// The version of the JSON format. It changes if a field changes its meaning or goes.
const FORMAT: u32 = 2;

pub(super) fn worst(of: &Examination) -> Option<Severity> {
    of.findings.iter().map(|finding| finding.severity).max()
}

/// The JSON object that docs/commands.md describes, in one line.
pub(super) fn json(of: &Examination) -> String {
    let destinations = of.destinations.iter().map(|(to, journeys)| {
        json!({
            "destination": to.text(),
            "host": to.host,
            "side": side(to.side),
            "because": match to.reason {
                Reason::Requested => "asked",
                Reason::Known => "known",
                Reason::Forwarded => "passed_on",
            },
            "clients": journeys.iter().map(client).collect::<Vec<_>>(),
        })
    });
    let report = json!({
        "format": FORMAT,
        "input": escape::text(of.input),
        "destinations": destinations.collect::<Vec<_>>(),
        "findings": of.findings,
        "worst": worst(of),
    });
    format!("{}\n", escape::json(&report.to_string()))
}

fn side(side: Side) -> &'static str {
    match side {
        Side::Inbound => "inbound",
        Side::Outbound => "outbound",
    }
}

/// The outcome of a client in a word, and the time until then if there is one.
fn verdict(journey: &Journey) -> (&'static str, Option<Duration>) {
    match &journey.outcome {
        Outcome::Greeting if journey.after.is_zero() => ("greeting", None),
        Outcome::Greeting => ("delayed", Some(journey.after)),
        Outcome::Hang(_) => ("hang", None),
        Outcome::Closed(_) => ("closed", Some(journey.after)),
        Outcome::Bypass(_) => ("bypass", None),
        Outcome::Unknown(_) => ("unknown", None),
    }
}

fn client(journey: &Journey) -> Value {
    let (verdict, after) = verdict(journey);
    let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let waits = journey.waits.iter().map(|wait| {
        json!({"listener": name(wait.listener), "filter": wait.filter, "ms": wait.timeout.map(millis)})
    });
    json!({
        "client": match journey.client {
            Client::Silent => "silent",
            Client::ProxyHeader => "proxy_header",
            Client::Mesh => "mesh",
        },
        "verdict": verdict,
        "after_ms": after.map(millis),
        "listeners": journey.listeners.iter().map(|listener| name(listener)).collect::<Vec<_>>(),
        "chain": journey.chain.map(|chain| &chain.name).filter(|name| !name.is_empty()),
        "cluster": journey.cluster,
        "waits": waits.collect::<Vec<_>>(),
        "why": why(journey),
    })
}

/// The reason of an outcome in a line. The findings have the details.
fn why(journey: &Journey) -> String {
    let cause = |cause: &Cause| match cause {
        Cause::ListenerFilter => match journey.waits.last() {
            Some(wait) => format!("waits in {}", wait.filter),
            None => "waits in a listener filter".to_owned(),
        },
        Cause::Tls => "waits for a ClientHello".to_owned(),
        Cause::Filter(name) => format!("waits in {name}"),
        Cause::NoConfiguration(name) => format!("{name} has no configuration"),
        Cause::NoHeader => "no PROXY header".to_owned(),
        Cause::NoEarlyData => "tcp_proxy does not read the header".to_owned(),
        Cause::NoChain => "no filter chain".to_owned(),
        Cause::NoEndpoint(name) => format!("{name} has no endpoint"),
        Cause::NoCluster(name) => format!("no cluster {name}"),
        Cause::NoListener => "no listener".to_owned(),
    };
    match &journey.outcome {
        Outcome::Greeting => match (journey.waits.last(), &journey.cluster) {
            (Some(wait), _) => format!("waits in {}", wait.filter),
            (None, Some(cluster)) => format!("to {cluster}"),
            (None, None) => String::new(),
        },
        Outcome::Hang(why) | Outcome::Closed(why) => cause(why),
        Outcome::Bypass(why) => (*why).to_owned(),
        Outcome::Unknown(why) => why.clone(),
    }
}

/// The manifest of a fix, by its number.
pub(super) fn manifest(of: &Examination, number: usize) -> Result<String, String> {
    let fixes: Vec<&Fix> = of.findings.iter().flat_map(|finding| &finding.fixes).collect();
    match fixes.iter().find(|fix| fix.number == number) {
        Some(fix) if fix.yaml.is_empty() => {
            Err(format!("fix {number} has no manifest. It is: {}. {}", fix.what, fix.trade_off))
        }
        Some(fix) => Ok(escape::lines(&fix.yaml)),
        None if fixes.is_empty() => Err(format!("there is no fix {number}, because no finding has a fix")),
        None => Err(format!("there is no fix {number}: expected a number from 1 to {}", fixes.len())),
    }
}

/// The report as text. `all`: with findings that are only good to know.
pub(super) fn text(of: &Examination, all: bool, paint: Paint) -> String {
    let mut text = String::new();
    for (to, journeys) in &of.destinations {
        let host = to.host.as_ref().map_or_else(String::new, |host| format!("{}, ", escape::text(host)));
        let _ = writeln!(text, "{} {}", paint.with(BOLD, &format!("{host}{}", to.text())), side(to.side));
        for journey in journeys {
            let who = match journey.client {
                Client::Silent => "client that waits for the greeting",
                Client::ProxyHeader => "the same behind a proxy that sends a PROXY header",
                Client::Mesh => "client with a sidecar, by mutual TLS",
            };
            let through: Vec<_> = journey.listeners.iter().map(|listener| name(listener)).collect();
            let through =
                if through.is_empty() { String::new() } else { format!("{}: ", through.join(" -> ")) };
            let line = format!("{through}{}", why(journey));
            let _ =
                writeln!(text, "  {who}: {}\n    {}", paint.with(BOLD, &what(journey)), escape::text(&line));
        }
    }
    let is_all = !of.findings.iter().any(|finding| [UNIX_SOCKET, UNKNOWN_PORT].contains(&finding.code));
    if of.destinations.is_empty() && is_all {
        text.push_str("Nothing here forwards bytes to a server that may speak first.\n");
    }
    let (notes, shown): (Vec<_>, Vec<_>) =
        of.findings.iter().partition(|finding| !all && of.is_note(finding));
    for finding in &shown {
        text.push('\n');
        text.push_str(&finding.text(paint));
    }
    if shown.is_empty() {
        text.push_str("\nNothing was found that keeps a greeting back.\n");
    }
    match notes.len() {
        0 => {}
        1 => text.push_str("\n1 note (show it with -v)\n"),
        count => {
            let _ = writeln!(text, "\n{count} notes (show them with -v)");
        }
    }
    text
}

fn what(journey: &Journey) -> String {
    match verdict(journey) {
        ("greeting", _) => "gets it at once".to_owned(),
        ("delayed", Some(after)) => format!("gets it after {} ms", after.as_millis()),
        ("hang", _) => "hangs".to_owned(),
        ("closed", Some(after)) if !after.is_zero() => format!("is closed after {} ms", after.as_millis()),
        ("closed", _) => "is closed at once".to_owned(),
        ("bypass", _) => "does not pass this proxy".to_owned(),
        _ => "cannot be decided".to_owned(),
    }
}
