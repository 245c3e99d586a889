//! What `inspect` tells: the shape of its JSON, which `report.schema.json` describes, and the source of its text.
//!
//! Times are in microseconds. `at_us` counts from the first packet of the capture.

use std::collections::BTreeMap;

use serde::Serialize;

/// Counts by name.
pub(super) type Counts<K = String> = BTreeMap<K, u64>;

#[derive(Debug, Default, Serialize)]
pub(super) struct Report {
    pub(super) file: String,
    pub(super) packets: u64,
    /// Packets that are not looked at, by the reason.
    pub(super) left_out: Counts,
    pub(super) connections: Vec<Connection>,
    /// Connections that are only counted in `totals`, and those that are not looked at, because there are too many.
    pub(super) not_listed: u64,
    pub(super) not_followed: u64,
    pub(super) totals: Totals,
    /// What is wrong with the file; what stands in front of that place is told.
    pub(super) problem: Option<String>,
}

#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Totals {
    pub(super) connections: u64,
    pub(super) protocols: Counts<&'static str>,
    pub(super) handshakes: Counts<&'static str>,
    pub(super) opaque: Counts<&'static str>,
    pub(super) hazards: Counts<&'static str>,
    /// Of all hazards.
    pub(super) worst: Option<Severity>,
    pub(super) counts: Traffic,
}

/// What is counted of a connection, and of all.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Traffic {
    /// By the name of the command.
    pub(super) commands: Counts<&'static str>,
    /// Commands that ended in an error, by its number.
    pub(super) errors: Counts<u16>,
    pub(super) rows: u64,
    pub(super) affected_rows: u64,
    pub(super) warnings: u64,
    pub(super) result_sets: u64,
    /// PROXY headers left out.
    pub(super) bytes: Both,
    /// MySQL packets.
    pub(super) packets: Both,
    pub(super) compressed_bytes: Both,
    /// Segments that had come before.
    pub(super) retransmitted: Both,
    /// Bytes that passed and are not in the capture.
    pub(super) lost_bytes: Both,
}

/// A number for each sender.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Both {
    pub(super) client: u64,
    pub(super) server: u64,
}

/// A packet of the capture and its time.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(super) struct Place {
    pub(super) packet: u64,
    pub(super) at_us: u64,
}

#[derive(Debug, Default, Serialize)]
pub(super) struct Connection {
    pub(super) number: u64,
    pub(super) client: String,
    pub(super) server: String,
    /// Its first packet.
    pub(super) first: Place,
    /// From the SYN to the client's ACK; none where the capture does not have both.
    pub(super) tcp_handshake_us: Option<u64>,
    pub(super) protocol: &'static str,
    pub(super) first_word: Option<FirstWord>,
    pub(super) proxy_headers: Vec<ProxyHeader>,
    pub(super) handshake: Option<Handshake>,
    pub(super) opaque: Option<Opaque>,
    pub(super) commands: Vec<Command>,
    pub(super) commands_not_listed: u64,
    pub(super) counts: Traffic,
    pub(super) hazards: Vec<Hazard>,
    /// All of them, by their code; the list ends where it is long.
    pub(super) hazard_counts: Counts<&'static str>,
    /// Of all of them.
    pub(super) worst: Option<Severity>,
    pub(super) end: Option<End>,
    /// Who waits for whom where the capture ends and the connection does not.
    pub(super) waits: Option<Waits>,
}

/// Who spoke first, PROXY headers aside.
#[derive(Debug, Serialize)]
pub(super) struct FirstWord {
    pub(super) by: &'static str,
    /// What it looks like.
    pub(super) seen: &'static str,
    pub(super) packet: u64,
    /// Since the TCP handshake.
    pub(super) after_us: u64,
}

