//! All metrics: name, kind, labels with their bounded values, profile and help text.
//!
//! This is the only source of the README's table, of the tests and of the names in Envoy.

use std::borrow::Cow;

use super::Profile;
use crate::event::{
    ClientFirst, ClosedBy, HandshakeResult, HazardKind, HeaderResult, OpaqueReason, PanicResult, Phase,
    ProtectionLost, Protocol, Sender, ServerFirst, TlsResult, TlsSide,
};
use crate::mysql::peer::client::{Connector, Series};
use crate::mysql::peer::server::{Flavor, Release};
use crate::mysql::sql::verb::Verb;
use crate::mysql::wire::auth_plugin::AuthPlugin;
use crate::mysql::wire::command::Command;
use crate::mysql::wire::errno;
use crate::proxy_protocol::Format;
use crate::version::{COMMIT, VERSION};

/// The kind of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A number that only grows.
    Counter,
    /// A number that goes up and down.
    Gauge,
    /// Durations: cumulative counters `NAME_seconds_bucket` by `le`, `NAME_seconds_count` and
    /// `NAME_microseconds_sum`.
    Histogram,
}

/// The code of a label value, by which a series is found without its text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LabelCode(pub u16);

impl LabelCode {
    /// The code of the value `other`, which stands for all values without a code of their own.
    pub const OTHER: Self = Self(u16::MAX);
    /// The code of the value `none`.
    pub const NONE: Self = Self(u16::MAX - 1);
}

/// The codes of a metric's own labels, in order. A metric with fewer labels has zeros.
pub type Labels = [LabelCode; 2];

/// The labels of a metric without labels of its own.
pub const NO_LABELS: Labels = labels(0, 0);

/// The labels of a metric with one label of its own.
#[must_use]
pub const fn label(code: u16) -> Labels {
    labels(code, 0)
}

/// The labels of a metric with two labels of its own.
#[must_use]
pub const fn labels(first: u16, second: u16) -> Labels {
    [LabelCode(first), LabelCode(second)]
}

/// A label that a metric has in addition to `metrics.labels`. Its values are codes until they are exported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Label {
    /// [`Protocol`].
    Protocol,
    /// [`ServerFirst`].
    Spoken,
    /// [`Phase`].
    Phase,
    /// [`ClosedBy`].
    ClosedBy,
    /// [`ClientFirst`].
    Seen,
    /// [`Flavor`].
    Flavor,
    /// [`Release`], `major.minor`.
    Release,
    /// A number from the list in [`errno`].
    Errno,
    /// [`HandshakeResult`].
    Result,
    /// [`Format`], or `none`.
    Format,
    /// [`HeaderResult`].
    HeaderResult,
    /// [`AuthPlugin`].
    Plugin,
    /// [`Connector`].
    Client,
    /// [`Series`], `major.minor`.
    ClientSeries,
    /// [`Command`].
    Command,
    /// [`Verb`].
    Verb,
    /// [`Sender`].
    Sender,
    /// [`OpaqueReason`].
    Reason,
    /// [`ProtectionLost`].
    Lost,
    /// [`HazardKind`].
    Kind,
    /// [`PanicResult`].
    PanicResult,
    /// [`TlsSide`].
    Side,
    /// [`TlsResult`].
    TlsResult,
    /// The version of this filter.
    Version,
    /// The commit of this build.
    Commit,
}

/// The text at `code` in a list of label values.
macro_rules! at {
    ($values:expr, $code:expr) => {
        $values.get(usize::from($code.0)).map_or("other", |value| value.label()).into()
    };
}

