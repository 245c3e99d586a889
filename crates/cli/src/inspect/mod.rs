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
mod report;
mod segment;
mod stream;
mod table;
mod text;

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::ValueEnum;
use firstword::clock::Timestamp;
use firstword::escape;

use capture::Capture;
use flows::Flows;
use report::{Report, Severity};

/// Tell from a capture what happened on its MySQL connections
///
/// Reads a pcap or pcapng file, as tcpdump, dumpcap, tshark and Wireshark write it, and runs each TCP connection
/// through the same code as the filter: who spoke first and when, the handshake, each command with its timings, rows
/// and errors, hazards such as an EOF split between two packets (with the place of the cut), PROXY headers. Also why a
/// connection could not be followed, how it ended, and who waits for whom where it did not.
///
/// Without --port, connections to ports of MySQL and what speaks its protocol are reported, and all others that begin
/// with a MySQL greeting or a PROXY header.
///
/// Never shown: statements, their parameters and results, passwords and scrambles; the account's name only with --user.
#[derive(clap::Args)]
#[command(after_long_help = HELP)]
pub(crate) struct Arguments {
    /// The capture; "-" is the standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Tell of the connections to this server port, whatever they carry, and of no others; may be repeated
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    port: Vec<u16>,
    /// List so many commands of each connection; all are counted
    #[arg(long, value_name = "NUMBER", default_value_t = 50)]
    limit: usize,
    /// Show the accounts' names
    #[arg(long)]
    user: bool,
    /// How it is reported
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

/// The form of a report.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    /// For people
    Text,
    /// One JSON object, whose shape only grows
    Json,
    /// The JSON Schema of that object; the capture is not read
    JsonSchema,
}

const SCHEMA: &str = include_str!("report.schema.json");

const HELP: &str = r#"What a capture shows:
  Times are the capture's. "at" counts from its first packet, "first byte" and "total" from the command's packet.
  A command is shown where its packet is; an answer that is not in the capture is shown as "unanswered".
  Captures that begin in the middle of a connection tell of its bytes only (opaque: late_start), as the filter does.
  Where packets are missing, or were cut by a snapshot length, what they held is unknown: inside rows and the like they
  are passed over, anywhere else the connection cannot be followed on (opaque: desync, bytes missing).
  TLS and compression hide what follows them, as for the filter.

What is read:
  pcap and pcapng; Ethernet, also with VLAN tags, Linux "any" (SLL, SLL2), loopback of BSD and macOS, raw IP; IPv4, IPv6.
  Not read: fragments of IP packets, tunnels, SSLKEYLOGFILE. Checksums are not looked at, since network cards make them.

Limits:
  They hold whatever is in a capture.
  65536 connections at once and 512 MiB for them, of it 64 MiB for what waits for missing packets: what exceeds this is
  counted as "too many". 10000 connections listed and 512 MiB for them: the others are only counted.
  16 PROXY headers of a connection. Captures of 64 GiB, records of 16 MiB, 65536 interfaces.
  The time grows with the number of packets and bytes, and with nothing else.

Exit status:
  0  nothing found, or only what is good to know (info)
  1  a connection hung or failed by a hazard (error)
  2  wrong usage, or the file could not be read, or not to its end (the part before that place is reported)
  3  a hazard that connections or secrets are exposed to (warning), and there is no error

Examples:
  tcpdump -i any -s 0 -w mysql.pcap 'tcp port 3306'    # record, then:
  firstword inspect mysql.pcap
  firstword inspect --port 10000 --limit 1000 mysql.pcapng
  kubectl exec POD -c istio-proxy -- sudo tcpdump -i any -U -w - 'tcp port 3306' | firstword inspect -
  firstword inspect -o json mysql.pcap | jq '.connections[] | select(.hazard_counts.prepare_eof_split) | .hazards'
  firstword inspect -o json mysql.pcap | jq '.totals.counts.errors'
  firstword inspect -o json-schema - </dev/null"#;

pub(crate) fn run(arguments: &Arguments) -> ExitCode {
    let out = &mut io::BufWriter::new(io::stdout().lock());
    if arguments.output == Output::JsonSchema {
        let _ = out.write_all(SCHEMA.as_bytes()).and_then(|()| out.flush());
        return ExitCode::SUCCESS;
    }
    let report = inspect(arguments);
    // It is not an error if the reader closes its end. The report is written in parts, because it can be large.
    let _ = match arguments.output {
        Output::Json => write_json(&report, out),
        _ => text::write(&report, out),
    };
    let _ = out.flush();
    if let Some(problem) = &report.problem {
        let _ = writeln!(io::stderr(), "{}", escape::text(&format!("{}: {problem}", report.file)));
        return ExitCode::from(2);
    }
    ExitCode::from(match report.totals.worst {
        None | Some(Severity::Info) => 0,
        Some(Severity::Error) => 1,
        Some(Severity::Warning) => 3,
    })
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
    let mut report = Report { file: file.into_owned(), ..Report::default() };
    let input: io::Result<Box<dyn Read + Send>> = if standard_input {
        Ok(Box::new(io::stdin()))
    } else {
        File::open(&arguments.file).map(|file| Box::new(file) as Box<dyn Read + Send>)
    };
    match input {
        Ok(input) => report_on(input, arguments, &mut report),
        Err(error) => report.problem = Some(format!("cannot read it: {error}")),
    }
    report
}

fn report_on(input: impl Read + Send, arguments: &Arguments, report: &mut Report) {
    let mut flows = Flows::new(&arguments.port);
    let mut capture = Capture {
        max_commands: arguments.limit,
        shows_user: arguments.user,
        packets: 0,
        began: None,
        now: Timestamp::default(),
    };
    let read = pcap::read(input, |packet| {
        capture.packets = packet.number;
        capture.began.get_or_insert(packet.at);
        capture.now = packet.at.max(capture.now);
        match segment::segment(&packet) {
            Ok(segment) => flows.segment(segment, &capture, report),
            Err(left_out) => report::add(&mut report.left_out, left_out.reason(), 1),
        }
    });
    flows.finish(&capture, report);
    report.packets = capture.packets;
    report.problem = read.err();
}