#[derive(Debug, Default, Serialize)]
pub(super) struct ProxyHeader {
    pub(super) format: &'static str,
    /// complete or malformed.
    pub(super) result: &'static str,
    /// Of its first byte.
    #[serde(flatten)]
    pub(super) place: Place,
    /// Where it begins in what the client sent.
    pub(super) at_byte: u64,
    pub(super) length: u64,
    /// `LOCAL`: the sender speaks for itself.
    pub(super) local: bool,
    /// `proxy`: it names other ends than those of this connection; `client`: these, or none.
    pub(super) sender: &'static str,
    pub(super) source: Option<String>,
    pub(super) destination: Option<String>,
    pub(super) problem: Option<String>,
}

#[derive(Debug, Default, Serialize)]
pub(super) struct Handshake {
    pub(super) server: Option<Server>,
    pub(super) client: Option<Client>,
    /// Capabilities that both have, of those that matter.
    pub(super) agreed: Vec<&'static str>,
    /// The plugin by which the client authenticated at last.
    pub(super) auth_plugin: Option<String>,
    /// ok, error, aborted, tls, refused (an error instead of a greeting), undecided (the capture ends before).
    pub(super) result: &'static str,
    /// Since the TCP handshake.
    pub(super) took_us: Option<u64>,
    pub(super) errno: Option<u16>,
}

#[derive(Debug, Serialize)]
pub(super) struct Server {
    pub(super) flavor: &'static str,
    pub(super) release: String,
    pub(super) version: String,
    pub(super) connection_id: u32,
    pub(super) capabilities: Vec<&'static str>,
    pub(super) auth_plugin: String,
}

#[derive(Debug, Serialize)]
pub(super) struct Client {
    pub(super) name: String,
    pub(super) version: String,
    pub(super) capabilities: Vec<&'static str>,
    pub(super) auth_plugin: String,
    /// Only where it is asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) user: Option<String>,
}

#[derive(Debug, Serialize)]
pub(super) struct Opaque {
    pub(super) reason: &'static str,
    #[serde(flatten)]
    pub(super) place: Place,
    /// Bytes are missing in the capture, which is why the connection cannot be followed on.
    pub(super) lost_bytes: bool,
    /// Of a desync: who talked, and what the last packets looked like from outside.
    pub(super) detail: Option<String>,
}

#[derive(Debug, Serialize)]
pub(super) struct Command {
    pub(super) command: &'static str,
    pub(super) verb: Option<&'static str>,
    #[serde(flatten)]
    pub(super) place: Place,
    /// What became of it: none for a command that has no answer.
    pub(super) answer: Option<Answer>,
    /// It has an answer, which is not in the capture.
    pub(super) unanswered: bool,
}

#[derive(Debug, Serialize)]
pub(super) struct Answer {
    pub(super) first_byte_us: u64,
    pub(super) took_us: u64,
    pub(super) rows: u64,
    pub(super) affected_rows: u64,
    pub(super) warnings: u32,
    pub(super) result_sets: u32,
    pub(super) errno: Option<u16>,
}

/// How bad a hazard is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Severity {
    /// Good to know.
    Info,
    /// It endangers connections or secrets.
    Warning,
    /// A connection hung, or failed.
    Error,
}

/// What makes connections hang or fail, or may.
#[derive(Debug, Serialize)]
pub(super) struct Hazard {
    pub(super) severity: Severity,
    pub(super) code: &'static str,
    #[serde(flatten)]
    pub(super) place: Place,
    pub(super) why: String,
    pub(super) fix: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) split: Option<Split>,
}

/// Where the last EOF of an answer to COM_STMT_PREPARE is cut.
#[derive(Debug, Serialize)]
pub(super) struct Split {
    /// So many of its 9 bytes came with what is in front of it, in the hazard's packet.
    pub(super) eof_bytes: u8,
    /// The packet of its last byte; none: it never came.
    pub(super) rest_packet: Option<u64>,
    /// How much later that came.
    pub(super) rest_after_us: Option<u64>,
    /// The client sent its next command in this packet, before the rest had come.
    pub(super) client_went_on_packet: Option<u64>,
}

