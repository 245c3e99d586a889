//! `firstword doctor`: finds the cause of hanging MySQL connections, and the YAML that fixes it.

mod admin;
mod candidates;
mod destination;
mod diagnose;
mod drain;
mod envoy;
mod examination;
mod fix;
mod inbound;
mod input;
mod kubeconfig;
#[cfg(test)]
mod linear_work;
mod listeners;
mod names;
mod native;
mod outbound;
mod plugin;
mod report;
mod shared;
mod simulate;
mod statistics;
mod target;
mod tls;
mod wasm;
mod waypoint;
#[cfg(test)]
mod work;
mod workload;

use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use firstword::escape;

use crate::findings::{Format, Severity};
use crate::paint::Paint;
use destination::{Destination, Reason, Side};
use envoy::dump::Dump;
use examination::Examination;
use target::Target;
use workload::Workload;

/// Find out why connections to a database hang, and print the fix
///
/// Follows a connection on which the server speaks first (MySQL, MariaDB, SMTP, ...) through Envoy's configuration, and says
/// which listener accepts it, what waits for the client, and for how long. Each finding has its cause and its fixes.
///
/// A database at 55.108.108.2:10000 does not greet a pod:
///   istioctl proxy-config all deploy/app -o json | firstword doctor - --dest 55.108.108.2:10000
/// By name, and with the statistics that show who waits at this moment:
///   kubectl port-forward deploy/app 15000 & firstword doctor localhost:15000 --dest orders.example.com:3306
/// Clients outside the mesh hang when they connect to the pod of a database:
///   istioctl proxy-config all POD -o json | firstword doctor - --side inbound --dest 10.1.2.3:3306
/// The manifest of the first fix, for review:
///   firstword doctor dump.json --dest 55.108.108.2:10000 --fix 1
/// An Envoy without Istio:
///   firstword doctor envoy.yaml
#[derive(clap::Args)]
#[command(after_long_help = HELP, verbatim_doc_comment)]
pub(crate) struct Arguments {
    /// Envoy's admin interface (HOST:PORT), a configuration (FILE, - for the standard input), or a workload (deploy/NAME)
    ///
    /// Of the admin interface, /config_dump and /stats are read. A file is a /config_dump, the output of "istioctl
    /// proxy-config all POD -o json" or "... listeners POD -o json" (says less), or an Envoy bootstrap, YAML or JSON.
    /// For a workload, the command prints what to run. It reads no cluster. The plugin "kubectl firstword" runs it, and first
    /// prints the context and the command.
    #[arg(value_name = "INPUT")]
    input: PathBuf,
    /// What the client connects to, by name or address; may be repeated
    ///
    /// Without it, everything that the configuration suggests. A name is looked up in the configuration first, and then by
    /// the system's resolver.
    #[arg(long, value_name = "HOST:PORT")]
    dest: Vec<Target>,
    /// Whether the pod connects to the destinations or others connect to the pod there
    ///
    /// By default the pod's own addresses are inbound, all others outbound.
    #[arg(long, value_name = "SIDE", requires = "dest")]
    side: Option<SideName>,
    /// Envoy's /stats, of about the same time; not needed with an admin interface
    #[arg(long, value_name = "FILE")]
    stats: Option<PathBuf>,
    /// The namespace of a workload, instead of the context's
    #[arg(short, long, value_name = "NAME")]
    namespace: Option<String>,
    /// The context of kubectl for a workload, instead of the current one
    #[arg(long, value_name = "NAME")]
    context: Option<String>,
    /// Print the manifest of this fix and nothing else
    #[arg(long, value_name = "NUMBER", conflicts_with = "output")]
    fix: Option<usize>,
    /// Also show notes: findings that are only good to know
    #[arg(short, long)]
    verbose: bool,
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
  2  wrong usage, an input that cannot be read, or a workload (except as "kubectl firstword")
  3  something works at a price, or not for everybody (warning), and there is no error

"firstword explain CODE" explains a finding. docs/commands.md describes the JSON and the limits."#;

/// Maximum number of destinations, because each of them is compared with all listeners.
const MAX_DESTINATIONS: usize = 10_000;

/// The exit status of wrong usage and unreadable input.
const UNUSABLE: u8 = 2;

/// What the command prints, and the exit status.
struct Answer {
    text: String,
    status: u8,
}

/// Examines the input. `reads_clusters` allows to run what reads a workload.
pub(crate) fn run(arguments: &Arguments, paint: Paint, reads_clusters: bool) -> ExitCode {
    match answer(arguments, paint, reads_clusters) {
        Ok(Answer { text, status }) => {
            // It is not an error if the reader closes its end.
            let _ = io::stdout().write_all(text.as_bytes());
            ExitCode::from(status)
        }
        Err(problem) => {
            let _ = writeln!(io::stderr(), "firstword doctor: {}", escape::text(&problem));
            ExitCode::from(UNUSABLE)
        }
    }
}

fn answer(arguments: &Arguments, paint: Paint, reads_clusters: bool) -> Result<Answer, String> {
    let (namespace, context) = (arguments.namespace.as_deref(), arguments.context.as_deref());
    let input = match Workload::of(&arguments.input, namespace, context) {
        Some(workload) if reads_clusters => {
            input::fetched(&arguments.input, &workload.fetch()?, arguments.stats.as_deref())?
        }
        Some(workload) => {
            return Ok(Answer { text: workload.instructions(&options(arguments)), status: UNUSABLE });
        }
        None => input::read(&arguments.input, arguments.stats.as_deref())?,
    };
    let destinations = destinations(&input.dump, arguments)?;
    if destinations.len() > MAX_DESTINATIONS {
        let count = destinations.len();
        return Err(format!(
            "{}: expected at most {MAX_DESTINATIONS} destinations, found {count}; choose with --dest",
            input.name
        ));
    }
    let examination = Examination::new(&input, &destinations);
    if let Some(number) = arguments.fix {
        return Ok(Answer { text: report::manifest(&examination, number)?, status: 0 });
    }
    let text = match arguments.output {
        Format::Text => report::text(&examination, arguments.verbose, paint),
        Format::Json => report::json(&examination),
    };
    let status = match report::worst(&examination) {
        None | Some(Severity::Info) => 0,
        Some(Severity::Warning) => 3,
        Some(Severity::Error) => 1,
    };
    Ok(Answer { text, status })
}

/// The options about destinations, as on the command line.
fn options(arguments: &Arguments) -> String {
    let side = arguments.side.map_or("", |side| match side {
        SideName::Inbound => " --side inbound",
        SideName::Outbound => " --side outbound",
    });
    let dest = arguments.dest.iter().map(|target| match target {
        Target::Address(address) => format!(" --dest {address}"),
        Target::Host(host, port) => format!(" --dest {host}:{port}"),
    });
    dest.chain([side.to_owned()]).collect()
}

fn destinations(dump: &Dump, arguments: &Arguments) -> Result<Vec<Destination>, String> {
    if arguments.dest.is_empty() {
        return Ok(candidates::all(dump));
    }
    let side = |ip| match arguments.side {
        Some(SideName::Inbound) => Side::Inbound,
        Some(SideName::Outbound) => Side::Outbound,
        None => destination::side(dump, ip),
    };
    let mut all = Vec::new();
    for target in &arguments.dest {
        let (port, host, found) = match target {
            Target::Address(to) => (to.port(), None, names::of_address(to.ip())),
            Target::Host(host, port) => (*port, Some(host), names::resolve(dump, host, *port)?),
        };
        all.extend(found.addresses.into_iter().map(|ip| Destination {
            ip: Some(ip),
            port,
            host: host.cloned(),
            from_dns: found.from_dns,
            side: side(ip),
            reason: Reason::Requested,
        }));
    }
    Ok(all)
}