impl Label {
    /// The label's name.
    #[must_use]
    pub const fn key(self) -> &'static str {
        match self {
            Self::Protocol | Self::Spoken => "protocol",
            Self::Phase => "phase",
            Self::ClosedBy => "closed_by",
            Self::Seen => "seen",
            Self::Flavor => "flavor",
            Self::Release => "release",
            Self::Errno => "errno",
            Self::Format => "format",
            Self::Result | Self::HeaderResult | Self::PanicResult | Self::TlsResult => "result",
            Self::Side => "side",
            Self::Plugin => "plugin",
            Self::Client => "client",
            Self::ClientSeries => "client_series",
            Self::Command => "command",
            Self::Verb => "verb",
            Self::Sender => "sender",
            Self::Reason | Self::Lost => "reason",
            Self::Kind => "kind",
            Self::Version => "version",
            Self::Commit => "commit",
        }
    }

    /// The value of a code.
    #[must_use]
    pub fn value(self, code: LabelCode) -> Cow<'static, str> {
        match self {
            _ if code == LabelCode::OTHER => "other".into(),
            _ if code == LabelCode::NONE => "none".into(),
            Self::Protocol => at!(Protocol::ALL, code),
            Self::Spoken => at!(ServerFirst::ALL, code),
            Self::Phase => at!(Phase::ALL, code),
            Self::ClosedBy => at!(ClosedBy::ALL, code),
            Self::Seen => at!(ClientFirst::ALL, code),
            Self::Flavor => at!(Flavor::ALL, code),
            Self::Release => Release::from_code(code.0).label().into(),
            Self::Errno => errno::label(code.0),
            Self::Result => at!(HandshakeResult::ALL, code),
            Self::Format => at!(Format::ALL, code),
            Self::HeaderResult => at!(HeaderResult::ALL, code),
            Self::Plugin => at!(AuthPlugin::ALL, code),
            Self::Client => at!(Connector::ALL, code),
            Self::ClientSeries => {
                let [major, minor] = code.0.to_be_bytes();
                format!("{major}.{minor}").into()
            }
            Self::Verb => at!(Verb::ALL, code),
            Self::Command => u8::try_from(code.0).map_or("other", |byte| Command(byte).label()).into(),
            Self::Sender => at!(Sender::ALL, code),
            Self::Reason => at!(OpaqueReason::ALL, code),
            Self::Lost => at!(ProtectionLost::ALL, code),
            Self::Kind => at!(HazardKind::ALL, code),
            Self::PanicResult => at!(PanicResult::ALL, code),
            Self::Side => at!(TlsSide::ALL, code),
            Self::TlsResult => at!(TlsResult::ALL, code),
            Self::Version => VERSION.into(),
            Self::Commit => COMMIT.into(),
        }
    }

    /// Number of values whose series exist from the start with the value zero; `None` if the label has no such series.
    #[must_use]
    pub fn preset(self) -> Option<u16> {
        match self {
            Self::Result | Self::Sender | Self::Reason | Self::Lost | Self::Kind => {
                self.values().and_then(|n| u16::try_from(n).ok())
            }
            _ => None,
        }
    }

    /// The code of the value `other`. Each text has one code.
    #[must_use]
    pub const fn other(self) -> LabelCode {
        LabelCode(match self {
            Self::Spoken => ServerFirst::Other as u16,
            Self::Seen => ClientFirst::Other as u16,
            Self::Flavor => Flavor::Other as u16,
            Self::Plugin => AuthPlugin::Other as u16,
            Self::Client => Connector::Other as u16,
            Self::Verb => Verb::Other as u16,
            Self::Release => 0,
            _ => return LabelCode::OTHER,
        })
    }

    /// Number of values; `None` if there are more than the number of series of a destination.
    #[must_use]
    pub const fn values(self) -> Option<usize> {
        match self {
            Self::Protocol => Some(Protocol::ALL.len()),
            Self::Spoken => Some(ServerFirst::ALL.len()),
            Self::Phase => Some(Phase::ALL.len()),
            Self::ClosedBy => Some(ClosedBy::ALL.len()),
            Self::Seen => Some(ClientFirst::ALL.len()),
            Self::Flavor => Some(Flavor::ALL.len()),
            Self::Result => Some(HandshakeResult::ALL.len()),
            Self::Sender => Some(Sender::ALL.len()),
            Self::Reason => Some(OpaqueReason::ALL.len()),
            Self::Lost => Some(ProtectionLost::ALL.len()),
            Self::Kind => Some(HazardKind::ALL.len()),
            Self::PanicResult => Some(PanicResult::ALL.len()),
            Self::Plugin => Some(AuthPlugin::ALL.len()),
            Self::Client => Some(Connector::ALL.len()),
            Self::Verb => Some(Verb::ALL.len()),
            Self::Version | Self::Commit => Some(1),
            // Few values, but not every pair of them is possible.
            Self::Format | Self::HeaderResult | Self::Side | Self::TlsResult => None,
            Self::Release | Self::Errno | Self::ClientSeries | Self::Command => None,
        }
    }
}

/// The code of [`Label::ClientSeries`].
pub(super) fn client_series(series: Series) -> LabelCode {
    match series {
        Series::None => LabelCode::NONE,
        Series::Other => LabelCode::OTHER,
        Series::Known(major, minor) => LabelCode(u16::from_be_bytes([major, minor])),
    }
}

/// The definition of one metric.
#[derive(Clone, Copy, Debug)]
pub struct Definition {
    /// Name without the prefix; that of a histogram without its endings.
    pub name: &'static str,
    /// Kind of the metric.
    pub kind: Kind,
    /// The smallest profile that exports the metric.
    pub profile: Profile,
    /// Whether the metric is about connections and carries `metrics.labels`. Otherwise it is about the VM.
    pub scoped: bool,
    /// Labels of its own.
    pub labels: &'static [Label],
    /// A further label in [`Profile::Full`].
    pub in_full: Option<Label>,
    /// Help text.
    pub help: &'static str,
}

