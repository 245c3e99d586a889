//! `firstword inspect`: runs a capture through the core of the filter and reports each connection.
//!
//! ```text
//! file --pcap--> packets --segment--> TCP segments --flows--> connections --flow, stream--> pieces in order
//!      --conversation, proxy_headers, greeting, hazard--> report --text--> output
//! ```

mod capture;
mod conversation;
mod flow;
mod flows;
mod greeting;
mod hazard;
mod pcap;
mod proxy_headers;
mod reader;
mod report;
mod segment;
mod selection;
mod slowest;
mod stream;
mod table;
mod text;
mod wall_clock;

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::ValueEnum;
use firstword::escape;

use crate::paint::Paint;

use reader::Settings;
use report::{Report, Severity};
use selection::Selection;

/// Show what happened on the MySQL connections of a capture
///
/// Reads a pcap or pcapng file and runs each TCP connection through the same code as the filter: who spoke first, the
/// handshake, each command with its time, rows and error, hazards, PROXY headers, and how it ended or who waits for whom.
///
/// Record, then read:
///   tcpdump -i any -s 0 -w mysql.pcap 'tcp port 3306'
///   firstword inspect mysql.pcap
/// In a pod, with nothing on its disk:
///   kubectl exec POD -c istio-proxy -- sudo tcpdump -i any -U -w - 'tcp port 3306' | firstword inspect -
/// Only what went wrong, the ten slowest commands, or one connection:
///   firstword inspect --problems mysql.pcap
///   firstword inspect --slowest 10 mysql.pcap
///   firstword inspect --connection 7 --limit 1000 mysql.pcap
/// For programs:
///   firstword inspect -o json mysql.pcap | jq '.totals.counts.errors'
///   firstword inspect -o json-schema - </dev/null
///
/// Never shown: statements, their parameters and results, passwords and scrambles; the account's name only with --user.
#[derive(clap::Args)]
#[command(after_long_help = HELP, verbatim_doc_comment)]
pub(crate) struct Arguments {
    /// The capture; "-" is the standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Report the connections to this server port, whatever they carry, and no others; may be repeated
    ///
    /// Without it, connections to ports of MySQL and of servers with its protocol are reported, and all others that begin
    /// with a MySQL greeting or a PROXY header.
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    port: Vec<u16>,
    /// List only connections with an error, a hazard, or a peer that waits in vain
    #[arg(long)]
    problems: bool,
    /// List the slowest commands of all connections
    #[arg(long, value_name = "NUMBER", default_value_t = 0, hide_default_value = true, value_parser = clap::value_parser!(u16).range(0..=1000))]
    slowest: u16,
    /// List only the connection with this number
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u64).range(1..))]
    connection: Option<u64>,
    /// List at most this number of commands of each connection; all are counted
    #[arg(long, value_name = "NUMBER", default_value_t = 50)]
    limit: usize,
    /// Show the accounts' names
    #[arg(long)]
    user: bool,
    /// The form of the report
    #[arg(short, long, value_name = "FORMAT", value_enum, default_value_t = Output::Text)]
    output: Output,
}

/// The form of a report.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    /// For people
    Text,
    /// One JSON object
    Json,
    /// The JSON Schema of that object; the capture is not read
    JsonSchema,
}

const SCHEMA: &str = include_str!("report.schema.json");

const HELP: &str = r#"Exit status:
  0  nothing found, or only what is good to know (info)
  1  a connection hung or failed by a hazard (error)
  2  wrong usage, or the file could not be read, or not to its end (the part before that place is reported)
  3  a hazard that connections or secrets are exposed to (warning), and there is no error

docs/commands.md describes what a capture shows, the formats that are read, the limits, and the JSON."#;

pub(crate) fn run(arguments: &Arguments, paint: Paint) -> ExitCode {
    let out = &mut io::BufWriter::new(io::stdout().lock());
    if arguments.output == Output::JsonSchema {
        let _ = out.write_all(SCHEMA.as_bytes()).and_then(|()| out.flush());
        return ExitCode::SUCCESS;
    }
    let mut report = inspect(arguments);
    let selection = Selection { problems: arguments.problems, connection: arguments.connection };
    let nothing_read = report.packets == 0 && report.problem.is_some();
    let selected = if nothing_read { Ok(()) } else { selection.apply(&mut report) };
    if let Err(problem) = selected {
        return unusable(&report.file, &problem);
    }
    if !nothing_read {
        // It is not an error if the reader closes its end. The report is written in parts, because it can be large.
        let _ = match arguments.output {
            Output::Json => write_json(&report, out),
            _ => text::write(&report, paint, out),
        };
        let _ = out.flush();
    }
    if let Some(problem) = &report.problem {
        return unusable(&report.file, problem);
    }
    ExitCode::from(match report.totals.worst {
        None | Some(Severity::Info) => 0,
        Some(Severity::Error) => 1,
        Some(Severity::Warning) => 3,
    })
}

/// Reports that a file cannot be used, or not to its end.
fn unusable(file: &str, problem: &str) -> ExitCode {
    let _ = writeln!(io::stderr(), "{}", escape::text(&format!("{file}: {problem}")));
    ExitCode::from(2)
}

fn write_json(report: &Report, out: &mut impl Write) -> io::Result<()> {
    serde_json::to_writer_pretty(EscapedJson(&mut *out), report)?;
    writeln!(out)
}

/// Writer that escapes JSON, see [`escape::json`].
struct EscapedJson<W>(W);

impl<W: Write> Write for EscapedJson<W> {
    fn write(&mut self, part: &[u8]) -> io::Result<usize> {
        // The serialiser writes only whole characters.
        let text = std::str::from_utf8(part).map_err(io::Error::other)?;
        self.0.write_all(escape::json(text).as_bytes())?;
        Ok(part.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

fn inspect(arguments: &Arguments) -> Report {
    let standard_input = arguments.file == Path::new("-");
    let file = if standard_input { "standard input".into() } else { arguments.file.to_string_lossy() };
    let mut report = Report::new(file.into_owned());
    let input: io::Result<Box<dyn Read + Send>> = if standard_input {
        Ok(Box::new(io::stdin()))
    } else {
        File::open(&arguments.file).map(|file| Box::new(file) as Box<dyn Read + Send>)
    };
    match input {
        Ok(input) => {
            let settings = Settings {
                ports: &arguments.port,
                max_commands: arguments.limit,
                max_slowest: usize::from(arguments.slowest),
                shows_user: arguments.user,
            };
            reader::read(input, &settings, &mut report);
        }
        Err(error) => report.problem = Some(format!("cannot read it: {error}")),
    }
    report
}
