//! The panels of the dashboard: what each shows, why, and where to read more. `dashboard.rs` makes Grafana's file of them.

/// A panel of the dashboard.
pub struct Panel {
    pub title: &'static str,
    pub description: &'static str,
    /// Page and section with more.
    pub docs: &'static str,
    pub unit: &'static str,
    /// Expressions with `CONNECTION` or `PROXY` for the variables, each with its legend.
    pub targets: &'static [(&'static str, &'static str)],
    /// For a single value: its colours, each from a value on. The first is for all values below the second.
    pub steps: Option<&'static [(f64, &'static str)]>,
}

const fn graph(
    title: &'static str,
    unit: &'static str,
    docs: &'static str,
    description: &'static str,
    targets: &'static [(&'static str, &'static str)],
) -> Panel {
    Panel { title, description, docs, unit, targets, steps: None }
}

/// Panels with one value each: whether all is well, at a glance.
pub const OVERVIEW: &[Panel] = &[
    Panel {
        title: "Queries per second",
        description: "COM_QUERY and COM_STMT_EXECUTE of all clients that the filter can read.",
        docs: "metrics.md",
        unit: "reqps",
        targets: &[(
            r#"sum(rate(firstword_commands_total{CONNECTION,command=~"query|stmt_execute"}[$__rate_interval]))"#,
            "",
        )],
        steps: Some(&[(0.0, "green")]),
    },
    Panel {
        title: "Errors",
        description: "Share of the commands that end with an error.",
        docs: "alerts.md#firstworderrorstorm",
        unit: "percentunit",
        targets: &[(
            "(sum(rate(firstword_errors_total{CONNECTION}[$__rate_interval])) or vector(0)) \
             / sum(rate(firstword_commands_total{CONNECTION}[$__rate_interval]))",
            "",
        )],
        steps: Some(&[(0.0, "green"), (0.01, "yellow"), (0.05, "red")]),
    },
    Panel {
        title: "95th percentile, slowest destination",
        description: "One command in twenty takes longer, at the destination where that is worst.",
        docs: "alerts.md#firstwordcommandsslow",
        unit: "s",
        targets: &[(
            "max(histogram_quantile(0.95, sum by (destination, le) \
             (rate(firstword_command_duration_seconds_bucket{CONNECTION}[$__rate_interval]))))",
            "",
        )],
        steps: Some(&[(0.0, "green"), (0.1, "yellow"), (1.0, "red")]),
    },
    Panel {
        title: "Open connections",
        description: "Connections that are open now.",
        docs: "metrics.md",
        unit: "short",
        targets: &[("sum(firstword_connections_active{CONNECTION})", "")],
        steps: Some(&[(0.0, "green")]),
    },
    Panel {
        title: "Visible connections",
        description: "Share of the connections of the chosen time whose commands the filter can read. All panels about commands \
                      describe only these. TLS between client and server hides the others.",
        docs: "tls.md",
        unit: "percentunit",
        targets: &[(
            r#"1 - (sum(increase(firstword_opaque_total{CONNECTION,reason!="configured"}[$__range])) or vector(0)) / sum(increase(firstword_connections_total{CONNECTION}[$__range]))"#,
            "",
        )],
        steps: Some(&[(0.0, "red"), (0.5, "yellow"), (0.9, "green")]),
    },
    Panel {
        title: "Connections that hang",
        description: "Connections that wait in listener filters now, before any network filter. A value that stays above 0 on \
                      the port of a database is a hang.",
        docs: "alerts.md#serverfirstporthangs",
        unit: "short",
        targets: &[("sum(envoy_listener_downstream_pre_cx_active{PROXY})", "")],
        steps: Some(&[(0.0, "green"), (1.0, "yellow"), (10.0, "red")]),
    },
    Panel {
        title: "Rejected configurations",
        description: "Plugins that run with the defaults, because their configuration has problems. No rule applies there.",
        docs: "alerts.md#firstwordconfigrejected",
        unit: "short",
        targets: &[("sum(firstword_config_rejected{PROXY})", "")],
        steps: Some(&[(0.0, "green"), (1.0, "red")]),
    },
];