impl Definition {
    /// Labels in a profile.
    pub fn labels(&self, profile: Profile) -> impl Iterator<Item = Label> + use<> {
        let more = self.in_full.filter(|_| profile == Profile::Full);
        self.labels.iter().copied().chain(more)
    }

    /// Number of possible label sets; `None` if one of the labels has too many values.
    #[must_use]
    pub fn label_sets(&self) -> Option<usize> {
        self.labels.iter().try_fold(1, |sets: usize, label| Some(sets.saturating_mul(label.values()?)))
    }

    /// The label set that stands for all label sets without series of their own.
    #[must_use]
    pub fn others(&self, profile: Profile) -> Labels {
        let mut labels = self.labels(profile);
        let mut other = || labels.next().map_or(LabelCode(0), Label::other);
        [other(), other()]
    }
}

macro_rules! catalogue {
    ($($metric:ident $name:literal $kind:ident $profile:ident $scoped:ident
        [$($label:ident)*] $(in full $more:ident)? $help:literal;)*) => {
        /// A row of the catalogue.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Metric {
            $(#[doc = $help] $metric,)*
        }

        impl Metric {
            /// Every metric, in the order of the documentation.
            pub const ALL: &[Self] = &[$(Self::$metric,)*];

            /// The definition of the metric.
            #[must_use]
            pub const fn definition(self) -> &'static Definition {
                match self {
                    $(Self::$metric => &Definition {
                        name: $name,
                        kind: Kind::$kind,
                        profile: Profile::$profile,
                        scoped: catalogue!(@$scoped),
                        labels: &[$(Label::$label,)*],
                        in_full: catalogue!(@more $($more)?),
                        help: $help,
                    },)*
                }
            }
        }
    };
    (@scoped) => { true };
    (@vm) => { false };
    (@more) => { None };
    (@more $label:ident) => { Some(Label::$label) };
}

