//! The report of `inspect`: its JSON has this shape, which `report.schema.json` describes. Its text is made from it.
//!
//! Times are in microseconds. `at_us` counts from the first packet of the capture.

use std::collections::BTreeMap;

use serde::Serialize;

/// Counts by name.
pub(super) type Counts<K = String> = BTreeMap<K, u64>;

/// The version of the JSON format. It changes if a key changes its meaning or goes; keys may be added.
const FORMAT: u32 = 1;

#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) format: u32,
    pub(super) file: String,
    pub(super) packets: u64,
    /// The times of the first and the last packet.
    pub(super) began: Option<String>,
    pub(super) ended: Option<String>,
    /// Packets that are not read, by the reason.
    pub(super) left_out: Counts,
    pub(super) connections: Vec<Connection>,
    /// Connections that are only counted in `totals`, because there are too many.
    pub(super) not_listed: u64,
    /// Connections that are not followed, because there are too many.
    pub(super) not_followed: u64,
    /// Connections that the user did not select.
    pub(super) not_selected: u64,
    pub(super) totals: Totals,
    /// The commands that took longest, the slowest first.
    pub(super) slowest: Vec<SlowCommand>,
    /// The problem of the file. The report covers the packets before it.
    pub(super) problem: Option<String>,
}

impl Report {
    pub(super) fn new(file: String) -> Self {
        Self {
            format: FORMAT,
            file,
            packets: 0,
            began: None,
            ended: None,
            left_out: Counts::new(),
            connections: Vec::new(),
            not_listed: 0,
            not_followed: 0,
            not_selected: 0,
            totals: Totals::default(),
            slowest: Vec::new(),
            problem: None,
        }
    }
}

/// One of the slowest commands.
#[derive(Clone, Debug, Serialize)]
pub(super) struct SlowCommand {
    /// The number of its connection.
    pub(super) connection: u64,
    pub(super) command: &'static str,
    pub(super) verb: Option<&'static str>,
    #[serde(flatten)]
    pub(super) location: PacketLocation,
    pub(super) first_byte_us: u64,
    pub(super) took_us: u64,
    pub(super) rows: u64,
    pub(super) errno: Option<u16>,
}

#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Totals {
    pub(super) connections: u64,
    pub(super) protocols: Counts<&'static str>,
    pub(super) handshakes: Counts<&'static str>,
    pub(super) opaque: Counts<&'static str>,
    pub(super) hazards: Counts<&'static str>,
    /// The worst severity of all hazards.
    pub(super) worst: Option<Severity>,
    pub(super) counts: Traffic,
}

/// Counts of a connection, and of all connections.
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
    /// Bytes without PROXY headers.
    pub(super) bytes: Both,
    /// MySQL packets.
    pub(super) packets: Both,
    pub(super) compressed_bytes: Both,
    /// Segments with bytes that had arrived before.
    pub(super) retransmitted: Both,
    /// Bytes that are not in the capture.
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
pub(super) struct PacketLocation {
    pub(super) packet: u64,
    pub(super) at_us: u64,
}

#[derive(Debug, Default, Serialize)]
pub(super) struct Connection {
    pub(super) number: u64,
    pub(super) client: String,
    pub(super) server: String,
    /// The first packet.
    pub(super) first: PacketLocation,
    /// The time of the first packet.
    pub(super) began: String,
    /// Time from the SYN to the client's ACK; `None` if the capture does not have both.
    pub(super) tcp_handshake_us: Option<u64>,
    pub(super) protocol: &'static str,
    pub(super) first_word: Option<FirstWord>,
    pub(super) proxy_headers: Vec<ProxyHeader>,
    pub(super) handshake: Option<Handshake>,
    pub(super) opaque: Option<Opaque>,
    pub(super) commands: Vec<Command>,
    pub(super) commands_not_listed: u64,
    /// Its slowest commands, which the report lists together with those of other connections.
    #[serde(skip)]
    pub(super) slowest: Vec<SlowCommand>,
    pub(super) counts: Traffic,
    pub(super) hazards: Vec<Hazard>,
    /// Number of all hazards, by their code. The list is shorter if there are many.
    pub(super) hazard_counts: Counts<&'static str>,
    /// The worst severity of all of them.
    pub(super) worst: Option<Severity>,
    pub(super) end: Option<End>,
    /// The peer that waits when the capture ends before the connection.
    pub(super) waits: Option<Waits>,
}

/// The first bytes of a connection after PROXY headers.
#[derive(Debug, Serialize)]
pub(super) struct FirstWord {
    pub(super) by: &'static str,
    /// The protocol that they look like.
    pub(super) seen: &'static str,
    pub(super) packet: u64,
    /// Time since the TCP handshake.
    pub(super) after_us: u64,
}

#[derive(Debug, Default, Serialize)]
pub(super) struct ProxyHeader {
    pub(super) format: &'static str,
    /// `complete` or `malformed`.
    pub(super) result: &'static str,
    /// Location of the first byte.
    #[serde(flatten)]
    pub(super) location: PacketLocation,
    /// Offset in the client's bytes.
    pub(super) at_byte: u64,
    pub(super) length: u64,
    /// `LOCAL`: the connection is the sender's own.
    pub(super) local: bool,
    /// `proxy` if the header names other ends than those of this connection, otherwise `client`.
    pub(super) sender: &'static str,
    pub(super) source: Option<String>,
    pub(super) destination: Option<String>,
    pub(super) problem: Option<String>,
}