/// Rows of the dashboard after the overview. The first four are for those who work with databases, the others for those who work
/// with proxies.
pub const ROWS: &[(&str, &[Panel])] = &[
    (
        "Traffic",
        &[
            graph(
                "Commands",
                "ops",
                "metrics.md",
                "Commands the clients send, by kind.",
                &[(
                    "sum by (command) (rate(firstword_commands_total{CONNECTION}[$__rate_interval]))",
                    "{{command}}",
                )],
            ),
            graph(
                "Statements",
                "ops",
                "metrics.md",
                "Statements that got a response, by their verb.",
                &[(
                    "sum by (verb) (rate(firstword_statements_total{CONNECTION}[$__rate_interval]))",
                    "{{verb}}",
                )],
            ),
            graph(
                "Bytes",
                "Bps",
                "metrics.md",
                "Bytes passed, by who sent them; PROXY headers left out.",
                &[(
                    "sum by (sender) (rate(firstword_bytes_total{CONNECTION}[$__rate_interval]))",
                    "{{sender}}",
                )],
            ),
            graph(
                "Rows",
                "ops",
                "metrics.md",
                "Rows in result sets, and rows changed.",
                &[
                    (
                        "sum by (destination) (rate(firstword_rows_total{CONNECTION}[$__rate_interval]))",
                        "rows {{destination}}",
                    ),
                    (
                        "sum by (destination) (rate(firstword_affected_rows_total{CONNECTION}[$__rate_interval]))",
                        "affected {{destination}}",
                    ),
                ],
            ),
            graph(
                "Statements without an index, slow, with warnings",
                "ops",
                "metrics.md",
                "From the flags in the server's responses. Statements without an index read whole tables.",
                &[
                    (
                        "sum by (destination) (rate(firstword_no_index_used_total{CONNECTION}[$__rate_interval]))",
                        "no index {{destination}}",
                    ),
                    (
                        "sum by (destination) (rate(firstword_slow_flag_total{CONNECTION}[$__rate_interval]))",
                        "slow {{destination}}",
                    ),
                    (
                        "sum by (destination) (rate(firstword_warnings_total{CONNECTION}[$__rate_interval]))",
                        "warnings {{destination}}",
                    ),
                ],
            ),
        ],
    ),
    (
        "Latency",
        &[
            graph(
                "Commands: median, 95th and 99th percentile",
                "s",
                "metrics.md",
                "From a command's first packet to the last packet of its response.",
                &[
                    (
                        "histogram_quantile(0.5, sum by (destination, le) (rate(firstword_command_duration_seconds_bucket{CONNECTION}[$__rate_interval])))",
                        "p50 {{destination}}",
                    ),
                    (
                        "histogram_quantile(0.95, sum by (destination, le) (rate(firstword_command_duration_seconds_bucket{CONNECTION}[$__rate_interval])))",
                        "p95 {{destination}}",
                    ),
                    (
                        "histogram_quantile(0.99, sum by (destination, le) (rate(firstword_command_duration_seconds_bucket{CONNECTION}[$__rate_interval])))",
                        "p99 {{destination}}",
                    ),
                ],
            ),
            graph(
                "95th percentile by command",
                "s",
                "alerts.md#firstwordcommandsslow",
                "One command in twenty takes longer. With several destinations this mixes them: choose one.",
                &[(
                    "histogram_quantile(0.95, sum by (command, le) (rate(firstword_command_duration_seconds_bucket{CONNECTION}[$__rate_interval])))",
                    "{{command}}",
                )],
            ),
            graph(
                "Greeting and handshake, 95th percentile",
                "s",
                "metrics.md",
                "From the start of a connection to the server's greeting, and to its decision about the client.",
                &[
                    (
                        "histogram_quantile(0.95, sum by (destination, le) (rate(firstword_greeting_duration_seconds_bucket{CONNECTION}[$__rate_interval])))",
                        "greeting {{destination}}",
                    ),
                    (
                        "histogram_quantile(0.95, sum by (destination, le) (rate(firstword_handshake_duration_seconds_bucket{CONNECTION}[$__rate_interval])))",
                        "handshake {{destination}}",
                    ),
                ],
            ),
        ],
    ),
    (
        "Errors",
        &[
            graph(
                "Commands that end with an error",
                "ops",
                "alerts.md#firstworderrorstorm",
                "Commands that end with an error, by MySQL's error number. A number that is new after a release is a defect of the application.",
                &[(
                    "sum by (errno) (rate(firstword_errors_total{CONNECTION}[$__rate_interval]))",
                    "{{errno}}",
                )],
            ),
            graph(
                "Clients refused in the handshake",
                "ops",
                "alerts.md#firstwordhandshakeerrors",
                "Logins that the server refuses, by error and authentication plugin. 1045 is a wrong password or a missing account.",
                &[(
                    "sum by (errno, plugin) (rate(firstword_handshake_errors_total{CONNECTION}[$__rate_interval]))",
                    "{{errno}} {{plugin}}",
                )],
            ),
            graph(
                "Errors before the greeting, and unsolicited errors",
                "ops",
                "alerts.md#firstwordserverrefusesconnections",
                "1040 too many connections, 1129 host blocked; 4031 and 1927 are the server ending a connection.",
                &[
                    (
                        "sum by (errno) (rate(firstword_pre_handshake_errors_total{CONNECTION}[$__rate_interval]))",
                        "no greeting {{errno}}",
                    ),
                    (
                        "sum by (errno) (rate(firstword_server_notices_total{CONNECTION}[$__rate_interval]))",
                        "notice {{errno}}",
                    ),
                ],
            ),
        ],
    ),
    (
        "Connections",
        &[
            graph(
                "Connections opened",
                "ops",
                "metrics.md",
                "New connections by the protocol that they carry. Many of them mean that clients use no pool.",
                &[(
                    "sum by (protocol) (rate(firstword_connections_total{CONNECTION}[$__rate_interval]))",
                    "{{protocol}}",
                )],
            ),
            graph(
                "Connections open",
                "short",
                "metrics.md",
                "Connections that are open now, by protocol. At max_connections the server refuses more (1040).",
                &[("sum by (protocol) (firstword_connections_active{CONNECTION})", "{{protocol}}")],
            ),
            graph(
                "Connections closed",
                "ops",
                "metrics.md",
                "Connections that ended, by their phase and by who closed them. Envoy (closed_by=proxy) closes at the end of a drain or of a time-out.",
                &[(
                    "sum by (phase, closed_by) (rate(firstword_connections_closed_total{CONNECTION}[$__rate_interval]))",
                    "{{phase}} by {{closed_by}}",
                )],
            ),
            graph(
                "Commands in flight and stalled",
                "short",
                "alerts.md#firstwordcommandsstalled",
                "Stalled: older than metrics.stall without a complete response.",
                &[
                    (
                        "sum by (destination) (firstword_commands_in_flight{CONNECTION})",
                        "in flight {{destination}}",
                    ),
                    (
                        "sum by (destination) (firstword_commands_stalled{CONNECTION})",
                        "stalled {{destination}}",
                    ),
                ],
            ),
            graph(
                "Open transactions and prepared statements",
                "short",
                "alerts.md#firstwordtransactionsstayopen",
                "Transactions that are open all the time hold locks.",
                &[
                    (
                        "sum by (destination) (firstword_transactions_open{CONNECTION})",
                        "transactions {{destination}}",
                    ),
                    (
                        "sum by (destination) (firstword_prepared_statements_open{CONNECTION})",
                        "prepared {{destination}}",
                    ),
                ],
            ),
            graph(
                "Handshakes",
                "ops",
                "metrics.md",
                "By their result. aborted: the client left before its login, as health checks do.",
                &[(
                    "sum by (result) (rate(firstword_handshakes_total{CONNECTION}[$__rate_interval]))",
                    "{{result}}",
                )],
            ),
        ],
    ),
    (
        "Server-first",
        &[
            graph(
                "Servers that do not greet",
                "ops",
                "alerts.md#firstwordgreetingtimeouts",
                "Connections on which the server sent nothing for greeting_timeout.",
                &[(
                    "sum by (destination) (rate(firstword_greeting_timeouts_total{CONNECTION}[$__rate_interval]))",
                    "{{destination}}",
                )],
            ),
            graph(
                "Who speaks first",
                "ops",
                "metrics.md",
                "Servers by their protocol, clients by what they begin with.",
                &[
                    (
                        "sum by (protocol) (rate(firstword_server_first_detected_total{CONNECTION}[$__rate_interval]))",
                        "server: {{protocol}}",
                    ),
                    (
                        "sum by (seen) (rate(firstword_client_first_total{CONNECTION}[$__rate_interval]))",
                        "client: {{seen}}",
                    ),
                ],
            ),
            graph(
                "Connections in listener filters",
                "short",
                "alerts.md#serverfirstporthangs",
                "Connections that stay here hang before any network filter sees them: a listener filter waits for the client. Run firstword doctor.",
                &[(
                    "sum by (envoy_listener_address) (envoy_listener_downstream_pre_cx_active{PROXY})",
                    "{{envoy_listener_address}}",
                )],
            ),
        ],
    ),
    (
        "PROXY protocol",
        &[
            graph(
                "Headers received",
                "ops",
                "alerts.md#firstwordproxyheadersrefused",
                "PROXY headers that clients sent, by version and result. The filter closes connections whose header it refuses.",
                &[(
                    "sum by (format, result) (rate(firstword_proxy_protocol_received_total{CONNECTION}[$__rate_interval]))",
                    "{{format}} {{result}}",
                )],
            ),
            graph(
                "Headers sent",
                "ops",
                "configuration.md#proxy-protocol",
                "PROXY headers that the filter sent to servers, by version.",
                &[(
                    "sum by (format) (rate(firstword_proxy_protocol_sent_total{CONNECTION}[$__rate_interval]))",
                    "{{format}}",
                )],
            ),
        ],
    ),
    (
        "Hazards",
        &[
            graph(
                "Passwords without TLS",
                "ops",
                "hazards.md",
                "Full authentications of caching_sha2_password on a connection without TLS. An attacker on the path can replace the server's key: use TLS, or give clients the key.",
                &[(
                    "sum by (destination) (rate(firstword_plaintext_full_auth_total{CONNECTION}[$__rate_interval]))",
                    "{{destination}}",
                )],
            ),
            graph(
                "Requests for files of clients",
                "ops",
                "hazards.md#files-that-a-server-asks-for",
                "LOAD DATA LOCAL: the server asks for a file, and the client sends it. If no statement names the file, the server is not yours: set block_local_infile.",
                &[(
                    "sum by (destination) (rate(firstword_local_infile_total{CONNECTION}[$__rate_interval]))",
                    "{{destination}}",
                )],
            ),
            graph(
                "Sessions that are not visible",
                "ops",
                "tls.md",
                "Sessions whose commands the filter cannot read, by the reason. Usually client and server use TLS: the page says what to do.",
                &[(
                    "sum by (reason) (rate(firstword_opaque_total{CONNECTION}[$__rate_interval]))",
                    "{{reason}}",
                )],
            ),
            graph(
                "Hazards by kind",
                "ops",
                "hazards.md",
                "Problems of clients and servers, by kind. Envoy's log has the first of each with the fix: event=hazard.",
                &[
                    (
                        "sum by (kind) (rate(firstword_hazards_total{CONNECTION}[$__rate_interval]))",
                        "{{kind}}",
                    ),
                    (
                        "sum by (reason) (rate(firstword_protection_lost_total{CONNECTION}[$__rate_interval]))",
                        "protection lost: {{reason}}",
                    ),
                ],
            ),
            graph(
                "Split responses to COM_STMT_PREPARE",
                "ops",
                "alerts.md#firstwordspliteof",
                "If a response is split at its end and not held, Connector/J 6.0.4 to 8.0.31 hangs. The setting hold_split_eof holds it.",
                &[
                    (
                        "sum by (destination) (rate(firstword_prepare_eof_splits_total{CONNECTION}[$__rate_interval]))",
                        "split {{destination}}",
                    ),
                    (
                        "sum by (destination) (rate(firstword_prepare_eof_held_total{CONNECTION}[$__rate_interval]))",
                        "held {{destination}}",
                    ),
                    (
                        "sum by (destination) (rate(firstword_prepare_eof_lost_total{CONNECTION}[$__rate_interval]))",
                        "lost {{destination}}",
                    ),
                ],
            ),
            graph(
                "Connector/J clients that hang on a split response",
                "ops",
                "alerts.md#firstwordspliteof",
                "By their connection attributes. If the server takes no attributes, all its clients.",
                &[(
                    "sum by (destination) (rate(firstword_eof_hazard_clients_total{CONNECTION}[$__rate_interval]))",
                    "{{destination}}",
                )],
            ),
        ],
    ),
    (
        "Filter health",
        &[
            graph(
                "Ticks of the filter",
                "ops",
                "alerts.md#firstwordfilterstopped",
                "The filter ticks twice a second for each worker, and for two VMs more. At 0 its VM has failed, and it counts nothing.",
                &[(
                    "sum by (namespace, pod, instance) (rate(firstword_heartbeat_total{PROXY}[$__rate_interval]))",
                    "{{pod}} {{instance}}",
                )],
            ),
            graph(
                "Refused by Envoy",
                "short",
                "alerts.md#firstwordmodulerefused",
                "Modules or configurations of the filter, and versions of listeners, that Envoy has refused since it started. It \
                 keeps what it had. Connections closed are those for which it had no configuration of a filter.",
                &[
                    (
                        r#"sum({__name__=~"envoy_extension_config_discovery_network_filter_.*firstword.*_update_rejected",PROXY})"#,
                        "the filter",
                    ),
                    ("sum(envoy_listener_manager_lds_update_rejected{PROXY})", "listeners"),
                    ("sum(envoy_listener_network_extension_config_missing{PROXY})", "connections closed"),
                ],
            ),
            graph(
                "Memory of the VMs",
                "bytes",
                "memory.md",
                "Memory of the filter in each proxy, without that of V8 itself. limits.connection_state limits the state of connections.",
                &[
                    (
                        "sum by (namespace, pod, instance) (firstword_vm_memory_bytes{PROXY})",
                        "{{pod}} {{instance}}",
                    ),
                    (
                        "sum by (namespace, pod, instance) (firstword_connection_state_bytes{PROXY})",
                        "{{pod}} {{instance}}, state of connections",
                    ),
                ],
            ),
            graph(
                "Series and overflow",
                "short",
                "alerts.md#firstwordseriesoverflow",
                "Series of the filter in each proxy. Overflow: counts that went to the label value other. Raise metrics.max_series, or choose a smaller profile.",
                &[
                    (
                        "sum by (namespace, pod, instance) (firstword_series{PROXY})",
                        "series {{pod}} {{instance}}",
                    ),
                    (
                        "sum by (namespace, pod, instance) (increase(firstword_series_overflow_total{PROXY}[$__rate_interval]))",
                        "overflow {{pod}} {{instance}}",
                    ),
                ],
            ),
            graph(
                "Versions",
                "short",
                "alerts.md#firstwordtwoversions",
                "Proxies by the version of the filter. Two versions for long mean a rollout that has not ended.",
                &[("count by (version, commit) (firstword_build_info{PROXY})", "{{version}} {{commit}}")],
            ),
        ],
    ),
];
