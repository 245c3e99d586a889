//! `firstword doctor`: finds the cause of hanging MySQL connections, and the YAML that fixes it.

mod admin;
mod candidates;
mod destination;
mod diagnose;
mod envoy;
mod examination;
mod fix;
mod inbound;
mod input;
mod listeners;
mod plugin;
mod report;
mod simulate;
mod statistics;
mod wasm;

use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use firstword::escape;

use crate::findings::{Format, Paint, Severity};
use destination::{Destination, Reason, Side};
use envoy::dump::Dump;
use examination::Examination;

/// Find out why connections to a database hang, and what ends it
///
/// Reads what Envoy is configured with, follows a connection on which the server has the first word (MySQL, MariaDB, SMTP,
/// ...) through it, and says which listener takes it, what waits for a client that waits for the greeting, and for how long.
/// Each finding comes with its cause and, where there is one, with the YAML that ends it, filled in.
///
/// INPUT is one of
///   HOST:PORT or http://HOST:PORT   Envoy's admin interface (asked for /config_dump and /stats, nothing is changed)
///   FILE, or - for the standard input:
///     a /config_dump, or the output of "istioctl proxy-config all POD -o json"
///     the output of "istioctl proxy-config listeners POD -o json" (says less: no clusters, nothing of the pod)
///     an Envoy bootstrap, YAML or JSON, with static_resources
///
/// Listeners on Unix sockets are named and not looked at.
#[derive(clap::Args)]
#[command(after_help = HELP, verbatim_doc_comment)]
pub(crate) struct Arguments {
    #[arg(value_name = "INPUT", help = "Where Envoy's configuration is")]
    input: PathBuf,
    /// Envoy's /stats, of about the same time: shows who waits now. Not needed with an admin interface
    #[arg(long, value_name = "FILE")]
    stats: Option<PathBuf>,
    /// What the client connects to; may be repeated. Without it, all that the configuration itself suggests
    #[arg(long, value_name = "IP:PORT")]
    dest: Vec<SocketAddr>,
    /// Whether the pod connects to the destinations or others connect to the pod there
    ///
    /// By default the pod's own addresses are inbound, all others outbound.
    #[arg(long, value_name = "SIDE", requires = "dest")]
    side: Option<SideName>,
    /// Text for people or JSON for programs
    #[arg(short, long, value_name = "FORMAT", default_value = "text")]
    output: Format,
}

/// `--side`.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum SideName {
    Inbound,
    Outbound,
}

const HELP: &str = r#"Exit status:
  0  nothing found, or only what is good to know (info)
  1  something does not work (error)
  2  wrong usage, or an input that cannot be read
  3  something works at a price, or not for everybody (warning), and there is no error

Examples:
  A database outside the mesh at 55.108.108.2:10000 does not answer a pod:
    istioctl proxy-config all POD -o json | firstword doctor - --dest 55.108.108.2:10000
  The same, with the statistics that show who waits at this moment:
    kubectl port-forward POD 15000 & firstword doctor localhost:15000 --dest 55.108.108.2:10000
  Clients outside the mesh hang when they connect to the pod of a database:
    istioctl proxy-config all POD -o json | firstword doctor - --side inbound --dest 10.1.2.3:3306
  The first fix alone, for review:
    firstword doctor dump.json --dest 55.108.108.2:10000 -o json | jq -r '.findings[0].fixes[0] | .what, .yaml'
  An Envoy of one's own:
    firstword doctor envoy.yaml

JSON: an object with
  format        1; another number where a field has changed its meaning
  input         what was read
  destinations  [{destination, side: inbound|outbound, because: asked|known|passed_on, clients: [{
                  client: silent (waits for the greeting)
                          proxy_header (the same behind a proxy that sends a PROXY header at once)
                          mesh (comes by mutual TLS from a sidecar),
                  verdict: greeting|delayed|hang|closed|bypass|unknown, after_ms (delayed, closed),
                  listeners, chain, cluster (those that it passes through), waits: [{listener, filter, ms (null: for ever)}],
                  why}]}]
  findings      [{severity: error|warning|info, code, where: {destination, listener, chain, filter, resource, path},
                  why, fixes: [{what, from, yaml}]}], the worst first
  worst         the severity of the worst finding, or null
The filter's own configuration, where it is found, is checked as "firstword check-config" does.

Limits, which hold whatever is in the input: 64 MiB, with the limits to values that "firstword check-config --help" names, and
10000 destinations. The time grows with the destinations times the listeners and chains: seconds for 10000 of each. With --dest it
grows with the size of the input."#;

/// Maximum number of destinations, because each of them is compared with all listeners.
const MAX_DESTINATIONS: usize = 10_000;

/// The exit status of wrong usage and unreadable input.
const UNUSABLE: u8 = 2;

pub(crate) fn run(arguments: &Arguments) -> ExitCode {
    match examine(arguments) {
        Ok((text, worst)) => {
            // It is not an error if the reader closes its end.
            let _ = io::stdout().write_all(text.as_bytes());
            ExitCode::from(match worst {
                None | Some(Severity::Info) => 0,
                Some(Severity::Warning) => 3,
                Some(Severity::Error) => 1,
            })
        }
        Err(problem) => {
            let _ = writeln!(io::stderr(), "firstword doctor: {}", escape::text(&problem));
            ExitCode::from(UNUSABLE)
        }
    }
}

/// The text to print, and the worst severity in it.
fn examine(arguments: &Arguments) -> Result<(String, Option<Severity>), String> {
    let input = input::read(&arguments.input, arguments.stats.as_deref())?;
    let destinations = destinations(&input.dump, arguments);
    if destinations.len() > MAX_DESTINATIONS {
        let count = destinations.len();
        return Err(format!(
            "{}: expected at most {MAX_DESTINATIONS} destinations, found {count}; choose with --dest",
            input.name
        ));
    }
    let examination = Examination::new(&input, &destinations);
    let text = match arguments.output {
        Format::Text => report::text(&examination, Paint::for_stdout()),
        Format::Json => report::json(&examination),
    };
    Ok((text, report::worst(&examination)))
}

fn destinations(dump: &Dump, arguments: &Arguments) -> Vec<Destination> {
    if arguments.dest.is_empty() {
        return candidates::all(dump);
    }
    let asked = |to: &SocketAddr| {
        let side = match arguments.side {
            Some(SideName::Inbound) => Side::Inbound,
            Some(SideName::Outbound) => Side::Outbound,
            None => destination::side(dump, to.ip()),
        };
        Destination { ip: Some(to.ip()), port: to.port(), side, reason: Reason::Requested }
    };
    arguments.dest.iter().map(asked).collect()
}
