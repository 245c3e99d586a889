//! `firstword doctor`: finds the cause of hanging MySQL connections, and the YAML that fixes it.

mod admin;
mod answer;
mod candidates;
mod destination;
mod diagnose;
mod diff;
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
mod mesh;
mod names;
mod native;
mod outbound;
mod plugin;
mod report;
mod requested;
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
use answer::{Answer, UNUSABLE};
use destination::Destination;
use envoy::dump::Dump;
use examination::Examination;
use requested::{SideName, requested};
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
/// The ports of all pods that would hang if an HTTP Service had the same port number, for a nightly job:
///   firstword doctor --mesh dumps/
/// The connections that Envoy closes because of a change, such as a manifest on a canary:
///   firstword doctor --diff before.json after.json
#[derive(clap::Args)]
#[command(after_long_help = HELP, verbatim_doc_comment)]
pub(crate) struct Arguments {
    /// Envoy's admin interface (HOST:PORT), a configuration (FILE, - for the standard input), or a workload (deploy/NAME)
    ///
    /// Of the admin interface, /config_dump and /stats are read. A file is a /config_dump, the output of "istioctl
    /// proxy-config all POD -o json" or "... listeners POD -o json" (says less), or an Envoy bootstrap, YAML or JSON.
    /// For a workload, this command reads no cluster, and prints the command to run. The plugin "kubectl firstword" prints the
    /// context and that command, and then runs it.
    #[arg(value_name = "INPUT", required_unless_present_any = ["mesh", "diff"])]
    input: Option<PathBuf>,
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
    /// Examine each file of a folder, one dump for each pod
    ///
    /// Prints one row for each destination. Files whose name begins with a dot are not read.
    #[arg(long, value_name = "FOLDER", conflicts_with_all = ["input", "diff", "side", "stats", "namespace", "context", "fix", "verbose"])]
    mesh: Option<PathBuf>,
    /// Compare two inputs, before and after a change of the same proxy
    ///
    /// Prints the listeners and filter chains that Envoy drains, and therefore the connections that it closes.
    #[arg(long, value_names = ["BEFORE", "AFTER"], num_args = 2, conflicts_with_all = ["input", "dest", "side", "namespace", "context", "fix", "verbose"])]
    diff: Option<Vec<PathBuf>>,
    /// Envoy's /stats, of about the same time, with --diff from before the change; not needed with an admin interface
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

const HELP: &str = r#"Exit status:
  0  nothing found, or only what is good to know (info)
  1  something does not work (error)
  2  wrong usage, an input that cannot be read, or a workload (except as "kubectl firstword")
  3  something works at a price, or not for everybody (warning), and there is no error

Exit status with --mesh:
  0  nothing hangs, also with an HTTP Service on the same port numbers
  1  something hangs now
  2  a file is no dump, or wrong usage; the rows are of the other files
  3  something would hang with an HTTP Service, or cannot be decided

Exit status with --diff:
  0  the change closes no connection
  1  Envoy refuses a part of the change
  2  wrong usage, or an input that cannot be read
  3  the change closes connections

"firstword explain CODE" explains a finding. docs/commands.md describes the JSON and the limits."#;

/// Maximum number of destinations, because each of them is compared with all listeners.
const MAX_DESTINATIONS: usize = 10_000;

/// Examines the input. `reads_clusters` allows to run what reads a workload.
pub(crate) fn run(arguments: &Arguments, paint: Paint, reads_clusters: bool) -> ExitCode {
    match answer(arguments, paint, reads_clusters) {
        Ok(Answer { text, status, problems }) => {
            // It is not an error if the reader closes its end.
            let _ = io::stdout().write_all(text.as_bytes());
            problems.iter().for_each(|problem| complain(problem));
            ExitCode::from(status)
        }
        Err(problem) => {
            complain(&problem);
            ExitCode::from(UNUSABLE)
        }
    }
}

fn complain(problem: &str) {
    let _ = writeln!(io::stderr(), "firstword doctor: {}", escape::text(problem));
}

fn answer(arguments: &Arguments, paint: Paint, reads_clusters: bool) -> Result<Answer, String> {
    if let Some(folder) = &arguments.mesh {
        return mesh::answer(folder, &arguments.dest, arguments.output, paint);
    }
    if let Some([before, after]) = arguments.diff.as_deref() {
        return diff::answer([before, after], arguments.stats.as_deref(), arguments.output, paint);
    }
    let path = arguments.input.as_deref().ok_or("expected INPUT, --mesh or --diff, found none")?;
    let (namespace, context) = (arguments.namespace.as_deref(), arguments.context.as_deref());
    let input = match Workload::of(path, namespace, context) {
        Some(workload) if reads_clusters => {
            input::fetched(path, &workload.fetch()?, arguments.stats.as_deref())?
        }
        Some(workload) => {
            let text = workload.instructions(&options(arguments));
            return Ok(Answer { text, status: UNUSABLE, problems: Vec::new() });
        }
        None => input::read(path, arguments.stats.as_deref())?,
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
        let text = report::manifest(&examination, number)?;
        return Ok(Answer { text, status: 0, problems: Vec::new() });
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
    Ok(Answer { text, status, problems: Vec::new() })
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
    requested(dump, &arguments.dest, arguments.side)
}
