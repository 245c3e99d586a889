//! A report as text for people.

use std::fmt::Write as _;
use std::io::{self, Write};

use firstword::escape;

use crate::paint::{BOLD, Paint, RED, YELLOW};

use super::report::{
    Both, Client, Command, Connection, Counts, End, Handshake, Hazard, PacketLocation, ProxyHeader, Report,
    Server, Severity, SlowCommand, Traffic,
};

/// Writes the report, with a line feed at the end. Text from the capture is escaped.
pub(super) fn write(report: &Report, paint: Paint, out: &mut impl Write) -> io::Result<()> {
    out.write_all(of_totals(report, paint).as_bytes())?;
    for connection in &report.connections {
        write!(out, "\n{}", of_connection(connection, paint))?;
    }
    Ok(())
}

/// Microseconds as a text in milliseconds.
fn ms(us: u64) -> String {
    let (whole, rest) = (us.checked_div(1000).unwrap_or_default(), us.checked_rem(1000).unwrap_or_default());
    format!("{whole}.{rest:03} ms")
}

fn location(location: PacketLocation) -> String {
    format!("packet {}, at {}", location.packet, ms(location.at_us))
}

fn plural(count: u64, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

fn list(words: &[&str]) -> String {
    if words.is_empty() { "none".to_owned() } else { words.join(", ") }
}

fn counts<K: std::fmt::Display>(counts: &Counts<K>) -> String {
    let counts: Vec<_> = counts.iter().map(|(key, count)| format!("{key} {count}")).collect();
    counts.join(", ")
}

/// Lines of a name and a text.
struct Lines {
    text: String,
    paint: Paint,
}

impl Lines {
    fn new(head: &str, paint: Paint) -> Self {
        Self { text: format!("{}\n", paint.with(BOLD, &escape::text(head))), paint }
    }

    fn add(&mut self, name: &str, text: &str) {
        let padded = format!("{name:<10}");
        let name = match name {
            "ERROR" | "MISSING" => self.paint.with(RED, &padded),
            "WARNING" => self.paint.with(YELLOW, &padded),
            _ => padded,
        };
        let _ = writeln!(self.text, "  {name} {}", escape::text(text));
    }

    fn add_counts<K: std::fmt::Display>(&mut self, name: &str, of: &Counts<K>) {
        if !of.is_empty() {
            self.add(name, &counts(of));
        }
    }

    fn add_both(&mut self, name: &str, unit: &str, both: Both) {
        if both != Both::default() {
            self.add(name, &format!("client {}, server {}{unit}", both.client, both.server));
        }
    }
}

fn of_connection(connection: &Connection, paint: Paint) -> String {
    let Connection { number, client, server, .. } = connection;
    let head = format!("connection {number}: {client} -> {server}, {}", connection.protocol);
    let mut lines = Lines::new(&head, paint);
    let handshake = connection.tcp_handshake_us;
    let handshake = handshake.map_or("not in the capture".to_owned(), |us| format!("took {}", ms(us)));
    let began = &connection.began;
    lines.add("began", &format!("{began}, {}; TCP handshake {handshake}", location(connection.first)));
    for header in &connection.proxy_headers {
        lines.add("proxy", &of_header(header));
    }
    if let Some(first) = &connection.first_word {
        let after = ms(first.after_us);
        let seen = format!("{} ({}) {after} after the TCP handshake", first.by, first.seen);
        lines.add("first word", &format!("{seen}, packet {}", first.packet));
    }
    if let Some(handshake) = &connection.handshake {
        of_handshake(handshake, &mut lines);
    }
    of_commands(connection, &mut lines);
    if let Some(opaque) = &connection.opaque {
        let why = if opaque.lost_bytes { " (bytes are missing in the capture; see MISSING)" } else { "" };
        let detail = opaque.detail.as_ref().map_or(String::new(), |detail| format!(": {detail}"));
        lines.add("opaque", &format!("{}{why} since {}{detail}", opaque.reason, location(opaque.location)));
    }
    let mut fix = None;
    for hazard in &connection.hazards {
        of_hazard(hazard, &mut lines);
        if let Some(fixed) = hazard.fix.filter(|_| hazard.fix != fix) {
            lines.add("", &format!("fix: {fixed}"));
        }
        fix = hazard.fix;
    }
    let listed = connection.hazards.len() as u64;
    let all = connection.hazard_counts.values().fold(0_u64, |sum, count| sum.saturating_add(*count));
    if all > listed {
        lines.add("", &format!("and {} more", plural(all.saturating_sub(listed), "hazard")));
    }
    of_traffic(&connection.counts, &mut lines);
    match (&connection.end, &connection.waits) {
        (Some(end), _) => lines.add("ended", &of_end(end)),
        (None, Some(waits)) => {
            let for_what = match waits.what {
                "tcp_handshake" => "the TCP handshake".to_owned(),
                "greeting" => "the server's greeting".to_owned(),
                "handshake_response" => "the client's answer to the greeting".to_owned(),
                "authentication" => "the next packet of the authentication".to_owned(),
                "rest_of_split_eof" => {
                    "the rest of a packet that does not exist: it took the late bytes of an EOF for its header".to_owned()
                }
                "answer" => format!("the answer to {}", list(&waits.commands)),
                _ => "a command".to_owned(),
            };
            let who = waits.who.unwrap_or("neither side");
            let (since, waited) = (location(waits.since), ms(waits.for_us));
            lines.add("open", &format!("{who} waits since {since}, for {waited}, for {for_what}"));
        }
        (None, None) => lines.add("open", "where the capture ends"),
    }
    lines.text
}

fn of_header(header: &ProxyHeader) -> String {
    let ProxyHeader { format, location: at, length, at_byte, .. } = header;
    let mut text = format!("{format} header, {}", location(*at));
    if *at_byte > 0 {
        let _ = write!(text, ", behind {}", plural(*at_byte, "byte"));
    }
    if let Some(problem) = &header.problem {
        let _ = write!(text, ", malformed: {problem}");
        return text;
    }
    let _ = write!(text, ", {length} bytes");
    if header.local {
        text.push_str(", LOCAL");
    }
    match (&header.source, &header.destination) {
        (Some(source), Some(destination)) => {
            let whose = if header.sender == "proxy" { "by a proxy for" } else { "by the client itself," };
            let _ = write!(text, ", {whose} {source} -> {destination}");
        }
        _ => text.push_str(", without addresses"),
    }
    text
}

fn of_handshake(handshake: &Handshake, lines: &mut Lines) {
    if let Some(Server { flavor, release, version, connection_id, capabilities, auth_plugin }) =
        &handshake.server
    {
        lines.add(
            "server",
            &format!("{flavor} {release} ({version}), connection id {connection_id}, {auth_plugin}"),
        );
        lines.add("", &format!("can: {}", list(capabilities)));
    }
    if let Some(Client { name, version, user, .. }) = &handshake.client {
        let in_tls = handshake.result == "tls";
        let name = match name.as_str() {
            "" if in_tls => "(inside TLS)",
            "" => "says no name",
            name => name,
        };
        let user = user.as_ref().map_or(String::new(), |user| format!(", user {user}"));
        lines.add("client", format!("{name} {version}{user}").replace(" ,", ",").trim_end());
        lines.add("agreed", &list(&handshake.agreed));
    }
    let plugin = handshake.auth_plugin.as_deref().filter(|plugin| !plugin.is_empty());
    let plugin = plugin.map_or(String::new(), |plugin| format!(" by {plugin}"));
    let errno = handshake.errno.map_or(String::new(), |errno| format!(" {errno}"));
    let took = handshake.took_us.map_or(String::new(), |us| format!(", {} after the TCP handshake", ms(us)));
    lines.add("handshake", &format!("{}{errno}{plugin}{took}", handshake.result));
}

fn of_commands(connection: &Connection, lines: &mut Lines) {
    if connection.commands.is_empty() {
        return;
    }
    let head = ["packet", "at ms", "first byte", "total ms", "rows", "command"];
    let row = |cells: [&str; 6]| {
        let [packet, at, first, total, rows, command] = cells;
        format!("{packet:>8} {at:>13} {first:>11} {total:>11} {rows:>9}  {command}")
    };
    lines.add("commands", &row(head));
    for command in &connection.commands {
        let Command { command: name, verb, location, answer, unanswered } = command;
        let number = |us: u64| ms(us).trim_end_matches(" ms").to_owned();
        let mut text = verb.map_or((*name).to_owned(), |verb| format!("{name} {verb}"));
        let (mut first, mut total, mut rows) = (String::new(), String::new(), String::new());
        if let Some(answer) = answer {
            (first, total) = (number(answer.first_byte_us), number(answer.took_us));
            rows = if answer.result_sets > 0 { answer.rows.to_string() } else { String::new() };
            if answer.affected_rows > 0 {
                let _ = write!(text, ", affected {}", answer.affected_rows);
            }
            if answer.warnings > 0 {
                let _ = write!(text, ", {}", plural(u64::from(answer.warnings), "warning"));
            }
            if let Some(errno) = answer.errno {
                let _ = write!(text, ", error {errno}");
            }
        }
        if *unanswered {
            text.push_str(", unanswered");
        }
        let packet = location.packet.to_string();
        lines.add("", &row([&packet, &number(location.at_us), &first, &total, &rows, &text]));
    }
    if connection.commands_not_listed > 0 {
        let more = plural(connection.commands_not_listed, "command");
        lines.add("", &format!("and {more} more (--limit)"));
    }
}

fn of_hazard(hazard: &Hazard, lines: &mut Lines) {
    let Hazard { severity, code, location: at, why, split, .. } = hazard;
    let severity = match severity {
        Severity::Error => "ERROR",
        Severity::Warning => "WARNING",
        Severity::Info => "info",
    };
    lines.add(severity, &format!("{code}, {}: {why}", location(*at)));
    if let Some(split) = split {
        let rest = match (split.rest_packet, split.rest_after_us) {
            (Some(packet), Some(after)) => format!("the rest came with packet {packet}, {} later", ms(after)),
            _ => "the rest is not in the capture".to_owned(),
        };
        let went_on = split.client_went_on_packet;
        let went_on = went_on.map_or(String::new(), |packet| {
            format!("; the client did not wait for it: it went on in packet {packet}")
        });
        lines.add("", &format!("cut in front of byte {} of 0 to 8; {rest}{went_on}", split.eof_bytes));
    }
}

fn of_traffic(counts: &Traffic, lines: &mut Lines) {
    lines.add_counts("counts", &counts.commands);
    lines.add_counts("errors", &counts.errors);
    let numbers = [
        ("result sets", counts.result_sets),
        ("rows", counts.rows),
        ("affected rows", counts.affected_rows),
        ("warnings", counts.warnings),
    ];
    let numbers: Vec<_> = numbers.iter().filter(|(_, count)| *count > 0).collect();
    let numbers: Vec<_> = numbers.iter().map(|(name, count)| format!("{name} {count}")).collect();
    if !numbers.is_empty() {
        lines.add("results", &numbers.join(", "));
    }
    lines.add_both("bytes", "", counts.bytes);
    lines.add_both("packets", " (of MySQL)", counts.packets);
    lines.add_both("compressed", " bytes", counts.compressed_bytes);
    lines.add_both("sent again", " segments", counts.retransmitted);
    lines.add_both("MISSING", " bytes that the capture lacks", counts.lost_bytes);
}

fn of_end(end: &End) -> String {
    let how = match (end.by, end.how) {
        (Some(by), _) if end.quit => format!("{by} ({}), the client after COM_QUIT", end.how),
        (Some(by), how) => format!("by the {by} ({how})"),
        (None, _) => "unseen: the same ports begin another connection".to_owned(),
    };
    let mut text = format!("{how}, {}, in phase {}", location(end.location), end.phase);
    if !end.unanswered.is_empty() {
        let _ = write!(text, ", without an answer to {}", list(&end.unanswered));
    }
    if let Some(by) = end.reset_by.filter(|_| end.how != "rst") {
        let _ = write!(text, "; then reset by the {by}");
    }
    text
}

fn of_totals(report: &Report, paint: Paint) -> String {
    let totals = &report.totals;
    let packets = plural(report.packets, "packet");
    let connections = plural(totals.connections, "connection");
    let mut lines = Lines::new(&format!("{}: {packets}, {connections}", report.file), paint);
    if let (Some(began), Some(ended)) = (&report.began, &report.ended) {
        lines.add("from", began);
        lines.add("to", ended);
    }
    if report.not_selected > 0 {
        lines.add("not listed", &format!("{}, as selected", plural(report.not_selected, "connection")));
    }
    if report.not_listed > 0 {
        lines.add("too many", &format!("{} not listed", plural(report.not_listed, "connection")));
    }
    if report.not_followed > 0 {
        lines.add(
            "too many",
            &format!("{} not inspected, or not to the end", plural(report.not_followed, "connection")),
        );
    }
    for (reason, count) in &report.left_out {
        lines.add("left out", &format!("{} {reason}", plural(*count, "packet")));
    }
    lines.add_counts("protocols", &totals.protocols);
    lines.add_counts("handshakes", &totals.handshakes);
    let count = |counts: &Counts<&'static str>, key| counts.get(key).copied().unwrap_or_default();
    let (in_tls, mysql) = (count(&totals.handshakes, "tls"), count(&totals.protocols, "mysql"));
    if in_tls > 0 {
        let what =
            format!("{in_tls} of {} used TLS, which hides their commands", plural(mysql, "MySQL connection"));
        lines.add("TLS", &format!("{what}. To see them, turn TLS off in the client and record again"));
    }
    lines.add_counts("opaque", &totals.opaque);
    lines.add_counts("hazards", &totals.hazards);
    of_traffic(&totals.counts, &mut lines);
    of_slowest(&report.slowest, &mut lines);
    lines.text
}

fn of_slowest(slowest: &[SlowCommand], lines: &mut Lines) {
    if slowest.is_empty() {
        return;
    }
    let row = |cells: [&str; 7]| {
        let [connection, packet, at, first, total, rows, command] = cells;
        format!("{connection:>10} {packet:>8} {at:>13} {first:>11} {total:>11} {rows:>9}  {command}")
    };
    let head = ["connection", "packet", "at ms", "first byte", "total ms", "rows", "command"];
    lines.add("slowest", &row(head));
    for slow in slowest {
        let number = |us: u64| ms(us).trim_end_matches(" ms").to_owned();
        let mut command =
            slow.verb.map_or(slow.command.to_owned(), |verb| format!("{} {verb}", slow.command));
        if let Some(errno) = slow.errno {
            let _ = write!(command, ", error {errno}");
        }
        let connection = if slow.connection == 0 { "-".to_owned() } else { slow.connection.to_string() };
        let (packet, rows) = (slow.location.packet.to_string(), slow.rows.to_string());
        let [at, first, total] = [slow.location.at_us, slow.first_byte_us, slow.took_us].map(number);
        lines.add("", &row([&connection, &packet, &at, &first, &total, &rows, &command]));
    }
}