#[derive(Debug, Default, Serialize)]
pub(super) struct Handshake {
    pub(super) server: Option<Server>,
    pub(super) client: Option<Client>,
    /// Shown capabilities that both sides have.
    pub(super) agreed: Vec<&'static str>,
    /// The plugin of the last authentication.
    pub(super) auth_plugin: Option<String>,
    /// `ok`, `error`, `aborted`, `tls`, `refused` (an error instead of a greeting) or `undecided` (the capture ends before).
    pub(super) result: &'static str,
    /// Time since the TCP handshake.
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
    /// The name of the account; `None` without `--user`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) user: Option<String>,
}

#[derive(Debug, Serialize)]
pub(super) struct Opaque {
    pub(super) reason: &'static str,
    #[serde(flatten)]
    pub(super) location: PacketLocation,
    /// Whether bytes are missing in the capture, so that the connection cannot be followed.
    pub(super) lost_bytes: bool,
    /// Of a desync: the sender, and the types and lengths of the last packets.
    pub(super) detail: Option<String>,
}

#[derive(Debug, Serialize)]
pub(super) struct Command {
    pub(super) command: &'static str,
    pub(super) verb: Option<&'static str>,
    #[serde(flatten)]
    pub(super) location: PacketLocation,
    /// The response; `None` for a command without one.
    pub(super) answer: Option<Answer>,
    /// Whether its response is not in the capture.
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

/// The severity of a hazard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Severity {
    /// Good to know.
    Info,
    /// A danger for connections or secrets.
    Warning,
    /// A connection hung or failed.
    Error,
}

/// A cause that makes connections hang or fail, or that can do so.
#[derive(Debug, Serialize)]
pub(super) struct Hazard {
    pub(super) severity: Severity,
    pub(super) code: &'static str,
    #[serde(flatten)]
    pub(super) location: PacketLocation,
    pub(super) why: String,
    pub(super) fix: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) split: Option<Split>,
}

/// The split of the last EOF of a COM_STMT_PREPARE response.
#[derive(Debug, Serialize)]
pub(super) struct Split {
    /// Number of its 9 bytes that came with the bytes before it, in the hazard's packet.
    pub(super) eof_bytes: u8,
    /// The packet of its last byte; `None` if the byte did not arrive.
    pub(super) rest_packet: Option<u64>,
    /// Time from the first part to the last byte.
    pub(super) rest_after_us: Option<u64>,
    /// The packet of the client's next command, if the client sent it before the rest had arrived.
    pub(super) client_went_on_packet: Option<u64>,
}

#[derive(Debug, Serialize)]
pub(super) struct End {
    /// `client` or `server`; `None` if the capture does not show it and the same ports begin another connection.
    pub(super) by: Option<&'static str>,
    /// `fin`, `rst` or `replaced`.
    pub(super) how: &'static str,
    #[serde(flatten)]
    pub(super) location: PacketLocation,
    /// Whether the client had sent COM_QUIT.
    pub(super) quit: bool,
    pub(super) phase: &'static str,
    /// Commands without a response.
    pub(super) unanswered: Vec<&'static str>,
    /// The peer that reset the connection, before or after its end.
    pub(super) reset_by: Option<&'static str>,
}

#[derive(Debug, Serialize)]
pub(super) struct Waits {
    /// `client` or `server`; `None` if neither waits for the other.
    pub(super) who: Option<&'static str>,
    /// The awaited message: `tcp_handshake`, `greeting`, `handshake_response`, `authentication`, `answer`, `rest_of_split_eof`
    /// or `command`.
    pub(super) what: &'static str,
    /// Commands without a response, the oldest first.
    pub(super) commands: Vec<&'static str>,
    /// The packet at which the wait begins.
    #[serde(flatten)]
    pub(super) since: PacketLocation,
    /// Time until the capture ends.
    pub(super) for_us: u64,
}

/// Approximate memory of an entry of a map and of a text, in bytes.
const ENTRY_SIZE: usize = 64;
const TEXT_SIZE: usize = 256;

impl Connection {
    /// Approximate memory in bytes.
    pub(super) fn memory(&self) -> usize {
        let each = |count: usize, size: usize| count.saturating_mul(size);
        let counts = [self.counts.commands.len(), self.counts.errors.len(), self.hazard_counts.len()];
        let unanswered = self.end.as_ref().map_or(0, |end| end.unanswered.len());
        let waiting = self.waits.as_ref().map_or(0, |waits| waits.commands.len());
        [
            size_of::<Self>(),
            each(self.commands.len(), size_of::<Command>()),
            each(self.slowest.len(), size_of::<SlowCommand>()),
            each(self.hazards.len(), size_of::<Hazard>().saturating_add(TEXT_SIZE)),
            each(self.proxy_headers.len(), size_of::<ProxyHeader>().saturating_add(TEXT_SIZE)),
            each(counts.into_iter().fold(0, usize::saturating_add), ENTRY_SIZE),
            each(unanswered.saturating_add(waiting), size_of::<&str>()),
            // Addresses, and the identities of the peers.
            each(10, TEXT_SIZE),
        ]
        .into_iter()
        .fold(0, usize::saturating_add)
    }
}

impl Traffic {
    /// Adds the counts of another connection.
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
    /// Adds a connection.
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

/// Adds `more` to the count of `key`.
pub(super) fn add<K: Ord>(counts: &mut Counts<K>, key: K, more: u64) {
    let count = counts.entry(key).or_default();
    *count = count.saturating_add(more);
}