#[derive(Debug, Serialize)]
pub(super) struct End {
    /// client or server; none: by nobody in the capture, the same ports begin another connection.
    pub(super) by: Option<&'static str>,
    /// fin, rst or replaced.
    pub(super) how: &'static str,
    #[serde(flatten)]
    pub(super) place: Place,
    /// The client had sent COM_QUIT.
    pub(super) quit: bool,
    pub(super) phase: &'static str,
    /// Commands that were not answered.
    pub(super) unanswered: Vec<&'static str>,
    /// Who reset the connection, before or after its end.
    pub(super) reset_by: Option<&'static str>,
}

#[derive(Debug, Serialize)]
pub(super) struct Waits {
    /// client or server; none: nobody owes anything.
    pub(super) who: Option<&'static str>,
    /// For what: tcp_handshake, greeting, handshake_response, authentication, answer, command.
    pub(super) what: &'static str,
    /// Commands without an answer, the oldest first.
    pub(super) commands: Vec<&'static str>,
    /// Since this packet.
    #[serde(flatten)]
    pub(super) since: Place,
    /// Until the capture ends.
    pub(super) for_us: u64,
}

/// What an entry of a map and a text take, about, in bytes.
const ENTRY: usize = 64;
const TEXT: usize = 256;

impl Connection {
    /// How much memory it takes, about, in bytes.
    pub(super) fn memory(&self) -> usize {
        let each = |count: usize, size: usize| count.saturating_mul(size);
        let counts = [self.counts.commands.len(), self.counts.errors.len(), self.hazard_counts.len()];
        let unanswered = self.end.as_ref().map_or(0, |end| end.unanswered.len());
        let waiting = self.waits.as_ref().map_or(0, |waits| waits.commands.len());
        [
            size_of::<Self>(),
            each(self.commands.len(), size_of::<Command>()),
            each(self.hazards.len(), size_of::<Hazard>().saturating_add(TEXT)),
            each(self.proxy_headers.len(), size_of::<ProxyHeader>().saturating_add(TEXT)),
            each(counts.into_iter().fold(0, usize::saturating_add), ENTRY),
            each(unanswered.saturating_add(waiting), size_of::<&str>()),
            // Addresses, and what the peers say of themselves.
            each(10, TEXT),
        ]
        .into_iter()
        .fold(0, usize::saturating_add)
    }
}

impl Traffic {
    /// Adds another's counts.
    pub(super) fn add(&mut self, other: &Self) {
        for (command, count) in &other.commands {
            add(&mut self.commands, command, *count);
        }
        for (errno, count) in &other.errors {
            add(&mut self.errors, *errno, *count);
        }
        for (sum, more) in [
            (&mut self.rows, other.rows),
            (&mut self.affected_rows, other.affected_rows),
            (&mut self.warnings, other.warnings),
            (&mut self.result_sets, other.result_sets),
        ] {
            *sum = sum.saturating_add(more);
        }
        for (sum, more) in [
            (&mut self.bytes, other.bytes),
            (&mut self.packets, other.packets),
            (&mut self.compressed_bytes, other.compressed_bytes),
            (&mut self.retransmitted, other.retransmitted),
            (&mut self.lost_bytes, other.lost_bytes),
        ] {
            sum.client = sum.client.saturating_add(more.client);
            sum.server = sum.server.saturating_add(more.server);
        }
    }
}

impl Totals {
    /// Adds a connection's.
    pub(super) fn add(&mut self, connection: &Connection) {
        self.connections = self.connections.saturating_add(1);
        add(&mut self.protocols, connection.protocol, 1);
        if let Some(handshake) = &connection.handshake {
            add(&mut self.handshakes, handshake.result, 1);
        }
        if let Some(opaque) = &connection.opaque {
            add(&mut self.opaque, opaque.reason, 1);
        }
        for (code, count) in &connection.hazard_counts {
            add(&mut self.hazards, code, *count);
        }
        self.worst = self.worst.max(connection.worst);
        self.counts.add(&connection.counts);
    }
}

/// Counts `more` of `key`.
pub(super) fn add<K: Ord>(counts: &mut Counts<K>, key: K, more: u64) {
    let count = counts.entry(key).or_default();
    *count = count.saturating_add(more);
}
