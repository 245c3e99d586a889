//! The table of all settings: their values, defaults and meanings. `docs/configuration.md` and the JSON Schema are made from
//! it. Tests compare it with what the reader accepts.

/// One setting.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// The path from the root, as in `rules[].match.ports`; `[]` is any item of an array.
    pub path: &'static str,
    /// The valid values.
    pub values: Values,
    /// What applies without the setting.
    pub default: Absent,
    /// The meaning, in one sentence without a full stop.
    pub meaning: &'static str,
}

/// The valid values of a setting. Ranges include both ends.
#[derive(Clone, Copy, Debug)]
pub enum Values {
    /// One of a few words.
    Word(&'static [Word]),
    /// An array of a few words, each at most once.
    Words(&'static [Word]),
    /// `true` or `false`.
    Boolean,
    /// A whole number.
    Integer(u32, u32),
    /// A string: a whole number with the unit `ms`, `s`, `m` or `h`.
    Duration(&'static str, &'static str),
    /// A string: a whole number with the unit `KiB` or `MiB`.
    Size(&'static str, &'static str),
    /// A string of 1 to 64 characters of `[a-z0-9_+./-]`.
    Name,
    /// A non-empty array of ports from 1 to 65535 and ranges such as `"10000-10099"`.
    Ports,
    /// A non-empty array of addresses, networks in CIDR notation, `"*"` and `"localhost"`.
    Networks,
}

/// A word, and what it means if the word alone does not say it.
pub type Word = (&'static str, &'static str);

/// What applies without a setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Absent {
    /// This value, as JSON.
    Value(&'static str),
    /// The setting of `defaults`.
    OfDefaults,
    /// Every value matches.
    Any,
    /// The feature is off, or the list is empty.
    Nothing,
}

const fn setting(path: &'static str, values: Values, default: Absent, meaning: &'static str) -> Setting {
    Setting { path, values, default, meaning }
}

const PROTOCOLS: Values = Values::Word(&[
    ("mysql", ""),
    ("server_first", "another server-first protocol, such as SMTP"),
    ("opaque", "no inspection"),
    ("detect", "from the first bytes"),
]);

const INSPECT: Values =
    Values::Word(&[("full", ""), ("requests", "no responses"), ("handshake", "nothing after it")]);

const AN_HOUR: Values = Values::Duration("1ms", "1h");
const OFF_OR_AN_HOUR: Values = Values::Duration("0s", "1h");

use Absent::{Any, Nothing, OfDefaults, Value};

/// All settings, in the order of the schema.
pub const SETTINGS: &[Setting] = &[
    setting(
        "mode",
        Values::Word(&[("active", ""), ("observe", "no rule changes bytes"), ("off", "no inspection")]),
        Value("\"active\""),
        "Limits all rules, also on open connections",
    ),
    setting(
        "rules[].name",
        Values::Name,
        Nothing,
        "The value of the label `destination` for this rule's connections",
    ),
    setting("rules[].match.ports", Values::Ports, Any, "Destination ports"),
    setting("rules[].match.addresses", Values::Networks, Any, "Destination addresses"),
    setting(
        "rules[].match.direction",
        Values::Word(&[
            ("inbound", ""),
            ("outbound", ""),
            ("unspecified", "a listener without a `traffic_direction`"),
        ]),
        Any,
        "Envoy's `traffic_direction` of the listener",
    ),
    setting("rules[].protocol", PROTOCOLS, OfDefaults, "The protocol that the connections carry"),
    setting(
        "rules[].greeting_timeout",
        AN_HOUR,
        OfDefaults,
        "Silence of the server after which it counts in `greeting_timeouts_total`; it closes nothing",
    ),
    setting(
        "rules[].proxy_protocol.receive.mode",
        Values::Word(&[("off", ""), ("optional", ""), ("required", "without a header: closed")]),
        Value("\"off\""),
        "Whether the filter removes PROXY headers that clients send",
    ),
    setting(
        "rules[].proxy_protocol.receive.trusted_networks",
        Values::Networks,
        Nothing,
        "The peers whose headers the filter believes",
    ),
    setting(
        "rules[].proxy_protocol.receive.on_untrusted_header",
        Values::Word(&[("close", ""), ("strip", "remove the header, do not believe it")]),
        Value("\"close\""),
        "What happens to the header of another peer",
    ),
    setting(
        "rules[].proxy_protocol.receive.timeout",
        AN_HOUR,
        Value("\"3s\""),
        "Maximum time until the header is complete",
    ),
    setting(
        "rules[].proxy_protocol.receive.connect_upstream",
        Values::Word(&[
            ("immediately", "the server may greet before the header is there"),
            ("after_header", ""),
        ]),
        Value("\"immediately\""),
        "When Envoy connects to the server",
    ),
    setting(
        "rules[].proxy_protocol.receive.max_header_bytes",
        Values::Integer(107, 65_551),
        Value("536"),
        "Maximum length of a header in bytes",
    ),
    setting(
        "rules[].proxy_protocol.send.mode",
        Values::Word(&[("off", ""), ("with_first_client_bytes", "before the client's first bytes")]),
        Value("\"off\""),
        "Whether the filter sends a PROXY header to the server",
    ),
    setting(
        "rules[].proxy_protocol.send.version",
        Values::Integer(1, 2),
        Value("1"),
        "The version of that header",
    ),
    setting(
        "rules[].proxy_protocol.send.when",
        Values::Word(&[("always", ""), ("not_received", "only if no header was believed")]),
        Value("\"always\""),
        "The connections that get a header",
    ),
    setting(
        "rules[].tls.downstream",
        Values::Word(&[("pass", ""), ("terminate", "end the client's TLS; only in the native module")]),
        Value("\"pass\""),
        "TLS of clients (see [End TLS](tls-terminate.md)); needs `match.addresses` and the protocol `mysql`",
    ),
    setting(
        "rules[].tls.upstream",
        Values::Word(&[("pass", ""), ("originate", "start TLS to the server; only in the native module")]),
        Value("\"pass\""),
        "TLS to the server (see [Start TLS](tls-originate.md)); needs `match.addresses` and the protocol `mysql`",
    ),
    setting("rules[].mysql.inspect", INSPECT, OfDefaults, "How much of a connection the filter reads"),
    setting(
        "rules[].mysql.hold_split_eof",
        Values::Word(&[("off", ""), ("affected_clients", ""), ("always", "")]),
        Value("\"off\""),
        "Prevents a hang of Connector/J (see [Hazards](hazards.md))",
    ),
    setting(
        "rules[].mysql.clear_capabilities",
        Values::Words(&[("compress", ""), ("zstd", ""), ("ssl", "")]),
        Nothing,
        "Capabilities that the filter removes from the greeting (see [Hazards](hazards.md)); `ssl` needs `match.addresses`",
    ),
    setting(
        "rules[].mysql.block_local_infile",
        Values::Boolean,
        Value("false"),
        "Refuses requests for files that the client's statement does not name (see [Hazards](hazards.md))",
    ),
    setting(
        "rules[].mysql.slow_command",
        OFF_OR_AN_HOUR,
        OfDefaults,
        "Logs commands that take this long, and commands that fail; `\"0s\"` is off",
    ),
    setting("defaults.protocol", PROTOCOLS, Value("\"detect\""), "As in a rule"),
    setting("defaults.greeting_timeout", AN_HOUR, Value("\"5s\""), "As in a rule"),
    setting("defaults.mysql.inspect", INSPECT, Value("\"full\""), "As in a rule"),
    setting("defaults.mysql.slow_command", OFF_OR_AN_HOUR, Value("\"0s\""), "As in a rule"),
    setting(
        "metrics.profile",
        Values::Word(&[("minimal", ""), ("standard", ""), ("full", "")]),
        Value("\"standard\""),
        "The set of exported metrics (see [Metrics](metrics.md))",
    ),
    setting(
        "metrics.labels",
        Values::Words(&[("direction", ""), ("destination", ""), ("port", "")]),
        Value("[\"direction\", \"destination\"]"),
        "Labels of every metric that belongs to a connection",
    ),
    setting(
        "metrics.flush_interval",
        Values::Duration("100ms", "1m"),
        Value("\"1s\""),
        "Time between two exports",
    ),
    setting(
        "metrics.max_series",
        Values::Integer(1, 100_000),
        Value("1000"),
        "Maximum number of label sets in each VM; further ones count as `other`",
    ),
    setting(
        "metrics.stall",
        AN_HOUR,
        Value("\"10s\""),
        "Time without a complete response after which a command counts as stalled",
    ),
    setting(
        "access_log",
        Values::Words(&[
            (
                "protocol",
                "`mysql`, `server_first`, `client_first`, `opaque` or `unknown`; written when it is recognised",
            ),
            (
                "user",
                "the account that the client asked for last and the server did not refuse; written with the client's last byte of it",
            ),
            (
                "schema",
                "the current schema: of the login, COM_INIT_DB, USE, COM_CHANGE_USER, session tracking; written when the server agrees",
            ),
            ("server_version", "the version text of the greeting; written with the greeting"),
            ("client", "client library and version, from the connection attributes; written with `user`"),
            ("thread_id", "the server's number for the connection; written with the greeting"),
            ("commands", "number of commands that the client sent; written on the tick, and at the end"),
            ("errors", "number of commands that ended with an error; written on the tick, and at the end"),
            (
                "last_errno",
                "number of the last error that the server sent, absent if none; written on the tick, and at the end",
            ),
            (
                "source",
                "address and port of the client from a PROXY header that is believed, absent without one; written with the header",
            ),
            (
                "opaque_reason",
                "why the connection is not inspected any more (`opaque_total{reason}`), absent if it is; written when it begins",
            ),
        ]),
        Nothing,
        "The keys of [access-log state](access-log.md)",
    ),
    setting(
        "log.level",
        Values::Word(&[("off", ""), ("error", ""), ("warn", ""), ("info", ""), ("debug", ""), ("trace", "")]),
        Value("\"warn\""),
        "The least severe level that is logged",
    ),
    setting(
        "log.max_per_minute",
        Values::Integer(1, 60_000),
        Value("60"),
        "Maximum number of lines that each VM logs in a minute",
    ),
    setting(
        "limits.connection_state",
        Values::Size("1MiB", "512MiB"),
        Value("\"16MiB\""),
        "Maximum memory of the state of all connections in one VM (see [Memory](memory.md))",
    ),
];
