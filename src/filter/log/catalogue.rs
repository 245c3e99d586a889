//! All lines that the filter writes to Envoy's log, by their `event=`. `docs/access-log.md` has this table.

/// A kind of line.
#[derive(Clone, Copy, Debug)]
pub struct LogEvent {
    /// The value of `event=`.
    pub name: &'static str,
    /// The unit for which there is one line.
    pub once_for_each: &'static str,
    /// What happened, and what the line contains.
    pub content: &'static str,
}

const fn event(name: &'static str, once_for_each: &'static str, content: &'static str) -> LogEvent {
    LogEvent { name, once_for_each, content }
}

/// All kinds of lines, by subject.
pub const LOG_EVENTS: &[LogEvent] = &[
    event(
        "configured",
        "VM",
        "The filter accepted its configuration: version and commit. Nothing to do. Level `info`.",
    ),
    event(
        "config_rejected",
        "configuration",
        "A new proxy runs with the defaults, because its configuration has problems. The lines before it list them. Correct \
         the configuration.",
    ),
    event(
        "config_refused",
        "configuration",
        "The filter refuses a configuration, because the defaults would drop a protection that it names. `word=` is the \
         setting. Correct the configuration.",
    ),
    event(
        "greeting_timeout",
        "connection",
        "A server that should speak first sent nothing for `greeting_timeout`: its address, and the likely causes in order.",
    ),
    event(
        "server_first_undeclared",
        "port and VM",
        "A server speaks first where no rule and not the built-in table expects it, or in another protocol: what to declare, \
         before an HTTP Service on the same port makes it hang.",
    ),
    event("hazard", "kind, destination and VM", "A [hazard](hazards.md): cause and fix."),
    event(
        "eof_hazard",
        "release of Connector/J and VM",
        "A client that can hang, and the setting that prevents it.",
    ),
    event(
        "proxy_protocol_refused",
        "connection",
        "Why a PROXY header, or its absence, ended the connection, and what to do.",
    ),
    event(
        "opaque",
        "connection",
        "`reason=desync`: a session that the filter cannot follow: which peer broke which rule, in which field, and all that a \
         report needs. `reason=memory`: a session whose state would need too much memory.",
    ),
    event(
        "protection_lost",
        "connection",
        "Why a connection is closed that a rule can no longer protect, and what to do.",
    ),
    event(
        "local_infile_blocked",
        "connection",
        "The server asked for a file that the client's statement does not name. The filter blocked the request, and the \
         connection ends. Find out which server responds at this address.",
    ),
    event(
        "tls_cleared",
        "configuration and worker",
        "A rule removed the server's offer of TLS for the first time, with the consequences for clients.",
    ),
    event(
        "server_tls",
        "connection",
        "TLS to the server (`tls.upstream`) did not start, so the connection ends: the result, the cause and the fix.",
    ),
    event(
        "client_tls",
        "connection",
        "TLS of the client (`tls.downstream`) did not start, so the connection ends: the result, the cause and the fix.",
    ),
    event("slow_command", "command", "A command took at least `slow_command`: see below."),
    event("failed_command", "command", "The same for a command that failed, with `errno=`."),
    event(
        "unanswered_command",
        "command",
        "The same for a command that got no response before its connection ended.",
    ),
    event(
        "host_refused",
        "call",
        "Envoy refused a call that the filter needs, so a metric, a key of the access log or a close is missing. Please report it.",
    ),
    event("refused", "VM", "The module cannot run in this Envoy: the reason, and what to use instead."),
    event(
        "panic",
        "connection",
        "The filter has a defect: the place in its code, and what followed. Please report it.",
    ),
    event(
        "no_bootstrap_extension",
        "process",
        "The native module has no bootstrap extension, so it exports no metric and no time-out ends. Add the extension.",
    ),
    event(
        "log_limit",
        "minute",
        "`withheld=` is the number of lines that `log.max_per_minute` withheld. Raise it to see them.",
    ),
];