catalogue! {
    ConnectionsTotal "connections_total" Counter Minimal scoped [Protocol]
        "Connections, counted when what they carry is recognised or when they end.";
    ConnectionsActive "connections_active" Gauge Minimal scoped [Protocol]
        "Open connections; one on which no peer has spoken yet counts as what is expected there.";
    ConnectionsClosed "connections_closed_total" Counter Standard scoped [Phase ClosedBy]
        "Connections that ended, by their phase and by who closed them.";
    GreetingDuration "greeting_duration" Histogram Standard scoped []
        "From the start of a connection to the server's greeting.";
    GreetingTimeouts "greeting_timeouts_total" Counter Minimal scoped []
        "Connections on which the server should speak first and was silent for greeting_timeout.";
    ServerFirst "server_first_detected_total" Counter Minimal scoped [Spoken]
        "Connections on which the server spoke before the client, by the protocol it spoke.";
    ClientFirst "client_first_total" Counter Standard scoped [Seen]
        "Connections on which the client spoke before the server, by what it said.";
    Greetings "greetings_total" Counter Standard scoped [Flavor Release]
        "Greetings, by the kind and release the server gives.";
    PreHandshakeErrors "pre_handshake_errors_total" Counter Minimal scoped [Errno]
        "Errors sent instead of a greeting.";
    Handshakes "handshakes_total" Counter Minimal scoped [Result]
        "Connection phases that ended, by their result.";
    HandshakeDuration "handshake_duration" Histogram Standard scoped []
        "From the start of a connection to the server's decision about the client.";
    HandshakeErrors "handshake_errors_total" Counter Standard scoped [Errno Plugin]
        "Clients refused after the greeting, by error and by what they were to authenticate with.";
    AuthSwitches "auth_switches_total" Counter Full scoped [Plugin]
        "Requests to authenticate by another plugin, or by a further one.";
    PlaintextFullAuth "plaintext_full_auth_total" Counter Standard scoped []
        "Full authentications by caching_sha2_password without TLS.";
    Clients "clients_total" Counter Full scoped [Client ClientSeries]
        "Clients that responded to the greeting, by the library that they name.";
    TlsSessions "tls_sessions_total" Counter Standard scoped [Side TlsResult]
        "Connections on which the native module had to start or end TLS, by the side of the proxy and the result.";
    Commands "commands_total" Counter Minimal scoped [Command]
        "Commands that the client sent.";
    CommandsInFlight "commands_in_flight" Gauge Minimal scoped []
        "Commands whose response is not complete.";
    CommandsStalled "commands_stalled" Gauge Minimal scoped []
        "Commands in flight for longer than metrics.stall, without COM_BINLOG_DUMP.";
    Statements "statements_total" Counter Standard scoped [Verb]
        "COM_QUERY, COM_STMT_EXECUTE and COM_STMT_BULK_EXECUTE with a response, by the verb of their first statement.";
    CommandDuration "command_duration" Histogram Standard scoped [Command] in full Verb
        "From a command's first packet to the last of its response.";
    CommandFirstByte "command_first_byte" Histogram Full scoped [Command]
        "From a command's first packet to the first of its response.";
    Errors "errors_total" Counter Minimal scoped [Errno]
        "Commands that ended with an error.";
    Rows "rows_total" Counter Standard scoped []
        "Rows in result sets.";
    AffectedRows "affected_rows_total" Counter Standard scoped []
        "Rows changed, deleted or inserted, as the server says.";
    Warnings "warnings_total" Counter Standard scoped []
        "Warnings, as the server says.";
    NoIndexUsed "no_index_used_total" Counter Standard scoped []
        "Results for which the server used no index (SERVER_QUERY_NO_INDEX_USED).";
    SlowFlag "slow_flag_total" Counter Standard scoped []
        "Results that the server calls slow (SERVER_QUERY_WAS_SLOW).";
    PreparedStatements "prepared_statements_open" Gauge Standard scoped []
        "Prepared statements that are open.";
    Transactions "transactions_open" Gauge Standard scoped []
        "Connections whose last status flags had SERVER_STATUS_IN_TRANS; an error carries none.";
    ResultSets "result_sets_total" Counter Full scoped []
        "Result sets.";
    Packets "packets_total" Counter Full scoped [Sender]
        "MySQL packets; a payload of 16 MiB or more has several.";
    Bytes "bytes_total" Counter Minimal scoped [Sender]
        "Bytes passed, whatever they carry; PROXY headers that the filter removes or adds are left out.";
    CompressedBytes "compressed_bytes_total" Counter Full scoped [Sender]
        "Those of bytes_total that passed compressed.";
    LocalInfile "local_infile_total" Counter Standard scoped []
        "Requests of the server for a file of the client's.";
    LocalInfileBlocked "local_infile_blocked_total" Counter Standard scoped []
        "Those of local_infile_total that the client's statement does not ask for, and that were blocked (block_local_infile).";
    ProtectionLost "protection_lost_total" Counter Standard scoped [Lost]
        "Connections closed because a rule's protection (block_local_infile, proxy_protocol) could no longer be enforced, by the cause.";
    PrepareEofSplits "prepare_eof_splits_total" Counter Standard scoped []
        "Responses to COM_STMT_PREPARE whose final EOF came later than the column definitions before it.";
    PrepareEofHeld "prepare_eof_held_total" Counter Standard scoped []
        "Responses to COM_STMT_PREPARE whose end was held until it was complete (hold_split_eof).";
    PrepareEofLost "prepare_eof_lost_total" Counter Standard scoped []
        "Connections that the server ended while bytes were held, which are lost.";
    EofHazardClients "eof_hazard_clients_total" Counter Standard scoped []
        "Clients that hang on such a split, by their connection attributes, or can where the server takes none.";
    Hazards "hazards_total" Counter Standard scoped [Kind]
        "What endangers clients' connections and secrets, by its kind.";
    ServerNotices "server_notices_total" Counter Standard scoped [Errno]
        "Unsolicited errors from the server, outside any command.";
    Opaque "opaque_total" Counter Minimal scoped [Reason]
        "Connections forwarded without inspection from some point on, by the reason.";
    ProxyProtocolReceived "proxy_protocol_received_total" Counter Minimal scoped [Format HeaderResult]
        "PROXY headers of clients, and connections closed because none came, by their result.";
    ProxyProtocolSent "proxy_protocol_sent_total" Counter Minimal scoped [Format]
        "PROXY headers sent to servers before the client's first bytes.";
    Heartbeat "heartbeat_total" Counter Minimal vm []
        "Ticks of all VMs.";
    VmMemory "vm_memory_bytes" Gauge Minimal vm []
        "Linear memory of all VMs.";
    ConnectionState "connection_state_bytes" Gauge Minimal vm []
        "Memory of the state of open connections in all VMs; limits.connection_state is the maximum for each VM.";
    Series "series" Gauge Minimal vm []
        "Metric series defined by all VMs.";
    SeriesOverflow "series_overflow_total" Counter Minimal vm []
        "What was counted under `other` because its label set is beyond metrics.max_series.";
    ConfigRejected "config_rejected" Gauge Minimal vm []
        "Number of plugins in all VMs that run with the defaults, because their configuration has problems.";
    Panics "panics_total" Counter Minimal vm [PanicResult]
        "Connections on which the native module panicked, by what followed. In wasm a panic ends the VM.";
    BuildInfo "build_info" Gauge Minimal vm [Version Commit]
        "1, with the version and commit of the filter.";
}

#[cfg(test)]
mod tests;
